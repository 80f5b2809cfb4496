//! A server that is told to stop answers what it was asked, uploads before all: an older Nix cannot
//! repeat them.

use std::time::Duration;

use crate::bed::r2sim::{Fault, Operation, Rule};
use crate::bed::{MIB, Package, TestBed, get, put};

#[tokio::test]
async fn an_upload_under_way_is_answered_and_its_connection_parted_from() {
    let mut bed = TestBed::with(|s| s.set("server.drain", "20s")).await;
    let hello = Package::named("hello").nar_bytes(MIB).build();
    let slow = Fault::DelayFirstByte(Duration::from_millis(300));
    let slow = bed.bucket.fault(Rule::on(Operation::PutObject).plays(slow));
    let asking = bed.ask(put(&hello.nar, &hello.nar_bytes));
    slow.until_played(1).await;
    bed.restart_after(|_| {}).await;
    let answer = asking.await;
    assert_eq!(answer.status, 201, "{}", answer.text());
    assert_eq!(answer.header("connection"), Some("close"));
    assert!(bed.ask(get(&hello.nar)).await.is(&hello.nar_bytes));
}
