//! Known absences: remembered briefly, and never in the way of a write.
