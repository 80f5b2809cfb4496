//! What the client is, as far as an answer depends on it: whether it can repeat an upload.
//!
//! Nix before 2.33.2 cannot: its retry sends no body, or the tail of one (`filetransfer.cc` did not
//! rewind its source). Every Nix names itself `curl/<libcurl> Nix/<version>`.

use actix_web::http::header::{HeaderMap, USER_AGENT};

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Client {
    /// Nix 2.33.2 or newer.
    Nix,
    /// A Nix that cannot repeat an upload, or one that does not say what it is.
    OldNix,
    /// Anything else.
    Other,
}

/// The first version that sends the whole body again.
const REWINDS_SINCE: [u32; 3] = [2, 33, 2];

impl Client {
    pub fn of(headers: &HeaderMap) -> Self {
        let agent = headers
            .get(USER_AGENT)
            .and_then(|value| value.to_str().ok());
        agent.map_or(Self::OldNix, Self::named)
    }

    /// Whether it could send a body a second time.
    pub fn rewinds(self) -> bool {
        match self {
            Self::Nix | Self::Other => true,
            Self::OldNix => false,
        }
    }

    fn named(agent: &str) -> Self {
        let Some(version) = agent
            .split_whitespace()
            .find_map(|word| word.strip_prefix("Nix/"))
        else {
            return Self::Other;
        };
        // What is no number counts as 0, so a development version counts as the oldest.
        let mut numbers = version
            .split('.')
            .map(|part| part.parse::<u32>().unwrap_or(0));
        let version = [(); 3].map(|()| numbers.next().unwrap_or(0));
        if version >= REWINDS_SINCE {
            Self::Nix
        } else {
            Self::OldNix
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nix_names_its_version_and_the_rest_is_other() {
        for (agent, client) in [
            ("curl/7.88.1 Nix/2.8.0", Client::OldNix),
            ("curl/8.13.0 Nix/2.26.3", Client::OldNix),
            ("curl/8.20.0 Nix/2.33.1", Client::OldNix),
            ("curl/8.20.0 Nix/2.33.2", Client::Nix),
            ("curl/8.23.0-rc3 Nix/2.34.8", Client::Nix),
            ("curl/8.23.0-rc3 Nix/2.36.0 (+ci)", Client::Nix),
            ("Nix/3", Client::Nix),
            ("Nix/", Client::OldNix),
            ("Nix/devel", Client::OldNix),
            ("curl/8.5.0", Client::Other),
            ("Mozilla/5.0", Client::Other),
        ] {
            assert_eq!(Client::named(agent), client, "{agent}");
        }
        assert_eq!(Client::of(&HeaderMap::new()), Client::OldNix);
    }
}
