//! Deadlines. Nothing that touches a network or a disk is awaited without one of these.

use std::future::Future;
use std::pin::pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use super::super::error::{OriginError, Wait};
use super::super::limit::Class;
use crate::config;

/// How long the bucket may be silent.
#[derive(Debug, Clone, Copy)]
pub struct Deadlines {
    first_byte: Duration,
    /// Between two pieces of a body, either way.
    pub idle: Duration,
}

impl Deadlines {
    pub fn of(settings: &config::Bucket) -> Self {
        Self {
            first_byte: settings.first_byte_timeout,
            idle: settings.idle_timeout,
        }
    }

    /// The same for everything.
    #[cfg(test)]
    pub fn all(same: Duration) -> Self {
        Self {
            first_byte: same,
            idle: same,
        }
    }

    /// Until the head of an answer. Documents get a third: a client waits for them one by one.
    pub fn first_byte(&self, class: Class) -> Duration {
        match class {
            Class::Document => self.first_byte / 3,
            Class::Nar => self.first_byte,
        }
    }

    /// Until a body that was sent is acknowledged. Its last bytes may still lie in the kernel's
    /// buffer when we believe them sent, hence both deadlines one after the other.
    pub fn acknowledgement(&self) -> Duration {
        self.first_byte + self.idle
    }
}

/// Awaits `work` for at most `after`.
pub async fn within<T>(
    after: Duration,
    wait: Wait,
    key: &str,
    work: impl Future<Output = T>,
) -> Result<T, OriginError> {
    tokio::time::timeout(after, work)
        .await
        .map_err(|_| OriginError::Timeout {
            key: key.to_owned(),
            wait,
            after,
        })
}

/// How far an upload has come, told by whoever moves its bytes to whoever watches.
#[derive(Debug, Clone)]
pub struct Progress {
    moved: Arc<AtomicU64>,
    len: u64,
}

impl Progress {
    /// Of `len` bytes, none has moved.
    pub fn of(len: u64) -> Self {
        Self {
            moved: Arc::default(),
            len,
        }
    }

    /// So many bytes more have moved.
    pub fn add(&self, bytes: u64) {
        self.moved.fetch_add(bytes, Ordering::Relaxed);
    }

    fn moved(&self) -> u64 {
        self.moved.load(Ordering::Relaxed)
    }
}

/// Awaits an upload for as long as it moves: at least one byte within each idle deadline, and the
/// acknowledgement within its own once all is sent.
pub async fn while_it_moves<T>(
    deadlines: Deadlines,
    key: &str,
    progress: &Progress,
    work: impl Future<Output = T>,
) -> Result<T, OriginError> {
    let mut work = pin!(work);
    loop {
        let moved = progress.moved();
        let (after, wait) = if moved >= progress.len {
            (deadlines.acknowledgement(), Wait::Acknowledgement)
        } else {
            (deadlines.idle, Wait::Progress)
        };
        match within(after, wait, key, &mut work).await {
            Err(_) if progress.moved() > moved => continue,
            ended => return ended,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const BRIEF: Deadlines = Deadlines {
        first_byte: Duration::from_secs(3),
        idle: Duration::from_secs(2),
    };

    #[test]
    fn documents_are_waited_for_a_third_as_long() {
        assert_eq!(BRIEF.first_byte(Class::Document), Duration::from_secs(1));
        assert_eq!(BRIEF.first_byte(Class::Nar), Duration::from_secs(3));
    }

    fn timed_out_on<T>(ended: Result<T, OriginError>) -> Option<Wait> {
        match ended {
            Err(OriginError::Timeout { wait, .. }) => Some(wait),
            _ => None,
        }
    }

    fn on_a_runtime<F: Future>(test: F) -> F::Output {
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_time()
            .build()
            .unwrap();
        runtime.block_on(test)
    }

    #[test]
    fn an_upload_that_does_not_move_is_given_up() {
        let quick = Deadlines {
            first_byte: Duration::from_millis(2),
            idle: Duration::from_millis(1),
        };
        on_a_runtime(async {
            let sending = Progress::of(10);
            let stuck = while_it_moves(quick, "k", &sending, std::future::pending::<()>()).await;
            assert_eq!(timed_out_on(stuck), Some(Wait::Progress));
            let sent = Progress::of(10);
            sent.add(10);
            let unheard = while_it_moves(quick, "k", &sent, std::future::pending::<()>()).await;
            assert_eq!(timed_out_on(unheard), Some(Wait::Acknowledgement));
        });
    }

    #[test]
    fn an_upload_that_moves_may_take_longer_than_any_deadline() {
        let quick = Deadlines {
            first_byte: Duration::from_millis(40),
            idle: Duration::from_millis(40),
        };
        on_a_runtime(async {
            let progress = Progress::of(20);
            let slow = async {
                for _ in 0..20 {
                    tokio::time::sleep(Duration::from_millis(8)).await;
                    progress.add(1);
                }
            };
            assert!(while_it_moves(quick, "k", &progress, slow).await.is_ok());
        });
    }
}
