//! The third space: small NARs, whole.
//!
//! What is pushed out lives on while a client is being sent it, and how long that takes is up to the
//! client. So a NAR's memory is counted from before it is read until nobody holds it any more, and
//! what is counted stays below [`AT_MOST`] times the space: where clients are slow to take what was
//! pushed out, nothing new comes in.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Instant, SystemTime};

use bytes::Bytes;
use moka::sync::Cache;

use super::{Hasher, weight};
use crate::nix::key::ObjectKey;
use crate::object::ETag;

/// All NARs in memory, those pushed out with them, take so many times the space for them.
pub const AT_MOST: u64 = 2;

/// A NAR in memory, with what answers say of it.
#[derive(Debug)]
pub struct HeldNar {
    pub bytes: Bytes,
    pub tag: ETag,
    pub last_modified: Option<SystemTime>,
    since: Instant,
    /// The last use that was news, in seconds after `since`.
    told: AtomicU64,
}

impl HeldNar {
    /// `now`: of the read, which counts as a use.
    pub fn new(bytes: Bytes, tag: ETag, last_modified: Option<SystemTime>, now: Instant) -> Self {
        Self {
            bytes,
            tag,
            last_modified,
            since: now,
            told: AtomicU64::new(0),
        }
    }

    /// Whether a use now is worth telling those who keep books that all workers share. `true` once
    /// a second, to one of those who ask.
    pub fn use_is_news(&self, now: Instant) -> bool {
        let second = now.saturating_duration_since(self.since).as_secs();
        self.told.load(Ordering::Relaxed) < second
            && self.told.fetch_max(second, Ordering::Relaxed) < second
    }
}

/// Memory for a NAR that is yet to be read; dropped, it is free again.
#[derive(Debug)]
pub struct Room {
    bytes: u64,
    taken: Arc<AtomicU64>,
}

impl Room {
    /// Puts the NAR there. The room is taken until its last clone and slice is dropped.
    pub fn fill(self, nar: Vec<u8>) -> Bytes {
        Bytes::from_owner(Filled { nar, _room: self })
    }
}

impl Drop for Room {
    fn drop(&mut self) {
        self.taken.fetch_sub(self.bytes, Ordering::Relaxed);
    }
}

struct Filled {
    nar: Vec<u8>,
    _room: Room,
}

impl AsRef<[u8]> for Filled {
    fn as_ref(&self) -> &[u8] {
        &self.nar
    }
}

#[derive(Debug)]
pub(super) struct Nars {
    cache: Cache<ObjectKey, Arc<HeldNar>, Hasher>,
    /// In bytes.
    capacity: u64,
    /// By NARs in the cache, on their way to it, and pushed out of it but still being sent.
    taken: Arc<AtomicU64>,
}

impl Nars {
    pub fn new(capacity: u64) -> Self {
        Self {
            cache: Cache::builder()
                .max_capacity(capacity)
                .weigher(|key: &ObjectKey, held: &Arc<HeldNar>| weight(key, held.bytes.len()))
                .build_with_hasher(Hasher::default()),
            capacity,
            taken: Arc::default(),
        }
    }

    /// Whether a NAR of `len` bytes could ever be here.
    pub fn could_hold(&self, key: &ObjectKey, len: usize) -> bool {
        u64::from(weight(key, len)) <= self.capacity
    }

    pub fn room(&self, key: &ObjectKey, len: usize) -> Option<Room> {
        let bytes = u64::from(weight(key, len));
        let most = self.capacity.saturating_mul(AT_MOST);
        let with = |taken: u64| taken.checked_add(bytes).filter(|sum| *sum <= most);
        let (success, failure) = (Ordering::Relaxed, Ordering::Relaxed);
        self.taken.fetch_update(success, failure, with).ok()?;
        Some(Room {
            bytes,
            taken: Arc::clone(&self.taken),
        })
    }

    pub fn get(&self, key: &ObjectKey) -> Option<Arc<HeldNar>> {
        self.cache.get(key)
    }

    pub fn keep(&self, key: &ObjectKey, held: Arc<HeldNar>) {
        self.cache.insert(key.clone(), held);
    }

    pub fn forget(&self, key: &ObjectKey) {
        self.cache.invalidate(key);
    }

    pub fn tidy(&self) {
        self.cache.run_pending_tasks();
    }

    /// Bytes, and NARs.
    pub fn size(&self) -> (u64, u64) {
        (self.cache.weighted_size(), self.cache.entry_count())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::Duration;

    const LEN: usize = 10_000;

    fn key(n: usize) -> ObjectKey {
        ObjectKey::from_stored(&format!("nar/{n:052}.nar")).unwrap()
    }

    fn kept(nars: &Nars, n: usize) -> Option<Bytes> {
        let bytes = nars.room(&key(n), LEN)?.fill(vec![n as u8; LEN]);
        let tag = ETag::new("tag").unwrap();
        let held = HeldNar::new(bytes.clone(), tag, None, Instant::now());
        nars.keep(&key(n), Arc::new(held));
        nars.tidy();
        Some(bytes)
    }

    #[test]
    fn clients_that_hold_on_to_nars_pushed_out_cost_as_much_again_and_no_more() {
        let nars = Nars::new(10 * LEN as u64);
        let mut on_their_way = Vec::new();
        while let Some(bytes) = kept(&nars, on_their_way.len()) {
            on_their_way.push(bytes);
        }
        assert!(on_their_way.len() * LEN <= 2 * 10 * LEN);
        assert!(on_their_way.len() > 10);
        assert!(nars.size().0 <= 10 * LEN as u64);
        // Once they have taken it, there is room again.
        on_their_way.clear();
        assert!(kept(&nars, 99).is_some());
    }

    #[test]
    fn a_space_of_nothing_holds_nothing_not_even_an_empty_nar() {
        let nars = Nars::new(0);
        assert!(!nars.could_hold(&key(0), 0));
        assert!(nars.room(&key(0), 0).is_none());
    }

    #[test]
    fn a_use_is_news_once_a_second() {
        let (tag, start) = (ETag::new("tag").unwrap(), Instant::now());
        let held = HeldNar::new(Bytes::new(), tag, None, start);
        let after = |ms| held.use_is_news(start + Duration::from_millis(ms));
        let news = [0, 999, 1000, 1001, 1999, 5000, 5001].map(after);
        assert_eq!(news, [false, false, true, false, false, true, false]);
    }
}
