//! HTTP as it really comes: other methods, hostile heads, lengths that lie, many requests on one
//! connection. Whatever is sent, the next request is answered as if nothing had been.

use crate::bed::{Built, KIB, MIB, Package, Request, TOKEN, TestBed, get, head, post, put};

pub async fn bed_with_a_package() -> (TestBed, Built) {
    let bed = TestBed::start().await;
    let hello = bed.bucket.publish(Package::named("hello"));
    (bed, hello)
}

/// Requests that say two things at once, or nothing sensible, each with one in order right behind
/// it: refused with the connection, or read as one thing and the next in step. Never is the second
/// answered twice, or something inside the first answered at all.
#[tokio::test]
async fn no_odd_request_puts_the_next_one_out_of_step() {
    const REFUSED: &[u16] = &[400];
    let (bed, hello) = bed_with_a_package().await;
    let path = format!("/{}", hello.narinfo);
    let smuggled = "GET /nar/smuggled.nar HTTP/1.1\r\nHost: h\r\n\r\n";
    let get_with = |headers: &str, body: &str| {
        format!("GET {path} HTTP/1.1\r\nHost: h\r\n{headers}\r\n{body}")
    };
    let put_with = |headers: &str, body: &str| {
        let login = format!("Authorization: Bearer {TOKEN}");
        format!("PUT /nar/odd.nar HTTP/1.1\r\nHost: h\r\n{login}\r\n{headers}\r\n{body}")
    };
    let chunked = |body: &str| put_with("Transfer-Encoding: chunked\r\n", body);
    let of_length = |length: &str| put_with(&format!("Content-Length: {length}\r\n"), "abc");
    let raw = |text: &str| text.to_owned();
    let both = "Content-Length: 6\r\nTransfer-Encoding: chunked\r\n";
    let hidden = format!("0\r\n\r\n{smuggled}");
    let websocket = "Connection: upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Version: 13\r\n\
                     Sec-WebSocket-Key: AAAAAAAAAAAAAAAAAAAAAA==\r\n";
    let h2c = "Connection: Upgrade, HTTP2-Settings\r\nUpgrade: h2c\r\nHTTP2-Settings: AAMAAABk\r\n";
    let odd: Vec<(&str, String, &[u16])> = vec![
        ("length and chunks", put_with(both, &hidden), REFUSED),
        ("length and chunks on GET", get_with(both, &hidden), REFUSED),
        ("two lengths", of_length("3\r\nContent-Length: 60"), REFUSED),
        ("a list of lengths", of_length("3, 3"), REFUSED),
        ("a signed length", of_length("+3"), REFUSED),
        ("a negative length", of_length("-3"), REFUSED),
        ("a length in hex", of_length("0x3"), REFUSED),
        (
            "a huge length",
            of_length("99999999999999999999999"),
            REFUSED,
        ),
        ("a length of blanks", of_length(" "), REFUSED),
        (
            "chunked twice",
            chunked("0\r\n\r\n")
                .replace("chunked\r\n", "chunked\r\nTransfer-Encoding: chunked\r\n"),
            REFUSED,
        ),
        (
            "unknown coding",
            chunked(&hidden).replace("chunked", "xchunked"),
            REFUSED,
        ),
        (
            "two codings",
            chunked(&hidden).replace("chunked", "gzip, chunked"),
            REFUSED,
        ),
        (
            "no coding",
            chunked(smuggled).replace("chunked", "identity"),
            REFUSED,
        ),
        (
            "chunks in HTTP/1.0",
            chunked(&hidden).replace("HTTP/1.1", "HTTP/1.0"),
            REFUSED,
        ),
        ("bad chunk size", chunked("zz\r\nabc\r\n0\r\n\r\n"), &[411]),
        (
            "huge chunk size",
            chunked("fffffffffffffffff\r\nabc"),
            &[411],
        ),
        (
            "chunk without end",
            chunked("3\r\nabcdef\r\n0\r\n\r\n"),
            &[411],
        ),
        (
            "blank before colon",
            get_with("Content-Length : 5\r\n", ""),
            REFUSED,
        ),
        (
            "folded header",
            get_with("X-A: b\r\n c: d\r\n", ""),
            REFUSED,
        ),
        (
            "header without colon",
            get_with("nonsense\r\n", ""),
            REFUSED,
        ),
        ("NUL in header", get_with("X-A: b\0c\r\n", ""), REFUSED),
        (
            "bare CR in header",
            get_with("X-A: b\rContent-Length: 50\r\n", ""),
            REFUSED,
        ),
        (
            "no host",
            get_with("", "").replace("Host: h\r\n", ""),
            REFUSED,
        ),
        ("two hosts", get_with("Host: other\r\n", ""), REFUSED),
        ("no version", format!("GET {path}\r\n\r\n"), REFUSED),
        (
            "version 3",
            get_with("", "").replace("HTTP/1.1", "HTTP/3.0"),
            REFUSED,
        ),
        (
            "blank in the target",
            get_with("", "").replace(" HTTP", " x HTTP"),
            REFUSED,
        ),
        ("no method", get_with("", "").replace("GET", ""), REFUSED),
        (
            "odd method",
            get_with("", "").replace("GET", "G\x01T"),
            REFUSED,
        ),
        (
            "the preface of h2",
            raw("PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"),
            REFUSED,
        ),
        ("TLS", raw("\x16\x03\x01\x02\x00\x01\x00\r\n\r\n"), REFUSED),
        (
            "CONNECT",
            raw("CONNECT a.example:443 HTTP/1.1\r\nHost: a.example\r\n\r\n"),
            &[405],
        ),
        (
            "asterisk",
            raw("OPTIONS * HTTP/1.1\r\nHost: h\r\n\r\n"),
            &[404, 200],
        ),
        ("upgrade", get_with(websocket, ""), &[200]),
        ("h2c", get_with(h2c, ""), &[200]),
        (
            "body on GET",
            get_with("Content-Length: 10\r\n", "0123456789"),
            &[200, 200],
        ),
        (
            "chunks on GET",
            get_with("Transfer-Encoding: chunked\r\n", "5\r\nhello\r\n0\r\n\r\n"),
            &[200, 200],
        ),
        (
            "body on HEAD",
            get_with("Content-Length: 10\r\n", "0123456789").replace("GET", "HEAD"),
            &[200, 200],
        ),
        (
            "expectation unknown",
            put_with("Content-Length: 1\r\nExpect: a-miracle\r\n", "x"),
            &[201, 200],
        ),
        (
            "empty lines before",
            format!("\r\n\r\n{}", get_with("", "")),
            &[200, 200],
        ),
    ];
    for (what, bytes, expected) in odd {
        let mut connection = bed.connect().await;
        connection.send(bytes.as_bytes()).await;
        let next = "GET /health HTTP/1.1\r\nHost: h\r\nConnection: close\r\n\r\n";
        connection.send(next.as_bytes()).await;
        let first = if bytes.starts_with("HEAD") {
            "HEAD"
        } else {
            "GET"
        };
        let mut answers = Vec::new();
        while let Some(head) = connection.head_or_end().await {
            let method = if answers.is_empty() { first } else { "GET" };
            answers.push(connection.answer_after(head, method).await);
        }
        let statuses: Vec<u16> = answers.iter().map(|answer| answer.status).collect();
        assert_eq!(statuses, expected, "{what}");
        if let [_, second] = answers.as_slice() {
            assert!(second.text().contains("\"status\":\"ok\""), "{what}");
        }
    }
    assert_eq!(bed.bucket.reads("nar/smuggled.nar"), 0);
    assert_eq!(bed.bucket.object("nar/odd.nar").as_deref(), Some(&b"x"[..]));
}

/// Bounds on what a head may be, so that nobody can fill the memory with them.
#[tokio::test]
async fn heads_have_bounds() {
    let (bed, hello) = bed_with_a_package().await;
    let ask = |request| bed.ask(request);
    let fields = |count: usize| {
        (0..count).fold(get(&hello.narinfo), |request, n| {
            request.also(&format!("X-Field-{n}"), "v")
        })
    };
    assert_eq!(ask(fields(50)).await.status, 200);
    assert_eq!(ask(fields(80)).await.status, 431);
    let long = |len: usize| get(&hello.narinfo).header("X-Long", &"v".repeat(len));
    assert_eq!(ask(long(10 * KIB)).await.status, 200);
    assert_eq!(ask(long(20 * KIB)).await.status, 431);
    assert_eq!(ask(long(60 * KIB)).await.status, 431);
    for (len, status) in [(2000, 404), (2100, 414), (20_000, 414)] {
        let answer = ask(get(&"x".repeat(len))).await;
        assert_eq!(answer.status, status, "{len}");
        assert_eq!(answer.header("cache-control"), Some("no-store"));
    }
    // Uploads alike, and before their body.
    let upload = put("nar/x.nar", b"x").header("X-Long", &"v".repeat(20 * KIB));
    let answer = ask(upload.expecting_continue()).await;
    assert_eq!(answer.status, 431);
    assert!(!answer.continued);
    // Beyond every bound there is at least an end.
    let mut connection = bed.connect().await;
    connection.send(b"GET / HTTP/1.1\r\nX: ").await;
    connection.send(&vec![b'v'; MIB]).await;
    if let Some(head) = connection.head_or_end().await {
        assert!(matches!(head.status, 400 | 431), "{}", head.status);
    }
    assert_eq!(ask(get(&hello.narinfo)).await.status, 200);
}

/// Answers come in the order of the requests, whatever each of them takes.
#[tokio::test]
async fn pipelined_requests_are_answered_in_order() {
    let (bed, hello) = bed_with_a_package().await;
    let text = hello.narinfo_text.as_bytes();
    let mut connection = bed.connect().await;
    for request in [
        get(&hello.nar),
        get("nar/absent.nar"),
        get(&hello.narinfo),
        get("health"),
        get(&hello.nar).range("bytes=5-9"),
        get(&hello.narinfo),
    ] {
        connection.send_head(&request).await;
    }
    assert!(connection.answer("GET").await.is(&hello.nar_bytes));
    assert_eq!(connection.answer("GET").await.status, 404);
    assert!(connection.answer("GET").await.is(text));
    assert_eq!(connection.answer("GET").await.status, 200);
    assert_eq!(connection.answer("GET").await.body, &hello.nar_bytes[5..10]);
    assert!(connection.answer("GET").await.is(text));
}

/// The codec judges by the newest request it has read whether an answer has a body.
#[tokio::test]
async fn a_head_among_pipelined_requests_takes_no_body_and_gives_none() {
    let (bed, hello) = bed_with_a_package().await;
    let of = |key: &str| {
        if key == hello.nar {
            &hello.nar_bytes[..]
        } else {
            hello.narinfo_text.as_bytes()
        }
    };
    for key in [&hello.nar, &hello.narinfo] {
        let mut connection = bed.connect().await;
        let requests = [
            get(key),
            head(key),
            head(key),
            get(key),
            get(key),
            head(key),
        ];
        let bytes: Vec<u8> = requests
            .iter()
            .flat_map(|request| request.head_bytes("h"))
            .collect();
        connection.send(&bytes).await;
        for method in ["GET", "HEAD", "HEAD", "GET", "GET", "HEAD"] {
            let answer = connection.answer(method).await;
            assert_eq!(answer.status, 200);
            assert_eq!(answer.head.length(), Some(of(key).len()));
            assert_eq!(answer.header("transfer-encoding"), None);
            if method == "GET" {
                assert!(answer.is(of(key)));
            }
        }
        // And the connection is as good as new.
        assert!(connection.ask(&get(key)).await.is(of(key)));
    }
}

/// Requests wait for their turn however they are cut up on the wire.
#[tokio::test]
async fn pipelined_requests_may_come_in_any_pieces() {
    let (bed, hello) = bed_with_a_package().await;
    let mut connection = bed.connect().await;
    let requests: Vec<Request> = (0..20)
        .map(|n| {
            if n % 3 == 0 {
                head(&hello.nar)
            } else {
                get(&hello.narinfo)
            }
        })
        .collect();
    let bytes: Vec<u8> = requests
        .iter()
        .flat_map(|request| request.head_bytes("h"))
        .collect();
    for piece in bytes.chunks(61) {
        connection.send(piece).await;
    }
    for (n, _) in requests.iter().enumerate() {
        if n % 3 == 0 {
            assert_eq!(
                connection.answer("HEAD").await.head.length(),
                Some(hello.nar_bytes.len())
            );
        } else {
            assert!(
                connection
                    .answer("GET")
                    .await
                    .is(hello.narinfo_text.as_bytes())
            );
        }
    }
}

/// A client that leaves while it waits is noticed, also with another request behind.
#[tokio::test]
async fn who_leaves_while_waiting_is_noticed() {
    let (bed, hello) = bed_with_a_package().await;
    let held = bed.bucket.hold_first_byte(&hello.narinfo);
    let mut connection = bed.connect().await;
    connection.send_head(&get(&hello.narinfo)).await;
    held.until_played(1).await;
    drop(connection);
    bed.until_metric("narwharf_http_requests_in_flight", 0)
        .await;
    held.release();
}

/// A refused upload whose body is little costs no connection.
#[tokio::test]
async fn after_a_small_refused_body_the_connection_goes_on() {
    let (bed, hello) = bed_with_a_package().await;
    let mut connection = bed.connect().await;
    for request in [
        put("nar/x.nar", vec![1; 50 * KIB]).without_token(),
        put("nar/x.nar", vec![1; 50 * KIB]).token("wrong"),
        put(&hello.narinfo, vec![b'x'; 50 * KIB]),
        put("what/is/this", vec![1; 50 * KIB]),
        post(&hello.narinfo, vec![1; 50 * KIB]),
        get("nar/absent.nar").body(vec![1; 50 * KIB]),
    ] {
        let answer = connection.ask(&request).await;
        assert!((400..500).contains(&answer.status), "{}", answer.status);
        let next = connection.ask(&get(&hello.narinfo)).await;
        assert!(next.is(hello.narinfo_text.as_bytes()), "{request:.100?}");
    }
}
