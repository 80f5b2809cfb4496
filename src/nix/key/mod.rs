//! The grammar of every key a binary cache has: one regular expression a route, all in this file.
//! What is named by a hash, as most keys are, is not shown to them: its hash's own alphabet decides.
//!
//! A key is a request's path, and where it has one its query, and at the same time a place in the
//! bucket and below the cache directory. So the grammar is exact and closed: what it does not
//! match reaches neither a disk nor an origin. Beyond the routes' own expressions every key is a
//! canonical relative path: no empty segment, none that begins with a dot, no `..` anywhere. No
//! expression admits `%`, a backslash or a control character.
//!
//! The key space is that of Nix (`libstore/binary-cache-store.cc`). `log/` and `nar/` keys may
//! have a query: old clients send a `?` inside a derivation's name unescaped, and some caches tell
//! their NARs apart by it.

use std::fmt;
use std::str::FromStr;
use std::sync::{Arc, LazyLock};

use regex::Regex;

use super::hash::Sha256Hash;
use super::store_path::StorePathHash;

/// Length limits, in bytes, where an expression alone cannot say them.
const MAX_NAR_FILE: usize = 200;
const MAX_LOG_NAME: usize = 255;
const MAX_NAR_QUERY: usize = 512;

/// The first words of routes. A namespace by such a name would make a URL mean two things.
const ROUTE_WORDS: [&str; 9] = [
    "nar",
    "log",
    "realisations",
    "build-trace-v2",
    "debuginfo",
    "nix-cache-info",
    "health",
    "ready",
    "metrics",
];

static NAMESPACE: LazyLock<Regex> = LazyLock::new(|| grammar(r"^[A-Za-z0-9][A-Za-z0-9._-]{0,63}$"));
/// The query: what is printable without blanks, quotes, `#`, `%` and the backslash.
static NAR: LazyLock<Regex> = LazyLock::new(|| {
    grammar(r"^nar/([A-Za-z0-9._+-]+\.nar(?:\.[a-z0-9]+)?)(?:\?([!$&(-\[\]^_a-~]+))?$")
});
static LOG: LazyLock<Regex> =
    LazyLock::new(|| grammar(r"^log/([A-Za-z0-9+._=-]+(?:\?[A-Za-z0-9+._?=-]+)?)$"));
static REALISATION: LazyLock<Regex> =
    LazyLock::new(|| grammar(r"^realisations/sha256:[0-9a-f]{64}![A-Za-z0-9+._=-]{1,211}\.doi$"));
static BUILD_TRACE: LazyLock<Regex> = LazyLock::new(|| {
    grammar(r"^build-trace-v2/[A-Za-z0-9+._=-]{1,211}\.drv/[A-Za-z0-9+._=-]{1,211}\.doi$")
});
static DEBUG_INFO: LazyLock<Regex> =
    LazyLock::new(|| grammar(r"^debuginfo/[0-9a-f]{40}(?:\.debug)?$"));

fn grammar(expression: &str) -> Regex {
    Regex::new(expression).expect("the grammar of a route compiles")
}

/// The name of a cache of its own inside this one: the `team` of `/team/nix-cache-info`.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Namespace(Arc<str>);

impl Namespace {
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

/// Not a namespace: wrong characters, a route's first word, or the look of a key.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error(
    "a namespace is 1 to 64 characters of A-Za-z0-9._- that begin with a letter or digit, \
     and neither the first word of a route nor like a file of the cache"
)]
pub struct InvalidNamespace;

impl FromStr for Namespace {
    type Err = InvalidNamespace;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let is_taken = ROUTE_WORDS.contains(&text)
            || text.ends_with(".narinfo")
            || text.ends_with(".ls")
            || text.contains("..");
        if NAMESPACE.is_match(text) && !is_taken {
            Ok(Self(text.into()))
        } else {
            Err(InvalidNamespace)
        }
    }
}

impl fmt::Display for Namespace {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// A checked place in the bucket: `nar/F.nar.xz`, or `ns/nar/F.nar.xz` within a namespace.
#[derive(Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct ObjectKey(Arc<str>);

impl ObjectKey {
    /// Reads a key that was stored as text, say in an index; `None` if it is not one of ours.
    pub fn from_stored(text: &str) -> Option<Self> {
        Key::from_stored(text).map(|key| key.object().clone())
    }

    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for ObjectKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl fmt::Debug for ObjectKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(&self.0, f)
    }
}

/// What a request for an object is about.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum Key {
    Document(DocumentKey),
    Nar(NarKey),
}

impl Key {
    /// Reads the path of a request, without its leading slash and namespace and with its escapes
    /// already decoded once, and its query, decoded alike. An empty query is none.
    ///
    /// `None`: this is no key of a binary cache.
    pub fn parse(namespace: Option<&Namespace>, path: &str, query: Option<&str>) -> Option<Self> {
        match query {
            Some(query) if !query.is_empty() => {
                Self::from_text(namespace, &format!("{path}?{query}"))
            }
            _ => Self::from_text(namespace, path),
        }
    }

    /// Reads what [`ObjectKey::as_str`] gave. No key can be read both with and without a
    /// namespace, since namespaces are never the first word of a route.
    pub fn from_stored(text: &str) -> Option<Self> {
        Self::from_text(None, text).or_else(|| {
            let (namespace, text) = text.split_once('/')?;
            Self::from_text(Some(&namespace.parse().ok()?), text)
        })
    }

    pub fn object(&self) -> &ObjectKey {
        match self {
            Self::Document(key) => key.object(),
            Self::Nar(key) => key.object(),
        }
    }

    fn from_text(namespace: Option<&Namespace>, text: &str) -> Option<Self> {
        let document = |kind, store_path_hash| {
            Self::Document(DocumentKey {
                place: Place::new(namespace, text),
                kind,
                store_path_hash,
            })
        };
        let nar = |content_hash| {
            Self::Nar(NarKey {
                place: Place::new(namespace, text),
                content_hash,
            })
        };
        // These are canonical whatever they are.
        if let Some((kind, hash)) = of_store_path(text) {
            return Some(document(kind, Some(hash)));
        }
        if let Some(hash) = content_hash(text) {
            return Some(nar(Some(hash)));
        }
        if !is_canonical(text) {
            return None;
        }
        // A look at four characters costs less than an expression.
        if text.starts_with("nar/") && is_nar(text) {
            return Some(nar(None));
        }
        other_document(text).map(|kind| document(kind, None))
    }
}

fn is_canonical(text: &str) -> bool {
    !text.contains("..")
        && text
            .split('/')
            .all(|segment| !segment.is_empty() && !segment.starts_with('.'))
}

fn is_nar(text: &str) -> bool {
    NAR.captures(text).is_some_and(|parts| {
        parts[1].len() <= MAX_NAR_FILE
            && parts
                .get(2)
                .is_none_or(|query| query.len() <= MAX_NAR_QUERY)
    })
}

/// The hash that the name of a NAR claims: `nar/F.nar`, `nar/F.nar.xz`. A query makes the name mean
/// whatever its maker likes.
fn content_hash(text: &str) -> Option<Sha256Hash> {
    let file = text
        .strip_prefix("nar/")
        .filter(|file| file.len() <= MAX_NAR_FILE)?;
    let (hash, extension) = file.split_at_checked(Sha256Hash::NIX32_LEN)?;
    let is_plain = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit();
    let is_nar = match extension.strip_prefix(".nar")?.strip_prefix('.') {
        Some(packing) => !packing.is_empty() && packing.bytes().all(is_plain),
        None => extension.len() == ".nar".len(),
    };
    is_nar.then(|| Sha256Hash::from_nix32(hash))?
}

/// `H.narinfo` and `H.ls`.
fn of_store_path(text: &str) -> Option<(DocumentKind, StorePathHash)> {
    let (hash, suffix) = text.split_at_checked(StorePathHash::LEN)?;
    let kind = match suffix {
        ".narinfo" => DocumentKind::Narinfo,
        ".ls" => DocumentKind::Listing,
        _ => return None,
    };
    Some((kind, hash.parse().ok()?))
}

/// The documents that no store path's hash names.
fn other_document(text: &str) -> Option<DocumentKind> {
    if LOG
        .captures(text)
        .is_some_and(|parts| parts[1].len() <= MAX_LOG_NAME)
    {
        Some(DocumentKind::Log)
    } else if REALISATION.is_match(text) {
        Some(DocumentKind::Realisation)
    } else if BUILD_TRACE.is_match(text) {
        Some(DocumentKind::BuildTrace)
    } else if DEBUG_INFO.is_match(text) {
        Some(DocumentKind::DebugInfo)
    } else {
        None
    }
}

/// The small things a cache holds, which may be replaced.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum DocumentKind {
    /// `H.narinfo`
    Narinfo,
    /// `H.ls`, the files inside a NAR
    Listing,
    /// `log/…`, a build log
    Log,
    /// `realisations/…`, what a content-addressed output came to (Nix ≤ 2.34)
    Realisation,
    /// `build-trace-v2/…`, the same since Nix 2.35
    BuildTrace,
    /// `debuginfo/…`, where the debug symbols of a build id are
    DebugInfo,
}

/// The key of a document.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct DocumentKey {
    place: Place,
    kind: DocumentKind,
    store_path_hash: Option<StorePathHash>,
}

impl DocumentKey {
    pub fn object(&self) -> &ObjectKey {
        &self.place.object
    }

    pub fn kind(&self) -> DocumentKind {
        self.kind
    }

    /// The store path a narinfo or listing is about; `None` for the other kinds.
    pub fn store_path_hash(&self) -> Option<StorePathHash> {
        self.store_path_hash
    }

    pub fn namespace(&self) -> Option<&str> {
        self.place.namespace()
    }
}

/// The key of a NAR.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct NarKey {
    place: Place,
    content_hash: Option<Sha256Hash>,
}

impl NarKey {
    /// Reads the `URL` of a narinfo in this namespace; `None` if it lies outside our grammar, as
    /// absolute, rooted and `../` ones do.
    pub fn from_url(namespace: Option<&str>, url: &str) -> Option<Self> {
        let namespace = namespace.map(str::parse).transpose().ok()?;
        let (path, query) = match url.split_once('?') {
            Some((path, query)) => (path, Some(query)),
            None => (url, None),
        };
        match Key::parse(namespace.as_ref(), path, query)? {
            Key::Nar(key) => Some(key),
            Key::Document(_) => None,
        }
    }

    pub fn object(&self) -> &ObjectKey {
        &self.place.object
    }

    /// The SHA-256 of the file as its name claims it; `None` if the name is no hash.
    pub fn content_hash(&self) -> Option<Sha256Hash> {
        self.content_hash
    }

    pub fn namespace(&self) -> Option<&str> {
        self.place.namespace()
    }

    /// `nar/…` with its query but without the namespace, as a narinfo's `URL` names it.
    pub fn url(&self) -> &str {
        &self.place.object.0[self.place.start..]
    }
}

/// A key's place in the bucket, and where in it the key proper starts.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
struct Place {
    object: ObjectKey,
    start: usize,
}

impl Place {
    fn new(namespace: Option<&Namespace>, text: &str) -> Self {
        match namespace {
            None => Self {
                object: ObjectKey(text.into()),
                start: 0,
            },
            Some(namespace) => Self {
                object: ObjectKey(format!("{namespace}/{text}").into()),
                start: namespace.as_str().len() + 1,
            },
        }
    }

    fn namespace(&self) -> Option<&str> {
        let slash = self.start.checked_sub(1)?;
        Some(&self.object.0[..slash])
    }
}

#[cfg(test)]
mod tests;
