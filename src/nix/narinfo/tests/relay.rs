//! What is handed on of a foreign narinfo: the very bytes, or without malformed signatures, or nothing.

use super::*;

fn relay(text: &str) -> Result<Relayed, NarinfoError> {
    let bytes = Bytes::copy_from_slice(text.as_bytes());
    Narinfo::relay("/nix/store", TOP_HASH.parse().unwrap(), bytes)
}

#[test]
fn a_good_narinfo_is_relayed_untouched() {
    let bytes = Bytes::from_static(TOP.as_bytes());
    let relayed = Narinfo::relay("/nix/store", TOP_HASH.parse().unwrap(), bytes.clone()).unwrap();
    assert_eq!(relayed.bytes.as_ptr(), bytes.as_ptr());
    assert_eq!(relayed.bytes, bytes);
    assert_eq!(relayed.dropped_signatures, 0);
    assert_eq!(relayed.narinfo, parse(TOP).unwrap());
}

#[test]
fn malformed_signatures_are_dropped_and_the_rest_is_relayed() {
    let relayed = relay(&format!(
        "Sig: \n{TOP}Sig: name:AAAA\nCA: \nSig: no-colon\n"
    ))
    .unwrap();
    assert_eq!(relayed.bytes, format!("{TOP}CA: \n"));
    assert_eq!(relayed.dropped_signatures, 3);
    assert_eq!(relayed.narinfo, parse(TOP).unwrap());
}

#[test]
fn what_breaks_another_rule_is_not_relayed() {
    let other = TOP.replace(&format!("/{TOP_HASH}-top"), &format!("/{}-top", &DEP[..32]));
    assert_eq!(
        relay(&other),
        Err(NarinfoError::WrongKey {
            key: TOP_HASH.parse().unwrap(),
            found: DEP[..32].parse().unwrap()
        })
    );
    for url in [
        "https://other.example/nar/x.nar",
        "/nar/x.nar",
        "../x",
        "nar/a b.nar",
        "x",
    ] {
        let foreign = relay(&with(&format!("URL: {url}")));
        assert_eq!(foreign, Err(NarinfoError::ForeignUrl), "{url}");
    }
    assert!(relay(&format!("{TOP}URL: nar/y.nar\n")).is_err());
    assert!(relay("<html></html>\n").is_err());
    assert!(relay("").is_err());
}

proptest! {
    /// One edit away from good is where parsers break. What still passes also relays, unchanged.
    #[test]
    fn no_edit_makes_the_parser_panic(
        at in 0..TOP.len(),
        len in 0..40usize,
        insert in "(\\PC|[: \n\r\t]){0,8}",
    ) {
        let end = (at + len).min(TOP.len());
        let text = format!("{}{insert}{}", &TOP[..at], &TOP[end..]);
        if let Ok(narinfo) = parse(&text)
            && narinfo.check_key(TOP_HASH.parse().unwrap()).is_ok()
            && NarKey::from_url(None, &narinfo.url).is_some()
        {
            let relayed = relay(&text).unwrap();
            prop_assert_eq!(relayed.bytes, text);
            prop_assert_eq!(relayed.narinfo, narinfo);
        }
    }
}
