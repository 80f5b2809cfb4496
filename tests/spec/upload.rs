//! Uploads: what is taken, what is refused, and when anything becomes visible.
