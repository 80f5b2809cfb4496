//! The two kinds of bucket that a gateway may stand before, alike to a test.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

use crate::gateway::Setting;
use crate::r2sim::R2Sim;

/// A bucket, and the look past the gateway at what it holds.
pub enum Bucket {
    Directory(PathBuf),
    R2(Box<R2Sim>),
}

impl Bucket {
    /// The settings that point a gateway at it.
    pub fn settings(&self) -> Vec<Setting> {
        match self {
            Self::Directory(path) => vec![
                ("BUCKET__KIND", "directory".to_owned()),
                ("BUCKET__PATH", path.display().to_string()),
            ],
            Self::R2(sim) => vec![
                ("BUCKET__KIND", "s3".to_owned()),
                ("BUCKET__ENDPOINT", sim.endpoint()),
                ("BUCKET__NAME", sim.bucket().to_owned()),
                (
                    "BUCKET__ACCESS_KEY_ID",
                    sim.credentials().access_key_id.clone(),
                ),
                (
                    "BUCKET__SECRET_ACCESS_KEY",
                    sim.credentials().secret_access_key.clone(),
                ),
            ],
        }
    }

    /// Puts an object there without the gateway's knowledge.
    pub fn publish(&self, key: &str, bytes: &[u8]) {
        match self {
            Self::Directory(path) => {
                let file = path.join(key);
                fs::create_dir_all(file.parent().unwrap()).unwrap();
                fs::write(file, bytes).unwrap();
            }
            Self::R2(sim) => drop(sim.put_object(key, bytes, "application/octet-stream")),
        }
    }

    /// Every object by its key.
    pub fn objects(&self) -> BTreeMap<String, Vec<u8>> {
        match self {
            Self::Directory(path) => files_below(path)
                .into_iter()
                .filter(|(key, _)| !key.starts_with('.')) // no key does, temporary files do
                .collect(),
            Self::R2(sim) => {
                let keys = sim.keys().into_iter();
                keys.filter_map(|key| sim.object(&key).map(|bytes| (key, bytes)))
                    .collect()
            }
        }
    }
}

/// Every regular file below `root` by its relative path; none when `root` is not there.
pub fn files_below(root: &Path) -> BTreeMap<String, Vec<u8>> {
    let mut found = BTreeMap::new();
    let mut folders = vec![root.to_owned()];
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(&folder).into_iter().flatten() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                folders.push(path);
            } else {
                let name = path
                    .strip_prefix(root)
                    .unwrap()
                    .to_str()
                    .unwrap()
                    .to_owned();
                found.insert(name, fs::read(&path).unwrap());
            }
        }
    }
    found
}
