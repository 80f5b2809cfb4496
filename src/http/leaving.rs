//! How a server that is leaving parts from its clients' connections.
//!
//! Nix 2.26 cannot repeat a small PUT whose kept connection is closed under it, and an uploader
//! sends several requests one right after the other. So while somebody pushes, idle connections are
//! kept a moment longer, and every answer says `Connection: close`: its client then leaves by itself
//! and meets our successor with its next request.

use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use actix_web::HttpResponse;
use actix_web::http::ConnectionType;

/// After so long without a PUT, nobody is in the midst of pushing.
const QUIET: Duration = Duration::from_secs(1);

/// While answers are being sent that the codec knows nothing of, they are looked for again after this.
const SENDING: Duration = Duration::from_millis(50);

#[derive(Debug, Default)]
pub struct Leaving {
    begun: AtomicBool,
    /// When a PUT was last begun or answered.
    pushed: Mutex<Option<Instant>>,
    /// Answers of which clients have yet to take something, on connections that look idle.
    unsent: Arc<AtomicUsize>,
}

/// Such an answer, until this is dropped.
#[derive(Debug)]
pub struct Unsent(Arc<AtomicUsize>);

impl Drop for Unsent {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::Relaxed);
    }
}

impl Leaving {
    /// From now on every answer is a connection's last.
    pub fn begin(&self) {
        self.begun.store(true, Ordering::Relaxed);
    }

    pub fn has_begun(&self) -> bool {
        self.begun.load(Ordering::Relaxed)
    }

    /// A PUT has come, or its answer goes.
    pub fn note_push(&self) {
        *self.pushed.lock().expect("no panic under this lock") = Some(Instant::now());
    }

    /// An answer is not out, and its connection will look idle.
    pub fn note_unsent(&self) -> Unsent {
        self.unsent.fetch_add(1, Ordering::Relaxed);
        Unsent(Arc::clone(&self.unsent))
    }

    /// Waits until nobody pushes any more, and all is sent, so that idle connections may be closed.
    pub async fn until_quiet(&self) {
        while let Some(left) = self.until_then(Instant::now()) {
            tokio::time::sleep(left).await;
        }
    }

    fn until_then(&self, now: Instant) -> Option<Duration> {
        let sending = (self.unsent.load(Ordering::Relaxed) > 0).then_some(SENDING);
        let pushed = *self.pushed.lock().expect("no panic under this lock");
        let left =
            pushed.and_then(|pushed| QUIET.checked_sub(now.saturating_duration_since(pushed)));
        left.filter(|left| !left.is_zero()).max(sending)
    }

    /// Makes an answer the last of its connection, if it is to be.
    pub fn mark<B>(&self, mut answer: HttpResponse<B>) -> HttpResponse<B> {
        if self.has_begun() {
            answer.head_mut().set_connection_type(ConnectionType::Close);
        }
        answer
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_second_without_a_put_is_quiet() {
        let leaving = Leaving::default();
        let now = Instant::now();
        assert_eq!(leaving.until_then(now), None, "nobody has pushed");
        leaving.note_push();
        assert!(leaving.until_then(now).is_some());
        assert_eq!(leaving.until_then(Instant::now() + QUIET), None);
    }

    #[test]
    fn an_answer_that_is_being_sent_is_waited_for() {
        let leaving = Leaving::default();
        let now = Instant::now();
        let unsent = [leaving.note_unsent(), leaving.note_unsent()];
        assert_eq!(leaving.until_then(now), Some(SENDING));
        drop(unsent);
        assert_eq!(leaving.until_then(now), None);
    }

    #[test]
    fn every_answer_is_the_last_once_it_has_begun() {
        let leaving = Leaving::default();
        let kept = leaving.mark(HttpResponse::Ok().finish());
        assert!(!kept.head().connection_type().eq(&ConnectionType::Close));
        leaving.begin();
        let last = leaving.mark(HttpResponse::Ok().finish());
        assert_eq!(last.head().connection_type(), ConnectionType::Close);
    }
}
