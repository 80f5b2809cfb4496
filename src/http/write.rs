//! PUT, and whatever else is no read and no removal: decided by its head, before `100 Continue` where
//! the client waits for that, and then taken in.

use std::net::SocketAddr;

use actix_http::{Payload, Request};
use actix_web::http::Method;
use actix_web::http::header::HeaderMap;
use actix_web::{HttpMessage, HttpResponse};

use crate::asker::asking;
use crate::gateway::upload::{Admitted, Uploaded};
use crate::metrics::labels::Kind;

use super::auth::Scope;
use super::client::Client;
use super::error::Refusal;
use super::receive::{self, Decided};
use super::remove;
use super::reply::Reply;
use super::routes::{Route, Routed};
use super::{Desk, Front, READ_METHODS, Refused, reads};

/// Methods of what can be uploaded.
const OBJECT_METHODS: &str = "GET, HEAD, PUT";

/// Methods of what can be deleted and not uploaded.
const REMOVABLE: &str = "GET, HEAD, DELETE";

/// Methods of what can be uploaded and deleted.
const ALL_METHODS: &str = "GET, HEAD, PUT, DELETE";

impl Desk {
    /// Decides on an upload before `100 Continue`, and refuses what no body would make welcome. `Err`
    /// is the final answer; on `Ok` the client may send its body, and a decision travels with the
    /// request. A read is answered whatever comes with it.
    pub async fn expect(&self, request: Request) -> Result<Request, HttpResponse> {
        if reads(request.method()) {
            return Ok(request);
        }
        let front = &self.front;
        let mut seen = self.watch.begin_of(&request);
        let found = front.find(request.method(), request.uri(), request.headers());
        let decided = match found {
            Ok(routed) => {
                seen.kind = routed.route.kind();
                asking(seen.id, front.decide_early(&request, &routed)).await
            }
            Err(refusal) => Err(refusal),
        };
        match decided {
            Ok(Some(Admitted::Existing)) => {
                let taken = receive::taken(Uploaded::Existing, seen.kind);
                Err(seen.answer(Reply::own(taken)).map_into_boxed_body())
            }
            Ok(Some(Admitted::Wanted(leave))) => {
                seen.withdraw();
                request.extensions_mut().insert(Decided { leave });
                Ok(request)
            }
            Ok(None) => {
                seen.withdraw();
                Ok(request)
            }
            Err(refusal) => {
                let about_nar = seen.kind == Kind::Nar;
                // Nothing of the body was read, so any client can come back with it.
                let (client, refused) = (Client::Nix, Refused::plainly(refusal));
                let reply = front.refuse(refused, client, &mut seen, about_nar);
                Err(seen.answer(reply).map_into_boxed_body())
            }
        }
    }
}

impl Front {
    /// Answers what is no read: a removal, a PUT, on which [`Desk::expect`] may have decided, or a
    /// method that is nobody's.
    pub(super) async fn change(
        &self,
        request: &Request,
        routed: Routed,
        payload: Payload,
    ) -> Result<Reply, Refused> {
        if request.method() == Method::DELETE && self.takes_removals() {
            let (_, from_bucket) = remove::split_query(request.uri().query());
            let removed = self.remove(request, &routed, from_bucket).await;
            receive::drain(payload).await;
            return removed;
        }
        let kind = routed.route.kind();
        let decided = request.extensions_mut().remove::<Decided>();
        let admitted = match (request.method(), decided) {
            (&Method::PUT, Some(Decided { leave })) => Ok(Some(Admitted::Wanted(leave))),
            (&Method::PUT, None) => {
                self.decide(&routed, request.headers(), request.peer_addr(), false)
                    .await
            }
            _ => Err(self.no_such_method(&routed.route)),
        };
        match admitted {
            Ok(Some(Admitted::Wanted(leave))) => {
                let taken = receive::take(&self.gateway, *leave, payload).await;
                let uploaded = taken.map_err(|cause| Refused::plainly(Refusal::Upload(cause)))?;
                Ok(Reply::own(receive::taken(uploaded, kind)))
            }
            Ok(Some(Admitted::Existing) | None) => {
                receive::drain(payload).await;
                Ok(Reply::own(receive::taken(Uploaded::Existing, kind)))
            }
            Err(refusal) => {
                receive::drain(payload).await;
                Err(Refused::plainly(refusal))
            }
        }
    }

    /// By the head alone. `None`: there is nothing to decide yet.
    async fn decide_early(
        &self,
        request: &Request,
        routed: &Routed,
    ) -> Result<Option<Admitted>, Refusal> {
        let (headers, peer) = (request.headers(), request.peer_addr());
        match *request.method() {
            Method::PUT => self.decide(routed, headers, peer, true).await,
            Method::DELETE if self.takes_removals() => {
                self.may_remove(routed, headers, peer).map(|_| None)
            }
            _ => Err(self.no_such_method(&routed.route)),
        }
    }

    pub(super) fn no_such_method(&self, route: &Route) -> Refusal {
        Refusal::Method {
            allow: self.allowed(route),
        }
    }

    /// The methods that the route takes here.
    fn allowed(&self, route: &Route) -> &'static str {
        let puts = self.gateway.takes_uploads();
        match route {
            Route::Object(_) => match (puts, self.takes_removals()) {
                (true, true) => ALL_METHODS,
                (true, false) => OBJECT_METHODS,
                (false, true) => REMOVABLE,
                (false, false) => READ_METHODS,
            },
            Route::CacheInfo if puts => OBJECT_METHODS,
            Route::CacheInfo | Route::Home | Route::Health | Route::Ready | Route::Metrics => {
                READ_METHODS
            }
        }
    }

    /// Decides on a PUT, whose body `waits` for that or comes at once. `None`: it is accepted and
    /// ignored.
    async fn decide(
        &self,
        routed: &Routed,
        headers: &HeaderMap,
        peer: Option<SocketAddr>,
        waits: bool,
    ) -> Result<Option<Admitted>, Refusal> {
        let writable = matches!(routed.route, Route::Object(_) | Route::CacheInfo);
        if !writable {
            return Err(Refusal::Method {
                allow: READ_METHODS,
            });
        }
        if !self.gateway.takes_uploads() {
            return Err(Refusal::UploadsOff {
                allow: self.allowed(&routed.route),
            });
        }
        let by = self.authorise(routed, headers, Scope::Write, peer)?;
        let by = by.unwrap_or_default();
        match &routed.route {
            Route::Object(key) => {
                let admitted = receive::decide(&self.gateway, key, headers, waits, by).await;
                admitted.map(Some)
            }
            _ => Ok(None),
        }
    }
}
