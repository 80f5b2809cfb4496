//! LAYER 2: the journeys of a document, a NAR and an upload, and the policies they follow.
//!
//! Only this layer knows the order in which tiers and the origin are asked. Two runtimes meet here:
//! requests come in on actix's workers, and whatever talks to the origin or writes to disk runs on
//! the engine, a multi-threaded tokio runtime, so that a client's speed or death reaches neither.

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
mod nar;
mod progress;
mod pulse;
mod reader;
pub mod served;
mod under_way;
pub mod upload;

use std::sync::Arc;
use std::time::{Duration, Instant};

use tokio::runtime::Handle;

pub use crate::tier::disk::{Seen as SeenBlob, Survey};
pub use encoding::{DecodeError, Encoding};
pub use nar::Nar;
pub use under_way::UnderWay;

use crate::asker::on_behalf;
use crate::clock::Clock;
use crate::config::{self, Config};
use crate::lookup::Lookup;
use crate::metrics::Metrics;
use crate::metrics::labels::{Kind, Outcome, Tier};
use crate::nix::key::ObjectKey;
use crate::nix::signature::TrustedKeys;
use crate::origin::{Health, Origin};
use crate::tier::disk::{self, DiskTier};
use crate::tier::memory::{Held, MemoryTier};

use document::Landed;
use epochs::Epochs;
use error::GatewayError;
use expected::Expected;
use fills::Fills;
use flights::{Flights, NoAnswer};
use freshness::{Age, Freshness};
use pulse::Pulse;
use upload::Room;

/// The gateway: made once in `server/`, shared by all workers.
pub struct Gateway {
    store_dir: String,
    uploads: config::Uploads,
    trusted: Option<TrustedKeys>,
    /// How long a request waits for the bucket before it is told that nobody knows. Beyond
    /// everything the origin itself may take, so this bound is the second one.
    patience: Duration,

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
    room: Room,
    pulse: Pulse,
}

impl std::fmt::Debug for Gateway {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Gateway")
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
        trusted: Option<TrustedKeys>,
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
            trusted,
            patience: bucket.hold
                + bucket.connect_timeout
                + bucket.first_byte_timeout
                + bucket.idle_timeout,
            lookups: Flights::new(engine.clone()),
            engine,
            clock,
            memory: MemoryTier::new(config.memory.documents, config.memory.negative),
            disk,
            origin,
            freshness: Freshness::new(&config.memory),
            epochs: Epochs::default(),
            expected: Expected::default(),
            fills: Fills::default(),
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
        self.metrics.cache_lookups.of((kind, tier, outcome)).inc();
    }

    /// Has the engine ask, and waits; a task that dies is an answer nobody knows.
    async fn on_engine<T: Send + 'static>(
        &self,
        key: &ObjectKey,
        asking: impl Future<Output = Lookup<T, GatewayError>> + Send + 'static,
    ) -> Lookup<T, GatewayError> {
        let no_answer = |why| {
            Lookup::Unknown(GatewayError::NoAnswer {
                key: key.clone(),
                why,
            })
        };
        match tokio::time::timeout(self.patience, self.engine.spawn(on_behalf(asking))).await {
            Ok(Ok(answer)) => answer,
            Ok(Err(_)) => no_answer(NoAnswer::Lost),
            Err(_) => no_answer(NoAnswer::Late(self.patience)),
        }
    }
}
