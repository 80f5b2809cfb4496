//! Puts an object into the directory so that a crash at any instruction leaves the old object, the
//! new one, or none, and never a part of one.
//!
//! Write under a temporary name in the same file system, sync, give it its name, sync the
//! directory. Without the first sync ext4 leaves an empty file after a power cut, without the
//! second the name may be lost. A failed sync loses the upload: it is never repeated, since the
//! kernel may have dropped the pages it failed to write.

use std::ffi::OsStr;
use std::fs::{self, File, Permissions};
use std::io::{self, Write};
use std::os::unix::fs::{FileExt, PermissionsExt};
use std::path::{Path, PathBuf};

use tempfile::NamedTempFile;

use super::super::super::ask::{StoreBody, StoreFacts, Stored};
use super::super::super::error::OriginError;
use super::super::wait::Progress;
use super::{Layout, PIECE, broke, etag, means_absent};

const TEMPORARY_PREFIX: &str = "put-";

pub fn is_temporary(name: &OsStr) -> bool {
    name.to_str()
        .is_some_and(|name| name.starts_with(TEMPORARY_PREFIX))
}

/// A file that is removed unless it gets a name.
pub fn temporary(layout: &Layout) -> io::Result<NamedTempFile> {
    tempfile::Builder::new()
        .prefix(TEMPORARY_PREFIX)
        .permissions(Permissions::from_mode(0o644)) // and the umask decides
        .tempfile_in(&layout.temporaries)
}

/// One object on its way into the directory.
pub struct Upload {
    pub key: String,
    pub body: StoreBody,
    pub about: StoreFacts,
    pub progress: Progress,
}

impl Upload {
    /// Blocks until the object is durable.
    pub fn run(&self, layout: &Layout) -> Result<Stored, OriginError> {
        layout.prove()?;
        let disk = |cause: io::Error| broke(&self.key, cause);
        let mut file = temporary(layout).map_err(disk)?;
        copy(&self.key, &self.body, |piece| {
            file.as_file_mut().write_all(piece)?;
            self.progress.add(piece.len() as u64);
            Ok(())
        })?;
        publish(layout, &self.key, &self.about, file).map_err(disk)
    }
}

/// Hands a body to `write`, a piece at a time.
pub fn copy(
    key: &str,
    body: &StoreBody,
    mut write: impl FnMut(&[u8]) -> io::Result<()>,
) -> Result<(), OriginError> {
    let disk = |cause: io::Error| broke(key, cause);
    match body {
        StoreBody::Bytes(bytes) => write(bytes).map_err(disk),
        StoreBody::File { file, start, len } => {
            let mut piece = vec![0; PIECE as usize];
            let (mut at, end) = (*start, start + len);
            while at < end {
                let piece = &mut piece[..PIECE.min(end - at) as usize];
                file.read_exact_at(piece, at)
                    .map_err(|cause| OriginError::BadUpload {
                        key: key.to_owned(),
                        cause: cause.to_string(),
                    })?;
                write(piece).map_err(disk)?;
                at += piece.len() as u64;
            }
            Ok(())
        }
    }
}

/// Makes a whole file durable and gives it its name. Blocks.
pub fn publish(
    layout: &Layout,
    key: &str,
    about: &StoreFacts,
    file: NamedTempFile,
) -> io::Result<Stored> {
    let etag = etag(&file.as_file().metadata()?);
    layout.facts.keep(file.as_file(), &etag, about)?;
    file.as_file().sync_all()?;
    let path = layout.path(key);
    let parents = make_parents(&layout.root, &path)?;
    let replaced = fs::symlink_metadata(&path)
        .ok()
        .map(|stat| super::etag(&stat));
    if about.create_only {
        if let Err(refused) = file.persist_noclobber(&path) {
            layout.facts.forget(&etag);
            return match refused.error.kind() {
                io::ErrorKind::AlreadyExists => Ok(Stored {
                    etag: None,
                    existed: true,
                }),
                _ => Err(refused.error),
            };
        }
    } else {
        file.persist(&path).map_err(|refused| refused.error)?;
        if let Some(replaced) = replaced {
            layout.facts.forget(&replaced);
        }
    }
    for parent in parents {
        sync_directory(&parent)?;
    }
    Ok(Stored {
        etag: Some(etag),
        existed: false,
    })
}

/// Blocks until the object is gone for good. One that is not there is gone already.
pub fn remove(layout: &Layout, key: &str) -> Result<(), OriginError> {
    let path = layout.path(key);
    let version = fs::symlink_metadata(&path).ok().map(|stat| etag(&stat));
    match fs::remove_file(&path) {
        Ok(()) => {}
        Err(cause) if means_absent(&cause) => return layout.prove(),
        Err(cause) => return Err(broke(key, cause)),
    }
    if let Some(version) = version {
        layout.facts.forget(&version);
    }
    match path.parent() {
        Some(parent) => sync_directory(parent).map_err(|cause| broke(key, cause)),
        None => Ok(()),
    }
}

/// Makes the directories above `path` and names those whose entries change by it: the lowest, and
/// each in which another was made.
fn make_parents(root: &Path, path: &Path) -> io::Result<Vec<PathBuf>> {
    let mut changed = Vec::new();
    for parent in path.ancestors().skip(1) {
        changed.push(parent.to_owned());
        if parent == root || parent.is_dir() {
            break;
        }
    }
    for parent in changed.iter().rev().skip(1) {
        match fs::create_dir(parent) {
            Err(cause) if cause.kind() != io::ErrorKind::AlreadyExists => return Err(cause),
            _ => {}
        }
    }
    Ok(changed)
}

fn sync_directory(path: &Path) -> io::Result<()> {
    File::open(path)?.sync_all()
}
