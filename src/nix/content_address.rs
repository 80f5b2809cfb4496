//! Content addresses (the `CA` field), and whether a store path is the one its content asks for.
//!
//! A path whose hash follows from its content needs no signature: whoever changes the content
//! changes the path. What can be checked without the NAR is that name, references and the claimed
//! content hash give exactly this path. That the content has that hash is checked by the client
//! when it unpacks the NAR, except where the `NarHash` line already shows it; then we check it too.
//!
//! Source: Nix, `libstore/content-address.cc` (the texts) and `libstore/store-dir-config.cc`
//! (`makeStorePath`, `makeFixedOutputPath`, `makeFixedOutputPathFromCA`).

use std::str::FromStr;

use super::base32;
use super::hash::{AnyHash, HashAlgorithm, Sha256Hash};
use super::store_path::{StorePath, StorePathHash};

/// How a store object was put into words before it was hashed, and the hash.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ContentAddress {
    method: Method,
    hash: AnyHash,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Method {
    /// `text:`, a file with references, as derivations are.
    Text,
    /// `fixed:`, one plain file.
    Flat,
    /// `fixed:r:`, the NAR.
    NixArchive,
    /// `fixed:git:`, the Git blob or tree.
    Git,
}

/// The text is none of the four forms of a `CA` field.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("a content address is text:sha256:<hash> or fixed:[r:|git:]<algorithm>:<hash>")]
pub struct InvalidContentAddress;

impl FromStr for ContentAddress {
    type Err = InvalidContentAddress;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let (scheme, rest) = text.split_once(':').ok_or(InvalidContentAddress)?;
        let (method, rest) = match scheme {
            "text" => (Method::Text, rest),
            "fixed" => match rest.split_once(':') {
                Some(("r", rest)) => (Method::NixArchive, rest),
                Some(("git", rest)) => (Method::Git, rest),
                _ => (Method::Flat, rest),
            },
            _ => return Err(InvalidContentAddress),
        };
        let (algorithm, digest) = rest.split_once(':').ok_or(InvalidContentAddress)?;
        let algorithm = HashAlgorithm::from_name(algorithm).ok_or(InvalidContentAddress)?;
        if method == Method::Text && algorithm != HashAlgorithm::Sha256 {
            return Err(InvalidContentAddress);
        }
        let hash = AnyHash::from_digest(algorithm, digest).map_err(|_| InvalidContentAddress)?;
        Ok(Self { method, hash })
    }
}

impl ContentAddress {
    /// Whether `path`, with these references and this NAR, is where Nix would put this content.
    ///
    /// `references` must be in bytewise order and may hold `path` itself.
    pub fn accounts_for(
        &self,
        store_dir: &str,
        path: &StorePath,
        references: &[StorePath],
        nar_hash: Sha256Hash,
    ) -> bool {
        let refers_to_itself = references.contains(path);
        let others: Vec<&StorePath> = references.iter().filter(|other| *other != path).collect();
        let kind_and_hash = match (self.method, self.hash.sha256()) {
            (Method::Text, Some(_)) if !refers_to_itself => {
                self.with_references("text", store_dir, &others, false)
            }
            // With a self-reference the hash is that of the NAR with its own path blanked out.
            (Method::NixArchive, Some(hash)) if refers_to_itself || hash == nar_hash => {
                self.with_references("source", store_dir, &others, refers_to_itself)
            }
            (Method::Flat | Method::Git, _) | (Method::NixArchive, None)
                if references.is_empty() && self.is_allowed() =>
            {
                self.as_fixed_output()
            }
            _ => return false,
        };
        path.hash() == store_path_hash(&kind_and_hash, store_dir, path.name())
    }

    /// Git knows objects by SHA-1 and SHA-256 only.
    fn is_allowed(&self) -> bool {
        self.method != Method::Git
            || matches!(
                self.hash.algorithm(),
                HashAlgorithm::Sha1 | HashAlgorithm::Sha256
            )
    }

    fn with_references(
        &self,
        kind: &str,
        store_dir: &str,
        others: &[&StorePath],
        refers_to_itself: bool,
    ) -> String {
        let mut text = String::from(kind);
        for other in others {
            text.push(':');
            text.push_str(&other.to_path(store_dir));
        }
        if refers_to_itself {
            text.push_str(":self");
        }
        format!("{text}:{}", self.hash.to_base16())
    }

    fn as_fixed_output(&self) -> String {
        let method = match self.method {
            Method::NixArchive => "r:",
            Method::Git => "git:",
            Method::Flat | Method::Text => "",
        };
        let inner = format!("fixed:out:{method}{}:", self.hash.to_base16());
        let outer = data_encoding::HEXLOWER.encode(Sha256Hash::of(inner.as_bytes()).as_bytes());
        format!("output:out:sha256:{outer}")
    }
}

/// `makeStorePath`: the SHA-256 of the description, folded to 20 bytes (`compressHash`).
fn store_path_hash(kind_and_hash: &str, store_dir: &str, name: &str) -> StorePathHash {
    let description = format!("{kind_and_hash}:{store_dir}:{name}");
    let mut folded = [0u8; 20];
    for (at, byte) in Sha256Hash::of(description.as_bytes())
        .as_bytes()
        .iter()
        .enumerate()
    {
        folded[at % 20] ^= byte;
    }
    base32::encode(&folded)
        .parse()
        .expect("20 bytes are 32 characters of nix32")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn checks_out(ca: &str, path: &str, references: &[&str], nar_hash: Sha256Hash) -> bool {
        let references: Vec<StorePath> = references
            .iter()
            .map(|base_name| StorePath::from_base_name(base_name).unwrap())
            .collect();
        ca.parse::<ContentAddress>().unwrap().accounts_for(
            "/nix/store",
            &StorePath::from_base_name(path).unwrap(),
            &references,
            nar_hash,
        )
    }

    const FOO: &str = "vxjiwkjkn7x4079qvh1jkl5pn05j2aw0-foo";
    const ANY_NAR: Sha256Hash = Sha256Hash::from_bytes([7; 32]);

    /// `builtins.toFile "foo" "bar"`, and `builtins.toFile "baz"` of the path that gives.
    #[test]
    fn text_files_lie_where_nix_puts_them() {
        let bar = format!("text:{}", Sha256Hash::of(b"bar"));
        assert!(checks_out(&bar, FOO, &[], ANY_NAR));
        assert!(!checks_out(
            &bar,
            "vxjiwkjkn7x4079qvh1jkl5pn05j2aw0-fop",
            &[],
            ANY_NAR
        ));
        assert!(!checks_out(&bar, FOO, &[FOO], ANY_NAR));

        let path_of_foo = format!("/nix/store/{FOO}");
        let baz = format!("text:{}", Sha256Hash::of(path_of_foo.as_bytes()));
        assert!(checks_out(
            &baz,
            "5xd714cbfnkz02h2vbsj4fm03x3f15nf-baz",
            &[FOO],
            ANY_NAR
        ));
        assert!(!checks_out(
            &baz,
            "5xd714cbfnkz02h2vbsj4fm03x3f15nf-baz",
            &[],
            ANY_NAR
        ));
    }

    /// The directory of Nix Pill 18: `myfile` with the content `mycontent`.
    #[test]
    fn a_nar_by_sha256_must_also_be_the_nar_of_the_narinfo() {
        let hex = "2bfef67de873c54551d884fdab3055d84d573e654efa79db3c0d7b98883f9ee3";
        let ca = format!("fixed:r:sha256:{hex}");
        let path = "xv2iccirbrvklck36f1g7vldn5v58vck-myfile";
        let nar_hash = Sha256Hash::parse(&format!("sha256:{hex}")).unwrap();
        assert!(checks_out(&ca, path, &[], nar_hash));
        assert!(!checks_out(&ca, path, &[], ANY_NAR));
        assert!(!checks_out(&ca, path, &[FOO], nar_hash));
    }

    /// The path info of Nix's own unit tests (`libstore-tests/path-info.cc`): one other reference
    /// and one to itself.
    #[test]
    fn a_self_reference_is_part_of_the_path() {
        let ca = format!("fixed:r:{}", Sha256Hash::of(b"(...)"));
        let path = "n5wkd9frr45pa74if5gpz9j7mifg27fh-foo";
        let other = "g1w7hy3qg1w7hy3qg1w7hy3qg1w7hy3q-bar";
        assert!(checks_out(&ca, path, &[other, path], ANY_NAR));
        assert!(!checks_out(&ca, path, &[path], ANY_NAR));
        assert!(!checks_out(&ca, path, &[other], ANY_NAR));
    }

    /// The fixed output of Nix Pill 18: `bar` with the content `mycontent`.
    #[test]
    fn a_flat_fixed_output_may_not_refer_to_anything() {
        let ca = "fixed:sha256:f3f3c4763037e059b4d834eaf68595bbc02ba19f6d2a500dce06d124e2cd99bb";
        let path = "a00d5f71k0vp5a6klkls0mvr1f7sx6ch-bar";
        assert!(checks_out(ca, path, &[], ANY_NAR));
        assert!(!checks_out(ca, path, &[FOO], ANY_NAR));
        assert!(!checks_out(
            &ca.replace("fixed:", "fixed:git:"),
            path,
            &[],
            ANY_NAR
        ));
    }

    #[test]
    fn the_four_forms_are_read_and_nothing_else() {
        let hash = Sha256Hash::of(b"").to_nix32();
        for form in [
            "text:sha256",
            "fixed:sha256",
            "fixed:r:sha256",
            "fixed:git:sha256",
        ] {
            assert!(
                format!("{form}:{hash}").parse::<ContentAddress>().is_ok(),
                "{form}"
            );
        }
        let sha1 = "kpcd173cq987hw957sx6m0868wv3x6d9";
        assert!(
            format!("fixed:r:sha1:{sha1}")
                .parse::<ContentAddress>()
                .is_ok()
        );
        for text in [
            String::new(),
            hash.clone(),
            format!("sha256:{hash}"),
            format!("ipfs:sha256:{hash}"),
            format!("text:r:sha256:{hash}"),
            format!("text:sha1:{sha1}"),
            format!("fixed:x:sha256:{hash}"),
            format!("fixed:sha256:{}", &hash[1..]),
            format!("fixed:sha256-{hash}"),
        ] {
            assert_eq!(
                text.parse::<ContentAddress>(),
                Err(InvalidContentAddress),
                "{text}"
            );
        }
    }
}
