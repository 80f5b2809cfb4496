//! What does narwharf cost, beside nginx and Varnish before the same bucket?
//!
//! ```text
//! cargo bench --bench gateway                     everything; under ten minutes
//! cargo bench --bench gateway -- narinfo nar-1m   some of it; `-- --help` lists what there is
//! cargo bench --bench gateway -- --write          everything, and docs/benchmarks.md with it
//! ```
//! ```text
//! load (one thread) ─▶ narwharf, nginx, varnish, bare actix ─▶ bucket (r2sim, at any distance)
//!      │                    processes, each in a folder of its own
//!      └── workloads ──▶ results ──▶ report (table, JSON, plots)
//! ```
//! Servers take turns, round by round, so that whatever else the machine does meets all of them; told
//! are medians. `NARWHARF_BENCH_PROGRAM=PATH` measures another build of narwharf, such as that of another
//! commit. A server's cost is the processor time of all its processes, in which neither the
//! client nor the bucket is. Without `--bench`, as `cargo test` runs it, all is tiny and only tried.

mod bench;
mod bucket;
mod check;
mod interrupt;
mod load;
mod objects;
mod process;
#[path = "../../tests/r2sim/mod.rs"]
mod r2sim;
mod report;
mod results;
mod servers;
#[path = "../svg.rs"]
mod svg;
mod workloads;

use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::Duration;

use bytesize::ByteSize;
use clap::{Parser, ValueEnum};
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

use bench::{Bench, Options};
use bucket::Distance;
use load::Window;
use servers::{Who, bare};
use workloads::Workload;

#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

/// Files that 10,000 connections take: in the client one each, in a server two.
const FILES: u64 = 65_536;

#[derive(Parser)]
struct Arguments {
    /// What to measure; everything without it
    workloads: Vec<Workload>,
    /// How often each server has its turn
    #[arg(long, default_value_t = 3)]
    rounds: usize,
    /// How long a turn is, where it is not over by itself
    #[arg(long, value_parser = humantime::parse_duration, default_value = "700ms")]
    window: Duration,
    /// How far the bucket is, where it is reached
    #[arg(long, value_parser = humantime::parse_duration, default_value = "20ms")]
    round_trip: Duration,
    /// Bytes a second that one connection to the bucket carries
    #[arg(long, default_value = "100MB")]
    bandwidth: ByteSize,
    /// Where all figures go [default: bench/gateway.json in the target directory]
    #[arg(long)]
    json: Option<PathBuf>,
    /// Puts the figures and plots into docs/
    #[arg(long)]
    write: bool,
    /// Said by cargo
    #[arg(long, hide = true)]
    bench: bool,
}

fn main() -> ExitCode {
    let words: Vec<String> = std::env::args().collect();
    let ended = match &words[1..] {
        [word, address, file] if word == bare::WORD => bare::serve(address, file),
        _ => run(Arguments::parse()),
    };
    match ended {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("{error}");
            ExitCode::FAILURE
        }
    }
}

fn run(arguments: Arguments) -> std::io::Result<()> {
    interrupt::listen()?;
    allow_files();
    let small = !arguments.bench;
    let options = Options {
        rounds: if small { 1 } else { arguments.rounds },
        window: Window {
            warm: if small {
                Duration::ZERO
            } else {
                Duration::from_millis(250)
            },
            length: if small {
                Duration::from_millis(20)
            } else {
                arguments.window
            },
        },
        distance: Distance {
            round_trip: arguments.round_trip,
            bandwidth: Some(arguments.bandwidth.as_u64()),
        },
        small,
        caches: Who::caches(),
    };
    let names: Vec<&str> = options.caches.iter().map(|who| who.name()).collect();
    println!(
        "{}\nCaches: {}",
        report::Machine::here().line(&options),
        names.join(", ")
    );

    let mut bench = Bench::new(options.clone())?;
    let workloads = match arguments.workloads.as_slice() {
        [] => Workload::value_variants(),
        some => some,
    };
    for workload in workloads {
        workload.run(&mut bench)?;
    }
    let json = arguments.json.unwrap_or_else(default_json);
    report::write_json(&json, &bench.cases)?;
    println!("\nEvery round of every figure: {}", json.display());
    if arguments.write {
        report::write_document(&bench.cases, &options)?;
    }
    Ok(())
}

fn default_json() -> PathBuf {
    let temporary = Path::new(env!("CARGO_TARGET_TMPDIR"));
    temporary.with_file_name("bench").join("gateway.json")
}

/// As many as may be had; servers inherit it.
fn allow_files() {
    let now = getrlimit(Resource::Nofile);
    let raised = |most: Option<u64>| Rlimit {
        current: most,
        maximum: most,
    };
    // Only root may raise the maximum.
    if setrlimit(Resource::Nofile, raised(Some(FILES))).is_err() {
        let _ = setrlimit(Resource::Nofile, raised(now.maximum));
    }
}
