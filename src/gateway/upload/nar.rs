//! A NAR's upload: its body arrives, and is with the bucket part by part before it is complete; made
//! an object only when length and hash agree, then a blob, then visible.

use std::sync::Arc;
use std::time::Duration;

use super::super::Gateway;
use super::super::error::UploadError;
use super::Uploaded;
use super::admit::{Facts, Place};
use super::arriving::{cut, spool, unless_refused};
use super::body::Body;
use super::plan::Plan;
use super::sending::{Errand, Sending};
use super::there::{Compared, Content, Landed, created, existing};
use crate::lookup::Lookup;
use crate::nix::hash::Sha256Hash;
use crate::nix::key::NarKey;
use crate::object::ETag;
use crate::origin::{Hold, StoreBody, StoreFacts};
use crate::tier::disk::{BlobFacts, BlobWriter};

/// What a NAR is stored as when its uploader does not say.
const CONTENT_TYPE: &str = "application/x-nix-nar";

/// How long an uploader waits for the disk to sync what the bucket has already. Beyond that the
/// sync goes on without it, and who asks meanwhile is served from the bucket.
const COMMIT_PATIENCE: Duration = Duration::from_secs(1);

impl Gateway {
    pub(super) async fn take_nar(
        self: &Arc<Self>,
        key: &NarKey,
        facts: &Facts,
        place: Place,
        body: Body,
    ) -> Result<Uploaded, UploadError> {
        let said = facts.content_type.as_deref();
        let about = StoreFacts {
            content_type: Some(said.unwrap_or(CONTENT_TYPE).to_owned()),
            content_encoding: None,
            create_only: true,
        };
        let taken = match place {
            Place::Disk(writer) => self.take_spooled(key, about, *writer, body).await,
            Place::Memory(_room) => self.take_unspooled(key, about, body).await,
        };
        match taken {
            // A retry that has no body, of an upload that had arrived, here or elsewhere.
            Err(UploadError::Idle(_)) if self.is_present(key, facts.len).await => {
                Ok(Uploaded::Existing)
            }
            taken => taken,
        }
    }

    async fn take_spooled(
        self: &Arc<Self>,
        key: &NarKey,
        about: StoreFacts,
        writer: BlobWriter,
        body: Body,
    ) -> Result<Uploaded, UploadError> {
        let (len, hold) = (body.len(), Hold::of(self.uploads.hold));
        let (mut sending, outlet) = match self.parts_of(key, len).await {
            None => (None, None),
            Some(plan) => {
                let errand = self.errand(key, about.clone(), plan, &hold);
                let (sending, outlet) = Sending::from_disk(errand);
                (Some(sending), Some(outlet))
            }
        };
        let spooling = spool(body, writer, outlet);
        let writer = unless_refused(spooling, &mut sending).await?;
        let content = Content {
            len,
            digest: writer.digest(),
        };
        let sound = self.check_hash(key, content.digest)?;
        hold.begin(self.clock.now());
        let landed = match sending {
            Some(sending) => self.complete(key, sending, content, &hold).await?,
            None => {
                let body = StoreBody::File {
                    file: writer.reader(),
                    start: 0,
                    len,
                };
                self.store_whole(key, &body, about, content, &hold).await?
            }
        };
        if sound {
            commit(key, writer, landed.etag).await;
        }
        Ok(self.show_nar(key, len, landed.uploaded))
    }

    async fn take_unspooled(
        self: &Arc<Self>,
        key: &NarKey,
        about: StoreFacts,
        body: Body,
    ) -> Result<Uploaded, UploadError> {
        let (len, hold) = (body.len(), Hold::of(self.uploads.hold));
        let landed = match self.parts_of(key, len).await {
            Some(plan) => {
                let errand = self.errand(key, about, plan, &hold);
                let (sending, mut outlet) = Sending::from_memory(errand);
                let mut sending = Some(sending);
                let cutting = cut(body, &mut outlet);
                let digest = unless_refused(cutting, &mut sending).await?;
                drop(outlet);
                self.check_hash(key, digest)?;
                hold.begin(self.clock.now());
                let sending = sending.ok_or(UploadError::Lost)?;
                let content = Content { len, digest };
                self.complete(key, sending, content, &hold).await?
            }
            None => {
                let bytes = body.collect().await?;
                let digest = Sha256Hash::of(&bytes);
                self.check_hash(key, digest)?;
                hold.begin(self.clock.now());
                let content = Content { len, digest };
                let body = StoreBody::Bytes(bytes);
                self.store_whole(key, &body, about, content, &hold).await?
            }
        };
        Ok(self.show_nar(key, len, landed.uploaded))
    }

    /// How the NAR is sent while it arrives; `None`: in one request once it is here. So goes a NAR
    /// whose name is no hash and is taken: it will only be compared with what is there.
    async fn parts_of(&self, key: &NarKey, len: u64) -> Option<Plan> {
        let plan = Plan::of(len, self.uploads.part_size);
        if plan.is_whole() {
            return None;
        }
        let taken = key.content_hash().is_none()
            && matches!(self.origin.head(key.object()).await, Lookup::Found(_));
        (!taken).then_some(plan)
    }

    /// Completing replaces what is there, which is right only where the name is the hash; an object
    /// of another length then is a damaged one.
    fn errand(&self, key: &NarKey, about: StoreFacts, plan: Plan, hold: &Hold) -> Errand {
        Errand {
            origin: self.origin.clone(),
            disk: self.disk.clone(),
            key: key.object().clone(),
            about: StoreFacts {
                create_only: key.content_hash().is_none(),
                ..about
            },
            plan,
            hold: hold.clone(),
            clock: self.clock.clone(),
        }
    }

    /// Whether the bytes are those that the name promises. Errors: they are not, and that counts.
    fn check_hash(&self, key: &NarKey, got: Sha256Hash) -> Result<bool, UploadError> {
        match key.content_hash() {
            Some(want) if want != got && self.uploads.verify => Err(UploadError::WrongHash {
                got: got.to_string(),
                want: want.to_string(),
            }),
            Some(want) => Ok(want == got),
            None => Ok(true),
        }
    }

    /// Makes the object of the parts that were sent.
    async fn complete(
        self: &Arc<Self>,
        key: &NarKey,
        sending: Sending,
        content: Content,
        hold: &Hold,
    ) -> Result<Landed, UploadError> {
        let sent = sending.finish().await?;
        if key.content_hash().is_none() {
            match self.compare(key, content, hold).await? {
                Compared::Nothing => {}
                there => return existing(key, there),
            }
        }
        match sent.upload.complete(&sent.tags, hold).await {
            Ok(stored) if stored.existed => existing(key, self.compare(key, content, hold).await?),
            Ok(stored) => Ok(created(stored.etag)),
            Err(cause) => self.after_doubt(key, content, cause, hold).await,
        }
    }

    async fn store_whole(
        self: &Arc<Self>,
        key: &NarKey,
        body: &StoreBody,
        mut about: StoreFacts,
        content: Content,
        hold: &Hold,
    ) -> Result<Landed, UploadError> {
        let at = key.object();
        let stored = match self.origin.store(at, body, &about, hold).await {
            Ok(stored) => stored,
            Err(cause) => return self.after_doubt(key, content, cause, hold).await,
        };
        if !stored.existed {
            return Ok(created(stored.etag));
        }
        let there = self.compare(key, content, hold).await?;
        if matches!(there, Compared::Same(_)) || key.content_hash().is_none() {
            return existing(key, there);
        }
        // The name is the hash of these bytes, so what lies there is damaged: mended.
        tracing::warn!(key = %at, "the bucket's object had another length than its name's bytes; replaced");
        about.create_only = false;
        let stored = self.origin.store(at, body, &about, hold).await?;
        Ok(created(stored.etag))
    }

    /// Makes a NAR that the bucket holds what every request from now on sees.
    fn show_nar(&self, key: &NarKey, len: u64, uploaded: Uploaded) -> Uploaded {
        let at = key.object();
        self.room.present.put(at, len);
        self.epochs.written(at, || self.memory.forget(at));
        // A fill that has just heard "absent" must gain no new readers.
        self.fills.forget(at);
        uploaded
    }
}

/// Makes the spooled bytes a blob of the disk tier, and waits a moment for it.
async fn commit(key: &NarKey, writer: BlobWriter, etag: Option<ETag>) {
    let at = key.object().clone();
    let committing = tokio::task::spawn_blocking(move || {
        let facts = BlobFacts {
            etag,
            last_modified: None,
            verified: true,
        };
        if let Err(cause) = writer.publish(facts) {
            tracing::warn!(key = %at, %cause, "uploaded, but not kept: the disk failed");
        }
    });
    if tokio::time::timeout(COMMIT_PATIENCE, committing)
        .await
        .is_err()
    {
        tracing::debug!(key = %key.object(), "uploaded; the disk still syncs it");
    }
}
