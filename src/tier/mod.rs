//! The tiers: what this machine keeps so that the bucket need not be asked. They know neither each
//! other nor any origin.

pub mod disk;
