//! nix32, the base 32 in which Nix writes hashes.
//!
//! It is neither RFC 4648 nor a permutation of it: the bytes are read as one little-endian number
//! and its digits are written most significant first. So we take 5 bits at a time from the least
//! significant end and turn the text around. Decoding is strict, so that one value has one text:
//! a key in the bucket and a hash in a narinfo compare as text exactly when they compare as bytes.
//!
//! Source: Nix, `libutil/base-nix-32.cc` (older: `printHash32` in `hash.cc`).

use std::sync::LazyLock;

use data_encoding::{BitOrder, DecodeKind, Encoding, Specification};

/// Digits and lower-case letters without `e`, `o`, `t` and `u`.
pub const ALPHABET: &str = "0123456789abcdfghijklmnpqrsvwxyz";

static LEAST_SIGNIFICANT_FIRST: LazyLock<Encoding> = LazyLock::new(|| {
    let mut specification = Specification::new();
    specification.symbols.push_str(ALPHABET);
    specification.bit_order = BitOrder::LeastSignificantFirst;
    specification
        .encoding()
        .expect("32 distinct symbols are a valid base")
});

/// For each byte, whether it is of the alphabet: every key is checked by it.
const IN_ALPHABET: [bool; 256] = {
    let mut table = [false; 256];
    let mut at = 0;
    while at < ALPHABET.len() {
        table[ALPHABET.as_bytes()[at] as usize] = true;
        at += 1;
    }
    table
};

/// Whether each of the characters is one of nix32.
pub fn are_digits(characters: &[u8]) -> bool {
    characters.iter().all(|byte| IN_ALPHABET[*byte as usize])
}

/// Why a text is not nix32.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum InvalidBase32 {
    /// A byte outside the alphabet, counted from 0. Upper case counts as outside.
    #[error("byte {position} is not one of {ALPHABET}")]
    Symbol { position: usize },
    /// No whole number of bytes is written with this many characters.
    #[error("no whole number of bytes has {len} characters in nix32")]
    Length { len: usize },
    /// The first character carries bits beyond the last byte.
    #[error("the first character stands for more bits than there is room for")]
    Overflow,
}

/// The text of `bytes`: `ceil(8 * len / 5)` characters, 52 for a SHA-256.
pub fn encode(bytes: &[u8]) -> String {
    let mut text = LEAST_SIGNIFICANT_FIRST.encode(bytes).into_bytes();
    text.reverse();
    String::from_utf8(text).expect("the alphabet is ASCII")
}

/// The bytes of `text`. Errors: anything that [`encode`] would not have written.
pub fn decode(text: &str) -> Result<Vec<u8>, InvalidBase32> {
    let mut reversed = text.as_bytes().to_vec();
    reversed.reverse();
    LEAST_SIGNIFICANT_FIRST
        .decode(&reversed)
        .map_err(|error| match error.kind {
            DecodeKind::Symbol | DecodeKind::Padding => InvalidBase32::Symbol {
                position: reversed.len() - 1 - error.position,
            },
            DecodeKind::Length => InvalidBase32::Length {
                len: reversed.len(),
            },
            DecodeKind::Trailing => InvalidBase32::Overflow,
        })
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    /// SHA-1 of `abc`, as in Nix's own test of `Hash::to_string`.
    #[test]
    fn a_known_digest_has_the_text_nix_gives_it() {
        let sha1_of_abc = [
            0xa9, 0x99, 0x3e, 0x36, 0x47, 0x06, 0x81, 0x6a, 0xba, 0x3e, 0x25, 0x71, 0x78, 0x50,
            0xc2, 0x6c, 0x9c, 0xd0, 0xd8, 0x9d,
        ];
        assert_eq!(encode(&sha1_of_abc), "kpcd173cq987hw957sx6m0868wv3x6d9");
        assert_eq!(
            decode("kpcd173cq987hw957sx6m0868wv3x6d9").as_deref(),
            Ok(&sha1_of_abc[..])
        );
    }

    #[test]
    fn a_sha256_begins_with_0_or_1() {
        assert_eq!(encode(&[0xff; 32]), format!("1{}", "z".repeat(51)));
        assert_eq!(
            decode(&format!("2{}", "0".repeat(51))),
            Err(InvalidBase32::Overflow)
        );
    }

    #[test]
    fn letters_outside_the_alphabet_are_named_by_their_place() {
        for wrong in ["0e", "0o", "0t", "0u", "0A", "0=", "0é"] {
            let found = decode(wrong);
            assert!(
                matches!(
                    found,
                    Err(InvalidBase32::Symbol { .. } | InvalidBase32::Length { .. })
                ),
                "{wrong}: {found:?}"
            );
        }
        assert_eq!(
            decode(&format!("0u{}", "0".repeat(50))),
            Err(InvalidBase32::Symbol { position: 1 })
        );
    }

    #[test]
    fn lengths_that_no_bytes_have_are_refused() {
        assert_eq!(decode("0"), Err(InvalidBase32::Length { len: 1 }));
        assert_eq!(
            decode(&"0".repeat(51)),
            Err(InvalidBase32::Length { len: 51 })
        );
        assert_eq!(decode(""), Ok(vec![]));
    }

    proptest! {
        #[test]
        fn decoding_undoes_encoding(bytes in proptest::collection::vec(any::<u8>(), 0..80)) {
            prop_assert_eq!(decode(&encode(&bytes)), Ok(bytes));
        }

        #[test]
        fn what_decodes_encodes_to_the_same_text(text in "[0-9a-df-np-sv-z]{0,60}") {
            if let Ok(bytes) = decode(&text) {
                prop_assert_eq!(encode(&bytes), text);
            }
        }
    }
}
