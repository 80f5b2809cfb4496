//! What does it cost to be watched? CPU time of a narinfo that is warm in memory, with and without
//! metrics and the access log; and of the counting alone, by one thread and by two at once.
//!
//! The program is started anew for each setting and asked over two connections, one after the other
//! on each; what is read is the CPU time of all its threads, so neither the clients nor a busy machine
//! is in it. Rounds alternate between the settings, and what counts is the least of each, since noise
//! only adds. `WATCHED=path` asks another build of the program.
//! `cargo bench --bench watching`; `cargo test --bench watching` runs it small.

use std::fs;
use std::hint::black_box;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::TcpStream;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use narwharf::metrics::labels::{Kind, Method, Outcome, Source, Status, Tier};
use narwharf::metrics::{Metrics, Over};

const KEY: &str = "0c2sx4hd0v9yq6gf6v0f5wx0gl3i2c8j.narinfo";

const NARINFO: &str = "StorePath: /nix/store/0c2sx4hd0v9yq6gf6v0f5wx0gl3i2c8j-hello-2.12\n\
URL: nar/0sc3rk37jlqskzhmcq2jzi8ddbdcpc7y0glwl805f9jl0qlyp058.nar.xz\n\
Compression: xz\n\
FileHash: sha256:0sc3rk37jlqskzhmcq2jzi8ddbdcpc7y0glwl805f9jl0qlyp058\n\
FileSize: 50264\n\
NarHash: sha256:0sc3rk37jlqskzhmcq2jzi8ddbdcpc7y0glwl805f9jl0qlyp058\n\
NarSize: 226560\n\
References: \n";

/// Connections that ask at once.
const CLIENTS: u32 = 2;

/// The settings that are compared: a name, and what is said in the environment.
const SETTINGS: [(&str, &[(&str, &str)]); 5] = [
    (
        "neither",
        &[
            ("NARWHARF_METRICS__ENABLED", "false"),
            ("NARWHARF_LOG__ACCESS", "false"),
        ],
    ),
    ("metrics", &[("NARWHARF_LOG__ACCESS", "false")]),
    ("access log", &[("NARWHARF_METRICS__ENABLED", "false")]),
    ("metrics, access log", &[]),
    (
        "metrics, access log as JSON",
        &[("NARWHARF_LOG__FORMAT", "json")],
    ),
];

fn main() {
    let small = !std::env::args().any(|word| word == "--bench");
    let (rounds, requests) = if small { (1, 200) } else { (11, 20_000) };
    let folder = tempfile::tempdir().expect("a temporary folder");
    fs::create_dir(folder.path().join("bucket")).expect("a bucket");
    fs::write(folder.path().join("bucket").join(KEY), NARINFO).expect("a narinfo");

    let mut least = [f64::INFINITY; SETTINGS.len()];
    for _ in 0..rounds {
        for ((_, settings), least) in SETTINGS.iter().zip(&mut least) {
            *least = least.min(request_cost(folder.path(), settings, requests));
        }
    }
    println!("CPU time of a warm narinfo, {requests} requests a round, least of {rounds} rounds");
    for ((name, _), micros) in SETTINGS.iter().zip(least) {
        println!(
            "  {name:<28} {micros:6.2} µs   {:+.2} µs",
            micros - least[0]
        );
    }
    let times = if small { 1000 } else { 5_000_000 };
    for threads in [1, 2] {
        let cost = counting_cost(threads, times);
        println!("  counting alone, {threads} threads    {cost:6.3} µs");
    }
}

/// µs of CPU time for a request.
fn request_cost(folder: &Path, settings: &[(&str, &str)], requests: u32) -> f64 {
    let program = Program::start(folder, settings);
    let mut clients: Vec<_> = (0..CLIENTS)
        .map(|_| Client::connect(&program.address))
        .collect();
    for client in &mut clients {
        (0..100).for_each(|_| client.ask());
    }
    let before = program.cpu_nanos();
    std::thread::scope(|scope| {
        for client in &mut clients {
            scope.spawn(|| (0..requests / CLIENTS).for_each(|_| client.ask()));
        }
    });
    (program.cpu_nanos() - before) as f64 / f64::from(requests) / 1000.0
}

/// µs for what a warm narinfo counts: one request, one lookup, its bytes and its two times.
fn counting_cost(threads: usize, times: u32) -> f64 {
    let metrics = Metrics::new();
    let began = Instant::now();
    std::thread::scope(|scope| {
        for _ in 0..threads {
            scope.spawn(|| (0..times).for_each(|_| count(&metrics)));
        }
    });
    began.elapsed().as_secs_f64() * 1e6 / f64::from(times)
}

fn count(metrics: &Metrics) {
    metrics.request_began();
    metrics.looked_up(Kind::Narinfo, Tier::Memory, Outcome::Hit);
    let took = black_box(Duration::from_micros(20));
    metrics.request_answered(Kind::Narinfo, Source::Memory, took);
    metrics.request_over(&Over {
        kind: Kind::Narinfo,
        method: Method::Get,
        status: Status::of(200),
        source: Source::Memory,
        sent: 500,
        total: took,
    });
}

struct Program {
    process: Child,
    address: String,
}

impl Program {
    fn start(folder: &Path, settings: &[(&str, &str)]) -> Self {
        let log = fs::File::create(folder.join("log")).expect("a log");
        let own = env!("CARGO_BIN_EXE_narwharf");
        let program = std::env::var_os("WATCHED").unwrap_or_else(|| own.into());
        let mut process = Command::new(program)
            .env_clear()
            .current_dir(folder)
            .env("NARWHARF_SERVER__LISTEN", "127.0.0.1:0")
            .env("NARWHARF_BUCKET__PATH", "bucket")
            .envs(settings.iter().copied())
            .stdout(Stdio::piped())
            .stderr(log)
            .spawn()
            .expect("the program");
        let said = BufReader::new(process.stdout.take().expect("its words")).lines();
        let address = said
            .map_while(Result::ok)
            .find_map(|line| Some(line.split_once("http://")?.1.to_owned()))
            .expect("where it serves");
        Self { process, address }
    }

    /// CPU time of all threads (proc(5), `schedstat`: the first number, in nanoseconds).
    fn cpu_nanos(&self) -> u64 {
        let tasks = fs::read_dir(format!("/proc/{}/task", self.process.id())).expect("its threads");
        let of = |task: fs::DirEntry| {
            let text = fs::read_to_string(task.path().join("schedstat")).ok()?;
            text.split(' ').next()?.parse::<u64>().ok()
        };
        tasks.map_while(Result::ok).filter_map(of).sum()
    }
}

impl Drop for Program {
    fn drop(&mut self) {
        // It has nothing to save.
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

struct Client {
    stream: TcpStream,
    request: String,
    buffer: Vec<u8>,
}

impl Client {
    fn connect(address: &str) -> Self {
        let stream = TcpStream::connect(address).expect("a listening gateway");
        stream.set_nodelay(true).expect("a live socket");
        Self {
            stream,
            request: format!("GET /{KEY} HTTP/1.1\r\nHost: {address}\r\n\r\n"),
            buffer: vec![0; 4096],
        }
    }

    /// Asks, and reads the whole answer.
    fn ask(&mut self) {
        self.stream
            .write_all(self.request.as_bytes())
            .expect("a live socket");
        let mut have = 0;
        while !self.buffer[..have].ends_with(b"References: \n") {
            have += match self.stream.read(&mut self.buffer[have..]) {
                Ok(read) if read > 0 => read,
                other => panic!("no answer: {other:?}"),
            };
        }
        assert!(self.buffer.starts_with(b"HTTP/1.1 200"));
    }
}
