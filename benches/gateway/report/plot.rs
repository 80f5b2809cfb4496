//! One group of cases as an SVG: a row of panels for each row of cases, a panel for each of the first
//! two figures, bars for the servers, and a whisker from the least round to the most.

use std::fmt::Write;

use super::table::number;
use crate::results::{Case, Figure};
use crate::servers::Who;
use crate::svg;

const WIDTH: f64 = 440.0;
const HEIGHT: f64 = 150.0;
const LEFT: f64 = 56.0;
const TOP: f64 = 62.0;
const GAP: f64 = 66.0;
const BAR: f64 = 26.0;
const PANELS: usize = 2;

fn colour(who: Who) -> &'static str {
    match who {
        Who::Narwharf => "#2563eb",
        Who::Nginx => "#15803d",
        Who::NginxPackaged => "#86c79b",
        Who::Varnish => "#c2410c",
        Who::Bare => "#6b7280",
        Who::Origin => "#a3a3a3",
    }
}

pub fn svg(cases: &[&Case]) -> String {
    let mut rows: Vec<&str> = cases.iter().map(|case| case.row.as_str()).collect();
    rows.dedup();
    let figures: Vec<Figure> = cases[0].figures.iter().copied().take(PANELS).collect();
    let width = LEFT * 2.0 + figures.len() as f64 * (WIDTH + GAP) - GAP;
    let mut out = svg::begin(width, TOP + rows.len() as f64 * (HEIGHT + GAP));
    legend(&mut out, cases);
    for (at, row) in rows.iter().enumerate() {
        let cases: Vec<&Case> = cases
            .iter()
            .copied()
            .filter(|case| case.row == *row)
            .collect();
        for (column, figure) in figures.iter().enumerate() {
            let panel = Panel {
                cases: &cases,
                figure: *figure,
                x: LEFT + column as f64 * (WIDTH + GAP),
                y: TOP + at as f64 * (HEIGHT + GAP),
            };
            panel.draw(&mut out, row);
        }
    }
    out.push_str("</svg>\n");
    out
}

fn legend(out: &mut String, cases: &[&Case]) {
    let mut all: Vec<Who> = cases
        .iter()
        .flat_map(|case| case.of.keys().copied())
        .collect();
    all.sort();
    all.dedup();
    for (i, who) in all.into_iter().enumerate() {
        let x = LEFT + i as f64 * 130.0;
        let _ = writeln!(
            out,
            "<rect x=\"{x}\" y=\"10\" width=\"14\" height=\"14\" fill=\"{}\"/><text x=\"{}\" y=\"22\">{}</text>",
            colour(who),
            x + 20.0,
            who.name()
        );
    }
}

/// One figure of the cases of one row.
struct Panel<'a> {
    cases: &'a [&'a Case],
    figure: Figure,
    x: f64,
    y: f64,
}

impl Panel<'_> {
    fn draw(&self, out: &mut String, row: &str) {
        let (left, right, floor) = (self.x, self.x + WIDTH, self.y + HEIGHT);
        let better = if self.figure.is_cost() {
            "less"
        } else {
            "more"
        };
        let _ = writeln!(
            out,
            "<text x=\"{left}\" y=\"{}\" font-weight=\"600\">{row}: {}, {better} is better</text>",
            self.y - 16.0,
            self.figure.title()
        );
        let top = self.top();
        for quarter in 0..=4 {
            let value = top * f64::from(quarter) / 4.0;
            let y = self.height_of(value, top);
            let _ = writeln!(
                out,
                "<line class=\"rule\" x1=\"{left}\" x2=\"{right}\" y1=\"{y:.1}\" y2=\"{y:.1}\"/>\
                 <text x=\"{}\" y=\"{:.1}\" text-anchor=\"end\" font-size=\"10\">{}</text>",
                left - 6.0,
                y + 4.0,
                axis(value)
            );
        }
        let place = WIDTH / self.cases.len() as f64;
        for (at, case) in self.cases.iter().enumerate() {
            let middle = left + (at as f64 + 0.5) * place;
            let _ = writeln!(
                out,
                "<text x=\"{middle:.1}\" y=\"{}\" text-anchor=\"middle\">{}</text>",
                floor + 16.0,
                case.label
            );
            self.bars(out, case, middle, place, top);
        }
    }

    fn bars(&self, out: &mut String, case: &Case, middle: f64, place: f64, top: f64) {
        let shown: Vec<_> = case
            .of
            .iter()
            .filter_map(|(who, figures)| Some((*who, figures.get(&self.figure)?)))
            .collect();
        let bar = BAR.min(place * 0.9 / shown.len().max(1) as f64);
        let first = middle - bar * shown.len() as f64 / 2.0;
        for (at, (who, spread)) in shown.into_iter().enumerate() {
            let x = first + at as f64 * bar;
            let y = self.height_of(spread.median(), top);
            let (least, most) = (
                self.height_of(spread.least(), top),
                self.height_of(spread.most(), top),
            );
            let centre = x + bar / 2.0;
            let _ = writeln!(
                out,
                "<rect x=\"{:.1}\" y=\"{y:.1}\" width=\"{:.1}\" height=\"{:.1}\" fill=\"{}\"/>\
                 <line x1=\"{centre:.1}\" x2=\"{centre:.1}\" y1=\"{least:.1}\" y2=\"{most:.1}\" class=\"whisker\"/>\
                 <text x=\"{centre:.1}\" y=\"{:.1}\" text-anchor=\"middle\" font-size=\"9\">{}</text>",
                x + 1.0,
                bar - 2.0,
                self.y + HEIGHT - y,
                colour(who),
                most.min(y) - 3.0,
                number(spread.median())
            );
        }
    }

    /// What the axis ends with: a round number that no round went beyond.
    fn top(&self) -> f64 {
        let spreads = self.cases.iter().flat_map(|case| case.of.values());
        let most = spreads
            .filter_map(|figures| Some(figures.get(&self.figure)?.most()))
            .fold(0.0, f64::max);
        if most <= 0.0 {
            return 1.0;
        }
        let power = 10f64.powf(most.log10().floor());
        let steps = [1.0, 1.2, 1.6, 2.0, 3.0, 4.0, 6.0, 8.0, 10.0];
        let step = steps.into_iter().find(|step| step * power >= most);
        step.unwrap_or(10.0) * power
    }

    fn height_of(&self, value: f64, top: f64) -> f64 {
        self.y + HEIGHT * (1.0 - value / top)
    }
}

/// Without digits that say nothing.
fn axis(value: f64) -> String {
    if value >= 10_000.0 {
        format!("{:.0}k", value / 1000.0)
    } else {
        format!("{}", (value * 1000.0).round() / 1000.0)
    }
}
