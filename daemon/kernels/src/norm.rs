//! Norms of rows.

use crate::simd::{LANES, Simd, dispatch};

/// `y = x / sqrt(mean(x²) + eps) · weight` for each row of `width` floats. All rows have the same length, and `weight`, if there is one,
/// has as many floats.
pub fn rms_norm(x: &[f32], width: usize, weight: Option<&[f32]>, eps: f32, into: &mut [f32]) {
    let width = width.max(1);
    for (x, into) in x.chunks_exact(width).zip(into.chunks_exact_mut(width)) {
        norm_row(x, weight, eps, into);
    }
}

/// `x += more`, and the norm of the sum: a residual and what the next block begins with, in one pass.
pub fn add_rms_norm(
    x: &mut [f32],
    more: &[f32],
    width: usize,
    weight: Option<&[f32]>,
    eps: f32,
    into: &mut [f32],
) {
    let width = width.max(1);
    let rows = x.chunks_exact_mut(width).zip(more.chunks_exact(width));
    for ((x, more), into) in rows.zip(into.chunks_exact_mut(width)) {
        x.iter_mut().zip(more).for_each(|(x, more)| *x += more);
        norm_row(x, weight, eps, into);
    }
}

dispatch! {
    /// One row.
    pub(crate) fn norm_row(x: &[f32], weight: Option<&[f32]>, eps: f32, into: &mut [f32]) => norm_row_by
}

#[inline(always)]
fn norm_row_by<S: Simd>(s: S, x: &[f32], weight: Option<&[f32]>, eps: f32, into: &mut [f32]) {
    let factor = factor_by(s, x, eps);
    match weight {
        Some(weight) => {
            for ((y, x), weight) in into.iter_mut().zip(x).zip(weight) {
                *y = x * factor * weight;
            }
        }
        None => into.iter_mut().zip(x).for_each(|(y, x)| *y = x * factor),
    }
}

/// What a row is multiplied by: 1 over the root of the mean of its squares, which are added in one order.
#[inline(always)]
pub(crate) fn factor_by<S: Simd>(s: S, x: &[f32], eps: f32) -> f32 {
    let mut sums = [s.zero(); 4];
    let (blocks, rest) = x.as_chunks::<{ 4 * LANES }>();
    for block in blocks {
        for (index, sum) in sums.iter_mut().enumerate() {
            // SAFETY: the block has four times sixteen floats.
            let x = unsafe { s.load(block.as_ptr().add(index * LANES)) };
            *sum = s.fma(x, x, *sum);
        }
    }
    for (part, sum) in rest.chunks(LANES).zip(&mut sums) {
        let x = s.load_part(part, 0.0);
        *sum = s.fma(x, x, *sum);
    }
    let sum = s.sum(s.add(s.add(sums[0], sums[1]), s.add(sums[2], sums[3])));
    1.0 / (sum / x.len() as f32 + eps).sqrt()
}
