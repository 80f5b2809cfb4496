//! `narwharf purge`: the running server forgets objects, and removes them from the bucket if told to.
//!
//! Narinfos go before NARs, so that no client is promised what is already gone. Of a store path both
//! go: its narinfo, and the NAR that this names.

use std::io::Write;
use std::process::ExitCode;

use anyhow::bail;
use clap::Args;

use super::Settings;
use super::ask::{Answer, Whom};
use crate::config::Config;
use crate::nix::key::{Key, NarKey};
use crate::nix::narinfo::Narinfo;
use crate::nix::store_path::StorePathHash;

#[derive(Args, Debug)]
pub struct Options {
    #[command(flatten)]
    pub(super) settings: Settings,
    #[command(flatten)]
    whom: Whom,
    /// Remove them from the bucket too; without it they are fetched anew when asked for
    #[arg(long)]
    bucket: bool,
    /// Keys as in the bucket (H.narinfo, nar/F.nar.xz, log/…), or store paths
    #[arg(required = true, value_name = "KEY", value_parser = wanted)]
    keys: Vec<Wanted>,
}

/// What is to go.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Wanted {
    Key(String),
    /// The narinfo of this store path, and its NAR.
    Path(StorePathHash),
}

fn wanted(text: &str) -> Result<Wanted, String> {
    if let Some(key) = Key::from_stored(text) {
        return Ok(Wanted::Key(key.object().as_str().to_owned()));
    }
    let name = text.rsplit('/').next().unwrap_or_default();
    let hash = name.split('-').next().unwrap_or_default();
    hash.parse().map(Wanted::Path).map_err(|_| {
        "allowed are keys such as H.narinfo and nar/F.nar.xz, and store paths".to_owned()
    })
}

/// 0 when all are gone, 1 when some are not.
pub fn run(settings: &Settings, options: &Options) -> anyhow::Result<ExitCode> {
    let config = settings.load()?;
    let mut out = std::io::stdout().lock();
    let mut all_gone = true;
    for key in in_order(&config, options)? {
        let own_word = match (options.bucket, key.contains('?')) {
            (false, _) => "",
            (true, false) => "?bucket=1",
            (true, true) => "&bucket=1",
        };
        let target = format!("{key}{own_word}");
        let answer = options.whom.ask(&config, "DELETE", &target, "text/plain")?;
        match answer.status {
            200 => writeln!(out, "{key}: {}", answer.body.trim())?,
            401 | 403 => bail!("that needs an admin's token: name its file by --token-file"),
            405 => bail!("nobody may delete here: no [[auth.token]] has scope admin"),
            status => {
                all_gone = false;
                writeln!(out, "{key}: FAILED, {status} {}", answer.body.trim())?;
            }
        }
    }
    out.flush()?;
    Ok(match all_gone {
        true => ExitCode::SUCCESS,
        false => ExitCode::FAILURE,
    })
}

/// The keys, NARs last. Errors: of a store path it cannot be said which NAR is its own, and then nothing
/// is to go, since with the narinfo the way to the NAR would be gone.
fn in_order(config: &Config, options: &Options) -> anyhow::Result<Vec<String>> {
    let mut keys = Vec::new();
    for wanted in &options.keys {
        match wanted {
            Wanted::Key(key) => keys.push(key.clone()),
            Wanted::Path(hash) => {
                let narinfo = format!("{hash}.narinfo");
                let answer = options.whom.ask(config, "GET", &narinfo, "*/*")?;
                match answer.status {
                    200 => keys.extend(nar_of(config, &answer)),
                    404 => {}
                    401 | 403 => bail!(
                        "{narinfo} names the NAR and cannot be read: name by --token-file a token that \
                         may read, beside its scope admin"
                    ),
                    status => bail!(
                        "{narinfo} names the NAR and cannot be read: {status} {}",
                        answer.body.trim()
                    ),
                }
                keys.push(narinfo);
            }
        }
    }
    keys.sort_by_key(|key| matches!(Key::from_stored(key), Some(Key::Nar(_))));
    Ok(keys)
}

/// The NAR that a narinfo names; `None`: none of this cache.
fn nar_of(config: &Config, answer: &Answer) -> Option<String> {
    let narinfo = Narinfo::parse(&config.cache.store_dir, answer.body.as_bytes()).ok()?;
    let nar = NarKey::from_url(None, &narinfo.url)?;
    Some(nar.object().as_str().to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    const HASH: &str = "y7p5hy9p6crpivv064i60p31mjfx3a54";

    #[test]
    fn keys_and_store_paths_are_told_apart() {
        for key in ["nar/a.nar.xz", "nar/a.nar?hash=b", "team/nar/a.nar"] {
            assert_eq!(wanted(key), Ok(Wanted::Key(key.to_owned())));
        }
        let narinfo = format!("{HASH}.narinfo");
        assert_eq!(wanted(&narinfo), Ok(Wanted::Key(narinfo)));
        let path = Ok(Wanted::Path(HASH.parse().unwrap()));
        assert_eq!(wanted(&format!("/nix/store/{HASH}-top-2.0")), path);
        assert_eq!(wanted(&format!("{HASH}-top-2.0")), path);
        assert_eq!(wanted(HASH), path);
        for odd in ["", "/", "nar/", "../nar/a.nar", "nar/a b.nar", "health"] {
            assert!(wanted(odd).is_err(), "{odd}");
        }
    }
}
