//! The blobs that lie on disk, by their names: folder by folder, in a fixed order.

use std::fs::{self, DirEntry};
use std::io;
use std::path::{Path, PathBuf};

use super::files;
use super::layout::{Layout, Named, Shelf};
use crate::nix::key::ObjectKey;

/// Longest key in a sidecar, in bytes, with its line end.
const MAX_KEY: u64 = 4096;

/// The folders that may hold blobs, sorted.
pub(super) fn folders(layout: &Layout) -> io::Result<Vec<PathBuf>> {
    let mut folders = Vec::new();
    for shelf in Shelf::ALL {
        folders_of(&layout.shelf(shelf), &mut folders)?;
    }
    folders.sort_unstable();
    Ok(folders)
}

fn folders_of(shelf: &Path, folders: &mut Vec<PathBuf>) -> io::Result<()> {
    let entries = match fs::read_dir(shelf) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
        entries => entries?,
    };
    for folder in entries {
        let folder = folder?;
        if folder.file_type()?.is_dir() && folder.file_name().len() == 2 {
            folders.push(folder.path());
        }
    }
    Ok(())
}

/// The keys of the blobs in one folder. What is not ours is passed over; a folder that has gone is
/// empty.
pub(super) fn blobs_in(layout: &Layout, folder: &Path) -> io::Result<Vec<ObjectKey>> {
    let entries = match fs::read_dir(folder) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
        entries => entries?,
    };
    let mut keys = Vec::new();
    for file in entries {
        let file = file?;
        let name = file.file_name();
        let Some(name) = name.to_str().filter(|_| is_regular(&file)) else {
            continue;
        };
        match layout.read_name(folder, name) {
            Named::Blob(key) => keys.push(key),
            Named::Hashed => keys.extend(key_beside(layout, &file.path())?),
            Named::Sidecar(_) | Named::Foreign => {}
        }
    }
    Ok(keys)
}

/// The key of a blob whose name does not tell it; `None`: it stands nowhere, so nothing can ask for
/// the blob.
pub(super) fn key_beside(layout: &Layout, blob: &Path) -> io::Result<Option<ObjectKey>> {
    let text = files::read_small(&blob.with_extension("key"), MAX_KEY)?;
    Ok(text
        .and_then(|text| ObjectKey::from_stored(text.trim_end_matches('\n')))
        .filter(|key| layout.place(key).path == blob))
}

pub(super) fn is_regular(file: &DirEntry) -> bool {
    file.file_type().is_ok_and(|kind| kind.is_file())
}
