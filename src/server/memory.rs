//! What memory is bounded by: a formula, told at start.
//!
//! It is the worst that clients can do all together, and far above what is used: only a client that
//! stalls amid a body costs its share, and no gateway has all of them stalled at once.

use bytesize::ByteSize;

use crate::config::Config;
use crate::gateway::{PASS_WINDOW, upload};
use crate::log;
use crate::tier::disk;
use crate::tier::memory::NARS_AT_MOST;

/// Of a client that has stopped reading amid a body which the kernel cannot be handed: actix's
/// buffer, the chunk behind it and the socket's own books.
const STALLED: u64 = 72 << 10;

/// Of a request to the bucket: chunks between the network and a file.
const CHUNKS: u64 = 1 << 20;

/// The bound's parts.
struct Bound {
    /// Kept documents, absences and NARs, and the database's pages.
    caches: u64,
    /// Clients, all of them stalled.
    connections: u64,
    /// Requests to the bucket, each of them with a body that passes.
    requests: u64,
    uploads: u64,
    /// What the database has yet to learn.
    unwritten: u64,
    log: u64,
}

impl Bound {
    fn of(config: &Config) -> Self {
        let connections = (config.server.workers * config.server.max_connections) as u64;
        let requests = config.bucket.max_requests.get() as u64;
        Self {
            caches: config.memory.documents
                + config.memory.negative
                + config.memory.nars.saturating_mul(NARS_AT_MOST)
                + config.disk.index_cache,
            connections: connections * STALLED,
            requests: requests * (CHUNKS + PASS_WINDOW),
            uploads: upload::MEMORY,
            unwritten: disk::UNWRITTEN,
            log: log::MEMORY,
        }
    }

    fn sum(&self) -> u64 {
        self.caches + self.connections + self.requests + self.uploads + self.unwritten + self.log
    }
}

/// Writes the formula into the log.
pub fn tell(config: &Config) {
    let bound = Bound::of(config);
    tracing::info!(
        at_most = %ByteSize(bound.sum()),
        caches = %ByteSize(bound.caches),
        connections = %ByteSize(bound.connections),
        bucket_requests = %ByteSize(bound.requests),
        uploads = %ByteSize(bound.uploads),
        index = %ByteSize(bound.unwritten),
        log = %ByteSize(bound.log),
        "memory is bounded by the sum of these; server.max_connections and bucket.max_requests are the largest"
    );
}
