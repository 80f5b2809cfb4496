//! How many requests the bucket sees at once, and who waits for whom.
//!
//! `bucket.max_requests` is split: a quarter is kept for documents and HEADs, so that a farm's
//! worth of fills never stands in the way of a narinfo. Small requests may also use what large ones
//! leave free, never the other way round. A slot is held until its answer's body is drained or
//! dropped, which bounds connections as well.

use std::num::NonZeroUsize;
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::{OwnedSemaphorePermit, Semaphore};

/// How long an upload's request waits in line. Those before it make progress or are given up by their own
/// deadlines, so the line moves; a Nix client waits 300 s for an answer.
pub const UPLOAD_QUEUE: Duration = Duration::from_secs(120);

/// What a request is for, which decides whose share it uses and how soon it must be answered.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Class {
    /// Documents, HEADs, small uploads: a third of `bucket.first_byte_timeout`.
    Document,
    /// NARs: the whole of it.
    Nar,
}

/// Leave to make one request, returned when the last clone is dropped. Work that cannot be
/// cancelled, such as a read from a hung disk, holds a clone of its own.
#[derive(Debug, Clone)]
pub struct Slot {
    _permit: Arc<OwnedSemaphorePermit>,
}

impl Slot {
    /// Leave outside any share, for the single request of a process that makes no other.
    pub fn alone() -> Self {
        let permit = Arc::new(Semaphore::new(1))
            .try_acquire_owned()
            .expect("a new semaphore has its permit");
        Self {
            _permit: Arc::new(permit),
        }
    }
}

/// The shares of `bucket.max_requests`.
#[derive(Debug)]
pub struct Limit {
    small: Arc<Semaphore>,
    large: Arc<Semaphore>,
    /// Half of `large`: pushing never takes all that fills could use.
    sending: Arc<Semaphore>,
}

/// Leave to send one large body, tries and the pauses between them included.
#[derive(Debug)]
pub struct Turn {
    _permit: OwnedSemaphorePermit,
}

impl Limit {
    pub fn new(max_requests: NonZeroUsize) -> Self {
        let max = max_requests.get();
        let small = (max / 4).max(1);
        let sending = Arc::new(Semaphore::new(((max - small) / 2).max(1)));
        if max == small {
            let only = Arc::new(Semaphore::new(max));
            return Self {
                small: only.clone(),
                large: only,
                sending,
            };
        }
        Self {
            small: Arc::new(Semaphore::new(small)),
            large: Arc::new(Semaphore::new(max - small)),
            sending,
        }
    }

    /// Waits in line to send a large body; `None` when the turn did not come within `patience`.
    pub async fn turn_to_send(&self, patience: Duration) -> Option<Turn> {
        let permit = tokio::time::timeout(patience, self.sending.clone().acquire_owned())
            .await
            .ok()?
            .expect("the semaphores are never closed");
        Some(Turn { _permit: permit })
    }

    /// A slot, waited for in line; `None` when none came free within `patience`.
    pub async fn slot(&self, class: Class, patience: Duration) -> Option<Slot> {
        let (own, other) = match class {
            Class::Document => (&self.small, Some(&self.large)),
            Class::Nar => (&self.large, None),
        };
        let free = [Some(own), other]
            .into_iter()
            .flatten()
            .find_map(|share| share.clone().try_acquire_owned().ok());
        let permit = match free {
            Some(permit) => permit,
            None => tokio::time::timeout(patience, own.clone().acquire_owned())
                .await
                .ok()?
                .expect("the semaphores are never closed"),
        };
        Some(Slot {
            _permit: Arc::new(permit),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SOON: Duration = Duration::from_millis(1);

    fn limit(max: usize) -> Limit {
        Limit::new(NonZeroUsize::new(max).unwrap())
    }

    async fn take_all(limit: &Limit, class: Class) -> Vec<Slot> {
        let mut slots = Vec::new();
        while let Some(slot) = limit.slot(class, SOON).await {
            slots.push(slot);
        }
        slots
    }

    #[tokio::test]
    async fn fills_never_take_the_documents_share() {
        let limit = limit(64);
        let fills = take_all(&limit, Class::Nar).await;
        assert_eq!(fills.len(), 48);
        assert_eq!(take_all(&limit, Class::Document).await.len(), 16);
    }

    #[tokio::test]
    async fn pushing_leaves_fills_half_of_their_share() {
        let limit = limit(64);
        let mut turns = Vec::new();
        while let Some(turn) = limit.turn_to_send(SOON).await {
            turns.push(turn);
        }
        assert_eq!(turns.len(), 24);
    }

    #[tokio::test]
    async fn documents_use_what_fills_leave_free() {
        let limit = limit(8);
        assert_eq!(take_all(&limit, Class::Document).await.len(), 8);
    }

    #[tokio::test]
    async fn the_bound_holds_even_for_one() {
        let limit = limit(1);
        let only = limit.slot(Class::Nar, SOON).await.unwrap();
        assert!(limit.slot(Class::Document, SOON).await.is_none());
        drop(only);
        assert!(limit.slot(Class::Document, SOON).await.is_some());
    }

    #[tokio::test]
    async fn a_slot_is_free_again_only_when_its_last_holder_is_gone() {
        let limit = limit(1);
        let slot = limit.slot(Class::Nar, SOON).await.unwrap();
        let held_by_a_read = slot.clone();
        drop(slot);
        assert!(limit.slot(Class::Nar, SOON).await.is_none());
        drop(held_by_a_read);
        assert!(limit.slot(Class::Nar, SOON).await.is_some());
    }
}
