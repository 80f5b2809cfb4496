//! The log of the built program: a line for each request that a machine can read, the request's id on
//! what was asked of the bucket for it, and a reader who sleeps holds up nobody.

use std::fs;
use std::io::{BufRead, BufReader};
use std::net::SocketAddr;
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};

use serde_json::Value;

use crate::bed::r2sim::{Fault, R2Sim, Rule};
use crate::bed::{Answer, Connection, PATIENCE, Request, get};

/// The program over an r2sim, logging into a file or into a pipe that nobody reads.
struct Program {
    process: Child,
    address: SocketAddr,
    bucket: R2Sim,
    folder: tempfile::TempDir,
}

impl Program {
    fn start(to_file: bool, settings: &[(&str, &str)]) -> Self {
        let bucket = R2Sim::start();
        let folder = tempfile::tempdir().unwrap();
        let log = fs::File::create(folder.path().join("log")).unwrap();
        let credentials = bucket.credentials();
        let mut process = Command::new(assert_cmd::cargo::cargo_bin!("narwharf"))
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
            .stderr(if to_file {
                Stdio::from(log)
            } else {
                Stdio::piped()
            })
            .spawn()
            .expect("the program");
        let mut said = BufReader::new(process.stdout.take().unwrap()).lines();
        let address = said
            .find_map(|line| line.ok()?.split_once("http://")?.1.parse().ok())
            .expect("where it serves");
        Self {
            process,
            address,
            bucket,
            folder,
        }
    }

    async fn ask(&self, request: Request) -> Answer {
        Connection::open(self.address).await.ask(&request).await
    }

    /// All lines, once `enough` of them are there: they are written behind the requests.
    fn lines(&self, enough: impl Fn(&[Value]) -> bool) -> Vec<Value> {
        let path: PathBuf = self.folder.path().join("log");
        let deadline = std::time::Instant::now() + PATIENCE;
        loop {
            let text = fs::read_to_string(&path).unwrap();
            let whole = text.lines().take(text.matches('\n').count());
            let lines: Vec<Value> = whole
                .map(|line| {
                    serde_json::from_str(line).unwrap_or_else(|error| panic!("{error}: {line}"))
                })
                .collect();
            if enough(&lines) {
                return lines;
            }
            assert!(std::time::Instant::now() < deadline, "{lines:#?}");
            std::thread::sleep(std::time::Duration::from_millis(10));
        }
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
    let program = Program::start(true, &[]);
    let missing = "00000000000000000000000000000000.narinfo";
    for request in [
        get(missing),
        get(missing),
        get("nar/..%2f..%2fetc"),
        Request::new("POST", missing),
    ] {
        program.ask(request).await;
    }
    let lines = program.lines(|lines| access(lines).len() >= 4);
    let said = |at: usize, field: &str| access(&lines)[at][field].clone();
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
}

#[actix_web::test]
async fn what_is_asked_of_the_bucket_bears_the_id_of_the_request() {
    let program = Program::start(true, &[]);
    let sick = "00000000000000000000000000000001.narinfo";
    let _failing = program
        .bucket
        .fault(Rule::get(sick).plays(Fault::Status(500, "InternalError")));
    let answer = program.ask(get(sick)).await;
    assert_eq!(answer.status, 503);
    let id = answer.header("x-request-id").unwrap();
    let lines = program.lines(|lines| !access(lines).is_empty());
    let of_bucket: Vec<_> = lines
        .iter()
        .filter(|line| line["target"] == "narwharf::origin")
        .collect();
    assert!(!of_bucket.is_empty(), "{lines:#?}");
    for line in of_bucket {
        assert_eq!(line["span"]["id"], id, "{line}");
    }
    assert_eq!(access(&lines)[0]["id"], id);
    assert!(
        access(&lines)[0]["why"]
            .as_str()
            .unwrap()
            .contains("status 500")
    );
}

/// It has to be explained even where no other request is logged.
#[actix_web::test]
async fn a_slow_answer_says_what_it_waited_for() {
    let program = Program::start(true, &[("NARWHARF_LOG__ACCESS", "false")]);
    let key = "00000000000000000000000000000002.narinfo";
    let wait = std::time::Duration::from_millis(2100);
    let _slow = program
        .bucket
        .fault(Rule::get(key).plays(Fault::DelayFirstByte(wait)));
    program.ask(get("nix-cache-info")).await;
    program.ask(get(key)).await;
    let lines = program.lines(|lines| !access(lines).is_empty());
    assert_eq!(access(&lines).len(), 1);
    assert_eq!(
        (&access(&lines)[0]["slow"], &access(&lines)[0]["path"]),
        (&"the bucket".into(), &format!("/{key}").into())
    );
}

/// A pipe that nobody reads holds 64 KiB; far more is said here, and no request waits for it.
#[actix_web::test]
async fn a_reader_of_the_log_who_sleeps_holds_up_nobody() {
    let program = Program::start(false, &[]);
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
    assert!(requests > 10_000, "some 16,000 lines are kept: {requests}");
}
