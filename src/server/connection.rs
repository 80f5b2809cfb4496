//! A client's connection as the HTTP codec sees it: TCP or unix socket, with a bound on silence.
//!
//! actix has no write timeout: a client that stops reading would hold its buffers, and with them a
//! file or a fill, for ever. Here a client has to take what waits for it at a least rate, or the
//! connection ends. Only the time in which bytes wait for the client counts: an answer that we are
//! slow to give is not the client's fault. This is also the place where file pieces can be handed to
//! the kernel.

use std::io::{self, IoSlice};
use std::net::SocketAddr;
use std::pin::Pin;
use std::task::{Context, Poll};

use actix_web::rt::net::{TcpStream, UnixStream};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::time::{Instant, Sleep, sleep_until};

use super::takings::Takings;
use super::turns::{Gate, Turn};

#[derive(Debug)]
enum Stream {
    Tcp(TcpStream),
    Unix(UnixStream),
}

/// One connection. Clones of nothing: dropped, the socket is closed.
#[derive(Debug)]
pub struct Connection {
    stream: Stream,
    /// Made at the first write that had to wait, then set anew for each.
    patience: Option<Pin<Box<Sleep>>>,
    takings: Takings,
    gate: Gate,
}

impl Connection {
    /// With its peer; a stream that is broken already has none.
    pub fn tcp(stream: TcpStream) -> (Self, Option<SocketAddr>) {
        let peer = stream.peer_addr().ok();
        // Answers are written in one go, but a refused option is no reason to refuse a client.
        if let Err(cause) = stream.set_nodelay(true) {
            tracing::debug!(%cause, "TCP_NODELAY refused");
        }
        (Self::over(Stream::Tcp(stream)), peer)
    }

    /// A unix socket's peer has no address.
    pub fn unix(stream: UnixStream) -> (Self, Option<SocketAddr>) {
        (Self::over(Stream::Unix(stream)), None)
    }

    fn over(stream: Stream) -> Self {
        Self {
            stream,
            patience: None,
            takings: Takings::default(),
            gate: Gate::default(),
        }
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
                self.takings.took(*bytes as u64, Instant::now());
            }
            return Poll::Ready(written);
        }
        let was_waiting = self.takings.is_waiting();
        let mut until = self.takings.waits(Instant::now());
        let patience = self
            .patience
            .get_or_insert_with(|| Box::pin(sleep_until(until)));
        if !was_waiting {
            patience.as_mut().reset(until);
        }
        while patience.as_mut().poll(cx).is_ready() {
            let now = Instant::now();
            if !self.takings.go_on(now) {
                return Poll::Ready(Err(io::ErrorKind::TimedOut.into()));
            }
            until = self.takings.waits(now);
            patience.as_mut().reset(until);
        }
        Poll::Pending
    }
}

impl AsyncRead for Connection {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let Self { stream, gate, .. } = &mut *self;
        gate.poll_read(cx, buffer, |cx, buffer| match stream {
            Stream::Tcp(stream) => Pin::new(stream).poll_read(cx, buffer),
            Stream::Unix(stream) => Pin::new(stream).poll_read(cx, buffer),
        })
    }
}

impl AsyncWrite for Connection {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        let written = match &mut self.stream {
            Stream::Tcp(stream) => Pin::new(stream).poll_write(cx, bytes),
            Stream::Unix(stream) => Pin::new(stream).poll_write(cx, bytes),
        };
        self.bounded(cx, written)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        slices: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let written = match &mut self.stream {
            Stream::Tcp(stream) => Pin::new(stream).poll_write_vectored(cx, slices),
            Stream::Unix(stream) => Pin::new(stream).poll_write_vectored(cx, slices),
        };
        self.bounded(cx, written)
    }

    fn is_write_vectored(&self) -> bool {
        match &self.stream {
            Stream::Tcp(stream) => stream.is_write_vectored(),
            Stream::Unix(stream) => stream.is_write_vectored(),
        }
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match &mut self.stream {
            Stream::Tcp(stream) => Pin::new(stream).poll_flush(cx),
            Stream::Unix(stream) => Pin::new(stream).poll_flush(cx),
        }
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match &mut self.stream {
            Stream::Tcp(stream) => Pin::new(stream).poll_shutdown(cx),
            Stream::Unix(stream) => Pin::new(stream).poll_shutdown(cx),
        }
    }
}
