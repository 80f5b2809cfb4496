//! Whether bytes of a file can be sent without waiting for a disk.
//!
//! `sendfile` waits for pages that are not in memory, and a worker that waits serves none of its
//! other clients. So a stretch of a file is read with `RWF_NOWAIT` before it is sent, which the kernel
//! refuses where it would have to wait: all of a short one, which is then sent as it was read, and of a
//! longer one single bytes. A stretch that is not all there is first read on a blocking thread. That
//! costs a copy, of bytes that had to come from a disk anyway, and is surer than `readahead` or
//! `WILLNEED` alone, which may themselves wait and do not tell when the bytes are there. They are asked
//! for ahead, by the same thread.

use std::cell::RefCell;
use std::fs::File;
use std::io;
use std::num::NonZeroU64;
use std::os::unix::fs::FileExt;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};

use rustix::fs::{Advice, fadvise};
use rustix::io::{Errno, IoSliceMut, ReadWriteFlags, preadv2};
use tokio::task::JoinHandle;

/// Bytes judged at once.
const STRETCH: u64 = 1 << 20;

/// One byte in so many is looked at. Files are read into memory and dropped from it by larger
/// pieces than pages; what is missed here makes a worker wait for one read.
const STEP: u64 = 256 * 1024;

/// How far ahead of a stretch that had to be read the kernel is asked to read on.
const AHEAD: NonZeroU64 = NonZeroU64::new(4 << 20).unwrap();

/// Bytes read at once to bring them into memory.
const GULP: usize = 128 * 1024;

/// What is known of one file, for as long as one body of it is being sent.
#[derive(Debug, Default)]
pub struct Warmth {
    /// Bytes before this and behind those already sent are in memory.
    until: u64,
    heating: Option<JoinHandle<io::Result<()>>>,
}

impl Warmth {
    /// How many of the `len` bytes of `file` from `at` can be sent at once: at least one, if there
    /// is one. Asked for bytes in order.
    ///
    /// Must be polled on a tokio runtime.
    pub fn poll(
        &mut self,
        cx: &mut Context<'_>,
        file: &Arc<File>,
        at: u64,
        len: u64,
    ) -> Poll<io::Result<u64>> {
        loop {
            if let Some(heating) = &mut self.heating {
                let heated = ready!(Pin::new(heating).poll(cx));
                self.heating = None;
                heated.map_err(io::Error::other)??;
            }
            // What was heated may have been sent meanwhile, as a short stretch.
            if at < self.until {
                return Poll::Ready(Ok(len.min(self.until - at)));
            }
            let stretch = len.min(STRETCH);
            self.until = at + stretch;
            if !is_warm(file, at, stretch) {
                let file = Arc::clone(file);
                let heating = tokio::task::spawn_blocking(move || heat(&file, at, stretch));
                self.heating = Some(heating);
            }
        }
    }
}

thread_local! {
    /// What a worker copies, one stretch after the other.
    static COPY: RefCell<Vec<u8>> = const { RefCell::new(Vec::new()) };
}

/// Reads `len` bytes of `file` from `at` and shows them. `None`: they are not all in memory, or not
/// all in the file.
pub fn read_at_once<A>(
    file: &File,
    at: u64,
    len: usize,
    show: impl FnOnce(&[u8]) -> A,
) -> Option<A> {
    COPY.with_borrow_mut(|copy| {
        if copy.len() < len {
            copy.resize(len, 0);
        }
        let bytes = &mut copy[..len];
        let read = preadv2(
            file,
            &mut [IoSliceMut::new(bytes)],
            at,
            ReadWriteFlags::NOWAIT,
        );
        (read == Ok(len)).then(|| show(bytes))
    })
}

/// Whether all of it is in memory, as far as a few looks tell. Where the file system cannot say, it
/// is not.
fn is_warm(file: &File, at: u64, len: u64) -> bool {
    let last = at + len - 1;
    let looks = (at..last).step_by(STEP as usize).chain([last]);
    looks.into_iter().all(|look| {
        let mut byte = [0];
        let read = preadv2(
            file,
            &mut [IoSliceMut::new(&mut byte)],
            look,
            ReadWriteFlags::NOWAIT,
        );
        // What is wrong with the file shows when it is sent.
        !matches!(read, Err(Errno::AGAIN | Errno::OPNOTSUPP | Errno::NOSYS))
    })
}

/// Reads it, so that it is in memory. A file that has become shorter shows when it is sent.
fn heat(file: &File, at: u64, len: u64) -> io::Result<()> {
    // Advice that is not taken costs time and nothing else.
    let _ = fadvise(file, at + len, Some(AHEAD), Advice::WillNeed);
    let mut buffer = vec![0; GULP.min(len as usize)];
    let mut read = 0;
    while read < len {
        let most = buffer.len().min((len - read) as usize);
        match file.read_at(&mut buffer[..most], at + read) {
            Ok(0) => break,
            Ok(count) => read += count as u64,
            Err(cause) if cause.kind() == io::ErrorKind::Interrupted => {}
            Err(cause) => return Err(cause),
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::Write;
    use std::task::Waker;

    fn file_of(len: usize) -> Arc<File> {
        let mut file = tempfile::tempfile().unwrap();
        file.write_all(&vec![7; len]).unwrap();
        Arc::new(file)
    }

    /// Out of memory, where the file system does that.
    fn chill(file: &File) {
        file.sync_all().unwrap();
        fadvise(file, 0, None, Advice::DontNeed).unwrap();
    }

    #[tokio::test]
    async fn what_is_in_memory_may_be_sent_at_once_and_by_stretches() {
        let file = file_of(3 * STRETCH as usize);
        let (mut warmth, mut cx) = (Warmth::default(), Context::from_waker(Waker::noop()));
        let mut may = |at| warmth.poll(&mut cx, &file, at, 3 * STRETCH - at);
        assert!(matches!(may(0), Poll::Ready(Ok(STRETCH))));
        assert!(matches!(may(10), Poll::Ready(Ok(len)) if len == STRETCH - 10));
        assert!(matches!(may(STRETCH), Poll::Ready(Ok(STRETCH))));
        assert!(matches!(may(3 * STRETCH - 1), Poll::Ready(Ok(1))));
    }

    #[tokio::test]
    async fn what_is_not_in_memory_is_brought_there_first() {
        let file = file_of(2 * STRETCH as usize);
        chill(&file);
        let was_warm = is_warm(&file, 0, STRETCH);
        let mut warmth = Warmth::default();
        let mut polled_before = false;
        let may = std::future::poll_fn(|cx| {
            let polled = warmth.poll(cx, &file, 0, 2 * STRETCH);
            // Whoever has to wait for a disk does so on another thread.
            assert!(polled_before || polled.is_ready() == was_warm);
            polled_before = true;
            polled
        });
        assert_eq!(may.await.unwrap(), STRETCH);
    }

    #[tokio::test]
    async fn what_was_sent_while_it_was_heated_is_not_asked_for_again() {
        let file = file_of(200);
        chill(&file);
        let (mut warmth, mut cx) = (Warmth::default(), Context::from_waker(Waker::noop()));
        // Whether it is ready depends on the file system.
        let _ = warmth.poll(&mut cx, &file, 0, 100);
        let behind = std::future::poll_fn(|cx| warmth.poll(cx, &file, 100, 100));
        assert_eq!(behind.await.unwrap(), 100);
    }

    #[test]
    fn what_is_read_at_once_is_the_stretch_or_nothing() {
        let mut file = tempfile::tempfile().unwrap();
        file.write_all(b"0123456789").unwrap();
        let read = |at, len| read_at_once(&file, at, len, <[u8]>::to_vec);
        // Where the file system cannot say what is in memory, nothing is read.
        let can_tell = is_warm(&file, 0, 10);
        for (at, len, wanted) in [(2, 5, &b"23456"[..]), (9, 1, b"9"), (0, 10, b"0123456789")] {
            assert_eq!(read(at, len), can_tell.then(|| wanted.to_vec()));
        }
        assert_eq!(read(6, 5), None, "beyond its end");
    }

    #[test]
    fn a_file_that_became_shorter_is_no_error_here() {
        assert!(heat(&file_of(10), 5, 1000).is_ok());
    }
}
