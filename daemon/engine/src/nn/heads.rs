//! One linear map per head: what turns queries into the space of latents, and latents into values.

use mlx_rs::{Array, error::Exception, ops::matmul};

use super::{Result, Weight};

/// `heads` matrices `[out, in]`.
pub(crate) struct PerHead {
    pub(crate) weight: Weight,
}

impl PerHead {
    /// `x`, `[1, heads, tokens, in]`, times each head's `Wᵀ`: `[1, heads, tokens, out]`.
    pub(crate) fn forward(&self, x: &Array) -> Result<Array> {
        match &self.weight {
            Weight::Plain(weight) => matmul(x, weight),
            Weight::Packed(packed) => packed.times(x),
            Weight::Tiles(tiled) => {
                let heads: Vec<u32> = (0..tiled.matrix.experts() as u32).collect();
                tiled.gathered(x, &Array::from_slice(&heads, &[1, heads.len() as i32]))
            }
        }
    }

    /// `x`, `[1, heads or 1, tokens, out]`, times each head's `W`: `[1, heads, tokens, in]`.
    pub(crate) fn backward(&self, x: &Array) -> Result<Array> {
        match &self.weight {
            Weight::Plain(weight) => matmul(x, weight.swap_axes(-1, -2)?),
            Weight::Packed(packed) => packed.times_untransposed(x),
            Weight::Tiles(_) => Err(Exception::custom("tiles are multiplied from one side alone")),
        }
    }
}
