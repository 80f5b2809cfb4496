//! One request at a time: what a client sends behind a request waits until that one is answered.
//!
//! Clients may send requests without waiting for answers (RFC 9112 §9.3.2). actix-http decodes all
//! it has received, and remembers only of the last one whether it was a HEAD, its version and its
//! wish to close (`h1/codec.rs`, 3.20.x). So a GET that is still being prepared when a HEAD comes in
//! behind it is answered without its body, and the client takes the next answer for that body. Here
//! the codec is not shown a request before the one in front of it is answered; nothing else changes.

use std::io;
use std::mem::MaybeUninit;
use std::task::{Context, Poll, ready};
use std::time::{Duration, Instant};

use bytes::BytesMut;
use tokio::io::ReadBuf;

use super::framing::Framing;
use super::turn::Turn;
use crate::http::plain::Plain;

/// Bytes kept of requests that wait; a client that has more waits with them. Read on at all only to
/// see a client leave.
const MOST_HELD: usize = 16 * 1024;

/// A codec that is not shown a request for longer takes its client for idle or slow. So it sees the
/// first one of each connection, and then one each second.
pub const SHOW_EVERY: Duration = Duration::from_secs(1);

/// A client sends a request's head within this, also the next one on a kept connection.
pub const HEAD_PATIENCE: Duration = Duration::from_secs(10);

/// What stands between a connection's bytes and the codec.
#[derive(Debug, Default)]
pub struct Gate {
    turn: Turn,
    /// Of what was let through.
    framing: Framing,
    /// Received, and to be let through later.
    held: BytesMut,
    /// When the codec was last shown a request, if that was a plain one.
    plain_since: Option<Instant>,
}

/// What became of bytes that were read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Read {
    /// They are for the codec; none: the client sends no more.
    Through,
    /// They were a request that is answered.
    Answered,
}

impl Gate {
    pub fn turn(&self) -> Turn {
        self.turn.clone()
    }

    /// See [`Turn::note_flushed`].
    pub fn note_flushed(&self) {
        self.turn.note_flushed();
    }

    /// Reads what may be let through. `read` is the connection's own way of reading; `prompt` may
    /// answer a plain request while the codec is idle, which then never hears of it.
    pub fn poll_read(
        &mut self,
        cx: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
        mut read: impl FnMut(&mut Context<'_>, &mut ReadBuf<'_>) -> Poll<io::Result<()>>,
        prompt: impl FnOnce(&Plain<'_>) -> bool,
    ) -> Poll<io::Result<Read>> {
        if self.is_shut() {
            return self.hold(cx, read).map_ok(|()| Read::Through);
        }
        let before = buffer.filled().len();
        if self.held.is_empty() {
            ready!(read(cx, buffer))?;
            if self.framing.is_at_request() {
                let plain = Plain::read(&buffer.filled()[before..]);
                if plain
                    .as_ref()
                    .is_some_and(|plain| self.is_idle() && prompt(plain))
                {
                    buffer.set_filled(before);
                    return Poll::Ready(Ok(Read::Answered));
                }
                self.plain_since = plain.map(|_| Instant::now());
            }
        } else {
            let count = self.held.len().min(buffer.remaining());
            buffer.put_slice(&self.held.split_to(count));
            self.plain_since = None;
        }
        let came = &buffer.filled()[before..];
        let through = self.admit(came);
        if through < came.len() {
            let mut held = BytesMut::from(&came[through..]);
            held.unsplit(self.held.split());
            self.held = held;
            buffer.set_filled(before + through);
        }
        Poll::Ready(Ok(Read::Through))
    }

    /// Since when a head comes that is not all here. To the codec such a connection is a busy one: it
    /// bounds how long the first head may take, and no other.
    pub fn head_comes_since(&self) -> Option<Instant> {
        self.framing.head_comes_since()
    }

    /// The next byte begins a request, and the one before has no answer yet.
    fn is_shut(&self) -> bool {
        self.framing.is_at_request() && !self.turn.is_answered()
    }

    /// The codec waits for a request and has nothing to send. A plain one was its last, so that it
    /// keeps the connection, and so recently that its timers are right.
    fn is_idle(&self) -> bool {
        let is_recent = |since: Instant| since.elapsed() < SHOW_EVERY;
        self.turn.is_over() && self.plain_since.is_some_and(is_recent)
    }

    /// Lets nothing through, and goes on reading to see whether the client leaves.
    fn hold(
        &mut self,
        cx: &mut Context<'_>,
        mut read: impl FnMut(&mut Context<'_>, &mut ReadBuf<'_>) -> Poll<io::Result<()>>,
    ) -> Poll<io::Result<()>> {
        while self.held.len() < MOST_HELD {
            let mut scratch = [MaybeUninit::uninit(); 1024];
            let mut came = ReadBuf::uninit(&mut scratch);
            if read(cx, &mut came)?.is_pending() {
                break;
            }
            if came.filled().is_empty() {
                return Poll::Ready(Ok(()));
            }
            self.held.extend_from_slice(came.filled());
        }
        // Most clients wait for their answer before they ask again. What they send then wakes this
        // task by itself, and to be woken for nothing would cost as much as half a request.
        if !self.held.is_empty() {
            self.turn.wake(cx.waker());
        }
        Poll::Pending
    }

    /// How many of these bytes may pass: at least one, if there is one and the gate is not shut.
    fn admit(&mut self, bytes: &[u8]) -> usize {
        let mut at = 0;
        while at < bytes.len() && !self.is_shut() {
            let taken = self.framing.take(&bytes[at..]);
            at += taken.bytes;
            if taken.ends_head {
                // The codec is shown a request.
                self.turn.begin();
            }
        }
        at
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::task::Waker;

    const GET: &[u8] = b"GET /a HTTP/1.1\r\nHost: x\r\n\r\n";
    const PUT: &[u8] = b"PUT /a HTTP/1.1\r\ncontent-Length:  5 \r\n\r\nGET /";

    const CHUNKED: &[u8] = b"PUT /a HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n\
        5;a=\"b\"\r\nGET /\r\n0A\r\n0\r\n\r\nGET /\r\n000\r\nSome: trailer\r\n\r\n";

    /// What the codec is shown of `sent`, arriving in pieces of this size, before any answer.
    fn shown(gate: &mut Gate, sent: &mut &[u8], piece: usize) -> Vec<u8> {
        let mut shown = Vec::new();
        let mut cx = Context::from_waker(Waker::noop());
        loop {
            let mut space = [0; 64];
            let mut buffer = ReadBuf::new(&mut space);
            let read = |_: &mut Context<'_>, buffer: &mut ReadBuf<'_>| {
                if sent.is_empty() {
                    return Poll::Pending;
                }
                let count = piece.min(sent.len()).min(buffer.remaining());
                buffer.put_slice(&sent[..count]);
                *sent = &sent[count..];
                Poll::Ready(Ok(()))
            };
            match gate.poll_read(&mut cx, &mut buffer, read, |_| true) {
                Poll::Pending => return shown,
                Poll::Ready(Ok(Read::Answered)) => shown.extend_from_slice(b"answered"),
                Poll::Ready(Ok(Read::Through)) => {
                    assert!(!buffer.filled().is_empty(), "nothing would mean the end");
                    shown.extend_from_slice(buffer.filled());
                }
                Poll::Ready(Err(error)) => panic!("{error}"),
            }
        }
    }

    proptest! {
        #[test]
        fn a_request_is_shown_when_the_one_before_is_answered(
            which in proptest::collection::vec(0usize..5, 1..8),
            piece in 1usize..80,
        ) {
            let kinds = [GET, PUT, b"\r\nHEAD / HTTP/1.0\n\n", b"POST / HTTP/1.1\r\nContent-Length: 0\r\n\r\n", CHUNKED];
            let requests: Vec<&[u8]> = which.iter().map(|kind| kinds[*kind]).collect();
            let all = requests.concat();
            let (mut gate, mut sent) = (Gate::default(), all.as_slice());
            for request in requests {
                let seen = shown(&mut gate, &mut sent, piece);
                prop_assert_eq!(seen, request);
                drop(gate.turn().answering());
            }
            prop_assert!(sent.is_empty() && gate.held.is_empty());
        }
    }

    /// What becomes of a request that comes by itself, when all before it is answered and sent.
    fn next(gate: &mut Gate, request: &[u8]) -> Vec<u8> {
        let seen = shown(gate, &mut &request[..], 64);
        drop(gate.turn().answering());
        gate.note_flushed();
        seen
    }

    #[test]
    fn plain_requests_may_be_answered_promptly_once_the_codec_has_seen_one() {
        let mut gate = Gate::default();
        assert_eq!(next(&mut gate, GET), GET, "the first is the codec's");
        assert_eq!(next(&mut gate, GET), b"answered");
        assert_eq!(next(&mut gate, GET), b"answered");
        let with_body = b"PUT /a HTTP/1.1\r\nContent-Length: 1\r\n\r\nx";
        assert_eq!(next(&mut gate, with_body), with_body);
        assert_eq!(next(&mut gate, GET), GET, "the codec may be closing");
        assert_eq!(next(&mut gate, GET), b"answered");
        let two = GET.repeat(2);
        assert_eq!(next(&mut gate, &two), GET);
        assert_eq!(next(&mut gate, b""), GET, "what was held is the codec's");
        assert_eq!(next(&mut gate, GET), GET);
        assert_eq!(next(&mut gate, GET), b"answered");
    }

    #[test]
    fn while_an_answer_is_being_made_or_sent_nothing_overtakes_it() {
        let mut gate = Gate::default();
        assert_eq!(shown(&mut gate, &mut &GET[..], 64), GET);
        gate.note_flushed();
        assert_eq!(shown(&mut gate, &mut &GET[..], 64), b"", "it is being made");
        drop(gate.turn().answering());
        assert_eq!(shown(&mut gate, &mut &b""[..], 64), GET);
        drop(gate.turn().answering());
        assert_eq!(shown(&mut gate, &mut &GET[..], 64), GET, "it is being sent");
        drop(gate.turn().answering());
        gate.note_flushed();
        assert_eq!(shown(&mut gate, &mut &GET[..], 64), b"answered");
    }

    #[test]
    fn a_head_that_comes_in_pieces_is_the_codecs() {
        let mut gate = Gate::default();
        next(&mut gate, GET);
        assert_eq!(shown(&mut gate, &mut &GET[..], 9), GET);
        drop(gate.turn().answering());
        gate.note_flushed();
        assert_eq!(next(&mut gate, GET), GET);
        assert_eq!(next(&mut gate, GET), b"answered");
    }

    #[test]
    fn the_codec_sees_one_each_second() {
        let mut gate = Gate::default();
        next(&mut gate, GET);
        gate.plain_since = Instant::now().checked_sub(SHOW_EVERY);
        assert_eq!(next(&mut gate, GET), GET);
        assert_eq!(next(&mut gate, GET), b"answered");
    }

    #[test]
    fn a_body_whose_end_only_the_codec_knows_is_passed_on() {
        let odd = b"PUT /a HTTP/1.1\r\nContent-Length: five\r\n\r\nGET /a HTTP/1.1\r\n\r\n";
        let mut gate = Gate::default();
        assert_eq!(shown(&mut gate, &mut odd.as_slice(), 64), odd);
    }

    #[test]
    fn a_client_that_leaves_while_its_request_is_answered_is_noticed() {
        let mut gate = Gate::default();
        shown(&mut gate, &mut [GET, GET].concat().as_slice(), 64);
        let mut space = [0; 64];
        let mut buffer = ReadBuf::new(&mut space);
        let mut cx = Context::from_waker(Waker::noop());
        let none = |_: &mut Context<'_>, _: &mut ReadBuf<'_>| Poll::Ready(Ok(()));
        let polled = gate.poll_read(&mut cx, &mut buffer, none, |_| true);
        assert!(polled.is_ready() && buffer.filled().is_empty());
    }

    #[test]
    fn what_waits_is_bounded() {
        let mut gate = Gate::default();
        let flood = GET.repeat(10_000);
        let mut sent = flood.as_slice();
        assert_eq!(shown(&mut gate, &mut sent, 1024), GET);
        assert!(gate.held.len() < MOST_HELD + 1024);
        assert!(!sent.is_empty());
    }
}
