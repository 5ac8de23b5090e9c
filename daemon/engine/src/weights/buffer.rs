//! Memory for tensors on their way from the file to where they stay. It is used again: fresh pages of the system cost about as
//! much time as the bytes that are read into them.

use std::{
    mem,
    ops::{Deref, DerefMut},
    sync::{Arc, Mutex, PoisonError},
};

pub(super) use kernels::PAGE;
use kernels::Pages;

/// The most bytes that wait for the next tensor.
const SPARE_BYTES_MAX: usize = 256 << 20;
/// A spare buffer serves a tensor of no less than this fraction of it.
const WASTE_MAX: usize = 2;
/// Smaller tensors are not worth the search.
const SPARE_BYTES_MIN: usize = 64 << 10;

/// Buffers that nobody uses at the moment.
#[derive(Debug, Default)]
pub(super) struct Spares(Mutex<Vec<Pages>>);

/// The bytes of one tensor. Their memory goes back to where it came from.
#[derive(Debug)]
pub(crate) struct Bytes {
    buffer: Pages,
    start: usize,
    len: usize,
    spares: Arc<Spares>,
}

impl Spares {
    /// `len` bytes, of any value.
    pub(super) fn take(self: &Arc<Spares>, len: usize) -> Bytes {
        let mut spare = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let fits = |buffer: &Pages| buffer.len() >= len && buffer.len() / WASTE_MAX <= len;
        let sizes = spare.iter().enumerate().filter(|(_, buffer)| fits(buffer));
        let best = sizes.min_by_key(|(_, buffer)| buffer.len()).map(|(index, _)| index);
        let buffer = best.map(|index| spare.swap_remove(index));
        drop(spare);
        let buffer = buffer.unwrap_or_else(|| Pages::new(len));
        Bytes { buffer, start: 0, len, spares: self.clone() }
    }

    /// `len` bytes, of any value, that begin `before` bytes (less than a page) behind the start of a page.
    pub(super) fn take_pages(self: &Arc<Spares>, before: usize, len: usize) -> Bytes {
        let whole = (before + len).next_multiple_of(PAGE);
        let mut bytes = self.take(whole);
        (bytes.start, bytes.len) = (before, len);
        bytes
    }

    fn give(&self, buffer: Pages) {
        if !(SPARE_BYTES_MIN..=SPARE_BYTES_MAX).contains(&buffer.len()) {
            return;
        }
        let mut spare = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        spare.push(buffer);
        // The oldest goes: layers of one kind follow each other.
        while spare.iter().map(|buffer| buffer.len()).sum::<usize>() > SPARE_BYTES_MAX {
            spare.remove(0);
        }
    }
}

impl Bytes {
    /// The whole pages that the bytes of [`Spares::take_pages`] lie in.
    pub(super) fn pages(&mut self) -> &mut [u8] {
        let end = (self.start + self.len).next_multiple_of(PAGE);
        &mut self.buffer[..end]
    }
}

impl Deref for Bytes {
    type Target = [u8];

    fn deref(&self) -> &[u8] {
        &self.buffer[self.start..][..self.len]
    }
}

impl DerefMut for Bytes {
    fn deref_mut(&mut self) -> &mut [u8] {
        &mut self.buffer[self.start..][..self.len]
    }
}

impl Drop for Bytes {
    fn drop(&mut self) {
        self.spares.give(mem::take(&mut self.buffer));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn memory_is_used_again_within_its_bound() {
        let spares = Arc::new(Spares::default());
        let place = |bytes: &Bytes| bytes.as_ptr();
        let first = spares.take(1 << 20);
        let old = place(&first);
        drop(first);
        // Somewhat smaller is fine, much smaller is a waste.
        let fitting = spares.take(3 << 18);
        assert_eq!((place(&fitting), fitting.len()), (old, 3 << 18));
        drop(fitting);
        assert_ne!(place(&spares.take(1 << 18)), old);

        let many: Vec<Bytes> = (0..5).map(|_| spares.take(SPARE_BYTES_MAX / 4)).collect();
        drop(many);
        drop(spares.take(SPARE_BYTES_MAX + 1));
        let held: usize = spares.0.lock().unwrap().iter().map(|buffer| buffer.len()).sum();
        assert!((SPARE_BYTES_MAX / 2..=SPARE_BYTES_MAX).contains(&held), "{held}");
    }
}
