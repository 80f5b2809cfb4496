//! What is going on right now, for people who look: the fills in flight and how far each has come.

use super::Gateway;
use super::fills::Fills;

/// One NAR on its way from the bucket.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct UnderWay {
    /// As in the bucket.
    pub key: String,
    /// Bytes in all; `None` while the bucket has not answered.
    pub len: Option<u64>,
    /// Bytes that have arrived.
    pub written: u64,
}

impl Gateway {
    /// The fills in flight, in the order of their keys.
    pub fn under_way(&self) -> Vec<UnderWay> {
        list(&self.fills)
    }
}

fn list(fills: &Fills) -> Vec<UnderWay> {
    let mut under_way: Vec<UnderWay> = fills
        .all()
        .iter()
        .map(|fill| {
            let len = fill.opened().map(|opened| opened.facts.len);
            UnderWay {
                key: fill.key.object().as_str().to_owned(),
                len,
                written: fill.read(),
            }
        })
        .collect();
    under_way.sort_by(|a, b| a.key.cmp(&b.key));
    under_way
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::nix::key::Key;

    #[test]
    fn a_fill_is_listed_from_its_beginning_to_its_end() {
        let Some(Key::Nar(key)) = Key::parse(None, "nar/a.nar", None) else {
            panic!("the key of a NAR");
        };
        let fills = Fills::new(1, std::sync::Arc::default());
        let mut guards = Vec::new();
        fills.join(&key, |_, guard| guards.push(guard));
        let asked = UnderWay {
            key: "nar/a.nar".into(),
            len: None,
            written: 0,
        };
        assert_eq!(list(&fills), [asked]);
        drop(guards);
        assert_eq!(list(&fills), []);
    }
}
