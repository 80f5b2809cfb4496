//! Without faults: the answers R2 gives.

use std::time::{Duration, SystemTime};

use aws_sdk_s3::Client;
use aws_sdk_s3::config::RequestChecksumCalculation;
use aws_sdk_s3::primitives::{ByteStream, DateTime};
use aws_sdk_s3::types::{Delete, ObjectIdentifier};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

use crate::client::{client, client_as, refusal, settings};
use crate::r2sim::{Options, R2Sim};

pub const KEY: &str = "nar/1b2m3.nar.xz";

#[tokio::test]
async fn what_is_put_is_what_is_got() {
    let (sim, s3) = bucket();
    let put = s3
        .put_object()
        .bucket("nix")
        .key(KEY)
        .body(ByteStream::from_static(b"hello, wharf"))
        .content_type("application/x-nix-nar")
        .cache_control("immutable")
        .metadata("origin", "build-farm")
        .send()
        .await
        .expect("put");
    assert_eq!(put.e_tag(), Some(etag(&sim).as_str()));

    let got = get(&s3).await.expect("get");
    assert_eq!(got.content_length(), Some(12));
    assert_eq!(got.content_type(), Some("application/x-nix-nar"));
    assert_eq!(got.cache_control(), Some("immutable"));
    assert_eq!(got.metadata().expect("metadata")["origin"], "build-farm");
    assert_eq!(got.e_tag(), put.e_tag());
    assert_eq!(bytes(got.body).await, b"hello, wharf");

    let head = s3.head_object().bucket("nix").key(KEY).send().await;
    assert_eq!(head.expect("head").content_length(), Some(12));
    assert_eq!(sim.object(KEY).as_deref(), Some(&b"hello, wharf"[..]));
    assert_eq!(sim.reads(KEY), 1);
}

/// What the md5 of a known text is, from RFC 1321 §A.5.
#[tokio::test]
async fn an_etag_is_the_md5_of_the_bytes() {
    let (sim, s3) = bucket();
    sim.put_object(KEY, "abc", "text/plain");
    let got = get(&s3).await.expect("get");
    assert_eq!(got.e_tag(), Some("\"900150983cd24fb0d6963f7d28e17f72\""));
}

/// A streamed file is stored as it is: nothing of the client's framing gets in.
#[tokio::test]
async fn a_streamed_put_is_stored_to_the_byte() {
    let (sim, s3) = bucket();
    let file = tempfile::NamedTempFile::new().expect("file");
    let body = patterned(300_000);
    std::fs::write(file.path(), &body).expect("write");
    let stream = ByteStream::from_path(file.path()).await.expect("open");
    s3.put_object()
        .bucket("nix")
        .key(KEY)
        .body(stream)
        .send()
        .await
        .expect("put");
    assert_eq!(sim.object(KEY), Some(body));
    let meta = sim.object_meta(KEY).expect("stored");
    assert_eq!(meta.len, 300_000);
    assert_eq!(meta.attributes.content_encoding, None);
}

#[tokio::test]
async fn aws_chunked_framing_is_refused_and_never_stored() {
    let (sim, _) = bucket();
    let credentials = sim.credentials();
    let careless = Client::from_conf(
        settings(
            &sim,
            &credentials.access_key_id,
            &credentials.secret_access_key,
        )
        .request_checksum_calculation(RequestChecksumCalculation::WhenSupported)
        .build(),
    );
    let file = tempfile::NamedTempFile::new().expect("file");
    std::fs::write(file.path(), patterned(300_000)).expect("write");
    let stream = ByteStream::from_path(file.path()).await.expect("open");
    let put = careless.put_object().bucket("nix").key(KEY).body(stream);
    let error = put.send().await.expect_err("framed");
    assert_eq!(refusal(&error), (501, "NotImplemented".to_owned()));
    assert_eq!(sim.keys(), Vec::<String>::new());
}

#[tokio::test]
async fn ranges_give_their_part_or_416() {
    let (sim, s3) = bucket();
    sim.put_object(KEY, "0123456789", "text/plain");
    for (range, told, part) in [
        ("bytes=2-4", "bytes 2-4/10", "234"),
        ("bytes=7-", "bytes 7-9/10", "789"),
        ("bytes=-2", "bytes 8-9/10", "89"),
        ("bytes=8-99", "bytes 8-9/10", "89"),
    ] {
        let get = s3.get_object().bucket("nix").key(KEY).range(range);
        let got = get.send().await.expect(range);
        assert_eq!(got.content_range(), Some(told));
        assert_eq!(bytes(got.body).await, part.as_bytes());
    }
    let beyond = s3.get_object().bucket("nix").key(KEY).range("bytes=10-");
    let error = beyond.send().await.expect_err("beyond the end");
    assert_eq!(refusal(&error), (416, "InvalidRange".to_owned()));
}

#[tokio::test]
async fn conditions_stop_reads_with_304_and_412() {
    let (sim, s3) = bucket();
    sim.put_object(KEY, "abc", "text/plain");
    let etag = etag(&sim);
    let get = || s3.get_object().bucket("nix").key(KEY);
    let hour = Duration::from_secs(3600);
    let (past, future) = (SystemTime::now() - hour, SystemTime::now() + hour);

    for (get, status) in [
        (get().if_none_match(&etag), 304),
        (get().if_none_match("*"), 304),
        (get().if_modified_since(DateTime::from(future)), 304),
        (get().if_match("\"other\""), 412),
        (get().if_unmodified_since(DateTime::from(past)), 412),
    ] {
        let error = get.send().await.expect_err("stopped");
        assert_eq!(refusal(&error).0, status);
    }
    for get in [
        get().if_none_match("\"other\""),
        get()
            .if_match(&etag)
            .if_unmodified_since(DateTime::from(past)),
        get().if_modified_since(DateTime::from(past)),
    ] {
        get.send().await.expect("let through");
    }
}

#[tokio::test]
async fn a_create_only_put_does_not_replace() {
    let (sim, s3) = bucket();
    sim.put_object(KEY, "first", "text/plain");
    let put = s3.put_object().bucket("nix").key(KEY).if_none_match("*");
    let put = put.body(ByteStream::from_static(b"second"));
    let error = put.send().await.expect_err("taken");
    assert_eq!(refusal(&error), (412, "PreconditionFailed".to_owned()));
    assert_eq!(sim.object(KEY).as_deref(), Some(&b"first"[..]));
}

#[tokio::test]
async fn absence_is_404_for_get_head_and_bucket() {
    let (sim, s3) = bucket();
    let error = get(&s3).await.expect_err("absent");
    assert_eq!(refusal(&error), (404, "NoSuchKey".to_owned()));
    let error = s3.head_object().bucket("nix").key(KEY).send().await;
    let error = error.expect_err("absent").into_service_error();
    assert!(error.is_not_found());

    s3.head_bucket().bucket("nix").send().await.expect("bucket");
    let elsewhere = s3.get_object().bucket("elsewhere").key(KEY).send().await;
    let error = elsewhere.expect_err("no such bucket");
    assert_eq!(refusal(&error), (404, "NoSuchBucket".to_owned()));
    assert_eq!(sim.log().requests(), 4);
}

#[tokio::test]
async fn wrong_credentials_are_401_and_403() {
    let (sim, _) = bucket();
    sim.put_object(KEY, "abc", "text/plain");
    let stranger = client_as(&sim, "somebody", "r2sim-secret-key");
    let error = get(&stranger).await.expect_err("unknown key");
    assert_eq!(refusal(&error), (401, "Unauthorized".to_owned()));
    let forger = client_as(&sim, "r2sim-access-key", "wrong");
    let error = get(&forger).await.expect_err("wrong secret");
    assert_eq!(refusal(&error), (403, "SignatureDoesNotMatch".to_owned()));
}

#[tokio::test]
async fn headers_that_r2_lacks_are_501() {
    let (_sim, s3) = bucket();
    let put = s3.put_object().bucket("nix").key(KEY).tagging("a=b");
    let error = put.send().await.expect_err("tagging");
    assert_eq!(refusal(&error), (501, "NotImplemented".to_owned()));
}

#[tokio::test]
async fn a_second_write_within_a_second_is_429_where_that_is_switched_on() {
    let sim = R2Sim::with(Options {
        limit_writes: true,
        ..Options::default()
    })
    .expect("start");
    let s3 = client(&sim);
    let put = |key| {
        let body = ByteStream::from_static(b"x");
        s3.put_object().bucket("nix").key(key).body(body).send()
    };
    put("a").await.expect("first");
    put("b").await.expect("another key");
    let error = put("a").await.expect_err("too soon");
    assert_eq!(refusal(&error), (429, "TooManyRequests".to_owned()));
}

#[tokio::test]
async fn listings_come_in_pages_and_folders() {
    let (sim, s3) = bucket();
    for key in ["a.narinfo", "b.narinfo", "log/x", "nar/1", "nar/2"] {
        sim.put_object(key, key, "text/plain");
    }
    let mut keys = Vec::new();
    let mut folders = Vec::new();
    let mut token = None;
    let mut pages = 0;
    loop {
        let list = s3
            .list_objects_v2()
            .bucket("nix")
            .delimiter("/")
            .max_keys(3);
        let page = list
            .set_continuation_token(token)
            .send()
            .await
            .expect("list");
        keys.extend(
            page.contents()
                .iter()
                .filter_map(|it| it.key().map(str::to_owned)),
        );
        let prefixes = page.common_prefixes().iter();
        folders.extend(prefixes.filter_map(|it| it.prefix().map(str::to_owned)));
        token = page.next_continuation_token().map(str::to_owned);
        pages += 1;
        if page.is_truncated() != Some(true) {
            break;
        }
    }
    assert_eq!(keys, ["a.narinfo", "b.narinfo"]);
    assert_eq!(folders, ["log/", "nar/"]);
    assert_eq!(pages, 2);

    let nars = s3
        .list_objects_v2()
        .bucket("nix")
        .prefix("nar/")
        .send()
        .await;
    assert_eq!(nars.expect("list").key_count(), Some(2));
    let buckets = s3.list_buckets().send().await.expect("buckets");
    assert_eq!(buckets.buckets()[0].name(), Some("nix"));
}

#[tokio::test]
async fn objects_are_deleted_one_by_one_and_in_bulk() {
    let (sim, s3) = bucket();
    for key in ["a", "b", "c"] {
        sim.put_object(key, key, "text/plain");
    }
    s3.delete_object()
        .bucket("nix")
        .key("a")
        .send()
        .await
        .expect("delete");
    let ids = ["b", "never there"].map(|key| ObjectIdentifier::builder().key(key).build());
    let delete = ids.into_iter().fold(Delete::builder(), |all, id| {
        all.objects(id.expect("has a key"))
    });
    let delete = delete.build().expect("has objects");
    s3.delete_objects()
        .bucket("nix")
        .delete(delete)
        .send()
        .await
        .expect("delete");
    assert_eq!(sim.keys(), ["c"]);
}

#[tokio::test]
async fn kept_objects_are_there_again_after_a_restart() {
    let dir = tempfile::tempdir().expect("dir");
    let kept = || Options {
        data: Some(dir.path().to_owned()),
        ..Options::default()
    };
    let sim = R2Sim::with(kept()).expect("start");
    sim.put_object("replaced", "one", "text/plain");
    let second = sim.put_object("replaced", "two", "text/plain");
    sim.put_object("removed", "three", "text/plain");
    sim.remove("removed");
    drop(sim);

    let sim = R2Sim::with(kept()).expect("start again");
    assert_eq!(sim.keys(), ["replaced"]);
    assert_eq!(sim.object_meta("replaced"), Some(second));
    assert_eq!(sim.object("replaced").as_deref(), Some(&b"two"[..]));
    sim.put_object("new", "four", "text/plain");
    assert_eq!(sim.object("replaced").as_deref(), Some(&b"two"[..]));
}

pub fn bucket() -> (R2Sim, Client) {
    let sim = R2Sim::start();
    let s3 = client(&sim);
    (sim, s3)
}

fn etag(sim: &R2Sim) -> String {
    format!("\"{}\"", sim.object_meta(KEY).expect("stored").etag)
}

async fn get(
    s3: &Client,
) -> Result<
    aws_sdk_s3::operation::get_object::GetObjectOutput,
    aws_sdk_s3::error::SdkError<aws_sdk_s3::operation::get_object::GetObjectError>,
> {
    s3.get_object().bucket("nix").key(KEY).send().await
}

async fn bytes(body: ByteStream) -> Vec<u8> {
    body.collect().await.expect("whole body").to_vec()
}

/// Bytes that differ from place to place, so that a shift or a swap shows.
pub fn patterned(len: usize) -> Vec<u8> {
    (0..len).map(|at| (at * 31 + at / 251) as u8).collect()
}

/// As from a bucket with a public address: whoever cannot sign may read, and nothing else.
#[tokio::test]
async fn without_a_signature_objects_are_read_where_that_is_switched_on() {
    for (public_reads, read) in [(false, "400"), (true, "200")] {
        let sim = R2Sim::with(Options {
            public_reads,
            ..Options::default()
        })
        .expect("start");
        sim.put_object(KEY, "hello", "text/plain");
        assert_eq!(unsigned(&sim, "GET").await, read);
        assert_eq!(unsigned(&sim, "HEAD").await, read);
        assert_eq!(unsigned(&sim, "DELETE").await, "400");
        assert!(sim.object(KEY).is_some());
    }
}

/// The status of an answer to a request that nobody signed.
async fn unsigned(sim: &R2Sim, method: &str) -> String {
    let endpoint = sim.endpoint();
    let address = endpoint.trim_start_matches("http://");
    let mut socket = TcpStream::connect(address).await.expect("connect");
    let request =
        format!("{method} /nix/{KEY} HTTP/1.1\r\nHost: {address}\r\nConnection: close\r\n\r\n");
    socket.write_all(request.as_bytes()).await.expect("send");
    let mut answer = String::new();
    socket.read_to_string(&mut answer).await.expect("read");
    answer.split(' ').nth(1).unwrap_or_default().to_owned()
}
