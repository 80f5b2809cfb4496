//! Temporary files made ahead of the writers that will want them.
//!
//! A client waits for its first byte while the file is made, and ext4 looks past every inode that was
//! freed in the last minute to find one for it: in a full cache, where each blob replaces another, a
//! quarter of a millisecond (measured). A spare is made at the start, and by each writer that comes to
//! its end, and has no name until it is taken: nothing lies about, and with the process it is gone. Where
//! a file system has no such files (`O_TMPFILE`), or `/proc` is not there to name them by, writers make
//! their own.

use std::fs::{File, OpenOptions};
use std::io;
use std::os::fd::AsRawFd;
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;
use std::sync::Mutex;

use rustix::fs::{AtFlags, CWD, OFlags, linkat};

use super::files::MODE;
use super::locked;

/// How many are kept at most: as many as wrote at once before.
const MOST: usize = 8;

#[derive(Default)]
pub(super) struct Spares(Mutex<Vec<File>>);

impl Spares {
    /// Makes one more in the file system of `folder`, unless there are enough. Blocks.
    pub fn restock(&self, folder: &Path) {
        let has_enough = locked(&self.0).len() >= MOST;
        if !has_enough && let Ok(file) = unnamed(folder) {
            let mut spares = locked(&self.0);
            // Others may have made theirs meanwhile.
            if spares.len() < MOST {
                spares.push(file);
            }
        }
    }

    /// A file at `path`, as [`super::files::create`] makes it. `None`: none was at hand.
    pub fn take(&self, path: &Path) -> Option<File> {
        let spare = locked(&self.0).pop()?;
        let by_number = format!("/proc/self/fd/{}", spare.as_raw_fd());
        match linkat(CWD, by_number, CWD, path, AtFlags::SYMLINK_FOLLOW) {
            Ok(()) => Some(spare),
            // The others would fare no better: they are of a folder that is gone, say.
            Err(_) => {
                self.clear();
                None
            }
        }
    }

    #[cfg(test)]
    pub fn count(&self) -> usize {
        locked(&self.0).len()
    }

    pub fn clear(&self) {
        locked(&self.0).clear();
    }
}

fn unnamed(folder: &Path) -> io::Result<File> {
    OpenOptions::new()
        .read(true)
        .write(true)
        .mode(MODE)
        .custom_flags(OFlags::TMPFILE.bits() as i32)
        .open(folder)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs;
    use std::os::unix::fs::{FileExt, MetadataExt};

    /// `None`: this file system has no unnamed files.
    fn stocked(folder: &Path) -> Option<Spares> {
        unnamed(folder).ok()?;
        let spares = Spares::default();
        (0..2 * MOST).for_each(|_| spares.restock(folder));
        assert_eq!(spares.count(), MOST);
        Some(spares)
    }

    fn names(folder: &Path) -> usize {
        fs::read_dir(folder).unwrap().count()
    }

    #[test]
    fn a_spare_has_a_name_only_once_it_is_taken_and_is_like_any_other_file() {
        let folder = tempfile::tempdir().unwrap();
        let Some(spares) = stocked(folder.path()) else {
            return;
        };
        assert_eq!(names(folder.path()), 0);
        for n in 0..MOST {
            let path = folder.path().join(n.to_string());
            let spare = spares.take(&path).expect("one was made ahead");
            spare.write_all_at(b"bytes", 0).unwrap();
            assert_eq!(fs::read(&path).unwrap(), b"bytes");
            let own = super::super::files::create(&folder.path().join("own")).unwrap();
            let (spare, own) = (spare.metadata().unwrap(), own.metadata().unwrap());
            assert_eq!((spare.mode(), spare.nlink()), (own.mode(), 1));
            fs::remove_file(folder.path().join("own")).unwrap();
        }
        assert!(spares.take(&folder.path().join("more")).is_none());
        assert_eq!(names(folder.path()), MOST);
    }

    #[test]
    fn what_is_there_is_not_replaced_and_no_folder_is_made() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("mine");
        fs::write(&path, "mine").unwrap();
        for at in [&path, &folder.path().join("gone/file")] {
            let Some(spares) = stocked(folder.path()) else {
                return;
            };
            assert!(spares.take(at).is_none());
            assert_eq!(spares.count(), 0, "the others would fare no better");
        }
        assert_eq!(fs::read(&path).unwrap(), b"mine");
        assert_eq!(names(folder.path()), 1);
    }
}
