//! Where caches of long prompts outlive the daemon.

use engine::{Engine, Spill};

use crate::{config, env_vars};

/// The folder below the state's.
const FOLDER: &str = "caches";

/// Has the engine keep caches on the disk, as the settings want it. Without a disk it works as well, and reads more tokens again.
pub(super) fn keep(engine: &Engine, settings: &config::Model) {
    const GIB: f64 = (1u64 << 30) as f64;
    #[allow(
        clippy::cast_possible_truncation,
        clippy::cast_sign_loss,
        reason = "the settings keep it within 0 to 4096 GiB"
    )]
    let bytes_max = (settings.disk_cache_gib * GIB) as u64;
    if bytes_max == 0 {
        return;
    }
    let spill = Spill { bytes_max, ..Spill::to(env_vars::state_dir().join(FOLDER)) };
    if let Err(error) = engine.spill_to(spill) {
        tracing::warn!("caches end with the daemon: {error}");
    }
}
