//! `narwharf nix-conf`: what a client writes into its nix.conf and netrc to use this cache.
//!
//! The upload token itself is not printed: these lines get copied into tickets and repositories.

use std::fs;
use std::io::Write;
use std::net::SocketAddr;
use std::process::ExitCode;

use clap::Args;
use url::Url;

use super::{Settings, netrc};
use crate::config::{Config, Listen};

#[derive(Args, Debug)]
pub struct Options {
    #[command(flatten)]
    pub(super) settings: Settings,
    /// The address by which clients reach this cache [default: the first of server.listen]
    #[arg(long, value_name = "URL", value_parser = web_address)]
    url: Option<Url>,
}

fn web_address(text: &str) -> Result<Url, String> {
    match Url::parse(text) {
        Ok(url) if matches!(url.scheme(), "http" | "https") && url.has_host() => Ok(url),
        _ => Err("allowed is http://… or https://…".to_owned()),
    }
}

pub fn run(settings: &Settings, options: &Options) -> anyhow::Result<ExitCode> {
    let config = settings.load()?;
    let Some(url) = options.url.clone().or_else(|| address(&config)) else {
        anyhow::bail!("no listener speaks TCP; say with --url how clients reach this cache");
    };
    let mut out = std::io::stdout().lock();
    out.write_all(text(&config, &url).as_bytes())?;
    out.flush()?;
    Ok(ExitCode::SUCCESS)
}

fn text(config: &Config, url: &Url) -> String {
    let base = url.as_str().trim_end_matches('/');
    let host = url.host_str().unwrap_or_default();
    let netrc_line = netrc::line(host.trim_matches(['[', ']']), "TOKEN");
    let keys = match &config.signing.trusted_public_keys[..] {
        [] => "# extra-trusted-public-keys = the keys that your builders sign with\n".to_owned(),
        keys => format!("extra-trusted-public-keys = {}\n", keys.join(" ")),
    };
    let mut text = format!(
        "# nix.conf\nextra-substituters = {base}?priority={}\n{keys}",
        config.cache.priority
    );
    if !config.auth.public_reads {
        text += "netrc-file = /etc/nix/netrc\n";
    }
    if !config.auth.public_reads || !config.auth.tokens.is_empty() {
        let who = match config.auth.public_reads {
            true => "whoever pushes",
            false => "everybody, since reading needs a token",
        };
        text +=
            &format!("\n# netrc, mode 0600, for {who}; TOKEN is a token of yours\n{netrc_line}\n");
    }
    text
}

/// The first TCP listener as clients see it: one that is open to all goes by this machine's name.
fn address(config: &Config) -> Option<Url> {
    let listen = config
        .server
        .listen
        .iter()
        .find_map(|listen| match listen {
            Listen::Tcp(address) => Some(address),
            Listen::Unix(_) => None,
        })?;
    let open = listen
        .parse::<SocketAddr>()
        .ok()
        .filter(|address| address.ip().is_unspecified());
    let authority = match open {
        Some(address) => format!("{}:{}", host_name()?, address.port()),
        None => listen.clone(),
    };
    Url::parse(&format!("http://{authority}")).ok()
}

fn host_name() -> Option<String> {
    let name = fs::read_to_string("/proc/sys/kernel/hostname").ok()?;
    Some(name.trim().to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    const KEY: &str = "cache-1:6NCHdD59X431o0gWypbMrAURkbJ16ZPMQFGspcDShjY=";

    fn lines(url: &str, env: &[(&str, &str)]) -> String {
        let token = [("NARWHARF_AUTH__UPLOAD_TOKEN", "hunter2")];
        let env = token.iter().chain(env);
        let env = env.map(|(k, v)| (k.to_string(), v.to_string()));
        let config = Config::load(&[], env).unwrap();
        text(&config, &Url::parse(url).unwrap())
    }

    #[test]
    fn the_lines_name_address_priority_and_keys() {
        let text = lines(
            "http://cache.lan:8080/",
            &[
                ("NARWHARF_CACHE__PRIORITY", "30"),
                ("NARWHARF_SIGNING__TRUSTED_PUBLIC_KEYS", KEY),
            ],
        );
        assert!(text.contains("\nextra-substituters = http://cache.lan:8080?priority=30\n"));
        assert!(text.contains(&format!("\nextra-trusted-public-keys = {KEY}\n")));
        assert!(text.contains("\nmachine cache.lan login narwharf password TOKEN\n"));
        assert!(!text.contains("netrc-file") && !text.contains("hunter2"));
    }

    #[test]
    fn a_private_cache_is_read_with_a_netrc() {
        let text = lines(
            "http://[::1]:80",
            &[("NARWHARF_AUTH__PUBLIC_READS", "false")],
        );
        assert!(text.contains("\nnetrc-file = /etc/nix/netrc\n"));
        assert!(text.contains("\nmachine ::1 login"));
    }

    #[test]
    fn an_open_listener_goes_by_this_machines_name() {
        let env = [
            ("NARWHARF_SERVER__LISTEN", "unix:/s,0.0.0.0:8080"),
            ("NARWHARF_AUTH__UPLOAD_TOKEN", "hunter2"),
        ];
        let env = env.map(|(k, v)| (k.to_owned(), v.to_owned()));
        let url = address(&Config::load(&[], env.into_iter()).unwrap()).unwrap();
        assert_eq!(url.host_str(), host_name().as_deref());
        assert_eq!(url.port(), Some(8080));
    }
}
