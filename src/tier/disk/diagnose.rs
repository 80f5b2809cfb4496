//! `narwharf check` for the disk: is the directory usable, ours, writable, and as large as the
//! settings think? Takes no lock and leaves nothing behind, so it can run beside a server.

use std::fs;
use std::io::{self, Write};
use std::path::Path;

use bytesize::ByteSize;

use super::claim;
use super::layout::Layout;
use crate::config::{self, Finding};

/// One line for each thing looked at. Blocks.
pub fn diagnose(settings: &config::Disk) -> Vec<Finding> {
    let layout = Layout::new(&settings.path);
    let place = claim::inspect(&layout);
    let is_usable = place.is_ok();
    let mut findings = vec![Finding {
        what: "disk directory".to_owned(),
        outcome: place
            .map(|state| format!("{}: {state}", settings.path.display()))
            .map_err(|refusal| refusal.to_string()),
    }];
    if is_usable {
        let there = nearest(&settings.path);
        findings.push(Finding {
            what: "disk writable".to_owned(),
            outcome: try_to_write(there)
                .map(|()| "a file was written, synced and removed".to_owned())
                .map_err(|error| format!("{}: {error}", there.display())),
        });
        findings.push(Finding {
            what: "disk space".to_owned(),
            outcome: space(settings, there),
        });
    }
    findings
}

/// The directory, or what it would be made in.
fn nearest(path: &Path) -> &Path {
    path.ancestors()
        .find(|path| path.is_dir())
        .unwrap_or(Path::new("."))
}

fn try_to_write(dir: &Path) -> io::Result<()> {
    let mut file = tempfile::Builder::new()
        .prefix(".narwharf-check-")
        .tempfile_in(dir)?;
    file.write_all(b"written by narwharf check\n")?;
    file.as_file().sync_all()?;
    file.close()
}

fn space(settings: &config::Disk, there: &Path) -> Result<String, String> {
    let about = rustix::fs::statvfs(there).map_err(|error| error.to_string())?;
    let free = about.f_bavail.saturating_mul(about.f_frsize);
    let kept = settings.min_free;
    let usable = free.saturating_sub(kept) + used(&settings.path);
    let figures = format!(
        "{} free, {} of them kept free (disk.min_free), capacity {}",
        ByteSize(free),
        ByteSize(kept),
        ByteSize(settings.capacity),
    );
    if free <= kept {
        Err(format!(
            "{figures}: nothing can be cached; make room or lower disk.min_free"
        ))
    } else if usable < settings.capacity {
        Ok(format!(
            "{figures}; as it is, the cache grows to {} only",
            ByteSize(usable)
        ))
    } else {
        Ok(figures)
    }
}

/// Allocated bytes the cache has already; what cannot be read counts as nothing.
fn used(path: &Path) -> u64 {
    let Ok(entries) = fs::read_dir(path) else {
        return 0;
    };
    entries
        .flatten()
        .filter_map(|entry| entry.metadata().ok().map(|about| (entry, about)))
        .map(|(entry, about)| {
            if about.is_dir() {
                used(&entry.path())
            } else {
                super::files::allocated(&about)
            }
        })
        .sum()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn settings(path: &Path) -> config::Disk {
        config::Disk {
            path: path.to_owned(),
            capacity: 1 << 20,
            min_free: 0,
            max_nar: None,
            index_size: 64 << 20,
            index_cache: 1 << 20,
            abandoned_fills: crate::config::AbandonedFills::Always,
        }
    }

    fn problems(settings: &config::Disk) -> Vec<String> {
        diagnose(settings)
            .into_iter()
            .filter_map(|finding| finding.outcome.err())
            .collect()
    }

    #[test]
    fn a_directory_yet_to_be_made_is_fine_and_is_not_made() {
        let dir = tempfile::tempdir().unwrap();
        let cache = dir.path().join("cache");
        assert_eq!(problems(&settings(&cache)), Vec::<String>::new());
        assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 0);
    }

    #[test]
    fn a_directory_of_somebody_elses_is_named_with_what_is_in_it() {
        let dir = tempfile::tempdir().unwrap();
        fs::write(dir.path().join("thesis.tex"), "").unwrap();
        let [problem] = &problems(&settings(dir.path()))[..] else {
            panic!("one problem");
        };
        assert!(problem.contains("thesis.tex") && problem.contains("disk.path"));
    }

    #[test]
    fn space_that_is_not_there_is_told_in_numbers() {
        let dir = tempfile::tempdir().unwrap();
        let huge = config::Disk {
            capacity: 1 << 60,
            ..settings(dir.path())
        };
        let said = diagnose(&huge).pop().unwrap().outcome.unwrap();
        assert!(said.contains("the cache grows to"), "{said}");
        let greedy = config::Disk {
            min_free: 1 << 60,
            ..settings(dir.path())
        };
        assert!(problems(&greedy)[0].contains("nothing can be cached"));
    }
}
