//! One upload of a key at a time: fifty builders that push the same NAR cost the bucket one upload.
//!
//! Whoever comes second waits for the first one's end, without its own body having been asked for,
//! and then looks whether there is anything left to do. Nobody writes a key out of turn: under a name
//! that is no hash two could both be told that theirs is there. The table holds the keys being
//! written now.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::Duration;

use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use crate::nix::key::ObjectKey;

type Table = Arc<Mutex<HashMap<ObjectKey, Line>>>;

#[derive(Debug, Default)]
pub struct Turns(Table);

/// Who writes a key and who waits to.
#[derive(Debug)]
struct Line {
    turn: Arc<Semaphore>,
    tickets: usize,
}

/// The right to write a key. Dropped, the next one has it.
#[derive(Debug)]
pub struct Turn {
    // In this order: the permit goes back before the ticket.
    _permit: OwnedSemaphorePermit,
    _ticket: Ticket,
}

/// A place in a key's line.
#[derive(Debug)]
struct Ticket {
    table: Table,
    key: ObjectKey,
    turn: Arc<Semaphore>,
}

impl Turns {
    /// The key's turn, if nobody has it.
    pub fn take_free(&self, key: &ObjectKey) -> Option<Turn> {
        let ticket = self.ticket(key);
        let permit = Arc::clone(&ticket.turn).try_acquire_owned().ok()?;
        Some(Turn {
            _permit: permit,
            _ticket: ticket,
        })
    }

    /// Waits in the key's line; `None` when the turn did not come within `patience`. May be
    /// dropped at any time.
    pub async fn take(&self, key: &ObjectKey, patience: Duration) -> Option<Turn> {
        let ticket = self.ticket(key);
        let turn = Arc::clone(&ticket.turn).acquire_owned();
        let permit = tokio::time::timeout(patience, turn).await.ok()?;
        Some(Turn {
            _permit: permit.expect("a line is never closed"),
            _ticket: ticket,
        })
    }

    fn ticket(&self, key: &ObjectKey) -> Ticket {
        let mut table = locked(&self.0);
        let line = table.entry(key.clone()).or_insert_with(|| Line {
            turn: Arc::new(Semaphore::new(1)),
            tickets: 0,
        });
        line.tickets += 1;
        Ticket {
            table: Arc::clone(&self.0),
            key: key.clone(),
            turn: Arc::clone(&line.turn),
        }
    }
}

impl Drop for Ticket {
    fn drop(&mut self) {
        let mut table = locked(&self.table);
        let line = table.get_mut(&self.key);
        let line = line.expect("a line stays while there is a ticket for it");
        line.tickets -= 1;
        if line.tickets == 0 {
            table.remove(&self.key);
        }
    }
}

fn locked(table: &Table) -> MutexGuard<'_, HashMap<ObjectKey, Line>> {
    table.lock().expect("no panic under the table's lock")
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::Barrier;
    use std::thread;

    const LONG: Duration = Duration::from_secs(20);
    const SHORT: Duration = Duration::from_millis(1);

    fn key(name: &str) -> ObjectKey {
        ObjectKey::from_stored(&format!("nar/{name}.nar")).unwrap()
    }

    #[tokio::test]
    async fn a_second_writer_waits_for_the_first() {
        let (turns, wanted) = (Turns::default(), key("a"));
        let first = turns.take_free(&wanted).unwrap();
        assert!(turns.take_free(&wanted).is_none());
        assert!(turns.take(&wanted, SHORT).await.is_none());
        assert!(turns.take_free(&key("b")).is_some(), "another line");
        let mut second = Box::pin(turns.take(&wanted, LONG));
        assert!(futures_util::poll!(&mut second).is_pending());
        drop(first);
        assert!(second.await.is_some());
    }

    #[tokio::test]
    async fn the_table_holds_only_keys_being_written() {
        let (turns, wanted) = (Turns::default(), key("a"));
        let first = turns.take(&wanted, LONG).await.unwrap();
        let mut given_up = Box::pin(turns.take(&wanted, LONG));
        assert!(futures_util::poll!(&mut given_up).is_pending());
        drop(first);
        drop(given_up);
        assert!(locked(&turns.0).is_empty());
    }

    /// Of those that leave at the same moment none may leave the entry to another.
    #[test]
    fn a_line_that_all_leave_at_once_is_gone() {
        let (turns, wanted) = (Turns::default(), key("a"));
        for round in 0..3_000 {
            let tickets: Vec<Ticket> = (0..8).map(|_| turns.ticket(&wanted)).collect();
            let together = Barrier::new(tickets.len());
            thread::scope(|scope| {
                for ticket in tickets {
                    scope.spawn(|| {
                        together.wait();
                        drop(ticket);
                    });
                }
            });
            assert!(locked(&turns.0).is_empty(), "round {round}");
        }
    }
}
