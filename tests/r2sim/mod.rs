//! r2sim: Cloudflare R2 on one's own machine, with its rules and with any fault one asks for.
//!
//! The S3 server of all tests, benches and people: `R2Sim::start()` in a test,
//! `cargo run --example r2sim` by hand. Bodies lie in files and stream both ways, so big objects do
//! not fill memory. It runs on threads of its own and can be used from any runtime or from none.
//!
//! ```text
//! server ─▶ conn ─▶ serve ─▶ rules ─▶ api ─────────▶ store
//!            wire   log, line, faults, bodies    multipart ─▶ uploads
//!                                                misread, conditions, listing
//! ```

// Each test binary and bench that includes this tree uses a part of it.
#![allow(dead_code)]

mod api;
mod bodies;
mod conditions;
mod conn;
mod faults;
mod line;
mod listing;
mod log;
mod misread;
mod multipart;
mod operation;
mod rules;
mod serve;
mod server;
mod store;
mod uploads;

use std::io::{self, Read};
use std::net::{Ipv4Addr, SocketAddr};
use std::path::PathBuf;
use std::sync::Arc;

use tokio::runtime::{Builder, Runtime};

use self::{api::Api, faults::Faults, server::Server, store::Store, uploads::Uploads};

#[allow(unused_imports)]
pub use self::{
    faults::{Fault, FaultGuard, Rule},
    line::Line,
    log::{End, Entry, Log},
    operation::{Asked, Operation},
    rules::Credentials,
    store::{Attributes, ObjectMeta},
    uploads::{MIN_PART, OpenUpload},
};

/// What may be said of a server before it starts.
pub struct Options {
    /// Port 0: a free one.
    pub listen: SocketAddr,
    pub bucket: String,
    pub credentials: Credentials,
    /// Keeps the objects here; without it they go with the server.
    pub data: Option<PathBuf>,
    /// R2's one write a second for each key.
    pub limit_writes: bool,
    /// Objects may be read without a signature, as from a bucket with a public address.
    pub public_reads: bool,
}

impl Default for Options {
    fn default() -> Self {
        Self {
            listen: (Ipv4Addr::LOCALHOST, 0).into(),
            bucket: "nix".to_owned(),
            credentials: Credentials {
                access_key_id: "r2sim-access-key".to_owned(),
                secret_access_key: "r2sim-secret-key".to_owned(),
            },
            data: None,
            limit_writes: false,
            public_reads: false,
        }
    }
}

/// A running server with one bucket. Dropped, it takes its connections and its scratch files along.
pub struct R2Sim {
    bucket: String,
    credentials: Credentials,
    server: Server,
    store: Arc<Store>,
    uploads: Arc<Uploads>,
    faults: Arc<Faults>,
    log: Arc<Log>,
    line: Arc<Line>,
    runtime: Option<Runtime>,
}

impl R2Sim {
    /// A server on a free port, with an empty bucket. Panics if the machine cannot give even that.
    pub fn start() -> Self {
        Self::with(Options::default()).expect("r2sim starts on a free port and a scratch directory")
    }

    /// Errors: the address is taken, or the data directory cannot be used.
    pub fn with(options: Options) -> io::Result<Self> {
        let store = Arc::new(match &options.data {
            Some(dir) => Store::kept(dir)?,
            None => Store::scratch()?,
        });
        let uploads = Arc::new(Uploads::default());
        let (faults, log, line) = (Arc::default(), Arc::default(), Arc::default());
        let api = Api {
            bucket: options.bucket.clone(),
            store: store.clone(),
            uploads: uploads.clone(),
            limit: rules::WriteLimit::new(options.limit_writes),
        };
        let shared = Arc::new(serve::Shared {
            s3: rules::guarded(api, &options),
            store: store.clone(),
            faults: Arc::clone(&faults),
            log: Arc::clone(&log),
            line: Arc::clone(&line),
        });
        let runtime = Builder::new_multi_thread()
            .worker_threads(2)
            .thread_name("r2sim")
            .enable_all()
            .build()?;
        Ok(Self {
            server: Server::start(options.listen, shared, runtime.handle().clone())?,
            bucket: options.bucket,
            credentials: options.credentials,
            store,
            uploads,
            faults,
            log,
            line,
            runtime: Some(runtime),
        })
    }

    /// `http://address:port`, for path-style requests.
    pub fn endpoint(&self) -> String {
        format!("http://{}", self.server.address())
    }

    pub fn bucket(&self) -> &str {
        &self.bucket
    }

    pub fn credentials(&self) -> &Credentials {
        &self.credentials
    }

    /// What was asked so far.
    pub fn log(&self) -> &Log {
        &self.log
    }

    /// How slow the way to the clients is.
    pub fn line(&self) -> &Line {
        &self.line
    }

    /// Puts a rule in force for as long as the guard lives.
    pub fn fault(&self, rule: Rule) -> FaultGuard {
        self.faults.add(rule)
    }

    /// GETs of `key` are read but not answered until the guard's release.
    pub fn hold_first_byte(&self, key: &str) -> FaultGuard {
        self.hold_after(key, 0)
    }

    /// Lets so many bytes of an object through and then holds; after 0 not even the head has come.
    pub fn hold_after(&self, key: &str, bytes: usize) -> FaultGuard {
        let fault = match bytes {
            0 => Fault::HoldFirstByte,
            bytes => Fault::HoldAfter(bytes as u64),
        };
        self.fault(Rule::get(key).plays(fault))
    }

    /// See `Log::reads`.
    pub fn reads(&self, key: &str) -> usize {
        self.log.reads(key)
    }

    /// See `Log::until`.
    pub async fn until(&self, enough: impl Fn(&[Entry]) -> bool) {
        self.log.until(enough).await;
    }

    /// Breaks off every connection and has new ones refused; returns when that is so.
    pub fn stop_listening(&self) {
        self.server.go_down().expect("the port stays ours");
    }

    /// Takes connections again, on the same port.
    pub fn start_listening(&self) {
        self.server.come_up().expect("the port is still ours");
    }

    /// Makes an object without HTTP: no rule, no limit, no log entry. Replaces what was there.
    pub fn put_object(&self, key: &str, bytes: impl AsRef<[u8]>, content_type: &str) -> ObjectMeta {
        let attributes = Attributes {
            content_type: Some(content_type.to_owned()),
            ..Attributes::default()
        };
        self.put_reader(key, bytes.as_ref(), attributes)
    }

    /// The same from a reader and with all attributes, for bodies too big for memory.
    pub fn put_reader(&self, key: &str, body: impl Read, attributes: Attributes) -> ObjectMeta {
        let put = || -> io::Result<ObjectMeta> {
            let mut spool = self.store.spool()?;
            spool.copy_from(body)?;
            self.store.put(key, spool.finish(), attributes, |_| Ok(()))
        };
        put().unwrap_or_else(|error| panic!("{key} could not be stored: {error}"))
    }

    /// An object's bytes; `None`: there is none.
    pub fn object(&self, key: &str) -> Option<Vec<u8>> {
        let mut bytes = Vec::new();
        self.read_object(key, |piece| bytes.extend_from_slice(piece))
            .then_some(bytes)
    }

    /// Shows an object's bytes piece by piece, for bodies too big for memory. Tells whether there is one.
    pub fn read_object(&self, key: &str, mut see: impl FnMut(&[u8])) -> bool {
        let Some((body, meta)) = self.store.open(key) else {
            return false;
        };
        let mut read = || -> io::Result<()> {
            let mut buffer = vec![0; 256 * 1024];
            for piece in body.read(0, meta.len) {
                let mut piece = piece?;
                loop {
                    match piece.read(&mut buffer)? {
                        0 => break,
                        count => see(&buffer[..count]),
                    }
                }
            }
            Ok(())
        };
        read().unwrap_or_else(|error| panic!("{key} could not be read: {error}"));
        true
    }

    /// What a HEAD would tell; `None`: there is no such object.
    pub fn object_meta(&self, key: &str) -> Option<ObjectMeta> {
        self.store.meta(key)
    }

    /// Tells whether there was such an object.
    pub fn remove(&self, key: &str) -> bool {
        self.store
            .remove(key)
            .unwrap_or_else(|error| panic!("{key} could not be removed: {error}"))
    }

    /// All keys, in order.
    pub fn keys(&self) -> Vec<String> {
        let all = self.store.list("", "");
        all.into_iter().map(|(key, _)| key).collect()
    }

    /// Multipart uploads neither completed nor aborted.
    pub fn open_multipart_uploads(&self) -> Vec<OpenUpload> {
        self.uploads.open()
    }
}

impl Drop for R2Sim {
    fn drop(&mut self) {
        if let Err(error) = self.server.go_down() {
            tracing::warn!(%error, "the port could not be kept while going down");
        }
        if let Some(runtime) = self.runtime.take() {
            runtime.shutdown_background();
        }
    }
}
