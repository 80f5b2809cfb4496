//! Hashes as Nix writes them, and the SHA-256 that names everything in a binary cache.
//!
//! A hash has four texts: `sha256:` followed by base16, nix32 or base64, told apart by length, and
//! SRI (`sha256-` followed by base64). A missing prefix is an error, as it is to Nix
//! (`Hash::parseAnyPrefixed` in `libutil/hash.cc`): a bare digest says nothing about its algorithm.

use std::fmt;

use data_encoding::{BASE64, HEXLOWER, HEXLOWER_PERMISSIVE};
use sha2::{Digest, Sha256};

use super::base32;

/// A SHA-256. `Display` and `Debug` show the form of narinfos and fingerprints, `sha256:` + nix32.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Sha256Hash([u8; 32]);

impl Sha256Hash {
    /// Characters of [`Sha256Hash::to_nix32`].
    pub const NIX32_LEN: usize = 52;

    pub const fn from_bytes(bytes: [u8; 32]) -> Self {
        Self(bytes)
    }

    /// The hash of `content`.
    pub fn of(content: &[u8]) -> Self {
        Self(Sha256::digest(content).into())
    }

    /// Reads any of the four texts. Errors: no prefix, another algorithm, a malformed digest.
    pub fn parse(text: &str) -> Result<Self, InvalidHash> {
        AnyHash::parse(text)?.sha256().ok_or(InvalidHash::NotSha256)
    }

    /// Reads the bare 52 characters that name a file under `nar/`; `None` for any other text.
    pub fn from_nix32(text: &str) -> Option<Self> {
        base32::decode(text).ok()?.try_into().ok().map(Self)
    }

    pub const fn as_bytes(&self) -> &[u8; 32] {
        &self.0
    }

    /// The bare 52 characters.
    pub fn to_nix32(&self) -> String {
        base32::encode(&self.0)
    }
}

impl fmt::Display for Sha256Hash {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "sha256:{}", self.to_nix32())
    }
}

impl fmt::Debug for Sha256Hash {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

/// Why a text is no hash. Shown to uploaders as part of a longer line.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum InvalidHash {
    #[error("a hash begins with its algorithm, as in sha256:…")]
    NoAlgorithm,
    #[error("the algorithm must be sha256")]
    NotSha256,
    #[error("the digest must be {bytes} bytes in base16, nix32 or base64")]
    Digest { bytes: usize },
}

/// The algorithms Nix knows (`HashAlgorithm` in `libutil/hash.hh`).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum HashAlgorithm {
    Md5,
    Sha1,
    Sha256,
    Sha512,
    Blake3,
}

impl HashAlgorithm {
    const ALL: [Self; 5] = [
        Self::Md5,
        Self::Sha1,
        Self::Sha256,
        Self::Sha512,
        Self::Blake3,
    ];

    pub fn from_name(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|known| known.name() == name)
    }

    pub const fn name(self) -> &'static str {
        match self {
            Self::Md5 => "md5",
            Self::Sha1 => "sha1",
            Self::Sha256 => "sha256",
            Self::Sha512 => "sha512",
            Self::Blake3 => "blake3",
        }
    }

    /// Length of a digest in bytes.
    const fn digest_len(self) -> usize {
        match self {
            Self::Md5 => 16,
            Self::Sha1 => 20,
            Self::Sha256 | Self::Blake3 => 32,
            Self::Sha512 => 64,
        }
    }
}

/// A hash by any algorithm Nix knows: what `FileHash` and `CA` may hold.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AnyHash {
    algorithm: HashAlgorithm,
    digest: Vec<u8>,
}

impl AnyHash {
    /// Reads `algorithm:digest` or SRI. Errors: no known algorithm in front, a malformed digest.
    pub fn parse(text: &str) -> Result<Self, InvalidHash> {
        let at = text.find([':', '-']).ok_or(InvalidHash::NoAlgorithm)?;
        let algorithm = HashAlgorithm::from_name(&text[..at]).ok_or(InvalidHash::NoAlgorithm)?;
        let (separator, digest) = text[at..].split_at(1);
        match separator {
            "-" => Self::from_base64(algorithm, digest),
            _ => Self::from_digest(algorithm, digest),
        }
    }

    /// Reads a digest whose algorithm stands elsewhere. The length tells which base it is in.
    pub fn from_digest(algorithm: HashAlgorithm, text: &str) -> Result<Self, InvalidHash> {
        let bytes = algorithm.digest_len();
        let digest = if text.len() == bytes * 2 {
            HEXLOWER_PERMISSIVE.decode(text.as_bytes()).ok()
        } else if text.len() == (bytes * 8).div_ceil(5) {
            base32::decode(text).ok()
        } else {
            return Self::from_base64(algorithm, text);
        };
        let digest = digest.ok_or(InvalidHash::Digest { bytes })?;
        Ok(Self { algorithm, digest })
    }

    fn from_base64(algorithm: HashAlgorithm, text: &str) -> Result<Self, InvalidHash> {
        let bytes = algorithm.digest_len();
        BASE64
            .decode(text.as_bytes())
            .ok()
            .filter(|digest| digest.len() == bytes)
            .map(|digest| Self { algorithm, digest })
            .ok_or(InvalidHash::Digest { bytes })
    }

    pub fn algorithm(&self) -> HashAlgorithm {
        self.algorithm
    }

    /// The hash if its algorithm is SHA-256, else `None`.
    pub fn sha256(&self) -> Option<Sha256Hash> {
        match self.algorithm {
            HashAlgorithm::Sha256 => self.digest.as_slice().try_into().ok().map(Sha256Hash),
            _ => None,
        }
    }

    /// `algorithm:` + lower-case base16, the form that goes into store path computations.
    pub fn to_base16(&self) -> String {
        format!(
            "{}:{}",
            self.algorithm.name(),
            HEXLOWER.encode(&self.digest)
        )
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const EMPTY_HEX: &str = "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855";
    const EMPTY_NIX32: &str = "0mdqa9w1p6cmli6976v4wi0sw9r4p5prkj7lzfd1877wk11c9c73";
    const EMPTY_BASE64: &str = "47DEQpj8HBSa+/TImW+5JCeuQeRkm5NMpJWZG3hSuFU=";

    #[test]
    fn all_forms_of_one_hash_are_equal() {
        let empty = Sha256Hash::of(b"");
        for text in [
            format!("sha256:{EMPTY_HEX}"),
            format!("sha256:{}", EMPTY_HEX.to_uppercase()),
            format!("sha256:{EMPTY_NIX32}"),
            format!("sha256:{EMPTY_BASE64}"),
            format!("sha256-{EMPTY_BASE64}"),
        ] {
            assert_eq!(Sha256Hash::parse(&text), Ok(empty), "{text}");
        }
        assert_eq!(Sha256Hash::from_nix32(EMPTY_NIX32), Some(empty));
        assert_eq!(empty.to_string(), format!("sha256:{EMPTY_NIX32}"));
        assert_eq!(format!("{empty:?}"), empty.to_string());
    }

    #[test]
    fn a_prefix_is_required_and_must_be_sha256() {
        assert_eq!(
            Sha256Hash::parse(EMPTY_NIX32),
            Err(InvalidHash::NoAlgorithm)
        );
        assert_eq!(
            Sha256Hash::parse(&format!("SHA256:{EMPTY_HEX}")),
            Err(InvalidHash::NoAlgorithm)
        );
        assert_eq!(
            Sha256Hash::parse("sha1:kpcd173cq987hw957sx6m0868wv3x6d9"),
            Err(InvalidHash::NotSha256)
        );
        assert_eq!(
            Sha256Hash::parse(&format!("blake3:{EMPTY_HEX}")),
            Err(InvalidHash::NotSha256)
        );
    }

    #[test]
    fn malformed_digests_are_refused() {
        for text in [
            String::from("sha256:"),
            format!("sha256:{}", &EMPTY_HEX[1..]),
            format!("sha256:{}", EMPTY_NIX32.to_uppercase()),
            format!("sha256:{}", EMPTY_BASE64.trim_end_matches('=')),
            format!("sha256:{} ", EMPTY_NIX32),
            format!("sha256-{EMPTY_NIX32}"),
            format!("sha256-{EMPTY_HEX}"),
        ] {
            assert_eq!(
                Sha256Hash::parse(&text),
                Err(InvalidHash::Digest { bytes: 32 }),
                "{text}"
            );
        }
    }

    #[test]
    fn a_bare_name_must_be_exactly_52_characters_of_nix32() {
        for text in [
            &EMPTY_NIX32[1..],
            &format!("{EMPTY_NIX32}0"),
            EMPTY_HEX,
            "",
            "zz",
        ] {
            assert_eq!(Sha256Hash::from_nix32(text), None, "{text}");
        }
    }

    proptest! {
        #[test]
        fn what_is_shown_parses_back(bytes: [u8; 32]) {
            let hash = Sha256Hash::from_bytes(bytes);
            prop_assert_eq!(Sha256Hash::parse(&hash.to_string()), Ok(hash));
            prop_assert_eq!(Sha256Hash::from_nix32(&hash.to_nix32()), Some(hash));
        }

        #[test]
        fn no_text_makes_the_parser_panic(text in "(sha256|md5|sha1)?[:-]?\\PC{0,70}") {
            let _ = Sha256Hash::parse(&text);
        }
    }
}
