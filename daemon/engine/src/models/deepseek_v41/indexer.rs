//! Chooses the compressed groups that a token attends to.

use mlx_rs::{
    Array, Dtype,
    fast::rms_norm,
    ops::{self, argpartition_axis, matmul, maximum, pad, select},
};

use super::{
    rounding::{Scale, fp4},
    turn::Turn,
};
use crate::{
    config::deepseek_v41::{self as config, Layer},
    nn::{Builder, Built, Linear, Result},
    ops::slice,
};

pub(super) struct Indexer {
    query: Linear,
    weights: Linear,
    /// Makes index keys of latents, in layers that compress.
    key: Option<(Linear, Array)>,
    config: config::Indexer,
    ratio: i32,
    nominates: bool,
    eps: f32,
}

impl Indexer {
    pub(super) fn build(
        path: &str,
        hidden: usize,
        model: &config::DeepseekV41,
        layer: Layer,
        eps: f32,
        builder: &mut Builder<'_>,
    ) -> Built<Indexer> {
        let config::Indexer { heads, head_dim, .. } = model.indexer;
        let at = |name: &str| format!("{path}.{name}");
        let query = builder.linear(&at("q_b_proj"), heads * head_dim, model.query_rank, false)?;
        let weights = builder.linear(&at("weights_proj"), heads, hidden, false)?;
        let key = if layer.compresses {
            let map = builder.linear(&at("k_proj"), head_dim, model.head_dim, false)?;
            Some((map, builder.vector(&at("k_norm.weight"), head_dim)?))
        } else {
            None
        };
        let ratio = layer.ratio as i32;
        let nominates = layer.nominates && model.indexer.blocks > 0;
        Ok(Indexer { query, weights, key, config: model.indexer, ratio, nominates, eps })
    }

    /// Queries and weights of every token of a pass.
    pub(super) fn project(&self, x: &Array, compressed_query: &Array) -> Result<Vec<Array>> {
        let (heads, dim) = (self.config.heads as i32, self.config.head_dim as i32);
        let query = self.query.forward(compressed_query)?.reshape(&[1, x.dim(1), heads, dim])?;
        Ok(vec![query, self.weights.forward(x)?])
    }

    /// The index keys of new latents, the first of which is group `first`.
    pub(super) fn keys(&self, latent: &Array, first: i32, turn: &Turn) -> Result<Option<Array>> {
        let Some((map, norm)) = &self.key else { return Ok(None) };
        let keys = rms_norm(&map.forward(latent)?, Some(norm), self.eps)?;
        let keys = turn.forth(&keys, first, self.ratio as f32)?;
        fp4(&keys, 32, Scale::PowerOfTwo).map(Some)
    }

    /// The groups that each token of one sequence attends to, `[1, tokens, chosen]` (−1: none), and the groups that later choices are
    /// limited to. `projected` are the sequence's rows of [`Indexer::project`].
    pub(super) fn choose(
        &self,
        projected: &[Array],
        keys: Option<&Array>,
        nominated: Option<&Array>,
        turn: &Turn,
        seen: i32,
    ) -> Result<(Option<Array>, Option<Array>)> {
        let Some(keys) = keys.filter(|keys| keys.dim(1) > 0) else {
            return Ok((None, nominated.cloned()));
        };
        let (tokens, groups) = (projected[0].dim(1), keys.dim(1));
        let mut scores = self.scores(projected, keys, turn, seen)?;
        // A token sees the groups that end at it or before it.
        let ends = Array::arange::<i32, i32>(seen + 1, seen + 1 + tokens, 1)?;
        let visible = ends.floor_divide(Array::from_int(self.ratio))?.reshape(&[tokens, 1])?;
        let index = Array::arange::<i32, i32>(0, groups, 1)?.reshape(&[1, groups])?;
        let never = Array::from_f32(f32::NEG_INFINITY);
        scores = select(index.lt(&visible)?.expand_dims(0)?, &scores, &never)?;
        let nominated = if self.nominates {
            Some(self.nominate(&scores, &visible)?)
        } else {
            if let Some(nominated) = nominated {
                scores = select(nominated, &scores, &never)?;
            }
            nominated.cloned()
        };
        let k = (self.config.chosen as i32).min(groups);
        let order = argpartition_axis(scores.negative()?, k - 1, -1)?;
        let chosen = slice(&order, &[0, 0, 0], &[1, tokens, k])?.as_dtype(Dtype::Int32)?;
        let chosen = select(chosen.lt(&visible.expand_dims(0)?)?, &chosen, Array::from_int(-1))?;
        Ok((Some(chosen), nominated))
    }

    /// `[1, tokens, groups]`.
    fn scores(&self, projected: &[Array], keys: &Array, turn: &Turn, seen: i32) -> Result<Array> {
        let (heads, dim) = (self.config.heads as f64, self.config.head_dim as f64);
        let query = fp4(&turn.forth(&projected[0], seen, 1.0)?, 32, Scale::PowerOfTwo)?;
        let keys = keys.as_dtype(Dtype::Float32)?.expand_dims(1)?.swap_axes(-1, -2)?;
        let weights = projected[1].as_dtype(Dtype::Float32)?;
        let weights = weights.multiply(Array::from_f32(heads.powf(-0.5) as f32))?;
        let scores = matmul(query.as_dtype(Dtype::Float32)?, keys)?;
        let scores = maximum(&scores, Array::from_f32(0.0))?;
        let scores = scores.multiply(Array::from_f32(dim.powf(-0.5) as f32))?;
        scores.multiply(weights.expand_dims(-1)?)?.sum_axis(2, false)
    }

    /// The groups of the best blocks, `[1, tokens, groups]`. The newest block is always among them: it is only partly full, so an
    /// older one may have a higher score.
    fn nominate(&self, scores: &Array, visible: &Array) -> Result<Array> {
        let (tokens, groups, block) = (scores.dim(1), scores.dim(2), self.config.block as i32);
        let blocks = (groups + block - 1) / block;
        let missing = blocks * block - groups;
        let never = Array::from_f32(f32::NEG_INFINITY);
        let padded = pad(scores, &[(0, 0), (0, 0), (0, missing)][..], never.clone(), None)?;
        let best = padded.reshape(&[1, tokens, blocks, block])?.max_axis(-1, false)?;
        let (zero, one) = (Array::from_int(0), Array::from_int(1));
        let newest = visible.subtract(&one)?.floor_divide(Array::from_int(block))?;
        let newest = select(visible.gt(&zero)?, &newest, Array::from_int(-1))?;
        let index = Array::arange::<i32, i32>(0, blocks, 1)?;
        let best = select(index.eq(&newest)?, Array::from_f32(f32::INFINITY), &best)?;
        let k = (self.config.blocks as i32).min(blocks);
        let order = argpartition_axis(best.negative()?, k - 1, -1)?;
        let chosen = slice(&order, &[0, 0, 0], &[1, tokens, k])?;
        let reachable = best.take_along_axis(&chosen, -1)?.gt(&never)?;
        let marks = ops::zeros_dtype(&[1, tokens, blocks], Dtype::Bool)?;
        let marks = marks.put_along_axis(&chosen, &reachable, -1)?;
        let marks = ops::repeat_axis::<bool>(marks, block, -1)?;
        slice(&marks, &[0, 0, 0], &[1, tokens, groups])
    }
}
