//! The curves as an SVG: a row for each trace, objects on the left and bytes on the right.

use std::fmt::Write;

use crate::{Outcome, Ratios, svg};

const WIDTH: f64 = 340.0;
const HEIGHT: f64 = 190.0;
const LEFT: f64 = 52.0;
const TOP: f64 = 58.0;
const GAP: f64 = 66.0;
const COLOURS: [&str; 3] = ["#c2410c", "#2563eb", "#15803d"];

/// What is read off.
type Of = fn(&Ratios) -> f64;

/// One panel: a trace, judged in one way.
struct Panel<'a> {
    outcome: &'a Outcome,
    title: String,
    of: Of,
    x: f64,
    y: f64,
}

pub fn svg(outcomes: &[Outcome], shares: &[f64]) -> String {
    let width = LEFT * 2.0 + 2.0 * WIDTH + GAP;
    let height = TOP + outcomes.len() as f64 * (HEIGHT + GAP);
    let mut out = svg::begin(width, height);
    legend(&mut out, &outcomes[0]);
    for (row, outcome) in outcomes.iter().enumerate() {
        let y = TOP + row as f64 * (HEIGHT + GAP);
        let panels: [(&str, Of); 2] = [
            ("requests", |ratios| ratios.objects),
            ("bytes", |ratios| ratios.bytes),
        ];
        for (column, (what, of)) in panels.into_iter().enumerate() {
            let panel = Panel {
                outcome,
                title: format!("{}: {what} that hit", outcome.title),
                of,
                x: LEFT + column as f64 * (WIDTH + GAP),
                y,
            };
            panel.draw(&mut out, shares);
        }
    }
    out.push_str("</svg>\n");
    out
}

fn legend(out: &mut String, outcome: &Outcome) {
    for (i, curve) in outcome.curves.iter().enumerate() {
        let x = LEFT + i as f64 * 110.0;
        let _ = writeln!(
            out,
            "<line x1=\"{x}\" y1=\"18\" x2=\"{}\" y2=\"18\" stroke=\"{}\" stroke-width=\"2.5\"/>\
             <text x=\"{}\" y=\"22\">{}</text>",
            x + 22.0,
            COLOURS[i],
            x + 28.0,
            curve.policy
        );
    }
    let x = LEFT + 330.0;
    let _ = writeln!(
        out,
        "<line x1=\"{x}\" y1=\"18\" x2=\"{}\" y2=\"18\" stroke=\"#6b7280\" stroke-dasharray=\"4 3\"/>\
         <text x=\"{}\" y=\"22\">never evicts</text>",
        x + 22.0,
        x + 28.0
    );
}

impl Panel<'_> {
    fn draw(&self, out: &mut String, shares: &[f64]) {
        let (left, right, floor) = (self.x, self.x + WIDTH, self.y + HEIGHT);
        let _ = writeln!(
            out,
            "<text x=\"{left}\" y=\"{}\" font-weight=\"600\">{}</text>",
            self.y - 10.0,
            self.title
        );
        for percent in (0..=100).step_by(25) {
            let y = self.height_of(f64::from(percent) / 100.0);
            let _ = writeln!(
                out,
                "<line class=\"rule\" x1=\"{left}\" x2=\"{right}\" y1=\"{y:.1}\" y2=\"{y:.1}\"/>\
                 <text x=\"{}\" y=\"{:.1}\" text-anchor=\"end\">{percent} %</text>",
                left - 6.0,
                y + 4.0
            );
        }
        for (i, share) in shares.iter().enumerate() {
            let _ = writeln!(
                out,
                "<text x=\"{:.1}\" y=\"{}\" text-anchor=\"middle\">{:.0} %</text>",
                self.place_of(i, shares.len()),
                floor + 16.0,
                share * 100.0
            );
        }
        let _ = writeln!(
            out,
            "<text x=\"{}\" y=\"{}\" text-anchor=\"middle\" font-size=\"11\">capacity, as a share of all bytes ever asked for</text>",
            (left + right) / 2.0,
            floor + 32.0
        );
        let bound = self.height_of((self.of)(&self.outcome.bound));
        let _ = writeln!(
            out,
            "<line x1=\"{left}\" x2=\"{right}\" y1=\"{bound:.1}\" y2=\"{bound:.1}\" stroke=\"#6b7280\" stroke-dasharray=\"4 3\"/>"
        );
        for (curve, colour) in self.outcome.curves.iter().zip(COLOURS) {
            let points: Vec<String> = curve
                .at
                .iter()
                .enumerate()
                .map(|(i, ratios)| {
                    let y = self.height_of((self.of)(ratios));
                    format!("{:.1},{y:.1}", self.place_of(i, shares.len()))
                })
                .collect();
            let _ = writeln!(
                out,
                "<polyline points=\"{}\" fill=\"none\" stroke=\"{colour}\" stroke-width=\"2.5\" stroke-linejoin=\"round\"/>",
                points.join(" ")
            );
        }
    }

    fn place_of(&self, i: usize, of: usize) -> f64 {
        self.x + WIDTH * (i as f64 + 0.5) / of as f64
    }

    fn height_of(&self, ratio: f64) -> f64 {
        self.y + HEIGHT * (1.0 - ratio)
    }
}
