//! Values as the training's low precision rounded them, computed in fp32.

use mlx_rs::{
    Array, Dtype,
    ops::{self, clip, from_fp8, maximum, to_fp8},
};

use crate::nn::Result;

/// The greatest number of the 8-bit format e4m3.
const FP8_MAX: f32 = 448.0;
/// The greatest number of the 4-bit format e2m1, whose magnitudes are these.
const FP4_MAX: f32 = 6.0;
const FP4: [f32; 8] = [0.0, 0.5, 1.0, 1.5, 2.0, 3.0, 4.0, 6.0];

/// The scale of a block of 4-bit numbers.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Scale {
    /// A power of two.
    PowerOfTwo,
    /// An 8-bit number.
    Fp8,
}

/// Rounds the last axis to e4m3, in blocks of 32 with powers of two as scales. Axes that blocks do not fill stay as they are.
pub(super) fn fp8(x: &Array) -> Result<Array> {
    in_blocks(x, 32, |blocks| {
        let greatest = greatest(blocks, 1e-4)?;
        let scale = power_of_two(&greatest.divide(Array::from_f32(FP8_MAX))?)?;
        let rounded = clip(&blocks.divide(&scale)?, (-FP8_MAX, FP8_MAX))?;
        from_fp8(to_fp8(&rounded)?, Dtype::Float32)?.multiply(&scale)
    })
}

/// Rounds the last axis to e2m1, in blocks of `block`.
pub(super) fn fp4(x: &Array, block: i32, scale: Scale) -> Result<Array> {
    in_blocks(x, block, |blocks| {
        let least_exponent = if scale == Scale::Fp8 { -9 } else { -126 };
        let greatest = greatest(blocks, FP4_MAX * 2f32.powi(least_exponent))?;
        let steps = greatest.divide(Array::from_f32(FP4_MAX))?;
        let scale = match scale {
            Scale::PowerOfTwo => power_of_two(&steps)?,
            Scale::Fp8 => from_fp8(to_fp8(&steps)?, Dtype::Float32)?,
        };
        round_fp4(&clip(&blocks.divide(&scale)?, (-FP4_MAX, FP4_MAX))?)?.multiply(&scale)
    })
}

fn in_blocks(x: &Array, block: i32, round: impl FnOnce(&Array) -> Result<Array>) -> Result<Array> {
    let shape = x.shape();
    let width = x.dim(-1);
    if width % block != 0 {
        return Ok(x.clone());
    }
    let mut blocks = shape[..shape.len() - 1].to_vec();
    blocks.extend([width / block, block]);
    let rounded = round(&x.as_dtype(Dtype::Float32)?.reshape(&blocks)?)?;
    rounded.reshape(shape)?.as_dtype(x.dtype())
}

/// The greatest magnitude of each block, at least `floor`.
fn greatest(blocks: &Array, floor: f32) -> Result<Array> {
    maximum(&blocks.abs()?.max_axis(-1, true)?, Array::from_f32(floor))
}

fn power_of_two(x: &Array) -> Result<Array> {
    Array::from_f32(2.0).power(&ops::ceil(&x.log2()?)?)
}

/// To the nearest magnitude of e2m1; halfway to the even one.
fn round_fp4(x: &Array) -> Result<Array> {
    let magnitude = x.abs()?;
    let mut index = ops::zeros_dtype(magnitude.shape(), Dtype::Int32)?;
    for bound in [0.25, 1.25, 2.5, 5.0] {
        index = index.add(magnitude.gt(Array::from_f32(bound))?.as_dtype(Dtype::Int32)?)?;
    }
    for bound in [0.75, 1.75, 3.5] {
        index = index.add(magnitude.ge(Array::from_f32(bound))?.as_dtype(Dtype::Int32)?)?;
    }
    let table = Array::from_slice(&FP4, &[FP4.len() as i32]);
    ops::sign(x)?.multiply(table.take(&index)?)
}
