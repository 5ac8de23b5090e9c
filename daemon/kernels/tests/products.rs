//! Products with packed matrices against a plain sum over the bytes of a file, on random shapes.
//!
//! A few hundred shapes; with `DEMOLISH_SLOW=1` more than ten thousand. A failure names the seed of its case.
#![allow(clippy::disallowed_methods, reason = "tests read DEMOLISH_SLOW and say what they skip")]

use std::sync::{Mutex, MutexGuard, PoisonError};

#[path = "products/random.rs"]
mod random;
#[path = "products/reference.rs"]
mod reference;
#[path = "products/cases.rs"]
mod cases;
#[path = "products/refusals.rs"]
mod refusals;
#[path = "products/mlx.rs"]
mod mlx;
#[path = "products/experts.rs"]
mod experts;
#[path = "products/emulated.rs"]
mod emulated;

use kernels::variants;

/// `force` is the whole process's: a test that uses it holds this, and gives the best variant back when it is done or fails.
struct Forcing(#[allow(dead_code, reason = "held, not read")] MutexGuard<'static, ()>);

impl Forcing {
    fn begin() -> Forcing {
        static ONE: Mutex<()> = Mutex::new(());
        Forcing(ONE.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

impl Drop for Forcing {
    fn drop(&mut self) {
        let _ = kernels::force(None);
    }
}

/// How many random cases a test makes; on an emulated processor half of the fast run's.
fn cases(fast: u64, slow: u64) -> u64 {
    if emulated::is_emulated() {
        fast.div_ceil(2)
    } else if std::env::var_os("DEMOLISH_SLOW").is_some_and(|value| value == "1") {
        slow
    } else {
        fast
    }
}
