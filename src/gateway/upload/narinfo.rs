//! What a narinfo must be to be taken, and the signatures that are added to it.
//!
//! A narinfo is stored with the bytes it came with. Two settings make exceptions, each of them
//! logged: `signing.secret_key_file` appends a signature of our own, `uploads.merge_signatures` those
//! of the narinfo that is replaced. Neither touches a line that came. Of two gateways that merge
//! into one narinfo at the same moment, one may not see the other's; this one writes a key once
//! at a time.

use std::sync::Arc;

use bytes::Bytes;

use super::super::Gateway;
use super::super::encoding::Encoding;
use super::super::error::UploadError;
use crate::lookup::Lookup;
use crate::nix::key::{DocumentKey, NarKey};
use crate::nix::narinfo::{self, Narinfo};
use crate::nix::signature::{Signature, TrustedKeys, Verdict};
use crate::origin::{Ask, Fetched, Hold};

impl Gateway {
    /// Strict by Nix's rules, about this key, signed where that is asked for, and its NAR is there.
    pub(super) async fn check_narinfo(
        self: &Arc<Self>,
        key: &DocumentKey,
        plain: &Bytes,
        hold: &Hold,
    ) -> Result<Narinfo, UploadError> {
        let narinfo = Narinfo::parse(&self.store_dir, plain)?;
        if let Some(hash) = key.store_path_hash() {
            narinfo.check_key(hash)?;
        }
        if let Some(trusted) = &self.signing.trusted {
            self.check_signature(&narinfo, trusted)?;
        }
        let url = &narinfo.url;
        let foreign = || UploadError::ForeignUrl { url: url.clone() };
        let nar = NarKey::from_url(key.namespace(), url).ok_or_else(foreign)?;
        if self.uploads.require_nar {
            self.check_nar(&nar, &narinfo, hold).await?;
        }
        self.expected.learn(&nar, &narinfo);
        Ok(narinfo)
    }

    fn check_signature(&self, narinfo: &Narinfo, trusted: &TrustedKeys) -> Result<(), UploadError> {
        match trusted.verdict(narinfo, &self.store_dir) {
            Verdict::SignedBy(_) | Verdict::ContentAddressed => Ok(()),
            Verdict::Untrusted { seen } => {
                let seen = if seen.is_empty() {
                    "nobody".to_owned()
                } else {
                    seen.join(", ")
                };
                Err(UploadError::Untrusted {
                    seen,
                    accepted: trusted.names().join(", "),
                })
            }
        }
    }

    async fn check_nar(
        &self,
        nar: &NarKey,
        narinfo: &Narinfo,
        hold: &Hold,
    ) -> Result<(), UploadError> {
        let url = || narinfo.url.clone();
        let held = match self.room.present.get(nar.object()) {
            Some(len) => len,
            None => match self.ask_presence(nar, Some(hold)).await {
                Lookup::Found(facts) => {
                    self.room.present.put(nar.object(), facts.len);
                    facts.len
                }
                Lookup::Absent => return Err(UploadError::MissingNar { url: url() }),
                Lookup::Unknown(cause) => return Err(UploadError::Bucket(cause)),
            },
        };
        match narinfo.file_size {
            Some(said) if said != held => Err(UploadError::OtherNar {
                url: url(),
                held,
                said,
            }),
            _ => Ok(()),
        }
    }

    /// The narinfo with what is to be added; `None`: it is stored as it came.
    pub(super) async fn sign_and_merge(
        &self,
        key: &DocumentKey,
        narinfo: Narinfo,
        plain: &Bytes,
        hold: &Hold,
    ) -> Result<Option<Bytes>, UploadError> {
        let mut added: Vec<Signature> = Vec::new();
        if self.uploads.merge_signatures {
            let theirs = self.signatures_there(key, &narinfo, hold).await?;
            let new = theirs
                .into_iter()
                .filter(|it| !narinfo.signatures.contains(it));
            added.extend(new);
        }
        let merged = added.len();
        if let Some(secret) = &self.signing.own {
            let own = secret.sign(&narinfo.fingerprint(&self.store_dir));
            if !narinfo.signatures.contains(&own) && !added.contains(&own) {
                added.push(own);
            }
        }
        if added.is_empty() {
            return Ok(None);
        }
        let at = key.object();
        let signed = narinfo::with_signatures(plain, &added);
        // Clients and we read it by the same rules; one with too many signatures is left alone.
        if let Err(cause) = Narinfo::parse(&self.store_dir, &signed) {
            tracing::warn!(key = %at, %cause, "no signature was added to the narinfo");
            return Ok(None);
        }
        let own = added.len() > merged;
        tracing::info!(key = %at, merged, own, "signatures were added to an uploaded narinfo");
        Ok(Some(signed))
    }

    /// The signatures of the narinfo that is about to be replaced, if it says the same.
    async fn signatures_there(
        &self,
        key: &DocumentKey,
        new: &Narinfo,
        hold: &Hold,
    ) -> Result<Vec<Signature>, UploadError> {
        let (at, ask) = (key.object(), Ask::document());
        let stream = match self.origin.fetch_within(at, &ask, hold).await {
            Lookup::Found(Fetched::Object(stream)) => stream,
            Lookup::Found(Fetched::NotModified) | Lookup::Absent => return Ok(Vec::new()),
            Lookup::Unknown(cause) => return Err(cause.into()),
        };
        let named = stream.meta.content_encoding.clone().unwrap_or_default();
        let bytes = match (Encoding::parse(&named), stream.meta.len) {
            (Ok(encoding), len) if len <= narinfo::MAX_LEN as u64 => {
                let bytes = stream.collect(len).await?;
                match encoding {
                    None => Some(bytes),
                    Some(encoding) => encoding.decode(&bytes, narinfo::MAX_LEN as u64).await.ok(),
                }
            }
            _ => None,
        };
        // What nobody can read is replaced, and has no signatures to save.
        let old = bytes.and_then(|bytes| Narinfo::parse(&self.store_dir, &bytes).ok());
        Ok(match old {
            Some(old) if says_the_same(&old, new) => old.signatures,
            _ => Vec::new(),
        })
    }
}

/// Whether two narinfos agree in everything that signatures cover (Nix: `ValidPathInfo::fingerprint`).
fn says_the_same(one: &Narinfo, other: &Narinfo) -> bool {
    one.store_path == other.store_path
        && one.nar_hash == other.nar_hash
        && one.nar_size == other.nar_size
        && one.references == other.references
}
