//! Lanes: what every request writes to, once for each thread, so that no two processors take the same
//! line of memory from each other in turn. Whoever reads it, which is seldom, looks at all of them.

use std::cell::Cell;
use std::sync::atomic::{AtomicUsize, Ordering};

/// Threads beyond this many share lanes.
pub const LANES: usize = 16;

/// The calling thread's lane: threads are numbered in the order in which they first ask.
pub fn own() -> usize {
    static NEXT: AtomicUsize = AtomicUsize::new(0);
    thread_local! {
        static OWN: Cell<usize> = const { Cell::new(usize::MAX) };
    }
    OWN.with(|own| {
        if own.get() == usize::MAX {
            own.set(NEXT.fetch_add(1, Ordering::Relaxed) % LANES);
        }
        own.get()
    })
}

/// One of something for each lane, apart from one another in memory.
#[derive(Debug, Default)]
pub struct Lanes<T>([Apart<T>; LANES]);

/// Two lines of cache, since processors fetch them in pairs.
#[derive(Debug, Default)]
#[repr(align(128))]
struct Apart<T>(T);

impl<T> Lanes<T> {
    /// The calling thread's.
    pub fn own(&self) -> &T {
        &self.0[own()].0
    }

    pub fn iter(&self) -> impl Iterator<Item = &T> {
        self.0.iter().map(|apart| &apart.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::HashSet;

    #[test]
    fn a_thread_keeps_its_lane_and_others_have_theirs() {
        let lane_of_another = || std::thread::spawn(|| [own(), own()]).join().unwrap();
        let lanes: Vec<_> = (0..LANES).map(|_| lane_of_another()).collect();
        assert!(lanes.iter().all(|[first, again]| first == again));
        let different: HashSet<_> = lanes.iter().map(|[lane, _]| *lane).collect();
        assert_eq!(different.len(), LANES);
    }
}
