//! The results for programs: every round of every figure.

use std::fs;
use std::io;
use std::path::Path;

use serde::Serialize;

use super::Machine;
use crate::results::Case;

#[derive(Serialize)]
struct Run<'a> {
    machine: Machine,
    cases: &'a [Case],
}

pub fn write(path: &Path, cases: &[Case]) -> io::Result<()> {
    if let Some(folder) = path.parent() {
        fs::create_dir_all(folder)?;
    }
    let run = Run {
        machine: Machine::here(),
        cases,
    };
    fs::write(path, serde_json::to_vec_pretty(&run)?)
}
