//! Secrets from files: the `…_file` twins of settings, and the upload token of the first start.
//!
//! The file holds one line. Only the line break at its end is taken off, since an editor adds it
//! unasked; any other blank is a mistake and is said to be one.

use std::fs;
use std::io;
use std::os::unix::fs::MetadataExt;
use std::path::Path;

use secrecy::SecretString;

use super::words::Secret;

/// Reads the secret in `path`; blocks on the disk.
///
/// # Errors
/// As the file system says (`NotFound` is often an answer to the caller); `InvalidData` when the
/// file holds no secret, the message then saying what is allowed, and never what was found.
pub fn read(path: &Path) -> io::Result<SecretString> {
    let text = fs::read_to_string(path)?;
    let line = text.strip_suffix('\n').unwrap_or(&text);
    let line = line.strip_suffix('\r').unwrap_or(line);
    line.parse::<Secret>()
        .map(|secret| secret.0)
        .map_err(|why| io::Error::new(io::ErrorKind::InvalidData, format!("its content {why}")))
}

/// Whether the file in `path` can be read or written by others than its owner.
pub fn is_exposed(path: &Path) -> io::Result<bool> {
    Ok(fs::metadata(path)?.mode() & 0o077 != 0)
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt;

    use secrecy::ExposeSecret;

    use super::*;

    fn holding(text: &str) -> io::Result<SecretString> {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("secret");
        fs::write(&path, text).unwrap();
        read(&path)
    }

    #[test]
    fn the_line_break_at_the_end_is_not_part_of_the_secret() {
        for text in ["hunter2", "hunter2\n", "hunter2\r\n"] {
            assert_eq!(holding(text).unwrap().expose_secret(), "hunter2");
        }
    }

    #[test]
    fn a_file_is_exposed_unless_it_is_its_owners_alone() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("secret");
        fs::write(&path, "hunter2").unwrap();
        for (mode, exposed) in [(0o600, false), (0o400, false), (0o640, true), (0o604, true)] {
            fs::set_permissions(&path, fs::Permissions::from_mode(mode)).unwrap();
            assert_eq!(is_exposed(&path).unwrap(), exposed, "{mode:o}");
        }
    }

    #[test]
    fn a_file_without_one_plain_line_is_refused_and_not_shown() {
        for text in ["", "\n", "hunter2\nhunter3\n", " hunter2"] {
            let error = holding(text).unwrap_err();
            assert_eq!(error.kind(), io::ErrorKind::InvalidData);
            assert!(!error.to_string().contains("hunter"));
        }
    }
}
