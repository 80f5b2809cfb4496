//! `kill -9` in the midst of fills and uploads, fifty times: whatever becomes visible is whole.
//!
//! The oracle is the same cache written by Nix itself: every NAR and narinfo, byte for byte. The moment
//! of the kill is not a time but an amount, so many bytes of the two bodies under way, and it moves
//! from the first byte to the last over the cycles. An answer counts as much as the body before it:
//! so some kills fall between the two, and some right upon a success that must then be kept.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;
use std::sync::mpsc::{self, Receiver};
use std::thread;

use crate::bucket::{Bucket, files_below};
use crate::closure::Closure;
use crate::gateway::{Gateway, TOKEN};
use crate::r2sim::R2Sim;
use crate::raw::{self, Answer};
use crate::world::World;

const CYCLES: usize = 50;
const KIB: usize = 1024;

/// The disk tier behind a directory: fills and uploads run as fast as this machine can.
#[test]
fn fifty_kills_over_a_directory_leave_no_wrong_byte() {
    let world = world();
    let bucket = Bucket::Directory(world.at("bucket"));
    Ordeal::new(&world, bucket).endure();
}

/// R2 over a line so slow that most kills meet a fill and an upload half done.
#[test]
fn fifty_kills_over_r2_leave_no_wrong_byte() {
    const A_SLOW_LINE: u64 = 8 * 1024 * 1024;
    let world = world();
    let sim = R2Sim::start();
    sim.line().set_bandwidth(Some(A_SLOW_LINE));
    Ordeal::new(&world, Bucket::R2(Box::new(sim))).endure();
}

/// For each cycle one path to be read and one to be uploaded, of 64 KiB to 1 MiB.
fn world() -> World {
    World::with(Closure::flat(2 * CYCLES, "cargo", |index| {
        (64 + index * 67 % 960) * KIB
    }))
}

/// A path of the cache: what is stored for it, and where.
struct Item {
    path: String,
    narinfo: String,
    nar: String,
}

struct Ordeal<'a> {
    world: &'a World,
    bucket: Bucket,
    /// Everything as Nix writes it, by key.
    truth: BTreeMap<String, Vec<u8>>,
    /// Keys whose PUT was answered with success.
    promised: BTreeSet<String>,
    /// How many kills met a read under way, an upload under way, an upload answered.
    met: [usize; 3],
    /// In the bucket from the beginning, to be read.
    published: Vec<Item>,
    /// To be uploaded.
    uploads: Vec<Item>,
}

impl<'a> Ordeal<'a> {
    fn new(world: &'a World, bucket: Bucket) -> Self {
        let folder = world.at("truth");
        let cache = format!("file://{}?compression=none", folder.display());
        world
            .maker
            .run(&["nix", "copy", "--to", &cache, world.closure.top()]);
        let truth = files_below(&folder);
        let top = world.closure.top();
        let mut published: Vec<Item> = truth
            .iter()
            .filter(|(key, _)| key.ends_with(".narinfo"))
            .map(item_of)
            .filter(|item| item.path != top) // left for the end
            .collect();
        let uploads = published.split_off(CYCLES);
        for key in published.iter().flat_map(|item| [&item.nar, &item.narinfo]) {
            bucket.publish(key, &truth[key]);
        }
        Self {
            world,
            bucket,
            truth,
            promised: BTreeSet::new(),
            met: [0; 3],
            published,
            uploads,
        }
    }

    fn endure(mut self) {
        let folder = self.world.at("gateway");
        for cycle in 0..CYCLES {
            let gateway = Gateway::start(&folder, &self.bucket);
            self.kill_midway(gateway, cycle);
            self.assert_nothing_is_half_visible(&folder);
        }
        assert!(
            self.met.iter().all(|kills| *kills >= CYCLES / 10),
            "too few kills met what they are to disturb: {:?}",
            self.met
        );
        self.assert_all_is_well_afterwards(&folder);
    }

    /// One read and one upload at once, and the kill when `cycle`'s share of their bytes has passed.
    fn kill_midway(&mut self, gateway: Gateway, cycle: usize) {
        let (read, write) = (&self.published[cycle], &self.uploads[cycle]);
        let bytes = self.truth[&read.nar].len() + 2 * self.truth[&write.nar].len();
        let mortal = bytes * cycle / (CYCLES - 1);
        let (progress, passed) = mpsc::channel();
        let at = gateway.address();
        let truth = &self.truth;
        let (got, put) = thread::scope(|scope| {
            let tell = progress.clone();
            let got = scope.spawn(move || {
                let mut body = Vec::new();
                let answer = raw::get(at, &format!("/{}", read.nar), |piece| {
                    body.extend_from_slice(piece);
                    tell.send(piece.len()).unwrap_or(());
                });
                answer.map(|answer| (answer, body))
            });
            let put = scope.spawn(move || {
                let mut done = Vec::new();
                for key in [&write.nar, &write.narinfo] {
                    let body = &truth[key];
                    let tell = |count| progress.send(count).unwrap_or(());
                    match raw::put(at, &format!("/{key}"), TOKEN, body, tell) {
                        Some(answer) if is_success(&answer) => {
                            tell(body.len());
                            done.push(key.clone());
                        }
                        Some(answer) => panic!("PUT {key}: {answer:?}"),
                        None => break,
                    }
                }
                done
            });
            wait_until_passed(&passed, mortal);
            gateway.kill();
            (got.join().unwrap(), put.join().unwrap())
        });
        let reading = !got.as_ref().is_some_and(|(answer, _)| answer.is_whole());
        let met = [reading, put.len() < 2, !put.is_empty()];
        for (count, met) in self.met.iter_mut().zip(met) {
            *count += usize::from(met);
        }
        self.promised.extend(put);
        if let Some((answer, body)) = got {
            assert_eq!(answer.status, 200, "{}", read.nar);
            let truth = &truth[&read.nar];
            assert!(truth.starts_with(&body), "{}: a wrong byte", read.nar);
            assert!(
                !answer.is_whole() || body.len() == truth.len(),
                "{}: short",
                read.nar
            );
        }
    }

    /// What lies in the bucket and in the disk tier under a final name is what Nix would have written;
    /// what was promised is there; and no narinfo names a NAR that is not.
    fn assert_nothing_is_half_visible(&self, folder: &Path) {
        let objects = self.bucket.objects();
        for (key, bytes) in &objects {
            assert!(
                self.truth.get(key) == Some(bytes),
                "bucket: {key} is not what it should be"
            );
            if key.ends_with(".narinfo") {
                let nar = item_of((key, bytes)).nar;
                assert!(objects.contains_key(&nar), "bucket: {key} without {nar}");
            }
        }
        for key in &self.promised {
            assert!(
                objects.contains_key(key),
                "bucket: {key} was answered with success and is gone"
            );
        }
        for (file, bytes) in files_below(&folder.join("data/cache/nar")) {
            let (_, name) = file.split_once('/').expect("two letters, then the name");
            let truth = self.truth.get(&format!("nar/{name}"));
            assert!(
                truth == Some(&bytes),
                "disk: {file} is not what it should be"
            );
        }
    }

    /// The real client finds everything, and uploads what is left; nothing temporary stays behind.
    fn assert_all_is_well_afterwards(&self, folder: &Path) {
        let gateway = Gateway::start(folder, &self.bucket);
        self.world.upload(&gateway, "none");
        let machine = self.world.machine("survivor");
        machine.run(&[
            "nix",
            "copy",
            "--from",
            &gateway.url(),
            self.world.closure.top(),
        ]);
        self.world.assert_copied_to(&machine);
        let status = gateway.terminate();
        assert!(status.success(), "SIGTERM: {status}");
        self.assert_nothing_is_half_visible(folder);
        let litter = files_below(&folder.join("data/cache/tmp"));
        assert!(litter.is_empty(), "left in tmp/: {:?}", litter.keys());
    }
}

/// Returns when the amounts add up to `enough`, or when there is nobody left to add any.
fn wait_until_passed(passed: &Receiver<usize>, enough: usize) {
    let mut sum = 0;
    for count in passed {
        sum += count;
        if sum >= enough {
            break;
        }
    }
}

fn is_success(answer: &Answer) -> bool {
    matches!(answer.status, 200 | 201)
}

fn item_of((key, bytes): (&String, &Vec<u8>)) -> Item {
    let text = std::str::from_utf8(bytes).unwrap();
    let field = |name: &str| {
        let value = text.lines().find_map(|line| line.strip_prefix(name));
        value.unwrap().to_owned()
    };
    Item {
        path: field("StorePath: "),
        narinfo: key.clone(),
        nar: field("URL: "),
    }
}
