//! The few ways in which this tier touches files: never through a symbolic link, never anything but
//! a regular file, and never waiting on a fifo.

use std::fs::{self, File, Metadata, OpenOptions};
use std::io::{self, ErrorKind, Read};
use std::os::unix::fs::{DirBuilderExt, MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use rustix::fs::OFlags;
use rustix::io::Errno;

use super::layout::{Layout, Place};

/// Block size that file systems allocate in, or a multiple of theirs.
pub(super) const BLOCK: u64 = 4096;

/// Bytes a file takes on its disk (`st_blocks` counts units of 512, stat(2)).
pub(super) fn allocated(about: &Metadata) -> u64 {
    about.blocks() * 512
}

/// Whether both are the same file, not merely of the same name.
pub(super) fn is_same(a: &Metadata, b: &Metadata) -> bool {
    (a.dev(), a.ino()) == (b.dev(), b.ino())
}

/// The blob at `place`. `None`: there is none; a link, fifo or folder in its place is not ours and
/// counts as none. Errors say nothing about whether it is there.
pub(super) fn open_blob(place: &Place) -> io::Result<Option<(File, Metadata)>> {
    if !is_folder(&place.folder)? {
        return Ok(None);
    }
    open_regular(&place.path)
}

pub(super) fn open_regular(path: &Path) -> io::Result<Option<(File, Metadata)>> {
    let opened = OpenOptions::new()
        .read(true)
        .custom_flags((OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::NOCTTY).bits() as i32)
        .open(path);
    let file = match opened {
        Ok(file) => file,
        Err(error) if is_none_of_ours(&error) => return Ok(None),
        Err(error) => return Err(error),
    };
    let about = file.metadata()?;
    Ok(about.is_file().then_some((file, about)))
}

/// A whole small file as text; `None` when it is not there, not regular, too large or not UTF-8.
pub(super) fn read_small(path: &Path, at_most: u64) -> io::Result<Option<String>> {
    let Some((file, about)) = open_regular(path)? else {
        return Ok(None);
    };
    if about.len() > at_most {
        return Ok(None);
    }
    let mut bytes = Vec::new();
    file.take(at_most).read_to_end(&mut bytes)?;
    Ok(String::from_utf8(bytes).ok())
}

/// Permissions of files made here, less what the umask takes.
pub(super) const MODE: u32 = 0o640;

/// Makes a file that was not there before, for reading and writing.
pub(super) fn create(path: &Path) -> io::Result<File> {
    OpenOptions::new()
        .read(true)
        .write(true)
        .create_new(true)
        .mode(MODE)
        .custom_flags(OFlags::NOFOLLOW.bits() as i32)
        .open(path)
}

/// Removes a regular file. `false`: there was none of that kind, and nothing was touched.
pub(super) fn unlink(path: &Path) -> io::Result<bool> {
    match fs::symlink_metadata(path) {
        Ok(about) if about.is_file() => fs::remove_file(path).map(|()| true),
        Ok(_) => Ok(false),
        Err(error) if is_none_of_ours(&error) => Ok(false),
        Err(error) => Err(error),
    }
}

/// Removes a blob, and then its sidecar, so that no blob is ever without one.
pub(super) fn unlink_blob(place: &Place) -> io::Result<bool> {
    if !is_folder(&place.folder)? {
        return Ok(false);
    }
    let was_there = unlink(&place.path)?;
    if let Some(sidecar) = &place.sidecar {
        unlink(sidecar)?;
    }
    Ok(was_there)
}

/// Moves a blob to `quarantine/` under a name that begins with `serial`, without its sidecar.
/// Returns where it lies now.
pub(super) fn set_aside(layout: &Layout, place: &Place, serial: u64) -> io::Result<PathBuf> {
    let name = place.path.file_name().unwrap_or_default().to_string_lossy();
    let to = layout.quarantine().join(format!("{serial:016x}-{name}"));
    fs::rename(&place.path, &to)?;
    if let Some(sidecar) = &place.sidecar {
        unlink(sidecar)?;
    }
    Ok(to)
}

/// Whether nothing but a regular file of ours would be replaced by a rename to `path`.
pub(super) fn may_replace(path: &Path) -> io::Result<bool> {
    match fs::symlink_metadata(path) {
        Ok(about) => Ok(about.is_file()),
        Err(error) if error.kind() == ErrorKind::NotFound => Ok(true),
        Err(error) => Err(error),
    }
}

/// Makes a folder unless it is there, and makes it last. The bytes it takes, when it is new.
pub(super) fn ensure_folder(path: &Path) -> io::Result<Option<u64>> {
    match fs::DirBuilder::new().mode(0o700).create(path) {
        Ok(()) => {
            if let Some(parent) = path.parent() {
                sync_folder(parent)?;
            }
            Ok(Some(allocated(&fs::symlink_metadata(path)?)))
        }
        Err(error) if error.kind() == ErrorKind::AlreadyExists => {
            if is_folder(path)? {
                Ok(None)
            } else {
                Err(io::Error::new(
                    ErrorKind::NotADirectory,
                    format!("{} is not a folder of this cache", path.display()),
                ))
            }
        }
        Err(error) => Err(error),
    }
}

/// A folder itself, not a link to one.
pub(super) fn is_folder(path: &Path) -> io::Result<bool> {
    match fs::symlink_metadata(path) {
        Ok(about) => Ok(about.is_dir()),
        Err(error) if is_none_of_ours(&error) => Ok(false),
        Err(error) => Err(error),
    }
}

/// Makes renames in a folder outlive a power cut.
pub(super) fn sync_folder(path: &Path) -> io::Result<()> {
    File::open(if path.as_os_str().is_empty() {
        Path::new(".")
    } else {
        path
    })?
    .sync_all()
}

/// Not there, or something no file of ours is: a link (ELOOP), a socket or a device (ENXIO).
fn is_none_of_ours(error: &io::Error) -> bool {
    matches!(
        Errno::from_io_error(error),
        Some(Errno::NOENT | Errno::NOTDIR | Errno::LOOP | Errno::NXIO)
    )
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::symlink;

    #[test]
    fn links_fifos_and_folders_are_not_opened_and_not_removed() {
        let dir = tempfile::tempdir().unwrap();
        let path = |name: &str| dir.path().join(name);
        fs::write(path("file"), "x").unwrap();
        symlink(path("file"), path("link")).unwrap();
        fs::create_dir(path("folder")).unwrap();
        rustix::fs::mknodat(
            rustix::fs::CWD,
            path("fifo"),
            rustix::fs::FileType::Fifo,
            rustix::fs::Mode::RUSR,
            0,
        )
        .unwrap();
        for name in ["link", "folder", "fifo", "nothing"] {
            assert!(open_regular(&path(name)).unwrap().is_none(), "{name}");
            assert!(!unlink(&path(name)).unwrap(), "{name}");
        }
        for name in ["link", "folder", "fifo"] {
            assert!(!may_replace(&path(name)).unwrap(), "{name}");
        }
        assert!(open_regular(&path("file")).unwrap().is_some());
        assert!(may_replace(&path("nothing")).unwrap());
    }

    #[test]
    fn a_blob_behind_a_linked_folder_is_none() {
        let dir = tempfile::tempdir().unwrap();
        let real = dir.path().join("real");
        fs::create_dir(&real).unwrap();
        fs::write(real.join("blob"), "x").unwrap();
        symlink(&real, dir.path().join("ab")).unwrap();
        let place = Place {
            folder: dir.path().join("ab"),
            path: dir.path().join("ab/blob"),
            sidecar: None,
        };
        assert!(open_blob(&place).unwrap().is_none());
        assert!(!unlink_blob(&place).unwrap());
        assert!(ensure_folder(&place.folder).is_err());
    }
}
