//! One upload of a key at a time: fifty builders that push the same NAR cost the bucket one upload.
//!
//! Whoever comes second waits for the first one's end, without its own body having been asked for,
//! and then looks whether there is anything left to do. The table holds the keys being written now.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::Duration;

use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use crate::nix::key::ObjectKey;

type Table = Arc<Mutex<HashMap<ObjectKey, Arc<Semaphore>>>>;

#[derive(Debug, Default)]
pub struct Turns(Table);

/// The right to write a key. Dropped, the next one has it.
#[derive(Debug)]
pub struct Turn {
    // In this order: the permit goes back before the ticket looks who is left.
    _permit: OwnedSemaphorePermit,
    _ticket: Ticket,
    /// Whether somebody else wrote the key while this one waited.
    pub waited: bool,
}

/// A place in a key's line.
#[derive(Debug)]
struct Ticket {
    table: Table,
    key: ObjectKey,
    line: Arc<Semaphore>,
}

impl Turns {
    /// Waits in the key's line; `None` when the turn did not come within `patience`. May be
    /// dropped at any time.
    pub async fn take(&self, key: &ObjectKey, patience: Duration) -> Option<Turn> {
        let line = Arc::clone(
            locked(&self.0)
                .entry(key.clone())
                .or_insert_with(|| Arc::new(Semaphore::new(1))),
        );
        let ticket = Ticket {
            table: Arc::clone(&self.0),
            key: key.clone(),
            line,
        };
        let waited = ticket.line.available_permits() == 0;
        let turn = Arc::clone(&ticket.line).acquire_owned();
        let permit = tokio::time::timeout(patience, turn)
            .await
            .ok()?
            .expect("a line is never closed");
        Some(Turn {
            _permit: permit,
            _ticket: ticket,
            waited,
        })
    }
}

impl Drop for Ticket {
    fn drop(&mut self) {
        let mut table = locked(&self.table);
        // The table's own and this one: clones are made under the table's lock only.
        if Arc::strong_count(&self.line) <= 2 {
            table.remove(&self.key);
        }
    }
}

fn locked(table: &Table) -> MutexGuard<'_, HashMap<ObjectKey, Arc<Semaphore>>> {
    table.lock().expect("no panic under the table's lock")
}

#[cfg(test)]
mod tests {
    use super::*;

    const LONG: Duration = Duration::from_secs(20);
    const SHORT: Duration = Duration::from_millis(1);

    fn key(name: &str) -> ObjectKey {
        ObjectKey::from_stored(&format!("nar/{name}.nar")).unwrap()
    }

    #[tokio::test]
    async fn a_second_writer_waits_for_the_first_and_knows_it() {
        let (turns, wanted) = (Turns::default(), key("a"));
        let first = turns.take(&wanted, LONG).await.unwrap();
        assert!(!first.waited);
        assert!(turns.take(&wanted, SHORT).await.is_none());
        let other = turns.take(&key("b"), SHORT).await.unwrap();
        assert!(!other.waited, "another key is another line");
        let mut second = Box::pin(turns.take(&wanted, LONG));
        assert!(futures_util::poll!(&mut second).is_pending());
        drop(first);
        assert!(second.await.unwrap().waited);
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
}
