//! The one answer every layer gives: found, absent, or not known.
//!
//! `Option` cannot say "I could not find out", and that third case decides whether a build farm
//! compiles from source for an hour: Nix takes a 404 as "not here" and remembers it. So absence is
//! a value, ignorance is a value, and only `http/error.rs` turns either into a status.

/// What became of asking for something.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Lookup<T, E> {
    /// Here it is.
    Found(T),
    /// A definite "no" from whoever was asked.
    Absent,
    /// Nobody could say; the cause tells why. Never to be taken for absence.
    Unknown(E),
}

impl<T, E> Lookup<T, E> {
    /// The same answer about something made from what was found.
    pub fn map<U>(self, make: impl FnOnce(T) -> U) -> Lookup<U, E> {
        match self {
            Self::Found(value) => Lookup::Found(make(value)),
            Self::Absent => Lookup::Absent,
            Self::Unknown(cause) => Lookup::Unknown(cause),
        }
    }

    /// The same answer in the words of the layer above.
    pub fn map_unknown<F>(self, explain: impl FnOnce(E) -> F) -> Lookup<T, F> {
        match self {
            Self::Found(value) => Lookup::Found(value),
            Self::Absent => Lookup::Absent,
            Self::Unknown(cause) => Lookup::Unknown(explain(cause)),
        }
    }
}
