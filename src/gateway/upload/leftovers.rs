//! Uploads in parts that nobody ended: found and aborted, since the bucket keeps and charges for
//! parts that make no object.
//!
//! Which of them are ours? Those that a process over this disk noted and did not erase: they are
//! aborted at the start, whatever their age. And, where no note was left (a power cut, a lost disk),
//! those below our prefix, under the key of a NAR, that are a day old: nothing here uploads for a
//! day, and what other programs have in the bucket for so long is as dead. Younger ones may be
//! another gateway's, and are left alone.

use std::sync::Arc;
use std::time::Duration;

use super::super::Gateway;
use crate::nix::key::Key;
use crate::tier::disk::Note;

/// An upload as old as this is nobody's any more.
const ABANDONED: Duration = Duration::from_secs(24 * 3600);

/// Between two looks at what lies in the bucket.
pub const SWEEP_EVERY: Duration = Duration::from_secs(6 * 3600);

impl Gateway {
    /// What earlier processes noted. To be called before the first upload.
    pub fn uploads_left(&self) -> Vec<(Note, String)> {
        self.disk.notes_left()
    }

    /// Aborts what was noted; what cannot be aborted now stays noted.
    pub async fn abort_left(self: &Arc<Self>, left: Vec<(Note, String)>) {
        for (note, text) in left {
            match self.origin.abort_noted(&text).await {
                Ok(()) => {
                    tracing::info!("aborted an upload that an earlier process had begun");
                    note.erase();
                }
                Err(cause) => tracing::warn!(%cause, "an earlier process's upload stays"),
            }
        }
    }

    /// Aborts what is a day old. A bucket that does not answer is asked again next time.
    pub async fn sweep_uploads(self: &Arc<Self>) {
        let is_nar = |key: &str| matches!(Key::from_stored(key), Some(Key::Nar(_)));
        match self.origin.sweep_uploads(is_nar, ABANDONED).await {
            Ok(0) => {}
            Ok(swept) => tracing::info!(swept, "aborted uploads that nobody had ended"),
            Err(cause) => tracing::warn!(%cause, "left-over uploads could not be looked for"),
        }
    }
}
