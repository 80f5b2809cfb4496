//! Who may do what: tokens as Bearer or as a netrc's password, read and write apart, namespaces
//! apart. That no secret is ever seen again stands in `operator.rs`.

use data_encoding::{BASE64, HEXLOWER};
use futures_util::future::join_all;
use narwharf::nix::hash::Sha256Hash;

use crate::bed::r2sim::{Fault, Rule};
use crate::bed::{Answer, Package, Request, TOKEN, TestBed, get, head, put};

fn basic(request: Request, user: &str, password: &str) -> Request {
    let both = BASE64.encode(format!("{user}:{password}").as_bytes());
    request.header("Authorization", &format!("Basic {both}"))
}

/// A `[[auth.token]]` of the settings file.
pub fn token_table(token: &str, rest: &str) -> String {
    let hash = HEXLOWER.encode(Sha256Hash::of(token.as_bytes()).as_bytes());
    format!("[[auth.token]]\nname = \"{token}\"\nsha256 = \"{hash}\"\n{rest}\n")
}

fn write(target: &str) -> Request {
    put(target, b"x").without_token()
}

#[track_caller]
fn assert_challenged(answer: &Answer) {
    assert_eq!(answer.status, 401, "{}", answer.text());
    let challenge = answer.header("www-authenticate");
    assert!(challenge.is_some_and(|text| text.starts_with("Basic ")));
    assert_eq!(answer.header("cache-control"), Some("no-store"));
}

fn failures(bed: &TestBed, reason: &str) -> u64 {
    bed.metric(&format!(
        "narwharf_auth_failures_total{{reason=\"{reason}\"}}"
    ))
}

#[tokio::test]
async fn a_write_needs_a_token_and_a_read_does_not() {
    let bed = TestBed::start().await;
    let hello = bed.bucket.publish(Package::named("hello"));
    assert_eq!(bed.ask(get(&hello.narinfo)).await.status, 200);
    let strange = get(&hello.narinfo).token("nobody's");
    assert_eq!(bed.ask(strange).await.status, 200, "reads look at no token");
    assert_challenged(&bed.ask(write("nar/x.nar")).await);
    let wrong = bed.ask(write("nar/x.nar").token("wrong")).await;
    assert_eq!(wrong.status, 403);
    assert_eq!(wrong.header("www-authenticate"), None);
    assert_eq!(bed.bucket.object("nar/x.nar"), None);
    assert_eq!(
        (failures(&bed, "missing"), failures(&bed, "unknown")),
        (1, 1)
    );
}

/// Stock Nix sends Basic from its netrc, often without a user.
#[tokio::test]
async fn the_token_counts_as_bearer_and_as_the_password_of_any_user() {
    let bed = TestBed::start().await;
    let requests: Vec<Request> = vec![
        write("nar/0.nar").token(TOKEN),
        basic(write("nar/1.nar"), "", TOKEN),
        basic(write("nar/2.nar"), "anybody", TOKEN),
        basic(write("nar/3.nar"), "jürgen", TOKEN),
        // The scheme's case is free, and so are blanks after it (RFC 9110 §11.1, §11.4).
        write("nar/4.nar").header("Authorization", &format!("bearer {TOKEN}")),
        write("nar/5.nar").header("Authorization", &format!("BEARER  {TOKEN}")),
        write("nar/6.nar").header(
            "Authorization",
            &format!("basic {}", BASE64.encode(format!(":{TOKEN}").as_bytes())),
        ),
    ];
    for (at, request) in requests.into_iter().enumerate() {
        assert_eq!(bed.ask(request).await.status, 201, "request {at}");
    }
}

/// Characters that a netrc allows are no trouble in a password.
#[tokio::test]
async fn a_token_may_contain_what_a_password_may() {
    for token in ["a:b:c", "a/b+c==", ":::", "\"'<&%41"] {
        let bed = TestBed::with(|s| s.set("auth.upload_token", token)).await;
        let answer = bed.ask(basic(write("nar/x.nar"), "u", token)).await;
        assert_eq!(answer.status, 201, "{token}");
        let near = bed.ask(basic(write("nar/y.nar"), "u", &token[1..])).await;
        assert_eq!(near.status, 403, "{token}");
    }
}

#[tokio::test]
async fn credentials_that_cannot_be_read_let_nobody_in() {
    let bed = TestBed::start().await;
    let base64 = |text: &str| BASE64.encode(text.as_bytes());
    for value in [
        String::new(),
        "Bearer".to_owned(),
        "Bearer ".to_owned(),
        TOKEN.to_owned(),
        format!("Token {TOKEN}"),
        format!("Digest {TOKEN}"),
        format!("Bearer{TOKEN}"),
        "Basic".to_owned(),
        "Basic !!!".to_owned(),
        format!("Basic {}", base64(TOKEN)),
        format!("Basic {}", base64("user:")),
        format!("Basic {}", base64(":")),
        format!("Basic {TOKEN}"),
        format!("Bearer {}", "x".repeat(10_000)),
        format!("Basic {}", base64(&format!("u:{}", "x".repeat(10_000)))),
    ] {
        let request = write("nar/x.nar").header("Authorization", &value);
        let answer = bed.ask(request).await;
        assert_eq!(answer.status, 403, "{:.40}", value);
    }
    assert_eq!(failures(&bed, "malformed"), 15);
    // Bytes that are no text at all.
    let mut connection = bed.connect().await;
    connection
        .send(b"PUT /nar/x.nar HTTP/1.1\r\nHost: h\r\nContent-Length: 1\r\nAuthorization: Bearer \xff\xfe\r\n\r\nx")
        .await;
    assert_eq!(connection.answer("PUT").await.status, 403);
    // In a query a token would end up in logs everywhere.
    for target in [
        format!("nar/x.nar?token={TOKEN}"),
        format!("nar/x.nar?access_token={TOKEN}"),
    ] {
        assert_challenged(&bed.ask(write(&target)).await);
    }
    assert!(bed.bucket.keys().is_empty());
}

#[tokio::test]
async fn each_token_does_what_its_scopes_say() {
    let bed = TestBed::with(|s| {
        s.unset("auth.upload_token");
        s.set("auth.public_reads", "false");
        s.add_toml(&token_table("reader", "scopes = [\"read\"]"));
        s.add_toml(&token_table("writer", "scopes = [\"write\"]"));
        s.add_toml(&token_table("both", "scopes = [\"read\", \"write\"]"));
    })
    .await;
    let hello = bed.bucket.publish(Package::named("hello"));
    for (token, may_read, may_write) in [
        ("reader", 200, 403),
        ("writer", 401, 201),
        ("both", 200, 201),
        ("nobody", 401, 403),
    ] {
        let read = bed.ask(get(&hello.narinfo).token(token)).await;
        assert_eq!(read.status, may_read, "{token} reads");
        let target = format!("nar/{token}.nar");
        let wrote = bed.ask(write(&target).token(token)).await;
        assert_eq!(wrote.status, may_write, "{token} writes");
    }
    assert_eq!(failures(&bed, "scope"), 2);
}

#[tokio::test]
async fn a_token_for_namespaces_is_good_for_those_alone() {
    let bed = TestBed::with(|s| {
        s.unset("auth.upload_token");
        s.set("cache.namespaces", "a,b");
        s.set("auth.public_reads", "false");
        let scopes = "scopes = [\"read\", \"write\"]";
        s.add_toml(&token_table(
            "team-a",
            &format!("{scopes}\nnamespaces = [\"a\"]"),
        ));
        s.add_toml(&token_table("everywhere", scopes));
    })
    .await;
    for (token, place, written, read) in [
        ("team-a", "a/", 201, 200),
        ("team-a", "b/", 403, 401),
        ("team-a", "", 403, 401),
        ("everywhere", "a/", 200, 200),
        ("everywhere", "b/", 201, 200),
        ("everywhere", "", 201, 200),
    ] {
        let target = format!("{place}nar/x.nar");
        let wrote = bed.ask(write(&target).token(token)).await;
        assert_eq!(wrote.status, written, "{token} writes {target}");
        let got = bed.ask(get(&target).token(token)).await;
        assert_eq!(got.status, read, "{token} reads {target}");
    }
}

/// The last failure is named after an object that somebody asked for.
#[tokio::test]
async fn a_private_caches_readiness_names_no_object() {
    for (public, why) in [("true", "narinfo"), ("false", "s ago: server")] {
        let bed = TestBed::with(|s| s.set("auth.public_reads", public)).await;
        let hello = bed.bucket.publish(Package::named("hello"));
        let broken = Rule::get(&hello.narinfo).plays(Fault::Status(500, "InternalError"));
        let _broken = bed.bucket.fault(broken);
        let asked = get(&hello.narinfo).token(TOKEN);
        assert_eq!(bed.ask(asked).await.status, 503);
        let told = bed.ask(get("ready")).await;
        let told = told.text();
        assert!(told.contains(why), "{told}");
        assert_eq!(told.contains(&hello.narinfo[..32]), public == "true");
    }
}

/// Everything but the signs of life is private then, and nothing may be kept by shared caches.
#[tokio::test]
async fn a_private_cache_tells_strangers_nothing() {
    let bed = TestBed::with(|s| s.set("auth.public_reads", "false")).await;
    let hello = bed.bucket.publish(Package::named("hello"));
    let absent = Package::named("absent").build();
    for target in [
        hello.narinfo.as_str(),
        &hello.nar,
        &absent.narinfo,
        &absent.nar,
        "nix-cache-info",
        "",
    ] {
        for request in [get(target), head(target)] {
            let answer = bed.ask(request.clone()).await;
            assert_challenged(&answer);
            assert_challenged(&bed.ask(request.token("wrong")).await);
        }
    }
    assert_eq!(
        bed.bucket.requests(),
        0,
        "nor is anything looked up for them"
    );
    for target in ["health", "ready"] {
        assert_eq!(bed.ask(get(target)).await.status, 200, "{target}");
    }
    for target in [hello.narinfo.as_str(), &hello.nar, "nix-cache-info"] {
        let answer = bed.ask(get(target).token(TOKEN)).await;
        assert_eq!(answer.status, 200, "{target}");
        let cache = answer.header("cache-control").expect("Cache-Control");
        assert!(cache.starts_with("private"), "{target}: {cache}");
    }
    // Nix resumes only what promised ranges, refusals included.
    let refused = bed.ask(get(&hello.nar)).await;
    assert_eq!(refused.header("accept-ranges"), Some("bytes"));
}

/// However many strangers knock at the same time, who belongs here comes in at once; and nobody is
/// told 429, which makes some versions of Nix sleep for minutes.
#[tokio::test]
async fn a_flood_of_unknown_tokens_shuts_nobody_out() {
    const STRANGERS: usize = 8;
    const KNOCKS: usize = 100;
    let bed = TestBed::with(|s| s.set("auth.max_failures", "5")).await;
    let knocking = (0..STRANGERS).map(async |stranger| {
        let mut connection = bed.connect().await;
        for n in 0..KNOCKS {
            let request = write("nar/x.nar").token(&format!("guess-{stranger}-{n}"));
            let answer = connection.ask(&request).await;
            assert!(matches!(answer.status, 401 | 403), "{}", answer.status);
        }
    });
    let pushing = async {
        let mut connection = bed.connect().await;
        for n in 0..KNOCKS / 5 {
            let request = put(&format!("nar/x-{n}.nar"), b"x");
            assert_eq!(connection.ask(&request).await.status, 201);
        }
    };
    tokio::join!(join_all(knocking), pushing);
    assert_eq!(failures(&bed, "unknown"), (STRANGERS * KNOCKS) as u64);
    // Beyond the limit a stranger is told no more than one who shows nothing.
    assert_challenged(&bed.ask(write("nar/y.nar").token("guess")).await);
    assert_eq!(bed.bucket.object("nar/y.nar"), None);
}

#[tokio::test]
async fn metrics_can_be_kept_behind_a_token_of_their_own() {
    let bed = TestBed::with(|s| s.set("metrics.token", "scraper")).await;
    assert_challenged(&bed.ask(get("metrics")).await);
    assert_challenged(&bed.ask(get("metrics").token(TOKEN)).await);
    assert_eq!(bed.ask(get("metrics").token("scraper")).await.status, 200);
    assert_eq!(
        (failures(&bed, "missing"), failures(&bed, "unknown")),
        (1, 1)
    );
    assert_eq!(
        bed.ask(write("nar/x.nar").token("scraper")).await.status,
        403,
        "and it is good for nothing else"
    );
}
