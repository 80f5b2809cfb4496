//! Uploads at the edge: decided by their head, then pumped into the gateway.
//!
//! A client that sends `Expect: 100-continue` is answered before its body (the `expect` hook calls
//! [`decide`]); one that does not is decided on by the same words, and what little it has sent
//! already is read and dropped, so that it gets to read the answer.

use std::sync::Arc;
use std::time::Duration;

use actix_http::Payload;
use actix_web::HttpResponse;
use actix_web::http::StatusCode;
use actix_web::http::header::{
    ACCEPT_RANGES, CONTENT_ENCODING, CONTENT_LENGTH, CONTENT_TYPE, HeaderMap, HeaderName,
    HeaderValue,
};
use futures_util::StreamExt;

use crate::gateway::Gateway;
use crate::gateway::error::UploadError;
use crate::gateway::upload::{Admitted, Leave, UploadHead, Uploaded};
use crate::metrics::labels::Kind;
use crate::nix::key::Key;

use super::client::Client;
use super::error::Refusal;
use super::reply::{TEXT, text};

/// A refused body up to this size is read to its end; a longer one costs the connection.
const DRAINED: usize = 1 << 20;

/// How long a refused client may take to send it.
const DRAIN_PATIENCE: Duration = Duration::from_secs(5);

/// What the `expect` hook granted, handed on to the handler in the request's extensions.
#[derive(Debug)]
pub struct Decided {
    pub leave: Box<Leave>,
}

/// Decides on an upload by its head. `waits`: its body is sent only after that.
pub async fn decide(
    gateway: &Arc<Gateway>,
    key: &Key,
    headers: &HeaderMap,
    waits: bool,
    by: Arc<str>,
) -> Result<Admitted, Refusal> {
    let head = UploadHead {
        len: text_of(headers, CONTENT_LENGTH).and_then(|value| value.parse().ok()),
        content_type: text_of(headers, CONTENT_TYPE).map(str::to_owned),
        content_encoding: text_of(headers, CONTENT_ENCODING).map(str::to_owned),
        rewinds: Client::of(headers).rewinds(),
        waits,
        by,
    };
    gateway.admit(key, head).await.map_err(Refusal::Upload)
}

/// Pumps the body into the gateway and waits until the object is durable and visible.
pub async fn take(
    gateway: &Arc<Gateway>,
    leave: Leave,
    mut payload: Payload,
) -> Result<Uploaded, UploadError> {
    let upload = gateway.upload(leave);
    loop {
        let next = tokio::select! {
            next = payload.next() => next,
            () = upload.ended() => return upload.abandon().await,
        };
        match next {
            Some(Ok(chunk)) => {
                if !upload.send(chunk).await {
                    return upload.abandon().await;
                }
            }
            Some(Err(_)) => return upload.abandon().await,
            None => return upload.finish().await,
        }
    }
}

fn text_of(headers: &HeaderMap, name: HeaderName) -> Option<&str> {
    headers.get(name)?.to_str().ok()
}

/// Reads and drops what a refused client is sending, if that is little.
pub async fn drain(mut payload: Payload) {
    let reading = async {
        let mut left = DRAINED;
        while let Some(Ok(chunk)) = payload.next().await {
            match left.checked_sub(chunk.len()) {
                Some(rest) => left = rest,
                None => break,
            }
        }
    };
    // Either way the answer is sent next; the deadline only bounds how long it waits.
    let _ = tokio::time::timeout(DRAIN_PATIENCE, reading).await;
}

/// The answer to an upload that was taken. Of a NAR it promises ranges, as whatever is said of one does
/// (`design.md` §3).
pub fn taken(uploaded: Uploaded, kind: Kind) -> HttpResponse {
    let status = match uploaded {
        Uploaded::Created => StatusCode::CREATED,
        Uploaded::Existing => StatusCode::OK,
    };
    let mut response = text(status, TEXT, "");
    if kind == Kind::Nar {
        let ranges = HeaderValue::from_static("bytes");
        response.headers_mut().insert(ACCEPT_RANGES, ranges);
    }
    response
}
