//! A question to the running server, for commands that need its answer.
//!
//! The server is on this machine or next to it and speaks plain HTTP, so one request on one
//! connection, closed after the answer, is all there is to it. It is made in HTTP/1.0, in which no
//! answer comes in chunks.

use std::io::{self, BufRead, BufReader, Read, Write};
use std::net::TcpStream;
use std::os::unix::net::UnixStream;
use std::path::PathBuf;
use std::time::Duration;

use anyhow::{Context, bail};
use clap::Args;
use secrecy::{ExposeSecret, SecretString};
use url::Url;

use crate::config::{self, Config, Listen};

/// Between two bytes of an answer. What asks the bucket, or waits for an upload of the same key to end,
/// may take a minute.
const PATIENCE: Duration = Duration::from_secs(120);

/// The longest answer that is read as text, and the longest head.
const LONGEST: u64 = 16 << 20;
const LONGEST_HEAD: u64 = 64 << 10;

/// Bytes read at once of a body that is thrown away.
const PIECE: usize = 128 << 10;

/// Where the server is, and who asks.
#[derive(Args, Debug)]
pub struct Whom {
    /// The running server [default: the first of server.listen]
    #[arg(long, value_name = "URL", value_parser = server_address)]
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

/// The server, and the token it is shown.
#[derive(Debug)]
pub struct Server {
    place: Place,
    token: Option<SecretString>,
}

#[derive(Debug)]
enum Place {
    Tcp {
        authority: String,
        /// Ends in a slash.
        root: String,
    },
    Unix(PathBuf),
}

/// An answer whose body has not been read yet.
pub struct Reply {
    pub status: u16,
    /// As the head says; without it the body goes on until the connection ends.
    length: Option<u64>,
    body: Box<dyn Read + Send>,
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
        let reply = self.server(config)?.ask(method, key, accept)?;
        Ok(Answer {
            status: reply.status,
            body: reply.text()?,
        })
    }

    pub fn server(&self, config: &Config) -> anyhow::Result<Server> {
        Ok(Server {
            place: self.place(config),
            token: self.token()?,
        })
    }

    fn place(&self, config: &Config) -> Place {
        let Some(url) = &self.url else {
            return match &config.server.listen[0] {
                Listen::Tcp(address) => Place::Tcp {
                    authority: reachable(address),
                    root: "/".to_owned(),
                },
                Listen::Unix(path) => Place::Unix(path.clone()),
            };
        };
        let path = url.path().trim_end_matches('/');
        let (host, port) = (url.host_str(), url.port_or_known_default());
        Place::Tcp {
            authority: format!("{}:{}", host.unwrap_or_default(), port.unwrap_or(80)),
            root: format!("{path}/"),
        }
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

fn server_address(text: &str) -> Result<Url, String> {
    match Url::parse(text) {
        Ok(url) if url.scheme() == "http" && url.has_host() => Ok(url),
        _ => Err(
            "allowed is http://HOST[:PORT][/NAMESPACE]; ask narwharf itself, not the proxy before it"
                .to_owned(),
        ),
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

impl Server {
    /// Whether there is a token to show.
    pub fn has_token(&self) -> bool {
        self.token.is_some()
    }

    /// Asks once for what lies at `path` below the root. Blocks until the answer's head is here.
    pub fn ask(&self, method: &str, path: &str, accept: &str) -> anyhow::Result<Reply> {
        let (authority, root) = match &self.place {
            Place::Tcp { authority, root } => (authority.as_str(), root.as_str()),
            Place::Unix(_) => ("localhost", "/"),
        };
        let mut request =
            format!("{method} {root}{path} HTTP/1.0\r\nHost: {authority}\r\nAccept: {accept}\r\n");
        if let Some(token) = &self.token {
            request += &format!("Authorization: Bearer {}\r\n", token.expose_secret());
        }
        request += "\r\n";
        let asked = match &self.place {
            Place::Tcp { authority, .. } => TcpStream::connect(authority).and_then(|stream| {
                stream.set_read_timeout(Some(PATIENCE))?;
                exchange(stream, &request)
            }),
            Place::Unix(path) => UnixStream::connect(path).and_then(|stream| {
                stream.set_read_timeout(Some(PATIENCE))?;
                exchange(stream, &request)
            }),
        };
        let shown = match &self.place {
            Place::Tcp { authority, .. } => authority.clone(),
            Place::Unix(path) => path.display().to_string(),
        };
        let answer = asked.with_context(|| {
            format!("no answer from {shown}; does narwharf run there? (--url names another place)")
        })?;
        head(answer).with_context(|| format!("{shown} does not speak HTTP"))
    }
}

impl Reply {
    /// The whole body. Errors: it was cut, is longer than anybody reads, or is no text.
    pub fn text(self) -> anyhow::Result<String> {
        let mut text = String::new();
        self.body.take(LONGEST).read_to_string(&mut text)?;
        if self
            .length
            .is_some_and(|length| length != text.len() as u64)
        {
            bail!("the answer was cut");
        }
        Ok(text)
    }

    /// Bytes of the body, if the head says so.
    pub fn length(&self) -> Option<u64> {
        self.length
    }

    /// Throws the body away, telling `read` of each piece. Errors: it was cut.
    pub fn drain(mut self, mut read: impl FnMut(u64)) -> anyhow::Result<()> {
        let mut piece = vec![0; PIECE];
        let mut total = 0;
        loop {
            match self.body.read(&mut piece)? {
                0 => break,
                more => {
                    total += more as u64;
                    read(more as u64);
                }
            }
        }
        if self.length.is_some_and(|length| length != total) {
            bail!("the answer was cut after {total} bytes");
        }
        Ok(())
    }
}

fn exchange(
    mut stream: impl Read + Write + Send + 'static,
    request: &str,
) -> io::Result<Box<dyn Read + Send>> {
    stream.write_all(request.as_bytes())?;
    Ok(Box::new(stream))
}

/// Reads an answer up to its body.
fn head(answer: Box<dyn Read + Send>) -> anyhow::Result<Reply> {
    let mut answer = BufReader::new(answer);
    let mut lines = Vec::new();
    let mut left = LONGEST_HEAD;
    loop {
        let mut line = String::new();
        let read = (&mut answer).take(left).read_line(&mut line)?;
        left -= read as u64;
        match line.strip_suffix("\r\n") {
            Some("") => break,
            Some(line) => lines.push(line.to_owned()),
            None => bail!("no head"),
        }
    }
    let status = lines.first().and_then(|line| {
        let rest = line.strip_prefix("HTTP/1.")?.get(2..5)?;
        rest.parse().ok()
    });
    let length = lines.iter().find_map(|line| {
        let (name, value) = line.split_once(':')?;
        let is_it = name.eq_ignore_ascii_case("content-length");
        is_it.then(|| value.trim().parse().ok()).flatten()
    });
    Ok(Reply {
        status: status.context("no status")?,
        length,
        body: Box::new(answer),
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

    fn reply(text: &'static str) -> anyhow::Result<Reply> {
        head(Box::new(text.as_bytes()))
    }

    #[test]
    fn an_answer_is_a_status_and_a_body() {
        let answer = reply("HTTP/1.1 401 Unauthorized\r\nA: b\r\n\r\nno\r\n\r\nway").unwrap();
        assert_eq!(answer.status, 401);
        assert_eq!(answer.text().unwrap(), "no\r\n\r\nway");
        for text in ["SSH-2.0-OpenSSH\r\n\r\n", "HTTP/1.1 200 OK\r\nA: b", ""] {
            assert!(reply(text).is_err(), "{text:?}");
        }
    }

    #[test]
    fn a_body_that_ends_before_its_length_was_cut() {
        let cut = "HTTP/1.0 200 OK\r\nContent-Length: 5\r\n\r\nhell";
        assert!(reply(cut).unwrap().text().is_err());
        let mut seen = 0;
        assert!(reply(cut).unwrap().drain(|more| seen += more).is_err());
        assert_eq!(seen, 4);
        let whole = "HTTP/1.0 200 OK\r\ncontent-length: 5\r\n\r\nhello";
        assert_eq!(reply(whole).unwrap().length(), Some(5));
        assert!(reply(whole).unwrap().drain(|_| ()).is_ok());
    }
}
