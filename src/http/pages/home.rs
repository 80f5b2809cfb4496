//! The front page for browsers: how to use this cache, and what it is doing.
//!
//! One file with everything in it, made from `home.html`, `home.css` and `home.js` without a template
//! engine: the page has some forty places for values and one list. `{{path}}` becomes a value of the
//! status (or of the few texts beside it), escaped; `[[path format]]` the same as people read it, in
//! an element that `home.js` keeps up to date. Without JavaScript the page tells how things stood
//! when it was asked for.
//!
//! A policy in its head forbids the browser to fetch or run anything else, by the hashes of the two
//! inlined parts.

use data_encoding::BASE64;
use serde_json::{Map, Value};
use sha2::{Digest, Sha256};

use crate::human;

const PAGE: &str = include_str!("home.html");
const LIVE: &str = include_str!("live.html");
const STYLE: &str = include_str!("home.css");
const SCRIPT: &str = include_str!("home.js");

/// What the page says that does not come from the status.
#[derive(Debug)]
pub struct Home {
    name: String,
    keys: Vec<String>,
    public_reads: bool,
    uploads: bool,
    /// `Content-Security-Policy`
    pub policy: String,
}

impl Home {
    pub fn new(name: &str, keys: &[String], public_reads: bool, uploads: bool) -> Self {
        let hash = |text: &str| BASE64.encode(&Sha256::digest(text.as_bytes()));
        Self {
            name: name.to_owned(),
            keys: keys.to_vec(),
            public_reads,
            uploads,
            policy: format!(
                "default-src 'none'; script-src 'sha256-{}'; style-src 'sha256-{}'; img-src data:; \
                 connect-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'",
                hash(SCRIPT),
                hash(STYLE)
            ),
        }
    }

    /// The page as seen from `base`, the address by which the browser came, without a slash at its
    /// end. Without `status` it only tells how to use the cache.
    pub fn render(&self, base: &str, status: Option<&Value>) -> String {
        let mut texts = Map::new();
        let mut put = |name: &str, text: String| texts.insert(name.to_owned(), text.into());
        put("name", self.name.clone());
        put("version", env!("CARGO_PKG_VERSION").to_owned());
        put("style", STYLE.to_owned());
        put("script", SCRIPT.to_owned());
        put("base", tagged("base", base));
        put("host", tagged("host", host_of(base)));
        put("keys_line", self.keys_line());
        put("keys_list", self.keys_list());
        put("netrc_line", self.netrc_line());
        put("login", self.login());
        put("without_uploads", hidden(!self.uploads));
        put("without_netrc", hidden(!self.uploads && self.public_reads));
        let live = status.map(|status| fill_in(LIVE, status, &[("fills", &rows(status))]));
        put("live", live.unwrap_or_default());
        let raw = [
            "style",
            "script",
            "base",
            "host",
            "keys_line",
            "keys_list",
            "netrc_line",
            "login",
            "without_uploads",
            "without_netrc",
            "live",
        ];
        let texts = Value::Object(texts);
        let raw = raw.map(|name| (name, texts[name].as_str().unwrap_or_default()));
        fill_in(PAGE, &texts, &raw)
    }

    fn keys_line(&self) -> String {
        match &self.keys[..] {
            [] => "# extra-trusted-public-keys = the keys that your builders sign with".to_owned(),
            keys => format!("extra-trusted-public-keys = {}", escape(&keys.join(" "))),
        }
    }

    fn keys_list(&self) -> String {
        match &self.keys[..] {
            [] => "[ /* the keys that your builders sign with */ ]".to_owned(),
            keys => {
                let quoted = keys.iter().map(|key| format!("\"{}\" ", escape(key)));
                format!("[ {}]", quoted.collect::<String>())
            }
        }
    }

    fn netrc_line(&self) -> String {
        if self.public_reads {
            String::new()
        } else {
            "\nnetrc-file = /etc/nix/netrc".to_owned()
        }
    }

    fn login(&self) -> String {
        let who = if self.public_reads {
            "Whoever pushes"
        } else {
            "Everybody"
        };
        format!("{who} shows a token, from a netrc file that is theirs alone (mode 0600).")
    }
}

/// Goes through a template once, so that what is filled in is never read as a template itself.
/// `raw` are texts that are HTML already.
///
/// Panics at a place whose path leads nowhere: a template is constant, and a test renders it.
fn fill_in(template: &str, values: &Value, raw: &[(&str, &str)]) -> String {
    let mut page = String::with_capacity(template.len() * 2);
    let mut rest = template;
    while let Some(at) = rest.find(['{', '[']) {
        let (before, from) = rest.split_at(at);
        page.push_str(before);
        let place = from
            .strip_prefix("{{")
            .and_then(|inner| inner.split_once("}}"))
            .map(|(path, after)| (path, None, after))
            .or_else(|| {
                let (inner, after) = from.strip_prefix("[[")?.split_once("]]")?;
                let (path, format) = inner.split_once(' ')?;
                Some((path, Some(format), after))
            });
        let Some((path, format, after)) = place else {
            page.push_str(&from[..1]);
            rest = &from[1..];
            continue;
        };
        match (raw.iter().find(|(name, _)| *name == path), format) {
            (Some((_, html)), _) => page.push_str(html),
            (None, None) => page.push_str(&escape(&plain(found(values, path)))),
            (None, Some(format)) => page.push_str(&format!(
                "<span data-live=\"{path}\" data-as=\"{format}\">{}</span>",
                escape(&formatted(found(values, path), format))
            )),
        }
        rest = after;
    }
    page.push_str(rest);
    page
}

fn found<'a>(values: &'a Value, path: &str) -> &'a Value {
    path.split('.').fold(values, |value, name| {
        value
            .get(name)
            .unwrap_or_else(|| panic!("the page names {path}, which is not there"))
    })
}

fn plain(value: &Value) -> String {
    value
        .as_str()
        .map_or_else(|| value.to_string(), str::to_owned)
}

/// As `home.js` writes it. Nothing known is a dash.
fn formatted(value: &Value, as_what: &str) -> String {
    let number = value.as_f64();
    match (as_what, number) {
        ("text", _) if value.is_string() => plain(value),
        ("count", Some(number)) => human::count(number as u64),
        ("rate", Some(number)) => format!("{number:.1}"),
        ("bytes", Some(number)) => human::bytes(number as u64),
        ("share", Some(number)) => human::share(number),
        ("duration", Some(number)) => human::duration(number as u64),
        _ => "–".to_owned(),
    }
}

/// A row for each fill, or one that says that there is none.
fn rows(status: &Value) -> String {
    let fills = status["fills"]["list"]
        .as_array()
        .map_or(&[][..], Vec::as_slice);
    if fills.is_empty() {
        return "<tr><td colspan=\"3\">nothing</td></tr>".to_owned();
    }
    let row = |fill: &Value| {
        format!(
            "<tr><td><code>{}…</code></td><td>{} of {}</td><td><progress max=\"1\" value=\"{}\"></progress></td></tr>",
            escape(&plain(&fill["name"])),
            formatted(&fill["bytes"], "bytes"),
            formatted(&fill["of"], "bytes"),
            fill["full"].as_f64().unwrap_or(0.0),
        )
    };
    fills.iter().map(row).collect()
}

/// A text that `home.js` replaces by what the browser knows better.
fn tagged(class: &str, text: &str) -> String {
    format!("<span class=\"{class}\">{}</span>", escape(text))
}

fn hidden(hidden: bool) -> String {
    if hidden { " hidden" } else { "" }.to_owned()
}

fn host_of(base: &str) -> &str {
    let authority = base.split("://").nth(1).unwrap_or(base);
    let authority = authority.split('/').next().unwrap_or(authority);
    match authority.strip_prefix('[') {
        Some(v6) => v6.split(']').next().unwrap_or(v6),
        None => authority.split(':').next().unwrap_or(authority),
    }
}

fn escape(text: &str) -> String {
    text.replace('&', "&amp;")
        .replace('<', "&lt;")
        .replace('>', "&gt;")
        .replace('"', "&quot;")
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn home(keys: &[&str]) -> Home {
        let keys: Vec<_> = keys.iter().map(|key| (*key).to_owned()).collect();
        Home::new("the <wharf>", &keys, true, true)
    }

    #[test]
    fn every_place_of_the_page_is_filled() {
        let page = home(&["a-1:KEY"]).render("http://cache.lan:8080/team", None);
        assert!(!page.contains("{{") && !page.contains("[["), "{page}");
        assert!(page.contains("<title>the &lt;wharf&gt;</title>"));
        assert!(page.contains(
            "extra-substituters = <span class=\"base\">http://cache.lan:8080/team</span>"
        ));
        assert!(page.contains("machine <span class=\"host\">cache.lan</span> login"));
        assert!(page.contains("[ \"a-1:KEY\" ]"));
    }

    #[test]
    fn what_is_filled_in_is_no_template() {
        let values = json!({ "a": "{{b}}", "b": "<b>" });
        assert_eq!(
            fill_in("{{a}} {{b}} [[b text]] {x} [y", &values, &[]),
            "{{b}} &lt;b&gt; <span data-live=\"b\" data-as=\"text\">&lt;b&gt;</span> {x} [y"
        );
    }

    #[test]
    fn hosts_are_what_netrc_knows_them_by() {
        assert_eq!(host_of("http://cache.lan:8080"), "cache.lan");
        assert_eq!(host_of("https://[::1]:80/ns"), "::1");
    }

    #[test]
    fn nothing_known_is_a_dash() {
        assert_eq!(formatted(&Value::Null, "share"), "–");
        assert_eq!(formatted(&json!(0.5), "share"), "50.0 %");
        assert_eq!(formatted(&json!(2048), "bytes"), "2.0 KiB");
    }
}
