//! The log: lines wait in memory and are written by a thread of their own.
//!
//! Whoever reads them (journald, a pipe, a terminal that was paused) may stop reading; then lines are
//! dropped and counted, and nobody waits. What `tracing` says comes this way line by line; the line
//! for each request, which is most of a log, is made here by hand ([`Access`]), since it would
//! otherwise cost as much as the answer that it tells of.

mod access;
mod lines;
#[cfg(feature = "otel")]
mod spans;
mod stamp;

pub use access::{Access, Entry};
pub use lines::{Lines, MEMORY, Writer};
#[cfg(feature = "otel")]
pub use spans::Spans;
