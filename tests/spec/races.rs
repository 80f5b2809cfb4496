//! Read-your-writes where it is hardest: a key that everyone was told is absent is written while it
//! is being asked for, and the very next request sees it, ten thousand times over.

use std::time::Duration;

use futures_util::StreamExt;
use futures_util::stream;

use crate::bed::r2sim::{Fault, Operation, Rule};
use crate::bed::{Built, Connection, Package, Request, TestBed, get, head, put};

/// Races under way at the same time, each with connections of its own.
const LANES: usize = 16;

/// How often each reader asks during one race.
const LOOKS: usize = 2;

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
    async fn race(&mut self, race: usize) {
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

async fn races(count: usize) {
    let bed = TestBed::with(|s| s.set("uploads.require_nar", "false")).await;
    // Answers that were true when the bucket gave them, and come late.
    let _late = [Operation::GetObject, Operation::HeadObject].map(|operation| {
        let late = Fault::DelayFirstByte(Duration::from_millis(5));
        bed.bucket
            .fault(Rule::on(operation).chance(0.3, count as u64).plays(late))
    });
    let lanes = stream::iter(0..LANES).for_each_concurrent(None, |first| {
        let bed = &bed;
        async move {
            let mut lane = Lane {
                writer: bed.connect().await,
                readers: [bed.connect().await, bed.connect().await],
            };
            for race in (first..count).step_by(LANES) {
                lane.race(race).await;
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
        "{count} races; absences told from memory: {}",
        bed.metric(
            "narwharf_cache_lookups_total{kind=\"nar\",result=\"negative_hit\",tier=\"memory\"}"
        )
    );
}

#[tokio::test]
async fn what_was_known_as_absent_is_there_right_after_its_201() {
    races(300).await;
}

#[ignore = "takes some minutes"]
#[tokio::test]
async fn ten_thousand_times_what_was_known_as_absent_is_there_right_after_its_201() {
    races(10_000).await;
}
