//! Sums of exponentials over a row: what probabilities are made of.

use crate::{
    buffer::Shared,
    pool,
    simd::{LANES, Simd, dispatch},
};

/// Numbers after which sums go over into double precision.
const BLOCK: usize = 1024;
/// What lies further below counts as lying here: the smallest power that is a normal number.
const LEAST: f32 = -87.0;

/// Blocks that are one task, if there are more.
const BLOCKS_TOGETHER: usize = 32;

/// Sums over a row.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Sums {
    /// The greatest number.
    pub max: f32,
    /// Σ exp(x − max)
    pub total: f64,
    /// Σ exp(x − max) · (x − max)
    pub weighted: f64,
}

/// `None` when the row has no finite maximum (it holds NaN, or nothing but infinities). The order of the sums is the same with all
/// instructions, on any number of threads.
pub fn sums(row: &[f32]) -> Option<Sums> {
    let mut tops = vec![0.0; row.len().div_ceil(BLOCK)];
    each_block(row, &mut tops, &top);
    // `top` gives what is no number or infinite as infinite.
    let max = tops.iter().copied().fold(f32::NEG_INFINITY, f32::max);
    if !max.is_finite() {
        return None;
    }
    let mut parts = vec![[0.0_f32; 2]; tops.len()];
    each_block(row, &mut parts, &|block| power_sums(block, max));
    let [total, weighted] = parts.iter().fold([0.0; 2], |[total, weighted], part| {
        [total + f64::from(part[0]), weighted + f64::from(part[1])]
    });
    Some(Sums { max, total, weighted })
}

/// One result for each block of a row, on all threads if there are many.
fn each_block<T: Copy + Send>(row: &[f32], into: &mut [T], of: &(dyn Fn(&[f32]) -> T + Sync)) {
    let places = Shared::new(into);
    let together = |task: usize| {
        let blocks = row.chunks(BLOCK).skip(task * BLOCKS_TOGETHER).take(BLOCKS_TOGETHER);
        for (index, block) in blocks.enumerate() {
            // SAFETY: no other task has this block.
            let into = unsafe { places.part(task * BLOCKS_TOGETHER + index, 1) };
            into[0] = of(block);
        }
    };
    pool().run(row.len().div_ceil(BLOCK * BLOCKS_TOGETHER), &together);
}

dispatch! {
    /// The greatest number; infinite where one is none.
    fn top(block: &[f32]) -> f32 => top_by
}

#[inline(always)]
fn top_by<S: Simd>(s: S, block: &[f32]) -> f32 {
    let infinite = s.splat(f32::INFINITY);
    let mut top = s.splat(f32::NEG_INFINITY);
    for part in block.chunks(LANES) {
        let x = s.load_part(part, f32::NEG_INFINITY);
        // A comparison with what is no number does not hold.
        let x = s.if_less(x, infinite, x, infinite);
        top = s.max(top, x);
    }
    s.greatest(top)
}

dispatch! {
    /// `Σ exp(x − max)` and `Σ exp(x − max) · (x − max)` over a block.
    fn power_sums(block: &[f32], max: f32) -> [f32; 2] => power_sums_by
}

#[inline(always)]
fn power_sums_by<S: Simd>(s: S, block: &[f32], max: f32) -> [f32; 2] {
    let (top, least) = (s.splat(max), s.splat(LEAST));
    let (mut total, mut weighted) = (s.zero(), s.zero());
    for part in block.chunks(LANES) {
        let x = s.max(least, s.sub(s.load_part(part, f32::NEG_INFINITY), top));
        let power = s.exp(x);
        total = s.add(total, power);
        weighted = s.fma(power, x, weighted);
    }
    [s.sum(total), s.sum(weighted)]
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::simd::under_each;

    #[test]
    fn rows_of_every_length_are_summed_alike_with_all_instructions() {
        for len in (1_usize..200).chain([1023, 1024, 1025, 5000, 32_768, 32_769, 151_936]) {
            let row: Vec<f32> = (0..len).map(|at| 3.0 - (at * at % 977) as f32 / 10.0).collect();
            let exact: [f64; 2] = row.iter().fold([0.0; 2], |[total, weighted], &x| {
                let x = f64::from(x - 3.0);
                [total + x.exp(), weighted + x.exp() * x]
            });
            let mut first = None;
            under_each(|level| {
                let sums = sums(&row).unwrap();
                assert_eq!(sums.max, 3.0);
                for (sum, exact) in [sums.total, sums.weighted].iter().zip(exact) {
                    assert!(
                        (sum - exact).abs() <= 1e-6 * exact.abs() + 1e-30,
                        "{level:?} {len}: {sum}, not {exact}"
                    );
                }
                assert_eq!(*first.get_or_insert(sums), sums, "{level:?}");
            });
        }
        assert_eq!(sums(&[f32::NEG_INFINITY, 1.0]).unwrap().total, 1.0);
    }

    #[test]
    fn a_row_without_a_finite_maximum_has_no_sums() {
        let mut row = vec![0.0; 100_000];
        assert!(sums(&row).is_some() && sums(&[]).is_none());
        for bad in [f32::NAN, f32::INFINITY] {
            for place in [0, 1, 50_000, 99_999] {
                let good = std::mem::replace(&mut row[place], bad);
                under_each(|level| assert_eq!(sums(&row), None, "{level:?} {bad} at {place}"));
                row[place] = good;
            }
        }
        row.fill(f32::NEG_INFINITY);
        assert_eq!(sums(&row), None);
    }
}
