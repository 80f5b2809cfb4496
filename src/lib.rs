//! narwharf stands between a build farm and its Nix binary cache in R2 or any S3.

pub mod body;
pub mod cli;
pub mod clock;
pub mod config;
pub mod gateway;
pub mod http;
pub mod lookup;
pub mod metrics;
pub mod nix;
pub mod object;
pub mod origin;
pub mod range;
pub mod server;
pub mod tier;
