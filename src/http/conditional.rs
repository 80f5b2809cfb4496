//! Conditional requests: RFC 9110 §13, and nothing of it but what a cache's clients use.
//!
//! Our tags are strong, but If-None-Match compares weakly (§13.1.2) and If-Range strongly
//! (§13.1.5). A header that cannot be read is as good as none.

use actix_web::HttpMessage;
use actix_web::http::header::{EntityTag, Header, IfMatch, IfNoneMatch, IfRange};

use crate::object::ETag;

/// What the conditions of a request say about a representation with this tag.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Condition {
    /// Answer as if there were none.
    Proceed,
    /// 304: the client has it.
    NotModified,
    /// 412: the client wanted another one.
    Failed,
}

/// Judges If-Match and If-None-Match in the order of §13.2.2.
pub fn judge(request: &impl HttpMessage, tag: Option<&ETag>) -> Condition {
    let own = tag.and_then(entity);
    if request.headers().contains_key(IfMatch::name())
        && let Ok(asked) = IfMatch::parse(request)
    {
        let met = match &asked {
            IfMatch::Any => true,
            IfMatch::Items(tags) => tags
                .iter()
                .any(|theirs| own.as_ref().is_some_and(|own| own.strong_eq(theirs))),
        };
        if !met {
            return Condition::Failed;
        }
    }
    if request.headers().contains_key(IfNoneMatch::name())
        && let Ok(asked) = IfNoneMatch::parse(request)
    {
        let met = match &asked {
            IfNoneMatch::Any => true,
            IfNoneMatch::Items(tags) => tags
                .iter()
                .any(|theirs| own.as_ref().is_some_and(|own| own.weak_eq(theirs))),
        };
        if met {
            return Condition::NotModified;
        }
    }
    Condition::Proceed
}

/// Whether a Range may be honoured: no If-Range, or one that names this very version.
///
/// Dates are never taken for a version: two objects of one second would be spliced.
pub fn may_range(request: &impl HttpMessage, tag: Option<&ETag>) -> bool {
    if !request.headers().contains_key(IfRange::name()) {
        return true;
    }
    match IfRange::parse(request) {
        Ok(IfRange::EntityTag(theirs)) => tag
            .and_then(entity)
            .is_some_and(|own| own.strong_eq(&theirs)),
        Ok(IfRange::Date(_)) | Err(_) => false,
    }
}

fn entity(tag: &ETag) -> Option<EntityTag> {
    tag.to_header().parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;
    use actix_web::test::TestRequest;

    fn judged(name: &'static str, value: &str) -> Condition {
        let request = TestRequest::default()
            .insert_header((name, value))
            .to_request();
        judge(&request, ETag::new("abc").as_ref())
    }

    #[test]
    fn if_none_match_takes_lists_stars_and_weak_tags() {
        for value in [
            "\"abc\"",
            "W/\"abc\"",
            "*",
            "\"x\", \"abc\"",
            "\"x\", W/\"abc\"",
        ] {
            assert_eq!(
                judged("if-none-match", value),
                Condition::NotModified,
                "{value}"
            );
        }
        for value in ["\"x\"", "abc", "W/\"x\", \"y\""] {
            assert_eq!(
                judged("if-none-match", value),
                Condition::Proceed,
                "{value}"
            );
        }
    }

    #[test]
    fn if_match_compares_strongly_and_comes_first() {
        assert_eq!(judged("if-match", "\"abc\""), Condition::Proceed);
        assert_eq!(judged("if-match", "*"), Condition::Proceed);
        assert_eq!(judged("if-match", "\"x\""), Condition::Failed);
        assert_eq!(judged("if-match", "W/\"abc\""), Condition::Failed);
    }

    #[test]
    fn if_range_wants_this_very_version() {
        let may = |value: &str| {
            let request = TestRequest::default()
                .insert_header(("if-range", value))
                .to_request();
            may_range(&request, ETag::new("abc").as_ref())
        };
        assert!(may("\"abc\""));
        for value in [
            "W/\"abc\"",
            "\"x\"",
            "Sun, 22 Nov 2026 08:49:37 GMT",
            "nonsense",
        ] {
            assert!(!may(value), "{value}");
        }
        assert!(may_range(&TestRequest::default().to_request(), None));
    }
}
