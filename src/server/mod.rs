//! Wiring: settings become parts, parts become a gateway, and the gateway is put behind sockets.
//!
//! Two runtimes live here. actix's workers speak to clients, one thread each; the engine, a
//! multi-threaded tokio runtime, owns all that talks to the bucket or writes to the disk.

mod connection;
mod drain;
mod framing;
mod gate;
mod listen;
mod memory;
mod stream;
mod takings;
mod turn;
mod warmth;

use std::future::ready;
use std::io;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::rc::Rc;
use std::sync::{Arc, mpsc};
use std::thread::JoinHandle;
use std::time::Duration;

use actix_http::{HttpService, Request};
use actix_server::{GracefulShutdownSignal, Server, ServerHandle};
use actix_service::{ServiceFactory, ServiceFactoryExt, fn_service};
use actix_web::HttpResponse;
use actix_web::body::MessageBody;
use secrecy::ExposeSecret;
use tokio::runtime::{Builder, Runtime};

use crate::clock::Clock;
use crate::config::{self, Config};
use crate::gateway::{Gateway, Signing};
use crate::http::{Desk, Face, Front};
use crate::log::Access;
use crate::metrics::Metrics;
use crate::nix::signature::{InvalidKey, PublicKey, SecretKey, TrustedKeys};
use crate::origin::{self, Origin};
use crate::tier::disk::{self, DiskTier};

use connection::Connection;
use listen::{ListenError, Socket};
use turn::{Lasting, Turn};

/// A client sends a request's head within this, also the next one on a kept connection.
const HEAD_PATIENCE: Duration = Duration::from_secs(10);

/// After a refusal whose body nobody reads, the client has this long to read the answer.
const DISCONNECT_PATIENCE: Duration = Duration::from_secs(5);

/// actix's own default; 256 KiB was measured slower, and this bounds what a stalled reader costs.
const WRITE_BUFFER: usize = 32 * 1024;

/// Bytes that the kernel takes at once from a connection on which all answers before were taken.
const TAKEN_AT_ONCE: usize = 32 * 1024;

/// How long a start waits for the index. Clients meanwhile wait in the sockets' queues, which costs
/// them less than a trip to the bucket for everything that the index knows; a hung index costs them
/// no more than this.
const INDEX_PATIENCE: Duration = Duration::from_secs(1);

/// Threads on which a worker waits for a cold page of a blob.
const BLOCKING_THREADS: usize = 32;

/// Where the server listens, once it does.
#[derive(Debug, Clone, Default)]
pub struct Started {
    pub addresses: Vec<SocketAddr>,
    pub unix: Vec<PathBuf>,
    /// Of the metrics' own listener, if there is one on TCP.
    pub metrics: Option<SocketAddr>,
}

/// Why the server does not start. Each names the setting to look at.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    #[error(transparent)]
    Listen(#[from] ListenError),
    #[error(transparent)]
    Disk(#[from] disk::OpenError),
    #[error(transparent)]
    Bucket(#[from] origin::OpenError),
    #[error("signing.trusted_public_keys: {key}: {why}")]
    PublicKey { key: String, why: String },
    #[error("signing.secret_key_file: {0}")]
    SecretKey(InvalidKey),
    #[error("{what}: {cause}")]
    System {
        what: &'static str,
        cause: io::Error,
    },
}

/// A running server. Dropped, it stops as [`Running::stop`] does.
#[derive(Debug)]
pub struct Running {
    pub started: Started,
    pub metrics: Arc<Metrics>,
    pub clock: Clock,
    front: Arc<Front>,
    gateway: Arc<Gateway>,
    handle: ServerHandle,
    thread: Option<JoinHandle<io::Result<()>>>,
    engine: Option<Runtime>,
}

/// Serves until SIGTERM or SIGINT and then drains. Blocks.
///
/// At SIGHUP the tokens are taken anew from what `reload` gives, while every connection goes on;
/// `None`: it has said why not, and the old ones stay.
pub fn run(
    config: Config,
    access: Access,
    reload: impl Fn() -> Option<Config>,
    on_start: impl FnOnce(&Running),
) -> Result<(), StartError> {
    let running = start(config, access)?;
    // Before anybody is told where the server is, and may send it one.
    let within = running.engine().enter();
    let mut signals = drain::Signals::listen().map_err(|cause| StartError::System {
        what: "cannot wait for signals",
        cause,
    })?;
    drop(within);
    on_start(&running);
    drain::announce_ready();
    running.engine().block_on(signals.until_the_end(|| {
        if let Some(config) = reload() {
            running.replace_tokens(&config.auth.tokens);
        }
    }));
    drain::announce_stopping();
    running.stop();
    Ok(())
}

/// Starts everything and returns once the sockets accept.
pub fn start(config: Config, access: Access) -> Result<Running, StartError> {
    let system = |what| move |cause| StartError::System { what, cause };
    let signing = signing(&config.signing)?;
    let engine = Builder::new_multi_thread()
        .thread_name("engine")
        .enable_all()
        .build()
        .map_err(system("cannot start the engine's threads"))?;
    let (metrics, clock) = (Metrics::counting(config.metrics.enabled), Clock::default());
    let metrics = Arc::new(metrics);
    let within = engine.enter();
    let disk = DiskTier::open(&config.disk, Arc::clone(&metrics), clock.clone())?;
    let origin = Origin::open(&config.bucket, Arc::clone(&metrics), clock.clone())?;
    let sockets = listen::open(&config.server.listen)?;
    let metrics_socket = listen::open_own(config.metrics.listen.as_ref())?;
    drop(within);
    disk.wait_for_index(INDEX_PATIENCE);
    let gateway = Gateway::new(
        &config,
        signing,
        engine.handle().clone(),
        clock.clone(),
        Arc::clone(&metrics),
        disk,
        origin,
    );
    drain::tidy_and_feel(&engine, &gateway);
    drain::sweep_uploads(&engine, &gateway);
    let front = Arc::new(Front::new(
        &config,
        Arc::clone(&gateway),
        Arc::clone(&metrics),
        access,
        clock.clone(),
    ));
    drain::tick(&engine, &front);
    let started = started(&sockets, metrics_socket.as_ref());
    memory::tell(&config);

    let (ready, accepting) = mpsc::sync_channel(1);
    let served = Arc::clone(&front);
    let thread = std::thread::Builder::new()
        .name("server".into())
        .spawn(move || {
            actix_web::rt::System::new().block_on(async move {
                let server = serve(&config, served, sockets, metrics_socket)?;
                // The one waiting for this has failed otherwise, and says so.
                let _ = ready.send(server.handle());
                server.await
            })
        });
    let thread = thread.map_err(system("cannot start the server's thread"))?;
    let Ok(handle) = accepting.recv() else {
        let cause = thread.join().map_or_else(
            |_| io::Error::other("panicked"),
            |ended| ended.err().unwrap_or(io::ErrorKind::Other.into()),
        );
        return Err(StartError::System {
            what: "cannot start the workers",
            cause,
        });
    };
    Ok(Running {
        started,
        metrics,
        clock,
        front,
        gateway,
        handle,
        thread: Some(thread),
        engine: Some(engine),
    })
}

impl Running {
    /// Answers what is under way, for at most `server.drain`, and ends. Blocks.
    pub fn stop(mut self) {
        self.shut_down();
    }

    /// From now on these tokens count and no others. No connection is dropped for it.
    pub fn replace_tokens(&self, tokens: &[config::Token]) {
        self.front.replace_tokens(tokens);
        let names: Vec<&str> = tokens.iter().map(|token| token.name.as_str()).collect();
        tracing::info!(?names, "tokens replaced");
    }

    fn engine(&self) -> &Runtime {
        self.engine.as_ref().expect("there until shut down")
    }

    fn shut_down(&mut self) {
        let (Some(thread), Some(engine)) = (self.thread.take(), self.engine.take()) else {
            return;
        };
        self.front.begin_draining();
        engine.block_on(self.handle.stop(true));
        match thread.join() {
            Ok(Ok(())) => {}
            Ok(Err(cause)) => tracing::error!(%cause, "the server ended with an error"),
            Err(_) => tracing::error!("the server's thread panicked"),
        }
        self.gateway.close();
        // Fills without readers are given up: the next start sweeps their temporary files.
        engine.shutdown_background();
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        self.shut_down();
    }
}

fn serve(
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
    let taken = usize::try_from(takings::taken_within(time)).unwrap_or(usize::MAX);
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
        .client_request_timeout(HEAD_PATIENCE)
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
            Box::pin(expect(desk, request))
        }))
        .h1(fn_service(move |request| {
            Box::pin(handle(Rc::clone(&desk), face, request))
        }))
}

/// A refusal is an answer like any other, and ends the turn.
async fn expect(desk: Rc<Desk>, request: Request) -> Result<Request, HttpResponse> {
    let turn = request.conn_data::<Turn>().cloned();
    let decided = desk.expect(request).await;
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

/// The keys that uploads must be signed by, and the one that signs them here.
fn signing(settings: &config::Signing) -> Result<Signing, StartError> {
    let parse = |key: &String| {
        key.parse::<PublicKey>()
            .map_err(|why| StartError::PublicKey {
                key: key.clone(),
                why: why.to_string(),
            })
    };
    let keys: TrustedKeys = settings
        .trusted_public_keys
        .iter()
        .map(parse)
        .collect::<Result<_, _>>()?;
    let own = settings.secret_key.as_ref();
    let own = own.map(|key| key.expose_secret().parse::<SecretKey>());
    Ok(Signing {
        trusted: settings.require_signature.then_some(keys),
        own: own.transpose().map_err(StartError::SecretKey)?,
    })
}

fn started(sockets: &[Socket], metrics: Option<&Socket>) -> Started {
    let mut started = Started::default();
    for socket in sockets {
        match socket {
            Socket::Tcp(listener) => started.addresses.extend(listener.local_addr().ok()),
            Socket::Unix(_, path) => started.unix.push(path.clone()),
        }
    }
    if let Some(Socket::Tcp(listener)) = metrics {
        started.metrics = listener.local_addr().ok();
    }
    started
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
