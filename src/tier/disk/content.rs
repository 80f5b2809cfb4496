//! Reading a blob through: do its bytes still hash to what they must?
//!
//! Past the page cache where the file system allows it (`O_DIRECT`, open(2)): what the kernel holds
//! in memory says nothing about the disk, and reading the whole tier must not push out what clients
//! are being served from.

use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt;

use rustix::fs::OFlags;
use rustix::io::Errno;
use sha2::{Digest, Sha256};

use crate::nix::hash::Sha256Hash;
use crate::nix::key::{Key, ObjectKey};

/// Bytes read at once.
const PIECE: usize = 1 << 20;
/// Alignment that `O_DIRECT` may ask of memory and offsets, in bytes.
const ALIGNMENT: usize = 4096;

/// The hash that the key's name claims; `None` if the name is no hash.
pub(super) fn promised_hash(key: &ObjectKey) -> Option<Sha256Hash> {
    match Key::from_stored(key.as_str())? {
        Key::Nar(nar) => nar.content_hash(),
        Key::Document(_) => None,
    }
}

/// The SHA-256 of a file from its beginning to its end. `before` is told how many bytes are to be
/// read next, at most; when it says `false`, the answer is `None`. The file must have been opened for
/// this alone, since its flags change.
pub(super) fn digest(
    file: &File,
    mut before: impl FnMut(u64) -> bool,
) -> io::Result<Option<Sha256Hash>> {
    let len = file.metadata()?.len();
    let flags = rustix::fs::fcntl_getfl(file)?;
    let mut is_direct = rustix::fs::fcntl_setfl(file, flags | OFlags::DIRECT).is_ok();
    let mut memory = vec![0; PIECE + ALIGNMENT];
    let start = memory.as_ptr().align_offset(ALIGNMENT);
    let piece = &mut memory[start..start + PIECE];
    let mut hash = Sha256::new();
    let mut at = 0;
    while at < len {
        if !before((len - at).min(PIECE as u64)) {
            return Ok(None);
        }
        let read = match file.read_at(piece, at) {
            Err(error) if is_direct && Errno::from_io_error(&error) == Some(Errno::INVAL) => {
                rustix::fs::fcntl_setfl(file, flags)?;
                is_direct = false;
                continue;
            }
            read => read?,
        };
        if read == 0 {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        hash.update(&piece[..read]);
        at += read as u64;
        if is_direct && at < len && !at.is_multiple_of(ALIGNMENT as u64) {
            rustix::fs::fcntl_setfl(file, flags)?;
            is_direct = false;
        }
    }
    Ok(Some(Sha256Hash::from_bytes(hash.finalize().into())))
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs;

    #[test]
    fn a_file_is_hashed_whole_whatever_its_length() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("blob");
        for len in [0, 1, 511, 4096, 4097, PIECE, PIECE + 1, 3 * PIECE - 7] {
            let bytes: Vec<u8> = (0..len).map(|at| (at * 7 % 251) as u8).collect();
            fs::write(&path, &bytes).unwrap();
            let mut announced = 0;
            let found = digest(&File::open(&path).unwrap(), |next| {
                announced += next;
                true
            });
            assert_eq!(found.unwrap(), Some(Sha256Hash::of(&bytes)), "{len}");
            assert_eq!(announced, len as u64);
        }
    }

    #[test]
    fn it_stops_when_told_to() {
        let dir = tempfile::tempdir().unwrap();
        fs::write(dir.path().join("blob"), vec![0; 3 * PIECE]).unwrap();
        let file = File::open(dir.path().join("blob")).unwrap();
        let mut pieces = 0;
        let stopped = digest(&file, |_| {
            pieces += 1;
            pieces < 3
        });
        assert_eq!((stopped.unwrap(), pieces), (None, 3));
    }

    #[test]
    fn only_a_hash_in_the_name_is_a_promise() {
        let hash = Sha256Hash::of(b"x");
        let of = |text: &str| promised_hash(&ObjectKey::from_stored(text).unwrap());
        assert_eq!(of(&format!("nar/{}.nar.xz", hash.to_nix32())), Some(hash));
        assert_eq!(of(&format!("team/nar/{}.nar", hash.to_nix32())), Some(hash));
        assert_eq!(of("nar/hello.nar"), None);
        assert_eq!(of("log/abc.drv"), None);
    }
}
