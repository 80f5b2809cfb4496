//! The answers that come from the gateway itself: cache info, health, readiness, the front page.

use std::time::SystemTime;

use actix_web::HttpResponse;
use actix_web::http::StatusCode;
use bytes::Bytes;
use serde_json::json;

use crate::clock::Clock;
use crate::config;
use crate::gateway::Readiness;
use crate::nix::cache_info;

use super::reply::{Sharing, cache_info as cache_info_reply, text};

const JSON: &str = "application/json";

/// What never changes while the process lives, made once.
#[derive(Debug)]
pub struct Pages {
    name: String,
    cache_info: Bytes,
    home: Bytes,
    sharing: Sharing,
}

impl Pages {
    /// `public_keys`: shown to people who want to trust this cache.
    pub fn new(cache: &config::Cache, public_keys: &[String], sharing: Sharing) -> Self {
        let info = cache_info::render(&cache.store_dir, cache.want_mass_query, cache.priority);
        let home = render_home(cache, public_keys);
        Self {
            name: cache.name.clone(),
            cache_info: info.into(),
            home: home.into(),
            sharing,
        }
    }

    pub fn cache_info(&self) -> HttpResponse {
        cache_info_reply(self.cache_info.clone(), self.sharing)
    }

    pub fn home(&self) -> HttpResponse {
        text(
            StatusCode::OK,
            "text/html; charset=utf-8",
            "no-cache",
            self.home.clone(),
        )
    }

    /// The process lives, whatever else does not.
    pub fn health(&self, clock: &Clock) -> HttpResponse {
        let body = json!({
            "status": "ok",
            "cache": self.name,
            "timestamp": humantime::format_rfc3339_seconds(clock.wall()).to_string(),
            "version": env!("CARGO_PKG_VERSION"),
        });
        text(StatusCode::OK, JSON, "no-store", format!("{body}\n"))
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
        let ago = |since| {
            format!(
                "{} s ago",
                clock.now().saturating_duration_since(since).as_secs()
            )
        };
        let body = json!({
            "status": if draining { "draining" } else if ready { "ready" } else { "not ready" },
            "bucket": {
                "state": if bucket_up { "ok" } else if readiness.bucket.breaker_open { "not asked" } else { "failing" },
                "last_success": readiness.bucket.last_success.map(ago),
                "last_failure": failure.map(|(when, cause)| format!("{}: {}", ago(*when), cause)),
            },
            "disk": { "state": readiness.disk.to_string() },
            "index": { "state": readiness.index.to_string() },
            "timestamp": humantime::format_rfc3339_seconds(SystemTime::now()).to_string(),
        });
        text(status, JSON, "no-store", format!("{body}\n"))
    }
}

fn render_home(cache: &config::Cache, public_keys: &[String]) -> String {
    let keys = if public_keys.is_empty() {
        "(the uploaders' public keys)".to_owned()
    } else {
        public_keys.join(" ")
    };
    let (name, keys) = (escape(&cache.name), escape(&keys));
    format!(
        "<!doctype html><html lang=\"en\"><meta charset=\"utf-8\">\
         <meta name=\"viewport\" content=\"width=device-width\"><title>{name}</title>\
         <style>body{{font:16px/1.5 system-ui;max-width:42rem;margin:2rem auto;padding:0 1rem;color-scheme:light dark}}\
         pre{{overflow:auto;padding:1rem;border:1px solid}}</style>\
         <h1>{name}</h1><p>A Nix binary cache, served by narwharf. In <code>nix.conf</code>, with this server's address:</p>\
         <pre>extra-substituters = http://HOST:PORT\nextra-trusted-public-keys = {keys}</pre>\
         <p><a href=\"nix-cache-info\">nix-cache-info</a> · <a href=\"health\">health</a> · <a href=\"ready\">ready</a></p></html>\n"
    )
}

fn escape(text: &str) -> String {
    text.replace('&', "&amp;")
        .replace('<', "&lt;")
        .replace('>', "&gt;")
        .replace('"', "&quot;")
}
