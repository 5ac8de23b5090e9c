//! Ending all engines of the process.
//!
//! The backend's library takes its globals down when the process exits; a thread that still computes then works on freed
//! memory. Dropping the last handle of an engine ends its thread, but where a process exits handles may still be held by
//! work that is being given up. So whoever exits calls [`end_all`] first.

use std::{
    sync::{Arc, Mutex, PoisonError, Weak},
    time::{Duration, Instant},
};

use crate::line::Shared;

/// Every thread that was started and may be running.
static THREADS: Mutex<Vec<Weak<Shared>>> = Mutex::new(Vec::new());

/// How often a thread that is ending is looked at.
const LOOK: Duration = Duration::from_millis(1);

/// Remembers a thread that is being started, and forgets those that are gone.
pub(crate) fn remember(shared: &Arc<Shared>) {
    let mut threads = THREADS.lock().unwrap_or_else(PoisonError::into_inner);
    threads.retain(|shared| shared.strong_count() > 0);
    threads.push(Arc::downgrade(shared));
}

/// Ends every engine of this process after the unit of work that it is at, and waits for `patience` at most until all have
/// ended. `false`: one of them is still computing.
pub fn end_all(patience: Duration) -> bool {
    let threads = THREADS.lock().unwrap_or_else(PoisonError::into_inner).clone();
    let threads: Vec<Arc<Shared>> = threads.iter().filter_map(Weak::upgrade).collect();
    for shared in &threads {
        shared.close();
    }
    let until = Instant::now() + patience;
    threads.iter().all(|shared| {
        while !shared.lock().gone {
            if Instant::now() >= until {
                return false;
            }
            std::thread::sleep(LOOK);
        }
        true
    })
}
