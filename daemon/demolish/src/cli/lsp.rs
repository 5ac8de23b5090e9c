//! `demolish lsp`, the verb that editors start. It is found before the command line is parsed, because an editor waits.

mod merge;

use std::ffi::OsString;
use std::process::ExitCode;

use super::{Exit, Failure, Outcome};
use crate::config::{Layers, read};
use crate::shim::{self, ShimMode, ShimOptions};
use crate::{env_vars, journal, logging};

/// Stand between an editor and a language server, or several as one; without a server: Demolish's own features
#[derive(Debug, clap::Args)]
#[command(
    after_help = "Examples:\n  demolish lsp -- rust-analyzer\n  demolish lsp -- ty server\n  demolish lsp --merge \"ty server,ruff server\"\n  demolish lsp\n\nDEMOLISH_BYPASS=1 turns the first form into the server itself, and the third into the first of its servers."
)]
pub(super) struct Args {
    /// The language server and its arguments
    #[arg(last = true, value_name = "SERVER", conflicts_with = "merge")]
    server: Vec<OsString>,
    /// Several language servers as one: their commands, with commas between; the first is the primary one, which answers
    /// what only one can. May be given several times
    #[arg(long, value_name = "SERVERS")]
    merge: Vec<String>,
    /// Which of the merged servers has a feature for all (formatting, rename, semanticTokens, …): by its name, that of its
    /// program
    #[arg(long, value_name = "FEATURE=NAME", requires = "merge")]
    owner: Vec<String>,
    /// The `initializationOptions` of a merged server that is not the first: the first gets those of the editor
    #[arg(long, value_name = "NAME=JSON", requires = "merge")]
    options: Vec<String>,
    /// Settings of a merged server, laid over those of the editor
    #[arg(long, value_name = "NAME=JSON", requires = "merge")]
    settings: Vec<String>,
}

/// Runs the verb, if the command line is one of its two short forms.
pub(super) fn early() -> Option<ExitCode> {
    let mut args = std::env::args_os().skip(1);
    if args.next()? != "lsp" {
        return None;
    }
    match args.next() {
        None => Some(shim::run(options(ShimMode::Own))),
        Some(dashes) if dashes == "--" => {
            let server: Vec<OsString> = args.collect();
            (!server.is_empty()).then(|| shim::run(options(ShimMode::Wrap(server))))
        }
        Some(_) => None,
    }
}

/// The long form; every other one is a mistake, or a plea for help.
pub(super) fn run(args: &Args) -> Outcome {
    debug_assert!(args.server.is_empty());
    if args.merge.is_empty() {
        return Err(Failure::bad(
            "`demolish lsp --` needs the command of a language server after the two dashes",
        ));
    }
    let merged = merge::read(args)?;
    match shim::run(options(ShimMode::Merge(merged))) {
        code if code == ExitCode::SUCCESS => Ok(Exit::Done),
        _ => std::process::exit(Exit::No as i32),
    }
}

fn options(mode: ShimMode) -> ShimOptions {
    logging::to_shim_log(&logging::shims_dir());
    let program = std::env::current_exe().map(Into::into).unwrap_or_else(|_| "demolish".into());
    ShimOptions {
        mode,
        bypass: env_vars::bypass(),
        socket: env_vars::socket_path(),
        daemon: vec![program, "daemon".into()],
        daemon_log: logging::daemon_log(),
        version: crate::VERSION.to_owned(),
        journal_dir: journal::dir(),
        journal: || read::load(&Layers::of_process(None)).config.journal.enabled,
    }
}
