//! One kept connection: sends a prepared request, reads the answer's head, and counts its body
//! without looking at it.

use std::io;
use std::net::{SocketAddr, TcpStream};
use std::time::{Duration, Instant};

use rustix::io::Errno;
use rustix::net::{RecvFlags, SendFlags, recv, send, sockopt};

/// The longest head of an answer that is read.
const HEAD: usize = 8 << 10;

/// A request ready to be sent, and the answer it must have.
#[derive(Clone)]
pub struct Ask {
    pub bytes: Vec<u8>,
    pub status: u16,
    /// Of the body.
    pub length: u64,
}

/// An answer that has come whole.
pub struct Finished {
    /// Which of the asks.
    pub ask: usize,
    pub sent_at: Instant,
    pub first_byte: Duration,
    pub whole: Duration,
}

pub struct Connection {
    pub socket: TcpStream,
    state: State,
    ask: usize,
    sent_at: Instant,
    first_byte: Duration,
    head: Box<[u8; HEAD]>,
}

enum State {
    Idle,
    Head { have: usize },
    Body { left: u64 },
}

impl Connection {
    pub fn open(address: SocketAddr) -> io::Result<Self> {
        let socket = TcpStream::connect(address)?;
        socket.set_nodelay(true)?;
        socket.set_nonblocking(true)?;
        Ok(Self {
            socket,
            state: State::Idle,
            ask: 0,
            sent_at: Instant::now(),
            first_byte: Duration::ZERO,
            head: Box::new([0; HEAD]),
        })
    }

    pub fn is_idle(&self) -> bool {
        matches!(self.state, State::Idle)
    }

    pub fn send(&mut self, which: usize, ask: &Ask) -> io::Result<()> {
        self.ask = which;
        self.sent_at = Instant::now();
        self.state = State::Head { have: 0 };
        let sent = send(&self.socket, &ask.bytes, SendFlags::NOSIGNAL)?;
        if sent < ask.bytes.len() {
            return Err(io::Error::other("a request did not fit into the socket"));
        }
        Ok(())
    }

    /// Takes what has arrived. `scrap` bounds how much of a body is thrown away at once; nothing is
    /// written to it. `bytes` grows by what came of bodies. `true`: the answer is whole.
    pub fn advance(&mut self, asks: &[Ask], scrap: &mut [u8], bytes: &mut u64) -> io::Result<bool> {
        let left = match self.state {
            State::Idle => return Err(io::Error::other("bytes came that nobody asked for")),
            State::Head { have } => {
                let Some(got) = got(recv(
                    &self.socket,
                    &mut self.head[have..],
                    RecvFlags::empty(),
                ))?
                else {
                    return Ok(false);
                };
                if have == 0 {
                    self.first_byte = self.sent_at.elapsed();
                }
                let have = have + got;
                let Some(end) = end_of_head(&self.head[..have]) else {
                    self.state = State::Head { have };
                    return if have < HEAD {
                        Ok(false)
                    } else {
                        Err(io::Error::other("a head without end"))
                    };
                };
                let ask = &asks[self.ask];
                check(&self.head[..end], ask)?;
                *bytes += (have - end) as u64;
                ask.length.checked_sub((have - end) as u64)
            }
            State::Body { left } => {
                // The kernel drops the bytes where they lie (tcp(7), MSG_TRUNC).
                let most = usize::try_from(left).unwrap_or(usize::MAX).min(scrap.len());
                let Some(got) = got(recv(&self.socket, &mut scrap[..most], RecvFlags::TRUNC))?
                else {
                    return Ok(false);
                };
                *bytes += got as u64;
                left.checked_sub(got as u64)
            }
        };
        match left {
            Some(0) => self.state = State::Idle,
            Some(left) => {
                if let State::Head { .. } = self.state {
                    // A loopback segment holds 64 KiB, so that what a network acknowledges at once
                    // would wait 40 ms here, and a sender's last bytes with it (tcp(7)).
                    sockopt::set_tcp_quickack(&self.socket, true)?;
                }
                self.state = State::Body { left };
            }
            None => return Err(io::Error::other("a longer body than its head says")),
        }
        Ok(self.is_idle())
    }

    /// Of the answer that [`Connection::advance`] has just completed.
    pub fn finished(&self) -> Finished {
        Finished {
            ask: self.ask,
            sent_at: self.sent_at,
            first_byte: self.first_byte,
            whole: self.sent_at.elapsed(),
        }
    }
}

/// `None`: nothing there yet.
fn got<T>(received: Result<(T, usize), Errno>) -> io::Result<Option<usize>> {
    match received {
        Ok((_, 0)) => Err(io::Error::other("the server hung up within an answer")),
        Ok((_, got)) => Ok(Some(got)),
        Err(Errno::AGAIN | Errno::INTR) => Ok(None),
        Err(other) => Err(other.into()),
    }
}

fn end_of_head(bytes: &[u8]) -> Option<usize> {
    bytes
        .windows(4)
        .position(|four| four == b"\r\n\r\n")
        .map(|at| at + 4)
}

/// Nobody is fast by sending something else.
fn check(head: &[u8], ask: &Ask) -> io::Result<()> {
    let status = head
        .get(9..12)
        .and_then(|digits| std::str::from_utf8(digits).ok()?.parse().ok());
    let length = match status {
        Some(304) => Some(0),
        _ => content_length(head),
    };
    if (status, length) == (Some(ask.status), Some(ask.length)) {
        return Ok(());
    }
    let (wanted, head) = (
        String::from_utf8_lossy(&ask.bytes),
        String::from_utf8_lossy(head),
    );
    Err(io::Error::other(format!(
        "not {} with {} bytes:\n{wanted}{head}",
        ask.status, ask.length
    )))
}

fn content_length(head: &[u8]) -> Option<u64> {
    const NAME: &[u8] = b"content-length:";
    let value = head.split(|byte| *byte == b'\n').find_map(|line| {
        let (name, value) = line.split_at_checked(NAME.len())?;
        name.eq_ignore_ascii_case(NAME).then_some(value)
    })?;
    std::str::from_utf8(value).ok()?.trim().parse().ok()
}
