//! narwharf stands between a build farm and its Nix binary cache in R2 or any S3.
//!
//! The story of a request, and the modules in the order of the story:
//!
//! 1. [`server`] accepts a connection and wraps it ([`server`]'s connection type is where bytes
//!    meet the kernel); actix reads the head.
//! 2. [`http`] finds the route, parses the path into a key of [`nix`], checks credentials, and
//!    for an upload decides before `100 Continue`.
//! 3. [`gateway`] asks the tiers and the bucket in their order. Every answer is a
//!    [`lookup::Lookup`]: found, absent, or not known. A NAR that is nowhere near is filled by a
//!    task of its own that all who ask read along.
//! 4. [`tier`] keeps documents, known absences and hot NARs in memory, NARs as plain files on
//!    disk, and an index of what is there that may be lost.
//! 5. [`origin`] is the bucket: S3 or a directory, behind retries, bounds and a breaker.
//! 6. The answer's bytes come back as [`body`] pieces: memory, or a stretch of a file.
//!
//! [`config`], [`metrics`], [`log`], [`object`], [`range`], [`clock`], [`pace`], [`asker`], [`lane`] and
//! [`human`] are leaves that anyone may use.
//! Nothing calls upward; `tests/layers.rs` holds the arrows against the code.

// The future of a request nests one future for each layer, the S3 client's own ones below them.
#![recursion_limit = "256"]

pub mod cli;
pub mod server;

pub mod http;
pub mod human;

pub mod gateway;

pub mod origin;
pub mod tier;

pub mod asker;
pub mod body;
pub mod clock;
pub mod config;
pub mod lane;
pub mod log;
pub mod lookup;
pub mod metrics;
pub mod nix;
pub mod object;
pub mod pace;
pub mod range;
