//! The composite actions of `actions/` in a CI job: its very scripts, the real client, the gateway.

use std::fs;
use std::path::Path;
use std::process::Command;

use crate::bucket::Bucket;
use crate::ci::{Job, Step};
use crate::closure::{Closure, store_path};
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
    fn new(public_reads: bool) -> Self {
        let world = World::with(Closure::deep_and_wide());
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
        let shown = format!(
            "{}{:?}",
            job.calls(),
            steps
                .iter()
                .map(|s| (&s.log, &s.exported, &s.outputs, &s.summary))
                .collect::<Vec<_>>()
        );
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
    let bench = Bench::new(true);
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
    assert_private(holders[0]);
}

#[test]
fn a_second_setup_changes_nothing() {
    let bench = Bench::new(true);
    let mut job = Job::on(&bench.world.maker);
    let first = bench.setup(&mut job, TOKEN);
    assert_eq!(first.exported["NARWHARF_URL"], bench.gateway.url());
    let left = job.left_behind();
    let second = bench.setup(&mut job, TOKEN);
    assert_well(&second);
    assert!(second.exported.is_empty(), "{second:#?}");
    assert_eq!(job.left_behind(), left);
}

#[test]
fn settings_and_logins_that_were_there_stay() {
    // Given a machine with a login elsewhere, and settings of the user's
    let bench = Bench::new(true);
    let stranger = bench.world.stranger();
    let login = "machine other.example login me password mine\n";
    fs::write(stranger.folder.join("netrc"), login).unwrap();
    let users = stranger.folder.join("users.conf");
    fs::write(&users, "extra-substituters = https://other.example\n").unwrap();
    let mut job = Job::on(&stranger);
    job.set("NIX_USER_CONF_FILES", users.to_str().unwrap());
    // When two caches are set up, one with lines of its own
    assert_well(&bench.setup(&mut job, TOKEN));
    let second = bench.gateway.url().replace("127.0.0.1", "localhost");
    let with = [
        ("url", &second[..]),
        ("token", TOKEN),
        ("extra-conf", "connect-timeout = 7"),
    ];
    let step = job.uses("setup", &with);
    assert!(step.ok, "{step:#?}");
    // Then Nix knows of all of it
    let settings = job.run(&["nix", "show-config"]);
    let value = |name: &str| {
        let line = settings
            .lines()
            .find_map(|l| l.strip_prefix(&format!("{name} = ")));
        line.unwrap_or_else(|| panic!("no {name}")).to_owned()
    };
    let url = bench.gateway.url();
    for substituter in ["https://other.example", &url, &second] {
        let all = value("substituters");
        assert!(
            all.split(' ').any(|one| one == substituter),
            "{substituter}: {all}"
        );
    }
    assert!(value("trusted-public-keys").contains(&bench.key.public));
    assert_eq!(value("connect-timeout"), "7");
    let netrc = fs::read_to_string(value("netrc-file")).unwrap();
    for line in [
        format!("machine 127.0.0.1 login narwharf password {TOKEN}\n"),
        format!("machine localhost login narwharf password {TOKEN}\n"),
        login.to_owned(),
    ] {
        assert!(netrc.contains(&line), "{netrc}");
    }
}

/// A build of an untrusted user is the daemon's work, and the daemon reads the system's settings only.
#[test]
fn a_daemon_that_distrusts_the_user_gets_the_settings_once() {
    // Given a machine whose daemon trusts somebody else
    let bench = Bench::new(true);
    let stranger = bench.world.stranger();
    let conf = stranger.folder.join("nix.conf");
    let before = fs::read_to_string(&conf).unwrap() + "trusted-users = somebody\n";
    fs::write(&conf, &before).unwrap();
    let mut job = Job::on(&stranger);
    job.wrap("systemctl", "exit 0");
    job.set("NIX_REMOTE", "daemon");
    // When two jobs set up
    assert_well(&bench.setup(&mut job, TOKEN));
    let after = fs::read_to_string(&conf).unwrap();
    assert_well(&bench.setup(&mut job, TOKEN));
    // Then the system's settings were added to once, hold no secret, and the daemon was told once
    assert!(
        after.starts_with(&before) && after.len() > before.len(),
        "{after}"
    );
    assert_eq!(fs::read_to_string(&conf).unwrap(), after);
    assert_eq!(
        job.calls().matches("systemctl restart nix-daemon").count(),
        1
    );
    let settings = stranger.run(&["nix", "show-config"]);
    for word in [&bench.gateway.url(), &bench.key.public, "narwharf/netrc"] {
        assert!(settings.contains(word), "{word}: {settings}");
    }
    for entry in fs::read_dir(&stranger.folder).unwrap() {
        let path = entry.unwrap().path();
        let secret = path.is_file() && fs::read_to_string(&path).unwrap().contains(TOKEN);
        assert!(!secret, "{}", path.display());
    }
}

#[test]
fn a_wrong_token_fails_the_push_and_says_so() {
    let bench = Bench::new(true);
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
    let bench = Bench::new(true);
    let mut job = Job::on(&bench.world.maker);
    assert_well(&bench.setup(&mut job, ""));
    let push = job.uses("push", &[]);
    assert!(
        !push.ok && push.log.contains("wants a token (401)"),
        "{push:#?}"
    );
}

#[test]
fn a_private_cache_refuses_at_setup() {
    let bench = Bench::new(false);
    // A wrong token is an error before anything is built
    let mut job = Job::on(&bench.world.maker);
    let wrong = bench.setup(&mut job, "wrong");
    assert!(
        !wrong.ok && wrong.log.contains("refuses the token (401)"),
        "{wrong:#?}"
    );
    // None, as in a pull request from a fork, is a reason to build without
    let none = bench.setup(&mut job, "");
    assert!(
        none.ok && none.log.contains("goes on without the cache"),
        "{none:#?}"
    );
    assert!(none.exported.is_empty(), "{none:#?}");
    // And the right one is for reading and writing
    assert_well(&bench.setup(&mut job, TOKEN));
    assert_well(&job.uses("push", &[("signing-key", &bench.secret_key())]));
    let stranger = bench.world.stranger();
    let mut next = Job::on(&stranger);
    assert_well(&bench.setup(&mut next, TOKEN));
    next.run(&["nix-store", "-r", bench.world.closure.top()]);
    stranger.verify();
}

#[test]
fn a_cache_that_is_down_does_not_stop_the_job() {
    let bench = Bench::new(true);
    let stranger = bench.world.stranger();
    let mut job = Job::on(&stranger);
    let url = bench.gateway.url();
    assert!(bench.gateway.terminate().success());
    let step = job.uses("setup", &[("url", &url), ("token", TOKEN)]);
    assert!(step.ok && step.log.contains("::warning"), "{step:#?}");
    assert_eq!(step.exported["NARWHARF_URL"], url);
}

#[test]
fn what_is_excluded_stays_away_with_all_that_needs_it() {
    // Given a push that leaves out one path in the middle of the closure
    let bench = Bench::new(true);
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

#[test]
fn bad_inputs_are_named_and_nothing_is_done() {
    let bench = Bench::new(true);
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

#[track_caller]
fn assert_private(file: &Path) {
    use std::os::unix::fs::PermissionsExt;
    let mode = fs::metadata(file).unwrap().permissions().mode();
    assert_eq!(mode & 0o777, 0o600, "{}", file.display());
}
