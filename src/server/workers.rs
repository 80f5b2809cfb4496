//! actix's workers: each listener served by every one of them, over connections of our own.

use std::future::ready;
use std::io;
use std::net::SocketAddr;
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use actix_http::{HttpService, Request};
use actix_server::{GracefulShutdownSignal, Server};
use actix_service::{ServiceFactory, ServiceFactoryExt, fn_service};
use actix_web::HttpResponse;
use actix_web::body::MessageBody;

use super::connection::Connection;
use super::gate;
use super::listen::Socket;
use super::turn::{Lasting, Turn};
use crate::config::Config;
use crate::http::{Desk, Face, Front};
use crate::pace;

/// After a refusal whose body nobody reads, the client has this long to read the answer.
const DISCONNECT_PATIENCE: Duration = Duration::from_secs(5);

/// actix's own default; 256 KiB was measured slower, and this bounds what a stalled reader costs.
const WRITE_BUFFER: usize = 32 * 1024;

/// Bytes that the kernel takes at once from a connection on which all answers before were taken.
const TAKEN_AT_ONCE: usize = 32 * 1024;

/// Threads on which a worker waits for a cold page of a blob.
const BLOCKING_THREADS: usize = 32;

/// Builds the server, whose workers accept once it is polled.
pub fn serve(
    config: &Config,
    front: Arc<Front>,
    sockets: Vec<Socket>,
    metrics: Option<Socket>,
) -> io::Result<Server> {
    let mut builder = Server::build()
        .workers(config.server.workers)
        .max_concurrent_connections(config.server.max_connections)
        .worker_max_blocking_threads(BLOCKING_THREADS)
        .shutdown_timeout(config.server.drain.as_secs())
        .disable_signals();
    let faces = sockets.into_iter().map(|socket| (socket, Face::Cache));
    for (socket, face) in faces.chain(metrics.map(|socket| (socket, Face::Metrics))) {
        let leaving = builder.graceful_shutdown_signal();
        let (front, keep_alive) = (Arc::clone(&front), config.server.keep_alive);
        let largest = match face {
            Face::Cache => largest_prompt(keep_alive),
            Face::Metrics => None,
        };
        let at_worker = move || {
            let desk = Rc::new(Desk::new(Arc::clone(&front), largest.unwrap_or_default()));
            let serving = speak_http(Rc::clone(&desk), face, keep_alive, leaving.clone());
            (largest.map(|_| desk), serving)
        };
        builder = match socket {
            Socket::Tcp(listener) => builder.listen("tcp", listener, move || {
                let (desk, serving) = at_worker();
                let connect = move |stream| ready(Ok(Connection::tcp(stream, desk.clone())));
                fn_service(connect).and_then(serving)
            })?,
            Socket::Unix(listener, _) => builder.listen_uds("unix", listener, move || {
                let (desk, serving) = at_worker();
                let connect = move |stream| ready(Ok(Connection::unix(stream, desk.clone())));
                fn_service(connect).and_then(serving)
            })?,
        };
    }
    Ok(builder.run())
}

/// Bytes of the largest body that may go past actix, which takes the connection meanwhile for idle, and
/// closes it when it was so for long. `None`: nothing may.
fn largest_prompt(keep_alive: Duration) -> Option<usize> {
    let time = keep_alive.checked_sub(gate::SHOW_EVERY)?;
    let taken = usize::try_from(pace::moved_within(time)).unwrap_or(usize::MAX);
    (!time.is_zero()).then_some(taken.max(TAKEN_AT_ONCE))
}

/// HTTP/1.1 over our own connections, with the hook that speaks before `100 Continue`.
fn speak_http(
    desk: Rc<Desk>,
    face: Face,
    keep_alive: Duration,
    leaving: GracefulShutdownSignal,
) -> impl ServiceFactory<
    (Connection, Option<SocketAddr>),
    Config = (),
    Response = (),
    Error = actix_http::error::DispatchError,
    InitError = (),
> {
    let (expecting, parting) = (Rc::clone(&desk), Rc::clone(&desk));
    HttpService::build()
        .graceful_shutdown_signal(move || {
            let (leaving, desk) = (leaving.clone(), Rc::clone(&parting));
            async move {
                leaving.notified().await;
                desk.until_quiet().await;
            }
        })
        .keep_alive(keep_alive)
        .client_request_timeout(gate::HEAD_PATIENCE)
        .client_disconnect_timeout(DISCONNECT_PATIENCE)
        .h1_allow_half_closed(false)
        .h1_write_buffer_size(WRITE_BUFFER)
        .on_connect_ext(|connection: &Connection, data| {
            data.insert(connection.turn());
            data.insert(connection.outbox());
        })
        .expect(fn_service(move |request| {
            // Boxed, as the next one: what is not is part of every connection, idle ones too.
            let desk = Rc::clone(&expecting);
            Box::pin(expect(desk, face, request))
        }))
        .h1(fn_service(move |request| {
            Box::pin(handle(Rc::clone(&desk), face, request))
        }))
}

/// A refusal is an answer like any other, and ends the turn.
async fn expect(desk: Rc<Desk>, face: Face, request: Request) -> Result<Request, HttpResponse> {
    let turn = request.conn_data::<Turn>().cloned();
    let decided = match face {
        Face::Cache => desk.expect(request).await,
        Face::Metrics => desk.expect_metrics(request).await,
    };
    if decided.is_err() {
        drop(turn.as_ref().map(Turn::answering));
    }
    decided
}

async fn handle(
    desk: Rc<Desk>,
    face: Face,
    request: Request,
) -> Result<HttpResponse<impl MessageBody>, HttpResponse> {
    let answering = request.conn_data().map(Turn::answering);
    let response = match face {
        Face::Cache => desk.handle(request).await,
        Face::Metrics => desk.handle_metrics(request).await,
    };
    // Until the answer is over it is not the client's turn.
    Ok(response.map_body(|_, body| Lasting::new(body, answering)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_goes_past_actix_is_taken_before_actix_would_close() {
        let largest = [1, 5, 61, 120, 300].map(|secs| largest_prompt(Duration::from_secs(secs)));
        let small = Some(TAKEN_AT_ONCE);
        assert_eq!(
            largest,
            [None, small, Some(600_000), Some(600_000), Some(2_400_000)]
        );
    }
}
