//! Kept connections: what memory answers is said by the connection itself, past the HTTP codec. Nobody
//! can tell, whatever else is asked on the same connection.

use crate::bed::{
    Answer, Built, Connection, Dice, KIB, MIB, Package, Request, TestBed, eventually, get, head,
    put,
};

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
        bed.until_metric(&format!("narwharf_{series}"), value).await;
    }
    assert_eq!(bed.bucket.reads(&hello.narinfo), 1);
}

/// After a restart what the index holds is said past the codec, too, the first time and once.
#[tokio::test]
async fn a_narinfo_from_the_index_is_counted_as_one() {
    let mut bed = TestBed::start().await;
    let named_as = [
        Package::named("hello"),
        Package::named("store").named_as_harmonia(),
    ];
    let [hello, store] = named_as.map(|package| bed.bucket.publish(package));
    for package in [&hello, &store] {
        assert_eq!(bed.ask(get(&package.narinfo)).await.status, 200);
    }
    bed.restart().await;
    let mut connection = kept(&bed).await;
    for how in ["index", "memory"] {
        // The second one's condition is for actix, which must find what memory and index had.
        let other = get(&store.narinfo).header("If-None-Match", "\"other\"");
        for (package, request) in [(&hello, get(&hello.narinfo)), (&store, other)] {
            let answer = connection.ask(&request).await;
            assert!(answer.is(package.narinfo_text.as_bytes()));
            let detail = format!("narwharf; hit; detail={how}");
            assert_eq!(answer.header("cache-status"), Some(&*detail));
        }
    }
    for (tier, result, value) in [
        ("memory", "miss", 2),
        ("index", "hit", 2),
        ("memory", "hit", 2),
    ] {
        let labels = format!("{{kind=\"narinfo\",result=\"{result}\",tier=\"{tier}\"}}");
        let series = format!("narwharf_cache_lookups_total{labels}");
        assert_eq!(bed.metric(&series), value, "{series}");
    }
    // What its narinfo says of a NAR was learnt on the way.
    let nar = connection.ask(&get(&store.nar)).await;
    assert!(nar.is(&store.nar_bytes));
    assert_eq!(bed.metric("narwharf_unverified_bytes_total"), 0);
}

/// A package whose NAR is in memory.
async fn in_memory(bed: &TestBed, package: Package) -> Built {
    let package = bed.cached(package).await;
    for _ in 0..2 {
        assert!(bed.ask(get(&package.nar)).await.is(&package.nar_bytes));
    }
    bed.until_metric("narwharf_memory_entries{cache=\"nars\"}", 1)
        .await;
    package
}

#[tokio::test]
async fn a_small_nar_in_memory_is_said_the_same_way() {
    let bed = TestBed::start().await;
    let hello = in_memory(&bed, Package::named("hello").nar_bytes(64 * KIB)).await;
    let tag = bed.ask(head(&hello.nar)).await;
    let tag = tag.header("etag").expect("a tag").to_owned();
    let mut connection = kept(&bed).await;
    for request in [
        get(&hello.nar),
        get(&hello.nar).header("If-None-Match", &tag),
        get(&hello.nar).header("If-None-Match", "\"other\""),
        get(&hello.nar).range("bytes=10-19"),
        head(&hello.nar),
        get(&hello.nar),
    ] {
        let (new, again) = (
            bed.ask(request.clone()).await,
            connection.ask(&request).await,
        );
        let said = |answer: &Answer| {
            assert!(!answer.cut);
            let fields = answer.head.fields();
            let own = |name: &str| name == "date" || name == "x-request-id";
            let fields = fields.map(|(name, value)| (name.to_owned(), value.to_owned()));
            let mut fields: Vec<_> = fields.filter(|(name, _)| !own(name)).collect();
            fields.sort();
            (answer.status, fields, answer.body.clone())
        };
        assert_eq!(said(&again), said(&new));
    }
    let series = "narwharf_cache_lookups_total{kind=\"nar\",result=\"hit\",tier=\"memory\"}";
    bed.until_metric(series, 10).await;
}

/// The client takes nothing until the sockets hold no more, and a server that leaves meanwhile waits
/// for it: to the HTTP codec that connection is idle.
#[tokio::test(flavor = "multi_thread")]
async fn a_nar_from_memory_that_its_client_takes_late_is_whole() {
    const TIMES: usize = 40;
    let mut bed = TestBed::with(|s| s.set("server.drain", "20s")).await;
    let hello = in_memory(&bed, Package::named("hello").nar_bytes(500 * KIB)).await;
    let mut connection = kept(&bed).await;
    for _ in 0..TIMES {
        connection.send(&get(&hello.nar).bytes("cache")).await;
    }
    for _ in 0..TIMES {
        assert!(connection.answer("GET").await.is(&hello.nar_bytes));
    }
    let bytes = "narwharf_http_response_bytes_total{kind=\"nar\",source=\"memory\"}";
    bed.until_metric(bytes, (TIMES * 500 * KIB) as u64).await;

    // One that is half sent when the server is told to stop
    let asked = get(&hello.nar).bytes("cache");
    let mut asking = 0;
    let before = bed.metric("narwharf_http_requests_in_flight");
    while bed.metric("narwharf_http_requests_in_flight") == before {
        connection.send(&asked).await;
        asking += 1;
        bed.until("the request was met", || {
            bed.metric(bytes) == ((TIMES + asking) * 500 * KIB) as u64
                || bed.metric("narwharf_http_requests_in_flight") > before
        })
        .await;
    }
    let address = bed.address();
    let taking = tokio::spawn(async move {
        let stops = || std::net::TcpStream::connect(address).is_err();
        assert!(
            eventually(stops).await,
            "it stops while its client takes nothing"
        );
        for _ in 0..asking {
            assert!(connection.answer("GET").await.is(&hello.nar_bytes));
        }
    });
    bed.restart_after(|_| {}).await;
    taking.await.expect("all came whole");
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
