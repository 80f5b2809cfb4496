//! Conditional requests: RFC 9110 §13, alike for narinfos and NARs, GET and HEAD, cold and warm.

use crate::bed::{Answer, Package, TestBed, get, head};

/// A 304 says which version is meant and for how long, and has no body.
#[track_caller]
fn assert_not_modified(answer: &Answer, tag: &str, what: &str) {
    assert_eq!(answer.status, 304, "{what}");
    assert_eq!(answer.header("etag"), Some(tag), "{what}");
    assert!(answer.header("cache-control").is_some(), "{what}");
    assert!(answer.header("x-request-id").is_some(), "{what}");
    assert_eq!(answer.header("transfer-encoding"), None, "{what}");
    assert!(
        answer.head.length().is_none_or(|len| len > 0),
        "{what}: a length of 0 would belie the representation's"
    );
}

#[tokio::test]
async fn who_has_this_version_is_told_so_and_who_has_not_gets_it() {
    let bed = TestBed::start().await;
    let hello = bed.bucket.publish(Package::named("hello"));
    for (key, bytes) in [
        (&hello.narinfo, hello.narinfo_text.as_bytes()),
        (&hello.nar, hello.nar_bytes.as_slice()),
    ] {
        let first = bed.ask(get(key)).await;
        let tag = first.header("etag").expect("a tag").to_owned();
        let bare = tag.trim_matches('"');
        assert!(tag.starts_with('"') && tag.ends_with('"') && !bare.is_empty());
        let mut connection = bed.connect().await;
        for value in [
            tag.clone(),
            format!("W/{tag}"),
            "*".to_owned(),
            format!("\"other\", {tag}"),
            format!("\"other\",W/\"more\" , W/{tag}"),
        ] {
            for request in [get(key), head(key)] {
                let request = request.header("If-None-Match", &value);
                let answer = connection.ask(&request).await;
                assert_not_modified(&answer, &tag, &value);
            }
        }
        for value in [
            "\"other\"".to_owned(),
            format!("W/\"other\", \"{bare}x\""),
            bare.to_owned(),
            "\"".to_owned(),
            String::new(),
        ] {
            let request = get(key).header("If-None-Match", &value);
            let answer = connection.ask(&request).await;
            assert!(answer.is(bytes), "{value}: {}", answer.status);
            assert_eq!(answer.header("etag"), Some(tag.as_str()));
        }
    }
}

#[tokio::test]
async fn several_fields_of_one_name_are_one_list() {
    let bed = TestBed::start().await;
    let hello = bed.bucket.publish(Package::named("hello"));
    let tag = bed.ask(get(&hello.narinfo)).await;
    let tag = tag.header("etag").expect("a tag");
    let request = get(&hello.narinfo)
        .also("If-None-Match", "\"other\"")
        .also("If-None-Match", tag);
    assert_not_modified(&bed.ask(request).await, tag, "in the second field");
}

#[tokio::test]
async fn who_wants_another_version_is_refused() {
    let bed = TestBed::start().await;
    let hello = bed.bucket.publish(Package::named("hello"));
    for key in [&hello.narinfo, &hello.nar] {
        let tag = bed.ask(get(key)).await;
        let tag = tag.header("etag").expect("a tag");
        for (value, status) in [
            (tag.to_owned(), 200),
            (format!("\"other\", {tag}"), 200),
            ("*".to_owned(), 200),
            ("\"other\"".to_owned(), 412),
            // A weak tag proves nothing about bytes (§8.8.3.2).
            (format!("W/{tag}"), 412),
        ] {
            for request in [get(key), head(key)] {
                let answer = bed.ask(request.header("If-Match", &value)).await;
                assert_eq!(answer.status, status, "If-Match: {value}");
                if status == 412 {
                    assert_eq!(answer.header("cache-control"), Some("no-store"));
                }
            }
        }
        // If-Match comes first (§13.2.2).
        let both = get(key)
            .header("If-Match", "\"other\"")
            .header("If-None-Match", tag);
        assert_eq!(bed.ask(both).await.status, 412);
    }
}

/// The condition is judged on what the bucket has now, not on what we had.
#[tokio::test]
async fn a_condition_on_an_old_version_gets_the_new_one() {
    let bed = TestBed::start().await;
    let hello = bed.bucket.publish(Package::named("hello"));
    let old = bed.ask(get(&hello.narinfo)).await;
    let old = old.header("etag").expect("a tag");
    let new = Package::named("hello").line("Deriver", "unknown-deriver");
    let new = bed.bucket.publish(new);
    bed.clock.advance(std::time::Duration::from_secs(301));
    let answer = bed
        .ask(get(&hello.narinfo).header("If-None-Match", old))
        .await;
    assert!(answer.is(new.narinfo_text.as_bytes()));
}

/// The first request of all may bring a condition, from a cache that outlived ours.
#[tokio::test]
async fn a_cold_condition_is_judged_like_a_warm_one() {
    let bed = TestBed::start().await;
    let hello = bed.bucket.publish(Package::named("hello"));
    let warm = TestBed::start().await;
    warm.bucket.publish(Package::named("hello"));
    for key in [&hello.narinfo, &hello.nar] {
        let tag = warm.ask(get(key)).await;
        let tag = tag.header("etag").expect("a tag");
        let answer = bed.ask(get(key).header("If-None-Match", tag)).await;
        assert_not_modified(&answer, tag, key);
    }
}

#[tokio::test]
async fn a_condition_on_what_is_absent_changes_nothing() {
    let bed = TestBed::start().await;
    let absent = Package::named("absent").build();
    for key in [&absent.narinfo, &absent.nar] {
        let answer = bed.ask(get(key).header("If-None-Match", "*")).await;
        assert_eq!(answer.status, 404);
        assert_eq!(answer.header("etag"), None);
    }
}

/// Nix asks no conditions and takes 304 for an empty success.
#[tokio::test]
async fn nobody_is_told_304_unasked() {
    let bed = TestBed::start().await;
    let hello = bed.bucket.publish(Package::named("hello"));
    for key in [&hello.narinfo, &hello.nar] {
        for _ in 0..2 {
            for ask in [get(key), head(key)] {
                // A date is no version: objects of one second would be taken for each other.
                let dated = ask.header("If-Modified-Since", "Fri, 01 Jan 2100 00:00:00 GMT");
                assert_eq!(bed.ask(dated).await.status, 200);
            }
        }
        bed.clock.advance(std::time::Duration::from_secs(301));
    }
}
