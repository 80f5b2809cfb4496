//! A closure as Nix fetches it: narinfos level by level over 25 connections, for a level's names are
//! in the narinfos above it, and then the NARs.

use std::io;
use std::time::Duration;

use crate::bench::{Bench, of};
use crate::bucket::Distance;
use crate::load;
use crate::objects::Closure;
use crate::results::{Case, Figure};
use crate::servers::{Server, Who};

/// Nix's `http-connections`.
const CONNECTIONS: usize = 25;

/// Packages on each level: narrow at the top, wide in the middle, few that all rest on.
const WIDTHS: [usize; 9] = [1, 6, 24, 70, 140, 170, 120, 50, 19];

pub fn run(bench: &mut Bench) -> io::Result<()> {
    let closure = Closure::put(&bench.bucket, bench.sized(&WIDTHS, &[1, 3]));
    let megabytes = closure.nars.iter().map(|nar| nar.length).sum::<u64>() / 1_000_000;
    let row = format!("{} packages, {megabytes} MB", closure.nars.len());
    let figures = [
        Figure::Seconds,
        Figure::Cpu,
        Figure::FirstByte,
        Figure::WholeP99,
    ];
    let mut cold = Case::new("closure", &row, "cold", &figures);
    let mut warm = Case::new("closure", &row, "warm", &figures);
    bench.bucket.set_distance(bench.options.distance);
    for round in 0..bench.options.rounds {
        let mut servers = bench.fresh()?;
        servers.push(bench.origin()?);
        let count = servers.len();
        servers.rotate_left(round % count);
        for server in &servers {
            fetch(server, &closure, &mut cold)?;
            if server.who != Who::Origin {
                fetch(server, &closure, &mut warm)?;
            }
        }
    }
    bench.bucket.set_distance(Distance::NONE);
    bench.done(cold);
    bench.done(warm);
    Ok(())
}

fn fetch(server: &Server, closure: &Closure, case: &mut Case) -> io::Result<()> {
    let all = closure.narinfos.iter().chain(&closure.nars);
    let asks: Vec<_> = all.map(|it| server.get(&it.key, 200, it.length)).collect();
    let mut levels = closure.levels.clone();
    levels.push(asks.len());
    let measured = load::once(
        server.address,
        CONNECTIONS,
        &asks,
        &levels,
        Duration::ZERO,
        || server.cpu(),
    )
    .map_err(|error| of(server, &error))?;
    case.enter_load(server.who, &measured);
    Ok(())
}
