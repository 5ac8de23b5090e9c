//! `demolish bench NAME`

use clap::Subcommand;

use super::{Exit, Failure, Outcome};
use crate::bench::report::Report;
use crate::bench::{copy, echo, engine, proxy, steer};

/// Measure this machine: what the proxy adds, how long a suggestion takes, how fast the model is
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Examples:
  demolish bench proxy
  demolish bench steer --json | jq '.rows[] | select(.metric == \"suggestion_p50\")'

Exits with 1 when a goal is missed. Measure with a release build, on a machine that does nothing else.")]
pub(super) struct Args {
    #[command(subcommand)]
    what: What,
}

#[derive(Debug, Subcommand)]
enum What {
    /// One client and one echoing server, directly and through shim and daemon: latency, integrity, memory
    #[command(after_help = "Example:\n  demolish bench proxy --json")]
    Proxy(Form),
    /// From a keystroke to the answered completion, with the real model and the real language servers (ty and tsc)
    #[command(after_help = "Example:\n  demolish bench steer --json")]
    Steer(Form),
    /// How fast the model reads and writes, and how soon it stops
    #[command(after_help = "Example:\n  DEMOLISH_MODEL=~/models/other demolish bench engine")]
    Engine(Form),
    /// The server that says back what it is told
    #[command(hide = true)]
    EchoServer,
    /// The proxy that only copies bytes
    #[command(hide = true)]
    CopyProxy {
        /// The server and its arguments
        #[arg(last = true)]
        server: Vec<std::ffi::OsString>,
    },
}

#[derive(Debug, clap::Args)]
struct Form {
    /// Print an object: bench, date, machine, commit, rows
    #[arg(long)]
    json: bool,
}

pub(super) fn run(args: &Args) -> Outcome {
    match &args.what {
        What::EchoServer => echo::serve().map(|()| Exit::Done).map_err(Failure::bad),
        What::CopyProxy { server } => {
            copy::serve(server).map(|()| Exit::Done).map_err(Failure::bad)
        }
        What::Proxy(form) => report(form, super::block_on(proxy::run())?),
        What::Steer(form) => report(form, super::block_on(steer::run())?),
        What::Engine(form) => report(form, super::block_on(engine::run())?),
    }
}

fn report(form: &Form, measured: Result<Report, String>) -> Outcome {
    let report = measured.map_err(Failure::missing)?;
    if form.json {
        super::print_json(&serde_json::to_value(&report).map_err(Failure::bad)?);
    } else {
        super::print(&report.text());
    }
    Ok(if report.holds() { Exit::Done } else { Exit::No })
}
