//! Lookups under way at an origin: one for each key, however many wait for it.
//!
//! The lookup is a task of its own on the runtime of the origins, so a client that leaves takes
//! nothing from the others. A task that dies without an answer is an answer too: not known.

use std::collections::HashMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use tokio::runtime::Handle;
use tokio::sync::watch;

use crate::asker::on_behalf;
use crate::nix::key::ObjectKey;

/// All lookups under way, giving answers of type `A`.
#[derive(Debug)]
pub struct Flights<A> {
    engine: Handle,
    table: Arc<Mutex<HashMap<ObjectKey, Entry<A>>>>,
    /// Tells a flight from a later one of the same key.
    numbers: AtomicU64,
}

#[derive(Debug)]
struct Entry<A> {
    number: u64,
    answer: watch::Receiver<Option<A>>,
}

/// A seat in a flight.
#[derive(Debug)]
pub struct Seat<A> {
    answer: watch::Receiver<Option<A>>,
    /// Whether another request had begun this lookup.
    pub joined: bool,
}

/// Why a seat has no answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum NoAnswer {
    #[error("no answer within {0:?}")]
    Late(Duration),
    #[error("the lookup ended without an answer")]
    Lost,
    #[error("given up, since nobody was waiting any more")]
    Abandoned,
}

impl<A: Clone + Send + Sync + 'static> Flights<A> {
    pub fn new(engine: Handle) -> Self {
        Self {
            engine,
            table: Arc::default(),
            numbers: AtomicU64::new(0),
        }
    }

    /// Takes a seat in the key's lookup, which `begin` starts if there is none.
    pub fn join<F>(&self, key: &ObjectKey, begin: impl FnOnce() -> F) -> Seat<A>
    where
        F: Future<Output = A> + Send + 'static,
    {
        let mut table = self.table.lock().expect("no panic under the table's lock");
        if let Some(entry) = table.get(key) {
            return Seat {
                answer: entry.answer.clone(),
                joined: true,
            };
        }
        let (sender, answer) = watch::channel(None);
        let number = self.numbers.fetch_add(1, Ordering::Relaxed);
        table.insert(
            key.clone(),
            Entry {
                number,
                answer: answer.clone(),
            },
        );
        drop(table);
        let landing = Landing {
            table: Arc::clone(&self.table),
            key: key.clone(),
            number,
        };
        let lookup = on_behalf(begin());
        self.engine.spawn(async move {
            let landing = landing;
            let found = lookup.await;
            // Gone from the table first: whoever comes now finds the tiers as the answer left them.
            drop(landing);
            sender.send_replace(Some(found));
        });
        Seat {
            answer,
            joined: false,
        }
    }

    /// Whoever comes from now on starts a lookup anew: the key was written.
    pub fn forget(&self, key: &ObjectKey) {
        self.table
            .lock()
            .expect("no panic under the table's lock")
            .remove(key);
    }
}

impl<A: Clone> Seat<A> {
    /// The answer, waited for at most `patience`. May be dropped at any time.
    pub async fn answer(&mut self, patience: Duration) -> Result<A, NoAnswer> {
        match tokio::time::timeout(patience, self.answer.wait_for(Option::is_some)).await {
            Ok(Ok(found)) => Ok(found.clone().expect("waited for")),
            Ok(Err(_)) => Err(NoAnswer::Lost),
            Err(_) => Err(NoAnswer::Late(patience)),
        }
    }
}

/// Takes the flight out of the table however it ends.
struct Landing<A> {
    table: Arc<Mutex<HashMap<ObjectKey, Entry<A>>>>,
    key: ObjectKey,
    number: u64,
}

impl<A> Drop for Landing<A> {
    fn drop(&mut self) {
        let mut table = self.table.lock().expect("no panic under the table's lock");
        if table
            .get(&self.key)
            .is_some_and(|entry| entry.number == self.number)
        {
            table.remove(&self.key);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::atomic::AtomicU32;
    use tokio::sync::oneshot;

    const PATIENCE: Duration = Duration::from_secs(10);

    fn key() -> ObjectKey {
        ObjectKey::from_stored("00000000000000000000000000000000.narinfo").unwrap()
    }

    #[tokio::test]
    async fn many_seats_share_one_lookup() {
        let flights = Flights::<u32>::new(Handle::current());
        let begun = Arc::new(AtomicU32::new(0));
        let (land, landed) = oneshot::channel();
        let mut landed = Some(landed);
        let mut seats: Vec<_> = (0..50)
            .map(|_| {
                let begun = Arc::clone(&begun);
                flights.join(&key(), || {
                    begun.fetch_add(1, Ordering::Relaxed);
                    let landed = landed.take().expect("begun once");
                    async move { landed.await.unwrap() }
                })
            })
            .collect();
        assert_eq!(seats.iter().filter(|seat| seat.joined).count(), 49);
        land.send(7).unwrap();
        for seat in &mut seats {
            assert_eq!(seat.answer(PATIENCE).await, Ok(7));
        }
        assert_eq!(begun.load(Ordering::Relaxed), 1);
    }

    #[tokio::test]
    async fn a_lookup_that_dies_is_an_answer_and_leaves_the_table() {
        let flights = Flights::<u32>::new(Handle::current());
        let mut seat = flights.join(&key(), || async { panic!("on purpose") });
        assert_eq!(seat.answer(PATIENCE).await, Err(NoAnswer::Lost));
        let mut next = flights.join(&key(), || async { 3 });
        assert!(!next.joined);
        assert_eq!(next.answer(PATIENCE).await, Ok(3));
    }

    #[tokio::test]
    async fn after_a_write_nobody_joins_an_older_lookup() {
        let flights = Flights::<u32>::new(Handle::current());
        let (_land, landed) = oneshot::channel::<u32>();
        let _old = flights.join(&key(), || async move { landed.await.unwrap_or(0) });
        flights.forget(&key());
        let new = flights.join(&key(), || async { 1 });
        assert!(!new.joined);
    }
}
