//! What does it cost to be watched? CPU time of a narinfo that is warm in memory, with and without
//! metrics and the access log; and of the counting alone, by one thread and by two at once.
//!
//! In each round a program is started for each setting, and they are asked in short turns, one after
//! the other, over two threads of connections that are asked all at once; what is read is the CPU time
//! of all its threads, so the clients are not in it. Compared are the turns that follow each other, and
//! told is the median of what they differ by, with the quartiles: what makes one turn dearer than the
//! next is mostly the machine, and falls on all alike. `WATCHED=path` asks another build of the program.
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

/// Threads that ask at once, and connections of each.
const CLIENTS: usize = 2;
const CONNECTIONS: usize = 16;

/// How much is asked.
struct Effort {
    rounds: usize,
    /// In a round, of each program.
    turns: usize,
    /// In a turn, over each connection.
    requests: usize,
}

const FULL: Effort = Effort {
    rounds: 8,
    turns: 25,
    requests: 100,
};

const SMALL: Effort = Effort {
    rounds: 1,
    turns: 2,
    requests: 3,
};

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
    let effort = if small { SMALL } else { FULL };
    let folder = tempfile::tempdir().expect("a temporary folder");
    fs::create_dir(folder.path().join("bucket")).expect("a bucket");
    fs::write(folder.path().join("bucket").join(KEY), NARINFO).expect("a narinfo");

    let costs = costs(folder.path(), &effort);
    println!(
        "CPU time of a warm narinfo in µs: median of {} turns of {} requests, and what it costs more\n\
         than with neither, turn by turn (quartiles)",
        costs[0].len(),
        CLIENTS * CONNECTIONS * effort.requests,
    );
    for ((name, _), own) in SETTINGS.iter().zip(&costs) {
        let more = own.iter().zip(&costs[0]).map(|(own, least)| own - least);
        let [_, cost, _] = quartiles(own.iter().copied());
        let [low, median, high] = quartiles(more);
        println!("  {name:<28} {cost:6.2}   {median:+.2} ({low:+.2} to {high:+.2})");
    }
    let times = if small { 1000 } else { 5_000_000 };
    for threads in [1, 2] {
        let cost = counting_cost(threads, times);
        println!("  counting alone, {threads} threads    {cost:6.3}");
    }
}

/// Of each setting, µs of CPU time for a request in each turn.
fn costs(folder: &Path, effort: &Effort) -> [Vec<f64>; SETTINGS.len()] {
    let mut costs = SETTINGS.map(|_| Vec::new());
    for _ in 0..effort.rounds {
        let programs = SETTINGS.map(|(name, settings)| {
            let own = folder.join(name);
            fs::create_dir_all(&own).expect("a folder of its own");
            Program::start(&own, settings)
        });
        for turn in 0..=effort.turns {
            for (program, costs) in programs.iter().zip(&mut costs) {
                let cost = request_cost(program, effort.requests);
                // The first turn fills caches.
                if turn > 0 {
                    costs.push(cost);
                }
            }
        }
    }
    costs
}

fn quartiles(values: impl Iterator<Item = f64>) -> [f64; 3] {
    let mut values: Vec<_> = values.collect();
    values.sort_by(f64::total_cmp);
    [1, 2, 3].map(|quarter| values[(values.len() - 1) * quarter / 4])
}

/// µs of CPU time for a request.
fn request_cost(program: &Program, requests: usize) -> f64 {
    let connect = |_| Client::connect(&program.address);
    let mut clients: [Vec<_>; CLIENTS] =
        std::array::from_fn(|_| (0..CONNECTIONS).map(connect).collect());
    clients.iter_mut().for_each(|clients| ask_all(clients));
    let before = program.cpu_nanos();
    std::thread::scope(|scope| {
        for clients in &mut clients {
            scope.spawn(|| (0..requests).for_each(|_| ask_all(clients)));
        }
    });
    let asked = CLIENTS * CONNECTIONS * requests;
    (program.cpu_nanos() - before) as f64 / asked as f64 / 1000.0
}

fn ask_all(clients: &mut [Client]) {
    clients.iter_mut().for_each(Client::ask);
    clients.iter_mut().for_each(Client::hear);
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
            .env("NARWHARF_BUCKET__PATH", "../bucket")
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

    fn ask(&mut self) {
        self.stream
            .write_all(self.request.as_bytes())
            .expect("a live socket");
    }

    /// Reads the whole answer.
    fn hear(&mut self) {
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
