//! A question to the running server, for commands that need its answer.
//!
//! The server is on this machine or next to it and speaks plain HTTP, so one request on one
//! connection, closed after the answer, is all there is to it.

use std::io::{Read, Write};
use std::net::TcpStream;
use std::os::unix::net::UnixStream;
use std::path::PathBuf;
use std::time::Duration;

use anyhow::{Context, bail};
use clap::Args;
use secrecy::{ExposeSecret, SecretString};
use url::Url;

use crate::config::{self, Config, Listen};

/// The server answers from memory; only a machine under great load takes longer.
const PATIENCE: Duration = Duration::from_secs(30);

/// The longest answer that is read.
const LONGEST: u64 = 16 << 20;

/// Where the server is, and who asks.
#[derive(Args, Debug)]
pub struct Whom {
    /// The running server [default: the first of server.listen]
    #[arg(long, value_name = "URL")]
    url: Option<Url>,
    /// A file whose first line is an admin's token [default: the variable NARWHARF_TOKEN, else none]
    #[arg(long, value_name = "FILE")]
    token_file: Option<PathBuf>,
}

/// What came back.
#[derive(Debug)]
pub struct Answer {
    pub status: u16,
    pub body: String,
}

enum Place {
    Tcp { authority: String, path: String },
    Unix(PathBuf),
}

impl Whom {
    /// GET of the server's root in this form. Blocks.
    pub fn get(&self, config: &Config, accept: &str) -> anyhow::Result<Answer> {
        self.ask(config, "GET", "", accept)
    }

    /// A request without a body for a key, which is one of the cache's grammar or empty. Blocks.
    pub fn ask(
        &self,
        config: &Config,
        method: &str,
        key: &str,
        accept: &str,
    ) -> anyhow::Result<Answer> {
        let place = self.place(config)?;
        let (authority, path) = match &place {
            Place::Tcp { authority, path } => (authority.as_str(), path.as_str()),
            Place::Unix(_) => ("localhost", "/"),
        };
        let mut request = format!(
            "{method} {path}{key} HTTP/1.1\r\nHost: {authority}\r\nAccept: {accept}\r\n\
             Connection: close\r\n"
        );
        if let Some(token) = self.token()? {
            request += &format!("Authorization: Bearer {}\r\n", token.expose_secret());
        }
        request += "\r\n";
        let asked = match &place {
            Place::Tcp { authority, .. } => TcpStream::connect(authority).and_then(|stream| {
                stream.set_read_timeout(Some(PATIENCE))?;
                exchange(stream, &request)
            }),
            Place::Unix(path) => UnixStream::connect(path).and_then(|stream| {
                stream.set_read_timeout(Some(PATIENCE))?;
                exchange(stream, &request)
            }),
        };
        let shown = match &place {
            Place::Tcp { authority, .. } => authority.clone(),
            Place::Unix(path) => path.display().to_string(),
        };
        let answer = asked.with_context(|| {
            format!("no answer from {shown}; does narwharf run there? (--url names another place)")
        })?;
        parse(&answer).with_context(|| format!("{shown} does not speak HTTP"))
    }

    fn place(&self, config: &Config) -> anyhow::Result<Place> {
        let Some(url) = &self.url else {
            return Ok(match &config.server.listen[0] {
                Listen::Tcp(address) => Place::Tcp {
                    authority: reachable(address),
                    path: "/".to_owned(),
                },
                Listen::Unix(path) => Place::Unix(path.clone()),
            });
        };
        let (Some(host), "http") = (url.host_str(), url.scheme()) else {
            bail!(
                "--url: allowed is http://HOST[:PORT][/NAMESPACE]; ask narwharf itself, not the proxy before it"
            );
        };
        let path = url.path().trim_end_matches('/');
        Ok(Place::Tcp {
            authority: format!("{host}:{}", url.port_or_known_default().unwrap_or(80)),
            path: format!("{path}/"),
        })
    }

    fn token(&self) -> anyhow::Result<Option<SecretString>> {
        match &self.token_file {
            Some(file) => config::read_secret(file)
                .map(Some)
                .map_err(|cause| anyhow::anyhow!("{}: {cause}", file.display())),
            None => Ok(std::env::var("NARWHARF_TOKEN").ok().map(SecretString::from)),
        }
    }
}

/// A listener that is open to all is reached over loopback.
fn reachable(address: &str) -> String {
    match address.rsplit_once(':') {
        Some(("0.0.0.0", port)) => format!("127.0.0.1:{port}"),
        Some(("[::]", port)) => format!("[::1]:{port}"),
        _ => address.to_owned(),
    }
}

fn exchange(mut stream: impl Read + Write, request: &str) -> std::io::Result<Vec<u8>> {
    stream.write_all(request.as_bytes())?;
    let mut answer = Vec::new();
    stream.take(LONGEST).read_to_end(&mut answer)?;
    Ok(answer)
}

fn parse(answer: &[u8]) -> anyhow::Result<Answer> {
    let text = std::str::from_utf8(answer)?;
    let (head, body) = text.split_once("\r\n\r\n").context("no head")?;
    let status = head
        .strip_prefix("HTTP/1.1 ")
        .and_then(|rest| rest.get(..3));
    Ok(Answer {
        status: status.context("no status")?.parse()?,
        body: body.to_owned(),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_open_listener_is_asked_over_loopback() {
        assert_eq!(reachable("0.0.0.0:8080"), "127.0.0.1:8080");
        assert_eq!(reachable("[::]:80"), "[::1]:80");
        assert_eq!(reachable("cache.lan:8080"), "cache.lan:8080");
    }

    #[test]
    fn an_answer_is_a_status_and_a_body() {
        let answer = parse(b"HTTP/1.1 401 Unauthorized\r\nA: b\r\n\r\nno\r\n\r\nway").unwrap();
        assert_eq!(
            (answer.status, answer.body.as_str()),
            (401, "no\r\n\r\nway")
        );
        assert!(parse(b"SSH-2.0-OpenSSH\r\n\r\n").is_err());
    }
}
