//! What an operator may rely on: the defaults of the contract, the order of the sources, and what
//! is said about a mistake.

mod reference;
mod secrets;
mod sources;
mod together;

use std::fs;

use secrecy::ExposeSecret;

use super::*;

const KEY: &str = "cache.nixos.org-1:6NCHdD59X431o0gWypbMrAURkbJ16ZPMQFGspcDShjY=";

/// A folder of its own for each test, so that no `data/upload-token` that lies about is read.
struct Desk(tempfile::TempDir);

impl Desk {
    fn new() -> Self {
        Self(tempfile::tempdir().unwrap())
    }

    fn file(&self, name: &str, text: &str) -> PathBuf {
        let path = self.0.path().join(name);
        fs::write(&path, text).unwrap();
        path
    }

    fn load(&self, files: &[PathBuf], env: &[(&str, &str)]) -> Result<Config, ConfigError> {
        let token = self.0.path().join("upload-token");
        let ours = [("NARWHARF_AUTH__UPLOAD_TOKEN_FILE", token.to_str().unwrap())];
        let sets_token = env
            .iter()
            .any(|(name, _)| name.starts_with("NARWHARF_AUTH__UPLOAD"));
        let ours = ours.iter().filter(|_| !sets_token);
        let env = ours.chain(env).map(|(k, v)| (k.to_string(), v.to_string()));
        Config::load(files, env)
    }

    fn with(&self, env: &[(&str, &str)]) -> Config {
        self.load(&[], env).unwrap()
    }

    /// The problems, a line each, of a file with this text.
    fn problems_in(&self, text: &str) -> String {
        let file = self.file("narwharf.toml", text);
        self.load(&[file], &[]).unwrap_err().to_string()
    }

    fn problems_with(&self, env: &[(&str, &str)]) -> String {
        self.load(&[], env).unwrap_err().to_string()
    }
}

/// An S3 bucket; the upload token is set because nobody makes one for such a bucket.
const S3: [(&str, &str); 6] = [
    ("NARWHARF_AUTH__UPLOAD_TOKEN", "hunter2"),
    ("NARWHARF_BUCKET__KIND", "s3"),
    (
        "NARWHARF_BUCKET__ENDPOINT",
        "https://a.r2.cloudflarestorage.com",
    ),
    ("NARWHARF_BUCKET__NAME", "nix-cache"),
    ("NARWHARF_BUCKET__ACCESS_KEY_ID", "0123456789abcdef"),
    ("NARWHARF_BUCKET__SECRET_ACCESS_KEY", "s3cr3t"),
];
