//! How far a journey comes without a question to anybody: its first steps, and the whole of it for
//! whoever cannot wait.

use std::sync::Arc;

use crate::metrics::labels::{Kind, Outcome, Tier};
use crate::nix::key::{DocumentKey, NarKey};
use crate::tier::memory::{Held, HeldNar};

use super::Gateway;
use super::document::kind_of;
use super::freshness::{Age, Freshness};
use super::hot::held_facts;
use super::served::{How, NarFacts, Place};

/// What memory knows of a document, and the index where memory does not.
#[derive(Debug)]
pub enum Remembered {
    /// Within its time.
    Fresh(Arc<Held>, Place),
    Absent,
    /// Past its time: whoever answers by it counts what it was.
    Aged(Arc<Held>, Place, Age),
    Nothing,
}

impl Remembered {
    /// How an answer came about that is made of it; `None`: it is no answer.
    pub fn how(&self) -> Option<How> {
        match self {
            Self::Fresh(_, place) => Some(How::Hit(*place)),
            Self::Absent => Some(How::NegativeHit),
            Self::Aged(..) | Self::Nothing => None,
        }
    }
}

impl Gateway {
    /// What is remembered of a document. It counts once something [comes of
    /// it](Gateway::count_remembered). Waits for the disk where a page of the index is not in memory.
    pub fn remembered(&self, key: &DocumentKey) -> Remembered {
        let (at, now) = (key.object(), self.clock.now());
        // A key is either there or absent, and most that are asked for are there.
        let (held, place) = match self.memory.document(at) {
            Some(held) => (held, Place::Memory),
            None if self.is_known_absent(at, now) => return Remembered::Absent,
            None => match self.recall(key) {
                Some(held) => (held, Place::Index),
                None => return Remembered::Nothing,
            },
        };
        match self.freshness.of(&held, now) {
            Age::Fresh { .. } => Remembered::Fresh(held, place),
            age => Remembered::Aged(held, place, age),
        }
    }

    /// What the index holds, of whatever age, for a memory that does not. What is fresh is in memory
    /// from now on.
    fn recall(&self, key: &DocumentKey) -> Option<Arc<Held>> {
        let at = key.object();
        let seen = self.epochs.now(at);
        let document = self.disk.document(at)?;
        self.learn(key, &document.bytes);
        let validated = Freshness::monotonic(&self.clock, document.validated);
        let held = Arc::new(Held::new(document, validated));
        if let Age::Fresh { .. } = self.freshness.of(&held, self.clock.now()) {
            self.epochs
                .unless_written(at, seen, || self.memory.keep(at, Arc::clone(&held)));
        }
        Some(held)
    }

    /// Something has come of what was remembered: each tier that was passed counts as a miss, and the
    /// one that has the answer as what it is.
    pub fn count_remembered(&self, key: &DocumentKey, remembered: &Remembered) {
        let count = |tier, outcome| self.count(kind_of(key), tier, outcome);
        let (place, outcome) = match remembered {
            Remembered::Absent => return count(Tier::Memory, Outcome::NegativeHit),
            Remembered::Nothing => (Place::Index, Some(Outcome::Miss)),
            Remembered::Fresh(_, place) => (*place, Some(Outcome::Hit)),
            Remembered::Aged(_, place, _) => (*place, None),
        };
        if place == Place::Index {
            count(Tier::Memory, Outcome::Miss);
        }
        if let Some(outcome) = outcome {
            count(place.tier(), outcome);
        }
    }

    /// A NAR that memory holds, and what an answer says of it. It counts once it is [an
    /// answer](Gateway::count_remembered_nar).
    pub fn remembered_nar(&self, key: &NarKey) -> Option<(Arc<HeldNar>, NarFacts)> {
        let held = self.held_nar(key)?;
        let facts = held_facts(&held);
        Some((held, facts))
    }

    /// A NAR in memory becomes an answer.
    pub fn count_remembered_nar(&self) -> How {
        self.count(Kind::Nar, Tier::Memory, Outcome::Hit);
        How::Hit(Place::Memory)
    }
}
