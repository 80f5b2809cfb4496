//! How far a fill has come: the state machine of one NAR on its way from the origin to the disk.
//!
//! ```text
//! Asking ──Opened──▶ Filling { written } ──Verified──▶ Sealed { len }   readers may have it all
//!    │                       └──────────────Broke────▶ Failed(cause)    readers are cut short
//!    ├──Absent──▶ Absent                                                a definite "no"
//!    ├──NoRoom──▶ Unstored                                              readers pass
//!    └──Broke───▶ Failed(cause)
//! ```
//! An end is final: another try is another fill. Pure: tests walk it without sockets or clocks.

use std::sync::Arc;

use super::error::GatewayError;

/// The bytes at the end of a NAR that no reader gets before the hash of the whole agreed.
///
/// One write buffer's worth: a client that was cut short then lacks more than a rounding error,
/// and a NAR as small as this is checked before its answer's head is sent.
pub const WITHHELD: u64 = 64 * 1024;

#[derive(Debug, Clone)]
pub enum Progress {
    Asking,
    Filling { written: u64 },
    Sealed { len: u64 },
    Absent,
    Unstored,
    Failed(Arc<GatewayError>),
}

#[derive(Debug, Clone)]
pub enum Event {
    /// The origin's head is here, and room on disk.
    Opened,
    /// So many more bytes are in the file, without a gap before them.
    Chunk {
        len: u64,
    },
    /// All bytes are in the file, and they are the right ones.
    Verified,
    Absent,
    NoRoom,
    Broke(Arc<GatewayError>),
}

impl Progress {
    /// The only place where a fill changes state.
    #[must_use]
    pub fn after(self, event: Event) -> Self {
        match (self, event) {
            (Self::Asking, Event::Opened) => Self::Filling { written: 0 },
            (Self::Asking, Event::Absent) => Self::Absent,
            (Self::Asking, Event::NoRoom) => Self::Unstored,
            (Self::Filling { written }, Event::Chunk { len }) => Self::Filling {
                written: written + len,
            },
            (Self::Filling { written }, Event::Verified) => Self::Sealed { len: written },
            (Self::Asking | Self::Filling { .. }, Event::Broke(cause)) => Self::Failed(cause),
            (state, _) => state,
        }
    }

    /// Nothing more will happen.
    pub fn has_ended(&self) -> bool {
        !matches!(self, Self::Asking | Self::Filling { .. })
    }

    /// How many bytes from the start are in the file.
    pub fn written(&self) -> u64 {
        match self {
            Self::Filling { written } => *written,
            Self::Sealed { len } => *len,
            Self::Asking | Self::Absent | Self::Unstored | Self::Failed(_) => 0,
        }
    }

    /// How many bytes from the start readers may have, of a NAR of `len` bytes.
    pub fn readable(&self, len: u64) -> u64 {
        match self {
            Self::Filling { written } => (*written).min(len.saturating_sub(WITHHELD)),
            Self::Sealed { len } => *len,
            Self::Asking | Self::Absent | Self::Unstored | Self::Failed(_) => 0,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::gateway::flights::NoAnswer;
    use crate::nix::key::ObjectKey;
    use proptest::prelude::*;

    fn cause() -> Arc<GatewayError> {
        let key = ObjectKey::from_stored("nar/a.nar").unwrap();
        Arc::new(GatewayError::NoAnswer {
            key,
            why: NoAnswer::Lost,
        })
    }

    fn events() -> impl Strategy<Value = Vec<Event>> {
        let event = prop_oneof![
            Just(Event::Opened),
            (1u64..200_000).prop_map(|len| Event::Chunk { len }),
            Just(Event::Verified),
            Just(Event::Absent),
            Just(Event::NoRoom),
            Just(Event::Broke(cause())),
        ];
        proptest::collection::vec(event, 0..40)
    }

    fn same(a: &Progress, b: &Progress) -> bool {
        format!("{a:?}") == format!("{b:?}")
    }

    proptest! {
        #[test]
        fn an_end_is_final(events in events()) {
            let mut state = Progress::Asking;
            for event in events {
                let next = state.clone().after(event);
                prop_assert!(!state.has_ended() || same(&next, &state));
                state = next;
            }
        }

        #[test]
        fn the_last_bytes_are_nobodys_before_the_hash_agreed(events in events(), len in 0u64..1_000_000) {
            let mut state = Progress::Asking;
            for event in events {
                state = state.after(event);
                if !matches!(state, Progress::Sealed { .. }) {
                    prop_assert!(state.readable(len) + WITHHELD.min(len) <= len);
                }
            }
        }

        #[test]
        fn readers_never_see_more_than_was_written(events in events(), len in 0u64..1_000_000) {
            let mut state = Progress::Asking;
            let mut written = 0;
            for event in events {
                if let (Progress::Filling { .. }, Event::Chunk { len }) = (&state, &event) {
                    written += len;
                }
                state = state.after(event);
                prop_assert!(state.readable(len) <= written);
            }
        }

        #[test]
        fn what_may_be_read_only_grows_until_a_failure(events in events(), len in 0u64..1_000_000) {
            let mut state = Progress::Asking;
            for event in events {
                let before = state.readable(len);
                state = state.after(event);
                if !matches!(state, Progress::Failed(_) | Progress::Sealed { .. }) {
                    prop_assert!(state.readable(len) >= before);
                }
            }
        }
    }
}
