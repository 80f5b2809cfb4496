//! `/`: cache info to Nix, a page to a browser, JSON to a program that names it.
//!
//! Which of them may see the numbers is decided here: whoever may read `/metrics` on the same
//! listener learns nothing new, and an admin's token sees more, anywhere.

use std::sync::Arc;

use actix_http::Request;
use actix_web::http::header::{HeaderValue, VARY};
use actix_web::{HttpMessage, HttpResponse};

use super::auth::Scope;
use super::error::Refusal;
use super::routes::Routed;
use super::{Front, negotiate, pages};

impl Front {
    /// For whoever reads the page, with what is going on where that is no secret; for Nix.
    pub(super) fn home(&self, request: &Request, routed: &Routed) -> HttpResponse {
        let mut response = if negotiate::wants_html(request.headers()) {
            let status = self
                .numbers_are_open()
                .then(|| self.pages.status(&self.gateway, &self.metrics, &self.clock));
            self.pages.home(&base_of(request, routed), status.as_ref())
        } else {
            self.pages.cache_info()
        };
        vary_by_accept(&mut response);
        response
    }

    /// For a program: for whoever may read, where that is no secret; more of it, and always, for an
    /// admin.
    pub(super) async fn status(
        &self,
        request: &Request,
        routed: &Routed,
    ) -> Result<HttpResponse, Refusal> {
        let (headers, peer) = (request.headers(), request.peer_addr());
        let is_admin = self.auth.check(headers, Scope::Admin, None).is_ok();
        let survey = if is_admin {
            let gateway = Arc::clone(&self.gateway);
            let looking = actix_web::web::block(move || gateway.survey(pages::SURVEYED));
            Some(looking.await.expect("looking at blobs does not panic"))
        } else {
            let scope = if self.numbers_are_open() {
                Scope::Read
            } else {
                Scope::Admin
            };
            self.authorise(routed, headers, scope, peer)?;
            None
        };
        let status = self.pages.status(&self.gateway, &self.metrics, &self.clock);
        let mut response = self.pages.status_answer(status, survey.as_ref());
        vary_by_accept(&mut response);
        Ok(response)
    }

    /// Whether `/metrics` can be had on this listener without a token.
    fn numbers_are_open(&self) -> bool {
        self.metrics_here && self.metrics_token.is_none()
    }
}

fn vary_by_accept(response: &mut HttpResponse) {
    let vary = HeaderValue::from_static("Accept");
    response.headers_mut().insert(VARY, vary);
}

/// The address by which a client came, namespace included, without a slash at its end.
fn base_of(request: &Request, routed: &Routed) -> String {
    let header = |name: &str| request.headers().get(name)?.to_str().ok();
    let plain = |host: &&str| {
        let allowed = |c: char| c.is_ascii_alphanumeric() || ".-:[]".contains(c);
        !host.is_empty() && host.len() <= 255 && host.chars().all(allowed)
    };
    let host = header("host").filter(plain).unwrap_or("HOST:PORT");
    // Told by the proxy in front, and shown to nobody but the client that came by it.
    let scheme = match header("x-forwarded-proto") {
        Some("https") => "https",
        _ => "http",
    };
    match &routed.namespace {
        Some(namespace) => format!("{scheme}://{host}/{}", namespace.as_str()),
        None => format!("{scheme}://{host}"),
    }
}
