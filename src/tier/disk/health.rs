//! Whether the disk takes writes. A sick disk makes the gateway a proxy, not an outage: while it is
//! sick nothing new is begun on it, and a probe finds out when that is over.

use std::fmt;
use std::io;
use std::sync::{Mutex, PoisonError};

use rustix::io::Errno;

use crate::metrics::labels::PartState;

/// How a part of the disk tier is doing.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum State {
    /// Not yet in use, nothing known against it.
    Starting,
    Ok,
    /// Out of use, with the reason in a few words. It returns by itself.
    Degraded(String),
}

impl State {
    pub fn label(&self) -> PartState {
        match self {
            Self::Starting => PartState::Starting,
            Self::Ok => PartState::Ok,
            Self::Degraded(_) => PartState::Degraded,
        }
    }
}

/// For people: the state, and its reason.
impl fmt::Display for State {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Starting => f.write_str("starting"),
            Self::Ok => f.write_str("ok"),
            Self::Degraded(why) => write!(f, "degraded: {why}"),
        }
    }
}

/// The disk's state, changed by whoever writes to it.
pub(super) struct Health(Mutex<State>);

impl Health {
    pub fn new() -> Self {
        Self(Mutex::new(State::Starting))
    }

    pub fn state(&self) -> State {
        self.0
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .clone()
    }

    pub fn is_degraded(&self) -> bool {
        matches!(self.state(), State::Degraded(_))
    }

    /// A write went well.
    pub fn worked(&self) {
        let mut state = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if matches!(*state, State::Degraded(_)) {
            tracing::info!("the disk tier is back");
        }
        *state = State::Ok;
    }

    /// A write failed, or the directory cannot be used at all.
    pub fn failed(&self, error: &io::Error) {
        if is_of_the_process(error) || is_of_one_place(error) {
            return;
        }
        let mut state = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if !matches!(*state, State::Degraded(_)) {
            tracing::error!(%error, "the disk tier is out of use until it takes writes again");
        }
        *state = State::Degraded(error.to_string());
    }

    /// Why not to begin a write now; `None` when there is nothing against it.
    pub fn objection(&self) -> Option<io::Error> {
        match self.state() {
            State::Degraded(why) => Some(io::Error::other(format!("the disk is degraded: {why}"))),
            State::Starting | State::Ok => None,
        }
    }
}

/// Too many open files says nothing about the disk.
fn is_of_the_process(error: &io::Error) -> bool {
    matches!(
        Errno::from_io_error(error),
        Some(Errno::MFILE | Errno::NFILE | Errno::NOMEM)
    )
}

/// Something that is not ours lies where one file belongs (our own finding, so without an errno).
/// All others have their places still.
fn is_of_one_place(error: &io::Error) -> bool {
    let kinds = [io::ErrorKind::AlreadyExists, io::ErrorKind::NotADirectory];
    error.raw_os_error().is_none() && kinds.contains(&error.kind())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_failed_write_stops_the_next_until_one_works() {
        let health = Health::new();
        health.failed(&Errno::IO.into());
        assert!(health.is_degraded() && health.objection().is_some());
        health.worked();
        assert_eq!(health.state(), State::Ok);
        assert!(health.objection().is_none());
    }

    #[test]
    fn running_out_of_descriptors_is_not_held_against_the_disk() {
        let health = Health::new();
        health.failed(&Errno::MFILE.into());
        assert!(!health.is_degraded());
    }

    #[test]
    fn a_foreign_file_in_the_place_of_one_blob_is_not_held_against_the_disk() {
        let health = Health::new();
        for kind in [io::ErrorKind::AlreadyExists, io::ErrorKind::NotADirectory] {
            health.failed(&io::Error::new(kind, "no file of this cache"));
        }
        assert!(!health.is_degraded());
        // The same from the kernel is trouble with a file of ours.
        health.failed(&Errno::NOTDIR.into());
        assert!(health.is_degraded());
    }
}
