//! Documents: listings, logs, realisations, build traces and debuginfo links. Opaque to us, small
//! or large, replaceable, and replayed as their uploader described them.

use async_compression::tokio::bufread::{
    BrotliEncoder, BzEncoder, GzipEncoder, XzEncoder, ZstdEncoder,
};
use narwharf::gateway::document::MAX_KEPT;
use tokio::io::{AsyncRead, AsyncReadExt};

use crate::bed::r2sim::{Fault, Rule};
use crate::bed::{KIB, MIB, TestBed, get, head, put};

const HASH: &str = "y7p5hy9p6crpivv064i60p31mjfx3a54";
const LOG: &str = "log/8waf2cylldvmba5dwi8hsfgpp04nfkig-top-2.0.drv";

/// A key of each kind, and the type it is served as when its uploader said none.
fn one_of_each() -> [(String, &'static str); 6] {
    let (drv, hex) = (
        "8waf2cylldvmba5dwi8hsfgpp04nfkig-top-2.0.drv",
        "0a".repeat(20),
    );
    [
        (format!("{HASH}.ls"), "application/json"),
        (LOG.to_owned(), "text/plain; charset=utf-8"),
        (
            format!("realisations/sha256:{}!out.doi", "ab".repeat(32)),
            "application/json",
        ),
        (format!("build-trace-v2/{drv}/out.doi"), "application/json"),
        (format!("debuginfo/{hex}"), "application/json"),
        (format!("debuginfo/{hex}.debug"), "application/json"),
    ]
}

/// Text that compresses, but not to nothing.
fn text(len: usize) -> Vec<u8> {
    let mut line = 0u64;
    let mut bytes = Vec::new();
    while bytes.len() < len {
        line += 1;
        let noise = line.wrapping_mul(0x9e37_79b9_7f4a_7c15);
        bytes.extend_from_slice(format!("line {line}: {noise:016x} building\n").as_bytes());
    }
    bytes.truncate(len);
    bytes
}

async fn packed(encoding: &str, plain: &[u8]) -> Vec<u8> {
    async fn all(mut encoder: impl AsyncRead + Unpin) -> Vec<u8> {
        let mut bytes = Vec::new();
        encoder.read_to_end(&mut bytes).await.expect("compressed");
        bytes
    }
    match encoding {
        "br" => {
            all(BrotliEncoder::with_quality(
                plain,
                async_compression::Level::Fastest,
            ))
            .await
        }
        "gzip" => all(GzipEncoder::new(plain)).await,
        "zstd" => all(ZstdEncoder::new(plain)).await,
        "xz" => {
            all(XzEncoder::with_quality(
                plain,
                async_compression::Level::Fastest,
            ))
            .await
        }
        "bzip2" => all(BzEncoder::new(plain)).await,
        other => panic!("{other}"),
    }
}

#[tokio::test]
async fn each_kind_goes_round_as_it_came() {
    let bed = TestBed::start().await;
    for (key, usual) in one_of_each() {
        // A debuginfo link points beside itself; that is its reader's business.
        let bytes = format!("{{\"key\":\"{key}\",\"archive\":\"../nar/x.nar\"}}");
        assert_eq!(bed.ask(get(&key)).await.status, 404, "{key}");
        assert_eq!(bed.ask(put(&key, &bytes)).await.status, 201, "{key}");
        let got = bed.ask(get(&key)).await;
        assert!(got.is(bytes.as_bytes()), "{key}");
        assert_eq!(got.header("content-type"), Some(usual), "{key}");
        let headed = bed.ask(head(&key)).await;
        assert_eq!(headed.status, 200);
        assert_eq!(headed.head.length(), Some(bytes.len()));
        for name in ["content-type", "etag", "cache-control", "vary"] {
            assert_eq!(headed.header(name), got.header(name), "{key}: {name}");
        }
        assert_eq!(bed.bucket.object(&key).as_deref(), Some(bytes.as_bytes()));
    }
}

#[tokio::test]
async fn what_an_uploader_says_of_a_document_is_kept_over_a_restart_and_in_the_bucket() {
    let mut bed = TestBed::start().await;
    let bytes = packed("br", b"a log").await;
    let request = put(LOG, &bytes)
        .header("Content-Type", "text/x-log")
        .header("Content-Encoding", "br");
    assert_eq!(bed.ask(request).await.status, 201);
    let meta = bed.bucket.object_meta(LOG).expect("stored");
    assert_eq!(meta.attributes.content_type.as_deref(), Some("text/x-log"));
    assert_eq!(meta.attributes.content_encoding.as_deref(), Some("br"));
    let ask = || get(LOG).header("Accept-Encoding", "br");
    for state in ["memory", "index", "bucket"] {
        match state {
            "memory" => {}
            "index" => {
                bed.restart().await;
                bed.until_recovered().await;
            }
            _ => {
                bed.restart_after(|disk| {
                    std::fs::remove_dir_all(disk.join("index")).expect("an index");
                })
                .await;
                bed.until_recovered().await;
            }
        }
        let answer = bed.ask(ask()).await;
        assert!(answer.is(&bytes), "{state}");
        assert_eq!(answer.header("content-type"), Some("text/x-log"), "{state}");
        assert_eq!(answer.header("content-encoding"), Some("br"), "{state}");
        assert_eq!(answer.header("vary"), Some("Accept-Encoding"), "{state}");
        let how = answer.header("cache-status").expect("Cache-Status");
        assert!(how.contains(state), "{state}: {how}");
    }
}

/// Some clients read what others wrote compressed in a way they do not know. Small documents are
/// decoded from memory, large ones on their way.
#[tokio::test]
async fn a_stored_encoding_is_replayed_to_who_reads_it_and_taken_off_for_the_rest() {
    let bed = TestBed::start().await;
    for plain in [text(10 * KIB), text(400 * KIB)] {
        for encoding in ["br", "gzip", "zstd", "xz", "bzip2"] {
            let bytes = packed(encoding, &plain).await;
            let size = bytes.len();
            let request = put(LOG, &bytes).header("Content-Encoding", encoding);
            assert_eq!(bed.ask(request).await.status, 201);
            for accepted in [encoding.to_owned(), format!("deflate, {encoding};q=0.1")] {
                let ask = get(LOG).header("Accept-Encoding", &accepted);
                let answer = bed.ask(ask).await;
                assert!(answer.is(&bytes), "{accepted}, {size}");
                assert_eq!(answer.header("content-encoding"), Some(encoding));
                assert_eq!(answer.header("vary"), Some("Accept-Encoding"));
                assert!(answer.header("etag").is_some());
            }
            for other in [None, Some("deflate"), Some("identity"), Some("*")] {
                let with = |request: crate::bed::Request| match other {
                    Some(other) => request.header("Accept-Encoding", other),
                    None => request,
                };
                let answer = bed.ask(with(get(LOG))).await;
                assert!(answer.is(&plain), "{encoding}, {size}, {other:?}");
                assert_eq!(answer.header("content-encoding"), None);
                assert_eq!(answer.header("vary"), Some("Accept-Encoding"));
                // Another representation must not go by the stored one's name.
                assert_eq!(answer.header("etag"), None);
                let headed = bed.ask(with(head(LOG))).await;
                assert_eq!(headed.status, 200);
                assert_eq!(headed.head.length(), answer.head.length());
                assert_eq!(headed.header("content-encoding"), None);
            }
        }
    }
}

/// A few bytes can claim gigabytes; whoever asks for them gets an error or a cut, and the gateway
/// keeps its memory.
#[tokio::test]
async fn a_bomb_is_not_decoded() {
    let bed = TestBed::start().await;
    let bomb = packed("zstd", &vec![0; 65 * MIB]).await;
    assert!((bomb.len() as u64) < MAX_KEPT);
    let request = put(LOG, &bomb).header("Content-Encoding", "zstd");
    assert_eq!(bed.ask(request).await.status, 201);
    assert_eq!(bed.ask(get(LOG)).await.status, 503);
    let raw = bed.ask(get(LOG).header("Accept-Encoding", "zstd")).await;
    assert!(raw.is(&bomb));
    // In one too large to be kept it shows when the answer has begun.
    let mut long = text(400 * KIB);
    long.resize(65 * MIB, 0);
    let bomb = packed("zstd", &long).await;
    assert!(bomb.len() as u64 > MAX_KEPT);
    let request = put(LOG, &bomb).header("Content-Encoding", "zstd");
    assert!(matches!(bed.ask(request).await.status, 200 | 201));
    let answer = bed.ask(get(LOG)).await;
    assert!(answer.cut && answer.body.len() <= 64 * MIB);
}

/// A few bytes may stand for many, and many clients may be slow: what one has not taken yet is not
/// decoded yet.
#[tokio::test]
async fn what_a_client_does_not_take_is_not_decoded_for_it() {
    const LEN: usize = 40 * MIB;
    let bed = TestBed::start().await;
    let bytes = packed("zstd", &vec![0; LEN]).await;
    let request = put(LOG, &bytes).header("Content-Encoding", "zstd");
    assert_eq!(bed.ask(request).await.status, 201);
    let series = "narwharf_http_response_bytes_total{kind=\"document\",source=\"memory\"}";
    let mut slow = bed.connect().await;
    slow.send_head(&get(LOG)).await;
    assert_eq!(slow.head().await.length(), Some(LEN));
    assert!(bed.ask(get(LOG)).await.is(&vec![0; LEN]));
    drop(slow);
    bed.until_metric("narwharf_http_requests_in_flight", 0)
        .await;
    let of_slow = bed.metric(series) - LEN as u64;
    assert!(of_slow < LEN as u64 / 4, "{of_slow} bytes");
}

/// What says it is compressed and is not, or not to its end, is never served as if it were whole.
#[tokio::test]
async fn damage_under_an_encoding_is_told() {
    let bed = TestBed::start().await;
    for len in [KIB, 400 * KIB] {
        let mut bytes = packed("gzip", &text(len)).await;
        bytes.truncate(bytes.len() - 20);
        let request = put(LOG, &bytes).header("Content-Encoding", "gzip");
        assert!(matches!(bed.ask(request).await.status, 200 | 201));
        let answer = bed.ask(get(LOG)).await;
        if (bytes.len() as u64) > MAX_KEPT {
            assert!(answer.cut);
        } else {
            assert_eq!(answer.status, 503);
        }
    }
}

/// `none` and `identity` are names for no encoding and break clients that meet them.
#[tokio::test]
async fn names_for_no_encoding_are_not_replayed() {
    let bed = TestBed::start().await;
    for name in ["none", "identity", "NONE"] {
        let request = put(LOG, name).header("Content-Encoding", name);
        assert!(matches!(bed.ask(request).await.status, 200 | 201));
        let answer = bed.ask(get(LOG).header("Accept-Encoding", name)).await;
        assert!(answer.is(name.as_bytes()));
        assert_eq!(answer.header("content-encoding"), None, "{name}");
        let meta = bed.bucket.object_meta(LOG).expect("stored");
        assert_eq!(meta.attributes.content_encoding, None, "{name}");
    }
}

/// Logs and listings of many megabytes are served past the tiers, byte for byte.
#[tokio::test]
async fn a_large_document_passes() {
    let bed = TestBed::start().await;
    for len in [64 * KIB, 64 * KIB + 1, 5 * MIB] {
        let bytes = text(len);
        let request = put(LOG, &bytes).header("Content-Type", "text/x-log");
        assert!(matches!(bed.ask(request).await.status, 200 | 201), "{len}");
        for _ in 0..2 {
            let answer = bed.ask(get(LOG)).await;
            assert!(answer.is(&bytes), "{len}");
            assert_eq!(answer.header("content-type"), Some("text/x-log"));
            let tag = answer.header("etag").expect("a tag");
            let again = bed.ask(get(LOG).header("If-None-Match", tag)).await;
            assert_eq!(again.status, 304, "{len}");
            assert_eq!(again.header("etag"), Some(tag));
            let other = get(LOG).header("If-Match", "\"other\"");
            assert_eq!(bed.ask(other).await.status, 412, "{len}");
            let headed = bed.ask(head(LOG)).await;
            assert_eq!(headed.head.length(), Some(len));
            assert_eq!(headed.header("etag"), Some(tag));
        }
    }
    // Many at once are all served, though only one can have the body that the lookup opened.
    let bytes = text(5 * MIB);
    for answer in bed.ask_times(6, get(LOG)).await {
        assert!(answer.is(&bytes));
    }
}

/// A body that breaks after its head has gone out is taken up again; where that fails, it is cut, and
/// not ended as if it were whole.
#[tokio::test]
async fn a_large_document_that_breaks_is_taken_up_again_or_cut_short() {
    let bed = TestBed::start().await;
    bed.bucket.put_object(LOG, text(MIB), "text/plain");
    let gone = Rule::get(LOG).ranged(true).plays(Fault::Reset);
    let cut = Rule::get(LOG).plays(Fault::CutAfter(300_000));
    let cuts = bed.bucket.fault(cut.clone());
    assert!(bed.ask(get(LOG)).await.is(&text(MIB)));
    drop(cuts);
    let (_gone, _cut) = (bed.bucket.fault(gone), bed.bucket.fault(cut));
    let answer = bed.ask(get(LOG)).await;
    assert_eq!(answer.status, 200);
    assert!(answer.cut);
}

#[tokio::test]
async fn an_overwritten_document_is_seen_at_once() {
    let bed = TestBed::start().await;
    for (key, _) in one_of_each() {
        // Small, large and small again: each step leaves another tier to be right.
        for bytes in [text(100), text(100 * KIB), text(200), text(0), text(300)] {
            let answer = bed.ask(put(&key, &bytes)).await;
            assert!(matches!(answer.status, 200 | 201), "{key}");
            assert!(
                bed.ask(get(&key)).await.is(&bytes),
                "{key}: {}",
                bytes.len()
            );
            assert_eq!(bed.bucket.object(&key), Some(bytes));
        }
    }
}

/// An overwriting upload that comes to nothing leaves the old document as it was.
#[tokio::test]
async fn a_failed_overwrite_changes_nothing() {
    let bed = TestBed::with(|s| s.set("uploads.hold", "200ms")).await;
    assert_eq!(bed.ask(put(LOG, b"first")).await.status, 201);
    let broken = bed
        .bucket
        .fault(Rule::any().plays(Fault::Status(500, "InternalError")));
    assert_eq!(bed.ask(put(LOG, b"second")).await.status, 422);
    broken.release();
    let mut connection = bed.connect().await;
    connection.send_head(&put(LOG, b"second")).await;
    connection.send(b"sec").await;
    drop(connection);
    bed.until_metric("narwharf_http_requests_in_flight", 0)
        .await;
    assert!(bed.ask(get(LOG)).await.is(b"first"));
    assert_eq!(bed.bucket.object(LOG), Some(b"first".to_vec()));
}
