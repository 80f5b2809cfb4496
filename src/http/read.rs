//! GET and HEAD: whether one may, and of what; the answers about objects are in `objects.rs`.

use std::time::Duration;

use actix_http::Request;
use actix_web::http::StatusCode;
use actix_web::http::header::HeaderMap;
use actix_web::{HttpMessage, HttpResponse};
use secrecy::ExposeSecret;
use subtle::ConstantTimeEq;

use crate::nix::key::Key;

use super::auth::{self, Denied, Scope};
use super::error::Refusal;
use super::reply::{self, Reply};
use super::routes::{Route, Routed};
use super::{Front, Refused, negotiate};

/// How long `/ready` waits for the bucket's sign of life.
const PROBE_PATIENCE: Duration = Duration::from_secs(5);

impl Front {
    /// Answers a read of any route, once it is authorised.
    pub(super) async fn read(&self, request: &Request, routed: Routed) -> Result<Reply, Refused> {
        if routed.route == Route::Home && negotiate::wants_json(request.headers()) {
            let status = Box::pin(self.status(request, &routed)).await;
            return status.map(Reply::own).map_err(Refused::plainly);
        }
        let open = matches!(routed.route, Route::Health | Route::Ready | Route::Metrics);
        if !open {
            let allowed =
                self.authorise(&routed, request.headers(), Scope::Read, request.peer_addr());
            allowed.map_err(Refused::plainly)?;
        }
        match routed.route {
            Route::Home => Ok(Reply::own(self.home(request, &routed))),
            Route::CacheInfo => Ok(Reply::own(self.pages.cache_info())),
            Route::Health => Ok(Reply::own(self.pages.health(&self.clock))),
            Route::Ready => Ok(Reply::own(Box::pin(self.ready()).await)),
            Route::Metrics => self
                .metrics_page(request.headers())
                .map(Reply::own)
                .map_err(Refused::plainly),
            Route::Object(Key::Document(key)) => self.document(request, &key).await,
            Route::Object(Key::Nar(key)) => self.nar(request, &key).await,
        }
    }

    async fn ready(&self) -> HttpResponse {
        // A bucket that does not answer in time is shown as it was last seen.
        let _ = tokio::time::timeout(PROBE_PATIENCE, self.gateway.feel_pulse(true)).await;
        let draining = self.leaving.has_begun();
        self.pages
            .ready(&self.gateway.readiness(), draining, &self.clock)
    }

    pub(super) fn metrics_page(&self, headers: &HeaderMap) -> Result<HttpResponse, Refusal> {
        if let Some(token) = &self.metrics_token {
            let denied = |denied: Denied| {
                self.metrics.auth_failures.of((denied.into(),)).inc();
                let scope = Scope::Read;
                Refusal::Denied { denied, scope }
            };
            let shown = auth::shown(headers).map_err(denied)?;
            if !bool::from(shown.as_bytes().ct_eq(token.expose_secret().as_bytes())) {
                return Err(denied(Denied::Unknown));
            }
        }
        let text = self.metrics.render();
        Ok(reply::text(
            StatusCode::OK,
            "text/plain; version=0.0.4; charset=utf-8",
            text,
        ))
    }
}
