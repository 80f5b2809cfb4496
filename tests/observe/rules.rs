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

/// A case fires by naming its alert. Silence is an earlier moment of that case, or the case after it,
/// which is about the same alert and names none.
#[test]
fn every_alert_has_a_case_in_which_it_fires_and_one_in_which_it_is_silent() {
    let alerts = fs::read_to_string(file("alerts.yml")).unwrap();
    let cases = fs::read_to_string(file("tests/alerts.test.yml")).unwrap();
    let cases: Vec<&str> = cases.split("- name: ").skip(1).collect();
    let names = alerts
        .lines()
        .filter_map(|line| line.trim().strip_prefix("- alert: "));
    for name in names {
        let fires = |case: &&str| case.contains(&format!("alertname=\"{name}\""));
        let at = cases.iter().position(fires);
        let at = at.unwrap_or_else(|| panic!("{name} has no case that fires"));
        let mut around = cases[at..].iter().take(2);
        assert!(
            around.any(|case| case.contains("exp_samples: []")),
            "{name} has no silent case"
        );
    }
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
