//! Single values out of a scrape.

/// The value of a series; panics if it is not there.
#[track_caller]
pub(super) fn value(scrape: &str, series: &str) -> u64 {
    let mut values = scrape.lines().filter_map(|line| line.rsplit_once(' '));
    let (_, value) = values
        .find(|(name, _)| *name == series)
        .unwrap_or_else(|| panic!("no series {series} in:\n{scrape}"));
    value
        .parse()
        .unwrap_or_else(|_| panic!("{series} is {value}, which is no count"))
}

/// The series that are not zero, for the message of a test that waited in vain.
pub(super) fn moved(scrape: &str) -> String {
    let told = scrape
        .lines()
        .filter(|line| line.starts_with("narwharf_") && !line.contains("_bucket{"))
        .filter(|line| !line.ends_with(" 0"));
    told.collect::<Vec<_>>().join("\n")
}
