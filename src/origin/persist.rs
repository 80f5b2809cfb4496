//! How every request to the bucket is made: paid for, tried again, counted, and learned from.

use std::future::Future;
use std::time::{Duration, Instant};

use super::Origin;
use super::breaker::Turn;
use super::error::OriginError;
use super::limit::{Class, Slot};
use super::retry::{self, Patience};
use crate::metrics::labels::{Operation, Origin as Label, OriginOutcome};

/// A failing bucket is told of this often at most, each failure being told by whoever asked.
const TOLD_EVERY: Duration = Duration::from_secs(60);

/// One request as the policies see it.
#[derive(Clone, Copy)]
pub(super) struct Request<'a> {
    pub key: &'a str,
    pub operation: Operation,
    pub class: Class,
    pub patience: Patience<'a>,
    /// How long to wait for a slot.
    pub queue: Duration,
    pub account: Account,
}

/// What a request has to do with the budget of retries.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Account {
    /// It adds to the budget, and its retries are taken from it.
    Earns,
    /// It is itself a retry.
    Spends,
    /// Neither. An upload whose body is in: giving up would cost the client all it has sent.
    Free,
}

impl Origin {
    /// Tries until there is an answer, or no point in another try. A failure that is tried again
    /// is told here; the last one is told by whoever asked.
    pub(super) async fn persist<T, F, Fut>(
        &self,
        request: Request<'_>,
        outcome: impl Fn(&T) -> OriginOutcome,
        attempt: F,
    ) -> Result<T, OriginError>
    where
        F: Fn(Slot) -> Fut,
        Fut: Future<Output = Result<T, OriginError>>,
    {
        let inner = &self.0;
        let mut tries = retry::Tries::begin(inner.clock.now(), request.patience);
        let now = inner.clock.now();
        match request.account {
            Account::Earns => inner.budget.request(now),
            Account::Spends if !inner.budget.take_retry(now) => {
                return Err(OriginError::NoRetryLeft {
                    key: request.key.to_owned(),
                });
            }
            Account::Spends | Account::Free => {}
        }
        loop {
            let tried = match inner.breaker.admit(inner.clock.now()) {
                Ok(()) => self.once(request, &outcome, &attempt).await,
                Err(failing) => Err(OriginError::BreakerOpen {
                    key: request.key.to_owned(),
                    failing,
                }),
            };
            let cause = match tried {
                Ok(answer) => {
                    if let Patience::Upload(hold) = request.patience {
                        hold.succeeded();
                    }
                    return Ok(answer);
                }
                Err(cause) => cause,
            };
            let now = inner.clock.now();
            let Some(pause) = tries.pause_after(&cause, now) else {
                return Err(cause);
            };
            if request.account == Account::Earns && !inner.budget.take_retry(now) {
                return Err(cause);
            }
            tracing::debug!(key = request.key, %cause, ?pause, "asking the bucket again");
            tokio::time::sleep(pause).await;
        }
    }

    /// One request, counted and learned from.
    pub(super) async fn once<T, F, Fut>(
        &self,
        request: Request<'_>,
        outcome: impl Fn(&T) -> OriginOutcome,
        attempt: &F,
    ) -> Result<T, OriginError>
    where
        F: Fn(Slot) -> Fut,
        Fut: Future<Output = Result<T, OriginError>>,
    {
        let inner = &self.0;
        let Some(slot) = inner.limit.slot(request.class, request.queue).await else {
            return Err(OriginError::Busy {
                key: request.key.to_owned(),
                after: request.queue,
            });
        };
        let began = Instant::now();
        let answer = attempt(slot).await;
        let labels = (Label::Bucket, request.operation);
        let seconds = inner.metrics.origin_request_seconds.of(labels);
        seconds.observe(began.elapsed().as_secs_f64());
        let outcome = match &answer {
            Ok(answer) => outcome(answer),
            Err(cause) => cause.outcome(),
        };
        let labels = (Label::Bucket, request.operation, outcome);
        inner.metrics.origin_requests.of(labels).inc();
        inner.bucket.count_cost(&inner.metrics, request.operation);
        self.learn(answer.as_ref().err());
        answer
    }

    /// Takes note of how a request ended, and tells when the bucket's fortune turns.
    fn learn(&self, failure: Option<&OriginError>) {
        if failure.is_some_and(|cause| !cause.is_the_buckets()) {
            return;
        }
        let now = self.0.clock.now();
        let success = failure.is_none_or(OriginError::is_answer);
        match self.0.breaker.record(now, success) {
            Some(Turn::Opened) => {
                tracing::warn!("the bucket does nothing but fail: asking it once a second only");
            }
            Some(Turn::Closed) => tracing::warn!("the bucket answers again: asking it as usual"),
            None => {}
        }
        let failure = failure.filter(|cause| !cause.is_about_the_object());
        let up = self.0.metrics.origin_up.of((Label::Bucket,));
        up.set(i64::from(failure.is_none()));
        let mut heard = self.heard();
        let Some(cause) = failure else {
            heard.success = Some(now);
            return;
        };
        heard.failure = Some((now, cause.clone()));
        let told = heard.told.map(|at| now.saturating_duration_since(at));
        if told.is_none_or(|ago| ago >= TOLD_EVERY) {
            heard.told = Some(now);
            tracing::warn!(%cause, "the bucket fails");
        }
    }
}
