//! Attention to the latest tokens and to chosen groups of compressed ones.

use mlx_rs::{
    Array, Dtype,
    fast::{ScaledDotProductAttentionMask, rms_norm, scaled_dot_product_attention},
    ops::{concatenate, maximum},
};

use super::{
    super::{Seen, Sequences},
    compressor::Compressor,
    indexer::Indexer,
    rounding::{Scale, fp4, fp8},
    turn::Turn,
};
use crate::{
    config::{
        ModelConfig,
        deepseek_v41::{DeepseekV41, Layer},
    },
    nn::{Builder, Built, Linear, Result},
};

/// What a layer hands to the layers behind it, of one sequence in one pass.
#[derive(Clone, Default)]
pub(super) struct Shared {
    /// Compressed keys and values, `[1, groups, head_dim]`.
    compressed: Option<Array>,
    /// `[1, groups, index_dim]`.
    index_keys: Option<Array>,
    /// The groups that each token attends to.
    chosen: Option<Array>,
    /// The groups that choices are limited to.
    nominated: Option<Array>,
}

pub(super) struct Attention {
    query_down: Linear,
    query_norm: Array,
    query_up: Linear,
    /// Keys and values are the same.
    key: Linear,
    key_norm: Array,
    /// One map per group of heads.
    output_groups: Linear,
    output: Linear,
    sinks: Array,
    compressor: Option<Compressor>,
    indexer: Option<Indexer>,
    turn: Turn,
    heads: i32,
    head_dim: i32,
    groups: i32,
    window: i32,
    layer: Layer,
    eps: f32,
}

impl Attention {
    pub(super) fn build(
        path: &str,
        config: &ModelConfig,
        model: &DeepseekV41,
        index: usize,
        builder: &mut Builder<'_>,
    ) -> Built<Attention> {
        let DeepseekV41 { heads, head_dim, query_rank, output_groups, output_rank, .. } = *model;
        let (hidden, eps, layer) = (config.hidden, config.norm_eps, model.layers[index]);
        let at = |name: &str| format!("{path}.{name}");
        let is_sparse = layer.ratio > 0;
        let group = [output_rank, heads * head_dim / output_groups];
        let (compressor, indexer) = (at("compressor"), at("indexer"));
        Ok(Attention {
            query_down: builder.linear(&at("q_a_proj"), query_rank, hidden, false)?,
            query_norm: builder.vector(&at("q_a_norm.weight"), query_rank)?,
            query_up: builder.linear(&at("q_b_proj"), heads * head_dim, query_rank, false)?,
            key: builder.linear(&at("kv_proj"), head_dim, hidden, false)?,
            key_norm: builder.vector(&at("kv_norm.weight"), head_dim)?,
            output_groups: builder.stacked(&at("o_a_proj"), output_groups, group)?,
            output: builder.linear(&at("o_b_proj"), hidden, output_groups * output_rank, false)?,
            sinks: builder.vector(&at("sinks"), heads)?,
            compressor: (is_sparse && layer.compresses)
                .then(|| {
                    Compressor::build(&compressor, [hidden, head_dim], layer.ratio, eps, builder)
                })
                .transpose()?,
            indexer: (is_sparse && layer.chooses)
                .then(|| Indexer::build(&indexer, hidden, model, layer, eps, builder))
                .transpose()?,
            turn: Turn::new(if is_sparse { &model.rope_compressed } else { &model.rope }),
            heads: heads as i32,
            head_dim: head_dim as i32,
            groups: output_groups as i32,
            window: model.window as i32,
            layer,
            eps,
        })
    }

    pub(super) fn eps(&self) -> f32 {
        self.eps
    }

    pub(super) fn heads(&self) -> i32 {
        self.heads
    }

    /// `x` is `[1, sum, hidden]`.
    pub(super) fn forward(
        &self,
        x: &Array,
        sequences: &mut Sequences<'_>,
        layer: usize,
        shared: &mut [Shared],
    ) -> Result<Array> {
        let tokens = x.dim(1);
        let low = rms_norm(&self.query_down.forward(x)?, Some(&self.query_norm), self.eps)?;
        let queries = self.query_up.forward(&low)?;
        let queries = queries.reshape(&[1, tokens, self.heads, self.head_dim])?;
        let keys = rms_norm(&self.key.forward(x)?, Some(&self.key_norm), self.eps)?;
        let mut parts = vec![queries, keys];
        if let Some(compressor) = &self.compressor {
            parts.extend(compressor.project(x)?);
        }
        if let Some(indexer) = &self.indexer {
            parts.extend(indexer.project(x, &low)?);
        }
        let inputs: Vec<&Array> = parts.iter().collect();
        let attended = sequences.each(layer, &inputs, |sequence| {
            let shared = &mut shared[sequence.index];
            self.attend(sequence, shared)
        })?;
        let groups = attended.reshape(&[tokens, self.groups, 1, -1])?;
        let all: Vec<i32> = (0..self.groups).collect();
        let all = Array::from_slice(&all, &[1, self.groups]);
        let output = self.output_groups.gathered(&groups, &all)?;
        self.output.forward(&output.reshape(&[1, tokens, -1])?)
    }

    /// One sequence: `[1, tokens, heads, head_dim]`.
    fn attend(&self, sequence: Seen<'_>, shared: &mut Shared) -> Result<Array> {
        let Seen { rows, seen, memory, .. } = sequence;
        let memory = memory.compressed()?;
        let (queries, rest) = (&rows[0], &rows[2..]);
        let index_rows = if self.indexer.is_some() { 2 } else { 0 };
        let (latents, index) = rest.split_at(rest.len() - index_rows);
        let queries = self.turn.forth(queries, seen, 1.0)?;
        let keys = fp8(&self.turn.forth(&rows[1], seen, 1.0)?)?;
        let tokens = keys.dim(1);
        let (window, before) = memory.append(&keys)?;
        let mut seen_rows = vec![window];
        let mut indices = vec![self.window_indices(before, tokens)];
        if let Some(compressor) = &self.compressor {
            let (latent, first) = compressor.close(latents, keys.dtype(), seen, memory)?;
            if let Some(latent) = latent {
                let groups = self.turn.forth(&latent, first, self.layer.ratio as f32)?;
                let index_keys = self
                    .indexer
                    .as_ref()
                    .map_or(Ok(None), |indexer| indexer.keys(&latent, first, &self.turn))?;
                memory.append_groups(&fp4(&groups, 16, Scale::Fp8)?, index_keys.as_ref())?;
            }
            shared.compressed = memory.groups();
            if self.indexer.is_some() {
                shared.index_keys = memory.index_keys();
            }
        }
        if let Some(indexer) = &self.indexer {
            let (keys, nominated) = (shared.index_keys.as_ref(), shared.nominated.as_ref());
            let (chosen, nominated) = indexer.choose(index, keys, nominated, &self.turn, seen)?;
            shared.chosen = chosen;
            if self.layer.nominates {
                shared.nominated = nominated;
            }
        }
        if self.layer.ratio > 0
            && let (Some(groups), Some(chosen)) = (&shared.compressed, &shared.chosen)
        {
            seen_rows.push(groups.clone());
            indices.push(chosen.clone());
        }
        let attended = self.sparse(&queries, &seen_rows, &indices)?;
        self.turn.back(&attended, seen)
    }

    /// The rows of the window that each token sees, `[1, tokens, width]` (−1: none). The window holds the rows of `before` earlier
    /// tokens, and then the new ones.
    fn window_indices(&self, before: i32, tokens: i32) -> Array {
        let width = self.window.min(before + tokens);
        let row = |token: i32| {
            let end = before + token;
            let start = (end - self.window + 1).max(0);
            (start..start + width).map(move |index| if index > end { -1 } else { index })
        };
        let indices: Vec<i32> = (0..tokens).flat_map(row).collect();
        Array::from_slice(&indices, &[1, tokens, width])
    }

    /// Attends each token to the rows that its indices pick from each of `seen_rows`.
    fn sparse(&self, queries: &Array, seen_rows: &[Array], indices: &[Array]) -> Result<Array> {
        let (tokens, heads, dim) = (queries.dim(1), self.heads, self.head_dim);
        let picked: Result<Vec<Array>> = seen_rows
            .iter()
            .zip(indices)
            .map(|(rows, indices)| {
                let safe = maximum(indices, Array::from_int(0))?.reshape(&[-1])?;
                let rows = rows.reshape(&[rows.dim(1), dim])?;
                rows.take_axis(&safe, 0)?.reshape(&[1, tokens, indices.dim(2), dim])
            })
            .collect();
        let keys = concatenate(&picked?, 2)?.reshape(&[tokens, 1, -1, dim])?;
        let keys = keys.as_dtype(Dtype::Float32)?;
        let mask = concatenate(indices, -1)?.ge(Array::from_int(0))?;
        let mask = mask.reshape(&[tokens, 1, 1, -1])?;
        // At this width of heads MLX would round the scores to the type of the inputs.
        let by_token = queries.reshape(&[tokens, heads, 1, dim])?.as_dtype(Dtype::Float32)?;
        let sinks = self.sinks.as_dtype(Dtype::Float32)?;
        let scale = f64::from(dim).powf(-0.5) as f32;
        let mask = Some(ScaledDotProductAttentionMask::Array(&mask));
        let y = scaled_dot_product_attention(&by_token, &keys, &keys, scale, mask, Some(&sinks))?;
        y.reshape(&[1, tokens, heads, dim])?.as_dtype(queries.dtype())
    }
}
