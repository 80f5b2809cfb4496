//! Figures and plots in `docs/benchmarks.md`, between its marks; the words around them are people's.

use std::fmt::Write;
use std::fs;
use std::io;
use std::path::Path;

use super::table::{is_compared, number};
use super::{Machine, plot};
use crate::bench::Options;
use crate::results::{Case, Figure};
use crate::servers::Who;

const DOCUMENT: &str = "docs/benchmarks.md";
const BEGIN: &str = "<!-- figures begin -->\n";
const END: &str = "<!-- figures end -->";
/// A group's heading begins so.
const SECTION: &str = "### ";

/// Replaces the groups that were measured; the others stay as an earlier run left them.
pub fn write(cases: &[Case], options: &Options) -> io::Result<()> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let document = root.join(DOCUMENT);
    let text = fs::read_to_string(&document)?;
    let lost = || io::Error::other(format!("{DOCUMENT} has lost its marks"));
    let (before, rest) = text.split_once(BEGIN).ok_or_else(lost)?;
    let (figures, after) = rest.split_once(END).ok_or_else(lost)?;
    let mut sections: Vec<String> = figures.split(SECTION).skip(1).map(str::to_owned).collect();
    let mut groups: Vec<&str> = cases.iter().map(|case| case.group).collect();
    groups.dedup();
    for group in groups {
        let cases: Vec<&Case> = cases.iter().filter(|case| case.group == group).collect();
        let plot = format!("bench-{group}.svg");
        fs::write(root.join("docs").join(&plot), plot::svg(&cases))?;
        let title = format!("{group}\n");
        let machine = Machine::here().line(options);
        let section = format!(
            "{title}\n{machine}\n\n![{group}]({plot})\n\n{}\n",
            table(&cases)
        );
        match sections.iter_mut().find(|it| it.starts_with(&title)) {
            Some(old) => *old = section,
            None => sections.push(section),
        }
    }
    let figures: String = sections.iter().map(|it| format!("{SECTION}{it}")).collect();
    fs::write(&document, format!("{before}{BEGIN}\n{figures}{END}{after}"))
}

fn table(cases: &[&Case]) -> String {
    let figures = &cases[0].figures;
    let titles: Vec<&str> = figures.iter().map(|figure| figure.title()).collect();
    let mut out = format!(
        "| | | {} |\n|---|---|{}\n",
        titles.join(" | "),
        "---:|".repeat(figures.len())
    );
    for case in cases {
        let mut name = format!("{}, {}", case.row, case.label);
        for who in case.of.keys() {
            let cells: Vec<String> = figures
                .iter()
                .map(|figure| cell(case, *who, *figure))
                .collect();
            let _ = writeln!(out, "| {name} | {} | {} |", who.name(), cells.join(" | "));
            name.clear();
        }
    }
    out
}

/// The median, and behind another's what narwharf's is of it.
fn cell(case: &Case, who: Who, figure: Figure) -> String {
    let Some(median) = case.median(who, figure) else {
        return "–".to_owned();
    };
    match case.ratio(who, figure) {
        Some(ratio) if who != Who::Narwharf && is_compared(figure) => {
            format!("{} *({ratio:.2})*", number(median))
        }
        _ => number(median),
    }
}
