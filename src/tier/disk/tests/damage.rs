//! Ways of breaking the index: none costs the start, a blob, or a file that is not ours.

use super::*;
use std::os::unix::fs::{FileExt, symlink};

const HELLO: &str = "nar/hello.nar";
const ODD: &str = "team/nar/hello.nar?x=1";

/// What is done to one of sled's files.
type ToFile = fn(&Path);
/// What is done to the index's directory.
type ToFolder = fn(&Path);

const TO_FILES: [(&str, ToFile); 17] = [
    ("cut to nothing", |file| fs::write(file, "").unwrap()),
    ("cut to a byte", |file| cut(file, |_| 1)),
    ("cut to a third", |file| cut(file, |len| len / 3)),
    ("cut by a byte", |file| cut(file, |len| len - 1)),
    ("first byte flipped", |file| flip(file, |_| 0)),
    ("a byte in the middle flipped", |file| {
        flip(file, |len| len / 2)
    }),
    ("last byte flipped", |file| flip(file, |len| len - 1)),
    ("a byte in the last quarter flipped", |file| {
        flip(file, |len| len * 7 / 8)
    }),
    ("its beginning zero", |file| {
        blank(file, |len| 0..len.min(512))
    }),
    ("its end zero", |file| {
        blank(file, |len| len - len.min(512)..len)
    }),
    ("its halves swapped", |file| {
        let mut bytes = fs::read(file).unwrap();
        let half = bytes.len() / 2;
        bytes.rotate_left(half);
        fs::write(file, bytes).unwrap();
    }),
    ("all zero", |file| fill(file, 0)),
    ("all ones", |file| fill(file, 0xff)),
    ("longer", |file| {
        let mut bytes = fs::read(file).unwrap();
        bytes.extend([0xa5; 5000]);
        fs::write(file, bytes).unwrap();
    }),
    ("deleted", |file| fs::remove_file(file).unwrap()),
    ("a folder in its place", |file| {
        fs::remove_file(file).unwrap();
        fs::create_dir(file).unwrap();
    }),
    ("a dead link in its place", |file| {
        fs::remove_file(file).unwrap();
        symlink("/nowhere/at/all", file).unwrap();
    }),
];

const TO_FOLDER: [(&str, ToFolder); 8] = [
    ("deleted", |dir| fs::remove_dir_all(dir).unwrap()),
    ("emptied", |dir| {
        fs::remove_dir_all(dir).unwrap();
        fs::create_dir(dir).unwrap();
    }),
    ("a file in its place", |dir| {
        fs::remove_dir_all(dir).unwrap();
        fs::write(dir, "garbage").unwrap();
    }),
    ("a link in its place", |dir| {
        fs::remove_dir_all(dir).unwrap();
        let elsewhere = dir.with_file_name("elsewhere");
        fs::create_dir(&elsewhere).unwrap();
        symlink(elsewhere, dir).unwrap();
    }),
    ("a snapshot half made", |dir| {
        fs::write(dir.join("snap.0000000000000000.generating"), "half").unwrap();
    }),
    ("foreign files in it", |dir| {
        fs::write(dir.join("notes.txt"), "mine").unwrap();
        fs::create_dir(dir.join("photos")).unwrap();
    }),
    ("another database in its place", |dir| {
        fs::remove_dir_all(dir).unwrap();
        drop(index::another_database(dir));
    }),
    ("a compaction half done", |dir| {
        copy_folder(dir, &dir.with_extension("new"));
        fs::rename(dir, dir.with_extension("old")).unwrap();
    }),
];

fn cut(file: &Path, to: fn(u64) -> u64) {
    let file = fs::OpenOptions::new().write(true).open(file).unwrap();
    let len = file.metadata().unwrap().len();
    file.set_len(to(len)).unwrap();
}

fn flip(file: &Path, at: fn(u64) -> u64) {
    let file = fs::OpenOptions::new()
        .read(true)
        .write(true)
        .open(file)
        .unwrap();
    let at = at(file.metadata().unwrap().len());
    let mut byte = [0];
    file.read_exact_at(&mut byte, at).unwrap();
    file.write_all_at(&[!byte[0]], at).unwrap();
}

fn blank(file: &Path, what: fn(usize) -> std::ops::Range<usize>) {
    let mut bytes = fs::read(file).unwrap();
    let what = what(bytes.len());
    bytes[what].fill(0);
    fs::write(file, bytes).unwrap();
}

fn fill(file: &Path, byte: u8) {
    let len = fs::metadata(file).unwrap().len();
    fs::write(file, vec![byte; len as usize]).unwrap();
}

/// A closed tier with two blobs, one of them with a sidecar, and the names of its index's files.
fn sound() -> (Bed, Vec<String>) {
    let bed = Bed::new();
    let tier = bed.open();
    for text in [HELLO, ODD] {
        put(&tier, &key(text), text.as_bytes());
    }
    for n in 0..500 {
        tier.keep_document(&key(&format!("log/{n}.drv")), &documents::document("log"));
    }
    tier.close();
    drop(tier);
    let files = names(&bed.path("index")).into_iter();
    let files: Vec<_> = files
        .filter(|name| bed.path("index").join(name).is_file())
        .collect();
    (bed, files)
}

fn survives(way: &str, sound: &Bed, damage: impl FnOnce(&Path)) {
    let bed = Bed::new();
    copy_folder(&sound.settings.path, &bed.settings.path);
    damage(&bed.path("index"));
    let tier = bed.open();
    tier.wait_for_index(PATIENCE);
    assert_eq!(tier.index_state(), State::Ok, "{way}");
    for text in [HELLO, ODD] {
        let blob = match tier.lookup(&key(text)) {
            BlobLookup::Hit(blob) => blob,
            BlobLookup::Unindexed(blob) => {
                tier.adopt(&key(text), &blob);
                hit(&tier, &key(text))
            }
            BlobLookup::Miss => panic!("{way}: {text} is lost"),
        };
        assert_eq!(content(&blob), text.as_bytes(), "{way}");
    }
    // Some damage shows only when something is written.
    assert!(tier.wait_until_recovered(PATIENCE), "{way}");
    tier.close();
    drop(tier);
    let tier = bed.open();
    hit(&tier, &key(HELLO));
    hit(&tier, &key(ODD));
    let left = names(&bed.settings.path);
    let aside = left.iter().filter(|name| name.starts_with("index."));
    assert!(aside.count() <= 1, "{way}: {left:?}");
    if bed.path("elsewhere").exists() {
        assert_eq!(names(&bed.path("elsewhere")), [""; 0], "{way}");
    }
}

#[test]
fn a_broken_index_costs_neither_the_start_nor_a_blob() {
    let (sound, files) = sound();
    let sound = &sound;
    let ways = files.len() * TO_FILES.len() + TO_FOLDER.len();
    assert!(ways >= 40, "{ways} ways");
    std::thread::scope(|scope| {
        for file in &files {
            scope.spawn(move || {
                for (name, damage) in TO_FILES {
                    let way = format!("{file} {name}");
                    survives(&way, sound, |index| damage(&index.join(file)));
                }
            });
        }
        scope.spawn(|| {
            for (name, damage) in TO_FOLDER {
                survives(name, sound, damage);
            }
        });
    });
}
