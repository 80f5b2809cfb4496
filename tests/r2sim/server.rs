//! The listening socket and the connections behind it.
//!
//! While the server is down its port stays bound but not listened on: the kernel then refuses every
//! connection, and nobody else is given the port meanwhile.

use std::convert::Infallible;
use std::io;
use std::net::SocketAddr;
use std::os::fd::OwnedFd;
use std::sync::mpsc;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use rustix::net::{AddressFamily, SocketType, bind, listen, socket, sockopt};
use tokio::net::{TcpListener, TcpStream};
use tokio::runtime::Handle;
use tokio_util::sync::CancellationToken;

use super::conn::{Conn, Wire};
use super::line::Pace;
use super::serve::{Service, Shared};

const BACKLOG: i32 = 1024;

pub struct Server {
    address: SocketAddr,
    shared: Arc<Shared>,
    runtime: Handle,
    state: Mutex<State>,
}

enum State {
    Up(Running),
    Down(OwnedFd),
}

struct Running {
    stop: CancellationToken,
    /// Ends when the listener and every connection are gone: each holds a sender.
    gone: mpsc::Receiver<Infallible>,
}

impl Server {
    /// Listens on `address` (port 0: a free one) and serves on `runtime`.
    pub fn start(address: SocketAddr, shared: Arc<Shared>, runtime: Handle) -> io::Result<Self> {
        let socket = bound(address)?;
        listen(&socket, BACKLOG)?;
        let listener = std::net::TcpListener::from(socket);
        let address = listener.local_addr()?;
        let running = run(listener, shared.clone(), &runtime)?;
        Ok(Self {
            address,
            shared,
            runtime,
            state: Mutex::new(State::Up(running)),
        })
    }

    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Breaks off all connections and refuses new ones; returns when that is so.
    pub fn go_down(&self) -> io::Result<()> {
        let mut state = self.state();
        if let State::Up(running) = &*state {
            running.stop.cancel();
            let Err(mpsc::RecvError) = running.gone.recv();
            *state = State::Down(bound(self.address)?);
        }
        Ok(())
    }

    /// Listens on the same port again.
    pub fn come_up(&self) -> io::Result<()> {
        let mut state = self.state();
        if let State::Down(socket) = &*state {
            listen(socket, BACKLOG)?;
            let listener = std::net::TcpListener::from(socket.try_clone()?);
            *state = State::Up(run(listener, self.shared.clone(), &self.runtime)?);
        }
        Ok(())
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn bound(address: SocketAddr) -> io::Result<OwnedFd> {
    let family = match address {
        SocketAddr::V4(_) => AddressFamily::INET,
        SocketAddr::V6(_) => AddressFamily::INET6,
    };
    let socket = socket(family, SocketType::STREAM, None)?;
    sockopt::set_socket_reuseaddr(&socket, true)?;
    bind(&socket, &address)?;
    Ok(socket)
}

fn run(
    listener: std::net::TcpListener,
    shared: Arc<Shared>,
    runtime: &Handle,
) -> io::Result<Running> {
    listener.set_nonblocking(true)?;
    let listener = {
        let _inside = runtime.enter();
        TcpListener::from_std(listener)?
    };
    let (alive, gone) = mpsc::channel();
    let stop = CancellationToken::new();
    runtime.spawn(accept(listener, shared, stop.clone(), alive));
    Ok(Running { stop, gone })
}

async fn accept(
    listener: TcpListener,
    shared: Arc<Shared>,
    stop: CancellationToken,
    alive: mpsc::Sender<Infallible>,
) {
    let accepting = async {
        loop {
            match listener.accept().await {
                Ok((socket, _)) => {
                    let (shared, stop, alive) = (shared.clone(), stop.clone(), alive.clone());
                    tokio::spawn(async move {
                        stop.run_until_cancelled(serve(socket, shared)).await;
                        drop(alive);
                    });
                }
                Err(error) => {
                    tracing::warn!(%error, "no connection accepted");
                    tokio::task::yield_now().await;
                }
            }
        }
    };
    stop.run_until_cancelled(accepting).await;
    drop(listener);
    drop(alive);
}

async fn serve(socket: TcpStream, shared: Arc<Shared>) {
    if let Err(error) = socket.set_nodelay(true) {
        tracing::debug!(%error, "a connection died at once");
        return;
    }
    let wire = Arc::new(Wire::default());
    let service = Service {
        shared,
        wire: wire.clone(),
        pace: Arc::new(Pace::default()),
    };
    let connection = http1::Builder::new()
        .timer(TokioTimer::new())
        .serve_connection(
            TokioIo::new(Conn::new(socket, wire)),
            service_fn(move |request| service.clone().answer(request)),
        );
    if let Err(error) = connection.await {
        tracing::debug!(%error, "a connection broke");
    }
}
