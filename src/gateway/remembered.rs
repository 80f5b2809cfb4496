//! How far a journey comes without a question to anybody: its first steps, and the whole of it for
//! whoever cannot wait.

use std::sync::Arc;

use crate::metrics::labels::{Kind, Outcome, Tier};
use crate::nix::key::{DocumentKey, NarKey};
use crate::tier::memory::{Held, HeldNar};

use super::Gateway;
use super::document::kind_of;
use super::epochs::Epoch;
use super::freshness::{Age, Freshness};
use super::hot::held_facts;
use super::served::{How, NarFacts, Place};

/// What memory knows of a document, and the index where memory does not.
#[derive(Debug)]
pub enum Remembered {
    /// In memory, within its time.
    Fresh(Arc<Held>),
    /// In the index, within its time; read after that epoch of its key.
    Recalled(Arc<Held>, Epoch),
    Absent,
    Aged(Aged),
    Nothing,
}

/// A document past its time: whoever answers by it counts what it was.
#[derive(Debug, Clone)]
pub struct Aged {
    pub held: Arc<Held>,
    pub place: Place,
    pub age: Age,
    /// It was read after that epoch of its key, so that a write since is not undone by keeping it on.
    pub seen: Epoch,
}

impl Remembered {
    /// A document within its time.
    pub fn held(&self) -> Option<&Arc<Held>> {
        match self {
            Self::Fresh(held) | Self::Recalled(held, _) => Some(held),
            Self::Absent | Self::Aged(..) | Self::Nothing => None,
        }
    }

    /// How an answer came about that is made of it; `None`: it is no answer.
    pub fn how(&self) -> Option<How> {
        match self {
            Self::Fresh(_) => Some(How::Hit(Place::Memory)),
            Self::Recalled(..) => Some(How::Hit(Place::Index)),
            Self::Absent => Some(How::NegativeHit),
            Self::Aged(..) | Self::Nothing => None,
        }
    }
}

impl Gateway {
    /// What is remembered of a document; for whoever uses it there is [more to
    /// do](Gateway::use_remembered). Waits for the disk where the index is not in memory.
    pub fn remembered(&self, key: &DocumentKey) -> Remembered {
        let (at, now) = (key.object(), self.clock.now());
        // A key is either there or absent, and most that are asked for are there.
        let is_in_memory = match self.memory.document(at) {
            Some(held) => match self.freshness.of(&held, now) {
                Age::Fresh { .. } => return Remembered::Fresh(held),
                _ => true,
            },
            None if self.is_known_absent(at, now) => return Remembered::Absent,
            None => false,
        };
        // A lock, for what may be kept on; so the aged one is read once more behind it.
        let seen = self.epochs.now(at);
        let (held, place) = match is_in_memory.then(|| self.memory.document(at)).flatten() {
            Some(held) => (held, Place::Memory),
            None => {
                let Some(document) = self.disk.document(at) else {
                    return Remembered::Nothing;
                };
                let validated = Freshness::monotonic(&self.clock, document.validated);
                (Arc::new(Held::new(document, validated)), Place::Index)
            }
        };
        match (self.freshness.of(&held, now), place) {
            (Age::Fresh { .. }, Place::Memory) => Remembered::Fresh(held),
            (Age::Fresh { .. }, _) => Remembered::Recalled(held, seen),
            (age, place) => Remembered::Aged(Aged {
                held,
                place,
                age,
                seen,
            }),
        }
    }

    /// Something comes of what was remembered. Each tier that was passed counts as a miss, and the one
    /// that has the answer as what it is; a document from the index is in memory from now on.
    pub fn use_remembered(&self, key: &DocumentKey, remembered: &Remembered) {
        let count = |tier, outcome| self.count(kind_of(key), tier, outcome);
        match remembered {
            Remembered::Fresh(_) => count(Tier::Memory, Outcome::Hit),
            Remembered::Absent => count(Tier::Memory, Outcome::NegativeHit),
            Remembered::Recalled(held, seen) => {
                count(Tier::Memory, Outcome::Miss);
                count(Tier::Index, Outcome::Hit);
                let at = key.object();
                self.learn(key, &held.document.bytes);
                self.epochs
                    .unless_written(at, *seen, || self.memory.keep(at, Arc::clone(held)));
            }
            Remembered::Aged(aged) if aged.place == Place::Index => {
                count(Tier::Memory, Outcome::Miss);
                self.learn(key, &aged.held.document.bytes);
            }
            Remembered::Aged(..) => {}
            Remembered::Nothing => {
                count(Tier::Memory, Outcome::Miss);
                count(Tier::Index, Outcome::Miss);
            }
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
