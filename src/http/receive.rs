//! Uploads at the edge: decided by their head, then pumped into the gateway.
//!
//! A client that sends `Expect: 100-continue` is answered before its body (the `expect` hook calls
//! [`decide`]); one that does not is decided on by the same words, and what little it has sent
//! already is read and dropped, so that it gets to read the answer.

use std::sync::Arc;
use std::time::Duration;

use actix_web::HttpResponse;
use actix_web::http::StatusCode;
use actix_web::http::header::{
    CONTENT_ENCODING, CONTENT_LENGTH, CONTENT_TYPE, HeaderMap, HeaderName,
};
use actix_web::web::Payload;
use futures_util::StreamExt;

use crate::gateway::Gateway;
use crate::gateway::error::UploadError;
use crate::gateway::upload::{Admitted, UploadFacts, Uploaded};
use crate::nix::key::Key;

use super::error::Refusal;
use super::reply::text;

/// A refused body up to this size is read to its end; a longer one costs the connection.
const DRAINED: usize = 1 << 20;

/// How long a refused client may take to send it.
const DRAIN_PATIENCE: Duration = Duration::from_secs(5);

/// What the `expect` hook decided, handed on to the handler in the request's extensions.
#[derive(Debug, Clone)]
pub struct Decided {
    pub admitted: Admitted,
}

/// Decides on an upload by its head.
pub async fn decide(
    gateway: &Arc<Gateway>,
    key: &Key,
    headers: &HeaderMap,
) -> Result<Admitted, Refusal> {
    let len = text_of(headers, CONTENT_LENGTH).and_then(|value| value.parse().ok());
    let encoding = text_of(headers, CONTENT_ENCODING);
    let admitted = gateway.admit(key, len, encoding).await;
    admitted.map_err(Refusal::Upload)
}

/// Pumps the body into the gateway and waits until the object is durable and visible.
pub async fn take(
    gateway: &Arc<Gateway>,
    key: Key,
    len: u64,
    headers: &HeaderMap,
    mut payload: Payload,
) -> Result<Uploaded, UploadError> {
    let facts = UploadFacts {
        len,
        content_type: text_of(headers, CONTENT_TYPE).map(str::to_owned),
        content_encoding: text_of(headers, CONTENT_ENCODING).map(str::to_owned),
    };
    let upload = gateway.upload(key, facts);
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

/// The answer to an upload that was taken.
pub fn taken(uploaded: Uploaded) -> HttpResponse {
    let status = match uploaded {
        Uploaded::Created => StatusCode::CREATED,
        Uploaded::Existing => StatusCode::OK,
    };
    text(status, "text/plain; charset=utf-8", "no-store", "")
}
