//! How the index's records look as bytes: a version, then fields in a fixed order, lengths before
//! texts, numbers in little endian.
//!
//! Written out by hand because the format lives as long as the cache directory does. A record of
//! another version or with anything odd in it decodes to `None` and counts as not there; the files
//! and the origin know better anyway.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use bytes::Bytes;

use super::log::Slot;
use crate::nix::hash::Sha256Hash;
use crate::object::{Document, ETag};

/// Version 1 had no digest.
const BLOB_VERSION: u8 = 2;
/// Version 1 was the document itself.
const DOCUMENT_VERSION: u8 = 2;
/// Bytes of a document's record in sled, which keeps 22 without memory of their own.
const DOCUMENT_LEN: usize = 21;

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

/// What sled keeps of a document, which itself lies in the log. That it was checked once more with the
/// origin changes this record only.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct DocumentRecord {
    /// When it was, in milliseconds of the wall clock.
    pub validated: u64,
    pub slot: Slot,
}

impl DocumentRecord {
    /// A version, then six bytes of `validated`, six of the slot's beginning (256 TiB), its length and
    /// its checksum.
    pub fn encode(&self) -> Vec<u8> {
        let mut out = Vec::with_capacity(DOCUMENT_LEN);
        out.push(DOCUMENT_VERSION);
        out.extend_from_slice(&self.validated.to_le_bytes()[..6]);
        out.extend_from_slice(&self.slot.at.to_le_bytes()[..6]);
        out.extend_from_slice(&self.slot.len.to_le_bytes());
        out.extend_from_slice(&self.slot.checksum.to_le_bytes());
        out
    }

    pub fn decode(bytes: &[u8]) -> Option<Self> {
        let mut fields = Fields::of(bytes, DOCUMENT_VERSION)?;
        let record = Self {
            validated: fields.short_number()?,
            slot: Slot {
                at: fields.short_number()?,
                len: fields.half_number()?,
                checksum: fields.half_number()?,
            },
        };
        fields.0.is_empty().then_some(record)
    }
}

/// A document as the log has it: its key, so that no other is taken for it, and all of it but the time
/// of its last check. Its version is that of the record which tells where it lies.
pub(super) fn encode_document(key: &str, document: &Document) -> Vec<u8> {
    let mut out = Vec::with_capacity(key.len() + document.bytes.len() + 128);
    put_text(&mut out, Some(key));
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

/// The key of a record of the log.
pub(super) fn key_of(record: &[u8]) -> Option<&str> {
    Fields(record).text()?
}

/// The document of a record of the log; `None`: it is no record, or not of `key`.
pub(super) fn decode_document(key: &str, validated: u64, record: &[u8]) -> Option<Document> {
    let mut fields = Fields(record);
    if fields.text()? != Some(key) {
        return None;
    }
    let last_modified = if fields.flag()? {
        Some(fields.time()?)
    } else {
        None
    };
    Some(Document {
        validated: UNIX_EPOCH.checked_add(Duration::from_millis(validated))?,
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

    /// Of six bytes.
    fn short_number(&mut self) -> Option<u64> {
        let mut bytes = [0; 8];
        bytes[..6].copy_from_slice(self.take(6)?);
        Some(u64::from_le_bytes(bytes))
    }

    /// Of four.
    fn half_number(&mut self) -> Option<u32> {
        Some(u32::from_le_bytes(self.take(4)?.try_into().ok()?))
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
        let len = self.half_number()?;
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
        fn a_documents_place_is_read_as_it_was_written_and_lies_within_sleds_own_memory(
            validated in 0u64..1 << 48, at in 0u64..1 << 48, len: u32, checksum: u32,
        ) {
            let record = DocumentRecord { validated, slot: Slot { at, len, checksum } };
            let encoded = record.encode();
            prop_assert_eq!(DocumentRecord::decode(&encoded), Some(record));
            prop_assert_eq!(encoded.len(), DOCUMENT_LEN);
        }

        #[test]
        fn a_document_is_read_as_it_was_written(
            key in "[a-z]{1,60}",
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
            let record = encode_document(&key, &document);
            prop_assert_eq!(key_of(&record), Some(key.as_str()));
            prop_assert_eq!(decode_document("other key", millis(validated), &record), None);
            prop_assert_eq!(decode_document(&key, millis(validated), &record), Some(document));
        }

        #[test]
        fn no_bytes_make_it_panic(bytes in prop::collection::vec(any::<u8>(), 0..200)) {
            let _ = BlobRecord::decode(&bytes);
            let _ = DocumentRecord::decode(&bytes);
            let _ = decode_document("key", 0, &bytes);
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
