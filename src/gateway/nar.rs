//! A NAR's journey: memory, else the disk, else a fill that others may join, else a pass.

use std::sync::Arc;

use crate::asker::on_behalf;
use crate::body::{Pieces, file_pieces, memory_pieces};
use crate::lookup::Lookup;
use crate::metrics::labels::{Kind, Outcome, Source, Tier};
use crate::nix::key::NarKey;
use crate::object::{ETag, ObjectMeta};
use crate::origin::Hold;
use crate::range::{ByteRange, RangeRequest};
use crate::tier::disk::{Blob, BlobLookup};

use super::checked::Check;
use super::error::GatewayError;
use super::fill::{self, Opening};
use super::fills::Seat;
use super::pass::Pass;
use super::progress::WITHHELD;
use super::reader;
use super::served::{Answered, How, NarFacts, Place};
use super::source::Source as Rest;
use super::{Gateway, outcome_of};

/// A NAR that was found: what its answer says, and where its bytes are to be had.
#[derive(Debug)]
pub struct Nar {
    pub facts: NarFacts,
    bytes: Bytes,
}

#[derive(Debug)]
enum Bytes {
    Memory(bytes::Bytes),
    Blob(Blob),
    Fill(Seat),
    Passed(Arc<Pass>, Seat),
}

impl Nar {
    /// Where the bytes come from, for the metrics.
    pub fn source(&self) -> Source {
        match &self.bytes {
            Bytes::Memory(_) => Source::Memory,
            Bytes::Blob(_) => Source::Disk,
            Bytes::Fill(..) => Source::Fill,
            Bytes::Passed(..) => Source::Bucket,
        }
    }
}

impl Gateway {
    /// Memory, else the disk, else a fill that others may join, else a pass. A sick disk is a miss,
    /// never an error.
    ///
    /// May be dropped at any time; a fill goes on for the others.
    pub async fn nar(self: &Arc<Self>, key: &NarKey) -> Answered<Nar> {
        if let Some((held, facts)) = self.remembered_nar(key) {
            let bytes = Bytes::Memory(held.bytes.clone());
            return Answered {
                answer: Lookup::Found(Nar { facts, bytes }),
                how: self.count_remembered_nar(),
            };
        }
        let unindexed = match self.disk.lookup(key.object()) {
            BlobLookup::Hit(blob) => {
                self.count(Kind::Nar, Tier::Disk, Outcome::Hit);
                self.note_hit(key, &blob);
                let nar = Nar {
                    facts: self.blob_facts(key, &blob),
                    bytes: Bytes::Blob(blob),
                };
                return Answered {
                    answer: Lookup::Found(nar),
                    how: How::Hit(Place::Disk),
                };
            }
            BlobLookup::Unindexed(blob) => Some(blob),
            BlobLookup::Miss => None,
        };
        if unindexed.is_none() {
            self.count(Kind::Nar, Tier::Disk, Outcome::Miss);
        }
        if unindexed.is_none() && self.is_known_absent(key.object(), self.clock.now()) {
            self.count(Kind::Nar, Tier::Memory, Outcome::NegativeHit);
            return Answered {
                answer: Lookup::Absent,
                how: How::NegativeHit,
            };
        }
        Box::pin(self.join_fill(key, unindexed)).await
    }

    /// What HEAD of a NAR answers. Uploaders skip what HEAD finds, so where uploads are on it speaks
    /// for the bucket; otherwise the tiers may answer, and no fill is begun either way.
    pub async fn head_nar(self: &Arc<Self>, key: &NarKey) -> Answered<NarFacts> {
        let at = key.object();
        if !self.uploads.enabled {
            if let Some((_, facts)) = self.remembered_nar(key) {
                return Answered {
                    answer: Lookup::Found(facts),
                    how: self.count_remembered_nar(),
                };
            }
            if let BlobLookup::Hit(blob) = self.disk.lookup(at) {
                self.count(Kind::Nar, Tier::Disk, Outcome::Hit);
                let facts = self.blob_facts(key, &blob);
                return Answered {
                    answer: Lookup::Found(facts),
                    how: How::Hit(Place::Disk),
                };
            }
            if let Some(facts) = self
                .fills
                .find(key)
                .and_then(|fill| Some(fill.opened()?.facts.clone()))
            {
                self.count(Kind::Nar, Tier::Bucket, Outcome::Hit);
                let how = How::Forwarded {
                    stored: true,
                    joined: true,
                };
                return Answered {
                    answer: Lookup::Found(facts),
                    how,
                };
            }
            self.count(Kind::Nar, Tier::Disk, Outcome::Miss);
            if self.is_known_absent(at, self.clock.now()) {
                self.count(Kind::Nar, Tier::Memory, Outcome::NegativeHit);
                return Answered {
                    answer: Lookup::Absent,
                    how: How::NegativeHit,
                };
            }
        }
        let (gateway, key) = (Arc::clone(self), key.clone());
        let answer = self
            .on_engine(at, async move { gateway.ask_presence(&key, None).await })
            .await;
        let outcome = outcome_of(&answer);
        self.count(Kind::Nar, Tier::Bucket, outcome);
        Answered {
            answer,
            how: How::Forwarded {
                stored: false,
                joined: false,
            },
        }
    }

    /// Asks the bucket whether it holds the NAR, and remembers a "no". `hold`: of the upload that
    /// waits for it, if one does.
    pub(super) async fn ask_presence(
        &self,
        key: &NarKey,
        hold: Option<&Hold>,
    ) -> Lookup<NarFacts, GatewayError> {
        let at = key.object();
        let seen = self.epochs.now(at);
        let answer = match hold {
            Some(hold) => self.origin.head_within(at, hold).await,
            None => self.origin.head(at).await,
        };
        let answer = answer.map_unknown(GatewayError::from);
        if let Lookup::Absent = &answer {
            let now = self.clock.now();
            self.epochs
                .unless_written(at, seen, || self.memory.keep_absent(at, now));
        }
        answer.map(|meta| self.nar_facts(key, &meta))
    }

    /// The bytes of a NAR, or of a piece of it.
    pub async fn nar_pieces(
        self: &Arc<Self>,
        nar: Nar,
        range: Option<ByteRange>,
    ) -> Result<Pieces, GatewayError> {
        let len = nar.facts.len;
        let Ok(wanted) = range.map_or_else(|| RangeRequest::ALL.within(len), Ok) else {
            return Ok(Box::pin(futures_util::stream::empty())); // An empty object has no piece.
        };
        match nar.bytes {
            Bytes::Memory(bytes) => {
                let (start, end) = (wanted.start() as usize, wanted.end() as usize);
                Ok(memory_pieces(bytes.slice(start..end)))
            }
            Bytes::Blob(blob) => Ok(file_pieces(blob.file, wanted.start(), wanted.size())),
            Bytes::Fill(seat) => match range {
                Some(range) => Box::pin(self.piece_of_fill(seat, range)).await,
                None => Ok(reader::along(seat, wanted)),
            },
            Bytes::Passed(pass, seat) => {
                Box::pin(self.past_the_tiers(pass, seat, range, wanted)).await
            }
        }
    }

    /// `range`: what was asked for; `wanted`: what that comes to. A piece is read by itself, and so is
    /// the whole for whoever comes too late.
    async fn past_the_tiers(
        self: &Arc<Self>,
        pass: Arc<Pass>,
        seat: Seat,
        range: Option<ByteRange>,
        wanted: ByteRange,
    ) -> Result<Pieces, GatewayError> {
        let key = seat.fill().key.object().clone();
        let expected = pass.expected.filter(|_| range.is_none());
        if expected.is_none() {
            seat.count_unverified(wanted.size());
        }
        let together = match range {
            Some(_) => None,
            None => pass.read(self, seat),
        };
        if let Some(pieces) = together {
            return Ok(pieces);
        }
        let source = self
            .begun(Rest::of(self, &key, &pass.version, wanted))
            .await?;
        Ok(reader::passed(self, source, expected.map(Check::whole)))
    }

    async fn join_fill(self: &Arc<Self>, key: &NarKey, unindexed: Option<Blob>) -> Answered<Nar> {
        let tier = match unindexed {
            Some(_) => Tier::Disk,
            None => Tier::Bucket,
        };
        let joined = self.fills.join(key, |fill, in_flight| {
            let gateway = Arc::clone(self);
            self.engine.spawn(on_behalf(async move {
                let _in_flight = in_flight;
                match unindexed {
                    Some(blob) => fill::from_blob(gateway, fill, blob).await,
                    None => fill::from_bucket(gateway, fill).await,
                }
            }));
        });
        if joined.joined {
            self.metrics.fill_joins.inc();
        }
        // What is withheld whole is worth waiting for: a failure is then a status, not a cut.
        let fill = Arc::clone(joined.seat.fill());
        let opening = fill
            .opening(self.patience, |opened| opened.facts.len <= WITHHELD)
            .await;
        let how = |stored| match tier {
            // Read from our own disk, and checked on the way.
            Tier::Disk if stored => How::Hit(Place::Disk),
            _ => How::Forwarded {
                stored,
                joined: joined.joined,
            },
        };
        let (answer, how, outcome) = match opening {
            Opening::Readable => match fill.opened() {
                Some(opened) => {
                    let facts = opened.facts.clone();
                    let nar = Nar {
                        facts,
                        bytes: Bytes::Fill(joined.seat),
                    };
                    (Lookup::Found(nar), how(true), Outcome::Hit)
                }
                None => unreachable!("a fill is open before its first byte may be read"),
            },
            Opening::Unstored(pass) => {
                let nar = Nar {
                    facts: self.nar_facts(key, &pass.meta),
                    bytes: Bytes::Passed(pass, joined.seat),
                };
                (Lookup::Found(nar), How::Passed, Outcome::Hit)
            }
            Opening::Absent => (Lookup::Absent, how(false), Outcome::Miss),
            Opening::Failed(cause) => (
                Lookup::Unknown((*cause).clone()),
                how(false),
                Outcome::Unknown,
            ),
        };
        self.count(Kind::Nar, tier, outcome);
        Answered { answer, how }
    }

    /// What an answer says of a NAR that the bucket described.
    pub(super) fn nar_facts(&self, key: &NarKey, meta: &ObjectMeta) -> NarFacts {
        NarFacts {
            len: meta.len,
            tag: tag_of(key, meta.etag.as_ref()),
            last_modified: meta.last_modified,
            immutable: key.content_hash().is_some(),
        }
    }

    /// What an answer says of a NAR on disk.
    pub(super) fn blob_facts(&self, key: &NarKey, blob: &Blob) -> NarFacts {
        NarFacts {
            len: blob.len,
            tag: tag_of(key, blob.etag.as_ref()),
            last_modified: blob.last_modified,
            immutable: key.content_hash().is_some(),
        }
    }
}

/// The hash in the name, else the bucket's tag (`design.md` §10.4).
pub(super) fn tag_of(key: &NarKey, bucket: Option<&ETag>) -> Option<ETag> {
    match key.content_hash() {
        Some(hash) => ETag::new(&hash.to_nix32()),
        None => bucket.cloned(),
    }
}
