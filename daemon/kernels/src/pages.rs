//! Memory that large pieces of files are read into.

use std::alloc::{Layout, handle_alloc_error};
use std::ops::{Deref, DerefMut};
use std::ptr::NonNull;

use crate::buffer::{HUGE_PAGE, ask_for_huge_pages};

/// Bytes on pages of the system, on huge ones if there are enough of them: a disk that is read past the page cache writes a huge page
/// at once, and is twice as fast as with small ones.
#[derive(Debug)]
pub struct Pages {
    start: NonNull<u8>,
    len: usize,
}

/// What reads past the page cache has to begin and end at a multiple of this, in the file and in memory.
pub const PAGE: usize = 4096;

// SAFETY: it owns its memory, as a `Vec` does.
unsafe impl Send for Pages {}
// SAFETY: as above.
unsafe impl Sync for Pages {}

impl Pages {
    /// `len` zeros. They begin at the start of a page, and the memory goes on to the end of one.
    pub fn new(len: usize) -> Pages {
        let Some(layout) = Pages::layout(len) else { handle_alloc_error(Layout::new::<Pages>()) };
        if layout.size() == 0 {
            return Pages::default();
        }
        // SAFETY: the size is not 0.
        let Some(start) = NonNull::new(unsafe { std::alloc::alloc(layout) }) else {
            handle_alloc_error(layout)
        };
        if layout.align() == HUGE_PAGE {
            ask_for_huge_pages(start, layout.size());
        }
        // SAFETY: as long as it was allocated.
        unsafe { start.write_bytes(0, layout.size()) };
        Pages { start, len }
    }

    fn layout(len: usize) -> Option<Layout> {
        let align = if len >= HUGE_PAGE { HUGE_PAGE } else { PAGE };
        Layout::from_size_align(len.checked_next_multiple_of(PAGE)?, align).ok()
    }
}

impl Default for Pages {
    /// None.
    fn default() -> Pages {
        Pages { start: NonNull::dangling(), len: 0 }
    }
}

impl Deref for Pages {
    type Target = [u8];

    fn deref(&self) -> &[u8] {
        // SAFETY: `new` has written all of them.
        unsafe { std::slice::from_raw_parts(self.start.as_ptr(), self.len) }
    }
}

impl DerefMut for Pages {
    fn deref_mut(&mut self) -> &mut [u8] {
        // SAFETY: as above, and the borrow is exclusive.
        unsafe { std::slice::from_raw_parts_mut(self.start.as_ptr(), self.len) }
    }
}

impl Drop for Pages {
    fn drop(&mut self) {
        if let (Some(layout), true) = (Pages::layout(self.len), self.len > 0) {
            // SAFETY: allocated with this layout.
            unsafe { std::alloc::dealloc(self.start.as_ptr(), layout) };
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bytes_of_every_size_are_zeros_at_the_start_of_a_page() {
        for len in [0, 1, PAGE, PAGE + 1, HUGE_PAGE - 1, HUGE_PAGE, 3 * HUGE_PAGE + 5] {
            let mut pages = Pages::new(len);
            assert_eq!(pages.len(), len);
            assert!(pages.iter().all(|byte| *byte == 0));
            assert!(len == 0 || pages.as_ptr().addr().is_multiple_of(PAGE));
            pages.fill(7);
            assert!(pages.iter().all(|byte| *byte == 7));
        }
    }
}
