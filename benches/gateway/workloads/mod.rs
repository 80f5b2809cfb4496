//! What is asked, a file for each kind of question.

mod closure;
mod cold;
mod memory;
mod million;
mod upload;
mod warm;

use std::io;

use clap::ValueEnum;

use crate::bench::Bench;

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Workload {
    /// Narinfos that are warm, at 1, 8 and 64 connections
    Narinfo,
    /// Narinfos that nobody has, known to be absent
    Absent,
    /// Narinfos that the client has already: 304
    Unchanged,
    /// Warm NARs of 64 KiB
    #[value(name = "nar-64k")]
    Nar64K,
    /// Warm NARs of 1 MiB
    #[value(name = "nar-1m")]
    Nar1M,
    /// Warm NARs of 32 MiB
    #[value(name = "nar-32m")]
    Nar32M,
    /// A warm NAR of 512 MiB
    #[value(name = "nar-512m")]
    Nar512M,
    /// Pieces of a warm NAR
    Range,
    /// Time to the first byte of what only the bucket has
    Miss,
    /// A cold NAR for 1, 8 and 64 readers at once, and for readers who come later
    Fill,
    /// 64 readers of a cold NAR of 512 MiB, the bucket right beside, and of the same when it is warm
    Herd,
    /// NARs pushed
    Upload,
    /// What Nix asks to fetch a closure, cold and warm
    Closure,
    /// Memory with nothing to do, with 10,000 idle connections, with 10,000 stalled downloads
    Memory,
    /// A million narinfos in the index
    Million,
}

const MIB: usize = 1 << 20;

impl Workload {
    pub fn run(self, bench: &mut Bench) -> io::Result<()> {
        match self {
            Self::Narinfo => warm::narinfo(bench),
            Self::Absent => warm::absent(bench),
            Self::Unchanged => warm::unchanged(bench),
            Self::Nar64K => warm::nar(bench, "64 KiB", 64 << 10, 64),
            Self::Nar1M => warm::nar(bench, "1 MiB", MIB, 16),
            Self::Nar32M => warm::nar(bench, "32 MiB", 32 * MIB, 4),
            Self::Nar512M => warm::nar(bench, "512 MiB", 512 * MIB, 1),
            Self::Range => warm::range(bench),
            Self::Miss => cold::miss(bench),
            Self::Fill => cold::fill(bench),
            Self::Herd => cold::herd(bench),
            Self::Upload => upload::run(bench),
            Self::Closure => closure::run(bench),
            Self::Memory => memory::run(bench),
            Self::Million => million::run(bench),
        }
    }
}
