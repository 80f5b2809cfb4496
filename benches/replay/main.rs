//! Which eviction policy keeps the NARs that will be asked for again?
//!
//! Replays three synthetic traces (`traces`) against LRU, W-TinyLFU and the S3-FIFO that the disk tier
//! runs, at six capacities each, and prints the share of requests and of bytes that hit. `--write`
//! puts the table and the plot into `docs/`.
//!
//! ```text
//! cargo bench --bench replay -- --write
//! ```
//! It needs nothing but the policy's own source, so `rustc --edition 2024 -O benches/replay/main.rs`
//! builds it in seconds.

mod plot;
mod policies;
#[path = "../svg.rs"]
mod svg;
mod traces;

#[path = "../../src/tier/disk/evict/mod.rs"]
#[allow(
    dead_code,
    unused_imports,
    reason = "the disk tier uses more of it than a replay does, and its tests run there"
)]
mod evict;

use std::fmt::Write;
use std::fs;
use std::path::Path;

use policies::{Policy, Unbounded};
use traces::{Request, Trace};

/// Capacities as shares of all the bytes a trace ever asks for.
const SHARES: [f64; 6] = [0.01, 0.02, 0.05, 0.10, 0.20, 0.40];

const DOCUMENT: &str = "docs/eviction.md";
const PLOT: &str = "docs/eviction.svg";
const BEGIN: &str = "<!-- replay begins -->\n";
const END: &str = "<!-- replay ends -->";

/// Shares of requests and of bytes that a policy answered.
#[derive(Clone, Copy)]
pub struct Ratios {
    pub objects: f64,
    pub bytes: f64,
}

/// One policy over one trace, at each of [`SHARES`].
pub struct Curve {
    pub policy: &'static str,
    pub at: Vec<Ratios>,
}

/// All that one trace tells.
pub struct Outcome {
    pub title: &'static str,
    pub curves: Vec<Curve>,
    /// What a cache would reach that never evicts.
    pub bound: Ratios,
}

fn main() {
    let outcomes: Vec<Outcome> = traces::all().iter().map(measure).collect();
    let table = table(&outcomes);
    print!("{table}");
    if std::env::args().any(|argument| argument == "--write") {
        write(&table, &plot::svg(&outcomes, &SHARES));
    }
}

fn measure(trace: &Trace) -> Outcome {
    let footprint = trace.footprint();
    eprintln!(
        "{}: {} requests, {} NARs, {} MiB",
        trace.title,
        trace.requests.len(),
        trace.sizes.len(),
        footprint >> 20
    );
    let curves = policies::all().map(|(policy, make)| Curve {
        policy,
        at: SHARES
            .map(|share| replay(trace, &mut *make((footprint as f64 * share) as u64)))
            .into(),
    });
    Outcome {
        title: trace.title,
        curves: curves.into(),
        bound: replay(trace, &mut Unbounded::default()),
    }
}

fn replay(trace: &Trace, policy: &mut dyn Policy) -> Ratios {
    let (mut hits, mut bytes_hit, mut bytes) = (0u64, 0u64, 0u64);
    for Request { nar } in &trace.requests {
        let size = trace.sizes[*nar as usize];
        bytes += size;
        if policy.request(*nar, size) {
            hits += 1;
            bytes_hit += size;
        }
    }
    Ratios {
        objects: hits as f64 / trace.requests.len() as f64,
        bytes: bytes_hit as f64 / bytes as f64,
    }
}

fn table(outcomes: &[Outcome]) -> String {
    let mut out = String::new();
    for Outcome {
        title,
        curves,
        bound,
    } in outcomes
    {
        let heads = SHARES.map(|share| format!("{:.0} %", share * 100.0));
        let _ = writeln!(
            out,
            "**{title}**\n\n| policy | {} | all |",
            heads.join(" | ")
        );
        let _ = writeln!(out, "|---|{}", "---|".repeat(SHARES.len() + 1));
        for Curve { policy, at } in curves {
            let cells: Vec<_> = at.iter().map(|ratios| cell(*ratios)).collect();
            let _ = writeln!(
                out,
                "| {policy} | {} | {} |",
                cells.join(" | "),
                cell(*bound)
            );
        }
        out.push('\n');
    }
    out
}

fn cell(ratios: Ratios) -> String {
    format!(
        "{:.1} · {:.1}",
        ratios.objects * 100.0,
        ratios.bytes * 100.0
    )
}

/// Replaces what stands between the marks.
fn write(table: &str, svg: &str) {
    let root = Path::new(option_env!("CARGO_MANIFEST_DIR").unwrap_or("."));
    let document = root.join(DOCUMENT);
    let text = fs::read_to_string(&document).expect("the document is there");
    let (before, rest) = text.split_once(BEGIN).expect("the document has a mark");
    let (_, after) = rest
        .split_once(END)
        .expect("the document has a second mark");
    fs::write(&document, format!("{before}{BEGIN}\n{table}{END}{after}"))
        .expect("docs/ is writable");
    fs::write(root.join(PLOT), svg).expect("docs/ is writable");
}
