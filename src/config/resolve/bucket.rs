//! Which bucket, and whether all is there that its kind needs.

use std::num::NonZeroUsize;

use super::Judge;
use crate::config::choices::Kind;
use crate::config::values::Text;
use crate::config::{Bucket, BucketKind, file};

impl Judge<'_> {
    /// `None`: a problem was told.
    pub(super) fn bucket(&mut self, bucket: file::Bucket) -> Option<Bucket> {
        let max_requests = NonZeroUsize::new(bucket.max_requests.0 as usize)?;
        let (connect_timeout, first_byte_timeout) =
            (bucket.connect_timeout.0, bucket.first_byte_timeout.0);
        let (idle_timeout, hold) = (bucket.idle_timeout.0, bucket.hold.0);
        let (parallel_above, parallel_parts) =
            (bucket.parallel_above.0, bucket.parallel_parts.0 as usize);
        let kind = match bucket.kind.0 {
            Kind::Directory if self.names_an_endpoint_and_no_kind() => self.s3(bucket)?,
            Kind::Directory => {
                self.refuse_s3_settings();
                BucketKind::Directory {
                    path: bucket.path.0.0,
                }
            }
            Kind::S3 => self.s3(bucket)?,
        };
        Some(Bucket {
            kind,
            max_requests,
            connect_timeout,
            first_byte_timeout,
            idle_timeout,
            hold,
            parallel_above,
            parallel_parts,
        })
    }

    /// An endpoint says "S3" as plainly as the kind does, so four settings are enough for R2.
    fn names_an_endpoint_and_no_kind(&self) -> bool {
        self.given.has("bucket.endpoint") && !self.given.has("bucket.kind")
    }

    /// All that is missing is told before the first of it ends the judgement.
    fn s3(&mut self, bucket: file::Bucket) -> Option<BucketKind> {
        let endpoint = self.needed("bucket.endpoint", bucket.endpoint);
        let name = self.needed("bucket.name", bucket.name);
        let access_key_id = self.needed("bucket.access_key_id", bucket.access_key_id);
        let key = "bucket.secret_access_key";
        if bucket.secret_access_key.is_none() && bucket.secret_access_key_file.is_none() {
            self.refuse(
                key,
                "is missing; kind = \"s3\" needs NARWHARF_BUCKET__SECRET_ACCESS_KEY, or \
                 bucket.secret_access_key_file",
            );
        }
        let secret = self.secret(key, bucket.secret_access_key, bucket.secret_access_key_file);
        Some(BucketKind::S3 {
            endpoint: endpoint?.0,
            name: name?.0,
            region: bucket.region.0.0,
            prefix: bucket.prefix.0.0,
            access_key_id: access_key_id?.0,
            secret_access_key: secret?,
        })
    }

    fn needed<T>(&mut self, key: &str, value: Option<Text<T>>) -> Option<T> {
        if value.is_none() {
            self.refuse(key, "is missing; kind = \"s3\" needs it");
        }
        value.map(|text| text.0)
    }

    /// Whoever names an S3 bucket but not the way to it would push everything into a folder.
    fn refuse_s3_settings(&mut self) {
        for key in [
            "bucket.endpoint",
            "bucket.name",
            "bucket.region",
            "bucket.prefix",
            "bucket.access_key_id",
            "bucket.secret_access_key",
            "bucket.secret_access_key_file",
        ] {
            if self.given.has(key) {
                self.refuse(
                    key,
                    "has no meaning while bucket.kind is \"directory\"; set bucket.kind to \"s3\", \
                     or remove it",
                );
            }
        }
    }
}
