//! The settings a bed's gateway starts with, said as an operator says them: through `Config::load`,
//! from a settings file and the environment.

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;
use std::sync::Once;

use narwharf::config::{Config, ConfigError};
use tracing_subscriber::EnvFilter;

use super::bucket::Bucket;

/// The upload token of every bed that was not given another.
pub const TOKEN: &str = "an-upload-token";

/// Settings by key, each overriding the default and what a file says.
#[derive(Debug, Clone, Default)]
pub struct Settings {
    of_environment: BTreeMap<String, String>,
    of_file: String,
}

impl Settings {
    /// What all beds share: every part for real, but deadlines fit for a test that waits for them.
    pub(super) fn usual(bucket: &Bucket, disk: &Path) -> Self {
        let mut settings = Self::default();
        let credentials = bucket.credentials();
        for (key, value) in [
            ("server.listen", "127.0.0.1:0"),
            ("server.workers", "2"),
            ("server.drain", "2s"),
            ("bucket.kind", "s3"),
            ("bucket.endpoint", &bucket.endpoint()),
            ("bucket.name", bucket.bucket()),
            ("bucket.access_key_id", &credentials.access_key_id),
            ("bucket.secret_access_key", &credentials.secret_access_key),
            ("bucket.hold", "300ms"),
            ("disk.path", &disk.display().to_string()),
            ("disk.capacity", "256MiB"),
            ("disk.min_free", "0"),
            ("disk.index_cache", "8MiB"),
            ("auth.upload_token", TOKEN),
        ] {
            settings.set(key, value);
        }
        settings
    }

    /// Says `section.key` in the environment.
    pub fn set(&mut self, key: &str, value: &str) {
        self.of_environment.insert(key.to_owned(), value.to_owned());
    }

    /// Leaves `section.key` at its default.
    pub fn unset(&mut self, key: &str) {
        self.of_environment.remove(key);
    }

    /// Adds lines to the settings file, where alone a table such as `[[auth.token]]` can stand.
    pub fn add_toml(&mut self, lines: &str) {
        self.of_file.push_str(lines);
        self.of_file.push('\n');
    }

    pub(super) fn load(&self, folder: &Path) -> Result<Config, ConfigError> {
        let file = folder.join("narwharf.toml");
        fs::write(&file, &self.of_file).expect("a settings file");
        let variables = self.of_environment.iter().map(|(key, value)| {
            let name = format!("NARWHARF_{}", key.replace('.', "__").to_uppercase());
            (name, value.clone())
        });
        Config::load(&[file], variables)
    }
}

/// Lets a failed test show what the gateway had to say; `RUST_LOG` asks for more.
pub(super) fn show_logs() {
    static ONCE: Once = Once::new();
    ONCE.call_once(|| {
        let filter = EnvFilter::try_from_default_env().unwrap_or_else(|_| "warn".into());
        let subscriber = tracing_subscriber::fmt()
            .with_env_filter(filter)
            .with_test_writer();
        // A test binary that has set its own keeps it.
        drop(subscriber.try_init());
    });
}
