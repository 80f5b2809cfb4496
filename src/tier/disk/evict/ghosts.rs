//! Blobs that were evicted unused: names without bytes, so that one that is asked for again soon is
//! known as worth keeping.
//!
//! A name is a 64-bit hash of its key. Two keys that share one cost a blob a better place than it
//! earned, which is nothing.

use std::collections::{HashMap, VecDeque};

/// Names worth remembering however few blobs there are.
const LEAST: usize = 1024;

/// The names most recently evicted, as many as an equally large cache would hold.
pub struct Ghosts {
    /// Oldest first. An entry whose serial is not the one in `names` has been taken out.
    queue: VecDeque<Ghost>,
    names: HashMap<u64, u64>,
    weight: u64,
    /// Most weight remembered, in bytes.
    capacity: u64,
    serial: u64,
}

struct Ghost {
    name: u64,
    weight: u64,
    serial: u64,
}

impl Ghosts {
    pub fn new(capacity: u64) -> Self {
        Self {
            queue: VecDeque::new(),
            names: HashMap::new(),
            weight: 0,
            capacity,
            serial: 0,
        }
    }

    /// Remembers a name, and not many more than there are `blobs`, which bounds the memory.
    pub fn put(&mut self, name: u64, weight: u64, blobs: usize) {
        self.serial += 1;
        self.names.insert(name, self.serial);
        self.queue.push_back(Ghost {
            name,
            weight,
            serial: self.serial,
        });
        self.weight += weight;
        while self.weight > self.capacity || self.queue.len() > blobs + LEAST {
            let Some(oldest) = self.queue.pop_front() else {
                return;
            };
            self.weight -= oldest.weight;
            if self.names.get(&oldest.name) == Some(&oldest.serial) {
                self.names.remove(&oldest.name);
            }
        }
    }

    /// Whether the name was remembered; it is not any longer.
    pub fn take(&mut self, name: u64) -> bool {
        self.names.remove(&name).is_some()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_is_remembered_once_until_as_much_came_after_it_as_a_cache_holds() {
        let mut ghosts = Ghosts::new(100);
        (1..=3).for_each(|name| ghosts.put(name, 40, 9));
        assert!(!ghosts.take(1), "120 bytes came");
        assert!(ghosts.take(2));
        assert!(!ghosts.take(2));
        assert!(ghosts.take(3));
    }

    #[test]
    fn a_name_that_came_twice_lives_as_long_as_its_second_coming() {
        let mut ghosts = Ghosts::new(100);
        for name in [1, 2, 1, 3] {
            ghosts.put(name, 30, 9);
        }
        assert!(ghosts.take(1));
    }

    #[test]
    fn there_are_hardly_more_names_than_blobs() {
        let mut ghosts = Ghosts::new(u64::MAX);
        (0..10_000).for_each(|name| ghosts.put(name, 1, 500));
        assert_eq!(ghosts.queue.len(), 500 + LEAST);
        assert_eq!(ghosts.names.len(), ghosts.queue.len());
    }
}
