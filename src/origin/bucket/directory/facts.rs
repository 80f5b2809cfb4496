//! Keeps an object's `Content-Type` and `Content-Encoding` beside its bytes.
//!
//! They go into extended attributes of the file. Where the file system has none, into a sidecar in
//! `.narwharf-meta/`, named by the version of the file and not by its key, so that a replaced
//! object never meets the old one's sidecar. A sidecar left behind by a crash is a few bytes of
//! litter. Objects that others wrote have neither, and then nothing is known of them.

use std::fs::{self, File};
use std::io;
use std::path::{Path, PathBuf};

use rustix::io::Errno;
use serde::{Deserialize, Serialize};
use xattr::FileExt;

use super::super::super::ask::StoreFacts;
use crate::object::ETag;

const CONTENT_TYPE: &str = "user.narwharf.content-type";
const CONTENT_ENCODING: &str = "user.narwharf.content-encoding";
const SIDECARS: &str = ".narwharf-meta";

/// Where an object's facts are.
pub enum Facts {
    Attributes,
    Sidecars(PathBuf),
}

#[derive(Default, Serialize, Deserialize)]
struct Sidecar {
    content_type: Option<String>,
    content_encoding: Option<String>,
}

impl Facts {
    /// Finds out what the file system of `root` can do.
    pub fn kept_in(root: &Path) -> io::Result<Self> {
        match xattr::get(root, CONTENT_TYPE) {
            Ok(_) => Ok(Self::Attributes),
            Err(cause) if Errno::from_io_error(&cause) == Some(Errno::NOTSUP) => {
                Ok(Self::Sidecars(root.join(SIDECARS)))
            }
            Err(cause) => Err(cause),
        }
    }

    /// Type and encoding of an open file.
    pub fn of(&self, file: &File, version: &ETag) -> io::Result<(Option<String>, Option<String>)> {
        match self {
            Self::Attributes => {
                let text = |name| {
                    let value = file.get_xattr(name)?;
                    io::Result::Ok(value.and_then(|value| String::from_utf8(value).ok()))
                };
                Ok((text(CONTENT_TYPE)?, text(CONTENT_ENCODING)?))
            }
            Self::Sidecars(directory) => {
                let sidecar: Sidecar = match fs::read(directory.join(version.as_str())) {
                    Ok(text) => serde_json::from_slice(&text)?,
                    Err(cause) if cause.kind() == io::ErrorKind::NotFound => Sidecar::default(),
                    Err(cause) => return Err(cause),
                };
                Ok((sidecar.content_type, sidecar.content_encoding))
            }
        }
    }

    /// Notes what is known of a file that has no name yet.
    pub fn keep(&self, file: &File, version: &ETag, about: &StoreFacts) -> io::Result<()> {
        match self {
            Self::Attributes => {
                let known = [
                    (CONTENT_TYPE, &about.content_type),
                    (CONTENT_ENCODING, &about.content_encoding),
                ];
                for (name, value) in known {
                    if let Some(value) = value {
                        file.set_xattr(name, value.as_bytes())?;
                    }
                }
                Ok(())
            }
            Self::Sidecars(_)
                if about.content_type.is_none() && about.content_encoding.is_none() =>
            {
                Ok(())
            }
            Self::Sidecars(directory) => {
                fs::create_dir_all(directory)?;
                let sidecar = Sidecar {
                    content_type: about.content_type.clone(),
                    content_encoding: about.content_encoding.clone(),
                };
                let mut file = tempfile::NamedTempFile::new_in(directory)?;
                serde_json::to_writer(&mut file, &sidecar)?;
                file.as_file().sync_all()?;
                file.persist(directory.join(version.as_str()))
                    .map_err(|refused| refused.error)?;
                File::open(directory)?.sync_all()
            }
        }
    }

    /// Drops what was noted of a file that is gone. Attributes went with it; a sidecar that
    /// cannot be removed is litter.
    pub fn forget(&self, version: &ETag) {
        if let Self::Sidecars(directory) = self {
            let _ = fs::remove_file(directory.join(version.as_str()));
        }
    }
}
