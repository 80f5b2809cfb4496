//! The policies compared: the disk tier's own, and two that it might have had.
//!
//! All count bytes, all keep whatever they are asked for, as the disk tier does: a NAR is on disk
//! before anything can be said about it, so admission means who goes first.

use std::collections::HashMap;

use crate::evict::lists::{Lists, Slot as Place};
use crate::evict::{Order, Slot};

/// A cache of bounded bytes.
pub trait Policy {
    /// Whether the NAR was there; it is afterwards.
    fn request(&mut self, nar: u32, size: u64) -> bool;
}

type Make = fn(u64) -> Box<dyn Policy>;

pub fn all() -> [(&'static str, Make); 3] {
    [
        ("LRU", |capacity| Box::new(Lru::new(capacity))),
        ("W-TinyLFU", |capacity| Box::new(TinyLfu::new(capacity))),
        ("S3-FIFO", |capacity| Box::new(S3Fifo::new(capacity))),
    ]
}

/// Never evicts.
#[derive(Default)]
pub struct Unbounded(std::collections::HashSet<u32>);

impl Policy for Unbounded {
    fn request(&mut self, nar: u32, _: u64) -> bool {
        !self.0.insert(nar)
    }
}

struct S3Fifo {
    order: Order<u32>,
    slots: HashMap<u32, Slot>,
    capacity: u64,
}

impl S3Fifo {
    fn new(capacity: u64) -> Self {
        Self {
            order: Order::new(capacity),
            slots: HashMap::new(),
            capacity,
        }
    }
}

impl Policy for S3Fifo {
    fn request(&mut self, nar: u32, size: u64) -> bool {
        if let Some(slot) = self.slots.get(&nar) {
            self.order.note_use(*slot);
            return true;
        }
        if size > self.capacity {
            return false;
        }
        while self.order.weight() + size > self.capacity {
            let Some(victim) = self.order.choose() else {
                break;
            };
            let gone = self.order.evict(victim);
            self.slots.remove(&gone);
        }
        let slot = self.order.insert(u64::from(nar), size, nar);
        self.slots.insert(nar, slot);
        false
    }
}

struct Lru {
    lists: Lists<(u32, u64), 1>,
    slots: HashMap<u32, Place>,
    weight: u64,
    capacity: u64,
}

impl Lru {
    fn new(capacity: u64) -> Self {
        Self {
            lists: Lists::new(),
            slots: HashMap::new(),
            weight: 0,
            capacity,
        }
    }
}

impl Policy for Lru {
    fn request(&mut self, nar: u32, size: u64) -> bool {
        if let Some(slot) = self.slots.get(&nar) {
            self.lists.move_to_newest(0, *slot);
            return true;
        }
        if size > self.capacity {
            return false;
        }
        while self.weight + size > self.capacity {
            let Some(oldest) = self.lists.oldest(0) else {
                break;
            };
            let (gone, bytes) = self.lists.remove(oldest);
            self.slots.remove(&gone);
            self.weight -= bytes;
        }
        self.weight += size;
        self.slots
            .insert(nar, self.lists.push_newest(0, (nar, size)));
        false
    }
}

const WINDOW: usize = 0;
const PROBATION: usize = 1;
const PROTECTED: usize = 2;

/// W-TinyLFU with a window of 1 % and a main space of which 80 % are protected (Caffeine's figures).
/// What leaves the window stays if it was asked for more often than all that would have to make way
/// for it ("Lightweight robust size aware cache management", aggregated victims).
struct TinyLfu {
    lists: Lists<(u32, u64), 3>,
    slots: HashMap<u32, Place>,
    weights: [u64; 3],
    capacity: u64,
    sketch: Sketch,
}

impl TinyLfu {
    fn new(capacity: u64) -> Self {
        Self {
            lists: Lists::new(),
            slots: HashMap::new(),
            weights: [0; 3],
            capacity,
            sketch: Sketch::new(),
        }
    }

    fn move_to(&mut self, list: usize, slot: Place) {
        let size = self.lists.get(slot).1;
        self.weights[self.lists.list_of(slot)] -= size;
        self.weights[list] += size;
        self.lists.move_to_newest(list, slot);
    }

    fn drop(&mut self, slot: Place) {
        self.weights[self.lists.list_of(slot)] -= self.lists.get(slot).1;
        let (nar, _) = self.lists.remove(slot);
        self.slots.remove(&nar);
    }

    fn hit(&mut self, slot: Place) {
        match self.lists.list_of(slot) {
            PROBATION => {
                self.move_to(PROTECTED, slot);
                while self.weights[PROTECTED] > self.capacity / 100 * 79 {
                    let oldest = self.lists.oldest(PROTECTED).expect("it weighs something");
                    self.move_to(PROBATION, oldest);
                }
            }
            list => self.move_to(list, slot),
        }
    }

    /// Lets one that has left the window compete for a place in the main space.
    fn admit(&mut self, candidate: Place) {
        let (nar, size) = *self.lists.get(candidate);
        let room = self.capacity / 100 * 99;
        let main = self.weights[PROBATION] + self.weights[PROTECTED];
        let mut missing = (main + size).saturating_sub(room);
        let (mut victims, mut rivals) = (Vec::new(), 0);
        for list in [PROBATION, PROTECTED] {
            let mut next = self.lists.oldest(list);
            while missing > 0
                && let Some(slot) = next
            {
                let (rival, freed) = *self.lists.get(slot);
                rivals += u32::from(self.sketch.count(rival));
                missing = missing.saturating_sub(freed);
                victims.push(slot);
                next = self.lists.next_newer(slot);
            }
        }
        let is_wanted = victims.is_empty() || u32::from(self.sketch.count(nar)) > rivals;
        if missing == 0 && is_wanted {
            victims.into_iter().for_each(|victim| self.drop(victim));
            self.move_to(PROBATION, candidate);
        } else {
            self.drop(candidate);
        }
    }
}

impl Policy for TinyLfu {
    fn request(&mut self, nar: u32, size: u64) -> bool {
        self.sketch.note(nar);
        if let Some(slot) = self.slots.get(&nar) {
            self.hit(*slot);
            return true;
        }
        if size > self.capacity {
            return false;
        }
        let slot = self.lists.push_newest(WINDOW, (nar, size));
        self.slots.insert(nar, slot);
        self.weights[WINDOW] += size;
        while self.weights[WINDOW] > self.capacity / 100
            && let Some(oldest) = self.lists.oldest(WINDOW)
        {
            self.admit(oldest);
        }
        false
    }
}

/// How often each NAR was asked for of late: exact counts, halved now and then. Caffeine's sketch
/// approximates this in less memory.
struct Sketch {
    counts: HashMap<u32, u8>,
    noted: usize,
}

const MOST: u8 = 15;

impl Sketch {
    fn new() -> Self {
        Self {
            counts: HashMap::new(),
            noted: 0,
        }
    }

    fn note(&mut self, nar: u32) {
        let count = self.counts.entry(nar).or_default();
        *count = (*count + 1).min(MOST);
        self.noted += 1;
        if self.noted > 10 * self.counts.len().max(1000) {
            self.noted = 0;
            self.counts.retain(|_, count| {
                *count /= 2;
                *count > 0
            });
        }
    }

    fn count(&self, nar: u32) -> u8 {
        self.counts.get(&nar).copied().unwrap_or(0)
    }
}
