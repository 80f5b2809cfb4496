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
mod turn;
mod warmth;
mod workers;

use std::io;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::{Arc, mpsc};
use std::thread::JoinHandle;
use std::time::Duration;

use actix_server::ServerHandle;
use secrecy::ExposeSecret;
use tokio::runtime::{Builder, Runtime};

use crate::clock::Clock;
use crate::config::{self, Config};
use crate::gateway::{Gateway, Signing};
use crate::http::Front;
use crate::log::Access;
use crate::metrics::Metrics;
use crate::nix::signature::{InvalidKey, PublicKey, SecretKey, TrustedKeys};
use crate::origin::{self, Origin};
use crate::tier::disk::{self, DiskTier};

use listen::{ListenError, Socket};

/// How long a start waits for the index. Clients meanwhile wait in the sockets' queues, which costs
/// them less than a trip to the bucket for everything that the index knows; a hung index costs them
/// no more than this.
const INDEX_PATIENCE: Duration = Duration::from_secs(1);

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
                let server = workers::serve(&config, served, sockets, metrics_socket)?;
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
