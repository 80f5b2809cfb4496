//! One NAR in flight: read once from the origin, written to disk, verified, and read along by
//! everyone who asked.
//!
//! A fill is a task of its own and the request that began it is merely its first reader, so a
//! client that hangs up spoils nothing, and no client's speed touches the origin or the others.
//! The network is read by an async task and the disk is written by a blocking thread, with a short
//! channel between: hashing and writing one chunk overlaps with receiving the next.

use std::fs::File;
use std::os::unix::fs::FileExt;
use std::sync::{Arc, Mutex, OnceLock};
use std::time::Duration;

use bytes::Bytes;
use sha2::{Digest, Sha256};
use tokio::sync::{mpsc, watch};

use crate::lookup::Lookup;
use crate::metrics::labels::FillOutcome;
use crate::nix::hash::Sha256Hash;
use crate::nix::key::NarKey;
use crate::origin::{Ask, Fetched, ObjectStream};
use crate::tier::disk::{Blob, BlobFacts, BlobWriter, NoRoom};

use super::Gateway;
use super::error::GatewayError;
use super::flights::NoAnswer;
use super::handover::Handover;
use super::progress::{Event, Progress};
use super::served::NarFacts;

/// Chunks between the network and the disk; the S3 client's are 16–64 KiB, so well under 1 MiB.
const CHUNKS_IN_FLIGHT: usize = 8;

/// A fill tells its readers of progress at least each so many bytes, so that hundreds of readers
/// are not woken for each packet.
const NEWS_EVERY: u64 = 256 * 1024;

/// What readers share with the task that fills.
#[derive(Debug)]
pub struct Fill {
    pub key: NarKey,
    progress: watch::Sender<Progress>,
    opened: OnceLock<Opened>,
    /// When there was no room: the open body, for the first reader that takes it.
    unstored: Mutex<Option<Arc<Handover>>>,
}

/// What is known once the origin has answered and there is a file.
#[derive(Debug)]
pub struct Opened {
    pub facts: NarFacts,
    pub file: Arc<File>,
    /// Whether there is a hash to hold the bytes to before the last of them are given out.
    pub has_hash: bool,
}

/// What a fill turned out to be, as soon as that is known.
#[derive(Debug)]
pub enum Opening {
    Readable,
    Absent,
    /// Nothing is kept: the open body if nobody took it before, and what is known of it.
    Unstored(Arc<Handover>),
    Failed(Arc<GatewayError>),
}

impl Fill {
    pub fn new(key: NarKey) -> Self {
        Self {
            key,
            progress: watch::Sender::new(Progress::Asking),
            opened: OnceLock::new(),
            unstored: Mutex::default(),
        }
    }

    /// Follows the fill from where it is now.
    pub fn follow(&self) -> watch::Receiver<Progress> {
        self.progress.subscribe()
    }

    /// What is known of the NAR; set before the first byte may be read.
    pub fn opened(&self) -> Option<&Opened> {
        self.opened.get()
    }

    /// Whether it ended in a failure, which all who read along are told.
    pub fn has_failed(&self) -> bool {
        matches!(*self.progress.borrow(), Progress::Failed(_))
    }

    /// Waits until the fill is open (and, where `sealed` says so of it, ended), at most `patience`.
    pub async fn opening(&self, patience: Duration, sealed: impl Fn(&Opened) -> bool) -> Opening {
        let mut progress = self.follow();
        let settled = progress.wait_for(|progress| match progress {
            Progress::Asking => false,
            Progress::Filling { .. } => self.opened().is_some_and(|opened| !sealed(opened)),
            Progress::Sealed { .. }
            | Progress::Absent
            | Progress::Unstored
            | Progress::Failed(_) => true,
        });
        let no_answer = |why| {
            Arc::new(GatewayError::NoAnswer {
                key: self.key.object().clone(),
                why,
            })
        };
        match tokio::time::timeout(patience, settled).await {
            Err(_) => Opening::Failed(no_answer(NoAnswer::Late(patience))),
            Ok(Err(_)) => Opening::Failed(no_answer(NoAnswer::Lost)),
            Ok(Ok(settled)) => match &*settled {
                Progress::Absent => Opening::Absent,
                Progress::Failed(cause) => Opening::Failed(Arc::clone(cause)),
                Progress::Unstored => {
                    match &*self.unstored.lock().expect("no panic under this lock") {
                        Some(handover) => Opening::Unstored(Arc::clone(handover)),
                        None => Opening::Failed(no_answer(NoAnswer::Lost)),
                    }
                }
                Progress::Asking | Progress::Filling { .. } | Progress::Sealed { .. } => {
                    Opening::Readable
                }
            },
        }
    }

    fn note(&self, event: Event) {
        self.progress
            .send_modify(|progress| *progress = progress.clone().after(event));
    }
}

/// Fails the fill if its task ends in any way that did not end it, a panic included.
pub struct Unfinished(pub Arc<Fill>);

impl Drop for Unfinished {
    fn drop(&mut self) {
        let why = NoAnswer::Lost;
        self.0.note(Event::Broke(Arc::new(GatewayError::NoAnswer {
            key: self.0.key.object().clone(),
            why,
        })));
    }
}

/// How a fill ended well, or that it could not.
type Ended = Result<FillOutcome, GatewayError>;

/// Reads the NAR from the bucket and keeps it. Every end is told to the readers and counted.
pub async fn from_bucket(gateway: Arc<Gateway>, fill: Arc<Fill>) {
    let ended = fill_from_bucket(&gateway, &fill).await;
    finish(&gateway, &fill, ended);
}

/// Checks a blob of which the index knows nothing (it was lost), while readers read along.
pub async fn from_blob(gateway: Arc<Gateway>, fill: Arc<Fill>, blob: Blob) {
    let ended = check_blob(&gateway, &fill, blob).await;
    finish(&gateway, &fill, ended);
}

fn finish(gateway: &Gateway, fill: &Fill, ended: Ended) {
    let outcome = match ended {
        Ok(outcome) => outcome,
        Err(cause) => {
            tracing::warn!(key = %fill.key.object(), %cause, "fill failed");
            let outcome = match cause {
                GatewayError::Corrupt { .. } => FillOutcome::Corrupt,
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

async fn fill_from_bucket(gateway: &Arc<Gateway>, fill: &Arc<Fill>) -> Ended {
    let key = fill.key.object();
    let seen = gateway.epochs.now(key);
    let stream = match gateway.origin.fetch(key, &Ask::nar()).await {
        Lookup::Found(Fetched::Object(stream)) => stream,
        Lookup::Found(Fetched::NotModified) => {
            return Err(GatewayError::Corrupt {
                key: key.clone(),
                why: "304 to an unconditional request".into(),
            });
        }
        Lookup::Absent => {
            let now = gateway.clock.now();
            gateway
                .epochs
                .unless_written(key, seen, || gateway.memory.keep_absent(key, now));
            fill.note(Event::Absent);
            return Ok(FillOutcome::Absent);
        }
        Lookup::Unknown(cause) => return Err(cause.into()),
    };

    let expected = gateway.expected.hash_of(&fill.key);
    let writer = match reserve(gateway, fill, stream.meta.len).await? {
        Ok(writer) => writer,
        Err(no_room) => {
            tracing::info!(%key, %no_room, "not kept");
            *fill.unstored.lock().expect("no panic under this lock") =
                Some(Arc::new(Handover::new(stream)));
            fill.note(Event::NoRoom);
            return Ok(FillOutcome::Passed);
        }
    };
    let facts = gateway.nar_facts(&fill.key, &stream.meta);
    let about = BlobFacts {
        etag: stream.meta.etag.clone(),
        last_modified: stream.meta.last_modified,
        verified: expected.is_some(),
    };
    let opened = Opened {
        facts,
        file: writer.reader(),
        has_hash: expected.is_some(),
    };
    fill.opened.set(opened).expect("a fill is opened once");
    fill.note(Event::Opened);

    let writer = receive(fill, stream, writer).await?;
    if let Some(expected) = expected {
        verify(fill, expected, writer.digest())?;
    }
    fill.note(Event::Verified);
    let published = blocking(fill, move || writer.publish(about)).await?;
    match published {
        Ok(_) => Ok(FillOutcome::Stored),
        Err(cause) => {
            tracing::warn!(%key, %cause, "delivered, but not kept: the disk failed");
            Ok(FillOutcome::Passed)
        }
    }
}

/// Room for `len` bytes, or the reason why there is none. Evicting touches the disk, so it blocks.
async fn reserve(
    gateway: &Gateway,
    fill: &Arc<Fill>,
    len: u64,
) -> Result<Result<BlobWriter, NoRoom>, GatewayError> {
    let (disk, key) = (gateway.disk.clone(), fill.key.object().clone());
    blocking(fill, move || disk.reserve(&key, len)).await
}

/// Moves the body into the file, telling readers as it grows.
async fn receive(
    fill: &Arc<Fill>,
    mut stream: ObjectStream,
    writer: BlobWriter,
) -> Result<BlobWriter, GatewayError> {
    let (chunks, arriving) = mpsc::channel::<Bytes>(CHUNKS_IN_FLIGHT);
    let filling = Arc::clone(fill);
    let writing = tokio::task::spawn_blocking(move || write_all(&filling, arriving, writer));
    let mut broke = None;
    loop {
        match stream.chunk().await {
            Ok(Some(chunk)) => {
                if chunks.send(chunk).await.is_err() {
                    break; // The writer has failed, and says below why.
                }
            }
            Ok(None) => break,
            Err(cause) => {
                broke = Some(cause);
                break;
            }
        }
    }
    drop(chunks);
    let written = join(fill, writing.await)?;
    match (broke, written) {
        (Some(cause), _) => Err(cause.into()),
        (None, Ok(writer)) => Ok(writer),
        (None, Err(why)) => Err(GatewayError::Disk {
            key: fill.key.object().clone(),
            why: Arc::new(why),
        }),
    }
}

fn write_all(
    fill: &Fill,
    mut arriving: mpsc::Receiver<Bytes>,
    mut writer: BlobWriter,
) -> std::io::Result<BlobWriter> {
    while let Some(chunk) = arriving.blocking_recv() {
        let mut news = 0;
        let mut next = Some(chunk);
        while let Some(chunk) = next {
            writer.write(&chunk)?;
            news += chunk.len() as u64;
            next = if news < NEWS_EVERY {
                arriving.try_recv().ok()
            } else {
                None
            };
        }
        fill.note(Event::Chunk { len: news });
    }
    Ok(writer)
}

async fn check_blob(gateway: &Arc<Gateway>, fill: &Arc<Fill>, blob: Blob) -> Ended {
    let expected = gateway.expected.hash_of(&fill.key);
    let facts = gateway.blob_facts(&fill.key, &blob);
    fill.opened
        .set(Opened {
            facts,
            file: Arc::clone(&blob.file),
            has_hash: expected.is_some(),
        })
        .expect("a fill is opened once");
    fill.note(Event::Opened);
    let (reading, file, len) = (Arc::clone(fill), Arc::clone(&blob.file), blob.len);
    let digest = blocking(fill, move || hash_along(&reading, &file, len)).await?;
    let disk = gateway.disk.clone();
    let key = fill.key.object().clone();
    let agreed = match (digest, expected) {
        (Ok(digest), Some(expected)) => verify(fill, expected, digest),
        (Ok(_), None) => Ok(()),
        (Err(why), _) => Err(GatewayError::Disk {
            key: key.clone(),
            why: Arc::new(why),
        }),
    };
    match agreed {
        Ok(()) => {
            fill.note(Event::Verified);
            blocking(fill, move || disk.adopt(&key, &blob)).await?;
            Ok(FillOutcome::Stored)
        }
        Err(cause) => {
            blocking(fill, move || disk.quarantine(&key, &blob)).await?;
            Err(cause)
        }
    }
}

fn hash_along(fill: &Fill, file: &File, len: u64) -> std::io::Result<Sha256Hash> {
    let mut hasher = Sha256::new();
    let mut buffer = vec![0; NEWS_EVERY as usize];
    let mut at = 0;
    while at < len {
        let read = file.read_at(&mut buffer, at)?;
        if read == 0 {
            return Err(std::io::ErrorKind::UnexpectedEof.into());
        }
        hasher.update(&buffer[..read]);
        at += read as u64;
        fill.note(Event::Chunk { len: read as u64 });
    }
    Ok(Sha256Hash::from_bytes(hasher.finalize().into()))
}

fn verify(fill: &Fill, expected: Sha256Hash, got: Sha256Hash) -> Result<(), GatewayError> {
    if expected == got {
        return Ok(());
    }
    let why = format!("its SHA-256 is {got} instead of {expected}");
    Err(GatewayError::Corrupt {
        key: fill.key.object().clone(),
        why,
    })
}

/// Runs what blocks on the pool made for it. A panic there is the fill's failure.
async fn blocking<T: Send + 'static>(
    fill: &Fill,
    work: impl FnOnce() -> T + Send + 'static,
) -> Result<T, GatewayError> {
    join(fill, tokio::task::spawn_blocking(work).await)
}

fn join<T>(fill: &Fill, joined: Result<T, tokio::task::JoinError>) -> Result<T, GatewayError> {
    joined.map_err(|_| GatewayError::NoAnswer {
        key: fill.key.object().clone(),
        why: NoAnswer::Lost,
    })
}
