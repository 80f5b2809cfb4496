//! What lies in the bucket: NARs of given sizes, narinfos alike in length, and a closure. Everything
//! is made from numbers, so it is the same at every run.

use std::io::Cursor;

use data_encoding::BASE64;
use narwharf::nix::base32;
use sha2::{Digest, Sha256};

use crate::bucket::Bucket;

/// An object that a server must give byte for byte.
#[derive(Clone)]
pub struct Object {
    pub key: String,
    pub length: u64,
    pub sha256: [u8; 32],
}

impl Object {
    fn put(bucket: &Bucket, key: String, bytes: &[u8], content_type: &str) -> Self {
        bucket.put(&key, Cursor::new(bytes), content_type);
        Self {
            key,
            length: bytes.len() as u64,
            sha256: Sha256::digest(bytes).into(),
        }
    }
}

/// A NAR that no other tag gives.
pub fn nar(bucket: &Bucket, tag: &str, length: usize) -> Object {
    let bytes = noise(tag, length);
    Object::put(bucket, nar_key(&bytes), &bytes, "application/x-nix-nar")
}

/// So many different NARs.
pub fn nars(bucket: &Bucket, tag: &str, count: usize, length: usize) -> Vec<Object> {
    (0..count)
        .map(|n| nar(bucket, &format!("{tag} {n}"), length))
        .collect()
}

/// The NAR's bytes alone, for an upload: its key, and what is to be sent.
pub fn unpublished_nar(tag: &str, length: usize) -> (String, Vec<u8>) {
    let bytes = noise(tag, length);
    (nar_key(&bytes), bytes)
}

fn nar_key(bytes: &[u8]) -> String {
    format!("nar/{}.nar.xz", base32::encode(&Sha256::digest(bytes)))
}

/// So many narinfos of equal length.
pub fn narinfos(bucket: &Bucket, tag: &str, count: usize) -> Vec<Object> {
    (0..count)
        .map(|n| {
            let (key, text) = narinfo(tag, n);
            Object::put(bucket, key, text.as_bytes(), "text/x-nix-narinfo")
        })
        .collect()
}

/// The key and the text of a narinfo whose NAR need not be there.
pub fn narinfo(tag: &str, n: usize) -> (String, String) {
    let nar = Nar {
        key: format!(
            "nar/{}.nar.xz",
            base32::encode(&seed(&format!("{tag} nar {n}")))
        ),
        length: 50_264,
    };
    let references: Vec<String> = (0..4)
        .map(|at| format!("{tag} reference {n:07} {at}"))
        .collect();
    narinfo_of(&format!("{tag} {n:07}"), &nar, &references)
}

/// Keys of narinfos that nobody has.
pub fn absent_keys(count: usize) -> Vec<String> {
    (0..count)
        .map(|n| format!("{}.narinfo", path_hash(&format!("absent {n}"))))
        .collect()
}

/// Packages that refer to one another, in the order in which a client meets them.
pub struct Closure {
    pub narinfos: Vec<Object>,
    /// Where each level of `narinfos` ends: a client knows a level's names when it has read those before.
    pub levels: Vec<usize>,
    pub nars: Vec<Object>,
}

impl Closure {
    /// `widths`: packages on each level.
    pub fn put(bucket: &Bucket, widths: &[usize]) -> Self {
        let count: usize = widths.iter().sum();
        let levels: Vec<usize> = widths
            .iter()
            .scan(0, |end, width| {
                *end += width;
                Some(*end)
            })
            .collect();
        let mut closure = Self {
            narinfos: Vec::new(),
            nars: Vec::new(),
            levels,
        };
        for n in 0..count {
            let nar = nar(bucket, &format!("closure {n}"), closure_nar_length(n));
            let named = Nar {
                key: nar.key.clone(),
                length: nar.length,
            };
            let references: Vec<String> = (1..=4)
                .map(|at| format!("closure {}", (n * 4 + at) % count))
                .collect();
            let (key, text) = narinfo_of(&format!("closure {n}"), &named, &references);
            closure.narinfos.push(Object::put(
                bucket,
                key,
                text.as_bytes(),
                "text/x-nix-narinfo",
            ));
            closure.nars.push(nar);
        }
        closure
    }
}

/// From 4 KiB to 8 MiB, most of them small: the logarithm is spread evenly between them.
fn closure_nar_length(n: usize) -> usize {
    let share = f64::from(seed(&format!("length {n}"))[0]) / 255.0;
    (4096.0 * 2048f64.powf(share * share)) as usize
}

struct Nar {
    key: String,
    length: u64,
}

fn narinfo_of(name: &str, nar: &Nar, references: &[String]) -> (String, String) {
    let base_name = |name: &str| format!("{}-{}", path_hash(name), name.replace(' ', "-"));
    let references: Vec<String> = references.iter().map(|name| base_name(name)).collect();
    let file_name = nar
        .key
        .trim_start_matches("nar/")
        .trim_end_matches(".nar.xz");
    let text = format!(
        "StorePath: /nix/store/{}\nURL: {}\nCompression: xz\nFileHash: sha256:{file_name}\nFileSize: {}\n\
         NarHash: sha256:{}\nNarSize: {}\nReferences: {}\nDeriver: {}.drv\nSig: bench-1:{}\n",
        base_name(name),
        nar.key,
        nar.length,
        base32::encode(&seed(&format!("unpacked {name}"))),
        nar.length * 4,
        references.join(" "),
        base_name(&format!("deriver of {name}")),
        BASE64.encode(&[seed(name), seed("signature")].concat()),
    );
    (format!("{}.narinfo", path_hash(name)), text)
}

fn path_hash(name: &str) -> String {
    base32::encode(&seed(name)[..20])
}

fn seed(text: &str) -> [u8; 32] {
    Sha256::digest(text).into()
}

/// Bytes that do not repeat: splitmix64 from a seed of the tag.
fn noise(tag: &str, length: usize) -> Vec<u8> {
    let [a, b, c, d, e, f, g, h, ..] = seed(tag);
    let mut state = u64::from_le_bytes([a, b, c, d, e, f, g, h]);
    let mut bytes = vec![0; length.next_multiple_of(8)];
    for word in bytes.chunks_exact_mut(8) {
        state = state.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mixed = (state ^ (state >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        word.copy_from_slice(&(mixed ^ (mixed >> 31)).to_le_bytes());
    }
    bytes.truncate(length);
    bytes
}
