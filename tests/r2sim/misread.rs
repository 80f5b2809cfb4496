//! Which bytes a GET is answered with: those asked for, or, where a rule wants it, others.
//!
//! The order to misread travels in the extensions of a request, so the signature that s3s checks
//! still covers what the client asked.

use s3s::dto::Range;
use s3s::{S3Result, s3_error};

/// How a GET goes wrong inside the store.
#[derive(Debug, Clone, Default)]
pub struct Misread {
    /// Read this object instead.
    pub key: Option<String>,
    pub range: Misrange,
}

/// What becomes of the range that was asked for.
#[derive(Debug, Clone, Copy, Default)]
pub enum Misrange {
    #[default]
    Honoured,
    /// The whole object, as 200.
    Ignored,
    /// Bytes from further on, as many as fit; `Content-Range` admits it or claims what was asked.
    Shifted { by: u64, admitted: bool },
}

/// The bytes a GET is answered with. `content_range` makes it a 206.
pub struct Slice {
    pub start: u64,
    pub len: u64,
    pub content_range: Option<String>,
}

/// Errors: 416, with the reason of RFC 9110 §14.1.2; an empty object has no range at all.
pub fn slice(asked: Option<Range>, misrange: Misrange, len: u64) -> S3Result<Slice> {
    let Some(range) = asked.filter(|_| !matches!(misrange, Misrange::Ignored)) else {
        return Ok(Slice {
            start: 0,
            len,
            content_range: None,
        });
    };
    let honest = range.check(len).ok().filter(|range| !range.is_empty());
    let honest =
        honest.ok_or_else(|| s3_error!(InvalidRange, "The requested range is not satisfiable"))?;
    let (given, told) = match misrange {
        Misrange::Shifted { by, admitted } => {
            let start = (honest.start + by).min(len - 1);
            let end = (start + (honest.end - honest.start)).min(len);
            let given = start..end;
            let told = if admitted {
                given.clone()
            } else {
                honest.start..honest.start + (end - start)
            };
            (given, told)
        }
        Misrange::Honoured | Misrange::Ignored => (honest.clone(), honest),
    };
    Ok(Slice {
        start: given.start,
        len: given.end - given.start,
        content_range: Some(format!("bytes {}-{}/{len}", told.start, told.end - 1)),
    })
}
