//! Keys: what is asked for is matched on the raw path by an exact grammar, and what does not match
//! reaches neither the disk nor the bucket.

mod no_keys;

use crate::bed::{Connection, Package, Request, TestBed, get, head, put};

use no_keys::no_keys;

const HASH: &str = "y7p5hy9p6crpivv064i60p31mjfx3a54";
const DRV: &str = "8waf2cylldvmba5dwi8hsfgpp04nfkig";

/// Sends a target as it is; whether the answer said no, and whether the connection may go on.
async fn refused(connection: &mut Connection, method: &str, target: &str) -> (u16, bool) {
    let request = format!("{method} {target} HTTP/1.1\r\nHost: cache\r\nContent-Length: 0\r\n\r\n");
    connection.send(request.as_bytes()).await;
    let answer = connection.answer(method).await;
    let closing = answer.header("connection") == Some("close") || answer.status == 400;
    (answer.status, closing)
}

#[tokio::test]
async fn what_is_no_key_reaches_neither_disk_nor_bucket() {
    let bed = TestBed::start().await;
    let files = || walk(&bed.disk_path());
    bed.until_recovered().await;
    let before = files();
    let targets = no_keys();
    assert!(targets.len() >= 200, "{}", targets.len());
    for method in ["GET", "HEAD"] {
        let mut connection = bed.connect().await;
        for (what, target) in &targets {
            let (status, closing) = refused(&mut connection, method, target).await;
            // What HTTP itself does not allow in a target is 400; a long one 414.
            let said_no = matches!(status, 404 | 400 | 414);
            assert!(said_no, "{what}: {method} {target}: {status}");
            if closing {
                connection = bed.connect().await;
            }
        }
    }
    assert_eq!(bed.bucket.requests(), 0);
    assert_eq!(files(), before);
}

/// Nor can it be written, whoever may write.
#[tokio::test]
async fn what_is_no_key_cannot_be_written() {
    let bed = TestBed::start().await;
    bed.until_recovered().await;
    let before = walk(&bed.disk_path());
    for (what, target) in no_keys() {
        let status = bed.ask(put(&target, b"bytes")).await.status;
        assert!(
            matches!(status, 400..=499),
            "{what}: PUT {target}: {status}"
        );
    }
    // What is folded for old readers is not folded for writers.
    assert_eq!(bed.ask(put("//nar/x.nar", b"bytes")).await.status, 404);
    assert_eq!(bed.bucket.requests(), 0);
    assert_eq!(walk(&bed.disk_path()), before);
}

/// All files outside the index, which writes when it likes.
fn walk(folder: &std::path::Path) -> Vec<std::path::PathBuf> {
    let mut files = Vec::new();
    for entry in std::fs::read_dir(folder).expect("a folder") {
        let path = entry.expect("an entry").path();
        if path.ends_with("index") {
            continue;
        }
        if path.is_dir() {
            files.extend(walk(&path));
        }
        files.push(path);
    }
    files.sort();
    files
}

/// Old clients send special characters raw, newer ones escape them; both mean one object.
#[tokio::test]
async fn five_escapes_are_decoded_once_and_name_the_same_object() {
    let bed = TestBed::start().await;
    let hex = "a".repeat(64);
    let spellings = [
        (
            format!("/realisations/sha256:{hex}!out.doi"),
            vec![
                format!("/realisations/sha256:{hex}%21out.doi"),
                format!("/realisations/sha256%3A{hex}!out.doi"),
                format!("/realisations/sha256%3a{hex}%21out.doi"),
            ],
        ),
        (
            format!("/log/{DRV}-libp++-1.0+x=2.drv"),
            vec![
                format!("/log/{DRV}-libp%2B%2B-1.0%2Bx%3D2.drv"),
                format!("/log/{DRV}-libp%2b+-1.0+x%3d2.drv"),
            ],
        ),
        (
            format!("/nar/{DRV}-a+b.nar"),
            vec![format!("/nar/{DRV}-a%2Bb.nar")],
        ),
        (
            "/nar/x.nar?hash=a+b".to_owned(),
            vec!["/nar/x.nar?hash%3Da%2Bb".to_owned()],
        ),
    ];
    for (n, (raw, others)) in spellings.into_iter().enumerate() {
        let bytes = format!("{{\"number\":{n}}}");
        // Written by one version of Nix, read by another, both ways.
        assert_eq!(bed.ask(put(&others[0], &bytes)).await.status, 201, "{raw}");
        for spelling in std::iter::once(&raw).chain(&others) {
            let answer = bed.ask(get(spelling)).await;
            assert!(answer.is(bytes.as_bytes()), "{spelling}");
        }
        let key = raw.trim_start_matches('/');
        assert_eq!(bed.bucket.object(key).as_deref(), Some(bytes.as_bytes()));
    }
    // A plus is a plus and never a blank.
    assert_eq!(
        bed.bucket.keys(),
        [
            format!("log/{DRV}-libp++-1.0+x=2.drv"),
            format!("nar/{DRV}-a+b.nar"),
            "nar/x.nar?hash=a+b".to_owned(),
            format!("realisations/sha256:{hex}!out.doi"),
        ]
    );
}

/// `URL: /nar/…` makes old clients ask for `//nar/…`.
#[tokio::test]
async fn one_doubled_slash_before_nar_is_folded_for_readers() {
    let bed = TestBed::start().await;
    let hello = bed.bucket.publish(Package::named("hello"));
    let doubled = format!("//{}", hello.nar);
    assert!(bed.ask(get(&doubled)).await.is(&hello.nar_bytes));
    assert_eq!(bed.ask(head(&doubled)).await.status, 200);
    assert!(bed.ask(get(&hello.nar)).await.is(&hello.nar_bytes));
    assert_eq!(bed.bucket.reads(&hello.nar), 1, "one object, one fill");
}

/// A query tells NARs of some caches apart, and `?` may stand in the name of a log.
#[tokio::test]
async fn a_query_is_part_of_the_key_where_keys_have_one() {
    let bed = TestBed::start().await;
    let log = |rest: &str| format!("log/{DRV}-q{rest}");
    for (key, other) in [
        ("nar/x.nar?hash=a".to_owned(), "nar/x.nar?hash=b".to_owned()),
        (log("?x=1.drv"), log("?y=2.drv")),
        (log(".drv"), log("?.drv")),
    ] {
        assert_eq!(bed.ask(get(&other)).await.status, 404);
        assert_eq!(bed.ask(put(&key, &key)).await.status, 201, "{key}");
        assert!(bed.ask(get(&key)).await.is(key.as_bytes()), "{key}");
        assert_eq!(bed.ask(get(&other)).await.status, 404, "{other}");
        assert_eq!(bed.ask(put(&other, &other)).await.status, 201, "{other}");
        assert!(bed.ask(get(&other)).await.is(other.as_bytes()), "{other}");
        assert!(bed.ask(get(&key)).await.is(key.as_bytes()), "{key}");
        let held = bed.bucket.object(&key);
        assert_eq!(held.as_deref(), Some(key.as_bytes()));
    }
    // An empty query is none.
    assert!(bed.ask(put("nar/y.nar?", b"y")).await.status == 201);
    assert!(bed.ask(get("nar/y.nar")).await.is(b"y"));
}

/// Names at the edge of the grammar are names.
#[tokio::test]
async fn the_longest_names_are_kept_and_served() {
    let mut bed = TestBed::start().await;
    let keys = [
        format!("nar/{}.nar", "x".repeat(196)),
        format!("nar/x.nar?{}", "q".repeat(512)),
        format!("log/{}", "l".repeat(255)),
        format!(
            "build-trace-v2/{}.drv/{}.doi",
            "d".repeat(211),
            "o".repeat(211)
        ),
    ];
    for key in &keys {
        assert_eq!(bed.ask(put(key, key)).await.status, 201, "{key}");
        assert!(bed.ask(get(key)).await.is(key.as_bytes()), "{key}");
    }
    bed.restart().await;
    bed.until_recovered().await;
    bed.bucket.log().reset();
    for key in &keys {
        assert!(bed.ask(get(key)).await.is(key.as_bytes()), "{key}");
    }
    assert_eq!(bed.bucket.requests(), 0);
}

#[tokio::test]
async fn namespaces_exist_only_where_the_settings_say_so() {
    let hello = Package::named("hello").build();
    for (setting, team, other) in [("", 404, 404), ("team", 200, 404), ("*", 200, 200)] {
        let bed = TestBed::with(|s| s.set("cache.namespaces", setting)).await;
        for (namespace, status) in [("team", team), ("other", other)] {
            let narinfo = format!("{namespace}/{}", hello.narinfo);
            bed.bucket
                .put_object(&narinfo, &hello.narinfo_text, "text/x-nix-narinfo");
            let answer = bed.ask(get(&narinfo)).await;
            assert_eq!(answer.status, status, "{setting:?}: {narinfo}");
            let info = bed.ask(get(&format!("{namespace}/nix-cache-info"))).await;
            assert_eq!(info.status, status, "{setting:?}: {namespace}");
        }
        // A route's first word names no namespace, nor does anything else odd.
        for odd in [
            "nar", "log", "health", "metrics", ".team", "-team", "te%61m", "te..am", "",
        ] {
            let answer = bed.ask(get(&format!("{odd}/{}", hello.narinfo))).await;
            assert_eq!(answer.status, 404, "{setting:?}: {odd}");
        }
    }
}

#[tokio::test]
async fn namespaces_share_nothing() {
    let bed = TestBed::with(|s| s.set("cache.namespaces", "a,b")).await;
    let hello = Package::named("hello").build();
    let upload = async |namespace: &str, built: &crate::bed::Built| {
        for (key, bytes) in [
            (&built.nar, built.nar_bytes.as_slice()),
            (&built.narinfo, built.narinfo_text.as_bytes()),
        ] {
            let answer = bed.ask(put(&format!("{namespace}{key}"), bytes)).await;
            assert_eq!(answer.status, 201, "{namespace}{key}: {}", answer.text());
        }
    };
    upload("a/", &hello).await;
    for other in ["", "b/"] {
        for key in [&hello.nar, &hello.narinfo] {
            let answer = bed.ask(get(&format!("{other}{key}"))).await;
            assert_eq!(answer.status, 404, "{other}{key}");
        }
        // The NAR of another namespace does not make a narinfo of this one true.
        let orphan = put(&format!("{other}{}", hello.narinfo), &hello.narinfo_text);
        assert_eq!(bed.ask(orphan).await.status, 409);
    }
    // The same narinfo key with other bytes lives beside it.
    let variant = Package::named("hello").line("Deriver", "unknown-deriver");
    let variant = variant.build();
    upload("b/", &variant).await;
    for (namespace, built) in [("a/", &hello), ("b/", &variant)] {
        let answer = bed.ask(get(&format!("{namespace}{}", built.narinfo))).await;
        assert!(answer.is(built.narinfo_text.as_bytes()));
        let answer = bed.ask(get(&format!("{namespace}{}", built.nar))).await;
        assert!(answer.is(&built.nar_bytes));
    }
}

/// Neither where a client says it went to nor what stood before it decides what it gets.
#[tokio::test]
async fn host_and_forwarding_headers_are_no_part_of_a_key() {
    let bed = TestBed::start().await;
    let hello = bed.bucket.publish(Package::named("hello"));
    let text = hello.narinfo_text.as_bytes();
    let asked: [fn(Request) -> Request; 4] = [
        |r| r.header("Host", "evil.example"),
        |r| r.header("X-Forwarded-Host", "evil.example"),
        |r| r.header("X-Forwarded-Prefix", "/team"),
        |r| r.header("X-Original-URL", "/admin"),
    ];
    for with in asked {
        let answer = bed.ask(with(get(&hello.narinfo))).await;
        assert!(answer.is(text));
        let all = format!("{:?}", answer.head);
        assert!(!all.contains("evil.example"), "{all}");
    }
    let mut connection = bed.connect().await;
    let absolute = format!(
        "GET http://user:secret@evil.example/{} HTTP/1.1\r\nHost: evil.example\r\n\r\n",
        hello.narinfo
    );
    connection.send(absolute.as_bytes()).await;
    assert!(connection.answer("GET").await.is(text));
    assert_eq!(bed.bucket.requests(), 1);
}
