//! LAYER 3: what narwharf reads through and writes to, namely the bucket.
//!
//! [`Origin`] is the one way to it. Each request passes, in this order, the breaker (is there any
//! point in asking?), the limit (a slot of its class's share), one request to the bucket under its
//! deadlines, and, after a transient failure, the retries within their hold and budget. What comes
//! back is found, absent or unknown. Nothing is kept here: that is the tiers' part, and tiers and
//! origins do not know each other.

mod ask;
mod breaker;
mod bucket;
mod diagnose;
mod error;
mod hold;
mod limit;
mod parts;
mod persist;
mod retry;
mod stream;

use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

pub use self::ask::{Ask, Fetched, Health, StoreBody, StoreFacts, Stored, Tries};
pub use self::bucket::{Part, PartTag};
pub use self::diagnose::diagnose;
pub use self::error::{OpenError, OriginError, Wait};
pub use self::hold::Hold;
pub use self::limit::Class;
pub use self::parts::PartsUpload;
pub use self::stream::ObjectStream;

use self::breaker::Breaker;
use self::bucket::{Bucket, Got, upload_class};
use self::limit::{Limit, Slot};
use self::persist::{Account, Request};
use self::retry::{Patience, RetryBudget};
use crate::clock::Clock;
use crate::config;
use crate::lookup::Lookup;
use crate::metrics::Metrics;
use crate::metrics::labels::{Direction, Operation, Origin as Label, OriginOutcome};
use crate::nix::key::ObjectKey;
use crate::object::ObjectMeta;
use crate::range::RangeRequest;

/// What a probe asks for. Every cache of Nix's own making has it; when it is absent, that too is
/// an answer that only a healthy bucket with sound credentials gives.
const PROBED: &str = "nix-cache-info";

/// The bucket, shared by all who ask it. Clones are the same origin.
///
/// All methods are called on the runtime that owns the origins' connections. Each may be dropped
/// half-way: the request is given up and its slot returned, except that an upload may have
/// reached the bucket.
#[derive(Clone)]
pub struct Origin(Arc<Inner>);

struct Inner {
    bucket: Bucket,
    limit: Limit,
    breaker: Breaker,
    budget: RetryBudget,
    heard: Mutex<Heard>,
    hold: Duration,
    idle: Duration,
    metrics: Arc<Metrics>,
    clock: Clock,
}

/// The last good and bad news of the bucket.
#[derive(Default)]
struct Heard {
    success: Option<Instant>,
    failure: Option<(Instant, OriginError)>,
    /// When the log was last told of a failure.
    told: Option<Instant>,
}

impl Origin {
    /// Makes the directory of a directory bucket; connects to nothing yet. Blocks for a moment.
    pub fn open(
        settings: &config::Bucket,
        metrics: Arc<Metrics>,
        clock: Clock,
    ) -> Result<Self, OpenError> {
        Ok(Self(Arc::new(Inner {
            bucket: Bucket::open(settings, clock.clone())?,
            limit: Limit::new(settings.max_requests),
            breaker: Breaker::new(),
            budget: RetryBudget::default(),
            heard: Mutex::default(),
            hold: settings.hold,
            idle: settings.idle_timeout,
            metrics,
            clock,
        })))
    }

    /// One GET, no stat first. The body comes later, from the stream.
    pub async fn fetch(&self, key: &ObjectKey, ask: &Ask) -> Lookup<Fetched, OriginError> {
        let key = key.as_str();
        let request = Request {
            key,
            operation: Operation::Get,
            class: ask.class,
            patience: match ask.tries {
                Tries::One | Tries::Again => Patience::One,
                Tries::WithinHold => Patience::Hold(self.0.hold),
            },
            queue: self.0.hold,
            account: match ask.tries {
                Tries::One | Tries::WithinHold => Account::Earns,
                Tries::Again => Account::Spends,
            },
        };
        self.fetch_by(request, ask).await
    }

    /// The same for an upload, whose `hold` counts in place of `ask.tries`.
    pub async fn fetch_within(
        &self,
        key: &ObjectKey,
        ask: &Ask,
        hold: &Hold,
    ) -> Lookup<Fetched, OriginError> {
        let request = self.of_upload(key.as_str(), Operation::Get, ask.class, hold);
        self.fetch_by(request, ask).await
    }

    async fn fetch_by(&self, request: Request<'_>, ask: &Ask) -> Lookup<Fetched, OriginError> {
        let outcome = |got: &Option<Fetched>| match got {
            Some(Fetched::Object(_)) => OriginOutcome::Found,
            Some(Fetched::NotModified) => OriginOutcome::NotModified,
            None => OriginOutcome::Absent,
        };
        let answer = self
            .persist(request, outcome, |slot| self.get(request.key, ask, slot))
            .await;
        lookup(answer)
    }

    /// One HEAD, out of the documents' share whatever the object is.
    pub async fn head(&self, key: &ObjectKey) -> Lookup<ObjectMeta, OriginError> {
        self.head_by(self.small(key.as_str(), Operation::Head))
            .await
    }

    /// The same for an upload, within its hold.
    pub async fn head_within(
        &self,
        key: &ObjectKey,
        hold: &Hold,
    ) -> Lookup<ObjectMeta, OriginError> {
        let request = self.of_upload(key.as_str(), Operation::Head, Class::Document, hold);
        self.head_by(request).await
    }

    async fn head_by(&self, request: Request<'_>) -> Lookup<ObjectMeta, OriginError> {
        let outcome = |meta: &Option<ObjectMeta>| match meta {
            Some(_) => OriginOutcome::Found,
            None => OriginOutcome::Absent,
        };
        let answer = self
            .persist(request, outcome, |slot| async move {
                self.0.bucket.head(request.key, &slot).await
            })
            .await;
        lookup(answer)
    }

    /// Writes a whole object, again and again within `hold` if need be. `Ok` means durable.
    ///
    /// After an error the object may be there or not: an answer can be lost on its way.
    pub async fn store(
        &self,
        key: &ObjectKey,
        body: &StoreBody,
        about: &StoreFacts,
        hold: &Hold,
    ) -> Result<Stored, OriginError> {
        let key = key.as_str();
        let _turn = self.turn_to_send(key, body).await?;
        let request = self.of_upload(key, Operation::Put, upload_class(body), hold);
        let outcome = |stored: &Stored| match stored.existed {
            true => OriginOutcome::Precondition,
            false => OriginOutcome::Found,
        };
        let stored = self
            .persist(request, outcome, |slot| async move {
                self.0.bucket.put(key, body, about, &slot).await
            })
            .await?;
        if !stored.existed {
            self.count_sent(body);
        }
        Ok(stored)
    }

    /// Removes an object. One that is not there is removed already.
    pub async fn remove(&self, key: &ObjectKey) -> Result<(), OriginError> {
        let key = key.as_str();
        let request = self.small(key, Operation::Delete);
        self.persist(
            request,
            |()| OriginOutcome::Found,
            |slot| async move { self.0.bucket.delete(key, &slot).await },
        )
        .await
    }

    /// Asks once for something cheap, whatever the breaker says. `Ok`: the bucket is reachable,
    /// takes the credentials, exists, and can tell absent from forbidden.
    pub async fn probe(&self) -> Result<(), OriginError> {
        let request = Request {
            patience: Patience::One,
            ..self.small(PROBED, Operation::Get)
        };
        let ask = Ask {
            range: Some(RangeRequest::Closed { first: 0, last: 0 }),
            ..Ask::document()
        };
        let outcome = |got: &Option<Fetched>| match got {
            Some(_) => OriginOutcome::Found,
            None => OriginOutcome::Absent,
        };
        let attempt = |slot| self.get(PROBED, &ask, slot);
        match self.once(request, outcome, &attempt).await {
            Ok(Some(Fetched::Object(body))) => body.collect(1).await.map(drop),
            Ok(Some(Fetched::NotModified) | None) | Err(OriginError::OutOfRange { .. }) => Ok(()),
            Err(cause) => Err(cause),
        }
    }

    /// What is known of the bucket without asking it.
    pub fn health(&self) -> Health {
        let heard = self.heard();
        Health {
            last_success: heard.success,
            last_failure: heard.failure.clone(),
            breaker_open: self.0.breaker.is_open(),
        }
    }

    fn small<'a>(&self, key: &'a str, operation: Operation) -> Request<'a> {
        Request {
            key,
            operation,
            class: Class::Document,
            patience: Patience::Hold(self.0.hold),
            queue: self.0.hold,
            account: Account::Earns,
        }
    }

    fn of_upload<'a>(
        &self,
        key: &'a str,
        operation: Operation,
        class: Class,
        hold: &'a Hold,
    ) -> Request<'a> {
        Request {
            key,
            operation,
            class,
            patience: Patience::Upload(hold),
            queue: limit::UPLOAD_QUEUE,
            account: Account::Free,
        }
    }

    /// Leave to send a large body, of which only some are sent at once.
    async fn turn_to_send(
        &self,
        key: &str,
        body: &StoreBody,
    ) -> Result<Option<limit::Turn>, OriginError> {
        if upload_class(body) == Class::Document {
            return Ok(None);
        }
        let turn = self.0.limit.turn_to_send(limit::UPLOAD_QUEUE).await;
        turn.map(Some).ok_or_else(|| OriginError::Busy {
            key: key.to_owned(),
            after: limit::UPLOAD_QUEUE,
        })
    }

    fn count_sent(&self, body: &StoreBody) {
        let labels = (Label::Bucket, Direction::Out);
        self.0.metrics.origin_bytes.of(labels).inc_by(body.len());
    }

    async fn get(&self, key: &str, ask: &Ask, slot: Slot) -> Result<Option<Fetched>, OriginError> {
        let inner = &self.0;
        let got = inner.bucket.get(key, ask, &slot).await?;
        Ok(got.map(|got| match got {
            Got::NotModified => Fetched::NotModified,
            Got::Object(opened) => Fetched::Object(ObjectStream::new(
                opened,
                key,
                inner.idle,
                inner.metrics.clone(),
                slot,
            )),
        }))
    }

    fn heard(&self) -> std::sync::MutexGuard<'_, Heard> {
        self.0.heard.lock().expect("no panic while news are held")
    }
}

fn lookup<T>(answer: Result<Option<T>, OriginError>) -> Lookup<T, OriginError> {
    match answer {
        Ok(Some(found)) => Lookup::Found(found),
        Ok(None) => Lookup::Absent,
        Err(cause) => Lookup::Unknown(cause),
    }
}

#[cfg(test)]
mod tests;
