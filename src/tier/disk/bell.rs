//! Wakes a background thread early, or tells it to end.

use std::sync::{Condvar, Mutex, PoisonError};
use std::time::Duration;

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
