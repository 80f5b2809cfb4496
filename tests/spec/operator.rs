//! The built program in its operator's hands: tokens exchanged while it serves, and objects purged
//! from the command line.

use std::fs;
use std::io::{BufRead, BufReader};
use std::net::SocketAddr;
use std::path::Path;
use std::process::{Child, Command, Output, Stdio};
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

use futures_util::future::join_all;
use narwharf::config::token;
use rustix::process::{Pid, Signal, kill_process};
use secrecy::SecretString;

use crate::bed::{Connection, Package, Request, TestBed, get, put};

pub fn program(args: &[&str]) -> Command {
    let mut command = Command::new(assert_cmd::cargo::cargo_bin!("narwharf"));
    command.env_clear().args(args);
    command
}

/// A `[[auth.token]]` for a settings file.
pub fn token_lines(name: &str, secret: &str, scopes: &str) -> String {
    let hash = token::hex(&token::sha256(&SecretString::from(secret)));
    format!("[[auth.token]]\nname = '{name}'\nsha256 = '{hash}'\nscopes = [{scopes}]\n")
}

/// `narwharf serve` over a directory of its own. Dropped, it is killed.
pub struct Served {
    pub child: Child,
    pub address: SocketAddr,
}

impl Served {
    /// Everything it logs goes to `log` in `folder`, at the most talkative level.
    pub fn start(folder: &Path, env: &[(&str, &str)]) -> Self {
        let log = fs::File::create(folder.join("log")).unwrap();
        let mut child = program(&["--config", "narwharf.toml"])
            .current_dir(folder)
            .env("NARWHARF_SERVER__LISTEN", "127.0.0.1:0")
            .env("NARWHARF_LOG__LEVEL", "trace")
            .envs(env.iter().copied())
            .stdout(Stdio::piped())
            .stderr(log)
            .spawn()
            .unwrap();
        let mut lines = BufReader::new(child.stdout.take().unwrap()).lines();
        let address = lines.find_map(|line| {
            let line = line.unwrap();
            let at = line.split("http://").nth(1)?;
            at.split(['/', ' ']).next()?.parse().ok()
        });
        Self {
            child,
            address: address.expect("a line with its address"),
        }
    }

    pub fn signal(&self, signal: Signal) {
        kill_process(Pid::from_child(&self.child), signal).unwrap();
    }

    /// Asks over one connection until the answer has this status.
    async fn until(&self, connection: &mut Connection, request: &Request, status: u16) {
        let deadline = std::time::Instant::now() + crate::bed::PATIENCE;
        loop {
            let answer = connection.ask(request).await;
            assert!(!answer.cut, "the connection is kept");
            if answer.status == status {
                return;
            }
            assert!(std::time::Instant::now() < deadline, "{}", answer.status);
        }
    }
}

impl Drop for Served {
    fn drop(&mut self) {
        drop(self.child.kill());
        drop(self.child.wait());
    }
}

/// Whole or not at all, as an operator's editor does it: a reload that reads half a file would
/// take it at its word.
fn replace(settings: &std::path::Path, text: &str) {
    let new = settings.with_extension("new");
    fs::write(&new, text).unwrap();
    fs::rename(new, settings).unwrap();
}

/// Old and new tokens overlap for as long as the operator likes, and nobody is cut off meanwhile.
#[tokio::test]
async fn tokens_are_exchanged_by_a_signal_and_every_connection_goes_on() {
    let folder = tempfile::tempdir().unwrap();
    let settings = folder.path().join("narwharf.toml");
    let (one, two) = (
        token_lines("one", "first-token", "'write'"),
        token_lines("two", "second-token", "'write'"),
    );
    fs::write(&settings, &one).unwrap();
    let served = Served::start(folder.path(), &[]);
    let mut connection = Connection::open(served.address).await;
    let push = |secret: &str| put("/nix-cache-info", "StoreDir: /nix/store\n").token(secret);
    assert_eq!(connection.ask(&push("first-token")).await.status, 200);
    assert_eq!(connection.ask(&push("second-token")).await.status, 403);

    replace(&settings, &format!("{one}{two}"));
    served.signal(Signal::HUP);
    served
        .until(&mut connection, &push("second-token"), 200)
        .await;
    assert_eq!(connection.ask(&push("first-token")).await.status, 200);

    // What is wrong changes nothing.
    replace(&settings, "[auth]\nnonsense = 1\n");
    served.signal(Signal::HUP);
    replace(&settings, &two);
    served.signal(Signal::HUP);
    served
        .until(&mut connection, &push("first-token"), 403)
        .await;
    assert_eq!(connection.ask(&push("second-token")).await.status, 200);
}

/// Builders push all the while that tokens come and go: whose token stays is never turned away, and
/// no connection is lost.
#[tokio::test]
async fn tokens_are_exchanged_under_load_and_nobody_with_a_good_one_notices() {
    const BUILDERS: usize = 4;
    const EXCHANGES: usize = 10;
    let folder = tempfile::tempdir().unwrap();
    let settings = folder.path().join("narwharf.toml");
    let stays = token_lines("stays", "staying-token", "'write'");
    let comes = token_lines("comes", "coming-token", "'write'");
    fs::write(&settings, &stays).unwrap();
    // Beyond that an unknown token is told 401.
    let served = Served::start(folder.path(), &[("NARWHARF_AUTH__MAX_FAILURES", "1000000")]);
    let (done, pushed) = (AtomicBool::new(false), AtomicUsize::new(0));
    let building = (0..BUILDERS).map(async |builder| {
        let mut connection = Connection::open(served.address).await;
        while !done.load(Ordering::Relaxed) {
            let number = pushed.fetch_add(1, Ordering::Relaxed);
            let key = format!("log/{:0>32}-{builder}-{number}.drv", 0);
            let answer = connection
                .ask(&put(&key, vec![7; 3000]).token("staying-token"))
                .await;
            assert_eq!(answer.status, 201, "{}", answer.text());
        }
    });
    let exchanging = async {
        let mut connection = Connection::open(served.address).await;
        let push = put("/nix-cache-info", "StoreDir: /nix/store\n").token("coming-token");
        for exchange in 0..EXCHANGES {
            let (text, status) = match exchange % 2 {
                0 => (format!("{stays}{comes}"), 200),
                _ => (stays.clone(), 403),
            };
            replace(&settings, &text);
            served.signal(Signal::HUP);
            served.until(&mut connection, &push, status).await;
            // So it stays, while every builder pushes under the new settings.
            let before = pushed.load(Ordering::Relaxed);
            while pushed.load(Ordering::Relaxed) < before + 2 * BUILDERS {
                assert_eq!(connection.ask(&push).await.status, status);
            }
        }
        done.store(true, Ordering::Relaxed);
    };
    tokio::join!(join_all(building), exchanging);
}

const ADMIN: &str = "an-admins-token";

fn purge(bed: &TestBed, token: Option<&str>, args: &[&str]) -> (Option<i32>, String) {
    let url = format!("http://{}", bed.address());
    let Output {
        status,
        stdout,
        stderr,
    } = program(&["purge", "--url", &url])
        .args(args)
        .envs(token.map(|token| ("NARWHARF_TOKEN", token)))
        .current_dir(bed.disk_path())
        .output()
        .unwrap();
    let said = [stdout, stderr].map(|it| String::from_utf8(it).unwrap());
    (status.code(), said.concat())
}

#[tokio::test]
async fn a_store_path_is_purged_narinfo_first() {
    let admin = token_lines("admin", ADMIN, "'admin'");
    let bed = TestBed::with(|s| s.add_toml(&admin)).await;
    let hello = bed.bucket.publish(Package::named("hello"));
    let (code, said) = purge(&bed, None, &["--bucket", &hello.store_path]);
    assert_eq!(code, Some(1), "{said}");
    assert!(said.contains("--token-file"), "{said}");
    assert_eq!(bed.ask(get(&hello.narinfo)).await.status, 200);

    let (code, said) = purge(&bed, Some(ADMIN), &["--bucket", &hello.store_path]);
    assert_eq!(code, Some(0), "{said}");
    let told: Vec<&str> = said.lines().collect();
    assert!(told[0].starts_with(&hello.narinfo), "{said}");
    assert!(told[1].starts_with(&hello.nar), "{said}");
    assert_eq!(bed.bucket.keys(), Vec::<String>::new());
    for key in [&hello.narinfo, &hello.nar] {
        assert_eq!(bed.ask(get(key)).await.status, 404);
    }
}

/// With its narinfo gone, nobody would find the NAR any more.
#[tokio::test]
async fn a_store_path_whose_narinfo_cannot_be_read_keeps_both() {
    let admin = token_lines("admin", ADMIN, "'admin'");
    let bed = TestBed::with(|s| {
        s.add_toml(&admin);
        s.set("auth.public_reads", "false");
    })
    .await;
    let hello = bed.bucket.publish(Package::named("hello"));
    let (code, said) = purge(&bed, Some(ADMIN), &["--bucket", &hello.store_path]);
    assert_eq!(code, Some(1), "{said}");
    assert!(said.contains("--token-file"), "{said}");
    assert_eq!(bed.bucket.keys().len(), 2);
}

#[tokio::test]
async fn keys_are_purged_here_alone_unless_more_is_said() {
    let admin = token_lines("admin", ADMIN, "'admin'");
    let bed = TestBed::with(|s| s.add_toml(&admin)).await;
    let hello = bed
        .bucket
        .publish(Package::named("hello").named_as_harmonia());
    assert!(bed.ask(get(&hello.nar)).await.is(&hello.nar_bytes));
    bed.until_metric("narwharf_disk_blobs", 1).await;
    let (code, said) = purge(&bed, Some(ADMIN), &[&hello.nar, &hello.narinfo]);
    assert_eq!(code, Some(0), "{said}");
    assert!(said.starts_with(&hello.narinfo), "narinfos first: {said}");
    assert_eq!(bed.metric("narwharf_disk_blobs"), 0);
    assert_eq!(bed.bucket.keys().len(), 2);
    assert_eq!(purge(&bed, Some(ADMIN), &["../etc/passwd"]).0, Some(2));
}
