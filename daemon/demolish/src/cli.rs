//! The command line: every verb is a file beside this one, and this file only finds the right one.
//!
//! Exit codes, the same for all verbs: 0 done, 1 the answer is *no* (findings, refused), 2 bad use or bad input,
//! 3 the environment is missing something. Errors are one sentence on stderr, with the place and the remedy.

mod lsp;
mod daemon;
mod bench;
mod clock;
mod complete;
mod completions;
mod config;
mod control;
mod doctor;
mod fix;
mod journal;
mod logs;
mod model;
mod place;
mod report;
mod restart;
mod status;
mod stop;
mod trace;
mod verdicts;

use std::fmt::Display;
use std::io::{self, Write};
use std::path::Path;
use std::process::ExitCode;
use std::sync::atomic::{AtomicBool, Ordering};

use clap::{Parser, Subcommand};
use serde_json::Value as Json;

use crate::config::read::{self, Layers};
use crate::config::{Config, LogLevel};
use crate::logging;

/// How long the engine may take to end before the program exits: one unit of its work, on a slow machine.
const ENGINE_PATIENCE: std::time::Duration = std::time::Duration::from_secs(3);

/// How a verb ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u8)]
pub enum Exit {
    /// Done.
    Done = 0,
    /// The answer is *no*.
    No = 1,
    /// Bad use or bad input.
    Bad = 2,
    /// The environment is missing something.
    Missing = 3,
}

/// Why a verb could not do what it was asked: an exit code and one sentence with the place and the remedy.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Failure {
    /// The exit code.
    pub exit: Exit,
    /// The sentence: lower case, no full stop.
    pub message: String,
}

impl Failure {
    /// The user asked for something that is not there or not possible.
    #[must_use]
    pub fn bad(message: impl Display) -> Self {
        Failure { exit: Exit::Bad, message: message.to_string() }
    }

    /// The machine lacks something.
    #[must_use]
    pub fn missing(message: impl Display) -> Self {
        Failure { exit: Exit::Missing, message: message.to_string() }
    }
}

/// What every verb returns.
pub type Outcome = Result<Exit, Failure>;

#[derive(Debug, Parser)]
#[command(
    name = "demolish",
    version,
    about = "Language servers, and a model that they check, behind one daemon",
    after_help = "Exit codes: 0 done, 1 the answer is no, 2 bad use or bad input, 3 the environment is missing something.",
    disable_help_subcommand = true,
    max_term_width = 120
)]
struct Cli {
    #[command(subcommand)]
    verb: Verb,
}

#[derive(Debug, Subcommand)]
enum Verb {
    Lsp(lsp::Args),
    Daemon(daemon::Args),
    Complete(complete::Args),
    Fix(fix::Args),
    Verdicts(verdicts::Args),
    Status(status::Args),
    Trace(trace::Args),
    Restart(restart::Args),
    Stop(stop::Args),
    Doctor(doctor::Args),
    Config(config::Args),
    Logs(logs::Args),
    Journal(journal::Args),
    Report(report::Args),
    Model(model::Args),
    Bench(bench::Args),
    Completions(completions::Args),
}

/// The program's entry.
#[must_use]
pub fn main() -> ExitCode {
    let hidden = || crate::fake_server::early().or_else(crate::conformance_server::early);
    if let Some(code) = lsp::early().or_else(hidden) {
        return code;
    }
    let outcome = match Cli::parse().verb {
        Verb::Lsp(args) => lsp::run(&args),
        Verb::Daemon(args) => daemon::run(&args),
        Verb::Complete(args) => complete::run(&args),
        Verb::Fix(args) => fix::run(&args),
        Verb::Verdicts(args) => verdicts::run(&args),
        Verb::Status(args) => status::run(&args),
        Verb::Trace(args) => trace::run(&args),
        Verb::Restart(args) => restart::run(&args),
        Verb::Stop(args) => stop::run(&args),
        Verb::Doctor(args) => doctor::run(&args),
        Verb::Config(args) => config::run(&args),
        Verb::Logs(args) => logs::run(&args),
        Verb::Journal(args) => journal::run(&args),
        Verb::Report(args) => report::run(&args),
        Verb::Model(args) => model::run(&args),
        Verb::Bench(args) => bench::run(&args),
        Verb::Completions(args) => completions::run(&args),
    };
    // Whoever exits while the engine computes takes its library down under it.
    engine::end_all(ENGINE_PATIENCE);
    match outcome {
        Ok(_) if OUTPUT_LOST.load(Ordering::Relaxed) => ExitCode::from(Exit::Missing as u8),
        Ok(exit) => ExitCode::from(exit as u8),
        Err(failure) => {
            // Nobody may be listening to stderr either; then there is nothing left to say.
            let _ = writeln!(io::stderr(), "demolish: {}", failure.message);
            ExitCode::from(failure.exit as u8)
        }
    }
}

/// Runs a future to its end: for verbs that have one thing to wait for.
fn block_on<T>(future: impl Future<Output = T>) -> Result<T, Failure> {
    let runtime =
        tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build();
    let runtime = runtime
        .map_err(|error| Failure::missing(format!("no threads can be started ({error})")))?;
    let result = runtime.block_on(future);
    runtime.shutdown_background();
    Ok(result)
}

/// Whether some output could not be written although there was a reader for it.
static OUTPUT_LOST: AtomicBool = AtomicBool::new(false);

/// Writes text to stdout. A reader that has gone away (`demolish … | head`) is no error: the rest is not wanted.
/// Anything else (a full disk) is said once, and makes the program exit with 3.
fn print(text: &str) {
    let mut out = io::stdout().lock();
    let written = out.write_all(text.as_bytes()).and_then(|()| out.flush());
    if let Err(error) = written
        && error.kind() != io::ErrorKind::BrokenPipe
        && !OUTPUT_LOST.swap(true, Ordering::Relaxed)
    {
        warn(format_args!(
            "the output cannot be written ({error}); make room, or send it elsewhere"
        ));
    }
}

/// As [`print`], for a verb that would go on for ever: ends the program when the reader is gone.
fn print_or_exit(bytes: &[u8]) {
    let mut out = io::stdout().lock();
    if out.write_all(bytes).and_then(|()| out.flush()).is_err() {
        std::process::exit(Exit::Done as i32);
    }
}

/// Writes one JSON object to stdout, on one line.
fn print_json(value: &serde_json::Value) {
    print(&format!("{value}\n"));
}

/// Writes one warning to stderr.
fn warn(message: impl Display) {
    let _ = writeln!(io::stderr(), "demolish: {message}");
}

/// The settings for a project; what is wrong with them is said once, and they hold without it.
fn settings(project: Option<&Path>) -> Config {
    let root =
        project.and_then(|dir| dir.ancestors().find(|dir| dir.join(read::PROJECT_FILE).is_file()));
    let loaded = read::load(&Layers::of_process(root));
    if let Some(warning) = loaded.warning() {
        warn(warning);
    }
    logging::to_stderr(LogLevel::Error);
    loaded.config
}

/// A verdict in words.
fn verdict(verdict: &Json) -> String {
    let server = verdict["server"].as_str().unwrap_or("the language server");
    match verdict["kind"].as_str() {
        Some("clean") => format!("clean, says {server}"),
        Some("findings") => {
            let findings = verdict["findings"].as_array().map_or(&[][..], Vec::as_slice);
            let words: Vec<String> = findings.iter().map(diagnostic).collect();
            format!("findings of {server}: {}", words.join("; "))
        }
        _ => format!("unknown ({})", verdict["reason"].as_str().unwrap_or("nothing was asked")),
    }
}

/// A diagnostic in one line: place (from 1), code, message.
fn diagnostic(diagnostic: &Json) -> String {
    let start = &diagnostic["range"]["start"];
    let number = |name: &str| start[name].as_u64().unwrap_or_default() + 1;
    let code = diagnostic["code"].as_str().map_or_else(String::new, |code| format!(" [{code}]"));
    let message = diagnostic["message"].as_str().unwrap_or_default();
    format!("{}:{}:{code} {message}", number("line"), number("character"))
}
