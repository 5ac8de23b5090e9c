//! `demolish restart`

use wire::ext::{Restart, RestartParams};

use super::{Exit, Failure, Outcome, control};

/// Start a language server anew: after a change of its settings, or when it hangs
#[derive(Debug, clap::Args)]
#[command(
    after_help = "Examples:\n  demolish restart rust-analyzer\n  demolish restart 3\n\nExits with 1 when no daemon is running."
)]
pub(super) struct Args {
    /// The name of its program, a part of its command, or the number of its link (`demolish status`)
    server: String,
}

pub(super) fn run(args: &Args) -> Outcome {
    let params = RestartParams { which: args.server.clone() };
    let Some(result) = control::ask::<Restart>(params)? else {
        super::print("no daemon is running\n");
        return Ok(Exit::No);
    };
    if result.restarted.is_empty() {
        let known =
            if result.known.is_empty() { "none".to_owned() } else { result.known.join(", ") };
        let message = format!("no language server `{}`; there are: {known}", args.server);
        return Err(Failure::bad(message));
    }
    for command in result.restarted {
        super::print(&format!("restarted {command}\n"));
    }
    Ok(Exit::Done)
}
