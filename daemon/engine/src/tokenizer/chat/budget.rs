//! What a template may use up. It comes with a model from anywhere, and must neither hang the daemon nor eat its memory.

use std::sync::{
    Arc,
    atomic::{AtomicUsize, Ordering},
};

use minijinja::{Error, ErrorKind};

/// The most steps of a rendering.
pub(crate) const FUEL_MAX: u64 = 5_000_000;

/// How deep macros may call each other.
pub(crate) const DEPTH_MAX: usize = 100;

/// The most bytes of text that a rendering may make, with everything in between that is thrown away again.
pub(crate) const TEXT_MADE_MAX: usize = 64 << 20;

/// The most items of a list that a template makes.
pub(crate) const ITEMS_MADE_MAX: usize = 1 << 20;

/// How much of [`TEXT_MADE_MAX`] is spent.
#[derive(Debug, Clone, Default)]
pub(super) struct Budget(Arc<AtomicUsize>);

impl Budget {
    /// Counts text that is about to be made.
    pub(super) fn spend(&self, bytes: usize) -> Result<(), Error> {
        let before = self.0.fetch_add(bytes, Ordering::Relaxed);
        if before.saturating_add(bytes) <= TEXT_MADE_MAX {
            return Ok(());
        }
        Err(Error::new(
            ErrorKind::InvalidOperation,
            format!("it makes more than {TEXT_MADE_MAX} bytes of text"),
        ))
    }

    /// Checks the length of a list that is about to be made.
    pub(super) fn items(len: Option<usize>) -> Result<(), Error> {
        if len.is_some_and(|len| len <= ITEMS_MADE_MAX) {
            return Ok(());
        }
        Err(Error::new(
            ErrorKind::InvalidOperation,
            format!("it makes a list of more than {ITEMS_MADE_MAX} items"),
        ))
    }
}
