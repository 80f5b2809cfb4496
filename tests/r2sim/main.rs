//! r2sim as a program: R2 on one's own machine, for trying narwharf without an account.
//!
//! It prints its address and the settings that point narwharf at it, and runs until Ctrl-C or SIGTERM.

#[path = "mod.rs"]
mod r2sim;

use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

use anyhow::Context;
use bytesize::ByteSize;
use clap::Parser;
use tokio::signal::unix::{SignalKind, signal};

use r2sim::{Credentials, Options, R2Sim};

/// An S3 server with the rules of Cloudflare R2 and one bucket.
#[derive(Parser)]
struct Arguments {
    /// Address to listen on; port 0 takes a free one.
    #[arg(long, default_value = "127.0.0.1:9000")]
    listen: SocketAddr,
    /// Name of the bucket.
    #[arg(long, default_value = "nix")]
    bucket: String,
    /// Access key id that requests must be signed with.
    #[arg(long, default_value = "r2sim-access-key")]
    access_key: String,
    /// Secret access key that goes with it.
    #[arg(long, default_value = "r2sim-secret-key")]
    secret_key: String,
    /// Directory to keep the objects in; without it they are gone at the end.
    #[arg(long, value_name = "DIR")]
    data: Option<PathBuf>,
    /// Time added to each request, such as 40ms.
    #[arg(long, value_parser = humantime::parse_duration, default_value = "0s")]
    rtt: Duration,
    /// Bytes a second for each connection, such as 25MB; unlimited without it.
    #[arg(long)]
    bandwidth: Option<ByteSize>,
    /// Let objects be read without a signature, so that any proxy can stand before it.
    #[arg(long)]
    public_reads: bool,
    /// Refuse a second write to one key within a second, as R2 does.
    #[arg(long)]
    limit_writes: bool,
}

fn main() -> anyhow::Result<()> {
    let arguments = Arguments::parse();
    let listen = arguments.listen;
    let sim = R2Sim::with(Options {
        listen,
        bucket: arguments.bucket,
        credentials: Credentials {
            access_key_id: arguments.access_key,
            secret_access_key: arguments.secret_key,
        },
        data: arguments.data,
        limit_writes: arguments.limit_writes,
        public_reads: arguments.public_reads,
    })
    .with_context(|| format!("r2sim cannot start on {listen}"))?;
    sim.line().set_round_trip(arguments.rtt);
    let bandwidth = arguments.bandwidth.map(|rate| rate.as_u64());
    sim.line().set_bandwidth(bandwidth);

    let Credentials {
        access_key_id,
        secret_access_key,
    } = sim.credentials();
    println!("r2sim listens on {}; Ctrl-C ends it.", sim.endpoint());
    println!("NARWHARF_BUCKET__KIND=s3");
    println!("NARWHARF_BUCKET__ENDPOINT={}", sim.endpoint());
    println!("NARWHARF_BUCKET__NAME={}", sim.bucket());
    println!("NARWHARF_BUCKET__ACCESS_KEY_ID={access_key_id}");
    println!("NARWHARF_BUCKET__SECRET_ACCESS_KEY={secret_access_key}");

    let waiting = tokio::runtime::Builder::new_current_thread()
        .enable_io()
        .build()?;
    waiting
        .block_on(ended())
        .context("signals cannot be waited for")
}

/// Returns at Ctrl-C or SIGTERM, so that scratch files are removed either way.
async fn ended() -> std::io::Result<()> {
    let mut terminated = signal(SignalKind::terminate())?;
    tokio::select! {
        interrupted = tokio::signal::ctrl_c() => interrupted,
        _ = terminated.recv() => Ok(()),
    }
}
