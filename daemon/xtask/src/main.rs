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
mod layers;
mod tidy;

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
    /// Check that no crate depends upwards or sideways (the layer table).
    Layers,
    /// Check the house rules: sizes, forbidden words, module heads, dead links.
    Tidy,
}

fn main() -> ExitCode {
    let verb = Cli::parse().verb;
    let outcome = match verb {
        Verb::Setup(options) => setup::run(&options),
        Verb::Layers => layers::check().map(|wrong| report("layers", &wrong)),
        Verb::Tidy => tidy::check().map(|wrong| report("tidy", &wrong)),
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

/// Prints what a check found; `true` when that was nothing.
fn report(check: &str, wrong: &[String]) -> bool {
    for finding in wrong {
        println!("{finding}");
    }
    match wrong.len() {
        0 => println!("{check}: nothing found"),
        count => println!("{check}: {count} found"),
    }
    wrong.is_empty()
}
