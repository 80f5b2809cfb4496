//! Uploads in parts (S3 API: CreateMultipartUpload, UploadPart, CompleteMultipartUpload,
//! AbortMultipartUpload, ListMultipartUploads, ListParts). One request each.

use std::time::SystemTime;

use aws_sdk_s3::config::http::HttpResponse;
use aws_sdk_s3::error::{ProvideErrorMetadata, SdkError};
use aws_sdk_s3::types::{CompletedMultipartUpload, CompletedPart, MultipartUpload};

use super::super::super::ask::{StoreBody, StoreFacts};
use super::super::super::error::{OriginError, Wait};
use super::super::super::limit::Class;
use super::super::wait::{Progress, while_it_moves, within};
use super::super::{Leftover, PartTag, UploadId};
use super::answer::{Said, judge};
use super::{S3, acknowledged, unasked, upload};
use crate::object::ETag;

/// Pages of a list of uploads that are read at most, a thousand to a page. What is beyond is found
/// next time.
const MAX_PAGES: usize = 100;

impl S3 {
    /// Begins an upload. Its id is the bucket's.
    pub async fn create_upload(
        &self,
        key: &str,
        about: &StoreFacts,
    ) -> Result<UploadId, OriginError> {
        let request = self
            .documents
            .create_multipart_upload()
            .bucket(&self.bucket)
            .key(self.place(key))
            .set_content_type(about.content_type.clone())
            .set_content_encoding(about.content_encoding.clone());
        let after = self.deadlines.first_byte(Class::Nar);
        let answer = within(after, Wait::FirstByte, key, request.send()).await?;
        let output = answer.map_err(|error| self.failed(key, &error))?;
        self.bucket_is_there();
        let id = output.upload_id().filter(|id| !id.is_empty());
        id.map(|id| UploadId::S3(id.to_owned()))
            .ok_or_else(|| OriginError::Garbage {
                key: key.to_owned(),
                why: "an upload without an id".to_owned(),
            })
    }

    /// Sends part `number`, counted from 1. Sent again it replaces the earlier try.
    pub async fn put_part(
        &self,
        key: &str,
        id: &str,
        number: i32,
        body: &StoreBody,
    ) -> Result<PartTag, OriginError> {
        let progress = Progress::of(body.len());
        let request = self
            .nars
            .upload_part()
            .bucket(&self.bucket)
            .key(self.place(key))
            .upload_id(id)
            .part_number(number)
            .content_length(body.len().try_into().unwrap_or(i64::MAX))
            .body(upload::body(body, &progress));
        let answer = while_it_moves(self.deadlines, key, &progress, request.send()).await?;
        let output = answer.map_err(|error| upload::blame(&error, self.failed(key, &error)))?;
        self.bucket_is_there();
        let tag = output.e_tag().map(|tag| PartTag::S3(tag.to_owned()));
        tag.ok_or_else(|| OriginError::Garbage {
            key: key.to_owned(),
            why: "a part without an ETag".to_owned(),
        })
    }

    /// Makes the object of its parts, in their order. A server may answer 200 and say in the body
    /// that it failed (S3 API, CompleteMultipartUpload); the SDK finds no object in such a body.
    pub async fn complete_upload(
        &self,
        key: &str,
        id: &str,
        tags: &[PartTag],
    ) -> Result<Option<ETag>, OriginError> {
        let parts = (1..).zip(tags).map(|(number, tag)| {
            CompletedPart::builder()
                .part_number(number)
                .set_e_tag(tag.as_s3().map(str::to_owned))
                .build()
        });
        let parts = CompletedMultipartUpload::builder()
            .set_parts(Some(parts.collect()))
            .build();
        let request = self
            .nars
            .complete_multipart_upload()
            .bucket(&self.bucket)
            .key(self.place(key))
            .upload_id(id)
            .multipart_upload(parts);
        // The server copies nothing, but it may look at thousands of parts.
        let after = self.deadlines.acknowledgement();
        let answer = within(after, Wait::Acknowledgement, key, request.send()).await?;
        let output = answer.map_err(|error| self.failed(key, &error))?;
        self.bucket_is_there();
        acknowledged(key, output.e_tag())
    }

    /// Gives the upload and its parts up. One that is not known is given up already.
    pub async fn abort_upload(&self, key: &str, id: &str) -> Result<(), OriginError> {
        let request = self
            .documents
            .abort_multipart_upload()
            .bucket(&self.bucket)
            .key(self.place(key))
            .upload_id(id);
        let after = self.deadlines.first_byte(Class::Document);
        match within(after, Wait::FirstByte, key, request.send()).await? {
            Ok(_) => Ok(()),
            Err(error) => match self.failed(key, &error) {
                OriginError::NoUpload { .. } => Ok(()),
                cause => Err(cause),
            },
        }
    }

    /// Whether the upload has any part. One that is not known has none.
    pub async fn has_parts(&self, key: &str, id: &str) -> Result<bool, OriginError> {
        let request = self
            .documents
            .list_parts()
            .bucket(&self.bucket)
            .key(self.place(key))
            .upload_id(id)
            .max_parts(1);
        let after = self.deadlines.first_byte(Class::Document);
        match within(after, Wait::FirstByte, key, request.send()).await? {
            Ok(output) => Ok(!output.parts().is_empty()),
            Err(error) => match self.failed(key, &error) {
                OriginError::NoUpload { .. } => Ok(false),
                cause => Err(cause),
            },
        }
    }

    /// Uploads that were begun and neither completed nor aborted, of keys that begin with `below`.
    pub async fn open_uploads(&self, below: &str) -> Result<Vec<Leftover>, OriginError> {
        const WHAT: &str = "a list of uploads";
        let (mut found, mut key_marker, mut id_marker) = (Vec::new(), None, None);
        for _ in 0..MAX_PAGES {
            let request = self
                .documents
                .list_multipart_uploads()
                .bucket(&self.bucket)
                .prefix(self.place(below))
                .set_key_marker(key_marker.take())
                .set_upload_id_marker(id_marker.take());
            let after = self.deadlines.first_byte(Class::Nar);
            let answer = within(after, Wait::FirstByte, WHAT, request.send()).await?;
            let output = answer.map_err(|error| self.failed(WHAT, &error))?;
            found.extend(
                output
                    .uploads()
                    .iter()
                    .filter_map(|open| self.leftover(open)),
            );
            key_marker = output.next_key_marker().map(str::to_owned);
            id_marker = output.next_upload_id_marker().map(str::to_owned);
            if output.is_truncated() != Some(true) || key_marker.is_none() {
                break;
            }
        }
        Ok(found)
    }

    fn leftover(&self, open: &MultipartUpload) -> Option<Leftover> {
        Some(Leftover {
            key: open.key()?.strip_prefix(&self.prefix)?.to_owned(),
            id: UploadId::S3(open.upload_id()?.to_owned()),
            begun: SystemTime::try_from(*open.initiated()?).ok()?,
        })
    }

    fn failed<E>(&self, key: &str, error: &SdkError<E, HttpResponse>) -> OriginError
    where
        E: std::error::Error + ProvideErrorMetadata + 'static,
    {
        match self.heard(judge(key, &self.bucket, error)) {
            Said::Failed(cause) => cause,
            Said::NotModified => unasked(key, 304),
            Said::NoSuchKey | Said::NotFound => unasked(key, 404),
        }
    }
}
