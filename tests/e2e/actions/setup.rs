//! What `actions/setup` leaves on a machine, and what it leaves alone.

use std::fs;

use super::job::Job;
use super::{Bench, assert_well};
use crate::closure::Closure;
use crate::gateway::TOKEN;

#[test]
fn a_second_setup_changes_nothing() {
    let bench = Bench::new();
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
    let bench = Bench::new();
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
    let bench = Bench::new();
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
fn a_cache_that_is_down_does_not_stop_the_job() {
    let bench = Bench::new();
    let stranger = bench.world.stranger();
    let mut job = Job::on(&stranger);
    let url = bench.gateway.url();
    assert!(bench.gateway.terminate().success());
    let step = job.uses("setup", &[("url", &url), ("token", TOKEN)]);
    assert!(step.ok && step.log.contains("::warning"), "{step:#?}");
    assert_eq!(step.exported["NARWHARF_URL"], url);
}

#[test]
fn a_private_cache_refuses_at_setup() {
    let bench = Bench::with(Closure::flat(2, "thing", |_| 100), false);
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
