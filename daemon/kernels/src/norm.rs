//! Norms of rows.

use crate::{
    attention::Places,
    pool,
    simd::{LANES, Simd, dispatch},
};

/// So many floats are one task.
const FLOATS_TOGETHER: usize = 1 << 14;

/// `y = x / sqrt(mean(x²) + eps) · weight` for each row of `width` floats. `weight`, if there is one, has as many
/// floats.
///
/// # Panics
/// If `x` is not of whole rows, or the slices do not fit.
pub fn rms_norm(x: &[f32], width: usize, weight: Option<&[f32]>, eps: f32, into: &mut [f32]) {
    let rows = rows_of(&[x.len(), into.len()], width, weight);
    let places = Places::of(into);
    share_rows(rows, width, &|row| {
        // SAFETY: no other task has this row.
        let into = unsafe { places.slice(row * width, width) };
        norm_row(&x[row * width..][..width], weight, eps, into);
    });
}

/// How many rows slices of these lengths have.
fn rows_of(lengths: &[usize], width: usize, weight: Option<&[f32]>) -> usize {
    let width_of_weight = weight.map_or(width, <[f32]>::len);
    assert_eq!(width_of_weight, width, "weights of a norm over rows of {width}");
    let length = lengths[0];
    assert!(lengths.iter().all(|other| *other == length), "norms of {lengths:?} floats");
    assert!(length.is_multiple_of(width), "{length} floats in rows of {width}");
    length / width.max(1)
}

/// Rows in parallel, if they are worth it.
fn share_rows(rows: usize, width: usize, one: &(dyn Fn(usize) + Sync)) {
    let together = (FLOATS_TOGETHER / width.max(1)).max(1);
    if rows <= together {
        return (0..rows).for_each(one);
    }
    pool().run(rows.div_ceil(together), &|task| {
        (task * together..((task + 1) * together).min(rows)).for_each(one);
    });
}

/// `x += more`, and the norm of the sum: a residual and what the next block begins with, in one pass.
///
/// # Panics
/// If `x` is not of whole rows, or the slices do not fit.
pub fn add_rms_norm(
    x: &mut [f32],
    more: &[f32],
    width: usize,
    weight: Option<&[f32]>,
    eps: f32,
    into: &mut [f32],
) {
    let rows = rows_of(&[x.len(), more.len(), into.len()], width, weight);
    let (sums, places) = (Places::of(x), Places::of(into));
    share_rows(rows, width, &|row| {
        // SAFETY: no other task has this row.
        let (x, into) =
            unsafe { (sums.slice(row * width, width), places.slice(row * width, width)) };
        x.iter_mut().zip(&more[row * width..]).for_each(|(x, more)| *x += more);
        norm_row(x, weight, eps, into);
    });
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

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::simd::under_each;

    fn check(rows: usize, width: usize, seed: f32, has_weight: bool) {
        let of = |count: usize, salt: f32| -> Vec<f32> {
            (0..count).map(|index| (index as f32 * 0.61 + seed + salt).sin() * 3.0).collect()
        };
        let (x, more, weight) = (of(rows * width, 0.0), of(rows * width, 1.0), of(width, 2.0));
        let weight = has_weight.then_some(&weight[..]);
        let mut first: Option<(Vec<f32>, Vec<f32>)> = None;
        under_each(|level| {
            let (mut sums, mut fused) = (x.clone(), vec![0.0; x.len()]);
            add_rms_norm(&mut sums, &more, width, weight, 1e-6, &mut fused);
            let mut y = vec![0.0; x.len()];
            rms_norm(&sums, width, weight, 1e-6, &mut y);
            assert_eq!(y, fused, "{level:?}");
            for row in 0..rows {
                let at = row * width..(row + 1) * width;
                let mut alone = vec![0.0; width];
                rms_norm(&sums[at.clone()], width, weight, 1e-6, &mut alone);
                assert_eq!(alone, y[at.clone()], "{level:?}: a row by itself");
                let exact: Vec<f64> =
                    at.clone().map(|index| f64::from(x[index] + more[index])).collect();
                let mean = exact.iter().map(|x| x * x).sum::<f64>() / width as f64;
                for (index, (exact, y)) in exact.iter().zip(&y[at]).enumerate() {
                    let weight = weight.map_or(1.0, |weight| f64::from(weight[index]));
                    let exact = exact / (mean + 1e-6).sqrt() * weight;
                    assert!((exact - f64::from(*y)).abs() < 2e-6 * exact.abs().max(1.0));
                }
            }
            assert_eq!(*first.get_or_insert_with(|| (sums.clone(), y.clone())), (sums, y));
        });
    }

    proptest! {
        #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

        #[test]
        fn norms_are_what_the_formula_says_row_by_row(
            rows in 1usize..5, width in 1usize..300, seed in 0f32..9.0, has_weight in any::<bool>()
        ) {
            check(rows, width, seed, has_weight);
        }
    }

    #[test]
    fn many_rows_are_shared_out() {
        check(40, 2000, 0.5, true);
    }

    #[test]
    fn slices_that_do_not_fit_are_refused() {
        let is_refused = |x: usize, width: usize, weight: usize, into: usize| {
            let (x, weight, mut into) = (vec![1.0; x], vec![1.0; weight], vec![0.0; into]);
            std::panic::catch_unwind(move || {
                rms_norm(&x, width, Some(&weight), 1e-6, &mut into);
            })
            .is_err()
        };
        assert!(!is_refused(8, 4, 4, 8) && !is_refused(0, 4, 4, 0) && !is_refused(0, 0, 0, 0));
        assert!(is_refused(9, 4, 4, 9) && is_refused(8, 4, 3, 8) && is_refused(8, 4, 4, 4));
        assert!(is_refused(8, 0, 0, 8));
    }

    #[test]
    fn what_is_no_number_stays_in_its_row() {
        let mut y = [0.0; 4];
        rms_norm(&[1.0, f32::NAN, 3.0, 4.0], 2, None, 0.0, &mut y);
        assert!(y[0].is_nan() && y[1].is_nan());
        assert!(y[2].is_finite() && y[3].is_finite());
    }
}
