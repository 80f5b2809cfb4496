//! What `actions/push` sends, and how it fails.

use super::job::Job;
use super::{Bench, assert_well};
use crate::closure::{Closure, store_path};
use crate::gateway::TOKEN;

#[test]
fn a_wrong_token_fails_the_push_and_says_so() {
    let bench = Bench::new();
    let mut job = Job::on(&bench.world.maker);
    let setup = bench.setup(&mut job, "wrong");
    assert_well(&setup); // reading is open to all, so that nothing is wrong yet
    let push = job.uses("push", &[("signing-key", &bench.secret_key())]);
    let url = bench.gateway.url();
    let error = format!("::error title=narwharf::{url} refuses the token (403)");
    assert!(!push.ok && push.log.contains(&error), "{push:#?}");
    assert!(
        push.summary.is_empty() && push.outputs.is_empty(),
        "{push:#?}"
    );
    let objects = bench.bucket.objects();
    assert!(objects.is_empty(), "{:?}", objects.keys());
}

#[test]
fn a_push_without_a_login_says_what_is_missing() {
    let bench = Bench::new();
    let mut job = Job::on(&bench.world.maker);
    assert_well(&bench.setup(&mut job, ""));
    let push = job.uses("push", &[]);
    assert!(
        !push.ok && push.log.contains("wants a token (401)"),
        "{push:#?}"
    );
}

#[test]
fn what_is_excluded_stays_away_with_all_that_needs_it() {
    // Given a push that leaves out one path in the middle of the closure
    let bench = Bench::with(Closure::deep_and_wide(), true);
    let mut job = Job::on(&bench.world.maker);
    assert_well(&bench.setup(&mut job, TOKEN));
    let exclude = "\n  -part-6[.]1$  \n";
    let push = job.uses("push", &[("exclude", exclude), ("paths", "./result")]);
    assert_well(&push);
    // Then the bucket has exactly what does not need it
    let excluded = store_path("part-6.1");
    let needs = bench
        .world
        .maker
        .run(&["nix-store", "-q", "--referrers-closure", &excluded]);
    let needs: Vec<&str> = needs.lines().collect();
    let all: Vec<&str> = bench.world.closure.paths().collect();
    assert!(needs.len() > 1 && needs.len() < all.len());
    let objects = bench.bucket.objects();
    for path in &all {
        let hash = &path["/nix/store/".len()..][..32];
        let there = objects.contains_key(&format!("{hash}.narinfo"));
        assert_eq!(there, !needs.contains(path), "{path}");
    }
    assert!(
        push.log.contains(&format!("{} excluded", needs.len())),
        "{}",
        push.log
    );
    // And when everything is, that is no error
    let nothing = job.uses("push", &[("exclude", ".")]);
    assert_well(&nothing);
    assert_eq!(nothing.outputs["pushed"], "0");
}
