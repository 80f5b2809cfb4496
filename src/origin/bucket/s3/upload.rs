//! The body of an upload, a piece at a time.
//!
//! From a file never more than one piece is in memory, and it is read by position, so that each try
//! starts at the beginning and several may run at once. What is in memory goes by pieces too: whoever
//! watches an upload then sees it move, however long a slow line takes for all of it.

use std::convert::Infallible;
use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};

use aws_sdk_s3::config::http::HttpResponse;
use aws_sdk_s3::error::SdkError;
use aws_sdk_s3::primitives::{ByteStream, SdkBody};
use bytes::Bytes;
use http_body::{Body, Frame, SizeHint};
use tokio::task::JoinHandle;

use super::super::super::ask::StoreBody;
use super::super::super::error::OriginError;
use super::super::wait::Progress;

/// Bytes read, and handed on, at once.
const PIECE: u64 = 128 * 1024;

/// What is to be stored, as the SDK takes it.
pub fn body(body: &StoreBody, progress: &Progress) -> ByteStream {
    match body {
        StoreBody::Bytes(bytes) if body.len() <= PIECE => {
            progress.add(body.len());
            ByteStream::from(bytes.clone())
        }
        StoreBody::Bytes(bytes) => ByteStream::new(SdkBody::from_body_1_x(MemoryBody {
            left: bytes.clone(),
            progress: progress.clone(),
        })),
        StoreBody::File { file, start, len } => ByteStream::new(SdkBody::from_body_1_x(FileBody {
            file: file.clone(),
            at: *start,
            end: start + len,
            reading: None,
            progress: progress.clone(),
        })),
    }
}

/// The file itself could not be read.
#[derive(Debug, thiserror::Error)]
#[error("{0}")]
struct Unreadable(io::Error);

/// Whom to blame for an upload that failed: an unreadable file is not the bucket's fault, though
/// the SDK reports both alike.
pub fn blame<E>(error: &SdkError<E, HttpResponse>, cause: OriginError) -> OriginError
where
    E: std::error::Error + 'static,
{
    let mut next: Option<&(dyn std::error::Error + 'static)> = Some(error);
    while let Some(error) = next {
        if let (Some(unreadable), OriginError::Connect { key, .. }) =
            (error.downcast_ref::<Unreadable>(), &cause)
        {
            return OriginError::BadUpload {
                key: key.clone(),
                cause: unreadable.to_string(),
            };
        }
        next = error.source();
    }
    cause
}

struct MemoryBody {
    left: Bytes,
    progress: Progress,
}

impl Body for MemoryBody {
    type Data = Bytes;
    type Error = Infallible;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        _: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Infallible>>> {
        if self.left.is_empty() {
            return Poll::Ready(None);
        }
        let size = self.left.len().min(PIECE as usize);
        let piece = self.left.split_to(size);
        self.progress.add(size as u64);
        Poll::Ready(Some(Ok(Frame::data(piece))))
    }

    fn is_end_stream(&self) -> bool {
        self.left.is_empty()
    }

    fn size_hint(&self) -> SizeHint {
        SizeHint::with_exact(self.left.len() as u64)
    }
}

struct FileBody {
    file: Arc<File>,
    at: u64,
    end: u64,
    reading: Option<JoinHandle<io::Result<Bytes>>>,
    progress: Progress,
}

impl Body for FileBody {
    type Data = Bytes;
    type Error = Box<dyn std::error::Error + Send + Sync>;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Self::Error>>> {
        if self.at == self.end {
            return Poll::Ready(None);
        }
        let (file, at) = (self.file.clone(), self.at);
        let size = PIECE.min(self.end - at) as usize;
        let reading = self.reading.get_or_insert_with(|| {
            tokio::task::spawn_blocking(move || {
                let mut piece = vec![0; size];
                file.read_exact_at(&mut piece, at)?;
                Ok(piece.into())
            })
        });
        let read = ready!(Pin::new(reading).poll(cx));
        self.reading = None;
        let piece = match read {
            Ok(Ok(piece)) => piece,
            Ok(Err(cause)) => return Poll::Ready(Some(Err(Unreadable(cause).into()))),
            Err(lost) => return Poll::Ready(Some(Err(lost.into()))),
        };
        self.at += piece.len() as u64;
        self.progress.add(piece.len() as u64);
        Poll::Ready(Some(Ok(Frame::data(piece))))
    }

    fn is_end_stream(&self) -> bool {
        self.at == self.end
    }

    fn size_hint(&self) -> SizeHint {
        SizeHint::with_exact(self.end - self.at)
    }
}
