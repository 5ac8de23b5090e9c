//! Sums of exponentials over a row: what probabilities are made of.

use crate::simd::{LANES, Simd, dispatch};

/// Numbers after which sums go over into double precision.
const BLOCK: usize = 1024;
/// What lies further below counts as lying here: the smallest power that is a normal number.
const LEAST: f32 = -87.0;

dispatch! {
    /// `Σ exp(x − max)` and `Σ exp(x − max) · (x − max)` over the row, which has no NaN and whose greatest number is `max`. The order of
    /// the sums is the same with all instructions.
    pub fn power_sums(row: &[f32], max: f32) -> [f64; 2] => power_sums_by
}

#[inline(always)]
fn power_sums_by<S: Simd>(s: S, row: &[f32], max: f32) -> [f64; 2] {
    let (top, least) = (s.splat(max), s.splat(LEAST));
    let mut sums = [0.0; 2];
    for block in row.chunks(BLOCK) {
        let (mut total, mut weighted) = (s.zero(), s.zero());
        for part in block.chunks(LANES) {
            let x = s.max(least, s.sub(s.load_part(part, f32::NEG_INFINITY), top));
            let power = s.exp(x);
            total = s.add(total, power);
            weighted = s.fma(power, x, weighted);
        }
        sums[0] += f64::from(s.sum(total));
        sums[1] += f64::from(s.sum(weighted));
    }
    sums
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::simd::under_each;

    #[test]
    fn rows_of_every_length_are_summed_alike_with_all_instructions() {
        for len in (1..200).chain([1023, 1024, 1025, 5000]) {
            let row: Vec<f32> = (0..len).map(|at| 3.0 - (at * at % 977) as f32 / 10.0).collect();
            let exact: [f64; 2] = row.iter().fold([0.0; 2], |[total, weighted], &x| {
                let x = f64::from(x - 3.0);
                [total + x.exp(), weighted + x.exp() * x]
            });
            let mut first = None;
            under_each(|level| {
                let sums = power_sums(&row, 3.0);
                for (sum, exact) in sums.iter().zip(exact) {
                    assert!(
                        (sum - exact).abs() <= 1e-6 * exact.abs() + 1e-30,
                        "{level:?} {len}: {sum}, not {exact}"
                    );
                }
                assert_eq!(*first.get_or_insert(sums), sums, "{level:?}");
            });
        }
        assert_eq!(power_sums(&[f32::NEG_INFINITY, 1.0], 1.0)[0], 1.0);
    }
}
