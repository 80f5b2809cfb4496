//! `narwharf warm PATH…`: has the running server fetch closures, so that the first build machine that
//! wants them finds them there.
//!
//! It goes the way of any client: narinfo, its references, its NAR, over the server's public address.
//! What is in the tiers already is answered from them and costs the bucket nothing.

use std::collections::{HashSet, VecDeque};
use std::fs;
use std::io::{self, Write};
use std::process::ExitCode;
use std::sync::{Condvar, Mutex, MutexGuard, PoisonError};
use std::thread;

use anyhow::{Context, bail};
use clap::Args;

use super::Settings;
use super::ask::{Server, Whom};
use super::progress::Progress;
use crate::human;
use crate::nix::key::NarKey;
use crate::nix::narinfo::Narinfo;
use crate::nix::store_path::{StorePath, StorePathHash};

#[derive(Args, Debug)]
pub struct Options {
    #[command(flatten)]
    pub settings: Settings,
    /// Store paths, their hashes, or links to them such as ./result
    #[arg(required = true, value_name = "PATH")]
    paths: Vec<String>,
    /// Requests at once
    #[arg(long, default_value_t = 8, value_parser = clap::value_parser!(u8).range(1..=64))]
    jobs: u8,
    #[command(flatten)]
    whom: Whom,
}

/// The closure as far as it is known. Shared by the workers.
struct Work {
    state: Mutex<State>,
    changed: Condvar,
}

struct State {
    waiting: VecDeque<StorePathHash>,
    seen: HashSet<StorePathHash>,
    /// Workers that may yet find more.
    busy: usize,
    /// NARs may be shared by paths.
    nars: HashSet<NarKey>,
    progress: Progress,
    warmed: usize,
    bytes: u64,
    failed: usize,
}

/// 0: all of it is in the tiers; 1: some is not; 2: a path is none.
pub fn run(settings: &Settings, options: &Options) -> anyhow::Result<ExitCode> {
    let config = settings.load()?;
    let store_dir = config.cache.store_dir.as_str();
    let mut wanted = VecDeque::new();
    for text in &options.paths {
        match hash_of(store_dir, text) {
            Ok(hash) => wanted.push_back(hash),
            Err(error) => {
                eprintln!("narwharf: {text}: {error:#}");
                return Ok(ExitCode::from(2));
            }
        }
    }
    let server = options.whom.server(&config)?;
    let work = Work::new(wanted);
    thread::scope(|scope| {
        for _ in 0..options.jobs {
            scope.spawn(|| work.help(&server, store_dir));
        }
    });
    let state = work
        .state
        .into_inner()
        .unwrap_or_else(PoisonError::into_inner);
    let took = state.progress.end();
    let mut out = io::stdout().lock();
    writeln!(
        out,
        "{} paths, {} in {:.1} s",
        human::count(state.warmed as u64),
        human::bytes(state.bytes),
        took.as_secs_f64()
    )?;
    Ok(match state.failed {
        0 => ExitCode::SUCCESS,
        failed => {
            writeln!(out, "{failed} could not be fetched; see above")?;
            ExitCode::FAILURE
        }
    })
}

impl Work {
    fn new(wanted: VecDeque<StorePathHash>) -> Self {
        let seen: HashSet<_> = wanted.iter().copied().collect();
        Self {
            state: Mutex::new(State {
                waiting: seen.iter().copied().collect(),
                seen,
                busy: 0,
                nars: HashSet::new(),
                progress: Progress::new("warm", 0),
                warmed: 0,
                bytes: 0,
                failed: 0,
            }),
            changed: Condvar::new(),
        }
    }

    /// Fetches until nothing waits and nobody can find more.
    fn help(&self, server: &Server, store_dir: &str) {
        while let Some(hash) = self.next() {
            let fetched = self.fetch(server, store_dir, hash);
            let mut state = self.state();
            state.busy -= 1;
            match fetched {
                Ok(()) => state.warmed += 1,
                Err(error) => {
                    state.failed += 1;
                    state
                        .progress
                        .note(&format!("{}: {error:#}", hash.as_str()));
                }
            }
            self.changed.notify_all();
        }
    }

    fn next(&self) -> Option<StorePathHash> {
        let mut state = self
            .changed
            .wait_while(self.state(), |state| {
                state.waiting.is_empty() && state.busy > 0
            })
            .unwrap_or_else(PoisonError::into_inner);
        let next = state.waiting.pop_front()?;
        state.busy += 1;
        Some(next)
    }

    fn fetch(&self, server: &Server, store_dir: &str, hash: StorePathHash) -> anyhow::Result<()> {
        let path = format!("{}.narinfo", hash.as_str());
        let reply = server.ask("GET", &path, "text/x-nix-narinfo")?;
        match reply.status {
            200 => {}
            404 => bail!("not in the cache"),
            status => bail!("the server answered {status}: {}", reply.text()?.trim()),
        }
        let narinfo = Narinfo::parse(store_dir, reply.text()?.as_bytes())?;
        let nar = NarKey::from_url(None, &narinfo.url)
            .with_context(|| format!("its NAR, {}, is not the server's", narinfo.url))?;
        if !self.enter(&narinfo, &nar) {
            return Ok(());
        }
        let reply = server.ask("GET", nar.url(), "*/*")?;
        if reply.status != 200 {
            let status = reply.status;
            bail!(
                "{}: the server answered {status}: {}",
                nar.url(),
                reply.text()?.trim()
            );
        }
        if narinfo.file_size.is_none() {
            self.state().progress.grow(reply.length().unwrap_or(0));
        }
        reply.drain(|bytes| {
            let mut state = self.state();
            state.bytes += bytes;
            state.progress.add(bytes);
        })
    }

    /// Enters what a narinfo tells. `false`: somebody fetches its NAR already.
    fn enter(&self, narinfo: &Narinfo, nar: &NarKey) -> bool {
        let mut state = self.state();
        for reference in &narinfo.references {
            if state.seen.insert(reference.hash()) {
                state.waiting.push_back(reference.hash());
            }
        }
        self.changed.notify_all();
        let is_new = state.nars.insert(nar.clone());
        if is_new {
            state.progress.grow(narinfo.file_size.unwrap_or(0));
        }
        is_new
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The hash of a store path, given as such, with its name, as a path in the store or below one, or as
/// a link to one.
fn hash_of(store_dir: &str, text: &str) -> anyhow::Result<StorePathHash> {
    if let Ok(hash) = text.parse() {
        return Ok(hash);
    }
    let resolved;
    let inside = |path: &str| {
        let rest = path.strip_prefix(store_dir)?.strip_prefix('/')?;
        rest.split('/').next().map(str::to_owned)
    };
    let base_name = match inside(text) {
        Some(base_name) => base_name,
        None if text.contains('/') || fs::symlink_metadata(text).is_ok() => {
            resolved = fs::canonicalize(text).context("no store path, and nothing lies there")?;
            let place = resolved.to_string_lossy();
            inside(&place).with_context(|| format!("{place} is not in {store_dir}"))?
        }
        None => text.to_owned(),
    };
    Ok(StorePath::from_base_name(&base_name)?.hash())
}

#[cfg(test)]
mod tests {
    use super::*;

    const HASH: &str = "0c2gpm3ja1m7shgl5xb0n0j7hyzcpsnn";

    #[test]
    fn a_path_may_be_given_in_any_form_that_names_it() {
        let dir = tempfile::tempdir().unwrap();
        let store = dir.path().join("store");
        let path = store.join(format!("{HASH}-hello-2.12"));
        fs::create_dir_all(path.join("bin")).unwrap();
        let link = dir.path().join("result");
        std::os::unix::fs::symlink(&path, &link).unwrap();
        let (store, path) = (store.to_str().unwrap(), path.to_str().unwrap());
        for text in [
            HASH,
            &format!("{HASH}-hello-2.12"),
            path,
            &format!("{path}/bin/hello"),
            link.to_str().unwrap(),
        ] {
            assert_eq!(hash_of(store, text).unwrap().as_str(), HASH, "{text}");
        }
        for text in ["hello", "/etc", "/nowhere/at/all", "", &HASH[1..]] {
            assert!(hash_of(store, text).is_err(), "{text}");
        }
    }
}
