//! Texts that are one of a few words: kinds of bucket, formats and levels of the log.

use std::str::FromStr;

const LEVELS: [&str; 6] = ["error", "warn", "info", "debug", "trace", "off"];

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    Directory,
    S3,
}

impl FromStr for Kind {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        match text {
            "directory" => Ok(Self::Directory),
            "s3" => Ok(Self::S3),
            _ => Err(format!(
                "{text:?} is no kind of bucket; allowed is \"directory\" or \"s3\""
            )),
        }
    }
}

/// What becomes of a fill when the last client that wanted it has left.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum AbandonedFills {
    /// Read to the end all the same.
    Always,
    /// Given up.
    Never,
    /// Read to the end once so many hundredths of it have been read.
    Past { percent: u8 },
}

impl FromStr for AbandonedFills {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let percent = text
            .strip_suffix('%')
            .filter(|digits| digits.bytes().all(|b| b.is_ascii_digit()))
            .and_then(|digits| digits.parse().ok())
            .filter(|percent| (1..=99).contains(percent));
        match (text, percent) {
            ("always", _) => Ok(Self::Always),
            ("never", _) => Ok(Self::Never),
            (_, Some(percent)) => Ok(Self::Past { percent }),
            _ => Err(format!(
                "{text:?} is not allowed; allowed is \"always\", \"never\" or a share from \"1%\" to \"99%\""
            )),
        }
    }
}

/// How log lines are written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LogFormat {
    Text,
    Json,
}

impl FromStr for LogFormat {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        match text {
            "text" => Ok(Self::Text),
            "json" => Ok(Self::Json),
            _ => Err(format!(
                "{text:?} is no format; allowed is \"text\" or \"json\""
            )),
        }
    }
}

/// A level, or levels by part. Stricter than tracing's `EnvFilter`, which takes a misspelt level
/// for the name of a part and then logs nothing.
pub struct Directives(pub String);

impl FromStr for Directives {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let understood = text.split(',').all(|directive| {
            let (part, level) = directive.split_once('=').unwrap_or(("narwharf", directive));
            let named = part
                .bytes()
                .all(|b| b.is_ascii_alphanumeric() || b"_:".contains(&b));
            named && !part.is_empty() && LEVELS.contains(&level)
        });
        if understood {
            Ok(Self(text.to_owned()))
        } else {
            Err(format!(
                "{text:?} is no log level; allowed is one of {}, or levels by part such as \
                 \"info,narwharf::gateway=debug\"",
                LEVELS.join(", ")
            ))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn takes<T: FromStr>(text: &str) -> bool {
        text.parse::<T>().is_ok()
    }

    #[test]
    fn each_word_is_taken_as_it_is_written_and_no_other() {
        assert!(takes::<Kind>("s3") && takes::<Kind>("directory"));
        assert!(!takes::<Kind>("S3") && !takes::<Kind>(""));
        assert!(takes::<LogFormat>("text") && takes::<LogFormat>("json"));
        assert!(!takes::<LogFormat>("xml"));
    }

    #[test]
    fn what_becomes_of_an_abandoned_fill_is_two_words_or_a_share() {
        let read = |text: &str| text.parse::<AbandonedFills>().ok();
        assert_eq!(read("always"), Some(AbandonedFills::Always));
        assert_eq!(read("never"), Some(AbandonedFills::Never));
        assert_eq!(read("50%"), Some(AbandonedFills::Past { percent: 50 }));
        for text in [
            "",
            "%",
            "0%",
            "100%",
            "+5%",
            "0.5",
            "50",
            "300%",
            "sometimes",
        ] {
            assert_eq!(read(text), None, "{text:?}");
        }
    }

    #[test]
    fn a_misspelt_level_is_not_taken_for_a_part() {
        for text in ["info", "off", "warn,narwharf::gateway=debug"] {
            assert!(takes::<Directives>(text), "{text:?}");
        }
        for text in ["", "loud", "info,", "narwharf=loud", "=info", "a b=info"] {
            assert!(!takes::<Directives>(text), "{text:?}");
        }
    }
}
