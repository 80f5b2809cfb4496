//! An index with a million narinfos: how long until a start answers, and what one from the index costs.

use std::io;
use std::path::Path;
use std::sync::Arc;
use std::thread;
use std::time::{Duration, Instant, SystemTime};

use narwharf::clock::Clock;
use narwharf::config::Config;
use narwharf::metrics::Metrics;
use narwharf::nix::key::ObjectKey;
use narwharf::object::Document;
use narwharf::tier::disk::DiskTier;

use crate::bench::{Bench, of};
use crate::interrupt;
use crate::load::{self, Ask};
use crate::objects;
use crate::results::{Case, Figure};
use crate::servers::{Server, Settings, Who};

const TAG: &str = "million";
const INDEX: &str = "16GiB";

/// Entered between two looks at whether all were taken.
const BATCH: usize = 4_000;
const OPENING: Duration = Duration::from_secs(60);
const CLOSING: Duration = Duration::from_secs(60);

pub fn run(bench: &mut Bench) -> io::Result<()> {
    let count = bench.sized(1_000_000, 200);
    let folder = tempfile::Builder::new()
        .prefix("million-")
        .tempdir_in(bench.folder())?;
    let disk = folder.path().join("disk");
    build(&disk, count)?;

    let figures = [
        Figure::Seconds,
        Figure::CpuPerRequest,
        Figure::RequestsPerSecond,
        Figure::Whole,
        Figure::WholeP99,
        Figure::Memory,
    ];
    let label = format!("{count} in the index");
    let mut case = Case::new("million", "narinfo from the index", label, &figures);
    let before = bench.bucket.reads();
    for round in 0..bench.options.rounds {
        let settings = Settings {
            disk: Some(disk.clone()),
            more: vec![("NARWHARF_DISK__INDEX_SIZE", INDEX)],
        };
        let began = Instant::now();
        let server = Server::narwharf(&bench.bucket, folder.path(), &settings)?;
        let first = ask(&server, round);
        load::once(server.address, 1, &[first], &[1], Duration::ZERO, || {
            server.cpu()
        })?;
        case.enter(
            Who::Narwharf,
            Figure::Seconds,
            began.elapsed().as_secs_f64(),
        );

        // Each but once, so that none is answered from memory, and not in the order they were entered.
        let asks: Vec<Ask> = (0..count.min(60_000))
            .map(|n| ask(&server, (n * 7919 + 13) % count))
            .collect();
        let measured = load::once(
            server.address,
            8,
            &asks,
            &[asks.len()],
            Duration::ZERO,
            || server.cpu(),
        );
        let mut measured = measured.map_err(|error| of(&server, &error))?;
        let resident = server.resident()? as f64 / f64::from(1 << 20);
        case.enter(Who::Narwharf, Figure::Memory, resident);
        // The seconds told are those of the start.
        let seconds = std::mem::take(&mut measured.seconds);
        case.enter(
            Who::Narwharf,
            Figure::RequestsPerSecond,
            measured.requests as f64 / seconds,
        );
        case.enter(
            Who::Narwharf,
            Figure::CpuPerRequest,
            measured.server_cpu * 1e6 / measured.requests as f64,
        );
        for (figure, value) in [
            (Figure::Whole, measured.whole),
            (Figure::WholeP99, measured.whole_p99),
        ] {
            case.enter(Who::Narwharf, figure, value.unwrap_or(f64::NAN) * 1e3);
        }
    }
    if bench.bucket.reads() > before {
        return Err(io::Error::other(
            "the bucket was asked for what the index has",
        ));
    }
    bench.done(case);
    Ok(())
}

fn ask(server: &Server, n: usize) -> Ask {
    let (key, text) = objects::narinfo(TAG, n);
    server.get(&key, 200, text.len() as u64)
}

/// Enters them through the disk tier, as if they had been fetched.
fn build(disk: &Path, count: usize) -> io::Result<()> {
    eprintln!("entering {count} narinfos …");
    let variables = [
        ("NARWHARF_DISK__PATH", disk.display().to_string()),
        ("NARWHARF_DISK__INDEX_SIZE", INDEX.to_owned()),
        ("NARWHARF_DISK__MIN_FREE", "0".to_owned()),
    ];
    let variables = variables.map(|(name, value)| (name.to_owned(), value));
    let config = Config::load(&[], variables.into_iter()).map_err(io::Error::other)?;
    let tier = DiskTier::open(&config.disk, Arc::new(Metrics::new()), Clock::default())
        .map_err(io::Error::other)?;
    tier.wait_for_index(OPENING);
    let entered = enter(&tier, count);
    tier.close();
    entered
}

fn enter(tier: &DiskTier, count: usize) -> io::Result<()> {
    let until = Instant::now() + 10 * CLOSING;
    for from in (0..count).step_by(BATCH) {
        let batch = (from..count.min(from + BATCH)).map(document);
        let mut left: Vec<(ObjectKey, Document)> = batch.collect();
        // What waits to be written is bounded, and what does not fit is not kept: enter it again.
        while !left.is_empty() {
            for (key, document) in &left {
                tier.keep_document(key, document);
            }
            left.retain(|(key, _)| tier.document(key).is_none());
            if !left.is_empty() {
                thread::sleep(Duration::from_millis(20));
            }
            interrupt::check()?;
            if Instant::now() > until {
                return Err(io::Error::other("the index does not take them"));
            }
        }
    }
    Ok(())
}

fn document(n: usize) -> (ObjectKey, Document) {
    let (key, text) = objects::narinfo(TAG, n);
    let document = Document {
        bytes: text.into(),
        etag: None,
        last_modified: None,
        content_type: Some("text/x-nix-narinfo".to_owned()),
        content_encoding: None,
        validated: SystemTime::now(),
    };
    (
        ObjectKey::from_stored(&key).expect("the key of a narinfo"),
        document,
    )
}
