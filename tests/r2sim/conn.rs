//! One TCP connection that can be made to misbehave at an exact byte.
//!
//! hyper asks its connection to flush only once everything it was given has been written, so that is
//! where a cut or a surplus takes effect: every byte handed over before has left, none after.

use std::io;
use std::pin::Pin;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll, ready};

use bytes::{Buf, Bytes};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::TcpStream;

/// What the connection shall do, shared with whoever answers its requests.
#[derive(Default)]
pub struct Wire(Mutex<Orders>);

#[derive(Default)]
struct Orders {
    ending: Option<Ending>,
    surplus: Bytes,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Ending {
    Cut,
    Reset,
}

impl Wire {
    /// Closes the connection after what has been handed over so far.
    pub fn cut(&self) {
        self.orders().ending.get_or_insert(Ending::Cut);
    }

    pub fn is_cut(&self) -> bool {
        self.orders().ending.is_some()
    }

    /// Makes the close, whenever it comes, a TCP reset.
    pub fn reset(&self) {
        self.orders().ending = Some(Ending::Reset);
    }

    /// Sends these bytes after what has been handed over so far, unknown to HTTP.
    pub fn add(&self, surplus: Bytes) {
        self.orders().surplus = surplus;
    }

    fn orders(&self) -> MutexGuard<'_, Orders> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

pub struct Conn {
    socket: TcpStream,
    wire: Arc<Wire>,
}

impl Conn {
    pub fn new(socket: TcpStream, wire: Arc<Wire>) -> Self {
        Self { socket, wire }
    }
}

impl AsyncRead for Conn {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        Pin::new(&mut self.socket).poll_read(cx, buf)
    }
}

impl AsyncWrite for Conn {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.socket).poll_write(cx, bytes)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        slices: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.socket).poll_write_vectored(cx, slices)
    }

    fn is_write_vectored(&self) -> bool {
        self.socket.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let Self { socket, wire } = &mut *self;
        let mut orders = wire.orders();
        while !orders.surplus.is_empty() {
            let count = ready!(Pin::new(&mut *socket).poll_write(cx, &orders.surplus))?;
            orders.surplus.advance(count);
        }
        if orders.ending.is_some() {
            return Poll::Ready(Err(io::ErrorKind::BrokenPipe.into()));
        }
        Pin::new(socket).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.socket).poll_shutdown(cx)
    }
}

impl Drop for Conn {
    fn drop(&mut self) {
        let reset = self.wire.orders().ending == Some(Ending::Reset);
        if reset && let Err(error) = self.socket.set_zero_linger() {
            tracing::warn!(%error, "closed a connection that was to be reset");
        }
    }
}
