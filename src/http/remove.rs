//! DELETE: an object is forgotten here, and with `?bucket=1` removed from the bucket first.
//!
//! It exists only while some token has scope `admin`; otherwise the method is as unknown as any.

use std::net::SocketAddr;
use std::sync::Arc;

use actix_http::{HttpMessage, Request};
use actix_web::http::StatusCode;
use actix_web::http::header::HeaderMap;

use crate::nix::key::Key;

use super::auth::Scope;
use super::error::Refusal;
use super::reply::{self, Reply};
use super::routes::{Route, Routed};
use super::{Front, Refused};

/// Our own word in the query of a DELETE. A NAR's query is part of its key, so it stands last.
const FROM_BUCKET: &str = "bucket=1";

impl Front {
    /// Whether anything may be deleted at all.
    pub(super) fn takes_removals(&self) -> bool {
        self.auth.grants(Scope::Admin)
    }

    /// Answers a DELETE. `from_bucket`: as [`split_query`] found.
    pub(super) async fn remove(
        &self,
        request: &Request,
        routed: &Routed,
        from_bucket: bool,
    ) -> Result<Reply, Refused> {
        let may = self.may_remove(routed, request.headers(), request.peer_addr());
        let (key, by) = may.map_err(Refused::plainly)?;
        let removed = self.gateway.remove(key, from_bucket, &by).await;
        removed.map_err(|cause| Refused::plainly(Refusal::Unknown(cause)))?;
        let said = match from_bucket {
            true => "removed, from the bucket too\n",
            false => "forgotten here\n",
        };
        let text = reply::text(StatusCode::OK, reply::TEXT, said);
        Ok(Reply::own(text))
    }

    /// What is to be removed, and the name of the token that allows it.
    pub(super) fn may_remove<'a>(
        &self,
        routed: &'a Routed,
        headers: &HeaderMap,
        peer: Option<SocketAddr>,
    ) -> Result<(&'a Key, Arc<str>), Refusal> {
        let Route::Object(key) = &routed.route else {
            return Err(self.no_such_method(&routed.route));
        };
        let by = self.authorise(routed, headers, Scope::Admin, peer)?;
        Ok((key, by.unwrap_or_default()))
    }
}

/// The query without our own word, and whether that was there.
pub fn split_query(query: Option<&str>) -> (Option<&str>, bool) {
    match query {
        Some(FROM_BUCKET) => (None, true),
        Some(query) => match query.strip_suffix(FROM_BUCKET) {
            Some(rest) if rest.ends_with('&') => (Some(&rest[..rest.len() - 1]), true),
            _ => (Some(query), false),
        },
        None => (None, false),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn our_word_is_told_from_a_nars_own_query() {
        assert_eq!(split_query(None), (None, false));
        assert_eq!(split_query(Some("bucket=1")), (None, true));
        assert_eq!(split_query(Some("hash=x")), (Some("hash=x"), false));
        assert_eq!(split_query(Some("hash=x&bucket=1")), (Some("hash=x"), true));
        assert_eq!(split_query(Some("xbucket=1")), (Some("xbucket=1"), false));
        assert_eq!(split_query(Some("bucket=10")), (Some("bucket=10"), false));
    }
}
