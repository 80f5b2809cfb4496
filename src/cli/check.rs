//! `narwharf check`: one line for each thing that serving needs, and what to do where it is not so.
//!
//! It may run beside a server at work: it takes no lock, and leaves nothing behind.

use std::io::{self, Write};
use std::process::ExitCode;

use anyhow::Context;

use super::Settings;
use crate::config::{ConfigError, Finding};
use crate::{origin, tier};

/// 0 when all is well, 1 when bucket or disk are not, 2 when the settings are not.
pub fn run(settings: &Settings) -> anyhow::Result<ExitCode> {
    let mut out = io::stdout().lock();
    let config = match settings.load() {
        Ok(config) => config,
        Err(error) => {
            report(&mut out, &wrong_settings(&error))?;
            return Ok(ExitCode::from(2));
        }
    };
    let mut findings = vec![Finding {
        what: "settings".to_owned(),
        outcome: Ok("valid".to_owned()),
    }];
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(1)
        .enable_all()
        .build()
        .context("cannot start a runtime")?;
    findings.extend(runtime.block_on(origin::diagnose(&config.bucket)));
    findings.extend(tier::disk::diagnose(&config.disk));
    report(&mut out, &findings)?;
    Ok(
        match findings.iter().all(|finding| finding.outcome.is_ok()) {
            true => ExitCode::SUCCESS,
            false => ExitCode::FAILURE,
        },
    )
}

fn wrong_settings(error: &ConfigError) -> Vec<Finding> {
    let problems = error.problems.iter();
    problems
        .map(|problem| Finding {
            what: "settings".to_owned(),
            outcome: Err(problem.to_string()),
        })
        .collect()
}

/// A line each, whatever line breaks an outcome may have brought from a library's error.
fn report(out: &mut impl Write, findings: &[Finding]) -> io::Result<()> {
    for Finding { what, outcome } in findings {
        let (verdict, text) = match outcome {
            Ok(seen) => ("ok", seen),
            Err(wrong) => ("FAILED", wrong),
        };
        let text: Vec<&str> = text.split_whitespace().collect();
        writeln!(out, "{verdict:<7} {what}: {}", text.join(" "))?;
    }
    out.flush()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_finding_is_one_line() {
        let findings = [
            Finding {
                what: "bucket readable".to_owned(),
                outcome: Ok("listed in 12 ms".to_owned()),
            },
            Finding {
                what: "disk writable".to_owned(),
                outcome: Err("data/cache: read-only\n  mount it writable".to_owned()),
            },
        ];
        let mut out = Vec::new();
        report(&mut out, &findings).unwrap();
        assert_eq!(
            String::from_utf8(out).unwrap(),
            "ok      bucket readable: listed in 12 ms\n\
             FAILED  disk writable: data/cache: read-only mount it writable\n"
        );
    }
}
