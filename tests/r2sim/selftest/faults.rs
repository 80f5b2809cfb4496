//! Each fault as a client sees it.

use std::time::{Duration, Instant};

use aws_sdk_s3::Client;
use aws_sdk_s3::error::SdkError;
use aws_sdk_s3::operation::get_object::{GetObjectError, GetObjectOutput};
use aws_sdk_s3::primitives::ByteStream;
use aws_sdk_s3::types::{CompletedMultipartUpload, CompletedPart};

use crate::client::{client, refusal};
use crate::conformance::{KEY, patterned};
use crate::r2sim::{End, Fault, Operation, R2Sim, Rule};

pub const LEN: usize = 500_000;

#[tokio::test]
async fn status_answers_in_the_buckets_place_with_the_headers_of_the_rule() {
    let bed = Bed::new();
    let rule = Rule::get(KEY).times(1);
    let rule = rule.plays(Fault::Status(429, "TooManyRequests"));
    let guard = bed.sim.fault(rule.plays(Fault::Header("retry-after", "7")));
    let error = bed.get().await.expect_err("refused");
    assert_eq!(refusal(&error), (429, "TooManyRequests".to_owned()));
    let answer = error.raw_response().expect("an answer");
    assert_eq!(answer.headers().get("retry-after"), Some("7"));
    assert_eq!(bed.whole().await, bed.body);
    assert_eq!(guard.played(), 1);
}

#[tokio::test]
async fn status_reads_an_uploads_body_first_and_stores_nothing() {
    let bed = Bed::new();
    let rule = Rule::on(Operation::PutObject).plays(Fault::Status(503, "ServiceUnavailable"));
    let _guard = bed.sim.fault(rule);
    let error = bed
        .put("new", patterned(4 << 20))
        .await
        .expect_err("refused");
    assert_eq!(error.0, 503);
    assert_eq!(bed.sim.object("new"), None);
    assert_eq!(bed.sim.log().entries()[0].received, 4 << 20);
}

#[tokio::test]
async fn reset_and_refusal_give_no_answer() {
    let bed = Bed::new();
    let guard = bed.sim.fault(Rule::get(KEY).plays(Fault::Reset));
    let error = bed.get().await.expect_err("reset");
    assert!(matches!(error, SdkError::DispatchFailure(_)), "{error:?}");
    guard.release();

    bed.sim.stop_listening();
    let error = bed.get().await.expect_err("refused");
    assert!(matches!(error, SdkError::DispatchFailure(_)), "{error:?}");
    bed.sim.start_listening();
    assert_eq!(bed.whole().await, bed.body);
}

#[tokio::test]
async fn silence_lasts_until_the_guard_goes() {
    let bed = Bed::new();
    let guard = bed.sim.fault(Rule::get(KEY).plays(Fault::Silence));
    let (answer, ()) = tokio::join!(bed.get(), async {
        guard.until_played(1).await;
        assert_eq!(bed.sim.log().entries()[0].status, None);
        guard.release();
    });
    assert!(answer.is_err());
}

#[tokio::test]
async fn a_held_first_byte_comes_with_the_release() {
    let bed = Bed::new();
    let held = bed.sim.hold_first_byte(KEY);
    let (body, ()) = tokio::join!(bed.whole(), async {
        held.until_played(1).await;
        assert_eq!(bed.sim.log().entries()[0].sent, 0);
        held.release();
    });
    assert_eq!(body, bed.body);
    assert_eq!(bed.sim.reads(KEY), 1);
}

#[tokio::test]
async fn a_delayed_first_byte_comes_no_sooner() {
    let bed = Bed::new();
    let delay = Duration::from_millis(50);
    let _guard = bed
        .sim
        .fault(Rule::get(KEY).plays(Fault::DelayFirstByte(delay)));
    let before = Instant::now();
    assert_eq!(bed.whole().await, bed.body);
    assert!(before.elapsed() >= delay);
}

#[tokio::test]
async fn a_held_body_has_exactly_so_many_bytes_before_the_release() {
    let bed = Bed::new();
    let held = bed.sim.fault(Rule::get(KEY).plays(Fault::HoldAfter(1234)));
    let mut body = bed.get().await.expect("head").body;
    let mut got = Vec::new();
    while got.len() < 1234 {
        got.extend(body.try_next().await.expect("flows").expect("more"));
    }
    assert_eq!(got, bed.body[..1234]);
    bed.sim.until(|log| log[0].sent == 1234).await;
    held.release();
    got.extend(body.collect().await.expect("the rest").to_vec());
    assert_eq!(got, bed.body);
    bed.sim.until(|log| log[0].end == End::Whole).await;
}

#[tokio::test]
async fn a_stalled_or_cut_body_breaks_after_exactly_so_many_bytes() {
    for (fault, stalls) in [
        (Fault::StallAfter(300_000), true),
        (Fault::CutAfter(300_000), false),
    ] {
        let bed = Bed::new();
        let guard = bed.sim.fault(Rule::get(KEY).plays(fault));
        let body = bed.get().await.expect("head").body;
        if stalls {
            bed.sim.until(|log| log[0].sent == 300_000).await;
            guard.release();
        }
        assert_eq!(until_broken(body).await, bed.body[..300_000]);
        bed.sim.until(|log| log[0].end == End::Broken).await;
        assert_eq!(bed.sim.log().bytes_out(KEY), 300_000);
    }
}

#[tokio::test]
async fn a_cut_before_the_first_byte_still_sends_the_head() {
    let bed = Bed::new();
    let _guard = bed.sim.fault(Rule::get(KEY).plays(Fault::CutAfter(0)));
    let answer = bed.get().await.expect("head");
    assert_eq!(answer.content_length(), Some(LEN as i64));
    assert!(until_broken(answer.body).await.is_empty());
}

#[tokio::test]
async fn a_chunked_body_may_be_whole_or_cut() {
    let bed = Bed::new();
    let chunked = Rule::get(KEY).plays(Fault::Chunked);
    let guard = bed.sim.fault(chunked.clone());
    let answer = bed.get().await.expect("head");
    assert_eq!(answer.content_length(), None);
    assert_eq!(collected(answer.body).await, bed.body);
    guard.release();

    let _guard = bed.sim.fault(chunked.plays(Fault::CutAfter(100)));
    let answer = bed.get().await.expect("head");
    assert_eq!(until_broken(answer.body).await, bed.body[..100]);
}

#[tokio::test]
async fn a_truncated_body_looks_whole() {
    let bed = Bed::new();
    let _guard = bed
        .sim
        .fault(Rule::get(KEY).plays(Fault::TruncateAfter(1000)));
    let answer = bed.get().await.expect("head");
    assert_eq!(answer.content_length(), Some(1000));
    assert_eq!(collected(answer.body).await, bed.body[..1000]);
}

/// The surplus is read here from the bare socket: a good client would hide it.
#[tokio::test]
async fn an_extended_body_is_followed_by_bytes_nobody_declared() {
    use tokio::io::{AsyncReadExt, AsyncWriteExt};
    let bed = Bed::new();
    let _guard = bed.sim.fault(Rule::any().plays(Fault::Extend(b"SURPLUS")));
    let address = bed.sim.endpoint().replace("http://", "");
    let mut socket = tokio::net::TcpStream::connect(address)
        .await
        .expect("connect");
    let request = b"GET /nix/nar/x HTTP/1.1\r\nHost: r2\r\nConnection: close\r\n\r\n";
    socket.write_all(request).await.expect("ask");
    let mut answer = String::new();
    socket.read_to_string(&mut answer).await.expect("answer");
    assert!(answer.starts_with("HTTP/1.1 400"), "{answer}");
    assert!(answer.ends_with("</Error>SURPLUS"), "{answer}");
}

/// Rot sits in the object, so a range that leaves it out is good and one that has it is not.
#[tokio::test]
async fn a_flipped_byte_is_at_its_place_in_every_range() {
    let bed = Bed::new();
    let _guard = bed
        .sim
        .fault(Rule::get(KEY).plays(Fault::Flip { offset: 150_000 }));
    let got = bed.whole().await;
    let wrong: Vec<usize> = (0..LEN).filter(|at| got[*at] != bed.body[*at]).collect();
    assert_eq!(wrong, [150_000]);
    let got = collected(bed.range("bytes=149999-150001").await.body).await;
    assert_ne!(got[1], bed.body[150_000]);
    assert_eq!([got[0], got[2]], [bed.body[149_999], bed.body[150_001]]);
    let got = collected(bed.range("bytes=150001-").await.body).await;
    assert_eq!(got, bed.body[150_001..]);
}

#[tokio::test]
async fn html_and_other_objects_come_as_if_they_were_right() {
    let bed = Bed::new();
    let guard = bed.sim.fault(Rule::get(KEY).plays(Fault::Html200));
    let answer = bed.get().await.expect("200");
    assert_eq!(answer.content_type(), Some("text/html; charset=utf-8"));
    guard.release();

    bed.sim.put_object("other", "another object", "text/plain");
    let rule = Rule::get(KEY).plays(Fault::WrongObject("other".to_owned()));
    let _guard = bed.sim.fault(rule);
    assert_eq!(bed.whole().await, b"another object");
}

#[tokio::test]
async fn ranges_are_ignored_shifted_or_lied_about() {
    let bed = Bed::new();
    let guard = bed
        .sim
        .fault(Rule::get(KEY).ranged(true).plays(Fault::IgnoreRange));
    let answer = bed.range("bytes=100-199").await;
    assert_eq!(answer.content_range(), None);
    assert_eq!(collected(answer.body).await, bed.body);
    guard.release();

    for (admitted, told) in [
        (true, "bytes 105-204/500000"),
        (false, "bytes 100-199/500000"),
    ] {
        let shift = Fault::ShiftRange { by: 5, admitted };
        let _guard = bed.sim.fault(Rule::get(KEY).plays(shift));
        let answer = bed.range("bytes=100-199").await;
        assert_eq!(answer.content_range(), Some(told));
        assert_eq!(collected(answer.body).await, bed.body[105..205]);
    }
}

#[tokio::test]
async fn an_etag_is_changed_or_left_out() {
    let bed = Bed::new();
    for etag in [Some("\"of another version\""), None] {
        let _guard = bed.sim.fault(Rule::get(KEY).plays(Fault::Etag(etag)));
        assert_eq!(bed.get().await.expect("head").e_tag(), etag);
    }
}

#[tokio::test]
async fn an_ambiguous_write_has_taken_place() {
    for fault in [
        Fault::ApplyThenStatus(500, "InternalError"),
        Fault::ApplyThenReset,
    ] {
        let bed = Bed::new();
        let _guard = bed.sim.fault(Rule::on(Operation::PutObject).plays(fault));
        bed.put("new", b"bytes".to_vec())
            .await
            .expect_err("no success");
        assert_eq!(bed.sim.object("new").as_deref(), Some(&b"bytes"[..]));
    }
}

#[tokio::test]
async fn a_completion_may_be_an_error_under_a_200() {
    let bed = Bed::new();
    let create = bed.s3.create_multipart_upload().bucket("nix").key("new");
    let upload = create.send().await.expect("create");
    let id = upload.upload_id().expect("id");
    let part = bed.s3.upload_part().bucket("nix").key("new").upload_id(id);
    let part = part.part_number(1).body(ByteStream::from_static(b"part"));
    let etag = part.send().await.expect("part").e_tag().map(str::to_owned);

    let rule = Rule::on(Operation::CompleteMultipartUpload);
    let _guard = bed
        .sim
        .fault(rule.plays(Fault::OkWithErrorBody("InternalError")));
    let part = CompletedPart::builder()
        .part_number(1)
        .set_e_tag(etag)
        .build();
    let parts = CompletedMultipartUpload::builder().parts(part).build();
    let complete = bed.s3.complete_multipart_upload().bucket("nix").key("new");
    let complete = complete.upload_id(id).multipart_upload(parts).send().await;
    assert_eq!(
        complete
            .expect_err("seen through")
            .raw_response()
            .expect("answer")
            .status()
            .as_u16(),
        200
    );
    assert_eq!(bed.sim.object("new"), None);
    assert_eq!(bed.sim.open_multipart_uploads().len(), 1);
}

/// A server with one object, and a client.
pub struct Bed {
    pub sim: R2Sim,
    pub s3: Client,
    pub body: Vec<u8>,
}

impl Bed {
    pub fn new() -> Self {
        let sim = R2Sim::start();
        let body = patterned(LEN);
        sim.put_object(KEY, &body, "application/x-nix-nar");
        let s3 = client(&sim);
        Self { sim, s3, body }
    }

    pub async fn get(&self) -> Result<GetObjectOutput, SdkError<GetObjectError>> {
        self.s3.get_object().bucket("nix").key(KEY).send().await
    }

    async fn range(&self, range: &str) -> GetObjectOutput {
        let get = self.s3.get_object().bucket("nix").key(KEY).range(range);
        get.send().await.expect("a part")
    }

    pub async fn whole(&self) -> Vec<u8> {
        collected(self.get().await.expect("head").body).await
    }

    /// Errors: status and code.
    pub async fn put(&self, key: &str, bytes: Vec<u8>) -> Result<(), (u16, String)> {
        let put = self.s3.put_object().bucket("nix").key(key);
        let sent = put.body(ByteStream::from(bytes)).send().await;
        sent.map(|_| ()).map_err(|error| refusal(&error))
    }
}

async fn collected(body: ByteStream) -> Vec<u8> {
    body.collect().await.expect("whole body").to_vec()
}

/// All bytes that came before the body broke; panics if it ends well, or not within 30 s.
async fn until_broken(mut body: ByteStream) -> Vec<u8> {
    let mut got = Vec::new();
    let reading = async {
        while let Ok(bytes) = body.try_next().await {
            got.extend(bytes.expect("the body breaks before it ends"));
        }
    };
    let patience = Duration::from_secs(30);
    let read = tokio::time::timeout(patience, reading).await;
    read.expect("the connection is closed");
    got
}
