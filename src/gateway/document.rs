//! A document's journey: memory, the index, then one lookup at the bucket that all may join.
//!
//! A document may be replaced, so it has a time to live, after which it is revalidated by its tag;
//! if nobody answers then, the old one is served.

use std::sync::Arc;

use crate::body::Pieces;
use crate::lookup::Lookup;
use crate::metrics::labels::{Kind, Outcome, Tier};
use crate::nix::key::{DocumentKey, DocumentKind};
use crate::object::Document;
use crate::origin::{Ask, Fetched, Tries};
use crate::range::RangeRequest;

use super::epochs::Epoch;
use super::error::GatewayError;
use super::freshness::{Age, REVALIDATION_PATIENCE};
use super::reader;
use super::served::{Answered, How, Place};
use super::source::{Source, Version};
use super::{Gateway, outcome_of};

pub use super::handover::Handover;
pub use super::remembered::{Aged, Remembered};
pub use crate::tier::memory::Held;

/// Larger documents are not kept in memory or in the index but passed (`design.md` §10.11).
pub const MAX_KEPT: u64 = 64 * 1024;

/// Reads of one body that may break before the lookup gives up; retries of the asking itself are
/// the origin's.
const BODY_TRIES: u32 = 3;

/// A document on its way out.
#[derive(Debug, Clone)]
pub enum Page {
    Held(Arc<Held>),
    /// Too large to keep: the open body for whoever takes it first.
    Large(Arc<Handover>),
}

/// What a lookup at the bucket gives to all that joined it.
pub type Landed = Lookup<Page, GatewayError>;

impl Gateway {
    /// Memory, else the index, else the bucket. Past its time: revalidated, or stale.
    ///
    /// May be dropped at any time; the lookup at the bucket goes on for the others.
    pub async fn document(self: &Arc<Self>, key: &DocumentKey) -> Answered<Page> {
        let remembered = self.remembered(key);
        self.use_remembered(key, &remembered);
        let answered = |answer, how| Answered { answer, how };
        let aged = match remembered {
            Remembered::Fresh(held) => {
                return answered(Lookup::Found(Page::Held(held)), How::Hit(Place::Memory));
            }
            Remembered::Recalled(held, _) => {
                return answered(Lookup::Found(Page::Held(held)), How::Hit(Place::Index));
            }
            Remembered::Absent => return answered(Lookup::Absent, How::NegativeHit),
            Remembered::Aged(aged) => aged,
            Remembered::Nothing => return Box::pin(self.ask_bucket(key, None)).await,
        };
        let tier = aged.place.tier();
        if aged.age == Age::StaleAndAsked {
            self.count(kind_of(key), tier, Outcome::Stale);
            return answered(Lookup::Found(Page::Held(aged.held)), How::Stale);
        }
        let stale = (aged.age == Age::Stale).then_some(aged);
        let answer = Box::pin(self.ask_bucket(key, stale)).await;
        let outcome = match answer.how {
            How::Stale => Outcome::Stale,
            _ => Outcome::Miss,
        };
        self.count(kind_of(key), tier, outcome);
        answer
    }

    /// What the bucket says, in one lookup for all that ask at once; else `stale`. Counts the bucket
    /// for each request that it answered.
    async fn ask_bucket(
        self: &Arc<Self>,
        key: &DocumentKey,
        stale: Option<Aged>,
    ) -> Answered<Page> {
        let mut seat = self.lookups.join(key.object(), || {
            let (gateway, key, stale) = (Arc::clone(self), key.clone(), stale.clone());
            async move { gateway.fetch_document(&key, stale).await }
        });
        let patience = if stale.is_some() {
            REVALIDATION_PATIENCE
        } else {
            self.patience
        };
        let landed = seat.answer(patience).await.unwrap_or_else(|why| {
            Lookup::Unknown(GatewayError::NoAnswer {
                key: key.object().clone(),
                why,
            })
        });
        let forwarded = |stored| How::Forwarded {
            stored,
            joined: seat.joined,
        };
        let outcome = outcome_of(&landed);
        if stale.is_none() || outcome != Outcome::Unknown {
            self.count(kind_of(key), Tier::Bucket, outcome);
        }
        match (landed, stale) {
            (Lookup::Unknown(_), Some(stale)) => Answered {
                answer: Lookup::Found(Page::Held(stale.held)),
                how: How::Stale,
            },
            (Lookup::Found(Page::Large(body)), _) => Answered {
                answer: Lookup::Found(Page::Large(body)),
                how: How::Passed,
            },
            (Lookup::Found(page), _) => Answered {
                answer: Lookup::Found(page),
                how: forwarded(true),
            },
            (Lookup::Absent, _) => Answered {
                answer: Lookup::Absent,
                how: forwarded(false),
            },
            (Lookup::Unknown(cause), None) => Answered {
                answer: Lookup::Unknown(cause),
                how: forwarded(false),
            },
        }
    }

    /// One lookup at the bucket; what it brings is kept, unless the key was written meanwhile.
    async fn fetch_document(self: Arc<Self>, key: &DocumentKey, stale: Option<Aged>) -> Landed {
        let at = key.object();
        let (old, seen) = match stale {
            Some(Aged { held, seen, .. }) => (Some(held), seen),
            None => (None, self.epochs.now(at)),
        };
        let mut ask = Ask::document();
        if let Some(old) = &old {
            ask.if_none_match = old.document.etag.clone();
            ask.tries = Tries::One;
        }
        let mut tries = 0;
        let fetched = loop {
            tries += 1;
            match self.origin.fetch(at, &ask).await {
                Lookup::Found(Fetched::NotModified) => break self.renewed(key, old.as_deref()),
                Lookup::Found(Fetched::Object(stream)) => {
                    match self.read_document(key, stream).await {
                        Lookup::Unknown(GatewayError::Origin(cause))
                            if cause.is_transient() && tries < BODY_TRIES && old.is_none() => {}
                        read => break read,
                    }
                }
                Lookup::Absent => break Lookup::Absent,
                Lookup::Unknown(cause) => break Lookup::Unknown(cause.into()),
            }
        };
        if let Lookup::Unknown(cause) = &fetched {
            tracing::warn!(key = %at, %cause, "the bucket gave no document");
        }
        self.keep_landed(key, seen, &fetched, old.as_deref());
        fetched
    }

    fn keep_landed(&self, key: &DocumentKey, seen: Epoch, landed: &Landed, stale: Option<&Held>) {
        let at = key.object();
        self.epochs.unless_written(at, seen, || match landed {
            Lookup::Found(Page::Held(held)) => {
                self.memory.keep(at, Arc::clone(held));
                self.disk.keep_document(at, &held.document);
            }
            Lookup::Found(Page::Large(_)) => {
                self.memory.forget(at);
                self.disk.forget_document(at);
            }
            Lookup::Absent => {
                self.memory.keep_absent(at, self.clock.now());
                self.disk.forget_absent(at);
            }
            Lookup::Unknown(_) => {
                if let Some(old) = stale {
                    let held = Held {
                        retry_at: Some(self.freshness.retry_at(self.clock.now())),
                        ..old.clone()
                    };
                    self.memory.keep(at, Arc::new(held));
                }
            }
        });
    }

    fn renewed(&self, key: &DocumentKey, stale: Option<&Held>) -> Landed {
        let Some(old) = stale else {
            let why = "304 to an unconditional request".into();
            return Lookup::Unknown(GatewayError::Corrupt {
                key: key.object().clone(),
                why,
            });
        };
        let document = Document {
            validated: self.clock.wall(),
            ..old.document.clone()
        };
        Lookup::Found(Page::Held(Arc::new(Held {
            document,
            validated: self.clock.now(),
            retry_at: None,
            ..old.clone()
        })))
    }

    /// The bytes of a document that is too large to keep.
    pub async fn large_pieces(
        self: &Arc<Self>,
        key: &DocumentKey,
        body: &Handover,
    ) -> Result<Pieces, GatewayError> {
        let Ok(all) = RangeRequest::ALL.within(body.meta.len) else {
            return Ok(Box::pin(futures_util::stream::empty()));
        };
        let source = match body.take() {
            Some(stream) => Box::new(Source::over(self, key.object(), stream, false)),
            None => {
                let version = Version::of(&body.meta);
                self.begun(Source::of(self, key.object(), &version, all))
                    .await?
            }
        };
        Ok(reader::passed(self, source, None))
    }
}

/// A document's kind in the words of the metrics.
pub fn kind_of(key: &DocumentKey) -> Kind {
    match key.kind() {
        DocumentKind::Narinfo => Kind::Narinfo,
        DocumentKind::Listing
        | DocumentKind::Log
        | DocumentKind::Realisation
        | DocumentKind::BuildTrace
        | DocumentKind::DebugInfo => Kind::Document,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::clock::Clock;
    use crate::config::Config;
    use crate::gateway::Signing;
    use crate::metrics::Metrics;
    use crate::nix::key::Key;
    use crate::origin::Origin;
    use crate::tier::disk::DiskTier;
    use bytes::Bytes;
    use std::time::{Duration, SystemTime};

    /// In front of a bucket that is not there.
    fn gateway(folder: &std::path::Path) -> Arc<Gateway> {
        let env = [
            ("NARWHARF_BUCKET__ENDPOINT", "http://127.0.0.1:1".to_owned()),
            ("NARWHARF_BUCKET__NAME", "nix".to_owned()),
            ("NARWHARF_BUCKET__ACCESS_KEY_ID", "id".to_owned()),
            ("NARWHARF_BUCKET__SECRET_ACCESS_KEY", "secret".to_owned()),
            ("NARWHARF_DISK__PATH", folder.display().to_string()),
        ];
        let env = env.map(|(name, value)| (name.to_owned(), value));
        let config = Config::load(&[], env.into_iter()).unwrap();
        let (metrics, clock) = (Arc::new(Metrics::new()), Clock::default());
        let disk = DiskTier::open(&config.disk, Arc::clone(&metrics), clock.clone()).unwrap();
        let origin = Origin::open(&config.bucket, Arc::clone(&metrics), clock.clone()).unwrap();
        let engine = tokio::runtime::Handle::current();
        Gateway::new(
            &config,
            Signing::default(),
            engine,
            clock,
            metrics,
            disk,
            origin,
        )
    }

    /// The write comes after the old one was read, and before its lookup has begun to ask.
    #[tokio::test]
    async fn an_old_document_is_not_kept_on_over_a_write_for_want_of_an_answer() {
        let folder = tempfile::tempdir().unwrap();
        let gateway = gateway(folder.path());
        let path = "00000000000000000000000000000000.ls";
        let Some(Key::Document(key)) = Key::parse(None, path, None) else {
            panic!("{path} names a document");
        };
        let at = key.object();
        for written in [false, true] {
            let old = Document {
                bytes: Bytes::from_static(b"old"),
                etag: None,
                last_modified: None,
                content_type: None,
                content_encoding: None,
                validated: SystemTime::now(),
            };
            let held = Held::new(old, gateway.clock.now());
            gateway.memory.keep(at, Arc::new(held));
            gateway.clock.advance(Duration::from_secs(3600));
            let Remembered::Aged(aged) = gateway.remembered(&key) else {
                panic!("an hour old");
            };
            if written {
                gateway.epochs.written(at, || gateway.memory.forget(at));
            }
            let landed = Arc::clone(&gateway).fetch_document(&key, Some(aged)).await;
            assert!(matches!(landed, Lookup::Unknown(_)), "{landed:?}");
            assert_eq!(gateway.memory.document(at).is_none(), written);
        }
    }
}
