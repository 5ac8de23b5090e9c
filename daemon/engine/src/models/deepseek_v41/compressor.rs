//! Compresses groups of tokens: each group becomes one latent, a weighted mean of its tokens.

use mlx_rs::{Array, Dtype, fast::rms_norm, ops::softmax_axis};

use super::super::tokens;
use crate::{
    cache::Compressed,
    nn::{Builder, Built, Linear, Result},
};

pub(super) struct Compressor {
    ratio: i32,
    latent: Linear,
    /// The weights within a group; a group of one needs none.
    gate: Option<Linear>,
    norm: Array,
    eps: f32,
}

impl Compressor {
    pub(super) fn build(
        path: &str,
        [hidden, width]: [usize; 2],
        ratio: usize,
        eps: f32,
        builder: &mut Builder<'_>,
    ) -> Built<Compressor> {
        let mut map = |name: &str| builder.linear(&format!("{path}.{name}"), width, hidden, false);
        let latent = map("kv_proj")?;
        let gate = (ratio > 1).then(|| map("gate_proj")).transpose()?;
        let norm = builder.vector(&format!("{path}.kv_norm.weight"), width)?;
        Ok(Compressor { ratio: ratio as i32, latent, gate, norm, eps })
    }

    /// What each token of a pass brings to its group: latents and gates, `[1, sum, width]`.
    pub(super) fn project(&self, x: &Array) -> Result<Vec<Array>> {
        let Some(gate) = &self.gate else { return Ok(vec![self.latent.forward(x)?]) };
        let x = x.as_dtype(Dtype::Float32)?;
        Ok(vec![self.latent.forward(&x)?, gate.forward(&x)?])
    }

    /// The latents of the groups that are full now, `[1, groups, width]`, and the index of the first one. `projected` are one
    /// sequence's rows of [`Compressor::project`]; what is left over waits in `memory`.
    pub(super) fn close(
        &self,
        projected: &[Array],
        dtype: Dtype,
        seen: i32,
        memory: &mut Compressed,
    ) -> Result<(Option<Array>, i32)> {
        let [latents, gates] = projected else {
            return Ok((Some(rms_norm(&projected[0], Some(&self.norm), self.eps)?), seen));
        };
        let (open, latents, gates) = memory.open(latents, gates)?;
        let count = latents.dim(1);
        let full = count - count % self.ratio;
        memory.keep_open(&latents, &gates, full)?;
        // A group is at the position of its first token; rope multiplies the index by the ratio.
        let first = (seen - open) / self.ratio;
        if full == 0 {
            return Ok((None, first));
        }
        let groups =
            |x: &Array| tokens(x, 0, full)?.reshape(&[1, full / self.ratio, self.ratio, x.dim(2)]);
        let weights = softmax_axis(&groups(&gates)?, 2, None)?;
        let mean = groups(&latents)?.multiply(weights)?.sum_axis(2, false)?;
        let latent = rms_norm(&mean.as_dtype(dtype)?, Some(&self.norm), self.eps)?;
        Ok((Some(latent), first))
    }
}
