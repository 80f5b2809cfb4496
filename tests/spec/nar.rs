//! NARs: what GET and HEAD say of them, and what a failing bucket turns into.
