//! Which blob goes first: S3-FIFO, by bytes.
//!
//! ```text
//!              seen before ┌──────────── ghosts (names only) ◀──┐ unused
//!                          ▼                                    │
//! new ──▶ probation (1/4) ──used──▶ main (3/4) ──unused──▶ gone
//!                                      ▲     │
//!                                      └─used┘
//! ```
//! Most of what a mass rebuild pulls through is asked for once. It enters the probation queue and
//! leaves it again without having touched what the farm lives on. A blob that was used on probation,
//! or comes back soon after it was evicted unused, goes to the main queue, where each use buys
//! another round. A hit only counts, so nothing is moved in a request's path. Every operation takes
//! constant time, amortised. Chosen by a replay: `docs/eviction.md`; the algorithm is from "FIFO
//! queues are all you need for cache eviction" (SOSP 2023).
//!
//! Pure: no I/O, no clock, nothing of this crate, so that `benches/replay` measures this very code.
//! Another policy takes the place of this folder and of nothing else.

mod ghosts;
pub mod lists;

use ghosts::Ghosts;
use lists::Lists;
pub use lists::Slot;

/// Share of the bytes that new blobs have to prove themselves in: one in so many. The paper's 10
/// keeps some more of tiny caches and less of all others (`docs/eviction.md`).
const PROBATION: u64 = 4;
/// Uses on probation that earn a place in the main queue.
const WORTH_KEEPING: u8 = 1;
/// Uses that are counted; more buy nothing.
const MOST_USES: u8 = 3;
/// How far [`Order::peek`] looks for a value without uses.
const LOOK: usize = 256;

const SMALL: usize = 0;
const MAIN: usize = 1;

/// Values in the order in which they are to go.
pub struct Order<T> {
    queues: Lists<Ranked<T>, 2>,
    /// Bytes in each queue.
    weights: [u64; 2],
    len: usize,
    ghosts: Ghosts,
}

struct Ranked<T> {
    value: T,
    /// Hash of its key.
    name: u64,
    /// In bytes.
    weight: u64,
    uses: u8,
}

impl<T> Order<T> {
    /// `capacity`: how many bytes there will be at most.
    pub fn new(capacity: u64) -> Self {
        Self {
            queues: Lists::new(),
            weights: [0; 2],
            len: 0,
            ghosts: Ghosts::new(capacity),
        }
    }

    pub fn len(&self) -> usize {
        self.len
    }

    /// Bytes of all values.
    pub fn weight(&self) -> u64 {
        self.weights[SMALL] + self.weights[MAIN]
    }

    /// A new value: on probation, unless one of its name was evicted unused not long ago.
    pub fn insert(&mut self, name: u64, weight: u64, value: T) -> Slot {
        let queue = if self.ghosts.take(name) { MAIN } else { SMALL };
        self.enter(queue, weight);
        self.queues
            .push_newest(queue, Ranked::new(name, weight, value))
    }

    /// A value from before the start. It has stood its probation, and goes before all that is in
    /// the main queue.
    pub fn insert_found(&mut self, name: u64, weight: u64, value: T) -> Slot {
        self.enter(MAIN, weight);
        self.queues
            .push_oldest(MAIN, Ranked::new(name, weight, value))
    }

    /// Has a value go before all others in the main queue.
    pub fn retire(&mut self, slot: Slot) {
        let weight = self.queues.get(slot).weight;
        self.weights[self.queues.list_of(slot)] -= weight;
        self.weights[MAIN] += weight;
        self.queues.move_to_oldest(MAIN, slot);
    }

    /// Notes a use.
    pub fn note_use(&mut self, slot: Slot) {
        let ranked = self.queues.get_mut(slot);
        ranked.uses = (ranked.uses + 1).min(MOST_USES);
    }

    /// The bytes of a value have changed.
    pub fn set_weight(&mut self, slot: Slot, weight: u64) {
        let old = std::mem::replace(&mut self.queues.get_mut(slot).weight, weight);
        let sum = &mut self.weights[self.queues.list_of(slot)];
        *sum = *sum - old + weight;
    }

    /// The value to go next. Those that have earned another round are sent on it first.
    pub fn choose(&mut self) -> Option<Slot> {
        loop {
            let queue = self.queue_in_turn();
            let slot = self.queues.oldest(queue)?;
            let ranked = self.queues.get_mut(slot);
            let weight = ranked.weight;
            if !ranked.has_earned_a_round(queue) {
                return Some(slot);
            }
            ranked.uses = if queue == SMALL { 0 } else { ranked.uses - 1 };
            self.weights[queue] -= weight;
            self.weights[MAIN] += weight;
            self.queues.move_to_newest(MAIN, slot);
        }
    }

    /// Roughly what [`Order::choose`] would say, without changing anything: among the next few.
    pub fn peek(&self) -> Option<&T> {
        let queue = self.queue_in_turn();
        let oldest = self.queues.oldest(queue)?;
        let found = std::iter::successors(Some(oldest), |slot| self.queues.next_newer(*slot))
            .take(LOOK)
            .find(|slot| !self.queues.get(*slot).has_earned_a_round(queue));
        Some(self.get(found.unwrap_or(oldest)))
    }

    /// Takes a value out to make room; its name is remembered if nobody used it.
    pub fn evict(&mut self, slot: Slot) -> T {
        if self.queues.list_of(slot) == SMALL {
            let ranked = self.queues.get(slot);
            self.ghosts.put(ranked.name, ranked.weight, self.len);
        }
        self.remove(slot)
    }

    /// Takes a value out for any other reason.
    pub fn remove(&mut self, slot: Slot) -> T {
        let queue = self.queues.list_of(slot);
        let ranked = self.queues.remove(slot);
        self.weights[queue] -= ranked.weight;
        self.len -= 1;
        ranked.value
    }

    pub fn get(&self, slot: Slot) -> &T {
        &self.queues.get(slot).value
    }

    pub fn get_mut(&mut self, slot: Slot) -> &mut T {
        &mut self.queues.get_mut(slot).value
    }

    fn enter(&mut self, queue: usize, weight: u64) {
        self.weights[queue] += weight;
        self.len += 1;
    }

    fn queue_in_turn(&self) -> usize {
        let is_over = self.weights[SMALL] > self.weight() / PROBATION;
        if is_over || self.weights[MAIN] == 0 && self.queues.oldest(SMALL).is_some() {
            SMALL
        } else {
            MAIN
        }
    }
}

impl<T> Ranked<T> {
    fn new(name: u64, weight: u64, value: T) -> Self {
        Self {
            value,
            name,
            weight,
            uses: 0,
        }
    }

    fn has_earned_a_round(&self, queue: usize) -> bool {
        let least = if queue == SMALL { WORTH_KEEPING } else { 1 };
        self.uses >= least
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::collections::HashMap;

    const KIB: u64 = 1 << 10;

    /// Values that are their own names, of a size each, in a cache of so many bytes.
    struct Cache {
        order: Order<u64>,
        slots: HashMap<u64, Slot>,
        capacity: u64,
    }

    impl Cache {
        fn new(capacity: u64) -> Self {
            Self {
                order: Order::new(capacity),
                slots: HashMap::new(),
                capacity,
            }
        }

        fn ask(&mut self, name: u64, weight: u64) -> bool {
            if let Some(slot) = self.slots.get(&name) {
                self.order.note_use(*slot);
                return true;
            }
            while self.order.weight() + weight > self.capacity {
                let victim = self.order.choose().unwrap();
                let gone = self.order.evict(victim);
                self.slots.remove(&gone);
            }
            let slot = self.order.insert(name, weight, name);
            self.slots.insert(name, slot);
            false
        }

        fn ask_all(&mut self, names: std::ops::Range<u64>) {
            for name in names {
                self.ask(name, KIB);
            }
        }
    }

    #[test]
    fn what_is_used_stays_through_a_flood_of_what_is_not() {
        let mut cache = Cache::new(100 * KIB);
        for _ in 0..2 {
            cache.ask_all(0..60);
        }
        cache.ask_all(1000..9000);
        let kept = (0..60).filter(|name| cache.ask(*name, KIB)).count();
        assert_eq!(kept, 60);
    }

    #[test]
    fn what_comes_back_soon_after_it_went_unused_is_kept_from_then_on() {
        let mut cache = Cache::new(100 * KIB);
        cache.ask_all(0..80);
        cache.ask_all(0..80);
        cache.ask(1000, KIB);
        cache.ask_all(2000..2100);
        assert!(!cache.ask(1000, KIB), "it went with the flood");
        cache.ask_all(3000..9000);
        assert!(cache.ask(1000, KIB));
    }

    #[test]
    fn what_fell_silent_goes_in_the_end_however_much_it_was_used() {
        let mut cache = Cache::new(100 * KIB);
        for _ in 0..10 {
            cache.ask_all(0..50);
        }
        for round in 1..10 {
            for _ in 0..2 {
                cache.ask_all(1000 * round..1000 * round + 60);
            }
        }
        assert_eq!((0..50).filter(|name| cache.ask(*name, KIB)).count(), 0);
    }

    #[test]
    fn what_was_found_goes_in_the_order_it_was_retired_in() {
        let mut order = Order::new(100);
        let slots = [1, 2, 3].map(|name| order.insert_found(name, 10, name));
        order.note_use(slots[2]);
        for slot in [slots[0], slots[2], slots[1]] {
            order.retire(slot);
        }
        let gone = std::iter::from_fn(|| {
            let slot = order.choose()?;
            Some(order.evict(slot))
        });
        assert_eq!(gone.collect::<Vec<_>>(), [2, 1, 3], "3 was used");
    }

    #[derive(Debug, Clone)]
    enum Step {
        Insert(u64, u64),
        Found(u64, u64),
        Use(prop::sample::Index),
        Retire(prop::sample::Index),
        Weigh(prop::sample::Index, u64),
        Remove(prop::sample::Index),
        Evict,
    }

    fn step() -> impl Strategy<Value = Step> {
        let at = || any::<prop::sample::Index>();
        let weight = || prop_oneof![Just(0u64), 1..100u64, Just(10_000u64)];
        prop_oneof![
            4 => (0..40u64, weight()).prop_map(|(name, weight)| Step::Insert(name, weight)),
            1 => (0..40u64, weight()).prop_map(|(name, weight)| Step::Found(name, weight)),
            4 => at().prop_map(Step::Use),
            1 => at().prop_map(Step::Retire),
            1 => (at(), weight()).prop_map(|(at, weight)| Step::Weigh(at, weight)),
            1 => at().prop_map(Step::Remove),
            3 => Just(Step::Evict),
        ]
    }

    proptest! {
        /// Whatever happens: the sums agree, there is a victim as long as there is anything, and it
        /// is one that is there.
        #[test]
        fn nothing_is_lost_or_counted_twice(steps in prop::collection::vec(step(), 0..300)) {
            let mut order = Order::new(1000);
            let mut model: Vec<(u64, u64, Slot)> = Vec::new();
            for step in steps {
                let pick = |at: prop::sample::Index| (!model.is_empty()).then(|| at.index(model.len()));
                match step {
                    Step::Insert(name, weight) => model.push((name, weight, order.insert(name, weight, name))),
                    Step::Found(name, weight) => model.push((name, weight, order.insert_found(name, weight, name))),
                    Step::Use(at) => if let Some(at) = pick(at) { order.note_use(model[at].2) },
                    Step::Retire(at) => if let Some(at) = pick(at) { order.retire(model[at].2) },
                    Step::Weigh(at, weight) => if let Some(at) = pick(at) {
                        order.set_weight(model[at].2, weight);
                        model[at].1 = weight;
                    },
                    Step::Remove(at) => if let Some(at) = pick(at) {
                        let (name, _, slot) = model.swap_remove(at);
                        prop_assert_eq!(order.remove(slot), name);
                    },
                    Step::Evict => match order.choose() {
                        None => prop_assert!(model.is_empty()),
                        Some(victim) => {
                            let at = model.iter().position(|(_, _, slot)| *slot == victim).unwrap();
                            prop_assert_eq!(order.evict(victim), model.swap_remove(at).0);
                        }
                    },
                }
                prop_assert_eq!(order.len(), model.len());
                prop_assert_eq!(order.weight(), model.iter().map(|(_, weight, _)| weight).sum::<u64>());
                prop_assert_eq!(order.peek().is_none(), model.is_empty());
                for (name, _, slot) in &model {
                    prop_assert_eq!(order.get(*slot), name);
                }
            }
        }
    }
}
