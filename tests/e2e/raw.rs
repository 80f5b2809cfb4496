//! HTTP byte by byte, for what no well-behaved client shows: how far an exchange was when it broke.

use std::io::{ErrorKind, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::time::Duration;

/// A peer silent for longer has failed the test.
const PATIENCE: Duration = Duration::from_secs(30);

/// How long Nix waits for the answer to a body that it has sent (`stalled-download-timeout`).
const ANSWER_PATIENCE: Duration = Duration::from_secs(300);

/// At most so many bytes pass between two reports of progress.
const PIECE: usize = 16 * 1024;

/// As much of an answer as came.
#[derive(Debug)]
pub struct Answer {
    pub status: u16,
    /// How it came (`Cache-Status`), in small letters.
    pub cache_status: Option<String>,
    /// What `Content-Length` promised.
    length: usize,
    /// Bytes of the body that came.
    received: usize,
}

impl Answer {
    /// Whether all that was promised came.
    pub fn is_whole(&self) -> bool {
        self.received == self.length
    }
}

/// GETs `path`. `sink` is given each piece of the body as it comes. `None` when the connection ended
/// before a whole head.
pub fn get(at: SocketAddr, path: &str, sink: impl FnMut(&[u8])) -> Option<Answer> {
    let mut stream = connect(at)?;
    let head = format!("GET {path} HTTP/1.1\r\nHost: {at}\r\nConnection: close\r\n\r\n");
    stream.write_all(head.as_bytes()).ok()?;
    receive(stream, sink)
}

/// PUTs `body` at `path`. `progress` is told of each piece that was handed to the kernel. `None` when
/// the connection ended before an answer.
pub fn put(
    at: SocketAddr,
    path: &str,
    token: &str,
    body: &[u8],
    progress: impl FnMut(usize),
) -> Option<Answer> {
    put_from(at, path, token, body, body.len() as u64, progress)
}

/// The same with a body of `len` bytes that is read as it is sent.
pub fn put_from(
    at: SocketAddr,
    path: &str,
    token: &str,
    mut body: impl Read,
    len: u64,
    mut progress: impl FnMut(usize),
) -> Option<Answer> {
    let mut stream = connect(at)?;
    let head = format!(
        "PUT {path} HTTP/1.1\r\nHost: {at}\r\nConnection: close\r\nAuthorization: Bearer {token}\r\n\
         Content-Length: {len}\r\n\r\n"
    );
    stream.write_all(head.as_bytes()).ok()?;
    let mut piece = vec![0; PIECE];
    loop {
        let count = body.read(&mut piece).expect("a body that can be read");
        if count == 0 || stream.write_all(&piece[..count]).is_err() {
            break; // all of it, an early answer, or the end
        }
        progress(count);
    }
    stream.set_read_timeout(Some(ANSWER_PATIENCE)).unwrap();
    receive(stream, |_| ())
}

fn connect(at: SocketAddr) -> Option<TcpStream> {
    let stream = TcpStream::connect(at).ok()?;
    stream.set_read_timeout(Some(PATIENCE)).unwrap();
    stream.set_write_timeout(Some(PATIENCE)).unwrap();
    Some(stream)
}

fn receive(mut stream: TcpStream, mut sink: impl FnMut(&[u8])) -> Option<Answer> {
    let mut head = Vec::new();
    let mut answer: Option<Answer> = None;
    let mut piece = vec![0; PIECE];
    while !answer.as_ref().is_some_and(Answer::is_whole) {
        let read = match stream.read(&mut piece) {
            Err(e) if matches!(e.kind(), ErrorKind::WouldBlock | ErrorKind::TimedOut) => {
                panic!("nothing came in time")
            }
            Ok(0) | Err(_) => return answer,
            Ok(read) => read,
        };
        let mut body = &piece[..read];
        if answer.is_none() {
            head.extend_from_slice(body);
            let Some(end) = head.windows(4).position(|window| window == b"\r\n\r\n") else {
                continue;
            };
            answer = Some(parse(&head[..end]));
            body = &head[end + 4..];
        }
        if let Some(answer) = &mut answer {
            answer.received += body.len();
            sink(body);
        }
    }
    answer
}

fn parse(head: &[u8]) -> Answer {
    let head = String::from_utf8(head.to_vec())
        .expect("a head of ASCII")
        .to_lowercase();
    let status = head
        .split(' ')
        .nth(1)
        .and_then(|status| status.parse().ok());
    let header = |name: &str| {
        let mut lines = head.lines();
        lines.find_map(|line| line.strip_prefix(name)?.strip_prefix(':'))
    };
    let length = header("content-length");
    let length = length.map(|length| length.trim().parse().expect("a length in digits"));
    Answer {
        status: status.expect("a status"),
        cache_status: header("cache-status").map(|how| how.trim().to_owned()),
        length: length.expect("every answer here has a length"),
        received: 0,
    }
}
