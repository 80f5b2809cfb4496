//! Puts a NAR on disk so that a crash at any instruction leaves either the whole of it or nothing.
//!
//! Reserve bytes, write under a temporary name, sync, rename, sync the folder, and only then tell
//! the index. The index comes last because a file without an entry is counted and checked again by
//! `recover`, whereas an entry without a file would be a hit that cannot be served. Without the first
//! sync, ext4 leaves files of length zero after a power cut (measured).

use std::fs::{self, File, FileTimes};
use std::io::{self, ErrorKind, Write};
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::SystemTime;

use rustix::fs::FallocateFlags;
use rustix::io::Errno;
use sha2::{Digest, Sha256};

use super::blob::{Blob, UNKNOWN_TIME};
use super::budget::{Grant, cost};
use super::extents::Extents;
use super::files::{self, BLOCK, allocated};
use super::layout::Place;
use super::shelves::{Entry, Facts};
use super::writing::Claim;
use super::{Inner, NoRoom, content, locked};
use crate::nix::hash::Sha256Hash;
use crate::nix::key::ObjectKey;
use crate::object::ETag;

/// For each byte that is written, so many that came out of order earlier may be hashed: what is left
/// over then shrinks while the rest still arrives, and no write waits for long.
const HASH_ON: u64 = 2;

/// Bytes read back at once, to be hashed.
const READ_BACK: u64 = 256 * 1024;

/// What is known of a blob when it is committed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct BlobFacts {
    pub etag: Option<ETag>,
    /// Becomes the file's mtime.
    pub last_modified: Option<SystemTime>,
    /// Whether the content's hash was known and agreed.
    pub verified: bool,
}

/// A blob being written. Dropped without [`BlobWriter::publish`] it leaves nothing behind.
pub struct BlobWriter {
    tier: Arc<Inner>,
    key: ObjectKey,
    place: Place,
    temporary: Temporary,
    file: Arc<File>,
    reserved: u64,
    written: Extents,
    hash: Sha256,
    /// How many bytes from the start are in `hash`.
    hashed: u64,
    grant: Option<Grant>,
    claim: Claim,
}

/// A file that is removed unless it was renamed.
struct Temporary {
    path: PathBuf,
    is_renamed: bool,
}

impl Inner {
    /// Room for `len` bytes under `key`, and a temporary file for them. Blocks.
    pub fn reserve(self: &Arc<Self>, key: &ObjectKey, len: u64) -> Result<BlobWriter, NoRoom> {
        if let Some(objection) = self.health.objection() {
            return Err(NoRoom::Disk(objection));
        }
        let place = self.layout.place(key);
        let beside = if place.sidecar.is_some() { cost(1) } else { 0 };
        let need = cost(len).saturating_add(beside);
        if need > self.settings.capacity || self.settings.max_nar.is_some_and(|most| len > most) {
            return Err(NoRoom::TooLarge);
        }
        let grant = self.grant(need)?;
        // Where blocks cannot be set aside, the grant counts as space that is taken.
        let besides = match self.preallocates.load(Ordering::Relaxed) {
            true => need,
            false => 0,
        };
        self.keep_free(besides)?;
        self.begin(key, place, len, grant).inspect_err(|refusal| {
            if let NoRoom::Disk(error) = refusal {
                self.health.failed(error);
            }
        })
    }

    fn begin(
        self: &Arc<Self>,
        key: &ObjectKey,
        place: Place,
        len: u64,
        mut grant: Grant,
    ) -> Result<BlobWriter, NoRoom> {
        // Made when the blob is whole: readers wait for the file here, and a folder takes as long again.
        let folder = match files::is_folder(&place.folder).map_err(NoRoom::Disk)? {
            true => 0,
            false => BLOCK,
        };
        let path = self.layout.temporary(self.serial());
        let file = match self.spares.take(&path) {
            Some(spare) => spare,
            None => files::create(&path).map_err(NoRoom::Disk)?,
        };
        let temporary = Temporary {
            path,
            is_renamed: false,
        };
        self.allocate(&file, len)?;
        let about = file.metadata().map_err(NoRoom::Disk)?;
        grant.raise_to(grant.bytes().max(allocated(&about)) + folder)?;
        Ok(BlobWriter {
            tier: Arc::clone(self),
            key: key.clone(),
            place,
            temporary,
            file: Arc::new(file),
            reserved: len,
            written: Extents::default(),
            hash: Sha256::new(),
            hashed: 0,
            grant: Some(grant),
            claim: self.writing.begin(key),
        })
    }

    /// Has the file system set the blocks aside, where it can, so that a lack of space shows now and
    /// not in the middle of a fill. On a disk fuller than the books say, evicts as much once.
    fn allocate(&self, file: &File, len: u64) -> Result<(), NoRoom> {
        if len == 0 {
            return Ok(());
        }
        let try_it = || rustix::fs::fallocate(file, FallocateFlags::KEEP_SIZE, 0, len);
        let mut tried = try_it();
        if is_full(tried) {
            self.evict_bytes(cost(len)).map_err(NoRoom::Disk)?;
            tried = try_it();
        }
        match tried {
            Ok(()) => Ok(()),
            Err(Errno::OPNOTSUPP | Errno::NOSYS) => {
                self.preallocates.store(false, Ordering::Relaxed);
                Ok(())
            }
            Err(Errno::NOSPC | Errno::DQUOT | Errno::FBIG) => Err(NoRoom::Full),
            Err(error) => Err(NoRoom::Disk(error.into())),
        }
    }
}

impl BlobWriter {
    /// The growing file, for readers that follow by `pread` up to what is written. It stays
    /// readable after the blob was published, evicted or dropped.
    pub fn reader(&self) -> Arc<File> {
        Arc::clone(&self.file)
    }

    /// Appends. Blocks. Errors: as of [`BlobWriter::write_at`].
    pub fn write(&mut self, chunk: &[u8]) -> io::Result<()> {
        self.write_at(self.written(), chunk)
    }

    /// Writes `chunk` from byte `at` of the blob, in whatever order. Blocks. Errors: the disk's, more
    /// bytes than were reserved, or bytes that were written before; either way the blob is to be
    /// given up, for it is not known how much of `chunk` was written.
    pub fn write_at(&mut self, at: u64, chunk: &[u8]) -> io::Result<()> {
        let len = chunk.len() as u64;
        if at.saturating_add(len) > self.reserved {
            return Err(io::Error::new(
                ErrorKind::FileTooLarge,
                format!(
                    "{} bytes were reserved, more are to be written",
                    self.reserved
                ),
            ));
        }
        if !self.written.add(at, len) {
            let text = format!("some of the {len} bytes from {at} were written before");
            return Err(io::Error::new(ErrorKind::InvalidInput, text));
        }
        self.tier.written.fetch_add(len, Ordering::Relaxed);
        self.file
            .write_all_at(chunk, at)
            .inspect_err(|error| self.tier.health.failed(error))?;
        if at == self.hashed {
            self.hash.update(chunk);
            self.hashed += len;
        }
        self.hash_on(len.saturating_mul(HASH_ON))
    }

    /// How many bytes from the start are written without a gap.
    pub fn written(&self) -> u64 {
        self.written.contiguous()
    }

    /// Hashes what is written and not hashed yet, because it came out of order. Blocks.
    pub fn hash_rest(&mut self) -> io::Result<()> {
        self.hash_on(u64::MAX)
    }

    /// The SHA-256 of what was written so far, provided that it came in order, or that
    /// [`BlobWriter::hash_rest`] was called since.
    pub fn digest(&self) -> Sha256Hash {
        Sha256Hash::from_bytes(self.hash.clone().finalize().into())
    }

    /// Hashes up to `most` bytes that lie before the first gap, read back from the page cache.
    fn hash_on(&mut self, most: u64) -> io::Result<()> {
        let until = self.written().min(self.hashed.saturating_add(most));
        if self.hashed >= until {
            return Ok(());
        }
        let mut buffer = vec![0; READ_BACK.min(until - self.hashed) as usize];
        while self.hashed < until {
            let len = (until - self.hashed).min(READ_BACK) as usize;
            self.file
                .read_exact_at(&mut buffer[..len], self.hashed)
                .inspect_err(|error| self.tier.health.failed(error))?;
            self.hash.update(&buffer[..len]);
            self.hashed += len as u64;
        }
        Ok(())
    }

    /// Makes what was written the blob of its key, in place of an older one. Blocks while the disk
    /// syncs. Errors lose the blob and nothing else; a failed sync is never tried again, because
    /// the kernel may have dropped the pages it could not write. One whose key was removed since it was
    /// reserved is lost too.
    pub fn publish(mut self, about: BlobFacts) -> io::Result<Blob> {
        let published = self
            .seal(&about)
            .and_then(|beside| self.land(&about, beside));
        match &published {
            Ok(_) => self.tier.health.worked(),
            Err(_) if self.claim.is_void() => {}
            Err(error) => self.tier.health.failed(error),
        }
        self.tier.spares.restock(&self.tier.layout.tmp());
        published
    }

    /// Makes the temporary file, the folder it is for, and the sidecar if there is to be one, complete
    /// and durable.
    fn seal(&mut self, about: &BlobFacts) -> io::Result<Option<Temporary>> {
        let len = self.written();
        if len != self.written.total() {
            let text = format!("there is a gap after {len} bytes");
            return Err(io::Error::new(ErrorKind::InvalidData, text));
        }
        if len < self.reserved {
            self.file.set_len(len)?;
        }
        if let Some(bytes) = files::ensure_folder(&self.place.folder)?
            && let Some(grant) = &mut self.grant
        {
            grant.spend_on_folder(bytes);
        }
        let mtime = about.last_modified.unwrap_or(UNKNOWN_TIME);
        self.file.set_times(FileTimes::new().set_modified(mtime))?;
        self.file.sync_all()?;
        if self.place.sidecar.is_none() {
            return Ok(None);
        }
        let sidecar = Temporary {
            path: self.tier.layout.temporary(self.tier.serial()),
            is_renamed: false,
        };
        let mut file = files::create(&sidecar.path)?;
        writeln!(file, "{}", self.key)?;
        file.sync_all()?;
        Ok(Some(sidecar))
    }

    /// Gives the file its name and its place in the books and the index.
    fn land(&mut self, about: &BlobFacts, beside: Option<Temporary>) -> io::Result<Blob> {
        let tier = Arc::clone(&self.tier);
        let mut blocks = allocated(&self.file.metadata()?);
        let moving = locked(&tier.moves);
        if self.claim.is_void() {
            return Err(io::Error::other("it was removed while it was written"));
        }
        for path in std::iter::once(&self.place.path).chain(&self.place.sidecar) {
            if !files::may_replace(path)? {
                let text = format!("{} is no file of this cache", path.display());
                return Err(io::Error::new(ErrorKind::AlreadyExists, text));
            }
        }
        if let (Some(mut sidecar), Some(to)) = (beside, &self.place.sidecar) {
            blocks += allocated(&fs::symlink_metadata(&sidecar.path)?);
            sidecar.rename_to(to)?;
        }
        self.temporary.rename_to(&self.place.path)?;
        let entry = Entry {
            len: self.written(),
            blocks,
            used: tier.now_ms(),
            facts: Some(Facts {
                etag: about.etag.clone(),
                verified: about.verified,
                digest: content::promised_hash(&self.key)
                    .is_none()
                    .then(|| self.digest()),
            }),
        };
        if let Some(grant) = self.grant.take() {
            grant.become_blob(self.key.clone(), entry);
        }
        drop(moving);
        if let Err(error) = files::sync_folder(&self.place.folder) {
            // Here, since the removal voids this writer's own claim too.
            tier.health.failed(&error);
            tier.remove(&self.key);
            return Err(error);
        }
        tier.tell_index_of(&self.key);
        Ok(Blob {
            file: self.reader(),
            len: self.written(),
            etag: about.etag.clone(),
            last_modified: about.last_modified,
            verified: about.verified,
        })
    }
}

impl Drop for BlobWriter {
    fn drop(&mut self) {
        let written = self.written.total();
        self.tier.written.fetch_sub(written, Ordering::Relaxed);
        // The bytes return only once the file that holds them is gone.
        self.temporary.remove();
        self.grant = None;
    }
}

impl Temporary {
    fn rename_to(&mut self, to: &Path) -> io::Result<()> {
        fs::rename(&self.path, to)?;
        self.is_renamed = true;
        Ok(())
    }

    fn remove(&mut self) {
        if !std::mem::replace(&mut self.is_renamed, true)
            && let Err(error) = fs::remove_file(&self.path)
            && error.kind() != ErrorKind::NotFound
        {
            tracing::warn!(path = %self.path.display(), %error, "a temporary file stays until the next start");
        }
    }
}

impl Drop for Temporary {
    fn drop(&mut self) {
        self.remove();
    }
}

fn is_full(tried: rustix::io::Result<()>) -> bool {
    matches!(tried, Err(Errno::NOSPC | Errno::DQUOT))
}

impl std::fmt::Debug for BlobWriter {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("BlobWriter")
            .field("key", &self.key)
            .field("reserved", &self.reserved)
            .field("written", &self.written.total())
            .finish_non_exhaustive()
    }
}
