//! The verdict on every kind of line; what is handed on is `relay.rs`'s.

mod relay;

use super::*;
use proptest::prelude::*;

/// A narinfo as Nix 2.8.0 wrote it.
const TOP: &str = include_str!("tests/nix-2.8.0.narinfo");
const TOP_FINGERPRINT: &str = "1;/nix/store/y7p5hy9p6crpivv064i60p31mjfx3a54-top-2.0;sha256:0wq916svq5vfbqznjhwbv32ggd1p2j5sdm374pnpxsw9pbszwghj;576;/nix/store/366d43aifcxrn3m3331144swaa9f6dv9-dep-1.0,/nix/store/y7p5hy9p6crpivv064i60p31mjfx3a54-top-2.0";
const TOP_HASH: &str = "y7p5hy9p6crpivv064i60p31mjfx3a54";
const DEP: &str = "366d43aifcxrn3m3331144swaa9f6dv9-dep-1.0";
const NAR_HASH: &str = "0wq916svq5vfbqznjhwbv32ggd1p2j5sdm374pnpxsw9pbszwghj";

fn parse(text: &str) -> Result<Narinfo, NarinfoError> {
    Narinfo::parse("/nix/store", text.as_bytes())
}

fn field_of(line: &str) -> &str {
    line.split_once(':').unwrap().0
}

/// `TOP` with the line of the same field replaced, or `line` added at the end.
fn with(line: &str) -> String {
    let start = format!("{}: ", field_of(line));
    let mut is_new = true;
    let mut text = String::new();
    for old in TOP.lines() {
        let replaced = old.starts_with(&start);
        is_new &= !replaced;
        text.push_str(if replaced { line } else { old });
        text.push('\n');
    }
    if is_new {
        text.push_str(line);
        text.push('\n');
    }
    text
}

fn without_field(name: &str) -> String {
    let kept = TOP
        .split_inclusive('\n')
        .filter(|line| field_of(line) != name);
    kept.collect()
}

#[track_caller]
fn assert_accepted(line: &str) -> Narinfo {
    parse(&with(line)).unwrap_or_else(|error| panic!("{line:?}: {error}"))
}

#[track_caller]
fn assert_refused(line: &str) {
    match parse(&with(line)) {
        Err(NarinfoError::Field { field, .. }) if field == field_of(line) => {}
        other => panic!("{line:?}: {other:?}"),
    }
}

#[test]
fn what_nix_writes_is_understood() {
    let narinfo = parse(TOP).unwrap();
    let named = NarKey::from_url(None, &narinfo.url).unwrap().content_hash();
    assert_eq!(
        narinfo.store_path.base_name(),
        format!("{TOP_HASH}-top-2.0")
    );
    assert_eq!(narinfo.compression, Compression::Xz);
    assert!(named.is_some());
    assert_eq!(narinfo.file_hash, named);
    assert_eq!(narinfo.file_size, Some(260));
    assert_eq!(narinfo.nar_hash.to_nix32(), NAR_HASH);
    assert_eq!(narinfo.nar_size, 576);
    assert_eq!(narinfo.references.len(), 2);
    assert_eq!(
        narinfo.deriver.as_deref(),
        Some("8waf2cylldvmba5dwi8hsfgpp04nfkig-top-2.0.drv")
    );
    assert_eq!(narinfo.signatures[0].key_name(), "obs.example-1");
    assert_eq!(narinfo.ca, None);
    assert_eq!(narinfo.fingerprint("/nix/store"), TOP_FINGERPRINT);
}

#[test]
fn optional_fields_may_be_absent() {
    let narinfo = parse(&format!(
        "StorePath: /nix/store/{DEP}\nURL: nar/x.nar\nNarHash: sha256:{NAR_HASH}\nNarSize: 888\n"
    ))
    .unwrap();
    assert_eq!(narinfo.compression, Compression::Bzip2);
    assert_eq!((narinfo.file_hash, narinfo.file_size), (None, None));
    assert!(narinfo.references.is_empty() && narinfo.signatures.is_empty());
    assert_eq!(
        (narinfo.deriver.as_ref(), narinfo.ca.as_ref()),
        (None, None)
    );
    assert_eq!(
        narinfo.fingerprint("/nix/store"),
        format!("1;/nix/store/{DEP};sha256:{NAR_HASH};888;")
    );
}

#[test]
fn required_fields_may_not() {
    for field in ["StorePath", "URL", "NarHash", "NarSize"] {
        let error = parse(&without_field(field)).unwrap_err();
        assert_eq!(error, NarinfoError::Missing { field }, "{field}");
    }
    assert_eq!(parse(""), Err(NarinfoError::Missing { field: "StorePath" }));
}

#[test]
fn the_store_path_lies_in_our_store() {
    for path in [
        format!("/gnu/store/{TOP_HASH}-top-2.0"),
        format!("{TOP_HASH}-top-2.0"),
        format!("/nix/store/{TOP_HASH}"),
        format!("/nix/store/{TOP_HASH}-top-2.0/bin"),
        String::new(),
    ] {
        assert_refused(&format!("StorePath: {path}"));
    }
}

#[test]
fn a_url_is_anything_but_empty() {
    assert_accepted("URL: https://other.example/x");
    assert_accepted("URL: ../x");
    assert_refused("URL: ");
}

#[test]
fn a_compression_is_one_that_nix_knows() {
    assert_eq!(
        assert_accepted("Compression: ").compression,
        Compression::Bzip2
    );
    assert_eq!(
        assert_accepted("Compression: none").compression,
        Compression::None
    );
    assert_refused("Compression: XZ");
    assert_refused("Compression: xz ");
    assert_refused("Compression: rot13");
}

#[test]
fn a_file_hash_may_be_wrong_or_of_another_kind_but_must_be_a_hash() {
    let sha1 = assert_accepted("FileHash: sha1:kpcd173cq987hw957sx6m0868wv3x6d9");
    assert_eq!(sha1.file_hash, None);
    assert_refused("FileHash: ");
    assert_refused(&format!("FileHash: {NAR_HASH}"));
    assert_refused("FileHash: sha256:abc");
}

#[test]
fn sizes_are_decimal_and_fit_64_bits() {
    assert_eq!(
        assert_accepted("NarSize: 18446744073709551615").nar_size,
        u64::MAX
    );
    assert_eq!(assert_accepted("NarSize: +576").nar_size, 576);
    assert_eq!(assert_accepted("FileSize: 0").file_size, Some(0));
    for size in ["18446744073709551616", "-1", " 1", "1 ", "", "0x10", "1e3"] {
        assert_refused(&format!("NarSize: {size}"));
        assert_refused(&format!("FileSize: {size}"));
    }
    assert_refused("NarSize: 0");
}

#[test]
fn a_nar_hash_is_a_sha256_in_any_form_and_the_fingerprint_has_nix32() {
    let hash = Sha256Hash::from_nix32(NAR_HASH).unwrap();
    let base16 = data_encoding::HEXLOWER.encode(hash.as_bytes());
    let base64 = data_encoding::BASE64.encode(hash.as_bytes());
    for form in [
        format!("sha256:{base16}"),
        format!("sha256:{}", base16.to_uppercase()),
        format!("sha256:{base64}"),
        format!("sha256-{base64}"),
    ] {
        let narinfo = assert_accepted(&format!("NarHash: {form}"));
        assert_eq!(narinfo.fingerprint("/nix/store"), TOP_FINGERPRINT, "{form}");
    }
    assert_refused(&format!("NarHash: {NAR_HASH}"));
    assert_refused("NarHash: sha1:kpcd173cq987hw957sx6m0868wv3x6d9");
}

#[test]
fn references_are_base_names_in_any_order() {
    let shuffled = format!("References:   {TOP_HASH}-top-2.0  {DEP} {TOP_HASH}-top-2.0 ");
    assert_eq!(
        assert_accepted(&shuffled).fingerprint("/nix/store"),
        TOP_FINGERPRINT
    );
    assert!(assert_accepted("References: ").references.is_empty());
    assert_refused(&format!("References: /nix/store/{DEP}"));
    assert_refused(&format!("References: {DEP},{DEP}"));
    let many = |count| format!("References: {}", vec![DEP; count].join(" "));
    assert_eq!(assert_accepted(&many(MAX_REFERENCES)).references.len(), 1);
    assert_refused(&many(MAX_REFERENCES + 1));
}

#[test]
fn a_deriver_is_a_base_name_or_unknown() {
    assert_eq!(assert_accepted("Deriver: unknown-deriver").deriver, None);
    assert_eq!(
        assert_accepted(&format!("Deriver: {DEP}"))
            .deriver
            .as_deref(),
        Some(DEP)
    );
    assert_refused("Deriver: ");
    assert_refused(&format!("Deriver: /nix/store/{DEP}.drv"));
}

#[test]
fn a_content_address_has_a_known_scheme() {
    assert_eq!(assert_accepted("CA: ").ca, None);
    let ca = format!("fixed:r:sha256:{NAR_HASH}");
    assert_eq!(assert_accepted(&format!("CA: {ca}")).ca, Some(ca));
    assert_refused(&format!("CA: ipfs:sha256:{NAR_HASH}"));
    assert_refused("CA: text:sha256:abc");
}

#[test]
fn a_malformed_signature_is_refused() {
    for value in ["", "no-colon", ":AAAA", "name:AAAA", "name:!", "name:"] {
        assert_refused(&format!("Sig: {value}"));
    }
}

#[test]
fn what_may_stand_once_may_not_stand_twice() {
    let full = with("CA: ");
    for line in full.lines().filter(|line| field_of(line) != "Sig") {
        let error = parse(&format!("{full}{line}\n")).unwrap_err();
        let field = field_of(line).to_owned();
        assert_eq!(error, NarinfoError::Repeated { line: 12, field }, "{line}");
    }
    let signature = TOP.lines().last().unwrap();
    assert_eq!(
        parse(&format!("{TOP}{signature}\n"))
            .unwrap()
            .signatures
            .len(),
        2
    );
}

#[test]
fn order_is_free_and_unknown_fields_are_skipped() {
    let mut reversed: Vec<&str> = TOP.lines().rev().collect();
    reversed.extend(["System: x86_64-linux", "System: again", "X: "]);
    assert_eq!(parse(&(reversed.join("\n") + "\n")), parse(TOP));
}

#[test]
fn what_is_no_sequence_of_lines_is_no_narinfo() {
    assert!(parse(TOP.trim_end()).is_err());
    assert!(parse(&TOP.replace('\n', "\r\n")).is_err());
    assert!(parse(&format!("\n{TOP}")).is_err());
    assert!(parse(&format!("{TOP}\n")).is_err());
    assert!(parse(&format!("\u{feff}{TOP}")).is_err());
    assert!(parse(&with("References: ").replace("References: ", "References:")).is_err());
    assert!(parse("<!DOCTYPE html>\n<title>502</title>\n").is_err());
    assert_eq!(
        Narinfo::parse("/nix/store", b"URL: \xff\n"),
        Err(NarinfoError::NotText)
    );
}

#[test]
fn size_and_number_of_signatures_are_bounded() {
    let fill = MAX_LEN - TOP.len() - "X: \n".len();
    assert!(parse(&format!("{TOP}X: {}\n", "x".repeat(fill))).is_ok());
    let error = parse(&format!("{TOP}X: {}\n", "x".repeat(fill + 1))).unwrap_err();
    assert_eq!(error, NarinfoError::TooLong { len: MAX_LEN + 1 });

    let signature = TOP.split_inclusive('\n').next_back().unwrap();
    let more = |count| TOP.to_owned() + &signature.repeat(count);
    assert!(parse(&more(MAX_SIGNATURES - 1)).is_ok());
    let error = parse(&more(MAX_SIGNATURES)).unwrap_err();
    assert_eq!(
        error,
        NarinfoError::TooManySignatures {
            line: 10 + MAX_SIGNATURES
        }
    );
}

#[test]
fn messages_are_one_plain_line() {
    for (text, message) in [
        (
            with("NarSize: 0"),
            "line 7: NarSize must be a whole number from 1 to 2^64-1",
        ),
        (
            with("StorePath: /x"),
            "line 1: StorePath must be a store path in /nix/store",
        ),
        (
            with("Sig: x"),
            "line 10: Sig must be <key name>:<64 bytes in base64>",
        ),
        (without_field("URL"), "URL is missing"),
        (
            format!("{TOP}URL: x\n"),
            "line 11: URL is given a second time",
        ),
    ] {
        assert_eq!(parse(&text).unwrap_err().to_string(), message);
    }
}

proptest! {
    #[test]
    fn no_bytes_make_the_parser_panic(bytes in proptest::collection::vec(any::<u8>(), 0..400)) {
        let _ = Narinfo::parse("/nix/store", &bytes);
    }

    #[test]
    fn the_order_of_references_does_not_matter(
        names in Just(vec![DEP, "y7p5hy9p6crpivv064i60p31mjfx3a54-top-2.0", DEP]).prop_shuffle(),
    ) {
        let narinfo = parse(&with(&format!("References: {}", names.join(" ")))).unwrap();
        prop_assert_eq!(narinfo.fingerprint("/nix/store"), TOP_FINGERPRINT);
    }
}
