//! What a request asks for, read from its first line alone.
//!
//! s3s knows too, but only inside; faults and the log stand outside it and must have the answer
//! before the first byte of a body is read.
//! Source: the request syntax of each action in the Amazon S3 API reference.

use hyper::header::{HeaderMap, RANGE};
use hyper::{Method, Request};

/// An S3 action. `Other` is whatever this server does not offer.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Operation {
    GetObject,
    HeadObject,
    PutObject,
    DeleteObject,
    DeleteObjects,
    ListObjectsV2,
    HeadBucket,
    ListBuckets,
    CreateMultipartUpload,
    UploadPart,
    CompleteMultipartUpload,
    AbortMultipartUpload,
    ListParts,
    ListMultipartUploads,
    Other,
}

/// The part of a request by which rules choose and which the log keeps.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Asked {
    pub method: Method,
    pub operation: Operation,
    /// Decoded; empty when the request is about the bucket or the account.
    pub key: String,
    /// The `Range` field as it came.
    pub range: Option<String>,
}

impl Asked {
    pub fn of<B>(request: &Request<B>) -> Self {
        let path = unescape(request.uri().path().trim_start_matches('/'));
        let (bucket, key) = path.split_once('/').unwrap_or((&path, ""));
        let operation = classify(
            request.method(),
            !bucket.is_empty(),
            !key.is_empty(),
            request.uri().query().unwrap_or(""),
            request.headers(),
        );
        Self {
            method: request.method().clone(),
            operation,
            key: key.to_owned(),
            range: request
                .headers()
                .get(RANGE)
                .map(|value| String::from_utf8_lossy(value.as_bytes()).into_owned()),
        }
    }
}

fn classify(
    method: &Method,
    bucket: bool,
    object: bool,
    query: &str,
    headers: &HeaderMap,
) -> Operation {
    use Operation::*;
    let has = |name: &str| {
        query
            .split('&')
            .any(|pair| pair.split('=').next() == Some(name))
    };
    match (method.as_str(), bucket, object) {
        ("GET", false, _) => ListBuckets,
        ("GET", _, false) if has("uploads") => ListMultipartUploads,
        ("GET", _, false) if has("list-type") => ListObjectsV2,
        ("HEAD", true, false) => HeadBucket,
        ("POST", true, false) if has("delete") => DeleteObjects,
        ("GET", _, true) if has("uploadId") => ListParts,
        ("GET", _, true) => GetObject,
        ("HEAD", _, true) => HeadObject,
        ("PUT", _, true) if headers.contains_key("x-amz-copy-source") => Other,
        ("PUT", _, true) if has("uploadId") => UploadPart,
        ("PUT", _, true) => PutObject,
        ("POST", _, true) if has("uploads") => CreateMultipartUpload,
        ("POST", _, true) if has("uploadId") => CompleteMultipartUpload,
        ("DELETE", _, true) if has("uploadId") => AbortMultipartUpload,
        ("DELETE", _, true) => DeleteObject,
        _ => Other,
    }
}

/// Undoes `%XX`; anything that is no such escape stays as it is.
fn unescape(path: &str) -> String {
    let bytes = path.as_bytes();
    let mut plain = Vec::with_capacity(bytes.len());
    let mut at = 0;
    while at < bytes.len() {
        let escaped = (bytes[at] == b'%')
            .then(|| path.get(at + 1..at + 3))
            .flatten()
            .and_then(|digits| u8::from_str_radix(digits, 16).ok());
        plain.push(escaped.unwrap_or(bytes[at]));
        at += if escaped.is_some() { 3 } else { 1 };
    }
    String::from_utf8_lossy(&plain).into_owned()
}
