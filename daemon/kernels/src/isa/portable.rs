//! Plain Rust: what every processor runs, and what the other variants are compared with.

use super::{Kernels, Panel, Variant};
use crate::activation::Activation;
use crate::buffer::Line;
use crate::digits::{CHUNK, split};
use crate::layout::{Code, FP4, FloatType, GROUP_MAX, LANES, Layout, Scales};
use crate::matrix::{factor, float};

pub(super) static KERNELS: Kernels =
    Kernels { variant: Variant::Portable, groups, floats, digits, gate };

/// The integers of a group of a tile, by columns: what compilers make the instructions of any processor from.
type Open = [[i16; LANES]; GROUP_MAX];

fn digits(x: &[f32], group: usize, digits: &mut [i8], factors: &mut [[f32; 2]]) {
    split(x, group, digits, factors);
}

fn gate(activation: Activation, gate: &mut [f32], up: &[f32]) {
    activation.apply(gate, up);
}

fn groups(panel: &Panel<'_>, sums: &mut [f32]) {
    let Layout::Groups { code, scales, group } = panel.layout else { return };
    sums.fill(0.0);
    let groups = panel.inner / group;
    let weights = panel.weights.chunks_exact(panel.layout.tile_bytes(panel.inner));
    let factors = panel.scales.chunks_exact(panel.layout.scale_bytes(panel.inner));
    let sums = sums.chunks_exact_mut((panel.rows.len() * LANES).max(1));
    for ((weights, factors), sums) in weights.zip(factors).zip(sums) {
        let weights = weights.chunks_exact(2 * code.bits() * group);
        let factors = factors.chunks_exact(scales.bytes());
        for (index, (weights, factors)) in weights.zip(factors).enumerate().take(groups) {
            tile_group(panel, (code, scales, group), index, (weights, factors), sums);
        }
    }
}

/// Adds one group of one tile to the sums of all rows.
fn tile_group(
    panel: &Panel<'_>,
    (code, scales, group): (Code, Scales, usize),
    index: usize,
    (weights, factors): (&[u8], &[u8]),
    sums: &mut [f32],
) {
    let mut open = [[0; LANES]; GROUP_MAX];
    open_group(code, weights, group, &mut open);
    let factors: [(f32, f32); LANES] = std::array::from_fn(|lane| factor(scales, factors, lane));
    for (row, sums) in panel.rows.iter().zip(sums.as_chunks_mut::<LANES>().0) {
        let digits = &row.digits[index * group * 3..][..group * 3];
        let [down, sum] = row.factors[index];
        let [high, middle, low] = dots(&open[..group], digits);
        for lane in 0..LANES {
            let t = (high[lane] as f32).mul_add(65536.0, (256 * middle[lane] + low[lane]) as f32);
            let (scale, bias) = factors[lane];
            sums[lane] = (scale * down).mul_add(t, sums[lane]);
            sums[lane] = bias.mul_add(sum, sums[lane]);
        }
    }
}

/// Takes the planes of a group apart.
fn open_group(code: Code, weights: &[u8], group: usize, open: &mut Open) {
    let mut start = 0;
    for plane in code.planes() {
        let lines = weights[start..start + plane.bytes(group)].as_chunks::<{ Line::BYTES }>().0;
        let mask = (1_u32 << plane.bits) - 1;
        for (columns, line) in open.chunks_exact_mut(4 * plane.quads()).zip(lines) {
            let mut words = [0; LANES];
            for (word, bytes) in words.iter_mut().zip(line.as_chunks::<4>().0) {
                *word = u32::from_le_bytes(*bytes);
            }
            for (place, column) in columns.iter_mut().enumerate() {
                let down = 8 * (place % 4) + plane.bits * (place / 4);
                for (code, word) in column.iter_mut().zip(&words) {
                    *code |= ((word >> down & mask) << plane.shift) as i16;
                }
            }
        }
        start += plane.bytes(group);
    }
    if code == Code::Fp4 {
        for code in open[..group].as_flattened_mut() {
            *code = i16::from(FP4[usize::from(code.cast_unsigned() & 15)]);
        }
    }
}

/// Σ u·h, Σ u·m and Σ u·l of sixteen outputs.
fn dots(open: &[[i16; LANES]], digits: &[i8]) -> [[i32; LANES]; 3] {
    let mut sums = [[0; LANES]; 3];
    let chunks = open.as_chunks::<CHUNK>().0.iter().zip(digits.as_chunks::<{ 3 * CHUNK }>().0);
    for (open, digits) in chunks {
        for (digits, sums) in digits.as_chunks::<CHUNK>().0.iter().zip(&mut sums) {
            for (column, &digit) in open.iter().zip(digits) {
                for (sum, &code) in sums.iter_mut().zip(column) {
                    *sum += i32::from(code) * i32::from(digit);
                }
            }
        }
    }
    sums
}

fn floats(panel: &Panel<'_>, sums: &mut [f32]) {
    let Layout::Floats(kind) = panel.layout else { return };
    sums.fill(0.0);
    let bytes = panel.layout.tile_bytes(panel.inner);
    let sums = sums.chunks_exact_mut((panel.rows.len() * LANES).max(1));
    for (weights, sums) in panel.weights.chunks_exact(bytes).zip(sums) {
        for column in 0..panel.inner {
            let widened = widen(kind, weights, column);
            for (row, sums) in panel.rows.iter().zip(sums.as_chunks_mut::<LANES>().0) {
                for (sum, weight) in sums.iter_mut().zip(widened) {
                    *sum = weight.mul_add(row.floats[column], *sum);
                }
            }
        }
    }
}

fn widen(kind: FloatType, weights: &[u8], column: usize) -> [f32; LANES] {
    std::array::from_fn(|lane| float(kind, weights, column, lane))
}
