//! An address to listen on, as the settings write it.
//!
//! The host stays text: a name is looked up when the socket is bound, not while settings are read,
//! so that `check` says the same with and without a network.

use std::fmt;
use std::net::IpAddr;
use std::path::PathBuf;
use std::str::FromStr;

#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Listen {
    /// `host:port`; an IPv6 address stands in brackets.
    Tcp(String),
    Unix(PathBuf),
}

impl Listen {
    /// Whether only this machine can connect. Of names, only `localhost` is believed to.
    pub fn is_loopback(&self) -> bool {
        match self {
            Self::Unix(_) => true,
            Self::Tcp(address) => {
                let host = address.rsplit_once(':').map_or("", |(host, _)| host);
                let host = host.trim_start_matches('[').trim_end_matches(']');
                host.eq_ignore_ascii_case("localhost")
                    || host.parse::<IpAddr>().is_ok_and(|ip| ip.is_loopback())
            }
        }
    }
}

/// Whether the listeners are sockets that somebody else opened, as far as the environment says
/// (sd_listen_fds(3); without a process's number they are for whoever reads it). They are listened on
/// whatever the settings say, and may be open to all.
pub fn are_handed_over(env: &[(String, String)]) -> bool {
    let of = |wanted: &str| {
        let found = env.iter().find(|(name, _)| name == wanted);
        found.map(|(_, value)| value.as_str())
    };
    let is_ours = |pid: &str| pid.is_empty() || pid.parse() == Ok(std::process::id());
    of("LISTEN_FDS").is_some() && of("LISTEN_PID").is_none_or(is_ours)
}

impl FromStr for Listen {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let refused = |why: &str| {
            format!(
                "{text:?} {why}; allowed is host:port such as 127.0.0.1:8080, [::1]:8080, or unix:/path"
            )
        };
        if let Some(path) = text.strip_prefix("unix:") {
            return match path {
                "" => Err(refused("names no path")),
                path => Ok(Self::Unix(PathBuf::from(path))),
            };
        }
        let (host, port) = text
            .rsplit_once(':')
            .ok_or_else(|| refused("has no port"))?;
        let digits = !port.is_empty() && port.bytes().all(|b| b.is_ascii_digit());
        if !digits || port.parse::<u16>().is_err() {
            return Err(refused("has no port from 0 to 65535"));
        }
        let well_formed = match host.strip_prefix('[') {
            Some(v6) => v6
                .strip_suffix(']')
                .is_some_and(|v6| v6.parse::<std::net::Ipv6Addr>().is_ok()),
            None => {
                !host.is_empty()
                    && host
                        .bytes()
                        .all(|b| b.is_ascii_alphanumeric() || b"-._".contains(&b))
            }
        };
        if well_formed {
            Ok(Self::Tcp(text.to_owned()))
        } else {
            Err(refused("has no host"))
        }
    }
}

impl fmt::Display for Listen {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Tcp(address) => f.write_str(address),
            Self::Unix(path) => write!(f, "unix:{}", path.display()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn listen(text: &str) -> Listen {
        text.parse().unwrap()
    }

    #[test]
    fn addresses_names_and_sockets_are_understood_and_written_back() {
        for text in [
            "127.0.0.1:8080",
            "[::1]:0",
            "cache.lan:80",
            "unix:/run/narwharf.sock",
        ] {
            assert_eq!(listen(text).to_string(), text);
        }
    }

    #[test]
    fn what_cannot_be_bound_is_refused() {
        for text in [
            "",
            ":8080",
            "8080",
            "host:",
            "host:http",
            "host:65536",
            "host:+80",
            "::1:8080",
            "[::1:8080",
            "http://host:80",
            "unix:",
        ] {
            assert!(text.parse::<Listen>().is_err(), "{text:?}");
        }
    }

    #[test]
    fn only_this_machine_reaches_a_loopback_listener() {
        for text in [
            "127.0.0.1:1",
            "127.8.8.8:1",
            "[::1]:1",
            "LocalHost:1",
            "unix:s",
        ] {
            assert!(listen(text).is_loopback(), "{text:?}");
        }
        for text in ["0.0.0.0:1", "[::]:1", "10.0.0.1:1", "cache.lan:1"] {
            assert!(!listen(text).is_loopback(), "{text:?}");
        }
    }
}
