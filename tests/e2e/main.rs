//! The built program under the real Nix client: closures copied both ways, and kills in the midst of it.
//!
//! Everything outside is real: `nix` from Debian's nix-bin (`tests/prepare` installs it), the binary that
//! cargo built, its files, its sockets, its signals. Each test makes a folder with a gateway and as many
//! Nix stores as it has machines; nothing of the host's Nix is read or written.

mod actions;
mod broken;
mod bucket;
#[allow(dead_code)]
#[path = "../r2sim/selftest/client.rs"]
mod client;
mod closure;
mod copies;
#[path = "../bed/dice.rs"]
mod dice;
mod farm;
mod gateway;
mod giant;
mod kill;
mod nix;
mod ordeal;
mod proxy;
#[path = "../r2sim/mod.rs"]
mod r2sim;
mod raw;
mod retry;
mod signed;
mod trouble;
mod world;
