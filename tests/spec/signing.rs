//! Signatures that the gateway adds to a narinfo: its own, and those of the one that is replaced.
//! Whatever else a narinfo says stays as it came.

use std::fs;

use crate::bed::{Built, Package, TestBed, get, public_key, put};

/// The key pair and the narinfo of a Nix 2.8.0 (`nix-store --generate-binary-cache-key`), which
/// signed it so. The key signs nothing else.
const SECRET: &str = "obs.example-1:mL/kuBachWMFpXhL8WLL2B9+hvMDEoNKMMPkiVqa2cktWKVkCk4j11JmC3kGoMymL12EzBRYbHuEAmHAwHKllw==";
const NARINFO: &str = "y7p5hy9p6crpivv064i60p31mjfx3a54.narinfo";
const SIGNED: &str = include_str!("../../src/nix/narinfo/tests/nix-2.8.0.narinfo");

/// The same before it was signed.
fn unsigned() -> &'static str {
    SIGNED.split_once("Sig: ").expect("a signature, last").0
}

/// A gateway that signs, and takes narinfos without their NARs.
async fn signing_bed() -> (TestBed, tempfile::TempDir) {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("key");
    fs::write(&file, format!("{SECRET}\n")).unwrap();
    let bed = TestBed::with(|s| {
        s.set("uploads.require_nar", "false");
        s.set("signing.secret_key_file", file.to_str().unwrap());
    })
    .await;
    (bed, folder)
}

async fn stored(bed: &TestBed, key: &str, text: &str) -> String {
    let answer = bed.ask(put(key, text)).await;
    assert!(matches!(answer.status, 200 | 201), "{}", answer.text());
    let stored = bed.bucket.object(key).unwrap();
    assert!(
        bed.ask(get(key)).await.is(&stored),
        "what is stored is served"
    );
    String::from_utf8(stored).unwrap()
}

#[tokio::test]
async fn the_gateway_signs_as_nix_does() {
    let (bed, _key) = signing_bed().await;
    assert_eq!(stored(&bed, NARINFO, unsigned()).await, SIGNED);
}

#[tokio::test]
async fn a_signature_is_added_to_those_there_are_and_never_twice() {
    let (bed, _key) = signing_bed().await;
    let hello = Package::named("hello").build();
    let signed = stored(&bed, &hello.narinfo, &hello.narinfo_text).await;
    let added = signed
        .strip_prefix(&hello.narinfo_text)
        .expect("as it came");
    assert!(added.starts_with("Sig: obs.example-1:") && added.lines().count() == 1);
    assert_eq!(stored(&bed, &hello.narinfo, &signed).await, signed);
}

/// Adding to it would break the encoding, so it is taken off.
#[tokio::test]
async fn a_narinfo_that_comes_encoded_is_signed_plain() {
    use async_compression::tokio::bufread::GzipEncoder;
    use tokio::io::AsyncReadExt;
    let (bed, _key) = signing_bed().await;
    let mut encoded = Vec::new();
    let mut encoder = GzipEncoder::new(unsigned().as_bytes());
    encoder.read_to_end(&mut encoded).await.unwrap();
    let request = put(NARINFO, encoded).header("Content-Encoding", "gzip");
    assert_eq!(bed.ask(request).await.status, 201);
    assert_eq!(bed.bucket.object(NARINFO).unwrap(), SIGNED.as_bytes());
    let meta = bed.bucket.object_meta(NARINFO).unwrap();
    assert_eq!(meta.attributes.content_encoding, None);
    assert!(bed.ask(get(NARINFO)).await.is(SIGNED.as_bytes()));
}

#[tokio::test]
async fn without_a_key_a_narinfo_stays_as_it_came() {
    let bed = TestBed::with(|s| s.set("uploads.require_nar", "false")).await;
    assert_eq!(stored(&bed, NARINFO, unsigned()).await, unsigned());
}

/// A signature of its own does not make an untrusted narinfo a trusted one.
#[tokio::test]
async fn only_what_is_trusted_is_signed() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("key");
    fs::write(&file, SECRET).unwrap();
    let bed = TestBed::with(|s| {
        s.set("uploads.require_nar", "false");
        s.set("signing.secret_key_file", file.to_str().unwrap());
        s.set("signing.trusted_public_keys", &public_key());
    })
    .await;
    assert_eq!(bed.ask(put(NARINFO, unsigned())).await.status, 400);
    assert_eq!(bed.bucket.object(NARINFO), None);
}

fn with_signature(hello: &Built, name: &str) -> String {
    // Any 64 bytes: who trusts this key is not this test's concern.
    let bytes = data_encoding::BASE64.encode(&[name.len() as u8; 64]);
    format!("{}Sig: {name}:{bytes}\n", hello.narinfo_text)
}

async fn merging_bed(merges: &str) -> (TestBed, Built) {
    let bed = TestBed::with(|s| s.set("uploads.merge_signatures", merges)).await;
    let hello = Package::named("hello").build();
    assert_eq!(bed.ask(put(&hello.nar, &hello.nar_bytes)).await.status, 201);
    (bed, hello)
}

#[tokio::test]
async fn signatures_of_the_narinfo_before_stay_where_that_is_wanted() {
    let (bed, hello) = merging_bed("true").await;
    let (one, other) = (
        with_signature(&hello, "one"),
        with_signature(&hello, "other"),
    );
    stored(&bed, &hello.narinfo, &one).await;
    let both = stored(&bed, &hello.narinfo, &other).await;
    let added = both.strip_prefix(&other).expect("the new one as it came");
    assert_eq!(added.lines().count(), 1);
    assert!(added.starts_with("Sig: one:"));
    assert_eq!(both.matches("Sig: bed-1:").count(), 1, "no line twice");

    let (bed, hello) = merging_bed("false").await;
    stored(&bed, &hello.narinfo, &one).await;
    assert_eq!(stored(&bed, &hello.narinfo, &other).await, other);
}

#[tokio::test]
async fn two_that_sign_at_once_both_stay() {
    let (bed, hello) = merging_bed("true").await;
    let names: Vec<String> = (0..8).map(|at| format!("key{}", "x".repeat(at))).collect();
    let asked: Vec<_> = names
        .iter()
        .map(|name| bed.ask(put(&hello.narinfo, with_signature(&hello, name))))
        .collect();
    for asking in asked {
        assert_eq!(asking.await.status, 201);
    }
    let text = String::from_utf8(bed.bucket.object(&hello.narinfo).unwrap()).unwrap();
    for name in &names {
        assert!(text.contains(&format!("Sig: {name}:")), "{name} is lost");
    }
}

/// Another build of the path: its old signatures speak of other bytes.
#[tokio::test]
async fn signatures_of_something_else_do_not_stay() {
    let (bed, hello) = merging_bed("true").await;
    let other = Package::named("hello").line("NarSize", "4242").build();
    stored(&bed, &hello.narinfo, &with_signature(&hello, "one")).await;
    let text = stored(&bed, &hello.narinfo, &other.narinfo_text).await;
    assert_eq!(text, other.narinfo_text);
}
