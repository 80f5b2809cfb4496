//! Reads S3's answers: the status first, then the code, and a success only if it can be one.
//!
//! What is at stake is the difference between "no such object" and "I could not find out". So a
//! 404 to a GET is believed only with the code `NoSuchKey`, a 401 or 403 says nothing about the
//! object, and a 200 has to look like an S3 object and not like a login page.

use std::time::{Duration, SystemTime};

use aws_sdk_s3::config::http::HttpResponse;
use aws_sdk_s3::error::{ProvideErrorMetadata, SdkError};
use aws_sdk_s3::operation::get_object::GetObjectOutput;
use aws_sdk_s3::operation::head_object::HeadObjectOutput;
use aws_sdk_s3::primitives::DateTime;

use super::super::super::ask::Ask;
use super::super::super::error::{OriginError, chain};
use super::super::clean_encoding;
use crate::object::{ETag, ObjectMeta};
use crate::range::ByteRange;

/// Nobody here waits as long, and no clock ends before.
const LONGEST: Duration = Duration::from_secs(24 * 60 * 60);

/// What an answer that is not a success says.
#[derive(Debug, PartialEq, Eq)]
pub enum Said {
    NotModified,
    /// A definite "no".
    NoSuchKey,
    /// A 404 that does not say what it did not find, as to every HEAD.
    NotFound,
    Failed(OriginError),
}

/// Reads whatever the SDK calls an error.
pub fn judge<E>(key: &str, bucket: &str, error: &SdkError<E, HttpResponse>) -> Said
where
    E: std::error::Error + ProvideErrorMetadata + 'static,
{
    if let Some(response) = error.raw_response() {
        let status = response.status().as_u16();
        let retry_after = response.headers().get("retry-after").and_then(seconds);
        return said(key, bucket, status, error.code(), retry_after, || {
            chain(error)
        });
    }
    Said::Failed(OriginError::Connect {
        key: key.to_owned(),
        cause: chain(error),
    })
}

/// A `Retry-After` in seconds; in a date's form it says nothing here.
fn seconds(text: &str) -> Option<Duration> {
    let seconds = text.trim().parse().ok()?;
    Some(Duration::from_secs(seconds).min(LONGEST))
}

/// Status first, then code. `why` is asked only for an answer that makes no sense.
fn said(
    key: &str,
    bucket: &str,
    status: u16,
    code: Option<&str>,
    retry_after: Option<Duration>,
    why: impl FnOnce() -> String,
) -> Said {
    let key = key.to_owned();
    let words = || code.unwrap_or("no code").to_owned();
    Said::Failed(match (status, code) {
        (304, _) => return Said::NotModified,
        (404, Some("NoSuchKey")) => return Said::NoSuchKey,
        (404, Some("NoSuchBucket")) => OriginError::NoBucket {
            bucket: bucket.to_owned(),
        },
        (404, Some("NoSuchUpload")) => OriginError::NoUpload { key },
        // The SDK says "NotFound" for a 404 without a body.
        (404, None | Some("NotFound")) => return Said::NotFound,
        (401 | 403, _) => OriginError::Refused {
            key,
            status,
            code: words(),
        },
        (412, _) => OriginError::PreconditionFailed { key },
        (416, _) => OriginError::OutOfRange { key },
        (429, _) | (503, Some("SlowDown")) => OriginError::Throttled {
            key,
            status,
            retry_after,
        },
        (200..=299, _) => OriginError::Garbage { key, why: why() },
        _ => OriginError::Server {
            key,
            status,
            code: words(),
        },
    })
}

/// The head of a successful answer, as far as it matters here.
#[derive(Debug, Clone, Default)]
pub struct Head<'a> {
    content_length: Option<i64>,
    content_range: Option<&'a str>,
    content_type: Option<&'a str>,
    content_encoding: Option<&'a str>,
    etag: Option<&'a str>,
    last_modified: Option<&'a DateTime>,
}

impl<'a> Head<'a> {
    pub fn of_get(output: &'a GetObjectOutput) -> Self {
        Self {
            content_length: output.content_length(),
            content_range: output.content_range(),
            content_type: output.content_type(),
            content_encoding: output.content_encoding(),
            etag: output.e_tag(),
            last_modified: output.last_modified(),
        }
    }

    pub fn of_head(output: &'a HeadObjectOutput) -> Self {
        Self {
            content_length: output.content_length(),
            content_range: output.content_range(),
            content_type: output.content_type(),
            content_encoding: output.content_encoding(),
            etag: output.e_tag(),
            last_modified: output.last_modified(),
        }
    }

    /// The object's description and the piece of it that follows, if this head can be the answer
    /// to what was asked.
    pub fn read(
        &self,
        key: &str,
        ask: &Ask,
    ) -> Result<(ObjectMeta, Option<ByteRange>), OriginError> {
        let garbage = |why: String| OriginError::Garbage {
            key: key.to_owned(),
            why,
        };
        if self.content_type.is_some_and(is_html) {
            return Err(garbage("it is a web page and not an object".to_owned()));
        }
        let announced = self
            .content_length
            .and_then(|len| u64::try_from(len).ok())
            .ok_or_else(|| garbage("it has no Content-Length".to_owned()))?;
        let (len, range) = match (ask.range, self.content_range) {
            (None, None) => (announced, None),
            (None, Some(range)) => {
                return Err(garbage(format!("it is {range} where all was asked for")));
            }
            (Some(_), None) => {
                return Err(garbage(
                    "it is the whole where a range was asked for".into(),
                ));
            }
            (Some(asked), Some(text)) => {
                let wrong = || garbage(format!("it is {text}, {announced} long, for {asked:?}"));
                let (first, last, len) = content_range(text).ok_or_else(wrong)?;
                let due = asked.within(len).map_err(|_| wrong())?;
                let came = (first, last.checked_add(1));
                if came != (due.start(), Some(due.end())) || announced != due.size() {
                    return Err(wrong());
                }
                (len, Some(due))
            }
        };
        let etag = self.etag.and_then(ETag::from_header);
        if ask.if_match.is_some() && ask.if_match != etag {
            return Err(OriginError::PreconditionFailed {
                key: key.to_owned(),
            });
        }
        let meta = ObjectMeta {
            len,
            etag,
            last_modified: self
                .last_modified
                .and_then(|time| SystemTime::try_from(*time).ok()),
            content_type: self.content_type.map(str::to_owned),
            content_encoding: self.content_encoding.and_then(clean_encoding),
        };
        Ok((meta, range))
    }
}

fn is_html(content_type: &str) -> bool {
    let kind = content_type.split(';').next().unwrap_or_default().trim();
    kind.eq_ignore_ascii_case("text/html")
}

/// `bytes first-last/len` (RFC 9110 §14.4); a length of `*` is no use to us.
fn content_range(text: &str) -> Option<(u64, u64, u64)> {
    let (piece, len) = text.trim().strip_prefix("bytes ")?.split_once('/')?;
    let (first, last) = piece.split_once('-')?;
    Some((first.parse().ok()?, last.parse().ok()?, len.parse().ok()?))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::range::RangeRequest;

    fn hears(status: u16, code: Option<&str>) -> Said {
        said("k", "nix", status, code, None, || "why".to_owned())
    }

    fn failure(status: u16, code: Option<&str>) -> OriginError {
        match hears(status, code) {
            Said::Failed(cause) => cause,
            other => panic!("{status} {code:?} was heard as {other:?}"),
        }
    }

    #[test]
    fn only_no_such_key_is_a_definite_no() {
        assert_eq!(hears(404, Some("NoSuchKey")), Said::NoSuchKey);
        for code in [None, Some("NotFound")] {
            assert_eq!(hears(404, code), Said::NotFound);
        }
        for (status, code) in [
            (404, Some("NoSuchBucket")),
            (404, Some("SomethingElse")),
            (401, Some("NoSuchKey")),
            (403, Some("NoSuchKey")),
            (410, Some("NoSuchKey")),
            (500, Some("NoSuchKey")),
        ] {
            failure(status, code);
        }
    }

    #[test]
    fn each_kind_of_failure_is_told_apart() {
        use OriginError::*;
        assert!(matches!(
            failure(404, Some("NoSuchBucket")),
            NoBucket { .. }
        ));
        assert!(matches!(failure(401, None), Refused { status: 401, .. }));
        assert!(matches!(failure(403, None), Refused { status: 403, .. }));
        assert!(matches!(failure(412, None), PreconditionFailed { .. }));
        assert!(matches!(
            failure(416, Some("InvalidRange")),
            OutOfRange { .. }
        ));
        assert!(matches!(failure(429, None), Throttled { .. }));
        assert!(matches!(failure(503, Some("SlowDown")), Throttled { .. }));
        assert!(matches!(failure(503, None), Server { status: 503, .. }));
        assert!(matches!(
            failure(301, Some("PermanentRedirect")),
            Server { .. }
        ));
        assert!(matches!(failure(200, None), Garbage { .. }));
    }

    #[test]
    fn a_retry_after_is_believed_up_to_a_day() {
        assert_eq!(seconds(" 7 "), Some(Duration::from_secs(7)));
        assert_eq!(seconds(&u64::MAX.to_string()), Some(LONGEST));
        for text in [
            "-1",
            "99999999999999999999",
            "Wed, 21 Oct 2026 07:28:00 GMT",
        ] {
            assert_eq!(seconds(text), None, "{text}");
        }
    }

    fn reads(head: Head<'_>, ask: &Ask) -> Result<(ObjectMeta, Option<ByteRange>), OriginError> {
        head.read("k", ask)
    }

    fn ranged(range: RangeRequest) -> Ask {
        Ask {
            range: Some(range),
            ..Ask::nar()
        }
    }

    #[test]
    fn a_web_page_or_a_body_of_unknown_length_is_no_object() {
        let page = Head {
            content_length: Some(10),
            content_type: Some("Text/HTML; charset=utf-8"),
            ..Head::default()
        };
        assert!(matches!(
            reads(page, &Ask::document()),
            Err(OriginError::Garbage { .. })
        ));
        let endless = Head::default();
        assert!(matches!(
            reads(endless, &Ask::nar()),
            Err(OriginError::Garbage { .. })
        ));
    }

    #[test]
    fn a_range_must_be_the_one_asked_for() {
        let asked = ranged(RangeRequest::Closed { first: 2, last: 9 });
        let answer = |content_range, content_length| {
            let head = Head {
                content_range,
                content_length: Some(content_length),
                ..Head::default()
            };
            reads(head, &asked)
        };
        let (meta, range) = answer(Some("bytes 2-9/20"), 8).unwrap();
        assert_eq!((meta.len, range.unwrap().start()), (20, 2));
        let (meta, range) = answer(Some("bytes 2-4/5"), 3).unwrap();
        assert_eq!(
            (meta.len, range.unwrap().end()),
            (5, 5),
            "cut at the object's end"
        );
        for (content_range, content_length) in [
            (None, 20),
            (Some("bytes 3-9/20"), 7),
            (Some("bytes 2-8/20"), 7),
            (Some("bytes 2-9/20"), 7),
            (Some("bytes 2-9/*"), 8),
            (Some("bytes 2-18446744073709551615/20"), 8),
            (Some("items 2-9/20"), 8),
            (Some("2-9/20"), 8),
        ] {
            let got = answer(content_range, content_length);
            assert!(
                matches!(got, Err(OriginError::Garbage { .. })),
                "{content_range:?}"
            );
        }
    }

    #[test]
    fn a_piece_where_all_was_asked_for_is_garbage() {
        let head = Head {
            content_range: Some("bytes 0-7/20"),
            content_length: Some(8),
            ..Head::default()
        };
        assert!(matches!(
            reads(head, &Ask::nar()),
            Err(OriginError::Garbage { .. })
        ));
    }

    #[test]
    fn a_server_that_ignores_if_match_is_caught() {
        let ask = Ask {
            if_match: ETag::new("old"),
            ..Ask::nar()
        };
        for etag in [None, Some("\"new\""), Some("W/\"old\"")] {
            let head = Head {
                content_length: Some(8),
                etag,
                ..Head::default()
            };
            assert!(matches!(
                reads(head, &ask),
                Err(OriginError::PreconditionFailed { .. })
            ));
        }
    }

    #[test]
    fn weak_tags_and_empty_encodings_are_none() {
        let head = Head {
            content_length: Some(8),
            etag: Some("W/\"x\""),
            content_encoding: Some("identity"),
            ..Head::default()
        };
        let (meta, _) = reads(head, &Ask::nar()).unwrap();
        assert_eq!((meta.etag, meta.content_encoding), (None, None));
    }
}
