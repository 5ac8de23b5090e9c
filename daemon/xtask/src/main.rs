//! The chores of the house as a program: `cargo xtask VERB`.
//!
//! Everything that the Makefile, CI and a newcomer need runs through here, so that the logic is Rust, is formatted, is linted
//! and has tests. The verbs print plain lines, one per step. xtask depends on none of our crates and on little else, because
//! it is compiled before anything that it sets up exists.

#![allow(
    clippy::disallowed_methods,
    clippy::print_stdout,
    clippy::print_stderr,
    reason = "xtask is a developer's tool: it runs programs, writes files of the repository and prints"
)]

mod paths;
mod shell;
mod setup;

use std::process::ExitCode;

use clap::{Parser, Subcommand};

/// The chores of Demolish's repository.
#[derive(Parser)]
#[command(name = "cargo xtask", max_term_width = 100)]
struct Cli {
    #[command(subcommand)]
    verb: Verb,
}

#[derive(Subcommand)]
enum Verb {
    /// Install what builds and tests need into `.tools/` (idempotent; resumes after an interruption).
    Setup(setup::Options),
}

fn main() -> ExitCode {
    let verb = Cli::parse().verb;
    let outcome = match verb {
        Verb::Setup(options) => setup::run(&options),
    };
    match outcome {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::from(1),
        Err(error) => {
            eprintln!("error: {error:#}");
            ExitCode::from(1)
        }
    }
}
