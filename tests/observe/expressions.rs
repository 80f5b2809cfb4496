//! Every expression of the dashboard and of the rules, asked of a real Prometheus that scrapes a
//! gateway at work: each is understood, and each returns data.

use std::fs;

use serde_json::Value;

use crate::bed::TestBed;
use crate::contract;
use crate::counting::{self, Tally};
use crate::prometheus::Prometheus;
use crate::rules;

/// An expression of the dashboard, with what Grafana would put into it.
struct Panel {
    title: String,
    expression: String,
    legend: String,
}

fn dashboard() -> Value {
    let text = fs::read_to_string(rules::file("narwharf.json")).expect("the dashboard");
    serde_json::from_str(&text).expect("JSON")
}

fn panels(dashboard: &Value) -> Vec<Panel> {
    let mut found = Vec::new();
    for panel in dashboard["panels"].as_array().expect("panels") {
        for target in panel["targets"].as_array().into_iter().flatten() {
            found.push(Panel {
                title: panel["title"].as_str().expect("a title").to_owned(),
                expression: filled_in(target["expr"].as_str().expect("an expression")),
                legend: target["legendFormat"]
                    .as_str()
                    .unwrap_or_default()
                    .to_owned(),
            });
        }
    }
    found
}

fn filled_in(expression: &str) -> String {
    let mut text = expression.to_owned();
    for (variable, value) in [
        ("$__rate_interval", "30s"),
        ("$__range", "1m"),
        ("$job", ".+"),
        ("$instance", ".+"),
        ("$price_a", "4.50"),
        ("$price_b", "0.36"),
    ] {
        text = text.replace(variable, value);
    }
    assert!(!text.contains('$'), "a variable that is not known: {text}");
    text
}

/// A condition as a question that always has an answer: 1 where it holds, 0 where it does not.
fn asked_openly(condition: &str) -> String {
    let mut text = condition.to_owned();
    for comparison in [" == ", " > ", " < "] {
        text = text.replace(comparison, &format!("{comparison}bool "));
    }
    text
}

fn labels_of(legend: &str) -> impl Iterator<Item = &str> {
    let parts = legend.split("{{").skip(1);
    parts.filter_map(|part| part.split_once("}}").map(|(label, _)| label.trim()))
}

#[actix_web::test]
async fn every_expression_returns_data_and_they_say_what_the_clients_saw() {
    let bed = TestBed::start().await;
    let prometheus = Prometheus::over(bed.address());
    prometheus.until("first scrapes", |p| {
        p.value("sum(count_over_time(up[1m])) or vector(0)") >= 2.0
    });
    let mut seen = Tally::default();
    counting::traffic(&bed, &mut seen).await;
    counting::uploads(&bed, &mut seen).await;
    counting::trouble(&bed, &mut seen).await;
    bed.until_metric("narwharf_http_requests_in_flight", 0)
        .await;

    // What Prometheus itself asks of the gateway is in the same counter, as kind "other".
    let asked = seen.total(|[kind, _, _]| kind != "other") as f64;
    let counted = "sum(narwharf_http_requests_total{kind!=\"other\"})";
    prometheus.until("all requests", |p| p.value(counted) == asked);
    prometheus.until("two evaluations", |p| {
        p.query("count_over_time(narwharf:hit_ratio:rate5m[1m])")
            .is_ok_and(|samples| samples.first().is_some_and(|sample| sample.value >= 3.0))
    });

    let mut wrong = Vec::new();
    for Panel {
        title,
        expression,
        legend,
    } in panels(&dashboard())
    {
        match prometheus.query(&expression) {
            Err(error) => wrong.push(format!("{title}: {error}")),
            Ok(samples) if samples.is_empty() => {
                wrong.push(format!("{title}: no data: {expression}"))
            }
            Ok(samples) => {
                let lacking = labels_of(&legend).filter(|label| {
                    samples
                        .iter()
                        .any(|sample| !sample.labels.contains_key(*label))
                });
                wrong.extend(
                    lacking.map(|label| format!("{title}: no label {label}: {expression}")),
                );
            }
        }
    }
    let rules = prometheus.rules();
    for rule in &rules {
        let (name, query) = (&rule["name"], rule["query"].as_str().expect("a query"));
        if rule["health"] != "ok" {
            wrong.push(format!("{name}: {} {}", rule["health"], rule["lastError"]));
        }
        let query = match rule["type"].as_str() {
            Some("alerting") => asked_openly(query),
            _ => query.to_owned(),
        };
        match prometheus.query(&query) {
            Err(error) => wrong.push(format!("{name}: {error}")),
            Ok(samples) if samples.is_empty() => wrong.push(format!("{name}: no data: {query}")),
            Ok(_) => {}
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
    assert_eq!(rules.len(), 26);

    let ratio = prometheus.value("narwharf:hit_ratio:rate5m");
    assert!(ratio > 0.2 && ratio < 0.9, "{ratio}");
    let firing = prometheus.query("ALERTS{alertstate=\"firing\"}").unwrap();
    let firing: Vec<_> = firing
        .iter()
        .map(|alert| &alert.labels["alertname"])
        .collect();
    assert!(firing.is_empty(), "minutes have not passed, yet {firing:?}");
}

/// In Grafana an unexplained panel is a riddle, and two with one title are one too many.
#[test]
fn every_panel_is_explained_and_every_number_has_its_unit() {
    let dashboard = dashboard();
    let panels = dashboard["panels"].as_array().unwrap();
    let mut titles = std::collections::BTreeSet::new();
    for panel in panels.iter().filter(|panel| panel["type"] != "row") {
        let title = panel["title"].as_str().unwrap();
        assert!(titles.insert(title), "{title} twice");
        assert!(
            panel["description"]
                .as_str()
                .is_some_and(|text| text.len() > 10),
            "{title}"
        );
        let unit = &panel["fieldConfig"]["defaults"]["unit"];
        assert!(
            unit.is_string() || panel["type"] == "table",
            "{title} has no unit"
        );
        assert_eq!(panel["datasource"]["uid"], "${datasource}", "{title}");
    }
    assert!(titles.len() > 30);
}

/// A series that nobody looks at might as well not be there.
#[test]
fn every_metric_is_on_the_dashboard() {
    let shown: String = panels(&dashboard())
        .into_iter()
        .map(|panel| panel.expression)
        .collect();
    for (name, _, _) in contract::CONTRACT {
        assert!(shown.contains(&format!("narwharf_{name}")), "{name}");
    }
}
