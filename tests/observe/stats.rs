//! `narwharf stats`, the built program, before a running gateway.

use std::process::{Command, Output};

use narwharf::config::token;
use serde_json::Value;

use crate::bed::{KIB, Package, TestBed, get};

const ADMIN: &str = "an-admin-token";

/// With an admin's token, and numbers that are for admins only where `closed`.
async fn bed(closed: bool) -> TestBed {
    bed_with(&[("metrics.token", "for-the-scraper")][..usize::from(closed)]).await
}

async fn bed_with(own: &[(&str, &str)]) -> TestBed {
    let hash = token::hex(&token::sha256(&ADMIN.to_owned().into()));
    TestBed::with(|settings| {
        settings.add_toml(&format!(
            "[[auth.token]]\nname = \"ops\"\nsha256 = \"{hash}\"\nscopes = [\"admin\"]"
        ));
        for (key, value) in own {
            settings.set(key, value);
        }
    })
    .await
}

/// The program blocks, and the gateway it asks has threads of its own.
fn stats(bed: &TestBed, words: &[&str], token: Option<&str>) -> Output {
    let mut command = Command::new(assert_cmd::cargo::cargo_bin!("narwharf"));
    command.env_clear().current_dir(bed.disk_path());
    command.args(["stats", "--url", &format!("http://{}", bed.address())]);
    command
        .args(words)
        .envs(token.map(|token| ("NARWHARF_TOKEN", token)));
    command.output().expect("the program")
}

#[actix_web::test]
async fn it_tells_what_the_server_counted() {
    let bed = bed(false).await;
    let hello = bed
        .bucket
        .publish(Package::named("hello").nar_bytes(300 * KIB));
    for _ in 0..4 {
        bed.ask(get(&hello.narinfo)).await;
    }
    bed.ask(get(&hello.nar)).await;
    bed.until_metric("narwharf_disk_blobs", 1).await;

    let output = stats(&bed, &[], None);
    let text = String::from_utf8(output.stdout).unwrap();
    assert!(
        output.status.success(),
        "{}",
        String::from_utf8_lossy(&output.stderr)
    );
    for said in [
        "bucket ok, disk ok, index ok",
        "  narinfos                         75.0 %            75.0 %",
        "KiB read, 0 B written, 2 requests",
        "0 operations of class A, 2 of class B",
    ] {
        assert!(text.contains(said), "{said:?} in\n{text}");
    }
    assert!(
        !text.contains(&hello.nar),
        "blobs are named to admins only:\n{text}"
    );

    let output = stats(&bed, &[], Some(ADMIN));
    let text = String::from_utf8(output.stdout).unwrap();
    assert!(
        text.contains("Largest NARs") && text.contains(&hello.nar),
        "{text}"
    );

    let output = stats(&bed, &["--json"], None);
    let status: Value = serde_json::from_slice(&output.stdout).unwrap();
    assert_eq!(status["disk"]["blobs"], 1);
}

#[actix_web::test]
async fn it_says_what_is_missing() {
    let bed = bed(true).await;
    let output = stats(&bed, &[], None);
    let said = String::from_utf8(output.stderr).unwrap();
    assert_eq!(output.status.code(), Some(1));
    assert!(said.contains("--token-file"), "{said}");
    assert_eq!(stats(&bed, &[], Some(ADMIN)).status.code(), Some(0));

    let mut nobody = Command::new(assert_cmd::cargo::cargo_bin!("narwharf"));
    nobody
        .env_clear()
        .args(["stats", "--url", "http://127.0.0.1:1"]);
    let output = nobody.output().unwrap();
    let said = String::from_utf8(output.stderr).unwrap();
    assert!(
        output.status.code() == Some(1) && said.contains("does narwharf run there?"),
        "{said}"
    );
}

/// With `metrics.enabled = false` requests are not counted, so nothing is said of them; zeros would be
/// wrong.
#[actix_web::test]
async fn it_does_not_tell_what_nobody_counted() {
    let bed = bed_with(&[("metrics.enabled", "false")]).await;
    let hello = bed.bucket.publish(Package::named("hello"));
    for _ in 0..4 {
        bed.ask(get(&hello.narinfo)).await;
    }
    assert_eq!(bed.ask(get("metrics")).await.status, 404);
    let scrape = crate::scrape::Scrape::parse(&bed.metrics());
    for series in [
        "narwharf_http_requests_total",
        "narwharf_http_request_duration_seconds_count",
        "narwharf_http_first_byte_seconds_count",
        "narwharf_http_response_bytes_total",
        "narwharf_cache_lookups_total",
    ] {
        assert_eq!(scrape.sum(series, &[]), 0.0, "{series}");
    }

    let output = stats(&bed, &[], Some(ADMIN));
    let text = String::from_utf8(output.stdout).unwrap();
    for said in [
        "  all reads                             –                 –",
        "  requests    –, 0 of them unanswered",
        "  served      –: memory –,",
        "1 of class B",
    ] {
        assert!(text.contains(said), "{said:?} in\n{text}");
    }
}
