//! The log of the built program: a line for each request that a machine can read, the request's id on
//! what was asked of the bucket for it, and a reader who sleeps holds up nobody.

use std::fs;
use std::io::{BufRead, BufReader};
use std::net::SocketAddr;
use std::process::{Child, ChildStderr, Command, ExitStatus, Stdio};
use std::sync::mpsc::{Receiver, channel};
use std::time::Instant;

use serde_json::Value;

use crate::bed::r2sim::{Fault, R2Sim, Rule};
use crate::bed::{Answer, Connection, PATIENCE, Request, get};

/// The program over an r2sim.
pub struct Program {
    process: Child,
    address: SocketAddr,
    bucket: R2Sim,
    folder: tempfile::TempDir,
    /// What it has said so far.
    said: Vec<Value>,
    saying: Receiver<Value>,
}

impl Program {
    pub fn start(settings: &[(&str, &str)]) -> Self {
        let mut program = Self::unread(settings);
        let log = program.take_log();
        let (heard, saying) = channel();
        program.saying = saying;
        std::thread::spawn(move || {
            for line in log.lines().map_while(Result::ok) {
                let said = serde_json::from_str(&line);
                let said = said.unwrap_or_else(|error| panic!("{error}: {line}"));
                if heard.send(said).is_err() {
                    return;
                }
            }
        });
        program
    }

    /// Its log is a pipe that nobody reads.
    fn unread(settings: &[(&str, &str)]) -> Self {
        let bucket = R2Sim::start();
        let folder = tempfile::tempdir().unwrap();
        fs::write(folder.path().join("settings.toml"), "").unwrap();
        let credentials = bucket.credentials();
        let mut process = Command::new(assert_cmd::cargo::cargo_bin!("narwharf"))
            .args(["--config", "settings.toml"])
            .env_clear()
            .current_dir(folder.path())
            .envs([
                ("NARWHARF_SERVER__LISTEN", "127.0.0.1:0"),
                ("NARWHARF_BUCKET__KIND", "s3"),
                ("NARWHARF_BUCKET__ENDPOINT", &bucket.endpoint()),
                ("NARWHARF_BUCKET__NAME", bucket.bucket()),
                ("NARWHARF_BUCKET__ACCESS_KEY_ID", &credentials.access_key_id),
                (
                    "NARWHARF_BUCKET__SECRET_ACCESS_KEY",
                    &credentials.secret_access_key,
                ),
                ("NARWHARF_BUCKET__HOLD", "100ms"),
                ("NARWHARF_LOG__FORMAT", "json"),
            ])
            .envs(settings.iter().copied())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .expect("the program");
        let mut told = BufReader::new(process.stdout.take().unwrap()).lines();
        let address = told
            .find_map(|line| line.ok()?.split_once("http://")?.1.parse().ok())
            .expect("where it serves");
        Self {
            process,
            address,
            bucket,
            folder,
            said: Vec::new(),
            saying: channel().1,
        }
    }

    fn take_log(&mut self) -> BufReader<ChildStderr> {
        BufReader::new(self.process.stderr.take().expect("not taken yet"))
    }

    pub async fn ask(&self, request: Request) -> Answer {
        Connection::open(self.address).await.ask(&request).await
    }

    /// All lines, once `enough` of them are there: they are written behind the requests.
    #[track_caller]
    fn lines(&mut self, enough: impl Fn(&[Value]) -> bool) -> &[Value] {
        let deadline = Instant::now() + PATIENCE;
        while !enough(&self.said) {
            let left = deadline.saturating_duration_since(Instant::now());
            match self.saying.recv_timeout(left) {
                Ok(line) => self.said.push(line),
                Err(_) => panic!("never said: {:#?}", self.said),
            }
        }
        &self.said
    }

    /// Puts other settings in the place of its own, and tells it.
    fn reload(&self, settings: &str) {
        let at = |name| self.folder.path().join(name);
        fs::write(at("new.toml"), settings).unwrap();
        fs::rename(at("new.toml"), at("settings.toml")).unwrap();
        self.signal(rustix::process::Signal::HUP);
    }

    /// Ends it, and returns what it had to say until then.
    pub fn end(mut self) -> (ExitStatus, Vec<Value>) {
        self.signal(rustix::process::Signal::TERM);
        let ended = self.process.wait().unwrap();
        let mut said = std::mem::take(&mut self.said);
        said.extend(self.saying.iter());
        (ended, said)
    }

    fn signal(&self, signal: rustix::process::Signal) {
        let pid = rustix::process::Pid::from_child(&self.process);
        rustix::process::kill_process(pid, signal).unwrap();
    }
}

impl Drop for Program {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

fn access(lines: &[Value]) -> Vec<&Value> {
    lines
        .iter()
        .filter(|line| line["target"] == "narwharf::access")
        .collect()
}

#[actix_web::test]
async fn each_request_has_a_line_that_says_how_it_was_answered_and_why_it_was_refused() {
    let mut program = Program::start(&[]);
    let missing = "00000000000000000000000000000000.narinfo";
    // The lines of one connection come in their order.
    let mut connection = Connection::open(program.address).await;
    for request in [
        get(missing),
        get(missing),
        get("nar/..%2f..%2fetc"),
        Request::new("POST", missing),
    ] {
        connection.ask(&request).await;
    }
    let lines = program.lines(|lines| access(lines).len() >= 4);
    let said = |at: usize, field: &str| access(lines)[at][field].clone();
    assert_eq!(
        (said(0, "how"), said(1, "how")),
        ("miss".into(), "negative-hit".into())
    );
    assert_eq!(
        (said(0, "status"), said(0, "why")),
        (404.into(), Value::Null)
    );
    assert!(
        said(2, "why").as_str().unwrap().starts_with("no such path"),
        "{}",
        said(2, "why")
    );
    assert_eq!(
        (said(3, "status"), said(3, "method")),
        (405.into(), "POST".into())
    );
    assert!(said(3, "first_byte_us").is_u64() && said(3, "slow").is_null());
    assert_eq!(said(3, "client"), "127.0.0.1");
}

#[actix_web::test]
async fn what_is_asked_of_the_bucket_bears_the_id_of_the_request() {
    let mut program = Program::start(&[]);
    let sick = "00000000000000000000000000000001.narinfo";
    let _failing = program
        .bucket
        .fault(Rule::get(sick).plays(Fault::Status(500, "InternalError")));
    let answer = program.ask(get(sick)).await;
    assert_eq!(answer.status, 503);
    let id = answer.header("x-request-id").unwrap();
    let is_of_bucket = |line: &&Value| {
        let target = line["target"].as_str();
        target.is_some_and(|target| target.starts_with("narwharf::origin"))
    };
    // The lines of different threads come in no order.
    let lines = program
        .lines(|lines| !access(lines).is_empty() && lines.iter().find(is_of_bucket).is_some());
    for line in lines.iter().filter(is_of_bucket) {
        assert_eq!(line["span"]["id"], id, "{line}");
    }
    assert_eq!(access(lines)[0]["id"], id);
    assert!(
        access(lines)[0]["why"]
            .as_str()
            .unwrap()
            .contains("status 500")
    );
}

/// It has to be explained even where no other request is logged.
#[actix_web::test]
async fn a_slow_answer_says_what_it_waited_for() {
    let mut program = Program::start(&[("NARWHARF_LOG__ACCESS", "false")]);
    let key = "00000000000000000000000000000002.narinfo";
    let wait = std::time::Duration::from_millis(2100);
    let _slow = program
        .bucket
        .fault(Rule::get(key).plays(Fault::DelayFirstByte(wait)));
    program.ask(get("nix-cache-info")).await;
    program.ask(get(key)).await;
    let lines = program.lines(|lines| !access(lines).is_empty());
    assert_eq!(access(lines).len(), 1);
    assert_eq!(
        (&access(lines)[0]["slow"], &access(lines)[0]["path"]),
        (&"the bucket".into(), &format!("/{key}").into())
    );
}

/// A pipe that nobody reads holds 64 KiB; far more is said here, and no request waits for it.
#[actix_web::test]
async fn a_reader_of_the_log_who_sleeps_holds_up_nobody() {
    let program = Program::unread(&[]);
    let mut connection = Connection::open(program.address).await;
    let mut dropped = 0.0;
    let mut requests = 0;
    while dropped == 0.0 {
        for _ in 0..2000 {
            assert_eq!(connection.ask(&get("nix-cache-info")).await.status, 200);
        }
        requests += 2000;
        assert!(requests < 60_000, "the queue has an end");
        let scrape = connection.ask(&get("metrics")).await;
        dropped = crate::scrape::Scrape::parse(scrape.text())
            .sum("narwharf_log_lines_dropped_total", &[]);
    }
    assert!(requests > 6_000, "2 MiB of lines are kept: {requests}");
}

/// Lines wait in memory, and the last of them are written when the program leaves.
#[actix_web::test]
async fn no_line_is_lost_at_a_clean_end() {
    let program = Program::start(&[]);
    let mut connection = Connection::open(program.address).await;
    for _ in 0..3000 {
        connection.ask(&get("nix-cache-info")).await;
    }
    drop(connection);
    let (ended, lines) = program.end();
    assert!(ended.success());
    let paths = access(&lines).into_iter().map(|line| &line["path"]);
    assert_eq!(
        paths.filter(|path| *path == "/nix-cache-info").count(),
        3000
    );
}

#[actix_web::test]
async fn the_level_is_another_after_sighup_and_what_is_no_level_changes_nothing() {
    let mut program = Program::start(&[]);
    let replaced = |times| {
        move |lines: &[Value]| {
            let told = lines
                .iter()
                .filter(|line| line["message"] == "log level replaced");
            told.count() == times
        }
    };
    let refused = |lines: &[Value]| {
        let mut told = lines.iter().filter_map(|line| line["message"].as_str());
        told.any(|line| line.contains("log.level") && line.contains("stay as they were"))
    };

    program.reload("[log]\nlevel = \"info,narwharf::access=warn\"\n");
    program.lines(replaced(1));
    program.ask(get("unheard")).await;
    program.reload("[log]\nlevel = \"loud\"\n");
    program.lines(refused);
    program.ask(get("unheard")).await;
    program.reload("[log]\nlevel = \"info,narwharf::access=debug\"\n");
    program.lines(replaced(2));
    program.ask(get("heard")).await;

    let lines = program.lines(|lines| !access(lines).is_empty());
    assert_eq!(access(lines)[0]["path"], "/heard");
}
