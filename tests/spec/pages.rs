//! What every answer has, what each path allows, and the answers that come from the gateway itself:
//! cache info, health, readiness, metrics.

use crate::bed::{Package, Request, TestBed, delete, get, head, post, put};

use super::wire::bed_with_a_package;

#[tokio::test]
async fn a_known_path_with_another_method_is_405_and_says_which_are_allowed() {
    let (bed, hello) = bed_with_a_package().await;
    let hash = &hello.narinfo[..32];
    let written = "GET, HEAD, PUT";
    let read = "GET, HEAD";
    for (target, allow) in [
        (hello.narinfo.clone(), written),
        (hello.nar.clone(), written),
        (format!("{hash}.ls"), written),
        (format!("log/{hash}-x.drv"), written),
        ("nix-cache-info".to_owned(), written),
        (String::new(), read),
        ("health".to_owned(), read),
        ("ready".to_owned(), read),
        ("metrics".to_owned(), read),
    ] {
        for request in [
            delete(&target),
            post(&target, b"some body"),
            Request::new("PATCH", &target),
            Request::new("OPTIONS", &target),
            Request::new("PROPFIND", &target),
            Request::new("get", &target),
        ] {
            let answer = bed.ask(request.clone()).await;
            assert_eq!(answer.status, 405, "{request:?}");
            assert_eq!(answer.header("allow"), Some(allow), "{request:?}");
            assert!(answer.header("x-request-id").is_some());
        }
    }
    for request in [put("health", b"x"), put("", b"x"), put("metrics", b"x")] {
        let answer = bed.ask(request).await;
        assert_eq!(answer.status, 405);
        assert_eq!(answer.header("allow"), Some(read));
    }
    let strange = bed.ask(Request::new("DELETE", "what/is/this")).await;
    assert_eq!(strange.status, 404);
    assert_eq!(bed.bucket.requests(), 0);
    assert!(bed.bucket.object(&hello.nar).is_some());
}

/// Nothing else ties a user's complaint to a line of the log.
#[tokio::test]
async fn every_answer_has_an_id_of_its_own_and_errors_repeat_it() {
    let (bed, hello) = bed_with_a_package().await;
    let mut seen = std::collections::BTreeSet::new();
    for request in [
        get(&hello.narinfo),
        get(&hello.nar),
        head(&hello.nar),
        get(&hello.nar).range("bytes=0-9"),
        get(&hello.nar).range("bytes=9999999-"),
        get("nar/absent.nar"),
        get("what/is/this"),
        get("health"),
        get("ready"),
        get("metrics"),
        get("nix-cache-info"),
        get(""),
        put("nar/x.nar", b"x"),
        put("nar/x.nar", b"x").without_token(),
        put("nar/y.nar", b"x").without_token().expecting_continue(),
        delete("health"),
        get(&"x".repeat(3000)),
    ] {
        let answer = bed.ask(request.clone()).await;
        let id = answer.header("x-request-id").expect("an id").to_owned();
        if answer.status >= 400 {
            assert!(
                answer.text().contains(&id),
                "{request:?}: {}",
                answer.text()
            );
            assert!(answer.text().ends_with('\n'));
            assert_eq!(answer.text().lines().count(), 1);
        }
        assert!(seen.insert(id), "{request:?}: an id was given twice");
        // Nor does any answer say more of the server than it must.
        assert_eq!(answer.header("server"), None);
        assert_eq!(answer.header("access-control-allow-origin"), None);
    }
}

#[tokio::test]
async fn cache_info_says_what_the_settings_say() {
    let bed = TestBed::with(|s| {
        s.set("cache.priority", "17");
        s.set("cache.want_mass_query", "false");
    })
    .await;
    for target in ["nix-cache-info", ""] {
        let answer = bed.ask(get(target)).await;
        assert_eq!(answer.status, 200);
        let lines: Vec<&str> = answer.text().lines().collect();
        assert!(lines.contains(&"StoreDir: /nix/store"), "{lines:?}");
        assert!(lines.contains(&"Priority: 17"), "{lines:?}");
        assert!(!lines.contains(&"WantMassQuery: 1"), "{lines:?}");
        assert_eq!(answer.header("content-type"), Some("text/x-nix-cache-info"));
        assert_eq!(answer.header("cache-control"), Some("public, max-age=3600"));
        let headed = bed.ask(head(target)).await;
        assert_eq!(headed.head.length(), Some(answer.body.len()));
        assert_eq!(headed.header("content-type"), answer.header("content-type"));
    }
    // `/` means another thing to a browser, and caches between must know.
    let page = bed
        .ask(get("").header("Accept", "text/html,*/*;q=0.8"))
        .await;
    assert_eq!(page.status, 200);
    assert_eq!(
        page.header("content-type"),
        Some("text/html; charset=utf-8")
    );
    for answer in [page, bed.ask(get("")).await] {
        assert_eq!(answer.header("vary"), Some("Accept"));
    }
    assert_eq!(bed.bucket.requests(), 0);
}

#[tokio::test]
async fn the_process_lives_whatever_else_does_not() {
    let bed = TestBed::start().await;
    bed.bucket.stop_listening();
    let answer = bed.ask(get("health")).await;
    assert_eq!(answer.status, 200);
    assert_eq!(answer.header("cache-control"), Some("no-store"));
    assert_eq!(answer.header("content-type"), Some("application/json"));
    let health: serde_json::Value = serde_json::from_slice(&answer.body).expect("JSON");
    assert_eq!(health["status"], "ok");
    assert_eq!(health["cache"], "narwharf");
    assert_eq!(health["version"], env!("CARGO_PKG_VERSION"));
    let stamp = health["timestamp"].as_str().expect("a time");
    humantime::parse_rfc3339(stamp).expect("RFC 3339");
}

#[tokio::test]
async fn readiness_follows_the_bucket() {
    let bed = TestBed::start().await;
    let ready = async || {
        let answer = bed.ask(get("ready")).await;
        assert_eq!(answer.header("cache-control"), Some("no-store"));
        let told: serde_json::Value = serde_json::from_slice(&answer.body).expect("JSON");
        for part in ["bucket", "disk", "index"] {
            assert!(told[part]["state"].is_string(), "{told}");
        }
        answer.status
    };
    assert_eq!(ready().await, 200);
    bed.bucket.stop_listening();
    bed.clock.advance(std::time::Duration::from_secs(60));
    assert_eq!(ready().await, 503);
    bed.bucket.start_listening();
    bed.clock.advance(std::time::Duration::from_secs(60));
    assert_eq!(ready().await, 200);
}

/// Nothing else is there, however it is asked for: no object is known, and no body is asked for.
#[tokio::test]
async fn on_their_own_listener_there_are_the_metrics_and_nothing_else() {
    let bed = TestBed::with(|s| s.set("metrics.listen", "127.0.0.2:0")).await;
    let hello = bed.bucket.publish(Package::named("hello"));
    let mut connection = bed.connect_to_metrics().await;
    assert_eq!(connection.ask(&get("metrics")).await.status, 200);
    assert_eq!(connection.ask(&get(&hello.narinfo)).await.status, 404);
    for (request, status) in [
        (put(&hello.nar, &hello.nar_bytes), 404),
        (put(&hello.nar, &hello.nar_bytes).without_token(), 404),
        (put("metrics", b"x"), 405),
    ] {
        let mut connection = bed.connect_to_metrics().await;
        connection.send_head(&request.expecting_continue()).await;
        assert_eq!(connection.head().await.status, status);
    }
    assert_eq!(bed.ask(get("metrics")).await.status, 404);
    assert_eq!(bed.bucket.requests(), 0);
}

/// A dashboard's first look finds every series, at zero.
#[tokio::test]
async fn metrics_are_there_before_anything_happened() {
    let bed = TestBed::start().await;
    let answer = bed.ask(get("metrics")).await;
    assert_eq!(answer.status, 200);
    for series in [
        "narwharf_http_requests_total{kind=\"narinfo\",method=\"GET\",status=\"200\"}",
        "narwharf_cache_lookups_total{kind=\"narinfo\",result=\"negative_hit\",tier=\"memory\"}",
        "narwharf_uploads_total{kind=\"nar\",outcome=\"created\"}",
        "narwharf_auth_failures_total{reason=\"missing\"}",
        "narwharf_unknown_answers_total{reason=\"timeout\"}",
        "narwharf_fills_total{outcome=\"stored\"}",
    ] {
        assert!(
            answer.text().contains(&format!("\n{series} 0\n")),
            "{series}"
        );
    }
}
