//! DELETE: for whoever has scope `admin`, from the tiers, and from the bucket where that is said.

use crate::bed::r2sim::{Fault, Operation, Rule};
use crate::bed::{Built, MIB, Package, TestBed, delete, get, head, put};
use crate::operator::token_lines;

const ADMIN: &str = "an-admins-token";

const IN_MEMORY: &str = "narwharf_memory_entries{cache=\"nars\"}";

fn admin() -> String {
    token_lines("admin", ADMIN, "'admin'")
}

async fn bed_with_admin() -> TestBed {
    TestBed::with(|s| s.add_toml(&admin())).await
}

async fn pushed(bed: &TestBed, package: Package) -> Built {
    let built = package.build();
    for (key, body) in [
        (&built.nar, built.nar_bytes.as_slice()),
        (&built.narinfo, built.narinfo_text.as_bytes()),
    ] {
        assert_eq!(bed.ask(put(key, body)).await.status, 201);
    }
    built
}

#[tokio::test]
async fn nobody_deletes_where_no_token_may() {
    let bed = TestBed::start().await;
    let hello = bed.bucket.publish(Package::named("hello"));
    let answer = bed
        .ask(delete(&hello.narinfo).token("an-upload-token"))
        .await;
    assert_eq!(answer.status, 405);
    assert_eq!(answer.header("allow"), Some("GET, HEAD, PUT"));
}

#[tokio::test]
async fn where_there_is_an_admin_and_no_uploads_a_put_is_told_so() {
    let bed = TestBed::with(|s| {
        s.set("uploads.enabled", "false");
        s.add_toml(&admin());
    })
    .await;
    let hello = bed.bucket.publish(Package::named("hello"));
    let answer = bed.ask(put(&hello.nar, b"x")).await;
    assert_eq!(answer.status, 405);
    assert_eq!(answer.header("allow"), Some("GET, HEAD, DELETE"));
}

#[tokio::test]
async fn only_admins_delete() {
    let bed = bed_with_admin().await;
    let hello = pushed(&bed, Package::named("hello")).await;
    let request = delete(&format!("{}?bucket=1", hello.narinfo));
    assert_eq!(bed.ask(request.clone()).await.status, 401);
    let writer = request.clone().token("an-upload-token");
    assert_eq!(bed.ask(writer).await.status, 403);
    assert_eq!(bed.ask(request.token("guessed")).await.status, 403);
    assert!(bed.bucket.object(&hello.narinfo).is_some());
    for fixed in ["/health", "/nix-cache-info", "/metrics", "/"] {
        assert_eq!(
            bed.ask(delete(fixed).token(ADMIN)).await.status,
            405,
            "{fixed}"
        );
    }
}

#[tokio::test]
async fn what_is_forgotten_here_is_fetched_anew() {
    let bed = bed_with_admin().await;
    let hello = pushed(&bed, Package::named("hello")).await;
    for (key, body) in [
        (&hello.narinfo, hello.narinfo_text.as_bytes()),
        (&hello.nar, hello.nar_bytes.as_slice()),
    ] {
        bed.bucket.log().reset();
        assert!(bed.ask(get(key)).await.is(body));
        assert_eq!(bed.bucket.reads(key), 0);
        assert_eq!(bed.ask(delete(key).token(ADMIN)).await.status, 200);
        assert!(bed.bucket.object(key).is_some());
        assert!(bed.ask(get(key)).await.is(body));
        assert_eq!(bed.bucket.reads(key), 1);
    }
}

#[tokio::test]
async fn what_is_removed_from_the_bucket_is_gone_at_once_and_may_come_back() {
    let bed = bed_with_admin().await;
    for package in [
        Package::named("hello"),
        Package::named("world").named_as_harmonia(),
    ] {
        let built = pushed(&bed, package).await;
        for key in [&built.narinfo, &built.nar] {
            let own = if key.contains('?') { '&' } else { '?' };
            let request = delete(&format!("{key}{own}bucket=1")).token(ADMIN);
            // Twice: what is not there is removed already.
            for _ in 0..2 {
                assert_eq!(bed.ask(request.clone()).await.status, 200);
                assert_eq!(bed.bucket.object(key), None);
                assert_eq!(bed.ask(get(key)).await.status, 404);
                assert_eq!(bed.ask(head(key)).await.status, 404);
            }
        }
        // That the bucket had it a moment ago does not count any more.
        let early = bed.ask(put(&built.narinfo, &built.narinfo_text)).await;
        assert_eq!(early.status, 409, "{}", early.text());
        let package = Package::named(if built.nar.contains('?') {
            "world"
        } else {
            "hello"
        });
        let again = match built.nar.contains('?') {
            true => package.named_as_harmonia(),
            false => package,
        };
        pushed(&bed, again).await;
        assert!(bed.ask(get(&built.nar)).await.is(&built.nar_bytes));
    }
}

/// Its readers get what they were promised; nobody after them does.
#[tokio::test]
async fn a_fill_under_way_does_not_bring_back_what_is_removed() {
    for (at, held) in [
        ("before the first byte", Fault::HoldFirstByte),
        ("half-way", Fault::HoldAfter(MIB as u64)),
    ] {
        let bed = bed_with_admin().await;
        let hello = bed
            .bucket
            .publish(Package::named("hello").nar_bytes(2 * MIB));
        let held = bed.bucket.fault(Rule::get(&hello.nar).plays(held));
        let reading = bed.ask(get(&hello.nar));
        held.until_played(1).await;
        if at == "half-way" {
            bed.until("some of it is here", || !bed.temporary_files().is_empty())
                .await;
        }
        let request = delete(&format!("{}?bucket=1", hello.nar)).token(ADMIN);
        assert_eq!(bed.ask(request).await.status, 200);
        held.release();
        assert!(reading.await.is(&hello.nar_bytes), "{at}");
        bed.at_rest().await;
        assert_eq!(bed.metric("narwharf_disk_blobs"), 0, "{at}");
        assert_eq!(bed.metric("narwharf_disk_state{state=\"ok\"}"), 1);
        assert_eq!(bed.ask(get(&hello.nar)).await.status, 404, "{at}");
    }
}

#[tokio::test]
async fn what_lies_in_memory_is_gone_at_once_too() {
    let bed = bed_with_admin().await;
    let hello = pushed(&bed, Package::named("hello")).await;
    for _ in 0..2 {
        assert!(bed.ask(get(&hello.nar)).await.is(&hello.nar_bytes));
    }
    bed.until_metric(IN_MEMORY, 1).await;
    let request = delete(&format!("{}?bucket=1", hello.nar)).token(ADMIN);
    assert_eq!(bed.ask(request).await.status, 200);
    assert_eq!(bed.ask(get(&hello.nar)).await.status, 404);
    bed.until_metric(IN_MEMORY, 0).await;
}

/// Its file was opened before, and can be read to its end after it is gone.
#[tokio::test]
async fn what_is_on_its_way_into_memory_does_not_come_back() {
    let bed = bed_with_admin().await;
    let mut client = bed.connect().await;
    for race in 0..40 {
        let package = Package::named(&format!("race-{race}")).nar_bytes(MIB);
        let Built { nar, .. } = bed.cached(package).await;
        // The second hit has the whole read into memory; the answer is a byte, and is here before that.
        for _ in 0..2 {
            let byte = client.ask(&get(&nar).range("bytes=0-0")).await;
            assert_eq!(byte.status, 206);
        }
        assert_eq!(client.ask(&delete(&nar).token(ADMIN)).await.status, 200);
    }
    bed.until_metric(IN_MEMORY, 0).await;
}

#[tokio::test]
async fn a_bucket_that_fails_is_no_removal() {
    let bed = bed_with_admin().await;
    let hello = pushed(&bed, Package::named("hello")).await;
    let sick = Rule::on(Operation::DeleteObject).plays(Fault::Status(500, "InternalError"));
    let _sick = bed.bucket.fault(sick);
    let request = delete(&format!("{}?bucket=1", hello.narinfo)).token(ADMIN);
    assert_eq!(bed.ask(request).await.status, 503);
    assert!(
        bed.ask(get(&hello.narinfo))
            .await
            .is(hello.narinfo_text.as_bytes())
    );
}
