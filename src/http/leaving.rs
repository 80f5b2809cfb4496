//! How a server that is leaving parts from its clients' connections.
//!
//! Nix 2.26 cannot repeat a small PUT whose kept connection is closed under it, and an uploader
//! sends several requests one right after the other. So while somebody pushes, idle connections are
//! kept a moment longer, and every answer says `Connection: close`: its client then leaves by itself
//! and meets our successor with its next request.

use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use actix_web::HttpResponse;
use actix_web::http::ConnectionType;

/// After so long without a PUT, nobody is in the midst of pushing.
const QUIET: Duration = Duration::from_secs(1);

#[derive(Debug, Default)]
pub struct Leaving {
    begun: AtomicBool,
    /// When a PUT was last begun or answered.
    pushed: Mutex<Option<Instant>>,
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

    /// Waits until nobody pushes any more, so that idle connections may be closed.
    pub async fn until_quiet(&self) {
        while let Some(left) = self.until_then(Instant::now()) {
            tokio::time::sleep(left).await;
        }
    }

    fn until_then(&self, now: Instant) -> Option<Duration> {
        let pushed = *self.pushed.lock().expect("no panic under this lock");
        let quiet = now.saturating_duration_since(pushed?);
        QUIET.checked_sub(quiet).filter(|left| !left.is_zero())
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
    fn every_answer_is_the_last_once_it_has_begun() {
        let leaving = Leaving::default();
        let kept = leaving.mark(HttpResponse::Ok().finish());
        assert!(!kept.head().connection_type().eq(&ConnectionType::Close));
        leaving.begin();
        let last = leaving.mark(HttpResponse::Ok().finish());
        assert_eq!(last.head().connection_type(), ConnectionType::Close);
    }
}
