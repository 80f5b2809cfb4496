//! The bucket in a directory: a key is a relative path, so that what `nix copy --to file://…` wrote
//! is served as it is, and a person can look into it with `ls`.
//!
//! A missing file is a definite "no" only while the directory itself is known to be there: an
//! unmounted disk looks exactly like an empty bucket, and must not make a farm build from source.
//! The directory for temporary files, made at the start, is the proof. Only regular files are
//! objects and a link at the last step is not followed. All of it runs on the blocking pool, and
//! a read that hangs keeps its slot, so that a hung disk cannot use up the pool.

mod assembly;
mod facts;
mod write;

use std::fs::{self, File, Metadata, OpenOptions};
use std::io;
use std::os::unix::fs::{FileExt, MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use bytes::Bytes;
use rustix::fs::OFlags;
use rustix::io::Errno;

pub use self::assembly::Assembly;
use self::facts::Facts;
use super::super::ask::{Ask, StoreBody, StoreFacts, Stored};
use super::super::error::{OpenError, OriginError, Wait};
use super::super::limit::{Class, Slot};
use super::wait::{Deadlines, Progress, while_it_moves, within};
use super::{Body, Got, Opened};
use crate::object::{ETag, ObjectMeta};

/// Bytes read at once.
const PIECE: u64 = 128 * 1024;

/// Where uploads are written before they get their name. No key begins with a dot.
const TEMPORARIES: &str = ".narwharf-tmp";

/// A temporary file untouched for so long belongs to nobody any more.
const ABANDONED: Duration = Duration::from_secs(24 * 60 * 60);

/// One directory of objects.
pub struct Directory {
    layout: Arc<Layout>,
    deadlines: Deadlines,
}

/// What lies where.
pub struct Layout {
    root: PathBuf,
    temporaries: PathBuf,
    /// A directory that is there as long as the bucket is.
    proof: PathBuf,
    facts: Facts,
}

impl Directory {
    /// Makes the directory if it is not there. Blocks.
    ///
    /// Errors: it is neither there nor can it be made. One that cannot be written is fine until
    /// something is uploaded.
    pub fn open(root: &Path, deadlines: Deadlines) -> Result<Self, OpenError> {
        let explain = |cause| OpenError::Directory {
            path: root.to_owned(),
            cause,
        };
        fs::create_dir_all(root).map_err(explain)?;
        let temporaries = root.join(TEMPORARIES);
        let proof = match fs::create_dir_all(&temporaries) {
            Ok(()) => temporaries.clone(),
            Err(_) => root.to_owned(),
        };
        sweep(&temporaries);
        Ok(Self {
            layout: Arc::new(Layout {
                root: root.to_owned(),
                temporaries,
                proof,
                facts: Facts::kept_in(root).map_err(explain)?,
            }),
            deadlines,
        })
    }

    pub async fn get(&self, key: &str, ask: &Ask, slot: &Slot) -> Result<Option<Got>, OriginError> {
        let place = key.to_owned();
        let found = self
            .blocking(key, ask.class, slot, move |layout| layout.find(&place))
            .await?;
        let Some((file, meta)) = found else {
            return Ok(None);
        };
        if ask.if_match.is_some() && ask.if_match != meta.etag {
            return Err(OriginError::PreconditionFailed {
                key: key.to_owned(),
            });
        }
        if ask.if_none_match.is_some() && ask.if_none_match == meta.etag {
            return Ok(Some(Got::NotModified));
        }
        let range = match ask.range {
            None => None,
            Some(asked) => {
                let piece = asked
                    .within(meta.len)
                    .map_err(|_| OriginError::OutOfRange {
                        key: key.to_owned(),
                    })?;
                Some(piece)
            }
        };
        let reader = Reader {
            file: Arc::new(file),
            at: range.map_or(0, |piece| piece.start()),
            slot: slot.clone(),
        };
        Ok(Some(Got::Object(Opened {
            meta,
            range,
            body: Body::File(reader),
        })))
    }

    pub async fn head(&self, key: &str, slot: &Slot) -> Result<Option<ObjectMeta>, OriginError> {
        let place = key.to_owned();
        let found = self
            .blocking(key, Class::Document, slot, move |layout| {
                layout.find(&place)
            })
            .await?;
        Ok(found.map(|(_, meta)| meta))
    }

    pub async fn put(
        &self,
        key: &str,
        body: &StoreBody,
        about: &StoreFacts,
        slot: &Slot,
    ) -> Result<Stored, OriginError> {
        let progress = Progress::of(body.len());
        let (layout, slot) = (self.layout.clone(), slot.clone());
        let upload = write::Upload {
            key: key.to_owned(),
            body: body.clone(),
            about: about.clone(),
            progress: progress.clone(),
        };
        let work = tokio::task::spawn_blocking(move || {
            let _held = slot;
            upload.run(&layout)
        });
        while_it_moves(self.deadlines, key, &progress, work)
            .await?
            .unwrap_or_else(|lost| Err(broke(key, lost)))
    }

    /// Begins an upload in parts.
    pub async fn create_upload(
        &self,
        key: &str,
        about: &StoreFacts,
        slot: &Slot,
    ) -> Result<Assembly, OriginError> {
        let (place, about) = (key.to_owned(), about.clone());
        self.blocking(key, Class::Nar, slot, move |layout| {
            Assembly::begin(layout, &place, &about)
        })
        .await
    }

    /// Writes the part that begins at `start`.
    pub async fn put_part(
        &self,
        key: &str,
        assembly: &Arc<Assembly>,
        start: u64,
        body: &StoreBody,
        slot: &Slot,
    ) -> Result<(), OriginError> {
        let progress = Progress::of(body.len());
        let (assembly, slot) = (Arc::clone(assembly), slot.clone());
        let (body, moved) = (body.clone(), progress.clone());
        let work = tokio::task::spawn_blocking(move || {
            let _held = slot;
            assembly.write(start, &body, &moved)
        });
        while_it_moves(self.deadlines, key, &progress, work)
            .await?
            .unwrap_or_else(|lost| Err(broke(key, lost)))
    }

    /// Makes the object of its parts.
    pub async fn complete_upload(
        &self,
        key: &str,
        assembly: &Arc<Assembly>,
        slot: &Slot,
    ) -> Result<Stored, OriginError> {
        let (assembly, layout, slot) = (Arc::clone(assembly), self.layout.clone(), slot.clone());
        let work = tokio::task::spawn_blocking(move || {
            let _held = slot;
            assembly.complete(&layout)
        });
        let after = self.deadlines.acknowledgement();
        within(after, Wait::Acknowledgement, key, work)
            .await?
            .unwrap_or_else(|lost| Err(broke(key, lost)))
    }

    /// Gives an upload in parts up.
    pub async fn abort_upload(
        &self,
        key: &str,
        assembly: &Arc<Assembly>,
        slot: &Slot,
    ) -> Result<(), OriginError> {
        let assembly = Arc::clone(assembly);
        self.blocking(key, Class::Document, slot, move |_| {
            assembly.abort();
            Ok(())
        })
        .await
    }

    pub async fn delete(&self, key: &str, slot: &Slot) -> Result<(), OriginError> {
        let place = key.to_owned();
        self.blocking(key, Class::Document, slot, move |layout| {
            write::remove(layout, &place)
        })
        .await
    }

    async fn blocking<T: Send + 'static>(
        &self,
        key: &str,
        class: Class,
        slot: &Slot,
        work: impl FnOnce(&Layout) -> Result<T, OriginError> + Send + 'static,
    ) -> Result<T, OriginError> {
        let (layout, slot) = (self.layout.clone(), slot.clone());
        let running = tokio::task::spawn_blocking(move || {
            let _held = slot;
            work(&layout)
        });
        within(
            self.deadlines.first_byte(class),
            Wait::FirstByte,
            key,
            running,
        )
        .await?
        .unwrap_or_else(|lost| Err(broke(key, lost)))
    }
}

impl Layout {
    fn path(&self, key: &str) -> PathBuf {
        self.root.join(key)
    }

    /// The open file and its description; `None`: certainly no such object.
    fn find(&self, key: &str) -> Result<Option<(File, ObjectMeta)>, OriginError> {
        let flags = OFlags::NOFOLLOW | OFlags::NONBLOCK; // a FIFO must not be waited for
        let opened = OpenOptions::new()
            .read(true)
            .custom_flags(flags.bits().cast_signed())
            .open(self.path(key));
        let file = match opened {
            Ok(file) => file,
            Err(cause) if means_absent(&cause) => return self.prove().map(|()| None),
            Err(cause) => return Err(broke(key, cause)),
        };
        let stat = file.metadata().map_err(|cause| broke(key, cause))?;
        if !stat.is_file() {
            return Ok(None);
        }
        let etag = etag(&stat);
        let (content_type, content_encoding) = self
            .facts
            .of(&file, &etag)
            .map_err(|cause| broke(key, cause))?;
        let meta = ObjectMeta {
            len: stat.len(),
            last_modified: stat.modified().ok(),
            content_type,
            content_encoding: content_encoding.as_deref().and_then(super::clean_encoding),
            etag: Some(etag),
        };
        Ok(Some((file, meta)))
    }

    /// Errors: the bucket itself is gone, so nothing is known about what was in it.
    fn prove(&self) -> Result<(), OriginError> {
        match fs::symlink_metadata(&self.proof) {
            Ok(stat) if stat.is_dir() => Ok(()),
            Ok(_) => Err(self.gone()),
            Err(cause) if means_absent(&cause) => Err(self.gone()),
            Err(cause) => Err(broke(&self.proof.display().to_string(), cause)),
        }
    }

    fn gone(&self) -> OriginError {
        OriginError::NoBucket {
            bucket: self.root.display().to_string(),
        }
    }
}

/// Errors of `open` that say that nothing of this name, or nothing that could be an object, is there.
fn means_absent(cause: &io::Error) -> bool {
    matches!(
        Errno::from_io_error(cause),
        Some(Errno::NOENT | Errno::NOTDIR | Errno::NAMETOOLONG | Errno::LOOP | Errno::NXIO)
    )
}

/// A version of a file. Objects are replaced by new files and not written over, so the inode
/// changes with the content; size and time catch what others do to the directory.
fn etag(stat: &Metadata) -> ETag {
    let (ino, len) = (stat.ino(), stat.len());
    let (seconds, nanos) = (stat.mtime(), stat.mtime_nsec());
    ETag::new(&format!("{ino:x}-{len:x}-{seconds:x}.{nanos:09}"))
        .expect("digits, dashes and dots make a tag")
}

fn broke(key: &str, cause: impl ToString) -> OriginError {
    OriginError::Disk {
        key: key.to_owned(),
        cause: cause.to_string(),
    }
}

/// Removes what uploads that never ended left behind. Another process may be uploading into the
/// same directory, hence only what is old; what cannot be removed stays.
fn sweep(temporaries: &Path) {
    let Ok(entries) = fs::read_dir(temporaries) else {
        return;
    };
    for entry in entries.flatten() {
        let age = entry
            .metadata()
            .and_then(|stat| stat.modified())
            .map(|at| SystemTime::now().duration_since(at).unwrap_or_default());
        let ours = write::is_temporary(&entry.file_name());
        if ours && age.is_ok_and(|age| age > ABANDONED) && fs::remove_file(entry.path()).is_ok() {
            tracing::info!(file = %entry.path().display(), "removed an upload that never ended");
        }
    }
}

/// A body from a file.
pub struct Reader {
    file: Arc<File>,
    at: u64,
    slot: Slot,
}

impl Reader {
    pub async fn next(&mut self, left: u64) -> Result<Option<Bytes>, String> {
        if left == 0 {
            return Ok(None);
        }
        let (file, at, slot) = (self.file.clone(), self.at, self.slot.clone());
        let size = PIECE.min(left) as usize;
        let read = tokio::task::spawn_blocking(move || {
            let _held = slot;
            let mut piece = vec![0; size];
            file.read_exact_at(&mut piece, at)
                .map(|()| Bytes::from(piece))
        });
        match read.await {
            Ok(Ok(piece)) => {
                self.at += piece.len() as u64;
                Ok(Some(piece))
            }
            Ok(Err(cause)) => Err(cause.to_string()),
            Err(lost) => Err(lost.to_string()),
        }
    }
}

#[cfg(test)]
mod tests;
