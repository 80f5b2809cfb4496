//! Alert and recording rules, under the promtool that comes with Prometheus.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

/// A file below `grafana/`.
pub fn file(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("grafana")
        .join(name)
}

fn promtool(words: &[&str], path: &Path) {
    let output = Command::new("promtool").args(words).arg(path).output();
    let output = output.expect("promtool: tests/prepare installs it");
    let said = [&*output.stdout, &*output.stderr].concat();
    assert!(
        output.status.success(),
        "{}",
        String::from_utf8_lossy(&said)
    );
}

#[test]
fn the_rules_are_valid() {
    for name in ["recording.yml", "alerts.yml"] {
        promtool(&["check", "rules"], &file(name));
    }
}

#[test]
fn every_alert_fires_when_it_should_and_is_silent_when_not() {
    promtool(&["test", "rules"], &file("tests/alerts.test.yml"));
}

/// A case fires by naming its alert; the alert's own silence is the case that follows, or an earlier
/// moment. So each alert is named, and there are at least as many silent moments as alerts.
#[test]
fn no_alert_is_without_its_cases() {
    let alerts = fs::read_to_string(file("alerts.yml")).unwrap();
    let cases = fs::read_to_string(file("tests/alerts.test.yml")).unwrap();
    let names: Vec<_> = alerts
        .lines()
        .filter_map(|line| line.trim().strip_prefix("- alert: "))
        .collect();
    assert!(names.len() >= 15, "{names:?}");
    for name in &names {
        assert!(
            cases.contains(&format!("alertname=\"{name}\"")),
            "{name} has no case that fires"
        );
    }
    assert!(cases.matches("exp_samples: []").count() >= names.len());
}

#[test]
fn every_alert_says_what_is_so_and_what_to_do() {
    let alerts = fs::read_to_string(file("alerts.yml")).unwrap();
    for alert in alerts.split("- alert: ").skip(1) {
        for part in ["severity: ", "summary: ", "cause: ", "first_step: "] {
            assert!(alert.contains(part), "no {part} in {alert}");
        }
    }
}
