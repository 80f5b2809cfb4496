//! What `narwharf check` reports: one thing looked at, and how it stands.
//!
//! It lives here because origins and tiers, which do not know each other, both report with it.

/// One thing that was looked at.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Finding {
    /// A few words: `bucket readable`.
    pub what: String,
    /// `Ok`: what was seen. `Err`: what is wrong and what to do about it. One line each.
    pub outcome: Result<String, String>,
}
