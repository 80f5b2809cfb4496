//! Narinfos: what a binary cache says about one store path.
//!
//! The rules are Nix's (`libstore/nar-info.cc`), and stricter where versions of Nix disagree or
//! leave a choice: no field that may stand once stands twice, every `Sig` is well formed, the
//! store directory is ours, nothing is a control character. What passes reads the same to every
//! client. A narinfo is kept and served as the bytes it came with; [`Narinfo`] is what we
//! understood of it. Of foreign narinfos malformed `Sig` lines are dropped, nothing else.
//!
//! Only `StorePath`, `NarHash`, `NarSize` and `References` are covered by signatures.

mod error;
mod lines;
#[cfg(test)]
mod tests;

use std::fmt;
use std::ops::Range;

use bytes::{Bytes, BytesMut};

use super::compression::Compression;
use super::content_address::ContentAddress;
use super::hash::{AnyHash, Sha256Hash};
use super::key::NarKey;
use super::signature::Signature;
use super::store_path::{StorePath, StorePathHash};

pub use error::NarinfoError;
use lines::{Line, lines};

/// The most bytes a narinfo may have. 10,000 references of usual length fit well.
pub const MAX_LEN: usize = 1024 * 1024;

/// The most references a narinfo may list, repetitions included.
pub const MAX_REFERENCES: usize = 10_000;

/// The most `Sig` lines a narinfo may have. It bounds what checking them can cost.
pub const MAX_SIGNATURES: usize = 256;

/// A parsed narinfo.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Narinfo {
    pub store_path: StorePath,
    /// Where the NAR is, not empty; ours only if [`NarKey::from_url`] says so.
    pub url: String,
    pub compression: Compression,
    /// Hash of the file as stored. `None`: not given, or not SHA-256. Clients never check it.
    pub file_hash: Option<Sha256Hash>,
    /// Size of the file as stored, in bytes. Clients use it for progress only.
    pub file_size: Option<u64>,
    /// Hash of the NAR once unpacked.
    pub nar_hash: Sha256Hash,
    /// Size of the NAR once unpacked, in bytes; never 0.
    pub nar_size: u64,
    /// In bytewise order, each once; may hold the path itself.
    pub references: Vec<StorePath>,
    /// Base name of the derivation that made the path. `None`: not known.
    pub deriver: Option<String>,
    /// In the order of their lines.
    pub signatures: Vec<Signature>,
    /// A well-formed content address. Whether it is true is for
    /// [`TrustedKeys::verdict`](super::signature::TrustedKeys::verdict) to say.
    pub ca: Option<String>,
}

/// A narinfo of an origin, fit to be handed on.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Relayed {
    /// The very bytes that came, unless signatures were dropped.
    pub bytes: Bytes,
    pub narinfo: Narinfo,
    /// How many malformed `Sig` lines are no longer in `bytes`.
    pub dropped_signatures: usize,
}

impl Narinfo {
    /// Reads an uploaded narinfo. Errors: the first rule it breaks, in one line for the uploader.
    ///
    /// Whether it stands under the right key is asked separately with [`Narinfo::check_key`],
    /// whether its URL is ours with [`NarKey::from_url`].
    pub fn parse(store_dir: &str, bytes: &[u8]) -> Result<Self, NarinfoError> {
        let (narinfo, malformed) = read(store_dir, bytes)?;
        match malformed.first() {
            None => Ok(narinfo),
            Some(signature) => Err(NarinfoError::Field {
                line: signature.line,
                field: "Sig".into(),
                expected: "<key name>:<64 bytes in base64>".into(),
            }),
        }
    }

    /// Reads what an origin gave for `key` and makes it fit to be handed on: the same rules, but
    /// malformed `Sig` lines are dropped instead of spoiling the whole.
    ///
    /// Errors: any other broken rule, another store path, or a URL outside our grammar. Such an
    /// answer is to be treated as no answer at all.
    pub fn relay(
        store_dir: &str,
        key: StorePathHash,
        bytes: Bytes,
    ) -> Result<Relayed, NarinfoError> {
        let (narinfo, malformed) = read(store_dir, &bytes)?;
        narinfo.check_key(key)?;
        NarKey::from_url(None, &narinfo.url).ok_or(NarinfoError::ForeignUrl)?;
        Ok(Relayed {
            dropped_signatures: malformed.len(),
            bytes: without(bytes, &malformed),
            narinfo,
        })
    }

    /// Errors: the narinfo is about another store path than its key says.
    pub fn check_key(&self, key: StorePathHash) -> Result<(), NarinfoError> {
        let found = self.store_path.hash();
        if found == key {
            Ok(())
        } else {
            Err(NarinfoError::WrongKey { key, found })
        }
    }

    /// The text that signatures are made over (Nix: `ValidPathInfo::fingerprint`).
    pub fn fingerprint(&self, store_dir: &str) -> String {
        let paths = self.references.iter().map(|path| path.to_path(store_dir));
        format!(
            "1;{};{};{};{}",
            self.store_path.to_path(store_dir),
            self.nar_hash,
            self.nar_size,
            paths.collect::<Vec<_>>().join(",")
        )
    }
}

/// What the `URL` of a narinfo says that is sound already.
pub fn url(bytes: &[u8]) -> Option<&str> {
    let mut lines = bytes.split(|byte| *byte == b'\n');
    let url = lines.find_map(|line| line.strip_prefix(b"URL: "))?;
    str::from_utf8(url).ok()
}

/// The same narinfo with more signatures, after all that was there.
pub fn with_signatures(bytes: &[u8], added: &[Signature]) -> Bytes {
    let mut signed = BytesMut::from(bytes);
    for signature in added {
        signed.extend_from_slice(format!("Sig: {signature}\n").as_bytes());
    }
    signed.freeze()
}

/// A `Sig` line that is no signature.
struct MalformedSignature {
    line: usize,
    span: Range<usize>,
}

fn without(bytes: Bytes, dropped: &[MalformedSignature]) -> Bytes {
    if dropped.is_empty() {
        return bytes;
    }
    let mut kept = BytesMut::with_capacity(bytes.len());
    let mut start = 0;
    for signature in dropped {
        kept.extend_from_slice(&bytes[start..signature.span.start]);
        start = signature.span.end;
    }
    kept.extend_from_slice(&bytes[start..]);
    kept.freeze()
}

/// What has been read so far of the fields that may stand once.
#[derive(Default)]
struct Fields {
    store_path: Option<StorePath>,
    url: Option<String>,
    compression: Option<Compression>,
    file_hash: Option<AnyHash>,
    file_size: Option<u64>,
    nar_hash: Option<Sha256Hash>,
    nar_size: Option<u64>,
    references: Option<Vec<StorePath>>,
    deriver: Option<Option<String>>,
    ca: Option<Option<String>>,
}

/// Applies every rule but those for `Sig` lines, whose breaches are returned in their order.
fn read(store_dir: &str, bytes: &[u8]) -> Result<(Narinfo, Vec<MalformedSignature>), NarinfoError> {
    if bytes.len() > MAX_LEN {
        return Err(NarinfoError::TooLong { len: bytes.len() });
    }
    let text = str::from_utf8(bytes).map_err(|_| NarinfoError::NotText)?;
    let mut fields = Fields::default();
    let mut signatures = Vec::new();
    let mut malformed = Vec::new();
    for line in lines(text) {
        let line = line?;
        if line.name != "Sig" {
            fields.read(store_dir, &line)?;
            continue;
        }
        if signatures.len() + malformed.len() == MAX_SIGNATURES {
            return Err(NarinfoError::TooManySignatures { line: line.number });
        }
        match line.value.parse() {
            Ok(signature) => signatures.push(signature),
            Err(_) => malformed.push(MalformedSignature {
                line: line.number,
                span: line.span,
            }),
        }
    }
    Ok((fields.into_narinfo(signatures)?, malformed))
}

impl Fields {
    /// One line a field: where it goes, how its value is read, what to say when it is not one.
    /// Unknown names are skipped, as Nix does.
    #[rustfmt::skip]
    fn read(&mut self, store_dir: &str, line: &Line<'_>) -> Result<(), NarinfoError> {
        let value = line.value;
        match line.name {
            "StorePath" => {
                let path = StorePath::parse(store_dir, value).ok();
                once(&mut self.store_path, line, path, format_args!("a store path in {store_dir}"))
            }
            "URL" => once(&mut self.url, line, non_empty(value), "the place of the NAR"),
            "Compression" => once(&mut self.compression, line, compression(value),
                "a compression that Nix knows, as xz, zstd or none"),
            "FileHash" => once(&mut self.file_hash, line, AnyHash::parse(value).ok(),
                "a hash with its algorithm, as sha256:<52 characters of nix32>"),
            "FileSize" => once(&mut self.file_size, line, value.parse().ok(),
                "a whole number from 0 to 2^64-1"),
            "NarHash" => once(&mut self.nar_hash, line, Sha256Hash::parse(value).ok(),
                "a SHA-256, as sha256:<52 characters of nix32>"),
            "NarSize" => once(&mut self.nar_size, line, value.parse().ok().filter(|size| *size > 0),
                "a whole number from 1 to 2^64-1"),
            "References" => once(&mut self.references, line, references(value),
                format_args!("at most {MAX_REFERENCES} store paths without their directory, \
                    with spaces between")),
            "Deriver" => once(&mut self.deriver, line, deriver(value),
                "a store path without its directory, or unknown-deriver"),
            "CA" => once(&mut self.ca, line, content_address(value),
                "text:sha256:<hash> or fixed:[r:|git:]<algorithm>:<hash>"),
            _ => Ok(()),
        }
    }

    fn into_narinfo(self, signatures: Vec<Signature>) -> Result<Narinfo, NarinfoError> {
        let missing = |field| NarinfoError::Missing { field };
        Ok(Narinfo {
            store_path: self.store_path.ok_or(missing("StorePath"))?,
            url: self.url.ok_or(missing("URL"))?,
            compression: self.compression.unwrap_or(Compression::WHEN_ABSENT),
            file_hash: self.file_hash.and_then(|hash| hash.sha256()),
            file_size: self.file_size,
            nar_hash: self.nar_hash.ok_or(missing("NarHash"))?,
            nar_size: self.nar_size.ok_or(missing("NarSize"))?,
            references: self.references.unwrap_or_default(),
            deriver: self.deriver.flatten(),
            signatures,
            ca: self.ca.flatten(),
        })
    }
}

/// Fills `slot` with the value of its only line.
fn once<T>(
    slot: &mut Option<T>,
    line: &Line<'_>,
    value: Option<T>,
    expected: impl fmt::Display,
) -> Result<(), NarinfoError> {
    let field = || line.name.to_owned();
    if slot.is_some() {
        return Err(NarinfoError::Repeated {
            line: line.number,
            field: field(),
        });
    }
    let value = value.ok_or_else(|| NarinfoError::Field {
        line: line.number,
        field: field(),
        expected: expected.to_string(),
    })?;
    *slot = Some(value);
    Ok(())
}

fn non_empty(value: &str) -> Option<String> {
    (!value.is_empty()).then(|| value.to_owned())
}

fn compression(value: &str) -> Option<Compression> {
    if value.is_empty() {
        Some(Compression::WHEN_ABSENT)
    } else {
        Compression::from_name(value)
    }
}

fn references(value: &str) -> Option<Vec<StorePath>> {
    let names = value.split(' ').filter(|name| !name.is_empty());
    let mut references = Vec::new();
    for name in names {
        if references.len() == MAX_REFERENCES {
            return None;
        }
        references.push(StorePath::from_base_name(name).ok()?);
    }
    references.sort_unstable();
    references.dedup();
    Some(references)
}

fn deriver(value: &str) -> Option<Option<String>> {
    if value == "unknown-deriver" {
        return Some(None);
    }
    StorePath::from_base_name(value).ok()?;
    Some(Some(value.to_owned()))
}

fn content_address(value: &str) -> Option<Option<String>> {
    if value.is_empty() {
        return Some(None);
    }
    value.parse::<ContentAddress>().ok()?;
    Some(Some(value.to_owned()))
}
