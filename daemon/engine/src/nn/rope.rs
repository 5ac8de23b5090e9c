//! Rotary positions.

use mlx_rs::{Array, fast};

use super::Result;
use crate::config;

/// Rotates queries and keys by their positions.
pub(crate) struct Rope {
    dims: i32,
    interleaved: bool,
    base: Option<f32>,
    scale: f32,
    /// Periods of the pairs, where they are not powers of the base.
    frequencies: Option<Array>,
}

impl Rope {
    pub(crate) fn new(rope: &config::Rope) -> Rope {
        let frequencies = rope.llama3.map(|llama3| {
            let frequencies = llama3_frequencies(rope.dims, rope.base, llama3);
            Array::from_slice(&frequencies, &[frequencies.len() as i32])
        });
        Rope {
            dims: rope.dims as i32,
            interleaved: rope.interleaved,
            base: frequencies.is_none().then_some(rope.base),
            scale: rope.scale,
            frequencies,
        }
    }

    /// `x` is `[1, heads, tokens, head_dim]`, its first token at position `offset`.
    pub(crate) fn forward(&self, x: &Array, offset: i32) -> Result<Array> {
        fast::rope(
            x,
            self.dims,
            self.interleaved,
            self.base,
            self.scale,
            offset,
            self.frequencies.as_ref(),
        )
    }
}

/// Long wavelengths are stretched, short ones are not, those between partly.
fn llama3_frequencies(dims: usize, base: f32, llama3: config::Llama3) -> Vec<f32> {
    let config::Llama3 { factor, low, high, context_original } = llama3;
    let plain = (0..dims).step_by(2).map(|dim| base.powf(dim as f32 / dims as f32));
    let scaled = plain.map(|frequency| {
        let wavelength = 2.0 * std::f32::consts::PI * frequency;
        if wavelength > context_original / low {
            frequency * factor
        } else if wavelength > context_original / high {
            let smooth = (context_original / wavelength - low) / (high - low);
            frequency / ((1.0 - smooth) / factor + smooth)
        } else {
            frequency
        }
    });
    scaled.collect()
}
