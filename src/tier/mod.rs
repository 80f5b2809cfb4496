//! LAYER 3, what is kept here: documents, known absences and small NARs in memory, NARs on disk.
//!
//! A tier knows nothing of origins, of HTTP or of the order in which it is asked.

pub mod disk;
pub mod memory;
