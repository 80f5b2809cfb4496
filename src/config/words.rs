//! What may stand in each kind of text: one type a grammar, whose `FromStr` is the only door.
//!
//! No message here shows the text it refuses where somebody may have put a secret by mistake.

use std::path::PathBuf;
use std::str::FromStr;

use secrecy::SecretString;
use url::Url;

use super::listen::Listen;
use crate::nix::key::Namespace;
use crate::nix::signature;

/// A path, not empty.
pub struct Place(pub PathBuf);

impl FromStr for Place {
    type Err = &'static str;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        match text {
            "" => Err("is empty; allowed is a path"),
            path => Ok(Self(PathBuf::from(path))),
        }
    }
}

/// Where an S3 answers. It carries neither the bucket's name nor a login.
pub struct Endpoint(pub Url);

impl FromStr for Endpoint {
    type Err = &'static str;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let mut url = Url::parse(text).map_err(
            |_| "is no URL; allowed is one such as https://ACCOUNT.r2.cloudflarestorage.com",
        )?;
        if !matches!(url.scheme(), "http" | "https") || !url.has_host() {
            return Err("is no web address; allowed is http://… or https://…");
        }
        if !url.username().is_empty() || url.password().is_some() {
            return Err("holds a login; set bucket.access_key_id and its secret instead");
        }
        if url.query().is_some() || url.fragment().is_some() {
            return Err("holds a query or fragment; allowed is scheme, host, port and path");
        }
        if !url.path().ends_with('/') {
            let path = format!("{}/", url.path());
            url.set_path(&path);
        }
        Ok(Self(url))
    }
}

/// Letters, digits, `.`, `_`, `-`: names of buckets, regions, key pairs and tokens.
pub struct Name(pub String);

impl FromStr for Name {
    type Err = &'static str;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let fits = (1..=255).contains(&text.len())
            && text
                .bytes()
                .all(|b| b.is_ascii_alphanumeric() || b"._-".contains(&b));
        if fits {
            Ok(Self(text.to_owned()))
        } else {
            Err("is no name; allowed are 1 to 255 of A-Z a-z 0-9 . _ -")
        }
    }
}

/// One line for people to read.
pub struct Plain(pub String);

impl FromStr for Plain {
    type Err = &'static str;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let fits = (1..=64).contains(&text.chars().count()) && !text.contains(char::is_control);
        if fits {
            Ok(Self(text.to_owned()))
        } else {
            Err("is empty, long or has line breaks; allowed are 1 to 64 characters in one line")
        }
    }
}

/// What stands before every key of a bucket: nothing, or folders with a `/` at the end, which is
/// added when it lacks.
pub struct Prefix(pub String);

impl FromStr for Prefix {
    type Err = &'static str;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        if text.is_empty() {
            return Ok(Self(String::new()));
        }
        let folders = text.strip_suffix('/').unwrap_or(text);
        let fits = text.len() <= 255
            && folders.split('/').all(|folder| {
                !matches!(folder, "" | "." | "..")
                    && folder
                        .bytes()
                        .all(|b| b.is_ascii_alphanumeric() || b"._-".contains(&b))
            });
        if fits {
            Ok(Self(format!("{folders}/")))
        } else {
            Err(
                "is no prefix; allowed is nothing, or folders such as team/cache of A-Z a-z 0-9 . _ -",
            )
        }
    }
}

/// A namespace's name, by the grammar that requests are held to, or `*` for any.
pub struct NamespaceName(pub String);

impl FromStr for NamespaceName {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        match text.parse::<Namespace>() {
            Err(why) if text != "*" => Err(format!(
                "{text:?} is no namespace: {why}; allowed is such a name, or \"*\" alone for any"
            )),
            _ => Ok(Self(text.to_owned())),
        }
    }
}

/// A store directory as in narinfos: absolute, each part named, no slash at the end.
pub struct StoreDir(pub String);

impl FromStr for StoreDir {
    type Err = &'static str;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let fits = text.strip_prefix('/').is_some_and(|parts| {
            parts
                .split('/')
                .all(|part| !matches!(part, "" | "." | ".."))
        }) && !text.contains(char::is_control);
        if fits {
            Ok(Self(text.to_owned()))
        } else {
            Err(
                "is no store directory; allowed is an absolute path such as /nix/store, without a slash at its end",
            )
        }
    }
}

/// `name:base64` of an Ed25519 public key, without blanks, since nix.conf separates keys by them.
pub struct PublicKey(pub String);

impl FromStr for PublicKey {
    type Err = &'static str;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let fits = text.bytes().all(|b| b.is_ascii_graphic())
            && text.parse::<signature::PublicKey>().is_ok();
        if fits {
            Ok(Self(text.to_owned()))
        } else {
            Err(
                "is no public key; allowed is NAME:BASE64 as `nix key convert-secret-to-public` prints it",
            )
        }
    }
}

/// A token or password: visible ASCII, since it has to pass through a header and a netrc file.
pub struct Secret(pub SecretString);

impl FromStr for Secret {
    type Err = &'static str;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        match text {
            "" => Err("is empty; allowed is a secret, or not to set it"),
            text if text.bytes().all(|b| b.is_ascii_graphic()) => {
                Ok(Self(SecretString::from(text)))
            }
            _ => Err("holds blanks or unusual characters; allowed are the visible ones of ASCII"),
        }
    }
}

/// An address, or nothing.
pub struct MaybeListen(pub Option<Listen>);

impl FromStr for MaybeListen {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        match text {
            "" => Ok(Self(None)),
            address => address.parse().map(Some).map(Self),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn takes<T: FromStr>(text: &str) -> bool {
        text.parse::<T>().is_ok()
    }

    #[test]
    fn an_endpoint_ends_in_a_slash_and_holds_no_login() {
        let endpoint = |text: &str| text.parse::<Endpoint>().map(|url| url.0.to_string());
        assert_eq!(
            endpoint("https://a.r2.cloudflarestorage.com").unwrap(),
            "https://a.r2.cloudflarestorage.com/"
        );
        assert_eq!(
            endpoint("http://127.0.0.1:9000/r2/s3").unwrap(),
            "http://127.0.0.1:9000/r2/s3/"
        );
        for text in [
            "",
            "a.r2.cloudflarestorage.com",
            "s3://bucket",
            "https://key:secret@host",
            "https://host?a=b",
            "https://host#a",
        ] {
            let message = endpoint(text).unwrap_err();
            assert!(!message.contains("secret@"), "{message}");
        }
    }

    #[test]
    fn a_prefix_is_nothing_or_ends_in_a_slash() {
        let prefix = |text: &str| text.parse::<Prefix>().map(|prefix| prefix.0).ok();
        assert_eq!(prefix("").as_deref(), Some(""));
        assert_eq!(prefix("team/cache").as_deref(), Some("team/cache/"));
        assert_eq!(prefix("cache/").as_deref(), Some("cache/"));
        for text in ["/", "/cache", "a//b", "../b", "a/./b", "a b"] {
            assert_eq!(prefix(text), None, "{text:?}");
        }
    }

    #[test]
    fn no_namespace_hides_a_route() {
        assert!(takes::<NamespaceName>("team-a") && takes::<NamespaceName>("*"));
        for text in [
            "nar",
            "metrics",
            "nix-cache-info",
            "",
            ".a",
            "a/b",
            "a*",
            "a..b",
            "a.ls",
        ] {
            assert!(!takes::<NamespaceName>(text), "{text:?}");
        }
    }

    #[test]
    fn a_public_key_is_a_name_and_32_bytes() {
        assert!(takes::<PublicKey>(
            "cache.nixos.org-1:6NCHdD59X431o0gWypbMrAURkbJ16ZPMQFGspcDShjY="
        ));
        for text in [
            "",
            "6NCHdD59X431o0gWypbMrAURkbJ16ZPMQFGspcDShjY=",
            ":6NCHdD59X431o0gWypbMrAURkbJ16ZPMQFGspcDShjY=",
            "a:6NCHdD59",
            "a:b",
            "a b:6NCHdD59X431o0gWypbMrAURkbJ16ZPMQFGspcDShjY=",
            // Of small order: anybody can sign for it.
            "a:AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA=",
        ] {
            assert!(!takes::<PublicKey>(text), "{text:?}");
        }
    }

    #[test]
    fn a_secret_can_travel_in_a_header_and_a_netrc_file() {
        assert!(takes::<Secret>("1e5"));
        for text in ["", "two words", "line\nbreak", "größe"] {
            assert!(!takes::<Secret>(text), "{text:?}");
        }
    }

    #[test]
    fn a_store_directory_is_absolute_and_plain() {
        assert!(takes::<StoreDir>("/nix/store"));
        for text in [
            "",
            "/",
            "nix/store",
            "/nix/store/",
            "/nix//store",
            "/nix/../store",
        ] {
            assert!(!takes::<StoreDir>(text), "{text:?}");
        }
    }
}
