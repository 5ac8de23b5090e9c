//! The limits of the machine, measured: how fast all threads read memory, and how fast they multiply. What kernels reach is
//! told as a share of these.

use std::hint::black_box;
use std::time::Instant;

use crate::{Pages, pool};

/// Bytes that one task reads: few enough that threads end together, many enough that the processor sees a stream.
const PIECE: usize = 1 << 22;
/// Multiplications with accumulators that one task does, some microseconds of work each thousand.
const TURNS: u32 = 200_000;
/// Tasks per thread of a measurement of multiplications.
const SHARES: usize = 4;

/// A buffer to read from, which should be many times larger than all caches. It lies on huge pages, as weights do.
pub struct Memory(Pages);

impl Memory {
    /// Of so many bytes.
    pub fn new(bytes: usize) -> Memory {
        let mut pages = Pages::new(bytes);
        pages.fill(1);
        Memory(pages)
    }

    /// Bytes per second that all threads together read, in each of `passes`.
    pub fn rates(&self, passes: usize) -> Vec<f64> {
        let pieces: Vec<&[u8]> = self.0.chunks(PIECE).collect();
        let pass = |_| {
            let started = Instant::now();
            pool().run(pieces.len(), &|piece| {
                black_box(sum(pieces[piece]));
            });
            self.0.len() as f64 / started.elapsed().as_secs_f64()
        };
        (0..passes).map(pass).collect()
    }

    /// The mean of `passes`.
    pub fn rate(&self, passes: usize) -> f64 {
        // Passes are equal bytes, so that their times are added.
        passes as f64 / self.rates(passes).iter().map(|rate| 1.0 / rate).sum::<f64>()
    }
}

/// Products of a weight of up to eight bits with a digit of an activation, per second on all threads, out of registers: the best of
/// `passes`. A product with a whole activation takes three ([`crate::digits`]). `None`: this processor has no instruction for it
/// that is known here.
pub fn multiply_rate(passes: usize) -> Option<f64> {
    let tasks = pool().threads() * SHARES;
    let products = multiplied()? as f64 * tasks as f64;
    let mut best = 0.0f64;
    for _ in 0..passes {
        let started = Instant::now();
        pool().run(tasks, &|_| {
            black_box(multiplied());
        });
        best = best.max(products / started.elapsed().as_secs_f64());
    }
    Some(best)
}

#[cfg(target_arch = "x86_64")]
fn sum(words: &[u8]) -> u64 {
    if is_x86_feature_detected!("avx512f") {
        // SAFETY: the processor has the feature.
        unsafe { wide::sum_512(words) }
    } else if is_x86_feature_detected!("avx2") {
        // SAFETY: the processor has the feature.
        unsafe { wide::sum_256(words) }
    } else {
        plain_sum(words)
    }
}

#[cfg(not(target_arch = "x86_64"))]
fn sum(words: &[u8]) -> u64 {
    plain_sum(words)
}

/// Sixty-four sums side by side, so that registers of any width are filled and no addition waits for the one before.
#[inline(always)]
fn plain_sum(words: &[u8]) -> u64 {
    let mut sums = [0u64; 64];
    for words in words.as_chunks::<8>().0.chunks_exact(64) {
        for (sum, word) in sums.iter_mut().zip(words) {
            *sum = sum.wrapping_add(u64::from_le_bytes(*word));
        }
    }
    sums.iter().fold(0, |sum, word| sum.wrapping_add(*word))
}

/// How many products were made.
#[cfg(target_arch = "x86_64")]
fn multiplied() -> Option<u64> {
    if is_x86_feature_detected!("avx512f") && is_x86_feature_detected!("avx512vnni") {
        // SAFETY: the processor has the features.
        Some(unsafe { wide::multiply_512(TURNS) })
    } else {
        None
    }
}

#[cfg(not(target_arch = "x86_64"))]
fn multiplied() -> Option<u64> {
    None
}

#[cfg(target_arch = "x86_64")]
mod wide {
    use std::arch::x86_64::{_mm512_dpbusd_epi32, _mm512_reduce_add_epi32, _mm512_set1_epi8};
    use std::hint::black_box;

    #[target_feature(enable = "avx512f")]
    pub(super) fn sum_512(words: &[u8]) -> u64 {
        super::plain_sum(words)
    }

    #[target_feature(enable = "avx2")]
    pub(super) fn sum_256(words: &[u8]) -> u64 {
        super::plain_sum(words)
    }

    /// Twelve accumulators: more than the instruction's latency times its rate.
    #[target_feature(enable = "avx512f,avx512vnni")]
    pub(super) fn multiply_512(turns: u32) -> u64 {
        let (weights, digits) = (_mm512_set1_epi8(black_box(3)), _mm512_set1_epi8(black_box(-1)));
        let mut sums = [_mm512_set1_epi8(0); 12];
        for _ in 0..turns {
            for sum in &mut sums {
                *sum = _mm512_dpbusd_epi32(*sum, weights, digits);
            }
        }
        for sum in sums {
            black_box(_mm512_reduce_add_epi32(sum));
        }
        u64::from(turns) * sums.len() as u64 * 64
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sums_are_sums() {
        let words: Vec<u8> = (0..640_u64).flat_map(u64::to_le_bytes).collect();
        assert_eq!((sum(&words), plain_sum(&words)), (639 * 320, 639 * 320));
    }

    #[test]
    fn there_is_a_rate() {
        assert!(Memory::new(1 << 20).rate(2) > 0.0);
        assert!(multiply_rate(1).is_none_or(|rate| rate > 0.0));
    }
}
