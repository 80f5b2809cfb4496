//! Who may do what: tokens, shown as a Bearer token or as the password of Basic authentication.
//!
//! Stock Nix sends Basic from its netrc, with any user name or none. Only hashes are kept and they
//! are compared in constant time, all of them, whichever matches. Failed logins are never answered
//! 429: Nix 2.29–2.34 would sleep for minutes.

use std::collections::HashMap;
use std::net::IpAddr;
use std::sync::Mutex;
use std::time::{Duration, Instant};

use actix_web::http::header::{AUTHORIZATION, HeaderMap, HeaderValue};
use data_encoding::BASE64;
use sha2::{Digest, Sha256};
use subtle::ConstantTimeEq;

use crate::config;
use crate::metrics::labels::AuthFailure;

/// Longest `Authorization` value that is looked at, in bytes.
const MAX_LEN: usize = 4096;

/// Addresses whose failures are counted at once; beyond it the table starts anew.
const MAX_ADDRESSES: usize = 10_000;

/// What a request needs leave for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Scope {
    Read,
    Write,
    Admin,
}

/// Why a request has no leave.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Denied {
    /// No credentials.
    Missing,
    /// Credentials that cannot be read.
    Malformed,
    /// No such token.
    Unknown,
    /// The token does not allow that.
    Scope,
    /// The token is for other namespaces.
    Namespace,
}

impl From<Denied> for AuthFailure {
    fn from(denied: Denied) -> Self {
        match denied {
            Denied::Missing => Self::Missing,
            Denied::Malformed => Self::Malformed,
            Denied::Unknown => Self::Unknown,
            Denied::Scope => Self::Scope,
            Denied::Namespace => Self::Namespace,
        }
    }
}

#[derive(Debug)]
pub struct Auth {
    tokens: Vec<config::Token>,
    public_reads: bool,
    failures: Mutex<Failures>,
}

impl Auth {
    pub fn new(settings: &config::Auth) -> Self {
        Self {
            tokens: settings.tokens.clone(),
            public_reads: settings.public_reads,
            failures: Mutex::new(Failures {
                limit: settings.max_failures,
                since: Instant::now(),
                counts: HashMap::new(),
            }),
        }
    }

    /// The name of the token that allows it; `None`: nobody need ask.
    pub fn check(
        &self,
        headers: &HeaderMap,
        scope: Scope,
        namespace: Option<&str>,
    ) -> Result<Option<&str>, Denied> {
        if scope == Scope::Read && self.public_reads {
            return Ok(None);
        }
        let shown = shown(headers)?;
        let token = self.find(&shown).ok_or(Denied::Unknown)?;
        let allowed = match scope {
            Scope::Read => token.scopes.read,
            Scope::Write => token.scopes.write,
            Scope::Admin => token.scopes.admin,
        };
        if !allowed {
            return Err(Denied::Scope);
        }
        match (&token.namespaces, namespace) {
            (None, _) => Ok(Some(&token.name)),
            (Some(these), Some(namespace)) if these.iter().any(|name| name == namespace) => {
                Ok(Some(&token.name))
            }
            (Some(_), _) => Err(Denied::Namespace),
        }
    }

    /// Counts an unknown token; whether it is worth a log line of its own.
    pub fn note_unknown(&self, from: Option<IpAddr>) -> bool {
        self.failures
            .lock()
            .expect("no panic under this lock")
            .note(from, Instant::now())
    }

    fn find(&self, shown: &str) -> Option<&config::Token> {
        let hash: [u8; 32] = Sha256::digest(shown.as_bytes()).into();
        let mut found = None;
        for token in &self.tokens {
            if bool::from(token.sha256.ct_eq(&hash)) {
                found = Some(token);
            }
        }
        found
    }
}

/// The token that a request shows.
pub fn shown(headers: &HeaderMap) -> Result<String, Denied> {
    let value = headers.get(AUTHORIZATION).ok_or(Denied::Missing)?;
    credential(value).ok_or(Denied::Malformed)
}

/// The token in a header: `Bearer <token>`, or `Basic <base64 of user:token>` (RFC 7617). The
/// scheme's case is free (RFC 9110 §11.1). Empty tokens are none.
fn credential(value: &HeaderValue) -> Option<String> {
    if value.len() > MAX_LEN {
        return None;
    }
    let (scheme, rest) = value.to_str().ok()?.split_once(' ')?;
    let rest = rest.trim_matches(' ');
    let token = if scheme.eq_ignore_ascii_case("bearer") {
        rest.to_owned()
    } else if scheme.eq_ignore_ascii_case("basic") {
        let login = String::from_utf8(BASE64.decode(rest.as_bytes()).ok()?).ok()?;
        login.split_once(':')?.1.to_owned()
    } else {
        return None;
    };
    (!token.is_empty()).then_some(token)
}

/// Unknown tokens by address within the current minute.
#[derive(Debug)]
struct Failures {
    limit: u32,
    since: Instant,
    counts: HashMap<Option<IpAddr>, u32>,
}

impl Failures {
    fn note(&mut self, from: Option<IpAddr>, now: Instant) -> bool {
        let minute_over = now.saturating_duration_since(self.since) >= Duration::from_secs(60);
        if minute_over || self.counts.len() >= MAX_ADDRESSES {
            self.counts.clear();
            self.since = now;
        }
        let count = self.counts.entry(from).or_default();
        *count = count.saturating_add(1);
        *count <= self.limit
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::{Scopes, Token};

    fn token(name: &str, scopes: Scopes, namespaces: Option<Vec<String>>) -> Token {
        Token {
            name: name.into(),
            sha256: Sha256::digest(name.as_bytes()).into(),
            scopes,
            namespaces,
        }
    }

    fn auth(public_reads: bool) -> Auth {
        let read = Scopes {
            read: true,
            ..Scopes::default()
        };
        Auth::new(&config::Auth {
            public_reads,
            tokens: vec![
                token("writer", Scopes::READ_WRITE, None),
                token("reader", read, None),
                token("team", Scopes::READ_WRITE, Some(vec!["team".into()])),
            ],
            max_failures: 2,
            upload_token_file: None,
        })
    }

    fn headers(value: &str) -> HeaderMap {
        let mut headers = HeaderMap::new();
        headers.insert(AUTHORIZATION, HeaderValue::from_str(value).unwrap());
        headers
    }

    fn basic(user: &str, password: &str) -> HeaderMap {
        headers(&format!(
            "Basic {}",
            BASE64.encode(format!("{user}:{password}").as_bytes())
        ))
    }

    #[test]
    fn a_token_counts_as_bearer_and_as_password_with_any_user() {
        let auth = auth(true);
        for shown in [
            headers("Bearer writer"),
            headers("bearer  writer"),
            basic("", "writer"),
            basic("me", "writer"),
        ] {
            assert_eq!(auth.check(&shown, Scope::Write, None), Ok(Some("writer")));
        }
    }

    #[test]
    fn each_refusal_has_its_reason() {
        let auth = auth(false);
        let deny = |headers: &HeaderMap, scope| auth.check(headers, scope, None).unwrap_err();
        assert_eq!(deny(&HeaderMap::new(), Scope::Read), Denied::Missing);
        assert_eq!(deny(&headers("Digest x"), Scope::Read), Denied::Malformed);
        assert_eq!(deny(&basic("writer", ""), Scope::Write), Denied::Malformed);
        assert_eq!(
            deny(
                &headers(&format!("Bearer {}", "x".repeat(5000))),
                Scope::Write
            ),
            Denied::Malformed
        );
        assert_eq!(
            deny(&headers("Bearer nobody"), Scope::Write),
            Denied::Unknown
        );
        assert_eq!(deny(&headers("Bearer reader"), Scope::Write), Denied::Scope);
        assert_eq!(
            deny(&headers("Bearer team"), Scope::Write),
            Denied::Namespace
        );
        assert_eq!(
            auth.check(&headers("Bearer team"), Scope::Write, Some("team")),
            Ok(Some("team"))
        );
        assert_eq!(
            auth.check(&headers("Bearer reader"), Scope::Read, None),
            Ok(Some("reader"))
        );
    }

    #[test]
    fn public_reads_look_at_no_credentials() {
        assert_eq!(
            auth(true).check(&headers("Bearer nobody"), Scope::Read, None),
            Ok(None)
        );
    }

    #[test]
    fn a_flood_of_unknown_tokens_gets_few_log_lines_and_good_ones_still_work() {
        let auth = auth(true);
        let from = Some(IpAddr::from([10, 0, 0, 1]));
        let logged = (0..100).filter(|_| auth.note_unknown(from)).count();
        assert_eq!(logged, 2);
        assert!(auth.note_unknown(Some(IpAddr::from([10, 0, 0, 2]))));
        assert!(
            auth.check(&headers("Bearer writer"), Scope::Write, None)
                .is_ok()
        );
    }
}
