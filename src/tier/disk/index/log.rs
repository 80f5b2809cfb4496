//! Where the documents themselves lie: one file that only grows, beside sled, which keeps the place of
//! each in it.
//!
//! sled reads and takes apart sixteen entries to find one, in as many pieces as they were written in,
//! and writes them all again for every few that change. With places for entries that costs little;
//! with documents it was half of what a narinfo from the index cost.
//!
//! Nothing here is synced, and nothing need be: a slot tells the length and the checksum of its record,
//! and the record its key, so what a crash, a cut or a flipped bit left behind is no record. What is
//! replaced or forgotten stays until a compaction copies the rest.

use std::fs::{File, OpenOptions};
use std::io;
use std::os::unix::fs::{FileExt, OpenOptionsExt};
use std::path::Path;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};

use rustix::fs::OFlags;

/// Where a record lies.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Slot {
    /// Of its first byte, from the beginning of the file.
    pub at: u64,
    /// Bytes.
    pub len: u32,
    /// CRC-32 (IEEE) of them.
    pub checksum: u32,
}

/// The open file.
pub(super) struct Log {
    file: File,
    /// Where the next record begins.
    end: AtomicU64,
    writer: Mutex<()>,
}

impl Log {
    /// Opens or creates it; symbolic links are not followed.
    pub fn open(path: &Path) -> io::Result<Self> {
        let file = OpenOptions::new()
            .read(true)
            .write(true)
            .create(true)
            .truncate(false)
            .custom_flags(OFlags::NOFOLLOW.bits().cast_signed())
            .open(path)?;
        let end = AtomicU64::new(file.metadata()?.len());
        let writer = Mutex::default();
        Ok(Self { file, end, writer })
    }

    /// Bytes, those of dead records included.
    pub fn len(&self) -> u64 {
        self.end.load(Ordering::Relaxed)
    }

    /// The record in `slot`; `None`: it is not there, or not whole.
    pub fn read(&self, slot: Slot) -> io::Result<Option<Vec<u8>>> {
        let mut record = vec![0; slot.len as usize];
        match self.file.read_exact_at(&mut record, slot.at) {
            Ok(()) => Ok((crc32fast::hash(&record) == slot.checksum).then_some(record)),
            Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => Ok(None),
            Err(error) => Err(error),
        }
    }

    /// Begins to add records, which takes one writer at a time.
    pub fn append(&self) -> Appending<'_> {
        let turn = self.writer.lock().unwrap_or_else(PoisonError::into_inner);
        Appending {
            log: self,
            from: self.len(),
            records: Vec::new(),
            _turn: turn,
        }
    }
}

/// Records on their way into the log, written all at once.
pub(super) struct Appending<'a> {
    log: &'a Log,
    from: u64,
    records: Vec<u8>,
    _turn: MutexGuard<'a, ()>,
}

impl Appending<'_> {
    /// Adds a record. Its slot holds once [`Appending::write`] has succeeded.
    pub fn push(&mut self, record: &[u8]) -> Slot {
        let at = self.from + self.records.len() as u64;
        self.records.extend_from_slice(record);
        Slot {
            at,
            len: u32::try_from(record.len()).expect("a document is bounded far below 4 GiB"),
            checksum: crc32fast::hash(record),
        }
    }

    /// What fails here is written over by the next.
    pub fn write(self) -> io::Result<()> {
        self.log.file.write_all_at(&self.records, self.from)?;
        let end = self.from + self.records.len() as u64;
        self.log.end.store(end, Ordering::Relaxed);
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs;

    fn filled(path: &Path, records: &[&[u8]]) -> (Log, Vec<Slot>) {
        let log = Log::open(path).unwrap();
        let mut appending = log.append();
        let slots = records
            .iter()
            .map(|record| appending.push(record))
            .collect();
        appending.write().unwrap();
        (log, slots)
    }

    #[test]
    fn records_are_read_as_they_were_written_and_by_the_next_who_opens() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("documents");
        let (first, slots) = filled(&path, &[b"one", b"", b"three"]);
        drop(first);
        let (log, more) = filled(&path, &[b"four"]);
        let slots = [slots, more].concat();
        let read: Vec<_> = slots.iter().map(|slot| log.read(*slot).unwrap()).collect();
        let wanted: [&[u8]; 4] = [b"one", b"", b"three", b"four"];
        assert_eq!(read, wanted.map(|record| Some(record.to_vec())));
        assert_eq!(log.len(), 12);
    }

    #[test]
    fn a_record_that_was_changed_or_cut_off_is_none() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("documents");
        let (log, slots) = filled(&path, &[b"first", b"second"]);
        fs::write(&path, b"fiRstsec").unwrap();
        assert_eq!(log.read(slots[0]).unwrap(), None, "changed");
        assert_eq!(log.read(slots[1]).unwrap(), None, "cut off");
    }

    #[test]
    fn nothing_is_written_through_a_link() {
        let folder = tempfile::tempdir().unwrap();
        let elsewhere = folder.path().join("elsewhere");
        fs::write(&elsewhere, "mine").unwrap();
        let path = folder.path().join("documents");
        std::os::unix::fs::symlink(&elsewhere, &path).unwrap();
        assert!(Log::open(&path).is_err());
    }
}
