//! `demolish stop`

use wire::ext::Stop;

use super::{Exit, Outcome, control};

/// End the daemon; editors' language servers go on without it until it is started again
#[derive(Debug, clap::Args)]
#[command(after_help = "Example:\n  demolish stop\n\nExits with 1 when no daemon is running.")]
pub(super) struct Args {}

pub(super) fn run(_: &Args) -> Outcome {
    match control::ask::<Stop>(())? {
        Some(()) => {
            super::print("the daemon ends\n");
            Ok(Exit::Done)
        }
        None => {
            super::print("no daemon is running\n");
            Ok(Exit::No)
        }
    }
}
