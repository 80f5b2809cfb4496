//! What a client can read: `Accept-Encoding` and `Accept`, as far as an answer depends on them.

use actix_web::http::header::{ACCEPT, ACCEPT_ENCODING, HeaderMap};

/// Whether the client says that it can take off this Content-Encoding (RFC 9110 §12.5.3).
///
/// `*` is not taken at its word: Nix never sends it, and what does may not know `xz`.
pub fn accepts_encoding(headers: &HeaderMap, encoding: &str) -> bool {
    values(headers, ACCEPT_ENCODING.as_str()).any(|item| {
        let mut parts = item.split(';').map(str::trim);
        let named = parts
            .next()
            .is_some_and(|name| name.eq_ignore_ascii_case(encoding));
        let refused = parts.any(|part| {
            let weight = part.to_ascii_lowercase();
            weight
                .strip_prefix("q=")
                .is_some_and(|q| q.trim().parse::<f32>().is_ok_and(|q| q == 0.0))
        });
        named && !refused
    })
}

/// Whether a browser asks: one that names `text/html` itself. Nix sends `*/*`.
pub fn wants_html(headers: &HeaderMap) -> bool {
    names(headers, "text/html")
}

/// Whether a program asks that names JSON itself, and not a page.
pub fn wants_json(headers: &HeaderMap) -> bool {
    names(headers, "application/json") && !wants_html(headers)
}

fn names(headers: &HeaderMap, kind: &str) -> bool {
    values(headers, ACCEPT.as_str()).any(|item| {
        item.split(';')
            .next()
            .is_some_and(|named| named.trim() == kind)
    })
}

fn values<'a>(headers: &'a HeaderMap, name: &'a str) -> impl Iterator<Item = &'a str> {
    headers
        .get_all(name)
        .filter_map(|value| value.to_str().ok())
        .flat_map(|value| value.split(','))
}

#[cfg(test)]
mod tests {
    use super::*;
    use actix_web::http::header::HeaderValue;

    fn with(name: actix_web::http::header::HeaderName, value: &'static str) -> HeaderMap {
        let mut headers = HeaderMap::new();
        headers.insert(name, HeaderValue::from_static(value));
        headers
    }

    #[test]
    fn an_encoding_counts_when_it_is_named_and_not_refused() {
        let nix = with(ACCEPT_ENCODING, "zstd, br, gzip, deflate, bzip2, xz");
        assert!(accepts_encoding(&nix, "xz"));
        assert!(accepts_encoding(
            &with(ACCEPT_ENCODING, "gzip;q=0.5"),
            "gzip"
        ));
        for value in ["", "*", "gzip;q=0", "gzip; Q=0.0", "xgzip"] {
            assert!(
                !accepts_encoding(&with(ACCEPT_ENCODING, value), "gzip"),
                "{value}"
            );
        }
        assert!(!accepts_encoding(&HeaderMap::new(), "gzip"));
    }

    #[test]
    fn browsers_ask_for_html_and_nix_does_not() {
        assert!(wants_html(&with(
            ACCEPT,
            "text/html,application/xhtml+xml;q=0.9,*/*;q=0.8"
        )));
        assert!(!wants_html(&with(ACCEPT, "*/*")));
        assert!(wants_json(&with(ACCEPT, "application/json, */*;q=0.1")));
        assert!(!wants_json(&with(ACCEPT, "*/*")));
        assert!(!wants_json(&with(ACCEPT, "text/html, application/json")));
    }
}
