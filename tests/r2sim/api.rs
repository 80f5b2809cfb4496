//! The S3 actions, over the store; those of uploads in parts are `multipart.rs`'s. Signatures, the
//! bucket's name and headers that R2 does not know were dealt with before (`rules.rs`).

use std::sync::Arc;
use std::time::Instant;

use data_encoding::BASE64;
use futures_util::{StreamExt, TryStreamExt, stream};
use s3s::dto::*;
use s3s::{S3, S3Error, S3Request, S3Response, S3Result, s3_error};
use tokio::io::AsyncReadExt;
use tokio_util::io::ReaderStream;

use super::conditions::{ReadConditions, check_write};
use super::listing;
use super::misread::{Misread, slice};
use super::rules::{WriteLimit, no_such_key};
use super::store::{Attributes, ObjectMeta, Spooled, Store};
use super::uploads::Uploads;

/// The most keys one page of a listing has.
pub const PAGE: usize = 1000;

/// Bytes of a body read at once.
const CHUNK: usize = 128 * 1024;

pub struct Api {
    pub bucket: String,
    pub store: Arc<Store>,
    pub uploads: Arc<Uploads>,
    pub limit: WriteLimit,
}

type Answer<T> = S3Result<S3Response<T>>;

#[async_trait::async_trait]
impl S3 for Api {
    async fn get_object(&self, req: S3Request<GetObjectInput>) -> Answer<GetObjectOutput> {
        let misread = req.extensions.get::<Misread>().cloned().unwrap_or_default();
        let input = req.input;
        let key = misread.key.unwrap_or(input.key);
        let (body, meta) = self.store.open(&key).ok_or_else(no_such_key)?;
        let conditions = ReadConditions {
            if_match: input.if_match,
            if_none_match: input.if_none_match,
            if_modified_since: input.if_modified_since,
            if_unmodified_since: input.if_unmodified_since,
        };
        conditions.check(&meta)?;

        let slice = slice(input.range, misread.range, meta.len)?;
        let files = stream::iter(body.read(slice.start, slice.len));
        let body = files
            .map_ok(|piece| {
                let len = piece.limit();
                let file = tokio::fs::File::from_std(piece.into_inner());
                ReaderStream::with_capacity(file.take(len), CHUNK)
            })
            .try_flatten();
        let body = StreamingBlob::wrap(body);
        Ok(S3Response::new(GetObjectOutput {
            body: Some(body),
            accept_ranges: Some("bytes".to_owned()),
            content_length: Some(signed(slice.len)),
            content_range: slice.content_range,
            content_type: Some(content_type(&meta)),
            content_encoding: meta.attributes.content_encoding,
            cache_control: meta.attributes.cache_control,
            metadata: Some(meta.attributes.metadata),
            e_tag: Some(ETag::Strong(meta.etag)),
            last_modified: Some(meta.last_modified.into()),
            ..Default::default()
        }))
    }

    async fn head_object(&self, req: S3Request<HeadObjectInput>) -> Answer<HeadObjectOutput> {
        let input = req.input;
        let meta = self.store.meta(&input.key).ok_or_else(no_such_key)?;
        let conditions = ReadConditions {
            if_match: input.if_match,
            if_none_match: input.if_none_match,
            if_modified_since: input.if_modified_since,
            if_unmodified_since: input.if_unmodified_since,
        };
        conditions.check(&meta)?;
        Ok(S3Response::new(HeadObjectOutput {
            accept_ranges: Some("bytes".to_owned()),
            content_length: Some(signed(meta.len)),
            content_type: Some(content_type(&meta)),
            content_encoding: meta.attributes.content_encoding,
            cache_control: meta.attributes.cache_control,
            metadata: Some(meta.attributes.metadata),
            e_tag: Some(ETag::Strong(meta.etag)),
            last_modified: Some(meta.last_modified.into()),
            ..Default::default()
        }))
    }

    async fn put_object(&self, req: S3Request<PutObjectInput>) -> Answer<PutObjectOutput> {
        let input = req.input;
        self.limit.admit(&input.key, Instant::now())?;
        let body = self
            .receive(input.body, input.content_length, input.content_md5)
            .await?;
        let attributes = Attributes {
            content_type: input.content_type,
            content_encoding: input.content_encoding,
            cache_control: input.cache_control,
            metadata: input.metadata.unwrap_or_default(),
        };
        let (wanted, unwanted) = (input.if_match, input.if_none_match);
        let allows = |present: Option<&ObjectMeta>| check_write(&wanted, &unwanted, present);
        let meta = self.store.put(&input.key, body, attributes, allows)?;
        Ok(S3Response::new(PutObjectOutput {
            e_tag: Some(ETag::Strong(meta.etag)),
            ..Default::default()
        }))
    }

    /// Deleting what is not there succeeds, as everywhere in S3.
    async fn delete_object(&self, req: S3Request<DeleteObjectInput>) -> Answer<DeleteObjectOutput> {
        self.store.remove(&req.input.key).map_err(io)?;
        Ok(S3Response::new(DeleteObjectOutput::default()))
    }

    async fn delete_objects(
        &self,
        req: S3Request<DeleteObjectsInput>,
    ) -> Answer<DeleteObjectsOutput> {
        let mut deleted = Vec::new();
        for object in req.input.delete.objects {
            self.store.remove(&object.key).map_err(io)?;
            deleted.push(DeletedObject {
                key: Some(object.key),
                ..Default::default()
            });
        }
        let quiet = req.input.delete.quiet == Some(true);
        Ok(S3Response::new(DeleteObjectsOutput {
            deleted: (!quiet).then_some(deleted),
            ..Default::default()
        }))
    }

    async fn list_objects_v2(
        &self,
        req: S3Request<ListObjectsV2Input>,
    ) -> Answer<ListObjectsV2Output> {
        let input = req.input;
        let prefix = input.prefix.clone().unwrap_or_default();
        let after = input
            .continuation_token
            .as_ref()
            .or(input.start_after.as_ref());
        let after = after.cloned().unwrap_or_default();
        let most = input
            .max_keys
            .and_then(|most| usize::try_from(most).ok())
            .map_or(PAGE, |most| most.min(PAGE));

        let all = self.store.list(&prefix, &after);
        let page = listing::page(all, &prefix, input.delimiter.as_deref(), most);
        let count = page.objects.len() + page.folders.len();
        Ok(S3Response::new(ListObjectsV2Output {
            name: Some(input.bucket),
            prefix: input.prefix,
            delimiter: input.delimiter,
            start_after: input.start_after,
            max_keys: i32::try_from(most).ok(),
            key_count: i32::try_from(count).ok(),
            continuation_token: input.continuation_token,
            is_truncated: Some(page.next.is_some()),
            next_continuation_token: page.next,
            contents: Some(page.objects.into_iter().map(listed).collect()),
            common_prefixes: Some(page.folders.into_iter().map(common_prefix).collect()),
            ..Default::default()
        }))
    }

    async fn head_bucket(&self, _: S3Request<HeadBucketInput>) -> Answer<HeadBucketOutput> {
        Ok(S3Response::new(HeadBucketOutput::default()))
    }

    async fn list_buckets(&self, _: S3Request<ListBucketsInput>) -> Answer<ListBucketsOutput> {
        let bucket = Bucket {
            name: Some(self.bucket.clone()),
            ..Default::default()
        };
        Ok(S3Response::new(ListBucketsOutput {
            buckets: Some(vec![bucket]),
            ..Default::default()
        }))
    }

    async fn create_multipart_upload(
        &self,
        req: S3Request<CreateMultipartUploadInput>,
    ) -> Answer<CreateMultipartUploadOutput> {
        Ok(S3Response::new(self.begin(req.input)))
    }

    async fn upload_part(&self, req: S3Request<UploadPartInput>) -> Answer<UploadPartOutput> {
        self.take_part(req.input).await.map(S3Response::new)
    }

    async fn complete_multipart_upload(
        &self,
        req: S3Request<CompleteMultipartUploadInput>,
    ) -> Answer<CompleteMultipartUploadOutput> {
        self.complete(req.input).map(S3Response::new)
    }

    async fn abort_multipart_upload(
        &self,
        req: S3Request<AbortMultipartUploadInput>,
    ) -> Answer<AbortMultipartUploadOutput> {
        self.abort(req.input).map(S3Response::new)
    }

    async fn list_parts(&self, req: S3Request<ListPartsInput>) -> Answer<ListPartsOutput> {
        self.parts(req.input).map(S3Response::new)
    }

    async fn list_multipart_uploads(
        &self,
        req: S3Request<ListMultipartUploadsInput>,
    ) -> Answer<ListMultipartUploadsOutput> {
        Ok(S3Response::new(self.open_uploads(req.input)))
    }
}

impl Api {
    /// Takes a body in, and only whole: of the length that was declared, with the md5 if one was.
    pub async fn receive(
        &self,
        body: Option<StreamingBlob>,
        declared: Option<i64>,
        md5: Option<String>,
    ) -> S3Result<Spooled> {
        let mut spool = self.store.spool().map_err(io)?;
        if let Some(mut body) = body {
            while let Some(chunk) = body.next().await {
                let chunk = chunk.map_err(|broken| s3_error!(IncompleteBody, "{broken}"))?;
                spool.write(&chunk).map_err(io)?;
            }
        }
        let body = spool.finish();
        if declared != Some(signed(body.len)) {
            return Err(s3_error!(
                IncompleteBody,
                "The body is not as long as its Content-Length says."
            ));
        }
        if md5.is_some_and(|md5| md5 != BASE64.encode(&body.md5)) {
            return Err(s3_error!(
                BadDigest,
                "The Content-MD5 you specified did not match what we received."
            ));
        }
        Ok(body)
    }
}

fn listed((key, meta): (String, ObjectMeta)) -> Object {
    Object {
        key: Some(key),
        size: Some(signed(meta.len)),
        e_tag: Some(ETag::Strong(meta.etag)),
        last_modified: Some(meta.last_modified.into()),
        ..Default::default()
    }
}

fn common_prefix(folder: String) -> CommonPrefix {
    CommonPrefix {
        prefix: Some(folder),
    }
}

fn content_type(meta: &ObjectMeta) -> String {
    meta.attributes
        .content_type
        .clone()
        .unwrap_or_else(|| "application/octet-stream".to_owned())
}

/// S3's types count in `i64`; no file is that long.
pub fn signed(len: u64) -> i64 {
    i64::try_from(len).unwrap_or(i64::MAX)
}

fn io(error: std::io::Error) -> S3Error {
    S3Error::internal_error(error)
}
