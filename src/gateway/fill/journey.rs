//! A fill from its first question to its blob.

use std::sync::Arc;

use crate::lookup::Lookup;
use crate::metrics::labels::FillOutcome;
use crate::nix::hash::Sha256Hash;
use crate::object::ObjectMeta;
use crate::origin::{Ask, Fetched, ObjectStream, OriginError};
use crate::tier::disk::{BlobFacts, BlobWriter, NoRoom};

use super::super::Gateway;
use super::super::abandon;
use super::super::error::GatewayError;
use super::super::flights::NoAnswer;
use super::super::pass::Pass;
use super::super::progress::Event;
use super::super::source::{Source, Version};
use super::receive::receive;
use super::{Fill, Opened};

/// How a fill ended well, or that it could not.
pub(super) type Ended = Result<FillOutcome, GatewayError>;

/// What came of asking the bucket.
#[expect(
    clippy::large_enum_variant,
    reason = "one a fill, moved once, and nearly all are whole"
)]
enum Came {
    /// All bytes are in the file, and they are the right ones.
    Whole {
        writer: BlobWriter,
        about: BlobFacts,
    },
    /// There is nothing to keep.
    Nothing(FillOutcome),
}

/// Reads the NAR from the bucket and keeps it. Every end is told to the readers and counted.
pub async fn from_bucket(gateway: Arc<Gateway>, fill: Arc<Fill>) {
    let came = tokio::select! {
        came = fetch(&gateway, &fill) => came,
        () = abandon::until_abandoned(&gateway, &fill) => {
            fill.note(Event::Broke(Arc::new(fill.no_answer(NoAnswer::Abandoned))));
            Ok(Came::Nothing(FillOutcome::Abandoned))
        }
    };
    let ended = match came {
        Ok(Came::Whole { writer, about }) => keep(&gateway, &fill, writer, about).await,
        Ok(Came::Nothing(outcome)) => Ok(outcome),
        Err(cause) => Err(cause),
    };
    if let Err(GatewayError::Corrupt { key, .. }) = &ended
        && let Some(version) = version_of(&fill)
    {
        let now = gateway.clock.now();
        gateway.bad.remember(key, version.etag.as_ref(), now);
    }
    finish(&gateway, &fill, ended);
}

/// Tells the readers of a failure, and counts every end.
pub(super) fn finish(gateway: &Gateway, fill: &Fill, ended: Ended) {
    let outcome = match ended {
        Ok(outcome) => outcome,
        Err(cause) => {
            tracing::warn!(key = %fill.key.object(), %cause, "fill failed");
            let outcome = match cause {
                GatewayError::Corrupt { .. } | GatewayError::Resting { .. } => FillOutcome::Corrupt,
                GatewayError::Origin(_)
                | GatewayError::NoAnswer { .. }
                | GatewayError::Disk { .. } => FillOutcome::Broken,
            };
            fill.note(Event::Broke(Arc::new(cause)));
            outcome
        }
    };
    gateway.metrics.fills.of((outcome,)).inc();
}

async fn fetch(gateway: &Arc<Gateway>, fill: &Arc<Fill>) -> Result<Came, GatewayError> {
    let key = fill.key.object();
    let _place = match tokio::time::timeout(gateway.hold, gateway.fills.place()).await {
        Ok(place) => place,
        Err(_) => {
            return Err(GatewayError::from(OriginError::Busy {
                key: key.as_str().to_owned(),
                after: gateway.hold,
            }));
        }
    };
    let Some(stream) = ask(gateway, fill).await? else {
        return Ok(Came::Nothing(FillOutcome::Absent));
    };
    let expected = gateway.expected.hash_of(&fill.key);
    let writer = match open(gateway, fill, &stream.meta, expected.is_some()).await? {
        Ok(writer) => writer,
        Err(no_room) => {
            tracing::info!(%key, %no_room, "not kept");
            pass(gateway, fill, stream, expected).await;
            return Ok(Came::Nothing(FillOutcome::Passed));
        }
    };
    let about = BlobFacts {
        etag: stream.meta.etag.clone(),
        last_modified: stream.meta.last_modified,
        verified: expected.is_some(),
    };
    let source = Source::over(gateway, key, stream, expected.is_some());
    let writer = receive(gateway, fill, source, writer).await?;
    if let Some(expected) = expected {
        verify(fill, expected, writer.digest())?;
    }
    Ok(Came::Whole { writer, about })
}

/// The open body; `None`: the bucket has no such object, as is known now. An object that was bad of
/// late is asked for only in another version.
async fn ask(
    gateway: &Arc<Gateway>,
    fill: &Arc<Fill>,
) -> Result<Option<ObjectStream>, GatewayError> {
    let key = fill.key.object();
    let seen = gateway.epochs.now(key);
    let bad = gateway.bad.resting(key, gateway.clock.now());
    let resting = || GatewayError::Resting { key: key.clone() };
    if bad.as_ref().is_some_and(|bad| bad.etag.is_none()) {
        return Err(resting());
    }
    let ask = Ask {
        if_none_match: bad.and_then(|bad| bad.etag),
        ..Ask::nar()
    };
    match gateway.origin.fetch(key, &ask).await {
        Lookup::Found(Fetched::Object(stream)) => Ok(Some(stream)),
        Lookup::Found(Fetched::NotModified) => Err(resting()),
        Lookup::Absent => {
            let now = gateway.clock.now();
            gateway
                .epochs
                .unless_written(key, seen, || gateway.memory.keep_absent(key, now));
            fill.note(Event::Absent);
            Ok(None)
        }
        Lookup::Unknown(cause) => Err(cause.into()),
    }
}

/// Reads the body past the tiers, for those who are here and those who come in time.
async fn pass(
    gateway: &Arc<Gateway>,
    fill: &Arc<Fill>,
    stream: ObjectStream,
    expected: Option<Sha256Hash>,
) {
    let pass = Arc::new(Pass::new(stream.meta.clone(), expected));
    let source = Source::over(gateway, fill.key.object(), stream, expected.is_some());
    let source = Box::new(source);
    fill.pass(Arc::clone(&pass));
    let closing = async {
        pass.until_over().await;
        gateway.fills.close(fill);
    };
    tokio::join!(pass.pump(gateway, source), closing);
}

/// Releases the readers, then makes the file a blob.
async fn keep(gateway: &Gateway, fill: &Arc<Fill>, writer: BlobWriter, about: BlobFacts) -> Ended {
    fill.note(Event::Verified);
    let key = fill.key.object();
    gateway.bad.forget(key);
    match blocking(fill, move || writer.publish(about)).await? {
        Ok(_) => Ok(FillOutcome::Stored),
        Err(cause) => {
            tracing::warn!(%key, %cause, "delivered, but not kept: the disk failed");
            Ok(FillOutcome::Passed)
        }
    }
}

/// Room for the object and a file that readers may follow, or the reason why there is none: its removal
/// meanwhile is one. Evicting touches the disk, so it blocks. Readers are told from there, since their
/// first byte waits for it.
async fn open(
    gateway: &Arc<Gateway>,
    fill: &Arc<Fill>,
    meta: &ObjectMeta,
    has_hash: bool,
) -> Result<Result<BlobWriter, NoRoom>, GatewayError> {
    let facts = gateway.nar_facts(&fill.key, meta);
    let version = Version::of(meta);
    let (gateway, filling) = (Arc::clone(gateway), Arc::clone(fill));
    blocking(fill, move || {
        let writer = gateway.disk.reserve(filling.key.object(), version.len)?;
        let listed = gateway.fills.find(&filling.key);
        if !listed.is_some_and(|listed| Arc::ptr_eq(&listed, &filling)) {
            return Err(NoRoom::Removed);
        }
        filling.open(Opened::now(facts, writer.reader(), has_hash, Some(version)));
        Ok(writer)
    })
    .await
}

fn version_of(fill: &Fill) -> Option<&Version> {
    fill.opened()?.version.as_ref()
}

pub(super) fn verify(
    fill: &Fill,
    expected: Sha256Hash,
    got: Sha256Hash,
) -> Result<(), GatewayError> {
    match expected == got {
        true => Ok(()),
        false => Err(GatewayError::wrong_bytes(fill.key.object(), expected, got)),
    }
}

/// Runs what blocks on the pool made for it. A panic there is the fill's failure.
pub(super) async fn blocking<T: Send + 'static>(
    fill: &Fill,
    work: impl FnOnce() -> T + Send + 'static,
) -> Result<T, GatewayError> {
    join(fill, tokio::task::spawn_blocking(work).await)
}

pub(super) fn join<T>(
    fill: &Fill,
    joined: Result<T, tokio::task::JoinError>,
) -> Result<T, GatewayError> {
    joined.map_err(|_| fill.no_answer(NoAnswer::Lost))
}
