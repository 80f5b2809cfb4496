//! A network that fails once: bytes go to and fro between a client and a gateway until one large PUT,
//! which loses its connection half-way, or its answer.

use std::io::{ErrorKind, Read, Write};
use std::net::{Shutdown, SocketAddr, TcpListener, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread;

/// What happens, to the first PUT that is long enough for it.
#[derive(Debug, Clone, Copy)]
pub enum Mishap {
    /// The connection breaks after so many bytes of the PUT.
    CutAfter(u64),
    /// A PUT of at least so many bytes arrives, and its answer does not.
    AnswerLostAfter(u64),
}

/// See the module's words. Its threads end with their connections.
pub struct Proxy {
    address: SocketAddr,
    happened: Arc<AtomicBool>,
}

/// One connection through it.
struct Line {
    client: TcpStream,
    gateway: TcpStream,
    mishap: Mishap,
    happened: Arc<AtomicBool>,
    /// Bytes of the PUT that is on its way, head included.
    put: AtomicU64,
}

impl Proxy {
    pub fn before(gateway: SocketAddr, mishap: Mishap) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        let happened = Arc::new(AtomicBool::new(false));
        let noted = happened.clone();
        thread::spawn(move || {
            for client in listener.incoming().map_while(Result::ok) {
                let line = Arc::new(Line {
                    client,
                    gateway: TcpStream::connect(gateway).unwrap(),
                    mishap,
                    happened: noted.clone(),
                    put: AtomicU64::new(0),
                });
                let back = line.clone();
                thread::spawn(move || line.forth());
                thread::spawn(move || back.back());
            }
        });
        Self { address, happened }
    }

    pub fn url(&self) -> String {
        format!("http://{}", self.address)
    }

    /// Whether a PUT suffered it.
    pub fn has_happened(&self) -> bool {
        self.happened.load(Ordering::SeqCst)
    }
}

impl Line {
    /// From the client to the gateway. A client waits for each answer, so a request begins a chunk.
    fn forth(&self) {
        carry(&self.client, &self.gateway, |chunk| {
            let sent = match chunk.starts_with(b"PUT ") {
                true => chunk.len() as u64,
                false => self.put.load(Ordering::SeqCst) + chunk.len() as u64,
            };
            self.put.store(sent, Ordering::SeqCst);
            !matches!(self.mishap, Mishap::CutAfter(limit) if sent > limit && self.happens())
        });
        self.end();
    }

    fn back(&self) {
        carry(&self.gateway, &self.client, |chunk| {
            let sent = self.put.load(Ordering::SeqCst);
            let is_final = chunk.starts_with(b"HTTP/1.1 2");
            !matches!(self.mishap, Mishap::AnswerLostAfter(least)
                if is_final && sent > least && self.happens())
        });
        self.end();
    }

    /// Only once.
    fn happens(&self) -> bool {
        !self.happened.swap(true, Ordering::SeqCst)
    }

    fn end(&self) {
        for stream in [&self.client, &self.gateway] {
            // Whichever ended first has taken the other's stream with it.
            let _ = stream.shutdown(Shutdown::Both);
        }
    }
}

/// Carries bytes for as long as there are any and `goes_on` says so of each chunk.
fn carry(mut from: &TcpStream, mut to: &TcpStream, mut goes_on: impl FnMut(&[u8]) -> bool) {
    let mut chunk = vec![0; 16 * 1024];
    loop {
        match from.read(&mut chunk) {
            Ok(0) => return,
            Ok(len) if !goes_on(&chunk[..len]) || to.write_all(&chunk[..len]).is_err() => return,
            Ok(_) => {}
            Err(error) if error.kind() == ErrorKind::Interrupted => {}
            Err(_) => return,
        }
    }
}
