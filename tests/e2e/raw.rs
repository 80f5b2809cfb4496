//! HTTP byte by byte, for what no well-behaved client shows: how far an exchange was when it broke.

use std::io::{ErrorKind, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::time::Duration;

/// A peer silent for longer has failed the test.
const PATIENCE: Duration = Duration::from_secs(30);

/// At most so many bytes pass between two reports of progress.
const PIECE: usize = 16 * 1024;

/// As much of an answer as came.
#[derive(Debug)]
pub struct Answer {
    pub status: u16,
    /// What `Content-Length` promised.
    length: usize,
    pub body: Vec<u8>,
}

impl Answer {
    /// Whether all that was promised came.
    pub fn is_whole(&self) -> bool {
        self.body.len() == self.length
    }
}

/// GETs `path`. `progress` is told of each piece of the body that came. `None` when the connection
/// ended before a whole head.
pub fn get(at: SocketAddr, path: &str, progress: impl FnMut(usize)) -> Option<Answer> {
    let mut stream = connect(at)?;
    let head = format!("GET {path} HTTP/1.1\r\nHost: {at}\r\nConnection: close\r\n\r\n");
    stream.write_all(head.as_bytes()).ok()?;
    receive(stream, progress)
}

/// PUTs `body` at `path`. `progress` is told of each piece that was handed to the kernel. `None` when
/// the connection ended before an answer.
pub fn put(
    at: SocketAddr,
    path: &str,
    token: &str,
    body: &[u8],
    mut progress: impl FnMut(usize),
) -> Option<Answer> {
    let mut stream = connect(at)?;
    let head = format!(
        "PUT {path} HTTP/1.1\r\nHost: {at}\r\nConnection: close\r\nAuthorization: Bearer {token}\r\n\
         Content-Length: {}\r\n\r\n",
        body.len()
    );
    stream.write_all(head.as_bytes()).ok()?;
    for piece in body.chunks(PIECE) {
        if stream.write_all(piece).is_err() {
            break; // an early answer, or the end
        }
        progress(piece.len());
    }
    receive(stream, |_| ())
}

fn connect(at: SocketAddr) -> Option<TcpStream> {
    let stream = TcpStream::connect(at).ok()?;
    stream.set_read_timeout(Some(PATIENCE)).unwrap();
    stream.set_write_timeout(Some(PATIENCE)).unwrap();
    Some(stream)
}

fn receive(mut stream: TcpStream, mut progress: impl FnMut(usize)) -> Option<Answer> {
    let mut bytes = Vec::new();
    let mut answer: Option<Answer> = None;
    let mut piece = vec![0; PIECE];
    loop {
        let read = match stream.read(&mut piece) {
            Ok(0) => return answer,
            Ok(read) => read,
            Err(e) if matches!(e.kind(), ErrorKind::WouldBlock | ErrorKind::TimedOut) => {
                panic!("nothing came for {PATIENCE:?}")
            }
            Err(_) => return answer,
        };
        match &mut answer {
            Some(answer) => {
                answer.body.extend_from_slice(&piece[..read]);
                progress(read);
            }
            None => {
                bytes.extend_from_slice(&piece[..read]);
                answer = parse_head(&bytes);
                progress(answer.as_ref().map_or(0, |answer| answer.body.len()));
            }
        }
        if answer.as_ref().is_some_and(Answer::is_whole) {
            return answer;
        }
    }
}

/// The head's status and length and the first of the body, once the head is whole.
fn parse_head(bytes: &[u8]) -> Option<Answer> {
    let end = bytes.windows(4).position(|window| window == b"\r\n\r\n")?;
    let head = String::from_utf8(bytes[..end].to_vec())
        .expect("a head of ASCII")
        .to_lowercase();
    let status = head
        .split(' ')
        .nth(1)
        .and_then(|status| status.parse().ok())
        .expect("a status");
    let length = head
        .lines()
        .find_map(|line| line.strip_prefix("content-length:"));
    let length = length.map(|length| length.trim().parse().expect("a length in digits"));
    Some(Answer {
        status,
        length: length.expect("every answer here has a length"),
        body: bytes[end + 4..].to_vec(),
    })
}
