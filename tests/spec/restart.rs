//! Restarts: what was cached is served again, whatever became of the index.
