//! A collector of OpenTelemetry hears of the requests, from a program that was built for it.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::TcpListener;
use std::sync::mpsc::{Receiver, channel};

use crate::bed::{PATIENCE, get};
use crate::log::Program;

/// A request to the collector.
struct Export {
    head: String,
    body: Vec<u8>,
}

/// Listens, and takes whatever comes.
fn collector() -> (String, Receiver<Export>) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let endpoint = format!("http://{}", listener.local_addr().unwrap());
    let (told, exports) = channel();
    std::thread::spawn(move || {
        for stream in listener.incoming().map_while(Result::ok) {
            let mut reader = BufReader::new(stream);
            let mut head = String::new();
            while !head.ends_with("\r\n\r\n") && reader.read_line(&mut head).unwrap() > 0 {}
            let lower = head.to_lowercase();
            let length = lower.split_once("content-length: ").unwrap().1;
            let length = length.lines().next().unwrap().parse().unwrap();
            let mut body = vec![0; length];
            reader.read_exact(&mut body).unwrap();
            reader
                .get_mut()
                .write_all(b"HTTP/1.0 200 OK\r\nContent-Type: application/x-protobuf\r\n\r\n")
                .unwrap();
            if told.send(Export { head, body }).is_err() {
                return;
            }
        }
    });
    (endpoint, exports)
}

impl Export {
    /// Texts and ids stand as they are in protobuf.
    fn holds(&self, bytes: &[u8]) -> bool {
        self.body.windows(bytes.len()).any(|window| window == bytes)
    }
}

#[actix_web::test]
async fn a_collector_is_told_of_a_request_under_the_id_that_its_client_was_given() {
    let (endpoint, exports) = collector();
    let program = Program::start(&[
        ("OTEL_EXPORTER_OTLP_ENDPOINT", &endpoint),
        ("OTEL_BSP_SCHEDULE_DELAY", "100"),
        ("NARWHARF_LOG__ACCESS", "false"),
    ]);
    let path = "/00000000000000000000000000000003.narinfo";
    let answer = program.ask(get(&path[1..])).await;
    let id = answer.header("x-request-id").unwrap();

    let export = exports.recv_timeout(PATIENCE).expect("an export");
    assert!(
        export.head.starts_with("POST /v1/traces HTTP/1.0\r\n"),
        "{}",
        export.head
    );
    for told in ["narwharf", "GET narinfo", path, id, "127.0.0.1", "miss"] {
        assert!(export.holds(told.as_bytes()), "{told} is missing");
    }
    let (process, count) = id.split_once('-').unwrap();
    let number = |digits| u64::from_str_radix(digits, 16).unwrap().to_be_bytes();
    let trace = [number(process), number(count)].concat();
    assert!(export.holds(&trace), "the trace is not {id}");
}

/// What was queued last is sent before the program leaves.
#[actix_web::test]
async fn no_span_is_lost_at_a_clean_end() {
    let (endpoint, exports) = collector();
    let program = Program::start(&[
        ("OTEL_EXPORTER_OTLP_ENDPOINT", &endpoint),
        ("OTEL_BSP_SCHEDULE_DELAY", "3600000"),
    ]);
    let asked = program.ask(get("the-last-path")).await;
    assert_eq!(asked.status, 404);
    let (ended, _) = program.end();
    assert!(ended.success());
    let sent = exports
        .try_iter()
        .any(|export| export.holds(b"/the-last-path"));
    assert!(sent);
}
