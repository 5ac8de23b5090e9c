//! `demolish daemon`

use std::sync::Arc;
use std::time::Duration;

use wire::socket::SocketError;

use super::{Exit, Failure, Outcome};
use crate::config::{Layers, read};
use crate::daemon::{self, DaemonError};
use crate::features::Shared;
use crate::state::DaemonOptions;
use crate::{env_vars, logging, memory};

/// Run the daemon in the foreground; editors start one by themselves when they need it
#[derive(Debug, clap::Args)]
#[command(after_help = "Example:\n  DEMOLISH_LOG=debug demolish daemon & demolish logs -f")]
pub(super) struct Args {}

pub(super) fn run(_args: &Args) -> Outcome {
    let loaded = read::load(&Layers::of_process(None));
    let log = logging::daemon_log();
    // A daemon without a log is better than none; that there is none is said on standard error, and by `demolish doctor`.
    let _ = logging::to_file(&log, loaded.config.log.level);
    for problem in &loaded.problems {
        tracing::warn!(%problem, "a setting is ignored");
    }
    let options = DaemonOptions {
        socket: env_vars::socket_path(),
        idle_exit: Duration::from_secs(loaded.config.daemon.idle_exit_s.into()),
        servers_log_dir: Some(logging::servers_dir()),
        share: loaded.config.servers.share,
        linger: Duration::from_secs(loaded.config.servers.linger_s.into()),
        version: crate::VERSION.to_owned(),
        memory_max: match loaded.config.servers.memory_max_mib {
            0 => memory::of_machine().map(|bytes| bytes / 4 * 3),
            mib => Some(u64::from(mib) << 20),
        },
    };
    match daemon::run(options, Arc::new(Shared::new(&loaded.config))) {
        Ok(()) => Ok(Exit::Done),
        Err(DaemonError::Socket(error @ SocketError::Taken(_))) => Err(Failure::bad(error)),
        Err(error) => Err(Failure::missing(error)),
    }
}
