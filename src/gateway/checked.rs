//! Bytes that are given out unkept and are held to a hash all the same: the last of them wait until
//! the whole agrees.

use bytes::Bytes;
use sha2::{Digest, Sha256};

use crate::nix::hash::Sha256Hash;

use super::Gateway;
use super::error::GatewayError;
use super::source::Source;

/// What a body is held to, and what of it was hashed before.
#[derive(Debug, Clone)]
pub struct Check {
    pub expected: Sha256Hash,
    /// Of all bytes of the object before those that the source begins with.
    pub hash: Sha256,
}

impl Check {
    /// For a source that begins with the object's first byte.
    pub fn whole(expected: Sha256Hash) -> Self {
        Self {
            expected,
            hash: Sha256::new(),
        }
    }
}

/// Some bytes of a body, and how to go on checking after them.
#[derive(Debug, Clone)]
pub struct Piece {
    pub bytes: Bytes,
    pub check: Option<Check>,
}

/// A source whose end is withheld until its hash agrees. Without a check it has none to withhold.
pub struct Checked {
    source: Box<Source>,
    check: Option<Check>,
    held: Option<Piece>,
    has_agreed: bool,
}

impl Checked {
    pub fn new(source: Box<Source>, check: Option<Check>) -> Self {
        Self {
            source,
            check,
            held: None,
            has_agreed: false,
        }
    }

    /// The next bytes; `None` after the last. Errors: the source's, or the hash of all is another,
    /// which is remembered of the object. May be dropped half-way, at the cost of the source.
    pub async fn next(&mut self, gateway: &Gateway) -> Result<Option<Piece>, GatewayError> {
        loop {
            let Some(bytes) = self.source.chunk().await? else {
                if !std::mem::replace(&mut self.has_agreed, true) {
                    self.agree(gateway)?;
                }
                return Ok(self.held.take());
            };
            let Some(check) = &mut self.check else {
                return Ok(Some(Piece { bytes, check: None }));
            };
            check.hash.update(&bytes);
            let check = Some(check.clone());
            let piece = Piece { bytes, check };
            if let Some(ready) = self.held.replace(piece) {
                return Ok(Some(ready));
            }
        }
    }

    fn agree(&self, gateway: &Gateway) -> Result<(), GatewayError> {
        let Some(Check { expected, hash }) = &self.check else {
            return Ok(());
        };
        let got = Sha256Hash::from_bytes(hash.clone().finalize().into());
        if got == *expected {
            return Ok(());
        }
        let (key, etag) = (self.source.key(), self.source.version().etag.as_ref());
        gateway.bad.remember(key, etag, gateway.clock.now());
        Err(GatewayError::wrong_bytes(key, *expected, got))
    }
}
