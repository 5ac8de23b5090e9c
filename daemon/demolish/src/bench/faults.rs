//! `demolish bench faults`: the crash model. Thousands of short runs with real processes, each drawn from its seed: editors
//! speak, and servers, daemons and shims are killed, stopped, slowed down and made to write rubbish.
//!
//! In the end of every run each request has exactly one answer, the server holds the editor's text byte for byte, and
//! nothing is left running. What a run did is printed when it fails, and `--seed` repeats it alone (docs/testing.md).

mod buffer;
mod chance;
mod check;
mod editor;
mod place;
mod run;
mod seen;
mod trace;

use std::collections::VecDeque;
use std::io::Write as _;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Instant;

use tokio::task::JoinSet;

use super::report::{Report, Row, Samples};
use super::sandbox::{Sandbox, program};
use run::Outcome;
use seen::{Way, Wrong};

/// How many failing runs are printed in full.
const PRINTED_MAX: usize = 5;
/// How often the server's own start is measured.
const STARTS: usize = 20;

/// What to run.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Options {
    /// How many runs.
    pub(crate) runs: u64,
    /// The seed of the first; the others follow.
    pub(crate) seed: u64,
    /// How many at once.
    pub(crate) jobs: usize,
    /// Whether to print what happened even if all is well.
    pub(crate) verbose: bool,
}

/// Runs them.
///
/// # Errors
/// The machine has no `/proc`, or no server can be started.
pub(crate) async fn run(options: Options) -> Result<Report, String> {
    if !std::path::Path::new("/proc/self/environ").exists() {
        return Err("fault runs find their processes in /proc, which is not here".to_owned());
    }
    let start_ms = server_start().await?;
    let seeds: VecDeque<u64> = (options.seed..options.seed.saturating_add(options.runs)).collect();
    let seeds = Arc::new(Mutex::new(seeds));
    let mut jobs = JoinSet::new();
    let sum = Arc::new(Mutex::new(Sum::default()));
    for _ in 0..options.jobs.max(1) {
        let (seeds, sum) = (Arc::clone(&seeds), Arc::clone(&sum));
        jobs.spawn(async move {
            loop {
                let seed = seeds.lock().unwrap_or_else(PoisonError::into_inner).pop_front();
                let Some(seed) = seed else { break };
                let outcome = run::run(seed).await;
                sum.lock().unwrap_or_else(PoisonError::into_inner).add(outcome, options.verbose);
            }
        });
    }
    let started = Instant::now();
    while jobs.join_next().await.is_some() {}
    let sum = std::mem::take(&mut *sum.lock().unwrap_or_else(PoisonError::into_inner));
    Ok(Report::new("faults", sum.rows(start_ms, started.elapsed().as_secs_f64())))
}

/// How long the server takes from its start to its first answer, in milliseconds.
async fn server_start() -> Result<f64, String> {
    let sandbox = Sandbox::new("faults-start", "")?;
    let program = program();
    let mut starts = Samples::default();
    for _ in 0..STARTS {
        let started = Instant::now();
        let command = [program.as_os_str(), "fake-server".as_ref()];
        let (client, _child) = sandbox.start(&command, wire::client::Quiet).await?;
        let patience = std::time::Duration::from_secs(20);
        let answered =
            client.initialize(&serde_json::json!({ "capabilities": {} }), patience).await;
        answered.map_err(|error| error.to_string())?;
        starts.push(started.elapsed().as_secs_f64() * 1e3);
    }
    Ok(starts.quantile(0.5))
}

/// What all runs have found.
#[derive(Default)]
struct Sum {
    runs: u64,
    failed: Vec<u64>,
    wrong: Vec<Wrong>,
    daemon: Samples,
    server: Samples,
    hang: Samples,
    faults: u64,
    messages: u64,
}

impl Sum {
    fn add(&mut self, outcome: Outcome, verbose: bool) {
        self.runs += 1;
        self.faults += outcome.measured.faults;
        self.messages += outcome.measured.messages;
        for (way, ms) in &outcome.measured.recovered {
            match way {
                Way::Daemon => self.daemon.push(*ms),
                Way::Server => self.server.push(*ms),
                Way::Hang => self.hang.push(*ms),
            }
        }
        self.wrong.extend(outcome.wrong.iter().map(|(what, _)| *what));
        if !outcome.wrong.is_empty() {
            self.failed.push(outcome.seed);
        }
        if verbose || !outcome.wrong.is_empty() && self.failed.len() <= PRINTED_MAX {
            print(&outcome);
        } else if !outcome.wrong.is_empty() {
            say(&format!("seed {}: {:?}\n", outcome.seed, outcome.wrong));
        }
    }

    #[allow(clippy::cast_precision_loss, reason = "counts far below 2^52")]
    fn rows(&self, start_ms: f64, took_s: f64) -> Vec<Row> {
        let count = |metric: &str, what: Wrong| {
            let found = self.wrong.iter().filter(|wrong| **wrong == what).count();
            Row::new(metric, found as f64, "").exactly(0.0)
        };
        let over = self.server.quantile(0.99) - start_ms;
        vec![
            count("requests_without_one_answer", Wrong::Answer),
            count("documents_that_differ", Wrong::Document),
            count("notifications_reordered", Wrong::Order),
            count("screens_that_differ", Wrong::Screen),
            count("processes_left", Wrong::Left),
            count("other_failures", Wrong::Other),
            Row::new("daemon_recovery_p50", self.daemon.quantile(0.5), "ms"),
            Row::new("daemon_recovery_p99", self.daemon.quantile(0.99), "ms").at_most(1000.0),
            Row::new("server_start_p50", start_ms, "ms"),
            Row::new("server_recovery_p50", self.server.quantile(0.5), "ms"),
            Row::new("server_recovery_p99_over_start", over, "ms").at_most(500.0),
            Row::new("daemon_hang_recovery_p99", self.hang.quantile(0.99), "ms"),
            Row::new("daemon_kills", self.daemon.len() as f64, ""),
            Row::new("server_kills", self.server.len() as f64, ""),
            Row::new("daemon_hangs", self.hang.len() as f64, ""),
            Row::new("faults", self.faults as f64, ""),
            Row::new("messages", self.messages as f64, ""),
            Row::new("runs", self.runs as f64, ""),
            Row::new("runs_failed", self.failed.len() as f64, "").exactly(0.0),
            Row::new("took", took_s, "s"),
        ]
    }
}

fn print(outcome: &Outcome) {
    let mut text = format!("\nseed {}\n{}\n", outcome.seed, outcome.trace.text());
    if !outcome.log.is_empty() {
        text += &format!("the daemon's log:\n{}", outcome.log);
    }
    for (what, words) in &outcome.wrong {
        text += &format!("WRONG {what:?}: {words}\n");
    }
    text += &format!("repeat it with: demolish bench faults --runs 1 --seed {}\n", outcome.seed);
    say(&text);
}

fn say(text: &str) {
    let _ = std::io::stderr().write_all(text.as_bytes());
}
