//! The S3 actions of uploads in parts; what makes an object of them is R2's to say (`uploads.rs`).

use std::time::Instant;

use s3s::dto::*;
use s3s::{S3Result, s3_error};

use super::api::{Api, PAGE, signed};
use super::conditions::check_write;
use super::rules::Refused;
use super::store::{Attributes, ObjectMeta};

impl Api {
    pub fn begin(&self, input: CreateMultipartUploadInput) -> CreateMultipartUploadOutput {
        let attributes = Attributes {
            content_type: input.content_type,
            content_encoding: input.content_encoding,
            cache_control: input.cache_control,
            metadata: input.metadata.unwrap_or_default(),
        };
        let id = self.uploads.create(&input.key, attributes);
        CreateMultipartUploadOutput {
            bucket: Some(input.bucket),
            key: Some(input.key),
            upload_id: Some(id),
            ..Default::default()
        }
    }

    pub async fn take_part(&self, input: UploadPartInput) -> S3Result<UploadPartOutput> {
        if !(1..=10_000).contains(&input.part_number) {
            return Err(s3_error!(
                InvalidArgument,
                "Part number must be between 1 and 10000."
            ));
        }
        self.uploads
            .check(&input.key, &input.upload_id)
            .map_err(Refused::from)?;
        let part = self
            .receive(input.body, input.content_length, input.content_md5)
            .await?;
        let etag = part.etag.clone();
        self.uploads
            .put_part(&input.key, &input.upload_id, input.part_number, part)
            .map_err(Refused::from)?;
        Ok(UploadPartOutput {
            e_tag: Some(ETag::Strong(etag)),
            ..Default::default()
        })
    }

    pub fn complete(
        &self,
        input: CompleteMultipartUploadInput,
    ) -> S3Result<CompleteMultipartUploadOutput> {
        self.limit.admit(&input.key, Instant::now())?;
        let named = input.multipart_upload.and_then(|it| it.parts);
        let named: Vec<(i32, String)> = named
            .unwrap_or_default()
            .into_iter()
            .map(|part| {
                let etag = part.e_tag.map(ETag::into_value).unwrap_or_default();
                (part.part_number.unwrap_or(0), etag)
            })
            .collect();

        let (body, attributes) = self
            .uploads
            .assemble(&input.key, &input.upload_id, &named)
            .map_err(Refused::from)?;
        let (wanted, unwanted) = (input.if_match, input.if_none_match);
        let allows = |present: Option<&ObjectMeta>| check_write(&wanted, &unwanted, present);
        let meta = self.store.put(&input.key, body, attributes, allows)?;
        self.uploads
            .close(&input.key, &input.upload_id)
            .map_err(Refused::from)?;
        Ok(CompleteMultipartUploadOutput {
            bucket: Some(input.bucket),
            key: Some(input.key),
            e_tag: Some(ETag::Strong(meta.etag)),
            ..Default::default()
        })
    }

    pub fn abort(&self, input: AbortMultipartUploadInput) -> S3Result<AbortMultipartUploadOutput> {
        self.uploads
            .close(&input.key, &input.upload_id)
            .map_err(Refused::from)?;
        Ok(AbortMultipartUploadOutput::default())
    }

    pub fn parts(&self, input: ListPartsInput) -> S3Result<ListPartsOutput> {
        let parts = self
            .uploads
            .parts(&input.key, &input.upload_id)
            .map_err(Refused::from)?;
        let after = input.part_number_marker.unwrap_or(0);
        let most = input
            .max_parts
            .and_then(|most| usize::try_from(most).ok())
            .map_or(PAGE, |most| most.min(PAGE));
        let mut later = parts.into_iter().filter(|(number, _)| *number > after);
        let page: Vec<Part> = later
            .by_ref()
            .take(most)
            .map(|(number, part)| Part {
                part_number: Some(number),
                size: Some(signed(part.len)),
                e_tag: Some(ETag::Strong(part.etag.clone())),
                ..Default::default()
            })
            .collect();
        Ok(ListPartsOutput {
            bucket: Some(input.bucket),
            key: Some(input.key),
            upload_id: Some(input.upload_id),
            is_truncated: Some(later.next().is_some()),
            next_part_number_marker: page.last().and_then(|part| part.part_number),
            parts: Some(page),
            ..Default::default()
        })
    }

    pub fn open_uploads(&self, input: ListMultipartUploadsInput) -> ListMultipartUploadsOutput {
        let prefix = input.prefix.clone().unwrap_or_default();
        let uploads = self.uploads.open();
        let uploads = uploads
            .into_iter()
            .filter(|upload| upload.key.starts_with(&prefix))
            .map(|upload| MultipartUpload {
                key: Some(upload.key),
                upload_id: Some(upload.id),
                initiated: Some(upload.initiated.into()),
                ..Default::default()
            })
            .collect();
        ListMultipartUploadsOutput {
            bucket: Some(input.bucket),
            prefix: input.prefix,
            is_truncated: Some(false),
            uploads: Some(uploads),
            ..Default::default()
        }
    }
}
