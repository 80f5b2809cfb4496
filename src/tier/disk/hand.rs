//! Background threads, and the bell that wakes one early or tells it to end.

use std::io;
use std::sync::mpsc::{self, Receiver};
use std::sync::{Arc, Condvar, Mutex, PoisonError};
use std::thread;
use std::time::Duration;

/// A thread that ends when its bell says so.
pub(super) struct Hand {
    bell: Arc<Bell>,
    /// Hears that its other end was dropped; no message is ever sent.
    ended: Receiver<()>,
}

impl Hand {
    pub fn spawn(
        name: &str,
        bell: Arc<Bell>,
        work: impl FnOnce(&Bell) + Send + 'static,
    ) -> io::Result<Self> {
        let (alive, ended) = mpsc::sync_channel(0);
        let heard = Arc::clone(&bell);
        thread::Builder::new()
            .name(name.to_owned())
            .spawn(move || {
                work(&heard);
                drop::<mpsc::SyncSender<()>>(alive);
            })?;
        Ok(Self { bell, ended })
    }

    /// Tells it to end.
    pub fn stop(&self) {
        self.bell.stop();
    }

    /// Waits until it has, at most `patience`.
    pub fn wait(&self, patience: Duration) {
        // An error either way: it has ended, or is late.
        let _ = self.ended.recv_timeout(patience);
    }
}

#[derive(Default)]
pub(super) struct Bell {
    rung: Mutex<Rung>,
    sound: Condvar,
}

#[derive(Default)]
struct Rung {
    wake: bool,
    stop: bool,
}

impl Bell {
    /// Ends the current or the next [`Bell::wait`].
    pub fn ring(&self) {
        self.rung
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .wake = true;
        self.sound.notify_all();
    }

    /// Ends this and every later wait.
    pub fn stop(&self) {
        self.rung
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .stop = true;
        self.sound.notify_all();
    }

    /// Waits for a ring, at most `pause`. `false`: it is time to end.
    pub fn wait(&self, pause: Duration) -> bool {
        let rung = self.rung.lock().unwrap_or_else(PoisonError::into_inner);
        let (mut rung, _) = self
            .sound
            .wait_timeout_while(rung, pause, |rung| !rung.wake && !rung.stop)
            .unwrap_or_else(PoisonError::into_inner);
        rung.wake = false;
        !rung.stop
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_hand_works_until_it_is_told_to_stop() {
        let hand = Hand::spawn(
            "test",
            Arc::default(),
            |bell| {
                while bell.wait(Duration::MAX) {}
            },
        );
        let hand = hand.unwrap();
        hand.stop();
        hand.wait(Duration::MAX);
    }

    #[test]
    fn a_ring_before_the_wait_is_heard_once_and_a_stop_for_ever() {
        let bell = Bell::default();
        bell.ring();
        assert!(bell.wait(Duration::MAX));
        assert!(bell.wait(Duration::ZERO));
        bell.stop();
        assert!(!bell.wait(Duration::MAX));
        assert!(!bell.wait(Duration::MAX));
    }
}
