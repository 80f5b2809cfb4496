//! One case as a table: a line for each server, and how narwharf compares with it.

use std::fmt::Write;

use crate::results::{Case, Figure, Spread};
use crate::servers::Who;

const NAME: usize = 24;
const CELL: usize = 24;

pub fn of(case: &Case) -> String {
    let mut out = format!("\n{} · {}\n{:NAME$}", case.row, case.label, "");
    for figure in &case.figures {
        let _ = write!(out, "{:>CELL$}", figure.title());
    }
    out.push('\n');
    for (who, figures) in &case.of {
        let _ = write!(out, "{:NAME$}", format!("  {}", who.name()));
        for figure in &case.figures {
            let cell = figures.get(figure).map_or("–".to_owned(), with_spread);
            let _ = write!(out, "{cell:>CELL$}");
        }
        out.push('\n');
    }
    for who in case.of.keys().filter(|who| **who != Who::Narwharf) {
        let _ = write!(out, "{:NAME$}", format!("  ÷ {}", who.name()));
        for figure in &case.figures {
            let ratio = case.ratio(*who, *figure).filter(|_| is_compared(*figure));
            let cell = ratio.map_or("–".to_owned(), |ratio| format!("× {ratio:.2}"));
            let _ = write!(out, "{cell:>CELL$}");
        }
        out.push('\n');
    }
    out
}

/// What the client did says nothing about a server.
pub fn is_compared(figure: Figure) -> bool {
    figure != Figure::ClientShare
}

/// The median, and the least and the most in brackets.
fn with_spread(spread: &Spread) -> String {
    let (least, most) = (number(spread.least()), number(spread.most()));
    format!("{} ({least}–{most})", number(spread.median()))
}

/// With three digits that count.
pub fn number(value: f64) -> String {
    match value.abs() {
        large if large >= 100.0 => format!("{value:.0}"),
        middle if middle >= 10.0 => format!("{value:.1}"),
        middle if middle >= 1.0 => format!("{value:.2}"),
        _ => format!("{value:.3}"),
    }
}
