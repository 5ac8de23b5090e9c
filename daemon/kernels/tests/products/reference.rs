//! What a matrix means, read from its bytes one weight at a time, in f64.

use kernels::{FloatType, Format};

use crate::random::Weights;

/// One weight, and the size of the terms that make it up: a product's error is measured against that.
pub(crate) fn weight(weights: &Weights, expert: usize, row: usize, column: usize) -> (f64, f64) {
    let row = expert * weights.out + row;
    let at = row * weights.inner + column;
    match weights.format {
        Format::Affine { bits, group } => {
            let bits = usize::from(bits);
            let code = (0..bits).map(|bit| {
                let place = at * bits + bit;
                u32::from(weights.weight[place / 8] >> (place % 8) & 1) << bit
            });
            let code = f64::from(code.sum::<u32>());
            let scale = number(&weights.scales, weights.scale_type, at / group);
            let bias = number(&weights.biases, weights.scale_type, at / group);
            (scale * code + bias, scale.abs() * code + bias.abs())
        }
        Format::Mxfp4 => with_size(e2m1(&weights.weight, at) * power(weights.scales[at / 32]), 3.0),
        Format::Nvfp4 => with_size(e2m1(&weights.weight, at) * e4m3(weights.scales[at / 16]), 3.0),
        Format::Mxfp8 => with_size(e4m3(weights.weight[at]) * power(weights.scales[at / 32]), 1.0),
        Format::Float(kind) => with_size(number(&weights.weight, kind, at), 1.0),
    }
}

fn with_size(value: f64, terms: f64) -> (f64, f64) {
    (value, value.abs() * terms)
}

/// One output of one row, and the sum of the sizes of its terms.
pub(crate) fn product(weights: &Weights, expert: usize, row: usize, x: &[f32]) -> (f64, f64) {
    let terms = x.iter().enumerate().map(|(column, &x)| {
        let (value, size) = weight(weights, expert, row, column);
        (value * f64::from(x), size * f64::from(x).abs())
    });
    terms.fold((0.0, 0.0), |sum, term| (sum.0 + term.0, sum.1 + term.1))
}

fn number(bytes: &[u8], kind: FloatType, at: usize) -> f64 {
    match kind {
        FloatType::F32 => {
            let bytes = [bytes[4 * at], bytes[4 * at + 1], bytes[4 * at + 2], bytes[4 * at + 3]];
            f64::from(f32::from_le_bytes(bytes))
        }
        FloatType::Bf16 => minifloat(half(bytes, at), 8, 7),
        FloatType::F16 => minifloat(half(bytes, at), 5, 10),
    }
}

fn half(bytes: &[u8], at: usize) -> u32 {
    u32::from(u16::from_le_bytes([bytes[2 * at], bytes[2 * at + 1]]))
}

/// A finite number with a sign, so many bits of exponent and so many of fraction.
fn minifloat(bits: u32, exponent_bits: u32, fraction_bits: u32) -> f64 {
    let exponent = (bits >> fraction_bits & ((1 << exponent_bits) - 1)) as i32;
    let fraction = f64::from(bits & ((1 << fraction_bits) - 1)) / f64::from(1 << fraction_bits);
    let bias = (1 << (exponent_bits - 1)) - 1;
    let magnitude = if exponent == 0 {
        fraction * 2_f64.powi(1 - bias)
    } else {
        (1.0 + fraction) * 2_f64.powi(exponent - bias)
    };
    if bits >> (exponent_bits + fraction_bits) & 1 == 1 { -magnitude } else { magnitude }
}

fn e2m1(bytes: &[u8], at: usize) -> f64 {
    minifloat(u32::from(bytes[at / 2] >> (at % 2 * 4) & 15), 2, 1)
}

fn e4m3(bits: u8) -> f64 {
    minifloat(u32::from(bits), 4, 3)
}

fn power(bits: u8) -> f64 {
    2_f64.powi(i32::from(bits) - 127)
}
