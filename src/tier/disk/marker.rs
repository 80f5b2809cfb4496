//! The marker: the file that says a directory is ours and in which format, and that carries the lock.

use std::fs::{File, OpenOptions, TryLockError};
use std::io::{self, Read, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;

use rustix::fs::OFlags;

use super::claim::OpenError;
use super::files;
use super::layout::Layout;

/// The version of the layout that this program reads and writes.
pub(super) const FORMAT: u32 = 1;
/// First word of the marker's only line, `narwharf-cache 1`.
pub(super) const MARKER: &str = "narwharf-cache";
pub(super) const MAX_MARKER: u64 = 256;

/// `None`: there is none; something else by its name is none either.
pub(super) fn open(layout: &Layout) -> io::Result<Option<File>> {
    let opened = options().open(layout.marker());
    match opened {
        Ok(file) => Ok(file.metadata()?.is_file().then_some(file)),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(error),
    }
}

/// Opened by whoever comes first; the lock and the content decide the rest.
pub(super) fn create(layout: &Layout) -> io::Result<File> {
    options().create(true).open(layout.marker())
}

fn options() -> OpenOptions {
    let mut options = OpenOptions::new();
    options
        .read(true)
        .write(true)
        .mode(0o640)
        .custom_flags((OFlags::NOFOLLOW | OFlags::NONBLOCK).bits() as i32);
    options
}

/// Goes with the process, however that ends.
pub(super) fn lock(marker: &File, root: &Path) -> Result<(), OpenError> {
    match marker.try_lock() {
        Ok(()) => Ok(()),
        Err(TryLockError::WouldBlock) => Err(OpenError::Locked {
            path: root.to_owned(),
        }),
        Err(TryLockError::Error(source)) => Err(OpenError::of(root, source)),
    }
}

/// Reads the marker, or writes it when it is empty: new, or left so by a crash. `true`: it was
/// there. A marker that cannot be read as one is somebody else's file.
pub(super) fn agree_on_format(mut marker: &File, root: &Path) -> Result<bool, OpenError> {
    let failed = |source| OpenError::of(root, source);
    let mut text = String::new();
    let read = marker.take(MAX_MARKER).read_to_string(&mut text);
    if read.map_err(failed)? == 0 {
        writeln!(marker, "{MARKER} {FORMAT}").map_err(failed)?;
        marker.sync_all().map_err(failed)?;
        files::sync_folder(root).map_err(failed)?;
        return Ok(false);
    }
    match read_format(&text) {
        Some(found) if found > FORMAT => Err(OpenError::Newer {
            path: root.to_owned(),
            found,
        }),
        Some(_) => Ok(true),
        None => Err(OpenError::Foreign {
            path: root.to_owned(),
            example: MARKER.to_owned(),
        }),
    }
}

pub(super) fn read_format(text: &str) -> Option<u32> {
    text.strip_prefix(MARKER)?
        .strip_prefix(' ')?
        .lines()
        .next()?
        .parse()
        .ok()
}
