//! Taking possession of `disk.path`: it must be ours, in a format we know, and nobody else's now.
//!
//! This tier deletes files, so it refuses any directory that is not empty and does not carry its
//! marker. The lock is on the marker and goes with the process, however that ends. The lock comes
//! before the first byte is written, so two processes that start on an empty directory cannot both
//! take it.

use std::fs::{self, File};
use std::io;
use std::os::unix::fs::{DirBuilderExt, MetadataExt};
use std::path::{Path, PathBuf};

use rustix::io::Errno;

use super::files;
use super::layout::Layout;
use super::marker::{self, FORMAT, MARKER, MAX_MARKER, read_format};

/// Why a cache directory cannot be used. Each says what to do.
#[derive(Debug, thiserror::Error)]
pub enum OpenError {
    #[error("disk.path {}: in use by another narwharf; stop that one or set another path", path.display())]
    Locked { path: PathBuf },
    #[error(
        "disk.path {}: holds files that are not narwharf's (such as {example:?}); \
         give the cache a directory of its own", path.display()
    )]
    Foreign { path: PathBuf, example: String },
    #[error(
        "disk.path {}: written in format {found} by a newer narwharf, this one knows {FORMAT}; \
         upgrade, or remove the directory (all in it can be fetched again)", path.display()
    )]
    Newer { path: PathBuf, found: u32 },
    #[error("disk.path {}: its parent directory does not exist; make it, or mount what belongs there", path.display())]
    NoParent { path: PathBuf },
    #[error("disk.path {}: not a directory", path.display())]
    NotADirectory { path: PathBuf },
    #[error("disk.path {}: no permission ({source}); it must be readable and writable by this user", path.display())]
    Denied { path: PathBuf, source: io::Error },
    #[error("disk.path {}: {source}", path.display())]
    Io { path: PathBuf, source: io::Error },
}

impl OpenError {
    /// The disk's fault rather than the settings': it may pass, so the gateway starts without.
    pub(super) fn may_pass(&self) -> Option<&io::Error> {
        let Self::Io { source, .. } = self else {
            return None;
        };
        let passes = matches!(
            Errno::from_io_error(source),
            Some(Errno::ROFS | Errno::IO | Errno::NOSPC | Errno::DQUOT)
        );
        passes.then_some(source)
    }

    pub(super) fn of(path: &Path, source: io::Error) -> Self {
        let path = path.to_owned();
        match source.kind() {
            io::ErrorKind::PermissionDenied => Self::Denied { path, source },
            io::ErrorKind::NotADirectory => Self::NotADirectory { path },
            _ => Self::Io { path, source },
        }
    }
}

/// A directory that is ours until this is dropped.
#[derive(Debug)]
pub(super) struct Claim {
    marker: File,
    path: PathBuf,
    /// Whether it was a cache before.
    pub was_ours: bool,
}

impl Claim {
    /// Makes the directory and its folders where they are missing, and locks it.
    pub fn take(layout: &Layout) -> Result<Self, OpenError> {
        let root = layout.root();
        let failed = |source| OpenError::of(root, source);
        make_root(root)?;
        let marker = match marker::open(layout).map_err(failed)? {
            Some(marker) => marker,
            None => {
                if let Some(example) = foreign_file(root).map_err(failed)? {
                    return Err(OpenError::Foreign {
                        path: root.to_owned(),
                        example,
                    });
                }
                marker::create(layout).map_err(failed)?
            }
        };
        marker::lock(&marker, root)?;
        let was_ours = marker::agree_on_format(&marker, root)?;
        for folder in layout.folders() {
            files::ensure_folder(&folder).map_err(failed)?;
        }
        Ok(Self {
            marker,
            path: layout.marker(),
            was_ours,
        })
    }

    /// Locks a cache that is there, and changes nothing. `None`: there is none.
    pub fn take_as_it_is(layout: &Layout) -> Result<Option<Self>, OpenError> {
        let root = layout.root();
        let opened = marker::open(layout).map_err(|source| OpenError::of(root, source))?;
        let Some(marker) = opened else {
            return Ok(None);
        };
        marker::lock(&marker, root)?;
        Ok(Some(Self {
            marker,
            path: layout.marker(),
            was_ours: true,
        }))
    }

    /// Whether what is at the path now may be claimed in the place of what was: it carries our marker,
    /// or the old marker was removed and the place is on the same file system as before. So a
    /// cache that somebody cleared is begun anew, but one that was moved away or whose disk was
    /// unmounted is waited for.
    pub fn may_be_succeeded(&self, layout: &Layout) -> io::Result<bool> {
        if marker::open(layout)?.is_some() {
            return Ok(true);
        }
        let claimed = self.marker.metadata()?;
        let root = layout.root();
        let parent = root.parent().filter(|parent| *parent != Path::new(""));
        let place = match fs::metadata(root) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                fs::metadata(parent.unwrap_or(Path::new(".")))?
            }
            place => place?,
        };
        Ok(claimed.nlink() == 0 && claimed.dev() == place.dev())
    }

    /// Whether the directory at the path is still the one that was claimed.
    pub fn holds(&self) -> io::Result<bool> {
        let claimed = self.marker.metadata()?;
        match fs::symlink_metadata(&self.path) {
            Ok(there) => Ok(files::is_same(&claimed, &there)),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(false),
            Err(error) => Err(error),
        }
    }
}

/// Only the last component is made for an absolute path: a missing parent there is most likely a
/// disk that is not mounted. A relative path lies below the working directory, and is made whole.
fn make_root(root: &Path) -> Result<(), OpenError> {
    let failed = |source| OpenError::of(root, source);
    let made = fs::DirBuilder::new()
        .recursive(root.is_relative())
        .mode(0o700)
        .create(root);
    match made {
        Ok(()) => {}
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {}
        Err(error) if error.kind() == io::ErrorKind::NotFound => {
            return Err(OpenError::NoParent {
                path: root.to_owned(),
            });
        }
        // A read-only file system refuses before it looks whether the directory is there.
        Err(error) => {
            if !root.is_dir() {
                return Err(failed(error));
            }
        }
    }
    if fs::metadata(root).map_err(failed)?.is_dir() {
        Ok(())
    } else {
        Err(OpenError::NotADirectory {
            path: root.to_owned(),
        })
    }
}

/// The name of some file that makes an unmarked directory not ours. The folder that `mkfs` leaves
/// counts as nothing, and so does a marker that another process has just made.
fn foreign_file(root: &Path) -> io::Result<Option<String>> {
    let mut example = None;
    for entry in fs::read_dir(root)? {
        let name = entry?.file_name().to_string_lossy().into_owned();
        match name.as_str() {
            MARKER => return Ok(None),
            "lost+found" => {}
            _ => example = Some(name),
        }
    }
    Ok(example)
}

/// What a look at a directory says about it, without locking or changing anything.
pub(super) fn inspect(layout: &Layout) -> Result<&'static str, OpenError> {
    let root = layout.root();
    let failed = |source| OpenError::of(root, source);
    let about = match fs::metadata(root) {
        Ok(about) => about,
        Err(error) if error.kind() == io::ErrorKind::NotFound => {
            let parent = root.parent().filter(|parent| *parent != Path::new(""));
            return if root.is_relative() || parent.is_none_or(Path::is_dir) {
                Ok("not there yet, will be made")
            } else {
                Err(OpenError::NoParent {
                    path: root.to_owned(),
                })
            };
        }
        Err(error) => return Err(failed(error)),
    };
    if !about.is_dir() {
        return Err(OpenError::NotADirectory {
            path: root.to_owned(),
        });
    }
    match files::read_small(&layout.marker(), MAX_MARKER).map_err(failed)? {
        Some(text) if text.is_empty() => Ok("a cache of narwharf's, just begun"),
        Some(text) => match read_format(&text) {
            Some(found) if found > FORMAT => Err(OpenError::Newer {
                path: root.to_owned(),
                found,
            }),
            Some(_) => Ok("a cache of narwharf's"),
            None => Err(OpenError::Foreign {
                path: root.to_owned(),
                example: MARKER.to_owned(),
            }),
        },
        None => match foreign_file(root).map_err(failed)? {
            Some(example) => Err(OpenError::Foreign {
                path: root.to_owned(),
                example,
            }),
            None => Ok("empty"),
        },
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn layout(dir: &tempfile::TempDir) -> Layout {
        Layout::new(&dir.path().join("cache"))
    }

    #[test]
    fn a_second_process_is_told_that_the_directory_is_in_use() {
        let dir = tempfile::tempdir().unwrap();
        let first = Claim::take(&layout(&dir)).unwrap();
        let second = Claim::take(&layout(&dir)).unwrap_err();
        assert!(matches!(second, OpenError::Locked { .. }), "{second}");
        assert!(second.to_string().contains("cache"), "names the path");
        drop(first);
        assert!(Claim::take(&layout(&dir)).unwrap().was_ours);
    }

    #[test]
    fn a_directory_with_other_files_is_refused_and_untouched() {
        let dir = tempfile::tempdir().unwrap();
        fs::write(dir.path().join("thesis.tex"), "years of work").unwrap();
        let refusal = Claim::take(&Layout::new(dir.path())).unwrap_err();
        assert!(matches!(refusal, OpenError::Foreign { .. }), "{refusal}");
        assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 1);
    }

    #[test]
    fn a_fresh_file_system_counts_as_empty() {
        let dir = tempfile::tempdir().unwrap();
        fs::create_dir(dir.path().join("lost+found")).unwrap();
        assert!(!Claim::take(&Layout::new(dir.path())).unwrap().was_ours);
    }

    #[test]
    fn a_newer_format_is_refused_and_untouched() {
        let dir = tempfile::tempdir().unwrap();
        let marker = dir.path().join(MARKER);
        fs::write(&marker, "narwharf-cache 2\n").unwrap();
        let refusal = Claim::take(&Layout::new(dir.path())).unwrap_err();
        assert!(matches!(refusal, OpenError::Newer { found: 2, .. }));
        assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 1);
        assert_eq!(fs::read_to_string(marker).unwrap(), "narwharf-cache 2\n");
    }

    #[test]
    fn a_file_that_only_has_the_markers_name_is_not_one() {
        let dir = tempfile::tempdir().unwrap();
        fs::write(dir.path().join(MARKER), "shopping list").unwrap();
        let refusal = Claim::take(&Layout::new(dir.path())).unwrap_err();
        assert!(matches!(refusal, OpenError::Foreign { .. }));
    }

    #[test]
    fn a_crash_before_the_marker_was_written_is_made_good() {
        let dir = tempfile::tempdir().unwrap();
        fs::write(dir.path().join(MARKER), "").unwrap();
        Claim::take(&Layout::new(dir.path())).unwrap();
        assert!(Claim::take(&Layout::new(dir.path())).unwrap().was_ours);
    }

    #[test]
    fn a_missing_parent_and_a_file_are_named() {
        let dir = tempfile::tempdir().unwrap();
        let refusal = Claim::take(&Layout::new(&dir.path().join("no/cache"))).unwrap_err();
        assert!(matches!(refusal, OpenError::NoParent { .. }), "{refusal}");
        fs::write(dir.path().join("file"), "").unwrap();
        let refusal = Claim::take(&Layout::new(&dir.path().join("file"))).unwrap_err();
        assert!(
            matches!(refusal, OpenError::NotADirectory { .. }),
            "{refusal}"
        );
    }

    #[test]
    fn a_directory_put_in_the_place_of_the_claimed_one_is_noticed() {
        let dir = tempfile::tempdir().unwrap();
        let claim = Claim::take(&layout(&dir)).unwrap();
        assert!(claim.holds().unwrap());
        fs::rename(dir.path().join("cache"), dir.path().join("moved")).unwrap();
        assert!(!claim.holds().unwrap());
        assert!(
            !claim.may_be_succeeded(&layout(&dir)).unwrap(),
            "it may return"
        );
        let _new = Claim::take(&layout(&dir)).unwrap();
        assert!(!claim.holds().unwrap());
        assert!(claim.may_be_succeeded(&layout(&dir)).unwrap());
    }

    #[test]
    fn a_directory_that_was_removed_or_cleared_may_be_made_anew() {
        let dir = tempfile::tempdir().unwrap();
        let claim = Claim::take(&layout(&dir)).unwrap();
        fs::remove_dir_all(dir.path().join("cache")).unwrap();
        assert!(!claim.holds().unwrap());
        assert!(claim.may_be_succeeded(&layout(&dir)).unwrap());
        fs::create_dir(dir.path().join("cache")).unwrap();
        assert!(claim.may_be_succeeded(&layout(&dir)).unwrap());
    }

    #[test]
    fn only_the_disks_own_faults_let_the_gateway_start_without_it() {
        let of = |errno: Errno| OpenError::of(Path::new("/x"), errno.into());
        for errno in [Errno::ROFS, Errno::IO, Errno::NOSPC, Errno::DQUOT] {
            assert!(of(errno).may_pass().is_some(), "{errno}");
        }
        for errno in [Errno::ACCESS, Errno::PERM, Errno::NOTDIR, Errno::LOOP] {
            assert!(of(errno).may_pass().is_none(), "{errno}");
        }
    }
}
