//! LAYER 2: the journeys of a document, a NAR and an upload, and the policies they follow.
//!
//! Only this layer knows the order in which tiers and the origin are asked. Two runtimes meet here:
//! requests come in on actix's workers, and whatever talks to the origin or writes to disk runs on
//! the engine, a multi-threaded tokio runtime, so that a client's speed or death reaches neither.

mod abandon;
mod ahead;
mod bad;
mod checked;
pub mod document;
mod encoding;
mod epochs;
pub mod error;
mod expected;
mod fill;
mod fills;
mod flights;
mod freshness;
mod handover;
mod hot;
mod nar;
mod pass;
mod progress;
mod pulse;
mod reader;
mod relay;
mod remembered;
mod removal;
mod rescue;
pub mod served;
mod source;
mod under_way;
pub mod upload;

use std::sync::Arc;
use std::time::{Duration, Instant};

use tokio::runtime::Handle;

pub use crate::tier::disk::{Seen as SeenBlob, Survey};
pub use encoding::Encoding;
pub use nar::Nar;
pub use pass::WINDOW as PASS_WINDOW;
pub use under_way::UnderWay;

use crate::asker::on_behalf;
use crate::clock::Clock;
use crate::config::{self, Config};
use crate::lookup::Lookup;
use crate::metrics::Metrics;
use crate::metrics::labels::{Kind, Outcome, Tier};
use crate::nix::key::ObjectKey;
use crate::nix::signature::{SecretKey, TrustedKeys};
use crate::origin::{Health, Origin};
use crate::tier::disk::{self, DiskTier};
use crate::tier::memory::{Held, MemoryTier};

use abandon::Abandonment;
use bad::BadObjects;
use document::Landed;
use epochs::Epochs;
use error::GatewayError;
use expected::Expected;
use fill::Parallel;
use fills::Fills;
use flights::{Flights, NoAnswer};
use freshness::{Age, Freshness};
use hot::Hot;
use pulse::Pulse;
use upload::Room;

/// The gateway: made once in `server/`, shared by all workers.
pub struct Gateway {
    store_dir: String,
    uploads: config::Uploads,
    signing: Signing,
    /// How long a request waits for the bucket before it is told that nobody knows. Beyond
    /// everything the origin itself may take, so this bound is the second one.
    patience: Duration,
    /// How long an outage of the bucket is ridden out.
    hold: Duration,
    parallel: Parallel,

    engine: Handle,
    clock: Clock,
    metrics: Arc<Metrics>,

    memory: MemoryTier,
    disk: DiskTier,
    origin: Origin,

    freshness: Freshness,
    epochs: Epochs,
    expected: Expected,
    lookups: Flights<Landed>,
    fills: Fills,
    abandonment: Abandonment,
    bad: BadObjects,
    hot: Hot,
    room: Room,
    pulse: Pulse,
}

impl std::fmt::Debug for Gateway {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Gateway")
    }
}

/// Whose signatures narinfos need, and which one they get.
#[derive(Debug, Default)]
pub struct Signing {
    /// One of these must have signed a narinfo that is uploaded; `None`: nobody need have.
    pub trusted: Option<TrustedKeys>,
    /// Signs narinfos on their way in; `None`: they are left as they are.
    pub own: Option<SecretKey>,
}

/// What the bucket's answer counts as.
fn outcome_of<T, E>(answer: &Lookup<T, E>) -> Outcome {
    match answer {
        Lookup::Found(_) => Outcome::Hit,
        Lookup::Absent => Outcome::Miss,
        Lookup::Unknown(_) => Outcome::Unknown,
    }
}

/// How often [`Gateway::feel_pulse`] is to be called when nobody asks.
pub const PULSE_EVERY: Duration = Pulse::EVERY;

/// What `/ready` reports.
#[derive(Debug)]
pub struct Readiness {
    pub bucket: Health,
    pub disk: disk::State,
    pub index: disk::State,
}

impl Gateway {
    /// `engine`: the runtime that talks to the origin and the disk.
    pub fn new(
        config: &Config,
        signing: Signing,
        engine: Handle,
        clock: Clock,
        metrics: Arc<Metrics>,
        disk: DiskTier,
        origin: Origin,
    ) -> Arc<Self> {
        let bucket = &config.bucket;
        let gateway = Arc::new(Self {
            store_dir: config.cache.store_dir.clone(),
            uploads: config.uploads.clone(),
            signing,
            patience: bucket.hold
                + bucket.connect_timeout
                + bucket.first_byte_timeout
                + bucket.idle_timeout,
            hold: bucket.hold,
            parallel: Parallel {
                above: bucket.parallel_above,
                parts: bucket.parallel_parts,
            },
            lookups: Flights::new(engine.clone()),
            engine,
            clock,
            memory: MemoryTier::new(
                config.memory.documents,
                config.memory.negative,
                config.memory.nars,
            ),
            disk,
            origin,
            freshness: Freshness::new(&config.memory),
            epochs: Epochs::default(),
            expected: Expected::default(),
            fills: Fills::new(bucket.max_requests.get(), Arc::clone(&metrics)),
            abandonment: Abandonment::new(config.disk.abandoned_fills),
            bad: BadObjects::default(),
            hot: Hot::default(),
            room: Room::default(),
            pulse: Pulse::default(),
            metrics,
        });
        let shown = Arc::downgrade(&gateway);
        gateway.metrics.on_scrape(move |metrics| {
            if let Some(gateway) = shown.upgrade() {
                gateway.memory.show(metrics);
                metrics.fills_in_flight.set(gateway.fills.count() as i64);
            }
        });
        gateway
    }

    /// The state of every part that a request may need.
    pub fn readiness(&self) -> Readiness {
        Readiness {
            bucket: self.origin.health(),
            disk: self.disk.state(),
            index: self.disk.index_state(),
        }
    }

    /// Has the bucket's pulse felt, unless it was lately. At most as long as one small request.
    pub async fn feel_pulse(self: &Arc<Self>, asked: bool) {
        let gateway = Arc::clone(self);
        let felt = self.engine.spawn(async move {
            gateway
                .pulse
                .feel(&gateway.origin, &gateway.clock, asked)
                .await;
        });
        if felt.await.is_err() {
            tracing::error!("the probe of the bucket panicked");
        }
    }

    /// Lets the memory tier do its pending work; about once a second.
    pub fn tidy(&self) {
        self.memory.tidy();
    }

    /// The largest and the longest unused blobs, at most `each` of them. Blocks.
    pub fn survey(&self, each: usize) -> Survey {
        self.disk.survey(each)
    }

    /// Whether anything may be uploaded at all.
    pub fn takes_uploads(&self) -> bool {
        self.uploads.enabled
    }

    /// Writes what is kept only in memory of the disk tier's order. Blocks, with a deadline.
    pub fn close(&self) {
        self.disk.close();
    }

    /// For how much longer a document may be kept by others.
    pub fn remaining(&self, held: &Held) -> Duration {
        match self.freshness.of(held, self.clock.now()) {
            Age::Fresh { left } => left,
            Age::Stale | Age::StaleAndAsked | Age::Expired => Duration::ZERO,
        }
    }

    fn is_known_absent(&self, key: &ObjectKey, now: Instant) -> bool {
        self.memory
            .absent_since(key)
            .is_some_and(|since| self.freshness.is_absence_fresh(since, now))
    }

    /// A read counts at each tier that it passed (miss) and at the one that answered it, so the
    /// answers of all tiers together are the reads.
    fn count(&self, kind: Kind, tier: Tier, outcome: Outcome) {
        self.metrics.looked_up(kind, tier, outcome);
    }

    /// Has the engine ask, and waits; a task that dies is an answer nobody knows.
    fn on_engine<T, F>(
        &self,
        key: &ObjectKey,
        asking: F,
    ) -> impl Future<Output = Lookup<T, GatewayError>> + use<T, F>
    where
        T: Send + 'static,
        F: Future<Output = Lookup<T, GatewayError>> + Send + 'static,
    {
        let asked = self.await_engine(key, asking);
        async move { asked.await.unwrap_or_else(Lookup::Unknown) }
    }

    /// Has the engine do something, and waits. Errors: it takes too long, or its task dies.
    ///
    /// No `async fn`: what the engine does is large, and would be a part of every request's future.
    fn await_engine<F>(
        &self,
        key: &ObjectKey,
        work: F,
    ) -> impl Future<Output = Result<F::Output, GatewayError>> + use<F>
    where
        F: Future<Output: Send> + Send + 'static,
    {
        let running = self.engine.spawn(on_behalf(work));
        let (key, patience) = (key.clone(), self.patience);
        async move {
            let why = match tokio::time::timeout(patience, running).await {
                Ok(Ok(done)) => return Ok(done),
                Ok(Err(_)) => NoAnswer::Lost,
                Err(_) => NoAnswer::Late(patience),
            };
            Err(GatewayError::NoAnswer { key, why })
        }
    }
}
