//! Exponentials of a whole row, in plain Rust that the compiler turns into vector instructions: a vocabulary has 150,000 entries, and
//! the mathematical library takes one at a time.

pub(super) use kernels::softmax::sums;

/// Numbers that are summed side by side, so that the order of the sums is fixed and the lanes are free.
const LANES: usize = 16;
/// Numbers after which the lanes are added up in double precision.
const BLOCK: usize = 1024;

/// The greatest number of a row, as if those that are none were not there.
pub(super) fn greatest(row: &[f32]) -> f32 {
    let mut greatest = [f32::NEG_INFINITY; LANES];
    let mut lanes = row.chunks_exact(LANES);
    for numbers in &mut lanes {
        for lane in 0..LANES {
            greatest[lane] =
                if numbers[lane] > greatest[lane] { numbers[lane] } else { greatest[lane] };
        }
    }
    greatest.iter().chain(lanes.remainder()).copied().fold(f32::NEG_INFINITY, f32::max)
}

/// Σ exp((x − max) · scale) over the numbers below `least`, to three digits.
pub(super) fn tail(row: &[f32], least: f32, max: f32, scale: f32) -> f64 {
    let mut total = 0.0f64;
    for block in row.chunks(BLOCK) {
        let mut totals = [0.0f32; LANES];
        let mut lanes = block.chunks_exact(LANES);
        for numbers in &mut lanes {
            for lane in 0..LANES {
                let power = roughly(((numbers[lane] - max) * scale).max(LEAST));
                totals[lane] += if numbers[lane] < least { power } else { 0.0 };
            }
        }
        for (lane, &number) in lanes.remainder().iter().enumerate() {
            let power = roughly(((number - max) * scale).max(LEAST));
            totals[lane] += if number < least { power } else { 0.0 };
        }
        total += totals.iter().map(|&sum| f64::from(sum)).sum::<f64>();
    }
    total
}

/// What lies below has no weight: e⁻⁸⁷ is the smallest power that is a normal number.
const LEAST: f32 = -87.0;

/// eˣ for x from −87 to 0, to the last two bits. Written without branches.
#[inline(always)]
pub(super) fn exp(x: f32) -> f32 {
    // Taylor up to the sixth power, for |rest| ≤ ln 2 / 2.
    power(x, |rest| {
        [1.0 / 120.0, 1.0 / 24.0, 1.0 / 6.0, 0.5, 1.0, 1.0]
            .into_iter()
            .fold(1.0 / 720.0, |sum, factor| sum * rest + factor)
    })
}

/// The same to three digits.
#[inline(always)]
fn roughly(x: f32) -> f32 {
    power(x, |rest| ((rest * (1.0 / 6.0) + 0.5) * rest + 1.0) * rest + 1.0)
}

/// eˣ from e to the power of what is left when a multiple of ln 2 is taken away.
#[inline(always)]
fn power(x: f32, of_rest: impl Fn(f32) -> f32) -> f32 {
    // Adding 1.5 · 2²³ leaves the nearest whole number in the low bits.
    const ROUND: f32 = 12_582_912.0;
    const LN2_HIGH: f32 = 0.693_359_4;
    const LN2_LOW: f32 = -2.121_944_4e-4;
    let shifted = x * std::f32::consts::LOG2_E + ROUND;
    let whole = shifted - ROUND;
    let rest = x - whole * LN2_HIGH - whole * LN2_LOW;
    let exponent = shifted.to_bits().wrapping_sub(ROUND.to_bits()).wrapping_add(127);
    of_rest(rest) * f32::from_bits(exponent << 23)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn powers_are_those_of_the_library() {
        for step in 0..=87_000 {
            let x = -(step as f32) / 1000.0;
            let (ours, exact) = (f64::from(exp(x)), f64::from(x).exp());
            assert!((ours / exact - 1.0).abs() < 3e-7, "e^{x}: {ours} and {exact}");
        }
    }

    #[test]
    fn tails_are_what_lies_below() {
        for len in 1..100 {
            let row: Vec<f32> = (0..len).map(|index| -(index as f32) / 2.0 + 3.0).collect();
            let below = row.iter().filter(|&&x| x < -5.0);
            let exact: f64 = below.map(|&x| (f64::from(x - 3.0) / 2.0).exp()).sum();
            let sum = tail(&row, -5.0, 3.0, 0.5);
            assert!((sum - exact).abs() <= exact * 2e-3, "{sum} and {exact}");
        }
        assert_eq!(greatest(&[f32::NAN, 1.0]), 1.0);
    }

    #[test]
    fn rows_of_every_length_are_summed_whole() {
        for len in 1..200 {
            let row: Vec<f32> = (0..len).map(|index| -(index as f32) / 10.0 + 3.0).collect();
            let exact: f64 = row.iter().map(|&x| f64::from(x - 3.0).exp()).sum();
            let sums = sums(&row).unwrap();
            assert!((sums.total / exact - 1.0).abs() < 1e-6 && sums.max == 3.0);
        }
        assert!(sums(&[1.0, f32::NAN]).is_none() && sums(&[]).is_none());
        assert!(sums(&[f32::INFINITY, 0.0]).is_none() && sums(&[f32::NEG_INFINITY; 40]).is_none());
    }
}
