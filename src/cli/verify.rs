//! `narwharf verify`: reads every blob of the disk cache and compares it with the hash in its name.
//!
//! It may run beside a server, of which it then asks repairs; without one it takes the directory's
//! lock and sets rotten blobs aside itself. Either way the bucket still has the right bytes, and the
//! next request fetches them.

use std::io::{self, Write};
use std::process::ExitCode;

use anyhow::{Context, bail};
use clap::Args;

use super::Settings;
use super::ask::{Server, Whom};
use super::progress::Progress;
use crate::config::Config;
use crate::human;
use crate::nix::key::ObjectKey;
use crate::tier::disk::{Audit, Listed, Verdict};

#[derive(Args, Debug)]
pub struct Options {
    #[command(flatten)]
    pub settings: Settings,
    /// Take what is wrong out of the cache; beside a running server this needs an admin token
    #[arg(long)]
    repair: bool,
    #[command(flatten)]
    whom: Whom,
}

/// What was found, for the last lines.
#[derive(Default)]
struct Summary {
    sound: usize,
    unnamed: usize,
    bytes: u64,
    /// Each with what is wrong with it.
    wrong: Vec<(ObjectKey, String)>,
    repaired: usize,
}

/// 0: nothing is wrong, or not any longer; 1: something is; 2: the settings are.
pub fn run(settings: &Settings, options: &Options) -> anyhow::Result<ExitCode> {
    let config = settings.load()?;
    let Some(audit) = Audit::begin(&config.disk)? else {
        println!("{}: no cache there yet", config.disk.path.display());
        return Ok(ExitCode::SUCCESS);
    };
    let repair = options
        .repair
        .then(|| Repair::new(&config, &options.whom, &audit))
        .transpose()?;
    let blobs = audit
        .list()
        .with_context(|| format!("cannot list {}", config.disk.path.display()))?;
    let total = blobs.iter().map(|blob| blob.len).sum();
    let mut progress = Progress::new("verify", total);
    let mut summary = Summary::default();
    for Listed { key, .. } in &blobs {
        let verdict = audit.check(key, |bytes| {
            summary.bytes += bytes;
            progress.add(bytes);
        });
        let wrong = match verdict {
            Verdict::Gone => continue,
            Verdict::Sound => {
                summary.sound += 1;
                continue;
            }
            Verdict::Unnamed => {
                summary.unnamed += 1;
                continue;
            }
            Verdict::Rotten { expected, found } => {
                format!("its SHA-256 is {found} instead of {expected}")
            }
            Verdict::Unreadable(error) => format!("it cannot be read: {error}"),
        };
        progress.note(&format!("{key}: {wrong}"));
        if let Some(repair) = &repair {
            match repair.take_out(key) {
                Ok(()) => summary.repaired += 1,
                Err(error) => progress.note(&format!("{key}: not repaired: {error:#}")),
            }
        }
        summary.wrong.push((key.clone(), wrong));
    }
    let took = progress.end();
    let mut out = io::stdout().lock();
    writeln!(
        out,
        "{} in {} blobs read in {:.1} s",
        human::bytes(summary.bytes),
        summary.sound + summary.unnamed + summary.wrong.len(),
        took.as_secs_f64()
    )?;
    summary.write(&mut out, options.repair)?;
    Ok(match summary.wrong.len() - summary.repaired {
        0 => ExitCode::SUCCESS,
        _ => ExitCode::FAILURE,
    })
}

impl Summary {
    fn write(&self, out: &mut impl Write, repairing: bool) -> io::Result<()> {
        writeln!(out, "{:>8} sound", self.sound)?;
        if self.unnamed > 0 {
            writeln!(
                out,
                "{:>8} readable; their names are no hashes, so only the server's scrubber can tell more",
                self.unnamed
            )?;
        }
        writeln!(out, "{:>8} wrong", self.wrong.len())?;
        for (key, why) in &self.wrong {
            writeln!(out, "         {key}: {why}")?;
        }
        match (self.wrong.len(), self.wrong.len() - self.repaired) {
            (0, _) => Ok(()),
            (_, 0) => writeln!(
                out,
                "All of these were taken out of the cache and are fetched anew when asked for. If \
                 there are more of them soon, replace the disk."
            ),
            (_, left) if repairing => {
                writeln!(out, "{left} of these could not be taken out; see above.")
            }
            _ => writeln!(
                out,
                "`narwharf verify --repair` takes these out of the cache; they are fetched anew when \
                 asked for."
            ),
        }
    }
}

/// Who takes rotten blobs out of the cache.
enum Repair<'a> {
    /// No server is at work.
    Alone(&'a Audit),
    Server(Server),
}

impl<'a> Repair<'a> {
    fn new(config: &Config, whom: &Whom, audit: &'a Audit) -> anyhow::Result<Self> {
        if audit.is_alone() {
            return Ok(Self::Alone(audit));
        }
        let server = whom.server(config)?;
        if !server.has_token() {
            bail!(
                "a server is at work on {}; to repair beside it, show it a token with scope admin: \
                 --token-file FILE or NARWHARF_TOKEN (or stop it first)",
                config.disk.path.display()
            );
        }
        Ok(Self::Server(server))
    }

    fn take_out(&self, key: &ObjectKey) -> anyhow::Result<()> {
        let server = match self {
            Self::Alone(audit) => return Ok(audit.set_aside(key)?),
            Self::Server(server) => server,
        };
        match server.ask("DELETE", key.as_str(), "*/*")?.status {
            // Not there any longer will do.
            200..300 | 404 => Ok(()),
            401 | 403 => bail!("the server does not take the token for one with scope admin"),
            405 => bail!("the server knows no token with scope admin; add one, or stop it first"),
            status => bail!("the server answered {status}"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn told(summary: &Summary, repairing: bool) -> String {
        let mut out = Vec::new();
        summary.write(&mut out, repairing).unwrap();
        String::from_utf8(out).unwrap()
    }

    #[test]
    fn the_summary_says_what_to_do() {
        let mut summary = Summary {
            sound: 3,
            ..Summary::default()
        };
        assert_eq!(told(&summary, false), "       3 sound\n       0 wrong\n");
        let key = ObjectKey::from_stored("nar/hello.nar").unwrap();
        summary.wrong.push((key, "it cannot be read".to_owned()));
        assert!(told(&summary, false).contains("         nar/hello.nar: it cannot be read\n"));
        assert!(told(&summary, false).contains("`narwharf verify --repair`"));
        assert!(told(&summary, true).contains("1 of these could not be taken out"));
        summary.repaired = 1;
        assert!(told(&summary, true).contains("All of these were taken out"));
    }
}
