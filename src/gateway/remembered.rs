//! What memory knows of a document, for whoever cannot wait: the first step of its journey.

use std::sync::Arc;

use crate::metrics::labels::{Outcome, Tier};
use crate::nix::key::DocumentKey;
use crate::tier::memory::Held;

use super::Gateway;
use super::document::kind_of;
use super::freshness::Age;
use super::served::{How, Place};

/// What memory alone can answer, at once.
#[derive(Debug)]
pub enum Remembered {
    /// Within its time.
    Fresh(Arc<Held>),
    Absent,
}

impl Gateway {
    /// What memory can answer without a question to anybody. It counts once it is
    /// [an answer](Gateway::count_remembered).
    pub fn remembered(&self, key: &DocumentKey) -> Option<Remembered> {
        let (at, now) = (key.object(), self.clock.now());
        // A key is either there or absent, and most that are asked for are there.
        match self.memory.document(at) {
            Some(held) => match self.freshness.of(&held, now) {
                Age::Fresh { .. } => Some(Remembered::Fresh(held)),
                Age::StaleAndAsked | Age::Stale | Age::Expired => None,
            },
            None => self.is_known_absent(at, now).then_some(Remembered::Absent),
        }
    }

    /// What was remembered becomes an answer.
    pub fn count_remembered(&self, key: &DocumentKey, remembered: &Remembered) -> How {
        let (how, outcome) = match remembered {
            Remembered::Fresh(_) => (How::Hit(Place::Memory), Outcome::Hit),
            Remembered::Absent => (How::NegativeHit, Outcome::NegativeHit),
        };
        self.count(kind_of(key), Tier::Memory, outcome);
        how
    }
}
