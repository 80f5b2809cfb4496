//! Who is measured: narwharf, and what else could stand in its place, each in a folder of its own
//! before the same bucket.

pub mod bare;
mod narwharf;
mod nginx;
mod varnish;

use std::io;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::Command;

use serde::Serialize;
use tempfile::TempDir;

use crate::bucket::Bucket;
use crate::load::Ask;
use crate::process::{Process, free_address};

pub use narwharf::{Settings, TOKEN};

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Who {
    Narwharf,
    Nginx,
    /// The same without tuning, where the difference is large: hits that are small.
    #[serde(rename = "nginx-packaged")]
    NginxPackaged,
    Varnish,
    /// An actix handler that gives the same bytes and headers and nothing else: the floor.
    Bare,
    /// The bucket itself, without anything before it.
    Origin,
}

impl Who {
    pub fn name(self) -> &'static str {
        match self {
            Self::Narwharf => "narwharf",
            Self::Nginx => "nginx",
            Self::NginxPackaged => "nginx, packaged",
            Self::Varnish => "varnish",
            Self::Bare => "bare actix",
            Self::Origin => "origin",
        }
    }

    /// Which of the caches can be started here.
    pub fn caches() -> Vec<Self> {
        let installed = [
            (Self::Narwharf, true),
            (Self::Nginx, program("nginx").is_some()),
            (Self::Varnish, program("varnishd").is_some()),
        ];
        installed
            .into_iter()
            .filter_map(|(who, is)| is.then_some(who))
            .collect()
    }
}

/// A running one.
pub struct Server {
    pub who: Who,
    pub address: SocketAddr,
    /// Before every key, in its paths.
    prefix: String,
    process: Option<Process>,
    folder: Option<TempDir>,
}

impl Server {
    /// A cache with nothing in it yet.
    pub fn start(who: Who, bucket: &Bucket, parent: &Path) -> io::Result<Self> {
        match who {
            Who::Narwharf => Self::narwharf(bucket, parent, &Settings::default()),
            Who::Nginx => Self::spawn(who, parent, |folder, address| {
                nginx::command(bucket, folder, address, nginx::Setup::Tuned)
            }),
            Who::NginxPackaged => Self::spawn(who, parent, |folder, address| {
                nginx::command(bucket, folder, address, nginx::Setup::Packaged)
            }),
            Who::Varnish => Self::spawn(who, parent, |folder, address| {
                varnish::command(bucket, folder, address)
            }),
            Who::Bare => Err(io::Error::other("needs an answer to give")),
            Who::Origin => Ok(Self {
                who,
                address: bucket.address(),
                prefix: format!("{}/", bucket.name()),
                process: None,
                folder: None,
            }),
        }
    }

    pub fn narwharf(bucket: &Bucket, parent: &Path, settings: &Settings) -> io::Result<Self> {
        Self::spawn(Who::Narwharf, parent, |folder, address| {
            Ok(narwharf::command(bucket, folder, address, settings))
        })
    }

    /// The floor for one answer.
    pub fn bare(parent: &Path, answer: &bare::Answer) -> io::Result<Self> {
        Self::spawn(Who::Bare, parent, |folder, address| {
            bare::command(folder, address, answer)
        })
    }

    fn spawn(
        who: Who,
        parent: &Path,
        command: impl FnOnce(&Path, SocketAddr) -> io::Result<Command>,
    ) -> io::Result<Self> {
        let folder = tempfile::Builder::new()
            .prefix("server-")
            .tempdir_in(parent)?;
        let address = free_address()?;
        let mut command = command(folder.path(), address)?;
        command.current_dir(folder.path());
        let process = Process::start(&mut command, &folder.path().join("said"), address)?;
        Ok(Self {
            who,
            address,
            prefix: String::new(),
            process: Some(process),
            folder: Some(folder),
        })
    }

    /// A GET as Nix's client sends it.
    pub fn get(&self, key: &str, status: u16, length: u64) -> Ask {
        self.ask(key, "", status, length)
    }

    /// The same with more header lines, each with its end.
    pub fn ask(&self, key: &str, lines: &str, status: u16, length: u64) -> Ask {
        let Self {
            address, prefix, ..
        } = self;
        let text = format!(
            "GET /{prefix}{key} HTTP/1.1\r\nHost: {address}\r\nUser-Agent: curl/8.14.1 Nix/2.31.2\r\n\
             Accept: */*\r\nAccept-Encoding: zstd,br,gzip,deflate\r\n{lines}\r\n"
        );
        Ask {
            bytes: text.into_bytes(),
            status,
            length,
        }
    }

    /// Seconds of processor time so far; the origin's is nobody's concern.
    pub fn cpu(&self) -> io::Result<f64> {
        self.process.as_ref().map_or(Ok(0.0), Process::cpu)
    }

    pub fn resident(&self) -> io::Result<u64> {
        self.process.as_ref().map_or(Ok(0), Process::resident)
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        // Before the folder it writes to.
        self.process.take();
        self.folder.take();
    }
}

/// Where a program lies. Debian keeps servers in `sbin`, which is not on everybody's path.
fn program(name: &str) -> Option<PathBuf> {
    let path = std::env::var_os("PATH").unwrap_or_default();
    let usual = [PathBuf::from("/usr/sbin"), PathBuf::from("/usr/local/sbin")];
    std::env::split_paths(&path)
        .chain(usual)
        .map(|folder| folder.join(name))
        .find(|file| file.is_file())
}

fn cores() -> usize {
    std::thread::available_parallelism().map_or(1, usize::from)
}
