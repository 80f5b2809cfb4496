//! Waiting for what nobody announces, by looking again and again: the one place of all tests that
//! passes time so. Whatever says that it has happened is waited for where it says so.

use std::time::{Duration, Instant};

/// Whatever a test waits for comes within this, or the test has failed.
pub const PATIENCE: Duration = Duration::from_secs(30);

/// Between two looks: an eighth of what was waited already, so that what comes at once is seen at once
/// and what takes seconds is not asked for thousands of times.
const GLANCE: Duration = Duration::from_millis(2);
const LONGEST_GLANCE: Duration = Duration::from_millis(100);

/// Whether it came to hold within [`PATIENCE`].
pub async fn eventually(holds: impl Fn() -> bool) -> bool {
    for pause in glances() {
        if holds() {
            return true;
        }
        tokio::time::sleep(pause).await;
    }
    holds()
}

/// The same, for a thread that may block.
pub fn eventually_blocking(holds: impl Fn() -> bool) -> bool {
    for pause in glances() {
        if holds() {
            return true;
        }
        std::thread::sleep(pause);
    }
    holds()
}

/// The pauses between looks, until patience ends.
fn glances() -> impl Iterator<Item = Duration> {
    let begun = Instant::now();
    std::iter::from_fn(move || {
        let waited = begun.elapsed();
        (waited < PATIENCE).then(|| (waited / 8).clamp(GLANCE, LONGEST_GLANCE))
    })
}
