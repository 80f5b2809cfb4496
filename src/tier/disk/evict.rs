//! Which blob goes first: the one whose last use is longest ago.
//!
//! A doubly linked list through a slab, because every hit moves a blob to the front and so must cost
//! the same at ten blobs and at a million. The list holds the values themselves and hands out
//! [`Slot`]s; who owns a slot and what it is called is the business of `shelves`. Another policy
//! takes the place of this file and of nothing else.

/// A place in the list, good until the value in it is removed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Slot(usize);

/// Values from the most to the least recently used. Every operation takes constant time.
pub(super) struct Recency<T> {
    nodes: Vec<Node<T>>,
    vacant: Vec<usize>,
    newest: Option<usize>,
    oldest: Option<usize>,
}

struct Node<T> {
    value: Option<T>,
    newer: Option<usize>,
    older: Option<usize>,
}

impl<T> Recency<T> {
    pub fn new() -> Self {
        Self {
            nodes: Vec::new(),
            vacant: Vec::new(),
            newest: None,
            oldest: None,
        }
    }

    /// Adds a value as the most recently used.
    pub fn push_newest(&mut self, value: T) -> Slot {
        let at = self.store(value);
        self.link_newest(at);
        Slot(at)
    }

    /// Adds a value as the next to go.
    pub fn push_oldest(&mut self, value: T) -> Slot {
        let at = self.store(value);
        self.link_oldest(at);
        Slot(at)
    }

    /// Marks a value as used now.
    pub fn renew(&mut self, slot: Slot) {
        self.unlink(slot.0);
        self.link_newest(slot.0);
    }

    /// Makes a value the next to go.
    pub fn retire(&mut self, slot: Slot) {
        self.unlink(slot.0);
        self.link_oldest(slot.0);
    }

    pub fn remove(&mut self, slot: Slot) -> T {
        self.unlink(slot.0);
        self.vacant.push(slot.0);
        self.nodes[slot.0]
            .value
            .take()
            .expect("a slot is used only until its value is removed")
    }

    /// The value next to go.
    pub fn oldest(&self) -> Option<&T> {
        self.oldest.map(|at| self.at(at))
    }

    pub fn get(&self, slot: Slot) -> &T {
        self.at(slot.0)
    }

    pub fn get_mut(&mut self, slot: Slot) -> &mut T {
        self.nodes[slot.0]
            .value
            .as_mut()
            .expect("a slot is used only until its value is removed")
    }

    fn at(&self, at: usize) -> &T {
        self.nodes[at]
            .value
            .as_ref()
            .expect("only values are linked")
    }

    fn store(&mut self, value: T) -> usize {
        let node = Node {
            value: Some(value),
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
        match newer {
            Some(newer) => self.nodes[newer].older = older,
            None => self.newest = older,
        }
        match older {
            Some(older) => self.nodes[older].newer = newer,
            None => self.oldest = newer,
        }
    }

    fn link_newest(&mut self, at: usize) {
        self.nodes[at].older = self.newest;
        match self.newest.replace(at) {
            Some(second) => self.nodes[second].newer = Some(at),
            None => self.oldest = Some(at),
        }
    }

    fn link_oldest(&mut self, at: usize) {
        self.nodes[at].newer = self.oldest;
        match self.oldest.replace(at) {
            Some(last_but_one) => self.nodes[last_but_one].older = Some(at),
            None => self.newest = Some(at),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::collections::VecDeque;

    #[derive(Debug, Clone)]
    enum Step {
        PushNewest,
        PushOldest,
        Renew(prop::sample::Index),
        Retire(prop::sample::Index),
        Remove(prop::sample::Index),
        RemoveOldest,
    }

    fn step() -> impl Strategy<Value = Step> {
        prop_oneof![
            3 => Just(Step::PushNewest),
            1 => Just(Step::PushOldest),
            3 => any::<prop::sample::Index>().prop_map(Step::Renew),
            1 => any::<prop::sample::Index>().prop_map(Step::Retire),
            1 => any::<prop::sample::Index>().prop_map(Step::Remove),
            1 => Just(Step::RemoveOldest),
        ]
    }

    proptest! {
        /// Against the plainest model there is: a queue that is searched and shifted.
        #[test]
        fn it_behaves_like_a_queue_that_is_searched(steps in prop::collection::vec(step(), 0..200)) {
            let mut list = Recency::new();
            let mut model: VecDeque<(u32, Slot)> = VecDeque::new();
            for (name, step) in (0..).zip(steps) {
                let pick = |index: prop::sample::Index| (!model.is_empty()).then(|| index.index(model.len()));
                match step {
                    Step::PushNewest => model.push_front((name, list.push_newest(name))),
                    Step::PushOldest => model.push_back((name, list.push_oldest(name))),
                    Step::Renew(index) => if let Some(at) = pick(index) {
                        let found = model.remove(at).unwrap();
                        list.renew(found.1);
                        model.push_front(found);
                    },
                    Step::Retire(index) => if let Some(at) = pick(index) {
                        let found = model.remove(at).unwrap();
                        list.retire(found.1);
                        model.push_back(found);
                    },
                    Step::Remove(index) => if let Some(at) = pick(index) {
                        let (name, slot) = model.remove(at).unwrap();
                        prop_assert_eq!(list.remove(slot), name);
                    },
                    Step::RemoveOldest => if let Some((name, slot)) = model.pop_back() {
                        prop_assert_eq!(list.remove(slot), name);
                    },
                }
                prop_assert_eq!(list.oldest(), model.back().map(|(name, _)| name));
                for (name, slot) in &model {
                    prop_assert_eq!(list.get(*slot), name);
                }
            }
            for (name, slot) in model.into_iter().rev() {
                prop_assert_eq!(list.oldest(), Some(&name));
                list.remove(slot);
            }
            prop_assert_eq!(list.oldest(), None);
        }
    }
}
