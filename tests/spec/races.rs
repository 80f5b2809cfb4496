//! Read-your-writes where it is hardest: a key is written while it is being asked for, and the very
//! next request sees it, ten thousand times over.
//!
//! In some races everyone was told before that the key is absent, and the readers ask while the write
//! is under way. In the others the bucket has said so to lookups whose answers are still on their way
//! when the write ends, and come in only after it.

use std::time::Duration;

use futures_util::StreamExt;
use futures_util::stream;

use crate::bed::r2sim::{Fault, FaultGuard, Operation, Rule};
use crate::bed::{Built, Connection, Package, Request, TestBed, get, head, put};

/// Races under way at the same time, each with connections of its own.
const LANES: usize = 16;

/// How often each reader asks during one race.
const LOOKS: usize = 2;

/// What is the past in the moment of the 201.
#[derive(Debug, Clone, Copy)]
enum Of {
    /// All were told that the key is absent, and ask while it is written.
    KnownAbsences,
    /// The bucket has told lookups so, which have not heard it yet.
    AnswersUnderWay,
}

/// A key, and what is put there.
struct Contested {
    key: String,
    body: Vec<u8>,
}

/// A NAR, a narinfo and a log in turn.
fn contested(race: usize) -> Contested {
    let Built {
        nar,
        nar_bytes,
        narinfo,
        narinfo_text,
        ..
    } = Package::named(&format!("race-{race}"))
        .nar_bytes(200)
        .build();
    match race % 3 {
        0 => Contested {
            key: nar,
            body: nar_bytes,
        },
        1 => Contested {
            key: narinfo,
            body: narinfo_text.into_bytes(),
        },
        _ => Contested {
            key: format!("log/{}-race.drv", &narinfo[..32]),
            body: nar_bytes,
        },
    }
}

/// One writer and two readers, over connections that are kept.
struct Lane {
    writer: Connection,
    readers: [Connection; 2],
}

impl Lane {
    async fn race(&mut self, bed: &TestBed, of: Of, race: usize) {
        match of {
            Of::KnownAbsences => self.race_of_known_absences(race).await,
            Of::AnswersUnderWay => self.race_of_answers_under_way(bed, race).await,
        }
    }

    async fn race_of_known_absences(&mut self, race: usize) {
        let Contested { key, body } = contested(race);
        let [one, other] = &mut self.readers;
        let was = one.ask(&get(&key)).await;
        assert_eq!(was.status, 404, "race {race}: {key} is known as absent");
        let write = put(&key, &body);
        let (written, (), ()) = tokio::join!(
            async {
                let answer = self.writer.ask(&write).await;
                // Within the same task, so nothing comes between the answer and the question.
                let next = self.writer.ask(&get(&key)).await;
                let known = self.writer.ask(&head(&key)).await;
                (answer, next, known)
            },
            watch(one, get(&key)),
            watch(other, head(&key)),
        );
        let (answer, next, known) = written;
        assert_eq!(answer.status, 201, "race {race}: {}", answer.text());
        assert!(next.is(&body), "race {race}: GET of {key}: {}", next.status);
        assert_eq!(known.status, 200, "race {race}: HEAD of {key}");
    }

    async fn race_of_answers_under_way(&mut self, bed: &TestBed, race: usize) {
        let Contested { key, body } = contested(race);
        let (read, size) = (get(&key), head(&key));
        let [one, other] = &mut self.readers;
        let mut held = vec![hold(bed, Operation::GetObject, &key)];
        // HEAD of a NAR is asked for by itself, that of a document by the same lookup as its GET.
        if key.starts_with("nar/") {
            held.push(hold(bed, Operation::HeadObject, &key));
        }
        one.send_head(&read).await;
        other.send_head(&size).await;
        for held in &held {
            held.until_played(1).await;
        }
        let answer = self.writer.ask(&put(&key, &body)).await;
        assert_eq!(answer.status, 201, "race {race}: {}", answer.text());
        self.assert_seen(&key, &body, race).await;
        held.into_iter().for_each(FaultGuard::release);
        let [one, other] = &mut self.readers;
        // They asked before it was there. What they heard is theirs alone.
        for answer in [one.answer("GET").await, other.answer("HEAD").await] {
            let told = answer.status;
            assert!(matches!(told, 200 | 404), "race {race}: {key}: {told}");
        }
        self.assert_seen(&key, &body, race).await;
    }

    async fn assert_seen(&mut self, key: &str, body: &[u8], race: usize) {
        let next = self.writer.ask(&get(key)).await;
        assert!(next.is(body), "race {race}: GET of {key}: {}", next.status);
        let known = self.writer.ask(&head(key)).await;
        assert_eq!(known.status, 200, "race {race}: HEAD of {key}");
    }
}

/// The bucket carries out the first request of this kind for this key, and keeps the answer back.
fn hold(bed: &TestBed, operation: Operation, key: &str) -> FaultGuard {
    let first = Rule::on(operation).key(key).times(1);
    bed.bucket.fault(first.plays(Fault::HoldFirstByte))
}

/// Asks a few times; what it is told turns at most once, from absent to there.
async fn watch(connection: &mut Connection, request: Request) {
    let mut was = 404;
    for _ in 0..LOOKS {
        let status = connection.ask(&request).await.status;
        assert!(
            status == 200 || (status, was) == (404, 404),
            "{was}, then {status}"
        );
        was = status;
    }
}

async fn races(of: Of, count: usize) {
    let bed = TestBed::with(|s| {
        s.set("uploads.require_nar", "false");
        if let Of::AnswersUnderWay = of {
            // What is uploaded is not on the disk then, so a lookup under way could be joined.
            s.set("disk.max_nar", "100B");
        }
    })
    .await;
    // Answers that were true when the bucket gave them, and come late. Where each is held by a rule of
    // its own, an older one would have its way.
    let lates: &[Operation] = match of {
        Of::KnownAbsences => &[Operation::GetObject, Operation::HeadObject],
        Of::AnswersUnderWay => &[],
    };
    let late = |operation: &Operation| {
        let rule = Rule::on(*operation).chance(0.3, count as u64);
        let late = Fault::DelayFirstByte(Duration::from_millis(5));
        bed.bucket.fault(rule.plays(late))
    };
    let _lates: Vec<FaultGuard> = lates.iter().map(late).collect();
    let lanes = stream::iter(0..LANES).for_each_concurrent(None, |first| {
        let bed = &bed;
        async move {
            let mut lane = Lane {
                writer: bed.connect().await,
                readers: [bed.connect().await, bed.connect().await],
            };
            for race in (first..count).step_by(LANES) {
                lane.race(bed, of, race).await;
            }
        }
    });
    lanes.await;
    let created: u64 = ["nar", "narinfo", "document"]
        .map(|kind| format!("narwharf_uploads_total{{kind=\"{kind}\",outcome=\"created\"}}"))
        .map(|series| bed.metric(&series))
        .iter()
        .sum();
    assert_eq!(created, count as u64);
    println!(
        "{count} races of {of:?}; absences told from memory: {}",
        bed.metric(
            "narwharf_cache_lookups_total{kind=\"nar\",result=\"negative_hit\",tier=\"memory\"}"
        )
    );
}

#[tokio::test]
async fn what_was_known_as_absent_is_there_right_after_its_201() {
    races(Of::KnownAbsences, 300).await;
}

#[tokio::test]
async fn what_lookups_under_way_heard_to_be_absent_is_there_right_after_its_201() {
    races(Of::AnswersUnderWay, 150).await;
}

#[ignore = "takes some minutes"]
#[tokio::test]
async fn ten_thousand_times_what_was_known_as_absent_is_there_right_after_its_201() {
    races(Of::KnownAbsences, 10_000).await;
}

#[ignore = "takes some minutes"]
#[tokio::test]
async fn ten_thousand_times_what_lookups_heard_to_be_absent_is_there_right_after_its_201() {
    races(Of::AnswersUnderWay, 10_000).await;
}
