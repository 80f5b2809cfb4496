//! What a test can order besides single faults: which requests, how slow a line, no server at all.

use std::time::{Duration, Instant};

use crate::conformance::{KEY, patterned};
use crate::faults::{Bed, LEN};
use crate::r2sim::{Fault, Rule};

/// The kernel itself says "refused", and the port is still ours afterwards.
#[tokio::test]
async fn a_stopped_server_refuses_connections_on_its_own_port() {
    let bed = Bed::new();
    let address = bed.sim.endpoint().replace("http://", "");
    bed.sim.stop_listening();
    let refused = tokio::net::TcpStream::connect(&address).await;
    let kind = refused.expect_err("refused").kind();
    assert_eq!(kind, std::io::ErrorKind::ConnectionRefused);
    bed.sim.start_listening();
    assert_eq!(bed.sim.endpoint(), format!("http://{address}"));
    tokio::net::TcpStream::connect(&address)
        .await
        .expect("taken");
}

#[tokio::test]
async fn rules_count_choose_and_keep_to_absent_keys() {
    let bed = Bed::new();
    let second = bed.sim.fault(
        Rule::any()
            .nth(2)
            .plays(Fault::Status(500, "InternalError")),
    );
    let mut failed = Vec::new();
    for _ in 0..4 {
        failed.push(bed.get().await.is_err());
    }
    assert_eq!(failed, [false, true, false, false]);
    second.release();

    let forbidden = Rule::any().prefix("nar/").absent();
    let _guard = bed
        .sim
        .fault(forbidden.plays(Fault::Status(403, "AccessDenied")));
    assert_eq!(bed.whole().await, bed.body);
    let absent = bed
        .s3
        .head_object()
        .bucket("nix")
        .key("nar/absent")
        .send()
        .await;
    let answer = absent.expect_err("absent");
    assert_eq!(
        answer.raw_response().expect("answer").status().as_u16(),
        403
    );
}

#[tokio::test]
async fn chance_is_fair_and_the_same_for_the_same_seed() {
    let mut runs = Vec::new();
    for _ in 0..2 {
        let bed = Bed::new();
        let rule = Rule::any().chance(0.5, 42);
        let _guard = bed
            .sim
            .fault(rule.plays(Fault::Status(500, "InternalError")));
        let mut failed = Vec::new();
        for _ in 0..64 {
            let head = bed.s3.head_object().bucket("nix").key(KEY).send().await;
            failed.push(head.is_err());
        }
        runs.push(failed);
    }
    assert_eq!(runs[0], runs[1]);
    let count = runs[0].iter().filter(|failed| **failed).count();
    assert!((16..=48).contains(&count), "{count} of 64");
}

#[tokio::test]
async fn the_line_is_as_slow_as_it_is_set() {
    let bed = Bed::new();
    bed.sim.line().set_round_trip(Duration::from_millis(30));
    bed.sim.line().set_bandwidth(Some(5_000_000));
    let before = Instant::now();
    assert_eq!(bed.whole().await, bed.body);
    let took = before.elapsed();
    assert!(
        took >= Duration::from_millis(110),
        "{took:?}: 30 ms and 100 ms, less the slack"
    );

    let before = Instant::now();
    bed.put("new", patterned(LEN)).await.expect("put");
    assert!(before.elapsed() >= Duration::from_millis(110));
}

#[tokio::test]
async fn connections_share_a_line_that_has_one_bandwidth() {
    let bed = Bed::new();
    bed.sim.line().set_shared_bandwidth(Some(10_000_000));
    let before = Instant::now();
    let (one, other) = tokio::join!(bed.whole(), bed.whole());
    assert!(one == bed.body && other == bed.body);
    let took = before.elapsed();
    assert!(
        took >= Duration::from_millis(80),
        "{took:?}: twice 50 ms, less the slack"
    );
}

/// A server may live inside a single-threaded runtime, as actix's tests have, and be dropped there.
#[test]
fn it_runs_beside_any_runtime() {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build();
    runtime.expect("runtime").block_on(async {
        let bed = Bed::new();
        assert_eq!(bed.whole().await, bed.body);
        bed.sim.log().reset();
        assert_eq!(bed.sim.log().requests(), 0);
    });
}
