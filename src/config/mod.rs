//! Settings: what the operator said, checked once at the start, so that no other part doubts them.
//!
//! Three kinds of source, a later one winning: the compiled-in `config/narwharf.toml`, the files
//! named on the command line, the environment. The way of a setting:
//!
//! - [`source`] splits a file or the environment into single settings, each with its source's name;
//! - [`known`] tells which keys exist, and which one a misspelt key may have meant;
//! - `file` and `values` say, as types, what may be written for each key;
//! - `resolve` judges what the settings say together, and makes the [`Config`] of it.
//!
//! All problems are reported at once, each with its source and key: settings are often repaired by
//! somebody who cannot see the machine, and a start for every mistake would be cruel. A leaf: it
//! knows nothing of the parts that it configures.

mod choices;
mod error;
mod fields;
mod file;
mod finding;
pub mod first_token;
mod known;
mod listen;
mod resolve;
mod secret;
mod source;
pub mod token;
mod values;
mod words;

use std::num::NonZeroUsize;
use std::path::PathBuf;
use std::time::Duration;

use secrecy::SecretString;
use url::Url;

pub use choices::{AbandonedFills, LogFormat};
pub use error::{ConfigError, Problem};
pub use finding::Finding;
pub use listen::Listen;
pub use secret::read as read_secret;
pub use token::{Scopes, Token};

/// The settings narwharf starts from, and their reference: every key with its reason.
pub const DEFAULTS: &str = include_str!("../../config/narwharf.toml");

/// All settings, checked. Each part is handed its own section and sees no other.
#[derive(Clone, Debug)]
pub struct Config {
    pub server: Server,
    pub cache: Cache,
    pub bucket: Bucket,
    pub memory: Memory,
    pub disk: Disk,
    pub uploads: Uploads,
    pub auth: Auth,
    pub signing: Signing,
    pub metrics: Metrics,
    pub log: Log,
    /// Files from which secrets were read and that are not their owner's alone.
    pub exposed_secrets: Vec<PathBuf>,
}

#[derive(Clone, Debug)]
pub struct Server {
    /// At least one.
    pub listen: Vec<Listen>,
    /// Threads that speak to clients; never 0, the settings' 0 is the number of cores here.
    pub workers: usize,
    /// For each worker.
    pub max_connections: usize,
    pub keep_alive: Duration,
    /// From the signal to the cutting of answers under way.
    pub drain: Duration,
}

#[derive(Clone, Debug)]
pub struct Cache {
    /// Absolute, without a slash at the end.
    pub store_dir: String,
    /// Never negative; the smallest is asked first.
    pub priority: i32,
    pub want_mass_query: bool,
    pub name: String,
    pub namespaces: Namespaces,
}

/// Which `/{ns}/…` are served besides the root.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Namespaces {
    None,
    /// Whatever has the form of a namespace.
    Any,
    These(Vec<String>),
}

#[derive(Clone, Debug)]
pub struct Bucket {
    pub kind: BucketKind,
    /// At once, over all kinds of object.
    pub max_requests: NonZeroUsize,
    pub connect_timeout: Duration,
    /// For NARs; documents get a third.
    pub first_byte_timeout: Duration,
    /// Between two pieces of a body.
    pub idle_timeout: Duration,
    /// After it no new try of a read starts.
    pub hold: Duration,
    /// In bytes; a NAR of more is fetched in parts.
    pub parallel_above: u64,
    /// Of one NAR, at once; 1 means none is fetched in parts.
    pub parallel_parts: usize,
}

#[derive(Clone, Debug)]
pub enum BucketKind {
    Directory {
        path: PathBuf,
    },
    S3 {
        /// `http` or `https`; its path ends in `/`, as the client library wants it.
        endpoint: Url,
        name: String,
        region: String,
        /// Empty, or ending in `/`: a key in the bucket is the two written one after the other.
        prefix: String,
        access_key_id: String,
        secret_access_key: SecretString,
    },
}

#[derive(Clone, Debug)]
pub struct Memory {
    /// In bytes.
    pub documents: u64,
    /// In bytes.
    pub negative: u64,
    /// In bytes; 0: none are kept.
    pub nars: u64,
    pub document_ttl: Duration,
    pub negative_ttl: Duration,
    /// On top of `document_ttl`.
    pub stale_if_error: Duration,
}

#[derive(Clone, Debug)]
pub struct Disk {
    pub path: PathBuf,
    /// In bytes, for blobs, temporaries and reservations together.
    pub capacity: u64,
    /// In bytes, of the file system.
    pub min_free: u64,
    /// In bytes; `None`: only `capacity` limits.
    pub max_nar: Option<u64>,
    /// In bytes, of the index's files together.
    pub index_size: u64,
    /// In bytes, of memory.
    pub index_cache: u64,
    pub abandoned_fills: AbandonedFills,
}

#[derive(Clone, Debug)]
pub struct Uploads {
    /// As set, else whether some token may write.
    pub enabled: bool,
    /// In bytes; `None`: no limit.
    pub max_size: Option<u64>,
    pub verify: bool,
    pub require_nar: bool,
    pub body_idle_timeout: Duration,
    /// How long the bucket is tried again once a body is in.
    pub hold: Duration,
    /// In bytes; a longer NAR goes to the bucket in parts.
    pub part_size: u64,
    /// Whether a narinfo keeps the signatures of the one it replaces.
    pub merge_signatures: bool,
}

#[derive(Clone, Debug)]
pub struct Auth {
    pub public_reads: bool,
    /// The upload token too, under the name `upload`.
    pub tokens: Vec<Token>,
    /// Unknown tokens a minute from one address.
    pub max_failures: u32,
    /// The file that the upload token was read from. With no `tokens` at all: the file in which
    /// [`first_token::ensure`] is to make one. `None`: no token file plays a part.
    pub upload_token_file: Option<PathBuf>,
}

#[derive(Clone, Debug)]
pub struct Signing {
    /// `name:base64` of keys that can be used.
    pub trusted_public_keys: Vec<String>,
    /// Never true without keys.
    pub require_signature: bool,
    /// `name:base64` of a key that can be used, with which narinfos are signed; `None`: they are not.
    pub secret_key: Option<SecretString>,
}

#[derive(Clone, Debug)]
pub struct Metrics {
    pub enabled: bool,
    /// `None`: on the server's own listeners.
    pub listen: Option<Listen>,
    pub token: Option<SecretString>,
}

#[derive(Clone, Debug)]
pub struct Log {
    /// A level, or several directives with commas between, as tracing's `EnvFilter` reads them.
    pub level: String,
    pub format: LogFormat,
    pub access: bool,
}

impl Config {
    /// The defaults, under `files` in their order, under those of `env` that are ours.
    ///
    /// Reads the files, and the secrets' `…_file` twins; writes nothing. `env` is an argument, so
    /// that tests have an environment of their own.
    ///
    /// # Errors
    /// Everything that is wrong in any source, also in settings that a later one overrides.
    pub fn load(
        files: &[PathBuf],
        env: impl Iterator<Item = (String, String)>,
    ) -> Result<Config, ConfigError> {
        let env: Vec<_> = env.collect();
        let handed_over = listen::are_handed_over(&env);
        let read = source::read(files, env.into_iter())?;
        resolve::config(read.settings, &read.given, handed_over)
    }
}

#[cfg(test)]
mod tests;
