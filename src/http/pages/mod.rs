//! The answers that come from the gateway itself: cache info, health, readiness, the front page.

mod home;
mod recent;
mod status;

use std::time::Instant;

use actix_web::HttpResponse;
use actix_web::http::StatusCode;
use actix_web::http::header::{
    CONTENT_SECURITY_POLICY, HeaderValue, REFERRER_POLICY, X_CONTENT_TYPE_OPTIONS,
};
use bytes::Bytes;
use serde_json::{Value, json};

use crate::clock::Clock;
use crate::config::Config;
use crate::gateway::{Gateway, Readiness, Survey};
use crate::metrics::Metrics;
use crate::metrics::labels::Label;
use crate::nix::cache_info;

use home::Home;
use recent::Recent;
use status::Capacities;

use super::reply::{Sharing, cache_info as cache_info_reply, text};

const JSON: &str = "application/json";

/// Blobs that are named in either list of an admin's status.
pub const SURVEYED: usize = 10;

/// What never changes while the process lives, made once; and the pace of the last minute.
#[derive(Debug)]
pub struct Pages {
    name: String,
    cache_info: Bytes,
    home: Home,
    sharing: Sharing,
    capacities: Capacities,
    started: Instant,
    recent: Recent,
}

impl Pages {
    pub fn new(config: &Config, sharing: Sharing, clock: &Clock) -> Self {
        let cache = &config.cache;
        let info = cache_info::render(&cache.store_dir, cache.want_mass_query, cache.priority);
        Self {
            name: cache.name.clone(),
            cache_info: info.into(),
            home: Home::new(
                &cache.name,
                &config.signing.trusted_public_keys,
                config.auth.public_reads,
                config.uploads.enabled,
            ),
            sharing,
            capacities: Capacities {
                documents: config.memory.documents,
                negative: config.memory.negative,
                nars: config.memory.nars,
            },
            started: clock.now(),
            recent: Recent::default(),
        }
    }

    /// Takes note of how fast things go; once a second.
    pub fn tick(&self, metrics: &Metrics, clock: &Clock) {
        if metrics.counts_requests() {
            self.recent.tick(metrics, clock.now());
        }
    }

    /// What `status.rs` tells. Looks at every series.
    pub fn status(&self, gateway: &Gateway, metrics: &Metrics, clock: &Clock) -> Value {
        let now = clock.now();
        let seen = status::Seen {
            metrics,
            readiness: &gateway.readiness(),
            under_way: &gateway.under_way(),
            pace: self.recent.pace(metrics, now),
            uptime: now.saturating_duration_since(self.started),
            capacities: self.capacities,
        };
        status::status(&self.name, &seen)
    }

    /// A status as an answer, with the blobs that only an admin may see.
    pub fn status_answer(&self, mut status: Value, survey: Option<&Survey>) -> HttpResponse {
        if let Some(survey) = survey {
            status["blobs"] = status::blobs(survey);
        }
        text(StatusCode::OK, JSON, format!("{status}\n"))
    }

    pub fn cache_info(&self) -> HttpResponse {
        cache_info_reply(self.cache_info.clone(), self.sharing)
    }

    /// The front page as seen from `base`. Without `status` it tells only how to use the cache.
    pub fn home(&self, base: &str, status: Option<&Value>) -> HttpResponse {
        let page = self.home.render(base, status);
        let mut response = text(StatusCode::OK, "text/html; charset=utf-8", page);
        let headers = response.headers_mut();
        headers.insert(X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff"));
        headers.insert(REFERRER_POLICY, HeaderValue::from_static("no-referrer"));
        headers.insert(
            CONTENT_SECURITY_POLICY,
            HeaderValue::from_str(&self.home.policy).expect("a policy is visible ASCII"),
        );
        response
    }

    /// The process lives, whatever else does not.
    pub fn health(&self, clock: &Clock) -> HttpResponse {
        let body = json!({
            "status": "ok",
            "cache": self.name,
            "timestamp": humantime::format_rfc3339_seconds(clock.wall()).to_string(),
            "version": env!("CARGO_PKG_VERSION"),
        });
        text(StatusCode::OK, JSON, format!("{body}\n"))
    }

    /// Whether requests should be sent here: the bucket answers and the server is not leaving. A sick
    /// disk or index is shown but makes a proxy, not an outage.
    pub fn ready(&self, readiness: &Readiness, draining: bool, clock: &Clock) -> HttpResponse {
        let bucket_up = readiness.bucket.is_up();
        let ready = bucket_up && !draining;
        let status = if ready {
            StatusCode::OK
        } else {
            StatusCode::SERVICE_UNAVAILABLE
        };
        let failure = readiness.bucket.last_failure.as_ref();
        let failure = failure.map(|(when, cause)| match self.sharing {
            Sharing::Public => (when, cause.to_string()),
            // It names an object, and anybody may ask this.
            Sharing::Private => (when, cause.reason().as_str().to_owned()),
        });
        let ago = |since| {
            format!(
                "{} s ago",
                clock.now().saturating_duration_since(since).as_secs()
            )
        };
        let body = json!({
            "status": if draining { "draining" } else if ready { "ready" } else { "not ready" },
            "bucket": {
                "state": status::bucket_state(readiness),
                "last_success": readiness.bucket.last_success.map(ago),
                "last_failure": failure.map(|(when, why)| format!("{}: {why}", ago(*when))),
            },
            "disk": { "state": readiness.disk.to_string() },
            "index": { "state": readiness.index.to_string() },
            "timestamp": humantime::format_rfc3339_seconds(clock.wall()).to_string(),
        });
        text(status, JSON, format!("{body}\n"))
    }
}
