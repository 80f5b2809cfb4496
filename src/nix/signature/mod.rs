//! Ed25519 signatures of narinfos and the keys behind them.
//!
//! All three texts are `name:base64`; the name ends at the first colon and says which key is meant.
//! Signatures are checked by the strict rules (RFC 8032 §5.1.7 without cofactor, no small-order keys), so that one
//! message has one signature. Source: Nix, `libutil/signature/local-keys.cc`.

mod trust;

use std::fmt;
use std::str::FromStr;

use data_encoding::BASE64;
use ed25519_dalek::{Signer, SigningKey, VerifyingKey};

pub use trust::{TrustedKeys, Verdict};

/// A `Sig` line's value: who signed, and the 64 bytes.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Signature {
    key_name: String,
    bytes: [u8; 64],
}

impl Signature {
    /// The name the signer gave; nothing is proven by it.
    pub fn key_name(&self) -> &str {
        &self.key_name
    }
}

/// The text is not `name:base64` of 64 bytes. Such a line makes Nix ≥ 2.34 reject a narinfo.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("a signature is <key name>:<64 bytes in base64>")]
pub struct InvalidSignature;

impl FromStr for Signature {
    type Err = InvalidSignature;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let (key_name, bytes) = named_bytes(text).ok_or(InvalidSignature)?;
        Ok(Self { key_name, bytes })
    }
}

impl fmt::Display for Signature {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}", self.key_name, BASE64.encode(&self.bytes))
    }
}

/// A key as in `trusted-public-keys`: `cache.example-1:<32 bytes in base64>`.
#[derive(Clone, PartialEq, Eq)]
pub struct PublicKey {
    name: String,
    key: VerifyingKey,
}

impl PublicKey {
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Whether `signature` bears this key's name and was made by it over `fingerprint`.
    pub fn verify(&self, fingerprint: &str, signature: &Signature) -> bool {
        let bytes = ed25519_dalek::Signature::from_bytes(&signature.bytes);
        signature.key_name == self.name
            && self
                .key
                .verify_strict(fingerprint.as_bytes(), &bytes)
                .is_ok()
    }
}

/// Why a text is no key. The text itself is never part of the message: it may be a secret.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum InvalidKey {
    #[error("a key is <name>:<{bytes} bytes in base64>")]
    Form { bytes: usize },
    #[error("these bytes are no Ed25519 key that can be relied on")]
    Unusable,
}

impl FromStr for PublicKey {
    type Err = InvalidKey;

    /// Blanks around the text, as files and lists bring them, are skipped. Keys of small order,
    /// for which anybody can sign, are refused.
    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let (name, bytes) = named_bytes(text.trim()).ok_or(InvalidKey::Form { bytes: 32 })?;
        let key = VerifyingKey::from_bytes(&bytes).map_err(|_| InvalidKey::Unusable)?;
        if key.is_weak() {
            return Err(InvalidKey::Unusable);
        }
        Ok(Self { name, key })
    }
}

impl fmt::Display for PublicKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}", self.name, BASE64.encode(self.key.as_bytes()))
    }
}

impl fmt::Debug for PublicKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

/// A key file of `nix-store --generate-binary-cache-key`: `name:<seed and public key in base64>`.
pub struct SecretKey {
    name: String,
    key: SigningKey,
}

impl SecretKey {
    pub fn sign(&self, fingerprint: &str) -> Signature {
        Signature {
            key_name: self.name.clone(),
            bytes: self.key.sign(fingerprint.as_bytes()).to_bytes(),
        }
    }

    pub fn public_key(&self) -> PublicKey {
        PublicKey {
            name: self.name.clone(),
            key: self.key.verifying_key(),
        }
    }
}

impl FromStr for SecretKey {
    type Err = InvalidKey;

    /// Blanks around the text are skipped. A public half that does not belong to the seed is
    /// refused: signing with it would give the secret away.
    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let (name, bytes) = named_bytes(text.trim()).ok_or(InvalidKey::Form { bytes: 64 })?;
        let key = SigningKey::from_keypair_bytes(&bytes).map_err(|_| InvalidKey::Unusable)?;
        Ok(Self { name, key })
    }
}

impl fmt::Debug for SecretKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "SecretKey({}:…)", self.name)
    }
}

/// `name:base64` of exactly `N` bytes. The name is not empty and has no control characters.
fn named_bytes<const N: usize>(text: &str) -> Option<(String, [u8; N])> {
    let (name, base64) = text.split_once(':')?;
    if name.is_empty() || name.contains(char::is_control) {
        return None;
    }
    let bytes = BASE64.decode(base64.as_bytes()).ok()?.try_into().ok()?;
    Some((name.to_owned(), bytes))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A throw-away key pair of `nix-store --generate-binary-cache-key`, and two narinfos that
    /// Nix 2.8.0 signed with it.
    const SECRET: &str = "obs.example-1:mL/kuBachWMFpXhL8WLL2B9+hvMDEoNKMMPkiVqa2cktWKVkCk4j11JmC3kGoMymL12EzBRYbHuEAmHAwHKllw==";
    pub const PUBLIC: &str = "obs.example-1:LVilZApOI9dSZgt5BqDMpi9dhMwUWGx7hAJhwMBypZc=";
    const PRINT_A: &str = "1;/nix/store/y7p5hy9p6crpivv064i60p31mjfx3a54-top-2.0;sha256:0wq916svq5vfbqznjhwbv32ggd1p2j5sdm374pnpxsw9pbszwghj;576;/nix/store/366d43aifcxrn3m3331144swaa9f6dv9-dep-1.0,/nix/store/y7p5hy9p6crpivv064i60p31mjfx3a54-top-2.0";
    pub const SIG_A: &str = "obs.example-1:IL/ECx5htsGEW8Tl6YGzwbF9jn/JL7XZCJMnhKQJHJsNz9p5FpWJ3IgkH/9ybBNnmqYpg7Wrdm8Z5Rxy7POVDg==";
    const PRINT_B: &str = "1;/nix/store/366d43aifcxrn3m3331144swaa9f6dv9-dep-1.0;sha256:09nf9vx1wsykwnz5l8rlvb5x9vxi5sz6c9hz3n2nwrimmdc53vpv;888;";
    pub const SIG_B: &str = "obs.example-1:MbltdXnU9ftX1VQHTWvhVURm9dHscE+6FVn2ULOso/Aeo8yUl9JBne5NP05RbWF9UYc30b0eku9d/dImfa+5Bg==";

    fn public() -> PublicKey {
        PUBLIC.parse().unwrap()
    }

    #[test]
    fn what_nix_signed_verifies_and_signing_gives_the_same() {
        let secret: SecretKey = SECRET.parse().unwrap();
        assert_eq!(secret.public_key(), public());
        for (print, sig) in [(PRINT_A, SIG_A), (PRINT_B, SIG_B)] {
            let signature: Signature = sig.parse().unwrap();
            assert!(public().verify(print, &signature));
            assert_eq!(secret.sign(print), signature);
            assert_eq!(signature.to_string(), sig);
            assert_eq!(signature.key_name(), "obs.example-1");
        }
    }

    #[test]
    fn one_flipped_bit_spoils_a_signature() {
        let good: Signature = SIG_A.parse().unwrap();
        for byte in 0..64 {
            let mut bad = good.clone();
            bad.bytes[byte] ^= 1 << (byte % 8);
            assert!(!public().verify(PRINT_A, &bad), "in byte {byte}");
        }
        assert!(!public().verify(&PRINT_A.replace(";576;", ";577;"), &good));
        assert!(!public().verify(PRINT_B, &good));
    }

    #[test]
    fn a_signature_counts_only_under_its_keys_name() {
        let renamed: Signature = SIG_A.replacen("obs", "obx", 1).parse().unwrap();
        assert!(!public().verify(PRINT_A, &renamed));
    }

    #[test]
    fn malformed_signatures_are_refused() {
        let base64 = SIG_A.split_once(':').unwrap().1;
        for text in [
            "",
            ":",
            "key",
            "key:",
            base64,
            &format!(":{base64}"),
            &format!("key:{}", &base64[4..]),
            &format!("key:{}", base64.trim_end_matches('=')),
            &format!("key:{base64} "),
            &format!("key:x:{base64}"),
            &format!("k\tey:{base64}"),
        ] {
            assert_eq!(text.parse::<Signature>(), Err(InvalidSignature), "{text}");
        }
        assert_eq!(
            format!("my key:{base64}")
                .parse::<Signature>()
                .unwrap()
                .key_name(),
            "my key"
        );
    }

    #[test]
    fn keys_are_read_and_shown_but_secrets_are_not() {
        assert_eq!(
            format!(" {PUBLIC}\n")
                .parse::<PublicKey>()
                .unwrap()
                .to_string(),
            PUBLIC
        );
        let secret = format!("{SECRET}\n").parse::<SecretKey>().unwrap();
        assert_eq!(format!("{secret:?}"), "SecretKey(obs.example-1:…)");

        assert_eq!(
            SECRET.parse::<PublicKey>().unwrap_err(),
            InvalidKey::Form { bytes: 32 }
        );
        assert_eq!(
            PUBLIC.parse::<SecretKey>().unwrap_err(),
            InvalidKey::Form { bytes: 64 }
        );
        let torn = SECRET.replace("mL/k", "mL/m");
        assert_eq!(torn.parse::<SecretKey>().unwrap_err(), InvalidKey::Unusable);
        let of_small_order = format!("k:{}", BASE64.encode(&[0; 32]));
        assert_eq!(
            of_small_order.parse::<PublicKey>(),
            Err(InvalidKey::Unusable)
        );
    }
}
