//! A closure to copy: deep, wide and uneven, with every kind of file that a NAR can hold.
//!
//! It reaches a store through `nix-store --import`, which takes any bytes under any well-formed name, so
//! no builder, sandbox or privilege is needed, and each run has the same paths. The paths count as
//! built (no content address), hence Nix takes them from a substituter only with a signature.

use std::fs;
use std::io::{self, Read, Write};
use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::Path;

use nix_nar::Encoder;
use sha2::{Digest, Sha256};
use tempfile::TempDir;

const LAYERS: usize = 8;
const WIDTH: usize = 6;
const KIB: usize = 1024;
const MIB: usize = 1024 * KIB;

/// Store paths, dependencies before dependents; the last one needs all others.
pub struct Closure {
    packages: Vec<Package>,
}

struct Package {
    path: String,
    references: Vec<String>,
    content: Content,
}

enum Content {
    /// One file, not in a folder, of bytes that no compressor shortens.
    Noise { len: usize, seed: u64 },
    /// One file that compresses well; equal wherever it occurs, so that its NARs are one and the same.
    Licence,
    /// A folder with folders, a program, links, an empty file and names that are not ASCII.
    Tree { seed: u64 },
    /// A folder with nothing in it.
    Empty,
}

impl Closure {
    /// 49 paths in eight layers, about 9 MiB; each refers to three of the layer below, some to
    /// themselves, and two have the same bytes.
    pub fn deep_and_wide() -> Self {
        let mut packages: Vec<Package> = Vec::new();
        for index in 0..LAYERS * WIDTH {
            let (layer, column) = (index / WIDTH, index % WIDTH);
            let below =
                |step: usize| (layer.checked_sub(1)).map(|l| l * WIDTH + (column + step) % WIDTH);
            let path = store_path(&format!("part-{layer}.{column}"));
            let mut references: Vec<String> = (0..3)
                .filter_map(below)
                .map(|at| packages[at].path.clone())
                .collect();
            if column == 4 {
                references.push(path.clone());
            }
            packages.push(Package {
                path,
                references,
                content: Content::of(index),
            });
        }
        let references = packages[(LAYERS - 1) * WIDTH..]
            .iter()
            .map(|p| p.path.clone())
            .collect();
        let content = Content::Tree { seed: 1 << 20 };
        packages.push(Package {
            path: store_path("product-1.0"),
            references,
            content,
        });
        Self { packages }
    }

    /// `count` paths that need nothing, each of one file of `len(index)` incompressible bytes, below one
    /// that needs them all.
    pub fn flat(count: usize, name: &str, len: impl Fn(usize) -> usize) -> Self {
        let mut packages: Vec<Package> = (0..count)
            .map(|index| Package {
                path: store_path(&format!("{name}-{index}")),
                references: Vec::new(),
                content: Content::Noise {
                    len: len(index),
                    seed: seed_of(&format!("{name}-{index}")),
                },
            })
            .collect();
        let references = packages.iter().map(|p| p.path.clone()).collect();
        packages.push(Package {
            path: store_path(name),
            references,
            content: Content::Licence,
        });
        Self { packages }
    }

    /// The path whose closure this is.
    pub fn top(&self) -> &str {
        &self.packages.last().expect("a closure has a top").path
    }

    /// Every path of it.
    pub fn paths(&self) -> impl Iterator<Item = &str> {
        self.packages.iter().map(|package| package.path.as_str())
    }

    /// Writes it as `nix-store --export` does: Nix's `libstore/export-import.cc`.
    pub fn export(&self, to: &mut impl Write) -> io::Result<()> {
        const NEXT: u64 = 1;
        const MAGIC: u64 = 0x4558_494e;
        const NO_SIGNATURE: u64 = 0;
        const END: u64 = 0;
        for package in &self.packages {
            number(to, NEXT)?;
            package.content.nar(to)?;
            number(to, MAGIC)?;
            text(to, &package.path)?;
            number(to, package.references.len() as u64)?;
            package
                .references
                .iter()
                .try_for_each(|reference| text(to, reference))?;
            text(to, "")?; // no deriver
            number(to, NO_SIGNATURE)?;
        }
        number(to, END)
    }
}

impl Content {
    fn of(index: usize) -> Self {
        match index {
            7 => Self::Noise {
                len: 4 * MIB,
                seed: 7,
            },
            20 => Self::Noise {
                len: MIB + 1,
                seed: 20,
            },
            11 | 29 => Self::Licence,
            _ => match index % 4 {
                0 => Self::Tree { seed: index as u64 },
                1 => Self::Noise {
                    len: index * 8 * KIB,
                    seed: index as u64,
                },
                2 => Self::Noise {
                    len: index,
                    seed: index as u64,
                },
                _ => Self::Empty,
            },
        }
    }

    fn nar(&self, to: &mut impl Write) -> io::Result<()> {
        let folder = TempDir::new()?;
        let object = folder.path().join("object");
        self.lay_out(&object)?;
        io::copy(&mut nar_of(&object), to).map(drop)
    }

    fn lay_out(&self, at: &Path) -> io::Result<()> {
        match self {
            Self::Noise { len, seed } => fs::write(at, noise(*len, *seed)),
            Self::Licence => fs::write(at, "Do with it as you like.\n".repeat(20_000)),
            Self::Empty => fs::create_dir(at),
            Self::Tree { seed } => {
                fs::create_dir_all(at.join("share/doc"))?;
                fs::create_dir(at.join("bin"))?;
                fs::write(at.join("bin/run"), format!("#!/bin/sh\necho {seed}\n"))?;
                fs::set_permissions(at.join("bin/run"), fs::Permissions::from_mode(0o755))?;
                symlink("run", at.join("bin/start"))?;
                symlink("/nowhere/at/all", at.join("dangling"))?;
                fs::write(at.join("share/doc/empty"), "")?;
                fs::write(
                    at.join("share/doc/Größe +=?.txt"),
                    noise(300 + *seed as usize, *seed),
                )
            }
        }
    }
}

/// The NAR of what lies at `path`, as it is read.
pub fn nar_of(path: &Path) -> impl Read {
    Encoder::new(path).expect("a path in UTF-8")
}

/// Any name's store path: the hash part is made from the name.
pub fn store_path(name: &str) -> String {
    const NIX32: &[u8; 32] = b"0123456789abcdfghijklmnpqrsvwxyz";
    let hash: String = Sha256::digest(name)
        .iter()
        .map(|byte| char::from(NIX32[usize::from(byte % 32)]))
        .collect();
    format!("/nix/store/{hash}-{name}")
}

fn seed_of(name: &str) -> u64 {
    let digest = Sha256::digest(name);
    u64::from_le_bytes(digest[..8].try_into().expect("eight bytes"))
}

/// Bytes without pattern, the same for the same seed (xorshift64*).
pub fn noise(len: usize, seed: u64) -> Vec<u8> {
    let mut state = seed | 1 << 63;
    let mut bytes = Vec::with_capacity(len + 8);
    while bytes.len() < len {
        state ^= state >> 12;
        state ^= state << 25;
        state ^= state >> 27;
        bytes.extend_from_slice(&state.wrapping_mul(0x2545_f491_4f6c_dd1d).to_le_bytes());
    }
    bytes.truncate(len);
    bytes
}

fn number(to: &mut impl Write, value: u64) -> io::Result<()> {
    to.write_all(&value.to_le_bytes())
}

fn text(to: &mut impl Write, value: &str) -> io::Result<()> {
    number(to, value.len() as u64)?;
    to.write_all(value.as_bytes())?;
    to.write_all(&[0; 8][..value.len().wrapping_neg() % 8])
}
