//! Lines on their way out: a buffer for each thread, and one thread that empties them all.
//!
//! A line is appended under a lock that only the writer ever shares, and nobody is woken for it: the
//! writer comes by itself a moment after the first line, and earlier only when a buffer fills or
//! when something is wrong enough to be seen at once. While the writer is stuck, buffers fill to
//! their bound; what comes then is dropped and counted.

use std::convert::Infallible;
use std::io::{self, Write};
use std::mem;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::mpsc::{Receiver, sync_channel};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use super::stamp::Stamp;
use crate::lane::{LANES, Lanes};

/// How long a line may wait for others to be written with.
const GATHER: Duration = Duration::from_millis(200);

/// In bytes: a buffer that holds more is written at once.
const PLENTY: usize = 64 * 1024;

/// In bytes: a buffer that holds more takes no lines. Some 8,000 of them, and at 100,000 a second
/// what a writer that is not stuck may be late by.
const LIMIT: usize = 2 * 1024 * 1024;

/// In bytes, what the log may hold at most: all buffers, and the one being written.
pub const MEMORY: u64 = ((LANES + 1) * LIMIT) as u64;

/// How long the end waits for a reader who has stopped reading.
const LAST_WORDS: Duration = Duration::from_secs(5);

/// The thread that writes. Dropped, it writes what is left and ends.
#[derive(Debug)]
#[must_use = "dropped, it ends the log"]
pub struct Lines {
    shared: Arc<Shared>,
    /// Hangs up when the thread has ended.
    ended: Receiver<Infallible>,
}

/// The way to it, for any thread.
#[derive(Debug, Clone)]
pub struct Writer(Arc<Shared>);

#[derive(Debug, Default)]
struct Shared {
    lanes: Lanes<Mutex<Buffer>>,
    asked: Mutex<Asked>,
    changed: Condvar,
    dropped: AtomicU64,
}

#[derive(Debug, Default)]
struct Buffer {
    bytes: Vec<u8>,
    stamp: Stamp,
}

/// What the writer is asked for; what is greater includes what is less.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Asked {
    #[default]
    Nothing,
    /// There is something to write.
    Soon,
    /// And it should not wait for more.
    Now,
    /// And it is the last.
    Last,
}

impl Lines {
    /// Starts the thread.
    ///
    /// # Errors
    /// The system has no thread to give.
    pub fn to(out: impl Write + Send + 'static) -> io::Result<Self> {
        let shared = Arc::<Shared>::default();
        let (ending, ended) = sync_channel(0);
        let with = Arc::clone(&shared);
        std::thread::Builder::new()
            .name("log".into())
            .spawn(move || {
                let _until_the_end = ending;
                write_behind(&with, out);
            })?;
        Ok(Self { shared, ended })
    }

    pub fn writer(&self) -> Writer {
        Writer(Arc::clone(&self.shared))
    }

    /// How many lines were dropped so far, for want of room or because writing failed.
    pub fn dropped(&self) -> impl Fn() -> u64 + Send + Sync + use<> {
        let shared = Arc::clone(&self.shared);
        move || shared.dropped.load(Ordering::Relaxed)
    }
}

impl Drop for Lines {
    fn drop(&mut self) {
        self.shared.ask(Asked::Last);
        // A hang-up or, when nobody reads, the time: there is nothing to be done about either.
        let _ = self.ended.recv_timeout(LAST_WORDS);
    }
}

impl Writer {
    /// One whole line, its end included. `urgent`: nobody should have to wait to see it.
    pub fn say(&self, line: &[u8], urgent: bool) {
        self.append(urgent, |bytes, _| bytes.extend_from_slice(line));
    }

    /// One line, made in place.
    pub(super) fn append(&self, urgent: bool, make: impl FnOnce(&mut Vec<u8>, &mut Stamp)) {
        let mut buffer = locked(self.0.lanes.own());
        let Buffer { bytes, stamp } = &mut *buffer;
        let before = bytes.len();
        if before > LIMIT {
            self.0.dropped.fetch_add(1, Ordering::Relaxed);
            return;
        }
        make(bytes, stamp);
        let after = bytes.len();
        drop(buffer);
        if urgent || (before <= PLENTY && after > PLENTY) {
            self.0.ask(Asked::Now);
        } else if before == 0 {
            self.0.ask(Asked::Soon);
        }
    }
}

impl Shared {
    fn ask(&self, what: Asked) {
        let mut asked = locked(&self.asked);
        if *asked < what {
            *asked = what;
            self.changed.notify_one();
        }
    }

    /// Waits until something is asked for; `true`: for the last time.
    fn gather(&self) -> bool {
        let asked = self
            .changed
            .wait_while(locked(&self.asked), |asked| *asked == Asked::Nothing);
        let asked = asked.unwrap_or_else(PoisonError::into_inner);
        let waited = self
            .changed
            .wait_timeout_while(asked, GATHER, |asked| *asked == Asked::Soon);
        let (mut asked, _) = waited.unwrap_or_else(PoisonError::into_inner);
        match *asked {
            Asked::Last => true,
            Asked::Nothing | Asked::Soon | Asked::Now => {
                *asked = Asked::Nothing;
                false
            }
        }
    }
}

/// The writer's thread.
fn write_behind(shared: &Shared, mut out: impl Write) {
    // Goes from lane to lane in exchange for what each holds, so that none of them grows anew.
    let mut batch = Vec::new();
    loop {
        let last = shared.gather();
        for lane in shared.lanes.iter() {
            mem::swap(&mut locked(lane).bytes, &mut batch);
            if out.write_all(&batch).and_then(|()| out.flush()).is_err() {
                let lines = batch.iter().filter(|byte| **byte == b'\n').count();
                shared.dropped.fetch_add(lines as u64, Ordering::Relaxed);
            }
            batch.clear();
        }
        if last {
            return;
        }
    }
}

/// A panic amidst a line spoils that line and not the log.
fn locked<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::mpsc::SyncSender;

    /// Takes what is written and tells of it; holds back while nobody listens.
    struct Told(SyncSender<Vec<u8>>);

    impl Write for Told {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            let told = self.0.send(bytes.to_vec());
            told.map(|()| bytes.len())
                .map_err(|_| io::ErrorKind::BrokenPipe.into())
        }
        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    fn lines() -> (Lines, Receiver<Vec<u8>>) {
        let (told, heard) = sync_channel(0);
        (Lines::to(Told(told)).unwrap(), heard)
    }

    #[test]
    fn lines_of_many_threads_come_out_whole_and_in_each_threads_order() {
        let (lines, heard) = lines();
        let reading = std::thread::spawn(move || heard.iter().flatten().collect::<Vec<u8>>());
        std::thread::scope(|scope| {
            for thread in 0..LANES + 3 {
                let writer = lines.writer();
                scope.spawn(move || {
                    for n in 0..1000 {
                        writer.say(format!("{thread} {n}\n").as_bytes(), n % 100 == 0);
                    }
                });
            }
        });
        let dropped = lines.dropped();
        drop(lines);
        let text = String::from_utf8(reading.join().unwrap()).unwrap();
        for thread in 0..LANES + 3 {
            let own = text.lines().filter_map(|line| {
                let (who, n) = line.split_once(' ').unwrap();
                (who == thread.to_string()).then(|| n.parse::<u32>().unwrap())
            });
            assert!(own.eq(0..1000), "{thread}");
        }
        assert_eq!(dropped(), 0);
    }

    #[test]
    fn nothing_is_lost_at_the_end() {
        let (lines, heard) = lines();
        let writer = lines.writer();
        let reading = std::thread::spawn(move || heard.iter().flatten().collect::<Vec<u8>>());
        writer.say(b"the last\n", false);
        drop(lines);
        assert_eq!(reading.join().unwrap(), b"the last\n");
    }

    /// Nobody waits, memory has a bound, and what was dropped is known to the line.
    #[test]
    fn a_reader_who_sleeps_costs_lines_and_nothing_else() {
        let (lines, heard) = lines();
        let (writer, dropped) = (lines.writer(), lines.dropped());
        let line = [b"x".repeat(1023), b"\n".to_vec()].concat();
        let mut said = 0;
        while dropped() < 100 {
            writer.say(&line, said % 100 == 0);
            said += 1;
            assert!(said * line.len() <= 3 * LIMIT, "there is a bound");
        }
        let reading = std::thread::spawn(move || heard.iter().flatten().count());
        drop(lines);
        let kept = reading.join().unwrap() / line.len();
        assert_eq!(kept + dropped() as usize, said);
    }

    #[test]
    fn what_cannot_be_written_counts_as_dropped() {
        let (lines, heard) = lines();
        drop(heard);
        let (writer, dropped) = (lines.writer(), lines.dropped());
        writer.say(b"one\n", false);
        writer.say(b"two\n", false);
        drop(lines);
        assert_eq!(dropped(), 2);
    }

    /// The last word before a silence is seen as well, and not only at the end.
    #[test]
    fn a_line_comes_though_nothing_follows_it() {
        let (lines, heard) = lines();
        for (line, urgent) in [("by the way\n", false), ("trouble\n", true)] {
            lines.writer().say(line.as_bytes(), urgent);
            assert_eq!(heard.recv().unwrap(), line.as_bytes());
        }
        drop(heard);
        drop(lines);
    }
}
