//! One machine with Nix: a store of its own, settings of its own, and no memory of other machines.
//!
//! The store is a *chroot store* (`local?root=`): its paths read `/nix/store/…`, as signatures demand,
//! and its files lie in the machine's folder. The client's narinfo cache is the machine's own too, so
//! what a fresh machine asks is really asked.

use std::collections::BTreeMap;
use std::fs;
use std::io::{Read, Write};
use std::os::unix::fs::symlink;
use std::path::PathBuf;
use std::process::{Command, Output, Stdio};

use serde::Deserialize;

use crate::closure::{Closure, nar_of};

/// See the module's words.
pub struct Machine {
    /// Where everything of it lies, `nix.conf` too, and where its commands run.
    pub folder: PathBuf,
}

/// A signing key and its public half, as Nix writes them.
pub struct KeyPair {
    pub secret: PathBuf,
    /// `name:base64`, for `trusted-public-keys`.
    pub public: String,
}

/// What a store knows of one path (`nix path-info --json`).
#[derive(Deserialize, Debug, PartialEq)]
#[serde(rename_all = "camelCase")]
pub struct PathInfo {
    path: String,
    nar_hash: String,
    nar_size: u64,
    references: Vec<String>,
    #[serde(default)]
    signatures: Vec<String>,
}

impl PathInfo {
    pub fn signatures(&self) -> &[String] {
        &self.signatures
    }
}

impl Machine {
    /// A machine with an empty store that demands a signature by `trusted` of every path it is given.
    pub fn new(folder: PathBuf, trusted: &str) -> Self {
        fs::create_dir_all(folder.join("home")).unwrap();
        let settings = format!(
            "experimental-features = nix-command\n\
             build-users-group =\n\
             sandbox = false\n\
             substituters =\n\
             require-sigs = true\n\
             trusted-public-keys = {trusted}\n"
        );
        fs::write(folder.join("nix.conf"), settings).unwrap();
        Self { folder }
    }

    /// Runs a command that must succeed without a word of warning; answers its standard output.
    #[track_caller]
    pub fn run<S: AsRef<str>>(&self, words: &[S]) -> String {
        self.succeeds(&mut self.command(words))
    }

    /// The same with a command of [`Machine::command`].
    #[track_caller]
    pub fn succeeds(&self, command: &mut Command) -> String {
        let output = self.output(command);
        assert_quiet_success(&format!("{command:?}"), output)
    }

    /// Makes `./result` point to `path`, as a `nix build` in this folder does.
    pub fn link_result(&self, path: &str) {
        symlink(path, self.folder.join("result")).unwrap();
    }

    /// Runs a line of shell as a person would paste it; else like [`Machine::run`].
    #[track_caller]
    pub fn paste(&self, line: &str) -> String {
        self.run(&["sh", "-c", line])
    }

    /// Runs a command that must succeed in the end; answers what it said on the way.
    #[track_caller]
    pub fn complains<S: AsRef<str>>(&self, words: &[S]) -> String {
        let output = self.output(&mut self.command(words));
        let said = String::from_utf8_lossy(&output.stderr).into_owned();
        assert!(output.status.success(), "{}:\n{said}", describe(words));
        said
    }

    /// Runs a command that must fail; answers what it said of it.
    #[track_caller]
    pub fn fails<S: AsRef<str>>(&self, words: &[S]) -> String {
        let output = self.output(&mut self.command(words));
        let said = String::from_utf8_lossy(&output.stderr).into_owned();
        assert!(
            !output.status.success(),
            "{} should have failed:\n{said}",
            describe(words)
        );
        said
    }

    /// Realises `path` from the substituter at `url`, as `nix-store -r` does.
    #[track_caller]
    pub fn realise(&self, path: &str, url: &str) {
        let root = self.folder.join("result").display().to_string();
        self.run(&[
            "nix-store",
            "-r",
            path,
            "--add-root",
            &root,
            "--option",
            "substituters",
            url,
        ]);
    }

    /// Takes a closure in by import.
    pub fn import(&self, closure: &Closure) {
        let mut child = self
            .command(&["nix-store", "--import"])
            .stdin(Stdio::piped())
            .stdout(Stdio::null())
            .spawn()
            .expect("nix-store starts (tests/prepare installs it)");
        let mut stdin = std::io::BufWriter::new(child.stdin.take().unwrap());
        closure.export(&mut stdin).unwrap();
        stdin.flush().unwrap();
        drop(stdin);
        assert!(child.wait().unwrap().success(), "nix-store --import");
    }

    /// A new key pair in this machine's folder.
    pub fn generate_key(&self, name: &str) -> KeyPair {
        let [secret, public] = ["secret", "public"].map(|half| self.folder.join(half));
        let files = [&secret, &public].map(|file| file.display().to_string());
        self.run(&[
            "nix-store",
            "--generate-binary-cache-key",
            name,
            &files[0],
            &files[1],
        ]);
        KeyPair {
            public: fs::read_to_string(public).unwrap().trim().to_owned(),
            secret,
        }
    }

    /// Signs `path` and all it needs.
    pub fn sign(&self, path: &str, key: &KeyPair) {
        self.run(&[
            "nix",
            "store",
            "sign",
            "-k",
            &key.secret.display().to_string(),
            "-r",
            path,
        ]);
    }

    /// What the store holds of `path`'s closure, by path.
    #[track_caller]
    pub fn closure_of(&self, path: &str) -> BTreeMap<String, PathInfo> {
        let json = self.run(&["nix", "path-info", "--json", "--sigs", "-r", path]);
        let infos: Vec<PathInfo> = serde_json::from_str(&json).unwrap();
        infos
            .into_iter()
            .map(|info| (info.path.clone(), info))
            .collect()
    }

    /// The NAR of a path, read from the store's files by other code than Nix's.
    pub fn nar(&self, path: &str) -> Vec<u8> {
        let mut bytes = Vec::new();
        let file = self.folder.join("root").join(path.trim_start_matches('/'));
        nar_of(&file).read_to_end(&mut bytes).unwrap();
        bytes
    }

    /// Lets Nix read every file again and compare it with its hash.
    #[track_caller]
    pub fn verify(&self) {
        self.run(&["nix-store", "--verify", "--check-contents"]);
    }

    /// A command in this machine's environment, yet to be run.
    pub fn command<S: AsRef<str>>(&self, words: &[S]) -> Command {
        let mut command = Command::new(words[0].as_ref());
        command
            .args(words[1..].iter().map(AsRef::as_ref))
            .env_clear()
            .env("PATH", std::env::var_os("PATH").unwrap_or_default())
            .env("LC_ALL", "C.UTF-8")
            .env("HOME", self.folder.join("home"))
            .env("XDG_CACHE_HOME", self.folder.join("home/.cache"))
            .env("NIX_CONF_DIR", &self.folder)
            .env("NIX_USER_CONF_FILES", "")
            .env(
                "NIX_REMOTE",
                format!("local?root={}", self.folder.join("root").display()),
            )
            .current_dir(&self.folder)
            .stdin(Stdio::null());
        command
    }

    fn output(&self, command: &mut Command) -> Output {
        command
            .output()
            .unwrap_or_else(|e| panic!("{command:?} (tests/prepare installs Nix): {e}"))
    }
}

#[track_caller]
fn assert_quiet_success(what: &str, output: Output) -> String {
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{what}: {}\n{said}", output.status);
    assert!(
        !said.to_lowercase().contains("warning"),
        "{what} warned:\n{said}"
    );
    String::from_utf8(output.stdout).unwrap()
}

fn describe<S: AsRef<str>>(words: &[S]) -> String {
    words
        .iter()
        .map(AsRef::as_ref)
        .collect::<Vec<_>>()
        .join(" ")
}
