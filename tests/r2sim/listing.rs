//! One page of a listing: objects, and folders where a delimiter folds many keys into one line.
//! Source: S3 API reference, ListObjectsV2.

use std::collections::BTreeSet;

use super::store::ObjectMeta;

pub struct Page {
    pub objects: Vec<(String, ObjectMeta)>,
    /// Common prefixes, the delimiter included.
    pub folders: BTreeSet<String>,
    /// The last key that this page speaks for; `None`: there is no further page.
    pub next: Option<String>,
}

/// The first `most` lines of `all`, which is in order of its keys and begins with `prefix` throughout.
/// A page never ends inside a folder, so a folder is on one page only.
pub fn page(
    all: Vec<(String, ObjectMeta)>,
    prefix: &str,
    delimiter: Option<&str>,
    most: usize,
) -> Page {
    let mut objects = Vec::new();
    let mut folders = BTreeSet::new();
    let mut last = None;
    for (key, meta) in all {
        let folder = folder(&key, prefix, delimiter);
        let known = folder.is_some_and(|it| folders.contains(it));
        if !known && objects.len() + folders.len() == most {
            return Page {
                objects,
                folders,
                next: last,
            };
        }
        last = Some(key.clone());
        match folder {
            Some(folder) if !known => drop(folders.insert(folder.to_owned())),
            Some(_) => (),
            None => objects.push((key, meta)),
        }
    }
    Page {
        objects,
        folders,
        next: None,
    }
}

/// What a listing shows instead of `key`, the delimiter included.
fn folder<'a>(key: &'a str, prefix: &str, delimiter: Option<&str>) -> Option<&'a str> {
    let delimiter = delimiter.filter(|it| !it.is_empty())?;
    let at = key[prefix.len()..].find(delimiter)?;
    Some(&key[..prefix.len() + at + delimiter.len()])
}
