//! A NAR's parts on their way to the bucket while its body still arrives.
//!
//! Whoever takes the body in hands over each part when its bytes are there, a task of its own sends
//! them, a few at once, and nothing is completed before the body proved right. Dropped, the task
//! ends and the upload is aborted, so a body that breaks off leaves nothing in the bucket.

use std::fs::File;
use std::sync::Arc;

use bytes::Bytes;
use futures_util::StreamExt;
use futures_util::stream::FuturesUnordered;
use tokio::sync::mpsc;
use tokio_util::task::AbortOnDropHandle;

use super::super::error::UploadError;
use super::plan::Plan;
use crate::asker::on_behalf;
use crate::clock::Clock;
use crate::nix::key::ObjectKey;
use crate::origin::{Hold, Origin, OriginError, Part, PartTag, PartsUpload, StoreBody, StoreFacts};
use crate::tier::disk::DiskTier;

/// Parts of one upload that are sent at once.
const FROM_DISK: usize = 4;

/// The same where each of them lies in memory.
const FROM_MEMORY: usize = 2;

/// Parts that may be in memory for one upload: those being sent, one that waits for its turn, one
/// that is being filled.
pub const PARTS_IN_MEMORY: u64 = FROM_MEMORY as u64 + 2;

/// The sending of one NAR's parts.
#[derive(Debug)]
pub struct Sending {
    task: AbortOnDropHandle<Result<Option<Sent>, OriginError>>,
    hold: Hold,
    /// `None`: under way. `Some(None)`: fewer parts came than there are, since the body broke off.
    sent: Option<Option<Sent>>,
}

/// All parts are with the bucket, which has not made an object of them yet.
#[derive(Debug)]
pub struct Sent {
    pub upload: Arc<PartsUpload>,
    pub tags: Vec<PartTag>,
}

/// Where parts are handed over. Closed by dropping it.
#[derive(Debug)]
pub struct Outlet {
    plan: Plan,
    next: u32,
    to: mpsc::Sender<Part>,
    hold: Hold,
    clock: Clock,
}

/// What is to be sent, and how.
pub struct Errand {
    pub origin: Origin,
    /// Takes a note of what was begun, for the case that this process dies.
    pub disk: DiskTier,
    pub key: ObjectKey,
    pub about: StoreFacts,
    pub plan: Plan,
    pub hold: Hold,
    pub clock: Clock,
}

impl Sending {
    /// From a file that grows. Handing a part over never waits: it is a few words.
    pub fn from_disk(errand: Errand) -> (Self, Outlet) {
        let room = errand.plan.count() as usize;
        Self::start(errand, room, FROM_DISK)
    }

    /// From memory. Handing a part over waits for an earlier one, which bounds the memory.
    pub fn from_memory(errand: Errand) -> (Self, Outlet) {
        Self::start(errand, 1, FROM_MEMORY)
    }

    fn start(errand: Errand, waiting: usize, at_once: usize) -> (Self, Outlet) {
        let (to, ready) = mpsc::channel(waiting);
        let outlet = Outlet {
            plan: errand.plan,
            next: 0,
            to,
            hold: errand.hold.clone(),
            clock: errand.clock.clone(),
        };
        let hold = errand.hold.clone();
        let sending = async move { errand.run(ready, at_once).await };
        let task = tokio::spawn(on_behalf(sending));
        let sending = Self {
            task: AbortOnDropHandle::new(task),
            hold,
            sent: None,
        };
        (sending, outlet)
    }

    /// Ends only when the bucket refuses for good. May be dropped and called again.
    pub async fn failed(&mut self) -> UploadError {
        match self.end().await {
            Ok(()) => std::future::pending().await,
            Err(cause) => cause,
        }
    }

    /// All parts are sent.
    pub async fn finish(mut self) -> Result<Sent, UploadError> {
        self.end().await?;
        self.sent
            .as_mut()
            .and_then(Option::take)
            .ok_or(UploadError::Lost)
    }

    async fn end(&mut self) -> Result<(), UploadError> {
        if self.sent.is_none() {
            let ended = (&mut self.task).await.map_err(|_| UploadError::Lost)?;
            self.sent = Some(ended?);
        }
        Ok(())
    }
}

impl Drop for Sending {
    /// The one request that is not broken off with the task is then its last try.
    fn drop(&mut self) {
        if self.sent.is_none() {
            self.hold.give_up();
        }
    }
}

impl Outlet {
    /// Of `file`, the first `written` bytes are there: hands over the parts that this completes.
    pub fn written(&mut self, file: &Arc<File>, written: u64) {
        while let Some((start, len)) = self.plan.part(self.next)
            && start + len <= written
        {
            let body = StoreBody::File {
                file: Arc::clone(file),
                start,
                len,
            };
            // Room for all parts was made; whoever takes none any more has said why elsewhere.
            let part = self.part(start, body);
            let _ = self.to.try_send(part);
        }
    }

    /// Bytes the next part wants. `None`: all were handed over.
    pub fn wants(&self) -> Option<u64> {
        self.plan.part(self.next).map(|(_, len)| len)
    }

    /// Hands over the next part, of exactly the length that was wanted. While that waits for an
    /// earlier one the body stands still, which the bucket may not make it do for ever.
    pub async fn put(&mut self, bytes: Bytes) {
        if let Some((start, _)) = self.plan.part(self.next) {
            let part = self.part(start, StoreBody::Bytes(bytes));
            self.hold.begin(self.clock.now());
            // As above: the sending's own end tells why.
            let _ = self.to.send(part).await;
            self.hold.suspend();
        }
    }

    fn part(&mut self, start: u64, body: StoreBody) -> Part {
        let index = self.next;
        self.next += 1;
        Part { index, start, body }
    }
}

impl Errand {
    /// `None`: the body broke off.
    async fn run(
        self,
        mut ready: mpsc::Receiver<Part>,
        at_once: usize,
    ) -> Result<Option<Sent>, OriginError> {
        // Nothing is begun for a body that breaks off at once.
        let mut next = ready.recv().await;
        if next.is_none() {
            return Ok(None);
        }
        let (count, hold) = (self.plan.count() as usize, self.hold.clone());
        // Once asked for, an upload's id is waited for whatever happens here: without it nobody
        // could abort the upload. A task of its own does that, and drops what nobody takes.
        let beginning = tokio::spawn(on_behalf(self.begin())).await;
        let upload = match beginning {
            Ok(begun) => Arc::new(begun?),
            Err(_) => return Ok(None),
        };
        let mut tags = vec![None; count];
        let mut under_way = FuturesUnordered::new();
        let mut open = true;
        while open || next.is_some() || !under_way.is_empty() {
            if let Some(part) = next.take() {
                let (upload, hold, index) = (Arc::clone(&upload), &hold, part.index as usize);
                under_way.push(async move { (index, upload.send(&part, hold).await) });
            }
            tokio::select! {
                part = ready.recv(), if open && under_way.len() < at_once => {
                    open = part.is_some();
                    next = part;
                }
                Some((index, sent)) = under_way.next() => tags[index] = Some(sent?),
            }
        }
        drop(under_way);
        let tags: Option<Vec<PartTag>> = tags.into_iter().collect();
        Ok(tags.map(|tags| Sent { upload, tags }))
    }

    async fn begin(self) -> Result<PartsUpload, OriginError> {
        let (key, about) = (&self.key, &self.about);
        let upload = self.origin.begin_parts(key, about, &self.hold).await?;
        if let Some(note) = upload.note().and_then(|text| self.disk.note(&text)) {
            upload.when_ended(move || note.erase());
        }
        Ok(upload)
    }
}
