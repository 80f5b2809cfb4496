//! Hands the codec one request at a time; why is said in `http/turn.rs`.
//!
//! A request without a body ends with its head, so the bytes behind an empty line are held back
//! until it has been answered. From the first request with a body on everything goes through, for
//! only the codec knows where a body ends; such connections are uploaders', and those do not
//! pipeline (libcurl has not since 7.62).

use std::io::{self, IoSlice};
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use bytes::BytesMut;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

use crate::http::Turn;

use super::connection::Connection;

/// A longer head is the codec's to refuse, in bytes.
const MAX_HEAD: usize = 128 * 1024;

/// Bytes taken from a client that has sent its next request before its answer.
const AHEAD: usize = 4096;

/// A connection that gives its requests one by one.
#[derive(Debug)]
pub struct Turns {
    connection: Connection,
    turn: Turn,
    watch: Watch,
    /// Received behind the request that is being answered.
    held: BytesMut,
}

#[derive(Debug)]
enum Watch {
    /// What has been handed over of the request that is beginning.
    Head(Vec<u8>),
    /// A whole request has been handed over.
    Answering,
    /// Whatever comes is handed over.
    Off,
}

/// What new bytes mean for a head.
#[derive(Debug, PartialEq, Eq)]
enum Seen {
    Unfinished,
    /// The request ends after so many of them.
    End(usize),
    /// It goes on with a body, or with something that is no HTTP.
    Boundless,
}

impl Turns {
    pub fn new(connection: Connection) -> Self {
        Self {
            connection,
            turn: Turn::default(),
            watch: Watch::Head(Vec::new()),
            held: BytesMut::new(),
        }
    }

    /// For the requests that come by this connection.
    pub fn turn(&self) -> Turn {
        self.turn.clone()
    }

    /// While an answer is under way nothing is handed over, but a client that leaves is noticed.
    fn poll_ahead(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        if !self.held.is_empty() {
            return Poll::Pending;
        }
        let mut space = [0; AHEAD];
        let mut ahead = ReadBuf::new(&mut space);
        ready!(Pin::new(&mut self.connection).poll_read(cx, &mut ahead))?;
        if ahead.filled().is_empty() {
            return Poll::Ready(Ok(()));
        }
        self.held.extend_from_slice(ahead.filled());
        Poll::Pending
    }

    /// Holds back what does not belong to the request that began.
    fn watch_new(&mut self, buffer: &mut ReadBuf<'_>, before: usize) {
        let Watch::Head(head) = &mut self.watch else {
            return;
        };
        match see(head, &buffer.filled()[before..]) {
            Seen::Unfinished => {}
            Seen::Boundless => self.watch = Watch::Off,
            Seen::End(end) => {
                let behind = &buffer.filled()[before + end..];
                if !behind.is_empty() {
                    let later = std::mem::replace(&mut self.held, BytesMut::from(behind));
                    self.held.unsplit(later);
                }
                buffer.set_filled(before + end);
                self.turn.begin();
                self.watch = Watch::Answering;
            }
        }
    }
}

fn see(head: &mut Vec<u8>, new: &[u8]) -> Seen {
    // Empty lines before a request are skipped (RFC 9112 §2.2), and end nothing.
    let blank = new.iter().take_while(|byte| b"\r\n".contains(byte));
    let skipped = if head.is_empty() { blank.count() } else { 0 };
    let known = head.len();
    head.extend_from_slice(&new[skipped..]);
    let from = known.saturating_sub(3);
    let end = head[from..].windows(4).position(|four| four == b"\r\n\r\n");
    match end {
        Some(at) => {
            let end = from + at + 4;
            if has_more_than_a_head(&head[..end]) {
                Seen::Boundless
            } else {
                Seen::End(end - known + skipped)
            }
        }
        None if head.len() > MAX_HEAD => Seen::Boundless,
        None => Seen::Unfinished,
    }
}

fn has_more_than_a_head(head: &[u8]) -> bool {
    let begins = |line: &[u8], name: &[u8]| {
        line.get(..name.len())
            .is_some_and(|begin| begin.eq_ignore_ascii_case(name))
    };
    head.split(|byte| *byte == b'\n').any(|line| {
        ["content-length", "transfer-encoding", "upgrade", "connect "]
            .iter()
            .any(|name| begins(line, name.as_bytes()))
    })
}

impl AsyncRead for Turns {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        if matches!(self.watch, Watch::Answering) {
            if self.turn.is_ours(cx.waker()) {
                return self.poll_ahead(cx);
            }
            self.watch = Watch::Head(Vec::new());
        }
        let before = buffer.filled().len();
        if self.held.is_empty() {
            ready!(Pin::new(&mut self.connection).poll_read(cx, buffer))?;
        } else {
            let fits = self.held.len().min(buffer.remaining());
            buffer.put_slice(&self.held.split_to(fits));
        }
        self.watch_new(buffer, before);
        Poll::Ready(Ok(()))
    }
}

impl AsyncWrite for Turns {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.connection).poll_write(cx, bytes)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        slices: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.connection).poll_write_vectored(cx, slices)
    }

    fn is_write_vectored(&self) -> bool {
        self.connection.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.connection).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.connection).poll_shutdown(cx)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const GET: &[u8] = b"GET / HTTP/1.1\r\nHost: h\r\n\r\n";

    /// Where a request ends, its bytes coming in pieces of these sizes.
    fn end_of(bytes: &[u8], mut sizes: impl Iterator<Item = usize>) -> Option<usize> {
        let (mut head, mut at) = (Vec::new(), 0);
        while at < bytes.len() {
            let size = sizes.next().unwrap_or(usize::MAX).min(bytes.len() - at);
            match see(&mut head, &bytes[at..at + size]) {
                Seen::Unfinished => at += size,
                Seen::End(end) => return Some(at + end),
                Seen::Boundless => return None,
            }
        }
        None
    }

    #[test]
    fn a_request_with_a_body_or_another_protocol_has_no_end_here() {
        for field in [
            "Content-Length: 0",
            "content-LENGTH:5",
            "Transfer-Encoding: chunked",
            "Upgrade: websocket",
        ] {
            let request = format!("GET / HTTP/1.1\r\nHost: h\r\n{field}\r\n\r\n");
            assert_eq!(end_of(request.as_bytes(), std::iter::empty()), None);
        }
        let tunnel = b"CONNECT a:1 HTTP/1.1\r\nHost: a\r\n\r\n";
        assert_eq!(end_of(tunnel, std::iter::empty()), None);
        assert_eq!(see(&mut Vec::new(), &[b'x'; MAX_HEAD + 1]), Seen::Boundless);
    }

    proptest! {
        #[test]
        fn a_request_ends_with_its_empty_line_however_it_is_cut_up(
            blank in 0usize..3,
            behind in proptest::collection::vec(any::<u8>(), 0..50),
            sizes in proptest::collection::vec(1usize..20, 0..100),
        ) {
            let request = [b"\r\n".repeat(blank).as_slice(), GET].concat();
            let bytes = [request.as_slice(), &behind].concat();
            prop_assert_eq!(end_of(&bytes, sizes.into_iter()), Some(request.len()));
        }
    }
}
