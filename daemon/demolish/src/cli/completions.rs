//! `demolish completions SHELL`

use clap::CommandFactory as _;
use clap_complete::Shell;

use super::{Exit, Outcome};

/// Print the completion script for a shell
#[derive(Debug, clap::Args)]
#[command(
    after_help = "Example:\n  demolish completions bash > ~/.local/share/bash-completion/completions/demolish"
)]
pub(super) struct Args {
    /// Which shell
    shell: Shell,
}

pub(super) fn run(args: &Args) -> Outcome {
    let mut script = Vec::new();
    clap_complete::generate(args.shell, &mut super::Cli::command(), "demolish", &mut script);
    super::print(&String::from_utf8_lossy(&script));
    Ok(Exit::Done)
}
