//! `Expect: 100-continue`: whatever can be refused by an upload's head is refused instead of the
//! 100, and not a byte of the body is read. The status table of `design.md` §3, row by row.
//!
//! What takes the body to know (another hash, a narinfo that cannot be used, a NAR that is missing)
//! is in `refused.rs`.

use std::time::{Duration, Instant};

use crate::bed::r2sim::{Fault, Operation, Rule};
use crate::bed::{Answer, Connection, KIB, MIB, Package, Request, TestBed, delete, get, post, put};

use super::auth::token_table;
use super::upload::{assert_refused, writes};

/// The most that bodies in memory take together: NARs that the disk has no room for, and documents.
const NARS: [usize; 4] = [64 * MIB; 4];
const DOCUMENTS: [usize; 2] = [64 * MIB, 32 * MIB];

/// A client that may be silent for longer than an older Nix.
const PATIENT: &str = "curl/8.5.0";

/// A PUT of so many bytes, none of which are there to be sent.
fn announced(target: &str, len: usize) -> Request {
    put(target, b"")
        .header("Content-Length", &len.to_string())
        .expecting_continue()
}

/// Sends the head alone. What comes back is final, and the connection ends cleanly after it: what a
/// client might still send would be taken for another request.
async fn answer_to_head(bed: &TestBed, request: &Request) -> Answer {
    let mut connection = bed.connect().await;
    connection.send_head(request).await;
    let head = connection.head().await;
    assert_ne!(head.status, 100, "the body was asked for");
    let answer = connection.answer_after(head, request.method()).await;
    assert!(!answer.cut);
    answer
}

async fn assert_refused_unread(
    bed: &TestBed,
    what: &str,
    request: Request,
    status: u16,
    says: &str,
) {
    let answer = answer_to_head(bed, &request).await;
    assert_eq!(answer.status, status, "{what}: {}", answer.text());
    assert_refused(&answer, status, says);
}

fn assert_nothing_came_of_it(bed: &TestBed) {
    assert_eq!(bed.metric("narwharf_upload_bytes_total"), 0);
    assert_eq!(bed.metric("narwharf_disk_reserved_bytes"), 0);
    assert_eq!(writes(bed), 0);
    assert!(bed.bucket.open_multipart_uploads().is_empty());
}

#[tokio::test]
async fn every_refusal_that_needs_no_body_comes_instead_of_the_100() {
    let bed = TestBed::with(|s| {
        s.set("uploads.max_size", "1MiB");
        s.set("cache.namespaces", "team,other");
        s.add_toml(&token_table("reader", "scopes = ['read']"));
        s.add_toml(&token_table(
            "team",
            "scopes = ['write']\nnamespaces = ['team']",
        ));
    })
    .await;
    let hello = Package::named("hello").build();
    let (nar, narinfo) = (hello.nar.as_str(), hello.narinfo.as_str());
    let listing = format!("{}.ls", &narinfo[..32]);
    bed.bucket
        .put_object("nar/taken.nar", [1; 1000], "application/x-nix-nar");
    let long = format!("nar/{}.nar", "x".repeat(2048));
    let fields = |count: usize| {
        (0..count).fold(announced(nar, KIB), |request, at| {
            request.also(&format!("X-{at}"), "x")
        })
    };
    let chunked = put(nar, b"")
        .header("Transfer-Encoding", "chunked")
        .expecting_continue();
    let rows = [
        (
            "no credentials",
            announced(nar, KIB).without_token(),
            401,
            "credentials",
        ),
        (
            "an unknown token",
            announced(nar, KIB).token("guessed"),
            403,
            "not known",
        ),
        (
            "an empty token",
            announced(nar, KIB).header("Authorization", "Bearer "),
            403,
            "cannot be read",
        ),
        (
            "a token too long",
            announced(nar, KIB).token(&"x".repeat(5000)),
            403,
            "cannot be read",
        ),
        (
            "a token that is no text",
            announced(nar, KIB).token("sch\u{fc}ssel\u{80}"),
            403,
            "cannot be read",
        ),
        (
            "a login that is no text",
            announced(nar, KIB).header("Authorization", "Basic /////w=="),
            403,
            "cannot be read",
        ),
        (
            "a token that may not write",
            announced(nar, KIB).token("reader"),
            403,
            "does not allow",
        ),
        (
            "a token for elsewhere",
            announced(&format!("other/{nar}"), KIB).token("team"),
            403,
            "namespaces",
        ),
        (
            "no key",
            announced("nar/../x.nar", KIB),
            404,
            "no such path",
        ),
        (
            "no key either",
            announced("nar/x.tar", KIB),
            404,
            "no such path",
        ),
        ("nothing to write", announced("health", KIB), 405, "method"),
        ("the status page", announced("", KIB), 405, "method"),
        (
            "other length than the name's",
            announced("nar/taken.nar", 1001),
            409,
            "nar/taken.nar",
        ),
        ("no length", chunked, 411, "Content-Length"),
        (
            "a NAR too large",
            announced(nar, MIB + 1),
            413,
            "uploads.max_size",
        ),
        (
            "a narinfo too large",
            announced(narinfo, MIB + 1),
            413,
            "1048576",
        ),
        (
            "a document too large",
            announced(&listing, 64 * MIB + 1),
            413,
            "67108864",
        ),
        ("a target too long", announced(&long, KIB), 414, "2048"),
        (
            "a NAR that is encoded",
            announced(nar, KIB).header("Content-Encoding", "gzip"),
            415,
            "gzip",
        ),
        (
            "an encoding nobody knows",
            announced(&listing, KIB).header("Content-Encoding", "lzma"),
            415,
            "lzma",
        ),
        ("too many fields", fields(64), 431, "64 fields"),
    ];
    for (what, request, status, says) in rows {
        assert_refused_unread(&bed, what, request, status, says).await;
    }
    let challenged = answer_to_head(&bed, &announced(nar, KIB).without_token()).await;
    let challenge = challenged.header("www-authenticate");
    assert!(challenge.is_some_and(|text| text.starts_with("Basic ")));
    assert_nothing_came_of_it(&bed);
}

/// Whatever the method, a body that will not be taken is not asked for.
#[tokio::test]
async fn methods_that_nothing_answers_are_refused_before_their_bodies() {
    let bed = TestBed::start().await;
    let hello = Package::named("hello").build();
    for (method, target, status, says) in [
        ("POST", hello.nar.as_str(), 405, "method"),
        ("PATCH", hello.narinfo.as_str(), 405, "method"),
        ("DELETE", hello.nar.as_str(), 405, "method"),
        ("POST", "health", 405, "method"),
        ("POST", "nar/x.tar", 404, "no such path"),
    ] {
        let request = Request::new(method, target)
            .header("Content-Length", "1000")
            .expecting_continue();
        assert_refused_unread(&bed, method, request, status, says).await;
    }
    assert_nothing_came_of_it(&bed);
}

/// Where there are removals, who may not make them is told so as early.
#[tokio::test]
async fn a_removal_without_leave_is_refused_before_its_body() {
    let admin = token_table("admin", "scopes = ['admin']");
    let bed = TestBed::with(|s| s.add_toml(&admin)).await;
    let hello = bed.bucket.publish(Package::named("hello"));
    let request = |token: &str| {
        Request::new("DELETE", &hello.nar)
            .token(token)
            .header("Content-Length", "1000")
            .expecting_continue()
    };
    let guessed = request("guessed");
    assert_refused_unread(&bed, "a guess", guessed.clone(), 403, "not known").await;
    let none = guessed.without_token();
    assert_refused_unread(&bed, "no token", none, 401, "credentials").await;
    assert_eq!(bed.bucket.object(&hello.nar).unwrap(), hello.nar_bytes);
}

#[tokio::test]
async fn where_uploads_are_off_no_body_is_asked_for() {
    let bed = TestBed::with(|s| s.set("uploads.enabled", "false")).await;
    let hello = Package::named("hello").build();
    for key in [&hello.nar, &hello.narinfo] {
        let request = announced(key, KIB);
        assert_refused_unread(&bed, "off", request, 405, "uploads are off").await;
    }
    assert_nothing_came_of_it(&bed);
}

/// Uploads under way that take all memory there is for bodies, until they are dropped. On disk there
/// must be no room for them.
async fn memory_taken(bed: &TestBed) -> Vec<Connection> {
    let nars = NARS.iter().enumerate();
    let nars = nars.map(|(at, len)| announced(&format!("nar/taken-{at}.nar"), *len));
    let logs = DOCUMENTS.iter().enumerate();
    let logs = logs.map(|(at, len)| announced(&format!("log/{:0>32}-{at}.drv", 0), *len));
    let mut holding = Vec::new();
    for request in nars.chain(logs) {
        let mut connection = bed.connect().await;
        connection
            .send_head(&request.header("User-Agent", PATIENT))
            .await;
        assert_eq!(connection.head().await.status, 100);
        holding.push(connection);
    }
    holding
}

/// A disk without room is not known only after gigabytes: the room is taken before the 100, and
/// where there is neither disk nor memory any client is told to come back.
#[tokio::test]
async fn an_overloaded_gateway_says_so_before_the_body() {
    let bed = TestBed::with(|s| s.set("disk.max_nar", "1KiB")).await;
    let holding = memory_taken(&bed).await;
    let hello = Package::named("hello").build();
    for request in [
        announced(&hello.nar, 2 * MIB),
        announced(&hello.narinfo, KIB),
        announced(&hello.nar, 2 * MIB).header("User-Agent", "curl/7.88.1 Nix/2.8.0"),
        announced(&hello.nar, 2 * MIB).without("User-Agent"),
    ] {
        let answer = answer_to_head(&bed, &request).await;
        assert_refused(&answer, 503, "too many uploads");
        assert_eq!(answer.header("retry-after"), Some("8"));
    }
    assert_nothing_came_of_it(&bed);
    drop(holding);
    bed.at_rest().await;
    assert_eq!(bed.ask(put(&hello.nar, &hello.nar_bytes)).await.status, 201);
}

/// libcurl sends its body after a second without an answer, and then an older Nix cannot come back:
/// a bucket that is silent and room that does not come free are waited for together.
#[tokio::test]
async fn all_waits_before_the_body_are_over_within_a_second() {
    let bed = TestBed::with(|s| s.set("disk.max_nar", "1KiB")).await;
    let _holding = memory_taken(&bed).await;
    let _silent = bed
        .bucket
        .fault(Rule::on(Operation::HeadObject).plays(Fault::Silence));
    let mut quickest = Duration::MAX;
    // What else the machine has to do only adds to it.
    for at in 0..3 {
        let began = Instant::now();
        let request = announced(&format!("nar/{at}.nar"), 2 * MIB);
        assert_refused(
            &answer_to_head(&bed, &request).await,
            503,
            "too many uploads",
        );
        quickest = quickest.min(began.elapsed());
    }
    assert!(quickest < Duration::from_secs(1), "{quickest:?}");
}

/// With parts so long that the few in memory are more than all there is.
#[tokio::test]
async fn a_nar_that_fits_nowhere_is_refused_before_its_body() {
    let bed = TestBed::with(|s| {
        s.set("disk.max_nar", "1KiB");
        s.set("uploads.part_size", "128MiB");
    })
    .await;
    let request = announced("nar/x.nar", 1 << 30);
    assert_refused_unread(&bed, "no room", request, 503, "no room").await;
    assert_nothing_came_of_it(&bed);
}

/// What is under way on disk counts: the room of one upload is not promised to the next.
#[tokio::test]
async fn room_on_disk_is_taken_before_the_body() {
    let bed = TestBed::with(|s| s.set("disk.capacity", "64MiB")).await;
    let mut first = bed.connect().await;
    let request = announced("nar/x.nar", 60 * MIB);
    first
        .send_head(&request.header("User-Agent", PATIENT))
        .await;
    assert_eq!(first.head().await.status, 100);
    assert!(bed.metric("narwharf_disk_reserved_bytes") >= 60 << 20);
    // The next ones go through memory, as far as that reaches.
    let _holding = memory_taken(&bed).await;
    let second = announced("nar/y.nar", 60 * MIB);
    assert_refused_unread(&bed, "no room", second, 503, "too many uploads").await;
}

/// A refusal ends its request, also where there was never to be a body.
#[tokio::test]
async fn after_a_refusal_the_connection_is_good_for_the_next_request() {
    let bed = TestBed::start().await;
    let mut connection = bed.connect().await;
    for refused in [delete("nar/x.nar"), post("nar/x.nar", "")] {
        connection.send_head(&refused.expecting_continue()).await;
        let head = connection.head().await;
        assert_eq!(head.status, 405);
        connection.answer_after(head, "DELETE").await;
        let next = connection.ask(&get("nix-cache-info")).await;
        assert_eq!(next.status, 200);
    }
}
