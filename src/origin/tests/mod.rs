//! The origin as its callers see it, against r2sim, a directory, and servers that are no S3.

#[path = "../../../tests/r2sim/mod.rs"]
mod r2sim;

mod check;
mod failures;
mod parts;
mod policies;
mod reads;
mod wire;
mod writes;

use std::num::NonZeroUsize;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;

use self::r2sim::R2Sim;
use super::*;
use crate::config::{Bucket as Settings, BucketKind};

const NAR: &str = "nar/1w1fff338fvdw53sqgamddn1b2xgds473pv6y13gizdbqjv4i5p3.nar.xz";
const NARINFO: &str = "syd87l2rxw8cbsxmxl853h0r6pdwhwjr.narinfo";

/// Long enough for any answer on a busy machine, short enough for a test that waits it out.
const PATIENT: Duration = Duration::from_secs(20);
const BRIEF: Duration = Duration::from_millis(300);

fn key(text: &str) -> ObjectKey {
    ObjectKey::from_stored(text).expect("a key of a cache")
}

/// Settings for a server at `endpoint`: patient, and without retries.
fn settings_for(endpoint: &str) -> Settings {
    Settings {
        kind: BucketKind::S3 {
            endpoint: endpoint.parse().unwrap(),
            name: "nix".to_owned(),
            region: "auto".to_owned(),
            prefix: String::new(),
            access_key_id: "r2sim-access-key".to_owned(),
            secret_access_key: "r2sim-secret-key".to_owned().into(),
        },
        max_requests: NonZeroUsize::new(8).unwrap(),
        connect_timeout: PATIENT,
        first_byte_timeout: PATIENT,
        idle_timeout: PATIENT,
        hold: Duration::ZERO,
        parallel_above: u64::MAX,
        parallel_parts: 1,
    }
}

/// An origin in front of an r2sim.
struct Bed {
    sim: R2Sim,
    origin: Origin,
    metrics: Arc<Metrics>,
    clock: Clock,
}

impl Bed {
    fn start() -> Self {
        Self::with(|_| {})
    }

    fn with(adjust: impl FnOnce(&mut Settings)) -> Self {
        let sim = R2Sim::start();
        let mut settings = settings_for(&sim.endpoint());
        adjust(&mut settings);
        let (metrics, clock) = (Arc::new(Metrics::new()), Clock::default());
        let origin = Origin::open(&settings, metrics.clone(), clock.clone()).unwrap();
        Self {
            sim,
            origin,
            metrics,
            clock,
        }
    }

    fn publish(&self, at: &str, len: usize) -> Vec<u8> {
        let bytes = patterned(len);
        self.sim.put_object(at, &bytes, "application/octet-stream");
        bytes
    }
}

fn patterned(len: usize) -> Vec<u8> {
    (0..len).map(|at| (at * 31 % 251) as u8).collect()
}

/// The whole of an answer's body.
async fn drain(mut stream: ObjectStream) -> Result<Vec<u8>, OriginError> {
    let mut all = Vec::new();
    while let Some(piece) = stream.chunk().await? {
        assert!(!piece.is_empty());
        all.extend_from_slice(&piece);
    }
    assert_eq!(stream.chunk().await, Ok(None), "the end stays the end");
    Ok(all)
}

fn stream(got: Lookup<Fetched, OriginError>) -> ObjectStream {
    match got {
        Lookup::Found(Fetched::Object(stream)) => stream,
        other => panic!("not an object but {other:?}"),
    }
}

/// The cause of not knowing.
fn cause<T: std::fmt::Debug>(got: Lookup<T, OriginError>) -> OriginError {
    match got {
        Lookup::Unknown(cause) => cause,
        other => panic!("known, and {other:?}"),
    }
}

fn bytes(text: &'static str) -> StoreBody {
    StoreBody::Bytes(Bytes::from_static(text.as_bytes()))
}
