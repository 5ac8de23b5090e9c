//! The end of the process.
//!
//! MLX destroys its scheduler and its memory when the process ends, also when a thread is computing at that moment, which then
//! crashes: a daemon that is told to stop would end with a segmentation fault. So the engine threads are stopped first.

use std::{
    sync::{Arc, Mutex, Once, PoisonError, Weak},
    time::Duration,
};

use crate::{line::Shared, ops};

/// No unit of work takes this long, except with a model that is too big for the machine.
const PATIENCE: Duration = Duration::from_secs(3);

static LIVE: Mutex<Vec<Weak<Shared>>> = Mutex::new(Vec::new());
static REGISTERED: Once = Once::new();

/// Has the thread stopped at exit. To be called when MLX is up: what it makes later is destroyed earlier.
pub(super) fn guard(shared: &Arc<Shared>) {
    let mut live = LIVE.lock().unwrap_or_else(PoisonError::into_inner);
    live.retain(|shared| shared.strong_count() > 0);
    live.push(Arc::downgrade(shared));
    drop(live);
    REGISTERED.call_once(|| ops::at_exit(stop_all));
}

extern "C" fn stop_all() {
    let live = std::mem::take(&mut *LIVE.lock().unwrap_or_else(PoisonError::into_inner));
    for shared in live.iter().filter_map(Weak::upgrade) {
        shared.stop_for_exit(PATIENCE);
    }
}
