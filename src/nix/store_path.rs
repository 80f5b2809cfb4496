//! Store paths: `/nix/store/<hash>-<name>`, and the hash by which a binary cache files them.
//!
//! A store path is kept as hash and name, without the store directory, because that is how
//! narinfos list references; the directory is an argument where a full path is read or written.
//! Grammar: Nix, `libstore/path.cc` (`checkName`) and the manual's page "Store Path".

use std::fmt;
use std::str::FromStr;

use super::base32;

/// The 32 characters by which a binary cache names a store path: the `0c2…` of `0c2….narinfo`.
///
/// To hold one is proof that the text was checked, so nothing past the edge checks it again and
/// `../../etc/passwd` travels no further. The characters are kept rather than the 20 bytes they
/// stand for: they are what every use of it needs. Alphabet: nix32.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct StorePathHash([u8; 32]);

impl StorePathHash {
    /// Length in characters.
    pub const LEN: usize = 32;

    pub fn as_str(&self) -> &str {
        str::from_utf8(&self.0).expect("only ASCII gets in")
    }
}

impl FromStr for StorePathHash {
    type Err = InvalidStorePath;

    /// Every 32 characters of nix32 stand for exactly 20 bytes, so the alphabet is all there is to
    /// check.
    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let characters: [u8; Self::LEN] = text
            .as_bytes()
            .try_into()
            .map_err(|_| InvalidStorePath::Hash)?;
        if base32::are_digits(&characters) {
            Ok(Self(characters))
        } else {
            Err(InvalidStorePath::Hash)
        }
    }
}

impl fmt::Display for StorePathHash {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

impl fmt::Debug for StorePathHash {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

/// A checked store path. Its order is the bytewise order of base names, the one fingerprints need.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct StorePath {
    hash: StorePathHash,
    name: Box<str>,
}

impl StorePath {
    /// Reads a full path. Errors: not directly inside `store_dir` (given without a slash at its
    /// end), or a malformed base name.
    pub fn parse(store_dir: &str, text: &str) -> Result<Self, InvalidStorePath> {
        let base_name = text
            .strip_prefix(store_dir)
            .and_then(|rest| rest.strip_prefix('/'))
            .ok_or(InvalidStorePath::Foreign)?;
        Self::from_base_name(base_name)
    }

    /// Reads `<hash>-<name>`. Errors: a malformed hash or name; a full path is one of them.
    pub fn from_base_name(text: &str) -> Result<Self, InvalidStorePath> {
        let (hash, rest) = text
            .split_at_checked(StorePathHash::LEN)
            .ok_or(InvalidStorePath::Hash)?;
        let hash = hash.parse()?;
        let name = rest.strip_prefix('-').ok_or(InvalidStorePath::Name)?;
        if is_name(name) {
            let name = name.into();
            Ok(Self { hash, name })
        } else {
            Err(InvalidStorePath::Name)
        }
    }

    pub fn hash(&self) -> StorePathHash {
        self.hash
    }

    /// What follows the hash and its dash: `hello-2.12`.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// `<hash>-<name>`, as narinfos list references.
    pub fn base_name(&self) -> String {
        format!("{}-{}", self.hash, self.name)
    }

    /// The full path, as a narinfo's `StorePath` line and fingerprints have it.
    pub fn to_path(&self, store_dir: &str) -> String {
        format!("{store_dir}/{}-{}", self.hash, self.name)
    }
}

/// Why a text is no store path.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum InvalidStorePath {
    #[error("the path does not lie directly in the store directory")]
    Foreign,
    #[error("a store path's hash must be 32 characters of nix32")]
    Hash,
    #[error(
        "a store path's hash is followed by - and a name of 1 to 211 characters of 0-9a-zA-Z+-._?="
    )]
    Name,
}

/// The longest name, in characters. Nix: `StorePath::MaxPathLen`.
const MAX_NAME_LEN: usize = 211;

/// Nix's `checkName`: the first dash-separated part must be neither `.` nor `..`.
fn is_name(text: &str) -> bool {
    let first_part = text.split('-').next().unwrap_or_default();
    (1..=MAX_NAME_LEN).contains(&text.len())
        && !matches!(first_part, "." | "..")
        && text
            .bytes()
            .all(|c| c.is_ascii_alphanumeric() || b"+-._?=".contains(&c))
}

#[cfg(test)]
mod tests {
    use super::*;

    const HASH: &str = "y7p5hy9p6crpivv064i60p31mjfx3a54";

    #[test]
    fn a_path_is_hash_and_name_below_the_store_directory() {
        let path = StorePath::parse("/nix/store", &format!("/nix/store/{HASH}-top-2.0")).unwrap();
        assert_eq!(path.hash().as_str(), HASH);
        assert_eq!(path.name(), "top-2.0");
        assert_eq!(path.base_name(), format!("{HASH}-top-2.0"));
        assert_eq!(path.to_path("/gnu"), format!("/gnu/{HASH}-top-2.0"));
        assert_eq!(StorePath::from_base_name(&path.base_name()), Ok(path));
    }

    #[test]
    fn other_store_directories_and_deeper_paths_are_refused() {
        let parse = |text: String| StorePath::parse("/nix/store", &text);
        assert_eq!(
            parse(format!("/gnu/store/{HASH}-a")),
            Err(InvalidStorePath::Foreign)
        );
        assert_eq!(
            parse(format!("/nix/store2/{HASH}-a")),
            Err(InvalidStorePath::Foreign)
        );
        assert_eq!(parse(format!("{HASH}-a")), Err(InvalidStorePath::Foreign));
        assert_eq!(
            parse(format!("/nix/store//{HASH}-a")),
            Err(InvalidStorePath::Hash)
        );
        assert_eq!(
            parse(format!("/nix/store/{HASH}-a/bin")),
            Err(InvalidStorePath::Name)
        );
    }

    #[test]
    fn a_hash_is_32_characters_of_nix32() {
        let wrong = [
            "y7p5hy9p6crpivv064i60p31mjfx3a5",
            "y7p5hy9p6crpivv064i60p31mjfx3a544",
            "e7p5hy9p6crpivv064i60p31mjfx3a54",
            "y7p5ho9p6crpivv064i60p31mjfx3a54",
            "y7p5hy9t6crpivv064i60p31mjfx3a54",
            "y7p5hy9p6crpivv064i60p31mjfx3a5u",
            "Y7P5HY9P6CRPIVV064I60P31MJFX3A54",
            "../../../../../../../etc/passwd0",
            "",
        ];
        for text in wrong {
            assert_eq!(
                text.parse::<StorePathHash>(),
                Err(InvalidStorePath::Hash),
                "{text}"
            );
        }
        assert_eq!(HASH.parse::<StorePathHash>().unwrap().to_string(), HASH);
    }

    #[test]
    fn names_follow_nix() {
        let longest = "x".repeat(211);
        let named = |name: &str| StorePath::from_base_name(&format!("{HASH}-{name}"));
        for name in ["a", "A-1.0_b+c?d=e", ".x", "..x", "...", "-", &longest] {
            assert!(named(name).is_ok(), "{name}");
        }
        let too_long = "x".repeat(212);
        for name in [
            "", ".", "..", ".-a", "..-a", "a b", "a/b", "a%b", "é", "a\n", &too_long,
        ] {
            assert_eq!(named(name), Err(InvalidStorePath::Name), "{name}");
        }
        assert_eq!(StorePath::from_base_name(HASH), Err(InvalidStorePath::Name));
        assert_eq!(
            StorePath::from_base_name("short-a"),
            Err(InvalidStorePath::Hash)
        );
    }
}
