//! Judges what the settings say together, and makes the [`Config`] of them.
//!
//! Each setting is sound by itself when it comes here. What is left are combinations: what is
//! missing, what contradicts, and what follows from others when nobody said it. The two sections with
//! the most to say have a file each.

mod auth;
mod bucket;

use std::io;
use std::num::NonZeroUsize;
use std::ops::RangeInclusive;
use std::path::{Path, PathBuf};
use std::thread;

use bytesize::ByteSize;
use secrecy::{ExposeSecret, SecretString};

use super::error::{ConfigError, Problem};
use super::source::Given;
use super::values::{List, Text};
use super::words::{NamespaceName, Place, Secret};
use super::{
    Auth, Bucket, BucketKind, Cache, Config, Disk, Listen, Log, Memory, Metrics, Namespaces,
    Server, Signing, Uploads, file, secret,
};
use crate::nix::signature::SecretKey;

/// In bytes, the lengths that a part may have (S3 API, "Amazon S3 multipart upload limits").
const PART_SIZES: RangeInclusive<u64> = 5 << 20..=5 << 30;

/// Least `disk.index_size`, in bytes: a compaction begins at three quarters of it, and what waits to be
/// written meanwhile must fit into the rest.
const LEAST_INDEX: u64 = 64 << 20;

/// `handed_over`: somebody else opened the listeners, whoever can reach them.
///
/// # Errors
/// All combinations that cannot be, and all secrets' files that cannot be read.
pub fn config(
    settings: file::Settings,
    given: &Given,
    handed_over: bool,
) -> Result<Config, ConfigError> {
    let mut judge = Judge {
        given,
        problems: Vec::new(),
        exposed_secrets: Vec::new(),
    };
    let server = judge.server(settings.server);
    let cache = judge.cache(settings.cache);
    let bucket = judge.bucket(settings.bucket);
    let disk = judge.disk(settings.disk, bucket.as_ref());
    let metrics = judge.metrics(settings.metrics, &server);

    let pushing_wanted = settings.uploads.enabled.as_ref().map(|switch| switch.0);
    let alone = pushing_wanted != Some(false)
        && settings.auth.token.is_empty()
        && !handed_over
        && server.listen.iter().all(Listen::is_loopback)
        && matches!(
            bucket,
            Some(Bucket {
                kind: BucketKind::Directory { .. },
                ..
            })
        );
    let auth = judge.auth(settings.auth, &cache, alone);
    let uploads = judge.uploads(settings.uploads, pushing_wanted, &auth);
    let signing = judge.signing(settings.signing);

    match (bucket, judge.problems) {
        (Some(bucket), problems) if problems.is_empty() => Ok(Config {
            server,
            cache,
            bucket,
            memory: memory(&settings.memory),
            disk,
            uploads,
            auth,
            signing,
            metrics,
            log: log(settings.log),
            exposed_secrets: judge.exposed_secrets,
        }),
        (_, problems) => Err(ConfigError { problems }),
    }
}

struct Judge<'a> {
    given: &'a Given,
    problems: Vec<Problem>,
    exposed_secrets: Vec<PathBuf>,
}

impl Judge<'_> {
    fn refuse(&mut self, key: &str, what: impl Into<String>) {
        self.problems.push(self.given.problem(key, what));
    }

    fn server(&mut self, server: file::Server) -> Server {
        if server.listen.0.is_empty() {
            self.refuse(
                "server.listen",
                "is empty; allowed is at least one host:port or unix:/path",
            );
        }
        let workers = match server.workers.0 {
            0 => thread::available_parallelism().map_or(1, NonZeroUsize::get),
            workers => workers as usize,
        };
        Server {
            listen: server.listen.0,
            workers,
            max_connections: server.max_connections.0 as usize,
            keep_alive: server.keep_alive.0,
            drain: server.drain.0,
        }
    }

    fn cache(&mut self, cache: file::Cache) -> Cache {
        let names = names(cache.namespaces);
        let any = names.iter().any(|name| name == "*");
        if any && names.len() > 1 {
            self.refuse(
                "cache.namespaces",
                "holds \"*\" and names; allowed is one or the other",
            );
        }
        Cache {
            store_dir: cache.store_dir.0.0,
            priority: cache.priority.0 as i32,
            want_mass_query: cache.want_mass_query.0,
            name: cache.name.0.0,
            namespaces: match names {
                _ if any => Namespaces::Any,
                names if names.is_empty() => Namespaces::None,
                names => Namespaces::These(names),
            },
        }
    }

    /// The disk cache deletes what it does not know, so the bucket must not lie in its way.
    fn disk(&mut self, disk: file::Disk, bucket: Option<&Bucket>) -> Disk {
        let path = disk.path.0.0;
        if let Some(BucketKind::Directory { path: bucket }) = bucket.map(|bucket| &bucket.kind)
            && overlap(&path, bucket)
        {
            let what = format!(
                "{} and bucket.path, {}, lie in one another; allowed are two folders apart",
                path.display(),
                bucket.display()
            );
            self.refuse("disk.path", what);
        }
        if disk.index_size.0 < LEAST_INDEX {
            let what = format!("is too small; allowed is {} or more", ByteSize(LEAST_INDEX));
            self.refuse("disk.index_size", what);
        }
        Disk {
            path,
            capacity: disk.capacity.0,
            min_free: disk.min_free.0,
            max_nar: disk.max_nar.map(|size| size.0),
            index_size: disk.index_size.0,
            index_cache: disk.index_cache.0,
            abandoned_fills: disk.abandoned_fills.0,
        }
    }

    fn uploads(&mut self, uploads: file::Uploads, wanted: Option<bool>, auth: &Auth) -> Uploads {
        let can_write = auth.tokens.iter().any(|token| token.scopes.write);
        let token_to_come = auth.tokens.is_empty() && auth.upload_token_file.is_some();
        if wanted == Some(true) && !can_write && !token_to_come {
            self.refuse(
                "uploads.enabled",
                "is true and no token may write; set NARWHARF_AUTH__UPLOAD_TOKEN or add an [[auth.token]]",
            );
        }
        let part_size = uploads.part_size.0;
        if !PART_SIZES.contains(&part_size) {
            self.refuse(
                "uploads.part_size",
                "is not what S3 takes; allowed is from 5MiB to 5GiB",
            );
        }
        Uploads {
            enabled: wanted.unwrap_or(can_write),
            max_size: uploads.max_size.map(|size| size.0),
            verify: uploads.verify.0,
            require_nar: uploads.require_nar.0,
            body_idle_timeout: uploads.body_idle_timeout.0,
            hold: uploads.hold.0,
            part_size,
            merge_signatures: uploads.merge_signatures.0,
        }
    }

    fn signing(&mut self, signing: file::Signing) -> Signing {
        let keys = signing.trusted_public_keys.0;
        let trusted_public_keys: Vec<String> = keys.into_iter().map(|key| key.0).collect();
        let require_signature = signing
            .require_signature
            .map_or(!trusted_public_keys.is_empty(), |switch| switch.0);
        if require_signature && trusted_public_keys.is_empty() {
            self.refuse(
                "signing.require_signature",
                "is true and there is no key to check with; set signing.trusted_public_keys",
            );
        }
        let secret_key = self.secret("signing.secret_key", None, signing.secret_key_file);
        let unusable = secret_key.as_ref().and_then(|key| {
            let parsed = key.expose_secret().parse::<SecretKey>();
            parsed.err()
        });
        if let Some(why) = unusable {
            let what = format!("{why}; allowed is what `nix key generate-secret` prints");
            self.refuse("signing.secret_key_file", what);
        }
        Signing {
            trusted_public_keys,
            require_signature,
            secret_key,
        }
    }

    fn metrics(&mut self, metrics: file::Metrics, server: &Server) -> Metrics {
        let listen = metrics.listen.0.0;
        if listen
            .as_ref()
            .is_some_and(|listen| server.listen.contains(listen))
        {
            self.refuse(
                "metrics.listen",
                "is in server.listen too; allowed is another address, or \"\" for the same ones",
            );
        }
        Metrics {
            enabled: metrics.enabled.0,
            listen,
            token: self.secret("metrics.token", metrics.token, metrics.token_file),
        }
    }

    /// The secret of `key`, from the environment or its twin's file. Not both: one of them would
    /// be believed to be in force and is not.
    fn secret(
        &mut self,
        key: &str,
        value: Option<Text<Secret>>,
        twin: Option<Text<Place>>,
    ) -> Option<SecretString> {
        match (value, twin) {
            (Some(_), Some(_)) => {
                self.refuse_twins(key);
                None
            }
            (Some(value), None) => Some(value.0.0),
            (None, Some(Text(Place(path)))) => match self.secret_in(&path) {
                Ok(secret) => Some(secret),
                Err(error) => {
                    self.refuse(&format!("{key}_file"), unreadable(&path, &error));
                    None
                }
            },
            (None, None) => None,
        }
    }

    /// The secret in a file, which is taken note of if others may read it.
    fn secret_in(&mut self, path: &Path) -> io::Result<SecretString> {
        let secret = secret::read(path)?;
        if secret::is_exposed(path)? {
            self.exposed_secrets.push(path.to_owned());
        }
        Ok(secret)
    }

    fn refuse_twins(&mut self, key: &str) {
        self.refuse(key, format!("and {key}_file are both set; allowed is one"));
    }
}

fn memory(memory: &file::Memory) -> Memory {
    Memory {
        documents: memory.documents.0,
        negative: memory.negative.0,
        nars: memory.nars.0,
        document_ttl: memory.document_ttl.0,
        negative_ttl: memory.negative_ttl.0,
        stale_if_error: memory.stale_if_error.0,
    }
}

fn log(log: file::Log) -> Log {
    Log {
        level: log.level.0.0,
        format: log.format.0,
        access: log.access.0,
    }
}

fn names(list: List<NamespaceName>) -> Vec<String> {
    list.0.into_iter().map(|name| name.0).collect()
}

fn unreadable(path: &Path, error: &io::Error) -> String {
    format!(
        "{}: {error}; allowed is a file whose only line is the secret",
        path.display()
    )
}

/// By their text: links are not followed, since a folder may not exist yet.
fn overlap(one: &Path, other: &Path) -> bool {
    let absolute = |path: &Path| -> PathBuf {
        let path = std::path::absolute(path).unwrap_or_else(|_| path.to_owned());
        path.components().collect()
    };
    let (one, other) = (absolute(one), absolute(other));
    one.starts_with(&other) || other.starts_with(&one)
}
