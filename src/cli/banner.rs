//! What `narwharf serve` says once it serves: where it is, and lines to try at once.
//!
//! The lines are meant to be pasted as they stand: whole commands, with absolute paths, for a stock
//! Nix of 2.8 or later, whose `nix copy` has to be enabled. `./result` is what the last
//! `nix build` left behind; any store path does in its place.

use std::fmt::Write as _;
use std::io::Write as _;
use std::path::{Path, PathBuf};

use crate::config::{BucketKind, Config};
use crate::server::Started;

const NIX: &str = "nix --extra-experimental-features nix-command";
const NIX_WITH_FLAKES: &str = "nix --extra-experimental-features 'nix-command flakes'";

/// All that the lines tell, kept apart from the settings, which the server takes.
pub struct Banner {
    bucket: String,
    token_file: Option<PathBuf>,
    netrc: Option<PathBuf>,
    public_reads: bool,
    uploads: bool,
    trusted_public_keys: String,
}

impl Banner {
    pub fn new(config: &Config, token_file: Option<PathBuf>, netrc: Option<PathBuf>) -> Self {
        Self {
            bucket: match &config.bucket.kind {
                BucketKind::Directory { path } => format!("directory {}", absolute(path)),
                BucketKind::S3 { endpoint, name, .. } => format!("{name} at {endpoint}"),
            },
            token_file,
            netrc,
            public_reads: config.auth.public_reads,
            uploads: config.uploads.enabled,
            trusted_public_keys: config.signing.trusted_public_keys.join(" "),
        }
    }

    /// To standard output; that nobody listens there is no reason to stop serving.
    pub fn print(&self, started: &Started) {
        let mut out = std::io::stdout().lock();
        let _ = out
            .write_all(self.text(started).as_bytes())
            .and_then(|()| out.flush());
    }

    fn text(&self, started: &Started) -> String {
        let mut text = format!("narwharf {}\n", env!("CARGO_PKG_VERSION"));
        for address in &started.addresses {
            say(&mut text, "serving", format!("http://{address}"));
        }
        for path in &started.unix {
            say(&mut text, "serving", format!("unix:{}", path.display()));
        }
        say(&mut text, "bucket", &self.bucket);
        match (&self.token_file, self.uploads) {
            (Some(path), _) => say(&mut text, "upload token", absolute(path)),
            (None, true) => say(&mut text, "upload token", "as set"),
            (None, false) => say(&mut text, "uploads", "off: no token may write"),
        }
        if let Some(address) = started.addresses.first() {
            let mut reachable = *address;
            if reachable.ip().is_unspecified() {
                reachable.set_ip(match reachable.is_ipv4() {
                    true => std::net::Ipv4Addr::LOCALHOST.into(),
                    false => std::net::Ipv6Addr::LOCALHOST.into(),
                });
            }
            self.examples(&mut text, &format!("http://{reachable}"));
        }
        text
    }

    fn examples(&self, text: &mut String, url: &str) {
        let netrc = self.netrc.as_deref().map(|path| {
            let path = quoted(&absolute(path));
            format!(" --option netrc-file {path}")
        });
        let login = netrc.clone().unwrap_or_default();
        let reader = match self.public_reads {
            true => String::new(),
            false => login.clone(),
        };
        let trust = |option: &str| match self.trusted_public_keys.as_str() {
            "" => String::new(),
            keys => format!(" --option {option} {}", quoted(keys)),
        };
        if self.uploads {
            let to = quoted(&format!("{url}?compression=zstd"));
            let push = format!("{NIX} copy --to {to}{login} ./result");
            example(
                text,
                "Push what ./result points to, and all it needs:",
                &push,
            );
        }
        let keys = trust("trusted-public-keys");
        let fetch = format!("{NIX} copy --from {url}{reader}{keys} ./result");
        let purpose = "Fetch it (add --no-check-sigs for what no trusted key has signed):";
        example(text, purpose, &fetch);
        let keys = trust("extra-trusted-public-keys");
        let build = format!(
            "{NIX_WITH_FLAKES} build --option extra-substituters {url}{reader}{keys} nixpkgs#hello"
        );
        example(text, "Build with it:", &build);
    }
}

fn say(text: &mut String, what: &str, value: impl std::fmt::Display) {
    let _ = writeln!(text, "  {what:<14}{value}");
}

fn example(text: &mut String, purpose: &str, command: &str) {
    let _ = write!(text, "\n{purpose}\n  {command}\n");
}

fn absolute(path: &Path) -> String {
    let path = std::path::absolute(path).unwrap_or_else(|_| path.to_owned());
    path.display().to_string()
}

/// As one word of a shell.
fn quoted(word: &str) -> String {
    let plain = |c: char| c.is_ascii_alphanumeric() || "/._-:@%+=,".contains(c);
    match word.chars().all(plain) {
        true => word.to_owned(),
        false => format!("'{}'", word.replace('\'', r"'\''")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn banner() -> Banner {
        Banner {
            bucket: "directory /srv/bucket".to_owned(),
            token_file: Some("/srv/my data/upload-token".into()),
            netrc: Some("/srv/my data/netrc".into()),
            public_reads: true,
            uploads: true,
            trusted_public_keys: "a-1:KEY b-1:KEY".to_owned(),
        }
    }

    fn at(address: &str) -> Started {
        Started {
            addresses: vec![address.parse().unwrap()],
            ..Started::default()
        }
    }

    #[test]
    fn the_lines_name_the_address_the_login_and_the_keys() {
        let text = banner().text(&at("127.0.0.1:8080"));
        for line in [
            "copy --to 'http://127.0.0.1:8080?compression=zstd' --option netrc-file '/srv/my data/netrc' ./result",
            "copy --from http://127.0.0.1:8080 --option trusted-public-keys 'a-1:KEY b-1:KEY' ./result",
            "build --option extra-substituters http://127.0.0.1:8080 --option extra-trusted-public-keys",
        ] {
            assert!(text.contains(line), "{line:?} in\n{text}");
        }
    }

    #[test]
    fn an_open_listener_is_tried_over_loopback() {
        assert!(
            banner()
                .text(&at("0.0.0.0:80"))
                .contains("--from http://127.0.0.1:80 ")
        );
        assert!(
            banner()
                .text(&at("[::]:80"))
                .contains("--from http://[::1]:80 ")
        );
    }

    #[test]
    fn a_private_cache_is_read_with_the_login() {
        let private = Banner {
            public_reads: false,
            ..banner()
        };
        let text = private.text(&at("127.0.0.1:1"));
        assert!(text.contains("--from http://127.0.0.1:1 --option netrc-file"));
    }

    #[test]
    fn without_uploads_no_line_pushes() {
        let closed = Banner {
            uploads: false,
            token_file: None,
            netrc: None,
            ..banner()
        };
        let text = closed.text(&at("127.0.0.1:1"));
        assert!(!text.contains("--to") && text.contains("no token may write"));
    }

    #[test]
    fn a_word_survives_the_shell() {
        assert_eq!(quoted("/a/b"), "/a/b");
        assert_eq!(quoted("it's"), r"'it'\''s'");
    }
}
