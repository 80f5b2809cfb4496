//! Which bytes a NAR's name stands for: its own name if that is a hash, else what a narinfo said.
//!
//! Nix names a NAR by the SHA-256 of the file, so almost always the name is enough. Other writers
//! (nix-serve, harmonia, attic) name it after the store path; for those the narinfo's `FileHash`
//! counts, or its `NarHash` where the NAR is not compressed. Bounded, and lost at a restart: then
//! such a NAR is checked by length and tag only, which is counted.

use crate::nix::compression::Compression;
use crate::nix::hash::Sha256Hash;
use crate::nix::key::NarKey;
use crate::nix::narinfo::Narinfo;
use crate::tier::memory::Notes;

/// Names remembered; about 150 bytes each.
const MAX_NAMES: u64 = 100_000;

/// What narinfos said about NARs whose names are no hashes.
#[derive(Debug)]
pub struct Expected {
    by_name: Notes<Sha256Hash>,
}

impl Default for Expected {
    fn default() -> Self {
        Self {
            by_name: Notes::new(MAX_NAMES, None),
        }
    }
}

impl Expected {
    /// Whether a narinfo could say anything new of this NAR.
    pub fn could_learn(&self, nar: &NarKey) -> bool {
        nar.content_hash().is_none()
    }

    /// A narinfo was seen that speaks of this NAR.
    pub fn learn(&self, nar: &NarKey, narinfo: &Narinfo) {
        if !self.could_learn(nar) {
            return;
        }
        let uncompressed = narinfo.compression == Compression::None;
        let hash = narinfo
            .file_hash
            .or(uncompressed.then_some(narinfo.nar_hash));
        if let Some(hash) = hash {
            self.by_name.put(nar.object(), hash);
        }
    }

    /// The hash the NAR's bytes must have; `None`: nobody knows.
    pub fn hash_of(&self, nar: &NarKey) -> Option<Sha256Hash> {
        nar.content_hash()
            .or_else(|| self.by_name.get(nar.object()))
    }
}
