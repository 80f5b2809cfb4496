//! Doubly linked lists through one slab, so that moving a value, within a list or to another, costs
//! the same at ten values and at a million.
//!
//! The lists hold the values themselves and hand out [`Slot`]s. A slot stays good while its value is
//! moved about, until it is removed.

/// A place of a value, good until the value is removed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Slot(usize);

/// `N` lists, each from its newest to its oldest value. Every operation takes constant time.
pub struct Lists<T, const N: usize> {
    nodes: Vec<Node<T>>,
    vacant: Vec<usize>,
    ends: [Ends; N],
}

struct Node<T> {
    value: Option<T>,
    list: usize,
    newer: Option<usize>,
    older: Option<usize>,
}

#[derive(Clone, Copy, Default)]
struct Ends {
    newest: Option<usize>,
    oldest: Option<usize>,
}

impl<T, const N: usize> Lists<T, N> {
    pub fn new() -> Self {
        Self {
            nodes: Vec::new(),
            vacant: Vec::new(),
            ends: [Ends::default(); N],
        }
    }

    pub fn push_newest(&mut self, list: usize, value: T) -> Slot {
        let at = self.store(list, value);
        self.link_newest(at);
        Slot(at)
    }

    pub fn push_oldest(&mut self, list: usize, value: T) -> Slot {
        let at = self.store(list, value);
        self.link_oldest(at);
        Slot(at)
    }

    /// Makes a value the newest of `list`, wherever it was.
    pub fn move_to_newest(&mut self, list: usize, slot: Slot) {
        self.unlink(slot.0);
        self.nodes[slot.0].list = list;
        self.link_newest(slot.0);
    }

    /// Makes a value the oldest of `list`, wherever it was.
    pub fn move_to_oldest(&mut self, list: usize, slot: Slot) {
        self.unlink(slot.0);
        self.nodes[slot.0].list = list;
        self.link_oldest(slot.0);
    }

    pub fn remove(&mut self, slot: Slot) -> T {
        self.unlink(slot.0);
        self.vacant.push(slot.0);
        self.nodes[slot.0].value.take().expect(REMOVED)
    }

    pub fn oldest(&self, list: usize) -> Option<Slot> {
        self.ends[list].oldest.map(Slot)
    }

    /// What came into its list next after `slot`.
    pub fn next_newer(&self, slot: Slot) -> Option<Slot> {
        self.nodes[slot.0].newer.map(Slot)
    }

    pub fn list_of(&self, slot: Slot) -> usize {
        self.nodes[slot.0].list
    }

    pub fn get(&self, slot: Slot) -> &T {
        self.nodes[slot.0].value.as_ref().expect(REMOVED)
    }

    pub fn get_mut(&mut self, slot: Slot) -> &mut T {
        self.nodes[slot.0].value.as_mut().expect(REMOVED)
    }

    fn store(&mut self, list: usize, value: T) -> usize {
        let node = Node {
            value: Some(value),
            list,
            newer: None,
            older: None,
        };
        match self.vacant.pop() {
            Some(at) => {
                self.nodes[at] = node;
                at
            }
            None => {
                self.nodes.push(node);
                self.nodes.len() - 1
            }
        }
    }

    fn unlink(&mut self, at: usize) {
        let (newer, older) = (self.nodes[at].newer.take(), self.nodes[at].older.take());
        let list = self.nodes[at].list;
        match newer {
            Some(newer) => self.nodes[newer].older = older,
            None => self.ends[list].newest = older,
        }
        match older {
            Some(older) => self.nodes[older].newer = newer,
            None => self.ends[list].oldest = newer,
        }
    }

    fn link_newest(&mut self, at: usize) {
        let ends = &mut self.ends[self.nodes[at].list];
        let second = ends.newest.replace(at);
        if second.is_none() {
            ends.oldest = Some(at);
        }
        self.nodes[at].older = second;
        if let Some(second) = second {
            self.nodes[second].newer = Some(at);
        }
    }

    fn link_oldest(&mut self, at: usize) {
        let ends = &mut self.ends[self.nodes[at].list];
        let last_but_one = ends.oldest.replace(at);
        if last_but_one.is_none() {
            ends.newest = Some(at);
        }
        self.nodes[at].newer = last_but_one;
        if let Some(last_but_one) = last_but_one {
            self.nodes[last_but_one].older = Some(at);
        }
    }
}

const REMOVED: &str = "a slot is used only until its value is removed";

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::collections::VecDeque;

    #[derive(Debug, Clone)]
    enum Step {
        PushNewest(usize),
        PushOldest(usize),
        ToNewest(usize, prop::sample::Index),
        ToOldest(usize, prop::sample::Index),
        Remove(prop::sample::Index),
    }

    fn step() -> impl Strategy<Value = Step> {
        let at = || any::<prop::sample::Index>();
        prop_oneof![
            3 => (0..2usize).prop_map(Step::PushNewest),
            1 => (0..2usize).prop_map(Step::PushOldest),
            3 => (0..2usize, at()).prop_map(|(list, at)| Step::ToNewest(list, at)),
            1 => (0..2usize, at()).prop_map(|(list, at)| Step::ToOldest(list, at)),
            2 => at().prop_map(Step::Remove),
        ]
    }

    /// The plainest model there is: queues that are searched and shifted.
    #[derive(Default)]
    struct Model([VecDeque<(u32, Slot)>; 2]);

    impl Model {
        fn take(&mut self, at: prop::sample::Index) -> Option<(u32, Slot)> {
            let len = self.0[0].len() + self.0[1].len();
            let at = (len > 0).then(|| at.index(len))?;
            match at.checked_sub(self.0[0].len()) {
                None => self.0[0].remove(at),
                Some(at) => self.0[1].remove(at),
            }
        }
    }

    proptest! {
        #[test]
        fn they_behave_like_queues_that_are_searched(steps in prop::collection::vec(step(), 0..200)) {
            let mut lists = Lists::<u32, 2>::new();
            let mut model = Model::default();
            for (name, step) in (0..).zip(steps) {
                match step {
                    Step::PushNewest(list) => model.0[list].push_front((name, lists.push_newest(list, name))),
                    Step::PushOldest(list) => model.0[list].push_back((name, lists.push_oldest(list, name))),
                    Step::ToNewest(list, at) => if let Some(found) = model.take(at) {
                        lists.move_to_newest(list, found.1);
                        model.0[list].push_front(found);
                    },
                    Step::ToOldest(list, at) => if let Some(found) = model.take(at) {
                        lists.move_to_oldest(list, found.1);
                        model.0[list].push_back(found);
                    },
                    Step::Remove(at) => if let Some((name, slot)) = model.take(at) {
                        prop_assert_eq!(lists.remove(slot), name);
                    },
                }
                for (list, queue) in model.0.iter().enumerate() {
                    let walked: Vec<_> =
                        std::iter::successors(lists.oldest(list), |slot| lists.next_newer(*slot)).collect();
                    let expected: Vec<_> = queue.iter().rev().map(|(_, slot)| *slot).collect();
                    prop_assert_eq!(walked, expected);
                    for (name, slot) in queue {
                        prop_assert_eq!((lists.get(*slot), lists.list_of(*slot)), (name, list));
                    }
                }
            }
        }
    }
}
