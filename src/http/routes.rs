//! The routes, on one screen: from a raw request target to what is asked for.
//!
//! The path is matched as it came. Five escapes are decoded once, because newer Nix clients send
//! them for characters that older ones send raw; anything else with a `%` in it, and anything
//! outside the grammar of `nix/key`, is no route, and nothing past this file hears of it.

use std::borrow::Cow;

use crate::config::Namespaces;
use crate::gateway::document::kind_of;
use crate::metrics::labels::Kind;
use crate::nix::key::{Key, Namespace};

/// What a request is about.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Route {
    /// `/`: cache info to Nix, the status page to a browser.
    Home,
    /// `/nix-cache-info`
    CacheInfo,
    /// `/health`: the process lives.
    Health,
    /// `/ready`: every part that a request may need.
    Ready,
    /// `/metrics`
    Metrics,
    /// Anything that lies in the bucket.
    Object(Key),
}

/// A route, and the namespace it lies in.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Routed {
    pub route: Route,
    pub namespace: Option<Namespace>,
}

impl Route {
    pub fn kind(&self) -> Kind {
        match self {
            Self::CacheInfo => Kind::Info,
            Self::Home | Self::Health | Self::Ready | Self::Metrics => Kind::Other,
            Self::Object(Key::Nar(_)) => Kind::Nar,
            Self::Object(Key::Document(key)) => kind_of(key),
        }
    }
}

/// Finds the route of a request target. `None`: there is none, whatever the method.
///
/// `fold`: whether one doubled slash before `nar/` counts as one, as old clients ask for narinfos
/// with `URL: /nar/…`; true for reads only.
pub fn route(
    path: &str,
    query: Option<&str>,
    namespaces: &Namespaces,
    fold: bool,
) -> Option<Routed> {
    let path = decode(path.strip_prefix('/')?)?;
    let query = match query.filter(|query| !query.is_empty()) {
        Some(query) => Some(decode(query)?),
        None => None,
    };
    let query = query.as_deref();
    let folded = |path| if fold { fold_slash(path) } else { path };
    if let Some(route) = within(None, folded(&path), query) {
        return Some(Routed {
            route,
            namespace: None,
        });
    }
    let (first, rest) = path.split_once('/')?;
    let namespace = allowed(first, namespaces)?;
    let route = within(Some(&namespace), folded(rest), query)?;
    Some(Routed {
        route,
        namespace: Some(namespace),
    })
}

fn within(namespace: Option<&Namespace>, path: &str, query: Option<&str>) -> Option<Route> {
    let fixed = match path {
        "" => Some(Route::Home),
        "nix-cache-info" => Some(Route::CacheInfo),
        "health" => Some(Route::Health),
        "ready" => Some(Route::Ready),
        "metrics" if namespace.is_none() => Some(Route::Metrics),
        _ => None,
    };
    match fixed {
        // Nix never asks for these with a query, but people and probes do.
        Some(route) => Some(route),
        None => Key::parse(namespace, path, query).map(Route::Object),
    }
}

fn allowed(text: &str, namespaces: &Namespaces) -> Option<Namespace> {
    let namespace: Namespace = text.parse().ok()?;
    let listed = match namespaces {
        Namespaces::None => false,
        Namespaces::Any => true,
        Namespaces::These(these) => these.iter().any(|name| name == text),
    };
    listed.then_some(namespace)
}

fn fold_slash(path: &str) -> &str {
    match path.strip_prefix('/') {
        Some(rest) if rest.starts_with("nar/") => rest,
        _ => path,
    }
}

/// Decodes the five escapes that clients use for characters of keys. `None`: another one is there.
fn decode(text: &str) -> Option<Cow<'_, str>> {
    if !text.contains('%') {
        return Some(Cow::Borrowed(text));
    }
    let mut parts = text.split('%');
    let mut decoded = parts.next()?.to_owned();
    for part in parts {
        decoded.push(match part.get(..2)?.to_ascii_uppercase().as_str() {
            "21" => '!',
            "2B" => '+',
            "3D" => '=',
            "3A" => ':',
            "40" => '@',
            _ => return None,
        });
        decoded.push_str(&part[2..]);
    }
    Some(Cow::Owned(decoded))
}

#[cfg(test)]
mod tests {
    use super::*;

    const HASH: &str = "y7p5hy9p6crpivv064i60p31mjfx3a54";

    fn key(path: &str, query: Option<&str>) -> Option<String> {
        match route(path, query, &Namespaces::None, true)?.route {
            Route::Object(key) => Some(key.object().as_str().to_owned()),
            other => Some(format!("{other:?}")),
        }
    }

    #[test]
    fn the_fixed_routes() {
        assert_eq!(key("/", None).as_deref(), Some("Home"));
        assert_eq!(key("/nix-cache-info", None).as_deref(), Some("CacheInfo"));
        assert_eq!(key("/health", None).as_deref(), Some("Health"));
        assert_eq!(key("/ready", None).as_deref(), Some("Ready"));
        assert_eq!(key("/metrics", None).as_deref(), Some("Metrics"));
    }

    #[test]
    fn old_and_new_clients_mean_the_same_key() {
        let drv = "8waf2cylldvmba5dwi8hsfgpp04nfkig";
        let raw = key(&format!("/log/{drv}-libp++-1.0+x.drv"), None).unwrap();
        assert_eq!(
            key(&format!("/log/{drv}-libp%2B%2b-1.0%2Bx.drv"), None).unwrap(),
            raw
        );
        let doi = format!("realisations/sha256:{}!out.doi", "a".repeat(64));
        assert_eq!(key(&format!("/{doi}"), None).as_deref(), Some(doi.as_str()));
        assert_eq!(
            key(
                &format!("/{}", doi.replace('!', "%21").replace(':', "%3A")),
                None
            )
            .as_deref(),
            Some(doi.as_str())
        );
    }

    #[test]
    fn a_doubled_slash_before_nar_is_folded_for_readers_only() {
        assert_eq!(key("//nar/a.nar", None).as_deref(), Some("nar/a.nar"));
        assert_eq!(route("//nar/a.nar", None, &Namespaces::None, false), None);
        assert_eq!(key("///nar/a.nar", None), None);
        assert_eq!(key(&format!("//{HASH}.narinfo"), None), None);
    }

    #[test]
    fn namespaces_only_where_they_are_allowed() {
        let path = format!("/team/{HASH}.narinfo");
        let these = Namespaces::These(vec!["team".into()]);
        assert_eq!(route(&path, None, &Namespaces::None, true), None);
        let routed = route(&path, None, &these, true).unwrap();
        assert_eq!(routed.namespace.unwrap().as_str(), "team");
        assert_eq!(
            route(&path.replace("team", "other"), None, &these, true),
            None
        );
        assert!(route(&path.replace("team", "other"), None, &Namespaces::Any, true).is_some());
        assert!(route("/team//nar/a.nar", None, &Namespaces::Any, true).is_some());
        assert!(route("/team/nix-cache-info", None, &Namespaces::Any, true).is_some());
        assert!(route("/team/metrics", None, &Namespaces::Any, true).is_none());
    }

    #[test]
    fn whatever_is_not_in_the_grammar_is_no_route() {
        let odd = [
            "",
            "nar/a.nar",
            "/nar/../a.nar",
            "/nar/%2e%2e/a.nar",
            "/nar/a%2Fb.nar",
            "/nar/a%00.nar",
            "/nar/a.nar%",
            "/nar/a.nar%2",
            "/nar/\\a.nar",
            "/nar/.a.nar",
            "/nar/a",
            "/x.narinfo",
            "/Health",
            "/nar/",
            "/./nar/a.nar",
            "/nar/a.nar/",
            "/nar/a%20b.nar",
            "/nar/a.nar%\u{e9}",
        ];
        for path in odd {
            assert_eq!(key(path, None), None, "{path}");
        }
        let upper = HASH.to_uppercase();
        assert_eq!(key(&format!("/{upper}.narinfo"), None), None);
        assert_eq!(key(&format!("/{HASH}.narinfo"), Some("x=1")), None);
    }
}
