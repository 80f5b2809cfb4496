//! What shall go wrong, and for which requests.
//!
//! A `Rule` says when; its faults say what. The first rule that catches a request plays all its
//! faults on it, so `TooManyRequests` with a `Retry-After`, or a chunked body that is cut, is one
//! rule with two faults. A rule lasts as long as its `FaultGuard`, which also lets go what it holds.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::sync::Notify;
use tokio_util::sync::CancellationToken;

use super::operation::{Asked, Operation};

/// Waiting longer than this for a fault to be played is a failed test.
const PATIENCE: Duration = Duration::from_secs(30);

/// One thing that goes wrong. Counts of bytes are of the answer's body unless they say otherwise.
#[derive(Debug, Clone)]
pub enum Fault {
    /// This status with an S3 error of this code; the request's body is read, nothing is done.
    Status(u16, &'static str),
    /// A TCP reset before any answer; nothing is done.
    Reset,
    /// Never an answer, nothing is done; the connection is closed when the guard goes.
    Silence,
    /// The request is carried out, but its answer waits for so long.
    DelayFirstByte(Duration),
    /// The request is carried out, but its answer waits for the guard's release.
    HoldFirstByte,
    /// The body pauses after so many bytes until the guard's release.
    HoldAfter(u64),
    /// The body stops after so many bytes; the connection is closed when the guard goes.
    StallAfter(u64),
    /// The connection is closed after so many bytes have left.
    CutAfter(u64),
    /// A shorter body with a `Content-Length` to match: only a hash or a length known beforehand
    /// gives it away.
    TruncateAfter(u64),
    /// These bytes follow the last one that was declared.
    Extend(&'static [u8]),
    /// No `Content-Length`: the body comes in chunks, and only `CutAfter` tells a short one.
    Chunked,
    /// One byte is wrong: the one at this offset in the object, whichever range it comes in.
    Flip { offset: u64 },
    /// 200 with a web page, as a captive portal or a broken proxy would answer.
    Html200,
    /// Another object's bytes and headers.
    WrongObject(String),
    /// The whole object, as 200, whatever the range.
    IgnoreRange,
    /// Bytes from further on than asked; admitted in `Content-Range`, or not.
    ShiftRange { by: u64, admitted: bool },
    /// Another ETag (as the field's whole value, quotes included), or none.
    Etag(Option<&'static str>),
    /// One more header field in the answer, or one replaced.
    Header(&'static str, &'static str),
    /// 200 with an S3 error of this code for a body, as Amazon does when an answer was begun too
    /// early; nothing is done. Source: S3 API reference, CompleteMultipartUpload.
    OkWithErrorBody(&'static str),
    /// The request is carried out and then answered with an error: a write that is ambiguous.
    ApplyThenStatus(u16, &'static str),
    /// The request is carried out and then answered with a TCP reset.
    ApplyThenReset,
}

/// Which requests a fault is played on; as made, on all. Each method narrows it down.
#[derive(Debug, Clone, Default)]
pub struct Rule {
    operation: Option<Operation>,
    key: Option<KeyIs>,
    ranged: Option<bool>,
    absent: bool,
    skip: u64,
    times: Option<u64>,
    /// How many in a million are caught, and the seed.
    chance: Option<(u64, u64)>,
    faults: Vec<Fault>,
}

#[derive(Debug, Clone)]
enum KeyIs {
    Exactly(String),
    Below(String),
}

impl Rule {
    /// For every request.
    pub fn any() -> Self {
        Self::default()
    }

    pub fn on(operation: Operation) -> Self {
        Self {
            operation: Some(operation),
            ..Self::default()
        }
    }

    /// For GETs of one object.
    pub fn get(key: &str) -> Self {
        Self::on(Operation::GetObject).key(key)
    }

    pub fn key(mut self, key: &str) -> Self {
        self.key = Some(KeyIs::Exactly(key.to_owned()));
        self
    }

    pub fn prefix(mut self, prefix: &str) -> Self {
        self.key = Some(KeyIs::Below(prefix.to_owned()));
        self
    }

    /// Only requests with a `Range` (true), or only those without one.
    pub fn ranged(mut self, ranged: bool) -> Self {
        self.ranged = Some(ranged);
        self
    }

    /// Only while there is no object of that key: a bucket whose token may not list answers 403.
    pub fn absent(mut self) -> Self {
        self.absent = true;
        self
    }

    /// Lets the first `count` matching requests pass unharmed.
    pub fn after(mut self, count: u64) -> Self {
        self.skip = count;
        self
    }

    /// Only the matching request number `nth`, counted from 1.
    pub fn nth(self, nth: u64) -> Self {
        self.after(nth.saturating_sub(1)).times(1)
    }

    /// At most so many times.
    pub fn times(mut self, count: u64) -> Self {
        self.times = Some(count);
        self
    }

    /// Only this share (0 to 1) of the matching requests; the same seed picks the same ones.
    pub fn chance(mut self, share: f64, seed: u64) -> Self {
        self.chance = Some(((share * 1e6) as u64, seed));
        self
    }

    /// Adds a fault. All of them are played on each request caught.
    pub fn plays(mut self, fault: Fault) -> Self {
        self.faults.push(fault);
        self
    }

    fn matches(&self, asked: &Asked, present: impl FnOnce() -> bool) -> bool {
        self.operation.is_none_or(|it| it == asked.operation)
            && self.ranged.is_none_or(|it| it == asked.range.is_some())
            && match &self.key {
                None => true,
                Some(KeyIs::Exactly(key)) => *key == asked.key,
                Some(KeyIs::Below(prefix)) => asked.key.starts_with(prefix.as_str()),
            }
            && !(self.absent && present())
    }
}

/// All rules in force, oldest first.
#[derive(Default)]
pub(super) struct Faults(Mutex<Vec<Arc<Active>>>);

struct Active {
    rule: Rule,
    matched: AtomicU64,
    dice: Mutex<u64>,
    played: AtomicU64,
    changed: Notify,
    gate: Gate,
}

/// Shut until a guard opens it, then open for ever.
#[derive(Clone, Default)]
pub(super) struct Gate(CancellationToken);

impl Gate {
    pub async fn opened(&self) {
        self.0.cancelled().await;
    }
}

/// The faults one request suffers, and the gate that frees it.
#[derive(Default)]
pub(super) struct Play {
    pub faults: Vec<Fault>,
    pub gate: Gate,
}

impl Faults {
    pub fn add(self: &Arc<Self>, rule: Rule) -> FaultGuard {
        let active = Arc::new(Active {
            matched: AtomicU64::new(0),
            dice: Mutex::new(rule.chance.map_or(0, |(_, seed)| seed)),
            played: AtomicU64::new(0),
            changed: Notify::new(),
            gate: Gate::default(),
            rule,
        });
        self.rules().push(active.clone());
        FaultGuard {
            faults: self.clone(),
            active,
            kept: false,
        }
    }

    /// What is to be played on this request.
    pub fn catch(&self, asked: &Asked, present: impl Fn() -> bool) -> Play {
        for active in self.rules().iter() {
            if active.catches(asked, &present) {
                active.played.fetch_add(1, Ordering::Relaxed);
                active.changed.notify_waiters();
                return Play {
                    faults: active.rule.faults.clone(),
                    gate: active.gate.clone(),
                };
            }
        }
        Play::default()
    }

    fn rules(&self) -> MutexGuard<'_, Vec<Arc<Active>>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Active {
    /// Called under the lock of all rules, so counting and judging are one step.
    fn catches(&self, asked: &Asked, present: impl Fn() -> bool) -> bool {
        if !self.rule.matches(asked, present) {
            return false;
        }
        let earlier = self.matched.fetch_add(1, Ordering::Relaxed);
        let played = self.played.load(Ordering::Relaxed);
        earlier >= self.rule.skip
            && self.rule.times.is_none_or(|times| played < times)
            && self.rule.chance.is_none_or(|(in_a_million, _)| {
                let mut dice = self.dice.lock().unwrap_or_else(PoisonError::into_inner);
                throw(&mut dice) % 1_000_000 < in_a_million
            })
    }
}

/// SplitMix64 (Steele, Lea, Flood: "Fast Splittable Pseudorandom Number Generators", 2014).
fn throw(state: &mut u64) -> u64 {
    *state = state.wrapping_add(0x9e37_79b9_7f4a_7c15);
    let mixed = (*state ^ (*state >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    let mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    mixed ^ (mixed >> 31)
}

/// Keeps a rule in force. Dropped, it takes the rule away and lets go all that the rule holds.
#[must_use = "a rule goes with its guard"]
pub struct FaultGuard {
    faults: Arc<Faults>,
    active: Arc<Active>,
    kept: bool,
}

impl FaultGuard {
    /// How many requests it was played on.
    pub fn played(&self) -> u64 {
        self.active.played.load(Ordering::Relaxed)
    }

    /// Waits until it was played on `count` requests. Panics after 30 s.
    pub async fn until_played(&self, count: u64) {
        let wait = async {
            loop {
                let changed = self.active.changed.notified();
                tokio::pin!(changed);
                changed.as_mut().enable();
                if self.played() >= count {
                    return;
                }
                changed.await;
            }
        };
        if tokio::time::timeout(PATIENCE, wait).await.is_err() {
            panic!(
                "played {} times instead of {count} within {PATIENCE:?}: {:?}",
                self.played(),
                self.active.rule
            );
        }
    }

    /// Takes the rule away and lets go what it holds: the same as dropping it, but said aloud.
    pub fn release(self) {}

    /// Leaves the rule in force for as long as the server lives.
    pub fn keep(mut self) {
        self.kept = true;
    }
}

impl Drop for FaultGuard {
    fn drop(&mut self) {
        if !self.kept {
            self.faults
                .rules()
                .retain(|active| !Arc::ptr_eq(active, &self.active));
            self.active.gate.0.cancel();
        }
    }
}
