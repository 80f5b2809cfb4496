//! The first start: whoever tries narwharf on one machine can push at once, and nobody else can.
//!
//! Only where the settings allow it ([`Auth::upload_token_file`](super::Auth) without a token): the
//! bucket is a directory, every listener is loopback, and no token was set. Anywhere else a token
//! that nobody asked for would be a hole.

use std::fs;
use std::io::{self, Write};
use std::path::{Path, PathBuf};

use secrecy::{ExposeSecret, SecretString};
use tempfile::NamedTempFile;

use super::token::{self, Token};
use super::{Config, secret};

/// Makes the upload token if the settings call for one, and turns uploads on with it.
///
/// Returns the file that holds the upload token, `None` when it came from elsewhere or there is
/// none. Two processes that start at once end with the same token. Blocks on the disk.
///
/// # Errors
/// The file, or the folder for it, cannot be made.
pub fn ensure(config: &mut Config) -> io::Result<Option<PathBuf>> {
    let Some(path) = config.auth.upload_token_file.clone() else {
        return Ok(None);
    };
    if config.auth.tokens.is_empty() {
        let token = make(&path)?;
        config.auth.tokens.push(Token::upload(&token));
        config.uploads.enabled = true;
    }
    Ok(Some(path))
}

/// The token at `path`, which is made unless it is there. It appears whole or not at all, and is
/// its owner's alone from the first byte: so does `tempfile` make its files.
fn make(path: &Path) -> io::Result<SecretString> {
    let folder = match path.parent() {
        Some(folder) if !folder.as_os_str().is_empty() => folder,
        _ => Path::new("."),
    };
    fs::create_dir_all(folder)?;
    let token = token::random()?;
    let mut file = NamedTempFile::new_in(folder)?;
    writeln!(file, "{}", token.expose_secret())?;
    file.as_file().sync_all()?;
    match file.persist_noclobber(path) {
        Ok(_) => Ok(token),
        Err(error) if error.error.kind() == io::ErrorKind::AlreadyExists => secret::read(path),
        Err(error) => Err(error.error),
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt;

    use super::*;

    /// Settings of a first start, with the token's file below `folder`.
    fn first_start(folder: &Path, more: &[(&str, &str)]) -> Config {
        let file = folder.join("data/upload-token");
        let env = [("NARWHARF_AUTH__UPLOAD_TOKEN_FILE", file.to_str().unwrap())];
        let env = env.iter().chain(more);
        Config::load(&[], env.map(|(k, v)| (k.to_string(), v.to_string()))).unwrap()
    }

    #[test]
    fn a_first_start_makes_a_token_for_its_owner_alone_and_turns_uploads_on() {
        let folder = tempfile::tempdir().unwrap();
        let mut config = first_start(folder.path(), &[]);
        assert!(!config.uploads.enabled);

        let path = ensure(&mut config).unwrap().unwrap();

        let mode = fs::metadata(&path).unwrap().permissions().mode();
        assert_eq!(mode & 0o777, 0o600);
        assert!(config.uploads.enabled);
        let token = secret::read(&path).unwrap();
        assert_eq!(config.auth.tokens, [Token::upload(&token)]);
    }

    #[test]
    fn the_next_start_keeps_the_token() {
        let folder = tempfile::tempdir().unwrap();
        let mut first = first_start(folder.path(), &[]);
        ensure(&mut first).unwrap();

        let mut next = first_start(folder.path(), &[]);

        assert!(next.uploads.enabled);
        assert!(ensure(&mut next).unwrap().is_some());
        assert_eq!(next.auth.tokens, first.auth.tokens);
    }

    #[test]
    fn of_two_starts_at_once_the_later_takes_the_earlier_ones_token() {
        let folder = tempfile::tempdir().unwrap();
        let mut one = first_start(folder.path(), &[]);
        let mut other = first_start(folder.path(), &[]);
        ensure(&mut one).unwrap();
        ensure(&mut other).unwrap();
        assert_eq!(one.auth.tokens, other.auth.tokens);
    }

    #[test]
    fn who_sets_a_token_gets_no_other() {
        let token = [("NARWHARF_AUTH__UPLOAD_TOKEN", "mine")];
        let env = token.map(|(k, v)| (k.to_owned(), v.to_owned()));
        let mut config = Config::load(&[], env.into_iter()).unwrap();
        assert_eq!(ensure(&mut config).unwrap(), None);
        assert_eq!(config.auth.tokens.len(), 1);
    }
}
