//! narwharf as its user starts it: the built binary in a folder of its own, spoken to by signals,
//! settings in the environment, and what it prints.

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::io::{BufRead, BufReader};
use std::net::SocketAddr;
use std::os::unix::process::ExitStatusExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::mpsc::{self, Receiver};
use std::thread;
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, kill_process};

use crate::bucket::Bucket;
use crate::raw;

/// Longest wait for a line that must be printed, or for an exit.
const PATIENCE: Duration = Duration::from_secs(30);

/// One setting: the environment variable without `NARWHARF_`, and its value.
pub type Setting = (&'static str, String);

/// The upload token of every gateway that was not started bare.
pub const TOKEN: &str = "an-upload-token";

/// A running gateway. Dropped, it is killed.
pub struct Gateway {
    child: Child,
    address: SocketAddr,
    lines: Receiver<String>,
    printed: Vec<String>,
    log: PathBuf,
}

impl Gateway {
    /// Starts `narwharf` in `folder`, its working directory, in front of `bucket`, with [`TOKEN`].
    pub fn start(folder: &Path, bucket: &Bucket) -> Self {
        Self::start_with(folder, bucket, &[])
    }

    /// Like [`Gateway::start`], with settings besides.
    pub fn start_with(folder: &Path, bucket: &Bucket, more: &[Setting]) -> Self {
        let mut settings = bucket.settings();
        settings.push(("AUTH__UPLOAD_TOKEN", TOKEN.to_owned()));
        settings.extend_from_slice(more);
        Self::spawn(folder, &settings)
    }

    /// Starts it as who has just built it does, with nothing set (but a free port of 127.0.0.1).
    pub fn start_bare(folder: &Path) -> Self {
        Self::spawn(folder, &[])
    }

    /// Answers once it has said where it listens.
    fn spawn(folder: &Path, settings: &[Setting]) -> Self {
        fs::create_dir_all(folder).unwrap();
        let log = folder.join("narwharf.log");
        let mut child = Command::new(env!("CARGO_BIN_EXE_narwharf"))
            .current_dir(folder)
            .env_clear()
            .env("NARWHARF_SERVER__LISTEN", "127.0.0.1:0")
            .envs(
                settings
                    .iter()
                    .map(|(name, value)| (format!("NARWHARF_{name}"), value)),
            )
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(
                File::options()
                    .create(true)
                    .append(true)
                    .open(&log)
                    .unwrap(),
            )
            .spawn()
            .unwrap();
        let stdout = BufReader::new(child.stdout.take().unwrap());
        let (line, lines) = mpsc::channel();
        // Reads on to the end even when nobody listens, so that the gateway never meets a full pipe.
        thread::spawn(move || {
            stdout
                .lines()
                .map_while(Result::ok)
                .for_each(|l| drop(line.send(l)))
        });
        let nowhere = SocketAddr::from(([0, 0, 0, 0], 0));
        let mut gateway = Self {
            child,
            address: nowhere,
            lines,
            printed: Vec::new(),
            log,
        };
        let line = gateway.prints("http://127.0.0.1:");
        let (_, after) = line.split_once("http://").unwrap();
        let end = after.find(|c: char| !c.is_ascii_digit() && !".:".contains(c));
        gateway.address = after[..end.unwrap_or(after.len())].parse().unwrap();
        gateway
    }

    /// The next line of the standard output, also among those read already, that has `words` in it.
    #[track_caller]
    pub fn prints(&mut self, words: &str) -> String {
        if let Some(line) = self.printed.iter().find(|line| line.contains(words)) {
            return line.clone();
        }
        let deadline = Instant::now() + PATIENCE;
        while let Ok(line) = self
            .lines
            .recv_timeout(deadline.saturating_duration_since(Instant::now()))
        {
            self.printed.push(line.clone());
            if line.contains(words) {
                return line;
            }
        }
        panic!(
            "narwharf never printed {words:?}, only {:#?}\n{}",
            self.printed,
            self.log()
        );
    }

    pub fn address(&self) -> SocketAddr {
        self.address
    }

    pub fn url(&self) -> String {
        format!("http://{}", self.address)
    }

    /// How many requests with this method had which status, as it counts them itself.
    pub fn answers_to(&self, method: &str) -> BTreeMap<String, u64> {
        let mut page = Vec::new();
        raw::get(self.address, "/metrics", |piece| {
            page.extend_from_slice(piece)
        })
        .unwrap();
        let page = String::from_utf8(page).unwrap();
        let series = page
            .lines()
            .filter(|line| line.starts_with("narwharf_http_requests_total{"))
            .filter(|line| line.contains(&format!("method=\"{method}\"")));
        let mut answers = BTreeMap::new();
        for line in series {
            let (labels, count) = line.rsplit_once("} ").unwrap();
            let status = labels.split("status=\"").nth(1).unwrap();
            let status = status.split('"').next().unwrap().to_owned();
            *answers.entry(status).or_default() += count.parse::<u64>().unwrap();
        }
        answers.retain(|_, count| *count > 0);
        answers
    }

    /// The most of the machine's memory that it has had at any one time, in bytes.
    pub fn peak_memory(&self) -> u64 {
        let status = fs::read_to_string(format!("/proc/{}/status", self.child.id())).unwrap();
        let peak = status.lines().find_map(|line| line.strip_prefix("VmHWM:"));
        let kib = peak.unwrap().trim().strip_suffix(" kB").unwrap();
        kib.parse::<u64>().unwrap() * 1024
    }

    /// SIGKILL, as the kernel's memory killer sends it.
    pub fn kill(mut self) {
        self.child.kill().unwrap();
        let status = self.child.wait().unwrap();
        assert_eq!(
            status.signal(),
            Some(9),
            "it ended before it was killed: {status}\n{}",
            self.log()
        );
    }

    /// SIGTERM, as systemd sends it; answers how it ended.
    pub fn terminate(mut self) -> ExitStatus {
        let pid = Pid::from_child(&self.child);
        kill_process(pid, Signal::TERM).unwrap();
        // The pipe closes with the process: that wait is bounded, the next one then short.
        let deadline = Instant::now() + PATIENCE;
        while let Err(mpsc::RecvTimeoutError::Timeout) | Ok(_) = self
            .lines
            .recv_timeout(deadline.saturating_duration_since(Instant::now()))
        {
            assert!(
                Instant::now() < deadline,
                "SIGTERM did not end it\n{}",
                self.log()
            );
        }
        self.child.wait().unwrap()
    }

    fn log(&self) -> String {
        fs::read_to_string(&self.log).unwrap_or_default()
    }
}

impl Drop for Gateway {
    fn drop(&mut self) {
        let ended = self.child.try_wait().ok().flatten();
        if thread::panicking() {
            eprintln!("narwharf (ended: {ended:?}) said:\n{}", self.log());
        }
        if ended.is_none() {
            drop(self.child.kill());
            drop(self.child.wait());
        }
    }
}
