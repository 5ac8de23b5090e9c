//! Latent attention in one order for any number of tokens.
//!
//! All heads look at one key per token, its latent and its rotated part, so the queries of all heads and tokens are rows of one
//! product. Keys and values are never made. Every row is computed as if it were alone, so logits do not depend on how a text
//! was cut into passes as long as the products do not (MLX's own kernels for the CPU, and its reference BLAS; OpenBLAS and
//! GPUs choose their blocks by size).

use mlx_rs::{
    Array,
    ops::{matmul, select, softmax_axis},
};

use super::{Layer, Parts, indexer::Look};
use crate::{nn::Result, ops::like};

impl Layer {
    /// `[1, heads, tokens, value]`.
    pub(super) fn attend_uniformly(&self, parts: Parts, look: Look<'_>) -> Result<Array> {
        let (heads, latent, scale) = (self.shape.heads, self.shape.latent, self.shape.scale);
        let Parts { queries: (plain, rotated), latents, keys } = parts;
        let visible = match look {
            Look::All => None,
            Look::Mask(visible) => Some(visible),
            Look::Tokens(chosen, visible) => {
                let queries = (self.embed.forward(&plain)?, rotated);
                return self.attend_to_chosen(queries, (latents, keys), chosen, visible);
            }
        };
        let (tokens, len) = (plain.dim(2), latents.dim(2));
        let rows = |queries: &Array| -> Result<Array> {
            let scaled = queries.multiply(like(queries, scale)?)?;
            scaled.reshape(&[1, 1, heads * tokens, queries.dim(3)])
        };
        let by_content = matmul(&rows(&self.embed.forward(&plain)?)?, latents.swap_axes(-1, -2)?)?;
        let by_place = matmul(&rows(&rotated)?, keys.swap_axes(-1, -2)?)?;
        let mut scores = by_content.add(by_place)?.reshape(&[1, heads, tokens, len])?;
        if let Some(visible) = visible {
            scores = select(visible, &scores, like(&scores, f32::NEG_INFINITY)?)?;
        }
        let weights = softmax_axis(&scores, -1, true)?.reshape(&[1, 1, heads * tokens, len])?;
        let y = matmul(&weights, &latents)?.reshape(&[1, heads, tokens, latent])?;
        self.unembed.forward(&y)
    }

    /// Each token's heads are rows of a product with the tokens that it chose. `queries` are in the space of latents already.
    fn attend_to_chosen(
        &self,
        (plain, rotated): (Array, Array),
        (latents, keys): (Array, Array),
        chosen: &Array,
        visible: Option<&Array>,
    ) -> Result<Array> {
        let (heads, latent, scale) = (self.shape.heads, self.shape.latent, self.shape.scale);
        let (tokens, kept) = (chosen.dim(0), chosen.dim(1));
        let places = chosen.reshape(&[-1])?;
        let gathered = |all: &Array| -> Result<Array> {
            all.take_axis(&places, 2)?.reshape(&[tokens, kept, all.dim(3)])
        };
        let rows = |queries: &Array| -> Result<Array> {
            let scaled = queries.multiply(like(queries, scale)?)?;
            scaled.transpose_axes(&[0, 2, 1, 3])?.reshape(&[tokens, heads, queries.dim(3)])
        };
        let (latents, keys) = (gathered(&latents)?, gathered(&keys)?);
        let by_content = matmul(&rows(&plain)?, latents.swap_axes(-1, -2)?)?;
        let by_place = matmul(&rows(&rotated)?, keys.swap_axes(-1, -2)?)?;
        let mut scores = by_content.add(by_place)?;
        if let Some(visible) = visible {
            let none = like(&scores, f32::NEG_INFINITY)?;
            scores = select(visible.expand_dims(1)?, &scores, none)?;
        }
        let y = matmul(&softmax_axis(&scores, -1, true)?, &latents)?;
        let y = y.reshape(&[1, tokens, heads, latent])?.transpose_axes(&[0, 2, 1, 3])?;
        self.unembed.forward(&y)
    }
}
