//! A real Prometheus over a gateway, with our rules, in a folder of its own.

use std::fs;
use std::io::{Read, Write};
use std::net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream};
use std::process::{Child, Command, Stdio};

use serde_json::Value;
use tempfile::TempDir;

use crate::bed::{PATIENCE, eventually_blocking};
use crate::rules;

/// Running until it is dropped.
pub struct Prometheus {
    address: SocketAddr,
    process: Child,
    _folder: TempDir,
}

/// One element of a query's result.
#[derive(Debug, Clone)]
pub struct Sample {
    pub labels: serde_json::Map<String, Value>,
    pub value: f64,
}

impl Prometheus {
    /// Scrapes `gateway` each second, and evaluates our rules as often: their own pace, and the day
    /// that one of them looks back, are the only things that are not as in `grafana/`.
    pub fn over(gateway: SocketAddr) -> Self {
        let folder = TempDir::with_prefix("narwharf-prometheus-").expect("a temporary folder");
        for name in ["recording.yml", "alerts.yml"] {
            let rules = fs::read_to_string(rules::file(name)).expect("rules");
            let hurried = rules
                .replace("interval: 30s", "interval: 1s")
                .replace("offset 30m", "offset 1s");
            fs::write(folder.path().join(name), hurried).expect("rules");
        }
        let config = folder.path().join("prometheus.yml");
        let text = format!(
            "global: {{ scrape_interval: 1s, evaluation_interval: 1s }}\n\
             rule_files: [recording.yml, alerts.yml]\n\
             scrape_configs: [{{ job_name: narwharf, static_configs: [{{ targets: [\"{gateway}\"] }}] }}]\n"
        );
        fs::write(&config, text).expect("settings");
        let address = free_port();
        let process = Command::new("prometheus")
            .arg(format!("--config.file={}", config.display()))
            .arg(format!(
                "--storage.tsdb.path={}",
                folder.path().join("data").display()
            ))
            .arg(format!("--web.listen-address={address}"))
            .arg("--log.level=warn")
            .stdout(Stdio::null())
            .spawn()
            .expect("prometheus: tests/prepare installs it");
        let prometheus = Self {
            address,
            process,
            _folder: folder,
        };
        prometheus.until("ready", |prometheus| {
            fetch(prometheus.address, "/-/ready").is_some_and(|answer| answer.contains("Ready"))
        });
        prometheus
    }

    /// An instant query. `Err`: what Prometheus has against it.
    pub fn query(&self, expression: &str) -> Result<Vec<Sample>, String> {
        let data = self.api("query", &[("query", expression)])?;
        let result = match data["resultType"].as_str() {
            Some("vector") => data["result"].as_array().cloned().unwrap_or_default(),
            _ => vec![serde_json::json!({ "metric": {}, "value": data["result"] })],
        };
        let sample = |element: &Value| Sample {
            labels: element["metric"].as_object().cloned().unwrap_or_default(),
            value: element["value"][1]
                .as_str()
                .and_then(|value| value.parse().ok())
                .expect("a value"),
        };
        Ok(result.iter().map(sample).collect())
    }

    /// The value of a query that has one.
    #[track_caller]
    pub fn value(&self, expression: &str) -> f64 {
        let samples = self
            .query(expression)
            .unwrap_or_else(|error| panic!("{expression}: {error}"));
        assert_eq!(samples.len(), 1, "{expression}: {samples:?}");
        samples[0].value
    }

    /// The value of a query that has one, as an operator gets it from `promtool query instant`.
    #[track_caller]
    pub fn promtool(&self, expression: &str) -> f64 {
        let server = format!("http://{}", self.address);
        let output = Command::new("promtool")
            .args(["query", "instant", &server, expression])
            .output()
            .expect("promtool: tests/prepare installs it");
        // `{} => 5 @[1431281220]`, one line for each element.
        let text = String::from_utf8(output.stdout).expect("text");
        let value = text.trim().split_once(" => ").and_then(|(_, rest)| {
            let (value, _) = rest.split_once(" @[")?;
            value.parse().ok()
        });
        value.unwrap_or_else(|| panic!("{expression}: {text}"))
    }

    /// All rules, as Prometheus has understood them.
    pub fn rules(&self) -> Vec<Value> {
        let groups = self.api("rules", &[]).expect("rules");
        let groups = groups["groups"].as_array().cloned().unwrap_or_default();
        let rules = groups.iter().filter_map(|group| group["rules"].as_array());
        rules.flatten().cloned().collect()
    }

    /// Waits until something holds; it becomes so by scrapes and evaluations, which nobody announces.
    #[track_caller]
    pub fn until(&self, what: &str, holds: impl Fn(&Self) -> bool) {
        assert!(eventually_blocking(|| holds(self)), "never came: {what}");
    }

    fn api(&self, path: &str, query: &[(&str, &str)]) -> Result<Value, String> {
        let query = url::form_urlencoded::Serializer::new(String::new())
            .extend_pairs(query)
            .finish();
        let body = fetch(self.address, &format!("/api/v1/{path}?{query}")).ok_or("no answer")?;
        let mut answer: Value =
            serde_json::from_str(&body).map_err(|error| format!("{error}: {body}"))?;
        match answer["status"].as_str() {
            Some("success") => Ok(answer["data"].take()),
            _ => Err(answer["error"].as_str().unwrap_or(&body).to_owned()),
        }
    }
}

impl Drop for Prometheus {
    fn drop(&mut self) {
        // It keeps nothing that would be worth a clean end.
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

/// A port that was free a moment ago: Prometheus takes no socket, and does not tell what 0 became.
fn free_port() -> SocketAddr {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).expect("a free port");
    listener.local_addr().expect("its address")
}

/// The body of a GET, by HTTP/1.0 so that it ends with the connection. `None`: nobody listens.
fn fetch(address: SocketAddr, target: &str) -> Option<String> {
    let mut stream = TcpStream::connect(address).ok()?;
    stream.set_read_timeout(Some(PATIENCE)).ok()?;
    write!(stream, "GET {target} HTTP/1.0\r\nHost: {address}\r\n\r\n").ok()?;
    let mut answer = String::new();
    stream.read_to_string(&mut answer).ok()?;
    answer
        .split_once("\r\n\r\n")
        .map(|(_, body)| body.to_owned())
}
