//! Memory in whole cache lines: what matrices are packed into, and the scratch that threads keep between operations.

use std::alloc::{Layout, handle_alloc_error};
use std::cell::RefCell;
use std::mem::size_of;
use std::ptr::NonNull;
use std::sync::{Arc, Mutex, PoisonError, Weak};

use crate::pool::pool;

/// Scratch that a thread keeps for its next operation; more than this goes back to the system.
const SCRATCH_BYTES_MAX: usize = 64 << 20;
/// Pieces of scratch that a thread keeps.
const SCRATCH_PIECES_MAX: usize = 8;

/// One cache line, which is also one 512-bit register.
#[derive(Debug, Clone, Copy)]
#[repr(C, align(64))]
pub(crate) struct Line(pub(crate) [u8; 64]);

impl Line {
    pub(crate) const BYTES: usize = 64;
}

/// Numbers that any bytes are.
///
/// # Safety
/// Every pattern of bits is a value, there is no padding, and the alignment is at most a line's.
pub(crate) unsafe trait Plain: Copy {}
// SAFETY: every pattern of bits is a value of these types.
unsafe impl Plain for u8 {}
// SAFETY: as above.
unsafe impl Plain for i8 {}
// SAFETY: as above.
unsafe impl Plain for u16 {}
// SAFETY: as above.
unsafe impl Plain for u32 {}
// SAFETY: as above.
unsafe impl Plain for f32 {}
// SAFETY: as above; an array has no padding between its numbers.
unsafe impl Plain for [f32; 2] {}

/// Lines seen as numbers of another type.
pub(crate) fn view<T: Plain>(lines: &[Line]) -> &[T] {
    // SAFETY: the lines are initialised, aligned for every `Plain` type, and as long as the slice says.
    unsafe {
        std::slice::from_raw_parts(lines.as_ptr().cast(), size_of_val(lines) / size_of::<T>())
    }
}

/// As [`view`], to write into.
pub(crate) fn view_mut<T: Plain>(lines: &mut [Line]) -> &mut [T] {
    // SAFETY: as in `view`, and the borrow is exclusive; any value of a `Plain` type leaves bytes that are values too.
    unsafe {
        std::slice::from_raw_parts_mut(
            lines.as_mut_ptr().cast(),
            size_of_val(lines) / size_of::<T>(),
        )
    }
}

/// Buffers lie on huge pages, where the system has them: with small ones reading would wait for translations.
pub(crate) const HUGE_PAGE: usize = 2 << 20;
/// Smaller buffers share their huge pages: so much is asked of the system at once.
const SLAB_BYTES: usize = 8 * HUGE_PAGE;
/// From this size on a buffer has pages of its own.
const OWN_FROM: usize = 2 * HUGE_PAGE;
/// Below this size it lies wherever the allocator puts it.
const SLAB_FROM: usize = 16 << 10;

/// Memory of a matrix.
pub(crate) struct Lines {
    start: NonNull<u8>,
    bytes: usize,
    /// What it is a piece of, unless it has memory of its own.
    slab: Option<Arc<Slab>>,
}

// SAFETY: it owns its memory, as a `Vec` does.
unsafe impl Send for Lines {}
// SAFETY: as above; behind a shared reference it is only read.
unsafe impl Sync for Lines {}

/// Huge pages that several buffers share; they go back when the last of these has gone.
struct Slab {
    start: NonNull<u8>,
}

// SAFETY: its bytes belong to the buffers that were cut out of it; it frees them when there are none.
unsafe impl Send for Slab {}
// SAFETY: as above.
unsafe impl Sync for Slab {}

/// The slab that the next buffer is cut out of, and how much of it is taken.
static OPEN_SLAB: Mutex<(Weak<Slab>, usize)> = Mutex::new((Weak::new(), 0));

impl Slab {
    const LAYOUT: Layout = match Layout::from_size_align(SLAB_BYTES, HUGE_PAGE) {
        Ok(layout) => layout,
        Err(_) => panic!("a size that is no power of two"),
    };

    /// So many bytes, whole lines, that nobody else has.
    fn cut(bytes: usize) -> (Arc<Slab>, NonNull<u8>) {
        let mut open = OPEN_SLAB.lock().unwrap_or_else(PoisonError::into_inner);
        let (slab, taken) = match open.0.upgrade() {
            Some(slab) if SLAB_BYTES - open.1 >= bytes => (slab, open.1),
            _ => (Slab::new(), 0),
        };
        *open = (Arc::downgrade(&slab), taken + bytes);
        // SAFETY: within the slab, as checked or because every buffer that is cut is smaller than a slab.
        let start = unsafe { slab.start.add(taken) };
        (slab, start)
    }

    fn new() -> Arc<Slab> {
        // SAFETY: the size is not 0.
        let Some(start) = NonNull::new(unsafe { std::alloc::alloc(Slab::LAYOUT) }) else {
            handle_alloc_error(Slab::LAYOUT)
        };
        ask_for_huge_pages(start, SLAB_BYTES);
        Arc::new(Slab { start })
    }
}

impl Drop for Slab {
    fn drop(&mut self) {
        // SAFETY: allocated with this layout; no buffer is left that it was cut into.
        unsafe { std::alloc::dealloc(self.start.as_ptr(), Slab::LAYOUT) };
    }
}

#[cfg(target_os = "linux")]
pub(crate) fn ask_for_huge_pages(start: NonNull<u8>, bytes: usize) {
    let whole = bytes / HUGE_PAGE * HUGE_PAGE;
    // SAFETY: the pages are ours, and the advice changes nothing that a program sees. Where it is not taken, small pages do.
    let _ = unsafe {
        rustix::mm::madvise(start.as_ptr().cast(), whole, rustix::mm::Advice::LinuxHugepage)
    };
}

#[cfg(not(target_os = "linux"))]
pub(crate) fn ask_for_huge_pages(_: NonNull<u8>, _: usize) {}

impl Lines {
    /// `pieces` pieces of `size` bytes, made on all threads: `fill` gets the number of a piece and its bytes, which are zeros.
    pub(crate) fn new(
        pieces: usize,
        size: usize,
        fill: &(dyn Fn(usize, &mut [u8]) + Sync),
    ) -> Lines {
        let bytes =
            pieces.checked_mul(size).and_then(|bytes| bytes.checked_next_multiple_of(Line::BYTES));
        let Some((bytes, layout)) = bytes.and_then(|bytes| Some((bytes, Lines::layout(bytes)?)))
        else {
            handle_alloc_error(Layout::new::<Line>())
        };
        if bytes == 0 {
            return Lines { start: NonNull::<Line>::dangling().cast(), bytes, slab: None };
        }
        let lines = Lines::empty(bytes, layout);
        let start = lines.start;
        // SAFETY: what lies behind the last piece, less than a line, is within the memory.
        unsafe { start.add(pieces * size).write_bytes(0, bytes - pieces * size) };
        let all = Shared { start: start.as_ptr(), length: bytes };
        pool().run(pieces, &|piece| {
            // SAFETY: pieces are disjoint, within the memory, and zeroed before there is a reference to them.
            let bytes = unsafe {
                all.start.add(piece * size).write_bytes(0, size);
                all.part(piece * size, size)
            };
            fill(piece, bytes);
        });
        lines
    }

    /// Memory that nobody has written.
    fn empty(bytes: usize, layout: Layout) -> Lines {
        if (SLAB_FROM..OWN_FROM).contains(&bytes) {
            let (slab, start) = Slab::cut(bytes);
            return Lines { start, bytes, slab: Some(slab) };
        }
        // SAFETY: the size is not 0.
        let Some(start) = NonNull::new(unsafe { std::alloc::alloc(layout) }) else {
            handle_alloc_error(layout)
        };
        if bytes >= OWN_FROM {
            ask_for_huge_pages(start, bytes);
        }
        Lines { start, bytes, slab: None }
    }

    fn layout(bytes: usize) -> Option<Layout> {
        let align = if bytes >= OWN_FROM { HUGE_PAGE } else { Line::BYTES };
        Layout::from_size_align(bytes, align).ok()
    }

    pub(crate) fn bytes(&self) -> &[u8] {
        // SAFETY: `new` has written all of them.
        unsafe { std::slice::from_raw_parts(self.start.as_ptr(), self.bytes) }
    }
}

impl Drop for Lines {
    fn drop(&mut self) {
        if self.slab.is_some() || self.bytes == 0 {
            return;
        }
        if let Some(layout) = Lines::layout(self.bytes) {
            // SAFETY: allocated with this layout.
            unsafe { std::alloc::dealloc(self.start.as_ptr(), layout) };
        }
    }
}

thread_local! {
    static KEPT: RefCell<Vec<Vec<Line>>> = const { RefCell::new(Vec::new()) };
}

/// Scratch of one operation. What it holds at first is whatever an earlier operation left.
#[derive(Debug)]
pub(crate) struct Scratch<T: Plain> {
    lines: Vec<Line>,
    length: usize,
    kind: std::marker::PhantomData<T>,
}

impl<T: Plain> Scratch<T> {
    pub(crate) fn new(length: usize) -> Scratch<T> {
        let needed = (length * size_of::<T>()).div_ceil(Line::BYTES);
        let kept = KEPT.with_borrow_mut(|kept| {
            // The smallest that is large enough; else the largest, which then grows.
            let best = (0..kept.len()).min_by_key(|&index| {
                let length = kept[index].len();
                (length < needed, if length < needed { usize::MAX - length } else { length })
            });
            best.map(|index| kept.swap_remove(index))
        });
        let mut lines = kept.unwrap_or_default();
        if lines.len() < needed {
            lines.clear();
            lines.resize(needed, Line([0; 64]));
        }
        Scratch { lines, length, kind: std::marker::PhantomData }
    }
}

impl<T: Plain> std::ops::Deref for Scratch<T> {
    type Target = [T];

    fn deref(&self) -> &[T] {
        &view(&self.lines)[..self.length]
    }
}

impl<T: Plain> std::ops::DerefMut for Scratch<T> {
    fn deref_mut(&mut self) -> &mut [T] {
        &mut view_mut(&mut self.lines)[..self.length]
    }
}

impl<T: Plain> Drop for Scratch<T> {
    fn drop(&mut self) {
        let lines = std::mem::take(&mut self.lines);
        // A thread that is ending has no place for scratch any more.
        let _ = KEPT.try_with(|kept| {
            let mut kept = kept.borrow_mut();
            let held: usize = kept.iter().map(Vec::len).sum();
            let fits = (held + lines.len()) * Line::BYTES <= SCRATCH_BYTES_MAX;
            if fits && kept.len() < SCRATCH_PIECES_MAX {
                kept.push(lines);
            }
        });
    }
}

/// A slice that several threads write, each its own part.
#[derive(Clone, Copy)]
pub(crate) struct Shared<T> {
    start: *mut T,
    length: usize,
}

// SAFETY: the only way to the memory is `part`, whose caller promises that no two threads ask for the same.
unsafe impl<T: Send> Send for Shared<T> {}
// SAFETY: as above.
unsafe impl<T: Send> Sync for Shared<T> {}

impl<T> Shared<T> {
    /// The slice must outlive every use of what is returned; the functions here use it within one call of `Pool::run`.
    pub(crate) fn new(slice: &mut [T]) -> Shared<T> {
        Shared { start: slice.as_mut_ptr(), length: slice.len() }
    }

    /// # Safety
    /// The slice that this was made of is still borrowed for it, and nobody else reads or writes this part meanwhile.
    #[allow(clippy::mut_from_ref, reason = "the parts are disjoint, as the caller promises")]
    pub(crate) unsafe fn part(&self, start: usize, length: usize) -> &mut [T] {
        let fits = start <= self.length && length <= self.length - start;
        assert!(fits, "a part ends beyond its slice");
        // SAFETY: within the slice, as checked; alive and not aliased, as the caller promises.
        unsafe { std::slice::from_raw_parts_mut(self.start.add(start), length) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn scratch_of_the_right_size_is_used_again() {
        let (small, large) = (Scratch::<f32>::new(16), Scratch::<f32>::new(1 << 16));
        let places = [small.as_ptr(), large.as_ptr()];
        drop((small, large));
        let (small, large) = (Scratch::<f32>::new(10), Scratch::<f32>::new(1 << 16));
        assert_eq!([small.as_ptr(), large.as_ptr()], places);
        let third = Scratch::<f32>::new(1 << 10);
        assert_eq!(third.len(), 1 << 10);
    }

    #[test]
    fn a_thread_keeps_no_more_than_its_limits() {
        drop((0..2 * SCRATCH_PIECES_MAX).map(|_| Scratch::<u8>::new(64)).collect::<Vec<_>>());
        assert_eq!(KEPT.with_borrow(Vec::len), SCRATCH_PIECES_MAX);
        KEPT.with_borrow_mut(Vec::clear);
        drop(Scratch::<u8>::new(SCRATCH_BYTES_MAX + 1));
        assert_eq!(KEPT.with_borrow(Vec::len), 0);
    }

    #[test]
    fn a_part_beyond_its_slice_is_refused_even_if_its_end_wraps() {
        let mut numbers = [0_u8; 8];
        let shared = Shared::new(&mut numbers);
        // SAFETY: no part is used.
        let is_refused = |start, length| unsafe {
            std::panic::catch_unwind(|| shared.part(start, length).len()).is_err()
        };
        assert!(!is_refused(3, 5) && !is_refused(8, 0));
        assert!(is_refused(4, 5) && is_refused(9, 0) && is_refused(usize::MAX, 2));
    }

    #[test]
    fn small_buffers_share_pages_and_none_of_their_bytes() {
        let fill = |number: u8| move |_: usize, bytes: &mut [u8]| bytes.fill(number);
        let mut kept: Vec<(u8, Lines)> = Vec::new();
        for number in 0..100_u8 {
            let bytes = SLAB_FROM + usize::from(number) * 40_064;
            kept.push((number, Lines::new(1, bytes, &fill(number))));
            if number % 3 == 0 {
                kept.remove(kept.len() / 2);
            }
        }
        for (number, lines) in &kept {
            assert!(lines.slab.is_some() && lines.bytes().iter().all(|byte| byte == number));
        }
    }

    #[test]
    fn pieces_of_a_matrix_are_zeros_and_apart() {
        for (pieces, size) in [(0, 64), (3, 0), (5, 48), (5, 7168), (3, 3 << 20)] {
            let lines = Lines::new(pieces, size, &|piece, bytes| {
                assert!(bytes.iter().all(|byte| *byte == 0));
                bytes.fill(piece as u8 + 1);
            });
            let bytes = lines.bytes();
            assert_eq!(bytes.len(), (pieces * size).next_multiple_of(64));
            for (at, byte) in bytes.iter().enumerate() {
                let piece = at.checked_div(size).filter(|piece| *piece < pieces);
                assert_eq!(usize::from(*byte), piece.map_or(0, |piece| piece + 1));
            }
        }
    }
}
