//! Only the bucket has it: what a gateway adds to the way there, for one reader and for many.

use std::io;
use std::thread;
use std::time::{Duration, Instant};

use crate::bench::{Bench, of};
use crate::bucket::Distance;
use crate::check;
use crate::load::{self, Measured};
use crate::objects::{self, Object};
use crate::results::{Case, Figure};
use crate::servers::{Server, Who};

use super::MIB;

/// A NAR that is delivered is kept within this.
const KEEPING: Duration = Duration::from_secs(30);
/// Between two looks at whether it is.
const GLANCE: Duration = Duration::from_millis(20);

/// Between readers of whom each finds the bytes of those before already there.
const STAGGER: Duration = Duration::from_millis(100);

pub fn miss(bench: &mut Bench) -> io::Result<()> {
    bench.start_caches()?;
    bench.bucket.set_distance(bench.options.distance);
    let origin = bench.origin()?;
    let count = bench.sized(24, 2);
    let figures = [
        Figure::FirstByte,
        Figure::FirstByteP99,
        Figure::CpuPerRequest,
    ];
    for row in ["cold narinfo", "cold NAR of 256 KiB"] {
        let mut case = Case::new("miss", row, "1 connection", &figures);
        for round in 0..bench.options.rounds {
            let tag = format!("{row} {round}");
            let objects = if row == "cold narinfo" {
                objects::narinfos(&bench.bucket, &tag, count)
            } else {
                objects::nars(&bench.bucket, &tag, count, 256 << 10)
            };
            for server in in_turn(bench, &origin, round) {
                once(server, 1, &objects, Duration::ZERO, &mut case)?;
            }
        }
        bench.done(case);
    }
    bench.bucket.set_distance(Distance::NONE);
    Ok(())
}

pub fn fill(bench: &mut Bench) -> io::Result<()> {
    bench.start_caches()?;
    bench.bucket.set_distance(bench.options.distance);
    let origin = bench.origin()?;
    let length = bench.sized(64 * MIB, MIB);
    let figures = [
        Figure::Seconds,
        Figure::Throughput,
        Figure::FirstByte,
        Figure::FirstByteP99,
        Figure::CpuPerGb,
    ];
    for (label, readers, stagger) in [
        ("1 reader", 1, Duration::ZERO),
        ("8 readers", 8, Duration::ZERO),
        ("64 readers", 64, Duration::ZERO),
        ("8 readers, one each 100 ms", 8, STAGGER),
    ] {
        let mut case = Case::new("fill", "cold NAR of 64 MiB", label, &figures);
        for round in 0..bench.options.rounds {
            let object = objects::nar(&bench.bucket, &format!("{label} {round}"), length);
            for server in in_turn(bench, &origin, round) {
                // Many readers of the bucket itself would each have a line of their own.
                let readers = if server.who == Who::Origin {
                    1
                } else {
                    readers
                };
                once(
                    server,
                    readers,
                    &vec![object.clone(); readers],
                    stagger,
                    &mut case,
                )?;
            }
            bench.bucket.remove(&object.key);
        }
        bench.done(case);
    }
    bench.bucket.set_distance(Distance::NONE);
    Ok(())
}

/// Cold and then, of the same object, warm: what reading along costs beside reading. Both are the
/// whole of it, for what the first second of so many large answers costs is not what the rest does; cold
/// is also what it costs to keep the NAR.
pub fn herd(bench: &mut Bench) -> io::Result<()> {
    let server = Server::start(Who::Narwharf, &bench.bucket, bench.folder())?;
    let length = bench.sized(512 * MIB, MIB);
    let readers = 64;
    let figures = [Figure::CpuPerGb, Figure::Throughput, Figure::FirstByte];
    let row = "512 MiB, 64 readers";
    let [mut cold, mut warm] = ["cold", "warm"].map(|it| Case::new("herd", row, it, &figures));
    // Each turn delivers 32 GiB.
    for round in 0..bench.options.rounds {
        let object = objects::nar(&bench.bucket, &format!("herd {round}"), length);
        let all = vec![object.clone(); readers];
        let begun = server.cpu()?;
        let mut delivered = deliver(&server, readers, &all, Duration::ZERO)?;
        until_kept(&server, &object)?;
        delivered.server_cpu = server.cpu()? - begun;
        cold.enter_load(server.who, &delivered);
        let before = bench.bucket.reads();
        once(&server, readers, &all, Duration::ZERO, &mut warm)?;
        if bench.bucket.reads() > before {
            return Err(io::Error::other("the bucket was read though all was warm"));
        }
        bench.bucket.remove(&object.key);
    }
    bench.done(cold);
    bench.done(warm);
    Ok(())
}

/// The caches and the origin, beginning with another in each round.
fn in_turn<'a>(bench: &'a Bench, origin: &'a Server, round: usize) -> Vec<&'a Server> {
    let mut all: Vec<&Server> = bench.caches().iter().collect();
    all.push(origin);
    let len = all.len();
    all.rotate_left(round % len);
    all
}

/// Waits until it is answered from the disk.
fn until_kept(server: &Server, object: &Object) -> io::Result<()> {
    let byte = server.ask(&object.key, "Range: bytes=0-0\r\n", 206, 1);
    let began = Instant::now();
    while began.elapsed() < KEEPING {
        let (head, _) = check::fetch(server, &byte)?;
        let status = head.header("cache-status").unwrap_or_default();
        if status.contains("hit") {
            return Ok(());
        }
        thread::sleep(GLANCE);
    }
    Err(io::Error::other("the NAR was delivered and not kept"))
}

/// Asks for each object once and enters what it took. With a stagger the first bytes are those of
/// the readers who came later.
fn once(
    server: &Server,
    connections: usize,
    objects: &[Object],
    stagger: Duration,
    case: &mut Case,
) -> io::Result<()> {
    let measured = deliver(server, connections, objects, stagger)?;
    case.enter_load(server.who, &measured);
    Ok(())
}

fn deliver(
    server: &Server,
    connections: usize,
    objects: &[Object],
    stagger: Duration,
) -> io::Result<Measured> {
    let asks: Vec<_> = objects
        .iter()
        .map(|it| server.get(&it.key, 200, it.length))
        .collect();
    load::once(
        server.address,
        connections,
        &asks,
        &[asks.len()],
        stagger,
        || server.cpu(),
    )
    .map_err(|error| of(server, &error))
}
