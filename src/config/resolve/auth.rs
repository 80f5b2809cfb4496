//! Who may come in: the tokens of the settings, and the upload token wherever it comes from.

use std::io;

use super::{Judge, names, unreadable};
use crate::config::token::Token;
use crate::config::{Auth, Cache, Namespaces, file};

impl Judge<'_> {
    /// `alone`: nobody but this machine can connect, and nothing speaks against making a token.
    pub(super) fn auth(&mut self, auth: file::Auth, cache: &Cache, alone: bool) -> Auth {
        let configured = auth.token.len();
        let mut tokens = Vec::with_capacity(configured + 1);
        for token in auth.token {
            tokens.push(self.token(token, cache));
        }

        let path = auth.upload_token_file.0.0;
        let chosen = self.given.has("auth.upload_token_file");
        let mut upload_token_file = None;
        if let Some(token) = auth.upload_token {
            if chosen {
                self.refuse_twins("auth.upload_token");
            }
            tokens.push(Token::upload(&token.0.0));
        } else if chosen || configured == 0 {
            match self.secret_in(&path) {
                Ok(token) => {
                    tokens.push(Token::upload(&token));
                    upload_token_file = Some(path);
                }
                Err(error) if error.kind() == io::ErrorKind::NotFound && (alone || !chosen) => {
                    upload_token_file = alone.then_some(path);
                }
                Err(error) => self.refuse("auth.upload_token_file", unreadable(&path, &error)),
            }
        }

        // The log calls a token by its name alone. The upload token's is "upload".
        for (at, token) in tokens.iter().enumerate() {
            if tokens[..at].iter().any(|other| other.name == token.name) {
                let what = format!("{:?} is the name of two tokens; allowed is one", token.name);
                self.refuse("auth.token", what);
            }
        }

        let can_read = tokens.iter().any(|token| token.scopes.read);
        if !auth.public_reads.0 && !can_read && upload_token_file.is_none() {
            self.refuse(
                "auth.public_reads",
                "is false and no token may read; set NARWHARF_AUTH__UPLOAD_TOKEN or add an [[auth.token]]",
            );
        }
        Auth {
            public_reads: auth.public_reads.0,
            tokens,
            max_failures: u32::try_from(auth.max_failures.0).unwrap_or(u32::MAX),
            upload_token_file,
        }
    }

    fn token(&mut self, token: file::Token, cache: &Cache) -> Token {
        let name = token.name.0.0;
        if token.scopes.0.is_empty() {
            let what = format!("{name:?} has no scopes; allowed are read, write and admin");
            self.refuse("auth.token", what);
        }
        let namespaces = token.namespaces.map(names);
        for namespace in namespaces.iter().flatten() {
            let served = match &cache.namespaces {
                Namespaces::None => false,
                Namespaces::Any => namespace != "*",
                Namespaces::These(names) => names.contains(namespace),
            };
            if !served {
                let what = format!(
                    "{name:?} is for namespace {namespace:?}, which cache.namespaces does not allow"
                );
                self.refuse("auth.token", what);
            }
        }
        Token {
            name,
            sha256: token.sha256.0.0,
            scopes: token.scopes.0.into_iter().collect(),
            namespaces,
        }
    }
}
