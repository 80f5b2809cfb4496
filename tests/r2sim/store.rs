//! The objects: their bodies in files, what is known of them in memory.
//!
//! A body is whole before it becomes an object, and an object is replaced by exchanging its entry, so
//! a reader has either the old bytes or the new. A body lies in as many files as it came in parts,
//! so that completing a large upload copies nothing; they go with the last who holds them.
//! In a directory that is to be kept, each body is one file with a small JSON file beside it, written
//! last.

use std::collections::{BTreeMap, HashMap};
use std::fs::{self, File};
use std::io::{self, Read, Seek, SeekFrom, Write};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::SystemTime;

use data_encoding::HEXLOWER;
use md5::{Digest, Md5};
use serde::{Deserialize, Serialize};
use tempfile::{NamedTempFile, TempDir, TempPath};

/// What a HEAD tells of an object.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ObjectMeta {
    /// In bytes.
    pub len: u64,
    /// Without quotes: the md5 of the body, or `md5-N` after a multipart upload.
    pub etag: String,
    pub last_modified: SystemTime,
    #[serde(flatten)]
    pub attributes: Attributes,
}

/// What a writer says of an object and a reader is told again.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Attributes {
    pub content_type: Option<String>,
    pub content_encoding: Option<String>,
    pub cache_control: Option<String>,
    /// `x-amz-meta-*`.
    pub metadata: HashMap<String, String>,
}

pub struct Store {
    dir: PathBuf,
    /// Removes the directory at drop; `None` when it is to be kept.
    scratch: Option<TempDir>,
    shelf: Mutex<Shelf>,
}

#[derive(Default)]
struct Shelf {
    objects: BTreeMap<String, Object>,
    next: u64,
}

struct Object {
    body: Body,
    meta: ObjectMeta,
}

/// Bytes in files, one after the other. Clones share them.
#[derive(Clone)]
pub struct Body(Vec<Arc<Piece>>);

/// A file, and what becomes of it when nobody needs it any more.
struct Piece {
    file: Place,
    len: u64,
}

enum Place {
    /// It goes.
    Scratch(TempPath),
    /// It stays until its object is removed.
    Kept(PathBuf),
}

impl Piece {
    fn path(&self) -> &Path {
        match &self.file {
            Place::Scratch(path) => path,
            Place::Kept(path) => path,
        }
    }
}

impl Body {
    /// Of several, one after the other.
    pub fn joined<'a>(parts: impl IntoIterator<Item = &'a Body>) -> Self {
        let pieces = parts.into_iter().flat_map(|part| part.0.iter().cloned());
        Self(pieces.collect())
    }

    /// `len` bytes from `start`, file by file, each opened when its turn comes.
    pub fn read(
        &self,
        start: u64,
        len: u64,
    ) -> impl Iterator<Item = io::Result<io::Take<File>>> + use<> {
        let end = start + len;
        let mut at = 0;
        let slices = self.0.clone().into_iter().filter_map(move |piece| {
            let (from, to) = (
                start.max(at) - at,
                end.min(at + piece.len).saturating_sub(at),
            );
            at += piece.len;
            (from < to).then(|| (piece, from, to - from))
        });
        slices.map(|(piece, from, len)| {
            let mut file = File::open(piece.path())?;
            file.seek(SeekFrom::Start(from))?;
            Ok(file.take(len))
        })
    }
}

/// The JSON file beside a kept body.
#[derive(Serialize, Deserialize)]
struct Label {
    key: String,
    meta: ObjectMeta,
}

impl Store {
    /// A store in a directory of its own, gone when the store is dropped.
    pub fn scratch() -> io::Result<Self> {
        let scratch = tempfile::Builder::new().prefix("r2sim-").tempdir()?;
        Ok(Self {
            dir: scratch.path().to_owned(),
            scratch: Some(scratch),
            shelf: Mutex::default(),
        })
    }

    /// The store in `dir`, with what an earlier run left there. Makes the directory if it is missing.
    pub fn kept(dir: &Path) -> io::Result<Self> {
        fs::create_dir_all(dir)?;
        let mut shelf = Shelf::default();
        for file in fs::read_dir(dir)? {
            let label_path = file?.path();
            if label_path.extension().is_none_or(|it| it != "json") {
                continue;
            }
            let label: Label = serde_json::from_slice(&fs::read(&label_path)?)?;
            let body = label_path.with_extension("body");
            if fs::metadata(&body).is_ok_and(|found| found.len() == label.meta.len) {
                let number = body.file_stem().and_then(|it| it.to_str()?.parse().ok());
                shelf.next = shelf.next.max(number.unwrap_or(0) + 1);
                let object = Object {
                    body: kept(body, label.meta.len),
                    meta: label.meta,
                };
                shelf.objects.insert(label.key, object);
            }
        }
        Ok(Self {
            dir: dir.to_owned(),
            scratch: None,
            shelf: Mutex::new(shelf),
        })
    }

    /// A new, empty body; it vanishes unless it is put.
    pub fn spool(&self) -> io::Result<Spool> {
        let (file, path) = NamedTempFile::with_prefix_in("incoming-", &self.dir)?.into_parts();
        Ok(Spool {
            file,
            path,
            len: 0,
            md5: Md5::new(),
        })
    }

    /// Makes a whole body the object `key`, provided that `allows`, which is shown what is there
    /// now, has nothing against it. Nothing can come between the question and the deed.
    pub fn put<E: From<io::Error>>(
        &self,
        key: &str,
        body: Spooled,
        attributes: Attributes,
        allows: impl FnOnce(Option<&ObjectMeta>) -> Result<(), E>,
    ) -> Result<ObjectMeta, E> {
        let mut shelf = self.shelf();
        allows(shelf.objects.get(key).map(|object| &object.meta))?;
        let meta = ObjectMeta {
            len: body.len,
            etag: body.etag,
            last_modified: SystemTime::now(),
            attributes,
        };
        let body = match &self.scratch {
            Some(_) => body.body,
            None => {
                let path = self.dir.join(format!("{:08}.body", shelf.next));
                shelf.next += 1;
                keep(&body.body, &meta, key, path)?
            }
        };
        let object = Object {
            body,
            meta: meta.clone(),
        };
        if let Some(replaced) = shelf.objects.insert(key.to_owned(), object) {
            discard(&replaced)?;
        }
        Ok(meta)
    }

    /// The body and what is known of it. `None`: no such object.
    pub fn open(&self, key: &str) -> Option<(Body, ObjectMeta)> {
        let shelf = self.shelf();
        let object = shelf.objects.get(key)?;
        Some((object.body.clone(), object.meta.clone()))
    }

    /// `None`: no such object.
    pub fn meta(&self, key: &str) -> Option<ObjectMeta> {
        self.shelf()
            .objects
            .get(key)
            .map(|object| object.meta.clone())
    }

    /// Tells whether there was such an object.
    pub fn remove(&self, key: &str) -> io::Result<bool> {
        match self.shelf().objects.remove(key) {
            Some(object) => discard(&object).map(|()| true),
            None => Ok(false),
        }
    }

    /// All objects after `after` whose key begins with `prefix`, in order of their keys.
    pub fn list(&self, prefix: &str, after: &str) -> Vec<(String, ObjectMeta)> {
        self.shelf()
            .objects
            .iter()
            .filter(|(key, _)| key.as_str() > after && key.starts_with(prefix))
            .map(|(key, object)| (key.clone(), object.meta.clone()))
            .collect()
    }

    fn shelf(&self) -> MutexGuard<'_, Shelf> {
        self.shelf.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Makes one file of a body, for good, and says beside it whose it is.
fn keep(body: &Body, meta: &ObjectMeta, key: &str, path: PathBuf) -> io::Result<Body> {
    let new = path.with_extension("new");
    let mut file = File::create(&new)?;
    for piece in body.read(0, meta.len) {
        io::copy(&mut piece?, &mut file)?;
    }
    fs::rename(&new, &path)?;
    let label = Label {
        key: key.to_owned(),
        meta: meta.clone(),
    };
    let text = serde_json::to_vec_pretty(&label).map_err(io::Error::from)?;
    fs::write(path.with_extension("json"), text)?;
    Ok(kept(path, meta.len))
}

fn kept(path: PathBuf, len: u64) -> Body {
    let file = Place::Kept(path);
    Body(vec![Arc::new(Piece { file, len })])
}

/// Removes what would be kept; the rest goes by itself.
fn discard(object: &Object) -> io::Result<()> {
    for piece in &object.body.0 {
        if let Place::Kept(path) = &piece.file {
            fs::remove_file(path.with_extension("json"))?;
            fs::remove_file(path)?;
        }
    }
    Ok(())
}

/// A body on its way in.
pub struct Spool {
    file: File,
    path: TempPath,
    len: u64,
    md5: Md5,
}

impl Spool {
    /// Blocks for as long as the page cache does.
    pub fn write(&mut self, bytes: &[u8]) -> io::Result<()> {
        self.file.write_all(bytes)?;
        self.md5.update(bytes);
        self.len += bytes.len() as u64;
        Ok(())
    }

    pub fn copy_from(&mut self, mut from: impl Read) -> io::Result<()> {
        let mut buffer = vec![0; 256 * 1024];
        loop {
            match from.read(&mut buffer)? {
                0 => return Ok(()),
                count => self.write(&buffer[..count])?,
            }
        }
    }

    pub fn finish(self) -> Spooled {
        let md5: [u8; 16] = self.md5.finalize().into();
        let piece = Piece {
            file: Place::Scratch(self.path),
            len: self.len,
        };
        Spooled {
            body: Body(vec![Arc::new(piece)]),
            len: self.len,
            etag: HEXLOWER.encode(&md5),
            md5,
        }
    }
}

/// A body that is whole but not yet an object.
pub struct Spooled {
    pub body: Body,
    pub len: u64,
    /// Of the bytes.
    pub md5: [u8; 16],
    /// The md5 in hexadecimal, unless the body was put together from parts.
    pub etag: String,
}
