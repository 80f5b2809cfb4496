//! The compressions a narinfo may name.
//!
//! Only this field tells how a NAR is packed: `.nar` files may hold gzip or lzma (Nix writes no
//! extension for those), so nothing is ever concluded from a file name. Names: Nix,
//! `libutil/compression.cc`. Nix ≥ 2.35 rejects a narinfo with any other name, and so do we.

use std::fmt;

/// How the bytes of a NAR file are packed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Compression {
    None,
    Br,
    Bzip2,
    Compress,
    Grzip,
    Gzip,
    Lrzip,
    Lz4,
    Lzip,
    Lzma,
    Lzop,
    Xz,
    Zstd,
}

impl Compression {
    const ALL: [Self; 13] = [
        Self::None,
        Self::Br,
        Self::Bzip2,
        Self::Compress,
        Self::Grzip,
        Self::Gzip,
        Self::Lrzip,
        Self::Lz4,
        Self::Lzip,
        Self::Lzma,
        Self::Lzop,
        Self::Xz,
        Self::Zstd,
    ];

    /// What a narinfo without a `Compression` line, or with an empty one, means.
    pub const WHEN_ABSENT: Self = Self::Bzip2;

    /// Reads Nix's name, in lower case; `None` for a name that Nix does not know.
    pub fn from_name(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|known| known.name() == name)
    }

    /// Nix's name, as in the `Compression` line.
    pub const fn name(self) -> &'static str {
        match self {
            Self::None => "none",
            Self::Br => "br",
            Self::Bzip2 => "bzip2",
            Self::Compress => "compress",
            Self::Grzip => "grzip",
            Self::Gzip => "gzip",
            Self::Lrzip => "lrzip",
            Self::Lz4 => "lz4",
            Self::Lzip => "lzip",
            Self::Lzma => "lzma",
            Self::Lzop => "lzop",
            Self::Xz => "xz",
            Self::Zstd => "zstd",
        }
    }
}

impl fmt::Display for Compression {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_name_nix_knows_is_read_and_no_other() {
        let names = "none br bzip2 compress grzip gzip lrzip lz4 lzip lzma lzop xz zstd";
        for name in names.split(' ') {
            assert_eq!(
                Compression::from_name(name).map(Compression::name),
                Some(name)
            );
        }
        for unknown in ["", "XZ", "identity", "deflate", "zst"] {
            assert_eq!(Compression::from_name(unknown), None, "{unknown}");
        }
    }
}
