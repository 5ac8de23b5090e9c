//! What threads bring near while they wait: the beginning of what they will read in the next regions.
//!
//! Between two regions memory would have nothing to do, and every region would begin with a wait for it. Whoever knows what comes next
//! says so; waiting threads ask for a few lines between two looks at whether there is work. A wrong or outdated wish costs nothing but
//! the memory's time.

use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};

use super::Apart;

/// Spans that are kept for each thread.
const SPANS_MAX: usize = 64;
/// Bytes that are brought near for each thread: the most of a second cache, in which other things lie too.
pub(crate) const AHEAD_BYTES_MAX: usize = 512 << 10;
/// Lines that are asked for between two looks.
const LINES: usize = 8;
const LINE_BYTES: usize = 64;

/// Memory from a place on: its place and its bytes. Never followed, only asked for.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Span {
    start: usize,
    bytes: usize,
}

impl Span {
    /// Of a slice.
    pub(crate) fn of(slice: &[u8]) -> Span {
        Span { start: slice.as_ptr().addr(), bytes: slice.len() }
    }
}

/// The wishes of all threads.
pub(super) struct Wishes(Box<[Apart<Wish>]>);

/// One thread's. Numbers that were read while they change name memory that nobody needs, and that is all.
struct Wish {
    /// Changes with every wish.
    version: AtomicU64,
    spans: [(AtomicUsize, AtomicUsize); SPANS_MAX],
    /// How many there are.
    count: AtomicUsize,
    /// The version that the thread has begun with, the span and the byte that it has come to: its own alone.
    begun: AtomicU64,
    span: AtomicUsize,
    byte: AtomicUsize,
}

impl Wishes {
    pub(super) fn new(threads: usize) -> Wishes {
        let wish = |_| {
            Apart(Wish {
                version: AtomicU64::new(0),
                spans: std::array::from_fn(|_| (AtomicUsize::new(0), AtomicUsize::new(0))),
                count: AtomicUsize::new(0),
                begun: AtomicU64::new(0),
                span: AtomicUsize::new(0),
                byte: AtomicUsize::new(0),
            })
        };
        Wishes((0..threads).map(wish).collect())
    }

    /// Takes the place of what was wished before.
    pub(super) fn set(&self, spans: &dyn Fn(usize, &mut Vec<Span>)) {
        let mut wanted = Vec::with_capacity(SPANS_MAX);
        for (thread, Apart(wish)) in self.0.iter().enumerate() {
            wanted.clear();
            spans(thread, &mut wanted);
            wanted.truncate(SPANS_MAX);
            for (span, (start, bytes)) in wanted.iter().zip(&wish.spans) {
                start.store(span.start, Ordering::Relaxed);
                bytes.store(span.bytes, Ordering::Relaxed);
            }
            wish.count.store(wanted.len(), Ordering::Relaxed);
            wish.version.fetch_add(1, Ordering::Release);
        }
    }

    /// Asks for the next few lines; `false`: there are none left.
    pub(super) fn fetch_some(&self, thread: usize) -> bool {
        let Apart(wish) = &self.0[thread];
        let version = wish.version.load(Ordering::Acquire);
        let (mut span, mut byte) =
            (wish.span.load(Ordering::Relaxed), wish.byte.load(Ordering::Relaxed));
        if wish.begun.load(Ordering::Relaxed) != version {
            wish.begun.store(version, Ordering::Relaxed);
            (span, byte) = (0, 0);
        }
        let is_there = span < wish.count.load(Ordering::Relaxed).min(SPANS_MAX);
        if is_there {
            let (start, bytes) = (
                wish.spans[span].0.load(Ordering::Relaxed),
                wish.spans[span].1.load(Ordering::Relaxed),
            );
            let end = bytes.min(byte + LINES * LINE_BYTES);
            (byte..end).step_by(LINE_BYTES).for_each(|byte| ask_for(start.wrapping_add(byte)));
            byte = end;
            if byte >= bytes {
                (span, byte) = (span + 1, 0);
            }
        }
        wish.span.store(span, Ordering::Relaxed);
        wish.byte.store(byte, Ordering::Relaxed);
        is_there
    }
}

/// Brings the line of an address into the second cache, without waiting for it.
fn ask_for(address: usize) {
    #[cfg(target_arch = "x86_64")]
    // SAFETY: any address may be asked for, and every x86-64 processor has the instruction.
    unsafe {
        use std::arch::x86_64::{_MM_HINT_T1, _mm_prefetch};
        _mm_prefetch::<_MM_HINT_T1>(std::ptr::without_provenance(address));
    }
    #[cfg(not(target_arch = "x86_64"))]
    let _ = address;
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_thread_asks_for_all_of_its_own_once_and_begins_anew_with_a_new_wish() {
        let memory = vec![1_u8; 10_000];
        let wishes = Wishes::new(2);
        assert!(!wishes.fetch_some(0), "nothing was wished");
        let calls = |thread| (0..1000).take_while(|_| wishes.fetch_some(thread)).count();
        wishes.set(&|thread, spans| {
            let part = &memory[thread * 5000..];
            spans.extend([Span::of(&part[..LINES * LINE_BYTES + 1]), Span::of(&part[..1])]);
        });
        assert_eq!([calls(0), calls(0), calls(1)], [3, 0, 3]);
        wishes.set(&|thread, spans| {
            let count = if thread == 0 { 2 * SPANS_MAX } else { 0 };
            spans.extend(std::iter::repeat_n(Span::of(&memory[..64]), count));
        });
        assert_eq!([calls(0), calls(1)], [SPANS_MAX, 0]);
    }

    #[test]
    fn a_wish_for_memory_that_is_gone_harms_nobody() {
        let wishes = Wishes::new(1);
        wishes.set(&|_, spans| spans.push(Span { start: usize::MAX - 100, bytes: 1 << 20 }));
        while wishes.fetch_some(0) {}
    }
}
