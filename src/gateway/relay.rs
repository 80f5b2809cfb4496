//! What the bucket sends as a document, made into what may be relayed: narinfos are decoded and parsed
//! before anybody has them, for what would make a client fail is never relayed.

use std::sync::Arc;

use bytes::Bytes;

use crate::lookup::Lookup;
use crate::nix::key::{DocumentKey, DocumentKind, NarKey};
use crate::nix::narinfo::{self, Narinfo};
use crate::object::{Document, ObjectMeta};
use crate::origin::ObjectStream;

use super::Gateway;
use super::document::{Handover, Held, Landed, MAX_KEPT, Page};
use super::encoding::Encoding;
use super::error::GatewayError;

impl Gateway {
    /// The answer's body as a document, or open where it is too large to be one.
    pub(super) async fn read_document(&self, key: &DocumentKey, stream: ObjectStream) -> Landed {
        let limit = match key.kind() {
            DocumentKind::Narinfo => narinfo::MAX_LEN as u64,
            _ => MAX_KEPT,
        };
        if stream.meta.len > limit {
            if key.kind() == DocumentKind::Narinfo {
                let why = format!("{} bytes are no narinfo (at most {limit})", stream.meta.len);
                return Lookup::Unknown(GatewayError::Corrupt {
                    key: key.object().clone(),
                    why,
                });
            }
            return Lookup::Found(Page::Large(Arc::new(Handover::new(stream))));
        }
        let meta = stream.meta.clone();
        let bytes = match stream.collect(limit).await {
            Ok(bytes) => bytes,
            Err(cause) => return Lookup::Unknown(cause.into()),
        };
        let document = Document {
            bytes,
            etag: meta.etag.clone(),
            last_modified: meta.last_modified,
            content_type: meta.content_type.clone(),
            content_encoding: meta.content_encoding.clone(),
            validated: self.clock.wall(),
        };
        let document = match key.kind() {
            DocumentKind::Narinfo => match self.relay_narinfo(key, document, &meta).await {
                Ok(document) => document,
                Err(why) => {
                    return Lookup::Unknown(GatewayError::Corrupt {
                        key: key.object().clone(),
                        why,
                    });
                }
            },
            _ => document,
        };
        Lookup::Found(Page::Held(Arc::new(Held::new(document, self.clock.now()))))
    }

    /// A narinfo from the bucket as it may be relayed: decoded, sound, and about this key.
    async fn relay_narinfo(
        &self,
        key: &DocumentKey,
        document: Document,
        meta: &ObjectMeta,
    ) -> Result<Document, String> {
        let named = meta.content_encoding.as_deref().unwrap_or_default();
        let encoding = Encoding::parse(named)
            .map_err(|_| format!("its Content-Encoding {named} is unknown"))?;
        let plain = match encoding {
            None => document.bytes,
            Some(encoding) => {
                let plain = encoding
                    .decode(&document.bytes, narinfo::MAX_LEN as u64)
                    .await
                    .map_err(|cause| cause.to_string())?;
                tracing::info!(key = %key.object(), encoding = encoding.as_str(), "narinfo relayed without its Content-Encoding");
                plain
            }
        };
        let hash = key.store_path_hash().ok_or("its key names no store path")?;
        let relayed =
            Narinfo::relay(&self.store_dir, hash, plain).map_err(|cause| cause.to_string())?;
        if relayed.dropped_signatures > 0 {
            tracing::info!(key = %key.object(), dropped = relayed.dropped_signatures, "narinfo relayed without malformed Sig lines");
        }
        if let Some(nar) = NarKey::from_url(key.namespace(), &relayed.narinfo.url) {
            self.expected.learn(&nar, &relayed.narinfo);
        }
        Ok(Document {
            bytes: relayed.bytes,
            content_encoding: None,
            ..document
        })
    }

    /// Learns from a narinfo that was checked when it was kept.
    pub(super) fn learn(&self, key: &DocumentKey, bytes: &Bytes) {
        if key.kind() == DocumentKind::Narinfo
            && let Some(url) = narinfo::url(bytes)
            && let Some(nar) = NarKey::from_url(key.namespace(), url)
            && self.expected.could_learn(&nar)
            && let Ok(narinfo) = Narinfo::parse(&self.store_dir, bytes)
        {
            self.expected.learn(&nar, &narinfo);
        }
    }
}
