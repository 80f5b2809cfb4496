//! An upload's body on its way from the client's connection, with its deadlines and its length.
//!
//! A Nix before 2.33.2 cannot send a body twice: its retry announces the whole, sends nothing or
//! the tail, and then waits for minutes. So whoever may be one gets a few seconds of silence, and
//! nobody gets more bytes in than were announced (`design.md` §10.8). Whoever drips gets no further
//! than whoever reads so.

use std::time::Duration;

use bytes::{Bytes, BytesMut};
use prometheus::IntCounter;
use tokio::sync::{mpsc, oneshot};
use tokio::time::{Instant, timeout_at};

use super::super::error::UploadError;
use crate::pace::Pace;

/// Chunks between the client's connection and whoever takes them; actix hands out at most 32 KiB
/// at once.
pub const CHUNKS_IN_FLIGHT: usize = 8;

/// The longest silence of a client that cannot repeat an upload, in a body and before it.
const BROKEN_RETRY: Duration = Duration::from_secs(4);

/// What comes over the channel. A channel that ends without [`Piece::End`] is a body that broke off.
#[derive(Debug)]
pub enum Piece {
    Chunk(Bytes),
    End,
}

/// The longest silence that is borne.
pub fn patience(configured: Duration, rewinds: bool) -> Duration {
    if rewinds {
        configured
    } else {
        configured.min(BROKEN_RETRY)
    }
}

/// Held by whoever sends the body for as long as it may still come. Dropped, its client is gone.
#[derive(Debug)]
pub struct Sender(#[expect(dead_code, reason = "its end is its word")] oneshot::Sender<()>);

#[derive(Debug)]
pub struct Body {
    arriving: mpsc::Receiver<Piece>,
    sender: oneshot::Receiver<()>,
    want: u64,
    got: u64,
    patience: Duration,
    pace: Pace,
    received: IntCounter,
}

impl Body {
    /// Of `want` bytes. `received` counts them.
    pub fn new(
        arriving: mpsc::Receiver<Piece>,
        want: u64,
        patience: Duration,
        received: IntCounter,
    ) -> (Self, Sender) {
        let (here, sender) = oneshot::channel();
        let body = Self {
            arriving,
            sender,
            want,
            got: 0,
            patience,
            pace: Pace::default(),
            received,
        };
        (body, Sender(here))
    }

    /// The announced length, in bytes.
    pub fn len(&self) -> u64 {
        self.want
    }

    /// The next bytes; `None`: all that were announced have come, and no more.
    pub async fn next(&mut self) -> Result<Option<Bytes>, UploadError> {
        let arrived = self.arrive().await?;
        let (got, want) = (self.got, self.want);
        match arrived {
            Some(Piece::Chunk(chunk)) => {
                self.got += chunk.len() as u64;
                self.received.inc_by(chunk.len() as u64);
                if self.got > want {
                    return Err(UploadError::Cut {
                        got: self.got,
                        want,
                    });
                }
                Ok(Some(chunk))
            }
            Some(Piece::End) if got == want => Ok(None),
            Some(Piece::End) | None => Err(UploadError::Cut { got, want }),
        }
    }

    /// What comes next, for whose client we wait no longer than it may be silent or slow.
    async fn arrive(&mut self) -> Result<Option<Piece>, UploadError> {
        let silent_until = Instant::now() + self.patience;
        loop {
            let slow_until = self.pace.waits(Instant::now());
            let until = silent_until.min(slow_until);
            match timeout_at(until, self.arriving.recv()).await {
                Ok(arrived) => {
                    let bytes = match &arrived {
                        Some(Piece::Chunk(chunk)) => chunk.len() as u64,
                        Some(Piece::End) | None => 0,
                    };
                    self.pace.moved(bytes, Instant::now());
                    return Ok(arrived);
                }
                Err(_) if until == silent_until => return Err(UploadError::Idle(self.patience)),
                Err(_) if self.pace.go_on(Instant::now()) => {}
                Err(_) => return Err(UploadError::Slow),
            }
        }
    }

    /// Waits for something else than bytes, unless the client goes meanwhile: nobody would notice that
    /// by the bytes, which are not looked at.
    pub async fn unless_gone<T>(
        &mut self,
        waiting: impl Future<Output = T>,
    ) -> Result<T, UploadError> {
        tokio::select! {
            biased;
            done = waiting => Ok(done),
            _ = &mut self.sender => Err(UploadError::Cut {
                got: self.got,
                want: self.want,
            }),
        }
    }

    /// All of it. The caller has seen to the memory.
    pub async fn collect(mut self) -> Result<Bytes, UploadError> {
        let mut bytes = BytesMut::with_capacity(self.want as usize);
        while let Some(chunk) = self.next().await? {
            bytes.extend_from_slice(&chunk);
        }
        Ok(bytes.freeze())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    async fn body_of(want: u64, pieces: Vec<Piece>) -> Result<Bytes, UploadError> {
        let (sender, arriving) = mpsc::channel(pieces.len().max(1));
        for piece in pieces {
            sender.try_send(piece).unwrap();
        }
        drop(sender);
        let received = IntCounter::new("received", "bytes").unwrap();
        let (body, _sender) = Body::new(arriving, want, Duration::from_secs(20), received);
        body.collect().await
    }

    fn chunk(text: &'static str) -> Piece {
        Piece::Chunk(Bytes::from_static(text.as_bytes()))
    }

    #[tokio::test]
    async fn a_body_is_whole_only_with_its_length_and_its_end() {
        let whole = body_of(6, vec![chunk("abc"), chunk("def"), Piece::End]).await;
        assert_eq!(whole.unwrap(), "abcdef");
        for pieces in [
            vec![chunk("abcdef")],
            vec![chunk("abc"), Piece::End],
            vec![chunk("abcdef"), chunk("g"), Piece::End],
            vec![],
        ] {
            let broken = body_of(6, pieces).await;
            assert!(matches!(broken, Err(UploadError::Cut { want: 6, .. })));
        }
    }

    #[tokio::test]
    async fn silence_ends_it() {
        let (_sender, arriving) = mpsc::channel(1);
        let received = IntCounter::new("received", "bytes").unwrap();
        let (body, _here) = Body::new(arriving, 6, Duration::from_millis(1), received);
        assert!(matches!(body.collect().await, Err(UploadError::Idle(_))));
    }

    /// A byte now and then is no silence.
    #[tokio::test]
    async fn a_drip_ends_it() {
        for (bytes, is_slow) in [(1_000, true), (1_000_000, false)] {
            let (pieces, arriving) = mpsc::channel(1);
            let received = IntCounter::new("received", "bytes").unwrap();
            let patience = Duration::from_millis(200);
            let (mut body, _sender) = Body::new(arriving, u64::MAX, patience, received);
            // Waited for since nearly a minute; then these come, and nothing more.
            let since = Instant::now() - Duration::from_millis(59_950);
            body.pace.waits(since);
            let chunk = Piece::Chunk(Bytes::from(vec![0; bytes]));
            pieces.try_send(chunk).unwrap();
            assert!(body.next().await.is_ok());
            let ended = body.next().await.unwrap_err();
            assert_eq!(matches!(ended, UploadError::Slow), is_slow, "{ended}");
        }
    }

    #[tokio::test]
    async fn a_client_that_goes_ends_what_its_body_waits_for() {
        let (_pieces, arriving) = mpsc::channel(1);
        let received = IntCounter::new("received", "bytes").unwrap();
        let (mut body, sender) = Body::new(arriving, 6, Duration::from_secs(20), received);
        assert!(matches!(body.unless_gone(async { 7 }).await, Ok(7)));
        drop(sender);
        let waited = body.unless_gone(std::future::pending::<()>()).await;
        assert!(matches!(waited, Err(UploadError::Cut { got: 0, want: 6 })));
    }

    #[test]
    fn whoever_cannot_repeat_a_body_gets_four_seconds() {
        let minute = Duration::from_secs(60);
        assert_eq!(patience(minute, true), minute);
        assert_eq!(patience(minute, false), BROKEN_RETRY);
        let second = Duration::from_secs(1);
        assert_eq!(patience(second, false), second);
    }
}
