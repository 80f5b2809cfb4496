//! The load: either requests round and round for a stretch of time, or each of a list once.
//!
//! Whatever is measured is measured between two moments in the middle of the load, so that neither
//! connecting nor ending is in it. Each answer's status and length are checked; its bytes are
//! compared once for each server, before anything is measured (`check`).

mod client;
mod connection;
mod histogram;

use std::fs;
use std::io;
use std::net::SocketAddr;
use std::time::{Duration, Instant};

pub use client::Client;
pub use connection::Ask;
use histogram::Histogram;

/// The longest that a load is silent while it waits.
const GLANCE: Duration = Duration::from_millis(20);

/// No answer is waited for longer.
const PATIENCE: Duration = Duration::from_secs(120);

/// When to look.
#[derive(Clone, Copy)]
pub struct Window {
    /// Load before it.
    pub warm: Duration,
    pub length: Duration,
}

/// What one stretch of load showed.
#[derive(Default)]
pub struct Measured {
    pub seconds: f64,
    pub requests: u64,
    /// Of bodies, also of those under way.
    pub bytes: u64,
    /// Seconds of processor time that the server used.
    pub server_cpu: f64,
    /// The same of the client.
    pub client_cpu: f64,
    /// In seconds; `None` where no request began and ended within the time.
    pub first_byte: Option<f64>,
    pub first_byte_p99: Option<f64>,
    pub whole: Option<f64>,
    pub whole_p99: Option<f64>,
}

/// Asks round and round. `server_cpu` gives the server's processor time so far.
pub fn endless(
    address: SocketAddr,
    connections: usize,
    asks: &[Ask],
    window: Window,
    server_cpu: impl Fn() -> io::Result<f64>,
) -> io::Result<Measured> {
    let mut client = Client::connect(address, connections)?;
    let mut times = Times::default();
    let mut turn = 0;
    let mut next = || {
        turn += 1;
        Some((turn - 1) % asks.len())
    };
    client.send_to_idle(asks, &mut next)?;
    let warm_until = Instant::now() + window.warm;
    while Instant::now() < warm_until {
        client.wait(asks, GLANCE, |_| next())?;
    }
    let before = Moment::now(&client, &server_cpu)?;
    let until = before.at + window.length;
    let mut requests = 0;
    while Instant::now() < until {
        client.wait(asks, GLANCE, |finished| {
            requests += 1;
            if finished.sent_at >= before.at {
                times.record(finished.first_byte, finished.whole);
            }
            next()
        })?;
    }
    let after = Moment::now(&client, &server_cpu)?;
    Ok(before.until(&after, requests, &times))
}

/// Asks for each once. `levels` are where a level of the list ends: none of the next is asked for
/// before all of it have come. `stagger`: connections begin so much one after the other, and times
/// are those of all but the first.
pub fn once(
    address: SocketAddr,
    connections: usize,
    asks: &[Ask],
    levels: &[usize],
    stagger: Duration,
    server_cpu: impl Fn() -> io::Result<f64>,
) -> io::Result<Measured> {
    let mut client = Client::connect(address, connections)?;
    let mut times = Times::default();
    let first_counts = stagger.is_zero() || asks.len() == 1;
    let before = Moment::now(&client, &server_cpu)?;
    let (mut sent, mut ended) = (0, 0);
    let glance = if stagger.is_zero() {
        GLANCE
    } else {
        stagger.min(GLANCE)
    };
    let mut progress = (0, Instant::now());
    for &end in levels {
        while ended < end {
            let begun = match stagger.as_nanos() {
                0 => usize::MAX,
                nanos => 1 + (before.at.elapsed().as_nanos() / nanos) as usize,
            };
            let mut next = || {
                let may = sent < end.min(begun);
                sent += usize::from(may);
                may.then(|| sent - 1)
            };
            client.send_to_idle(asks, &mut next)?;
            client.wait(asks, glance, |finished| {
                ended += 1;
                if first_counts || finished.ask > 0 {
                    times.record(finished.first_byte, finished.whole);
                }
                next()
            })?;
            if progress.0 != client.bytes {
                progress = (client.bytes, Instant::now());
            } else if progress.1.elapsed() > PATIENCE {
                return Err(io::Error::other("not a byte for two minutes"));
            }
        }
    }
    let after = Moment::now(&client, &server_cpu)?;
    Ok(before.until(&after, ended as u64, &times))
}

#[derive(Default)]
struct Times {
    first_byte: Histogram,
    whole: Histogram,
}

impl Times {
    fn record(&mut self, first_byte: Duration, whole: Duration) {
        self.first_byte.record(first_byte);
        self.whole.record(whole);
    }
}

/// What the clocks say.
struct Moment {
    at: Instant,
    bytes: u64,
    server_cpu: f64,
    client_cpu: f64,
}

impl Moment {
    fn now(client: &Client, server_cpu: impl Fn() -> io::Result<f64>) -> io::Result<Self> {
        Ok(Self {
            server_cpu: server_cpu()?,
            client_cpu: own_cpu()?,
            bytes: client.bytes,
            at: Instant::now(),
        })
    }

    fn until(&self, after: &Self, requests: u64, times: &Times) -> Measured {
        Measured {
            seconds: (after.at - self.at).as_secs_f64(),
            requests,
            bytes: after.bytes - self.bytes,
            server_cpu: after.server_cpu - self.server_cpu,
            client_cpu: after.client_cpu - self.client_cpu,
            first_byte: times.first_byte.quantile(0.5),
            first_byte_p99: times.first_byte.quantile(0.99),
            whole: times.whole.quantile(0.5),
            whole_p99: times.whole.quantile(0.99),
        }
    }
}

/// Processor time of this thread (proc(5), `schedstat`: the first number, in nanoseconds).
fn own_cpu() -> io::Result<f64> {
    let text = fs::read_to_string("/proc/thread-self/schedstat")?;
    let nanos = text
        .split(' ')
        .next()
        .and_then(|number| number.parse::<f64>().ok());
    nanos
        .map(|nanos| nanos / 1e9)
        .ok_or_else(|| io::Error::other("schedstat has another form"))
}
