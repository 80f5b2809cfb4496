//! A client's socket, TCP or unix, and the system calls that send a body past the HTTP codec.

use std::io::{self, IoSlice};
use std::os::fd::{AsFd, BorrowedFd};
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use actix_web::rt::net::{TcpStream, UnixStream};
use rustix::fs::sendfile;
use rustix::net::{SendFlags, send};
use tokio::io::{AsyncRead, AsyncWrite, Interest, ReadBuf};

use crate::body::Piece;

#[derive(Debug)]
pub enum Stream {
    Tcp(TcpStream),
    Unix(UnixStream),
}

impl Stream {
    /// Sends at most `most` bytes of a piece; 0: its file ends before the piece does.
    pub fn poll_send(
        &mut self,
        cx: &mut Context<'_>,
        piece: &Piece,
        most: u64,
    ) -> Poll<io::Result<usize>> {
        match piece {
            Piece::Bytes(bytes) => Pin::new(self).poll_write(cx, bytes),
            Piece::File { file, start, len } => {
                let most = usize::try_from((*len).min(most)).unwrap_or(usize::MAX);
                self.poll_call(cx, |socket| {
                    sendfile(socket, file, Some(&mut start.clone()), most)
                })
            }
        }
    }

    /// Sends a head and, with the same packet, what comes behind it; or tells the kernel to wait for
    /// that, which is sent next. How many bytes of both.
    pub fn poll_send_before(
        &mut self,
        cx: &mut Context<'_>,
        head: &[u8],
        piece: &Piece,
    ) -> Poll<io::Result<usize>> {
        match piece {
            Piece::Bytes(bytes) => {
                self.poll_send_both(cx, [IoSlice::new(head), IoSlice::new(bytes)])
            }
            Piece::File { .. } => self.poll_call(cx, |socket| send(socket, head, SendFlags::MORE)),
        }
    }

    /// Sends two slices with the same packet; the second may be empty.
    pub fn poll_send_both(
        &mut self,
        cx: &mut Context<'_>,
        both: [IoSlice<'_>; 2],
    ) -> Poll<io::Result<usize>> {
        match &both {
            [head, body] if body.is_empty() => Pin::new(self).poll_write(cx, head),
            both => Pin::new(self).poll_write_vectored(cx, both),
        }
    }

    /// Whether the socket takes bytes, as far as is known.
    pub fn poll_writable(&self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match self {
            Self::Tcp(stream) => stream.poll_write_ready(cx),
            Self::Unix(stream) => stream.poll_write_ready(cx),
        }
    }

    /// Makes a system call once the socket takes bytes, and again when it did not after all.
    fn poll_call(
        &self,
        cx: &mut Context<'_>,
        call: impl Fn(BorrowedFd<'_>) -> rustix::io::Result<usize>,
    ) -> Poll<io::Result<usize>> {
        loop {
            ready!(self.poll_writable(cx))?;
            let called = match self {
                Self::Tcp(stream) => {
                    stream.try_io(Interest::WRITABLE, || Ok(call(stream.as_fd())?))
                }
                Self::Unix(stream) => {
                    stream.try_io(Interest::WRITABLE, || Ok(call(stream.as_fd())?))
                }
            };
            match called {
                Err(cause)
                    if matches!(
                        cause.kind(),
                        io::ErrorKind::WouldBlock | io::ErrorKind::Interrupted
                    ) => {}
                called => return Poll::Ready(called),
            }
        }
    }
}

impl AsyncRead for Stream {
    fn poll_read(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        match self.get_mut() {
            Self::Tcp(stream) => Pin::new(stream).poll_read(cx, buffer),
            Self::Unix(stream) => Pin::new(stream).poll_read(cx, buffer),
        }
    }
}

impl AsyncWrite for Stream {
    fn poll_write(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        match self.get_mut() {
            Self::Tcp(stream) => Pin::new(stream).poll_write(cx, bytes),
            Self::Unix(stream) => Pin::new(stream).poll_write(cx, bytes),
        }
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        slices: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        match self.get_mut() {
            Self::Tcp(stream) => Pin::new(stream).poll_write_vectored(cx, slices),
            Self::Unix(stream) => Pin::new(stream).poll_write_vectored(cx, slices),
        }
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match self.get_mut() {
            Self::Tcp(stream) => Pin::new(stream).poll_flush(cx),
            Self::Unix(stream) => Pin::new(stream).poll_flush(cx),
        }
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match self.get_mut() {
            Self::Tcp(stream) => Pin::new(stream).poll_shutdown(cx),
            Self::Unix(stream) => Pin::new(stream).poll_shutdown(cx),
        }
    }
}
