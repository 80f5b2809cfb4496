//! `narwharf serve`: from the settings to a running server.

use std::process::ExitCode;

use anyhow::Context;

use super::banner::Banner;
use super::logging::Logging;
use super::{Settings, netrc};
use crate::config::{Config, first_token};
use crate::server;

/// Blocks until the server has drained.
pub fn run(settings: &Settings) -> anyhow::Result<ExitCode> {
    // What is made from here on, blobs, index, bucket, tokens, is for this user alone.
    rustix::process::umask(rustix::fs::Mode::from_raw_mode(0o077));
    let mut config = settings.load()?;
    let log = Logging::start(&config.log)?;
    for path in &config.exposed_secrets {
        tracing::warn!(path = %path.display(), "others may read this file, which holds a secret; chmod 600");
    }

    let token_file = first_token::ensure(&mut config).with_context(|| {
        let path = config.auth.upload_token_file.clone().unwrap_or_default();
        format!(
            "cannot make an upload token in {}; set auth.upload_token_file to a place that can be \
             written, or NARWHARF_AUTH__UPLOAD_TOKEN, or uploads.enabled = false",
            path.display()
        )
    })?;
    let netrc = token_file.as_deref().and_then(|token| {
        netrc::beside(token)
            .inspect_err(|error| tracing::warn!("no netrc beside the upload token: {error:#}"))
            .ok()
            .flatten()
    });
    let banner = Banner::new(&config, token_file, netrc);
    let reload = || {
        let config = reread(settings)?;
        log.replace_level(&config.log.level);
        Some(config)
    };
    server::run(config, log.access.clone(), reload, |running| {
        log.show(&running.metrics);
        banner.print(&running.started);
    })?;
    Ok(ExitCode::SUCCESS)
}

/// The settings as they are now. What is wrong with them is told, and changes nothing.
fn reread(settings: &Settings) -> Option<Config> {
    settings
        .load()
        .inspect_err(|error| tracing::error!("SIGHUP: the settings stay as they were: {error}"))
        .ok()
}
