//! Narinfos: kept, shared, and never relayed broken. How they age is told in `freshness.rs`.

use async_compression::tokio::bufread::{
    BrotliEncoder, BzEncoder, GzipEncoder, XzEncoder, ZstdEncoder,
};
use narwharf::nix::hash::Sha256Hash;
use tokio::io::{AsyncRead, AsyncReadExt};

use crate::bed::r2sim::Attributes;
use crate::bed::{Answer, MIB, Package, TestBed, get, head};

use super::freshness::{TTL, how};

/// 503 as Nix is to hear it of a document: come back soon, believe nothing.
#[track_caller]
pub fn assert_unknown(answer: &Answer, what: &str) {
    assert_eq!(answer.status, 503, "{what}: {}", answer.text());
    assert_eq!(answer.header("retry-after"), Some("8"), "{what}");
    assert_eq!(answer.header("cache-control"), Some("no-store"), "{what}");
}

/// One request to the bucket serves a narinfo from then on, over a restart too, with the bytes it
/// came with and a tag that depends on nothing else.
#[tokio::test]
async fn a_narinfo_comes_from_the_bucket_once_then_from_memory_then_from_the_index() {
    let mut bed = TestBed::start().await;
    let hello = bed.bucket.publish(Package::named("hello"));
    let tag = format!(
        "\"{}\"",
        Sha256Hash::of(hello.narinfo_text.as_bytes()).to_nix32()
    );

    let first = bed.ask(get(&hello.narinfo)).await;
    assert!(first.is(hello.narinfo_text.as_bytes()));
    assert_eq!(how(&first), "narwharf; fwd=uri-miss; stored; detail=bucket");
    assert_eq!(first.header("content-type"), Some("text/x-nix-narinfo"));
    assert_eq!(first.header("etag"), Some(tag.as_str()));
    assert!(first.header("last-modified").is_some());
    assert!(first.header("x-request-id").is_some());
    assert_eq!(first.header("content-encoding"), None);

    let second = bed.ask(get(&hello.narinfo)).await;
    assert!(second.is(hello.narinfo_text.as_bytes()));
    assert_eq!(how(&second), "narwharf; hit; detail=memory");

    bed.restart().await;
    bed.until_recovered().await;
    let third = bed.ask(get(&hello.narinfo)).await;
    assert!(third.is(hello.narinfo_text.as_bytes()));
    assert_eq!(how(&third), "narwharf; hit; detail=index");
    for name in ["content-type", "etag", "last-modified"] {
        assert_eq!(third.header(name), first.header(name), "{name}");
    }
    let fourth = bed.ask(get(&hello.narinfo)).await;
    assert_eq!(how(&fourth), "narwharf; hit; detail=memory");
    assert_eq!(bed.bucket.requests(), 1);
}

/// Some versions of Nix refuse a whole narinfo for one malformed signature.
#[tokio::test]
async fn malformed_signatures_are_dropped_and_nothing_else() {
    let bed = TestBed::start().await;
    let hello = bed.bucket.publish(Package::named("hello"));
    let (fields, signature) = hello.narinfo_text.split_once("Sig: ").expect("signed");
    let spoilt = format!(
        "Sig: \n{fields}Sig: no-colon\nX-Other: kept as it is\nSig: {signature}Sig: cache:AAAA\n"
    );
    bed.bucket
        .put_object(&hello.narinfo, &spoilt, "text/x-nix-narinfo");
    let answer = bed.ask(get(&hello.narinfo)).await;
    let want = format!("{fields}X-Other: kept as it is\nSig: {signature}");
    assert!(answer.is(want.as_bytes()), "{}", answer.text());
}

/// What a client would choke on is an answer nobody gave: 503, not kept, and never a 404.
#[tokio::test]
async fn what_is_no_narinfo_of_this_path_is_never_relayed() {
    let bed = TestBed::start().await;
    let hello = Package::named("hello").build();
    let text = hello.narinfo_text.as_str();
    let other = Package::named("other").build();
    let with = |from: &str, to: &str| text.replace(from, to).into_bytes();
    let url = format!("URL: {}", hello.nar);
    let bad: Vec<(&str, Vec<u8>)> = vec![
        ("empty", Vec::new()),
        ("html", b"<html><body>Log in first</body></html>".to_vec()),
        ("another path's", other.narinfo_text.into_bytes()),
        (
            "absolute URL",
            with(&url, "URL: https://evil.example/x.nar"),
        ),
        ("rooted URL", with(&url, "URL: /nar/x.nar")),
        ("URL upwards", with(&url, "URL: ../nar/x.nar")),
        ("URL of a file", with(&url, "URL: file:///etc/passwd")),
        (
            "URL that is no NAR",
            with(&url, &format!("URL: {}", hello.narinfo)),
        ),
        ("empty URL", with(&url, "URL: ")),
        ("two URLs", format!("{text}{url}\n").into_bytes()),
        ("foreign store", with("/nix/store/", "/gnu/store/")),
        ("no size", with("NarSize: ", "NarSize: 0x")),
        ("no newline at the end", text.trim_end().into()),
        ("carriage returns", text.replace('\n', "\r\n").into_bytes()),
        ("a blank line", format!("{text}\n").into_bytes()),
        ("a NUL", with("References: ", "References: \0")),
        ("no text", vec![0xff; 400]),
        ("a megabyte and one", {
            let mut long = format!("{text}X: ").into_bytes();
            long.resize(MIB, b'x');
            long.push(b'\n');
            long
        }),
    ];
    for (what, bytes) in bad {
        bed.bucket
            .put_object(&hello.narinfo, bytes, "text/x-nix-narinfo");
        assert_unknown(&bed.ask(get(&hello.narinfo)).await, what);
        assert_eq!(bed.ask(head(&hello.narinfo)).await.status, 503, "{what}");
    }
    bed.bucket
        .put_object(&hello.narinfo, text, "text/x-nix-narinfo");
    assert!(bed.ask(get(&hello.narinfo)).await.is(text.as_bytes()));
}

/// Uploaders compress narinfos as they like; a client that asked for nothing must read them.
#[tokio::test]
async fn a_narinfo_is_relayed_without_its_content_encoding() {
    async fn packed(mut encoder: impl AsyncRead + Unpin) -> Vec<u8> {
        let mut bytes = Vec::new();
        encoder.read_to_end(&mut bytes).await.expect("compressed");
        bytes
    }
    let bed = TestBed::start().await;
    let hello = Package::named("hello").build();
    let text = hello.narinfo_text.as_bytes();
    for (name, bytes) in [
        ("br", packed(BrotliEncoder::new(text)).await),
        ("gzip", packed(GzipEncoder::new(text)).await),
        ("zstd", packed(ZstdEncoder::new(text)).await),
        ("xz", packed(XzEncoder::new(text)).await),
        ("bzip2", packed(BzEncoder::new(text)).await),
        ("none", text.to_vec()),
        ("identity", text.to_vec()),
    ] {
        let attributes = Attributes {
            content_type: Some("text/x-nix-narinfo".to_owned()),
            content_encoding: Some(name.to_owned()),
            ..Attributes::default()
        };
        bed.bucket
            .put_reader(&hello.narinfo, bytes.as_slice(), attributes);
        for request in [
            get(&hello.narinfo),
            get(&hello.narinfo).header("Accept-Encoding", "zstd, br, gzip, xz, bzip2"),
        ] {
            let answer = bed.ask(request).await;
            assert!(answer.is(text), "{name}");
            assert_eq!(answer.header("content-encoding"), None, "{name}");
        }
        bed.clock.advance(TTL);
    }
    // What says it is encoded and is not, or in a way nobody knows, is no narinfo.
    for name in ["gzip", "lzma"] {
        let attributes = Attributes {
            content_encoding: Some(name.to_owned()),
            ..Attributes::default()
        };
        let fresh = TestBed::start().await;
        fresh.bucket.put_reader(&hello.narinfo, text, attributes);
        assert_unknown(&fresh.ask(get(&hello.narinfo)).await, name);
    }
}

/// A closure's worth of clients asks for one narinfo at once: one lookup, one answer for all.
#[tokio::test]
async fn parallel_misses_share_one_request_to_the_bucket() {
    let bed = TestBed::start().await;
    let hello = bed.bucket.publish(Package::named("hello"));
    let held = bed.bucket.hold_first_byte(&hello.narinfo);
    let leaving = bed.ask(get(&hello.narinfo));
    held.until_played(1).await;
    let asked = bed.ask_times(40, get(&hello.narinfo));
    bed.until_metric("narwharf_http_requests_in_flight", 41)
        .await;
    // The one that began the lookup leaves, which is nobody else's loss.
    drop(leaving);
    bed.until_metric("narwharf_http_requests_in_flight", 40)
        .await;
    held.release();
    for answer in asked.await {
        assert!(answer.is(hello.narinfo_text.as_bytes()));
        assert_eq!(
            how(&answer),
            "narwharf; fwd=uri-miss; stored; collapsed; detail=bucket"
        );
    }
    assert_eq!(bed.bucket.requests(), 1);
}

/// `nix copy --from` decides by HEAD alone, so HEAD looks in the bucket too and says what GET says.
#[tokio::test]
async fn head_of_a_narinfo_looks_it_up_and_agrees_with_get() {
    let bed = TestBed::start().await;
    let hello = bed.bucket.publish(Package::named("hello"));
    let absent = Package::named("absent").build();
    for key in [&hello.narinfo, &absent.narinfo] {
        let cold = bed.ask(head(key)).await;
        let got = bed.ask(get(key)).await;
        let warm = bed.ask(head(key)).await;
        for headed in [&cold, &warm] {
            assert_eq!(headed.status, got.status);
            assert!(headed.body.is_empty());
            for name in ["content-type", "etag", "last-modified", "vary"] {
                assert_eq!(headed.header(name), got.header(name), "{name}");
            }
        }
        if got.status == 200 {
            assert_eq!(cold.head.length(), Some(got.body.len()));
            assert_eq!(warm.head.length(), Some(got.body.len()));
        }
    }
    assert_eq!(bed.bucket.requests(), 2);
}

/// A HEAD leaves nothing behind on its connection: the next answer begins where it should.
#[tokio::test]
async fn after_a_head_the_connection_is_in_step() {
    let bed = TestBed::start().await;
    let hello = bed.bucket.publish(Package::named("hello"));
    let absent = Package::named("absent").build();
    let mut connection = bed.connect().await;
    for _ in 0..3 {
        assert_eq!(connection.ask(&head(&hello.narinfo)).await.status, 200);
        assert_eq!(connection.ask(&head(&absent.narinfo)).await.status, 404);
        let got = connection.ask(&get(&hello.narinfo)).await;
        assert!(got.is(hello.narinfo_text.as_bytes()));
    }
}
