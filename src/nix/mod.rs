//! Nix's own formats: hashes, store paths, cache keys, narinfos, signatures, cache info.
//!
//! Pure: bytes in, values out, no I/O and no async, and nothing here imports from the rest of the
//! crate, so the folder could leave as a library. Text becomes a value once, at the edge, through
//! the types below; to hold one is proof that the text was checked.

pub mod base32;
pub mod cache_info;
pub mod compression;
pub mod content_address;
pub mod hash;
pub mod key;
pub mod narinfo;
pub mod signature;
pub mod store_path;
