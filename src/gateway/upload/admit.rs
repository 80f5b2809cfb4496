//! Decides on an upload by its head: before `100 Continue`, before a byte of its body.
//!
//! This is the only moment at which every client can be told to come back: an older Nix cannot
//! repeat a body once it has begun to send it. A client that sent `Expect` begins on its own after
//! a second without an answer (libcurl), so all waits of such a decision are over within that, but
//! for one: who finds the same NAR under way waits for it.

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::OwnedSemaphorePermit;
use tokio::time::{Instant, timeout_at};

use super::super::Gateway;
use super::super::encoding::{Encoding, MAX_DECODED};
use super::super::error::UploadError;
use super::Uploaded;
use super::plan::Plan;
use super::sending::PARTS_IN_MEMORY;
use super::turns::Turn;
use crate::lookup::Lookup;
use crate::nix::key::{DocumentKey, DocumentKind, Key, NarKey};
use crate::nix::narinfo;
use crate::tier::disk::BlobWriter;

/// Within this a client that sent `Expect` is answered.
const DECISION: Duration = Duration::from_millis(900);

/// How long one that did not waits for room: it has sent its body already, which is small.
const ROOM_PATIENCE: Duration = Duration::from_secs(10);

/// How long the bucket is asked whether it has the NAR, so that something of the decision's time is
/// left to find room. Silence means that the body is wanted.
const PRESENCE_PATIENCE: Duration = Duration::from_millis(600);

/// How long to wait for another upload of the same NAR, which has deadlines of its own for all that
/// could make it stand still. Nix gives up after 300 s without a byte moving; before that it is told
/// to come back.
const TURN_PATIENCE: Duration = Duration::from_secs(280);

/// An absence heard so lately is the word that the uploader itself was given when it asked by HEAD.
/// An older one may have been made wrong by another gateway.
const JUST_HEARD: Duration = Duration::from_secs(2);

/// What the head of an upload says, and whose it is.
#[derive(Debug, Clone)]
pub struct UploadHead {
    /// Announced length of the body, in bytes; `None`: it said none.
    pub len: Option<u64>,
    pub content_type: Option<String>,
    pub content_encoding: Option<String>,
    /// Whether the client could send the body a second time.
    pub rewinds: bool,
    /// Whether the body waits for a word (`Expect: 100-continue`).
    pub waits: bool,
    /// The name of the token, for the log.
    pub by: Arc<str>,
}

/// The same, found in order.
#[derive(Debug)]
pub(super) struct Facts {
    pub len: u64,
    pub content_type: Option<String>,
    pub encoding: Option<Encoding>,
    pub rewinds: bool,
    pub by: Arc<str>,
}

/// The verdict on an upload before its body.
#[derive(Debug)]
pub enum Admitted {
    /// Send the body.
    Wanted(Box<Leave>),
    /// The very object is there already; the body is not needed.
    Existing,
}

/// Leave to send a body, with all the room that it takes. Dropped, the room is free again.
#[derive(Debug)]
pub struct Leave {
    pub(super) key: Key,
    pub(super) facts: Facts,
    pub(super) place: Place,
    pub(super) _turn: Option<Turn>,
    pub(super) _entered: OwnedSemaphorePermit,
}

/// What an uploader of a NAR may do.
enum Claim {
    Write {
        turn: Turn,
        /// Since when there is nothing to wait for but the bucket and room.
        since: Instant,
    },
    /// It is all there.
    Nothing,
}

/// Where a body goes.
#[derive(Debug)]
pub(super) enum Place {
    Disk(Box<BlobWriter>),
    /// As much as of it is in memory at once.
    Memory(OwnedSemaphorePermit),
}

impl Gateway {
    /// Decides on an upload by its head.
    pub async fn admit(
        self: &Arc<Self>,
        key: &Key,
        head: UploadHead,
    ) -> Result<Admitted, UploadError> {
        let (len, by) = (head.len, Arc::clone(&head.by));
        let decided = self.judge(key, head).await;
        let ended = match &decided {
            Ok(Admitted::Wanted(_)) => return decided,
            Ok(Admitted::Existing) => Ok(Uploaded::Existing),
            Err(cause) => Err(cause),
        };
        self.note(key, &by, len, ended);
        decided
    }

    async fn judge(self: &Arc<Self>, key: &Key, head: UploadHead) -> Result<Admitted, UploadError> {
        let encoding = judge_encoding(key, head.content_encoding.as_deref())?;
        let len = self.judge_length(key, head.len)?;
        let (turn, since) = match key {
            Key::Document(_) => (None, Instant::now()),
            Key::Nar(nar) => match self.turn_of(nar, len).await? {
                Claim::Write { turn, since } => (Some(turn), since),
                Claim::Nothing => return Ok(Admitted::Existing),
            },
        };
        let patience = if head.waits { DECISION } else { ROOM_PATIENCE };
        let until = since + patience;
        let entered = self.room.enter(until).await?;
        let place = match key {
            Key::Document(document) => {
                let held = len + unpacked(document, encoding);
                Place::Memory(self.room.for_document(held, until).await?)
            }
            Key::Nar(nar) => self.place_for(nar, len, until).await?,
        };
        Ok(Admitted::Wanted(Box::new(Leave {
            key: key.clone(),
            facts: Facts {
                len,
                content_type: head.content_type,
                encoding,
                rewinds: head.rewinds,
                by: head.by,
            },
            place,
            _turn: turn,
            _entered: entered,
        })))
    }

    /// The right to upload a NAR, unless there is nothing to upload. Errors: the name is taken.
    async fn turn_of(self: &Arc<Self>, key: &NarKey, len: u64) -> Result<Claim, UploadError> {
        let (at, turns) = (key.object(), &self.room.turns);
        let mut since = Instant::now();
        let turn = match turns.take_free(at) {
            Some(turn) => turn,
            None => {
                // Nobody need wait for an upload of what is there already.
                if self.is_settled(key, len).await? {
                    return Ok(Claim::Nothing);
                }
                let turn = turns.take(at, TURN_PATIENCE).await;
                since = Instant::now();
                turn.ok_or_else(|| UploadError::InLine { key: at.clone() })?
            }
        };
        // Only now, since whoever had the turn before may have written it.
        if self.is_settled(key, len).await? {
            return Ok(Claim::Nothing);
        }
        Ok(Claim::Write { turn, since })
    }

    fn judge_length(&self, key: &Key, len: Option<u64>) -> Result<u64, UploadError> {
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
        Ok(len)
    }

    /// Whether the bucket holds a NAR of this length under a name that is its hash.
    pub(super) async fn is_present(self: &Arc<Self>, key: &NarKey, len: u64) -> bool {
        key.content_hash().is_some() && self.len_there(key).await == Some(len)
    }

    /// Whether the very NAR is there. Under a name that is no hash only the bytes could tell, but a
    /// NAR of another length is another one, which need not be sent to be refused.
    async fn is_settled(self: &Arc<Self>, key: &NarKey, len: u64) -> Result<bool, UploadError> {
        let there = if self.was_just_absent(key) {
            None
        } else {
            self.len_there(key).await
        };
        match key.content_hash() {
            Some(_) => Ok(there == Some(len)),
            None if there.is_some_and(|there| there != len) => Err(UploadError::Conflict {
                key: key.object().clone(),
            }),
            None => Ok(false),
        }
    }

    /// An uploader has usually just asked by HEAD, and that "no" is not asked for again.
    fn was_just_absent(&self, key: &NarKey) -> bool {
        let heard = self.memory.absent_since(key.object());
        heard.is_some_and(|at| self.clock.now().saturating_duration_since(at) < JUST_HEARD)
    }

    /// How long the bucket's NAR is; `None`: there is none, or nobody said so in time.
    async fn len_there(self: &Arc<Self>, key: &NarKey) -> Option<u64> {
        let (gateway, nar) = (Arc::clone(self), key.clone());
        let asking = self.on_engine(key.object(), async move {
            gateway.ask_presence(&nar, None).await
        });
        match tokio::time::timeout(PRESENCE_PATIENCE, asking).await {
            Ok(Lookup::Found(facts)) => Some(facts.len),
            Ok(Lookup::Absent | Lookup::Unknown(_)) | Err(_) => None,
        }
    }

    /// The disk; where it has no room, or does not say so in time, memory for as much as is there at
    /// once.
    async fn place_for(
        &self,
        key: &NarKey,
        len: u64,
        until: Instant,
    ) -> Result<Place, UploadError> {
        let (disk, at) = (self.disk.clone(), key.object().clone());
        let reserving = self.engine.spawn_blocking(move || disk.reserve(&at, len));
        match timeout_at(until, reserving).await {
            Ok(Ok(Ok(writer))) => return Ok(Place::Disk(Box::new(writer))),
            Ok(Ok(Err(no_room))) => {
                tracing::info!(key = %key.object(), %no_room, "an upload passes the disk by");
            }
            Ok(Err(_)) => return Err(UploadError::Lost),
            Err(_) => {
                tracing::warn!(key = %key.object(), "the disk is slow: an upload passes it by");
            }
        }
        let plan = Plan::of(len, self.uploads.part_size);
        let at_once = len.min(plan.part_len().saturating_mul(PARTS_IN_MEMORY));
        Ok(Place::Memory(self.room.for_nar(at_once, until).await?))
    }
}

/// Bytes that a document takes beside those it comes with: an encoded narinfo is read.
fn unpacked(key: &DocumentKey, encoding: Option<Encoding>) -> u64 {
    match (key.kind(), encoding) {
        (DocumentKind::Narinfo, Some(_)) => narinfo::MAX_LEN as u64,
        _ => 0,
    }
}

/// Documents may come in an encoding that can be taken off again, NARs in none.
fn judge_encoding(key: &Key, named: Option<&str>) -> Result<Option<Encoding>, UploadError> {
    let named = named.unwrap_or_default();
    let encoding = Encoding::parse(named).map_err(|_| UploadError::Encoding(named.to_owned()))?;
    match key {
        Key::Nar(_) if encoding.is_some() => Err(UploadError::EncodedNar(named.to_owned())),
        Key::Nar(_) | Key::Document(_) => Ok(encoding),
    }
}
