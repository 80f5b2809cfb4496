//! The arrows between modules, checked: `http → gateway → { tier, origin } → leaves`, nothing upward,
//! tiers and origins strangers to each other, and one home for each outside crate that must be
//! replaceable by work in one place.
//!
//! Source text is read as tokens, without comments and literals; every path that begins with
//! `crate`, `super`, `self` or an outside crate's name is followed to the modules it names, through
//! `use` groups and inline modules. That is less than a compiler knows, and enough for arrows.

#[path = "layers/paths.rs"]
mod paths;

use std::fs;
use std::path::{Path, PathBuf};

use paths::{Mention, mentions};

const LEAVES: &[&str] = &[
    "nix", "config", "metrics", "log", "range", "clock", "body", "lookup", "object", "human",
    "asker", "lane", "pace",
];

/// Who may use whom: the first column's module, then the modules of this crate it may name.
/// `server`, `cli`, `main` and the root wire everything together and are free.
const ARROWS: &[(&str, &[&[&str]])] = &[
    ("http", &[LEAVES, &["gateway"]]),
    ("gateway", &[LEAVES, &["tier", "origin"]]),
    ("tier", &[LEAVES]),
    ("origin", &[LEAVES]),
    ("nix", &[]),
    ("config", &[LEAVES]),
    ("metrics", &[LEAVES]),
    ("log", &[LEAVES]),
    ("range", &[LEAVES]),
    ("clock", &[LEAVES]),
    ("body", &[LEAVES]),
    ("lookup", &[LEAVES]),
    ("object", &[LEAVES]),
    ("human", &[]),
    ("asker", &[]),
    ("lane", &[]),
    ("pace", &[]),
];

const FREE: &[&str] = &["server", "cli", "main", "lib"];

/// Outside crates, by the beginning of their names, and the only places that may name them: a file,
/// or a folder of the same name.
const HOMES: &[(&str, &[&str])] = &[
    ("actix_", &["http", "server"]),
    ("moka", &["tier/memory"]),
    ("sled", &["tier/disk/index"]),
    ("aws_", &["origin/bucket/s3"]),
    ("opentelemetry", &["log/spans"]),
    ("opentelemetry_", &["log/spans"]),
];

/// What is wrong with one file, a line each: `src/FILE:LINE: HERE → THERE …`.
fn violations(file: &Path, text: &str) -> Vec<String> {
    let place = file.with_extension("");
    let place = place.to_string_lossy();
    let here = place.split('/').next().unwrap_or_default().to_owned();
    let mut found = Vec::new();
    for Mention {
        line,
        path,
        outside,
    } in mentions(file, text)
    {
        let wrong = if outside {
            home_of(&path)
                .filter(|home| !lives_in(&place, home))
                .map(|home| format!("{here} → {path} (its only home is {})", home.join(", ")))
        } else {
            (!allowed(&here, &path))
                .then(|| format!("{here} → {path} (no such arrow in design §2)"))
        };
        found.extend(wrong.map(|wrong| format!("src/{}:{line}: {wrong}", file.display())));
    }
    found
}

fn allowed(here: &str, there: &str) -> bool {
    if here == there || FREE.contains(&here) {
        return true;
    }
    let arrows = ARROWS
        .iter()
        .find(|(name, _)| *name == here)
        .map(|(_, to)| *to);
    arrows.is_some_and(|to| to.iter().any(|group| group.contains(&there)))
}

fn home_of(name: &str) -> Option<&'static [&'static str]> {
    let home = HOMES.iter().find(|(start, _)| {
        if start.ends_with('_') {
            name.starts_with(start)
        } else {
            name == *start
        }
    });
    home.map(|(_, places)| *places)
}

fn lives_in(place: &str, homes: &[&str]) -> bool {
    homes.iter().any(|home| {
        place
            .strip_prefix(home)
            .is_some_and(|rest| rest.is_empty() || rest.starts_with('/'))
    })
}

/// Every Rust file below `folder`, in the order of names, relative to `root`.
fn sources(root: &Path, folder: &Path, into: &mut Vec<PathBuf>) {
    let mut entries: Vec<_> = fs::read_dir(folder)
        .unwrap()
        .map(|e| e.unwrap().path())
        .collect();
    entries.sort();
    for path in entries {
        if path.is_dir() {
            sources(root, &path, into);
        } else if path.extension().is_some_and(|e| e == "rs") {
            into.push(path.strip_prefix(root).unwrap().to_owned());
        }
    }
}

fn all_sources() -> (PathBuf, Vec<PathBuf>) {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("src");
    let mut files = Vec::new();
    sources(&root, &root, &mut files);
    (root, files)
}

#[test]
fn every_reference_follows_an_arrow() {
    let (root, files) = all_sources();
    let found: Vec<String> = files
        .iter()
        .flat_map(|file| violations(file, &fs::read_to_string(root.join(file)).unwrap()))
        .collect();
    assert!(found.is_empty(), "\n{}", found.join("\n"));
}

/// A module nobody placed would be free of all arrows, and a rule about a module that is gone
/// would hold of nothing.
#[test]
fn every_module_has_its_place_in_the_rules() {
    let (_, files) = all_sources();
    let mut modules: Vec<String> = files
        .iter()
        .map(|file| {
            file.iter()
                .next()
                .unwrap()
                .to_string_lossy()
                .trim_end_matches(".rs")
                .to_owned()
        })
        .collect();
    modules.dedup();
    let mut placed: Vec<&str> = ARROWS
        .iter()
        .map(|(name, _)| *name)
        .chain(FREE.iter().copied())
        .collect();
    placed.sort_unstable();
    modules.sort_unstable();
    assert_eq!(modules, placed);
}

#[track_caller]
fn planted(file: &str, text: &str) -> Vec<String> {
    violations(Path::new(file), text)
}

#[test]
fn a_planted_violation_is_found_and_named() {
    assert_eq!(
        planted(
            "tier/disk/mod.rs",
            "use std::io;\nuse crate::origin::OriginError;\n"
        ),
        ["src/tier/disk/mod.rs:2: tier → origin (no such arrow in design §2)"]
    );
    assert_eq!(
        planted("gateway/nar.rs", "fn f() { let _ = sled::open(\"x\"); }"),
        ["src/gateway/nar.rs:1: gateway → sled (its only home is tier/disk/index)"]
    );
}

#[test]
fn no_way_of_writing_an_arrow_escapes() {
    let upward = [
        ("origin/retry.rs", "use crate::gateway::Fill;"),
        ("origin/retry.rs", "use crate::{range::ByteRange, gateway};"),
        (
            "origin/retry.rs",
            "use crate::{range::{self, ByteRange}, gateway::{fill::Fill}};",
        ),
        ("origin/retry.rs", "fn f(_: crate::gateway::Fill) {}"),
        ("origin/retry.rs", "pub(crate) use crate :: gateway;"),
        ("origin/retry.rs", "use super::super::gateway::Fill;"),
        ("origin/bucket/mod.rs", "use super::super::gateway::Fill;"),
        (
            "origin/bucket/s3.rs",
            "use super::super::super::gateway::Fill;",
        ),
        ("origin/mod.rs", "use super::gateway::Fill;"),
        (
            "origin/mod.rs",
            "mod tests { use super::super::gateway::Fill; }",
        ),
        (
            "origin/mod.rs",
            "mod a { mod b { } use self::super::super::gateway; }",
        ),
        ("origin/retry.rs", "use narwharf::gateway::Fill;"),
        ("http/nar.rs", "use crate::tier;"),
        ("http/nar.rs", "use crate::server::Started;"),
        ("nix/key.rs", "use crate::range::ByteRange;"),
        ("range.rs", "use crate::cli;"),
        ("origin/retry.rs", "use crate::*;"),
        ("origin/retry.rs", "use crate::r#gateway::Fill;"),
        ("body.rs", "use ::actix_web::web;"),
        ("body.rs", "extern crate moka;"),
        ("tier/disk/evict.rs", "use {std::io, moka::sync::Cache};"),
        ("tier/disk/index_old.rs", "use sled;"),
        (
            "origin/bucket/directory.rs",
            "impl aws_sdk_s3::Sign for X {}",
        ),
    ];
    for (file, text) in upward {
        assert_eq!(planted(file, text).len(), 1, "{file}: {text}");
    }
}

#[test]
fn what_the_design_allows_passes() {
    let sound = [
        (
            "http/nar.rs",
            "use crate::gateway::{Gateway, Served}; use actix_web::web;",
        ),
        (
            "gateway/nar.rs",
            "use crate::{lookup::Lookup, origin, tier::disk};",
        ),
        ("tier/memory.rs", "use moka::sync::Cache;"),
        ("tier/disk/index/open.rs", "use sled::Db;"),
        (
            "origin/bucket/s3.rs",
            "use aws_sdk_s3::Client; use super::super::retry;",
        ),
        (
            "nix/key.rs",
            "use super::base32; use crate::nix::base32 as b;",
        ),
        (
            "server/mod.rs",
            "use crate::{http, gateway, tier, origin, cli};",
        ),
        (
            "tier/mod.rs",
            "// use crate::origin;\n/* crate::http /* moka */ */ const A: &str = \"crate::origin\";",
        ),
        (
            "tier/mod.rs",
            "const A: &str = r#\"\"crate::origin\"#; const B: char = '\"'; const C: u8 = b'\\'';",
        ),
        (
            "tier/mod.rs",
            "pub(crate) fn moka_like<'crate_>(aws: &'crate_ str) {}",
        ),
        (
            "tier/mod.rs",
            "mod tests { use super::*; mod deep { use super::super::disk; } }",
        ),
    ];
    for (file, text) in sound {
        assert_eq!(planted(file, text), [""; 0], "{file}: {text}");
    }
}
