//! Kept connections: what memory answers is said by the connection itself, past the HTTP codec. Nobody
//! can tell, whatever else is asked on the same connection.

use crate::bed::{Answer, Connection, Dice, MIB, Package, Request, TestBed, get, head, put};

/// What two answers to one request may differ in.
const THEIR_OWN: [&str; 3] = ["date", "x-request-id", "cache-control"];

/// Status, header fields and body, without what is each answer's own. A refusal names its request, in
/// more or fewer letters.
fn said(answer: &Answer) -> (u16, Vec<(String, String)>, String) {
    assert!(!answer.cut);
    for name in THEIR_OWN {
        assert_eq!(answer.head.headers(name).count(), 1, "{name}");
    }
    let id = answer.header("x-request-id").expect("an id");
    let fields = answer.head.fields();
    let fields = fields.map(|(name, value)| (name.to_owned(), value.to_owned()));
    let mut fields: Vec<_> = fields.collect();
    fields.retain(|(name, _)| !THEIR_OWN.contains(&name.as_str()) && name != "content-length");
    // The codec has no order of its own
    fields.sort();
    (answer.status, fields, answer.text().replace(id, "an-id"))
}

/// A connection that is kept, and on which the codec has seen its first request.
async fn kept(bed: &TestBed) -> Connection {
    let mut connection = bed.connect().await;
    let asked = get("/nix-cache-info");
    assert_eq!(connection.ask(&asked).await.status, 200);
    connection
}

#[tokio::test]
async fn the_answers_on_a_kept_connection_are_those_of_a_new_one() {
    let bed = TestBed::start().await;
    let hello = bed.bucket.publish(Package::named("hello"));
    let absent = Package::named("absent").build().narinfo;
    let tag = bed.ask(get(&hello.narinfo)).await;
    let tag = tag.header("etag").expect("a tag").to_owned();
    assert_eq!(bed.ask(get(&absent)).await.status, 404);
    let mut connection = kept(&bed).await;
    for (request, status) in [
        (get(&hello.narinfo), 200),
        (get(&absent), 404),
        (get(&hello.narinfo).header("If-None-Match", &tag), 304),
        (
            get(&hello.narinfo).header("If-None-Match", "\"other\""),
            200,
        ),
        (get(&hello.narinfo).header("If-None-Match", "*"), 304),
        (get(&absent).header("If-None-Match", &tag), 404),
        (head(&hello.narinfo), 200),
        (get(&format!("{}?", hello.narinfo)), 200),
        (get(&hello.narinfo), 200),
    ] {
        let new = bed.ask(request.clone()).await;
        let again = connection.ask(&request).await;
        assert_eq!(new.status, status);
        assert_eq!(said(&again), said(&new));
        assert_ne!(again.header("x-request-id"), new.header("x-request-id"));
    }
}

#[tokio::test]
async fn they_are_counted_as_all_others() {
    let bed = TestBed::start().await;
    let hello = bed.bucket.publish(Package::named("hello"));
    bed.ask(get(&hello.narinfo)).await;
    let mut connection = kept(&bed).await;
    for _ in 0..100 {
        let answer = connection.ask(&get(&hello.narinfo)).await;
        assert!(answer.is(hello.narinfo_text.as_bytes()));
    }
    for (series, value) in [
        (
            "http_requests_total{kind=\"narinfo\",method=\"GET\",status=\"200\"}",
            101,
        ),
        (
            "cache_lookups_total{kind=\"narinfo\",result=\"hit\",tier=\"memory\"}",
            100,
        ),
        (
            "http_first_byte_seconds_count{kind=\"narinfo\",source=\"memory\"}",
            100,
        ),
        ("http_request_duration_seconds_count{kind=\"narinfo\"}", 101),
        (
            "http_response_bytes_total{kind=\"narinfo\",source=\"memory\"}",
            100 * hello.narinfo_text.len() as u64,
        ),
    ] {
        assert_eq!(bed.metric(&format!("narwharf_{series}")), value, "{series}");
    }
    assert_eq!(bed.bucket.reads(&hello.narinfo), 1);
}

#[tokio::test]
async fn what_is_pushed_is_there_in_the_next_answer() {
    let bed = TestBed::start().await;
    let hello = Package::named("hello").build();
    let mut connection = kept(&bed).await;
    for _ in 0..3 {
        assert_eq!(connection.ask(&get(&hello.narinfo)).await.status, 404);
    }
    for (key, body) in [
        (&hello.nar, hello.nar_bytes.as_slice()),
        (&hello.narinfo, hello.narinfo_text.as_bytes()),
    ] {
        assert_eq!(bed.ask(put(key, body)).await.status, 201);
    }
    for _ in 0..3 {
        let answer = connection.ask(&get(&hello.narinfo)).await;
        assert!(answer.is(hello.narinfo_text.as_bytes()));
    }
}

/// Whatever comes before it, and whether or not it is sent in one piece.
#[tokio::test]
async fn any_order_of_requests_gets_the_answers_in_that_order() {
    let bed = TestBed::start().await;
    let hello = bed.bucket.publish(Package::named("hello").nar_bytes(MIB));
    let absent = Package::named("absent").build().narinfo;
    bed.ask(get(&hello.nar)).await;
    let new = Package::named("new").build();
    let mut dice = Dice::new();
    let mut connection = kept(&bed).await;
    for _ in 0..300 {
        let (request, status, body): (Request, u16, Option<&[u8]>) = match dice.below(8) {
            0..=2 => (
                get(&hello.narinfo),
                200,
                Some(hello.narinfo_text.as_bytes()),
            ),
            3 => (get(&absent), 404, None),
            4 => (get(&hello.nar), 200, Some(&hello.nar_bytes)),
            5 => (
                get(&hello.nar).range("bytes=9-99"),
                206,
                Some(&hello.nar_bytes[9..100]),
            ),
            6 => (head(&hello.narinfo), 200, Some(b"")),
            _ => {
                let request = put(&new.nar, &new.nar_bytes);
                let answer = connection.ask(&request).await;
                assert!(matches!(answer.status, 200 | 201), "{dice}");
                continue;
            }
        };
        let sent = request.bytes("cache");
        let cut = match dice.below(3) {
            0 => dice.below(sent.len()),
            _ => sent.len(),
        };
        connection.send(&sent[..cut]).await;
        connection.send(&sent[cut..]).await;
        let answer = connection.answer(request.method()).await;
        assert_eq!(answer.status, status, "{dice}");
        assert!(!answer.cut, "{dice}");
        assert!(body.is_none_or(|body| answer.body == body), "{dice}");
    }
}

/// More answers than the sockets hold: they wait, and none is lost or out of order.
#[tokio::test]
async fn a_client_that_asks_on_and_reads_later_has_every_answer() {
    const TIMES: usize = 1000;
    let bed = TestBed::start().await;
    let long = "x".repeat(30_000);
    let large = bed
        .bucket
        .publish(Package::named("large").line("System", &long));
    let small = bed.bucket.publish(Package::named("small"));
    let both = [&large, &small];
    for package in both {
        assert_eq!(bed.ask(get(&package.narinfo)).await.status, 200);
    }
    let mut connection = kept(&bed).await;
    for turn in 0..TIMES {
        let request = get(&both[turn % 2].narinfo);
        connection.send(&request.bytes("cache")).await;
    }
    for turn in 0..TIMES {
        let answer = connection.answer("GET").await;
        assert!(answer.is(both[turn % 2].narinfo_text.as_bytes()), "{turn}");
    }
}

#[tokio::test]
async fn where_reads_are_private_every_request_shows_its_token() {
    let bed = TestBed::with(|s| s.set("auth.public_reads", "false")).await;
    let hello = bed.bucket.publish(Package::named("hello"));
    let asked = get(&hello.narinfo);
    let mut connection = bed.connect().await;
    for _ in 0..3 {
        let shown = asked.clone().token("an-upload-token");
        assert_eq!(connection.ask(&shown).await.status, 200);
        let denied = connection.ask(&asked.clone().without_token()).await;
        assert_eq!(denied.status, 401);
    }
}
