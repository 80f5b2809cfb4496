//! Tokens: what a client shows to be let in, and what we keep of it.
//!
//! Only the SHA-256 is kept. A token of ours is 256 random bits, so a plain hash is as good as a
//! slow one, and comparing two hashes in constant time tells nothing of the token.

use std::fmt;
use std::io;
use std::str::FromStr;

use data_encoding::{BASE64URL_NOPAD, HEXLOWER, HEXLOWER_PERMISSIVE};
use secrecy::{ExposeSecret, SecretString};
use sha2::{Digest, Sha256};

/// A token that lets its bearer in.
#[derive(Clone, PartialEq, Eq)]
pub struct Token {
    /// For logs and messages.
    pub name: String,
    pub sha256: [u8; 32],
    pub scopes: Scopes,
    /// `None`: everything, namespaces and root alike.
    pub namespaces: Option<Vec<String>>,
}

/// What a token allows. None of the three includes another.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Scopes {
    pub read: bool,
    pub write: bool,
    pub admin: bool,
}

impl Scopes {
    pub const READ_WRITE: Self = Self {
        read: true,
        write: true,
        admin: false,
    };
}

impl Token {
    /// The one upload token of the settings: reads and writes everything.
    pub fn upload(token: &SecretString) -> Self {
        Self {
            name: "upload".to_owned(),
            sha256: sha256(token),
            scopes: Scopes::READ_WRITE,
            namespaces: None,
        }
    }
}

/// Without the hash: of a token that a person chose, it could be guessed.
impl fmt::Debug for Token {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Token")
            .field("name", &self.name)
            .field("scopes", &self.scopes)
            .field("namespaces", &self.namespaces)
            .finish_non_exhaustive()
    }
}

/// A new token: 32 bytes from the system's generator as 43 characters that need quoting nowhere.
///
/// # Errors
/// The system has no randomness to give.
pub fn random() -> io::Result<SecretString> {
    let mut bytes = [0; 32];
    getrandom::fill(&mut bytes).map_err(io::Error::other)?;
    Ok(SecretString::from(BASE64URL_NOPAD.encode(&bytes)))
}

/// The hash under which a token is kept.
pub fn sha256(token: &SecretString) -> [u8; 32] {
    Sha256::digest(token.expose_secret().as_bytes()).into()
}

/// A token's hash as settings write it: 64 hexadecimal digits.
pub fn hex(sha256: &[u8; 32]) -> String {
    HEXLOWER.encode(sha256)
}

/// The hash in `[[auth.token]]`.
pub struct Hash(pub [u8; 32]);

impl FromStr for Hash {
    type Err = &'static str;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let bytes = HEXLOWER_PERMISSIVE.decode(text.as_bytes()).ok();
        bytes
            .and_then(|bytes| bytes.try_into().ok())
            .map(Self)
            .ok_or(
                "is no SHA-256; allowed are the 64 hexadecimal digits that `narwharf token` prints, \
                 never the token itself",
            )
    }
}

/// One of `scopes` in `[[auth.token]]`.
#[derive(Clone, Copy)]
pub enum Scope {
    Read,
    Write,
    Admin,
}

impl FromStr for Scope {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        match text {
            "read" => Ok(Self::Read),
            "write" => Ok(Self::Write),
            "admin" => Ok(Self::Admin),
            _ => Err(format!(
                "{text:?} is no scope; allowed are read, write and admin"
            )),
        }
    }
}

impl FromIterator<Scope> for Scopes {
    fn from_iter<I: IntoIterator<Item = Scope>>(scopes: I) -> Self {
        scopes
            .into_iter()
            .fold(Self::default(), |all, scope| match scope {
                Scope::Read => Self { read: true, ..all },
                Scope::Write => Self { write: true, ..all },
                Scope::Admin => Self { admin: true, ..all },
            })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_new_token_is_43_characters_and_never_the_same() {
        let (one, other) = (random().unwrap(), random().unwrap());
        assert_eq!(one.expose_secret().len(), 43);
        assert_ne!(one.expose_secret(), other.expose_secret());
    }

    #[test]
    fn the_hash_is_sha256_of_the_tokens_text() {
        // The first example of FIPS 180-2, appendix B.1.
        assert_eq!(
            hex(&sha256(&SecretString::from("abc"))),
            "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad"
        );
    }

    #[test]
    fn a_hash_is_64_hexadecimal_digits_of_either_case() {
        let hash = sha256(&SecretString::from("abc"));
        assert_eq!(hex(&hash).parse::<Hash>().unwrap().0, hash);
        assert_eq!(hex(&hash).to_uppercase().parse::<Hash>().unwrap().0, hash);
        for text in ["", "abc", &hex(&hash)[1..], &hex(&hash).replace('b', "g")] {
            assert!(text.parse::<Hash>().is_err(), "{text:?}");
        }
    }

    #[test]
    fn debug_output_keeps_the_hash_to_itself() {
        let token = Token::upload(&SecretString::from("abc"));
        assert!(!format!("{token:?}").contains("186"));
    }
}
