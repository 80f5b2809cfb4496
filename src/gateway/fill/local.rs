//! A blob of which the index knows nothing, checked while readers read along: a fill whose origin is
//! our own disk (`design.md` §10.2).

use std::fs::File;
use std::os::unix::fs::FileExt;
use std::sync::Arc;

use sha2::{Digest, Sha256};

use crate::metrics::labels::FillOutcome;
use crate::nix::hash::Sha256Hash;
use crate::tier::disk::Blob;

use super::super::Gateway;
use super::super::error::GatewayError;
use super::super::progress::Event;
use super::journey::{Ended, blocking, finish, verify};
use super::{Fill, Opened};

/// Bytes hashed at once.
const PIECE: usize = 256 * 1024;

/// Checks the blob and takes it into the index, or sets it aside.
pub async fn from_blob(gateway: Arc<Gateway>, fill: Arc<Fill>, blob: Blob) {
    let ended = check(&gateway, &fill, blob).await;
    finish(&gateway, &fill, ended);
}

async fn check(gateway: &Arc<Gateway>, fill: &Arc<Fill>, blob: Blob) -> Ended {
    let expected = gateway.expected.hash_of(&fill.key);
    fill.open(Opened::now(
        gateway.blob_facts(&fill.key, &blob),
        Arc::clone(&blob.file),
        expected.is_some(),
        None,
    ));
    let _place = gateway.fills.disk_place().await;
    let (reading, file, len) = (Arc::clone(fill), Arc::clone(&blob.file), blob.len);
    let digest = blocking(fill, move || hash_along(&reading, &file, len)).await?;
    let disk = gateway.disk.clone();
    let key = fill.key.object().clone();
    let agreed = match (digest, expected) {
        (Ok(digest), Some(expected)) => verify(fill, expected, digest),
        (Ok(_), None) => Ok(()),
        (Err(why), _) => Err(GatewayError::Disk {
            key: key.clone(),
            why: Arc::new(why),
        }),
    };
    match agreed {
        Ok(()) => {
            fill.note(Event::Verified);
            blocking(fill, move || disk.adopt(&key, &blob)).await?;
            Ok(FillOutcome::Stored)
        }
        Err(cause) => {
            blocking(fill, move || disk.quarantine(&key, &blob)).await?;
            Err(cause)
        }
    }
}

fn hash_along(fill: &Fill, file: &File, len: u64) -> std::io::Result<Sha256Hash> {
    let mut hasher = Sha256::new();
    let mut buffer = vec![0; PIECE];
    let mut at = 0;
    while at < len {
        let read = file.read_at(&mut buffer, at)?;
        if read == 0 {
            return Err(std::io::ErrorKind::UnexpectedEof.into());
        }
        hasher.update(&buffer[..read]);
        at += read as u64;
        fill.note(Event::Chunk { len: read as u64 });
    }
    Ok(Sha256Hash::from_bytes(hasher.finalize().into()))
}
