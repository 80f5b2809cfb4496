//! What `narwharf check` says of the bucket.

use super::r2sim::{Fault, Operation, Rule};
use super::*;
use crate::config::Finding;

/// What failed and what was said, as one text to look into.
fn only_failure(findings: &[Finding]) -> String {
    let failed: Vec<String> = findings
        .iter()
        .filter_map(|it| Some(format!("{}: {}", it.what, it.outcome.as_ref().err()?)))
        .collect();
    assert_eq!(failed.len(), 1, "{findings:?}");
    assert!(!failed[0].contains('\n'), "one line: {}", failed[0]);
    failed[0].clone()
}

async fn said_of(adjust: impl FnOnce(&mut Settings)) -> String {
    let sim = R2Sim::start();
    let mut settings = settings_for(&sim.endpoint());
    adjust(&mut settings);
    only_failure(&diagnose(&settings).await)
}

#[tokio::test]
async fn a_sound_bucket_is_found_sound_and_left_as_it_was() {
    let sim = R2Sim::start();
    let findings = diagnose(&settings_for(&sim.endpoint())).await;
    assert!(findings.iter().all(|it| it.outcome.is_ok()), "{findings:?}");
    assert_eq!(findings.len(), 3);
    assert_eq!(sim.keys(), Vec::<String>::new());
}

#[tokio::test]
async fn each_mistake_is_named() {
    let secret = said_of(|settings| {
        if let BucketKind::S3 {
            secret_access_key, ..
        } = &mut settings.kind
        {
            *secret_access_key = "wrong".to_owned().into();
        }
    })
    .await;
    assert!(secret.contains("bucket.secret_access_key"), "{secret}");
    assert!(
        !secret.contains("wrong"),
        "a secret is never said: {secret}"
    );
    let id = said_of(|settings| {
        if let BucketKind::S3 { access_key_id, .. } = &mut settings.kind {
            *access_key_id = "nobody".to_owned();
        }
    })
    .await;
    assert!(id.contains("bucket.access_key_id"), "{id}");
    let bucket = said_of(|settings| {
        if let BucketKind::S3 { name, .. } = &mut settings.kind {
            *name = "nowhere".to_owned();
        }
    })
    .await;
    assert!(bucket.contains("nowhere does not exist"), "{bucket}");
}

async fn said_of_endpoint(endpoint: &str) -> String {
    only_failure(&diagnose(&settings_for(endpoint)).await)
}

#[tokio::test]
async fn a_wrong_endpoint_is_told_by_how_it_is_wrong() {
    let free = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let refusing = free.local_addr().unwrap();
    drop(free);
    let said = said_of_endpoint(&format!("http://{refusing}/")).await;
    assert!(said.contains("nothing listens there"), "{said}");
    let said = said_of_endpoint("http://nowhere.invalid/").await;
    assert!(said.contains("is unknown"), "{said}");
    let page = b"HTTP/1.1 200 OK\r\nContent-Type: text/html\r\nContent-Length: 4\r\n\r\nhome";
    let said = said_of_endpoint(&wire::saying(page)).await;
    assert!(said.contains("no S3 server"), "{said}");
}

#[tokio::test]
async fn tls_to_a_server_without_it_is_told() {
    let plain = wire::saying(b"HTTP/1.1 400 Bad Request\r\nContent-Length: 0\r\n\r\n");
    let said = said_of_endpoint(&plain.replace("http://", "https://")).await;
    assert!(said.contains("http://?"), "{said}");
}

#[tokio::test]
async fn a_token_that_may_only_read_is_told() {
    let sim = R2Sim::start();
    let _readonly =
        sim.fault(Rule::on(Operation::PutObject).plays(Fault::Status(403, "AccessDenied")));
    let said = only_failure(&diagnose(&settings_for(&sim.endpoint())).await);
    assert!(said.starts_with("bucket writable"), "{said}");
    assert!(said.contains("lacks this right"), "{said}");
}

#[tokio::test]
async fn a_wrong_clock_is_told() {
    let sim = R2Sim::start();
    let _skewed = sim.fault(Rule::any().plays(Fault::Status(403, "RequestTimeTooSkewed")));
    let said = only_failure(&diagnose(&settings_for(&sim.endpoint())).await);
    assert!(said.contains("clock"), "{said}");
}

#[tokio::test]
async fn a_directory_is_tried_out_too() {
    let home = tempfile::tempdir().unwrap();
    let settings = |path: std::path::PathBuf| Settings {
        kind: BucketKind::Directory { path },
        ..settings_for("http://127.0.0.1/")
    };
    let findings = diagnose(&settings(home.path().join("bucket"))).await;
    assert!(findings.iter().all(|it| it.outcome.is_ok()), "{findings:?}");
    std::fs::write(home.path().join("file"), "").unwrap();
    let said = only_failure(&diagnose(&settings(home.path().join("file"))).await);
    assert!(said.contains("bucket.path"), "{said}");
}
