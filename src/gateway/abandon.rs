//! Whether a fill that nobody reads any more goes on: the one home of that policy.
//!
//! Most clients that leave come back: a cut connection is taken up again within a second, a cancelled
//! build is run again. Others never do, and the line is paid for. So a fill without readers is first
//! left alone for a moment; then it goes on if `disk.abandoned_fills` says so, by default when less is
//! left to read than would be thrown away. What was thrown away before counts too: a NAR that is
//! asked for and left again and again is fetched whole before it has cost twice its size.

use std::sync::Arc;
use std::time::Duration;

use crate::config::AbandonedFills;
use crate::nix::key::ObjectKey;
use crate::tier::memory::Notes;

use super::Gateway;
use super::fill::Fill;

/// How long a fill waits for the next reader. A client of Nix whose connection broke is back after
/// 0.3 s (`nix-protocol.md` §4.4).
const GRACE: Duration = Duration::from_millis(600);

/// NARs whose waste is remembered, about 150 bytes each, and for how long.
const REMEMBERED: u64 = 10_000;
const REMEMBERED_FOR: Duration = Duration::from_secs(3600);

#[derive(Debug)]
pub struct Abandonment {
    setting: AbandonedFills,
    /// Bytes read in vain, by key.
    wasted: Notes<u64>,
}

impl Abandonment {
    pub fn new(setting: AbandonedFills) -> Self {
        Self {
            setting,
            wasted: Notes::new(REMEMBERED, Some(REMEMBERED_FOR)),
        }
    }

    /// Whether to go on with a NAR of which `read` bytes are there; its length is not known before
    /// the bucket has answered.
    fn is_worth_it(&self, key: &ObjectKey, read: u64, len: Option<u64>) -> bool {
        match self.setting {
            AbandonedFills::Always => true,
            AbandonedFills::Never => false,
            AbandonedFills::Past { percent } => {
                let spent = read.saturating_add(self.wasted.get(key).unwrap_or(0));
                len.is_some_and(|len| {
                    u128::from(spent) * 100 >= u128::from(len) * u128::from(percent)
                })
            }
        }
    }

    fn add_waste(&self, key: &ObjectKey, read: u64) {
        let before = self.wasted.get(key).unwrap_or(0);
        self.wasted.put(key, before.saturating_add(read));
    }
}

/// Ends when the fill has been left by all and is not worth going on with. Nobody can join it then.
pub async fn until_abandoned(gateway: &Gateway, fill: &Arc<Fill>) {
    let mut seats = fill.follow_seats();
    let mut changed = async |anybody: bool| {
        let waited = seats.wait_for(|seats| (*seats > 0) == anybody).await;
        waited.map(drop).expect("the fill is held")
    };
    loop {
        changed(false).await;
        if tokio::time::timeout(GRACE, changed(true)).await.is_err() {
            let (key, read) = (fill.key.object(), fill.read());
            let len = fill.opened().map(|opened| opened.facts.len);
            let policy = &gateway.abandonment;
            // What is kept nowhere is read for its readers alone.
            let goes_on = !fill.is_passing() && policy.is_worth_it(key, read, len);
            if !goes_on && gateway.fills.abandon(fill) {
                policy.add_waste(key, read);
                tracing::info!(%key, read, "nobody wants it any more: given up");
                return;
            }
            changed(true).await;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn key() -> ObjectKey {
        ObjectKey::from_stored("nar/a.nar").unwrap()
    }

    #[test]
    fn the_setting_may_say_always_or_never() {
        let always = Abandonment::new(AbandonedFills::Always);
        assert!(always.is_worth_it(&key(), 0, None));
        let never = Abandonment::new(AbandonedFills::Never);
        assert!(!never.is_worth_it(&key(), 99, Some(100)));
    }

    #[test]
    fn a_share_decides_once_the_length_is_known() {
        let half = Abandonment::new(AbandonedFills::Past { percent: 50 });
        assert!(!half.is_worth_it(&key(), 0, None));
        assert!(!half.is_worth_it(&key(), 49, Some(100)));
        assert!(half.is_worth_it(&key(), 50, Some(100)));
        assert!(half.is_worth_it(&key(), u64::MAX, Some(u64::MAX)));
    }

    #[test]
    fn what_was_thrown_away_before_counts() {
        let half = Abandonment::new(AbandonedFills::Past { percent: 50 });
        for _ in 0..4 {
            assert!(!half.is_worth_it(&key(), 10, Some(100)));
            half.add_waste(&key(), 10);
        }
        assert!(half.is_worth_it(&key(), 10, Some(100)));
    }
}
