//! What uploads may take together, and which NARs the bucket was seen to hold.

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::time::{Instant, timeout_at};

use super::super::error::UploadError;
use super::body::CHUNKS_IN_FLIGHT;
use super::turns::Turns;
use crate::tier::memory::Notes;

/// Of NARs that the disk has no room for, all together at most so many bytes are in memory.
const NARS: u64 = 256 << 20;

/// The same of documents, which are always held in memory. Apart from the NARs, since a narinfo that
/// waits for the end of somebody's gigabytes would be refused.
const DOCUMENTS: u64 = 96 << 20;

/// Uploads at once. A farm's builders send one for each core; the rest wait before their bodies.
const AT_ONCE: usize = 256;

/// On their way to a disk, an upload's bytes pass two short lines of chunks of at most 32 KiB.
const ON_THE_WAY: u64 = 2 * CHUNKS_IN_FLIGHT as u64 * (32 << 10);

/// Bytes of memory that uploads take at most.
pub const MEMORY: u64 = NARS + DOCUMENTS + AT_ONCE as u64 * ON_THE_WAY;

/// For so long a NAR that the bucket was seen to hold counts as there when its narinfo arrives.
const PRESENCE_TTL: Duration = Duration::from_secs(600);

/// NARs remembered so; about 150 bytes each.
const MAX_PRESENT: u64 = 100_000;

#[derive(Debug)]
pub struct Room {
    nars: Arc<Semaphore>,
    documents: Arc<Semaphore>,
    at_once: Arc<Semaphore>,
    pub turns: Turns,
    /// NARs by key, with their length.
    pub present: Notes<u64>,
}

impl Default for Room {
    fn default() -> Self {
        Self {
            nars: Arc::new(Semaphore::new(NARS as usize)),
            documents: Arc::new(Semaphore::new(DOCUMENTS as usize)),
            at_once: Arc::new(Semaphore::new(AT_ONCE)),
            turns: Turns::default(),
            present: Notes::new(MAX_PRESENT, Some(PRESENCE_TTL)),
        }
    }
}

impl Room {
    /// Leave to be one of the uploads under way, if it can be had by then.
    pub async fn enter(&self, until: Instant) -> Result<OwnedSemaphorePermit, UploadError> {
        take(&self.at_once, 1, until).await
    }

    /// Memory for `bytes` of a NAR. Errors: more than there ever is, or none came free by then.
    pub async fn for_nar(
        &self,
        bytes: u64,
        until: Instant,
    ) -> Result<OwnedSemaphorePermit, UploadError> {
        limited(&self.nars, NARS, bytes, until).await
    }

    /// Memory for `bytes` of a document. Errors: as of a NAR.
    pub async fn for_document(
        &self,
        bytes: u64,
        until: Instant,
    ) -> Result<OwnedSemaphorePermit, UploadError> {
        limited(&self.documents, DOCUMENTS, bytes, until).await
    }
}

/// `bytes` of a room that has `most`.
async fn limited(
    room: &Arc<Semaphore>,
    most: u64,
    bytes: u64,
    until: Instant,
) -> Result<OwnedSemaphorePermit, UploadError> {
    if bytes > most {
        return Err(UploadError::NoRoom);
    }
    take(room, bytes as u32, until).await
}

async fn take(
    from: &Arc<Semaphore>,
    permits: u32,
    until: Instant,
) -> Result<OwnedSemaphorePermit, UploadError> {
    match timeout_at(until, Arc::clone(from).acquire_many_owned(permits)).await {
        Ok(Ok(permit)) => Ok(permit),
        Ok(Err(_)) | Err(_) => Err(UploadError::Busy),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn nars_that_take_all_their_memory_leave_documents_theirs() {
        let (room, at_once) = (Room::default(), Instant::now());
        let all = room.for_nar(NARS, at_once).await.unwrap();
        assert!(matches!(
            room.for_nar(1, at_once).await,
            Err(UploadError::Busy)
        ));
        assert!(room.for_document(1 << 20, at_once).await.is_ok());
        drop(all);
        assert!(room.for_nar(1, at_once).await.is_ok());
    }

    #[tokio::test]
    async fn what_never_fits_is_not_waited_for() {
        let room = Room::default();
        let long = Instant::now() + Duration::from_secs(3600);
        for refused in [
            room.for_nar(NARS + 1, long).await,
            room.for_document(DOCUMENTS + 1, long).await,
        ] {
            assert!(matches!(refused, Err(UploadError::NoRoom)));
        }
    }
}
