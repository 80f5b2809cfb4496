//! The netrc file by which Nix shows the upload token: `nix copy --option netrc-file FILE`.
//!
//! Nix hands the file to curl, which picks the password by the host's name; a netrc knows no ports.

use std::fs;
use std::io::{self, Write};
use std::path::{Path, PathBuf};

use anyhow::Context;
use secrecy::{ExposeSecret, SecretString};
use tempfile::NamedTempFile;

use crate::config;

/// The hosts by which this machine calls itself.
const LOCAL: [&str; 3] = ["127.0.0.1", "localhost", "::1"];

/// What marks a line as ours. narwharf looks at the password alone; curl wants a login beside it.
const LOGIN: &str = "login narwharf";

/// A line of a netrc file. `password` is a token, or a word that stands for it.
pub fn line(host: &str, password: &str) -> String {
    format!("machine {host} {LOGIN} password {password}")
}

/// Writes the file `netrc` beside the token's file, for its owner alone, and returns its place.
/// `None`: a file of that name is there which narwharf did not write, and it is left as it is.
///
/// # Errors
/// The token's file cannot be read, or nothing can be written there, as in `/run/secrets`. The
/// server does without: it is a convenience for whoever sits at this machine.
pub fn beside(token_file: &Path) -> anyhow::Result<Option<PathBuf>> {
    let token = config::read_secret(token_file)
        .with_context(|| format!("cannot read {}", token_file.display()))?;
    let path = token_file.with_file_name("netrc");
    write(&path, &token).with_context(|| format!("cannot write {}", path.display()))
}

fn write(path: &Path, token: &SecretString) -> io::Result<Option<PathBuf>> {
    let text: String = LOCAL
        .iter()
        .map(|host| line(host, token.expose_secret()) + "\n")
        .collect();
    match fs::read_to_string(path) {
        Ok(old) if old == text => return Ok(Some(path.to_owned())),
        Ok(old) if !old.lines().all(|line| line.contains(LOGIN)) => return Ok(None),
        Ok(_) => {}
        Err(error) if error.kind() == io::ErrorKind::NotFound => {}
        Err(error) => return Err(error),
    }
    let folder = match path.parent() {
        Some(folder) if !folder.as_os_str().is_empty() => folder,
        _ => Path::new("."),
    };
    let mut file = NamedTempFile::new_in(folder)?;
    file.write_all(text.as_bytes())?;
    file.persist(path).map_err(|error| error.error)?;
    Ok(Some(path.to_owned()))
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt;

    use super::*;

    #[test]
    fn the_file_names_this_machine_and_follows_the_token() {
        let folder = tempfile::tempdir().unwrap();
        let token = folder.path().join("upload-token");
        for secret in ["one", "two"] {
            fs::write(&token, secret).unwrap();
            let netrc = beside(&token).unwrap().unwrap();
            let text = fs::read_to_string(&netrc).unwrap();
            assert!(text.contains(&format!(
                "machine 127.0.0.1 login narwharf password {secret}\n"
            )));
            assert!(text.contains("machine localhost "));
            let mode = fs::metadata(netrc).unwrap().permissions().mode();
            assert_eq!(mode & 0o777, 0o600);
        }
    }

    #[test]
    fn somebody_elses_netrc_is_left_alone() {
        let folder = tempfile::tempdir().unwrap();
        let (token, netrc) = (folder.path().join("token"), folder.path().join("netrc"));
        fs::write(&token, "one").unwrap();
        fs::write(&netrc, "machine github.com login me password mine\n").unwrap();
        assert_eq!(beside(&token).unwrap(), None);
        assert!(fs::read_to_string(&netrc).unwrap().contains("github"));
    }
}
