//! Servers that are no S3 at all, played byte for byte.

use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};

use super::*;

/// Answers every connection's first request with these bytes and closes it. It lives as long as
/// the test's process.
pub fn saying(answer: &'static [u8]) -> String {
    serving(move |mut stream| {
        let mut head = [0; 4096];
        let _ = stream.read(&mut head);
        let _ = stream.write_all(answer);
    })
}

/// Hands every connection to `serve`, one after the other. Returns the server's URL.
pub fn serving(serve: impl Fn(TcpStream) + Send + 'static) -> String {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let endpoint = format!("http://{}/", listener.local_addr().unwrap());
    std::thread::spawn(move || {
        for stream in listener.incoming().flatten() {
            serve(stream);
        }
    });
    endpoint
}

/// An origin in front of whatever is at `endpoint`.
fn origin(endpoint: &str) -> Origin {
    let settings = settings_for(endpoint);
    Origin::open(&settings, Arc::new(Metrics::new()), Clock::default()).unwrap()
}

#[tokio::test]
async fn nothing_that_is_no_s3_ever_says_absent() {
    for answer in [
        &b""[..],
        b"\r\n\r\n",
        b"SSH-2.0-OpenSSH_9.6\r\n",
        b"HTTP/1.1 200 OK\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nContent-Length: 99999999999999999999999\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nContent-Length: -1\r\n\r\n",
        b"HTTP/1.1 204 No Content\r\n\r\n",
        b"HTTP/1.1 206 Partial Content\r\nContent-Length: 4\r\nContent-Range: bytes 0-3/9\r\n\r\nabcd",
        b"HTTP/1.1 302 Found\r\nLocation: http://127.0.0.1:9/\r\nContent-Length: 0\r\n\r\n",
        b"HTTP/1.1 304 Not Modified\r\n\r\n",
        b"HTTP/1.1 404 Not Found\r\nContent-Length: 0\r\n\r\n",
        b"HTTP/1.1 404 Not Found\r\nContent-Type: text/html\r\nContent-Length: 20\r\n\r\n<html>no page</html>",
        b"HTTP/1.1 404 Not Found\r\nContent-Length: 30\r\n\r\n<Error><Code>NoSuchK",
        b"HTTP/1.1 410 Gone\r\nContent-Length: 0\r\n\r\n",
        b"HTTP/1.1 500 Oh\r\nContent-Length: 49\r\n\r\n<Error><Code>NoSuchKey</Code><Message/></Error>\r\n",
    ] {
        let origin = origin(&saying(answer));
        let shown = String::from_utf8_lossy(answer);
        for ask in [Ask::nar(), Ask::document()] {
            let got = origin.fetch(&key(NAR), &ask).await;
            assert!(matches!(got, Lookup::Unknown(_)), "{shown:?}: {got:?}");
        }
        let stat = origin.head(&key(NAR)).await;
        assert!(matches!(stat, Lookup::Unknown(_)), "{shown:?}: {stat:?}");
    }
}

#[tokio::test]
async fn an_s3_answer_by_hand_is_understood() {
    let absent = b"HTTP/1.1 404 Not Found\r\nContent-Type: application/xml\r\nContent-Length: 39\r\n\r\n<Error><Code>NoSuchKey</Code></Error>\r\n";
    let got = origin(&saying(absent)).fetch(&key(NAR), &Ask::nar()).await;
    assert!(matches!(got, Lookup::Absent), "{got:?}");
    let found = b"HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\nabcd";
    let got = origin(&saying(found)).fetch(&key(NAR), &Ask::nar()).await;
    assert_eq!(drain(stream(got)).await.unwrap(), b"abcd");
}
