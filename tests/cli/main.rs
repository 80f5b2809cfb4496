//! The program as an operator meets it: exit codes, what stands on which output, and that no
//! secret is ever repeated. What the settings mean is tested where they are read.

mod first_start;
mod verify;

use std::fs;
use std::io::{BufRead, BufReader, Read};
use std::path::Path;
use std::process::{Child, Command, Output, Stdio};

use sha2::{Digest, Sha256};

/// An empty working directory, and an environment with nothing of ours in it.
struct Desk(tempfile::TempDir);

impl Desk {
    fn new() -> Self {
        Self(tempfile::tempdir().unwrap())
    }

    fn path(&self) -> &Path {
        self.0.path()
    }

    fn write(&self, name: &str, text: &str) {
        fs::write(self.path().join(name), text).unwrap();
    }

    fn command(&self, args: &[&str], env: &[(&str, &str)]) -> Command {
        let mut command = Command::new(assert_cmd::cargo::cargo_bin!("narwharf"));
        let ours = std::env::vars_os().map(|(name, _)| name);
        for name in ours.filter(|name| name.to_string_lossy().starts_with("NARWHARF")) {
            command.env_remove(name);
        }
        command
            .current_dir(self.path())
            .args(args)
            .envs(env.iter().copied());
        command
    }

    fn run(&self, args: &[&str], env: &[(&str, &str)]) -> Told {
        Told::from(self.command(args, env).output().unwrap())
    }

    fn serve(&self, args: &[&str], env: &[(&str, &str)]) -> Served {
        Served::start(&mut self.command(args, env))
    }
}

/// A server that has said its last line.
struct Served {
    child: Child,
    /// On standard output.
    said: String,
}

impl Served {
    fn start(command: &mut Command) -> Self {
        let mut child = command
            .env("NARWHARF_SERVER__LISTEN", "127.0.0.1:0")
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        let mut said = String::new();
        let mut lines = BufReader::new(child.stdout.take().unwrap());
        while !said.contains("nixpkgs#hello") && lines.read_line(&mut said).unwrap() > 0 {}
        Self { child, said }
    }

    /// Ends it, and returns what its log has.
    fn end(mut self) -> String {
        self.child.kill().unwrap();
        self.child.wait().unwrap();
        let mut log = String::new();
        let mut err = self.child.stderr.take().unwrap();
        err.read_to_string(&mut log).unwrap();
        log
    }
}

/// What a run left behind.
struct Told {
    code: Option<i32>,
    out: String,
    err: String,
}

impl From<Output> for Told {
    fn from(output: Output) -> Self {
        Self {
            code: output.status.code(),
            out: String::from_utf8(output.stdout).unwrap(),
            err: String::from_utf8(output.stderr).unwrap(),
        }
    }
}

#[test]
fn bad_usage_is_2_and_help_is_0() {
    let desk = Desk::new();
    assert_eq!(desk.run(&["--nonsense"], &[]).code, Some(2));
    assert_eq!(desk.run(&["nonsense"], &[]).code, Some(2));
    for url in ["https://cache.example", "cache"] {
        let told = desk.run(&["stats", "--url", url], &[]);
        assert_eq!(told.code, Some(2));
        assert!(told.err.contains("http://HOST[:PORT]"), "{}", told.err);
    }
    let help = desk.run(&["--help"], &[]);
    assert_eq!(help.code, Some(0));
    for command in ["serve", "check", "verify", "token", "nix-conf"] {
        assert!(help.out.contains(command), "{command} in\n{}", help.out);
    }
}

#[test]
fn bad_settings_are_2_and_told_on_standard_error_before_anything_is_made() {
    let desk = Desk::new();
    desk.write("a.toml", "[disk]\ncapacty = '1GiB'");
    for args in [
        &["--config", "a.toml"][..],
        &["serve", "--config", "a.toml"],
        &["nix-conf", "--config", "a.toml"],
    ] {
        let told = desk.run(args, &[]);
        assert_eq!(told.code, Some(2));
        let line = "a.toml: disk.capacty: unknown key; did you mean disk.capacity?";
        assert!(told.err.contains(line), "{}", told.err);
        assert_eq!(told.out, "");
    }
    assert!(!desk.path().join("data").exists());
}

#[test]
fn check_tells_every_problem_in_a_line_of_its_own() {
    let desk = Desk::new();
    desk.write(
        "a.toml",
        "[disk]\ncapacity = 'big'\n[substituter]\n[auth]\nupload_token = 'hunter2'",
    );
    let told = desk.run(
        &["check", "--config", "a.toml"],
        &[("NARWHARF_LOG__LEVEL", "loud")],
    );
    assert_eq!(told.code, Some(2));
    assert_eq!(told.out.lines().count(), 4, "{}", told.out);
    for line in [
        "FAILED  settings: a.toml: substituter: not yet supported",
        "FAILED  settings: a.toml: auth.upload_token: is a secret",
        "FAILED  settings: a.toml: disk.capacity: \"big\" is no size",
        "FAILED  settings: NARWHARF_LOG__LEVEL: log.level: \"loud\" is no log level",
    ] {
        assert!(told.out.contains(line), "{line:?} in\n{}", told.out);
    }
    assert!(!told.out.contains("hunter2") && !told.err.contains("hunter2"));
}

#[test]
fn check_begins_with_the_settings() {
    let told = Desk::new().run(&["check"], &[]);
    assert_eq!(
        told.out.lines().next(),
        Some("ok      settings: valid"),
        "{}",
        told.err
    );
}

#[test]
fn files_win_in_their_order_before_and_after_the_command_and_the_environment_over_them() {
    let desk = Desk::new();
    for name in ["10", "20", "30"] {
        desk.write(name, &format!("[cache]\npriority = {name}"));
    }
    let priority = |args: &[&str], env: &[(&str, &str)]| {
        let told = desk.run(args, env);
        assert_eq!(told.code, Some(0), "{}", told.err);
        let (_, rest) = told.out.split_once("?priority=").unwrap();
        rest.lines().next().unwrap().to_owned()
    };
    assert_eq!(priority(&["nix-conf"], &[]), "40");
    assert_eq!(
        priority(&["--config", "10", "nix-conf", "--config", "20"], &[]),
        "20"
    );
    assert_eq!(
        priority(&["nix-conf", "--config", "30", "--config", "10"], &[]),
        "10"
    );
    assert_eq!(priority(&["--config", "30", "nix-conf"], &[]), "30");
    let env = [("NARWHARF_CACHE__PRIORITY", "50")];
    assert_eq!(priority(&["nix-conf", "--config", "30"], &env), "50");
}

#[test]
fn token_prints_a_token_and_its_hash_a_line_each() {
    let told = Desk::new().run(&["token"], &[]);
    assert_eq!(told.code, Some(0));
    let [token, hash] = told.out.lines().collect::<Vec<_>>()[..] else {
        panic!("two lines, not\n{}", told.out);
    };
    let expected: String = Sha256::digest(token)
        .iter()
        .map(|b| format!("{b:02x}"))
        .collect();
    assert_eq!(hash, expected);
    assert!(told.err.contains(&format!("sha256 = \"{hash}\"")));
    assert!(
        !told.err.contains(token),
        "the token stands on standard output alone"
    );
}

/// What `narwharf token` prints for the settings file is taken there.
#[test]
fn the_tokens_lines_can_be_pasted_into_a_settings_file() {
    let desk = Desk::new();
    let told = desk.run(&["token"], &[]);
    desk.write("a.toml", &told.err);
    assert_eq!(
        desk.run(&["nix-conf", "--config", "a.toml"], &[]).code,
        Some(0)
    );
}
