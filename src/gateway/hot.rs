//! Which NARs leave from memory: the small ones that are asked for again and again.
//!
//! From the disk a NAR takes an open, a look at the file and a `sendfile` for each request; from
//! memory it leaves with its head in one write. Only NARs whose name is the hash of their bytes come
//! in, and only once their bytes have been held to it, so nothing in memory can become wrong. They
//! come in beside the request that gave the occasion, which is served from the file.
//!
//! ```text
//! hit on disk ──▶ noted ──hit again, soon──▶ read whole ─┬─right──▶ in memory
//!                                                        └─wrong──▶ the blob is set aside
//! ```
//! What is removed or written leaves memory in the same step in which the key's epoch moves on, so a
//! read that began before cannot bring it back. What the disk tier evicts or sets aside may stay: it
//! is a file that goes then, and these bytes were checked.

use std::collections::HashSet;
use std::io;
use std::os::unix::fs::FileExt;
use std::sync::{Arc, Mutex, MutexGuard, Weak};
use std::time::Duration;

use crate::nix::hash::Sha256Hash;
use crate::nix::key::{NarKey, ObjectKey};
use crate::tier::disk::{Blob, BlobLookup};
use crate::tier::memory::{HeldNar, MemoryTier, NarRoom, Notes};

use super::Gateway;
use super::epochs::Epoch;
use super::nar::tag_of;
use super::served::NarFacts;

/// Bytes of the largest NAR that comes in. Above it a few system calls are nothing beside copying the
/// bytes into the socket, which `sendfile` does not do, and one would push out hundreds.
const LARGEST: u64 = 1 << 20;

/// From a NAR's first hit on disk to the second one; and from one attempt to bring it in to the next,
/// or those that memory has no place for would be read and hashed for every other request.
const SOON: Duration = Duration::from_secs(60);

/// Hits remembered, about 200 bytes each; the least asked for is forgotten first.
const MOST: u64 = 10_000;

/// NARs read at once, a few milliseconds of a core each. One that finds no place comes with a later
/// hit.
const AT_ONCE: usize = 2;

/// What was seen of a NAR on disk lately.
#[derive(Debug, Clone, Copy)]
enum Seen {
    Once,
    /// And it was read, whatever came of that.
    Again,
}

/// The hits on disk, and the NARs that are being read because of them.
#[derive(Debug)]
pub struct Hot {
    seen: Notes<Seen>,
    being_read: Arc<Mutex<HashSet<ObjectKey>>>,
}

impl Default for Hot {
    fn default() -> Self {
        Self {
            seen: Notes::new(MOST, Some(SOON)),
            being_read: Arc::default(),
        }
    }
}

/// Leave to read a NAR, until this is dropped.
struct Turn {
    key: ObjectKey,
    being_read: Arc<Mutex<HashSet<ObjectKey>>>,
}

impl Drop for Turn {
    fn drop(&mut self) {
        locked(&self.being_read).remove(&self.key);
    }
}

impl Hot {
    /// A hit on disk. `Some`: the NAR is to be read, and there is where to.
    fn hit(&self, key: &ObjectKey, len: usize, memory: &MemoryTier) -> Option<(Turn, NarRoom)> {
        match self.seen.get(key) {
            None => {
                self.seen.put(key, Seen::Once);
                None
            }
            Some(Seen::Again) => None,
            Some(Seen::Once) => {
                let (room, turn) = (memory.room_for_nar(key, len)?, self.turn(key)?);
                self.seen.put(key, Seen::Again);
                Some((turn, room))
            }
        }
    }

    /// One a key, and so many in all.
    fn turn(&self, key: &ObjectKey) -> Option<Turn> {
        let mut being_read = locked(&self.being_read);
        let may = being_read.len() < AT_ONCE && being_read.insert(key.clone());
        may.then(|| Turn {
            key: key.clone(),
            being_read: Arc::clone(&self.being_read),
        })
    }
}

impl Gateway {
    /// A NAR that memory holds. Counts as a use on disk too, or the tier would evict as idle what is
    /// asked for the most.
    pub(super) fn held_nar(&self, key: &NarKey) -> Option<Arc<HeldNar>> {
        key.content_hash()?;
        let held = self.memory.nar(key.object())?;
        if held.use_is_news(self.clock.now()) {
            self.disk.note_use(key.object());
        }
        Some(held)
    }

    /// Takes note of a hit on disk, and has the NAR brought into memory if that is its due.
    pub(super) fn note_hit(self: &Arc<Self>, key: &NarKey, blob: &Blob) {
        let (at, len) = (key.object(), blob.len as usize);
        let Some(hash) = key.content_hash().filter(|_| blob.len <= LARGEST) else {
            return;
        };
        if !self.memory.could_hold_nar(at, len) {
            return;
        }
        if let Some((turn, room)) = self.hot.hit(at, len, &self.memory) {
            let (gateway, key) = (Arc::downgrade(self), key.clone());
            self.engine.spawn_blocking(move || {
                let _turn = turn;
                bring_in(&gateway, &key, hash, len, room);
            });
        }
    }

    /// The blob as it is after the epoch, whoever changes it then.
    fn find_after_epoch(&self, at: &ObjectKey) -> Option<(Epoch, Blob)> {
        let epoch = self.epochs.now(at);
        match self.disk.lookup(at) {
            BlobLookup::Hit(blob) => Some((epoch, blob)),
            BlobLookup::Unindexed(_) | BlobLookup::Miss => None,
        }
    }
}

/// Reads a NAR of `len` bytes into `room`, and puts it into memory if it is right. `None`: it is not,
/// or is not there any more. Blocks, and meanwhile keeps nobody from closing the disk tier.
fn bring_in(
    gateway: &Weak<Gateway>,
    key: &NarKey,
    hash: Sha256Hash,
    len: usize,
    room: NarRoom,
) -> Option<()> {
    let at = key.object();
    let (epoch, blob) = gateway.upgrade()?.find_after_epoch(at)?;
    let read = read_whole(&blob, len);
    let nar = read
        .inspect_err(|error| tracing::debug!(key = %at, %error, "a hot NAR could not be read"))
        .ok()?;
    let is_right = Sha256Hash::of(&nar) == hash;
    let gateway = gateway.upgrade()?;
    if !is_right {
        gateway.disk.quarantine(at, &blob);
        return None;
    }
    let held = HeldNar::new(
        room.fill(nar),
        tag_of(key, None)?,
        blob.last_modified,
        gateway.clock.now(),
    );
    let (epochs, memory) = (&gateway.epochs, &gateway.memory);
    epochs.unless_written(at, epoch, || memory.keep_nar(at, Arc::new(held)))?;
    memory.tidy_nars();
    Some(())
}

fn read_whole(blob: &Blob, len: usize) -> io::Result<Vec<u8>> {
    if blob.len != len as u64 {
        return Err(io::ErrorKind::InvalidData.into());
    }
    let mut nar = vec![0; len];
    blob.file.read_exact_at(&mut nar, 0)?;
    Ok(nar)
}

/// What an answer says of a NAR in memory: the same as from the disk.
pub(super) fn held_facts(held: &HeldNar) -> NarFacts {
    NarFacts {
        len: held.bytes.len() as u64,
        tag: Some(held.tag.clone()),
        last_modified: held.last_modified,
        immutable: true,
    }
}

fn locked(being_read: &Mutex<HashSet<ObjectKey>>) -> MutexGuard<'_, HashSet<ObjectKey>> {
    being_read.lock().expect("no panic under this lock")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn key(n: usize) -> ObjectKey {
        ObjectKey::from_stored(&format!("nar/{n:052}.nar")).unwrap()
    }

    #[test]
    fn the_second_hit_has_a_nar_read_and_the_next_ones_do_not() {
        let (hot, memory) = (Hot::default(), MemoryTier::new(0, 0, 1 << 20));
        assert!(hot.hit(&key(1), 10, &memory).is_none());
        let turn = hot.hit(&key(1), 10, &memory);
        assert!(turn.is_some());
        assert!(hot.hit(&key(1), 10, &memory).is_none());
        drop(turn);
        assert!(hot.hit(&key(1), 10, &memory).is_none());
    }

    #[test]
    fn a_nar_that_finds_no_place_comes_with_a_later_hit() {
        let (hot, memory) = (Hot::default(), MemoryTier::new(0, 0, 1 << 20));
        let mut turns: Vec<_> = (0..AT_ONCE).map(|n| hot.turn(&key(n)).unwrap()).collect();
        assert!(hot.hit(&key(9), 10, &memory).is_none());
        assert!(hot.hit(&key(9), 10, &memory).is_none(), "no turn");
        turns.pop();
        let room = memory.room_for_nar(&key(9), 2_000_000);
        assert!(hot.hit(&key(9), 200_000, &memory).is_none(), "no room");
        drop(room);
        assert!(hot.hit(&key(9), 200_000, &memory).is_some());
    }

    #[test]
    fn a_nar_is_read_once_at_a_time() {
        let hot = Hot::default();
        let turn = hot.turn(&key(1));
        assert!(turn.is_some() && hot.turn(&key(1)).is_none());
        drop(turn);
        assert!(hot.turn(&key(1)).is_some());
    }
}
