//! Secrets that are never seen again: not in the log at its most talkative, not in metrics, answers
//! and error messages, and not among the process's arguments, whatever goes wrong.

use std::fs;
use std::path::Path;

use data_encoding::BASE64;
use narwharf::config::token;
use rustix::process::Signal;
use secrecy::SecretString;
use tempfile::TempDir;

use crate::bed::r2sim::{Credentials, Fault, Operation, Options, R2Sim, Rule};
use crate::bed::{Connection, Package, Request, get, put};

use super::operator::{Served, program, token_lines};

const UPLOAD: &str = "canary-upload-3f1c";
const BUCKET: &str = "canary-bucket-77ab";
const SCRAPER: &str = "canary-metrics-90de";
const SHOWN: &str = "canary-shown-c4f5";
const LISTED: &str = "canary-listed-5b21";
/// Of the key's text, the base64 of its secret half.
const SIGNING: &str = "mL/kuBachWMFpXhL8WLL2B9+hvMDEoNKMMPkiVqa2ckt";

fn basic(secret: &str) -> String {
    format!("Basic {}", BASE64.encode(format!("me:{secret}").as_bytes()))
}

fn bucket() -> R2Sim {
    R2Sim::with(Options {
        credentials: Credentials {
            access_key_id: "key".to_owned(),
            secret_access_key: BUCKET.to_owned(),
        },
        ..Options::default()
    })
    .unwrap()
}

/// A folder with all that a gateway needs to know, but for what is said in the environment.
fn folder() -> TempDir {
    let folder = tempfile::tempdir().unwrap();
    let settings = token_lines("listed", LISTED, "'read'");
    fs::write(folder.path().join("narwharf.toml"), settings).unwrap();
    let key = format!("obs.example-1:{SIGNING}WKVkCk4j11JmC3kGoMymL12EzBRYbHuEAmHAwHKllw==");
    fs::write(folder.path().join("key"), key).unwrap();
    folder
}

fn environment(sim: &R2Sim) -> Vec<(&'static str, String)> {
    [
        ("NARWHARF_AUTH__UPLOAD_TOKEN", UPLOAD),
        ("NARWHARF_BUCKET__ENDPOINT", &sim.endpoint()),
        ("NARWHARF_BUCKET__NAME", sim.bucket()),
        ("NARWHARF_BUCKET__ACCESS_KEY_ID", "key"),
        ("NARWHARF_BUCKET__SECRET_ACCESS_KEY", BUCKET),
        ("NARWHARF_METRICS__TOKEN", SCRAPER),
        ("NARWHARF_SIGNING__SECRET_KEY_FILE", "key"),
    ]
    .map(|(name, value)| (name, value.to_owned()))
    .to_vec()
}

fn start(folder: &Path, sim: &R2Sim, also: &[(&str, &str)]) -> Served {
    let environment = environment(sim);
    let mut env: Vec<(&str, &str)> = environment
        .iter()
        .map(|(name, value)| (*name, value.as_str()))
        .collect();
    env.extend(also);
    Served::start(folder, &env)
}

/// Asks all of it, stops the server, and returns everything that could be seen of it.
async fn seen_of(folder: &Path, mut served: Served, asked: &[(Request, u16)]) -> String {
    let mut connection = Connection::open(served.address).await;
    let mut seen = String::new();
    for (request, status) in asked {
        let answer = connection.ask(request).await;
        assert_eq!(answer.status, *status, "{}", answer.text());
        seen += &format!("{:?}\n{}", answer.head, answer.text());
    }
    let arguments = format!("/proc/{}/cmdline", served.child.id());
    seen += &fs::read_to_string(arguments).unwrap();
    served.signal(Signal::HUP);
    served.signal(Signal::TERM);
    assert!(served.child.wait().unwrap().success());
    let log = fs::read_to_string(folder.join("log")).unwrap();
    assert!(log.contains("narwharf::audit"), "writes are in the log");
    assert!(log.contains("TRACE"), "it was at its most talkative");
    seen + &log
}

/// Neither as it is, nor as a login, nor as its hash.
#[track_caller]
fn assert_no_secret_in(seen: &str) {
    for secret in [UPLOAD, BUCKET, SCRAPER, SHOWN, LISTED, SIGNING] {
        let hash = token::hex(&token::sha256(&SecretString::from(secret)));
        for form in [
            secret.to_owned(),
            BASE64.encode(format!("me:{secret}").as_bytes()),
            hash,
        ] {
            let found = seen.lines().find(|line| line.contains(&form));
            assert_eq!(found, None, "{form}");
        }
    }
}

#[tokio::test]
async fn six_secrets_are_never_seen_again() {
    let (sim, folder) = (bucket(), folder());
    let served = start(folder.path(), &sim, &[]);
    let hello = Package::named("hello").build();
    let asked = [
        (put(&hello.nar, &hello.nar_bytes).token(UPLOAD), 201),
        (put(&hello.narinfo, &hello.narinfo_text).token(UPLOAD), 201),
        (put(&hello.narinfo, "not a narinfo").token(UPLOAD), 400),
        (put(&hello.nar, "x").token(SHOWN), 403),
        (
            put(&hello.nar, "x").header("Authorization", &basic(SHOWN)),
            403,
        ),
        (
            put(&hello.nar, "x").header("Authorization", &format!("Digest {SHOWN}")),
            403,
        ),
        (
            put("realisations/odd", "x").header("Authorization", &basic(UPLOAD)),
            404,
        ),
        (
            put(&hello.nar, &hello.nar_bytes).header("Authorization", &basic(UPLOAD)),
            200,
        ),
        (put(&hello.nar, "x").token(LISTED), 403),
        (get(&hello.narinfo).token(UPLOAD), 200),
        (get("/metrics").token(SHOWN), 401),
        (get("/metrics").token(SCRAPER), 200),
    ];
    let seen = seen_of(folder.path(), served, &asked).await;
    assert_no_secret_in(&seen);
}

/// What a bucket says when it fails may have in it what it was asked with.
#[tokio::test]
async fn no_secret_is_seen_when_the_bucket_fails() {
    let hello = Package::named("hello").build();
    for fault in [
        Fault::Status(403, "SignatureDoesNotMatch"),
        Fault::Status(403, "InvalidAccessKeyId"),
        Fault::Status(500, "InternalError"),
        Fault::Reset,
        Fault::Html200,
    ] {
        let (sim, folder) = (bucket(), folder());
        let short = [
            ("NARWHARF_UPLOADS__HOLD", "200ms"),
            ("NARWHARF_BUCKET__HOLD", "200ms"),
        ];
        let served = start(folder.path(), &sim, &short);
        let _failing = [Operation::PutObject, Operation::GetObject]
            .map(|operation| sim.fault(Rule::on(operation).plays(fault.clone())));
        let upload = put(&hello.nar, &hello.nar_bytes).header("User-Agent", "curl/8.5.0");
        let asked = [
            (upload.clone().token(UPLOAD), 503),
            (upload.header("Authorization", &basic(UPLOAD)), 503),
            (get(&hello.narinfo).token(UPLOAD), 503),
            (get("/metrics").token(SCRAPER), 200),
        ];
        let mut seen = seen_of(folder.path(), served, &asked).await;
        let checked = program(&["check", "--config", "narwharf.toml"])
            .current_dir(folder.path())
            .envs(environment(&sim))
            .output()
            .unwrap();
        assert!(!checked.status.success(), "{fault:?}");
        for said in [checked.stdout, checked.stderr] {
            seen += &String::from_utf8(said).unwrap();
        }
        assert_no_secret_in(&seen);
    }
}

/// A start that fails says which setting is wrong and not what it was set to.
#[test]
fn no_secret_is_seen_when_the_program_does_not_start() {
    let sim = bucket();
    let in_a_file = |lines: &str| ("narwharf.toml", lines.to_owned());
    for (what, (file, text), also) in [
        (
            "an unknown key",
            in_a_file("[bucket]\nnonsense = 1\n"),
            None,
        ),
        (
            "a secret of the bucket in a file",
            in_a_file(&format!("[bucket]\nsecret_access_key = '{BUCKET}'\n")),
            None,
        ),
        (
            "a token in a file",
            in_a_file(&format!("[auth]\nupload_token = '{UPLOAD}'\n")),
            None,
        ),
        (
            "a token in place of its hash",
            in_a_file(&format!(
                "[[auth.token]]\nname = 'x'\nsha256 = '{LISTED}'\nscopes = ['read']\n"
            )),
            None,
        ),
        (
            "half a signing key",
            ("key", format!("obs.example-1:{SIGNING}")),
            None,
        ),
        (
            "a signing key without a name",
            (
                "key",
                format!("{SIGNING}WKVkCk4j11JmC3kGoMymL12EzBRYbHuEAmHAwHKllw=="),
            ),
            None,
        ),
        (
            "no file where the settings say one",
            in_a_file(""),
            Some(("NARWHARF_SIGNING__SECRET_KEY_FILE", "nowhere")),
        ),
        (
            "a disk that is a file",
            in_a_file(""),
            Some(("NARWHARF_DISK__PATH", "narwharf.toml")),
        ),
    ] {
        let folder = folder();
        fs::write(folder.path().join(file), text).unwrap();
        let ended = program(&["--config", "narwharf.toml"])
            .current_dir(folder.path())
            .envs(environment(&sim))
            .env("NARWHARF_SERVER__LISTEN", "127.0.0.1:0")
            .env("NARWHARF_LOG__LEVEL", "trace")
            .envs(also)
            .output()
            .unwrap();
        assert!(!ended.status.success(), "{what}");
        let mut seen = String::new();
        for said in [ended.stdout, ended.stderr] {
            seen += &String::from_utf8(said).unwrap();
        }
        assert!(!seen.is_empty(), "{what}: it says why");
        assert_no_secret_in(&seen);
    }
}
