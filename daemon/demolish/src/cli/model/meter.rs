//! How far a long verb is: one line that changes on a terminal, a line now and then elsewhere, objects for programs.

use std::io::{self, IsTerminal as _, Write as _};
use std::ops::ControlFlow;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use engine::LoadWatch;
use serde_json::json;

use super::super::{clock, print_json};

/// How often a terminal's line changes.
const TERMINAL_PERIOD: Duration = Duration::from_millis(100);
/// How often a program is told.
const JSON_PERIOD: Duration = Duration::from_secs(1);
/// How often a log gets a line.
const PLAIN_PERIOD: Duration = Duration::from_secs(10);
/// Columns where the terminal does not say how many it has.
const COLUMNS: usize = 80;

/// Where it is told.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Form {
    Terminal,
    Plain,
    Json,
}

/// Tells how many bytes are done.
pub(super) struct Meter {
    form: Form,
    /// What is being done: `packing`.
    verb: &'static str,
    started: Instant,
    /// When it was last told, and how much was done when it began.
    told: Option<Instant>,
    first: Option<u64>,
}

impl Meter {
    pub(super) fn new(verb: &'static str, json: bool) -> Meter {
        let form = match (json, io::stderr().is_terminal()) {
            (true, _) => Form::Json,
            (false, true) => Form::Terminal,
            (false, false) => Form::Plain,
        };
        Meter { form, verb, started: Instant::now(), told: None, first: None }
    }

    /// So many bytes are done.
    pub(super) fn tell(&mut self, done: u64, total: u64, what: &str) {
        let first = *self.first.get_or_insert(done);
        let period = match self.form {
            Form::Terminal => TERMINAL_PERIOD,
            Form::Plain => PLAIN_PERIOD,
            Form::Json => JSON_PERIOD,
        };
        let since = self.told.unwrap_or(self.started);
        let is_first = self.told.is_none() && self.form != Form::Plain;
        if since.elapsed() < period && !is_first {
            return;
        }
        self.told = Some(Instant::now());
        let rate = rate(done - first.min(done), self.started.elapsed());
        match self.form {
            Form::Json => print_json(&json!({
                "event": "progress", "done": done, "total": total, "bytes_per_s": rate, "what": what,
            })),
            Form::Plain => {
                super::super::warn(format_args!("{}", self.line(done, total, rate, what)));
            }
            Form::Terminal => {
                let line: String =
                    self.line(done, total, rate, what).chars().take(columns() - 1).collect();
                let mut out = io::stderr().lock();
                // A terminal that is gone has no need of it.
                let _ = write!(out, "\r{line}\x1b[K").and_then(|()| out.flush());
            }
        }
    }

    fn line(&self, done: u64, total: u64, rate: u64, what: &str) -> String {
        let share = (done * 100).checked_div(total).unwrap_or(100);
        let mut line = format!(
            "{} {share:>3} %  {} of {}",
            self.verb,
            clock::bytes(done),
            clock::bytes(total)
        );
        if rate > 0 {
            #[allow(clippy::cast_precision_loss, reason = "rounded to seconds")]
            let left = total.saturating_sub(done) as f64 / rate as f64;
            line += &format!("  {}/s  {} left", clock::bytes(rate), clock::stretch(left));
        }
        if what.is_empty() { line } else { format!("{line}  {what}") }
    }

    /// A line between, for people: the changing one is below it then.
    pub(super) fn say(&self, line: &str) {
        if !self.is_json() {
            self.clear();
            // Who has no terminal any more has no need of it.
            let _ = writeln!(io::stderr(), "{line}");
        }
    }

    /// Whether programs read it.
    pub(super) fn is_json(&self) -> bool {
        self.form == Form::Json
    }

    /// Takes the changing line away.
    pub(super) fn clear(&self) {
        if self.form == Form::Terminal {
            let mut out = io::stderr().lock();
            let _ = write!(out, "\r\x1b[K").and_then(|()| out.flush());
        }
    }
}

/// Has `load` load a model, and tells on stderr how far that is.
pub(in crate::cli) fn loading<T>(load: impl FnOnce(LoadWatch) -> T) -> T {
    let meter = Arc::new(Mutex::new(Meter::new("loading", false)));
    let told = meter.clone();
    let loaded = load(LoadWatch::new(move |progress| {
        let mut meter = told.lock().unwrap_or_else(PoisonError::into_inner);
        if progress.bytes < progress.total {
            meter.tell(progress.bytes, progress.total, "");
        } else {
            meter.clear();
        }
        ControlFlow::Continue(())
    }));
    meter.lock().unwrap_or_else(PoisonError::into_inner).clear();
    loaded
}

fn columns() -> usize {
    let size = rustix::termios::tcgetwinsize(io::stderr()).ok();
    size.map(|size| usize::from(size.ws_col)).filter(|&columns| columns > 1).unwrap_or(COLUMNS)
}

/// Bytes per second.
fn rate(bytes: u64, took: Duration) -> u64 {
    let ms = u64::try_from(took.as_millis()).unwrap_or(u64::MAX);
    bytes.saturating_mul(1000).checked_div(ms).unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_says_share_amount_rate_and_what_is_left() {
        let meter = Meter {
            form: Form::Plain,
            verb: "packing",
            started: Instant::now(),
            told: None,
            first: None,
        };
        assert_eq!(
            meter.line(1 << 20, 4 << 20, 1 << 20, "lm_head"),
            "packing  25 %  1.0 MiB of 4.0 MiB  1.0 MiB/s  3 s left  lm_head"
        );
        assert_eq!(meter.line(0, 0, 0, ""), "packing 100 %  0 B of 0 B");
    }

    #[test]
    fn rates() {
        assert_eq!(rate(500, Duration::from_millis(250)), 2000);
        assert_eq!(rate(500, Duration::ZERO), 0);
    }
}
