//! Fills: one read of the bucket for all who ask, and never a byte that was not verified.

use crate::bed::{MIB, Package, TestBed, get};

/// A popular package lands on a cold edge: everyone is served, the bucket is read once.
#[tokio::test]
async fn clients_of_a_cold_nar_share_one_fill() {
    // Given a NAR that only the bucket has, and a bucket that holds back its first byte
    let bed = TestBed::start().await;
    let hello = bed
        .bucket
        .publish(Package::named("hello").nar_bytes(3 * MIB));
    let held = bed.bucket.hold_first_byte(&hello.nar);
    // When fifty clients ask, and then the byte comes
    let asked = bed.ask_times(50, get(&hello.nar));
    bed.until_metric("narwharf_fill_readers", 50).await;
    held.release();
    // Then all hold the same bytes, for one read of the bucket
    assert!(asked.await.iter().all(|answer| answer.is(&hello.nar_bytes)));
    assert_eq!(bed.bucket.reads(&hello.nar), 1);
}
