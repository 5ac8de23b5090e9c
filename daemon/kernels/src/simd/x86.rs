//! AVX-512, and AVX2 with fused products.

use std::arch::x86_64::*;

use super::{LANES, Simd};

/// AVX-512 F and DQ.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Avx512(());

impl Avx512 {
    /// # Safety
    /// The machine has the instructions.
    #[inline(always)]
    pub(crate) unsafe fn new() -> Avx512 {
        Avx512(())
    }
}

/// AVX2 and FMA.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Avx2(());

impl Avx2 {
    /// # Safety
    /// The machine has the instructions.
    #[inline(always)]
    pub(crate) unsafe fn new() -> Avx2 {
        Avx2(())
    }
}

// No closures: they would be functions of their own, without the instructions.
//
// SAFETY of all blocks below: a value of the type exists, so the machine has the instructions; what is read and written is what the
// callers of `load` and `store` answer for.
#[allow(clippy::undocumented_unsafe_blocks, reason = "one reason for all, above")]
impl Simd for Avx512 {
    type V = __m512;
    const SUMS: usize = 16;

    #[inline(always)]
    fn splat(self, x: f32) -> __m512 {
        unsafe { _mm512_set1_ps(x) }
    }

    #[inline(always)]
    unsafe fn load(self, from: *const f32) -> __m512 {
        unsafe { _mm512_loadu_ps(from) }
    }

    #[inline(always)]
    unsafe fn store(self, to: *mut f32, x: __m512) {
        unsafe { _mm512_storeu_ps(to, x) }
    }

    #[inline(always)]
    fn add(self, a: __m512, b: __m512) -> __m512 {
        unsafe { _mm512_add_ps(a, b) }
    }

    #[inline(always)]
    fn sub(self, a: __m512, b: __m512) -> __m512 {
        unsafe { _mm512_sub_ps(a, b) }
    }

    #[inline(always)]
    fn mul(self, a: __m512, b: __m512) -> __m512 {
        unsafe { _mm512_mul_ps(a, b) }
    }

    #[inline(always)]
    fn div(self, a: __m512, b: __m512) -> __m512 {
        unsafe { _mm512_div_ps(a, b) }
    }

    #[inline(always)]
    fn fma(self, a: __m512, b: __m512, c: __m512) -> __m512 {
        unsafe { _mm512_fmadd_ps(a, b, c) }
    }

    #[inline(always)]
    fn max(self, a: __m512, b: __m512) -> __m512 {
        unsafe { _mm512_max_ps(a, b) }
    }

    #[inline(always)]
    fn min(self, a: __m512, b: __m512) -> __m512 {
        unsafe { _mm512_min_ps(a, b) }
    }

    #[inline(always)]
    fn if_less(self, a: __m512, b: __m512, yes: __m512, no: __m512) -> __m512 {
        unsafe { _mm512_mask_blend_ps(_mm512_cmp_ps_mask::<_CMP_LT_OQ>(a, b), no, yes) }
    }

    #[inline(always)]
    fn add_exponent(self, a: __m512, b: __m512) -> __m512 {
        unsafe {
            let shifted = _mm512_slli_epi32::<23>(_mm512_castps_si512(b));
            _mm512_castsi512_ps(_mm512_add_epi32(_mm512_castps_si512(a), shifted))
        }
    }

    #[inline(always)]
    fn sums(self, v: &[__m512; 16]) -> [f32; 16] {
        unsafe {
            // Quarter q of `four!(i)` holds vector i + 4 q; so element i of quarter q in the end is vector i + 4 q.
            macro_rules! four {
                ($i:literal) => {
                    quarters(halves(v[$i], v[$i + 4]), halves(v[$i + 8], v[$i + 12]))
                };
            }
            let all = ones(pairs(four!(0), four!(1)), pairs(four!(2), four!(3)));
            let mut sums = [0.0; LANES];
            _mm512_storeu_ps(sums.as_mut_ptr(), all);
            sums
        }
    }

    #[inline(always)]
    fn load_part(self, from: &[f32], rest: f32) -> __m512 {
        let mask = ((1u32 << from.len().min(LANES)) - 1) as __mmask16;
        // SAFETY: as above, and what the mask leaves out is not read.
        unsafe { _mm512_mask_loadu_ps(_mm512_set1_ps(rest), mask, from.as_ptr()) }
    }

    #[inline(always)]
    fn store_part(self, to: &mut [f32], x: __m512) {
        if to.len() >= LANES {
            // SAFETY: as just compared. What a mask has written would reach the next load through the cache alone.
            return unsafe { self.store(to.as_mut_ptr(), x) };
        }
        let mask = ((1u32 << to.len()) - 1) as __mmask16;
        // SAFETY: as above, and what the mask leaves out is not written.
        unsafe { _mm512_mask_storeu_ps(to.as_mut_ptr(), mask, x) }
    }
}

/// Adds what two selections of the lanes of `a` and `b` hold.
macro_rules! pairing {
    ($(#[$doc:meta])* $name:ident, $shuffle:ident, $low:literal, $high:literal) => {
        $(#[$doc])*
        ///
        /// # Safety
        /// The machine has the instructions.
        #[inline(always)]
        unsafe fn $name(a: __m512, b: __m512) -> __m512 {
            // SAFETY: the caller's.
            unsafe { _mm512_add_ps($shuffle::<$low>(a, b), $shuffle::<$high>(a, b)) }
        }
    };
}

pairing! {
    /// Lanes 8 apart: halves of two vectors in one.
    halves, _mm512_shuffle_f32x4, 0b01_00_01_00, 0b11_10_11_10
}
pairing! {
    /// 4 apart: quarters of four vectors in one.
    quarters, _mm512_shuffle_f32x4, 0b10_00_10_00, 0b11_01_11_01
}
pairing! {
    /// 2 apart, within quarters.
    pairs, _mm512_shuffle_ps, 0b01_00_01_00, 0b11_10_11_10
}
pairing! {
    /// 1 apart, within quarters.
    ones, _mm512_shuffle_ps, 0b10_00_10_00, 0b11_01_11_01
}

/// The same of both halves.
macro_rules! both {
    ($operation:ident($a:ident, $b:ident)) => {
        unsafe { [$operation($a[0], $b[0]), $operation($a[1], $b[1])] }
    };
}

// SAFETY of all blocks: as for Avx512.
#[allow(clippy::undocumented_unsafe_blocks, reason = "one reason for all, above")]
impl Simd for Avx2 {
    type V = [__m256; 2];
    const SUMS: usize = 4;

    #[inline(always)]
    fn splat(self, x: f32) -> Self::V {
        unsafe { [_mm256_set1_ps(x); 2] }
    }

    #[inline(always)]
    unsafe fn load(self, from: *const f32) -> Self::V {
        unsafe { [_mm256_loadu_ps(from), _mm256_loadu_ps(from.add(8))] }
    }

    #[inline(always)]
    unsafe fn store(self, to: *mut f32, x: Self::V) {
        unsafe {
            _mm256_storeu_ps(to, x[0]);
            _mm256_storeu_ps(to.add(8), x[1]);
        }
    }

    #[inline(always)]
    fn add(self, a: Self::V, b: Self::V) -> Self::V {
        both!(_mm256_add_ps(a, b))
    }

    #[inline(always)]
    fn sub(self, a: Self::V, b: Self::V) -> Self::V {
        both!(_mm256_sub_ps(a, b))
    }

    #[inline(always)]
    fn mul(self, a: Self::V, b: Self::V) -> Self::V {
        both!(_mm256_mul_ps(a, b))
    }

    #[inline(always)]
    fn div(self, a: Self::V, b: Self::V) -> Self::V {
        both!(_mm256_div_ps(a, b))
    }

    #[inline(always)]
    fn fma(self, a: Self::V, b: Self::V, c: Self::V) -> Self::V {
        unsafe { [_mm256_fmadd_ps(a[0], b[0], c[0]), _mm256_fmadd_ps(a[1], b[1], c[1])] }
    }

    #[inline(always)]
    fn max(self, a: Self::V, b: Self::V) -> Self::V {
        both!(_mm256_max_ps(a, b))
    }

    #[inline(always)]
    fn min(self, a: Self::V, b: Self::V) -> Self::V {
        both!(_mm256_min_ps(a, b))
    }

    #[inline(always)]
    fn if_less(self, a: Self::V, b: Self::V, yes: Self::V, no: Self::V) -> Self::V {
        unsafe {
            let less =
                [_mm256_cmp_ps::<_CMP_LT_OQ>(a[0], b[0]), _mm256_cmp_ps::<_CMP_LT_OQ>(a[1], b[1])];
            [_mm256_blendv_ps(no[0], yes[0], less[0]), _mm256_blendv_ps(no[1], yes[1], less[1])]
        }
    }

    #[inline(always)]
    fn add_exponent(self, a: Self::V, b: Self::V) -> Self::V {
        let mut sums = a;
        for (sum, b) in sums.iter_mut().zip(b) {
            unsafe {
                let shifted = _mm256_slli_epi32::<23>(_mm256_castps_si256(b));
                *sum = _mm256_castsi256_ps(_mm256_add_epi32(_mm256_castps_si256(*sum), shifted));
            }
        }
        sums
    }

    #[inline(always)]
    fn sums(self, v: &[Self::V; 16]) -> [f32; 16] {
        let mut sums = [0.0; LANES];
        for (sum, v) in sums.iter_mut().zip(v) {
            unsafe {
                let eight = _mm256_add_ps(v[0], v[1]);
                let high = _mm256_extractf128_ps::<1>(eight);
                let four = _mm_add_ps(_mm256_castps256_ps128(eight), high);
                let two = _mm_add_ps(four, _mm_movehl_ps(four, four));
                *sum = _mm_cvtss_f32(_mm_add_ss(two, _mm_shuffle_ps::<1>(two, two)));
            }
        }
        sums
    }
}
