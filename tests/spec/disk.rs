//! The disk tier: its bounds, its neighbours, and what became of its files.
