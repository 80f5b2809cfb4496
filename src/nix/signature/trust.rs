//! Whether a narinfo may be believed.
//!
//! One good signature by a trusted key is enough, and bad ones beside it do no harm, as in Nix
//! (`ValidPathInfo::checkSignatures`). A path that follows from its content needs no signature.

use super::super::content_address::ContentAddress;
use super::super::narinfo::Narinfo;
use super::PublicKey;

/// The keys whose word we take.
#[derive(Debug, Clone, Default)]
pub struct TrustedKeys(Vec<PublicKey>);

impl FromIterator<PublicKey> for TrustedKeys {
    fn from_iter<I: IntoIterator<Item = PublicKey>>(keys: I) -> Self {
        Self(keys.into_iter().collect())
    }
}

/// Whether a narinfo may be believed, and on whose word.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Verdict {
    /// The trusted key of this name signed it.
    SignedBy(String),
    /// Its path follows from its content, which the client checks.
    ContentAddressed,
    /// Neither; `seen` are the key names on its signatures, for the message.
    Untrusted { seen: Vec<String> },
}

impl TrustedKeys {
    /// The keys' names, for messages.
    pub fn names(&self) -> Vec<&str> {
        self.0.iter().map(PublicKey::name).collect()
    }

    /// Judges a narinfo of this store directory. CPU only: tens of microseconds for each signature that
    /// bears a trusted name, of which a narinfo has at most
    /// [`MAX_SIGNATURES`](super::super::narinfo::MAX_SIGNATURES).
    pub fn verdict(&self, narinfo: &Narinfo, store_dir: &str) -> Verdict {
        if let Some(name) = self.signer(narinfo, store_dir) {
            return Verdict::SignedBy(name.to_owned());
        }
        if is_content_addressed(narinfo, store_dir) {
            return Verdict::ContentAddressed;
        }
        let seen = narinfo.signatures.iter();
        Verdict::Untrusted {
            seen: seen.map(|signature| signature.key_name.clone()).collect(),
        }
    }

    fn signer(&self, narinfo: &Narinfo, store_dir: &str) -> Option<&str> {
        let fingerprint = narinfo.fingerprint(store_dir);
        self.0
            .iter()
            .find(|key| {
                let mut signatures = narinfo.signatures.iter();
                signatures.any(|signature| key.verify(&fingerprint, signature))
            })
            .map(PublicKey::name)
    }
}

fn is_content_addressed(narinfo: &Narinfo, store_dir: &str) -> bool {
    let address = narinfo.ca.as_deref().map(str::parse::<ContentAddress>);
    matches!(address, Some(Ok(address)) if address.accounts_for(
        store_dir,
        &narinfo.store_path,
        &narinfo.references,
        narinfo.nar_hash,
    ))
}

#[cfg(test)]
mod tests {
    use super::super::super::hash::Sha256Hash;
    use super::super::tests::{PUBLIC, SIG_A, SIG_B};
    use super::*;

    fn public() -> PublicKey {
        PUBLIC.parse().unwrap()
    }

    fn narinfo(lines: &str) -> Narinfo {
        let text = format!(
            "StorePath: /nix/store/y7p5hy9p6crpivv064i60p31mjfx3a54-top-2.0\n\
             URL: nar/x.nar\n\
             NarHash: sha256:0wq916svq5vfbqznjhwbv32ggd1p2j5sdm374pnpxsw9pbszwghj\n\
             NarSize: 576\n{lines}"
        );
        Narinfo::parse("/nix/store", text.as_bytes()).unwrap()
    }

    const REFERENCES: &str = "References: y7p5hy9p6crpivv064i60p31mjfx3a54-top-2.0 \
                              366d43aifcxrn3m3331144swaa9f6dv9-dep-1.0 \
                              y7p5hy9p6crpivv064i60p31mjfx3a54-top-2.0\n";

    #[test]
    fn one_good_signature_among_bad_ones_is_enough() {
        let trusted = TrustedKeys::from_iter([public()]);
        let other = SIG_A.replacen("obs", "other", 1);
        let signed = narinfo(&format!(
            "{REFERENCES}Sig: {SIG_B}\nSig: {other}\nSig: {SIG_A}\n"
        ));
        assert_eq!(
            trusted.verdict(&signed, "/nix/store"),
            Verdict::SignedBy("obs.example-1".into())
        );
    }

    #[test]
    fn an_unknown_or_wrong_signature_is_no_trust() {
        let trusted = TrustedKeys::from_iter([public()]);
        let other = SIG_A.replacen("obs.example-1", "other", 1);
        let unknown = narinfo(&format!("{REFERENCES}Sig: {other}\nSig: {SIG_B}\n"));
        let seen = vec!["other".to_owned(), "obs.example-1".to_owned()];
        assert_eq!(
            trusted.verdict(&unknown, "/nix/store"),
            Verdict::Untrusted { seen: seen.clone() }
        );
        assert_eq!(
            TrustedKeys::default().verdict(&unknown, "/nix/store"),
            Verdict::Untrusted { seen }
        );
        let other_references = narinfo(&format!("Sig: {SIG_A}\n"));
        assert!(matches!(
            trusted.verdict(&other_references, "/nix/store"),
            Verdict::Untrusted { .. }
        ));
    }

    #[test]
    fn a_content_address_must_check_out() {
        let of = |text: &str| {
            let text = format!(
                "StorePath: /nix/store/vxjiwkjkn7x4079qvh1jkl5pn05j2aw0-foo\n\
                 URL: nar/x.nar\nNarSize: 120\nNarHash: {}\nCA: {text}\n",
                Sha256Hash::of(b"some NAR")
            );
            let narinfo = Narinfo::parse("/nix/store", text.as_bytes()).unwrap();
            TrustedKeys::default().verdict(&narinfo, "/nix/store")
        };
        let bar = Sha256Hash::of(b"bar");
        assert_eq!(of(&format!("text:{bar}")), Verdict::ContentAddressed);
        let untrusted = Verdict::Untrusted { seen: vec![] };
        assert_eq!(of(&format!("fixed:{bar}")), untrusted);
        let baz = Sha256Hash::of(b"baz");
        assert_eq!(of(&format!("text:{baz}")), untrusted);
    }
}
