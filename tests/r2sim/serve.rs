//! One request: entered in the log, carried over the line, spoilt or answered by S3.
//!
//! Faults stand round the S3 service and not inside it, so that any of them can be played byte for
//! byte, whatever the action.

use std::sync::Arc;

use bytes::Bytes;
use hyper::body::{Body, Incoming};
use hyper::header::{CONTENT_LENGTH, CONTENT_RANGE, CONTENT_TYPE, ETAG, HeaderName, HeaderValue};
use hyper::{Method, Request, Response, StatusCode};
use s3s::service::S3Service;

use super::bodies::{self, Outgoing, Script, Stop, Way};
use super::conn::Wire;
use super::faults::{Fault, Faults, Play};
use super::line::{Line, Pace};
use super::log::Log;
use super::misread::{Misrange, Misread};
use super::operation::Asked;
use super::store::Store;

/// What all connections share.
pub struct Shared {
    pub s3: Arc<S3Service>,
    pub store: Arc<Store>,
    pub faults: Arc<Faults>,
    pub log: Arc<Log>,
    pub line: Arc<Line>,
}

/// There is no answer; hyper closes the connection.
#[derive(Debug, thiserror::Error)]
#[error("the connection is broken off without an answer")]
pub struct Broken;

/// What the requests of one connection share.
#[derive(Clone)]
pub struct Service {
    pub shared: Arc<Shared>,
    pub wire: Arc<Wire>,
    pub pace: Arc<Pace>,
}

impl Service {
    pub async fn answer(self, request: Request<Incoming>) -> Result<Response<Outgoing>, Broken> {
        let asked = Asked::of(&request);
        let way = Way {
            line: self.shared.line.clone(),
            pace: self.pace.clone(),
            wire: self.wire.clone(),
            record: self.shared.log.begin(asked.clone()),
        };
        let present = || self.shared.store.meta(&asked.key).is_some();
        let play = self.shared.faults.catch(&asked, present);
        way.line.round_trip().await;

        let request = request.map(|body| bodies::incoming(body, way.clone()));
        let response = self.respond(request, &play).await?;
        for fault in &play.faults {
            match fault {
                Fault::DelayFirstByte(delay) => tokio::time::sleep(*delay).await,
                Fault::HoldFirstByte => play.gate.opened().await,
                _ => (),
            }
        }
        way.record.status(response.status().as_u16());
        Ok(spoil(response, &asked.method, &play, way))
    }

    /// The answer before its bytes are touched.
    async fn respond(
        &self,
        request: Request<Outgoing>,
        play: &Play,
    ) -> Result<Response<Outgoing>, Broken> {
        let mut misread = Misread::default();
        for fault in &play.faults {
            match fault {
                Fault::Silence => {
                    play.gate.opened().await;
                    return Err(Broken);
                }
                Fault::Reset => {
                    self.wire.reset();
                    return Err(Broken);
                }
                Fault::Status(status, code) => {
                    bodies::drain(request.into_body()).await;
                    return Ok(error(*status, code));
                }
                Fault::OkWithErrorBody(code) => {
                    bodies::drain(request.into_body()).await;
                    return Ok(error(200, code));
                }
                Fault::Html200 => {
                    bodies::drain(request.into_body()).await;
                    return Ok(web_page());
                }
                Fault::WrongObject(key) => misread.key = Some(key.clone()),
                Fault::IgnoreRange => misread.range = Misrange::Ignored,
                Fault::ShiftRange { by, admitted } => {
                    misread.range = Misrange::Shifted {
                        by: *by,
                        admitted: *admitted,
                    };
                }
                _ => (),
            }
        }

        let response = self.carry_out(request, misread).await?;
        for fault in &play.faults {
            match fault {
                Fault::ApplyThenStatus(status, code) => return Ok(error(*status, code)),
                Fault::ApplyThenReset => {
                    self.wire.reset();
                    return Err(Broken);
                }
                _ => (),
            }
        }
        Ok(response)
    }

    async fn carry_out(
        &self,
        mut request: Request<Outgoing>,
        misread: Misread,
    ) -> Result<Response<Outgoing>, Broken> {
        request.extensions_mut().insert(misread);
        let request = request.map(s3s::Body::http_body_unsync);
        match self.shared.s3.call(request).await {
            Ok(response) => Ok(response.map(boxed)),
            Err(error) => {
                tracing::error!(?error, "an answer could not be written");
                Err(Broken)
            }
        }
    }
}

/// Applies what is to go wrong with an answer that is otherwise ready.
fn spoil(
    response: Response<Outgoing>,
    method: &Method,
    play: &Play,
    way: Way,
) -> Response<Outgoing> {
    let (mut head, body) = response.into_parts();
    if let Some(len) = body.size_hint().exact() {
        let len = HeaderValue::from(len);
        head.headers.entry(CONTENT_LENGTH).or_insert(len);
    }
    let mut script = Script::default();
    for fault in &play.faults {
        match fault {
            Fault::HoldAfter(at) => script.stop = Some((*at, Stop::Hold(play.gate.clone()))),
            Fault::StallAfter(at) => script.stop = Some((*at, Stop::Stall(play.gate.clone()))),
            Fault::CutAfter(at) => script.stop = Some((*at, Stop::Cut)),
            Fault::TruncateAfter(at) => {
                script.truncate = Some(*at);
                head.headers.insert(CONTENT_LENGTH, HeaderValue::from(*at));
            }
            Fault::Extend(surplus) => script.surplus = Some(Bytes::from_static(surplus)),
            Fault::Chunked => drop(head.headers.remove(CONTENT_LENGTH)),
            Fault::Flip { offset } => {
                script.flip = offset.checked_sub(first_byte(head.headers.get(CONTENT_RANGE)));
            }
            Fault::Etag(Some(etag)) => {
                head.headers.insert(ETAG, HeaderValue::from_static(etag));
            }
            Fault::Etag(None) => drop(head.headers.remove(ETAG)),
            Fault::Header(name, value) => {
                let value = HeaderValue::from_static(value);
                head.headers.insert(HeaderName::from_static(name), value);
            }
            _ => (),
        }
    }
    script.declared = head
        .headers
        .get(CONTENT_LENGTH)
        .and_then(|len| len.to_str().ok()?.parse().ok());
    let body = if *method == Method::HEAD || head.status == StatusCode::NOT_MODIFIED {
        way.record.whole();
        bodies::empty()
    } else {
        bodies::outgoing(body, script, way)
    };
    Response::from_parts(head, body)
}

/// Where in the object a body begins: `bytes 10-19/100` at 10, without the field at 0.
fn first_byte(content_range: Option<&HeaderValue>) -> u64 {
    content_range
        .and_then(|range| range.to_str().ok()?.strip_prefix("bytes "))
        .and_then(|range| range.split('-').next()?.parse().ok())
        .unwrap_or(0)
}

fn error(status: u16, code: &str) -> Response<Outgoing> {
    let xml = format!(
        "<?xml version=\"1.0\" encoding=\"UTF-8\"?>\n\
         <Error><Code>{code}</Code><Message>played by a rule</Message></Error>"
    );
    made_up(status, "application/xml", xml)
}

fn web_page() -> Response<Outgoing> {
    let page = "<!doctype html><title>Welcome</title><p>Please sign in to use this network.\n";
    made_up(200, "text/html; charset=utf-8", page.to_owned())
}

fn made_up(status: u16, content_type: &'static str, text: String) -> Response<Outgoing> {
    let len = text.len();
    let mut response = Response::new(bodies::text(text));
    *response.status_mut() = StatusCode::from_u16(status).expect("a rule names a real status");
    let headers = response.headers_mut();
    headers.insert(CONTENT_TYPE, HeaderValue::from_static(content_type));
    headers.insert(CONTENT_LENGTH, HeaderValue::from(len));
    response
}

fn boxed(body: s3s::Body) -> Outgoing {
    http_body_util::BodyExt::boxed_unsync(body)
}
