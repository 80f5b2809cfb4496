//! The bytes of an answer on their way to a client, as pieces: memory, or a stretch of a file.
//!
//! A piece of a file says "these bytes of that file" and carries none of them, so the connection
//! may hand them to the kernel unread: it takes them out of the [`Outbox`]. Where there is none,
//! [`Reading`] turns pieces into bytes.

mod outbox;
mod reading;

use std::fs::File;
use std::sync::Arc;

use bytes::Bytes;
use futures_util::stream::BoxStream;

pub use outbox::{Outbox, Parcel};
pub use reading::Reading;

/// Some of the bytes of a body, in order.
#[derive(Debug, Clone)]
pub enum Piece {
    Bytes(Bytes),
    /// `len` bytes of `file` from `start`; they are there when the piece is made.
    File {
        file: Arc<File>,
        start: u64,
        len: u64,
    },
}

impl Piece {
    /// Bytes in it.
    pub fn len(&self) -> u64 {
        match self {
            Self::Bytes(bytes) => bytes.len() as u64,
            Self::File { len, .. } => *len,
        }
    }

    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }
}

/// Why a body ended before its length: the connection must then be cut, never ended cleanly.
#[derive(Debug, Clone, thiserror::Error)]
pub enum BodyError {
    #[error("reading the cached file: {0}")]
    Read(Arc<std::io::Error>),
    #[error("the cached file is shorter than its index says")]
    Short,
    #[error("more bytes came than were promised")]
    Long,
    #[error("{0}")]
    Source(String),
}

/// A body as it is made, piece by piece.
pub type Pieces = BoxStream<'static, Result<Piece, BodyError>>;

/// A body that is in memory already.
pub fn memory_pieces(bytes: Bytes) -> Pieces {
    let piece = (!bytes.is_empty()).then_some(Ok(Piece::Bytes(bytes)));
    Box::pin(futures_util::stream::iter(piece))
}

/// A body of which every piece is in one file already.
pub fn file_pieces(file: Arc<File>, start: u64, len: u64) -> Pieces {
    let piece = Piece::File { file, start, len };
    Box::pin(futures_util::stream::iter((len > 0).then_some(Ok(piece))))
}
