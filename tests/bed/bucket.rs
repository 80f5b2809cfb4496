//! The bucket behind a bed: r2sim, and packages put into it without the gateway's knowledge.

use std::ops::Deref;

use super::package::{Built, Package};
use super::r2sim::{Entry, R2Sim};

/// An r2sim of the bed's own; all that [`R2Sim`] offers is offered here.
pub struct Bucket(R2Sim);

impl Bucket {
    pub(super) fn start() -> Self {
        Self(R2Sim::start())
    }

    /// Puts a package's NAR and then its narinfo there, as an uploader past the gateway would.
    pub fn publish(&self, package: Package) -> Built {
        let built = package.build();
        self.put_object(&built.nar, &built.nar_bytes, "application/x-nix-nar");
        self.put_object(&built.narinfo, &built.narinfo_text, "text/x-nix-narinfo");
        built
    }

    /// Requests seen so far, of whatever kind, but for the gateway's own feeling of its pulse, which
    /// comes by the clock.
    pub fn requests(&self) -> usize {
        let entries = self.log().entries();
        let probe = |entry: &&Entry| entry.asked.key == "nix-cache-info";
        entries.iter().filter(|entry| !probe(entry)).count()
    }
}

impl Deref for Bucket {
    type Target = R2Sim;

    fn deref(&self) -> &R2Sim {
        &self.0
    }
}
