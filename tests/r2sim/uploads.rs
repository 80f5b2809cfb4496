//! Multipart uploads under way, and R2's rules for making an object of their parts.
//!
//! All parts but the last have the same length, and at least 5 MiB: R2 says so only when the upload
//! is completed, and so does this. Source: Cloudflare R2 docs, "Multipart upload" and "Error codes".

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::SystemTime;

use data_encoding::HEXLOWER;
use md5::{Digest, Md5};

use super::store::{Attributes, Body, Spooled};

/// The least length of any part but the last, in bytes.
pub const MIN_PART: u64 = 5 * 1024 * 1024;

#[derive(Debug, thiserror::Error)]
pub enum UploadError {
    #[error("The specified multipart upload does not exist.")]
    NoSuchUpload,
    #[error("One or more of the specified parts could not be found.")]
    NoSuchPart,
    #[error("The list of parts was not in ascending order.")]
    PartOrder,
    #[error("All non-trailing parts must have the same length.")]
    UnequalParts,
    #[error("Your proposed upload is smaller than the minimum allowed object size.")]
    PartTooSmall,
}

/// One upload as a listing shows it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct OpenUpload {
    pub id: String,
    pub key: String,
    pub initiated: SystemTime,
}

#[derive(Default)]
pub struct Uploads(Mutex<Table>);

#[derive(Default)]
struct Table {
    open: BTreeMap<String, Upload>,
    begun: u64,
}

struct Upload {
    key: String,
    attributes: Attributes,
    initiated: SystemTime,
    parts: BTreeMap<i32, Arc<Spooled>>,
}

impl Uploads {
    /// Returns the new upload's id.
    pub fn create(&self, key: &str, attributes: Attributes) -> String {
        let mut table = self.table();
        table.begun += 1;
        let id = format!("upload-{:06}", table.begun);
        let upload = Upload {
            key: key.to_owned(),
            attributes,
            initiated: SystemTime::now(),
            parts: BTreeMap::new(),
        };
        table.open.insert(id.clone(), upload);
        id
    }

    /// Fails, so that a part's body need not be read, when there is no such upload.
    pub fn check(&self, key: &str, id: &str) -> Result<(), UploadError> {
        self.with(key, id, |_| ())
    }

    /// A part sent again replaces the earlier one.
    pub fn put_part(
        &self,
        key: &str,
        id: &str,
        number: i32,
        part: Spooled,
    ) -> Result<(), UploadError> {
        self.with(key, id, |upload| {
            upload.parts.insert(number, Arc::new(part));
        })
    }

    /// The parts so far, by number.
    pub fn parts(&self, key: &str, id: &str) -> Result<Vec<(i32, Arc<Spooled>)>, UploadError> {
        self.with(key, id, |upload| {
            upload
                .parts
                .iter()
                .map(|(number, part)| (*number, part.clone()))
                .collect()
        })
    }

    /// Puts the named parts together into one body; the upload stays open until it is closed.
    pub fn assemble(
        &self,
        key: &str,
        id: &str,
        named: &[(i32, String)],
    ) -> Result<(Spooled, Attributes), UploadError> {
        let (parts, attributes) = self.with(key, id, |upload| {
            let parts = chosen(upload, named)?;
            Ok::<_, UploadError>((parts, upload.attributes.clone()))
        })??;
        judge(&parts)?;

        let mut of_parts = Md5::new();
        for part in &parts {
            of_parts.update(part.md5);
        }
        let md5: [u8; 16] = of_parts.finalize().into();
        let whole = Spooled {
            body: Body::joined(parts.iter().map(|part| &part.body)),
            len: parts.iter().map(|part| part.len).sum(),
            etag: format!("{}-{}", HEXLOWER.encode(&md5), parts.len()),
            md5,
        };
        Ok((whole, attributes))
    }

    /// Forgets the upload and its parts, completed or aborted.
    pub fn close(&self, key: &str, id: &str) -> Result<(), UploadError> {
        self.check(key, id)?;
        self.table().open.remove(id);
        Ok(())
    }

    pub fn open(&self) -> Vec<OpenUpload> {
        self.table()
            .open
            .iter()
            .map(|(id, upload)| OpenUpload {
                id: id.clone(),
                key: upload.key.clone(),
                initiated: upload.initiated,
            })
            .collect()
    }

    fn with<T>(
        &self,
        key: &str,
        id: &str,
        look: impl FnOnce(&mut Upload) -> T,
    ) -> Result<T, UploadError> {
        match self.table().open.get_mut(id) {
            Some(upload) if upload.key == key => Ok(look(upload)),
            _ => Err(UploadError::NoSuchUpload),
        }
    }

    fn table(&self) -> MutexGuard<'_, Table> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The parts a client names, which it must do in order and with the ETags it was given.
fn chosen(upload: &Upload, named: &[(i32, String)]) -> Result<Vec<Arc<Spooled>>, UploadError> {
    if named.is_empty() {
        return Err(UploadError::NoSuchPart);
    }
    if !named.is_sorted_by(|one, next| one.0 < next.0) {
        return Err(UploadError::PartOrder);
    }
    named
        .iter()
        .map(|(number, etag)| match upload.parts.get(number) {
            Some(part) if part.etag == *etag => Ok(part.clone()),
            _ => Err(UploadError::NoSuchPart),
        })
        .collect()
}

fn judge(parts: &[Arc<Spooled>]) -> Result<(), UploadError> {
    let Some((last, others)) = parts.split_last() else {
        return Err(UploadError::NoSuchPart);
    };
    let Some(first) = others.first() else {
        return Ok(());
    };
    if others.iter().any(|part| part.len < MIN_PART) {
        return Err(UploadError::PartTooSmall);
    }
    if others.iter().any(|part| part.len != first.len) || last.len > first.len {
        return Err(UploadError::UnequalParts);
    }
    Ok(())
}
