//! Uploads that are refused: before their body where their head says enough, in words that tell the
//! uploader what to do, and without a trace.

use async_compression::tokio::bufread::ZstdEncoder;
use tokio::io::AsyncReadExt;

use crate::bed::r2sim::{Fault, Operation, Rule};
use crate::bed::{KIB, MIB, Package, Request, TestBed, get, public_key, put};

use super::upload::{NEW_NIX, assert_nothing_visible, assert_refused, writes};

#[tokio::test]
async fn a_body_that_is_not_what_its_name_says_is_refused() {
    let bed = TestBed::start().await;
    let hello = Package::named("hello").build();
    let mut wrong = hello.nar_bytes.clone();
    wrong[50_000] ^= 1;
    let answer = bed.ask(put(&hello.nar, &wrong)).await;
    assert_refused(&answer, 400, "SHA-256");
    assert_nothing_visible(&bed, &hello.nar).await;
    assert_eq!(writes(&bed), 0);
    // The right bytes are still welcome.
    bed.bucket.log().reset();
    assert_eq!(bed.ask(put(&hello.nar, &hello.nar_bytes)).await.status, 201);
}

/// A length is needed beforehand, and HTTP's chunks have none.
#[tokio::test]
async fn a_body_without_a_length_is_refused() {
    let bed = TestBed::start().await;
    let hello = Package::named("hello").build();
    let chunked = |request: Request| request.header("Transfer-Encoding", "chunked");
    let mut connection = bed.connect().await;
    connection.send_head(&chunked(put(&hello.nar, b""))).await;
    connection.send(b"5\r\nbytes\r\n0\r\n\r\n").await;
    assert_refused(&connection.answer("PUT").await, 411, "Content-Length");
    let expecting = chunked(put(&hello.nar, b"")).expecting_continue();
    let mut connection = bed.connect().await;
    connection.send_head(&expecting).await;
    assert_refused(&connection.answer("PUT").await, 411, "Content-Length");
    assert_nothing_visible(&bed, &hello.nar).await;
}

/// Refused before the body, so that an uploader of gigabytes is spared sending them.
#[tokio::test]
async fn what_can_be_refused_by_its_head_is_refused_before_its_body() {
    let bed = TestBed::with(|s| s.set("uploads.max_size", "1MiB")).await;
    let hello = Package::named("hello").nar_bytes(2 * MIB).build();
    let body = &hello.nar_bytes;
    let narinfo_of = |len: usize| put(&hello.narinfo, vec![b'x'; len]);
    for (what, request, status, says) in [
        (
            "nar too large",
            put(&hello.nar, body),
            413,
            "uploads.max_size",
        ),
        ("narinfo too large", narinfo_of(MIB + 1), 413, "1048576"),
        (
            "no token",
            put("nar/x.nar", body).without_token(),
            401,
            "credentials",
        ),
        (
            "wrong token",
            put("nar/x.nar", body).token("other"),
            403,
            "token",
        ),
        ("no key", put("nar/../x.nar", body), 404, "no such path"),
        ("no route to write", put("health", body), 405, "method"),
        (
            "encoded NAR",
            put("nar/x.nar", &body[..KIB]).header("Content-Encoding", "gzip"),
            415,
            "gzip",
        ),
        (
            "encoding nobody knows",
            put(&format!("{}.ls", &hello.narinfo[..32]), body).header("Content-Encoding", "lzma"),
            415,
            "lzma",
        ),
        (
            "two encodings",
            put(&hello.narinfo, &body[..KIB]).header("Content-Encoding", "gzip, br"),
            415,
            "gzip, br",
        ),
    ] {
        // Asked first, the client never sends it.
        let answer = bed.ask(request.clone().expecting_continue()).await;
        assert!(!answer.continued, "{what}");
        assert_refused(&answer, status, says);
        // Not asked, it sends it all the same, and must still get to read the answer.
        let answer = bed.ask(request).await;
        assert_refused(&answer, status, says);
    }
    assert_eq!(writes(&bed), 0);
}

/// A client that is busy sending must not lose the answer to a reset.
#[tokio::test]
async fn an_early_refusal_can_be_read_by_a_client_that_sends_on() {
    let bed = TestBed::with(|s| s.set("uploads.max_size", "4MiB")).await;
    for (request, status) in [
        (put("nar/x.nar", vec![7; 16 * MIB]), 413),
        (put("nar/x.nar", vec![7; 3 * MIB]).without_token(), 401),
        (put("health", vec![7; 16 * MIB]), 405),
        (put("nothing/of/ours", vec![7; 16 * MIB]), 404),
    ] {
        let answer = bed.ask(request).await;
        assert_eq!(answer.status, status);
        assert!(!answer.cut);
    }
}

/// Each rule that clients rely on, told to the uploader while somebody still looks.
#[tokio::test]
async fn a_narinfo_that_clients_could_not_use_is_refused() {
    let bed = TestBed::start().await;
    let hello = Package::named("hello").build();
    assert_eq!(bed.ask(put(&hello.nar, &hello.nar_bytes)).await.status, 201);
    let text = hello.narinfo_text.as_str();
    let url = format!("URL: {}", hello.nar);
    let other = Package::named("other").build();
    for (what, bytes, says) in [
        ("empty", String::new(), "StorePath"),
        ("no narinfo", "<html></html>".to_owned(), "line 1"),
        ("another path's", other.narinfo_text.clone(), "hash"),
        ("malformed Sig", format!("{text}Sig: x\n"), "Sig"),
        ("a field twice", format!("{text}{url}\n"), "URL"),
        (
            "foreign store",
            text.replace("/nix/store/", "/gnu/store/"),
            "StorePath",
        ),
        ("no end of line", text.trim_end().to_owned(), "line"),
        (
            "no size",
            text.replace("NarSize: ", "NarSize: -"),
            "NarSize",
        ),
        (
            "absolute URL",
            text.replace(&url, "URL: https://x.example/a.nar"),
            "URL",
        ),
        (
            "rooted URL",
            text.replace(&url, &format!("URL: /{}", hello.nar)),
            "URL",
        ),
    ] {
        let answer = bed.ask(put(&hello.narinfo, bytes)).await;
        assert_eq!(answer.status, 400, "{what}: {}", answer.text());
        assert_refused(&answer, 400, says);
    }
    assert_nothing_visible(&bed, &hello.narinfo).await;
    let packed = put(&hello.narinfo, text).header("Content-Encoding", "xz");
    assert_refused(&bed.ask(packed).await, 400, "xz");
    assert_eq!(bed.ask(put(&hello.narinfo, text)).await.status, 201);
}

#[tokio::test]
async fn where_keys_are_trusted_a_narinfo_needs_one_of_their_signatures() {
    let bed = TestBed::with(|s| s.set("signing.trusted_public_keys", &public_key())).await;
    let hello = Package::named("hello").build();
    assert_eq!(bed.ask(put(&hello.nar, &hello.nar_bytes)).await.status, 201);
    let (unsigned, signature) = hello.narinfo_text.split_once("Sig: ").expect("signed");
    let strange = signature.replace("bed-1:", "bed-2:");
    let forged = hello.narinfo_text.replace(
        "References: ",
        "Deriver: unknown-deriver\nReferences: 00000000000000000000000000000000-x",
    );
    for (bytes, says) in [
        (unsigned.to_owned(), "nobody"),
        (format!("{unsigned}Sig: {strange}"), "bed-2"),
        (forged, "bed-1"),
    ] {
        let answer = bed.ask(put(&hello.narinfo, bytes)).await;
        assert_refused(&answer, 400, says);
        assert!(answer.text().contains("accepted here: bed-1"));
    }
    assert_nothing_visible(&bed, &hello.narinfo).await;
    // A strange signature beside a good one does no harm.
    let both = format!("{}Sig: {strange}", hello.narinfo_text);
    assert_eq!(bed.ask(put(&hello.narinfo, both)).await.status, 201);
}

/// Whoever sees a narinfo goes for its NAR.
#[tokio::test]
async fn a_narinfo_is_taken_only_after_its_nar() {
    let bed = TestBed::start().await;
    let hello = Package::named("hello").build();
    let narinfo = put(&hello.narinfo, &hello.narinfo_text);
    assert_refused(&bed.ask(narinfo.clone()).await, 409, &hello.nar);
    assert_nothing_visible(&bed, &hello.narinfo).await;
    assert_eq!(bed.ask(put(&hello.nar, &hello.nar_bytes)).await.status, 201);
    assert_eq!(bed.ask(narinfo).await.status, 201);
    // One that speaks of another file than the bucket holds is as good as without.
    let longer = Package::named("hello").line("FileSize", "7").build();
    let answer = bed.ask(put(&longer.narinfo, &longer.narinfo_text)).await;
    assert_refused(&answer, 409, "FileSize 7");
    // A NAR that came past this gateway counts as well.
    let direct = bed.bucket.publish(Package::named("direct"));
    bed.bucket.remove(&direct.narinfo);
    let narinfo = put(&direct.narinfo, &direct.narinfo_text);
    assert_eq!(bed.ask(narinfo).await.status, 201);
}

/// That nobody could say whether the NAR is there is not that it is not there.
#[tokio::test]
async fn a_narinfo_whose_nar_nobody_can_vouch_for_is_neither_taken_nor_blamed() {
    let bed = TestBed::start().await;
    let hello = bed.bucket.publish(Package::named("hello"));
    let _broken = bed
        .bucket
        .fault(Rule::on(Operation::HeadObject).plays(Fault::Status(500, "InternalError")));
    let narinfo = put(&hello.narinfo, &hello.narinfo_text).header("User-Agent", NEW_NIX);
    let answer = bed.ask(narinfo).await;
    assert_eq!(answer.status, 503, "{}", answer.text());
    assert_eq!(answer.header("retry-after"), Some("8"));
}

/// A NAR never changes: whoever read the first bytes may come back for the rest.
#[tokio::test]
async fn other_bytes_under_a_name_that_is_no_hash_are_refused() {
    let bed = TestBed::start().await;
    let first = vec![1; 10_000];
    assert_eq!(bed.ask(put("nar/x.nar", &first)).await.status, 201);
    assert_eq!(
        bed.ask(put("nar/x.nar", &first)).await.status,
        200,
        "the same"
    );
    for other in [vec![2; 10_000], vec![1; 10_001], vec![]] {
        let answer = bed.ask(put("nar/x.nar", &other)).await;
        assert_refused(&answer, 409, "nar/x.nar");
    }
    assert_eq!(
        bed.bucket.object("nar/x.nar").as_deref(),
        Some(first.as_slice())
    );
    assert!(bed.ask(get("nar/x.nar")).await.is(&first));
}

/// Otherwise any client could make itself the settings of all others.
#[tokio::test]
async fn an_uploaded_cache_info_is_accepted_and_ignored() {
    let bed = TestBed::start().await;
    let before = bed.ask(get("nix-cache-info")).await;
    let answer = bed
        .ask(put("nix-cache-info", "StoreDir: /gnu/store\n"))
        .await;
    assert_eq!(answer.status, 200);
    let after = bed.ask(get("nix-cache-info")).await;
    assert!(after.is(&before.body));
    assert!(before.text().contains("StoreDir: /nix/store\n"));
    assert_eq!(bed.bucket.requests(), 0);
    let unasked = put("nix-cache-info", "x").without_token();
    assert_eq!(bed.ask(unasked).await.status, 401);
}

#[tokio::test]
async fn where_uploads_are_off_nothing_can_be_written() {
    let bed = TestBed::with(|s| s.set("uploads.enabled", "false")).await;
    let hello = Package::named("hello").build();
    for key in [&hello.nar, &hello.narinfo] {
        for request in [put(key, b"x"), put(key, b"x").without_token()] {
            let answer = bed.ask(request).await;
            assert_refused(&answer, 405, "uploads are off");
            assert_eq!(answer.header("allow"), Some("GET, HEAD"));
        }
        let posted = bed.ask(Request::new("POST", key)).await;
        assert_eq!(posted.header("allow"), Some("GET, HEAD"));
    }
    assert_eq!(bed.bucket.requests(), 0);
}

/// An encoded narinfo may say much more than its length: it is decoded up to the length that any
/// narinfo may have, and no further.
#[tokio::test]
async fn a_narinfo_that_unpacks_to_more_than_a_narinfo_is_refused() {
    let bed = TestBed::start().await;
    let hello = Package::named("hello").build();
    let long = vec![b'x'; 32 * MIB];
    let mut bomb = Vec::new();
    let mut packing = ZstdEncoder::new(long.as_slice());
    packing.read_to_end(&mut bomb).await.unwrap();
    let request = put(&hello.narinfo, &bomb).header("Content-Encoding", "zstd");
    assert_refused(&bed.ask(request).await, 413, "1048576");
    assert_nothing_visible(&bed, &hello.narinfo).await;
}
