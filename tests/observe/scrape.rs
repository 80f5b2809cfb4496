//! A scrape taken apart: families with their types and help, series with labels and values.

use std::collections::{BTreeMap, BTreeSet};

/// Everything that one scrape says, by family.
#[derive(Debug, Clone, Default)]
pub struct Scrape {
    pub families: BTreeMap<String, Family>,
}

/// One metric. A histogram's `_bucket`, `_sum` and `_count` are its series.
#[derive(Debug, Clone, Default)]
pub struct Family {
    pub kind: String,
    pub help: String,
    pub series: Vec<Series>,
}

#[derive(Debug, Clone)]
pub struct Series {
    /// As it stands in the scrape: a histogram's with its ending.
    pub name: String,
    pub labels: BTreeMap<String, String>,
    pub value: f64,
}

impl Scrape {
    /// Reads the text format, as far as narwharf writes it: no label value needs an escape.
    pub fn parse(text: &str) -> Self {
        let mut scrape = Self::default();
        let mut current = String::new();
        for line in text.lines() {
            if let Some(rest) = line.strip_prefix("# HELP ") {
                let (name, help) = rest.split_once(' ').unwrap_or((rest, ""));
                name.clone_into(&mut current);
                scrape.family(&current).help = help.to_owned();
            } else if let Some(rest) = line.strip_prefix("# TYPE ") {
                let (name, kind) = rest.split_once(' ').expect("a type");
                name.clone_into(&mut current);
                scrape.family(&current).kind = kind.to_owned();
            } else {
                scrape.family(&current).series.push(Series::parse(line));
            }
        }
        scrape
    }

    fn family(&mut self, name: &str) -> &mut Family {
        self.families.entry(name.to_owned()).or_default()
    }

    /// The sum over all series of this exact name whose labels are `labels`, whatever else they have.
    #[track_caller]
    pub fn sum(&self, name: &str, labels: &[(&str, &str)]) -> f64 {
        let mut found = self
            .all(name)
            .filter(|series| series.has(labels))
            .peekable();
        assert!(found.peek().is_some(), "no series {name} with {labels:?}");
        found.map(|series| series.value).sum()
    }

    /// Every series, as name and labels.
    pub fn names(&self) -> BTreeSet<String> {
        let series = self.families.values().flat_map(|family| &family.series);
        series
            .map(|series| format!("{}{:?}", series.name, series.labels))
            .collect()
    }

    fn all(&self, name: &str) -> impl Iterator<Item = &Series> {
        let series = self.families.values().flat_map(|family| &family.series);
        series.filter(move |series| series.name == name)
    }
}

impl Series {
    fn parse(line: &str) -> Self {
        let (series, value) = line.rsplit_once(' ').expect("a value");
        let (name, labels) = match series.split_once('{') {
            None => (series, ""),
            Some((name, labels)) => (name, labels.strip_suffix('}').expect("a closing brace")),
        };
        let labels = labels.split_terminator("\",").map(|label| {
            let (name, value) = label.split_once("=\"").expect("a label");
            (name.to_owned(), value.trim_end_matches('"').to_owned())
        });
        Self {
            name: name.to_owned(),
            labels: labels.collect(),
            value: value.parse().expect("a number"),
        }
    }

    fn has(&self, labels: &[(&str, &str)]) -> bool {
        labels
            .iter()
            .all(|(name, value)| self.labels.get(*name).is_some_and(|has| has == value))
    }
}
