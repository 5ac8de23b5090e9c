//! Rotary positions.
//!
//! Periods are computed by MLX, in mlx-lm's order, so that they are the same to the last bit on every device.

use std::{cell::OnceCell, sync::Arc};

use mlx_rs::{
    Array, fast,
    ops::{clip, concatenate, select},
};

use super::{Result, tiles::numbers};
use crate::{
    config::{self, Llama3, Scaling, Yarn},
    ops::slice,
};

/// Rotates queries and keys by their positions.
pub(crate) struct Rope {
    dims: i32,
    interleaved: bool,
    base: f64,
    scaling: Scaling,
    /// Periods of the pairs in tokens per radian, where they are not powers of the base; made when they are first needed.
    periods: OnceCell<Array>,
    /// The same for our own kernels, where it does not depend on the length of the text.
    kernel: OnceCell<Arc<kernels::rope::Rope>>,
}

impl Rope {
    pub(crate) fn new(rope: &config::Rope) -> Rope {
        Rope {
            dims: rope.dims as i32,
            interleaved: rope.interleaved,
            base: rope.base,
            scaling: rope.scaling.clone(),
            periods: OnceCell::new(),
            kernel: OnceCell::new(),
        }
    }

    /// `x` is `[1, heads, tokens, head_dim]`, its first token at position `offset`.
    pub(crate) fn forward(&self, x: &Array, offset: i32) -> Result<Array> {
        let Some((base, scale)) = self.base_and_scale(x.dim(2) + offset) else {
            return self.by_periods(x, offset);
        };
        let (base, scale) = (Some(base as f32), scale as f32);
        fast::rope(x, self.dims, self.interleaved, base, scale, offset, None)
    }

    /// The rotation for our own kernels, of a text that has `len` tokens after the pass.
    pub(crate) fn kernel(&self, len: i32) -> Result<Arc<kernels::rope::Rope>> {
        let varies = matches!(self.scaling, Scaling::Dynamic { .. });
        if let Some(kernel) = self.kernel.get().filter(|_| !varies) {
            return Ok(kernel.clone());
        }
        // MLX's own numbers: a difference in the last bit is multiplied by the position.
        let (frequencies, scale) = match self.base_and_scale(len) {
            Some((base, scale)) => {
                let pairs = self.dims / 2;
                let steps = Array::arange::<i32, f32>(0, -pairs, -1)?;
                let step = Array::from_f32((base as f32).ln() / pairs as f32);
                (steps.multiply(step)?.exp()?, scale)
            }
            None => (self.kept_periods()?.reciprocal()?, 1.0),
        };
        let frequencies = numbers(&frequencies)?.to_vec();
        let (scale, input) = (scale as f32, self.input() as f32);
        let kernel = kernels::rope::Rope::new(frequencies, self.interleaved, scale, input);
        let kernel = Arc::new(kernel);
        Ok(if varies { kernel } else { self.kernel.get_or_init(|| kernel).clone() })
    }

    /// The base, and what positions are multiplied with; `None`: periods are not powers of a base.
    fn base_and_scale(&self, len: i32) -> Option<(f64, f64)> {
        match self.scaling {
            Scaling::None => Some((self.base, 1.0)),
            Scaling::Linear { factor } => Some((self.base, 1.0 / factor)),
            Scaling::Dynamic { factor, context } => {
                let context = context as f64;
                let len = f64::from(len).max(context);
                let dims = f64::from(self.dims);
                let growth = (factor * len / context - (factor - 1.0)).powf(dims / (dims - 2.0));
                Some((self.base * growth, 1.0))
            }
            Scaling::Llama3(_) | Scaling::Yarn(_) | Scaling::Long { .. } => None,
        }
    }

    /// What rotated dimensions are multiplied with.
    fn input(&self) -> f64 {
        match self.scaling {
            Scaling::Yarn(Yarn { input, .. }) | Scaling::Long { input, .. } => input,
            _ => 1.0,
        }
    }

    fn kept_periods(&self) -> Result<Array> {
        if let Some(periods) = self.periods.get() {
            return Ok(periods.clone());
        }
        let periods = self.periods()?;
        Ok(self.periods.get_or_init(|| periods).clone())
    }

    fn by_periods(&self, x: &Array, offset: i32) -> Result<Array> {
        let (periods, input) = (self.kept_periods()?, self.input());
        let scaled = if input == 1.0 { x.clone() } else { self.multiplied(x, input)? };
        fast::rope(&scaled, self.dims, self.interleaved, None, 1.0, offset, &periods)
    }

    /// `x` with the dimensions that are rotated multiplied by `factor`.
    fn multiplied(&self, x: &Array, factor: f64) -> Result<Array> {
        let factor = Array::from_f32(factor as f32).as_dtype(x.dtype())?;
        let (heads, tokens, width) = (x.dim(1), x.dim(2), x.dim(3));
        if self.dims == width {
            return x.multiply(factor);
        }
        let rotated = slice(x, &[0; 4], &[1, heads, tokens, self.dims])?;
        let rest = slice(x, &[0, 0, 0, self.dims], &[1, heads, tokens, width])?;
        concatenate(&[rotated.multiply(factor)?, rest], -1)
    }

    /// Tokens per radian of each pair.
    pub(crate) fn periods(&self) -> Result<Array> {
        let exponents = Array::arange::<i32, f32>(0, self.dims, 2)?;
        let exponents = exponents.divide(scalar(f64::from(self.dims)))?;
        let plain = scalar(self.base).power(&exponents)?;
        match &self.scaling {
            Scaling::Llama3(llama3) => llama3_periods(&plain, *llama3),
            Scaling::Yarn(yarn) => yarn_periods(&plain, *yarn),
            Scaling::Long { factors, .. } => {
                let factors: Vec<f32> = factors.iter().map(|&factor| factor as f32).collect();
                Array::from_slice(&factors, &[factors.len() as i32]).multiply(&plain)
            }
            _ => Ok(plain),
        }
    }
}

/// Long wavelengths are stretched, short ones are not, those between partly.
fn llama3_periods(plain: &Array, llama3: Llama3) -> Result<Array> {
    let Llama3 { factor, low, high, context_original } = llama3;
    let wavelengths = scalar(2.0 * std::f64::consts::PI).multiply(plain)?;
    let (longest, shortest) = (scalar(context_original / low), scalar(context_original / high));
    let stretched = select(wavelengths.gt(&longest)?, plain.multiply(scalar(factor))?, plain)?;
    let between = wavelengths.gt(&shortest)?.logical_and(wavelengths.lt(&longest)?)?;
    let smooth = scalar(context_original).divide(&wavelengths)?.subtract(scalar(low))?;
    let smooth = smooth.divide(scalar(high - low))?;
    let weights = scalar(1.0).subtract(&smooth)?.divide(scalar(factor))?.add(&smooth)?;
    select(between, stretched.divide(weights)?, &stretched)
}

fn yarn_periods(plain: &Array, yarn: Yarn) -> Result<Array> {
    let (low, high) = yarn.ramp;
    let stretched = scalar(yarn.factor).multiply(plain)?;
    let ramp = Array::arange::<i32, f32>(0, plain.dim(0), 1)?.subtract(scalar(low))?;
    let ramp = clip(ramp.divide(scalar(high - low))?, (scalar(0.0), scalar(1.0)))?;
    let kept = scalar(1.0).subtract(ramp)?;
    let weights = stretched.multiply(&kept)?.add(plain.multiply(scalar(1.0).subtract(&kept)?)?)?;
    stretched.multiply(plain)?.divide(weights)
}

fn scalar(value: f64) -> Array {
    Array::from_f32(value as f32)
}
