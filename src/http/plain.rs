//! Requests that ask for nothing out of the ordinary: a GET by a path, with the fields that every
//! client sends. Most of a cache's requests are such, and few of them need more than memory.

use std::str;

use httparse::{EMPTY_HEADER, Request, Status};

/// Fields of a plain request; nobody sends as many.
const MOST_FIELDS: usize = 8;

/// Longer heads are for whoever knows which are too long.
const LONGEST: usize = 4096;

/// A longer path is no document's.
const LONGEST_PATH: usize = 256;

/// What is left to know of a plain request.
#[derive(Debug, PartialEq, Eq)]
pub struct Plain<'a> {
    /// As it came; without a query.
    pub path: &'a str,
    /// `If-None-Match`, whatever it says.
    pub if_none_match: Option<&'a str>,
}

impl<'a> Plain<'a> {
    /// Reads a head, and nothing behind it (RFC 9112 §3). `None`: there is something about it that
    /// wants a closer look, be it only that it is wrong.
    pub fn read(head: &'a [u8]) -> Option<Self> {
        let mut fields = [EMPTY_HEADER; MOST_FIELDS];
        let mut request = Request::new(&mut fields);
        if head.len() > LONGEST
            || request.parse(head) != Ok(Status::Complete(head.len()))
            || request.method != Some("GET")
            || request.version != Some(1)
        {
            return None;
        }
        let path = request.path.filter(|path| {
            path.len() <= LONGEST_PATH && path.starts_with('/') && !path.contains(['?', '#', '%'])
        })?;
        let (mut hosts, mut if_none_match) = (0, None);
        for field in request.headers {
            let is = |name| field.name.eq_ignore_ascii_case(name);
            match field.name.len() {
                4 if is("host") => hosts += 1,
                6 if is("accept") => {}
                10 if is("user-agent") => {}
                13 if is("if-none-match") && if_none_match.is_none() => {
                    if_none_match = Some(str::from_utf8(field.value).ok()?);
                }
                15 if is("accept-encoding") => {}
                _ => return None,
            }
        }
        (hosts == 1).then_some(Self {
            path,
            if_none_match,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn path(head: &str) -> Option<String> {
        Plain::read(head.as_bytes()).map(|plain| plain.path.to_owned())
    }

    #[test]
    fn what_nix_sends_is_plain() {
        let head = "GET /a.narinfo HTTP/1.1\r\nHost: cache:8080\r\nUser-Agent: curl/8.5 Nix/2.31\r\n\
            Accept: */*\r\nAccept-Encoding: deflate, gzip, br, zstd\r\n\r\n";
        assert_eq!(path(head).as_deref(), Some("/a.narinfo"));
        let asked = "GET /a HTTP/1.1\r\nhost: x\r\nif-none-match: \"b\"\r\n\r\n";
        let plain = Plain::read(asked.as_bytes()).unwrap();
        assert_eq!(plain.if_none_match, Some("\"b\""));
    }

    #[test]
    fn what_wants_a_closer_look_is_not() {
        for (start, fields) in [
            ("HEAD /a HTTP/1.1", "Host: x\r\n"),
            ("PUT /a HTTP/1.1", "Host: x\r\n"),
            ("GET /a HTTP/1.0", "Host: x\r\n"),
            ("GET http://x/a HTTP/1.1", "Host: x\r\n"),
            ("GET /a?b HTTP/1.1", "Host: x\r\n"),
            ("GET /%61 HTTP/1.1", "Host: x\r\n"),
            ("GET /a#b HTTP/1.1", "Host: x\r\n"),
            ("GET /a HTTP/1.1", ""),
            ("GET /a HTTP/1.1", "Host: x\r\nHost: y\r\n"),
            ("GET /a HTTP/1.1", "Host: x\r\nConnection: close\r\n"),
            ("GET /a HTTP/1.1", "Host: x\r\nConnection: keep-alive\r\n"),
            ("GET /a HTTP/1.1", "Host: x\r\nContent-Length: 0\r\n"),
            (
                "GET /a HTTP/1.1",
                "Host: x\r\nTransfer-Encoding: chunked\r\n",
            ),
            ("GET /a HTTP/1.1", "Host: x\r\nAuthorization: Bearer y\r\n"),
            ("GET /a HTTP/1.1", "Host: x\r\nExpect: 100-continue\r\n"),
            ("GET /a HTTP/1.1", "Host: x\r\nUpgrade: h2c\r\n"),
            ("GET /a HTTP/1.1", "Host: x\r\nRange: bytes=0-1\r\n"),
            ("GET /a HTTP/1.1", "Host: x\r\nIf-Match: \"b\"\r\n"),
            (
                "GET /a HTTP/1.1",
                "Host: x\r\nIf-None-Match: \"b\"\r\nIf-None-Match: \"c\"\r\n",
            ),
            ("GET /a HTTP/1.1", "Host : x\r\n"),
            ("GET  /a HTTP/1.1", "Host: x\r\n"),
        ] {
            let head = format!("{start}\r\n{fields}\r\n");
            assert_eq!(path(&head), None, "{head}");
        }
        let long = format!(
            "GET /{} HTTP/1.1\r\nHost: x\r\n\r\n",
            "a".repeat(LONGEST_PATH)
        );
        assert_eq!(path(&long), None);
        let agent = "a".repeat(LONGEST);
        let long = format!("GET /a HTTP/1.1\r\nHost: x\r\nUser-Agent: {agent}\r\n\r\n");
        assert_eq!(path(&long), None);
    }

    #[test]
    fn half_a_head_or_more_than_one_is_not() {
        let head = "GET /a HTTP/1.1\r\nHost: x\r\n\r\n";
        assert_eq!(path(&head.repeat(2)), None);
        for end in 0..head.len() {
            assert_eq!(path(&head[..end]), None, "{end}");
        }
    }
}
