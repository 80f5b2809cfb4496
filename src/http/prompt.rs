//! Prompt answers: what is at hand for a plain request, said by the connection itself: documents in
//! memory and in the index, known absences, and NARs in memory.
//!
//! A worker spends more on actix's decoding, dispatching and encoding than on all we do for a hit in
//! memory (`docs/benchmarks.md`). So a connection whose codec is idle first asks here. What comes
//! back is the answer that actix would have been given, made of the same parts, counted and logged the
//! same, and already encoded. Whatever is not plain, not at hand, or not for everybody, is left to
//! actix.

use std::cell::{RefCell, RefMut};
use std::io::IoSlice;
use std::net::IpAddr;
use std::time::{SystemTime, UNIX_EPOCH};

use actix_web::http::header::{CONTENT_LENGTH, DATE};
use actix_web::http::{Method, StatusCode};
use bytes::buf::Chain;
use bytes::{Buf, Bytes};

use crate::gateway::document::kind_of;
use crate::gateway::served::How;
use crate::metrics::labels::Kind;
use crate::nix::key::{DocumentKey, Key, NarKey};
use crate::object::ETag;

use super::Desk;
use super::error::Refusal;
use super::observe::Observed;
use super::plain::Plain;
use super::reply::{self, Fields, Sharing, Value};
use super::routes::{Route, route};

/// Bytes of a body that are copied behind the head: two slices cost more than a short copy, and a copy
/// is what a client that is slow to take it would hold.
const COPIED: usize = 4 * 1024;

/// An answer to be sent before anything else.
#[derive(Debug)]
pub struct Prompt<'a> {
    desk: &'a Desk,
    /// Its head, and what is small enough to be copied behind it.
    head: RefMut<'a, Vec<u8>>,
    /// What comes behind that.
    body: Bytes,
    seen: Observed,
}

/// What a client has yet to take of one. Dropped, it counts as not sent.
#[derive(Debug)]
pub struct Rest {
    bytes: Chain<Bytes, Bytes>,
    seen: Observed,
}

impl Desk {
    /// The whole answer to a plain request. `None`: it is for actix.
    pub fn prompt(&self, plain: &Plain<'_>, from: Option<IpAddr>) -> Option<Prompt<'_>> {
        let front = &self.front;
        // Where reads are not for everybody, and when this server leaves, there is more to say.
        if front.sharing != Sharing::Public || front.leaving.has_begun() {
            return None;
        }
        match route(plain.path, None, &front.namespaces, true)?.route {
            Route::Object(Key::Document(key)) => self.prompt_document(plain, from, &key),
            Route::Object(Key::Nar(key)) => self.prompt_nar(plain, from, &key),
            _ => None,
        }
    }

    fn prompt_document(
        &self,
        plain: &Plain<'_>,
        from: Option<IpAddr>,
        key: &DocumentKey,
    ) -> Option<Prompt<'_>> {
        let front = &self.front;
        let remembered = front.gateway.remembered(key);
        let how = remembered.how()?;
        let Some(held) = remembered.held() else {
            if plain.if_none_match.is_some() {
                return None;
            }
            front.gateway.use_remembered(key, &remembered);
            let mut prompt = self.begin(plain, from, kind_of(key), StatusCode::NOT_FOUND, how);
            reply::describe_text(&mut *prompt.head);
            let line = reply::line(&Refusal::Absent, prompt.seen.id.as_str());
            prompt.end(StatusCode::NOT_FOUND, line.len(), how);
            prompt.head.extend_from_slice(line.as_bytes());
            return Some(prompt);
        };
        let bytes = &held.document.bytes;
        if held.document.content_encoding.is_some() || bytes.len() > self.largest {
            return None;
        }
        let status = judge(plain, Some(&held.tag))?;
        front.gateway.use_remembered(key, &remembered);
        let mut prompt = self.begin(plain, from, kind_of(key), status, how);
        front.about(key, held, false).describe(&mut *prompt.head);
        if prompt.end(status, bytes.len(), how) {
            match bytes.len() {
                0..=COPIED => prompt.head.extend_from_slice(bytes),
                _ => prompt.body = bytes.clone(),
            }
        }
        Some(prompt)
    }

    fn prompt_nar(
        &self,
        plain: &Plain<'_>,
        from: Option<IpAddr>,
        key: &NarKey,
    ) -> Option<Prompt<'_>> {
        let front = &self.front;
        let (held, facts) = front.gateway.remembered_nar(key)?;
        if held.bytes.len() > self.largest {
            return None;
        }
        let status = judge(plain, facts.tag.as_ref())?;
        let how = front.gateway.count_remembered_nar();
        let mut prompt = self.begin(plain, from, Kind::Nar, status, how);
        reply::describe_nar(&mut *prompt.head, &facts, front.sharing);
        if prompt.end(status, held.bytes.len(), how) {
            prompt.body = held.bytes.clone();
        }
        Some(prompt)
    }

    /// An answer that has its first lines, and wants what is said of its object.
    fn begin(
        &self,
        plain: &Plain<'_>,
        from: Option<IpAddr>,
        kind: Kind,
        status: StatusCode,
        how: How,
    ) -> Prompt<'_> {
        let mut seen = self.watch.begin(&Method::GET, plain.path, from);
        seen.kind = kind;
        let mut head = self.encoder.begin(status);
        seen.describe(how, &mut *head);
        Prompt {
            desk: self,
            head,
            body: Bytes::new(),
            seen,
        }
    }
}

/// The status of what is there. `None`: the condition wants a closer look.
fn judge(plain: &Plain<'_>, tag: Option<&ETag>) -> Option<StatusCode> {
    match (plain.if_none_match, tag) {
        (None, _) => Some(StatusCode::OK),
        (Some(asked), Some(tag)) if asked.as_bytes() == tag.shared() => {
            Some(StatusCode::NOT_MODIFIED)
        }
        (Some(_), _) => None,
    }
}

impl Prompt<'_> {
    /// Ends the head, of an answer about so many bytes. Whether they belong to it.
    fn end(&mut self, status: StatusCode, len: usize, how: How) -> bool {
        let has_body = status != StatusCode::NOT_MODIFIED;
        let len = if has_body { len as u64 } else { 0 };
        if has_body {
            self.head.put(CONTENT_LENGTH, Value::Counted("", len));
        }
        self.desk.encoder.end(&mut self.head);
        self.seen.answered(status, len, how);
        has_body
    }

    /// All of it, to be sent at once.
    pub fn slices(&self) -> [IoSlice<'_>; 2] {
        [IoSlice::new(&self.head), IoSlice::new(&self.body)]
    }

    /// What is left when so many bytes are sent; `None`: nothing.
    pub fn after(mut self, sent: usize) -> Option<Box<Rest>> {
        let of_head = sent.min(self.head.len());
        let head = &self.head[of_head..];
        self.body.advance(sent - of_head);
        if head.is_empty() && self.body.is_empty() {
            return None;
        }
        Some(Box::new(Rest {
            bytes: Bytes::copy_from_slice(head).chain(self.body),
            seen: self.seen,
        }))
    }
}

impl Rest {
    /// What comes next; empty: all is sent.
    pub fn next(&self) -> &[u8] {
        self.bytes.chunk()
    }

    pub fn advance(&mut self, sent: usize) {
        self.bytes.advance(sent);
    }
}

impl Drop for Rest {
    fn drop(&mut self) {
        self.seen.note_left(self.bytes.remaining() as u64);
    }
}

/// Makes answers as they go over the wire.
#[derive(Debug, Default)]
pub struct Encoder {
    answer: RefCell<Vec<u8>>,
    date: RefCell<Date>,
}

/// The text of the last second asked for.
#[derive(Debug, Default)]
struct Date {
    second: u64,
    text: String,
}

impl Encoder {
    /// An answer that has its status, and wants fields.
    fn begin(&self, status: StatusCode) -> RefMut<'_, Vec<u8>> {
        let mut answer = self.answer.borrow_mut();
        answer.clear();
        answer.extend_from_slice(b"HTTP/1.1 ");
        answer.extend_from_slice(status.as_str().as_bytes());
        answer.push(b' ');
        answer.extend_from_slice(status.canonical_reason().unwrap_or_default().as_bytes());
        answer
    }

    fn end(&self, answer: &mut Vec<u8>) {
        let now = SystemTime::now();
        let second = now.duration_since(UNIX_EPOCH).unwrap_or_default().as_secs();
        let mut date = self.date.borrow_mut();
        if date.text.is_empty() || date.second != second {
            *date = Date {
                second,
                text: httpdate::fmt_http_date(now),
            };
        }
        answer.put(DATE, Value::Text(&date.text));
        answer.extend_from_slice(b"\r\n\r\n");
    }
}
