//! The front page, opened and used in a real Chromium; and `/` for those who are no browser.

use std::path::Path;
use std::time::Duration;

use serde_json::Value;

use crate::bed::{KIB, MIB, Package, TOKEN, TestBed, get, public_key};
use crate::chromium::{ALIAS, Chromium};

/// A page is small enough for a slow line, and an operator does not wait for it.
const LARGEST: usize = 60 * KIB;
const SLOWEST: f64 = 100.0;

async fn bed() -> TestBed {
    TestBed::with(|settings| {
        settings.set("cache.name", "wharf-1");
        // A fill that a test holds is not to be given up while browsers start.
        settings.set("bucket.idle_timeout", "10m");
        settings.set("signing.trusted_public_keys", &public_key());
    })
    .await
}

/// A gateway that has something to tell: hits, absences, and a NAR that is half here.
async fn with_something_to_tell(bed: &TestBed) -> impl Drop + use<> {
    let hello = bed
        .bucket
        .publish(Package::named("hello").nar_bytes(3 * MIB));
    for _ in 0..20 {
        bed.ask(get(&hello.narinfo)).await;
        bed.ask(get("00000000000000000000000000000000.narinfo"))
            .await;
    }
    bed.ask(get(&hello.nar)).await;
    bed.ask(get(&hello.nar)).await;
    let giant = bed
        .bucket
        .publish(Package::named("giant").nar_bytes(8 * MIB));
    let held = bed.bucket.hold_after(&giant.nar, 5 * MIB);
    // Its client leaves when so much is here that the fill goes on without it.
    bed.at_rest().await;
    let here = bed.metric("narwharf_disk_bytes");
    let asking = bed.ask(get(&giant.nar));
    bed.until("five of eight MiB", || {
        bed.metric("narwharf_disk_bytes") >= here + 5 * MIB as u64
    })
    .await;
    drop(asking);
    held
}

fn address(bed: &TestBed) -> String {
    format!("http://{}", bed.address())
}

#[actix_web::test]
async fn the_page_is_live_and_asks_nobody_else() {
    let bed = bed().await;
    let held = with_something_to_tell(&bed).await;
    let url = address(&bed);
    let mut browser = Chromium::open(1440, "light");
    browser.go(&format!("{url}/"));

    browser.until("document.querySelectorAll('#fills progress').length === 1");
    let arrived = "document.querySelector('#fills progress').value > 0.5";
    browser.until(arrived);
    let total = "document.querySelector('[data-live=\"requests.total\"]').textContent";
    let before = browser.evaluate(total);
    browser.until(&format!("{total} !== {before}"));
    drop(held);
    browser.until("document.querySelector('#fills').textContent === 'nothing'");
    let blobs =
        browser.evaluate("document.querySelector('[data-live=\"disk.blobs\"]').textContent");
    assert_eq!(blobs, "2");

    assert_eq!(browser.complaints(), [""; 0]);
    let elsewhere: Vec<_> = browser
        .requests()
        .into_iter()
        .filter(|asked| !asked.starts_with(&url) && !asked.starts_with("data:"))
        .collect();
    assert_eq!(elsewhere, [""; 0]);
}

#[actix_web::test]
async fn lines_are_copied_with_this_servers_own_address_and_keys() {
    let bed = bed().await;
    // To a browser, its own machine is as good as HTTPS; any other host by plain HTTP is not.
    for host in ["127.0.0.1", ALIAS] {
        let url = format!("http://{host}:{}", bed.address().port());
        let mut browser = Chromium::open(1440, "light");
        browser.go(&format!("{url}/"));
        browser.click("button");
        browser.until("document.querySelector('button').textContent === 'Copied'");
        // What was copied is read on a page that may.
        browser.go(&format!("{}/health", address(&bed)));
        let pasted = browser.evaluate("navigator.clipboard.readText()");
        let lines = format!(
            "extra-substituters = {url}\nextra-trusted-public-keys = {}",
            public_key()
        );
        assert_eq!(pasted, lines);
    }
}

#[actix_web::test]
async fn it_fits_a_telephone_and_a_wide_screen_in_the_dark_and_by_day() {
    let bed = bed().await;
    let _held = with_something_to_tell(&bed).await;
    let docs = Path::new(env!("CARGO_MANIFEST_DIR")).join("docs");
    let scratch = tempfile::tempdir().unwrap();
    // `KEEP_SCREENSHOTS=1 cargo test` renews the pictures in docs/.
    let folder = match std::env::var_os("KEEP_SCREENSHOTS") {
        Some(_) => docs.as_path(),
        None => scratch.path(),
    };
    for width in [360, 1440] {
        for scheme in ["light", "dark"] {
            let mut browser = Chromium::open(width, scheme);
            browser.go(&format!("{}/", address(&bed)));
            browser.until("document.getElementById('pulse').textContent.startsWith('Live')");
            browser.until("document.querySelectorAll('#fills progress').length === 1");
            let overflow = "document.documentElement.scrollWidth - innerWidth";
            assert_eq!(browser.evaluate(overflow), 0, "{width} points wide");
            let background = browser.evaluate(
                "getComputedStyle(document.documentElement).colorScheme + ' ' + matchMedia('(prefers-color-scheme: dark)').matches",
            );
            assert_eq!(background, format!("light dark {}", scheme == "dark"));
            let file = folder.join(format!("status-{width}-{scheme}.png"));
            browser.photograph(&file);
            let picture = std::fs::read(&file).unwrap();
            assert!(picture.starts_with(b"\x89PNG") && picture.len() > 10 * KIB);
        }
    }
}

#[actix_web::test]
async fn it_is_complete_within_a_tenth_of_a_second() {
    let bed = bed().await;
    let answer = bed.ask(get("/").header("Accept", "text/html")).await;
    assert!(answer.body.len() < LARGEST, "{} bytes", answer.body.len());
    let mut browser = Chromium::open(1440, "light");
    let mut best = f64::INFINITY;
    // Once is enough to show that it can; a machine that does other things as well takes several.
    for _ in 0..100 {
        browser.go(&format!("{}/", address(&bed)));
        let took = browser
            .evaluate("performance.getEntriesByType('navigation')[0].domContentLoadedEventEnd");
        best = best.min(took.as_f64().unwrap());
        if best < SLOWEST {
            break;
        }
    }
    println!(
        "page: {} bytes, complete after {best:.1} ms",
        answer.body.len()
    );
    assert!(best < SLOWEST, "{best} ms");
}

#[actix_web::test]
async fn without_scripts_it_tells_how_things_stood() {
    let bed = bed().await;
    let _held = with_something_to_tell(&bed).await;
    let mut browser = Chromium::open(1440, "light");
    browser.disable_scripts();
    browser.go(&format!("{}/", address(&bed)));
    let text = browser.evaluate("document.body.innerText");
    let text = text.as_str().unwrap();
    for said in [
        &address(&bed),
        "Memory\t1\t",
        "of 8.0 MiB",
        "As of when this page was asked for.",
    ] {
        assert!(text.contains(said), "{said:?} in\n{text}");
    }
    assert!(!text.contains("Copy"), "{text}");
}

/// What a screen reader has to go by.
#[actix_web::test]
async fn it_can_be_read_by_those_who_do_not_see_it() {
    let bed = bed().await;
    let mut browser = Chromium::open(360, "light");
    browser.go(&format!("{}/", address(&bed)));
    let nameless = browser.evaluate(
        "[...document.querySelectorAll('meter, section, [role=region], button, a')] \
         .filter(e => !(e.getAttribute('aria-label') || e.getAttribute('aria-labelledby') || e.textContent.trim())) \
         .map(e => e.outerHTML)",
    );
    assert_eq!(nameless, Value::Array(vec![]));
    assert_eq!(browser.evaluate("document.documentElement.lang"), "en");
    assert_eq!(
        browser.evaluate("document.querySelectorAll('h1').length"),
        1
    );
    // By keyboard alone: every part can be reached, and the first link of a page is not a trap.
    let reached = browser.evaluate(
        "[...document.querySelectorAll('summary, button, a')].every(e => e.tabIndex === 0)",
    );
    assert_eq!(reached, true);
}

/// WCAG 2.2, 1.4.3: text is 4.5 times as light as what it stands on, or as dark.
#[actix_web::test]
async fn text_stands_out_by_day_and_in_the_dark() {
    let bed = bed().await;
    for scheme in ["light", "dark"] {
        let mut browser = Chromium::open(1440, scheme);
        browser.go(&format!("{}/", address(&bed)));
        let looked_at = browser.evaluate("[...document.querySelectorAll('body *')].length");
        assert!(looked_at.as_u64().unwrap() > 100, "{looked_at}");
        assert_eq!(browser.evaluate(FAINT), Value::Array(vec![]), "{scheme}");
    }
}

/// Texts that do not stand out, each with its contrast. A colour is read by painting with it.
const FAINT: &str = "(() => {
    const paint = document.createElement('canvas').getContext('2d', { willReadFrequently: true });
    const colour = (text) => {
        paint.clearRect(0, 0, 1, 1);
        paint.fillStyle = text;
        paint.fillRect(0, 0, 1, 1);
        return [...paint.getImageData(0, 0, 1, 1).data];
    };
    const light = (rgb) => {
        const [r, g, b] = rgb.map((part) => part / 255)
            .map((part) => part <= 0.04045 ? part / 12.92 : ((part + 0.055) / 1.055) ** 2.4);
        return 0.2126 * r + 0.7152 * g + 0.0722 * b;
    };
    const probe = document.body.appendChild(document.createElement('div'));
    probe.style.color = 'Canvas';
    const canvas = colour(getComputedStyle(probe).color);
    const ground = (element) => {
        for (; element; element = element.parentElement) {
            const found = colour(getComputedStyle(element).backgroundColor);
            if (found[3] === 255) return found;
        }
        return canvas;
    };
    const found = [];
    for (const element of document.querySelectorAll('body *')) {
        const own = [...element.childNodes].some((node) => node.nodeType === 3 && node.data.trim());
        if (!own || !element.checkVisibility()) continue;
        const text = light(colour(getComputedStyle(element).color));
        const below = light(ground(element));
        const contrast = (Math.max(text, below) + 0.05) / (Math.min(text, below) + 0.05);
        if (contrast < 4.5) found.push(element.outerHTML.slice(0, 80) + ' ' + contrast.toFixed(2));
    }
    return found;
})()";

#[actix_web::test]
async fn each_client_gets_the_form_it_reads() {
    let bed = bed().await;
    let nix = bed.ask(get("/").header("Accept", "*/*")).await;
    assert_eq!(nix.header("content-type"), Some("text/x-nix-cache-info"));
    let page = bed
        .ask(get("/").header("Accept", "text/html,*/*;q=0.8"))
        .await;
    assert!(page.text().starts_with("<!doctype html>") && page.text().contains("wharf-1"));
    assert_eq!(page.header("vary"), Some("Accept"));
    let json = bed.ask(get("/").header("Accept", "application/json")).await;
    let status: Value = serde_json::from_str(json.text()).unwrap();
    assert_eq!(
        (&status["name"], &status["disk"]["state"]),
        (&"wharf-1".into(), &"ok".into())
    );
    assert_eq!(status["blobs"], Value::Null);
}

/// Where `/metrics` is not for everybody, neither are the numbers on the page.
#[actix_web::test]
async fn numbers_are_as_public_as_the_metrics() {
    let admin = "an-admin-token";
    let hash =
        narwharf::config::token::hex(&narwharf::config::token::sha256(&admin.to_owned().into()));
    let bed = TestBed::with(|settings| {
        settings.set("metrics.token", "for-the-scraper");
        settings.add_toml(&format!(
            "[[auth.token]]\nname = \"ops\"\nsha256 = \"{hash}\"\nscopes = [\"admin\"]"
        ));
    })
    .await;
    let new = bed.bucket.publish(Package::named("new"));
    bed.ask(get(&new.nar)).await;
    let json = || get("/").header("Accept", "application/json");
    assert_eq!(bed.ask(json()).await.status, 401);
    assert_eq!(bed.ask(json().token(TOKEN)).await.status, 403);
    let page = bed.ask(get("/").header("Accept", "text/html")).await;
    assert!(page.text().contains("nix.conf") && !page.text().contains("id=\"live\""));

    bed.until_metric("narwharf_disk_blobs", 1).await;
    let status = bed.ask(json().token(admin)).await;
    let status: Value = serde_json::from_str(status.text()).unwrap();
    assert_eq!(status["blobs"]["largest"][0]["key"], new.nar);
    assert_eq!(status["blobs"]["oldest"][0]["bytes"], new.nar_bytes.len());
}

/// The last minute is really one: a burst is seen, and then forgotten.
#[actix_web::test]
async fn the_pace_is_that_of_now() {
    let bed = bed().await;
    let pace = async || {
        let json = bed.ask(get("/").header("Accept", "application/json")).await;
        let status: Value = serde_json::from_str(json.text()).unwrap();
        status["requests"]["a_second"].as_f64().unwrap()
    };
    for _ in 0..60 {
        bed.ask(get("nix-cache-info")).await;
    }
    assert!(pace().await > 5.0);
    bed.clock.advance(Duration::from_secs(3600));
    assert!(pace().await < 1.0);
}
