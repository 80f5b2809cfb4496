//! narwharf as it comes, but for what a benchmark needs: nothing grows old while it is measured.

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::Command;

use crate::bucket::Bucket;

/// Names another build of narwharf to measure.
const PROGRAM: &str = "NARWHARF_BENCH_PROGRAM";

/// Who may push, in the workload that does.
pub const TOKEN: &str = "a-token-of-the-benchmark";

/// What a workload wants otherwise.
#[derive(Default)]
pub struct Settings {
    /// A cache directory that is there already.
    pub disk: Option<PathBuf>,
    pub more: Vec<(&'static str, &'static str)>,
}

/// The one built with this harness, or another build to compare it with.
fn program() -> PathBuf {
    let other = std::env::var_os(PROGRAM).map(PathBuf::from);
    other.unwrap_or_else(|| env!("CARGO_BIN_EXE_narwharf").into())
}

pub fn command(
    bucket: &Bucket,
    folder: &Path,
    address: SocketAddr,
    settings: &Settings,
) -> Command {
    let credentials = bucket.credentials();
    let disk = settings.disk.clone().unwrap_or_else(|| folder.join("disk"));
    let mut command = Command::new(program());
    command
        .env_clear()
        .env("NARWHARF_SERVER__LISTEN", address.to_string())
        .env("NARWHARF_SERVER__DRAIN", "1s")
        .env("NARWHARF_BUCKET__KIND", "s3")
        .env("NARWHARF_BUCKET__ENDPOINT", bucket.endpoint())
        .env("NARWHARF_BUCKET__NAME", bucket.name())
        .env("NARWHARF_BUCKET__ACCESS_KEY_ID", &credentials.access_key_id)
        .env(
            "NARWHARF_BUCKET__SECRET_ACCESS_KEY",
            &credentials.secret_access_key,
        )
        .env("NARWHARF_AUTH__UPLOAD_TOKEN", TOKEN)
        .env("NARWHARF_DISK__PATH", disk)
        .env("NARWHARF_DISK__MIN_FREE", "0")
        .env("NARWHARF_MEMORY__DOCUMENT_TTL", "1h")
        .env("NARWHARF_MEMORY__NEGATIVE_TTL", "1h")
        .envs(settings.more.iter().copied());
    command
}
