//! Sockets to listen on: those systemd hands over, else those the settings name.

use std::io;
use std::net::{SocketAddr, TcpListener, ToSocketAddrs};
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::{Path, PathBuf};

use listenfd::ListenFd;
use tokio::net::TcpSocket;

use crate::config::Listen;

/// Connections that wait to be accepted; a farm's machines all ask at once. Linux caps it at
/// `net.core.somaxconn`, 4096 by default.
const BACKLOG: u32 = 4096;

#[derive(Debug)]
pub enum Socket {
    Tcp(TcpListener),
    Unix(UnixListener, PathBuf),
}

/// Why a socket is not to be had.
#[derive(Debug, thiserror::Error)]
#[error("cannot listen on {listen} ({setting}): {cause}")]
pub struct ListenError {
    listen: String,
    setting: &'static str,
    cause: io::Error,
}

/// Opens all of them, or none. Must be called within a tokio runtime.
pub fn open(listen: &[Listen]) -> Result<Vec<Socket>, ListenError> {
    let handed = handed_over();
    if !handed.is_empty() {
        return Ok(handed);
    }
    listen
        .iter()
        .map(|each| open_one(each, "server.listen"))
        .collect()
}

/// Opens the metrics' own socket, if there is to be one. Must be called within a tokio runtime.
pub fn open_own(listen: Option<&Listen>) -> Result<Option<Socket>, ListenError> {
    listen
        .map(|each| open_one(each, "metrics.listen"))
        .transpose()
}

fn open_one(listen: &Listen, setting: &'static str) -> Result<Socket, ListenError> {
    let opened = match listen {
        Listen::Tcp(address) => tcp(address),
        Listen::Unix(path) => unix(path),
    };
    opened.map_err(|cause| ListenError {
        listen: listen.to_string(),
        setting,
        cause,
    })
}

fn handed_over() -> Vec<Socket> {
    let mut handed = ListenFd::from_env();
    let mut sockets = Vec::new();
    for at in 0..handed.len() {
        if let Ok(Some(tcp)) = handed.take_tcp_listener(at) {
            sockets.push(Socket::Tcp(tcp));
        } else if let Ok(Some(unix)) = handed.take_unix_listener(at) {
            let path = unix
                .local_addr()
                .ok()
                .and_then(|address| address.as_pathname().map(Path::to_owned));
            sockets.push(Socket::Unix(unix, path.unwrap_or_default()));
        }
    }
    sockets
}

/// A name may mean several addresses (`localhost`); the first that can be had is enough.
fn tcp(address: &str) -> io::Result<Socket> {
    let mut last = io::Error::new(io::ErrorKind::AddrNotAvailable, "the name has no address");
    for address in address.to_socket_addrs()? {
        match bind(address) {
            Ok(listener) => return Ok(Socket::Tcp(listener)),
            Err(cause) => last = cause,
        }
    }
    Err(last)
}

fn bind(address: SocketAddr) -> io::Result<TcpListener> {
    let socket = if address.is_ipv4() {
        TcpSocket::new_v4()?
    } else {
        TcpSocket::new_v6()?
    };
    socket.set_reuseaddr(true)?;
    socket.bind(address)?;
    socket.listen(BACKLOG)?.into_std()
}

/// A socket file that nobody listens on is left from a process that died, and is replaced.
fn unix(path: &Path) -> io::Result<Socket> {
    let left_over = path.exists()
        && UnixStream::connect(path)
            .is_err_and(|cause| cause.kind() == io::ErrorKind::ConnectionRefused);
    if left_over {
        std::fs::remove_file(path)?;
    }
    let listener = UnixListener::bind(path)?;
    listener.set_nonblocking(true)?;
    Ok(Socket::Unix(listener, path.to_owned()))
}
