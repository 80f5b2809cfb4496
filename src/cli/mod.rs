//! The command line: flags and subcommands, a file each. Everything else is in the library.
//!
//! Exit codes are part of the contract: 0 done, 1 found problems, 2 bad usage or settings.

mod ask;
mod banner;
mod check;
mod logging;
mod netrc;
mod nix_conf;
mod progress;
mod purge;
mod serve;
mod stats;
mod token;
mod verify;
mod warm;

use std::env;
use std::path::PathBuf;
use std::process::ExitCode;

use clap::{Args, Parser, Subcommand};

use crate::config::{Config, ConfigError};

/// Edge-caching gateway for Nix binary caches.
#[derive(Debug, Parser)]
#[command(version, about, after_help = SETTINGS_HELP)]
struct Cli {
    #[command(flatten)]
    settings: Settings,
    #[command(subcommand)]
    command: Option<Command>,
}

const SETTINGS_HELP: &str = "Settings come from the compiled-in defaults, then the --config files, \
then the environment (NARWHARF_SECTION__KEY). With none at all, narwharf serves 127.0.0.1:8080 from \
the folder data/bucket.";

#[derive(Debug, Subcommand)]
enum Command {
    /// Serve the cache; what happens without a command, too
    Serve(Settings),
    /// Look whether the settings are valid, the bucket reachable and writable, the disk writable
    Check(Settings),
    /// Read every blob of the disk cache and compare it with its hash
    Verify(verify::Options),
    /// Have the running server fetch closures into its tiers
    Warm(warm::Options),
    /// Make a new random token and its hash
    Token(Settings),
    /// Print lines for the nix.conf and netrc of this cache's clients
    NixConf(nix_conf::Options),
    /// Have the running server forget objects
    Purge(purge::Options),
    /// Show how the running server is doing
    Stats(stats::Options),
}

/// Taken before and after the command alike: `--config a check --config b` reads both.
#[derive(Args, Clone, Debug, Default)]
struct Settings {
    /// A settings file; may be repeated, a later one wins
    #[arg(long = "config", value_name = "FILE")]
    files: Vec<PathBuf>,
}

impl Settings {
    fn load(&self) -> Result<Config, ConfigError> {
        let text = |os: std::ffi::OsString| os.to_string_lossy().into_owned();
        let env = env::vars_os().map(|(name, value)| (text(name), text(value)));
        Config::load(&self.files, env)
    }
}

/// Runs the program. Bad usage ends in here with exit code 2.
pub fn main() -> ExitCode {
    let Cli { settings, command } = Cli::parse();
    let all = |own: Settings| Settings {
        files: [settings.files.clone(), own.files].concat(),
    };
    let done = match command {
        None => serve::run(&all(Settings::default())),
        Some(Command::Serve(own)) => serve::run(&all(own)),
        Some(Command::Check(own)) => check::run(&all(own)),
        Some(Command::Verify(options)) => {
            let settings = all(options.settings.clone());
            verify::run(&settings, &options)
        }
        Some(Command::Warm(options)) => {
            let settings = all(options.settings.clone());
            warm::run(&settings, &options)
        }
        Some(Command::Token(_)) => token::run(),
        Some(Command::NixConf(options)) => {
            let settings = all(options.settings.clone());
            nix_conf::run(&settings, &options)
        }
        Some(Command::Purge(options)) => {
            let settings = all(options.settings.clone());
            purge::run(&settings, &options)
        }
        Some(Command::Stats(options)) => {
            let settings = all(options.settings.clone());
            stats::run(&settings, &options)
        }
    };
    done.unwrap_or_else(|error| {
        eprintln!("narwharf: {error:#}");
        match error.is::<ConfigError>() {
            true => ExitCode::from(2),
            false => ExitCode::FAILURE,
        }
    })
}
