//! Notes to the next process about what this one has under way elsewhere, a file each.
//!
//! A note is written when something is begun and erased when it has ended, so what lies here at
//! the start was never ended. Notes survive the process's death, and mostly a power cut: they are
//! not synced, since what they speak of is found by its age as well.

use std::fs;
use std::io::Write;
use std::path::PathBuf;

use super::{DiskTier, files, layout};

/// The longest note that is read, in bytes; a key of the bucket and an upload's id fit well.
const MAX_NOTE: u64 = 8 * 1024;

/// A note on disk. Dropped it stays; see [`Note::erase`].
#[derive(Debug)]
pub struct Note {
    path: PathBuf,
}

impl Note {
    /// What it speaks of has ended. Makes one system call.
    pub fn erase(self) {
        if let Err(error) = files::unlink(&self.path) {
            tracing::warn!(path = %self.path.display(), %error, "a note stays");
        }
    }
}

impl DiskTier {
    /// Writes a note. `None`: the disk does not take it, and nothing will be known later.
    pub fn note(&self, text: &str) -> Option<Note> {
        let inner = &self.inner;
        if !inner.is_claimed() {
            return None;
        }
        let path = inner.layout.note(inner.serial());
        let written = files::create(&path).and_then(|mut file| file.write_all(text.as_bytes()));
        match written {
            Ok(()) => Some(Note { path }),
            Err(error) => {
                tracing::debug!(path = %path.display(), %error, "a note could not be written");
                None
            }
        }
    }

    /// The notes of processes before this one. To be called before the first is written.
    pub fn notes_left(&self) -> Vec<(Note, String)> {
        let inner = &self.inner;
        if !inner.is_claimed() {
            return Vec::new();
        }
        let entries = fs::read_dir(inner.layout.notes());
        let paths = entries.into_iter().flatten().flatten();
        paths
            .filter(|entry| entry.file_name().to_str().is_some_and(layout::is_note))
            .filter_map(|entry| {
                let path = entry.path();
                let about = fs::symlink_metadata(&path).ok()?;
                if !about.is_file() || about.len() > MAX_NOTE {
                    return None;
                }
                let text = fs::read_to_string(&path).ok()?;
                Some((Note { path }, text))
            })
            .collect()
    }
}
