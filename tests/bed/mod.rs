//! The test bed: a real gateway, in this process, between real sockets and a real S3 server.
//!
//! ```text
//! client, connection ─▶ narwharf on a free port ─▶ r2sim, with faults at will
//!                        temporary disk, settings through `Config::load`
//! ```
//! Everything a test knows it learns as a client, from the bucket's log or from `/metrics`, so the
//! gateway's insides can change without a test noticing. The bed's clients run on a runtime of its
//! own. Dropped, the bed checks that the gateway came to rest: no fill, no reader, no request, no
//! reservation and no temporary file is left.

// Each test binary that includes this tree uses a part of it.
#![allow(dead_code)]

mod bucket;
mod client;
mod connection;
mod dice;
mod package;
#[path = "../r2sim/mod.rs"]
pub mod r2sim;
mod request;
mod series;
mod settings;
mod wait;

use std::fs;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};

use narwharf::clock::Clock;
use narwharf::config::Config;
use narwharf::log::Access;
use narwharf::server::{self, Running, StartError};
use tempfile::TempDir;
use tokio::runtime::{Builder, Runtime};

#[allow(unused_imports)]
pub use self::{
    bucket::Bucket,
    client::{Asking, AskingAll},
    connection::{Answer, Connection, Head},
    dice::Dice,
    package::{Built, Package, public_key},
    request::{Request, delete, get, head, post, put},
    settings::{Settings, TOKEN},
    wait::{PATIENCE, eventually, eventually_blocking},
};

pub const KIB: usize = 1024;
pub const MIB: usize = 1024 * KIB;

/// A gateway, its bucket and its disk. See the module's words.
pub struct TestBed {
    pub bucket: Bucket,
    /// The running gateway's, to let time pass; a restart begins with a new one.
    pub clock: Clock,
    settings: Settings,
    folder: TempDir,
    gateway: Option<Running>,
    clients: Option<Runtime>,
}

impl TestBed {
    /// A gateway with the bed's usual settings.
    pub async fn start() -> Self {
        Self::with(|_| {}).await
    }

    /// A gateway with other settings: `TestBed::with(|s| s.set("memory.document_ttl", "1s"))`.
    pub async fn with(adjust: impl FnOnce(&mut Settings)) -> Self {
        settings::show_logs();
        let bucket = Bucket::start();
        let folder = TempDir::with_prefix("narwharf-bed-").expect("a temporary folder");
        let mut settings = Settings::usual(&bucket, &folder.path().join("disk"));
        adjust(&mut settings);
        let config = settings.load(folder.path()).expect("settings in order");
        let gateway = start(config).await.expect("a gateway that starts");
        let clients = Builder::new_multi_thread()
            .worker_threads(1)
            .thread_name("clients")
            .enable_all()
            .build()
            .expect("a thread for the clients");
        Self {
            bucket,
            clock: gateway.clock.clone(),
            settings,
            folder,
            gateway: Some(gateway),
            clients: Some(clients),
        }
    }

    /// Where the gateway listens.
    pub fn address(&self) -> SocketAddr {
        self.running().started.addresses[0]
    }

    /// A connection to the metrics' own listener, which must be set.
    pub async fn connect_to_metrics(&self) -> Connection {
        let at = self.running().started.metrics;
        Connection::open(at.expect("a listener of their own")).await
    }

    /// `disk.path`.
    pub fn disk_path(&self) -> PathBuf {
        self.folder.path().join("disk")
    }

    /// Where the blob of a plainly named NAR lies (`design.md` §7), whether or not it is there.
    pub fn blob_path(&self, nar: &str) -> PathBuf {
        let name = nar.strip_prefix("nar/").expect("the key of a NAR");
        self.disk_path().join("nar").join(&name[..2]).join(name)
    }

    /// One request on a connection of its own. It is on its way when this returns; awaited, it
    /// gives the answer; dropped, the client hangs up.
    pub fn ask(&self, request: Request) -> Asking {
        Asking::start(self.clients().handle(), self.address(), request)
    }

    /// The same request so many times at once, each on a connection of its own.
    pub fn ask_times(&self, times: usize, request: Request) -> AskingAll {
        AskingAll((0..times).map(|_| self.ask(request.clone())).collect())
    }

    /// A connection to speak over by hand.
    pub async fn connect(&self) -> Connection {
        Connection::open(self.address()).await
    }

    /// The value of one series, with its labels as Prometheus writes them: sorted by name.
    /// Panics when there is no such series, since all are there from the first scrape.
    #[track_caller]
    pub fn metric(&self, series: &str) -> u64 {
        series::value(&self.metrics(), series)
    }

    /// All series, as a scraper gets them.
    pub fn metrics(&self) -> String {
        self.running().metrics.render()
    }

    /// Waits until a series has this value.
    pub async fn until_metric(&self, series: &str, value: u64) {
        self.until(&format!("{series} {value}"), || {
            self.metric(series) == value
        })
        .await;
    }

    /// Waits until something holds that nobody announces. Panics after [`PATIENCE`], saying `what`.
    pub async fn until(&self, what: &str, holds: impl Fn() -> bool) {
        assert!(
            eventually(holds).await,
            "never came: {what}\n{}",
            series::moved(&self.metrics())
        );
    }

    /// Stops the gateway and starts it anew over the same disk and bucket.
    pub async fn restart(&mut self) {
        self.restart_after(|_| {}).await;
    }

    /// The same, with something happening to `disk.path` in between.
    pub async fn restart_after(&mut self, meanwhile: impl FnOnce(&Path)) {
        stop(self.gateway.take());
        meanwhile(&self.disk_path());
        let gateway = start(self.config()).await.expect("a gateway that starts");
        self.clock = gateway.clock.clone();
        self.gateway = Some(gateway);
    }

    /// The bed's settings, read anew: what one more gateway over the same disk would start with.
    pub fn config(&self) -> Config {
        let config = self.settings.load(self.folder.path());
        config.expect("settings in order")
    }

    /// Publishes a package and has it fetched once, so that it lies on disk.
    pub async fn cached(&self, package: Package) -> Built {
        let built = self.bucket.publish(package);
        let answer = self.ask(get(&built.nar)).await;
        assert!(
            answer.is(&built.nar_bytes),
            "{}: {:?}",
            built.nar,
            answer.head
        );
        self.at_rest().await;
        built
    }

    /// Waits until nothing is under way: what was sent may still be on its way to the disk.
    pub async fn at_rest(&self) {
        self.until("rest", || self.unrest().is_empty()).await;
    }

    /// Waits until the files on disk and the index agree, after a start.
    pub async fn until_recovered(&self) {
        self.until_metric("narwharf_index_state{state=\"ok\"}", 1)
            .await;
        self.until_metric("narwharf_disk_state{state=\"ok\"}", 1)
            .await;
    }

    /// Our files in `tmp/`, which only a write under way may have.
    pub fn temporary_files(&self) -> Vec<PathBuf> {
        let entries = fs::read_dir(self.disk_path().join("tmp"));
        let paths = entries.into_iter().flatten().flatten().map(|it| it.path());
        paths
            .filter(|path| path.extension().is_some_and(|it| it == "part"))
            .collect()
    }

    fn running(&self) -> &Running {
        self.gateway.as_ref().expect("running until it is dropped")
    }

    fn clients(&self) -> &Runtime {
        self.clients.as_ref().expect("there until it is dropped")
    }

    /// What is still under way; empty when the gateway is at rest.
    fn unrest(&self) -> String {
        let text = self.metrics();
        let mut unrest: Vec<String> = [
            "narwharf_fills_in_flight",
            "narwharf_fill_readers",
            "narwharf_http_requests_in_flight",
            "narwharf_disk_reserved_bytes",
        ]
        .into_iter()
        .map(|series| (series, series::value(&text, series)))
        .filter(|(_, value)| *value > 0)
        .map(|(series, value)| format!("{series} {value}"))
        .collect();
        unrest.extend(
            self.temporary_files()
                .iter()
                .map(|path| path.display().to_string()),
        );
        unrest.join(", ")
    }
}

impl Drop for TestBed {
    fn drop(&mut self) {
        // With their runtime go the clients and their connections.
        if let Some(clients) = self.clients.take() {
            clients.shutdown_background();
        }
        let mut unrest = String::new();
        if self.gateway.is_some() && !std::thread::panicking() {
            eventually_blocking(|| self.unrest().is_empty());
            unrest = self.unrest();
        }
        stop(self.gateway.take());
        assert!(unrest.is_empty(), "left behind: {unrest}");
    }
}

/// Starts a gateway that no bed looks after. Starting and stopping block, and both may end a
/// runtime, which no async task may do.
pub async fn start(config: Config) -> Result<Running, StartError> {
    tokio::task::spawn_blocking(move || server::start(config, Access::nowhere()))
        .await
        .expect("a start that does not panic")
}

/// Stops a gateway, if there is one, as dropping it would outside of async code.
pub fn stop(gateway: Option<Running>) {
    let stopping = std::thread::spawn(move || drop(gateway));
    stopping.join().expect("a stop that does not panic");
}
