//! What is known of a stored object besides its bytes, alike for every tier and origin.

use std::fmt;
use std::time::{SystemTime, UNIX_EPOCH};

use bytes::Bytes;

/// A strong entity tag (RFC 9110 §8.8.3): visible ASCII other than `"`. Kept as a header carries it,
/// because that is how it is needed for each answer; clones share it.
///
/// An S3 ETag is md5, or `md5-N` for a multipart object; it names a version of an object and
/// says nothing that could replace a hash of the content.
#[derive(Clone, PartialEq, Eq, Hash)]
pub struct ETag(Bytes);

impl ETag {
    /// Longest tag taken from anywhere, in bytes.
    const MAX_LEN: usize = 256;

    /// From the inner text of a tag.
    pub fn new(text: &str) -> Option<Self> {
        let sound = !text.is_empty()
            && text.len() <= Self::MAX_LEN
            && text.bytes().all(|b| matches!(b, 0x21 | 0x23..=0x7e));
        sound.then(|| Self(format!("\"{text}\"").into()))
    }

    /// From a header's value, `"…"`. A weak tag (`W/"…"`) proves nothing about bytes: `None`.
    pub fn from_header(value: &str) -> Option<Self> {
        Self::new(value.trim().strip_prefix('"')?.strip_suffix('"')?)
    }

    /// The text between the quotes.
    pub fn as_str(&self) -> &str {
        let quoted = self.quoted();
        &quoted[1..quoted.len() - 1]
    }

    /// As a header carries it, with quotes.
    pub fn to_header(&self) -> String {
        self.quoted().to_owned()
    }

    /// The same, to be shared.
    pub fn shared(&self) -> &Bytes {
        &self.0
    }

    fn quoted(&self) -> &str {
        str::from_utf8(&self.0).expect("a tag is ASCII")
    }
}

impl fmt::Debug for ETag {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.quoted())
    }
}

/// Seconds from 1970 to the year 10000, which a header has no room for.
const YEAR_10000: u64 = 253_402_300_800;

/// A time as a header carries it, to the second (RFC 9110 §5.6.7). `None`: of a time before 1970 or
/// after 9999, as a bucket's clock or a file's `mtime` may say, nothing is said.
pub fn http_date(time: SystemTime) -> Option<Bytes> {
    let since = time.duration_since(UNIX_EPOCH).ok()?;
    (since.as_secs() < YEAR_10000).then(|| httpdate::fmt_http_date(time).into())
}

/// An object's description as its origin gave it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ObjectMeta {
    /// Bytes in the whole object, whatever part of it is on its way.
    pub len: u64,
    /// The origin's version mark; `None` where it gave none or only a weak one.
    pub etag: Option<ETag>,
    pub last_modified: Option<SystemTime>,
    pub content_type: Option<String>,
    /// As stored by the uploader; never `identity` or `none`, which mean nothing.
    pub content_encoding: Option<String>,
}

/// A small object held whole: a narinfo, listing, log, realisation or debuginfo link.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Document {
    pub bytes: Bytes,
    pub etag: Option<ETag>,
    pub last_modified: Option<SystemTime>,
    pub content_type: Option<String>,
    pub content_encoding: Option<String>,
    /// When an origin last said that this is the current version (wall clock, so that it holds
    /// over a restart; a time in the future counts as now).
    pub validated: SystemTime,
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::Duration;

    #[test]
    fn a_strong_tag_is_read_and_written_as_it_came() {
        let tag = ETag::from_header("\"abc-2\"").unwrap();
        assert_eq!(tag.as_str(), "abc-2");
        assert_eq!(tag.to_header(), "\"abc-2\"");
    }

    #[test]
    fn a_time_that_no_header_can_carry_is_not_said() {
        let at = |seconds| UNIX_EPOCH + Duration::from_secs(seconds);
        let said = http_date(at(784_111_777)).unwrap();
        assert_eq!(said, "Sun, 06 Nov 1994 08:49:37 GMT");
        assert!(http_date(UNIX_EPOCH).is_some() && http_date(at(YEAR_10000 - 1)).is_some());
        assert_eq!(http_date(at(YEAR_10000)), None);
        assert_eq!(http_date(UNIX_EPOCH - Duration::from_nanos(1)), None);
    }

    #[test]
    fn weak_bare_empty_and_quoted_tags_are_none() {
        for text in ["W/\"abc\"", "abc", "\"\"", "\"a\"b\"", "\"a b\"", ""] {
            assert_eq!(ETag::from_header(text), None, "{text}");
        }
    }
}
