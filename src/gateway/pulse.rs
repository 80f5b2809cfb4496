//! Whether the bucket lives: asked for cheaply, and only when nothing else has told (`design.md` §10.17).
//!
//! Every ordinary answer of the bucket is a sign of life. After two seconds without one, a probe is
//! sent: every two seconds while the bucket is red or somebody asks for `/ready`, else every thirty,
//! so that an idle gateway notices a dead bucket before its clients do and costs next to nothing.

use std::time::{Duration, Instant};

use tokio::sync::Mutex;

use crate::clock::Clock;
use crate::origin::Origin;

/// A sign of life this young needs no other.
const FRESH: Duration = Duration::from_secs(2);

/// How old a sign of life may grow while nobody asks for it.
const IDLE: Duration = Duration::from_secs(30);

/// The last probe, and the seat of the one under way: whoever comes meanwhile waits for it.
#[derive(Debug, Default)]
pub struct Pulse {
    probed: Mutex<Option<Instant>>,
}

/// What there is to go by when a probe is considered.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Signs {
    since_success: Option<Duration>,
    since_probe: Option<Duration>,
    up: bool,
}

impl Signs {
    /// Whether to probe now; `asked`: somebody waits for the answer.
    fn call_for_probe(self, asked: bool) -> bool {
        let older = |since: Option<Duration>, than| since.is_none_or(|age| age >= than);
        let patience = if asked || !self.up { FRESH } else { IDLE };
        older(self.since_success, patience) && older(self.since_probe, patience)
    }
}

impl Pulse {
    /// Probes if it is time to. Its deadline is the origin's for one small request.
    pub async fn feel(&self, origin: &Origin, clock: &Clock, asked: bool) {
        let mut probed = self.probed.lock().await;
        let now = clock.now();
        let health = origin.health();
        let since = |when: Instant| now.saturating_duration_since(when);
        let signs = Signs {
            since_success: health.last_success.map(since),
            since_probe: probed.map(since),
            up: health.is_up(),
        };
        if !signs.call_for_probe(asked) {
            return;
        }
        if let Err(cause) = origin.probe().await {
            tracing::debug!(%cause, "the bucket did not answer a probe");
        }
        *probed = Some(clock.now());
    }

    /// How often the background looks whether it is time.
    pub const EVERY: Duration = FRESH;
}

#[cfg(test)]
mod tests {
    use super::*;

    const fn s(seconds: u64) -> Option<Duration> {
        Some(Duration::from_secs(seconds))
    }

    #[test]
    fn a_fresh_sign_of_life_needs_no_probe() {
        for asked in [false, true] {
            let signs = Signs {
                since_success: s(1),
                since_probe: None,
                up: true,
            };
            assert!(!signs.call_for_probe(asked));
        }
    }

    #[test]
    fn while_green_only_who_asks_or_half_a_minute_probes() {
        let signs = Signs {
            since_success: s(5),
            since_probe: s(5),
            up: true,
        };
        assert!(signs.call_for_probe(true));
        assert!(!signs.call_for_probe(false));
        let idle = Signs {
            since_success: s(30),
            since_probe: s(60),
            up: true,
        };
        assert!(idle.call_for_probe(false));
    }

    #[test]
    fn while_red_every_two_seconds_and_no_oftener() {
        let red = |since_probe| Signs {
            since_success: None,
            since_probe,
            up: false,
        };
        assert!(red(None).call_for_probe(false));
        assert!(red(s(2)).call_for_probe(false));
        assert!(!red(s(1)).call_for_probe(true));
    }
}
