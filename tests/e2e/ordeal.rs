//! `kill -9` again and again under a mixed load, with a disk tier full of blobs: reads of what is
//! cached, reads of what is not, and uploads, all at once.
//!
//! Every object is noise named by its hash, so whatever lies anywhere can be judged by itself.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::mpsc;
use std::thread;
use std::time::{Duration, Instant};

use narwharf::nix::hash::Sha256Hash;
use tempfile::TempDir;

use crate::bucket::{Bucket, files_below};
use crate::closure::noise;
use crate::dice::Dice;
use crate::gateway::{Gateway, TOKEN};
use crate::raw;

/// Clients of each kind.
const READERS: usize = 4;
const FETCHERS: usize = 2;
const UPLOADERS: usize = 2;

/// Bytes of a blob that is there before, and of one that is fetched or uploaded under the load.
const SMALL: usize = 8 * 1024;
const LARGE: usize = 512 * 1024;

/// So many blobs are asked for after each start.
const SAMPLE: usize = 50;

/// A start is over when the gateway says that it is ready.
const READY_WITHIN: Duration = Duration::from_secs(2);

#[test]
fn a_few_kills_under_a_mixed_load_lose_nothing() {
    Ordeal::with_blobs(200).endure(5, Duration::MAX);
}

#[test]
#[ignore = "half an hour of kills (make soak)"]
fn five_hundred_kills_under_a_mixed_load_lose_nothing() {
    Ordeal::with_blobs(10_000).endure(500, READY_WITHIN);
}

struct Ordeal {
    folder: TempDir,
    dice: Dice,
    /// The next object's number.
    next: usize,
    blobs: Vec<String>,
    asked: usize,
    hits: usize,
    longest_start: Duration,
}

/// What one cycle's load did.
#[derive(Default)]
struct Done {
    acknowledged: Vec<String>,
    fetched: usize,
}

impl Ordeal {
    /// With so many blobs in the bucket and in the disk tier.
    fn with_blobs(count: usize) -> Self {
        let mut ordeal = Self {
            folder: TempDir::with_prefix("narwharf-ordeal-").unwrap(),
            dice: Dice::new(),
            next: 0,
            blobs: Vec::new(),
            asked: 0,
            hits: 0,
            longest_start: Duration::ZERO,
        };
        println!("{}", ordeal.dice);
        let objects = (0..count).map(|_| ordeal.published(SMALL));
        ordeal.blobs = objects.collect();
        let gateway = ordeal.gateway();
        let (at, next) = (gateway.address(), AtomicUsize::new(0));
        thread::scope(|scope| {
            for _ in 0..READERS {
                scope.spawn(|| {
                    while let Some(key) = ordeal.blobs.get(next.fetch_add(1, Ordering::Relaxed)) {
                        assert!(read(at, key, |_| ()).is_some(), "{key}: cut");
                    }
                });
            }
        });
        assert!(gateway.terminate().success());
        ordeal
    }

    fn endure(mut self, kills: usize, ready_within: Duration) {
        let mut fetched = 0;
        let mut uploaded = 0;
        for _ in 0..kills {
            let kept = self.assert_every_file_is_what_its_name_says();
            let gateway = self.started(ready_within);
            self.sample(gateway.address(), &kept);
            let done = self.load_and_kill(gateway);
            fetched += done.fetched;
            uploaded += done.acknowledged.len();
            for key in &done.acknowledged {
                assert!(
                    self.bucket().join(key).exists(),
                    "{key}: acknowledged and gone"
                );
            }
        }
        self.assert_every_file_is_what_its_name_says();
        println!(
            "{kills} kills, no failed start, no wrong byte; {fetched} fetched and {uploaded} uploaded \
             between them; {} of {} committed blobs were hits; the longest start took {:?}",
            self.hits, self.asked, self.longest_start
        );
        assert!(
            self.hits * 100 >= self.asked * 99,
            "{} of {}",
            self.hits,
            self.asked
        );
    }

    fn bucket(&self) -> PathBuf {
        self.folder.path().join("bucket")
    }

    /// With nothing between the clients and the disk that is tried here.
    fn gateway(&self) -> Gateway {
        let bucket = Bucket::Directory(self.bucket());
        let settings = [("MEMORY__NARS", "0".to_owned())];
        Gateway::start_with(&self.folder.path().join("gateway"), &bucket, &settings)
    }

    /// A gateway that has said that it is ready.
    fn started(&mut self, within: Duration) -> Gateway {
        let began = Instant::now();
        let gateway = self.gateway();
        while raw::get(gateway.address(), "/ready", |_| ())
            .is_none_or(|answer| answer.status != 200)
        {
            assert!(began.elapsed() < Duration::from_secs(30), "never ready");
        }
        self.longest_start = self.longest_start.max(began.elapsed());
        assert!(
            began.elapsed() <= within,
            "ready after {:?}",
            began.elapsed()
        );
        gateway
    }

    /// A new object's key and bytes.
    fn object(&mut self, len: usize) -> (String, Vec<u8>) {
        self.next += 1;
        let bytes = noise(len, self.next as u64);
        let key = format!("nar/{}.nar", Sha256Hash::of(&bytes).to_nix32());
        (key, bytes)
    }

    /// The key of a new object in the bucket.
    fn published(&mut self, len: usize) -> String {
        let (key, bytes) = self.object(len);
        Bucket::Directory(self.bucket()).publish(&key, &bytes);
        key
    }

    /// Every file in the disk tier, and every object in the bucket that came since the last look, has
    /// the bytes that its name promises. Answers the blobs' keys.
    fn assert_every_file_is_what_its_name_says(&self) -> Vec<String> {
        let blobs = files_below(&self.folder.path().join("gateway/data/cache/nar"));
        let names = |files: BTreeMap<String, Vec<u8>>| {
            let judged = files.into_iter().map(|(file, bytes)| {
                let name = Path::new(&file)
                    .file_name()
                    .unwrap()
                    .to_str()
                    .unwrap()
                    .to_owned();
                let promised = name.strip_suffix(".nar").unwrap();
                assert_eq!(Sha256Hash::of(&bytes).to_nix32(), promised, "{file}");
                format!("nar/{name}")
            });
            judged.collect()
        };
        names(blobs)
    }

    /// Asks for some of the blobs; nearly all must be hits, and each must be right.
    fn sample(&mut self, at: SocketAddr, kept: &[String]) {
        for _ in 0..SAMPLE {
            let key = &kept[self.dice.below(kept.len())];
            let from = read(at, key, |_| ()).expect("a whole answer");
            self.asked += 1;
            self.hits += usize::from(from == "narwharf; hit; detail=disk");
        }
    }

    /// Loads the gateway from all sides, and kills it after so many bytes.
    fn load_and_kill(&mut self, gateway: Gateway) -> Done {
        let at = gateway.address();
        let mortal = self.dice.below(4 * (FETCHERS + UPLOADERS) * LARGE);
        let cold: Vec<String> = (0..4 * FETCHERS).map(|_| self.published(LARGE)).collect();
        let new: Vec<(String, Vec<u8>)> = (0..4 * UPLOADERS).map(|_| self.object(LARGE)).collect();
        let first = self.dice.below(self.blobs.len());
        let (progress, passed) = mpsc::channel();
        thread::scope(|scope| {
            for reader in 0..READERS {
                let blobs = &self.blobs;
                scope.spawn(move || {
                    let mut keys = blobs.iter().cycle().skip(first + reader * 37);
                    while read(at, keys.next().expect("endless"), |_| ()).is_some() {}
                });
            }
            let fetchers: Vec<_> = cold
                .chunks(4)
                .map(|keys| {
                    let tell = progress.clone();
                    let fetch = move |key: &&String| {
                        read(at, key, |count| tell.send(count).unwrap_or(())).is_some()
                    };
                    scope.spawn(move || keys.iter().take_while(fetch).count())
                })
                .collect();
            let uploaders: Vec<_> = new
                .chunks(4)
                .map(|objects| {
                    let tell = progress.clone();
                    scope.spawn(move || {
                        let upload = |(key, bytes): &(String, Vec<u8>)| {
                            let tell = |count| tell.send(count).unwrap_or(());
                            let answer = raw::put(at, &format!("/{key}"), TOKEN, bytes, tell)?;
                            assert_eq!(answer.status, 201, "PUT {key}");
                            Some(key.clone())
                        };
                        objects.iter().map_while(upload).collect::<Vec<_>>()
                    })
                })
                .collect();
            drop(progress);
            let mut sum = 0;
            while sum < mortal
                && let Ok(count) = passed.recv()
            {
                sum += count;
            }
            gateway.kill();
            Done {
                fetched: fetchers
                    .into_iter()
                    .map(|fetcher| fetcher.join().unwrap())
                    .sum(),
                acknowledged: uploaders
                    .into_iter()
                    .flat_map(|uploader| uploader.join().unwrap())
                    .collect(),
            }
        })
    }
}

/// Reads an object and holds it to its name. Answers how it came; `None`: the gateway is gone.
fn read(at: SocketAddr, key: &str, mut progress: impl FnMut(usize)) -> Option<String> {
    let mut body = Vec::new();
    let answer = raw::get(at, &format!("/{key}"), |piece| {
        body.extend_from_slice(piece);
        progress(piece.len());
    })?;
    assert_eq!(answer.status, 200, "{key}");
    if !answer.is_whole() {
        return None;
    }
    assert_eq!(
        format!("nar/{}.nar", Sha256Hash::of(&body).to_nix32()),
        key,
        "a wrong byte"
    );
    Some(answer.cache_status.expect("every read says how it came"))
}
