//! A client's connection as the HTTP codec sees it: TCP or unix socket, with a bound on silence.
//!
//! actix has no write timeout: a client that stops reading would hold its buffers, and with them a
//! file or a fill, for ever. Here a client has to take what waits for it at a least rate, or the
//! connection ends. Only the time in which bytes wait for the client counts: an answer that we are
//! slow to give is not the client's fault. How long a head may take actix bounds for the first one
//! alone; for those after it that is done here, too.
//!
//! This is also the place where files are handed to the kernel. The codec writes an answer's head here
//! and then flushes; a body of pieces has by then left them in the [`Outbox`], and what is in there is
//! sent as part of the flush (`h1/dispatcher.rs`, 3.20.x: whenever a body is pending, what it has
//! written is flushed, and a flush that is pending is tried again when its task wakes).

use std::io::{self, IoSlice};
use std::net::{IpAddr, SocketAddr};
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll, ready};

use actix_web::rt::net::{TcpStream, UnixStream};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::time::{Instant, Sleep, sleep_until};

use super::gate::{Gate, HEAD_PATIENCE, Read};
use super::stream::Stream;
use super::turn::Turn;
use super::warmth::{self, Warmth};
use crate::body::{Outbox, Piece};
use crate::http::Desk;
use crate::http::prompt::Rest;
use crate::pace::Pace;

/// Bytes of a body that are sent before the worker's other connections have their turn.
const AT_ONCE: u64 = 1 << 20;

/// Bytes that the kernel takes of an answer beyond what it may send at once (ip-sysctl,
/// `tcp_notsent_lowat`). By itself it takes 4 MiB for each connection: what waits for clients that do
/// not read is then gigabytes, and of many large answers none is in the processor's cache any more
/// when it leaves. A worker is woken at half of it, 0.2 ms before a line of 10 Gbit/s has nothing left.
const UNSENT: u32 = 512 * 1024;

/// Bytes of a file that are copied and sent with their head. 64 KiB cost 71 µs so and 115 with a
/// `sendfile` of their own; a MiB costs less by `sendfile`.
const COPIED: usize = 128 * 1024;

/// Requests that are answered past the codec before the worker's other connections have their turn.
const ANSWERS_AT_ONCE: usize = 16;

/// One connection. Clones of nothing: dropped, the socket is closed.
#[derive(Debug)]
pub struct Connection {
    stream: Stream,
    /// Made at the first write that had to wait, then set anew for each.
    patience: Option<Pin<Box<Sleep>>>,
    pace: Pace,
    gate: Gate,
    /// Made at the first head that came in pieces.
    lateness: Option<Pin<Box<Sleep>>>,
    outbox: Outbox,
    warmth: Warmth,
    /// Who answers what is at hand; nobody where kept connections are not wanted.
    desk: Option<Rc<Desk>>,
    /// `None`: a unix socket's.
    peer: Option<IpAddr>,
    /// Of an answer that the codec knows nothing of, what the client has yet to take. Idle connections
    /// are many, and have none.
    rest: Option<Box<Rest>>,
    /// The client will send nothing more, which we take for its having left.
    has_left: bool,
}

impl Connection {
    /// With its peer; a stream that is broken already has none.
    pub fn tcp(stream: TcpStream, desk: Option<Rc<Desk>>) -> (Self, Option<SocketAddr>) {
        let peer = stream.peer_addr().ok();
        // A refused option is no reason to refuse a client.
        if let Err(cause) = tune(&stream) {
            tracing::debug!(%cause, "an option of a connection's socket was refused");
        }
        let from = peer.map(|peer| peer.ip());
        (Self::over(Stream::Tcp(stream), desk, from), peer)
    }

    /// A unix socket's peer has no address.
    pub fn unix(stream: UnixStream, desk: Option<Rc<Desk>>) -> (Self, Option<SocketAddr>) {
        (Self::over(Stream::Unix(stream), desk, None), None)
    }

    fn over(stream: Stream, desk: Option<Rc<Desk>>, peer: Option<IpAddr>) -> Self {
        Self {
            stream,
            patience: None,
            pace: Pace::default(),
            gate: Gate::default(),
            lateness: None,
            outbox: Outbox::default(),
            warmth: Warmth::default(),
            desk,
            peer,
            rest: None,
            has_left: false,
        }
    }

    /// Where bodies leave what they want to be sent.
    pub fn outbox(&self) -> Outbox {
        self.outbox.clone()
    }

    /// Whose turn it is on this connection.
    pub fn turn(&self) -> Turn {
        self.gate.turn()
    }

    /// Bounds how long writes wait, whichever kind of write it was.
    fn bounded(
        &mut self,
        cx: &mut Context<'_>,
        written: Poll<io::Result<usize>>,
    ) -> Poll<io::Result<usize>> {
        if let Poll::Ready(written) = written {
            if let Ok(bytes) = &written {
                self.pace.moved(*bytes as u64, Instant::now());
            }
            return Poll::Ready(written);
        }
        let was_waiting = self.pace.is_waiting();
        let mut until = self.pace.waits(Instant::now());
        let patience = self
            .patience
            .get_or_insert_with(|| Box::pin(sleep_until(until)));
        if !was_waiting {
            patience.as_mut().reset(until);
        }
        while patience.as_mut().poll(cx).is_ready() {
            let now = Instant::now();
            if !self.pace.go_on(now) {
                return Poll::Ready(Err(io::ErrorKind::TimedOut.into()));
            }
            until = self.pace.waits(now);
            patience.as_mut().reset(until);
        }
        Poll::Pending
    }
}

/// Answers are written in one go; large ones no further ahead of the network than [`UNSENT`].
fn tune(stream: &TcpStream) -> io::Result<()> {
    stream.set_nodelay(true)?;
    socket2::SockRef::from(stream).set_tcp_notsent_lowat(UNSENT)
}

impl Connection {
    /// Reads what is for the codec, or answers a request that is not.
    fn poll_through(
        &mut self,
        cx: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<Read>> {
        let Self {
            stream,
            gate,
            desk,
            peer,
            pace,
            ..
        } = self;
        let mut answer = None;
        let read = gate.poll_read(
            cx,
            buffer,
            |cx, buffer| Pin::new(&mut *stream).poll_read(cx, buffer),
            |plain| {
                answer = desk.as_ref().and_then(|desk| desk.prompt(plain, *peer));
                answer.is_some()
            },
        );
        if let Some(answer) = answer {
            let sent = stream.poll_send_both(cx, answer.slices());
            let taken = match &sent {
                Poll::Ready(Ok(sent)) => *sent,
                Poll::Ready(Err(_)) | Poll::Pending => 0,
            };
            pace.moved(taken as u64, Instant::now());
            self.rest = answer.after(taken);
            if let Poll::Ready(Err(cause)) = sent {
                return Poll::Ready(Err(cause));
            }
        }
        read
    }

    /// Ends when the head that is coming is late. Nothing is said to the client, which is in the midst of
    /// its own words.
    fn poll_late(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let Some(since) = self.gate.head_comes_since() else {
            return Poll::Pending;
        };
        let until = Instant::from_std(since) + HEAD_PATIENCE;
        let lateness = self
            .lateness
            .get_or_insert_with(|| Box::pin(sleep_until(until)));
        if lateness.deadline() != until {
            lateness.as_mut().reset(until);
        }
        lateness
            .as_mut()
            .poll(cx)
            .map(|()| Err(io::ErrorKind::TimedOut.into()))
    }

    /// Sends what is left of an answer that the codec knows nothing of.
    fn poll_rest(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        while let Some(mut rest) = self.rest.take() {
            let sent = Pin::new(&mut self.stream).poll_write(cx, rest.next());
            let sent = self.bounded(cx, sent);
            if let Poll::Ready(Ok(sent)) = sent {
                rest.advance(sent);
            }
            self.rest = Some(rest).filter(|rest| !rest.next().is_empty());
            if ready!(sent)? == 0 {
                return Poll::Ready(Err(io::ErrorKind::WriteZero.into()));
            }
        }
        Poll::Ready(Ok(()))
    }

    /// The piece that can be sent now, with no more of it than is in memory. `None`: all is sent.
    fn poll_front(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<Option<Piece>>> {
        let Some(mut parcel) = self.outbox.parcel() else {
            return Poll::Ready(Ok(None));
        };
        let front = ready!(parcel.poll_front(cx)).map_err(io::Error::other)?;
        Poll::Ready(Ok(match front {
            Some(Piece::File { file, start, len }) => {
                let len = ready!(self.warmth.poll(cx, file, *start, *len))?;
                Some(Piece::File {
                    file: file.clone(),
                    start: *start,
                    len,
                })
            }
            other => other.cloned(),
        }))
    }

    /// Sends a head together with the beginning of its body, where that can be had at once. How many
    /// bytes of both.
    fn poll_begin(&mut self, cx: &mut Context<'_>, head: &[u8]) -> Poll<io::Result<usize>> {
        if let Some(sent) = self.poll_copied(cx, head) {
            return sent;
        }
        match self.poll_front(cx) {
            Poll::Ready(Ok(Some(front))) => self.stream.poll_send_before(cx, head, &front),
            Poll::Ready(Err(cause)) => Poll::Ready(Err(cause)),
            Poll::Ready(Ok(None)) | Poll::Pending => {
                Pin::new(&mut self.stream).poll_write(cx, head)
            }
        }
    }

    /// The same of a body that begins with a short stretch of a file. `None`: it does not, or not in
    /// memory.
    fn poll_copied(
        &mut self,
        cx: &mut Context<'_>,
        head: &[u8],
    ) -> Option<Poll<io::Result<usize>>> {
        let mut parcel = self.outbox.parcel()?;
        let (file, start, len) = match parcel.poll_front(cx) {
            Poll::Ready(Ok(Some(Piece::File { file, start, len }))) => (file, start, len),
            Poll::Ready(Err(cause)) => return Some(Poll::Ready(Err(io::Error::other(cause)))),
            Poll::Ready(Ok(_)) | Poll::Pending => return None,
        };
        let len = usize::try_from(*len).ok().filter(|len| *len <= COPIED)?;
        let stream = &mut self.stream;
        if stream.poll_writable(cx).is_pending() {
            return Some(Poll::Pending);
        }
        warmth::read_at_once(file, *start, len, |bytes| {
            stream.poll_send_both(cx, [IoSlice::new(head), IoSlice::new(bytes)])
        })
    }

    /// Sends what is in the outbox. Errors: a body cannot be completed, or its client is not there.
    fn poll_outbox(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        if self.has_left {
            return Poll::Ready(Err(io::ErrorKind::BrokenPipe.into()));
        }
        let mut left = AT_ONCE;
        while let Some(piece) = ready!(self.poll_front(cx))? {
            if left == 0 {
                cx.waker().wake_by_ref();
                return Poll::Pending;
            }
            let sent = self.stream.poll_send(cx, &piece, left);
            let sent = ready!(self.bounded(cx, sent))? as u64;
            if sent == 0 {
                return Poll::Ready(Err(io::ErrorKind::UnexpectedEof.into()));
            }
            self.outbox.note_sent(sent);
            left = left.saturating_sub(sent);
        }
        self.outbox.clear();
        self.warmth = Warmth::default();
        // The body is polled once more, and so comes to its end.
        cx.waker().wake_by_ref();
        Poll::Ready(Ok(()))
    }
}

impl AsyncRead for Connection {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let before = buffer.filled().len();
        for _ in 0..ANSWERS_AT_ONCE {
            ready!(self.poll_rest(cx))?;
            let Poll::Ready(read) = self.poll_through(cx, buffer) else {
                return self.poll_late(cx);
            };
            if read? == Read::Through {
                self.has_left |= buffer.filled().len() == before;
                return Poll::Ready(Ok(()));
            }
        }
        cx.waker().wake_by_ref();
        Poll::Pending
    }
}

impl AsyncWrite for Connection {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        head: &[u8],
    ) -> Poll<io::Result<usize>> {
        ready!(self.poll_rest(cx))?;
        let written = match self.outbox.is_empty() {
            true => Pin::new(&mut self.stream).poll_write(cx, head),
            false => self.poll_begin(cx, head),
        };
        let written = ready!(self.bounded(cx, written))?;
        let of_body = written.saturating_sub(head.len());
        if of_body > 0 {
            self.outbox.note_sent(of_body as u64);
        }
        Poll::Ready(Ok(written - of_body))
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        ready!(self.poll_rest(cx))?;
        if !self.outbox.is_empty() {
            ready!(self.poll_outbox(cx))?;
        }
        self.gate.note_flushed();
        Pin::new(&mut self.stream).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(cx)
    }
}
