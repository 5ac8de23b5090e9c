//! Rows in fixed point, and the one order of floating-point steps.
//!
//! A quantized weight of a group is `s·u + b` with an unsigned integer `u` of at most 8 bits. A row is turned once, group by
//! group, into integers: `n = round(x · 2^e)`, ties to even, where `e` is the greatest exponent that keeps all `|x| · 2^e` of
//! the group below 2^22, but at most 100, so that what is below 2^-101 counts as nothing. `n` has three balanced digits,
//! `n = 65536·h + 256·m + l`, each from -128 to 127; as `|n| <= 2^22`, `|h| <= 64`. Digits are exact: nothing is lost but what
//! rounding to 22 bits loses, which is less than what a sum of the group's products in fp32 loses.
//!
//! So it is where the greatest `|x|` of a group is 2^-79 or more: of a smaller one, 22 bits minus one for each further halving are
//! kept. At the other end `Σ n · 2^-e`, which is about the group's sum, and the steps below overflow as any sum in fp32 does: a group
//! of finite numbers near 2^127 may give an infinity or a NaN where its products themselves would cancel. The sums are safe as long as
//! `Σ |x|`, and `Σ (|s·u| + |b|)·|x|` over the row, stay below 2^127.
//!
//! For each group the sums `H = Σ u·h`, `M = Σ u·m`, `L = Σ u·l` are exact 32-bit integers: at most
//! `128 columns · 255 · 128 < 2^22` in size, so that also `256·M + L < 2^30 + 2^22` is exact. In any instruction set they
//! are the same, in whatever order they are added. Then, in fp32, each step rounded once, ties to even:
//!
//! 1. `t = fma(float(H), 65536, float(256·M + L))`
//! 2. `y = fma(s · 2^-e, t, y)`
//! 3. `y = fma(b, float(Σ n) · 2^-e, y)`
//!
//! with `y = 0` before the first group and the groups in ascending order. Weights that are floats are widened exactly, and
//! `y = fma(w, x, y)` over ascending columns. A bias is added last. So a result depends on its row and its weights alone.
//!
//! A group that holds an infinity or a NaN has the factors NaN, and its row's results are NaN.

use crate::buffer::{Scratch, Shared};
use crate::isa::{self, Row};
use crate::pool::pool;

/// Columns whose digits stand together, as sixteen `h`, sixteen `m`, sixteen `l`.
pub(crate) const CHUNK: usize = 16;
/// The greatest `e`.
const EXPONENT_MAX: u32 = 100;
/// Rows of one task.
const TASK_ROWS: usize = 8;
/// Numbers from which on the work is shared.
const SHARED_FROM: usize = 1 << 15;

/// Rows in the form in which matrices of one group size take them. Serves any number of such matrices.
#[derive(Debug)]
pub struct Prepared<'x> {
    rows: usize,
    width: usize,
    group: Option<usize>,
    floats: &'x [f32],
    digits: Scratch<i8>,
    /// `2^-e` and `Σ n · 2^-e` of each group.
    factors: Scratch<[f32; 2]>,
}

impl<'x> Prepared<'x> {
    /// `x` is `[rows, width]`. Without a group, for matrices of floats, the rows stay as they are.
    pub fn new(x: &'x [f32], rows: usize, width: usize, group: Option<usize>) -> Prepared<'x> {
        assert_eq!(x.len(), rows * width, "{rows} rows of {width} numbers");
        let Some(size) = group else {
            return Prepared {
                rows,
                width,
                group,
                floats: x,
                digits: Scratch::new(0),
                factors: Scratch::new(0),
            };
        };
        assert!(
            size.is_multiple_of(CHUNK) && width.is_multiple_of(size),
            "{width} numbers in groups of {size}"
        );
        let mut digits = Scratch::new(rows * width * 3);
        let mut factors = Scratch::new(rows * (width / size));
        let (to_digits, to_factors) = (Shared::new(&mut digits), Shared::new(&mut factors));
        let work = |first: usize, rows: usize| {
            let groups = width / size;
            // SAFETY: each task writes the parts of its own rows; both outlive the work.
            let (digits, factors) = unsafe {
                (
                    to_digits.part(first * width * 3, rows * width * 3),
                    to_factors.part(first * groups, rows * groups),
                )
            };
            isa::digits(&x[first * width..][..rows * width], size, digits, factors);
        };
        if rows * width < SHARED_FROM {
            work(0, rows);
        } else {
            pool().run(rows.div_ceil(TASK_ROWS), &|task| {
                let first = task * TASK_ROWS;
                work(first, TASK_ROWS.min(rows - first));
            });
        }
        Prepared { rows, width, group, floats: x, digits, factors }
    }

    /// How many rows.
    pub fn rows(&self) -> usize {
        self.rows
    }

    /// Numbers of each row.
    pub fn width(&self) -> usize {
        self.width
    }

    /// The group that they were prepared for.
    pub fn group(&self) -> Option<usize> {
        self.group
    }

    pub(crate) fn row(&self, row: usize) -> Row<'_> {
        let floats = &self.floats[row * self.width..][..self.width];
        let Some(group) = self.group else { return Row { floats, digits: &[], factors: &[] } };
        let groups = self.width / group;
        Row {
            floats,
            digits: &self.digits[row * self.width * 3..][..self.width * 3],
            factors: &self.factors[row * groups..][..groups],
        }
    }
}

/// 2^e and 2^-e for the greatest of the magnitudes of a group, as bits; 0 and NaN if it is not finite.
#[inline(always)]
pub(crate) fn power(top: u32) -> (f32, f32) {
    if top >= 0x7f80_0000 {
        return (0.0, f32::NAN);
    }
    // |x| < 2^(top - 126) for the biased exponent `top`.
    let exponent = (148 + 127 - (top >> 23)).min(EXPONENT_MAX + 127);
    (f32::from_bits(exponent << 23), f32::from_bits((254 - exponent) << 23))
}

/// Digits of whole groups; one source for all instruction sets, to be inlined where more of them are switched on.
#[inline(always)]
pub(crate) fn split(x: &[f32], group: usize, digits: &mut [i8], factors: &mut [[f32; 2]]) {
    let groups = x.chunks_exact(group).zip(digits.chunks_exact_mut(group * 3)).zip(factors);
    for ((x, digits), factors) in groups {
        let top = x.iter().fold(0, |top: u32, x| top.max(x.to_bits() & 0x7fff_ffff));
        let (up, down) = power(top);
        let mut sum = 0;
        for (x, digits) in
            x.as_chunks::<CHUNK>().0.iter().zip(digits.as_chunks_mut::<{ 3 * CHUNK }>().0)
        {
            let mut shifted = [0_u32; CHUNK];
            for (shifted, x) in shifted.iter_mut().zip(x) {
                let scaled = if up == 0.0 { 0.0 } else { x * up };
                // Adding 1.5 · 2^23 leaves the rounded integer in the lowest bits.
                let rounded = (scaled + 12_582_912.0).to_bits().wrapping_sub(0x4b40_0000);
                sum += rounded.cast_signed();
                // With 128 added to each digit the bytes are digits without a borrow.
                *shifted = rounded.wrapping_add(0x0080_8080);
            }
            for index in 0..CHUNK {
                digits[index] = ((shifted[index] >> 16) as u8 ^ 0x80).cast_signed();
                digits[CHUNK + index] = ((shifted[index] >> 8) as u8 ^ 0x80).cast_signed();
                digits[2 * CHUNK + index] = (shifted[index] as u8 ^ 0x80).cast_signed();
            }
        }
        *factors = [down, sum as f32 * down];
    }
}
