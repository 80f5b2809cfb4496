//! A document's body: held in memory, checked if it is a narinfo, and replaced as a whole.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;

use super::super::Gateway;
use super::super::document::MAX_KEPT;
use super::super::encoding::{DecodeError, Encoding};
use super::super::error::UploadError;
use super::Uploaded;
use super::admit::Facts;
use super::body::Body;
use crate::nix::key::{DocumentKey, DocumentKind, ObjectKey};
use crate::nix::narinfo;
use crate::object::Document;
use crate::origin::{Hold, StoreBody, StoreFacts};
use crate::tier::memory::Held;

/// Beside `uploads.hold`, how long a document waits for another write of the same key.
const TURN_PATIENCE: Duration = Duration::from_secs(10);

/// A document as it is to be stored.
struct Stored {
    bytes: Bytes,
    encoding: Option<Encoding>,
}

impl Gateway {
    pub(super) async fn take_document(
        self: &Arc<Self>,
        key: &DocumentKey,
        facts: &Facts,
        body: Body,
    ) -> Result<Uploaded, UploadError> {
        let came = Stored {
            bytes: body.collect().await?,
            encoding: facts.encoding,
        };
        let at = key.object();
        let hold = Hold::of(self.uploads.hold);
        hold.begin(self.clock.now());
        // Written one after the other, so that memory and bucket end with the same one.
        let patience = self.uploads.hold + TURN_PATIENCE;
        let turn = self.room.turns.take(at, patience).await;
        let _turn = turn.ok_or_else(|| UploadError::InLine { key: at.clone() })?;
        let (stored, kept) = match key.kind() {
            DocumentKind::Narinfo => self.judge_narinfo(key, came, &hold).await?,
            _ if came.bytes.len() as u64 > MAX_KEPT => (came, None),
            _ => {
                let kept = (came.bytes.clone(), came.encoding);
                (came, Some(kept))
            }
        };
        let about = StoreFacts {
            content_type: facts.content_type.clone(),
            content_encoding: stored.encoding.map(|encoding| encoding.as_str().to_owned()),
            create_only: false,
        };
        let body = StoreBody::Bytes(stored.bytes);
        let written = self.origin.store(at, &body, &about, &hold).await?;
        let held = kept.map(|(bytes, encoding)| {
            let document = Document {
                bytes,
                etag: written.etag,
                last_modified: None,
                content_type: facts.content_type.clone(),
                content_encoding: encoding.map(|encoding| encoding.as_str().to_owned()),
                validated: self.clock.wall(),
            };
            Arc::new(Held::new(document, self.clock.now()))
        });
        self.show_document(at, held);
        Ok(if written.existed {
            Uploaded::Existing
        } else {
            Uploaded::Created
        })
    }

    /// Decodes and checks a narinfo and adds the signatures that are to be added: what to store,
    /// and what to keep, which is always plain.
    async fn judge_narinfo(
        self: &Arc<Self>,
        key: &DocumentKey,
        came: Stored,
        hold: &Hold,
    ) -> Result<(Stored, Option<(Bytes, Option<Encoding>)>), UploadError> {
        let plain = match came.encoding {
            None => came.bytes.clone(),
            Some(encoding) => {
                let decoded = encoding.decode(&came.bytes, narinfo::MAX_LEN as u64).await;
                decoded.map_err(|cause| match cause {
                    DecodeError::TooLarge { most } => UploadError::UnpacksTooLarge { most },
                    DecodeError::Damaged(_) => {
                        UploadError::BadEncoding(encoding.as_str().to_owned())
                    }
                })?
            }
        };
        let narinfo = self.check_narinfo(key, &plain, hold).await?;
        Ok(
            match self.sign_and_merge(key, narinfo, &plain, hold).await? {
                None => (came, Some((plain, None))),
                Some(signed) => {
                    let stored = Stored {
                        bytes: signed.clone(),
                        encoding: None,
                    };
                    (stored, Some((signed, None)))
                }
            },
        )
    }

    /// Makes a written document what every request from now on sees.
    fn show_document(&self, at: &ObjectKey, held: Option<Arc<Held>>) {
        self.epochs.written(at, || match held {
            Some(held) => {
                self.disk.replace_document(at, &held.document);
                self.memory.keep(at, held);
            }
            None => {
                self.disk.forget_document(at);
                self.memory.forget(at);
            }
        });
        self.lookups.forget(at);
    }
}
