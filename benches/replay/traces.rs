//! Three synthetic traces of requests for NARs, the same on every run.
//!
//! The figures behind them are assumptions, each a named constant: there is no public trace of a
//! Nix cache behind a build farm. What they share with real ones is the shape. NAR sizes spread over
//! six orders of magnitude. A few hundred paths (compilers, libc, the shell) are asked for by every
//! job and most paths by hardly any. A path's name never changes content, so an update means new
//! names, and the old ones fall silent from one day to the next.

/// One NAR is asked for.
pub struct Request {
    pub nar: u32,
}

pub struct Trace {
    pub title: &'static str,
    pub requests: Vec<Request>,
    /// Bytes of each NAR.
    pub sizes: Vec<u64>,
}

impl Trace {
    pub fn footprint(&self) -> u64 {
        self.sizes.iter().sum()
    }
}

pub fn all() -> [Trace; 3] {
    [farm(), mass_rebuild(), users()]
}

/// Packages of the collection that is built and used.
const PACKAGES: usize = 30_000;
/// Those that every job needs: what a standard environment consists of.
const BASE: usize = 300;
const DAYS: usize = 60;
/// Jobs a day, each on a machine that has nothing yet, or has forgotten it.
const JOBS: usize = 250;
/// Share of the base that a machine lacks when it begins a job.
const BASE_LACKING: f64 = 0.1;
/// Paths a job reads beside the base.
const INPUTS: usize = 60;
/// Share of packages that change from one day to the next, and on each fourteenth day, when a
/// staging branch is merged.
const CHANGE: f64 = 0.02;
const STAGING: f64 = 0.5;

/// Which package has which NAR now.
struct Collection {
    rng: Rng,
    current: Vec<u32>,
    /// Typical size of each package's NAR.
    typical: Vec<f64>,
    sizes: Vec<u64>,
}

impl Collection {
    fn new(seed: u64) -> Self {
        let mut rng = Rng(seed);
        let typical: Vec<f64> = (0..PACKAGES).map(|_| rng.nar_size()).collect();
        let mut collection = Self {
            rng,
            current: vec![0; PACKAGES],
            typical,
            sizes: Vec::new(),
        };
        (0..PACKAGES).for_each(|package| collection.rebuild(package));
        collection
    }

    /// Gives a package a new NAR of about the same size.
    fn rebuild(&mut self, package: usize) {
        let drift = 0.9 + 0.2 * self.rng.unit();
        self.current[package] = self.add((self.typical[package] * drift) as u64);
    }

    fn add(&mut self, size: u64) -> u32 {
        self.sizes.push(size.max(200));
        u32::try_from(self.sizes.len() - 1).expect("far fewer NARs than that")
    }

    /// A day's changes. Staging reaches the base, other days hardly.
    fn change(&mut self, day: usize) {
        let is_staging = day % 14 == 13;
        let share = if is_staging { STAGING } else { CHANGE };
        for package in 0..PACKAGES {
            let spared = package < BASE && !is_staging;
            if !spared && self.rng.unit() < share {
                self.rebuild(package);
            }
        }
    }

    /// What a job on a machine reads.
    fn job(&mut self, requests: &mut Vec<Request>) {
        for package in 0..BASE {
            if self.rng.unit() < BASE_LACKING {
                requests.push(Request {
                    nar: self.current[package],
                });
            }
        }
        for _ in 0..INPUTS {
            let package = BASE + self.rng.zipf(PACKAGES - BASE);
            requests.push(Request {
                nar: self.current[package],
            });
        }
    }
}

/// Each day part of the collection changes, and jobs read what they need of it.
fn farm() -> Trace {
    let mut collection = Collection::new(1);
    let mut requests = Vec::new();
    for day in 0..DAYS {
        collection.change(day);
        (0..JOBS).for_each(|_| collection.job(&mut requests));
    }
    Trace {
        title: "A farm that builds nixpkgs daily",
        requests,
        sizes: collection.sizes,
    }
}

/// The same farm, and on three days somebody has all that depends on one library built on the side:
/// every path once, never again.
fn mass_rebuild() -> Trace {
    const REBUILT: usize = 20_000;
    let mut collection = Collection::new(2);
    let mut requests = Vec::new();
    for day in 0..DAYS {
        collection.change(day);
        let is_rebuild = [20, 33, 46].contains(&day);
        for _ in 0..JOBS {
            collection.job(&mut requests);
            for _ in 0..if is_rebuild { REBUILT / JOBS } else { 0 } {
                let size = collection.rng.nar_size() as u64;
                let nar = collection.add(size);
                requests.push(Request { nar });
            }
        }
    }
    Trace {
        title: "The farm, with one-off mass rebuilds",
        requests,
        sizes: collection.sizes,
    }
}

/// Machines of people: each holds packages of its own choice and the base, and updates now and then,
/// reading what has changed since.
fn users() -> Trace {
    const USERS: usize = 300;
    const CLOSURE: usize = 800;
    /// Share of users that update on one day.
    const UPDATING: f64 = 0.12;
    let mut collection = Collection::new(3);
    let mut closures: Vec<Vec<usize>> = Vec::new();
    for _ in 0..USERS {
        let mut packages: Vec<usize> = (0..BASE).collect();
        packages.extend((0..CLOSURE).map(|_| BASE + collection.rng.zipf(PACKAGES - BASE)));
        packages.sort_unstable();
        packages.dedup();
        closures.push(packages);
    }
    let mut held: Vec<Vec<u32>> = closures
        .iter()
        .map(|all| vec![u32::MAX; all.len()])
        .collect();
    let mut requests = Vec::new();
    for day in 0..DAYS {
        collection.change(day);
        for (packages, held) in closures.iter().zip(&mut held) {
            if collection.rng.unit() >= UPDATING {
                continue;
            }
            for (package, held) in packages.iter().zip(held) {
                let nar = collection.current[*package];
                if std::mem::replace(held, nar) != nar {
                    requests.push(Request { nar });
                }
            }
        }
    }
    Trace {
        title: "Many users",
        requests,
        sizes: collection.sizes,
    }
}

/// SplitMix64: small, and the same everywhere.
struct Rng(u64);

impl Rng {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    /// From 0 up to 1.
    fn unit(&mut self) -> f64 {
        (self.next() >> 11) as f64 / (1u64 << 53) as f64
    }

    /// Standard normal, as the sum of twelve uniform numbers.
    fn normal(&mut self) -> f64 {
        (0..12).map(|_| self.unit()).sum::<f64>() - 6.0
    }

    /// Bytes of a compressed NAR: log-normal, median 40 KiB, mean about 1.1 MiB, at most 2 GiB.
    fn nar_size(&mut self) -> f64 {
        (40_960.0 * (2.6 * self.normal()).exp()).clamp(200.0, 2.0 * (1u64 << 30) as f64)
    }

    /// A rank below `n`, each as likely as the inverse of its place: Zipf with exponent 1, by
    /// inverting the logarithm that its sum grows with.
    fn zipf(&mut self, n: usize) -> usize {
        let rank = (self.unit() * (n as f64 + 1.0).ln()).exp() - 1.0;
        (rank as usize).min(n - 1)
    }
}
