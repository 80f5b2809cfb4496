//! An object's way into the bucket in parts: begun, sent as its bytes come, and completed only when
//! the caller knows that they are the right ones.
//!
//! ```text
//! begin ──▶ send … send (any order, each again within the hold) ──▶ complete ──▶ visible
//!   └──────────────── dropped ────────────────▶ aborted, nothing visible
//! ```
//! What a process that died left behind is found by [`Origin::sweep_uploads`].

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Mutex, OnceLock};
use std::time::{Duration, SystemTime};

use tokio::runtime::Handle;

use super::Origin;
use super::ask::{StoreFacts, Stored};
use super::bucket::{Leftover, Part, PartTag, UploadId, upload_class};
use super::error::OriginError;
use super::hold::Hold;
use super::limit::Class;
use super::persist::{Account, Request};
use super::retry::Patience;
use crate::metrics::labels::{Operation, OriginOutcome};
use crate::nix::key::ObjectKey;

/// For so long an abort is tried again. After that the upload is a leftover for a later start.
const ABORT_HOLD: Duration = Duration::from_secs(60);

/// How far the bucket's clock may be behind ours.
const CLOCK_SKEW: Duration = Duration::from_secs(60);

/// One upload in parts. Dropped before it was completed, it is aborted by a task of its own.
pub struct PartsUpload {
    origin: Origin,
    key: ObjectKey,
    id: UploadId,
    ended: AtomicBool,
    /// Tries to begin it whose answers were lost.
    doubt: Doubt,
    /// Called once the bucket has nothing of it any more but the object.
    then: Mutex<Option<Then>>,
    runtime: Handle,
}

type Then = Box<dyn FnOnce() + Send>;

impl Origin {
    /// Begins an upload in parts. To be called on the origin's runtime, like everything here.
    ///
    /// A try whose answer was lost may have begun an upload as well. It holds no parts, and is looked
    /// for and aborted when this one has ended, or at once after an error.
    pub async fn begin_parts(
        &self,
        key: &ObjectKey,
        about: &StoreFacts,
        hold: &Hold,
    ) -> Result<PartsUpload, OriginError> {
        let request = self.of_upload(key.as_str(), Operation::Multipart, Class::Document, hold);
        let lost = OnceLock::new();
        let since = &lost;
        let begun = self
            .persist(
                request,
                |_| OriginOutcome::Found,
                |slot| async move {
                    let (bucket, began) = (&self.0.bucket, self.0.clock.wall());
                    let begun = bucket.create_upload(key.as_str(), about, &slot).await;
                    if begun.as_ref().is_err_and(OriginError::leaves_doubt) {
                        since.get_or_init(|| began);
                    }
                    begun
                },
            )
            .await;
        let doubt = Doubt(lost.into_inner());
        match begun {
            Ok(id) => Ok(PartsUpload {
                origin: self.clone(),
                key: key.clone(),
                id,
                ended: AtomicBool::new(false),
                doubt,
                then: Mutex::default(),
                runtime: Handle::current(),
            }),
            Err(cause) => {
                let (origin, key) = (self.clone(), key.clone());
                tokio::spawn(async move { doubt.settle(&origin, &key, None).await });
                Err(cause)
            }
        }
    }

    /// Aborts uploads that were begun more than `age` ago under a key that `is_ours`. Returns how
    /// many. Errors: the list could not be had.
    pub async fn sweep_uploads(
        &self,
        is_ours: impl Fn(&str) -> bool,
        age: Duration,
    ) -> Result<usize, OriginError> {
        let request = Request {
            class: Class::Nar,
            ..self.small("a list of uploads", Operation::List)
        };
        let open = self
            .persist(
                request,
                |_: &Vec<Leftover>| OriginOutcome::Found,
                |_slot| self.0.bucket.open_uploads(""),
            )
            .await?;
        let now = self.0.clock.wall();
        let old = |left: &&Leftover| now.duration_since(left.begun).is_ok_and(|for_| for_ > age);
        let mut swept = 0;
        for left in open.iter().filter(|left| is_ours(&left.key)).filter(old) {
            match self.abort(&left.key, &left.id).await {
                Ok(()) => swept += 1,
                Err(cause) => tracing::warn!(%cause, "a left-over upload stays"),
            }
        }
        Ok(swept)
    }

    async fn abort_lost(
        &self,
        key: &ObjectKey,
        since: SystemTime,
        known: Option<&UploadId>,
    ) -> Result<usize, OriginError> {
        let bucket = &self.0.bucket;
        let request = Request {
            patience: Patience::Hold(ABORT_HOLD),
            account: Account::Free,
            ..self.small(key.as_str(), Operation::List)
        };
        let found = |_: &Vec<Leftover>| OriginOutcome::Found;
        let list = |_slot| bucket.open_uploads(key.as_str());
        let open = self.persist(request, found, list).await?;
        let is_known = |id: &UploadId| known.is_some_and(|known| known.is(id));
        let ours = open.into_iter().filter(|left| {
            left.key == key.as_str() && left.begun + CLOCK_SKEW >= since && !is_known(&left.id)
        });
        let mut aborted = 0;
        for left in ours {
            let (id, found) = (&left.id, |_: &bool| OriginOutcome::Found);
            let look = |_slot| bucket.has_parts(key.as_str(), id);
            if !self.persist(request, found, look).await? {
                self.abort(key.as_str(), id).await?;
                aborted += 1;
            }
        }
        Ok(aborted)
    }

    /// Aborts an upload that [`PartsUpload::note`] told of. One that has ended is no error.
    pub async fn abort_noted(&self, note: &str) -> Result<(), OriginError> {
        match note.split_once('\n') {
            Some((key, id)) if !id.is_empty() => {
                self.abort(key, &UploadId::S3(id.to_owned())).await
            }
            _ => Ok(()),
        }
    }

    async fn abort(&self, key: &str, id: &UploadId) -> Result<(), OriginError> {
        let request = Request {
            patience: Patience::Hold(ABORT_HOLD),
            account: Account::Free,
            ..self.small(key, Operation::Delete)
        };
        self.persist(
            request,
            |()| OriginOutcome::Found,
            |slot| async move { self.0.bucket.abort_upload(key, id, &slot).await },
        )
        .await
    }
}

impl PartsUpload {
    /// What another process needs to abort it; `None`: it goes with this one.
    pub fn note(&self) -> Option<String> {
        match &self.id {
            UploadId::S3(id) => Some(format!("{}\n{id}", self.key)),
            UploadId::Directory(_) => None,
        }
    }

    /// Has `then` called once the upload was completed or aborted for certain. It must not block.
    pub fn when_ended(&self, then: impl FnOnce() + Send + 'static) {
        *self.then.lock().expect("no panic under this lock") = Some(Box::new(then));
    }

    fn take_then(&self) -> Option<Then> {
        self.then.lock().expect("no panic under this lock").take()
    }

    /// Sends one part, again and again within `hold` if need be. May be dropped half-way.
    pub async fn send(&self, part: &Part, hold: &Hold) -> Result<PartTag, OriginError> {
        let (origin, key) = (&self.origin, self.key.as_str());
        let _turn = origin.turn_to_send(key, &part.body).await?;
        let class = upload_class(&part.body);
        let request = origin.of_upload(key, Operation::Multipart, class, hold);
        let tag = origin
            .persist(
                request,
                |_| OriginOutcome::Found,
                |slot| async move {
                    let bucket = &origin.0.bucket;
                    bucket.put_part(key, &self.id, part, &slot).await
                },
            )
            .await?;
        origin.count_sent(&part.body);
        Ok(tag)
    }

    /// Makes the object of its parts, whose tags come in their order. `Ok` means durable.
    ///
    /// After an error the object may be there all the same; [`OriginError::NoUpload`] says so most
    /// likely, since it is what a second try hears when the first one's answer was lost.
    pub async fn complete(&self, tags: &[PartTag], hold: &Hold) -> Result<Stored, OriginError> {
        let (origin, key) = (&self.origin, self.key.as_str());
        let request = origin.of_upload(key, Operation::Multipart, Class::Document, hold);
        let stored = origin
            .persist(
                request,
                |_| OriginOutcome::Found,
                |slot| async move {
                    let bucket = &origin.0.bucket;
                    bucket.complete_upload(key, &self.id, tags, &slot).await
                },
            )
            .await;
        if stored.is_ok() {
            self.ended.store(true, Ordering::Relaxed);
            if let Some(then) = self.take_then() {
                then();
            }
            let (origin, key, doubt) = (origin.clone(), self.key.clone(), self.doubt);
            tokio::spawn(async move { doubt.settle(&origin, &key, None).await });
        }
        stored
    }
}

impl Drop for PartsUpload {
    fn drop(&mut self) {
        if *self.ended.get_mut() {
            return;
        }
        let (origin, key, id) = (self.origin.clone(), self.key.clone(), self.id.clone());
        let (then, doubt) = (self.take_then(), self.doubt);
        self.runtime.spawn(async move {
            match origin.abort(key.as_str(), &id).await {
                Ok(()) => then.into_iter().for_each(|then| then()),
                Err(cause) => {
                    tracing::warn!(%cause, "an upload could not be aborted; a later start will do it");
                }
            }
            doubt.settle(&origin, &key, Some(&id)).await;
        });
    }
}

/// Since when an upload of the key may lie open of which nobody here knows; `None`: none does.
#[derive(Debug, Clone, Copy)]
struct Doubt(Option<SystemTime>);

impl Doubt {
    /// Aborts what is there of the kind: begun since then, and without a part, which another
    /// gateway's upload of the same key would have soon. What is missed is swept with the leftovers.
    async fn settle(self, origin: &Origin, key: &ObjectKey, known: Option<&UploadId>) {
        let Some(since) = self.0 else { return };
        match origin.abort_lost(key, since, known).await {
            Ok(0) => {}
            Ok(aborted) => {
                tracing::info!(%key, aborted, "aborted uploads whose beginning got lost")
            }
            Err(cause) => tracing::warn!(%key, %cause, "an upload may lie open until it is swept"),
        }
    }
}

impl std::fmt::Debug for PartsUpload {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("PartsUpload")
            .field("key", &self.key)
            .finish_non_exhaustive()
    }
}
