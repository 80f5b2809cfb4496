//! A bucket that breaks in the middle of a NAR, under the real client.

use crate::bucket::{Bucket, files_below};
use crate::closure::Closure;
use crate::gateway::Gateway;
use crate::nix::Machine;
use crate::r2sim::{Entry, Fault, R2Sim, Rule};
use crate::world::World;

const LEN: usize = 24 * 1024 * 1024;
const HALF: u64 = LEN as u64 / 2;

/// A closure of one large path that only the bucket holds, and a machine that wants it.
struct Cold {
    world: World,
    bucket: Bucket,
    nar: String,
    machine: Machine,
}

impl Cold {
    fn new() -> Self {
        let world = World::with(Closure::flat(1, "image", |_| LEN));
        let folder = world.at("truth");
        let cache = format!("file://{}?compression=none", folder.display());
        let copy = ["nix", "copy", "--to", &cache, world.closure.top()];
        world.maker.run(&copy);
        let bucket = Bucket::R2(Box::new(R2Sim::start()));
        let mut nar = String::new();
        for (key, bytes) in files_below(&folder) {
            bucket.publish(&key, &bytes);
            if key.starts_with("nar/") {
                nar = key;
            }
        }
        let machine = world.machine("machine");
        Self {
            world,
            bucket,
            nar,
            machine,
        }
    }

    fn sim(&self) -> &R2Sim {
        match &self.bucket {
            Bucket::R2(sim) => sim,
            Bucket::Directory(_) => unreachable!("made as a simulated one"),
        }
    }

    /// What the bucket was asked for the NAR.
    fn reads(&self) -> Vec<Entry> {
        let mut entries = self.sim().log().entries();
        entries.retain(|entry| entry.asked.key == self.nar);
        entries
    }
}

/// The gateway goes on where the bucket broke off, and the client hears nothing of it.
#[test]
fn a_cut_is_not_noticed_by_the_client() {
    let cold = Cold::new();
    let cuts = Rule::get(&cold.nar).times(3);
    let _cuts = cold.sim().fault(cuts.plays(Fault::CutAfter(HALF / 3)));
    let gateway = Gateway::start(&cold.world.at("gateway"), &cold.bucket);
    let top = cold.world.closure.top();
    cold.machine
        .run(&["nix", "copy", "--from", &gateway.url(), top]);
    cold.world.assert_copied_to(&cold.machine);
    assert_eq!(cold.reads().len(), 4);
}

/// When the gateway itself has given up and cut the client short, the client comes back for the rest.
#[test]
fn a_download_that_was_cut_short_is_resumed() {
    let cold = Cold::new();
    let nar = || Rule::get(&cold.nar);
    let cut = nar().ranged(false).times(1);
    let _cut = cold.sim().fault(cut.plays(Fault::CutAfter(HALF)));
    // The three tries to go on
    let gone = nar().ranged(true).times(3);
    let _gone = cold.sim().fault(gone.plays(Fault::Reset));
    let gateway = Gateway::start(&cold.world.at("gateway"), &cold.bucket);
    let top = cold.world.closure.top();
    let url = gateway.url();
    let said = cold
        .machine
        .complains(&["nix", "copy", "--from", &url, top]);
    assert!(said.contains("retrying from offset"), "{said}");
    cold.world.assert_copied_to(&cold.machine);
    let asked: Vec<bool> = cold
        .reads()
        .iter()
        .map(|entry| entry.asked.range.is_some())
        .collect();
    // One fill that broke, its three tries, and the fill that the client's range began
    assert_eq!(asked, [false, true, true, true, false]);
}
