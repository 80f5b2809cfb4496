//! Everything is in the cache already: what an answer costs.

use std::io;

use crate::bench::Bench;
use crate::check;
use crate::load::Ask;
use crate::objects::{self, Object};
use crate::results::{Case, Figure};
use crate::servers::bare::Answer;
use crate::servers::{Server, Who};

use super::MIB;

/// So many different keys, asked for in turn.
const KEYS: usize = 256;

const SMALL: [Figure; 5] = [
    Figure::CpuPerRequest,
    Figure::RequestsPerSecond,
    Figure::Whole,
    Figure::WholeP99,
    Figure::ClientShare,
];
const BULK: [Figure; 6] = [
    Figure::CpuPerGb,
    Figure::Throughput,
    Figure::CpuPerRequest,
    Figure::FirstByte,
    Figure::WholeP99,
    Figure::ClientShare,
];

pub fn narinfo(bench: &mut Bench) -> io::Result<()> {
    let objects = narinfos(bench)?;
    small(bench, "narinfo", &[1, 8, 64], &objects, |server| {
        Ok(objects
            .iter()
            .map(|it| server.get(&it.key, 200, it.length))
            .collect())
    })
}

pub fn absent(bench: &mut Bench) -> io::Result<()> {
    bench.start_caches()?;
    let keys = objects::absent_keys(bench.sized(KEYS, 4));
    small(bench, "absent narinfo", &[8], &[], |server| {
        let asks = keys.iter().map(|key| {
            let (head, _) = check::fetch(server, &server.get(key, 404, 0))?;
            Ok(server.get(key, 404, length(&head)))
        });
        asks.collect()
    })
}

pub fn unchanged(bench: &mut Bench) -> io::Result<()> {
    let objects = narinfos(bench)?;
    small(bench, "narinfo, 304", &[8], &objects, |server| {
        let asks = objects.iter().map(|object| {
            let (head, _) = check::fetch(server, &server.get(&object.key, 200, object.length))?;
            let tag = head.header("etag").unwrap_or_default();
            Ok(server.ask(&object.key, &format!("If-None-Match: {tag}\r\n"), 304, 0))
        });
        asks.collect()
    })
}

/// Narinfos that every cache has been seen to hold.
fn narinfos(bench: &mut Bench) -> io::Result<Vec<Object>> {
    bench.start_caches()?;
    let objects = objects::narinfos(&bench.bucket, "warm", bench.sized(KEYS, 4));
    for server in bench.caches() {
        check::same_bytes(server, &objects)?;
    }
    Ok(objects)
}

/// Answers that fit into one packet or two: the caches against each other and against the floor.
/// `objects`: what they are of.
fn small(
    bench: &mut Bench,
    row: &str,
    connections: &[usize],
    objects: &[Object],
    asks: impl Fn(&Server) -> io::Result<Vec<Ask>>,
) -> io::Result<()> {
    let packaged = match bench.options.caches.contains(&Who::Nginx) {
        true => {
            let server = Server::start(Who::NginxPackaged, &bench.bucket, bench.folder())?;
            check::same_bytes(&server, objects)?;
            Some(server)
        }
        false => None,
    };
    let mut of_caches = Vec::new();
    for server in bench.caches().iter().chain(&packaged) {
        of_caches.push((server, asks(server)?));
    }
    // The floor gives one answer to every question, so all must be as long as narwharf's first.
    let narwharf = of_caches
        .iter()
        .find(|(server, _)| server.who == Who::Narwharf);
    let (server, asked) = narwharf.expect("narwharf is always measured");
    let (head, body) = check::fetch(server, &asked[0])?;
    let answer = Answer {
        status: head.status,
        headers: head.headers,
        body,
    };
    let bare = Server::bare(bench.folder(), &answer)?;
    let mut done = Vec::new();
    for &connections in connections {
        let mut subjects = of_caches.clone();
        subjects.push((&bare, asked.clone()));
        let case = Case::new("narinfo", row, plural(connections), &SMALL);
        done.push(bench.measure_warm(case, connections, &subjects)?);
    }
    drop(of_caches);
    done.into_iter().for_each(|case| bench.done(case));
    Ok(())
}

pub fn nar(bench: &mut Bench, row: &str, length: usize, count: usize) -> io::Result<()> {
    let (length, count) = (
        bench.sized(length, length.min(256 << 10)),
        bench.sized(count, 2),
    );
    let objects = nars(bench, row, length, count)?;
    for connections in [1, 4, 8, 64] {
        let subjects = bench.caches().iter().map(|server| {
            let asks = objects.iter().map(|it| server.get(&it.key, 200, it.length));
            (server, asks.collect())
        });
        let subjects: Vec<_> = subjects.collect();
        let case = Case::new("nar", row, plural(connections), &BULK);
        let case = bench.measure_warm(case, connections, &subjects)?;
        bench.done(case);
    }
    Ok(())
}

pub fn range(bench: &mut Bench) -> io::Result<()> {
    let whole = bench.sized(32 * MIB, MIB);
    let objects = nars(bench, "32 MiB", whole, bench.sized(4, 2))?;
    for (row, length) in [("64 KiB of 32 MiB", 64 << 10), ("1 MiB of 32 MiB", MIB)] {
        let subjects = bench.caches().iter().map(|server| {
            let asks = (0..64).map(|n| {
                let object = &objects[n % objects.len()];
                // Not from a page's beginning.
                let start = (n * 499_979) % (whole - length + 1);
                let line = format!("Range: bytes={start}-{}\r\n", start + length - 1);
                server.ask(&object.key, &line, 206, length as u64)
            });
            (server, asks.collect())
        });
        let subjects: Vec<_> = subjects.collect();
        let case = Case::new("range", row, plural(8), &BULK);
        let case = bench.measure_warm(case, 8, &subjects)?;
        bench.done(case);
    }
    Ok(())
}

/// NARs that every cache has been seen to hold.
fn nars(bench: &mut Bench, tag: &str, length: usize, count: usize) -> io::Result<Vec<Object>> {
    bench.start_caches()?;
    let objects = objects::nars(&bench.bucket, tag, count, length);
    for server in bench.caches() {
        check::same_bytes(server, &objects)?;
    }
    Ok(objects)
}

fn length(head: &check::Head) -> u64 {
    head.header("content-length")
        .and_then(|length| length.parse().ok())
        .unwrap_or(0)
}

fn plural(connections: usize) -> String {
    match connections {
        1 => "1 connection".to_owned(),
        many => format!("{many} connections"),
    }
}
