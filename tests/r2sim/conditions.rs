//! If-Match, If-None-Match, If-Modified-Since, If-Unmodified-Since: which of them stops a request.
//! Order and meaning: RFC 9110 §13.2.2. Dates count whole seconds, as they do on the wire.

use std::time::{Duration, SystemTime};

use s3s::S3Result;
use s3s::dto::{ETagCondition, Timestamp};
use time::OffsetDateTime;

use super::rules::{Refused, not_modified, precondition_failed};
use super::store::ObjectMeta;

/// The conditions of a GET or HEAD.
pub struct ReadConditions {
    pub if_match: Option<ETagCondition>,
    pub if_none_match: Option<ETagCondition>,
    pub if_modified_since: Option<Timestamp>,
    pub if_unmodified_since: Option<Timestamp>,
}

impl ReadConditions {
    /// Errors: 412, or 304 where the client's copy is still good.
    pub fn check(&self, meta: &ObjectMeta) -> S3Result<()> {
        match (&self.if_match, &self.if_unmodified_since) {
            (Some(wanted), _) if !matches(wanted, meta) => return Err(precondition_failed()),
            (None, Some(since)) if modified_after(meta, since) => {
                return Err(precondition_failed());
            }
            _ => (),
        }
        match (&self.if_none_match, &self.if_modified_since) {
            (Some(known), _) if matches(known, meta) => Err(not_modified(meta)),
            (None, Some(since)) if !modified_after(meta, since) => Err(not_modified(meta)),
            _ => Ok(()),
        }
    }
}

/// The conditions of a write, judged against what is there now. Errors: 412.
pub fn check_write(
    if_match: &Option<ETagCondition>,
    if_none_match: &Option<ETagCondition>,
    present: Option<&ObjectMeta>,
) -> Result<(), Refused> {
    let holds = |condition: &ETagCondition| present.is_some_and(|meta| matches(condition, meta));
    let lacks_wanted = if_match.as_ref().is_some_and(|wanted| !holds(wanted));
    if lacks_wanted || if_none_match.as_ref().is_some_and(holds) {
        return Err(Refused(precondition_failed()));
    }
    Ok(())
}

fn matches(condition: &ETagCondition, meta: &ObjectMeta) -> bool {
    match condition {
        ETagCondition::Any => true,
        ETagCondition::ETag(etag) => etag.value() == meta.etag,
    }
}

fn modified_after(meta: &ObjectMeta, since: &Timestamp) -> bool {
    whole_seconds(meta.last_modified) > OffsetDateTime::from(since.clone())
}

fn whole_seconds(time: SystemTime) -> OffsetDateTime {
    let since_epoch = time
        .duration_since(SystemTime::UNIX_EPOCH)
        .unwrap_or_default();
    OffsetDateTime::UNIX_EPOCH + Duration::from_secs(since_epoch.as_secs())
}
