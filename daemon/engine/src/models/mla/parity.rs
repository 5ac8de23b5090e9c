//! Latent attention in the order of mlx-lm 0.32.0: for one token in the space of latents, for several with keys and values made
//! of all latents. Products of rotated dimensions go in as an additive mask.

use mlx_rs::{
    Array, Dtype,
    fast::{ScaledDotProductAttentionMask, scaled_dot_product_attention},
    ops::{matmul, select},
};

use super::{Layer, Parts, indexer::Look};
use crate::{nn::Result, ops::like};

impl Layer {
    /// `[1, heads, tokens, value]`.
    pub(super) fn attend_like_mlx_lm(&self, parts: Parts, look: Look<'_>) -> Result<Array> {
        let scale = self.shape.scale;
        let Parts { queries: (plain, rotated), mut latents, mut keys } = parts;
        if let Look::Tokens(chosen, _) = look {
            let chosen = chosen.reshape(&[-1])?;
            latents = latents.take_axis(&chosen, 2)?;
            keys = keys.take_axis(&chosen, 2)?;
        }
        let rotated = rotated.multiply(like(&rotated, scale)?)?;
        let mut mask = matmul(&rotated, keys.swap_axes(-1, -2)?)?;
        if let Look::Mask(visible) = look {
            mask = select(visible, &mask, like(&mask, least(mask.dtype()))?)?;
        }
        let attend = |queries: &Array, keys: &Array, values: &Array| {
            let mask = ScaledDotProductAttentionMask::Array(&mask);
            scaled_dot_product_attention(queries, keys, values, scale, mask, None)
        };
        if plain.dim(2) == 1 {
            let y = attend(&self.embed.forward(&plain)?, &latents, &latents)?;
            return self.unembed.forward(&y);
        }
        let keys = self.embed.backward(&latents)?;
        attend(&plain, &keys, &self.unembed.forward(&latents)?)
    }
}

/// The least number of the type, as fp32.
fn least(dtype: Dtype) -> f32 {
    match dtype {
        Dtype::Float16 => -65504.0,
        // The greatest bf16, with 8 bits of precision.
        Dtype::Bfloat16 => f32::from_bits(0xff7f_0000),
        _ => f32::MIN,
    }
}
