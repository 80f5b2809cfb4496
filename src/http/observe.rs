//! One line in the access log and one count in the metrics for each request, when it is over.
//!
//! A streamed body is over when actix drops it: sent whole, or given up because the client left.
//! So what is logged are bytes handed to the connection, not bytes promised.

use std::cell::Cell;
use std::net::IpAddr;
use std::pin::Pin;
use std::rc::Rc;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::{Duration, Instant};

use actix_http::Request;
use actix_web::HttpResponse;
use actix_web::body::{BodySize, BodyStream, BoxBody, MessageBody};
use actix_web::http::header::CONTENT_LENGTH;
use actix_web::http::{Method, StatusCode};
use bytes::Bytes;
use futures_util::stream::empty;

use crate::asker::RequestId;
use crate::gateway::served::How;
use crate::log::{Access, Entry};
use crate::metrics::labels::{self, Kind, Label, Source, Status};
use crate::metrics::{Metrics, Over};

use super::error::{self, Refusal};
use super::past::Past;
use super::reply::{CACHE_STATUS, Fields, REQUEST_ID, Reply, Value};

/// An answer whose head comes later is slow, is logged even where other requests are not, and has to
/// say what it waited for. Ten times what a bucket across an ocean takes.
const SLOW: Duration = Duration::from_secs(2);

/// Where one worker notes what became of its requests.
#[derive(Debug)]
pub struct Watch {
    metrics: Arc<Metrics>,
    log: Access,
    /// Its half of all ids, drawn by lot, so that they most likely differ from any other worker's.
    own: u32,
    next: Cell<u64>,
}

impl Watch {
    pub fn new(metrics: Arc<Metrics>, log: Access) -> Self {
        Self {
            metrics,
            log,
            own: getrandom::u32().unwrap_or_else(|_| std::process::id()),
            next: Cell::new(1),
        }
    }

    /// A request has come by actix, and is observed until what is returned is dropped.
    pub fn begin_of(self: &Rc<Self>, request: &Request) -> Observed {
        let target = request.uri().path_and_query();
        let target = target.map_or("*", |target| target.as_str());
        let from = request.peer_addr().map(|from| from.ip());
        self.begin(request.method(), target, from)
    }

    /// A request has come, and is observed until what is returned is dropped.
    pub fn begin(self: &Rc<Self>, method: &Method, target: &str, from: Option<IpAddr>) -> Observed {
        self.metrics.request_began();
        let count = self.next.get();
        self.next.set(count + 1);
        Observed {
            watch: Rc::clone(self),
            started: Instant::now(),
            id: RequestId::new(self.own, count),
            client: from,
            method: method.clone(),
            target: target.get(..error::MAX_TARGET).unwrap_or(target).to_owned(),
            kind: Kind::Other,
            answered: None,
            sent: 0,
            past: None,
            ended: false,
            withdrawn: false,
            why: None,
        }
    }
}

/// A request being answered. Dropped, it is over: counted, and logged where that is wanted.
#[derive(Debug)]
pub struct Observed {
    watch: Rc<Watch>,
    started: Instant,
    pub id: RequestId,
    client: Option<IpAddr>,
    method: Method,
    target: String,
    pub kind: Kind,
    /// `None` while there is no answer; a client that left before has none ever.
    answered: Option<Answer>,
    sent: u64,
    /// Of a body that goes past the codec, which counts for itself.
    past: Option<Past>,
    /// The body came to its end.
    ended: bool,
    withdrawn: bool,
    /// Why it was refused, where a 404 does not say it all.
    why: Option<String>,
}

#[derive(Debug)]
struct Answer {
    first_byte: Duration,
    status: u16,
    /// Bytes of the body; `None`: only its end will tell.
    promised: Option<u64>,
    how: &'static str,
    /// What takes the time when an answer of this sort is slow.
    waited_for: &'static str,
    source: Source,
}

impl Observed {
    /// The request is answered elsewhere, and observed there.
    pub fn withdraw(mut self) {
        self.withdrawn = true;
    }

    /// Keeps the reason of a refusal for the log.
    pub fn refused(&mut self, refusal: &Refusal) {
        self.why = match refusal {
            Refusal::Absent => None,
            Refusal::Unknown(cause) => Some(cause.to_string()),
            other => Some(other.to_string()),
        };
    }

    /// What every answer carries.
    pub fn describe(&self, how: How, fields: &mut impl Fields) {
        fields.put(REQUEST_ID, Value::Text(self.id.as_str()));
        if let Some(status) = how.cache_status() {
            fields.put(CACHE_STATUS, Value::Static(status));
        }
    }

    /// An answer of known length is made, and goes out as a whole unless something is [left of
    /// it](Observed::note_left).
    pub fn answered(&mut self, status: StatusCode, len: u64, how: How) {
        self.note(status, Some(len), how, how.document_source());
        self.sent = len;
    }

    /// So many bytes at the end of that answer were not sent.
    pub fn note_left(&mut self, bytes: u64) {
        self.sent = self.sent.saturating_sub(bytes);
    }

    /// The answer's head is made. `promised`: see [`Answer`].
    fn note(&mut self, status: StatusCode, promised: Option<u64>, how: How, source: Source) {
        let first_byte = self.started.elapsed();
        let metrics = &self.watch.metrics;
        metrics.request_answered(self.kind, source, first_byte);
        self.answered = Some(Answer {
            first_byte,
            status: status.as_u16(),
            promised,
            how: how.as_str(),
            waited_for: how.waited_for(),
            source,
        });
    }

    /// Takes over the answer: adds what every answer carries and sees it to its end.
    pub fn answer(mut self, reply: Reply) -> HttpResponse<Watched> {
        let Reply {
            mut response,
            how,
            source,
            past,
        } = reply;
        self.past = past;
        self.describe(how, response.headers_mut());
        let is_head = self.method == Method::HEAD;
        let promised = match response.body().size() {
            BodySize::Sized(len) if !is_head => Some(len),
            BodySize::Stream if !is_head => None,
            BodySize::Sized(_) | BodySize::Stream | BodySize::None => Some(0),
        };
        let status = response.status();
        self.note(status, promised, how, source);
        response.map_body(|head, body| {
            let body = match body.size() {
                // A 304 has neither a body nor, for want of one, a length.
                BodySize::Sized(len) if is_head && status != StatusCode::NOT_MODIFIED => {
                    // The codec judges by the newest request it has read whether this one was a
                    // HEAD, so its own way of leaving the body out holds only without pipelining.
                    head.headers_mut().insert(CONTENT_LENGTH, len.into());
                    head.no_chunking(true);
                    nothing()
                }
                BodySize::Stream if is_head => nothing(),
                _ => body,
            };
            Watched { body, seen: self }
        })
    }
}

impl Drop for Observed {
    fn drop(&mut self) {
        let total = self.started.elapsed();
        let left = Answer {
            first_byte: total,
            status: 0,
            promised: Some(0),
            how: "left",
            waited_for: "an answer, until the client left",
            source: Source::None,
        };
        let answer = self.answered.take().unwrap_or(left);
        let sent = self.past.as_ref().map_or(self.sent, Past::sent);
        if self.withdrawn {
            self.watch.metrics.request_withdrawn();
            return;
        }
        self.watch.metrics.request_over(&Over {
            kind: self.kind,
            method: method_label(&self.method),
            status: Status::of(answer.status),
            source: answer.source,
            sent,
            total,
        });
        self.watch.log.write(&Entry {
            id: self.id.as_str(),
            client: self.client,
            method: self.method.as_str(),
            path: &self.target,
            kind: self.kind.as_str(),
            status: answer.status,
            bytes: sent,
            whole: answer.promised.map_or(self.ended, |len| sent == len),
            first_byte: answer.first_byte,
            total,
            how: answer.how,
            why: self.why.as_deref(),
            slow: (answer.first_byte >= SLOW).then_some(answer.waited_for),
        });
    }
}

fn method_label(method: &Method) -> labels::Method {
    match *method {
        Method::GET => labels::Method::Get,
        Method::HEAD => labels::Method::Head,
        Method::PUT => labels::Method::Put,
        Method::DELETE => labels::Method::Delete,
        _ => labels::Method::Other,
    }
}

/// The body of a HEAD's answer.
fn nothing() -> BoxBody {
    BodyStream::new(empty::<Result<Bytes, std::io::Error>>()).boxed()
}

pin_project_lite::pin_project! {
    /// A body whose bytes are counted on their way.
    pub struct Watched {
        #[pin]
        body: BoxBody,
        seen: Observed,
    }
}

impl MessageBody for Watched {
    type Error = Box<dyn std::error::Error>;

    fn size(&self) -> BodySize {
        self.body.size()
    }

    fn poll_next(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Bytes, Self::Error>>> {
        let this = self.project();
        let polled = this.body.poll_next(cx);
        match &polled {
            Poll::Ready(Some(Ok(chunk))) => this.seen.sent += chunk.len() as u64,
            Poll::Ready(None) => this.seen.ended = true,
            Poll::Ready(Some(Err(_))) | Poll::Pending => {}
        }
        polled
    }
}
