//! How far long work has come: a bar on a terminal, a plain line now and then elsewhere. Both go to
//! standard error, so that standard output stays what a script reads.

use std::io::{self, IsTerminal, Write};
use std::time::{Duration, Instant};

use crate::human;

/// How often the bar is drawn anew, and how often a line is printed where there is none.
const DRAW: Duration = Duration::from_millis(100);
const PRINT: Duration = Duration::from_secs(10);
const WIDTH: usize = 30;

/// Bytes done out of a total that may still grow.
pub struct Progress {
    what: &'static str,
    total: u64,
    done: u64,
    begun: Instant,
    shown: Option<Instant>,
    is_terminal: bool,
}

impl Progress {
    pub fn new(what: &'static str, total: u64) -> Self {
        Self {
            what,
            total,
            done: 0,
            begun: Instant::now(),
            shown: None,
            is_terminal: io::stderr().is_terminal(),
        }
    }

    /// More work was found.
    pub fn grow(&mut self, bytes: u64) {
        self.total += bytes;
    }

    pub fn add(&mut self, bytes: u64) {
        self.done += bytes;
        let pause = if self.is_terminal { DRAW } else { PRINT };
        if self.shown.unwrap_or(self.begun).elapsed() >= pause {
            self.shown = Some(Instant::now());
            let line = self.line();
            self.put(&line);
        }
    }

    /// Prints a line that stays, above the bar.
    pub fn note(&self, text: &str) {
        let erase = if self.is_terminal { "\r\x1b[K" } else { "" };
        // Nobody to tell is no reason to stop.
        let _ = writeln!(io::stderr(), "{erase}{text}");
    }

    /// Removes the bar.
    pub fn end(self) -> Duration {
        if self.is_terminal {
            let _ = write!(io::stderr(), "\r\x1b[K");
        }
        self.begun.elapsed()
    }

    fn put(&self, line: &str) {
        let mut err = io::stderr().lock();
        let _ = match self.is_terminal {
            true => write!(err, "\r\x1b[K{line}").and_then(|()| err.flush()),
            false => writeln!(err, "{line}"),
        };
    }

    fn line(&self) -> String {
        let (done, total) = (self.done.min(self.total), self.total.max(1));
        let share = done as f64 / total as f64;
        let figures = format!(
            "{:.0} % of {}, {}/s",
            share * 100.0,
            human::bytes(self.total),
            human::bytes((done as f64 / self.begun.elapsed().as_secs_f64().max(0.001)) as u64),
        );
        if !self.is_terminal {
            return format!("{}: {figures}", self.what);
        }
        let full = (share * WIDTH as f64) as usize;
        let bar = format!("{}{}", "█".repeat(full), "░".repeat(WIDTH - full));
        format!("{} {bar} {figures}", self.what)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(done: u64, total: u64, is_terminal: bool) -> String {
        let mut progress = Progress::new("verify", total);
        progress.done = done;
        progress.is_terminal = is_terminal;
        progress.line()
    }

    #[test]
    fn a_bar_is_as_long_at_the_beginning_as_at_the_end() {
        for done in [0, 1, 50, 100, 200] {
            let cells = at(done, 100, true);
            let cells = cells.chars().filter(|c| "█░".contains(*c)).count();
            assert_eq!(cells, WIDTH, "{done}");
        }
        assert!(at(50, 100, true).contains("50 % of 100 B"));
    }

    #[test]
    fn elsewhere_there_is_nothing_that_only_a_terminal_understands() {
        assert!(at(1, 3, false).starts_with("verify: 33 % of 3 B"));
        assert!(at(0, 0, false).starts_with("verify: 0 % of 0 B"));
    }
}
