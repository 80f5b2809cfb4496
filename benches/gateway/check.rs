//! One request read to its last byte, and compared: before anything is measured, each server shows
//! once that it sends what the bucket holds.

use std::io::{self, BufRead, BufReader, Write};
use std::net::TcpStream;
use std::time::Duration;

use sha2::{Digest, Sha256};

use crate::load::Ask;
use crate::objects::Object;
use crate::servers::Server;

const PATIENCE: Duration = Duration::from_secs(120);

/// An answer's head, names in lower case, in their order.
pub struct Head {
    pub status: u16,
    pub headers: Vec<(String, String)>,
}

impl Head {
    pub fn header(&self, name: &str) -> Option<&str> {
        let found = self.headers.iter().find(|(given, _)| given == name);
        found.map(|(_, value)| value.as_str())
    }
}

/// Has the server send each object twice, the second time warm, and compares every byte.
pub fn same_bytes<'a>(
    server: &Server,
    objects: impl IntoIterator<Item = &'a Object>,
) -> io::Result<()> {
    let mut connection = Connection::open(server)?;
    for object in objects {
        for _ in 0..2 {
            let head = connection.ask(&server.get(&object.key, 200, object.length))?;
            let mut hash = Sha256::new();
            let copied = connection.body(&head, |piece| hash.update(piece))?;
            if copied != object.length || <[u8; 32]>::from(hash.finalize()) != object.sha256 {
                let who = server.who.name();
                return Err(io::Error::other(format!(
                    "{who} sent other bytes for {}",
                    object.key
                )));
            }
        }
    }
    Ok(())
}

/// One answer with its bytes.
pub fn fetch(server: &Server, ask: &Ask) -> io::Result<(Head, Vec<u8>)> {
    let mut connection = Connection::open(server)?;
    let head = connection.ask(ask)?;
    let mut body = Vec::new();
    if head.status != 304 {
        connection.body(&head, |piece| body.extend_from_slice(piece))?;
    }
    Ok((head, body))
}

struct Connection(BufReader<TcpStream>);

impl Connection {
    fn open(server: &Server) -> io::Result<Self> {
        let socket = TcpStream::connect(server.address)?;
        socket.set_nodelay(true)?;
        socket.set_read_timeout(Some(PATIENCE))?;
        Ok(Self(BufReader::with_capacity(256 << 10, socket)))
    }

    fn ask(&mut self, ask: &Ask) -> io::Result<Head> {
        self.0.get_mut().write_all(&ask.bytes)?;
        let status = self.line()?;
        let mut head = Head {
            status: status
                .get(9..12)
                .and_then(|digits| digits.parse().ok())
                .unwrap_or(0),
            headers: Vec::new(),
        };
        loop {
            let line = self.line()?;
            let Some((name, value)) = line.split_once(':') else {
                break;
            };
            head.headers
                .push((name.to_ascii_lowercase(), value.trim().to_owned()));
        }
        if head.status != ask.status {
            let asked = String::from_utf8_lossy(&ask.bytes);
            return Err(io::Error::other(format!(
                "{status}, not {}, to\n{asked}",
                ask.status
            )));
        }
        Ok(head)
    }

    fn line(&mut self) -> io::Result<String> {
        let mut line = String::new();
        self.0.read_line(&mut line)?;
        Ok(line.trim_end().to_owned())
    }

    /// Hands over the body piece by piece; gives its length.
    fn body(&mut self, head: &Head, mut take: impl FnMut(&[u8])) -> io::Result<u64> {
        let length = head
            .header("content-length")
            .and_then(|length| length.parse().ok());
        let length: u64 = length.ok_or_else(|| io::Error::other("an answer without a length"))?;
        let mut left = length;
        while left > 0 {
            let piece = self.0.fill_buf()?;
            let len = piece.len().min(usize::try_from(left).unwrap_or(usize::MAX));
            if len == 0 {
                return Err(io::ErrorKind::UnexpectedEof.into());
            }
            take(&piece[..len]);
            self.0.consume(len);
            left -= len as u64;
        }
        Ok(length)
    }
}
