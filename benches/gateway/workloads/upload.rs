//! NARs pushed to narwharf, which answers when the bucket has them. Nobody else here takes uploads.

use std::io::{self, BufRead, BufReader, Write};
use std::net::TcpStream;
use std::thread;
use std::time::Instant;

use crate::bench::Bench;
use crate::objects;
use crate::results::{Case, Figure};
use crate::servers::{Server, TOKEN, Who};

use super::MIB;

/// In each round.
const NARS: usize = 8;

pub fn run(bench: &mut Bench) -> io::Result<()> {
    bench.start_caches()?;
    let length = bench.sized(32 * MIB, MIB / 4);
    let figures = [Figure::Throughput, Figure::CpuPerGb, Figure::Seconds];
    for connections in [1, 4] {
        let label = if connections == 1 {
            "1 connection"
        } else {
            "4 connections"
        };
        let mut case = Case::new("upload", "8 NARs of 32 MiB", label, &figures);
        for round in 0..bench.options.rounds {
            let nars: Vec<_> = (0..NARS)
                .map(|n| objects::unpublished_nar(&format!("upload {label} {round} {n}"), length))
                .collect();
            let narwharf = bench
                .caches()
                .iter()
                .find(|server| server.who == Who::Narwharf);
            let server = narwharf.expect("narwharf is always measured");
            let (cpu, began) = (server.cpu()?, Instant::now());
            push_all(server, connections, &nars)?;
            let seconds = began.elapsed().as_secs_f64();
            let gigabytes = (NARS * length) as f64 / 1e9;
            case.enter(server.who, Figure::Seconds, seconds);
            case.enter(server.who, Figure::Throughput, gigabytes * 1e3 / seconds);
            case.enter(
                server.who,
                Figure::CpuPerGb,
                (server.cpu()? - cpu) * 1e3 / gigabytes,
            );
            for (key, _) in &nars {
                bench.bucket.remove(key);
            }
        }
        bench.done(case);
    }
    Ok(())
}

/// Each connection pushes its share, one NAR after the other.
fn push_all(server: &Server, connections: usize, nars: &[(String, Vec<u8>)]) -> io::Result<()> {
    thread::scope(|scope| {
        let pushing: Vec<_> = nars
            .chunks(nars.len().div_ceil(connections))
            .map(|share| scope.spawn(move || push(server, share)))
            .collect();
        let ended = pushing
            .into_iter()
            .map(|it| it.join().expect("a push does not panic"));
        ended.collect()
    })
}

fn push(server: &Server, nars: &[(String, Vec<u8>)]) -> io::Result<()> {
    let mut connection = BufReader::new(TcpStream::connect(server.address)?);
    for (key, bytes) in nars {
        let socket = connection.get_mut();
        write!(
            socket,
            "PUT /{key} HTTP/1.1\r\nHost: {}\r\nAuthorization: Bearer {TOKEN}\r\nContent-Length: {}\r\n\r\n",
            server.address,
            bytes.len()
        )?;
        socket.write_all(bytes)?;
        let head = read_answer(&mut connection)?;
        if !head.starts_with("HTTP/1.1 201") {
            return Err(io::Error::other(format!("{key} was not taken: {head}")));
        }
    }
    Ok(())
}

/// Reads an answer to its end; gives its head.
fn read_answer(connection: &mut BufReader<TcpStream>) -> io::Result<String> {
    let mut head = String::new();
    while !head.ends_with("\r\n\r\n") {
        if connection.read_line(&mut head)? == 0 {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
    }
    let length = head.lines().find_map(|line| {
        let (name, value) = line.split_once(':')?;
        name.eq_ignore_ascii_case("content-length")
            .then(|| value.trim().parse().ok())?
    });
    let mut body = io::Read::take(connection, length.unwrap_or(0));
    io::copy(&mut body, &mut io::sink())?;
    Ok(head)
}
