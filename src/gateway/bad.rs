//! Objects in the bucket whose bytes were wrong, so that they are not downloaded over and over.
//!
//! A client that was cut short comes back at once and would have the same gigabytes read again for
//! nothing. So a bad object rests: a second at first, twice as long each time, a minute at most
//! (`design.md` §10.3). While it rests the bucket is asked for any *other* version, which costs a
//! request and no bytes; a new one is read as if nothing had been.

use std::time::{Duration, Instant};

use crate::nix::key::ObjectKey;
use crate::object::ETag;
use crate::tier::memory::Notes;

const FIRST_REST: Duration = Duration::from_secs(1);
const LONGEST_REST: Duration = Duration::from_secs(60);

/// Objects remembered, about 200 bytes each; the least asked for is forgotten first.
const MOST: u64 = 10_000;

/// A bad object that nobody asked for during this is forgotten.
const FORGOTTEN: Duration = Duration::from_secs(600);

/// All objects that were found to be bad.
#[derive(Debug)]
pub struct BadObjects(Notes<Bad>);

/// What is known of one.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Bad {
    /// The version that was bad; `None`: the bucket named none.
    pub etag: Option<ETag>,
    times: u32,
    rests_until: Instant,
}

impl Default for BadObjects {
    fn default() -> Self {
        Self(Notes::new(MOST, Some(FORGOTTEN)))
    }
}

impl BadObjects {
    /// This version of the object was wrong once more.
    pub fn remember(&self, key: &ObjectKey, etag: Option<&ETag>, now: Instant) {
        let before = self.0.get(key).filter(|bad| bad.etag.as_ref() == etag);
        let times = before.map_or(0, |bad| bad.times);
        let rest = FIRST_REST.saturating_mul(1 << times.min(6));
        self.0.put(
            key,
            Bad {
                etag: etag.cloned(),
                times: times + 1,
                rests_until: now + rest.min(LONGEST_REST),
            },
        );
    }

    /// The object's bad version, while it rests.
    pub fn resting(&self, key: &ObjectKey, now: Instant) -> Option<Bad> {
        self.0.get(key).filter(|bad| now < bad.rests_until)
    }

    /// The object was read and was right.
    pub fn forget(&self, key: &ObjectKey) {
        self.0.forget(key);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn key() -> ObjectKey {
        ObjectKey::from_stored("nar/a.nar").unwrap()
    }

    fn tag(text: &str) -> ETag {
        ETag::new(text).unwrap()
    }

    /// How long the object rests when found bad now.
    fn rest(bad: &BadObjects, etag: &ETag, now: Instant) -> Duration {
        bad.remember(&key(), Some(etag), now);
        bad.resting(&key(), now).unwrap().rests_until - now
    }

    #[test]
    fn a_bad_object_rests_twice_as_long_each_time_up_to_a_minute() {
        let (bad, now) = (BadObjects::default(), Instant::now());
        let rests: Vec<u64> = (0..9)
            .map(|_| rest(&bad, &tag("a"), now).as_secs())
            .collect();
        assert_eq!(rests, [1, 2, 4, 8, 16, 32, 60, 60, 60]);
    }

    #[test]
    fn after_its_rest_it_may_be_read_again() {
        let (bad, now) = (BadObjects::default(), Instant::now());
        bad.remember(&key(), Some(&tag("a")), now);
        assert_eq!(bad.resting(&key(), now).unwrap().etag, Some(tag("a")));
        assert_eq!(bad.resting(&key(), now + FIRST_REST), None);
    }

    #[test]
    fn another_version_begins_anew_and_a_good_one_clears_it() {
        let (bad, now) = (BadObjects::default(), Instant::now());
        for _ in 0..5 {
            bad.remember(&key(), Some(&tag("a")), now);
        }
        assert_eq!(rest(&bad, &tag("b"), now), FIRST_REST);
        bad.forget(&key());
        assert_eq!(bad.resting(&key(), now), None);
    }
}
