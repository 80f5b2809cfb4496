//! What does it cost to be watched? CPU time of a narinfo that is warm in memory, with the access log
//! and without, and of the counting alone.
//!
//! The program is started anew for each setting and asked over one connection; what is read is the CPU
//! time of all its threads, so neither the client nor a busy machine is in it. Rounds alternate
//! between the settings and the least of each counts, as noise only adds.
//! `cargo bench --bench watching`; `cargo test --bench watching` runs it small.

use std::fs;
use std::hint::black_box;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::TcpStream;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::Instant;

use narwharf::metrics::Metrics;
use narwharf::metrics::labels::{Kind, Method, Outcome, Source, Status, Tier};

const KEY: &str = "0c2sx4hd0v9yq6gf6v0f5wx0gl3i2c8j.narinfo";

const NARINFO: &str = "StorePath: /nix/store/0c2sx4hd0v9yq6gf6v0f5wx0gl3i2c8j-hello-2.12\n\
URL: nar/0sc3rk37jlqskzhmcq2jzi8ddbdcpc7y0glwl805f9jl0qlyp058.nar.xz\n\
Compression: xz\n\
FileHash: sha256:0sc3rk37jlqskzhmcq2jzi8ddbdcpc7y0glwl805f9jl0qlyp058\n\
FileSize: 50264\n\
NarHash: sha256:0sc3rk37jlqskzhmcq2jzi8ddbdcpc7y0glwl805f9jl0qlyp058\n\
NarSize: 226560\n\
References: \n";

/// The settings that are compared: a name, and what is said in the environment.
const SETTINGS: [(&str, &[(&str, &str)]); 3] = [
    ("no access log", &[("NARWHARF_LOG__ACCESS", "false")]),
    ("access log, text", &[("NARWHARF_LOG__FORMAT", "text")]),
    ("access log, json", &[("NARWHARF_LOG__FORMAT", "json")]),
];

fn main() {
    let small = !std::env::args().any(|word| word == "--bench");
    let (rounds, requests) = if small { (1, 200) } else { (7, 20_000) };
    let folder = tempfile::tempdir().expect("a temporary folder");
    fs::create_dir(folder.path().join("bucket")).expect("a bucket");
    fs::write(folder.path().join("bucket").join(KEY), NARINFO).expect("a narinfo");

    let mut least = [f64::INFINITY; SETTINGS.len()];
    for _ in 0..rounds {
        for ((_, settings), least) in SETTINGS.iter().zip(&mut least) {
            *least = least.min(request_cost(folder.path(), settings, requests));
        }
    }
    let counting = counting_cost(if small { 1000 } else { 5_000_000 });
    println!("CPU time of a warm narinfo, {requests} requests a round, least of {rounds} rounds");
    for ((name, _), micros) in SETTINGS.iter().zip(least) {
        println!(
            "  {name:<18} {micros:6.2} µs   {:+.2} µs",
            micros - least[0]
        );
    }
    println!("  counting alone     {counting:6.3} µs   (in all three)");
}

/// µs of CPU time for a request.
fn request_cost(folder: &Path, settings: &[(&str, &str)], requests: u32) -> f64 {
    let program = Program::start(folder, settings);
    let mut client = Client::connect(&program.address);
    for _ in 0..100 {
        client.ask();
    }
    let before = program.cpu_nanos();
    for _ in 0..requests {
        client.ask();
    }
    (program.cpu_nanos() - before) as f64 / f64::from(requests) / 1000.0
}

/// µs for what a warm narinfo counts: one request, one lookup, its bytes and its two times.
fn counting_cost(times: u32) -> f64 {
    let metrics = Metrics::new();
    let began = Instant::now();
    for _ in 0..times {
        metrics.http_in_flight.inc();
        metrics
            .cache_lookups
            .of(black_box((Kind::Narinfo, Tier::Memory, Outcome::Hit)))
            .inc();
        metrics
            .http_first_byte_seconds
            .of(black_box((Kind::Narinfo, Source::Memory)))
            .observe(0.000_02);
        metrics.http_in_flight.dec();
        metrics
            .http_requests
            .of(black_box((Kind::Narinfo, Method::Get, Status::of(200))))
            .inc();
        metrics
            .http_request_seconds
            .of(black_box((Kind::Narinfo,)))
            .observe(0.000_03);
        metrics
            .http_response_bytes
            .of(black_box((Kind::Narinfo, Source::Memory)))
            .inc_by(500);
    }
    began.elapsed().as_secs_f64() * 1e6 / f64::from(times)
}

struct Program {
    process: Child,
    address: String,
}

impl Program {
    fn start(folder: &Path, settings: &[(&str, &str)]) -> Self {
        let log = fs::File::create(folder.join("log")).expect("a log");
        let mut process = Command::new(env!("CARGO_BIN_EXE_narwharf"))
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
