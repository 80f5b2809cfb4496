//! NARs on their way out: the kernel sends them from their files, behind heads that the codec wrote.
//! Each byte is compared, whatever else goes over the same connection.

use std::fs::{self, File};
use std::os::unix::fs::FileExt;
use std::path::Path;

use rustix::fs::{Advice, fadvise};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::UnixStream;

use crate::bed::{Built, KIB, MIB, Package, TestBed, get, head};

/// More than is sent at once, and more than a socket takes.
const LEN: usize = 9 * MIB + 4321;

async fn bed_with_a_blob() -> (TestBed, Built) {
    let bed = TestBed::start().await;
    let large = bed.cached(Package::named("large").nar_bytes(LEN)).await;
    (bed, large)
}

/// Wholes, pieces, heads and documents take turns on one connection; all were asked for at once.
#[tokio::test]
async fn heads_and_bodies_keep_their_order_however_large_they_are() {
    let (bed, large) = bed_with_a_blob().await;
    let small = bed.cached(Package::named("small").nar_bytes(3)).await;
    let mut connection = bed.connect().await;
    let whole = &large.nar_bytes[..];
    let requests = [
        (get(&large.nar), whole),
        (get(&large.narinfo), large.narinfo_text.as_bytes()),
        (get(&large.nar).range("bytes=1-"), &whole[1..]),
        (head(&large.nar), b""),
        (get(&small.nar), &small.nar_bytes[..]),
        (
            get(&large.nar).range("bytes=-70000"),
            &whole[LEN - 70_000..],
        ),
        (
            get(&large.nar).range("bytes=5000000-5000000"),
            &whole[5_000_000..=5_000_000],
        ),
        (get(&large.nar), whole),
    ];
    for (request, _) in &requests {
        connection.send_head(request).await;
    }
    for (request, bytes) in &requests {
        let answer = connection.answer(request.method()).await;
        assert!(matches!(answer.status, 200 | 206), "{request:?}");
        assert!(!answer.cut && answer.body == *bytes, "{request:?}");
        assert_eq!(answer.header("transfer-encoding"), None);
    }
    assert!(connection.ask(&get(&small.nar)).await.is(&small.nar_bytes));
}

/// HTTP/1.0 knows no chunks and ends its bodies with the connection, unless it was told otherwise.
#[tokio::test]
async fn old_clients_get_every_byte() {
    let (bed, large) = bed_with_a_blob().await;
    for (kept, field) in [(false, ""), (true, "Connection: keep-alive\r\n")] {
        let mut connection = bed.connect().await;
        let request = format!("GET /{} HTTP/1.0\r\n{field}\r\n", large.nar);
        connection.send(request.as_bytes()).await;
        let answer = connection.answer("GET").await;
        assert_eq!(answer.head.length(), Some(LEN));
        assert!(answer.is(&large.nar_bytes));
        if kept {
            assert!(connection.ask(&get(&large.nar)).await.is(&large.nar_bytes));
        } else {
            assert!(connection.rest().await.is_empty());
        }
    }
}

/// What is on its way is counted when it has left, as any body's bytes are.
#[tokio::test]
async fn bytes_are_counted_as_they_go() {
    let (bed, large) = bed_with_a_blob().await;
    let series = "narwharf_http_response_bytes_total{kind=\"nar\",source=\"disk\"}";
    let before = bed.metric(series);
    assert!(bed.ask(get(&large.nar)).await.is(&large.nar_bytes));
    let piece = get(&large.nar).range("bytes=10-19");
    assert_eq!(bed.ask(piece).await.body, &large.nar_bytes[10..20]);
    bed.until_metric(series, before + LEN as u64 + 10).await;
}

/// A file that another process makes shorter: the answer is cut, and never filled up or ended.
#[tokio::test]
async fn a_blob_cut_short_under_a_reader_cuts_the_answer() {
    const TOLD: usize = 64 * MIB;
    let bed = TestBed::start().await;
    let large = bed.cached(Package::named("large").nar_bytes(TOLD)).await;
    let mut connection = bed.connect().await;
    connection.send_head(&get(&large.nar)).await;
    assert_eq!(connection.head().await.length(), Some(TOLD));
    // More than a connection's buffers is still to come.
    let blob = File::options().write(true).open(bed.blob_path(&large.nar));
    blob.unwrap().set_len(TOLD as u64 - 100).unwrap();
    let came = connection.rest().await;
    assert!(came.len() <= TOLD - 100, "{}", came.len());
    assert!(came == large.nar_bytes[..came.len()]);
}

/// A file that is replaced or removed: whoever reads the old one reads it to its end.
#[tokio::test]
async fn a_blob_replaced_under_a_reader_is_read_to_its_end() {
    let bed = TestBed::start().await;
    let replace = |blob: &Path| {
        let other = blob.with_extension("other");
        fs::write(&other, vec![0; LEN]).unwrap();
        fs::rename(&other, blob).unwrap();
    };
    let remove = |blob: &Path| fs::remove_file(blob).unwrap();
    for (name, change) in [("a", &replace as &dyn Fn(&Path)), ("b", &remove)] {
        let large = bed.cached(Package::named(name).nar_bytes(LEN)).await;
        let mut connection = bed.connect().await;
        connection.send_head(&get(&large.nar)).await;
        let head = connection.head().await;
        change(&bed.blob_path(&large.nar));
        let answer = connection.answer_after(head, "GET").await;
        assert!(answer.is(&large.nar_bytes), "{name}");
    }
}

/// Pages that lie on the disk alone are read by another thread, and look like any others.
#[tokio::test]
async fn a_blob_that_is_not_in_memory_comes_as_one_that_is() {
    let (bed, large) = bed_with_a_blob().await;
    for n in 0..3 {
        let blob = File::open(bed.blob_path(&large.nar)).unwrap();
        blob.sync_all().unwrap();
        fadvise(&blob, 0, None, Advice::DontNeed).unwrap();
        // Partly warm is the hard case.
        let mut some = vec![0; n * 300 * KIB];
        blob.read_exact_at(&mut some, MIB as u64 * 2).unwrap();
        assert!(bed.ask(get(&large.nar)).await.is(&large.nar_bytes));
    }
}

/// A short piece is copied and leaves with its head, a longer one by itself: around the border, from
/// the disk and from memory, and to a client that takes them late, it is the same piece.
#[tokio::test]
async fn short_pieces_and_longer_ones_are_the_bytes_asked_for() {
    const BORDER: usize = 128 * KIB;
    let (bed, large) = bed_with_a_blob().await;
    let blob = File::open(bed.blob_path(&large.nar)).unwrap();
    blob.sync_all().unwrap();
    for len in [1, 70_000, BORDER - 1, BORDER, BORDER + 1, 2 * BORDER] {
        fadvise(&blob, 0, None, Advice::DontNeed).unwrap();
        let mut connection = bed.connect().await;
        // But for single bytes, more than the socket takes at once.
        let starts: Vec<usize> = (0..40).map(|n| n * 199_933).collect();
        for start in &starts {
            let range = format!("bytes={start}-{}", start + len - 1);
            let piece = get(&large.nar).range(&range);
            connection.send_head(&piece).await;
        }
        for start in starts {
            let answer = connection.answer("GET").await;
            assert_eq!(
                (answer.status, answer.cut),
                (206, false),
                "{len} at {start}"
            );
            assert!(
                answer.body == large.nar_bytes[start..start + len],
                "{len} at {start}"
            );
        }
    }
}

/// Whoever leaves in the midst of a body is let go, and costs nobody else anything.
#[tokio::test]
async fn clients_that_leave_are_let_go() {
    let (bed, large) = bed_with_a_blob().await;
    for take in [0, 1, 100 * KIB, MIB] {
        let mut leaving = bed.connect().await;
        leaving.send_head(&get(&large.nar)).await;
        leaving.head().await;
        assert_eq!(leaving.bytes(take).await, &large.nar_bytes[..take]);
    }
    bed.until_metric("narwharf_http_requests_in_flight", 0)
        .await;
    assert!(bed.ask(get(&large.nar)).await.is(&large.nar_bytes));
}

/// The kernel takes little of what a client does not read: its window, and half a MiB. By itself it
/// would take some MiB for each.
#[tokio::test]
async fn a_client_that_does_not_read_has_little_waiting_for_it() {
    let (bed, large) = bed_with_a_blob().await;
    let mut idle = bed.connect().await;
    idle.send_head(&get(&large.nar)).await;
    idle.head().await;
    let series = "narwharf_http_response_bytes_total{kind=\"nar\",source=\"disk\"}";
    let before = bed.metric(series);
    for answer in bed.ask_times(4, get(&large.nar)).await {
        assert!(answer.is(&large.nar_bytes));
    }
    drop(idle);
    bed.until_metric("narwharf_http_requests_in_flight", 0)
        .await;
    let of_idle = bed.metric(series) - before - 4 * LEN as u64;
    assert!((1..MIB as u64).contains(&of_idle), "{of_idle} bytes");
}

/// A unix socket is as good as any.
#[tokio::test]
async fn blobs_leave_by_unix_sockets_too() {
    let here = tempfile::tempdir().unwrap();
    let path = here.path().join("socket");
    let listen = format!("127.0.0.1:0, unix:{}", path.display());
    let bed = TestBed::with(|s| s.set("server.listen", &listen)).await;
    let large = bed.cached(Package::named("large").nar_bytes(LEN)).await;
    let mut stream = UnixStream::connect(&path).await.unwrap();
    for (range, wanted) in [
        ("", &large.nar_bytes[..]),
        (
            "Range: bytes=70000-139999\r\n",
            &large.nar_bytes[70_000..140_000],
        ),
        ("", &large.nar_bytes[..]),
    ] {
        let request = format!("GET /{} HTTP/1.1\r\nHost: h\r\n{range}\r\n", large.nar);
        stream.write_all(request.as_bytes()).await.unwrap();
        let mut head = Vec::new();
        while !head.ends_with(b"\r\n\r\n") {
            head.push(stream.read_u8().await.unwrap());
        }
        let mut body = vec![0; wanted.len()];
        stream.read_exact(&mut body).await.unwrap();
        assert!(body == wanted);
    }
}
