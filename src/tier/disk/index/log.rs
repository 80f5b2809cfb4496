//! Where the documents themselves lie: one file that only grows, beside sled, which keeps the place of
//! each in it.
//!
//! sled reads and takes apart sixteen entries to find one, in as many pieces as they were written in,
//! and writes them all again for every few that change. With places for entries that costs little;
//! with documents it was half of what a narinfo from the index cost.
//!
//! A slot tells the length and the checksum of its record, and the record its key, so what a crash, a
//! cut or a flipped bit left behind is no record, and nothing that is added need be synced. What is
//! replaced or forgotten stays until a compaction copies the rest.

use std::fs::{File, OpenOptions};
use std::io;
use std::os::unix::fs::{FileExt, OpenOptionsExt};
use std::path::Path;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};

use rustix::fs::OFlags;

/// Bytes written at once: while the file is written to, some file systems let nobody read it.
const STRETCH: usize = 256 * 1024;

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

    /// The record in `slot`; `None`: it is not there, or not whole. Waits for the disk where it is not in
    /// the page cache.
    pub fn read(&self, slot: Slot) -> io::Result<Option<Vec<u8>>> {
        if slot.at + u64::from(slot.len) > self.len() {
            return Ok(None);
        }
        let mut record = vec![0; slot.len as usize];
        match self.file.read_exact_at(&mut record, slot.at) {
            Ok(()) => Ok((crc32fast::hash(&record) == slot.checksum).then_some(record)),
            Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => Ok(None),
            Err(error) => Err(error),
        }
    }

    /// Whether `record` is what lies in `slot`.
    pub fn holds(&self, slot: Slot, record: &[u8]) -> io::Result<bool> {
        let may_be = slot.len as usize == record.len() && slot.checksum == crc32fast::hash(record);
        Ok(may_be && self.read(slot)?.as_deref() == Some(record))
    }

    /// Brings what was added to the disk. Blocks.
    pub fn sync(&self) -> io::Result<()> {
        self.file.sync_data()
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

    /// Bytes to be written.
    pub fn len(&self) -> usize {
        self.records.len()
    }

    /// What fails here takes no room: a full disk would be filled by each try.
    pub fn write(self) -> io::Result<()> {
        let mut at = self.from;
        for stretch in self.records.chunks(STRETCH) {
            if let Err(error) = self.log.file.write_all_at(stretch, at) {
                let _ = self.log.file.set_len(self.from);
                return Err(error);
            }
            at += stretch.len() as u64;
        }
        self.log.end.store(at, Ordering::Relaxed);
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
    fn only_the_very_same_record_is_held() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("documents");
        let (log, slots) = filled(&path, &[b"first", b"again"]);
        assert!(log.holds(slots[0], b"first").unwrap());
        for other in [&b"again"[..], b"firs", b""] {
            assert!(!log.holds(slots[0], other).unwrap());
        }
        fs::write(&path, b"FIRSTagain").unwrap();
        assert!(!log.holds(slots[0], b"first").unwrap(), "it is lost");
    }

    /// Here of a file that takes none at all.
    #[test]
    fn a_write_that_fails_leaves_the_log_as_it_was() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("documents");
        let (log, slots) = filled(&path, &[b"first"]);
        let sealed = Log {
            file: File::open(&path).unwrap(),
            end: AtomicU64::new(log.len()),
            writer: Mutex::default(),
        };
        let mut appending = sealed.append();
        appending.push(b"second");
        assert!(appending.write().is_err());
        assert_eq!((sealed.len(), fs::metadata(&path).unwrap().len()), (5, 5));
        assert_eq!(sealed.read(slots[0]).unwrap().unwrap(), b"first");
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
