//! What is wrong with the settings, told so that it can be mended without a look into the code.
//!
//! A problem names its source (the very file or variable to open), the key, and what is allowed
//! there. Values are shown only where they cannot be secrets: whoever writes a message decides that.

use std::fmt;

/// One thing to mend.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Problem {
    /// A file's path, an environment variable's name, or `settings` for what no source has said.
    pub source: String,
    /// `section.key`; `None` when the source as a whole is at fault.
    pub key: Option<String>,
    /// What is wrong and what is allowed.
    pub what: String,
}

impl Problem {
    pub(super) fn of_source(source: &str, what: impl Into<String>) -> Self {
        Self {
            source: source.to_owned(),
            key: None,
            what: what.into(),
        }
    }

    pub(super) fn of_key(source: &str, key: &str, what: impl Into<String>) -> Self {
        Self {
            key: Some(key.to_owned()),
            ..Self::of_source(source, what)
        }
    }
}

/// Always one line: control characters, which a file's keys may hold, are written as escapes.
impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut line = self.source.clone();
        if let Some(key) = &self.key {
            line = format!("{line}: {key}");
        }
        for c in format!("{line}: {}", self.what).chars() {
            match c {
                c if c.is_control() => write!(f, "{}", c.escape_default())?,
                c => write!(f, "{c}")?,
            }
        }
        Ok(())
    }
}

/// The settings cannot be used. The program ends with exit code 2.
#[derive(Debug, thiserror::Error)]
#[error("{}", lines(problems))]
pub struct ConfigError {
    /// Never empty; in the order of the sources.
    pub problems: Vec<Problem>,
}

fn lines(problems: &[Problem]) -> String {
    let lines: Vec<String> = problems.iter().map(Problem::to_string).collect();
    lines.join("\n")
}
