//! The directory as a bucket, one request at a time.

use std::os::unix::fs::symlink;

use proptest::prelude::*;
use tempfile::TempDir;

use super::super::super::limit::Slot;
use super::*;
use crate::range::RangeRequest;

const NAR: &str = "nar/1w1fff338fvdw53sqgamddn1b2xgds473pv6y13gizdbqjv4i5p3.nar.xz";
const LOG: &str = "log/xyz.drv";

struct Bed {
    home: TempDir,
    bucket: Directory,
}

impl Bed {
    fn new() -> Self {
        let home = tempfile::tempdir().unwrap();
        let deadlines = Deadlines::all(Duration::from_secs(20));
        let bucket = Directory::open(&home.path().join("bucket"), deadlines).unwrap();
        Self { home, bucket }
    }

    /// As on a file system without extended attributes.
    fn with_sidecars() -> Self {
        let mut bed = Self::new();
        let layout = Arc::get_mut(&mut bed.bucket.layout).unwrap();
        layout.facts = Facts::Sidecars(layout.root.join(".narwharf-meta"));
        bed
    }

    fn root(&self) -> PathBuf {
        self.home.path().join("bucket")
    }

    async fn put(&self, key: &str, text: &str, about: &StoreFacts) -> Stored {
        let body = StoreBody::Bytes(Bytes::copy_from_slice(text.as_bytes()));
        self.bucket
            .put(key, &body, about, &Slot::alone())
            .await
            .unwrap()
    }

    async fn get(&self, key: &str, ask: &Ask) -> Result<Option<Got>, OriginError> {
        self.bucket.get(key, ask, &Slot::alone()).await
    }

    async fn head(&self, key: &str) -> Result<Option<ObjectMeta>, OriginError> {
        self.bucket.head(key, &Slot::alone()).await
    }

    async fn read(&self, key: &str, ask: &Ask) -> Option<(ObjectMeta, Vec<u8>)> {
        let Got::Object(mut opened) = self.get(key, ask).await.unwrap()? else {
            panic!("{key} is not modified");
        };
        let mut left = opened.range.map_or(opened.meta.len, |piece| piece.size());
        let mut all = Vec::new();
        while let Some(piece) = opened.body.next(left).await.unwrap() {
            left -= piece.len() as u64;
            all.extend_from_slice(&piece);
        }
        Some((opened.meta, all))
    }
}

fn typed(content_type: &str) -> StoreFacts {
    StoreFacts {
        content_type: Some(content_type.to_owned()),
        ..StoreFacts::default()
    }
}

#[tokio::test]
async fn what_nix_wrote_is_served_as_it_is() {
    let bed = Bed::new();
    fs::create_dir(bed.root().join("nar")).unwrap();
    let nar: Vec<u8> = (0..400_000u32).map(|at| at as u8).collect();
    fs::write(bed.root().join(NAR), &nar).unwrap();
    let (meta, bytes) = bed.read(NAR, &Ask::nar()).await.unwrap();
    assert_eq!(bytes, nar);
    assert_eq!((meta.len, meta.content_type), (400_000, None));
}

#[tokio::test]
async fn a_stored_object_is_a_plain_file_with_its_type_and_encoding() {
    for bed in [Bed::new(), Bed::with_sidecars()] {
        let about = StoreFacts {
            content_type: Some("text/plain".to_owned()),
            content_encoding: Some("br".to_owned()),
            create_only: false,
        };
        let stored = bed.put(LOG, "built", &about).await;
        assert_eq!(fs::read(bed.root().join(LOG)).unwrap(), b"built");
        let (meta, bytes) = bed.read(LOG, &Ask::document()).await.unwrap();
        assert_eq!(bytes, b"built");
        assert_eq!(meta.content_type.as_deref(), Some("text/plain"));
        assert_eq!(meta.content_encoding.as_deref(), Some("br"));
        assert_eq!(meta.etag, stored.etag);
        let left: Vec<_> = fs::read_dir(bed.root().join(TEMPORARIES))
            .unwrap()
            .collect();
        assert!(left.is_empty(), "{left:?}");
    }
}

#[tokio::test]
async fn a_replaced_object_has_another_tag_and_nothing_of_the_old_one() {
    for bed in [Bed::new(), Bed::with_sidecars()] {
        let old = bed.put(LOG, "same size", &typed("text/old")).await;
        let new = bed.put(LOG, "same-size", &StoreFacts::default()).await;
        assert_ne!(old.etag, new.etag);
        let (meta, bytes) = bed.read(LOG, &Ask::document()).await.unwrap();
        assert_eq!(bytes, b"same-size");
        assert_eq!(meta.content_type, None);
        let sidecars = fs::read_dir(bed.root().join(".narwharf-meta"));
        assert_eq!(sidecars.map_or(0, Iterator::count), 0, "no litter");
    }
}

#[tokio::test]
async fn create_only_leaves_what_is_there() {
    for bed in [Bed::new(), Bed::with_sidecars()] {
        let about = StoreFacts {
            create_only: true,
            ..typed("text/first")
        };
        assert!(!bed.put(NAR, "first", &about).await.existed);
        assert!(bed.put(NAR, "second", &about).await.existed);
        let (meta, bytes) = bed.read(NAR, &Ask::nar()).await.unwrap();
        assert_eq!(bytes, b"first");
        assert_eq!(meta.content_type.as_deref(), Some("text/first"));
    }
}

#[tokio::test]
async fn what_is_no_regular_file_is_no_object() {
    let bed = Bed::new();
    let secret = bed.home.path().join("secret");
    fs::write(&secret, "secret").unwrap();
    fs::create_dir_all(bed.root().join("nar/a.nar")).unwrap();
    symlink(&secret, bed.root().join("nar/b.nar")).unwrap();
    let fifo = bed.root().join("nar/c.nar");
    rustix::fs::mknodat(
        rustix::fs::CWD,
        &fifo,
        rustix::fs::FileType::Fifo,
        rustix::fs::Mode::RUSR,
        0,
    )
    .unwrap();
    fs::write(bed.root().join("nar/d.nar"), "").unwrap();
    let long = format!("log/{}", "x".repeat(300));
    for key in ["nar/a.nar", "nar/b.nar", "nar/c.nar", "nar/d.nar/e", &long] {
        assert_eq!(bed.head(key).await, Ok(None), "{key}");
    }
    assert!(bed.head("nar/d.nar").await.unwrap().is_some());
}

/// An unmounted disk looks like an empty bucket.
#[tokio::test]
async fn when_the_directory_is_gone_nothing_is_known() {
    let bed = Bed::new();
    bed.put(NAR, "x", &StoreFacts::default()).await;
    fs::remove_dir_all(bed.root()).unwrap();
    let gone = |got: Result<Option<ObjectMeta>, OriginError>| {
        matches!(got, Err(OriginError::NoBucket { .. }))
    };
    assert!(gone(bed.head(NAR).await));
    fs::create_dir(bed.root()).unwrap();
    assert!(gone(bed.head(NAR).await), "a mount point without its disk");
    let body = StoreBody::Bytes(Bytes::from_static(b"x"));
    let stored = bed
        .bucket
        .put(NAR, &body, &StoreFacts::default(), &Slot::alone())
        .await;
    assert!(stored.is_err(), "nothing is written below a mount point");
    assert!(bed.bucket.delete(NAR, &Slot::alone()).await.is_err());
}

#[tokio::test]
async fn ranges_and_conditions_are_honoured() {
    let bed = Bed::new();
    let stored = bed.put(NAR, "0123456789", &StoreFacts::default()).await;
    let ranged = |range| Ask {
        range: Some(range),
        ..Ask::nar()
    };
    let (meta, bytes) = bed
        .read(NAR, &ranged(RangeRequest::Closed { first: 2, last: 4 }))
        .await
        .unwrap();
    assert_eq!((meta.len, &bytes[..]), (10, &b"234"[..]));
    let beyond = bed
        .get(NAR, &ranged(RangeRequest::From { first: 10 }))
        .await;
    assert!(matches!(beyond, Err(OriginError::OutOfRange { .. })));
    let unchanged = Ask {
        if_none_match: stored.etag.clone(),
        ..Ask::nar()
    };
    assert!(matches!(
        bed.get(NAR, &unchanged).await,
        Ok(Some(Got::NotModified))
    ));
    let only = Ask {
        if_match: ETag::new("another"),
        ..Ask::nar()
    };
    let changed = bed.get(NAR, &only).await;
    assert!(matches!(
        changed,
        Err(OriginError::PreconditionFailed { .. })
    ));
}

#[tokio::test]
async fn a_file_cut_short_under_its_reader_breaks_the_body() {
    let bed = Bed::new();
    bed.put(NAR, "0123456789", &StoreFacts::default()).await;
    let Ok(Some(Got::Object(mut opened))) = bed.get(NAR, &Ask::nar()).await else {
        panic!("it is there");
    };
    let file = OpenOptions::new().write(true).open(bed.root().join(NAR));
    file.unwrap().set_len(4).unwrap();
    assert!(opened.body.next(10).await.is_err());
}

#[tokio::test]
async fn an_upload_shorter_than_announced_leaves_nothing() {
    let bed = Bed::new();
    let body = StoreBody::File {
        file: Arc::new(tempfile::tempfile().unwrap()),
        start: 0,
        len: 1,
    };
    let failed = bed
        .bucket
        .put(NAR, &body, &StoreFacts::default(), &Slot::alone())
        .await;
    assert!(matches!(failed, Err(OriginError::BadUpload { .. })));
    assert_eq!(bed.head(NAR).await, Ok(None));
    assert_eq!(
        fs::read_dir(bed.root().join(TEMPORARIES)).unwrap().count(),
        0
    );
}

#[tokio::test]
async fn removing_twice_is_removing_once() {
    for bed in [Bed::new(), Bed::with_sidecars()] {
        bed.put(NAR, "x", &typed("a/b")).await;
        for _ in 0..2 {
            assert_eq!(bed.bucket.delete(NAR, &Slot::alone()).await, Ok(()));
            assert_eq!(bed.head(NAR).await, Ok(None));
        }
    }
}

#[test]
fn only_old_uploads_of_our_own_are_swept() {
    let bed = Bed::new();
    let temporaries = bed.root().join(TEMPORARIES);
    let [old, young, foreign] =
        ["put-old", "put-young", "notes"].map(|name| temporaries.join(name));
    for file in [&old, &young, &foreign] {
        fs::write(file, "").unwrap();
    }
    let long_ago = SystemTime::now() - 2 * ABANDONED;
    for file in [&old, &foreign] {
        let file = OpenOptions::new().write(true).open(file).unwrap();
        file.set_modified(long_ago).unwrap();
    }
    sweep(&temporaries);
    assert_eq!(
        [old, young, foreign].map(|it| it.exists()),
        [false, true, true]
    );
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(24))]
    /// Whatever is written in any order, each key reads as what was last written to it.
    #[test]
    fn the_last_write_wins(writes in proptest::collection::vec((0usize..4, ".{0,40}", any::<bool>()), 1..12)) {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        runtime.block_on(async {
            let bed = Bed::new();
            let keys = ["nar/a.nar", "nar/b.nar", "ns/nar/a.nar", "log/a"];
            let mut model: std::collections::HashMap<&str, String> = Default::default();
            for (key, text, create_only) in writes {
                let key = keys[key];
                let about = StoreFacts { create_only, ..StoreFacts::default() };
                let stored = bed.put(key, &text, &about).await;
                assert_eq!(stored.existed, create_only && model.contains_key(key));
                if !stored.existed {
                    model.insert(key, text);
                }
            }
            for key in keys {
                let read = bed.read(key, &Ask::nar()).await.map(|(_, bytes)| bytes);
                assert_eq!(read, model.get(key).map(|text| text.clone().into_bytes()));
            }
        });
    }
}
