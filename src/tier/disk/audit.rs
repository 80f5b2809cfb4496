//! `narwharf verify`: every blob against the hash in its name, beside a running server or without.
//!
//! Without a server the directory's lock is taken, so that nobody changes what is being looked at,
//! and rotten blobs can be set aside. Beside one nothing is locked and nothing touched: a blob that is
//! being looked at stays readable whatever the server does with it. Only names are needed; the index,
//! which a running server has to itself, is not opened.

use std::fs;
use std::io;
use std::time::SystemTime;

use super::claim::{self, Claim, OpenError};
use super::files;
use super::index::millis;
use super::layout::Layout;
use super::{content, walk};
use crate::config;
use crate::nix::hash::Sha256Hash;
use crate::nix::key::ObjectKey;

/// A cache directory being looked through.
#[derive(Debug)]
pub struct Audit {
    layout: Layout,
    /// `None`: a server has it.
    claim: Option<Claim>,
}

/// A blob that is there.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Listed {
    pub key: ObjectKey,
    /// In bytes.
    pub len: u64,
}

/// What a blob turned out to be.
#[derive(Debug)]
pub enum Verdict {
    Sound,
    /// It was read through, but its name is no hash that it could be compared with.
    Unnamed,
    Rotten {
        expected: Sha256Hash,
        found: Sha256Hash,
    },
    Unreadable(io::Error),
    /// Evicted since it was listed.
    Gone,
}

impl Audit {
    /// Takes the lock if nobody has it. `None`: there is no cache yet. Errors: it is not ours, or
    /// cannot be read. Changes nothing on disk.
    pub fn begin(settings: &config::Disk) -> Result<Option<Self>, OpenError> {
        let layout = Layout::new(&settings.path);
        claim::inspect(&layout)?;
        let claim = match Claim::take_as_it_is(&layout) {
            Ok(Some(claim)) => Some(claim),
            Ok(None) => return Ok(None),
            Err(OpenError::Locked { .. }) => None,
            Err(error) => return Err(error),
        };
        Ok(Some(Self { layout, claim }))
    }

    /// Whether no server is at work on the directory, so that [`Audit::set_aside`] may be called.
    pub fn is_alone(&self) -> bool {
        self.claim.is_some()
    }

    /// All blobs, in the order of their places.
    pub fn list(&self) -> io::Result<Vec<Listed>> {
        let mut listed = Vec::new();
        for folder in walk::folders(&self.layout)? {
            for key in walk::blobs_in(&self.layout, &folder)? {
                let about = fs::symlink_metadata(self.layout.place(&key).path);
                listed.push(Listed {
                    key,
                    len: about.map_or(0, |about| about.len()),
                });
            }
        }
        Ok(listed)
    }

    /// Reads a blob through; `read` is told how many bytes more.
    pub fn check(&self, key: &ObjectKey, mut read: impl FnMut(u64)) -> Verdict {
        let opened = match files::open_blob(&self.layout.place(key)) {
            Ok(Some((file, _))) => file,
            Ok(None) => return Verdict::Gone,
            Err(error) => return Verdict::Unreadable(error),
        };
        let digest = content::digest(&opened, |bytes| {
            read(bytes);
            true
        });
        match (digest, content::promised_hash(key)) {
            (Err(error), _) => Verdict::Unreadable(error),
            (Ok(None), _) => Verdict::Gone,
            (Ok(Some(_)), None) => Verdict::Unnamed,
            (Ok(Some(found)), Some(expected)) if found == expected => Verdict::Sound,
            (Ok(Some(found)), Some(expected)) => Verdict::Rotten { expected, found },
        }
    }

    /// Moves a blob to `quarantine/`; the server fills it anew when it is asked for. Errors: the
    /// disk's, and when a server is at work.
    pub fn set_aside(&self, key: &ObjectKey) -> io::Result<()> {
        if self.claim.is_none() {
            return Err(io::Error::other("a server is at work on this directory"));
        }
        let serial = millis(SystemTime::now()) << 20;
        files::set_aside(&self.layout, &self.layout.place(key), serial).map(drop)
    }
}

#[cfg(test)]
mod tests {
    use super::super::tests::{Bed, hit, key, key_of, miss, names, put};
    use super::*;

    fn verdicts(audit: &Audit) -> Vec<String> {
        let listed = audit.list().unwrap();
        let of = |blob: &Listed| match audit.check(&blob.key, |_| {}) {
            Verdict::Sound => "sound",
            Verdict::Unnamed => "unnamed",
            Verdict::Rotten { .. } => "rotten",
            Verdict::Unreadable(_) => "unreadable",
            Verdict::Gone => "gone",
        };
        let mut all: Vec<_> = listed.iter().map(|blob| of(blob).to_owned()).collect();
        all.sort();
        all
    }

    #[test]
    fn without_a_server_what_is_rotten_is_set_aside_and_nothing_else() {
        let bed = Bed::new();
        let tier = bed.open();
        let (good, bad, odd) = (key_of(b"good"), key_of(b"bad"), key("nar/odd.nar"));
        put(&tier, &good, b"good");
        put(&tier, &bad, b"bad");
        put(&tier, &odd, b"odd");
        fs::write(tier.inner.layout.place(&bad).path, "BAD").unwrap();
        drop(tier);
        let audit = Audit::begin(&bed.settings).unwrap().unwrap();
        assert!(audit.is_alone());
        assert_eq!(verdicts(&audit), ["rotten", "sound", "unnamed"]);
        audit.set_aside(&bad).unwrap();
        assert_eq!(verdicts(&audit), ["sound", "unnamed"]);
        assert_eq!(names(&bed.path("quarantine")).len(), 1);
        drop(audit);
        let tier = bed.open();
        hit(&tier, &good);
        hit(&tier, &odd);
        miss(&tier, &bad);
    }

    #[test]
    fn beside_a_server_it_reads_and_touches_nothing() {
        let bed = Bed::new();
        let tier = bed.open();
        put(&tier, &key_of(b"good"), b"good");
        let audit = Audit::begin(&bed.settings).unwrap().unwrap();
        assert!(!audit.is_alone());
        assert_eq!(verdicts(&audit), ["sound"]);
        assert!(audit.set_aside(&key_of(b"good")).is_err());
        tier.remove(&key_of(b"good"));
        let gone = audit.check(&key_of(b"good"), |_| {});
        assert!(matches!(gone, Verdict::Gone));
    }

    #[test]
    fn where_no_cache_is_nothing_is_made() {
        let bed = Bed::new();
        assert!(Audit::begin(&bed.settings).unwrap().is_none());
        assert!(!bed.settings.path.exists());
        fs::create_dir(&bed.settings.path).unwrap();
        assert!(Audit::begin(&bed.settings).unwrap().is_none());
        fs::write(bed.path("thesis.tex"), "years of work").unwrap();
        assert!(Audit::begin(&bed.settings).is_err());
        assert_eq!(names(&bed.settings.path), ["thesis.tex"]);
    }
}
