//! Which keys exist, which do not yet, which are secret, and which one a misspelt key meant.

use super::{fields, file};

/// A section's name, and what asks its type for its keys.
type Section = (&'static str, fn() -> &'static [&'static str]);

/// In the order of `narwharf.toml`.
const SECTIONS: [Section; 10] = [
    ("server", fields::of::<file::Server>),
    ("cache", fields::of::<file::Cache>),
    ("bucket", fields::of::<file::Bucket>),
    ("memory", fields::of::<file::Memory>),
    ("disk", fields::of::<file::Disk>),
    ("uploads", fields::of::<file::Uploads>),
    ("auth", fields::of::<file::Auth>),
    ("signing", fields::of::<file::Signing>),
    ("metrics", fields::of::<file::Metrics>),
    ("log", fields::of::<file::Log>),
];

/// Settings of the contract whose part is not built yet: refused, so that nobody believes in them.
const NOT_YET: [&str; 2] = ["substituter", "server.tls"];

/// Never taken from a settings file, which is copied, committed and read by many.
const SECRETS: [&str; 3] = [
    "auth.upload_token",
    "bucket.secret_access_key",
    "metrics.token",
];

/// A table in an array, which no environment variable can express.
pub const TOKENS: &str = "auth.token";

/// All keys, as `section.key`.
pub fn keys() -> impl Iterator<Item = String> {
    SECTIONS
        .iter()
        .flat_map(|(section, keys)| keys().iter().map(move |key| format!("{section}.{key}")))
}

pub fn is_section(name: &str) -> bool {
    SECTIONS.iter().any(|(section, _)| *section == name)
}

/// Whether `key`, or a table that it lies in, belongs to a part that is not built yet.
pub fn is_not_yet(key: &str) -> bool {
    NOT_YET.iter().any(|later| {
        key.strip_prefix(later)
            .is_some_and(|rest| rest.is_empty() || rest.starts_with('.'))
    })
}

pub fn is_secret(key: &str) -> bool {
    SECRETS.contains(&key)
}

/// `None` when `key` exists; else what is wrong with it, and what its writer may have meant.
pub fn complaint(key: &str) -> Option<String> {
    if keys().any(|known| known == key) {
        return None;
    }
    let text = match nearest(key) {
        Some(near) => format!("unknown key; did you mean {near}?"),
        None => "unknown key.".to_owned(),
    };
    let section = key.split('.').next().unwrap_or_default();
    let allowed = SECTIONS.iter().find(|(name, _)| *name == section);
    Some(match allowed {
        Some((name, keys)) => format!("{text} Allowed in [{name}]: {}", keys().join(", ")),
        None => format!(
            "{text} Sections are {}",
            SECTIONS.map(|(name, _)| name).join(", ")
        ),
    })
}

/// The known key that reads most like `key`, if any is near: few letters differ, or the right key
/// stands in a wrong section or in none.
fn nearest(key: &str) -> Option<String> {
    let (_, last) = key.rsplit_once('.').unwrap_or(("", key));
    let by_letters = keys()
        .map(|known| (distance(key, &known), known))
        .min()
        .filter(|(distance, _)| *distance <= 1 + key.len() / 6)
        .map(|(_, known)| known);
    by_letters
        .or_else(|| keys().find(|known| known.split_once('.').is_some_and(|(_, k)| k == last)))
}

/// Levenshtein's: how many letters must be put in, taken out or changed.
fn distance(one: &str, other: &str) -> usize {
    let other: Vec<char> = other.chars().collect();
    let mut row: Vec<usize> = (0..=other.len()).collect();
    for (i, a) in one.chars().enumerate() {
        let mut diagonal = i;
        row[0] = i + 1;
        for (j, b) in other.iter().enumerate() {
            let changed = diagonal + usize::from(a != *b);
            diagonal = row[j + 1];
            row[j + 1] = changed.min(diagonal + 1).min(row[j] + 1);
        }
    }
    row[other.len()]
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn every_section_of_the_file_is_listed_once() {
        assert_eq!(
            SECTIONS.map(|(name, _)| name).as_slice(),
            fields::of::<file::Settings>()
        );
    }

    #[test]
    fn no_key_is_both_known_and_not_yet() {
        assert!(keys().all(|key| !is_not_yet(&key)));
    }

    #[test]
    fn secrets_and_the_tokens_are_keys() {
        for key in SECRETS.iter().chain([&TOKENS]) {
            assert_eq!(complaint(key), None);
        }
    }

    #[test]
    fn a_part_not_built_yet_takes_its_whole_table_along() {
        assert!(is_not_yet("server.tls") && is_not_yet("server.tls.certificate"));
        assert!(!is_not_yet("server.tlsx"));
    }

    #[test]
    fn slips_find_the_key_they_meant() {
        for (written, meant) in [
            ("server.lisen", "server.listen"),
            ("memory.document_tll", "memory.document_ttl"),
            ("disc.capacity", "disk.capacity"),
            ("capacity", "disk.capacity"),
            ("server.upload_token_file", "auth.upload_token_file"),
        ] {
            assert_eq!(nearest(written).as_deref(), Some(meant), "{written}");
        }
        assert_eq!(nearest("kitchen.sink"), None);
    }

    proptest! {
        #[test]
        fn distance_is_symmetric_and_zero_only_for_equals(one in "[a-c]{0,6}", other in "[a-c]{0,6}") {
            prop_assert_eq!(distance(&one, &other), distance(&other, &one));
            prop_assert_eq!(distance(&one, &other) == 0, one == other);
        }
    }
}
