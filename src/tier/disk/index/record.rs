//! How the index's records look as bytes: a version, then fields in a fixed order, lengths before
//! texts, numbers in little endian.
//!
//! Written out by hand because the format lives as long as the cache directory does. A record of
//! another version or with anything odd in it decodes to `None` and counts as not there; the files
//! and the origin know better anyway.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use bytes::Bytes;

use crate::nix::hash::Sha256Hash;
use crate::object::{Document, ETag};

/// Version 1 had no digest.
const BLOB_VERSION: u8 = 2;
const DOCUMENT_VERSION: u8 = 1;

/// What the index keeps of a blob.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct BlobRecord {
    /// Bytes of content.
    pub len: u64,
    /// Last use, in milliseconds of the wall clock.
    pub used: u64,
    pub etag: Option<ETag>,
    pub verified: bool,
    /// Of the content, where the key does not tell it.
    pub digest: Option<Sha256Hash>,
}

impl BlobRecord {
    pub fn encode(&self) -> Vec<u8> {
        let mut out = vec![BLOB_VERSION];
        put_number(&mut out, self.len);
        put_number(&mut out, self.used);
        out.push(u8::from(self.verified));
        put_text(&mut out, self.etag.as_ref().map(ETag::as_str));
        out.push(u8::from(self.digest.is_some()));
        if let Some(digest) = &self.digest {
            out.extend_from_slice(digest.as_bytes());
        }
        out
    }

    pub fn decode(bytes: &[u8]) -> Option<Self> {
        let is_first = bytes.first() == Some(&1);
        let mut fields = Fields::of(bytes, if is_first { 1 } else { BLOB_VERSION })?;
        let record = Self {
            len: fields.number()?,
            used: fields.number()?,
            verified: fields.flag()?,
            etag: fields.etag()?,
            digest: if !is_first && fields.flag()? {
                Some(fields.digest()?)
            } else {
                None
            },
        };
        fields.0.is_empty().then_some(record)
    }
}

pub(super) fn encode_document(document: &Document) -> Vec<u8> {
    let mut out = Vec::with_capacity(document.bytes.len() + 128);
    out.push(DOCUMENT_VERSION);
    put_number(&mut out, millis(document.validated));
    match document.last_modified {
        Some(time) => {
            out.push(1);
            put_number(&mut out, millis(time));
        }
        None => out.push(0),
    }
    put_text(&mut out, document.etag.as_ref().map(ETag::as_str));
    put_text(&mut out, document.content_type.as_deref());
    put_text(&mut out, document.content_encoding.as_deref());
    out.extend_from_slice(&document.bytes);
    out
}

pub(super) fn decode_document(bytes: &[u8]) -> Option<Document> {
    let mut fields = Fields::of(bytes, DOCUMENT_VERSION)?;
    let validated = fields.time()?;
    let last_modified = if fields.flag()? {
        Some(fields.time()?)
    } else {
        None
    };
    Some(Document {
        validated,
        last_modified,
        etag: fields.etag()?,
        content_type: fields.text()?.map(str::to_owned),
        content_encoding: fields.text()?.map(str::to_owned),
        bytes: Bytes::copy_from_slice(fields.0),
    })
}

/// Milliseconds since 1970; a time before it counts as 1970.
pub(crate) fn millis(time: SystemTime) -> u64 {
    let since = time.duration_since(UNIX_EPOCH).unwrap_or_default();
    u64::try_from(since.as_millis()).unwrap_or(u64::MAX)
}

fn put_number(out: &mut Vec<u8>, number: u64) {
    out.extend_from_slice(&number.to_le_bytes());
}

/// A text with its length before it; `u32::MAX` for none.
fn put_text(out: &mut Vec<u8>, text: Option<&str>) {
    let len = text.map_or(u32::MAX, |text| {
        u32::try_from(text.len()).expect("a header's value is far below 4 GiB")
    });
    out.extend_from_slice(&len.to_le_bytes());
    out.extend_from_slice(text.unwrap_or_default().as_bytes());
}

/// What is left to be read of a record.
struct Fields<'a>(&'a [u8]);

impl<'a> Fields<'a> {
    fn of(bytes: &'a [u8], version: u8) -> Option<Self> {
        let (first, rest) = bytes.split_first()?;
        (*first == version).then_some(Self(rest))
    }

    fn take(&mut self, len: usize) -> Option<&'a [u8]> {
        let (taken, rest) = self.0.split_at_checked(len)?;
        self.0 = rest;
        Some(taken)
    }

    fn number(&mut self) -> Option<u64> {
        Some(u64::from_le_bytes(self.take(8)?.try_into().ok()?))
    }

    fn flag(&mut self) -> Option<bool> {
        match self.take(1)? {
            [0] => Some(false),
            [1] => Some(true),
            _ => None,
        }
    }

    fn digest(&mut self) -> Option<Sha256Hash> {
        Some(Sha256Hash::from_bytes(self.take(32)?.try_into().ok()?))
    }

    fn time(&mut self) -> Option<SystemTime> {
        UNIX_EPOCH.checked_add(Duration::from_millis(self.number()?))
    }

    fn text(&mut self) -> Option<Option<&'a str>> {
        let len = u32::from_le_bytes(self.take(4)?.try_into().ok()?);
        if len == u32::MAX {
            return Some(None);
        }
        let text = self.take(usize::try_from(len).ok()?)?;
        Some(Some(std::str::from_utf8(text).ok()?))
    }

    fn etag(&mut self) -> Option<Option<ETag>> {
        match self.text()? {
            Some(text) => Some(Some(ETag::new(text)?)),
            None => Some(None),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn time() -> impl Strategy<Value = SystemTime> {
        (0u64..4_000_000_000_000).prop_map(|ms| UNIX_EPOCH + Duration::from_millis(ms))
    }

    fn etag() -> impl Strategy<Value = Option<ETag>> {
        prop::option::of("[!#-~]{1,40}").prop_map(|text| text.and_then(|text| ETag::new(&text)))
    }

    proptest! {
        #[test]
        fn a_blob_is_read_as_it_was_written(
            len: u64, used: u64, verified: bool, etag in etag(), digest: Option<[u8; 32]>,
        ) {
            let digest = digest.map(Sha256Hash::from_bytes);
            let record = BlobRecord { len, used, etag, verified, digest };
            prop_assert_eq!(BlobRecord::decode(&record.encode()), Some(record));
        }

        #[test]
        fn a_document_is_read_as_it_was_written(
            bytes in prop::collection::vec(any::<u8>(), 0..300),
            etag in etag(),
            last_modified in prop::option::of(time()),
            content_type in prop::option::of(".{0,40}"),
            content_encoding in prop::option::of(".{0,40}"),
            validated in time(),
        ) {
            let document = Document {
                bytes: bytes.into(), etag, last_modified, content_type, content_encoding, validated,
            };
            prop_assert_eq!(decode_document(&encode_document(&document)), Some(document));
        }

        #[test]
        fn no_bytes_make_it_panic(bytes in prop::collection::vec(any::<u8>(), 0..200)) {
            let _ = BlobRecord::decode(&bytes);
            let _ = decode_document(&bytes);
        }
    }

    #[test]
    fn a_record_of_the_first_version_is_read_still() {
        let first = [&[1; 9][..], &[2; 8], &[1], &1u32.to_le_bytes(), b"x"].concat();
        let record = BlobRecord::decode(&first).unwrap();
        assert_eq!((record.etag, record.digest), (ETag::new("x"), None));
    }

    #[test]
    fn a_record_of_another_version_or_length_is_none() {
        let record = BlobRecord {
            len: 1,
            used: 2,
            etag: ETag::new("x"),
            verified: true,
            digest: Some(Sha256Hash::of(b"x")),
        };
        let sound = record.encode();
        let mut newer = sound.clone();
        newer[0] += 1;
        assert_eq!(BlobRecord::decode(&newer), None);
        for cut in 0..sound.len() {
            assert_eq!(BlobRecord::decode(&sound[..cut]), None, "cut at {cut}");
        }
        assert_eq!(BlobRecord::decode(&[sound, vec![0]].concat()), None);
    }
}
