//! The shapes a setting can have: sizes, durations, counts, switches, texts and lists of texts.
//!
//! A file brings TOML's types, the environment only text; both are understood, and nothing is
//! guessed: `1e5` given as a token stays those three characters, and a duration without a unit is
//! refused rather than taken for seconds. A message shows the value where no secret can stand.

use std::fmt::Display;
use std::str::FromStr;
use std::time::Duration;

use bytesize::ByteSize;
use serde::Deserialize;
use serde::de::IgnoredAny;

/// No machine has more, and sums of sizes stay far from overflowing 64 bits.
const LARGEST: u64 = ByteSize::eib(1).0;

/// Longer is a slip of the hand, and may overflow the clock when added to it.
const LONGEST: Duration = Duration::from_secs(366 * 24 * 60 * 60);

/// A value before its meaning.
#[derive(Deserialize)]
#[serde(untagged)]
enum Raw {
    Switch(bool),
    Whole(i64),
    Text(String),
    List(Vec<Raw>),
    Other(IgnoredAny),
}

impl Raw {
    /// How it is shown in a message.
    fn shown(&self) -> String {
        match self {
            Self::Switch(value) => value.to_string(),
            Self::Whole(value) => value.to_string(),
            Self::Text(value) => format!("{value:?}"),
            Self::List(_) => "a list".to_owned(),
            Self::Other(_) => "a value of another type".to_owned(),
        }
    }
}

/// Bytes.
#[derive(Deserialize)]
#[serde(try_from = "Raw")]
pub struct Size(pub u64);

impl TryFrom<Raw> for Size {
    type Error = String;

    fn try_from(raw: Raw) -> Result<Self, String> {
        let bytes = match &raw {
            Raw::Whole(bytes) => u64::try_from(*bytes).ok(),
            Raw::Text(text) => text.trim().parse::<ByteSize>().ok().map(|size| size.0),
            Raw::Switch(_) | Raw::List(_) | Raw::Other(_) => None,
        };
        bytes
            .filter(|bytes| *bytes <= LARGEST)
            .map(Self)
            .ok_or_else(|| {
                let shown = raw.shown();
                format!("{shown} is no size; allowed is one such as 64MiB or 20GiB, at most 1EiB")
            })
    }
}

/// A duration, nothing at all included.
#[derive(Deserialize)]
#[serde(try_from = "Raw")]
pub struct Span(pub Duration);

impl TryFrom<Raw> for Span {
    type Error = String;

    fn try_from(raw: Raw) -> Result<Self, String> {
        let span = match &raw {
            Raw::Text(text) => humantime::parse_duration(text.trim()).ok(),
            Raw::Switch(_) | Raw::Whole(_) | Raw::List(_) | Raw::Other(_) => None,
        };
        span.filter(|span| *span <= LONGEST)
            .map(Self)
            .ok_or_else(|| {
                let shown = raw.shown();
                format!(
                    "{shown} is no duration; allowed is one with its unit, such as 250ms, 30s or 5m, \
                     at most 366 days"
                )
            })
    }
}

/// A duration in which something has to happen, and which therefore cannot be zero.
#[derive(Deserialize)]
#[serde(try_from = "Raw")]
pub struct Wait(pub Duration);

impl TryFrom<Raw> for Wait {
    type Error = String;

    fn try_from(raw: Raw) -> Result<Self, String> {
        match Span::try_from(raw)?.0 {
            Duration::ZERO => {
                Err("is zero; allowed is a duration above it, such as 30s".to_owned())
            }
            wait => Ok(Self(wait)),
        }
    }
}

/// A whole number from `MIN` to `MAX`.
#[derive(Deserialize)]
#[serde(try_from = "Raw")]
pub struct Count<const MIN: u64, const MAX: u64>(pub u64);

impl<const MIN: u64, const MAX: u64> TryFrom<Raw> for Count<MIN, MAX> {
    type Error = String;

    fn try_from(raw: Raw) -> Result<Self, String> {
        let count = match &raw {
            Raw::Whole(count) => u64::try_from(*count).ok(),
            Raw::Text(text) => text.trim().parse().ok(),
            Raw::Switch(_) | Raw::List(_) | Raw::Other(_) => None,
        };
        count
            .filter(|count| (MIN..=MAX).contains(count))
            .map(Self)
            .ok_or_else(|| {
                let shown = raw.shown();
                format!("{shown} is not allowed; allowed is a whole number from {MIN} to {MAX}")
            })
    }
}

#[derive(Deserialize)]
#[serde(try_from = "Raw")]
pub struct Switch(pub bool);

impl TryFrom<Raw> for Switch {
    type Error = String;

    fn try_from(raw: Raw) -> Result<Self, String> {
        match &raw {
            Raw::Switch(on) => Ok(Self(*on)),
            Raw::Text(text) if text.trim() == "true" => Ok(Self(true)),
            Raw::Text(text) if text.trim() == "false" => Ok(Self(false)),
            Raw::Text(_) | Raw::Whole(_) | Raw::List(_) | Raw::Other(_) => Err(format!(
                "{} is not allowed; allowed is true or false",
                raw.shown()
            )),
        }
    }
}

/// Text that `T` has understood. It may be a secret, so only `T` decides whether to show it.
#[derive(Deserialize)]
#[serde(try_from = "Raw", bound(deserialize = "T: FromStr, T::Err: Display"))]
pub struct Text<T>(pub T);

impl<T> TryFrom<Raw> for Text<T>
where
    T: FromStr,
    T::Err: Display,
{
    type Error = String;

    fn try_from(raw: Raw) -> Result<Self, String> {
        match raw {
            Raw::Text(text) => text.parse().map(Self).map_err(|e: T::Err| e.to_string()),
            Raw::Switch(_) | Raw::Whole(_) | Raw::List(_) | Raw::Other(_) => {
                Err("is no text; allowed is one value in quotes".to_owned())
            }
        }
    }
}

/// Texts that `T` has understood: a list, or one text with commas between.
#[derive(Deserialize)]
#[serde(try_from = "Raw", bound(deserialize = "T: FromStr, T::Err: Display"))]
pub struct List<T>(pub Vec<T>);

impl<T> TryFrom<Raw> for List<T>
where
    T: FromStr,
    T::Err: Display,
{
    type Error = String;

    fn try_from(raw: Raw) -> Result<Self, String> {
        let parse = |text: &str| text.trim().parse().map_err(|e: T::Err| e.to_string());
        match raw {
            Raw::Text(text) if text.trim().is_empty() => Ok(Self(Vec::new())),
            Raw::Text(text) => text
                .split(',')
                .map(parse)
                .collect::<Result<_, _>>()
                .map(Self),
            Raw::List(items) => items
                .into_iter()
                .map(|item| match item {
                    Raw::Text(text) => parse(&text),
                    Raw::Switch(_) | Raw::Whole(_) | Raw::List(_) | Raw::Other(_) => {
                        Err("holds something that is no text; allowed are values in quotes".into())
                    }
                })
                .collect::<Result<_, _>>()
                .map(Self),
            Raw::Switch(_) | Raw::Whole(_) | Raw::Other(_) => Err(
                "is no list; allowed is [\"a\", \"b\"], or one text with commas between".to_owned(),
            ),
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use serde_json::{Value, json};

    use super::*;

    fn size(value: Value) -> Result<u64, String> {
        serde_json::from_value::<Size>(value)
            .map(|size| size.0)
            .map_err(|e| e.to_string())
    }

    fn span(value: Value) -> Result<Duration, String> {
        serde_json::from_value::<Span>(value)
            .map(|span| span.0)
            .map_err(|e| e.to_string())
    }

    #[test]
    fn sizes_have_binary_or_decimal_units_or_are_bytes() {
        assert_eq!(size(json!("64MiB")), Ok(64 << 20));
        assert_eq!(size(json!("1.5 GiB")), Ok(3 << 29));
        assert_eq!(size(json!("500MB")), Ok(500_000_000));
        assert_eq!(size(json!("4096")), Ok(4096));
        assert_eq!(size(json!(4096)), Ok(4096));
    }

    #[test]
    fn what_is_no_size_is_refused_with_an_example() {
        for value in [
            json!("64 potatoes"),
            json!("-1"),
            json!(-1),
            json!(""),
            json!(true),
            json!(1.5),
            json!("2EiB"),
            json!(["1MiB"]),
            json!({"a": 1}),
        ] {
            assert!(size(value).unwrap_err().contains("64MiB"));
        }
    }

    #[test]
    fn durations_always_carry_their_unit() {
        assert_eq!(span(json!("30s")), Ok(Duration::from_secs(30)));
        assert_eq!(span(json!("1h 5m")), Ok(Duration::from_secs(3900)));
        for value in [
            json!("30"),
            json!(30),
            json!("soon"),
            json!("-1s"),
            json!("900y"),
        ] {
            assert!(span(value).unwrap_err().contains("30s"));
        }
    }

    #[test]
    fn a_wait_is_never_zero() {
        assert!(serde_json::from_value::<Wait>(json!("0s")).is_err());
    }

    #[test]
    fn counts_keep_within_their_bounds() {
        let count = |value| serde_json::from_value::<Count<1, 10>>(value).map(|count| count.0);
        assert_eq!(count(json!(10)).unwrap(), 10);
        assert_eq!(count(json!("7")).unwrap(), 7);
        for value in [json!(0), json!(11), json!(-3), json!("ten"), json!(2.0)] {
            let message = count(value).unwrap_err().to_string();
            assert!(message.contains("from 1 to 10"), "{message}");
        }
    }

    #[test]
    fn switches_are_true_or_false_and_nothing_like_it() {
        let switch = |value| serde_json::from_value::<Switch>(value).map(|switch| switch.0);
        assert!(switch(json!("true")).unwrap());
        assert!(!switch(json!(false)).unwrap());
        for value in [json!("yes"), json!(1), json!("on"), json!("")] {
            assert!(switch(value).is_err());
        }
    }

    #[test]
    fn a_text_that_looks_like_a_number_stays_text() {
        let text = serde_json::from_value::<Text<String>>(json!("1e5")).unwrap();
        assert_eq!(text.0, "1e5");
        assert!(serde_json::from_value::<Text<String>>(json!(100000)).is_err());
    }

    #[test]
    fn a_list_may_be_one_text_with_commas() {
        let list = |value| serde_json::from_value::<List<String>>(value).map(|list| list.0);
        assert_eq!(list(json!("a, b,c")).unwrap(), ["a", "b", "c"]);
        assert_eq!(list(json!(["a", "b"])).unwrap(), ["a", "b"]);
        assert!(list(json!("")).unwrap().is_empty());
        assert!(list(json!([1])).is_err());
        assert!(list(json!(1)).is_err());
    }

    proptest! {
        #[test]
        fn no_text_makes_a_size_or_a_duration_panic(text in ".*") {
            let _ = size(json!(text));
            let _ = span(json!(text));
        }

        #[test]
        fn a_size_in_mebibytes_is_exact(count in 0_u64..1 << 40) {
            prop_assert_eq!(size(json!(format!("{count}MiB"))), Ok(count << 20));
        }
    }
}
