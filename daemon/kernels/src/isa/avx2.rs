//! AVX2 with FMA and F16C: a tile is two halves of eight outputs.
//!
//! A product of bytes is added to its neighbour in 16 bits. That is exact for integers below 32, and for the sum of four quads:
//! `31 · 128 · 2 · 4 < 2^15`. So wider weights are taken apart, `u = lower + 16 · upper`, and the sixteen is multiplied in where 16
//! bits become 32.

#![allow(clippy::needless_range_loop, reason = "an index runs through several arrays of registers")]

use std::arch::x86_64::{
    __m256, __m256i, _mm_loadl_epi64, _mm_loadu_si128, _mm256_add_epi16, _mm256_add_epi32,
    _mm256_and_si256, _mm256_broadcastsi128_si256, _mm256_castsi256_ps, _mm256_cvtepi32_ps,
    _mm256_cvtepu8_epi32, _mm256_cvtepu16_epi32, _mm256_cvtph_ps, _mm256_fmadd_ps, _mm256_loadu_ps,
    _mm256_loadu_si256, _mm256_madd_epi16, _mm256_maddubs_epi16, _mm256_max_epu32, _mm256_mul_ps,
    _mm256_or_si256, _mm256_set1_epi8, _mm256_set1_epi16, _mm256_set1_epi32, _mm256_set1_ps,
    _mm256_setzero_ps, _mm256_setzero_si256, _mm256_shuffle_epi8, _mm256_slli_epi16,
    _mm256_slli_epi32, _mm256_srli_epi16, _mm256_storeu_ps,
};

use super::{Kernels, Panel, Variant};
use crate::activation::Activation;
use crate::digits::{CHUNK, split};
use crate::layout::{Code, FP4, FloatType, LANES, Layout, Scales};

pub(super) static KERNELS: Kernels =
    Kernels { variant: Variant::Avx2, groups, floats, digits, gate };

/// What the processor must have.
pub(super) fn is_available() -> bool {
    is_x86_feature_detected!("avx2")
        && is_x86_feature_detected!("fma")
        && is_x86_feature_detected!("f16c")
}

/// Outputs of half a tile.
const HALF: usize = LANES / 2;

#[target_feature(enable = "avx2,fma,f16c")]
fn gate(activation: Activation, gate: &mut [f32], up: &[f32]) {
    activation.apply(gate, up);
}

#[target_feature(enable = "avx2,fma,f16c")]
fn digits(x: &[f32], group: usize, digits: &mut [i8], factors: &mut [[f32; 2]]) {
    split(x, group, digits, factors);
}

#[target_feature(enable = "avx2,fma,f16c")]
fn groups(panel: &Panel<'_>, sums: &mut [f32]) {
    for tile in 0..panel.tiles {
        let mut row = 0;
        while row < panel.rows.len() {
            let rows = if row + 2 <= panel.rows.len() { 2 } else { 1 };
            for half in 0..2 {
                // SAFETY: `multiply` has compared the sizes of the panel; the tile and the rows are in it.
                unsafe {
                    match rows {
                        1 => block::<1>(panel, tile, half, row, sums),
                        _ => block::<2>(panel, tile, half, row, sums),
                    }
                }
            }
            row += rows;
        }
    }
}

/// # Safety
/// The panel has the tile and `R` rows from `row` on, and its slices are as long as `multiply` demands.
#[inline]
#[target_feature(enable = "avx2,fma,f16c")]
unsafe fn block<const R: usize>(
    panel: &Panel<'_>,
    tile: usize,
    half: usize,
    row: usize,
    sums: &mut [f32],
) {
    let Layout::Groups { code, scales, group } = panel.layout else { return };
    let weights = panel.weights[tile * panel.layout.tile_bytes(panel.inner)..].as_ptr();
    let factors = panel.scales[tile * panel.layout.scale_bytes(panel.inner)..].as_ptr();
    let rows = &panel.rows[row..row + R];
    let mut totals = [_mm256_setzero_ps(); R];
    for index in 0..panel.inner / group {
        let mut parts = [[_mm256_setzero_si256(); 3]; R];
        for chunk in 0..group / CHUNK {
            // SAFETY: a chunk of this group, which lies within its tile.
            let (lower, upper) = unsafe {
                quads(code, weights.add(index * 2 * code.bits() * group + half * 32), group, chunk)
            };
            for r in 0..R {
                let digits = &rows[r].digits[(index * group + chunk * CHUNK) * 3..][..3 * CHUNK];
                for digit in 0..3 {
                    let mut words = [_mm256_setzero_si256(); 4];
                    for (word, digits) in
                        words.iter_mut().zip(digits[digit * CHUNK..].as_chunks::<4>().0)
                    {
                        *word =
                            _mm256_set1_epi32(i32::from_le_bytes(digits.map(i8::cast_unsigned)));
                    }
                    let part = &mut parts[r][digit];
                    *part = _mm256_add_epi32(*part, dot(lower, words, 1));
                    if let Some(upper) = upper {
                        *part = _mm256_add_epi32(*part, dot(upper, words, 16));
                    }
                }
            }
        }
        // SAFETY: a tile has sixteen scales, and biases if need be, for each group.
        let (scale, bias) = unsafe { factor(scales, factors.add(index * scales.bytes()), half) };
        for r in 0..R {
            let [down, sum] = rows[r].factors[index];
            totals[r] = add(totals[r], parts[r], (scale, bias), (down, sum));
        }
    }
    for r in 0..R {
        let place = (tile * panel.rows.len() + row + r) * LANES + half * HALF;
        // SAFETY: writes eight floats into a slice of eight.
        unsafe { _mm256_storeu_ps(sums[place..][..HALF].as_mut_ptr(), totals[r]) };
    }
}

/// Four quads of eight outputs times their digits, times `weight`.
#[inline]
#[target_feature(enable = "avx2,fma,f16c")]
fn dot(open: [__m256i; 4], words: [__m256i; 4], weight: i16) -> __m256i {
    let first = _mm256_add_epi16(
        _mm256_maddubs_epi16(open[0], words[0]),
        _mm256_maddubs_epi16(open[1], words[1]),
    );
    let second = _mm256_add_epi16(
        _mm256_maddubs_epi16(open[2], words[2]),
        _mm256_maddubs_epi16(open[3], words[3]),
    );
    _mm256_madd_epi16(_mm256_add_epi16(first, second), _mm256_set1_epi16(weight))
}

/// The three steps of [`crate::digits`].
#[inline]
#[target_feature(enable = "avx2,fma,f16c")]
fn add(
    total: __m256,
    [high, middle, low]: [__m256i; 3],
    (scale, bias): (__m256, __m256),
    (down, sum): (f32, f32),
) -> __m256 {
    let low = _mm256_add_epi32(_mm256_slli_epi32::<8>(middle), low);
    let t =
        _mm256_fmadd_ps(_mm256_cvtepi32_ps(high), _mm256_set1_ps(65536.0), _mm256_cvtepi32_ps(low));
    let total = _mm256_fmadd_ps(_mm256_mul_ps(scale, _mm256_set1_ps(down)), t, total);
    _mm256_fmadd_ps(bias, _mm256_set1_ps(sum), total)
}

/// The four quads of a chunk, for eight outputs: integers below 32, or what they are below and above 16.
///
/// # Safety
/// `start` is the first byte of such a half in a group of so many columns, and the chunk is within the group.
#[inline]
#[target_feature(enable = "avx2,fma,f16c")]
unsafe fn quads(
    code: Code,
    start: *const u8,
    group: usize,
    chunk: usize,
) -> ([__m256i; 4], Option<[__m256i; 4]>) {
    // SAFETY: half a line of a plane of this group, as the caller promises.
    let line = |at: usize| unsafe { _mm256_loadu_si256(start.add(at).cast()) };
    // A line of a plane of one bit has two chunks.
    let ones = |plane: usize| {
        let line = line(plane + chunk / 2 * 64);
        if chunk.is_multiple_of(2) { line } else { _mm256_srli_epi16::<4>(line) }
    };
    match code {
        Code::Bits2 => (twos(line(chunk * 64)), None),
        Code::Bits3 => {
            let one = ones(4 * group);
            let upper = [
                _mm256_slli_epi16::<2>(one),
                _mm256_slli_epi16::<1>(one),
                one,
                _mm256_srli_epi16::<1>(one),
            ];
            (join(twos(line(chunk * 64)), upper, 4), None)
        }
        Code::Bits4 => (fours(line(chunk * 128), line(chunk * 128 + 64)), None),
        Code::Fp4 => {
            let [a, b, c, d] = fours(line(chunk * 128), line(chunk * 128 + 64));
            // SAFETY: reads the sixteen bytes of the table.
            let table =
                _mm256_broadcastsi128_si256(unsafe { _mm_loadu_si128(FP4.as_ptr().cast()) });
            let open = [
                _mm256_shuffle_epi8(table, a),
                _mm256_shuffle_epi8(table, b),
                _mm256_shuffle_epi8(table, c),
                _mm256_shuffle_epi8(table, d),
            ];
            (open, None)
        }
        Code::Bits5 => {
            let one = ones(8 * group);
            let upper = [
                _mm256_slli_epi16::<4>(one),
                _mm256_slli_epi16::<3>(one),
                _mm256_slli_epi16::<2>(one),
                _mm256_slli_epi16::<1>(one),
            ];
            (join(fours(line(chunk * 128), line(chunk * 128 + 64)), upper, 16), None)
        }
        Code::Bits6 => {
            let lower = fours(line(chunk * 128), line(chunk * 128 + 64));
            (lower, Some(twos(line(8 * group + chunk * 64))))
        }
        Code::Bits8 => {
            let [a, b] = [line(chunk * 256), line(chunk * 256 + 64)];
            let [c, d] = [line(chunk * 256 + 128), line(chunk * 256 + 192)];
            let ([a, e, b, f], [c, g, d, h]) = (fours(a, b), fours(c, d));
            ([a, b, c, d], Some([e, f, g, h]))
        }
    }
}

/// `lower | upper & mask`.
#[inline]
#[target_feature(enable = "avx2,fma,f16c")]
fn join(lower: [__m256i; 4], upper: [__m256i; 4], mask: i8) -> [__m256i; 4] {
    let mask = _mm256_set1_epi8(mask);
    let mut joined = lower;
    for quad in 0..4 {
        joined[quad] = _mm256_or_si256(lower[quad], _mm256_and_si256(upper[quad], mask));
    }
    joined
}

#[inline]
#[target_feature(enable = "avx2,fma,f16c")]
fn twos(line: __m256i) -> [__m256i; 4] {
    let mask = _mm256_set1_epi8(3);
    [
        _mm256_and_si256(line, mask),
        _mm256_and_si256(_mm256_srli_epi16::<2>(line), mask),
        _mm256_and_si256(_mm256_srli_epi16::<4>(line), mask),
        _mm256_and_si256(_mm256_srli_epi16::<6>(line), mask),
    ]
}

#[inline]
#[target_feature(enable = "avx2,fma,f16c")]
fn fours(first: __m256i, second: __m256i) -> [__m256i; 4] {
    let mask = _mm256_set1_epi8(15);
    [
        _mm256_and_si256(first, mask),
        _mm256_and_si256(_mm256_srli_epi16::<4>(first), mask),
        _mm256_and_si256(second, mask),
        _mm256_and_si256(_mm256_srli_epi16::<4>(second), mask),
    ]
}

/// Scales and biases of eight outputs.
///
/// # Safety
/// There are `scales.bytes()` bytes from `at` on.
#[inline]
#[target_feature(enable = "avx2,fma,f16c")]
unsafe fn factor(scales: Scales, at: *const u8, half: usize) -> (__m256, __m256) {
    // SAFETY: as the caller promises; each arm reads within `scales.bytes()` bytes.
    unsafe {
        match scales {
            Scales::Affine(kind) => {
                let bytes = LANES * kind.bytes();
                let at = at.add(half * bytes / 2);
                (widened(kind, at), widened(kind, at.add(bytes)))
            }
            Scales::E8m0 | Scales::E4m3 => {
                let bytes = _mm256_cvtepu8_epi32(_mm_loadl_epi64(at.add(half * HALF).cast()));
                let half = if scales == Scales::E8m0 { e8m0(bytes) } else { e4m3(bytes) };
                (half, _mm256_mul_ps(half, _mm256_set1_ps(-12.0)))
            }
        }
    }
}

/// Eight numbers as fp32.
///
/// # Safety
/// There are eight from `at` on.
#[inline]
#[target_feature(enable = "avx2,fma,f16c")]
unsafe fn widened(kind: FloatType, at: *const u8) -> __m256 {
    // SAFETY: as the caller promises.
    unsafe {
        match kind {
            FloatType::F32 => _mm256_loadu_ps(at.cast()),
            FloatType::Bf16 => {
                let halves = _mm256_cvtepu16_epi32(_mm_loadu_si128(at.cast()));
                _mm256_castsi256_ps(_mm256_slli_epi32::<16>(halves))
            }
            FloatType::F16 => _mm256_cvtph_ps(_mm_loadu_si128(at.cast())),
        }
    }
}

/// Half of the powers of two.
#[inline]
#[target_feature(enable = "avx2,fma,f16c")]
fn e8m0(bytes: __m256i) -> __m256 {
    let bits = _mm256_max_epu32(_mm256_slli_epi32::<23>(bytes), _mm256_set1_epi32(0x0040_0000));
    _mm256_mul_ps(_mm256_castsi256_ps(bits), _mm256_set1_ps(0.5))
}

/// Half of the values: their exponent is moved by 119 with a product, which makes subnormals normal on the way.
#[inline]
#[target_feature(enable = "avx2,fma,f16c")]
fn e4m3(bytes: __m256i) -> __m256 {
    let magnitude = _mm256_and_si256(bytes, _mm256_set1_epi32(0x7f));
    let sign = _mm256_and_si256(_mm256_slli_epi32::<24>(bytes), _mm256_set1_epi32(i32::MIN));
    let bits = _mm256_or_si256(_mm256_slli_epi32::<20>(magnitude), sign);
    _mm256_mul_ps(_mm256_castsi256_ps(bits), _mm256_set1_ps(f32::from_bits((127 + 119) << 23)))
}

#[target_feature(enable = "avx2,fma,f16c")]
fn floats(panel: &Panel<'_>, sums: &mut [f32]) {
    let mut tile = 0;
    while tile < panel.tiles {
        let four = tile + 4 <= panel.tiles;
        for row in 0..panel.rows.len() {
            // SAFETY: `multiply` has compared the sizes of the panel; the tiles and the row are in it.
            unsafe {
                if four {
                    float_block::<4>(panel, tile, row, sums)
                } else {
                    float_block::<1>(panel, tile, row, sums)
                }
            };
        }
        tile += if four { 4 } else { 1 };
    }
}

/// `T` tiles with one row.
///
/// # Safety
/// The panel has the tiles and the row, and its slices are as long as `multiply` demands.
#[inline]
#[target_feature(enable = "avx2,fma,f16c")]
unsafe fn float_block<const T: usize>(
    panel: &Panel<'_>,
    tile: usize,
    row: usize,
    sums: &mut [f32],
) {
    let Layout::Floats(kind) = panel.layout else { return };
    let tile_bytes = panel.layout.tile_bytes(panel.inner);
    let mut totals = [[_mm256_setzero_ps(); 2]; T];
    for (column, &x) in panel.rows[row].floats.iter().enumerate() {
        let x = _mm256_set1_ps(x);
        for t in 0..T {
            let start = panel.weights[(tile + t) * tile_bytes..].as_ptr();
            for half in 0..2 {
                // SAFETY: the column is within the tile.
                let weights = unsafe { column_of(kind, start, column, half) };
                totals[t][half] = _mm256_fmadd_ps(weights, x, totals[t][half]);
            }
        }
    }
    for t in 0..T {
        for half in 0..2 {
            let place = ((tile + t) * panel.rows.len() + row) * LANES + half * HALF;
            // SAFETY: writes eight floats into a slice of eight.
            unsafe { _mm256_storeu_ps(sums[place..][..HALF].as_mut_ptr(), totals[t][half]) };
        }
    }
}

/// Half a column of a tile.
///
/// # Safety
/// The tile has the column.
#[inline]
#[target_feature(enable = "avx2,fma,f16c")]
unsafe fn column_of(kind: FloatType, tile: *const u8, column: usize, half: usize) -> __m256 {
    // SAFETY: as the caller promises.
    unsafe {
        match kind {
            FloatType::F32 => _mm256_loadu_ps(tile.add(column * 64 + half * 32).cast()),
            FloatType::F16 => {
                _mm256_cvtph_ps(_mm_loadu_si128(tile.add(column * 32 + half * 16).cast()))
            }
            FloatType::Bf16 => {
                let pairs = _mm256_loadu_si256(tile.add(column / 2 * 64 + half * 32).cast());
                let upper = _mm256_set1_epi32(0xffff_0000_u32.cast_signed());
                let second = _mm256_and_si256(pairs, upper);
                _mm256_castsi256_ps(if column.is_multiple_of(2) {
                    _mm256_slli_epi32::<16>(pairs)
                } else {
                    second
                })
            }
        }
    }
}
