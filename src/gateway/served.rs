//! An answer of the gateway and how it came: the one word list behind the access log, the
//! `Cache-Status` header and the metrics' `source`.

use std::time::SystemTime;

use crate::lookup::Lookup;
use crate::metrics::labels::{Source, Tier};
use crate::object::ETag;

use super::error::GatewayError;

/// What became of a request, and how.
#[derive(Debug)]
pub struct Answered<T> {
    pub answer: Lookup<T, GatewayError>,
    pub how: How,
}

/// How an answer came about.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum How {
    /// Kept here, and fresh.
    Hit(Place),
    /// Known to be absent.
    NegativeHit,
    /// The bucket was asked. `stored`: the answer is kept now. `joined`: another request had asked.
    Forwarded { stored: bool, joined: bool },
    /// Kept here and past its time, because nobody could say whether it still holds.
    Stale,
    /// From the bucket past the tiers.
    Passed,
    /// Made here; no cache has a part in it.
    Own,
}

/// A tier as an operator reads it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Place {
    Memory,
    Disk,
    Index,
}

impl Place {
    /// The same in the words of the metrics.
    pub fn tier(self) -> Tier {
        match self {
            Self::Memory => Tier::Memory,
            Self::Disk => Tier::Disk,
            Self::Index => Tier::Index,
        }
    }
}

impl How {
    /// The value of `Cache-Status` (RFC 9211); `None` where no cache was involved.
    pub fn cache_status(self) -> Option<&'static str> {
        match self {
            Self::Hit(Place::Memory) => Some("narwharf; hit; detail=memory"),
            Self::Hit(Place::Disk) => Some("narwharf; hit; detail=disk"),
            Self::Hit(Place::Index) => Some("narwharf; hit; detail=index"),
            Self::NegativeHit => Some("narwharf; hit; detail=negative"),
            Self::Forwarded {
                stored: true,
                joined: false,
            } => Some("narwharf; fwd=uri-miss; stored; detail=bucket"),
            Self::Forwarded {
                stored: true,
                joined: true,
            } => Some("narwharf; fwd=uri-miss; stored; collapsed; detail=bucket"),
            Self::Forwarded {
                stored: false,
                joined: false,
            } => Some("narwharf; fwd=uri-miss; detail=bucket"),
            Self::Forwarded {
                stored: false,
                joined: true,
            } => Some("narwharf; fwd=uri-miss; collapsed; detail=bucket"),
            Self::Stale => Some("narwharf; fwd=stale"),
            Self::Passed => Some("narwharf; fwd=bypass"),
            Self::Own => None,
        }
    }

    /// What an answer that came about so has waited for, for the log of slow ones.
    pub fn waited_for(self) -> &'static str {
        match self {
            Self::Hit(Place::Memory) | Self::NegativeHit => "this machine's processors",
            Self::Hit(Place::Disk | Place::Index) => "this machine's disk",
            Self::Forwarded { joined: false, .. } | Self::Passed => "the bucket",
            Self::Forwarded { joined: true, .. } => {
                "the bucket, in a lookup or fill that another request began"
            }
            Self::Stale => "the bucket, in vain; an old answer was given",
            Self::Own => "the client's body, the bucket's confirmation, or this machine",
        }
    }

    /// The word for the access log.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Hit(Place::Memory) => "hit-memory",
            Self::Hit(Place::Disk) => "hit-disk",
            Self::Hit(Place::Index) => "hit-index",
            Self::NegativeHit => "negative-hit",
            Self::Forwarded {
                stored: true,
                joined: false,
            } => "miss-stored",
            Self::Forwarded { joined: true, .. } => "joined",
            Self::Forwarded {
                stored: false,
                joined: false,
            } => "miss",
            Self::Stale => "stale",
            Self::Passed => "passed",
            Self::Own => "own",
        }
    }

    /// Where a document's bytes came from.
    pub fn document_source(self) -> Source {
        match self {
            Self::Hit(Place::Memory) | Self::Stale => Source::Memory,
            Self::Hit(Place::Disk) => Source::Disk,
            Self::Hit(Place::Index) => Source::Index,
            Self::Forwarded { .. } | Self::Passed => Source::Bucket,
            Self::NegativeHit | Self::Own => Source::None,
        }
    }
}

/// What a NAR's answer says of it, alike for GET and HEAD.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NarFacts {
    /// Bytes in the whole NAR.
    pub len: u64,
    /// The hash in its name, else the bucket's tag; `None` if neither is to be had.
    pub tag: Option<ETag>,
    pub last_modified: Option<SystemTime>,
    /// Whether the name is the hash of the bytes, so that they can never change.
    pub immutable: bool,
}
