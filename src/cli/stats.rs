//! `narwharf stats`: what the front page tells, in a terminal; and for an admin the largest and the
//! longest unused blobs.

use std::fmt::Write as _;
use std::io::Write as _;
use std::process::ExitCode;

use anyhow::{Context, bail};
use clap::Args;
use serde_json::Value;

use super::Settings;
use super::ask::Whom;
use crate::human;

/// R2's list prices in US$ for a million operations (Cloudflare, "R2 pricing", 2025): writes and
/// lists, reads. The free allowance and storage are not looked at.
const PRICES: [(&str, f64); 2] = [("a", 4.50), ("b", 0.36)];

#[derive(Args, Debug)]
pub struct Options {
    #[command(flatten)]
    pub(super) settings: Settings,
    #[command(flatten)]
    whom: Whom,
    /// As JSON, for a program
    #[arg(long)]
    json: bool,
}

pub fn run(settings: &Settings, options: &Options) -> anyhow::Result<ExitCode> {
    let answer = options.whom.get(&settings.load()?, "application/json")?;
    let status: Value = match answer.status {
        200 => serde_json::from_str(&answer.body).context("that is no narwharf of this version")?,
        401 | 403 => bail!(
            "these numbers are for admins here: name the file of a token with scope admin by --token-file"
        ),
        status => bail!("the server answered {status}: {}", answer.body.trim()),
    };
    let mut out = std::io::stdout().lock();
    match options.json {
        true => writeln!(out, "{status:#}")?,
        false => out.write_all(text(&status).as_bytes())?,
    }
    out.flush()?;
    Ok(ExitCode::SUCCESS)
}

fn text(status: &Value) -> String {
    let told = Told(status);
    let mut text = format!(
        "{} (narwharf {}), up for {}\nbucket {}, disk {}, index {}\n",
        told.text("/name"),
        told.text("/version"),
        told.duration("/uptime_seconds"),
        told.text("/bucket/state"),
        told.text("/disk/state"),
        told.text("/index/state"),
    );
    text += "\nAnswered without the bucket   last minute   since the start\n";
    for (title, kind) in [
        ("all reads", "all"),
        ("narinfos", "narinfo"),
        ("NARs", "nar"),
        ("other documents", "document"),
    ] {
        let (minute, ever) = (
            told.share(&format!("/hit_ratio/last_minute/{kind}")),
            told.share(&format!("/hit_ratio/ever/{kind}")),
        );
        say(
            &mut text,
            &format!("  {title:<28}{minute:>11}   {ever:>15}"),
        );
    }
    text += "\nTier              entries        holds             of   filled\n";
    for (title, part, entries) in [
        ("memory", "/memory/documents", "entries"),
        ("absences", "/memory/absences", "entries"),
        ("small NARs", "/memory/nars", "entries"),
        ("disk", "/disk", "blobs"),
    ] {
        let (entries, holds, of, full) = (
            told.count(&format!("{part}/{entries}")),
            told.bytes(&format!("{part}/bytes")),
            told.bytes(&format!("{part}/capacity")),
            told.share(&format!("{part}/full")),
        );
        say(
            &mut text,
            &format!("  {title:<12}{entries:>11} {holds:>12} {of:>14}  {full:>7}"),
        );
    }
    text += "\nSince the start\n";
    let mut line = |title: &str, said: String| say(&mut text, &format!("  {title:<12}{said}"));
    line(
        "requests",
        format!(
            "{}, {} of them unanswered",
            told.count("/requests/total"),
            told.count("/requests/unanswered")
        ),
    );
    line(
        "served",
        format!(
            "{}: memory {}, index {}, disk {}, fills {}, bucket {}",
            told.bytes("/bytes/sent"),
            told.bytes("/bytes/from/memory"),
            told.bytes("/bytes/from/index"),
            told.bytes("/bytes/from/disk"),
            told.bytes("/bytes/from/fill"),
            told.bytes("/bytes/from/bucket"),
        ),
    );
    line(
        "bucket",
        format!(
            "{} read, {} written, {} requests",
            told.bytes("/bucket/bytes/in"),
            told.bytes("/bucket/bytes/out"),
            told.count("/bucket/requests"),
        ),
    );
    line(
        "cost",
        format!(
            "US$ {:.4}: {} operations of class A, {} of class B, at R2's list prices",
            told.cost(),
            told.count("/bucket/operations/a"),
            told.count("/bucket/operations/b"),
        ),
    );
    line(
        "uploads",
        format!(
            "{} new, {} there already, {} refused, {} cut, {} failed; {}",
            told.count("/uploads/created"),
            told.count("/uploads/existing"),
            told.count("/uploads/refused"),
            told.count("/uploads/cut"),
            told.count("/uploads/failed"),
            told.bytes("/uploads/bytes"),
        ),
    );
    line(
        "disk",
        format!(
            "{} evicted, {} set aside; the next to go was used {} ago",
            told.count("/disk/evictions"),
            told.count("/disk/quarantined"),
            told.duration("/disk/oldest_idle_seconds"),
        ),
    );
    told.fills(&mut text);
    told.blobs(&mut text, "Largest NARs", "/blobs/largest");
    told.blobs(&mut text, "Longest unused NARs", "/blobs/oldest");
    text
}

fn say(text: &mut String, line: &str) {
    let _ = writeln!(text, "{}", line.trim_end());
}

/// The status, by JSON pointer. What is not there, or null, is a dash.
struct Told<'a>(&'a Value);

impl Told<'_> {
    fn number(&self, at: &str) -> Option<f64> {
        self.0.pointer(at)?.as_f64()
    }

    fn text(&self, at: &str) -> String {
        let found = self.0.pointer(at).and_then(Value::as_str);
        found.unwrap_or("–").to_owned()
    }

    fn written(&self, at: &str, write: impl Fn(u64) -> String) -> String {
        self.number(at)
            .map_or_else(|| "–".to_owned(), |number| write(number as u64))
    }

    fn count(&self, at: &str) -> String {
        self.written(at, human::count)
    }

    fn bytes(&self, at: &str) -> String {
        self.written(at, human::bytes)
    }

    fn duration(&self, at: &str) -> String {
        self.written(at, human::duration)
    }

    fn share(&self, at: &str) -> String {
        self.number(at).map_or_else(|| "–".to_owned(), human::share)
    }

    fn cost(&self) -> f64 {
        let of = |(class, price): (&str, f64)| {
            self.number(&format!("/bucket/operations/{class}"))
                .unwrap_or_default()
                * price
                / 1e6
        };
        PRICES.map(of).iter().sum()
    }

    fn list(&self, at: &str) -> &[Value] {
        self.0
            .pointer(at)
            .and_then(Value::as_array)
            .map_or(&[], Vec::as_slice)
    }

    fn fills(&self, text: &mut String) {
        let fills = self.list("/fills/list");
        if !fills.is_empty() {
            say(text, "\nBeing fetched from the bucket");
        }
        for fill in fills.iter().map(Told) {
            let (name, bytes, of) = (fill.text("/name"), fill.bytes("/bytes"), fill.bytes("/of"));
            say(
                text,
                &format!("  {name}…  {bytes} of {of}  {}", fill.share("/full")),
            );
        }
    }

    fn blobs(&self, text: &mut String, title: &str, at: &str) {
        let blobs = self.list(at);
        if !blobs.is_empty() {
            say(text, &format!("\n{title}"));
        }
        for blob in blobs.iter().map(Told) {
            let (bytes, idle) = (blob.bytes("/bytes"), blob.duration("/idle_seconds"));
            let line = format!("  {bytes:>10}  used {idle:>12} ago  {}", blob.text("/key"));
            say(text, &line);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn costs_are_those_of_the_price_list() {
        let status = json!({ "bucket": { "operations": { "a": 2_000_000, "b": 1_000_000 } } });
        assert!((Told(&status).cost() - 9.36).abs() < 1e-9);
    }

    #[test]
    fn what_an_older_server_does_not_tell_is_a_dash() {
        let text = text(&json!({ "name": "wharf", "version": "0.0.1" }));
        assert!(
            text.starts_with("wharf (narwharf 0.0.1), up for –\nbucket –"),
            "{text}"
        );
        assert!(!text.contains("Largest"));
    }
}
