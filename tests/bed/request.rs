//! What a client asks.

use super::settings::TOKEN;

/// One request. Made by [`get`], [`head`], [`put`] and the like, and narrowed down by its methods.
#[derive(Debug, Clone)]
pub struct Request {
    pub(super) method: &'static str,
    target: String,
    headers: Vec<(String, String)>,
    pub(super) body: Option<Vec<u8>>,
    pub(super) expects_continue: bool,
}

/// GET of a path or a key; a missing slash in front is added.
pub fn get(target: &str) -> Request {
    Request::new("GET", target)
}

pub fn head(target: &str) -> Request {
    Request::new("HEAD", target)
}

/// PUT of a body, with the bed's token.
pub fn put(target: &str, body: impl AsRef<[u8]>) -> Request {
    Request::new("PUT", target).body(body).token(TOKEN)
}

pub fn delete(target: &str) -> Request {
    Request::new("DELETE", target)
}

pub fn post(target: &str, body: impl AsRef<[u8]>) -> Request {
    Request::new("POST", target).body(body)
}

impl Request {
    pub fn new(method: &'static str, target: &str) -> Self {
        let slash = if target.starts_with('/') { "" } else { "/" };
        Self {
            method,
            target: format!("{slash}{target}"),
            headers: Vec::new(),
            body: None,
            expects_continue: false,
        }
    }

    /// Adds a header field, or replaces the one of that name.
    pub fn header(self, name: &str, value: &str) -> Self {
        self.without(name).also(name, value)
    }

    /// Adds a header field beside others of that name.
    pub fn also(mut self, name: &str, value: &str) -> Self {
        self.headers.push((name.to_owned(), value.to_owned()));
        self
    }

    pub fn without(mut self, name: &str) -> Self {
        self.headers
            .retain(|(there, _)| !there.eq_ignore_ascii_case(name));
        self
    }

    /// `Range`, as in `.range("bytes=0-99")`.
    pub fn range(self, range: &str) -> Self {
        self.header("Range", range)
    }

    /// The token as Bearer.
    pub fn token(self, token: &str) -> Self {
        self.header("Authorization", &format!("Bearer {token}"))
    }

    pub fn without_token(self) -> Self {
        self.without("Authorization")
    }

    pub fn body(mut self, body: impl AsRef<[u8]>) -> Self {
        self.body = Some(body.as_ref().to_vec());
        self
    }

    /// Sends the body only once told to, as libcurl does.
    pub fn expecting_continue(mut self) -> Self {
        self.expects_continue = true;
        self.header("Expect", "100-continue")
    }

    pub fn method(&self) -> &'static str {
        self.method
    }

    /// Head and body as they go over the wire together.
    pub fn bytes(&self, host: &str) -> Vec<u8> {
        let mut bytes = self.head_bytes(host);
        bytes.extend(self.body.iter().flatten());
        bytes
    }

    /// The head as it goes over the wire. A body has its length, unless a header says otherwise.
    pub fn head_bytes(&self, host: &str) -> Vec<u8> {
        let mut text = format!("{} {} HTTP/1.1\r\n", self.method, self.target);
        let has = |name: &str| {
            let mut names = self.headers.iter().map(|(name, _)| name);
            names.any(|there| there.eq_ignore_ascii_case(name))
        };
        if !has("Host") {
            text.push_str(&format!("Host: {host}\r\n"));
        }
        if let Some(body) = &self.body
            && !has("Content-Length")
            && !has("Transfer-Encoding")
        {
            text.push_str(&format!("Content-Length: {}\r\n", body.len()));
        }
        for (name, value) in &self.headers {
            text.push_str(&format!("{name}: {value}\r\n"));
        }
        text.push_str("\r\n");
        text.into_bytes()
    }
}
