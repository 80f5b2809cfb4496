//! One HTTP/1.1 connection, seen byte by byte: nothing is repaired, retried or hidden.
//!
//! An HTTP library would turn a body that was cut short into an error without its bytes, hide the
//! `100 Continue`, and refuse to send what is wrong. Here a test reads as slowly as it likes, drops
//! the connection half-way, and is told whether what came was whole.

use std::io;
use std::net::SocketAddr;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

use super::PATIENCE;
use super::request::Request;

/// Bytes taken by one call where there are many to come.
const AT_ONCE: usize = 256 * 1024;

/// A client's connection. Dropped, it is closed, whatever is still on its way.
pub struct Connection {
    stream: TcpStream,
    host: String,
    /// Received and not yet taken.
    buffer: Vec<u8>,
}

/// The head of an answer, interim ones included.
#[derive(Debug, Clone)]
pub struct Head {
    pub status: u16,
    headers: Vec<(String, String)>,
}

impl Head {
    /// The value of a header field; of the first, if there are several. `None`: there is none.
    pub fn header(&self, name: &str) -> Option<&str> {
        self.headers(name).next()
    }

    /// The values of all fields of this name.
    pub fn headers(&self, name: &str) -> impl Iterator<Item = &str> {
        self.headers
            .iter()
            .filter(move |(there, _)| there.eq_ignore_ascii_case(name))
            .map(|(_, value)| value.as_str())
    }

    /// All fields, in their order.
    pub fn fields(&self) -> impl Iterator<Item = (&str, &str)> {
        let fields = self.headers.iter();
        fields.map(|(name, value)| (name.as_str(), value.as_str()))
    }

    /// `Content-Length`; `None`: the field is not there.
    #[track_caller]
    pub fn length(&self) -> Option<usize> {
        let mut lengths = self.headers("content-length");
        let length = lengths.next()?;
        assert_eq!(lengths.next(), None, "one Content-Length");
        Some(length.parse().expect("a length in digits"))
    }
}

/// An answer, or as much of it as came.
#[derive(Debug, Clone)]
pub struct Answer {
    /// 0 when the connection ended before a whole head: the rarest way of being cut.
    pub status: u16,
    pub body: Vec<u8>,
    /// The connection ended before the body did.
    pub cut: bool,
    /// The request's body was asked for with `100 Continue`.
    pub continued: bool,
    pub head: Head,
}

impl Answer {
    /// It gave nothing whole: cut short, or, where all had failed before its head, a plain 503.
    pub fn came_to_nothing(&self) -> bool {
        self.cut || self.status == 503
    }

    fn none() -> Self {
        Self {
            status: 0,
            body: Vec::new(),
            cut: true,
            continued: false,
            head: Head {
                status: 0,
                headers: Vec::new(),
            },
        }
    }

    /// See [`Head::header`].
    pub fn header(&self, name: &str) -> Option<&str> {
        self.head.header(name)
    }

    #[track_caller]
    pub fn text(&self) -> &str {
        std::str::from_utf8(&self.body).expect("a body of text")
    }

    /// 200, and exactly these bytes.
    pub fn is(&self, bytes: &[u8]) -> bool {
        self.status == 200 && !self.cut && self.body == bytes
    }
}

impl Connection {
    pub async fn open(at: SocketAddr) -> Self {
        let stream = TcpStream::connect(at).await.expect("a listening gateway");
        stream.set_nodelay(true).expect("a live socket");
        Self {
            stream,
            host: at.to_string(),
            buffer: Vec::new(),
        }
    }

    /// One request and its answer; the connection can be used again if both ended in order.
    pub async fn ask(&mut self, request: &Request) -> Answer {
        self.send_head(request).await;
        if request.expects_continue {
            match self.head_or_end().await {
                None => return Answer::none(),
                Some(head) if head.status == 100 => {}
                Some(head) => return self.answer_after(head, request.method).await,
            }
        }
        if let Some(body) = &request.body {
            self.send(body).await;
        }
        let mut answer = self.answer(request.method).await;
        answer.continued |= request.expects_continue;
        answer
    }

    pub async fn send_head(&mut self, request: &Request) {
        let head = request.head_bytes(&self.host);
        self.send(&head).await;
    }

    /// Sends bytes as they are. That the other end has hung up shows when its answer is read.
    pub async fn send(&mut self, bytes: &[u8]) {
        let sending = tokio::time::timeout(PATIENCE, self.stream.write_all(bytes));
        match sending.await.expect("a gateway that reads") {
            Ok(()) => {}
            Err(error) if is_hang_up(&error) => {}
            Err(error) => panic!("sending failed: {error}"),
        }
    }

    /// Says that no more bytes will come.
    pub async fn finish(&mut self) {
        drop(self.stream.shutdown().await);
    }

    /// The next head, an interim one too. Panics if the connection ends before.
    pub async fn head(&mut self) -> Head {
        self.head_or_end().await.expect("a whole head")
    }

    /// The next head; `None`: the connection ended before a whole one.
    pub async fn head_or_end(&mut self) -> Option<Head> {
        let end = loop {
            let found = self.buffer.windows(4).position(|four| four == b"\r\n\r\n");
            match found {
                Some(end) => break end,
                None => {
                    if !self.receive().await {
                        return None;
                    }
                }
            }
        };
        let text = String::from_utf8(self.buffer[..end].to_vec()).expect("a head of text");
        self.buffer.drain(..end + 4);
        Some(parse(&text))
    }

    /// The answer to a request with this method. Interim heads are passed over.
    pub async fn answer(&mut self, method: &str) -> Answer {
        let mut continued = false;
        let head = loop {
            let Some(head) = self.head_or_end().await else {
                return Answer::none();
            };
            if head.status >= 200 {
                break head;
            }
            continued |= head.status == 100;
        };
        let mut answer = self.answer_after(head, method).await;
        answer.continued = continued;
        answer
    }

    /// The rest of the answer whose head was read.
    pub async fn answer_after(&mut self, head: Head, method: &str) -> Answer {
        let bodiless = method == "HEAD" || matches!(head.status, 204 | 304);
        let (body, cut) = match (bodiless, head.length()) {
            (true, _) => (Vec::new(), false),
            (false, Some(length)) => {
                let body = self.bytes(length).await;
                let cut = body.len() < length;
                (body, cut)
            }
            (false, None) if head.header("transfer-encoding") == Some("chunked") => {
                self.chunks().await
            }
            (false, None) => panic!("an answer without a length: {head:?}"),
        };
        Answer {
            status: head.status,
            body,
            cut,
            continued: false,
            head,
        }
    }

    /// So many bytes, fewer only if the connection ends before.
    pub async fn bytes(&mut self, count: usize) -> Vec<u8> {
        while self.buffer.len() < count && self.receive().await {}
        let rest = self.buffer.split_off(self.buffer.len().min(count));
        std::mem::replace(&mut self.buffer, rest)
    }

    /// Whether exactly these bytes come next. Keeps none of them, so many may read much at once.
    pub async fn brings(&mut self, mut bytes: &[u8]) -> bool {
        while !bytes.is_empty() {
            if self.buffer.is_empty() {
                self.buffer.reserve(AT_ONCE);
                if !self.receive().await {
                    return false;
                }
            }
            let count = self.buffer.len().min(bytes.len());
            let (next, later) = bytes.split_at(count);
            if self.buffer[..count] != *next {
                return false;
            }
            self.buffer.drain(..count);
            bytes = later;
        }
        true
    }

    /// Everything up to the end of the connection.
    pub async fn rest(&mut self) -> Vec<u8> {
        self.bytes(usize::MAX).await
    }

    async fn chunks(&mut self) -> (Vec<u8>, bool) {
        let mut body = Vec::new();
        loop {
            let Some(size) = self.line().await else {
                return (body, true);
            };
            let size = usize::from_str_radix(&size, 16).expect("a chunk's size");
            let mut chunk = self.bytes(size + 2).await;
            if chunk.len() < size + 2 {
                body.append(&mut chunk);
                return (body, true);
            }
            body.extend_from_slice(&chunk[..size]);
            if size == 0 {
                return (body, false);
            }
        }
    }

    async fn line(&mut self) -> Option<String> {
        loop {
            if let Some(end) = self.buffer.windows(2).position(|two| two == b"\r\n") {
                let line = self.buffer.drain(..end + 2).take(end).collect();
                return Some(String::from_utf8(line).expect("a line of text"));
            }
            if !self.receive().await {
                return None;
            }
        }
    }

    /// Takes in what comes next. `false`: nothing will.
    async fn receive(&mut self) -> bool {
        let receiving = tokio::time::timeout(PATIENCE, self.stream.read_buf(&mut self.buffer));
        match receiving.await {
            Ok(Ok(count)) => count > 0,
            Ok(Err(error)) if is_hang_up(&error) => false,
            Ok(Err(error)) => panic!("receiving failed: {error}"),
            Err(_) => panic!("nothing came for {PATIENCE:?}"),
        }
    }
}

fn is_hang_up(error: &io::Error) -> bool {
    matches!(
        error.kind(),
        io::ErrorKind::ConnectionReset | io::ErrorKind::BrokenPipe
    )
}

fn parse(text: &str) -> Head {
    let mut lines = text.split("\r\n");
    let first = lines.next().expect("a first line");
    let status = first
        .strip_prefix("HTTP/1.")
        .and_then(|rest| rest.split(' ').nth(1)?.parse().ok())
        .unwrap_or_else(|| panic!("no status line: {first:?}"));
    let headers = lines.map(|line| {
        let (name, value) = line.split_once(':').expect("a header field");
        (name.to_owned(), value.trim().to_owned())
    });
    Head {
        status,
        headers: headers.collect(),
    }
}
