//! AVX-512 with VNNI: sixteen outputs are one register, and one instruction multiplies and adds 64 pairs of bytes.
//!
//! A block multiplies `T` tiles with `R` rows. There are always nine or more sums in progress, so that the four cycles of a
//! product are hidden; with eight rows the 24 sums leave room for the four quads of one chunk.

#![allow(clippy::needless_range_loop, reason = "an index runs through several arrays of registers")]

use std::arch::x86_64::{__m512, __m512i, _mm_loadu_si128, _mm_storeu_si128, _mm_xor_si128};
use std::arch::x86_64::{
    _MM_HINT_T0, _mm_cvtsi32_si128, _mm_prefetch, _mm_set1_epi8, _mm256_loadu_si256,
    _mm512_add_epi32, _mm512_and_si512, _mm512_broadcast_i32x4, _mm512_castsi512_ps,
    _mm512_cvtepi32_epi8, _mm512_cvtepi32_ps, _mm512_cvtepu8_epi32, _mm512_cvtepu16_epi32,
    _mm512_cvtph_ps, _mm512_cvtps_epi32, _mm512_dpbusd_epi32, _mm512_fmadd_ps, _mm512_loadu_ps,
    _mm512_loadu_si512, _mm512_max_epu32, _mm512_mul_ps, _mm512_or_si512, _mm512_reduce_add_epi32,
    _mm512_reduce_max_epu32, _mm512_set1_epi8, _mm512_set1_epi32, _mm512_set1_ps,
    _mm512_setzero_ps, _mm512_setzero_si512, _mm512_shuffle_epi8, _mm512_slli_epi16,
    _mm512_slli_epi32, _mm512_srl_epi16, _mm512_srli_epi16, _mm512_srli_epi32, _mm512_storeu_ps,
    _mm512_ternarylogic_epi32,
};

use super::{Kernels, Panel, Variant};
use crate::activation::Activation;
use crate::digits::{CHUNK, power};
use crate::layout::{Code, FP4, FloatType, LANES, Layout, Scales};

pub(super) static KERNELS: Kernels =
    Kernels { variant: Variant::Avx512, groups, floats, digits, gate };

/// What the processor must have.
pub(super) fn is_available() -> bool {
    is_x86_feature_detected!("avx512f")
        && is_x86_feature_detected!("avx512bw")
        && is_x86_feature_detected!("avx512vl")
        && is_x86_feature_detected!("avx512vnni")
        && is_x86_feature_detected!("fma")
}

/// How far ahead weights are asked for, in bytes of each tile.
const AHEAD: usize = 1024;

/// Codes as constants of functions.
const BITS2: u8 = 2;
const BITS3: u8 = 3;
const BITS4: u8 = 4;
const BITS5: u8 = 5;
const BITS6: u8 = 6;
const BITS8: u8 = 8;
const FOUR_BIT_FLOATS: u8 = 14;
const F32: u8 = 0;
const BF16: u8 = 1;
const F16: u8 = 2;

#[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512vnni,fma")]
fn gate(activation: Activation, gate: &mut [f32], up: &[f32]) {
    activation.apply(gate, up);
}

#[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512vnni,fma")]
fn digits(x: &[f32], group: usize, digits: &mut [i8], factors: &mut [[f32; 2]]) {
    let groups = x.chunks_exact(group).zip(digits.chunks_exact_mut(group * 3)).zip(factors);
    for ((x, digits), factors) in groups {
        let x = x.as_chunks::<CHUNK>().0;
        // SAFETY: reads of sixteen floats of an array of sixteen.
        let load = |x: &[f32; CHUNK]| unsafe { _mm512_loadu_si512(x.as_ptr().cast()) };
        let magnitude = _mm512_set1_epi32(0x7fff_ffff);
        let top = x.iter().fold(_mm512_setzero_si512(), |top, x| {
            _mm512_max_epu32(top, _mm512_and_si512(load(x), magnitude))
        });
        let (up, down) = power(_mm512_reduce_max_epu32(top));
        let scale = _mm512_set1_ps(up);
        let mut sum = _mm512_setzero_si512();
        for (x, digits) in x.iter().zip(digits.as_chunks_mut::<{ 3 * CHUNK }>().0) {
            // A group that is not finite is zeros.
            let number = if up == 0.0 { _mm512_setzero_ps() } else { _mm512_castsi512_ps(load(x)) };
            let rounded = _mm512_cvtps_epi32(_mm512_mul_ps(number, scale));
            sum = _mm512_add_epi32(sum, rounded);
            let shifted = _mm512_add_epi32(rounded, _mm512_set1_epi32(0x0080_8080));
            let parts =
                [_mm512_srli_epi32::<16>(shifted), _mm512_srli_epi32::<8>(shifted), shifted];
            for (part, into) in parts.into_iter().zip(digits.as_chunks_mut::<CHUNK>().0) {
                let bytes = _mm_xor_si128(_mm512_cvtepi32_epi8(part), _mm_set1_epi8(-128));
                // SAFETY: writes sixteen bytes into an array of sixteen.
                unsafe { _mm_storeu_si128(into.as_mut_ptr().cast(), bytes) };
            }
        }
        *factors = [down, _mm512_reduce_add_epi32(sum) as f32 * down];
    }
}

#[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512vnni,fma")]
fn groups(panel: &Panel<'_>, sums: &mut [f32]) {
    let Layout::Groups { code, .. } = panel.layout else { return };
    match code {
        Code::Bits2 => groups_of::<BITS2>(panel, sums),
        Code::Bits3 => groups_of::<BITS3>(panel, sums),
        Code::Bits4 => groups_of::<BITS4>(panel, sums),
        Code::Bits5 => groups_of::<BITS5>(panel, sums),
        Code::Bits6 => groups_of::<BITS6>(panel, sums),
        Code::Bits8 => groups_of::<BITS8>(panel, sums),
        Code::Fp4 => groups_of::<FOUR_BIT_FLOATS>(panel, sums),
    }
}

#[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512vnni,fma")]
fn groups_of<const CODE: u8>(panel: &Panel<'_>, sums: &mut [f32]) {
    let mut row = 0;
    while row < panel.rows.len() {
        row += match panel.rows.len() - row {
            1 => tiles::<CODE, 4, 1>(panel, row, sums),
            2 => tiles::<CODE, 2, 2>(panel, row, sums),
            3 => tiles::<CODE, 2, 3>(panel, row, sums),
            _ => tiles::<CODE, 2, 4>(panel, row, sums),
        }
    }
}

/// All tiles of a panel with `R` of its rows, `T` tiles at a time.
#[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512vnni,fma")]
fn tiles<const CODE: u8, const T: usize, const R: usize>(
    panel: &Panel<'_>,
    row: usize,
    sums: &mut [f32],
) -> usize {
    let mut tile = 0;
    while tile + T <= panel.tiles {
        // SAFETY: `multiply` has compared the sizes of the panel, and tiles up to `tile + T` and `R` rows are in it.
        unsafe { block::<CODE, T, R>(panel, tile, row, sums) };
        tile += T;
    }
    while tile + 2 <= panel.tiles {
        // SAFETY: as above.
        unsafe { block::<CODE, 2, R>(panel, tile, row, sums) };
        tile += 2;
    }
    if tile < panel.tiles {
        // SAFETY: as above.
        unsafe { block::<CODE, 1, R>(panel, tile, row, sums) };
    }
    R
}

/// # Safety
/// The panel has `R` rows and the tiles up to `tile + T`, and its slices are as long as `multiply` demands.
#[inline]
#[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512vnni,fma")]
unsafe fn block<const CODE: u8, const T: usize, const R: usize>(
    panel: &Panel<'_>,
    tile: usize,
    row: usize,
    sums: &mut [f32],
) {
    let Layout::Groups { code, scales, group } = panel.layout else { return };
    let (tile_bytes, scale_bytes) =
        (panel.layout.tile_bytes(panel.inner), panel.layout.scale_bytes(panel.inner));
    let group_bytes = 2 * code.bits() * group;
    let weights: [*const u8; T] =
        std::array::from_fn(|t| panel.weights[(tile + t) * tile_bytes..].as_ptr());
    let factors: [*const u8; T] =
        std::array::from_fn(|t| panel.scales[(tile + t) * scale_bytes..].as_ptr());
    let digits: [*const i8; R] = std::array::from_fn(|r| panel.rows[row + r].digits.as_ptr());
    let powers: [*const [f32; 2]; R] =
        std::array::from_fn(|r| panel.rows[row + r].factors.as_ptr());
    let mut totals = [[_mm512_setzero_ps(); R]; T];
    for index in 0..panel.inner / group {
        let mut parts = [[[_mm512_setzero_si512(); 3]; R]; T];
        if R <= 2 {
            let at = index * group_bytes + AHEAD;
            // Behind the end of a tile the next one to be read is `T` tiles on.
            let at = if at < tile_bytes { at } else { at + (T - 1) * tile_bytes };
            weights.iter().for_each(|start| ask_for(start.wrapping_add(at), group_bytes));
        }
        for chunk in 0..group / CHUNK {
            let mut open = [[_mm512_setzero_si512(); 4]; T];
            for t in 0..T {
                // SAFETY: chunks of this group, which lies within its tile.
                open[t] =
                    unsafe { quads::<CODE>(weights[t].add(index * group_bytes), group, chunk) };
            }
            for quad in 0..4 {
                for r in 0..R {
                    // SAFETY: a row has 48 bytes of digits for each chunk.
                    let at =
                        unsafe { digits[r].add((index * group + chunk * CHUNK) * 3 + 4 * quad) };
                    for digit in 0..3 {
                        // SAFETY: as above; the four digits need no alignment.
                        let word = unsafe { at.add(digit * CHUNK).cast::<i32>().read_unaligned() };
                        let word = _mm512_set1_epi32(word);
                        for t in 0..T {
                            let part = &mut parts[t][r][digit];
                            *part = _mm512_dpbusd_epi32(*part, open[t][quad], word);
                        }
                    }
                }
            }
        }
        for t in 0..T {
            // SAFETY: a tile has sixteen scales, and biases if need be, for each group.
            let (scale, bias) = unsafe { factor(scales, factors[t].add(index * scales.bytes())) };
            for r in 0..R {
                // SAFETY: a row has two factors for each group.
                let [down, sum] = unsafe { *powers[r].add(index) };
                totals[t][r] = add(totals[t][r], parts[t][r], (scale, bias), (down, sum));
            }
        }
    }
    for t in 0..T {
        for r in 0..R {
            let place = (tile + t) * panel.rows.len() + row + r;
            let into = &mut sums[place * LANES..][..LANES];
            // SAFETY: writes sixteen floats into a slice of sixteen.
            unsafe { _mm512_storeu_ps(into.as_mut_ptr(), totals[t][r]) };
        }
    }
}

/// Brings so many bytes near, without waiting for them. They need not exist.
#[inline]
#[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512vnni,fma")]
fn ask_for(start: *const u8, bytes: usize) {
    for line in (0..bytes).step_by(64) {
        _mm_prefetch::<_MM_HINT_T0>(start.wrapping_add(line).cast());
    }
}

/// The three steps of [`crate::digits`].
#[inline]
#[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512vnni,fma")]
fn add(
    total: __m512,
    [high, middle, low]: [__m512i; 3],
    (scale, bias): (__m512, __m512),
    (down, sum): (f32, f32),
) -> __m512 {
    let low = _mm512_add_epi32(_mm512_slli_epi32::<8>(middle), low);
    let t =
        _mm512_fmadd_ps(_mm512_cvtepi32_ps(high), _mm512_set1_ps(65536.0), _mm512_cvtepi32_ps(low));
    let total = _mm512_fmadd_ps(_mm512_mul_ps(scale, _mm512_set1_ps(down)), t, total);
    _mm512_fmadd_ps(bias, _mm512_set1_ps(sum), total)
}

/// The four quads of a chunk, each integer in its byte.
///
/// # Safety
/// `start` is the first byte of a group of so many columns, and the chunk is within the group.
#[inline]
#[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512vnni,fma")]
unsafe fn quads<const CODE: u8>(start: *const u8, group: usize, chunk: usize) -> [__m512i; 4] {
    // SAFETY: lines of the planes of this group, as the caller promises.
    let line = |at: usize| unsafe { _mm512_loadu_si512(start.add(at).cast()) };
    let mask = |bits: i8| _mm512_set1_epi8(bits);
    // A line of a plane of one bit has two chunks.
    let one = |plane: usize| {
        _mm512_srl_epi16(line(plane + chunk / 2 * 64), _mm_cvtsi32_si128((chunk % 2 * 4) as i32))
    };
    match CODE {
        BITS2 => twos(line(chunk * 64)),
        BITS3 => {
            let (two, one) = (line(chunk * 64), one(4 * group));
            let upper = [
                _mm512_slli_epi16::<2>(one),
                _mm512_slli_epi16::<1>(one),
                one,
                _mm512_srli_epi16::<1>(one),
            ];
            join(twos(two), upper, mask(4))
        }
        BITS4 | FOUR_BIT_FLOATS => {
            let fours = fours(line(chunk * 128), line(chunk * 128 + 64));
            if CODE == BITS4 {
                return fours;
            }
            // SAFETY: reads the sixteen bytes of the table.
            let table = _mm512_broadcast_i32x4(unsafe { _mm_loadu_si128(FP4.as_ptr().cast()) });
            [
                _mm512_shuffle_epi8(table, fours[0]),
                _mm512_shuffle_epi8(table, fours[1]),
                _mm512_shuffle_epi8(table, fours[2]),
                _mm512_shuffle_epi8(table, fours[3]),
            ]
        }
        BITS5 => {
            let one = one(8 * group);
            let upper = [
                _mm512_slli_epi16::<4>(one),
                _mm512_slli_epi16::<3>(one),
                _mm512_slli_epi16::<2>(one),
                _mm512_slli_epi16::<1>(one),
            ];
            join(fours(line(chunk * 128), line(chunk * 128 + 64)), upper, mask(16))
        }
        BITS6 => {
            let two = line(8 * group + chunk * 64);
            let upper = [
                _mm512_slli_epi16::<4>(two),
                _mm512_slli_epi16::<2>(two),
                two,
                _mm512_srli_epi16::<2>(two),
            ];
            join(fours(line(chunk * 128), line(chunk * 128 + 64)), upper, mask(48))
        }
        _ => [
            line(chunk * 256),
            line(chunk * 256 + 64),
            line(chunk * 256 + 128),
            line(chunk * 256 + 192),
        ],
    }
}

/// `lower | upper & mask`.
#[inline]
#[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512vnni,fma")]
fn join(lower: [__m512i; 4], upper: [__m512i; 4], mask: __m512i) -> [__m512i; 4] {
    [
        _mm512_ternarylogic_epi32::<0xf8>(lower[0], upper[0], mask),
        _mm512_ternarylogic_epi32::<0xf8>(lower[1], upper[1], mask),
        _mm512_ternarylogic_epi32::<0xf8>(lower[2], upper[2], mask),
        _mm512_ternarylogic_epi32::<0xf8>(lower[3], upper[3], mask),
    ]
}

#[inline]
#[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512vnni,fma")]
fn twos(line: __m512i) -> [__m512i; 4] {
    let mask = _mm512_set1_epi8(3);
    [
        _mm512_and_si512(line, mask),
        _mm512_and_si512(_mm512_srli_epi16::<2>(line), mask),
        _mm512_and_si512(_mm512_srli_epi16::<4>(line), mask),
        _mm512_and_si512(_mm512_srli_epi16::<6>(line), mask),
    ]
}

#[inline]
#[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512vnni,fma")]
fn fours(first: __m512i, second: __m512i) -> [__m512i; 4] {
    let mask = _mm512_set1_epi8(15);
    [
        _mm512_and_si512(first, mask),
        _mm512_and_si512(_mm512_srli_epi16::<4>(first), mask),
        _mm512_and_si512(second, mask),
        _mm512_and_si512(_mm512_srli_epi16::<4>(second), mask),
    ]
}

/// Scales and biases of sixteen outputs.
///
/// # Safety
/// There are `scales.bytes()` bytes from `at` on.
#[inline]
#[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512vnni,fma")]
unsafe fn factor(scales: Scales, at: *const u8) -> (__m512, __m512) {
    // SAFETY: as the caller promises; each arm reads `scales.bytes()` bytes.
    unsafe {
        match scales {
            Scales::Affine(FloatType::F32) => {
                (_mm512_loadu_ps(at.cast()), _mm512_loadu_ps(at.add(64).cast()))
            }
            Scales::Affine(FloatType::Bf16) => {
                let wide = |at: *const u8| {
                    let halves = _mm512_cvtepu16_epi32(_mm256_loadu_si256(at.cast()));
                    _mm512_castsi512_ps(_mm512_slli_epi32::<16>(halves))
                };
                (wide(at), wide(at.add(32)))
            }
            Scales::Affine(FloatType::F16) => (
                _mm512_cvtph_ps(_mm256_loadu_si256(at.cast())),
                _mm512_cvtph_ps(_mm256_loadu_si256(at.add(32).cast())),
            ),
            Scales::E8m0 | Scales::E4m3 => {
                let bytes = _mm512_cvtepu8_epi32(_mm_loadu_si128(at.cast()));
                let half = if scales == Scales::E8m0 { e8m0(bytes) } else { e4m3(bytes) };
                (half, _mm512_mul_ps(half, _mm512_set1_ps(-12.0)))
            }
        }
    }
}

/// Half of the powers of two.
#[inline]
#[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512vnni,fma")]
fn e8m0(bytes: __m512i) -> __m512 {
    let bits = _mm512_max_epu32(_mm512_slli_epi32::<23>(bytes), _mm512_set1_epi32(0x0040_0000));
    _mm512_mul_ps(_mm512_castsi512_ps(bits), _mm512_set1_ps(0.5))
}

/// Half of the values: their exponent is moved by 119 with a product, which makes subnormals normal on the way.
#[inline]
#[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512vnni,fma")]
fn e4m3(bytes: __m512i) -> __m512 {
    let magnitude = _mm512_and_si512(bytes, _mm512_set1_epi32(0x7f));
    let sign = _mm512_and_si512(_mm512_slli_epi32::<24>(bytes), _mm512_set1_epi32(i32::MIN));
    let bits = _mm512_or_si512(_mm512_slli_epi32::<20>(magnitude), sign);
    _mm512_mul_ps(_mm512_castsi512_ps(bits), _mm512_set1_ps(f32::from_bits((127 + 119) << 23)))
}

#[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512vnni,fma")]
fn floats(panel: &Panel<'_>, sums: &mut [f32]) {
    match panel.layout {
        Layout::Floats(FloatType::F32) => floats_of::<F32>(panel, sums),
        Layout::Floats(FloatType::Bf16) => floats_of::<BF16>(panel, sums),
        Layout::Floats(FloatType::F16) => floats_of::<F16>(panel, sums),
        Layout::Groups { .. } => {}
    }
}

#[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512vnni,fma")]
fn floats_of<const KIND: u8>(panel: &Panel<'_>, sums: &mut [f32]) {
    match panel.rows.len() {
        1 => float_tiles::<KIND, 4, 1>(panel, sums),
        2 => float_tiles::<KIND, 4, 2>(panel, sums),
        3 => float_tiles::<KIND, 4, 3>(panel, sums),
        4 => float_tiles::<KIND, 4, 4>(panel, sums),
        5 => float_tiles::<KIND, 2, 5>(panel, sums),
        6 => float_tiles::<KIND, 2, 6>(panel, sums),
        7 => float_tiles::<KIND, 2, 7>(panel, sums),
        8 => float_tiles::<KIND, 2, 8>(panel, sums),
        _ => {}
    }
}

#[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512vnni,fma")]
fn float_tiles<const KIND: u8, const T: usize, const R: usize>(
    panel: &Panel<'_>,
    sums: &mut [f32],
) {
    let mut tile = 0;
    while tile + T <= panel.tiles {
        // SAFETY: `multiply` has compared the sizes of the panel, and tiles up to `tile + T` and `R` rows are in it.
        unsafe { float_block::<KIND, T, R>(panel, tile, sums) };
        tile += T;
    }
    while tile + 2 <= panel.tiles {
        // SAFETY: as above.
        unsafe { float_block::<KIND, 2, R>(panel, tile, sums) };
        tile += 2;
    }
    if tile < panel.tiles {
        // SAFETY: as above.
        unsafe { float_block::<KIND, 1, R>(panel, tile, sums) };
    }
}

/// # Safety
/// As for `block`.
#[inline]
#[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512vnni,fma")]
unsafe fn float_block<const KIND: u8, const T: usize, const R: usize>(
    panel: &Panel<'_>,
    tile: usize,
    sums: &mut [f32],
) {
    let tile_bytes = panel.layout.tile_bytes(panel.inner);
    let weights: [*const u8; T] =
        std::array::from_fn(|t| panel.weights[(tile + t) * tile_bytes..].as_ptr());
    let x: [*const f32; R] = std::array::from_fn(|r| panel.rows[r].floats.as_ptr());
    let mut totals = [[_mm512_setzero_ps(); R]; T];
    let pairs = panel.inner / 2;
    for pair in 0..pairs {
        let mut open = [[_mm512_setzero_ps(); 2]; T];
        for t in 0..T {
            // SAFETY: both columns are within the tile and the rows.
            open[t] = unsafe { columns::<KIND>(weights[t], pair) };
        }
        for column in 0..2 {
            for r in 0..R {
                // SAFETY: as above.
                let x = _mm512_set1_ps(unsafe { *x[r].add(2 * pair + column) });
                for t in 0..T {
                    totals[t][r] = _mm512_fmadd_ps(open[t][column], x, totals[t][r]);
                }
            }
        }
    }
    if panel.inner % 2 == 1 {
        for t in 0..T {
            // SAFETY: the last column; 16-bit tiles have a padded column behind it, of f32 one column is read.
            let open = unsafe { last::<KIND>(weights[t], pairs) };
            for r in 0..R {
                let x = _mm512_set1_ps(panel.rows[r].floats[2 * pairs]);
                totals[t][r] = _mm512_fmadd_ps(open, x, totals[t][r]);
            }
        }
    }
    for t in 0..T {
        for r in 0..R {
            let into = &mut sums[((tile + t) * R + r) * LANES..][..LANES];
            // SAFETY: writes sixteen floats into a slice of sixteen.
            unsafe { _mm512_storeu_ps(into.as_mut_ptr(), totals[t][r]) };
        }
    }
}

/// # Safety
/// The tile has both columns of the pair.
#[inline]
#[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512vnni,fma")]
unsafe fn columns<const KIND: u8>(tile: *const u8, pair: usize) -> [__m512; 2] {
    // SAFETY: as the caller promises.
    unsafe {
        match KIND {
            F32 => [
                _mm512_loadu_ps(tile.add(pair * 128).cast()),
                _mm512_loadu_ps(tile.add(pair * 128 + 64).cast()),
            ],
            BF16 => {
                let halves = _mm512_loadu_si512(tile.add(pair * 64).cast());
                let upper =
                    _mm512_and_si512(halves, _mm512_set1_epi32(0xffff_0000_u32.cast_signed()));
                [_mm512_castsi512_ps(_mm512_slli_epi32::<16>(halves)), _mm512_castsi512_ps(upper)]
            }
            _ => [
                _mm512_cvtph_ps(_mm256_loadu_si256(tile.add(pair * 64).cast())),
                _mm512_cvtph_ps(_mm256_loadu_si256(tile.add(pair * 64 + 32).cast())),
            ],
        }
    }
}

/// The first column of a pair whose second is not there.
///
/// # Safety
/// The tile has the first column of the pair.
#[inline]
#[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512vnni,fma")]
unsafe fn last<const KIND: u8>(tile: *const u8, pair: usize) -> __m512 {
    // SAFETY: as the caller promises; tiles of 16 bits are padded to whole pairs.
    unsafe {
        if KIND == F32 {
            _mm512_loadu_ps(tile.add(pair * 128).cast())
        } else {
            columns::<KIND>(tile, pair)[0]
        }
    }
}
