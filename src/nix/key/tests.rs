//! What is a key and what is not.

use super::*;
use proptest::prelude::*;

const H: &str = "y7p5hy9p6crpivv064i60p31mjfx3a54";
const F: &str = "05abdyhr0yvxc2sypss0prgb5ll7yc9kywd41ybsg72ma05l730y";
const HEX_64: &str = "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855";

fn parse(path: &str) -> Option<Key> {
    Key::parse(None, path, None)
}

fn document_of(path: &str) -> DocumentKey {
    match parse(path) {
        Some(Key::Document(key)) => key,
        other => panic!("{path} is no document: {other:?}"),
    }
}

fn nar(path: &str, query: Option<&str>) -> Option<NarKey> {
    match Key::parse(None, path, query)? {
        Key::Nar(key) => Some(key),
        Key::Document(key) => panic!("{key:?} is no NAR"),
    }
}

#[test]
fn every_route_has_its_kind() {
    let drv = format!("{H}-top-2.0.drv");
    for (path, kind) in [
        (format!("{H}.narinfo"), DocumentKind::Narinfo),
        (format!("{H}.ls"), DocumentKind::Listing),
        (format!("log/{drv}"), DocumentKind::Log),
        (
            format!("realisations/sha256:{HEX_64}!out.doi"),
            DocumentKind::Realisation,
        ),
        (
            format!("build-trace-v2/{drv}/out.doi"),
            DocumentKind::BuildTrace,
        ),
        (
            format!("debuginfo/{}", &HEX_64[..40]),
            DocumentKind::DebugInfo,
        ),
        (
            format!("debuginfo/{}.debug", &HEX_64[..40]),
            DocumentKind::DebugInfo,
        ),
    ] {
        let key = document_of(&path);
        assert_eq!(key.kind(), kind, "{path}");
        assert_eq!(key.object().as_str(), path);
        assert_eq!(key.namespace(), None);
        let is_about_a_path = matches!(kind, DocumentKind::Narinfo | DocumentKind::Listing);
        let expected = is_about_a_path.then(|| H.parse().unwrap());
        assert_eq!(key.store_path_hash(), expected, "{path}");
    }
}

#[test]
fn a_store_path_hash_has_32_characters_of_nix32() {
    for hash in [
        &H[1..],
        &format!("{H}a"),
        &H.to_uppercase(),
        &H.replace('y', "e"),
        &H.replace('y', "o"),
        &H.replace('y', "t"),
        &H.replace('y', "u"),
    ] {
        assert_eq!(parse(&format!("{hash}.narinfo")), None, "{hash}");
        assert_eq!(parse(&format!("{hash}.ls")), None, "{hash}");
    }
}

#[test]
fn a_nar_named_by_its_hash_claims_it() {
    let claimed = Sha256Hash::from_nix32(F);
    for extension in ["", ".xz", ".zst", ".bz2", ".lzip"] {
        let key = nar(&format!("nar/{F}.nar{extension}"), None).unwrap();
        assert_eq!(key.content_hash(), claimed, "{extension}");
    }
    let overflowing = F.replacen('0', "2", 1);
    for path in [
        format!("nar/{F}.nar.x.nar"),
        format!("nar/{H}.nar"),
        format!("nar/{H}-{F}.nar"),
        format!("nar/{overflowing}.nar.xz"),
    ] {
        assert_eq!(nar(&path, None).unwrap().content_hash(), None, "{path}");
    }
    let with_query = nar(&format!("nar/{F}.nar"), Some("hash=x")).unwrap();
    assert_eq!(with_query.content_hash(), None);
    for (packing, is_key) in [("x".repeat(143), true), ("x".repeat(144), false)] {
        assert_eq!(parse(&format!("nar/{F}.nar.{packing}")).is_some(), is_key);
    }
    for end in [".", ".XZ", ".x z", "..xz", "xz", ".nar/", "?"] {
        assert_eq!(parse(&format!("nar/{F}.nar{end}")), None, "{end}");
    }
}

#[test]
fn files_under_nar_have_a_safe_name_and_an_extension() {
    let longest = format!("nar/{}.nar", "x".repeat(196));
    for path in ["nar/a.nar", "nar/A+b_c-1.0.nar.zst", longest.as_str()] {
        assert!(nar(path, None).is_some(), "{path}");
    }
    let too_long = format!("nar/{}.nar", "x".repeat(197));
    for path in [
        "nar/",
        "nar/a",
        "nar/a.narinfo",
        "nar/.nar",
        "nar/.a.nar",
        "nar/a.nar.",
        "nar/a.nar.XZ",
        "nar/a/b.nar",
        "nar//a.nar",
        "/nar/a.nar",
        "nar/a b.nar",
        "nar/a:b.nar",
        "nar/ä.nar",
        "nar/a.nar\n",
        "NAR/a.nar",
        &too_long,
    ] {
        assert_eq!(parse(path), None, "{path}");
    }
}

#[test]
fn a_query_tells_nars_apart() {
    let a = nar("nar/x.nar", Some("hash=a")).unwrap();
    let b = nar("nar/x.nar", Some("hash=b")).unwrap();
    let none = nar("nar/x.nar", None).unwrap();
    assert!(a != b && a != none);
    assert_eq!(a.object().as_str(), "nar/x.nar?hash=a");
    assert_eq!(a.url(), "nar/x.nar?hash=a");
    assert_eq!(nar("nar/x.nar", Some("")), Some(none));

    assert!(nar("nar/x.nar", Some(&"q".repeat(512))).is_some());
    let too_long = "q".repeat(513);
    for query in [
        "a b", "a\"b", "a'b", "a`b", "a#b", "a\\b", "a%20", "é", "a\x7f", "../x", "a/", &too_long,
    ] {
        assert_eq!(nar("nar/x.nar", Some(query)), None, "{query}");
    }
}

/// A derivation's name may hold a `?`, which clients send as it is.
#[test]
fn a_query_is_part_of_a_logs_name() {
    let log = |path: &str, query| Key::parse(None, path, query).map(|key| key.object().to_string());
    let path = format!("log/{H}-q");
    let x = log(&path, Some("x=1.drv"));
    assert_eq!(x.as_deref(), Some(&*format!("log/{H}-q?x=1.drv")));
    assert_ne!(x, log(&path, Some("y=2.drv")));
    assert_eq!(log(&path, Some("")), log(&path, None));
    assert!(log("log/a+b", None).is_some());
    assert!(log(&format!("log/{}", "x".repeat(255)), None).is_some());
    assert_eq!(log(&format!("log/{}", "x".repeat(256)), None), None);
    assert_eq!(log(&format!("log/{}", "x".repeat(254)), Some("y")), None);
    for name in ["", ".", ".x", "a/b", "a b", "a&b"] {
        assert_eq!(log(&format!("log/{name}"), None), None, "{name}");
    }
}

#[test]
fn a_query_anywhere_else_is_no_key() {
    for path in [
        format!("{H}.narinfo"),
        format!("{H}.ls"),
        format!("realisations/sha256:{HEX_64}!out.doi"),
        format!("build-trace-v2/{H}-a.drv/out.doi"),
        format!("debuginfo/{}", &HEX_64[..40]),
    ] {
        assert!(parse(&path).is_some(), "{path}");
        assert_eq!(Key::parse(None, &path, Some("x=1")), None, "{path}");
    }
}

#[test]
fn near_misses_are_no_keys() {
    for path in [
        "",
        "/",
        "nix-cache-info",
        "health",
        "nar",
        "log",
        "index.html",
        "realisations/sha256:00!out.doi",
        "realisations/sha1:00!out.doi",
        &format!("realisations/sha256:{}!out.doi", HEX_64.to_uppercase()),
        &format!("realisations/sha256:{HEX_64}%21out.doi"),
        &format!("realisations/sha256:{HEX_64}!.doi"),
        &format!("realisations/sha256:{HEX_64}!a/b.doi"),
        "build-trace-v2/a/out.doi",
        "build-trace-v2/a.drv/out",
        "build-trace-v2/a.drv",
        &format!("debuginfo/{}", &HEX_64[..39]),
        &format!("debuginfo/{}.txt", &HEX_64[..40]),
        &format!("x/{H}.narinfo"),
    ] {
        assert_eq!(parse(path), None, "{path}");
    }
}

#[test]
fn a_namespace_comes_first_in_the_bucket() {
    let team: Namespace = "team-1".parse().unwrap();
    let Some(Key::Nar(key)) = Key::parse(Some(&team), "nar/x.nar", Some("hash=a")) else {
        panic!("a NAR in a namespace is a NAR");
    };
    assert_eq!(key.object().as_str(), "team-1/nar/x.nar?hash=a");
    assert_eq!(key.url(), "nar/x.nar?hash=a");
    assert_eq!(key.namespace(), Some("team-1"));
    assert_eq!(NarKey::from_url(Some("team-1"), key.url()), Some(key));

    let narinfo = Key::parse(Some(&team), &format!("{H}.narinfo"), None).unwrap();
    assert_eq!(narinfo.object().as_str(), format!("team-1/{H}.narinfo"));
    assert_eq!(Key::from_stored(narinfo.object().as_str()), Some(narinfo));
}

#[test]
fn a_namespace_is_never_mistaken_for_a_route() {
    let longest = "x".repeat(64);
    for name in ["a", "0", "A.b_c-d", "nars", "Nar", longest.as_str()] {
        assert!(name.parse::<Namespace>().is_ok(), "{name}");
    }
    let key_like = format!("{H}.narinfo");
    let too_long = "x".repeat(65);
    for name in ROUTE_WORDS.into_iter().chain([
        "", ".", "..", "a..b", ".a", "-a", "_a", "a/b", "a b", "a%b", "ä", "x.ls", &key_like,
        &too_long,
    ]) {
        assert_eq!(name.parse::<Namespace>(), Err(InvalidNamespace), "{name}");
    }
}

#[test]
fn urls_outside_the_grammar_are_not_ours() {
    for url in [
        "",
        "nar/",
        "/nar/x.nar",
        "//host/nar/x.nar",
        "../nar/x.nar",
        "./nar/x.nar",
        "https://other/nar/x.nar",
        "nar:x.nar",
        "nar/x.nar#fragment",
        "nar/a b.nar",
        "nar/x%2By.nar",
        &format!("{H}.narinfo"),
    ] {
        assert_eq!(NarKey::from_url(None, url), None, "{url}");
    }
    assert_eq!(NarKey::from_url(Some("nar"), "nar/x.nar"), None);
    assert_eq!(NarKey::from_url(Some("a/b"), "nar/x.nar"), None);
    assert_eq!(
        NarKey::from_url(None, "nar/x.nar").unwrap().url(),
        "nar/x.nar"
    );
}

/// Texts close enough to keys that many of them are.
fn almost_a_key() -> impl Strategy<Value = String> {
    prop_oneof![
        r"(team/)?[0-9a-z]{31,33}\.(narinfo|ls)",
        r"(team/)?[0-9a-df-np-sv-z]{32}\.(narinfo|ls)",
        r"(team/)?nar/[a-zA-Z0-9._+%\\-]{1,60}\.nar(\.[a-z]{1,3})?(\?[ -~]{0,20})?",
        r"(team/)?nar/[01][0-9a-df-np-sv-z]{51}\.nar(\.xz)?",
        r"(team/)?log/[A-Za-z0-9+._?=%\\-]{1,40}",
        r"realisations/sha256:[0-9a-f]{64}![a-z.%]{1,9}\.doi",
        r"build-trace-v2/[a-z./-]{1,20}\.drv/[a-z./]{1,9}\.doi",
        r"[\x00-\x7f]{0,40}",
    ]
}

proptest! {
    #[test]
    fn a_stored_key_reads_back_as_itself(text in almost_a_key()) {
        if let Some(key) = Key::from_stored(&text) {
            prop_assert_eq!(key.object().as_str(), &text);
            prop_assert_eq!(Key::from_stored(key.object().as_str()), Some(key.clone()));
            prop_assert_eq!(ObjectKey::from_stored(&text), Some(key.object().clone()));
        }
    }

    #[test]
    fn a_nars_url_names_the_same_key(text in almost_a_key()) {
        if let Some(Key::Nar(key)) = Key::from_stored(&text) {
            prop_assert_eq!(NarKey::from_url(key.namespace(), key.url()), Some(key));
        }
    }

    #[test]
    fn nothing_that_could_leave_the_key_space_is_a_key(
        text in almost_a_key(),
        at in any::<prop::sample::Index>(),
        bad in prop_oneof![
            Just("..".to_owned()), Just("/../".to_owned()), Just("%".to_owned()),
            Just("\\".to_owned()), Just("//".to_owned()), Just("/.".to_owned()),
            "[\\x00-\\x20\\x7f]",
        ],
    ) {
        let mut spoiled = text.clone();
        spoiled.insert_str(at.index(text.len() + 1), &bad);
        prop_assert_eq!(Key::from_stored(&spoiled), None);
        let (path, query) = match spoiled.split_once('?') {
            Some((path, query)) => (path, Some(query)),
            None => (spoiled.as_str(), None),
        };
        prop_assert_eq!(Key::parse(None, path, query), None);
    }
}
