//! The bucket behind everybody: r2sim in this process, its line as slow as one likes.

use std::io::{self, Read};
use std::net::SocketAddr;
use std::time::Duration;

use crate::r2sim::{Attributes, Credentials, Operation, Options, R2Sim};

/// How far away the bucket is.
#[derive(Clone, Copy)]
pub struct Distance {
    pub round_trip: Duration,
    /// Bytes a second for each connection; `None`: as fast as it goes.
    pub bandwidth: Option<u64>,
}

impl Distance {
    pub const NONE: Self = Self {
        round_trip: Duration::ZERO,
        bandwidth: None,
    };
}

pub struct Bucket(R2Sim);

impl Bucket {
    pub fn start() -> io::Result<Self> {
        let options = Options {
            // nginx and Varnish cannot sign.
            public_reads: true,
            ..Options::default()
        };
        Ok(Self(R2Sim::with(options)?))
    }

    pub fn endpoint(&self) -> String {
        self.0.endpoint()
    }

    pub fn address(&self) -> SocketAddr {
        let endpoint = self.0.endpoint();
        let address = endpoint
            .strip_prefix("http://")
            .and_then(|rest| rest.parse().ok());
        address.expect("r2sim listens on an address and speaks HTTP")
    }

    pub fn name(&self) -> &str {
        self.0.bucket()
    }

    pub fn credentials(&self) -> &Credentials {
        self.0.credentials()
    }

    pub fn set_distance(&self, distance: Distance) {
        self.0.line().set_round_trip(distance.round_trip);
        self.0.line().set_bandwidth(distance.bandwidth);
    }

    pub fn put(&self, key: &str, body: impl Read, content_type: &str) {
        let attributes = Attributes {
            content_type: Some(content_type.to_owned()),
            ..Attributes::default()
        };
        self.0.put_reader(key, body, attributes);
    }

    pub fn remove(&self, key: &str) {
        self.0.remove(key);
    }

    /// NARs and documents asked for so far. narwharf's own looks at whether the bucket lives are none.
    pub fn reads(&self) -> usize {
        let log = self.0.log();
        log.requests_of(Operation::GetObject) - log.reads("nix-cache-info")
    }
}
