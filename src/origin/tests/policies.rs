//! Retries, slots, the breaker and what the bucket's health is taken to be.

use super::r2sim::{Fault, Operation, Rule};
use super::*;

fn holding(settings: &mut Settings) {
    settings.hold = PATIENT;
}

#[tokio::test]
async fn a_hiccup_is_not_noticed() {
    for fault in [
        Fault::Status(500, "InternalError"),
        Fault::Status(429, "TooManyRequests"),
        Fault::Reset,
        Fault::Html200,
    ] {
        let bed = Bed::with(holding);
        let nar = bed.publish(NAR, 1_000);
        let _hiccup = bed.sim.fault(Rule::get(NAR).times(1).plays(fault));
        let stream = stream(bed.origin.fetch(&key(NAR), &Ask::nar()).await);
        assert_eq!(drain(stream).await.unwrap(), nar);
        assert_eq!(bed.sim.log().requests_of(Operation::GetObject), 2);
    }
}

#[tokio::test]
async fn one_try_is_one_request() {
    let bed = Bed::with(holding);
    let _sick = bed
        .sim
        .fault(Rule::any().plays(Fault::Status(500, "InternalError")));
    let once = Ask {
        tries: Tries::One,
        ..Ask::nar()
    };
    cause(bed.origin.fetch(&key(NAR), &once).await);
    assert_eq!(bed.sim.log().requests(), 1);
}

#[tokio::test]
async fn a_refusal_is_not_argued_with() {
    let bed = Bed::with(holding);
    let _sick = bed
        .sim
        .fault(Rule::any().plays(Fault::Status(403, "AccessDenied")));
    cause(bed.origin.fetch(&key(NAR), &Ask::nar()).await);
    assert_eq!(bed.sim.log().requests(), 1);
}

#[tokio::test]
async fn the_hold_ends_the_tries() {
    let bed = Bed::with(|settings| settings.hold = Duration::from_millis(700));
    let _sick = bed
        .sim
        .fault(Rule::any().plays(Fault::Status(500, "InternalError")));
    let began = Instant::now();
    let got = cause(bed.origin.fetch(&key(NAR), &Ask::nar()).await);
    assert!(
        matches!(got, OriginError::Server { .. }),
        "the last cause is told: {got}"
    );
    assert!((2..=4).contains(&bed.sim.log().requests()));
    assert!(began.elapsed() < PATIENT);
}

/// A bucket that answers nothing but 500 to a whole farm hears little more than what is asked.
#[tokio::test]
async fn retries_over_all_requests_are_bounded() {
    let bed = Bed::with(|settings| settings.hold = Duration::from_millis(700));
    let _sick = bed
        .sim
        .fault(Rule::any().plays(Fault::Status(500, "InternalError")));
    const ASKED: usize = 200;
    let mut asked = tokio::task::JoinSet::new();
    for _ in 0..ASKED {
        let origin = bed.origin.clone();
        asked.spawn(async move { cause(origin.fetch(&key(NARINFO), &Ask::document()).await) });
    }
    let began = Instant::now();
    asked.join_all().await;
    let floor = 20 * (began.elapsed().as_secs() as usize + 2);
    assert!(bed.sim.log().requests() <= ASKED + ASKED / 5 + floor);
}

#[tokio::test]
async fn a_slot_is_held_until_the_body_is_drained_or_dropped() {
    let bed = Bed::with(|settings| {
        settings.max_requests = NonZeroUsize::MIN;
        settings.hold = BRIEF;
    });
    bed.publish(NAR, 10);
    let first = stream(bed.origin.fetch(&key(NAR), &Ask::nar()).await);
    let full = cause(bed.origin.fetch(&key(NAR), &Ask::nar()).await);
    assert!(matches!(full, OriginError::Busy { .. }), "{full}");
    drop(first);
    let mut second = stream(bed.origin.fetch(&key(NAR), &Ask::nar()).await);
    while second.chunk().await.unwrap().is_some() {}
    let third = bed.origin.fetch(&key(NAR), &Ask::nar()).await;
    assert!(
        matches!(third, Lookup::Found(_)),
        "drained, and still at hand"
    );
    assert!(
        bed.origin.health().is_up(),
        "a full house is not the bucket's fault"
    );
}

#[tokio::test]
async fn after_thirty_seconds_of_failure_nobody_is_asked_but_once_a_second() {
    let bed = Bed::start();
    bed.publish(NAR, 10);
    let sick = bed
        .sim
        .fault(Rule::any().plays(Fault::Status(500, "InternalError")));
    for _ in 0..7 {
        cause(bed.origin.fetch(&key(NAR), &Ask::nar()).await);
        bed.clock.advance(Duration::from_secs(6));
    }
    assert!(bed.origin.health().breaker_open);
    // The clock stood still since the last advance: one request goes through, the next does not.
    cause(bed.origin.fetch(&key(NAR), &Ask::nar()).await);
    bed.sim.log().reset();
    let spared = cause(bed.origin.fetch(&key(NAR), &Ask::nar()).await);
    assert!(
        matches!(spared, OriginError::BreakerOpen { .. }),
        "{spared}"
    );
    assert_eq!(bed.sim.log().requests(), 0);
    drop(sick);
    bed.clock.advance(Duration::from_secs(1));
    let well = bed.origin.fetch(&key(NAR), &Ask::nar()).await;
    assert!(matches!(well, Lookup::Found(_)));
    assert!(!bed.origin.health().breaker_open);
}

#[tokio::test]
async fn a_probe_closes_an_open_breaker() {
    let bed = Bed::start();
    {
        let _sick = bed
            .sim
            .fault(Rule::any().plays(Fault::Status(500, "InternalError")));
        for _ in 0..7 {
            assert!(bed.origin.probe().await.is_err());
            bed.clock.advance(Duration::from_secs(6));
        }
        assert!(bed.origin.health().breaker_open);
    }
    assert_eq!(bed.origin.probe().await, Ok(()));
    assert!(bed.origin.health().is_up());
}

/// An open breaker spares waiting. A refusal makes nobody wait, and may concern some keys only.
#[tokio::test]
async fn refusals_do_not_open_the_breaker() {
    let bed = Bed::start();
    let _sick = bed
        .sim
        .fault(Rule::any().plays(Fault::Status(403, "AccessDenied")));
    for _ in 0..10 {
        cause(bed.origin.fetch(&key(NAR), &Ask::nar()).await);
        bed.clock.advance(Duration::from_secs(6));
    }
    assert!(!bed.origin.health().breaker_open);
}

#[tokio::test]
async fn health_follows_the_last_answer() {
    let bed = Bed::start();
    assert!(!bed.origin.health().is_up(), "nothing was heard yet");
    assert_eq!(
        bed.origin.probe().await,
        Ok(()),
        "an absent object is an answer"
    );
    assert!(bed.origin.health().is_up());
    bed.sim
        .put_object("nix-cache-info", "StoreDir: /nix/store\n", "text/plain");
    assert_eq!(bed.origin.probe().await, Ok(()));
    {
        let _sick = bed.sim.fault(Rule::any().plays(Fault::Reset));
        assert!(bed.origin.probe().await.is_err());
        assert!(!bed.origin.health().is_up());
        assert!(
            bed.metrics
                .render()
                .contains("narwharf_origin_up{origin=\"bucket\"} 0")
        );
    }
    assert_eq!(bed.origin.probe().await, Ok(()));
    assert!(bed.origin.health().is_up());
}
