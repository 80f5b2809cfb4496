//! What all workloads share: the options, the bucket, the caches before it, and the results so far.

use std::io;
use std::path::Path;
use std::thread;
use std::time::Duration;

use tempfile::TempDir;

use crate::bucket::{Bucket, Distance};
use crate::load::{self, Ask, Window};
use crate::report::table;
use crate::results::Case;
use crate::servers::{Server, Who};

/// Between two stretches of load, so that one server's closing of connections is not the next one's.
const PAUSE: Duration = Duration::from_millis(50);

/// How thorough a run is.
#[derive(Clone)]
pub struct Options {
    pub rounds: usize,
    pub window: Window,
    /// The bucket, where a workload reaches it.
    pub distance: Distance,
    /// Everything made tiny: whether the harness works, not what anything costs.
    pub small: bool,
    /// Who is measured.
    pub caches: Vec<Who>,
}

pub struct Bench {
    pub options: Options,
    pub bucket: Bucket,
    pub cases: Vec<Case>,
    caches: Vec<Server>,
    // Last, for the servers write into it.
    folder: TempDir,
}

impl Bench {
    pub fn new(options: Options) -> io::Result<Self> {
        Ok(Self {
            options,
            bucket: Bucket::start()?,
            cases: Vec::new(),
            caches: Vec::new(),
            folder: tempfile::Builder::new()
                .prefix("narwharf-bench-")
                .tempdir()?,
        })
    }

    pub fn folder(&self) -> &Path {
        self.folder.path()
    }

    /// A number, or a smaller one where only the harness is tried.
    pub fn sized<T>(&self, full: T, small: T) -> T {
        if self.options.small { small } else { full }
    }

    /// Caches that all workloads use, one of each kind.
    pub fn start_caches(&mut self) -> io::Result<()> {
        if self.caches.is_empty() {
            self.caches = self.fresh()?;
        }
        Ok(())
    }

    pub fn caches(&self) -> &[Server] {
        &self.caches
    }

    /// Caches that have seen nothing yet.
    pub fn fresh(&self) -> io::Result<Vec<Server>> {
        let all = self.options.caches.iter();
        all.map(|who| Server::start(*who, &self.bucket, self.folder()))
            .collect()
    }

    pub fn origin(&self) -> io::Result<Server> {
        Server::start(Who::Origin, &self.bucket, self.folder())
    }

    /// Rounds of endless load in which everybody has their turn, beginning with another each time.
    /// What is asked for is there already, and the bucket is not to hear of it.
    pub fn measure_warm(
        &self,
        mut case: Case,
        connections: usize,
        subjects: &[(&Server, Vec<Ask>)],
    ) -> io::Result<Case> {
        let before = self.bucket.reads();
        for round in 0..self.options.rounds {
            for turn in 0..subjects.len() {
                let (server, asks) = &subjects[(round + turn) % subjects.len()];
                let measured = load::endless(
                    server.address,
                    connections,
                    asks,
                    self.options.window,
                    || server.cpu(),
                )
                .map_err(|error| of(server, &error))?;
                case.enter_load(server.who, &measured);
                thread::sleep(PAUSE);
            }
        }
        match self.bucket.reads() - before {
            0 => Ok(case),
            reads => Err(io::Error::other(format!(
                "{reads} reads of the bucket while everything was warm"
            ))),
        }
    }

    /// Shows a case and keeps it.
    pub fn done(&mut self, case: Case) {
        print!("{}", table::of(&case));
        self.cases.push(case);
    }
}

/// Says whose trouble it is.
pub fn of(server: &Server, error: &io::Error) -> io::Error {
    io::Error::other(format!("{}: {error}", server.who.name()))
}
