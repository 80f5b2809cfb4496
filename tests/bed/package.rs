//! Packages: the two objects by which a binary cache knows a store path, its NAR and its narinfo.
//!
//! A gateway never looks inside a NAR, so these NARs are just bytes, the same at every run. What
//! it does look at is right: names, hashes, sizes, and a signature over Nix's fingerprint.

use data_encoding::BASE64;
use ed25519_dalek::SigningKey;
use narwharf::nix::base32;
use narwharf::nix::hash::Sha256Hash;
use narwharf::nix::narinfo::Narinfo;
use narwharf::nix::signature::SecretKey;

const STORE_DIR: &str = "/nix/store";

/// A package to be built. As made: 100 KiB, uncompressed, named by its hash as Nix does.
#[derive(Debug, Clone)]
pub struct Package {
    name: String,
    nar_bytes: Vec<u8>,
    compression: &'static str,
    naming: Naming,
    lines: Vec<(&'static str, Option<String>)>,
}

/// How the NAR's key comes about.
#[derive(Debug, Clone)]
enum Naming {
    /// By the SHA-256 of the file: Nix itself.
    ByHash,
    /// By store path and NAR hash: nix-serve.
    NixServe,
    /// By the NAR hash, with the store path as a query: harmonia.
    Harmonia,
    As(String),
}

/// A package as a cache holds it.
#[derive(Debug, Clone)]
pub struct Built {
    pub store_path: String,
    /// The NAR's key, with its query if it has one.
    pub nar: String,
    pub nar_bytes: Vec<u8>,
    /// The narinfo's key.
    pub narinfo: String,
    pub narinfo_text: String,
}

impl Package {
    /// The name alone decides about the store path and the bytes.
    pub fn named(name: &str) -> Self {
        let package = Self {
            name: name.to_owned(),
            nar_bytes: Vec::new(),
            compression: "none",
            naming: Naming::ByHash,
            lines: Vec::new(),
        };
        package.nar_bytes(100 * super::KIB)
    }

    /// So long a NAR, as stored.
    pub fn nar_bytes(mut self, len: usize) -> Self {
        self.nar_bytes = noise(&self.name, len);
        self
    }

    /// These very bytes as the stored NAR.
    pub fn nar_of(mut self, bytes: &[u8]) -> Self {
        self.nar_bytes = bytes.to_vec();
        self
    }

    /// Says that the stored NAR is compressed, so that `NarHash` is not its hash.
    pub fn compression(mut self, compression: &'static str) -> Self {
        self.compression = compression;
        self
    }

    /// Names the NAR as nix-serve does.
    pub fn named_as_nix_serve(mut self) -> Self {
        self.naming = Naming::NixServe;
        self
    }

    /// Names the NAR as harmonia does.
    pub fn named_as_harmonia(mut self) -> Self {
        self.naming = Naming::Harmonia;
        self
    }

    /// Puts the NAR under this key, whatever its bytes.
    pub fn nar_key(mut self, key: &str) -> Self {
        self.naming = Naming::As(key.to_owned());
        self
    }

    /// Another value for a line of the narinfo. The signature is made over what it then says.
    pub fn line(mut self, field: &'static str, value: &str) -> Self {
        self.lines.push((field, Some(value.to_owned())));
        self
    }

    /// Leaves a line out of the narinfo.
    pub fn without_line(mut self, field: &'static str) -> Self {
        self.lines.push((field, None));
        self
    }

    pub fn build(self) -> Built {
        let path_hash = base32::encode(&digest(&[b"store path of", self.name.as_bytes()])[..20]);
        let store_path = format!("{STORE_DIR}/{path_hash}-{}", self.name);
        let file_hash = Sha256Hash::of(&self.nar_bytes);
        let is_plain = self.compression == "none";
        let nar_hash = if is_plain {
            file_hash
        } else {
            Sha256Hash::of(&digest(&[b"unpacked", &self.nar_bytes]))
        };
        let nar_size = self.nar_bytes.len() * if is_plain { 1 } else { 3 };
        let (file_name, nar_name) = (file_hash.to_nix32(), nar_hash.to_nix32());
        let suffix = match self.compression {
            "none" => "",
            "xz" => ".xz",
            "zstd" => ".zst",
            "bzip2" => ".bz2",
            other => panic!("no suffix is known for {other}"),
        };
        let nar = match self.naming {
            Naming::ByHash => format!("nar/{file_name}.nar{suffix}"),
            Naming::NixServe => format!("nar/{path_hash}-{nar_name}.nar{suffix}"),
            Naming::Harmonia => format!("nar/{nar_name}.nar{suffix}?hash={path_hash}"),
            Naming::As(key) => key,
        };
        let mut lines: Vec<(&str, String)> = vec![
            ("StorePath", store_path.clone()),
            ("URL", nar.clone()),
            ("Compression", self.compression.to_owned()),
            ("FileHash", format!("sha256:{file_name}")),
            ("FileSize", self.nar_bytes.len().to_string()),
            ("NarHash", format!("sha256:{nar_name}")),
            ("NarSize", nar_size.max(1).to_string()),
            ("References", String::new()),
        ];
        for (field, value) in self.lines {
            lines.retain(|(name, _)| *name != field);
            lines.extend(value.map(|value| (field, value)));
        }
        let unsigned: String = lines
            .iter()
            .map(|(field, value)| format!("{field}: {value}\n"))
            .collect();
        Built {
            store_path,
            nar,
            nar_bytes: self.nar_bytes,
            narinfo: format!("{path_hash}.narinfo"),
            narinfo_text: signed(unsigned),
        }
    }
}

/// The public half of the key that signs every package, as `signing.trusted_public_keys` has it.
pub fn public_key() -> String {
    secret_key().public_key().to_string()
}

/// With its signature, unless a line that was changed leaves nothing to be signed.
fn signed(narinfo: String) -> String {
    match Narinfo::parse(STORE_DIR, narinfo.as_bytes()) {
        Ok(parsed) => {
            let signature = secret_key().sign(&parsed.fingerprint(STORE_DIR));
            format!("{narinfo}Sig: {signature}\n")
        }
        Err(_) => narinfo,
    }
}

fn secret_key() -> SecretKey {
    let key = SigningKey::from_bytes(&[23; 32]);
    let text = format!("bed-1:{}", BASE64.encode(&key.to_keypair_bytes()));
    text.parse().expect("a key pair in Nix's form")
}

fn digest(parts: &[&[u8]]) -> Vec<u8> {
    let hash = Sha256Hash::of(&parts.concat());
    base32::decode(&hash.to_nix32()).expect("what was just encoded")
}

/// Bytes that do not repeat and are the same at every run: splitmix64 from a seed of the name.
fn noise(name: &str, len: usize) -> Vec<u8> {
    let seed = digest(&[name.as_bytes()]);
    let mut state = u64::from_le_bytes(seed[..8].try_into().expect("eight bytes"));
    let words = std::iter::repeat_with(move || {
        state = state.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mixed = (state ^ (state >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        (mixed ^ (mixed >> 31)).to_le_bytes()
    });
    let mut bytes: Vec<u8> = words.take(len.div_ceil(8)).flatten().collect();
    bytes.truncate(len);
    bytes
}
