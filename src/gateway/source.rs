//! Bytes of one version of an object, read from the bucket as if nothing ever broke.
//!
//! A body that stalls, is cut or fails is taken up again where it stopped, with `Range` and `If-Match`,
//! so that what is put together is one version's bytes and no other's. Whether and when, `rescue`
//! decides. An object without a tag is taken up only where its length and date still agree *and* a
//! hash of the whole is going to be compared, because a date has no more than a second's precision.

use std::sync::Arc;
use std::time::{Duration, SystemTime};

use bytes::Bytes;

use crate::lookup::Lookup;
use crate::nix::key::ObjectKey;
use crate::object::{ETag, ObjectMeta};
use crate::origin::{Ask, Fetched, ObjectStream, OriginError, Tries};
use crate::range::{ByteRange, RangeRequest};

use super::Gateway;
use super::error::GatewayError;
use super::rescue::{Next, Rescue};

/// One version of an object, as its bucket describes it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Version {
    /// Bytes in the whole object.
    pub len: u64,
    pub etag: Option<ETag>,
    last_modified: Option<SystemTime>,
}

impl Version {
    pub fn of(meta: &ObjectMeta) -> Self {
        Self {
            len: meta.len,
            etag: meta.etag.clone(),
            last_modified: meta.last_modified,
        }
    }

    /// Whether an answer that came later is about this version, as far as its head can say.
    fn is(&self, meta: &ObjectMeta) -> bool {
        self.len == meta.len
            && match &self.etag {
                Some(_) => self.etag == meta.etag,
                None => self.last_modified == meta.last_modified,
            }
    }

    /// Whether pieces of it, asked for one by one, are sure to belong together. `hashed`: the whole
    /// is compared with a hash in the end.
    fn can_be_pieced(&self, hashed: bool) -> bool {
        self.etag.is_some() || (hashed && self.last_modified.is_some())
    }
}

/// A stretch of an object on its way. Lives on the runtime of the origins.
pub struct Source {
    gateway: Arc<Gateway>,
    key: ObjectKey,
    version: Version,
    can_resume: bool,
    at: u64,
    end: u64,
    open: Option<ObjectStream>,
    /// Why there is no stream, when there was one.
    broke: Option<OriginError>,
    rescue: Rescue,
}

impl Source {
    /// The rest of a body that was just opened at the object's first byte. `hashed`: the whole is
    /// compared with a hash in the end.
    pub fn over(
        gateway: &Arc<Gateway>,
        key: &ObjectKey,
        stream: ObjectStream,
        hashed: bool,
    ) -> Self {
        let version = Version::of(&stream.meta);
        Self {
            can_resume: version.can_be_pieced(hashed),
            end: version.len,
            open: Some(stream),
            ..Self::closed(gateway, key, version)
        }
    }

    /// A piece of a version; nobody is asked yet. Without a tag it is not taken up where it breaks.
    pub fn of(
        gateway: &Arc<Gateway>,
        key: &ObjectKey,
        version: &Version,
        range: ByteRange,
    ) -> Self {
        Self {
            at: range.start(),
            end: range.end(),
            ..Self::closed(gateway, key, version.clone())
        }
    }

    fn closed(gateway: &Arc<Gateway>, key: &ObjectKey, version: Version) -> Self {
        Self {
            gateway: Arc::clone(gateway),
            key: key.clone(),
            can_resume: version.etag.is_some(),
            version,
            at: 0,
            end: 0,
            open: None,
            broke: None,
            rescue: Rescue::new(gateway.hold),
        }
    }

    /// Tries to go on for about so long after a break, instead of `bucket.hold`.
    pub fn patient_for(self, hold: Duration) -> Self {
        Self {
            rescue: Rescue::new(hold),
            ..self
        }
    }

    /// The object's name.
    pub fn key(&self) -> &ObjectKey {
        &self.key
    }

    /// What is being read.
    pub fn version(&self) -> &Version {
        &self.version
    }

    /// Where the next byte lies in the object.
    pub fn at(&self) -> u64 {
        self.at
    }

    /// Bytes still to come.
    pub fn left(&self) -> u64 {
        self.end - self.at
    }

    /// Ends it earlier than it was going to.
    pub fn end_at(&mut self, end: u64) {
        self.end = self.end.min(end);
    }

    /// Asks for the stretch without waiting for its bytes, so that a failure can be told early.
    /// Afterwards [`Source::chunk`] goes on from there, also after an error.
    pub async fn begin(&mut self, tries: Tries) -> Result<(), GatewayError> {
        match self.ask(tries).await? {
            Ok(()) => Ok(()),
            Err(cause) => {
                self.broke = Some(cause.clone());
                Err(cause.into())
            }
        }
    }

    /// The next bytes, never none; `None` after the last. They begin at [`Source::at`] as it was
    /// before.
    ///
    /// Errors: the bucket fails and fails, or the object is no longer what it was. May be dropped
    /// half-way, at the cost of the source.
    pub async fn chunk(&mut self) -> Result<Option<Bytes>, GatewayError> {
        loop {
            let Some(stream) = &mut self.open else {
                if self.left() == 0 {
                    return Ok(None);
                }
                self.resume().await?;
                continue;
            };
            if self.at == self.end {
                if stream.reaches(self.end) {
                    // The end of the message, so that its connection can be used again. All bytes
                    // are here: a surplus goes with the connection, and so does an error.
                    let _ = stream.chunk().await;
                }
                self.open = None;
                return Ok(None);
            }
            match stream.chunk().await {
                Ok(Some(mut bytes)) => {
                    bytes.truncate(usize::try_from(self.left()).unwrap_or(usize::MAX));
                    self.at += bytes.len() as u64;
                    self.rescue.received(bytes.len() as u64);
                    return Ok(Some(bytes));
                }
                Ok(None) => {
                    self.open = None;
                    return Err(self.changed("it ended before its length"));
                }
                Err(cause) => {
                    self.open = None;
                    self.broke = Some(cause);
                }
            }
        }
    }

    /// Opens what is left, after as many tries as are worth it.
    async fn resume(&mut self) -> Result<(), GatewayError> {
        let Some(mut cause) = self.broke.take() else {
            return match self.ask(Tries::One).await? {
                Ok(()) => Ok(()),
                Err(cause) => {
                    self.broke = Some(cause);
                    Ok(())
                }
            };
        };
        loop {
            if !self.can_resume {
                return Err(cause.into());
            }
            let now = self.gateway.clock.now();
            let Next::Again { after } = self.rescue.broke(&cause, now) else {
                return Err(cause.into());
            };
            tracing::info!(key = %self.key, at = self.at, %cause, pause = ?after, "going on with a broken read");
            tokio::time::sleep(after).await;
            match self.ask(Tries::Again).await? {
                Ok(()) => {
                    self.gateway.metrics.fill_resumes.inc();
                    return Ok(());
                }
                Err(again) => cause = again,
            }
        }
    }

    /// One request for what is left. The outer error is final, the inner may be tried again.
    async fn ask(&mut self, tries: Tries) -> Result<Result<(), OriginError>, GatewayError> {
        let ask = Ask {
            range: Some(RangeRequest::Closed {
                first: self.at,
                last: self.end - 1,
            }),
            if_match: self.version.etag.clone(),
            tries,
            ..Ask::nar()
        };
        // In a box, because it is deep and would be part of every future that reads a source.
        match Box::pin(self.gateway.origin.fetch(&self.key, &ask)).await {
            Lookup::Found(Fetched::Object(stream)) if self.version.is(&stream.meta) => {
                self.open = Some(stream);
                Ok(Ok(()))
            }
            Lookup::Found(_) => Err(self.changed("it is another object now")),
            Lookup::Absent => Err(self.changed("it is gone")),
            Lookup::Unknown(
                cause @ (OriginError::PreconditionFailed { .. }
                | OriginError::OutOfRange { .. }
                | OriginError::Garbage { .. }),
            ) => Err(self.changed(&cause.to_string())),
            Lookup::Unknown(cause) => Ok(Err(cause)),
        }
    }

    fn changed(&self, why: &str) -> GatewayError {
        GatewayError::Corrupt {
            key: self.key.clone(),
            why: format!("at byte {} of {}: {why}", self.at, self.version.len),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::UNIX_EPOCH;

    fn meta(len: u64, etag: Option<&str>, seconds: Option<u64>) -> ObjectMeta {
        ObjectMeta {
            len,
            etag: etag.and_then(ETag::new),
            last_modified: seconds.map(|seconds| UNIX_EPOCH + Duration::from_secs(seconds)),
            content_type: None,
            content_encoding: None,
        }
    }

    #[test]
    fn a_tag_tells_versions_apart_and_a_date_does_where_there_is_none() {
        let tagged = Version::of(&meta(9, Some("a"), Some(1)));
        assert!(tagged.is(&meta(9, Some("a"), Some(2))));
        assert!(!tagged.is(&meta(9, Some("b"), Some(1))));
        assert!(!tagged.is(&meta(8, Some("a"), Some(1))));
        assert!(!tagged.is(&meta(9, None, Some(1))));
        let dated = Version::of(&meta(9, None, Some(1)));
        assert!(dated.is(&meta(9, None, Some(1))));
        assert!(!dated.is(&meta(9, None, Some(2))));
    }

    #[test]
    fn without_a_tag_only_a_hash_of_the_whole_allows_putting_pieces_together() {
        let pieced =
            |etag, seconds, hashed| Version::of(&meta(9, etag, seconds)).can_be_pieced(hashed);
        assert!(pieced(Some("a"), None, false));
        assert!(pieced(None, Some(1), true));
        assert!(!pieced(None, Some(1), false));
        assert!(!pieced(None, None, true));
    }
}
