//! A farm of fifty machines wakes up to one cold NAR of 64 MiB.

use std::sync::mpsc;
use std::thread;
use std::time::Duration;

use crate::bucket::{Bucket, files_below};
use crate::closure::Closure;
use crate::gateway::Gateway;
use crate::r2sim::{Fault, R2Sim, Rule};
use crate::raw;
use crate::world::World;

const MACHINES: usize = 50;
const LEN: usize = 64 * 1024 * 1024;
const HALF: u64 = LEN as u64 / 2;

/// Longest wait for all first bytes.
const PATIENCE: Duration = Duration::from_secs(30);

#[test]
fn fifty_machines_read_a_cold_nar_while_it_comes_and_the_bucket_reads_it_once() {
    // Given a NAR that only the bucket has, which sends less than half of it before it is released
    let world = World::with(Closure::flat(1, "image", |_| LEN));
    let folder = world.at("truth");
    let cache = format!("file://{}?compression=none", folder.display());
    world
        .maker
        .run(&["nix", "copy", "--to", &cache, world.closure.top()]);
    let (key, nar) = files_below(&folder)
        .into_iter()
        .max_by_key(|(_, bytes)| bytes.len())
        .unwrap();
    let sim = R2Sim::start();
    sim.put_object(&key, &nar, "application/x-nix-nar");
    let held = sim.fault(Rule::get(&key).plays(Fault::HoldAfter(HALF - 1)));
    let bucket = Bucket::R2(Box::new(sim));
    let gateway = Gateway::start(&world.at("gateway"), &bucket);
    // When fifty clients ask for it
    let (at, path) = (gateway.address(), format!("/{key}"));
    let (first_byte, first_bytes) = mpsc::channel();
    thread::scope(|scope| {
        for _ in 0..MACHINES {
            let first_byte = first_byte.clone();
            scope.spawn(|| read_all(at, &path, &nar, first_byte));
        }
        // Then each has its first byte while the bucket still holds back the second half
        for count in 0..MACHINES {
            let came = first_bytes.recv_timeout(PATIENCE);
            assert!(
                came.is_ok(),
                "only {count} clients had a byte before the bucket's half"
            );
        }
        held.release();
        // And each, once that is released, all bytes (read_all says so)
    });
    // And it was read once
    let Bucket::R2(sim) = &bucket else {
        unreachable!()
    };
    assert_eq!(sim.reads(&key), 1);
}

/// Reads it to its end and compares each byte.
fn read_all(at: std::net::SocketAddr, path: &str, nar: &[u8], first_byte: mpsc::Sender<()>) {
    let mut read = 0;
    let answer = raw::get(at, path, |piece| {
        if read == 0 && !piece.is_empty() {
            first_byte.send(()).unwrap_or(());
        }
        assert!(nar[read..].starts_with(piece), "a wrong byte after {read}");
        read += piece.len();
    });
    let answer = answer.expect("an answer");
    assert!(
        answer.status == 200 && answer.is_whole() && read == nar.len(),
        "{answer:?}"
    );
}
