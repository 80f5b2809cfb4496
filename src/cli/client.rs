//! Speaking to the running server, over the address it listens on.

use std::env;
use std::fs;
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context, bail};
use bytes::Bytes;
use clap::Args;
use http_body_util::Empty;
use hyper::body::Incoming;
use hyper::client::conn::http1::SendRequest;
use hyper::{Method, Request, Response, header};
use hyper_util::rt::TokioIo;
use secrecy::{ExposeSecret, SecretString};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpStream, UnixStream};
use tokio::time::timeout;

use crate::config::{Config, Listen};

/// Deadline for a connection.
const CONNECTING: Duration = Duration::from_secs(5);
/// Deadline for an answer's head, of which the bucket may take most.
const ANSWERING: Duration = Duration::from_secs(60);
/// Where the token may stand, besides a file.
const TOKEN: &str = "NARWHARF_TOKEN";

/// Which server to speak to, and as whom.
#[derive(Args, Clone, Debug, Default)]
pub struct Reach {
    /// The server's address, as in server.listen; the first of those when not given
    #[arg(long, value_name = "HOST:PORT|unix:PATH")]
    server: Option<Listen>,
    /// A file with the token to show; NARWHARF_TOKEN in the environment when not given
    #[arg(long, value_name = "FILE")]
    token_file: Option<PathBuf>,
}

/// The server, and the token it is shown. Each request has a connection of its own.
#[derive(Clone, Debug)]
pub struct Client {
    server: Listen,
    token: Option<SecretString>,
}

impl Client {
    pub fn new(config: &Config, reach: &Reach) -> anyhow::Result<Self> {
        let server = match &reach.server {
            Some(server) => server.clone(),
            None => reachable(&config.server.listen[0]),
        };
        let token = match &reach.token_file {
            Some(file) => Some(read_token(file)?),
            None => env::var(TOKEN).ok().map(SecretString::from),
        };
        Ok(Self { server, token })
    }

    pub fn has_token(&self) -> bool {
        self.token.is_some()
    }

    /// Asks once. `path` begins with a slash and is sent as it is. Errors: no server there, or it
    /// falls silent before its answer's head.
    pub async fn ask(&self, method: Method, path: &str) -> anyhow::Result<Response<Incoming>> {
        let there = || format!("no narwharf answers at {}", self.server);
        let mut connection = timeout(CONNECTING, self.connect())
            .await
            .with_context(there)?
            .with_context(there)?;
        let mut request = Request::builder()
            .method(method)
            .uri(path)
            .header(header::HOST, "narwharf")
            .header(header::CONNECTION, "close")
            .header(
                header::USER_AGENT,
                concat!("narwharf/", env!("CARGO_PKG_VERSION")),
            );
        if let Some(token) = &self.token {
            let value = format!("Bearer {}", token.expose_secret());
            request = request.header(header::AUTHORIZATION, value);
        }
        let request = request
            .body(Empty::new())
            .context("the path or the token cannot be sent")?;
        let answer = timeout(ANSWERING, connection.send_request(request)).await;
        Ok(answer.with_context(there)?.with_context(there)?)
    }

    async fn connect(&self) -> anyhow::Result<SendRequest<Empty<Bytes>>> {
        match &self.server {
            Listen::Tcp(address) => begin(TcpStream::connect(address).await?).await,
            Listen::Unix(path) => begin(UnixStream::connect(path).await?).await,
        }
    }
}

async fn begin<S>(stream: S) -> anyhow::Result<SendRequest<Empty<Bytes>>>
where
    S: AsyncRead + AsyncWrite + Send + Unpin + 'static,
{
    let (sender, connection) = hyper::client::conn::http1::handshake(TokioIo::new(stream)).await?;
    // Its errors come out of the request or the body, too.
    tokio::spawn(async move { drop(connection.await) });
    Ok(sender)
}

/// The address to connect to for one that is listened on: of "everywhere", here.
fn reachable(listen: &Listen) -> Listen {
    let Listen::Tcp(address) = listen else {
        return listen.clone();
    };
    let (host, port) = address.rsplit_once(':').unwrap_or((address, ""));
    match host {
        "0.0.0.0" => Listen::Tcp(format!("127.0.0.1:{port}")),
        "[::]" => Listen::Tcp(format!("[::1]:{port}")),
        _ => listen.clone(),
    }
}

fn read_token(file: &Path) -> anyhow::Result<SecretString> {
    let text = fs::read_to_string(file)
        .with_context(|| format!("cannot read the token in {}", file.display()))?;
    let token = text.trim();
    if token.is_empty() {
        bail!("{} holds no token", file.display());
    }
    Ok(token.to_owned().into())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_server_that_listens_everywhere_is_reached_here() {
        for (listen, reached) in [
            ("0.0.0.0:80", "127.0.0.1:80"),
            ("[::]:80", "[::1]:80"),
            ("cache.lan:80", "cache.lan:80"),
            ("unix:/run/narwharf", "unix:/run/narwharf"),
        ] {
            assert_eq!(
                reachable(&listen.parse().unwrap()),
                reached.parse().unwrap()
            );
        }
    }
}
