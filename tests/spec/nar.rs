//! NARs: what GET and HEAD say of them, and which of them are kept.

use std::time::Duration;

use crate::bed::r2sim::{Fault, Rule};
use crate::bed::{Head, KIB, MIB, Package, Settings, TestBed, get, head, put};
use crate::outage::{assert_unknown, impatient};

fn without_uploads(settings: &mut Settings) {
    settings.set("uploads.enabled", "false");
}

#[tokio::test]
async fn a_nar_comes_with_all_that_a_client_and_a_proxy_want_to_know() {
    let bed = TestBed::start().await;
    let hello = bed.bucket.publish(Package::named("hello"));
    let name = &hello.nar["nar/".len()..][..52];
    for how in [
        "narwharf; fwd=uri-miss; stored; detail=bucket",
        "narwharf; hit; detail=disk",
    ] {
        let answer = bed.ask(get(&hello.nar)).await;
        assert!(answer.is(&hello.nar_bytes));
        let says = |field| answer.header(field);
        assert_eq!(answer.head.length(), Some(hello.nar_bytes.len()));
        assert_eq!(says("content-type"), Some("application/x-nix-nar"));
        assert_eq!(says("accept-ranges"), Some("bytes"));
        assert_eq!(says("content-encoding"), None);
        assert_eq!(says("transfer-encoding"), None);
        assert_eq!(says("etag"), Some(format!("\"{name}\"").as_str()));
        assert_eq!(
            says("cache-control"),
            Some("public, max-age=31536000, immutable")
        );
        assert!(says("last-modified").is_some_and(|date| date.ends_with(" GMT")));
        assert_eq!(says("cache-status"), Some(how));
        assert!(says("x-request-id").is_some());
        bed.at_rest().await;
    }
}

/// A time that a header cannot carry, as a bucket's clock or a file's time may say, is not said.
#[tokio::test]
async fn an_object_from_before_1970_is_served_without_its_date() {
    let bed = TestBed::start().await;
    let hello = bed.bucket.publish(Package::named("hello"));
    let old = Fault::Header("last-modified", "Wed, 31 Dec 1969 23:59:59 GMT");
    let _old = bed.bucket.fault(Rule::any().plays(old));
    let objects = [
        (&hello.narinfo, hello.narinfo_text.as_bytes()),
        (&hello.nar, &hello.nar_bytes),
    ];
    for (key, bytes) in objects.repeat(2) {
        let answer = bed.ask(get(key)).await;
        assert!(answer.is(bytes), "{key}: {}", answer.text());
        assert_eq!(answer.header("last-modified"), None);
        bed.at_rest().await;
    }
}

/// Nix decides by HEAD whether to upload and by GET whether to build: they must not differ.
#[tokio::test]
async fn head_says_what_get_says() {
    for uploads in [true, false] {
        let bed = TestBed::with(|s| s.set("uploads.enabled", &uploads.to_string())).await;
        let packages = [
            Package::named("by-hash"),
            Package::named("as-nix-serve").named_as_nix_serve(),
            Package::named("as-harmonia").named_as_harmonia(),
            Package::named("empty").nar_bytes(0),
        ];
        for package in packages {
            let package = bed.bucket.publish(package);
            let cold = bed.ask(head(&package.nar)).await;
            assert_eq!(bed.bucket.reads(&package.nar), 0, "HEAD fetches nothing");
            let got = bed.ask(get(&package.nar)).await;
            bed.at_rest().await;
            let warm = bed.ask(head(&package.nar)).await;
            for said in [&cold, &warm] {
                assert_eq!(said.status, 200);
                assert!(said.body.is_empty());
                assert_eq!(facts(&said.head), facts(&got.head), "{}", package.nar);
            }
        }
        let absent = (
            bed.ask(head("nar/no.nar")).await,
            bed.ask(get("nar/no.nar")).await,
        );
        assert_eq!((absent.0.status, absent.1.status), (404, 404));
        assert!(absent.0.body.is_empty());
        assert_eq!(bed.metric("narwharf_fills_total{outcome=\"stored\"}"), 4);
    }
}

/// No body follows a HEAD, or the next answer on the connection would be taken for it.
#[tokio::test]
async fn head_leaves_the_connection_in_step() {
    let bed = TestBed::start().await;
    let hello = bed.cached(Package::named("hello")).await;
    let mut client = bed.connect().await;
    for _ in 0..3 {
        assert_eq!(client.ask(&head(&hello.nar)).await.status, 200);
        assert!(client.ask(&get(&hello.nar)).await.is(&hello.nar_bytes));
        assert_eq!(client.ask(&head("nar/absent.nar")).await.status, 404);
    }
}

#[tokio::test]
async fn head_starts_no_fill() {
    let bed = TestBed::start().await;
    let hello = bed.bucket.publish(Package::named("hello"));
    assert_eq!(bed.ask(head(&hello.nar)).await.status, 200);
    bed.at_rest().await;
    assert_eq!(bed.bucket.reads(&hello.nar), 0);
    assert_eq!(bed.metric("narwharf_disk_blobs"), 0);
}

/// Uploaders skip what HEAD finds, so it speaks for the bucket although the NAR lies on disk.
#[tokio::test]
async fn where_uploads_are_on_head_asks_the_bucket_every_time() {
    let bed = TestBed::with(impatient).await;
    let hello = bed.cached(Package::named("hello")).await;
    for _ in 0..2 {
        let before = bed.bucket.requests();
        assert_eq!(bed.ask(head(&hello.nar)).await.status, 200);
        assert_eq!(bed.bucket.requests(), before + 1);
    }
    // Not knowing is neither a yes nor a no
    let failing = bed
        .bucket
        .fault(Rule::any().plays(Fault::Status(500, "InternalError")));
    assert_unknown("HEAD", &bed.ask(head(&hello.nar)).await);
    failing.release();
    // and what the bucket has lost is told at once, though it is still served
    bed.bucket.remove(&hello.nar);
    assert_eq!(bed.ask(head(&hello.nar)).await.status, 404);
    assert!(bed.ask(get(&hello.nar)).await.is(&hello.nar_bytes));
}

#[tokio::test]
async fn where_uploads_are_off_head_is_answered_from_the_disk() {
    let bed = TestBed::with(without_uploads).await;
    let hello = bed.cached(Package::named("hello")).await;
    let before = bed.bucket.requests();
    let answer = bed.ask(head(&hello.nar)).await;
    assert_eq!(answer.status, 200);
    assert_eq!(
        answer.header("cache-status"),
        Some("narwharf; hit; detail=disk")
    );
    assert_eq!(bed.bucket.requests(), before);
}

#[tokio::test]
async fn an_absent_nar_is_asked_for_once() {
    let bed = TestBed::start().await;
    let absent = Package::named("absent").build().nar;
    for how in [
        "narwharf; fwd=uri-miss; detail=bucket",
        "narwharf; hit; detail=negative",
    ] {
        let answer = bed.ask(get(&absent)).await;
        assert_eq!(answer.status, 404);
        assert_eq!(answer.header("cache-status"), Some(how));
        assert_eq!(answer.header("cache-control"), Some("no-store"));
        assert_eq!(answer.header("accept-ranges"), Some("bytes"));
        assert!(answer.text().ends_with('\n') && answer.text().len() < 200);
    }
    assert_eq!(bed.bucket.requests(), 1);
}

/// Harmonia's NARs are told apart by their query, here and at the bucket.
#[tokio::test]
async fn two_queries_are_two_nars() {
    let bed = TestBed::start().await;
    let one = bed
        .cached(Package::named("a").nar_key("nar/x.nar?hash=a"))
        .await;
    let other = bed
        .cached(Package::named("b").nar_key("nar/x.nar?hash=b"))
        .await;
    for package in [&one, &other, &one] {
        assert!(bed.ask(get(&package.nar)).await.is(&package.nar_bytes));
    }
    assert_eq!(
        (bed.bucket.reads(&one.nar), bed.bucket.reads(&other.nar)),
        (1, 1)
    );
    assert_eq!(bed.ask(get("nar/x.nar")).await.status, 404);
    assert_eq!(bed.ask(get("nar/x.nar?hash=c")).await.status, 404);
}

#[tokio::test]
async fn an_empty_nar_is_a_nar() {
    let bed = TestBed::start().await;
    let empty = bed.cached(Package::named("empty").nar_bytes(0)).await;
    let answer = bed.ask(get(&empty.nar)).await;
    assert!(answer.is(b""));
    assert_eq!(answer.head.length(), Some(0));
    assert_eq!(
        answer.header("cache-status"),
        Some("narwharf; hit; detail=disk")
    );
    assert_eq!(bed.bucket.reads(&empty.nar), 1);
}

/// A giant is passed through and not stored, whole or in pieces, and does not cost a blob its place.
#[tokio::test]
async fn a_nar_above_the_limit_is_passed_through_unstored() {
    let limits = [("disk.max_nar", "1MiB"), ("disk.capacity", "1MiB")];
    for (limit, value) in limits {
        let bed = TestBed::with(|s| s.set(limit, value)).await;
        let small = bed.cached(Package::named("small")).await;
        let giant = Package::named("giant").nar_bytes(MIB + 64 * KIB);
        let giant = bed.bucket.publish(giant);
        let name = &giant.nar["nar/".len()..][..52];
        let answer = bed.ask(get(&giant.nar)).await;
        assert!(answer.is(&giant.nar_bytes), "{limit}");
        assert_eq!(answer.header("cache-status"), Some("narwharf; fwd=bypass"));
        assert_eq!(answer.header("etag"), Some(format!("\"{name}\"").as_str()));
        assert_eq!(
            bed.bucket.reads(&giant.nar),
            1,
            "{limit}: one GET, body and all"
        );
        let piece = bed.ask(get(&giant.nar).range("bytes=1000-70000")).await;
        assert_eq!((piece.status, piece.cut), (206, false), "{limit}");
        assert!(piece.body == giant.nar_bytes[1000..=70000], "{limit}");
        assert!(
            bed.ask_times(4, get(&giant.nar))
                .await
                .iter()
                .all(|a| a.is(&giant.nar_bytes))
        );
        bed.at_rest().await;
        assert_eq!(bed.metric("narwharf_disk_blobs"), 1, "{limit}");
        assert_eq!(bed.metric("narwharf_disk_evictions_total"), 0, "{limit}");
        assert!(bed.ask(get(&small.nar)).await.is(&small.nar_bytes));
        assert_eq!(bed.bucket.reads(&small.nar), 1, "{limit}");
    }
}

/// What is passed is held to its hash like everything else.
#[tokio::test]
async fn a_passed_nar_with_wrong_bytes_is_cut() {
    let bed = TestBed::with(|s| s.set("disk.max_nar", "64KiB")).await;
    for offset in [0, 200_000, 399_999] {
        let giant = Package::named(&offset.to_string()).nar_bytes(400_000);
        let giant = bed.bucket.publish(giant);
        let rule = Rule::get(&giant.nar).plays(Fault::Flip { offset });
        let wrong = bed.bucket.fault(rule);
        assert!(bed.ask(get(&giant.nar)).await.cut, "{offset}");
        wrong.release();
        bed.clock.advance(Duration::from_secs(120));
        assert!(
            bed.ask(get(&giant.nar)).await.is(&giant.nar_bytes),
            "{offset}"
        );
    }
}

/// Some caches keep compressed bytes under a plain `.nar`: nobody here looks inside.
#[tokio::test]
async fn compressed_bytes_under_a_plain_name_are_left_alone() {
    let bed = TestBed::start().await;
    let gzip = b"\x1f\x8b\x08\x00\x00\x00\x00\x00\x00\x03\xcbH\xcd\xc9\xc9\x07\x00\x86\xa6\x106\x05\x00\x00\x00";
    let package = bed.cached(Package::named("gzip").nar_of(gzip)).await;
    let answer = bed
        .ask(get(&package.nar).header("Accept-Encoding", "gzip, zstd"))
        .await;
    assert!(answer.is(gzip));
    assert_eq!(answer.header("content-encoding"), None);
    assert_eq!(answer.header("vary"), None);
}

/// A client of HTTP/1.0 gets a length and the end of the connection, never chunks.
#[tokio::test]
async fn an_old_client_is_served() {
    let bed = TestBed::start().await;
    let hello = bed.bucket.publish(Package::named("hello").nar_bytes(MIB));
    for state in ["cold", "on disk"] {
        let mut client = bed.connect().await;
        let request = format!("GET /{} HTTP/1.0\r\n\r\n", hello.nar);
        client.send(request.as_bytes()).await;
        let answer = client.answer("GET").await;
        assert!(answer.is(&hello.nar_bytes), "{state}");
        assert_eq!(answer.header("transfer-encoding"), None, "{state}");
        assert!(client.rest().await.is_empty(), "{state}");
        bed.at_rest().await;
    }
}

/// Requests sent without waiting for answers are answered in their order, whatever each of them is.
#[tokio::test]
async fn pipelined_requests_are_answered_in_order() {
    let bed = TestBed::start().await;
    let warm = Package::named("warm").nar_bytes(300 * KIB);
    let warm = bed.cached(warm).await;
    let cold = Package::named("cold").nar_bytes(300 * KIB);
    let cold = bed.bucket.publish(cold);
    let document = Package::named("document").build();
    let requests = [
        get(&warm.nar),
        get(&cold.nar),
        head(&warm.nar),
        get("nar/absent.nar"),
        put("log/x.drv", "a log"),
        head("log/x.drv"),
        get(&cold.nar).range("bytes=0-9"),
        head(&document.narinfo),
        get("log/x.drv"),
    ];
    let together: Vec<u8> = requests
        .iter()
        .flat_map(|request| request.bytes("bed"))
        .collect();
    // in one packet, and in many
    for piece in [together.len(), 50] {
        let mut client = bed.connect().await;
        for piece in together.chunks(piece) {
            client.send(piece).await;
        }
        assert!(client.answer("GET").await.is(&warm.nar_bytes));
        assert!(client.answer("GET").await.is(&cold.nar_bytes));
        let heads = client.answer("HEAD").await;
        assert_eq!(heads.head.length(), Some(300 * KIB));
        assert_eq!(client.answer("GET").await.status, 404);
        assert!(matches!(client.answer("PUT").await.status, 200 | 201));
        assert_eq!(client.answer("HEAD").await.head.length(), Some(5));
        assert!(client.answer("GET").await.body == cold.nar_bytes[..10]);
        assert_eq!(client.answer("HEAD").await.status, 404);
        assert!(client.answer("GET").await.is(b"a log"));
    }
}

/// What the first request wants of the connection is not undone by the one behind it.
#[tokio::test]
async fn a_request_that_closes_is_the_last_one_answered() {
    let bed = TestBed::start().await;
    let cold = bed.bucket.publish(Package::named("cold"));
    let requests = [get(&cold.nar).header("Connection", "close"), get(&cold.nar)];
    let mut client = bed.connect().await;
    for request in &requests {
        client.send_head(request).await;
    }
    assert!(client.answer("GET").await.is(&cold.nar_bytes));
    assert!(client.rest().await.is_empty());
}

/// What a head says of the NAR, and not of this very exchange.
fn facts(head: &Head) -> Vec<(&'static str, Option<String>)> {
    let fields = [
        "content-length",
        "content-type",
        "content-encoding",
        "accept-ranges",
        "etag",
        "cache-control",
        "last-modified",
        "vary",
    ];
    let said = fields.map(|field| (field, head.header(field).map(str::to_owned)));
    said.into_iter().collect()
}
