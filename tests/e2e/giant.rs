//! What a giant costs on its way through: a NAR of 6 GiB in one PUT, over a line to the bucket that is
//! the bottleneck, against the S3 client sending the same file straight there.
//!
//! Both take the same line in the same run. Wants the optimised build, 20 GiB below the temporary
//! folder and the machine for itself:
//! `cargo nextest run --release --run-ignored only -E 'test(giant)' --success-output final`.

use std::fs::File;
use std::io::{BufWriter, Write};
use std::path::Path;
use std::time::{Duration, Instant};

use aws_sdk_s3::Client;
use aws_sdk_s3::primitives::{ByteStream, Length};
use aws_sdk_s3::types::{CompletedMultipartUpload, CompletedPart};
use futures_util::{StreamExt, TryStreamExt, stream};
use narwharf::nix::base32;
use sha2::{Digest, Sha256};

use crate::bucket::Bucket;
use crate::client::client;
use crate::gateway::{Gateway, TOKEN};
use crate::r2sim::R2Sim;
use crate::raw;

const MIB: u64 = 1024 * 1024;
const LEN: u64 = 6 * 1024 * MIB;

/// Bytes a second, for all connections together.
const LINE: u64 = 100_000_000;

/// How the S3 client is told to cut and to send: as the gateway does by default.
const PART: u64 = 16 * MIB;
const AT_ONCE: usize = 4;

/// What the gateway may need more of, at most.
const MEMORY: u64 = 200 * MIB;
const LONGER: f64 = 1.1;

#[ignore = "sends 12 GiB over a line of 100 MB/s"]
#[test]
fn a_giant_takes_little_memory_and_no_longer_than_by_the_straight_way() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("giant");
    let key = format!("nar/{}.nar", write(&file));
    let bucket = Bucket::R2(Box::new(R2Sim::start()));
    let Bucket::R2(sim) = &bucket else {
        unreachable!()
    };
    sim.line().set_shared_bandwidth(Some(LINE));

    let straight = straight(sim, &file);
    assert_eq!(sim.object_meta("straight").map(|it| it.len), Some(LEN));
    sim.remove("straight");

    let gateway = Gateway::start(&folder.path().join("gateway"), &bucket);
    let began = Instant::now();
    let mut taken = Duration::ZERO;
    let answer = raw::put_from(
        gateway.address(),
        &format!("/{key}"),
        TOKEN,
        File::open(&file).unwrap(),
        LEN,
        |_| taken = began.elapsed(),
    );
    let through = began.elapsed();
    assert_eq!(answer.map(|it| it.status), Some(201));
    let peak = gateway.peak_memory();
    assert_eq!(hash_of(sim, &key), key["nar/".len()..][..52]);
    assert!(sim.open_multipart_uploads().is_empty());

    let longer = through.as_secs_f64() / straight.as_secs_f64();
    println!(
        "6 GiB over {LINE} bytes/s: straight {straight:.1?}, through the gateway {through:.1?} \
         ({longer:.3} times), body taken after {taken:.1?}, peak memory {} MiB",
        peak / MIB
    );
    assert!(peak < MEMORY, "{peak} bytes");
    assert!(longer <= LONGER, "{longer}");
    assert!(gateway.terminate().success());
}

/// Makes the giant, of bytes that do not repeat. Returns its hash as Nix writes it.
fn write(file: &Path) -> String {
    let mut file = BufWriter::with_capacity(MIB as usize, File::create(file).unwrap());
    let (mut hasher, mut state) = (Sha256::new(), 1_u64);
    let mut block = vec![0; MIB as usize];
    for _ in 0..LEN / MIB {
        for word in block.chunks_exact_mut(8) {
            state ^= state << 13;
            state ^= state >> 7;
            state ^= state << 17;
            word.copy_from_slice(&state.to_le_bytes());
        }
        hasher.update(&block);
        file.write_all(&block).unwrap();
    }
    file.into_inner().unwrap().sync_all().unwrap();
    base32::encode(&hasher.finalize())
}

fn hash_of(sim: &R2Sim, key: &str) -> String {
    let mut hasher = Sha256::new();
    assert!(sim.read_object(key, |piece| hasher.update(piece)));
    base32::encode(&hasher.finalize())
}

/// How long the S3 client takes by itself.
fn straight(sim: &R2Sim, file: &Path) -> Duration {
    let runtime = tokio::runtime::Runtime::new().unwrap();
    let s3 = client(sim);
    let began = Instant::now();
    runtime.block_on(send(&s3, sim.bucket(), file));
    began.elapsed()
}

async fn send(s3: &Client, bucket: &str, file: &Path) {
    let begin = s3.create_multipart_upload().bucket(bucket).key("straight");
    let begun = begin.send().await.unwrap();
    let id = begun.upload_id().unwrap();
    let parts = stream::iter(0..LEN.div_ceil(PART)).map(|index| async move {
        let start = index * PART;
        let body = ByteStream::read_from().path(file).offset(start);
        let body = body.length(Length::Exact(PART.min(LEN - start)));
        let number = i32::try_from(index).unwrap() + 1;
        let part = s3.upload_part().bucket(bucket).key("straight");
        let part = part.upload_id(id).part_number(number);
        let sent = part.body(body.build().await.unwrap()).send().await?;
        let tag = sent.e_tag().map(str::to_owned);
        let done = CompletedPart::builder().part_number(number).set_e_tag(tag);
        Ok::<_, aws_sdk_s3::Error>(done.build())
    });
    let parts: Vec<CompletedPart> = parts.buffered(AT_ONCE).try_collect().await.unwrap();
    let parts = CompletedMultipartUpload::builder().set_parts(Some(parts));
    let complete = s3
        .complete_multipart_upload()
        .bucket(bucket)
        .key("straight");
    let complete = complete.upload_id(id).multipart_upload(parts.build());
    complete.send().await.unwrap();
}
