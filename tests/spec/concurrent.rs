//! Many uploaders of one key at the same time, as a farm's builders are: one upload, one content.

use std::time::{Duration, Instant};

use crate::bed::r2sim::{Fault, Operation, Rule};
use crate::bed::{Answer, Built, KIB, MIB, Package, TestBed, get, head, put};

const MANY: usize = 50;

fn nar(name: &str) -> Built {
    Package::named(name).nar_bytes(2 * MIB).build()
}

fn statuses(answers: &[Answer], status: u16) -> usize {
    answers.iter().filter(|it| it.status == status).count()
}

fn writes(bed: &TestBed) -> usize {
    bed.bucket.log().requests_of(Operation::PutObject)
}

/// So many have come. The bucket may hold the NAR before it acknowledges it, and who asks it then has
/// been answered already.
fn are_here(bed: &TestBed, count: usize) -> bool {
    let answered = "narwharf_http_requests_total{kind=\"nar\",method=\"PUT\",status=\"200\"}";
    let waiting = bed.metric("narwharf_http_requests_in_flight");
    waiting + bed.metric(answered) >= count as u64
}

/// Whoever waits to be told (`Expect`) need not send a byte; whoever has sent it all is told too.
#[tokio::test]
async fn fifty_builders_with_one_nar_cost_the_bucket_one_upload() {
    for expecting in [true, false] {
        let bed = TestBed::start().await;
        let hello = nar("hello");
        let request = put(&hello.nar, &hello.nar_bytes);
        let request = if expecting {
            request.expecting_continue()
        } else {
            request
        };
        let held = Rule::on(Operation::PutObject).plays(Fault::HoldFirstByte);
        let held = bed.bucket.fault(held);
        let asked = bed.ask_times(MANY, request);
        held.until_played(1).await;
        bed.until("all of them are here", || are_here(&bed, MANY))
            .await;
        held.release();
        let answers = asked.await;
        assert_eq!(statuses(&answers, 201), 1);
        assert_eq!(statuses(&answers, 200), MANY - 1);
        assert_eq!(writes(&bed), 1);
        if expecting {
            let continued = answers.iter().filter(|answer| answer.continued);
            assert_eq!(continued.count(), 1, "one body was asked for");
        }
        assert_eq!(bed.bucket.object(&hello.nar).unwrap(), hello.nar_bytes);
    }
}

/// Large enough to go in parts: one upload is begun, one is completed.
#[tokio::test]
async fn fifty_builders_with_one_large_nar_cost_the_bucket_one_upload_in_parts() {
    let bed = TestBed::with(|s| s.set("uploads.part_size", "5MiB")).await;
    let big = Package::named("big").nar_bytes(11 * MIB).build();
    let held = Rule::on(Operation::UploadPart).plays(Fault::HoldFirstByte);
    let held = bed.bucket.fault(held);
    let asked = bed.ask_times(MANY, put(&big.nar, &big.nar_bytes).expecting_continue());
    held.until_played(3).await;
    bed.until_metric("narwharf_http_requests_in_flight", MANY as u64)
        .await;
    held.release();
    let answers = asked.await;
    assert_eq!(statuses(&answers, 201), 1);
    assert_eq!(statuses(&answers, 200), MANY - 1);
    let continued = answers.iter().filter(|answer| answer.continued);
    assert_eq!(continued.count(), 1, "one body was asked for");
    for (operation, times) in [
        (Operation::CreateMultipartUpload, 1),
        (Operation::UploadPart, 3),
        (Operation::CompleteMultipartUpload, 1),
        (Operation::PutObject, 0),
    ] {
        assert_eq!(bed.bucket.log().requests_of(operation), times);
    }
    assert_eq!(bed.bucket.object(&big.nar).unwrap(), big.nar_bytes);
}

/// Whoever hears "absent" while somebody else writes it does not write it again.
#[tokio::test]
async fn an_absence_heard_before_anothers_upload_asks_for_no_second_body() {
    let bed = TestBed::start().await;
    let hello = nar("hello");
    let request = put(&hello.nar, &hello.nar_bytes).expecting_continue();
    let late = Rule::on(Operation::HeadObject).nth(1);
    let late = bed.bucket.fault(late.plays(Fault::HoldFirstByte));
    let one = bed.ask(request.clone());
    late.until_played(1).await;
    let other = bed.ask(request).await;
    late.release();
    let answers = [one.await, other];
    assert_eq!(statuses(&answers, 201), 1);
    assert_eq!(statuses(&answers, 200), 1);
    let continued = answers.iter().filter(|answer| answer.continued);
    assert_eq!(continued.count(), 1, "one body was asked for");
}

/// The one that was waited for may come to nothing.
#[tokio::test]
async fn when_the_first_uploader_goes_away_another_takes_over() {
    let bed = TestBed::start().await;
    let hello = nar("hello");
    let request = put(&hello.nar, &hello.nar_bytes).expecting_continue();
    assert_eq!(bed.ask(head(&hello.nar)).await.status, 404);
    let mut first = bed.connect().await;
    first.send_head(&request).await;
    assert_eq!(first.head().await.status, 100);
    first.send(&hello.nar_bytes[..MIB]).await;
    let others = bed.ask_times(5, request);
    bed.until_metric("narwharf_http_requests_in_flight", 6)
        .await;
    drop(first);
    let answers = others.await;
    assert_eq!(statuses(&answers, 201), 1);
    assert_eq!(statuses(&answers, 200), 4);
    assert_eq!(writes(&bed), 1);
    assert_eq!(bed.bucket.object(&hello.nar).unwrap(), hello.nar_bytes);
}

#[tokio::test]
async fn wrong_bytes_under_a_hash_spoil_nobodys_upload() {
    let bed = TestBed::start().await;
    let hello = nar("hello");
    let mut wrong = hello.nar_bytes.clone();
    wrong[77] ^= 1;
    let bad = bed.ask_times(MANY / 2, put(&hello.nar, &wrong));
    let good = bed.ask_times(MANY / 2, put(&hello.nar, &hello.nar_bytes));
    let (bad, good) = (bad.await, good.await);
    // Those that come once it is there are not read at all.
    assert_eq!(statuses(&bad, 400) + statuses(&bad, 200), MANY / 2);
    assert_eq!(statuses(&good, 201), 1);
    assert_eq!(statuses(&good, 200), MANY / 2 - 1);
    assert_eq!(writes(&bed), 1);
    assert_eq!(bed.bucket.object(&hello.nar).unwrap(), hello.nar_bytes);
    assert!(bed.ask(get(&hello.nar)).await.is(&hello.nar_bytes));
}

#[tokio::test]
async fn of_different_bytes_under_a_hash_none_is_taken_but_its_own() {
    let bed = TestBed::start().await;
    let hello = nar("hello");
    let contents = (0..MANY).map(|at| {
        let mut bytes = hello.nar_bytes.clone();
        bytes[at] ^= 1;
        bytes
    });
    let asked: Vec<_> = contents
        .map(|bytes| bed.ask(put(&hello.nar, bytes)))
        .collect();
    for asking in asked {
        let answer = asking.await;
        assert_eq!(answer.status, 400, "{}", answer.text());
    }
    assert_eq!(writes(&bed), 0);
    assert_eq!(bed.bucket.object(&hello.nar), None);
    assert_eq!(bed.ask(put(&hello.nar, &hello.nar_bytes)).await.status, 201);
}

#[tokio::test]
async fn of_different_bytes_under_a_name_that_is_no_hash_one_content_survives() {
    one_of_several_contents_survives(300 * KIB).await;
}

/// In parts, whose completion would replace what is there.
#[tokio::test]
async fn of_different_large_bytes_under_a_name_that_is_no_hash_one_content_survives() {
    one_of_several_contents_survives(6 * MIB).await;
}

async fn one_of_several_contents_survives(len: usize) {
    let bed = TestBed::with(|s| s.set("uploads.part_size", "5MiB")).await;
    const EACH: usize = MANY / 5;
    let contents: Vec<Vec<u8>> = (0u8..5).map(|at| vec![at; len]).collect();
    let asked: Vec<_> = contents
        .iter()
        .map(|bytes| bed.ask_times(EACH, put("nar/x.nar", bytes)))
        .collect();
    let mut all = Vec::new();
    for (asked, bytes) in asked.into_iter().zip(&contents) {
        all.push((asked.await, bytes));
    }
    let survived = bed.bucket.object("nar/x.nar").unwrap();
    let mut created = 0;
    for (answers, bytes) in &all {
        created += statuses(answers, 201);
        let wanted = if **bytes == survived { 200 } else { 409 };
        let others = statuses(answers, wanted) + statuses(answers, 201);
        assert_eq!(
            others,
            EACH,
            "{:?}",
            answers.iter().map(|it| it.status).collect::<Vec<_>>()
        );
    }
    assert_eq!(created, 1);
    assert!(bed.ask(get("nar/x.nar")).await.is(&survived));
}

/// Memory and bucket end with the same one, whichever that is.
#[tokio::test]
async fn the_last_of_many_narinfos_is_the_one_that_is_served() {
    let bed = TestBed::start().await;
    let hello = Package::named("hello").build();
    assert_eq!(bed.ask(put(&hello.nar, &hello.nar_bytes)).await.status, 201);
    let slow = Fault::DelayFirstByte(Duration::from_millis(20));
    let _slow = bed
        .bucket
        .fault(Rule::on(Operation::PutObject).chance(0.5, 7).plays(slow));
    let versions = (0..10).map(|at| format!("{}Version: {at}\n", hello.narinfo_text));
    let asked: Vec<_> = versions
        .map(|text| bed.ask(put(&hello.narinfo, text)))
        .collect();
    for asking in asked {
        assert_eq!(asking.await.status, 201);
    }
    let stored = bed.bucket.object(&hello.narinfo).unwrap();
    assert!(bed.ask(get(&hello.narinfo)).await.is(&stored));
}

/// An uploader of minutes is not overtaken by those who wait for it: they would only take its line,
/// and under a name that is no hash both would be told that theirs is there.
#[ignore = "takes two minutes"]
#[tokio::test]
async fn an_upload_of_minutes_is_waited_for() {
    /// Twice what a body has to come at.
    const EACH_SECOND: usize = 20_000;
    let bed = TestBed::with(|s| s.set("uploads.part_size", "5MiB")).await;
    let (mine, theirs) = (vec![1; 6 * MIB], vec![2; 7 * MIB]);
    let patient = |bytes: &[u8]| {
        put("nar/x.nar", bytes)
            .header("User-Agent", "curl/8.5.0")
            .expecting_continue()
    };
    let mut first = bed.connect().await;
    first.send_head(&patient(&mine)).await;
    assert_eq!(first.head().await.status, 100);
    let mut second = bed.connect().await;
    second.send_head(&patient(&theirs)).await;
    let (began, mut sent, mut told) = (Instant::now(), 0, Instant::now());
    while began.elapsed() < Duration::from_secs(130) {
        assert_eq!(bed.ask(get("health")).await.status, 200);
        if told.elapsed() > Duration::from_secs(1) {
            first.send(&mine[sent..sent + EACH_SECOND]).await;
            (sent, told) = (sent + EACH_SECOND, Instant::now());
        }
    }
    first.send(&mine[sent..]).await;
    assert_eq!(first.answer("PUT").await.status, 201);
    let told = second.head().await;
    assert_eq!(told.status, 409, "another length is another NAR");
    assert_eq!(bed.bucket.object("nar/x.nar").unwrap(), mine);
}
