//! Prompt answers: what memory alone can say to a plain request, said by the connection itself.
//!
//! A worker spends more on actix's decoding, dispatching and encoding than on all we do for a hit in
//! memory (`docs/benchmarks.md`). So a connection whose codec is idle first asks here. What comes
//! back is the answer that actix would have been given, made of the same parts, counted and logged the
//! same, and already encoded. Whatever is not plain, not in memory, or not for everybody, is left to
//! actix.

use std::cell::{RefCell, RefMut};
use std::net::IpAddr;
use std::time::{SystemTime, UNIX_EPOCH};

use actix_web::http::header::{CONTENT_LENGTH, DATE};
use actix_web::http::{Method, StatusCode};

use crate::gateway::document::{Remembered, kind_of};
use crate::nix::key::Key;
use crate::object::Document;

use super::Desk;
use super::error::Refusal;
use super::plain::Plain;
use super::reply::{self, Fields, Sharing, Value};
use super::routes::{Route, route};

/// In bytes. A larger document is actix's, which would else take the connection for idle while its
/// client is still reading, and close it when `server.keep_alive` is short.
const LARGEST: usize = 32 * 1024;

impl Desk {
    /// The whole answer to a plain request, to be sent before anything else. `None`: it is for actix.
    pub fn prompt(&self, plain: &Plain<'_>, from: Option<IpAddr>) -> Option<RefMut<'_, Vec<u8>>> {
        let front = &self.front;
        // Where reads are not for everybody, and when this server leaves, there is more to say.
        if front.sharing != Sharing::Public || front.leaving.has_begun() {
            return None;
        }
        let routed = route(plain.path, None, &front.namespaces, true)?;
        let Route::Object(Key::Document(key)) = routed.route else {
            return None;
        };
        let remembered = front.gateway.remembered(&key)?;
        let status = judge(plain, &remembered)?;

        let mut seen = self.watch.begin(&Method::GET, plain.path, from);
        seen.kind = kind_of(&key);
        let how = front.gateway.count_remembered(&key, &remembered);
        let mut answer = self.encoder.begin(status);
        seen.describe(how, &mut *answer);
        let refused;
        let body: &[u8] = match &remembered {
            Remembered::Fresh(held) => {
                front.about(&key, held, false).describe(&mut *answer);
                &held.document.bytes
            }
            Remembered::Absent => {
                reply::describe_text(&mut *answer);
                refused = reply::line(&Refusal::Absent, seen.id.as_str());
                refused.as_bytes()
            }
        };
        let body = match status {
            StatusCode::NOT_MODIFIED => &[],
            _ => {
                answer.put(CONTENT_LENGTH, Value::Counted("", body.len() as u64));
                body
            }
        };
        self.encoder.end(&mut answer, body);
        seen.answered(status, body.len() as u64, how);
        Some(answer)
    }
}

/// The answer's status. `None`: an encoding, a condition or the length wants a closer look.
fn judge(plain: &Plain<'_>, remembered: &Remembered) -> Option<StatusCode> {
    match (plain.if_none_match, remembered) {
        (_, Remembered::Fresh(held)) if !is_simple(&held.document) => None,
        (None, Remembered::Fresh(_)) => Some(StatusCode::OK),
        (None, Remembered::Absent) => Some(StatusCode::NOT_FOUND),
        (Some(tag), Remembered::Fresh(held)) => {
            (tag.as_bytes() == held.tag.shared()).then_some(StatusCode::NOT_MODIFIED)
        }
        (Some(_), Remembered::Absent) => None,
    }
}

fn is_simple(document: &Document) -> bool {
    document.content_encoding.is_none() && document.bytes.len() <= LARGEST
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

    fn end(&self, answer: &mut Vec<u8>, body: &[u8]) {
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
        answer.extend_from_slice(body);
    }
}
