//! Where things lie below `disk.path`, and which file names are ours.
//!
//! ```text
//! narwharf-cache            marker: this directory is ours, and in which format
//! scrub                     how far the scrubber has come
//! nar/<2>/<name>            a NAR whose key is nar/<name>; <2> are the first two characters
//! nar/<2>/<64 hex>          a NAR whose key is no safe file name, under the SHA-256 of the key,
//! nar/<2>/<64 hex>.key      with the key beside it
//! doc/…                     the same for large documents
//! tmp/<16 hex>.part         not yet a blob
//! index/                    sled, and documents: the log of the documents that it points to
//! quarantine/               blobs whose bytes were wrong
//! uploads/<16 hex>.open     notes: uploads to the bucket that this process has begun
//! ```
//! The way from a key to its place is a function, and so is the way back, so that the index can be
//! rebuilt from names alone. A name that does not lead back to where it lies is not ours.

use std::path::{Path, PathBuf};

use data_encoding::HEXLOWER;
use sha2::{Digest, Sha256};

use crate::nix::key::ObjectKey;

/// Longest file name used, in bytes; file systems allow 255, and the rest is for suffixes.
const MAX_NAME: usize = 240;
const SIDECAR: &str = "key";
const TEMPORARY: &str = "part";
const NOTE: &str = "open";

/// The two parts of the tier that hold blobs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Shelf {
    Nar,
    Doc,
}

impl Shelf {
    pub const ALL: [Self; 2] = [Self::Nar, Self::Doc];

    fn name(self) -> &'static str {
        match self {
            Self::Nar => "nar",
            Self::Doc => "doc",
        }
    }
}

/// The paths below one `disk.path`.
#[derive(Debug, Clone)]
pub(super) struct Layout {
    root: PathBuf,
}

/// Where one blob lies, whether or not it is there.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Place {
    pub folder: PathBuf,
    pub path: PathBuf,
    /// Where the key stands when the name does not tell it.
    pub sidecar: Option<PathBuf>,
}

/// What a file name on a shelf is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Named {
    Blob(ObjectKey),
    /// A blob whose key stands in a sidecar.
    Hashed,
    /// The sidecar of the blob of this name.
    Sidecar(String),
    Foreign,
}

impl Layout {
    pub fn new(root: &Path) -> Self {
        Self {
            root: root.to_owned(),
        }
    }

    pub fn root(&self) -> &Path {
        &self.root
    }

    pub fn marker(&self) -> PathBuf {
        self.root.join("narwharf-cache")
    }

    pub fn scrubbed(&self) -> PathBuf {
        self.root.join("scrub")
    }

    pub fn shelf(&self, shelf: Shelf) -> PathBuf {
        self.root.join(shelf.name())
    }

    pub fn tmp(&self) -> PathBuf {
        self.root.join("tmp")
    }

    pub fn index(&self) -> PathBuf {
        self.root.join("index")
    }

    pub fn quarantine(&self) -> PathBuf {
        self.root.join("quarantine")
    }

    pub fn notes(&self) -> PathBuf {
        self.root.join("uploads")
    }

    /// The folders that are made at start; sled makes its own.
    pub fn folders(&self) -> [PathBuf; 5] {
        let [nar, doc] = Shelf::ALL.map(|shelf| self.shelf(shelf));
        [nar, doc, self.tmp(), self.quarantine(), self.notes()]
    }

    pub fn note(&self, serial: u64) -> PathBuf {
        self.notes().join(format!("{serial:016x}.{NOTE}"))
    }

    pub fn temporary(&self, serial: u64) -> PathBuf {
        self.tmp().join(format!("{serial:016x}.{TEMPORARY}"))
    }

    pub fn place(&self, key: &ObjectKey) -> Place {
        match plain_name(key) {
            Some(name) => self.at(Shelf::Nar, name, false),
            None => {
                let digest = HEXLOWER.encode(&Sha256::digest(key.as_str()));
                self.at(shelf_of(key), &digest, true)
            }
        }
    }

    fn at(&self, shelf: Shelf, name: &str, hashed: bool) -> Place {
        let folder = self.shelf(shelf).join(&name[..2]);
        let path = folder.join(name);
        Place {
            sidecar: hashed.then(|| path.with_extension(SIDECAR)),
            path,
            folder,
        }
    }

    /// What `name` in `folder` is. Of a [`Named::Blob`] it is certain that its key leads there.
    pub fn read_name(&self, folder: &Path, name: &str) -> Named {
        let named = if is_digest(name) {
            Named::Hashed
        } else if let Some(stem) = name.strip_suffix(".key").filter(|stem| is_digest(stem)) {
            Named::Sidecar(stem.to_owned())
        } else {
            ObjectKey::from_stored(&format!("nar/{name}")).map_or(Named::Foreign, Named::Blob)
        };
        let leads_here = match &named {
            Named::Blob(key) => self.place(key).path == folder.join(name),
            Named::Hashed | Named::Sidecar(_) => folder.ends_with(&name[..2]),
            Named::Foreign => false,
        };
        if leads_here { named } else { Named::Foreign }
    }
}

/// Whether `name` is one that [`Layout::temporary`] gives.
pub(super) fn is_temporary(name: &str) -> bool {
    is_serial(name, TEMPORARY)
}

/// Whether `name` is one that [`Layout::note`] gives.
pub(super) fn is_note(name: &str) -> bool {
    is_serial(name, NOTE)
}

fn is_serial(name: &str, suffix: &str) -> bool {
    name.strip_suffix(suffix)
        .and_then(|rest| rest.strip_suffix('.'))
        .is_some_and(|stem| stem.len() == 16 && is_lower_hex(stem))
}

/// The file name that tells the key, for keys that have one.
fn plain_name(key: &ObjectKey) -> Option<&str> {
    let name = key.as_str().strip_prefix("nar/")?;
    let is_safe = (3..=MAX_NAME).contains(&name.len())
        && name.as_bytes()[0].is_ascii_alphanumeric()
        && name
            .bytes()
            .all(|b| b.is_ascii_alphanumeric() || b"._+-".contains(&b))
        && !is_digest(name);
    is_safe.then_some(name)
}

fn shelf_of(key: &ObjectKey) -> Shelf {
    let text = key.as_str();
    let in_namespace = text.split_once('/').map_or("", |(_, rest)| rest);
    if text.starts_with("nar/") || in_namespace.starts_with("nar/") {
        Shelf::Nar
    } else {
        Shelf::Doc
    }
}

fn is_digest(name: &str) -> bool {
    name.len() == 64 && is_lower_hex(name)
}

fn is_lower_hex(text: &str) -> bool {
    text.bytes().all(|b| matches!(b, b'0'..=b'9' | b'a'..=b'f'))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn key(text: &str) -> ObjectKey {
        ObjectKey::from_stored(text).unwrap_or_else(|| panic!("{text} is a key"))
    }

    fn layout() -> Layout {
        Layout::new(Path::new("/cache"))
    }

    #[test]
    fn a_nar_lies_under_its_own_name() {
        let name = "1w1fff338fvdw53sqgamddn1b2xgds473pv6y13gizdbqjv4i5p3.nar.xz";
        let place = layout().place(&key(&format!("nar/{name}")));
        assert_eq!(place.path, Path::new("/cache/nar/1w").join(name));
        assert_eq!(place.sidecar, None);
    }

    #[test]
    fn what_is_no_safe_file_name_lies_under_its_hash() {
        for (text, shelf) in [
            ("nar/a.nar.xz?x=1", "nar"),
            ("team/nar/a.nar.xz", "nar"),
            ("log/abc.drv", "doc"),
            ("team/log/abc.drv", "doc"),
        ] {
            let place = layout().place(&key(text));
            assert!(
                place.path.starts_with(format!("/cache/{shelf}")),
                "{text}: {place:?}"
            );
            let name = place.path.file_name().unwrap().to_str().unwrap();
            assert_eq!(layout().read_name(&place.folder, name), Named::Hashed);
            let sidecar = place.sidecar.unwrap();
            let beside = sidecar.file_name().unwrap().to_str().unwrap();
            assert_eq!(
                layout().read_name(&place.folder, beside),
                Named::Sidecar(name.to_owned())
            );
        }
    }

    #[test]
    fn every_plain_name_leads_back_to_its_key() {
        for text in ["nar/a.nar", "nar/0.nar.zst", "nar/a-b_c+d.e.nar"] {
            let place = layout().place(&key(text));
            let name = place.path.file_name().unwrap().to_str().unwrap();
            assert_eq!(
                layout().read_name(&place.folder, name),
                Named::Blob(key(text))
            );
        }
    }

    #[test]
    fn a_name_in_the_wrong_folder_or_of_another_make_is_foreign() {
        for (folder, name) in [
            ("/cache/nar/ab", "cd.nar.xz"),
            ("/cache/nar", "ab.nar.xz"),
            ("/cache/doc/ab", "ab.nar.xz"),
            ("/cache/nar/lo", "lost+found"),
            ("/cache/nar/ab", "ab.txt"),
            ("/cache/nar/ab", ""),
            ("/cache/nar/xx", &"0".repeat(64)),
            ("/cache/nar/\u{e9}", "\u{e9}\u{e9}.nar"),
        ] {
            let named = layout().read_name(Path::new(folder), name);
            assert_eq!(named, Named::Foreign, "{folder}/{name}");
        }
    }

    #[test]
    fn only_our_temporaries_are_ours() {
        let ours = layout().temporary(7);
        assert!(is_temporary(ours.file_name().unwrap().to_str().unwrap()));
        for name in [
            "notes.part",
            "0.part",
            "000000000000000G.part",
            "0000000000000007",
        ] {
            assert!(!is_temporary(name), "{name}");
        }
    }
}
