//! Whatever goes wrong is Unknown, by its name, and never Absent.

use super::r2sim::{Fault, FaultGuard, Rule};
use super::*;

impl Bed {
    fn always(&self, fault: Fault) -> FaultGuard {
        self.sim.fault(Rule::any().plays(fault))
    }

    /// The cause that a GET and a HEAD of the NAR give.
    async fn causes(&self) -> [OriginError; 2] {
        [
            cause(self.origin.fetch(&key(NAR), &Ask::nar()).await),
            cause(self.origin.head(&key(NAR)).await),
        ]
    }
}

#[tokio::test]
async fn each_status_has_its_name() {
    let bed = Bed::start();
    bed.publish(NAR, 10);
    type Is = fn(&OriginError) -> bool;
    let rows: [(u16, &str, Is); 8] = [
        (500, "InternalError", |it| {
            matches!(it, OriginError::Server { status: 500, .. })
        }),
        (503, "ServiceUnavailable", |it| {
            matches!(it, OriginError::Server { status: 503, .. })
        }),
        (429, "TooManyRequests", |it| {
            matches!(it, OriginError::Throttled { .. })
        }),
        (401, "Unauthorized", |it| {
            matches!(it, OriginError::Refused { status: 401, .. })
        }),
        (403, "AccessDenied", |it| {
            matches!(it, OriginError::Refused { status: 403, .. })
        }),
        (410, "Gone", |it| {
            matches!(it, OriginError::Server { status: 410, .. })
        }),
        (301, "PermanentRedirect", |it| {
            matches!(it, OriginError::Server { status: 301, .. })
        }),
        (400, "InvalidRequest", |it| {
            matches!(it, OriginError::Server { status: 400, .. })
        }),
    ];
    for (status, code, is) in rows {
        let _sick = bed.always(Fault::Status(status, code));
        for cause in bed.causes().await {
            assert!(is(&cause), "{status} was taken as {cause}");
        }
    }
}

/// S3 answers 403 for an object that is not there when the key may not list.
#[tokio::test]
async fn a_refusal_of_what_is_not_there_is_not_absence() {
    let bed = Bed::start();
    let _sick = bed.sim.fault(
        Rule::any()
            .absent()
            .plays(Fault::Status(403, "AccessDenied")),
    );
    for cause in bed.causes().await {
        assert!(matches!(cause, OriginError::Refused { .. }), "{cause}");
    }
    assert!(!bed.origin.health().is_up());
}

#[tokio::test]
async fn a_404_that_does_not_say_no_such_key_is_not_absence() {
    let bed = Bed::start();
    let _sick = bed.always(Fault::Status(404, "Whatever"));
    let got = cause(bed.origin.fetch(&key(NAR), &Ask::nar()).await);
    assert!(
        matches!(got, OriginError::Server { status: 404, .. }),
        "{got}"
    );
    let stat = cause(bed.origin.head(&key(NAR)).await);
    assert!(
        matches!(stat, OriginError::Server { status: 404, .. }),
        "{stat}"
    );
}

#[tokio::test]
async fn a_reset_or_refused_connection_is_no_answer() {
    let bed = Bed::start();
    {
        let _sick = bed.always(Fault::Reset);
        for cause in bed.causes().await {
            assert!(matches!(cause, OriginError::Connect { .. }), "{cause}");
        }
    }
    bed.sim.stop_listening();
    for cause in bed.causes().await {
        assert!(matches!(cause, OriginError::Connect { .. }), "{cause}");
    }
    bed.sim.start_listening();
    bed.publish(NAR, 10);
    let again = bed.origin.fetch(&key(NAR), &Ask::nar()).await;
    assert!(matches!(again, Lookup::Found(_)), "it recovers by itself");
}

#[tokio::test]
async fn silence_ends_at_its_deadline() {
    let bed = Bed::with(|settings| settings.first_byte_timeout = BRIEF);
    let _sick = bed.always(Fault::Silence);
    let [nar, stat] = bed.causes().await;
    let timeout = |after| OriginError::Timeout {
        key: NAR.to_owned(),
        wait: Wait::FirstByte,
        after,
    };
    assert_eq!(nar, timeout(BRIEF));
    assert_eq!(stat, timeout(BRIEF / 3), "a third for what is small");
}

#[tokio::test]
async fn a_web_page_is_garbage() {
    let bed = Bed::start();
    bed.publish(NAR, 10);
    let _sick = bed.always(Fault::Html200);
    for cause in bed.causes().await {
        assert!(matches!(cause, OriginError::Garbage { .. }), "{cause}");
    }
}

#[tokio::test]
async fn a_body_of_unknown_length_is_garbage() {
    let bed = Bed::start();
    bed.publish(NAR, 1_000);
    let _sick = bed.always(Fault::Chunked);
    let got = cause(bed.origin.fetch(&key(NAR), &Ask::nar()).await);
    assert!(matches!(got, OriginError::Garbage { .. }), "{got}");
}

#[tokio::test]
async fn another_range_than_asked_is_garbage() {
    let bed = Bed::start();
    bed.publish(NAR, 1_000);
    let ask = Ask {
        range: Some(RangeRequest::Closed {
            first: 100,
            last: 199,
        }),
        ..Ask::nar()
    };
    for fault in [
        Fault::IgnoreRange,
        Fault::ShiftRange {
            by: 1,
            admitted: true,
        },
        Fault::Header("content-range", "bytes 100-200/1000"),
        Fault::Header("content-range", "nonsense"),
    ] {
        let shown = format!("{fault:?}");
        let _sick = bed.always(fault);
        let got = cause(bed.origin.fetch(&key(NAR), &ask).await);
        assert!(matches!(got, OriginError::Garbage { .. }), "{shown}: {got}");
    }
}

#[tokio::test]
async fn a_cut_body_breaks_after_what_came() {
    let bed = Bed::start();
    let nar = bed.publish(NAR, 500_000);
    let _sick = bed.always(Fault::CutAfter(200_000));
    let mut stream = stream(bed.origin.fetch(&key(NAR), &Ask::nar()).await);
    let mut came = Vec::new();
    let broke = loop {
        match stream.chunk().await {
            Ok(Some(piece)) => came.extend_from_slice(&piece),
            Ok(None) => panic!("a cut body does not end"),
            Err(cause) => break cause,
        }
    };
    assert_eq!(came, nar[..came.len()]);
    let OriginError::Broken {
        received, expected, ..
    } = broke
    else {
        panic!("{broke}");
    };
    assert_eq!((received, expected), (came.len() as u64, 500_000));
    assert!(stream.chunk().await.is_err(), "broken stays broken");
}

#[tokio::test]
async fn a_stalled_body_ends_at_its_deadline() {
    let bed = Bed::with(|settings| settings.idle_timeout = BRIEF);
    bed.publish(NAR, 500_000);
    let _sick = bed.always(Fault::StallAfter(100_000));
    let stream = stream(bed.origin.fetch(&key(NAR), &Ask::nar()).await);
    let broke = drain(stream).await.unwrap_err();
    assert_eq!(
        broke,
        OriginError::Timeout {
            key: NAR.to_owned(),
            wait: Wait::NextByte,
            after: BRIEF
        }
    );
}

/// HTTP ends the body where it was declared to end; the rest goes down with its connection, and
/// with it at worst a try of whoever is given that connection next.
#[tokio::test]
async fn what_follows_the_declared_end_is_never_seen() {
    let bed = Bed::with(|settings| settings.hold = PATIENT);
    let nar = bed.publish(NAR, 1_000);
    let _sick = bed.always(Fault::Extend(b"surplus"));
    for _ in 0..3 {
        let stream = stream(bed.origin.fetch(&key(NAR), &Ask::nar()).await);
        assert_eq!(drain(stream).await.unwrap(), nar);
    }
}
