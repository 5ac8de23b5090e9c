//! Sixteen floats at a time, by the instructions that the machine has, with the same results to the bit by all of them: each
//! operation is one of IEEE's, a sum of products is always fused, and sums over lanes are taken in one order.
//!
//! A kernel is a generic function over [`Simd`], inlined into one function per instruction set by [`dispatch`]; it has no closures
//! that compute, since those are functions of their own, without the instructions. Where a processor
//! has neither AVX-512 nor AVX2 the compiler makes of arrays what it can: on ARM that is NEON.

mod portable;
#[cfg(target_arch = "x86_64")]
mod x86;

use std::sync::atomic::{AtomicU8, Ordering};

pub(crate) use portable::Portable;
#[cfg(target_arch = "x86_64")]
pub(crate) use x86::{Avx2, Avx512};

/// Floats in a vector.
pub(crate) const LANES: usize = 16;

/// Sixteen floats, as one or several registers hold them. A value of such a type is the proof that the machine has the instructions.
pub(crate) trait Simd: Copy {
    type V: Copy;
    /// So many sums stay in registers in an inner loop, beside what is multiplied.
    const SUMS: usize;

    fn splat(self, x: f32) -> Self::V;

    /// # Safety
    /// Sixteen floats can be read at `from`.
    unsafe fn load(self, from: *const f32) -> Self::V;

    /// # Safety
    /// Sixteen floats can be written at `to`.
    unsafe fn store(self, to: *mut f32, x: Self::V);

    fn add(self, a: Self::V, b: Self::V) -> Self::V;
    fn sub(self, a: Self::V, b: Self::V) -> Self::V;
    fn mul(self, a: Self::V, b: Self::V) -> Self::V;
    fn div(self, a: Self::V, b: Self::V) -> Self::V;
    /// `a · b + c`, rounded once.
    fn fma(self, a: Self::V, b: Self::V, c: Self::V) -> Self::V;
    /// The greater one; `b` if one is no number.
    fn max(self, a: Self::V, b: Self::V) -> Self::V;
    /// The smaller one; `b` if one is no number.
    fn min(self, a: Self::V, b: Self::V) -> Self::V;
    /// Where `a < b`, `yes`; elsewhere, and where one is no number, `no`.
    fn if_less(self, a: Self::V, b: Self::V, yes: Self::V, no: Self::V) -> Self::V;
    /// The bits of `a` plus the bits of `b` shifted left by 23, as integers.
    fn add_exponent(self, a: Self::V, b: Self::V) -> Self::V;

    /// The sum over the lanes of each vector: lanes `i` and `i + 8` first, then those 4, 2 and 1 apart.
    fn sums(self, vectors: &[Self::V; 16]) -> [f32; 16];

    #[inline(always)]
    fn zero(self) -> Self::V {
        self.splat(0.0)
    }

    #[inline(always)]
    fn to_array(self, x: Self::V) -> [f32; LANES] {
        let mut array = [0.0; LANES];
        // SAFETY: the array has sixteen floats.
        unsafe { self.store(array.as_mut_ptr(), x) };
        array
    }

    /// The sum over the lanes, in the order of [`Simd::sums`].
    #[inline(always)]
    fn sum(self, x: Self::V) -> f32 {
        folded(self.to_array(x), |a, b| a + b)
    }

    /// The greatest of the lanes; anything if one is no number.
    #[inline(always)]
    fn greatest(self, x: Self::V) -> f32 {
        folded(self.to_array(x), |a, b| if a > b { a } else { b })
    }

    /// The first lanes from a slice of at most sixteen floats, `rest` in the others.
    #[inline(always)]
    fn load_part(self, from: &[f32], rest: f32) -> Self::V {
        if from.len() >= LANES {
            // SAFETY: as just compared.
            return unsafe { self.load(from.as_ptr()) };
        }
        let mut array = [rest; LANES];
        let len = from.len().min(LANES);
        array[..len].copy_from_slice(&from[..len]);
        // SAFETY: the array has sixteen floats.
        unsafe { self.load(array.as_ptr()) }
    }

    /// The first lanes into a slice of at most sixteen floats.
    #[inline(always)]
    fn store_part(self, to: &mut [f32], x: Self::V) {
        if to.len() >= LANES {
            // SAFETY: as just compared.
            return unsafe { self.store(to.as_mut_ptr(), x) };
        }
        let array = self.to_array(x);
        let len = to.len().min(LANES);
        to[..len].copy_from_slice(&array[..len]);
    }

    /// `e` to the `x`, within 2 units in the last place where the result is a normal number; 0 below that.
    #[inline(always)]
    fn exp(self, x: Self::V) -> Self::V {
        exp(self, x)
    }
}

#[inline(always)]
fn folded(mut x: [f32; LANES], of: impl Fn(f32, f32) -> f32) -> f32 {
    for half in [8, 4, 2, 1] {
        for lane in 0..half {
            x[lane] = of(x[lane], x[lane + half]);
        }
    }
    x[0]
}

/// The least argument whose result is a normal number, and the least whose result is infinite.
const EXP_LEAST: f32 = -87.336_54;
const EXP_INFINITE: f32 = 88.722_84;
/// Added to a number below 2^22, it leaves the nearest integer in the lowest bits.
const ROUNDER: f32 = 12_582_912.0;

/// The polynomial is that of the Cephes library (S. Moshier), evaluated with fused products.
#[inline(always)]
fn exp<S: Simd>(s: S, x: S::V) -> S::V {
    let (least, infinite) = (s.splat(EXP_LEAST), s.splat(EXP_INFINITE));
    let inside = s.min(infinite, s.max(least, x));
    let shifted = s.fma(inside, s.splat(std::f32::consts::LOG2_E), s.splat(ROUNDER));
    let n = s.sub(shifted, s.splat(ROUNDER));
    let r = s.fma(n, s.splat(-0.693_359_4), inside);
    let r = s.fma(n, s.splat(2.121_944_4e-4), r);
    let coefficients =
        [1.987_569_1e-4, 1.398_199_9e-3, 8.333_452e-3, 4.166_579_6e-2, 1.666_666_5e-1, 0.5];
    let mut p = s.splat(coefficients[0]);
    for coefficient in &coefficients[1..] {
        p = s.fma(p, r, s.splat(*coefficient));
    }
    let p = s.add(s.fma(p, s.mul(r, r), r), s.splat(1.0));
    let y = s.add_exponent(p, shifted);
    // Infinity above; what is no number stays so.
    let y = s.if_less(x, infinite, y, s.mul(x, s.splat(f32::INFINITY)));
    s.if_less(x, least, s.zero(), y)
}

/// The instructions that are used.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u8)]
pub(crate) enum Level {
    Portable = 1,
    Avx2 = 2,
    Avx512 = 3,
}

/// 0: not looked at yet.
static LEVEL: AtomicU8 = AtomicU8::new(0);

/// From now on uses this level, if the machine has it, or the best one below; without one, the best of all.
pub(crate) fn force(level: Option<Level>) {
    LEVEL.store(level.map_or(0, |level| (level as u8).min(best() as u8)), Ordering::Relaxed);
}

#[cfg(any(test, target_arch = "x86_64"))]
pub(crate) fn level() -> Level {
    match LEVEL.load(Ordering::Relaxed) {
        1 => Level::Portable,
        2 => Level::Avx2,
        3 => Level::Avx512,
        _ => {
            let best = best();
            LEVEL.store(best as u8, Ordering::Relaxed);
            best
        }
    }
}

fn best() -> Level {
    #[cfg(target_arch = "x86_64")]
    {
        if is_x86_feature_detected!("avx2") && is_x86_feature_detected!("fma") {
            let wide = is_x86_feature_detected!("avx512f") && is_x86_feature_detected!("avx512dq");
            return if wide { Level::Avx512 } else { Level::Avx2 };
        }
    }
    Level::Portable
}

/// The levels that this machine has, and `act` under each of them. For tests; results are the same, so that others may run meanwhile.
#[cfg(test)]
pub(crate) fn under_each(mut act: impl FnMut(Level)) {
    for level in [Level::Portable, Level::Avx2, Level::Avx512] {
        if level as u8 <= best() as u8 {
            LEVEL.store(level as u8, Ordering::Relaxed);
            act(level);
        }
    }
    LEVEL.store(best() as u8, Ordering::Relaxed);
}

/// A function that calls a generic one with the best instructions of the machine:
/// `dispatch! { fn name(argument: Type) -> Type => generic }`.
macro_rules! dispatch {
    ($(#[$meta:meta])* $vis:vis fn $name:ident($($arg:ident: $ty:ty),* $(,)?) $(-> $ret:ty)? => $generic:path) => {
        $(#[$meta])*
        #[allow(clippy::too_many_arguments, reason = "a kernel's operands")]
        $vis fn $name($($arg: $ty),*) $(-> $ret)? {
            #[cfg(target_arch = "x86_64")]
            {
                use $crate::simd::{Avx2, Avx512, Level, level};
                #[target_feature(enable = "avx512f,avx512dq,avx2,fma")]
                #[allow(clippy::too_many_arguments, reason = "a kernel's operands")]
                fn avx512($($arg: $ty),*) $(-> $ret)? {
                    // SAFETY: whoever calls this has looked whether the machine has the instructions.
                    $generic(unsafe { Avx512::new() }, $($arg),*)
                }
                #[target_feature(enable = "avx2,fma")]
                #[allow(clippy::too_many_arguments, reason = "a kernel's operands")]
                fn avx2($($arg: $ty),*) $(-> $ret)? {
                    // SAFETY: whoever calls this has looked whether the machine has the instructions.
                    $generic(unsafe { Avx2::new() }, $($arg),*)
                }
                match level() {
                    // SAFETY: the level says that the machine has them.
                    Level::Avx512 => return unsafe { avx512($($arg),*) },
                    // SAFETY: the level says that the machine has them.
                    Level::Avx2 => return unsafe { avx2($($arg),*) },
                    Level::Portable => {}
                }
            }
            $generic($crate::simd::Portable, $($arg),*)
        }
    };
}
pub(crate) use dispatch;

#[cfg(test)]
mod tests {
    use super::*;

    fn exps<S: Simd>(s: S, x: &[f32], into: &mut [f32]) {
        for (x, into) in x.chunks(LANES).zip(into.chunks_mut(LANES)) {
            let y = s.exp(s.load_part(x, 0.0));
            s.store_part(into, y);
        }
    }
    dispatch! { fn all_exps(x: &[f32], into: &mut [f32]) => exps }

    fn sums<S: Simd>(s: S, x: &[f32; 256], into: &mut [f32; 16]) {
        let vectors =
            std::array::from_fn(|index| s.load_part(&x[16 * index..16 * index + 16], 0.0));
        *into = s.sums(&vectors);
        for (vector, sum) in vectors.iter().zip(into.iter()) {
            assert_eq!(s.sum(*vector).to_bits(), sum.to_bits());
        }
    }
    dispatch! { fn all_sums(x: &[f32; 256], into: &mut [f32; 16]) => sums }

    #[test]
    fn exponentials_are_within_two_units_and_the_same_everywhere() {
        let x: Vec<f32> = (0..400_000)
            .map(|index| (index as f32 - 200_000.0) * 4.5e-4)
            .chain((0..100_000).map(|index| (index as f32 - 50_000.0) * 1e-6))
            .chain([EXP_LEAST, EXP_INFINITE, 88.722_83, -88.0, -1e30, 89.0, 1e30, 0.0, -0.0, 1e-40])
            .chain([f32::INFINITY, f32::NEG_INFINITY, f32::NAN])
            .collect();
        let mut first: Option<Vec<u32>> = None;
        under_each(|level| {
            let mut y = vec![0.0; x.len()];
            all_exps(&x, &mut y);
            for (&x, &y) in x.iter().zip(&y) {
                let exact = f64::from(x).exp();
                if x.is_nan() {
                    assert!(y.is_nan());
                } else if exact < f64::from(f32::MIN_POSITIVE) {
                    assert!(f64::from(y) <= f64::from(f32::MIN_POSITIVE), "{level:?} {x} {y}");
                } else if exact > f64::from(f32::MAX) {
                    assert_eq!(y, f32::INFINITY, "{level:?} {x}");
                } else {
                    let unit = f64::from(f32::from_bits((exact as f32).to_bits() + 1))
                        - f64::from(exact as f32);
                    let off = (f64::from(y) - exact).abs() / unit;
                    assert!(off <= 2.0, "{level:?} {x}: {y}, not {exact}: {off}");
                }
            }
            let bits: Vec<u32> = y.iter().filter(|y| !y.is_nan()).map(|y| y.to_bits()).collect();
            assert_eq!(*first.get_or_insert_with(|| bits.clone()), bits, "{level:?}");
        });
    }

    #[test]
    fn sums_over_lanes_have_one_order() {
        let x = std::array::from_fn(|index| ((index * index) as f32 * 0.37).sin() * 1e3);
        let mut first = None;
        under_each(|level| {
            let mut y = [0.0; 16];
            all_sums(&x, &mut y);
            assert_eq!(*first.get_or_insert(y), y, "{level:?}");
        });
    }
}
