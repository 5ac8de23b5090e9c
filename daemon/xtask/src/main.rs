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
mod fingerprint;
mod setup;
mod layers;
mod tidy;
mod pages;
mod drive;

use std::process::ExitCode;

use clap::{Parser, Subcommand};
use drive::checks::Mode;
use drive::test::Pace;

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
    /// Set up and build the program, optimised.
    Build,
    /// Set up, check, build and run the fast tests.
    Test,
    /// The same with the real servers, the real Neovim and the real model.
    Slow,
    /// Set up, build and run the tour: in Neovim on a terminal, as a transcript without one.
    Demo {
        /// Passed on to the tour.
        #[arg(trailing_var_arg = true, allow_hyphen_values = true)]
        arguments: Vec<String>,
    },
    /// Run the benchmarks (all, or those named); all of them together write docs/benchmarks.md.
    Bench {
        names: Vec<String>,
        /// Replace the sections of those named in docs/benchmarks.md.
        #[arg(long)]
        write: bool,
    },
    /// Measure a model beside mlx-lm on this machine's GPU (or CPU), for a report that can be pasted.
    BenchMetal {
        /// The model's folder.
        model: std::path::PathBuf,
    },
    /// Record conversations with the real language servers into tests/peers (all, or those named).
    RecordPeer { names: Vec<String> },
    /// Pack the program, its libraries, the model and the editor's files into one archive.
    Dist {
        /// Pack what an earlier run has built.
        #[arg(long)]
        pack_only: bool,
    },
    /// Build the fuzz targets and run them (docs/testing.md).
    Fuzz(drive::fuzz::Options),
    /// Format the Rust and the Lua.
    Fmt {
        /// Only say what is not formatted.
        #[arg(long)]
        check: bool,
    },
    /// Formats, clippy, layers and tidy.
    Lint,
    /// Write the files that are generated from the source.
    Gen {
        /// Only say which are stale.
        #[arg(long)]
        check: bool,
    },
}

fn main() -> ExitCode {
    let verb = Cli::parse().verb;
    let outcome = match verb {
        Verb::Setup(options) => setup::run(&options),
        Verb::Layers => layers::check().map(|wrong| report("layers", &wrong)),
        Verb::Tidy => tidy::check().map(|wrong| report("tidy", &wrong)),
        Verb::Build => drive::build(),
        Verb::Test => drive::test::run(Pace::Fast),
        Verb::Slow => drive::test::run(Pace::Slow),
        Verb::Demo { arguments } => drive::demo::run(&arguments),
        Verb::Bench { names, write } => drive::bench::run(&names, write),
        Verb::BenchMetal { model } => drive::bench_metal::run(&model),
        Verb::RecordPeer { names } => drive::record::run(&names),
        Verb::Dist { pack_only } => drive::dist::run(pack_only),
        Verb::Fuzz(options) => drive::fuzz::run(&options),
        Verb::Fmt { check } => drive::checks::fmt(mode(check)),
        Verb::Lint => drive::checks::lint(),
        Verb::Gen { check } => drive::checks::generate(mode(check)),
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

fn mode(check: bool) -> Mode {
    if check { Mode::Check } else { Mode::Write }
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
