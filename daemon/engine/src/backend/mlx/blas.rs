//! Which BLAS multiplies, on Linux.
//!
//! The choice is the process's, but each loaded model has a say: while one of them was loaded for parity, all are computed with
//! the reference BLAS, whose results are those of mlx-lm to the last bit. Otherwise OpenBLAS is used, where the system has it.

use std::sync::{Mutex, PoisonError};

use crate::ops;

/// More threads than this do not pay for products as small as ours.
const THREADS_MAX: usize = 8;

/// How many loaded models need the reference BLAS.
static EXACT: Mutex<usize> = Mutex::new(0);

/// A loaded model's say, for as long as it lives.
pub(super) struct Claim {
    openblas: bool,
}

impl Claim {
    /// `openblas`: the model's results may differ in the last bits.
    pub(super) fn new(openblas: bool) -> Claim {
        if openblas && !ops::has_openblas() && cfg!(target_os = "linux") {
            tracing::warn!(
                "libopenblas.so.0 is not installed: the model will run 20 times slower than it could"
            );
        }
        count(openblas, 1);
        Claim { openblas }
    }
}

impl Drop for Claim {
    fn drop(&mut self) {
        count(self.openblas, -1);
    }
}

fn count(openblas: bool, change: isize) {
    let mut exact = EXACT.lock().unwrap_or_else(PoisonError::into_inner);
    if !openblas {
        *exact = exact.saturating_add_signed(change);
    }
    let threads = std::thread::available_parallelism().map_or(1, usize::from).min(THREADS_MAX);
    ops::use_openblas(*exact == 0 && ops::has_openblas(), threads as i32);
}
