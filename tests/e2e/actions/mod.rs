//! The composite actions of `actions/` in a CI job: its very scripts, the real client, the gateway.

mod job;
mod push;
mod setup;

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::process::Command;

use self::job::{Job, Step};
use crate::bucket::Bucket;
use crate::closure::Closure;
use crate::gateway::{Gateway, TOKEN};
use crate::nix::KeyPair;
use crate::world::World;

/// A farm, and a gateway before a directory.
struct Bench {
    world: World,
    gateway: Gateway,
    bucket: Bucket,
    /// The CI's own; no machine trusts it unless an action made it so.
    key: KeyPair,
}

impl Bench {
    /// Anybody may read; the closure is a small one.
    fn new() -> Self {
        Self::with(Closure::flat(2, "thing", |index| 1000 * index), true)
    }

    fn with(closure: Closure, public_reads: bool) -> Self {
        let world = World::with(closure);
        let bucket = Bucket::Directory(world.at("bucket"));
        let reads = [("AUTH__PUBLIC_READS", public_reads.to_string())];
        let gateway = Gateway::start_with(&world.at("gateway"), &bucket, &reads);
        let key = world.machine("keys").generate_key("ci-1");
        world.maker.link_result(world.closure.top());
        Self {
            world,
            gateway,
            bucket,
            key,
        }
    }

    fn secret_key(&self) -> String {
        fs::read_to_string(&self.key.secret).unwrap()
    }

    fn setup(&self, job: &mut Job, token: &str) -> Step {
        let with = [
            ("url", &self.gateway.url()[..]),
            ("public-keys", &self.key.public),
            ("token", token),
        ];
        job.uses("setup", &with)
    }

    /// Asserts that nobody can read either secret in what the job showed, and that both are masked.
    fn assert_kept_secret(&self, job: &Job, steps: &[&Step]) {
        let key = self.secret_key();
        let masked: Vec<_> = steps.iter().flat_map(|step| &step.masked).collect();
        let shown = steps.iter().map(|step| step.shown());
        let shown = shown.collect::<String>() + &job.calls();
        assert!(shown.contains("nix-store --query"), "nothing was noted");
        for secret in [TOKEN, key.trim(), key.split_once(':').unwrap().1.trim()] {
            assert!(!shown.contains(secret), "{secret} is to be seen:\n{shown}");
        }
        assert!(masked.contains(&&TOKEN.to_owned()), "{masked:?}");
        assert!(masked.contains(&&key.trim().to_owned()), "{masked:?}");
    }
}

fn assert_well(step: &Step) {
    assert!(step.ok && !step.log.contains("::warning"), "{step:#?}");
}

#[test]
fn a_job_pushes_what_it_built_and_the_next_one_substitutes_it() {
    // Given a job that has a closure at ./result, and secrets as people paste them
    let bench = Bench::with(Closure::deep_and_wide(), true);
    let mut build = Job::on(&bench.world.maker);
    let token = format!("  {TOKEN}\n");
    // When it sets up, pushes, and pushes again
    let setup = bench.setup(&mut build, &token);
    assert_well(&setup);
    let with = [
        ("signing-key", &bench.secret_key()[..]),
        ("parallelism", "4"),
    ];
    let pushed = build.uses("push", &with);
    let again = build.uses("push", &with);
    // Then all of it was sent once, and the steps say so
    let all: Vec<&str> = bench.world.closure.paths().collect();
    assert_well(&pushed);
    assert_eq!(pushed.outputs["pushed"], all.len().to_string());
    assert_eq!(pushed.outputs["paths"].lines().count(), all.len());
    assert!(
        pushed
            .summary
            .contains(&format!("{} pushed, 0 there already", all.len()))
    );
    assert!(
        pushed.summary.contains(bench.world.closure.top()),
        "{}",
        pushed.summary
    );
    assert_well(&again);
    assert_eq!(again.outputs["pushed"], "0");
    assert!(
        again.log.contains(&format!("{} there already", all.len())),
        "{}",
        again.log
    );
    // And it lies there as zstd, as nothing else was asked for
    let objects = bench.bucket.objects();
    assert!(
        objects
            .keys()
            .all(|key| !key.starts_with("nar/") || key.ends_with(".nar.zst"))
    );
    // And a machine that trusts nobody takes it once the action said whom to trust
    let stranger = bench.world.stranger();
    let top = bench.world.closure.top();
    let url = bench.gateway.url();
    let said = stranger.fails(&["nix", "copy", "--from", &url, top]);
    assert!(said.contains("lacks a valid signature"), "{said}");
    let mut next = Job::on(&stranger);
    assert_well(&bench.setup(&mut next, ""));
    next.run(&["nix-store", "-r", top]);
    stranger.verify();
    for path in all {
        assert!(
            stranger.nar(path) == bench.world.maker.nar(path),
            "{path}: other bytes"
        );
    }
    // And the secrets are nowhere but in the netrc, which is its owner's alone
    bench.assert_kept_secret(&build, &[&setup, &pushed, &again]);
    let left = build.left_behind();
    let holders: Vec<_> = left
        .iter()
        .filter(|(_, (bytes, _))| {
            let text = String::from_utf8_lossy(bytes);
            text.contains(TOKEN) || text.contains(bench.secret_key().trim())
        })
        .map(|(path, _)| path)
        .collect();
    assert!(
        holders.len() == 1 && holders[0].ends_with("narwharf/netrc"),
        "{holders:?}"
    );
    let mode = fs::metadata(holders[0]).unwrap().permissions().mode();
    assert_eq!(mode & 0o777, 0o600);
}

#[test]
fn bad_inputs_are_named_and_nothing_is_done() {
    let bench = Bench::new();
    let mut job = Job::on(&bench.world.maker);
    let url = &bench.gateway.url()[..];
    for (action, with, names) in [
        ("setup", vec![("url", "")], "no address"),
        ("setup", vec![("url", "cache.example")], "http://"),
        (
            "setup",
            vec![("url", "https://me:secret@cache")],
            "no login",
        ),
        (
            "setup",
            vec![("url", "https://cache/\nsandbox = false")],
            "no blanks",
        ),
        (
            "setup",
            vec![("url", url), ("token", "two words")],
            "the token holds",
        ),
        (
            "setup",
            vec![("url", url), ("public-keys", "no-colon")],
            "public-keys",
        ),
        (
            "setup",
            vec![("url", url), ("config", "world")],
            "config must be",
        ),
        (
            "push",
            vec![("url", url), ("paths", "no-such-thing")],
            "not all of these",
        ),
        (
            "push",
            vec![("url", url), ("paths", "nothing-*")],
            "nothing to push",
        ),
        (
            "push",
            vec![("url", url), ("paths", "--help")],
            "is no path",
        ),
        ("push", vec![("url", url), ("exclude", "(")], "exclude"),
        (
            "push",
            vec![("url", url), ("compression", "zstd&x=y")],
            "compression",
        ),
        (
            "push",
            vec![("url", url), ("parallelism", "many")],
            "parallelism",
        ),
        (
            "push",
            vec![("url", url), ("signing-key", "no-colon")],
            "signing-key",
        ),
        ("push", vec![], "no address"),
    ] {
        let step = job.uses(action, &with);
        let error = step.log.lines().find(|line| line.starts_with("::error"));
        assert!(
            !step.ok && error.is_some_and(|e| e.contains(names)),
            "{with:?}: {step:#?}"
        );
        assert!(
            !step.log.contains("secret@") && !step.log.contains("two words"),
            "{step:#?}"
        );
        assert!(step.exported.is_empty(), "{step:#?}");
    }
    assert!(bench.bucket.objects().is_empty());
}

#[test]
fn shellcheck_has_nothing_to_say() {
    let output = Command::new("shellcheck")
        .current_dir(env!("CARGO_MANIFEST_DIR"))
        .args([
            "--external-sources",
            "actions/common.sh",
            "actions/setup/setup.sh",
        ])
        .args(["actions/push/push.sh", "tests/prepare", ".ci/run"])
        .output()
        .expect("shellcheck (tests/prepare installs it)");
    assert!(
        output.status.success(),
        "{}",
        String::from_utf8_lossy(&output.stdout)
    );
}
