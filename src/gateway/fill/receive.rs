//! From the bucket's connections into the file, telling readers as it grows.
//!
//! The network is read by async tasks and the disk is written by one blocking thread, with a short
//! channel between: hashing and writing one chunk overlaps with receiving the next. A NAR above
//! `bucket.parallel_above` is read over several connections at once, since over a long line one
//! carries no more than its window each round trip; its chunks come out of order, and readers still
//! see what lies before the first gap.

use std::sync::{Arc, Mutex};

use bytes::Bytes;
use futures_util::future::{try_join, try_join_all};
use tokio::sync::mpsc;

use crate::nix::key::ObjectKey;
use crate::origin::{OriginError, Tries};
use crate::range::ByteRange;
use crate::tier::disk::BlobWriter;

use super::super::Gateway;
use super::super::error::GatewayError;
use super::super::progress::Event;
use super::super::source::{Source, Version};
use super::Fill;
use super::journey::join;
use super::parts::Parts;

/// Chunks between each connection and the disk; the S3 client's are 16–64 KiB, so well under 1 MiB.
const CHUNKS_IN_FLIGHT: usize = 8;

/// A fill tells its readers of progress at least each so many bytes, so that hundreds of readers
/// are not woken for each packet.
const NEWS_EVERY: u64 = 256 * 1024;

/// How NARs are fetched in parts.
#[derive(Debug, Clone, Copy)]
pub struct Parallel {
    /// In bytes: only larger ones are.
    pub above: u64,
    /// Of one NAR, at once.
    pub parts: usize,
}

/// Bytes and their place in the NAR.
struct Placed {
    at: u64,
    bytes: Bytes,
}

/// Why nothing more is read.
enum Stop {
    Origin(GatewayError),
    /// The writer has ended and knows why.
    Writer,
}

/// Moves the body into the file. On success all of it is there and hashed.
pub async fn receive(
    gateway: &Arc<Gateway>,
    fill: &Arc<Fill>,
    source: Source,
    writer: BlobWriter,
) -> Result<BlobWriter, GatewayError> {
    let Parallel { above, parts } = gateway.parallel;
    let version = source.version().clone();
    let connections = match version.etag {
        Some(_) if version.len > above => parts,
        _ => 1,
    };
    let (chunks, arriving) = mpsc::channel(CHUNKS_IN_FLIGHT * connections);
    let (filling, len) = (Arc::clone(fill), version.len);
    let writing = tokio::task::spawn_blocking(move || write_all(&filling, arriving, writer, len));
    let reading = Reading {
        gateway,
        key: fill.key.object(),
        parts: Mutex::new(match connections {
            1 => Parts::one(version.len),
            several => Parts::among(version.len, several as u64),
        }),
        version,
        chunks,
    };
    let read = reading.all(source, connections).await;
    drop(reading);
    let written = join(fill, writing.await)?;
    match (read, written) {
        (Err(Stop::Origin(cause)), _) => Err(cause),
        (_, Ok(writer)) => Ok(writer),
        (_, Err(why)) => Err(GatewayError::Disk {
            key: fill.key.object().clone(),
            why: Arc::new(why),
        }),
    }
}

/// What the connections of one fill share.
struct Reading<'a> {
    gateway: &'a Arc<Gateway>,
    key: &'a ObjectKey,
    version: Version,
    parts: Mutex<Parts>,
    chunks: mpsc::Sender<Placed>,
}

impl Reading<'_> {
    /// Reads every part. What fails for one fails for all.
    async fn all(&self, first: Source, connections: usize) -> Result<(), Stop> {
        let Some(part) = self.take() else {
            return Ok(()); // An empty NAR.
        };
        let helpers = (1..connections).map(|_| self.help());
        try_join(self.lead(first, part), try_join_all(helpers)).await?;
        // A helper may have given up, and given its part back, when the lead had ended.
        self.rest().await
    }

    /// Reads on with the body that told us what there is, up to the end of its part, and then part
    /// after part: whatever becomes of the helpers, this goes on to the end.
    async fn lead(&self, mut first: Source, part: ByteRange) -> Result<(), Stop> {
        first.end_at(part.end());
        self.pump(first).await?;
        self.rest().await
    }

    /// Reads part after part that nobody has taken.
    async fn rest(&self) -> Result<(), Stop> {
        while let Some(part) = self.take() {
            self.pump(self.source(part)).await?;
        }
        Ok(())
    }

    /// Reads parts over a connection more, as long as one is to be had: a helper never takes the
    /// bucket's last free slot from others by waiting for it again and again.
    async fn help(&self) -> Result<(), Stop> {
        while let Some(part) = self.take() {
            let mut source = self.source(part);
            match source.begin(Tries::One).await {
                Err(GatewayError::Origin(cause)) if matches!(*cause, OriginError::Busy { .. }) => {
                    self.parts().give_back(part);
                    return Ok(());
                }
                // What another try may mend is tried again while reading.
                Ok(()) | Err(GatewayError::Origin(_)) => self.pump(source).await?,
                Err(cause) => return Err(Stop::Origin(cause)),
            }
        }
        Ok(())
    }

    async fn pump(&self, mut source: Source) -> Result<(), Stop> {
        loop {
            let at = source.at();
            let Some(bytes) = source.chunk().await.map_err(Stop::Origin)? else {
                return Ok(());
            };
            let placed = Placed { at, bytes };
            if self.chunks.send(placed).await.is_err() {
                return Err(Stop::Writer);
            }
        }
    }

    fn source(&self, part: ByteRange) -> Source {
        Source::of(self.gateway, self.key, &self.version, part)
    }

    fn take(&self) -> Option<ByteRange> {
        self.parts().take()
    }

    fn parts(&self) -> std::sync::MutexGuard<'_, Parts> {
        self.parts.lock().expect("no panic under this lock")
    }
}

fn write_all(
    fill: &Fill,
    mut arriving: mpsc::Receiver<Placed>,
    mut writer: BlobWriter,
    len: u64,
) -> std::io::Result<BlobWriter> {
    while let Some(placed) = arriving.blocking_recv() {
        let (before, mut taken) = (writer.written(), 0);
        let mut next = Some(placed);
        while let Some(Placed { at, bytes }) = next {
            writer.write_at(at, &bytes)?;
            taken += bytes.len() as u64;
            next = if taken < NEWS_EVERY {
                arriving.try_recv().ok()
            } else {
                None
            };
        }
        let news = writer.written() - before;
        if news > 0 {
            fill.note(Event::Chunk { len: news });
        }
    }
    if writer.written() == len {
        writer.hash_rest()?;
    }
    Ok(writer)
}
