//! What happened in a run, for whoever has to find out why it failed.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Instant;

/// A run that says more than this has said enough.
const LINES_MAX: usize = 4000;

/// The lines of a run. Clones share them.
#[derive(Clone, Debug)]
pub(super) struct Trace {
    started: Instant,
    lines: Arc<Mutex<Vec<String>>>,
}

impl Trace {
    /// An empty one; its clock starts now.
    pub(super) fn new() -> Trace {
        Trace { started: Instant::now(), lines: Arc::default() }
    }

    /// Adds a line.
    pub(super) fn add(&self, line: impl Into<String>) {
        let mut lines = self.lines.lock().unwrap_or_else(PoisonError::into_inner);
        if lines.len() < LINES_MAX {
            let at = self.started.elapsed().as_secs_f64() * 1e3;
            lines.push(format!("{at:9.1} ms  {}", line.into()));
        }
    }

    /// All of it.
    pub(super) fn text(&self) -> String {
        self.lines.lock().unwrap_or_else(PoisonError::into_inner).join("\n")
    }
}
