//! A CI runner, as far as the composite actions in `actions/` can tell: it reads their `action.yml`,
//! runs their scripts with the inputs as it says, and carries over to the next step what they wrote.
//!
//! The scripts find no programs but those of [`PROGRAMS`], so that the list stays true; each is
//! a wrapper that notes its arguments and its environment, which are open to a look at `ps`.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::Stdio;

use crate::nix::Machine;

/// What the actions may lean on besides a shell. All but `nix` and `curl` are POSIX or as common.
const PROGRAMS: &[&str] = &[
    "cat",
    "chmod",
    "cmp",
    "cp",
    "curl",
    "grep",
    "head",
    "id",
    "mkdir",
    "mktemp",
    "mv",
    "nix",
    "nix-store",
    "rm",
    "sed",
    "sort",
    "tee",
    "tr",
    "wc",
    "xargs",
];

/// One job on a machine.
pub struct Job<'a> {
    machine: &'a Machine,
    /// The runner's folder: `temp/`, the wrappers in `bin/`, what they noted in `calls`.
    folder: PathBuf,
    env: BTreeMap<String, String>,
}

/// A step that has ended.
#[derive(Debug)]
pub struct Step {
    pub ok: bool,
    /// What people see of it: all that it printed, but for the lines that tell the runner a secret.
    pub log: String,
    /// The secrets it told the runner.
    pub masked: Vec<String>,
    /// What it set for the steps after it.
    pub exported: BTreeMap<String, String>,
    pub outputs: BTreeMap<String, String>,
    pub summary: String,
}

impl Step {
    /// All that people and later steps get to see of it.
    pub fn shown(&self) -> String {
        let Self {
            log,
            exported,
            outputs,
            summary,
            ..
        } = self;
        format!("{log}\n{exported:?}\n{outputs:?}\n{summary}\n")
    }
}

impl<'a> Job<'a> {
    pub fn on(machine: &'a Machine) -> Self {
        let folder = machine.folder.join("runner");
        fs::create_dir_all(folder.join("temp")).unwrap();
        let job = Self {
            machine,
            folder,
            env: BTreeMap::new(),
        };
        fs::create_dir(job.at("bin")).unwrap();
        for program in PROGRAMS {
            job.wrap(
                program,
                &format!("exec {} \"$@\"", which(program).display()),
            );
        }
        job
    }

    /// Sets a variable for all steps to come.
    pub fn set(&mut self, name: &str, value: &str) {
        self.env.insert(name.to_owned(), value.to_owned());
    }

    /// Makes `program` the line of shell `does`, and takes note of its calls.
    pub fn wrap(&self, program: &str, does: &str) {
        let calls = self.at("calls");
        let script = format!(
            "#!/bin/sh\n{{ echo \"{program} $*\"; export -p; }} >>'{}'\n{does}\n",
            calls.display()
        );
        let path = self.at("bin").join(program);
        fs::write(&path, script).unwrap();
        fs::set_permissions(&path, fs::Permissions::from_mode(0o755)).unwrap();
    }

    /// What all programs so far were called with, and their environments.
    pub fn calls(&self) -> String {
        fs::read_to_string(self.at("calls")).unwrap_or_default()
    }

    /// `uses: …/actions/NAME` with the inputs `with`; the others have their defaults.
    pub fn uses(&mut self, name: &str, with: &[(&str, &str)]) -> Step {
        let action = Action::read(name);
        let files = ["GITHUB_ENV", "GITHUB_OUTPUT", "GITHUB_STEP_SUMMARY"];
        let mut command = self.machine.command(&[action.script.display().to_string()]);
        for file in files {
            fs::write(self.at(file), "").unwrap();
            command.env(file, self.at(file));
        }
        let output = command
            .env("GITHUB_ACTIONS", "true")
            .env("RUNNER_TEMP", self.at("temp"))
            .env("PATH", self.at("bin"))
            .envs(&self.env)
            .envs(action.environment(with))
            .stdin(Stdio::null())
            .output()
            .unwrap();
        let [exported, outputs, summary] =
            files.map(|file| fs::read_to_string(self.at(file)).unwrap());
        let exported = variables(&exported);
        self.env.extend(exported.clone());
        let said = [output.stdout, output.stderr].concat();
        let said = String::from_utf8(said).unwrap();
        let secret = |line: &str| line.strip_prefix("::add-mask::").map(str::to_owned);
        Step {
            ok: output.status.success(),
            log: said
                .lines()
                .filter(|l| secret(l).is_none())
                .collect::<Vec<_>>()
                .join("\n"),
            masked: said.lines().filter_map(secret).collect(),
            exported,
            outputs: variables(&outputs),
            summary,
        }
    }

    /// A command in a step of its own, which has to succeed.
    #[track_caller]
    pub fn run(&self, words: &[&str]) -> String {
        let output = self
            .machine
            .command(words)
            .envs(&self.env)
            .output()
            .unwrap();
        let said = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success(), "{words:?}: {said}");
        String::from_utf8(output.stdout).unwrap()
    }

    /// Every file that the steps left behind in the runner's temporary folder, and when it was written.
    pub fn left_behind(&self) -> BTreeMap<PathBuf, (Vec<u8>, std::time::SystemTime)> {
        let mut found = BTreeMap::new();
        let mut folders = vec![self.at("temp")];
        while let Some(folder) = folders.pop() {
            for entry in fs::read_dir(folder).unwrap() {
                let path = entry.unwrap().path();
                if path.is_dir() {
                    folders.push(path);
                } else {
                    let written = fs::metadata(&path).unwrap().modified().unwrap();
                    found.insert(path.clone(), (fs::read(&path).unwrap(), written));
                }
            }
        }
        found
    }

    fn at(&self, name: &str) -> PathBuf {
        self.folder.join(name)
    }
}

/// What an `action.yml` says, as far as it is about calling the script.
struct Action {
    script: PathBuf,
    /// Input by name, with its default.
    inputs: BTreeMap<String, String>,
    /// Variable by name, with the input that it is given.
    env: BTreeMap<String, String>,
}

impl Action {
    /// Reads as much of YAML as our files use: two blanks a level, plain values, lines folded by `>-`.
    fn read(name: &str) -> Self {
        let folder = Path::new(env!("CARGO_MANIFEST_DIR"))
            .join("actions")
            .join(name);
        let text = fs::read_to_string(folder.join("action.yml")).unwrap();
        let (mut inputs, mut env) = (BTreeMap::new(), BTreeMap::new());
        let (mut script, mut section, mut input) = (None, "", "");
        for line in text.lines() {
            let indent = line.len() - line.trim_start().len();
            let Some((key, value)) = line.trim().split_once(':') else {
                continue;
            };
            let value = value.trim().trim_matches(['"', '\'']);
            match (indent, section, key) {
                (0, ..) => section = key,
                (2, "inputs", _) => {
                    input = key;
                    inputs.insert(key.to_owned(), String::new());
                }
                (4, "inputs", "default") => {
                    inputs.insert(input.to_owned(), value.to_owned());
                }
                (6, "runs", "run") => {
                    let path = value.trim_matches('"');
                    script = path
                        .strip_prefix("$GITHUB_ACTION_PATH/")
                        .map(|it| folder.join(it));
                }
                (8, "runs", _) => {
                    let given = value.strip_prefix("${{ inputs.");
                    let given = given.and_then(|it| it.strip_suffix(" }}")).unwrap();
                    env.insert(key.to_owned(), given.to_owned());
                }
                _ => {}
            }
        }
        let script = script.expect("a script beside action.yml");
        let used: BTreeSet<_> = env.values().collect();
        assert_eq!(
            used,
            inputs.keys().collect(),
            "{name}: inputs and what is made of them"
        );
        Self {
            script,
            inputs,
            env,
        }
    }

    fn environment(&self, with: &[(&str, &str)]) -> BTreeMap<String, String> {
        let mut inputs = self.inputs.clone();
        for (input, value) in with {
            let known = inputs.insert((*input).to_owned(), (*value).to_owned());
            assert!(known.is_some(), "no input {input}");
        }
        let value = |(name, input): (&String, &String)| (name.clone(), inputs[input].clone());
        self.env.iter().map(value).collect()
    }
}

/// `NAME=VALUE` and `NAME<<END`, several lines, `END`, as in GITHUB_ENV and GITHUB_OUTPUT.
fn variables(text: &str) -> BTreeMap<String, String> {
    let mut found = BTreeMap::new();
    let mut lines = text.lines();
    while let Some(line) = lines.next() {
        let (name, value) = match line.split_once("<<") {
            Some((name, end)) => {
                let block: Vec<_> = lines.by_ref().take_while(|line| *line != end).collect();
                (name, block.join("\n"))
            }
            None => {
                let (name, value) = line.split_once('=').unwrap();
                (name, value.to_owned())
            }
        };
        found.insert(name.to_owned(), value);
    }
    found
}

fn which(program: &str) -> PathBuf {
    let path = std::env::var_os("PATH").unwrap_or_default();
    std::env::split_paths(&path)
        .map(|folder| folder.join(program))
        .find(|file| file.is_file())
        .unwrap_or_else(|| panic!("{program} is not here (tests/prepare installs what is rare)"))
}
