//! An object that comes in parts, put together in a temporary file.
//!
//! Parts come in any order and each is synced when it is written, so that the last sync, for which
//! an uploader waits, has little left to do. The file gets its name as that of a whole upload does.

use std::fs::File;
use std::os::unix::fs::FileExt;
use std::sync::{Mutex, PoisonError};

use tempfile::NamedTempFile;

use super::super::super::ask::{StoreBody, StoreFacts, Stored};
use super::super::super::error::OriginError;
use super::super::wait::Progress;
use super::write::{copy, publish, temporary};
use super::{Layout, broke};

/// One upload in parts. Dropped before it is completed, nothing of it stays.
#[derive(Debug)]
pub struct Assembly {
    key: String,
    about: StoreFacts,
    file: File,
    /// `None`: completed, or failed for good in the attempt.
    named: Mutex<Option<NamedTempFile>>,
}

impl Assembly {
    /// Blocks for a moment.
    pub fn begin(layout: &Layout, key: &str, about: &StoreFacts) -> Result<Self, OriginError> {
        layout.prove()?;
        let named = temporary(layout).map_err(|cause| broke(key, cause))?;
        let file = named.as_file().try_clone();
        Ok(Self {
            key: key.to_owned(),
            about: about.clone(),
            file: file.map_err(|cause| broke(key, cause))?,
            named: Mutex::new(Some(named)),
        })
    }

    /// Writes a part to its place and to the disk. Blocks.
    pub fn write(
        &self,
        start: u64,
        body: &StoreBody,
        progress: &Progress,
    ) -> Result<(), OriginError> {
        let disk = |cause| broke(&self.key, cause);
        let mut at = start;
        copy(&self.key, body, |piece| {
            self.file.write_all_at(piece, at)?;
            at += piece.len() as u64;
            progress.add(piece.len() as u64);
            Ok(())
        })?;
        self.file.sync_data().map_err(disk)
    }

    /// Blocks until the object is there and durable. A failure is final.
    pub fn complete(&self, layout: &Layout) -> Result<Stored, OriginError> {
        let named = self.take().ok_or_else(|| OriginError::NoUpload {
            key: self.key.clone(),
        })?;
        publish(layout, &self.key, &self.about, named).map_err(|cause| broke(&self.key, cause))
    }

    /// Removes what was written. Blocks for a moment.
    pub fn abort(&self) {
        drop(self.take());
    }

    fn take(&self) -> Option<NamedTempFile> {
        let mut named = self.named.lock().unwrap_or_else(PoisonError::into_inner);
        named.take()
    }
}
