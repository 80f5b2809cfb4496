//! LAYER 1: from a request's text to a journey of the gateway, and from its outcome to an answer.
//!
//! Everything a client says is parsed here, once; what goes down are keys and ranges that need no
//! second look. Everything the gateway says becomes a status in one table (`error.rs`) and headers
//! in one file (`reply.rs`).

mod auth;
mod client;
mod conditional;
mod error;
mod front_page;
mod leaving;
mod negotiate;
mod objects;
mod observe;
mod pages;
mod past;
pub mod plain;
pub mod prompt;
mod read;
mod receive;
mod remove;
mod reply;
mod routes;
mod write;

use std::net::SocketAddr;
use std::rc::Rc;
use std::sync::Arc;

use actix_http::{Payload, Request};
use actix_web::http::header::{CONTENT_LENGTH, HeaderMap, HeaderName, HeaderValue};
use actix_web::http::{Method, Uri};
use actix_web::{HttpMessage, HttpResponse};
use secrecy::SecretString;

use crate::asker::asking;
use crate::clock::Clock;
use crate::config::{Config, Namespaces, Token};
use crate::gateway::Gateway;
use crate::gateway::served::How;
use crate::log::Access;
use crate::metrics::Metrics;
use crate::metrics::labels::{Kind, Source};

use auth::{Auth, Denied, Scope};
use client::Client;
use error::Refusal;
use leaving::Leaving;
use observe::{Observed, Watch, Watched};
use pages::Pages;
use prompt::Encoder;
use reply::{Reply, Sharing};
use routes::{Route, Routed};

/// Methods of what can be read and not written.
pub const READ_METHODS: &str = "GET, HEAD";

/// What a header field takes besides its name and its value: the colon, a blank, the line's end.
const FIELD_OVERHEAD: usize = 4;

/// What all workers share to answer requests.
#[derive(Debug)]
pub struct Front {
    gateway: Arc<Gateway>,
    metrics: Arc<Metrics>,
    clock: Clock,
    auth: Auth,
    pages: Pages,
    access: Access,
    namespaces: Namespaces,
    sharing: Sharing,
    /// Whether `/metrics` is served on the listener the request came by.
    metrics_here: bool,
    metrics_token: Option<SecretString>,
    leaving: Leaving,
}

/// Where one worker answers, with a watch of its own: no two of them write to the same memory for each
/// request.
#[derive(Debug)]
pub struct Desk {
    front: Arc<Front>,
    watch: Rc<Watch>,
    encoder: Encoder,
    /// Bytes of the largest body that [`Desk::prompt`] gives.
    largest: usize,
}

/// Which of the two faces a listener shows.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Face {
    /// Everything, and `/metrics` unless it has a listener of its own.
    Cache,
    /// `/metrics` alone.
    Metrics,
}

impl Front {
    pub fn new(
        config: &Config,
        gateway: Arc<Gateway>,
        metrics: Arc<Metrics>,
        access: Access,
        clock: Clock,
    ) -> Self {
        let sharing = if config.auth.public_reads {
            Sharing::Public
        } else {
            Sharing::Private
        };
        Self {
            gateway,
            access,
            metrics,
            auth: Auth::new(&config.auth),
            pages: Pages::new(config, sharing, &clock),
            namespaces: config.cache.namespaces.clone(),
            sharing,
            metrics_here: config.metrics.enabled && config.metrics.listen.is_none(),
            metrics_token: config.metrics.token.clone(),
            leaving: Leaving::default(),
            clock,
        }
    }

    /// Takes note of how fast things go; once a second.
    pub fn tick(&self) {
        self.pages.tick(&self.metrics, &self.clock);
    }

    /// From now on these tokens count and no others.
    pub fn replace_tokens(&self, tokens: &[Token]) {
        self.auth.replace(tokens);
    }

    /// From now on `/ready` says that this server is leaving, and so does every answer.
    pub fn begin_draining(&self) {
        self.leaving.begin();
    }

    fn find(&self, method: &Method, uri: &Uri, headers: &HeaderMap) -> Result<Routed, Refusal> {
        let of_fields = |(name, value): (&HeaderName, &HeaderValue)| {
            name.as_str().len() + value.len() + FIELD_OVERHEAD
        };
        if headers.len() > error::MAX_FIELDS
            || headers.iter().map(of_fields).sum::<usize>() > error::MAX_HEAD
        {
            return Err(Refusal::HeadTooLarge);
        }
        if uri
            .path_and_query()
            .is_some_and(|target| target.as_str().len() > error::MAX_TARGET)
        {
            return Err(Refusal::TargetTooLong);
        }
        if *method == Method::CONNECT {
            return Err(Refusal::Method {
                allow: READ_METHODS,
            });
        }
        let query = match *method {
            Method::DELETE => remove::split_query(uri.query()).0,
            _ => uri.query(),
        };
        let routed = routes::route(uri.path(), query, &self.namespaces, reads(method));
        match routed {
            Some(Routed {
                route: Route::Metrics,
                ..
            }) if !self.metrics_here => Err(Refusal::NoRoute),
            Some(routed) => Ok(routed),
            None => Err(Refusal::NoRoute),
        }
    }

    async fn answer(
        &self,
        request: &Request,
        routed: Routed,
        payload: Payload,
    ) -> Result<Reply, Refused> {
        if reads(request.method()) {
            // A body that nobody asked for would cost the connection if it stayed unread.
            if request.headers().contains_key(CONTENT_LENGTH) || request.chunked().unwrap_or(false)
            {
                Box::pin(receive::drain(payload)).await;
            }
            return self.read(request, routed).await;
        }
        // Boxed, as is all that few requests come to: a future is as large as the largest of its
        // branches, and is moved several times before it is polled.
        Box::pin(self.change(request, routed, payload)).await
    }

    /// The name of the token that allows it; `None`: nobody need ask.
    fn authorise(
        &self,
        routed: &Routed,
        headers: &HeaderMap,
        scope: Scope,
        peer: Option<SocketAddr>,
    ) -> Result<Option<Arc<str>>, Refusal> {
        let namespace = routed.namespace.as_ref();
        let namespace = namespace.map(|namespace| namespace.as_str());
        let denied = match self.auth.check(headers, scope, namespace) {
            Ok(by) => return Ok(by),
            Err(denied) => denied,
        };
        self.metrics.auth_failures.of((denied.into(),)).inc();
        if denied != Denied::Unknown {
            return Err(Refusal::Denied { denied, scope });
        }
        if self.auth.note_unknown(peer.map(|peer| peer.ip())) {
            tracing::warn!(from = ?peer, ?scope, "an unknown token was shown");
            return Err(Refusal::Denied { denied, scope });
        }
        let denied = Denied::TooMany;
        Err(Refusal::Denied { denied, scope })
    }

    fn refuse(
        &self,
        refused: Refused,
        client: Client,
        seen: &mut Observed,
        about_nar: bool,
    ) -> Reply {
        let Refused { refusal, how } = refused;
        if let Some(reason) = refusal.unknown_reason() {
            self.metrics.unknown_answers.of((reason,)).inc();
        }
        seen.refused(&refusal);
        let response = reply::refusal(&refusal, client, seen.id.as_str(), about_nar);
        Reply {
            response,
            how,
            source: Source::None,
            past: None,
        }
    }
}

impl Desk {
    /// `largest`: bytes of a body that may go past actix.
    pub fn new(front: Arc<Front>, largest: usize) -> Self {
        let watch = Rc::new(Watch::new(Arc::clone(&front.metrics), front.access.clone()));
        Self {
            front,
            watch,
            encoder: Encoder::default(),
            largest,
        }
    }

    /// Waits until idle connections may be closed without cutting off somebody who pushes.
    pub async fn until_quiet(&self) {
        self.front.leaving.until_quiet().await;
    }

    /// Answers a request that came by a listener of the cache.
    pub async fn handle(&self, mut request: Request) -> HttpResponse<Watched> {
        let front = &self.front;
        let payload = request.take_payload();
        let pushes = request.method() == Method::PUT;
        if pushes {
            front.leaving.note_push();
        }
        let mut seen = self.watch.begin_of(&request);
        let found = front.find(request.method(), request.uri(), request.headers());
        let reply = match found {
            Ok(routed) => {
                seen.kind = routed.route.kind();
                let about_nar = seen.kind == Kind::Nar;
                let answer = front.answer(&request, routed, payload);
                match asking(seen.id, answer).await {
                    Ok(reply) => reply,
                    Err(refused) => {
                        let client = Client::of(request.headers());
                        front.refuse(refused, client, &mut seen, about_nar)
                    }
                }
            }
            Err(refusal) => {
                // What comes behind a CONNECT has no end.
                if request.method() != Method::CONNECT {
                    Box::pin(receive::drain(payload)).await;
                }
                let client = Client::of(request.headers());
                front.refuse(Refused::plainly(refusal), client, &mut seen, false)
            }
        };
        if pushes {
            front.leaving.note_push();
        }
        front.leaving.mark(seen.answer(reply))
    }

    /// The same of one whose client waits for `100 Continue`: nothing there takes a body.
    pub async fn expect_metrics(&self, request: Request) -> Result<Request, HttpResponse> {
        if reads(request.method()) {
            return Ok(request);
        }
        Err(self.handle_metrics(request).await.map_into_boxed_body())
    }

    /// Answers a request that came by the metrics' own listener.
    pub async fn handle_metrics(&self, request: Request) -> HttpResponse<Watched> {
        let front = &self.front;
        let mut seen = self.watch.begin_of(&request);
        let answered = match (request.path(), reads(request.method())) {
            ("/metrics", true) => front.metrics_page(request.headers()),
            ("/metrics", false) => Err(Refusal::Method {
                allow: READ_METHODS,
            }),
            _ => Err(Refusal::NoRoute),
        };
        let reply = match answered {
            Ok(response) => Reply::own(response),
            Err(refusal) => {
                let (client, refused) = (Client::of(request.headers()), Refused::plainly(refusal));
                front.refuse(refused, client, &mut seen, false)
            }
        };
        seen.answer(reply)
    }
}

/// A refusal, and how it came about: a 404 may be a negative hit.
#[derive(Debug)]
struct Refused {
    refusal: Refusal,
    how: How,
}

impl Refused {
    fn plainly(refusal: Refusal) -> Self {
        Self {
            refusal,
            how: How::Own,
        }
    }
}

fn reads(method: &Method) -> bool {
    method == Method::GET || method == Method::HEAD
}
