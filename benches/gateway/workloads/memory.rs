//! What is resident: with nothing to do, with many idle connections, with many downloads that
//! nobody reads. Varnish keeps a thread for each download and is not asked for so many.

use std::io;
use std::thread;
use std::time::{Duration, Instant};

use crate::bench::{Bench, of};
use crate::check;
use crate::load::{Ask, Client};
use crate::objects;
use crate::results::{Case, Figure};
use crate::servers::{Server, Who};

use super::MIB;

/// How long a server has to come to rest.
const SETTLE: Duration = Duration::from_secs(1);
const GLANCE: Duration = Duration::from_millis(20);

pub fn run(bench: &mut Bench) -> io::Result<()> {
    let many = bench.sized(10_000, 10);
    let objects = objects::nars(&bench.bucket, "stalled", 4, bench.sized(32 * MIB, MIB));
    let narinfos = objects::narinfos(&bench.bucket, "idle", 4);
    let case = |label: String| Case::new("memory", "resident", label, &[Figure::Memory]);
    let mut idle = case("after start".to_owned());
    let mut kept = case(format!("{many} idle connections"));
    let mut stalled = case(format!("{many} stalled downloads"));
    let asked: Vec<Who> = bench
        .options
        .caches
        .iter()
        .copied()
        .filter(|who| *who != Who::Varnish)
        .collect();
    for who in asked {
        let server = Server::start(who, &bench.bucket, bench.folder())?;
        thread::sleep(SETTLE);
        idle.enter(who, Figure::Memory, mebibytes(&server)?);
        check::same_bytes(&server, &narinfos)?;

        let asks: Vec<Ask> = narinfos
            .iter()
            .map(|it| server.get(&it.key, 200, it.length))
            .collect();
        let client = each_asks_once(&server, many, &asks)?;
        thread::sleep(SETTLE);
        kept.enter(who, Figure::Memory, mebibytes(&server)?);
        drop(client);
        check::same_bytes(&server, &objects)?;
        thread::sleep(SETTLE);

        let asks: Vec<Ask> = objects
            .iter()
            .map(|it| server.get(&it.key, 200, it.length))
            .collect();
        let mut client = Client::connect(server.address, many)?;
        client.shrink_windows()?;
        for connection in 0..client.len() {
            client.send(connection, connection % asks.len(), &asks)?;
        }
        thread::sleep(3 * SETTLE);
        stalled.enter(who, Figure::Memory, mebibytes(&server)?);
    }
    for case in [idle, kept, stalled] {
        bench.done(case);
    }
    Ok(())
}

/// Connections that have each had an answer.
fn each_asks_once(server: &Server, connections: usize, asks: &[Ask]) -> io::Result<Client> {
    let mut client = Client::connect(server.address, connections)?;
    for connection in 0..client.len() {
        client.send(connection, connection % asks.len(), asks)?;
    }
    let (mut answered, until) = (0, Instant::now() + Duration::from_secs(60));
    while answered < connections {
        let glance = client.wait(asks, GLANCE, |_| {
            answered += 1;
            None
        });
        glance.map_err(|error| of(server, &error))?;
        if Instant::now() > until {
            return Err(io::Error::other(format!(
                "{answered} of {connections} were answered"
            )));
        }
    }
    Ok(client)
}

fn mebibytes(server: &Server) -> io::Result<f64> {
    Ok(server.resident()? as f64 / MIB as f64)
}
