//! An upload's journey: admitted before its body, spooled, checked, durable in the bucket, visible.
//!
//! The order is the promise: bucket durable → blob in the disk tier → known absences dropped → the
//! uploader is told. A body that is short, idle or wrong becomes visible nowhere. The task that does
//! this belongs to the engine and reads the body through a channel, so a client that goes away
//! merely ends the channel, and a bucket that fails is retried from the spooled bytes.

use std::sync::Arc;
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use tokio::sync::{OwnedSemaphorePermit, Semaphore, mpsc};
use tokio::task::JoinHandle;

use crate::asker::on_behalf;
use crate::lookup::Lookup;
use crate::metrics::labels::{Kind, UploadOutcome};
use crate::nix::key::{DocumentKey, DocumentKind, Key, NarKey, ObjectKey};
use crate::nix::narinfo::{self, Narinfo};
use crate::nix::signature::{TrustedKeys, Verdict};
use crate::object::Document;
use crate::origin::{Ask, Fetched, StoreBody, StoreFacts};
use crate::tier::disk::{BlobFacts, BlobWriter};
use crate::tier::memory::{Held, Notes};

use super::Gateway;
use super::document::{MAX_KEPT, kind_of};
use super::encoding::{Encoding, MAX_DECODED};
use super::error::UploadError;

/// Chunks between the client's connection and the spool; actix hands out at most 32 KiB at once.
const CHUNKS_IN_FLIGHT: usize = 8;

/// Documents being uploaded are held in memory, all together at most so many bytes.
pub const DOCUMENT_ROOM: usize = 256 << 20;

/// How long an upload waits for room before it is told to come back.
const ROOM_PATIENCE: Duration = Duration::from_secs(10);

/// How long an uploader waits for the bucket to say that its body is not needed. libcurl sends it
/// a second after the head anyway, and a body that is here can wait for the bucket by itself.
const PRESENCE_PATIENCE: Duration = Duration::from_secs(1);

/// For so long a NAR that the bucket was seen to hold counts as there when its narinfo arrives.
const PRESENCE_TTL: Duration = Duration::from_secs(600);

/// NARs remembered so; about 150 bytes each.
const MAX_PRESENT: u64 = 100_000;

/// What a NAR is stored as when its uploader does not say.
const NAR_CONTENT_TYPE: &str = "application/x-nix-nar";

/// What the head of an upload says.
#[derive(Debug, Clone)]
pub struct UploadFacts {
    /// Announced length of the body, in bytes.
    pub len: u64,
    pub content_type: Option<String>,
    pub content_encoding: Option<String>,
}

/// The verdict on an upload before its body.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Admitted {
    /// Send the body.
    Wanted { len: u64 },
    /// The very object is there already; the body is not needed.
    Existing,
}

/// How an upload ended well.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Uploaded {
    Created,
    Existing,
}

/// Bounds what uploads hold in memory, and remembers which NARs the bucket has.
#[derive(Debug)]
pub(super) struct Room {
    documents: Arc<Semaphore>,
    present: Notes<u64>,
}

impl Default for Room {
    fn default() -> Self {
        Self {
            documents: Arc::new(Semaphore::new(DOCUMENT_ROOM)),
            present: Notes::new(MAX_PRESENT, Some(PRESENCE_TTL)),
        }
    }
}

/// An upload whose body is on its way. Dropped before [`Upload::finish`], it comes to nothing.
#[derive(Debug)]
pub struct Upload {
    parts: mpsc::Sender<Part>,
    outcome: JoinHandle<Result<Uploaded, UploadError>>,
}

#[derive(Debug)]
enum Part {
    Chunk(Bytes),
    End,
}

impl Upload {
    /// Hands over the next bytes. `false`: the upload has failed already; `finish` says why.
    pub async fn send(&self, chunk: Bytes) -> bool {
        self.parts.send(Part::Chunk(chunk)).await.is_ok()
    }

    /// Waits until the upload's task wants no more of the body, whatever the reason.
    pub async fn ended(&self) {
        self.parts.closed().await;
    }

    /// The body is complete: waits until it is durable and visible.
    pub async fn finish(self) -> Result<Uploaded, UploadError> {
        // A task that has ended already has its own answer.
        let _ = self.parts.send(Part::End).await;
        drop(self.parts);
        self.outcome.await.unwrap_or(Err(UploadError::Lost))
    }

    /// The body broke off: waits for the answer to that.
    pub async fn abandon(self) -> Result<Uploaded, UploadError> {
        drop(self.parts);
        self.outcome.await.unwrap_or(Err(UploadError::Lost))
    }
}

impl Gateway {
    /// Decides on an upload by its head: before `100 Continue`, before a byte of its body.
    ///
    /// `len` and `encoding`: what `Content-Length` and `Content-Encoding` say, if they are there.
    pub async fn admit(
        self: &Arc<Self>,
        key: &Key,
        len: Option<u64>,
        encoding: Option<&str>,
    ) -> Result<Admitted, UploadError> {
        let admitted = self.judge(key, len, encoding).await;
        let ended = match &admitted {
            Ok(Admitted::Wanted { .. }) => return admitted,
            Ok(Admitted::Existing) => UploadOutcome::Existing,
            Err(_) => UploadOutcome::Refused,
        };
        let kind = match key {
            Key::Nar(_) => Kind::Nar,
            Key::Document(document) => kind_of(document),
        };
        self.metrics.uploads.of((kind, ended)).inc();
        admitted
    }

    async fn judge(
        self: &Arc<Self>,
        key: &Key,
        len: Option<u64>,
        encoding: Option<&str>,
    ) -> Result<Admitted, UploadError> {
        if !self.uploads.enabled {
            return Err(UploadError::Disabled);
        }
        let named = encoding.unwrap_or_default();
        let encoding =
            Encoding::parse(named).map_err(|_| UploadError::Encoding(named.to_owned()))?;
        if matches!(key, Key::Nar(_)) && encoding.is_some() {
            return Err(UploadError::EncodedNar(named.to_owned()));
        }
        let len = len.ok_or(UploadError::LengthMissing)?;
        let (limit, setting) = match key {
            Key::Document(document) if document.kind() == DocumentKind::Narinfo => {
                (narinfo::MAX_LEN as u64, "")
            }
            Key::Document(_) => (MAX_DECODED, ""),
            Key::Nar(_) => (
                self.uploads.max_size.unwrap_or(u64::MAX),
                " (uploads.max_size)",
            ),
        };
        if len > limit {
            return Err(UploadError::TooLarge {
                len,
                limit,
                setting,
            });
        }
        match key {
            Key::Nar(nar) if nar.content_hash().is_some() && self.is_present(nar, len).await => {
                Ok(Admitted::Existing)
            }
            Key::Nar(_) | Key::Document(_) => Ok(Admitted::Wanted { len }),
        }
    }

    /// Whether the bucket holds a NAR of this length under a name that is its hash. An uploader has
    /// usually just asked by HEAD, and that "no" is not asked for again.
    async fn is_present(self: &Arc<Self>, key: &NarKey, len: u64) -> bool {
        if self.is_known_absent(key.object(), self.clock.now()) {
            return false;
        }
        let (gateway, nar) = (Arc::clone(self), key.clone());
        let asking = self.on_engine(
            key.object(),
            async move { gateway.ask_presence(&nar).await },
        );
        match tokio::time::timeout(PRESENCE_PATIENCE, asking).await {
            Ok(answer) => matches!(answer, Lookup::Found(facts) if facts.len == len),
            Err(_) => false,
        }
    }

    /// Begins an upload that was admitted as wanted.
    pub fn upload(self: &Arc<Self>, key: Key, facts: UploadFacts) -> Upload {
        let (parts, arriving) = mpsc::channel(CHUNKS_IN_FLIGHT);
        let gateway = Arc::clone(self);
        let outcome = self.engine.spawn(on_behalf(async move {
            let (kind, ended) = match &key {
                Key::Nar(nar) => (Kind::Nar, gateway.take_nar(nar, facts, arriving).await),
                Key::Document(document) => (
                    kind_of(document),
                    gateway.take_document(document, facts, arriving).await,
                ),
            };
            gateway.metrics.uploads.of((kind, outcome_of(&ended))).inc();
            match &ended {
                Err(UploadError::Bucket(cause)) => {
                    tracing::warn!(key = %key.object(), %cause, "upload failed at the bucket");
                }
                Err(UploadError::Disk(cause)) => {
                    tracing::warn!(key = %key.object(), %cause, "upload failed on the disk");
                }
                _ => {}
            }
            ended
        }));
        Upload { parts, outcome }
    }

    async fn take_nar(
        self: &Arc<Self>,
        key: &NarKey,
        facts: UploadFacts,
        arriving: mpsc::Receiver<Part>,
    ) -> Result<Uploaded, UploadError> {
        let at = key.object();
        let (disk, reserved, len) = (self.disk.clone(), at.clone(), facts.len);
        let writer = blocking(move || disk.reserve(&reserved, len))
            .await?
            .map_err(|no_room| {
                tracing::warn!(key = %at, %no_room, "upload refused");
                UploadError::NoRoom
            })?;
        let writer = self.spool(writer, arriving, facts.len).await?;
        let digest = writer.digest();
        let sound = key.content_hash().is_none_or(|named| named == digest);
        if !sound && self.uploads.verify {
            let want = key
                .content_hash()
                .map(|hash| hash.to_string())
                .unwrap_or_default();
            return Err(UploadError::WrongHash {
                got: digest.to_string(),
                want,
            });
        }
        let body = StoreBody::File {
            file: writer.reader(),
            len,
        };
        let mut about = StoreFacts {
            content_type: Some(
                facts
                    .content_type
                    .unwrap_or_else(|| NAR_CONTENT_TYPE.into()),
            ),
            content_encoding: None,
            create_only: true,
        };
        let hold = self.uploads.hold;
        let mut stored = self.origin.store(at, &body, &about, hold).await?;
        if stored.existed {
            match (self.same_in_bucket(key, &writer).await?, key.content_hash()) {
                (true, _) => {}
                // The name is the hash of these bytes, so what lies there is damaged: mended.
                (false, Some(_)) => {
                    tracing::warn!(key = %at, "the bucket's object had another length than its name's bytes; replaced");
                    about.create_only = false;
                    stored = self.origin.store(at, &body, &about, hold).await?;
                }
                (false, None) => return Err(UploadError::Conflict { key: at.clone() }),
            }
        }
        if sound {
            let facts = BlobFacts {
                etag: stored.etag,
                last_modified: None,
                verified: true,
            };
            let key = at.clone();
            let published = blocking(move || writer.publish(facts)).await?;
            if let Err(cause) = published {
                tracing::warn!(%key, %cause, "uploaded, but not kept: the disk failed");
            }
        }
        self.room.present.put(at, len);
        self.epochs.written(at, || self.memory.forget(at));
        // A fill that has just heard "absent" must gain no new readers.
        self.fills.forget(at);
        Ok(if stored.existed {
            Uploaded::Existing
        } else {
            Uploaded::Created
        })
    }

    /// Whether the object that lies in the bucket is what was spooled: by its length where its name
    /// is its hash, else by reading it.
    async fn same_in_bucket(
        &self,
        key: &NarKey,
        spooled: &BlobWriter,
    ) -> Result<bool, UploadError> {
        let at = key.object();
        let unknown = |cause| Err(UploadError::Bucket(cause));
        if key.content_hash().is_some() {
            return match self.origin.head(at).await {
                Lookup::Found(meta) => Ok(meta.len == spooled.written()),
                Lookup::Absent => Ok(false),
                Lookup::Unknown(cause) => unknown(cause.into()),
            };
        }
        match self.origin.fetch(at, &Ask::nar()).await {
            Lookup::Found(Fetched::Object(mut stream)) => {
                if stream.meta.len != spooled.written() {
                    return Ok(false);
                }
                let mut hasher = sha2::Sha256::default();
                while let Some(chunk) = stream.chunk().await? {
                    sha2::Digest::update(&mut hasher, &chunk);
                }
                let held: [u8; 32] = sha2::Digest::finalize(hasher).into();
                Ok(held == *spooled.digest().as_bytes())
            }
            Lookup::Found(Fetched::NotModified) | Lookup::Absent => Ok(false),
            Lookup::Unknown(cause) => unknown(cause.into()),
        }
    }

    /// Runs the body into a temporary blob, hashing it on the way.
    async fn spool(
        &self,
        writer: BlobWriter,
        mut arriving: mpsc::Receiver<Part>,
        want: u64,
    ) -> Result<BlobWriter, UploadError> {
        let (chunks, writing) = mpsc::channel::<Bytes>(CHUNKS_IN_FLIGHT);
        let written = tokio::task::spawn_blocking(move || write_all(writing, writer));
        let received = async {
            let mut got = 0;
            loop {
                match self.next_part(&mut arriving).await? {
                    Some(Part::Chunk(chunk)) => {
                        got += chunk.len() as u64;
                        self.metrics.upload_bytes.inc_by(chunk.len() as u64);
                        if got > want || chunks.send(chunk).await.is_err() {
                            return Ok(got); // Too long, or the disk failed: told apart below.
                        }
                    }
                    Some(Part::End) => return Ok(got),
                    None => return Err(UploadError::Cut { got, want }),
                }
            }
        }
        .await;
        drop(chunks);
        let written = written.await.map_err(|_| UploadError::Lost)?;
        let got = received?;
        let writer = written.map_err(UploadError::Disk)?;
        if got == want {
            Ok(writer)
        } else {
            Err(UploadError::Cut { got, want })
        }
    }

    /// The next part of a body; a client that sends nothing for too long has failed.
    async fn next_part(
        &self,
        arriving: &mut mpsc::Receiver<Part>,
    ) -> Result<Option<Part>, UploadError> {
        let idle = self.uploads.body_idle_timeout;
        tokio::time::timeout(idle, arriving.recv())
            .await
            .map_err(|_| UploadError::Idle(idle))
    }

    async fn take_document(
        self: &Arc<Self>,
        key: &DocumentKey,
        facts: UploadFacts,
        arriving: mpsc::Receiver<Part>,
    ) -> Result<Uploaded, UploadError> {
        let named = facts.content_encoding.as_deref().unwrap_or_default();
        let encoding =
            Encoding::parse(named).map_err(|_| UploadError::Encoding(named.to_owned()))?;
        let _room = self.document_room(facts.len).await?;
        let bytes = self.collect(arriving, facts.len).await?;
        let mut kept = Some((bytes.clone(), encoding));
        if key.kind() == DocumentKind::Narinfo {
            let plain = match encoding {
                None => bytes.clone(),
                Some(encoding) => {
                    let decoded = encoding.decode(&bytes).await;
                    decoded.map_err(|_| UploadError::BadEncoding(encoding.as_str().to_owned()))?
                }
            };
            self.check_narinfo(key, &plain).await?;
            kept = Some((plain, None));
        } else if facts.len > MAX_KEPT {
            kept = None;
        }
        let about = StoreFacts {
            content_type: facts.content_type.clone(),
            content_encoding: encoding.map(|encoding| encoding.as_str().to_owned()),
            create_only: false,
        };
        let at = key.object();
        let stored = self
            .origin
            .store(at, &StoreBody::Bytes(bytes), &about, self.uploads.hold)
            .await?;
        let held = kept.map(|(bytes, encoding)| {
            let document = Document {
                bytes,
                etag: stored.etag,
                last_modified: None,
                content_type: facts.content_type,
                content_encoding: encoding.map(|encoding| encoding.as_str().to_owned()),
                validated: self.clock.wall(),
            };
            Arc::new(Held::new(document, self.clock.now()))
        });
        self.show_document(at, held);
        Ok(if stored.existed {
            Uploaded::Existing
        } else {
            Uploaded::Created
        })
    }

    /// Makes a written document what every request from now on sees.
    fn show_document(&self, at: &ObjectKey, held: Option<Arc<Held>>) {
        self.epochs.written(at, || match held {
            Some(held) => {
                self.disk.keep_document(at, &held.document);
                self.memory.keep(at, held);
            }
            None => {
                self.disk.forget_document(at);
                self.memory.forget(at);
            }
        });
        self.lookups.forget(at);
    }

    async fn document_room(&self, len: u64) -> Result<OwnedSemaphorePermit, UploadError> {
        let permits = u32::try_from(len).map_err(|_| UploadError::Busy)?;
        let room = Arc::clone(&self.room.documents).acquire_many_owned(permits);
        match tokio::time::timeout(ROOM_PATIENCE, room).await {
            Ok(Ok(permit)) => Ok(permit),
            Ok(Err(_)) | Err(_) => Err(UploadError::Busy),
        }
    }

    async fn collect(
        &self,
        mut arriving: mpsc::Receiver<Part>,
        want: u64,
    ) -> Result<Bytes, UploadError> {
        let mut bytes = BytesMut::with_capacity(want as usize);
        loop {
            let got = bytes.len() as u64;
            match self.next_part(&mut arriving).await? {
                Some(Part::Chunk(chunk)) if got + chunk.len() as u64 <= want => {
                    self.metrics.upload_bytes.inc_by(chunk.len() as u64);
                    bytes.extend_from_slice(&chunk);
                }
                Some(Part::End) if got == want => return Ok(bytes.freeze()),
                Some(Part::Chunk(_) | Part::End) | None => {
                    return Err(UploadError::Cut { got, want });
                }
            }
        }
    }

    /// Strict by Nix's rules, about this key, signed where that is asked for, and its NAR is there.
    async fn check_narinfo(
        self: &Arc<Self>,
        key: &DocumentKey,
        plain: &Bytes,
    ) -> Result<(), UploadError> {
        let narinfo = Narinfo::parse(&self.store_dir, plain)?;
        if let Some(hash) = key.store_path_hash() {
            narinfo.check_key(hash)?;
        }
        if let Some(trusted) = &self.trusted {
            self.check_signature(&narinfo, trusted)?;
        }
        let url = &narinfo.url;
        let foreign = || UploadError::ForeignUrl { url: url.clone() };
        let nar = NarKey::from_url(key.namespace(), url).ok_or_else(foreign)?;
        if self.uploads.require_nar {
            self.check_nar(&nar, &narinfo).await?;
        }
        self.expected.learn(&nar, &narinfo);
        Ok(())
    }

    fn check_signature(&self, narinfo: &Narinfo, trusted: &TrustedKeys) -> Result<(), UploadError> {
        match trusted.verdict(narinfo, &self.store_dir) {
            Verdict::SignedBy(_) | Verdict::ContentAddressed => Ok(()),
            Verdict::Untrusted { seen } => {
                let seen = if seen.is_empty() {
                    "nobody".to_owned()
                } else {
                    seen.join(", ")
                };
                Err(UploadError::Untrusted {
                    seen,
                    accepted: trusted.names().join(", "),
                })
            }
        }
    }

    async fn check_nar(&self, nar: &NarKey, narinfo: &Narinfo) -> Result<(), UploadError> {
        let url = || narinfo.url.clone();
        let held = match self.room.present.get(nar.object()) {
            Some(len) => len,
            None => match self.ask_presence(nar).await {
                Lookup::Found(facts) => {
                    self.room.present.put(nar.object(), facts.len);
                    facts.len
                }
                Lookup::Absent => return Err(UploadError::MissingNar { url: url() }),
                Lookup::Unknown(cause) => return Err(UploadError::Bucket(cause)),
            },
        };
        match narinfo.file_size {
            Some(said) if said != held => Err(UploadError::OtherNar {
                url: url(),
                held,
                said,
            }),
            _ => Ok(()),
        }
    }
}

fn write_all(
    mut arriving: mpsc::Receiver<Bytes>,
    mut writer: BlobWriter,
) -> std::io::Result<BlobWriter> {
    while let Some(chunk) = arriving.blocking_recv() {
        writer.write(&chunk)?;
    }
    Ok(writer)
}

async fn blocking<T: Send + 'static>(
    work: impl FnOnce() -> T + Send + 'static,
) -> Result<T, UploadError> {
    tokio::task::spawn_blocking(work)
        .await
        .map_err(|_| UploadError::Lost)
}

fn outcome_of(ended: &Result<Uploaded, UploadError>) -> UploadOutcome {
    match ended {
        Ok(Uploaded::Created) => UploadOutcome::Created,
        Ok(Uploaded::Existing) => UploadOutcome::Existing,
        Err(UploadError::Cut { .. } | UploadError::Idle(_)) => UploadOutcome::Cut,
        Err(
            UploadError::Bucket(_)
            | UploadError::NoRoom
            | UploadError::Disk(_)
            | UploadError::Busy
            | UploadError::Lost,
        ) => UploadOutcome::Failed,
        Err(
            UploadError::Disabled
            | UploadError::LengthMissing
            | UploadError::TooLarge { .. }
            | UploadError::WrongHash { .. }
            | UploadError::Conflict { .. }
            | UploadError::MissingNar { .. }
            | UploadError::OtherNar { .. }
            | UploadError::Narinfo(_)
            | UploadError::ForeignUrl { .. }
            | UploadError::Untrusted { .. }
            | UploadError::Encoding(_)
            | UploadError::EncodedNar(_)
            | UploadError::BadEncoding(_),
        ) => UploadOutcome::Refused,
    }
}
