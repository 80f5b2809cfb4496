//! A server as a process, with the processes it starts: their processor time and memory, and their
//! end when the harness is done with them.

use std::fs::{self, File};
use std::io;
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, kill_process};

const START: Duration = Duration::from_secs(20);
const STOP: Duration = Duration::from_secs(5);
const GLANCE: Duration = Duration::from_millis(2);

/// Clock ticks a second in /proc; fixed by Linux for programs (time(7), `USER_HZ`).
const TICKS: f64 = 100.0;

pub struct Process {
    child: Child,
}

impl Process {
    /// Starts it with what it says going to `log`, and waits until `address` takes connections.
    pub fn start(command: &mut Command, log: &Path, address: SocketAddr) -> io::Result<Self> {
        let log_file = File::create(log)?;
        let child = command
            .stdin(Stdio::null())
            .stdout(log_file.try_clone()?)
            .stderr(log_file)
            .spawn()?;
        let mut process = Self { child };
        let until = Instant::now() + START;
        while TcpStream::connect(address).is_err() {
            let ended = process.child.try_wait()?.is_some();
            if ended || Instant::now() > until {
                let said = fs::read_to_string(log).unwrap_or_default();
                return Err(io::Error::other(format!(
                    "{command:?} does not serve:\n{said}"
                )));
            }
            thread::sleep(GLANCE);
        }
        Ok(process)
    }

    /// Seconds of processor time, user and system, of all its processes. Those that have ended count
    /// with their parent.
    pub fn cpu(&self) -> io::Result<f64> {
        let mut ticks = 0.0;
        for pid in self.tree() {
            // utime, stime, cutime, cstime (proc(5)).
            let stat = Stat::of(pid)?;
            ticks += stat.numbers(14..=17);
        }
        Ok(ticks / TICKS)
    }

    /// Bytes of memory that are resident, shared pages in each process that has them.
    pub fn resident(&self) -> io::Result<u64> {
        let mut sum = 0;
        for pid in self.tree() {
            let status = fs::read_to_string(format!("/proc/{pid}/status"))?;
            let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"));
            let kib = line.and_then(|rest| rest.trim().strip_suffix(" kB")?.parse::<u64>().ok());
            sum += kib.unwrap_or(0) << 10;
        }
        Ok(sum)
    }

    /// Its process and all that descend from it.
    fn tree(&self) -> Vec<u32> {
        let mut tree = vec![self.child.id()];
        let mut at = 0;
        while let Some(pid) = tree.get(at) {
            let children = fs::read_to_string(format!("/proc/{pid}/task/{pid}/children"));
            let children = children.unwrap_or_default();
            tree.extend(
                children
                    .split_whitespace()
                    .filter_map(|word| word.parse::<u32>().ok()),
            );
            at += 1;
        }
        tree
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        let tree = self.tree();
        signal(self.child.id(), Signal::TERM);
        let until = Instant::now() + STOP;
        while matches!(self.child.try_wait(), Ok(None)) && Instant::now() < until {
            thread::sleep(GLANCE);
        }
        if matches!(self.child.try_wait(), Ok(None)) {
            tree.iter().for_each(|pid| signal(*pid, Signal::KILL));
            // Nothing survives SIGKILL; what remains is to collect it.
            let _ = self.child.wait();
        }
    }
}

/// A process that has gone meanwhile needs no signal.
fn signal(pid: u32, signal: Signal) {
    if let Some(pid) = i32::try_from(pid).ok().and_then(Pid::from_raw) {
        let _ = kill_process(pid, signal);
    }
}

/// What /proc/PID/stat says behind the program's name, which may hold anything.
struct Stat(String);

impl Stat {
    fn of(pid: u32) -> io::Result<Self> {
        let text = fs::read_to_string(format!("/proc/{pid}/stat"))?;
        let (_, rest) = text
            .rsplit_once(')')
            .ok_or_else(|| io::Error::other("stat has another form"))?;
        Ok(Self(rest.to_owned()))
    }

    /// The sum of fields, numbered as in proc(5).
    fn numbers(&self, fields: std::ops::RangeInclusive<usize>) -> f64 {
        let (first, count) = (*fields.start() - 3, fields.count());
        let words = self.0.split_whitespace().skip(first).take(count);
        words.filter_map(|word| word.parse::<f64>().ok()).sum()
    }
}

/// A port that was free a moment ago.
pub fn free_address() -> io::Result<SocketAddr> {
    TcpListener::bind(("127.0.0.1", 0))?.local_addr()
}
