//! DeepSeek-V4.1: hyper-connections, a window beside compressed keys and values, an indexer, grouped outputs.

use super::{
    Wrong, check_sizes, check_windows, layer_count, product,
    read::Reader,
    rope::{self, Rope, Scaling, Yarn},
};

/// More rounds of Sinkhorn's iteration than any model has: a larger number is a broken file, and every round is computed for every token.
const ITERATIONS_MAX: usize = 1000;

/// What such a decoder is made of, beside what all families have.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct DeepseekV41 {
    pub(crate) heads: usize,
    pub(crate) head_dim: usize,
    /// Width of the compressed queries.
    pub(crate) query_rank: usize,
    /// The last so many dimensions of a head are rotated.
    pub(crate) rope_dims: usize,
    /// The heads' outputs are projected in so many groups, each to `output_rank`.
    pub(crate) output_groups: usize,
    pub(crate) output_rank: usize,
    /// A token sees so many of its predecessors as they are.
    pub(crate) window: usize,
    /// Rotates in layers that only have the window.
    pub(crate) rope: Rope,
    /// Rotates in layers that see compressed groups too.
    pub(crate) rope_compressed: Rope,
    pub(crate) indexer: Indexer,
    pub(crate) layers: Vec<Layer>,
    pub(crate) experts: Experts,
    pub(crate) streams: Streams,
}

/// Where a layer's compressed groups come from.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Layer {
    /// So many tokens make one compressed group; 0: the layer sees the window only.
    pub(crate) ratio: usize,
    /// It compresses keys and values, for itself and for the layers behind it.
    pub(crate) compresses: bool,
    /// It chooses groups, for itself and for the layers behind it.
    pub(crate) chooses: bool,
    /// It chooses the blocks that later choices are limited to.
    pub(crate) nominates: bool,
}

/// How compressed groups are chosen.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Indexer {
    pub(crate) heads: usize,
    pub(crate) head_dim: usize,
    /// So many groups are attended to.
    pub(crate) chosen: usize,
    /// So many blocks of `block` groups are nominated; 0: all.
    pub(crate) blocks: usize,
    pub(crate) block: usize,
}

/// The mixture of experts of every layer.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) struct Experts {
    pub(crate) count: usize,
    pub(crate) per_token: usize,
    pub(crate) inner: usize,
    pub(crate) scoring: Scoring,
    pub(crate) temperature: f32,
    pub(crate) renormalise: bool,
    pub(crate) scaling: f32,
    /// What gate and up are clamped to; 0: they are not.
    pub(crate) limit: f32,
}

/// From a router's logit to a score.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Scoring {
    Sigmoid,
    Softmax,
    SqrtSoftplus,
}

/// Several residual streams, mixed by matrices that Sinkhorn's iteration makes doubly stochastic.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) struct Streams {
    pub(crate) count: usize,
    pub(crate) iterations: usize,
    pub(crate) eps: f32,
}

impl DeepseekV41 {
    pub(super) fn parse(reader: &mut Reader<'_>) -> Result<DeepseekV41, Wrong> {
        let engram: Vec<usize> = reader.optional(&["engram_layer_ids"])?.unwrap_or_default();
        if !engram.is_empty() {
            return Err(Wrong::Key(format!(
                "layers {engram:?} use engram memory, which is not supported"
            )));
        }
        reader.refuse_biases(&["attention_bias", "mlp_bias"])?;
        let context_max: usize = reader.optional(&["max_position_embeddings"])?.unwrap_or(1 << 20);
        let rope_dims = reader.optional(&["qk_rope_head_dim"])?.unwrap_or(64);
        let base = reader.rope_key::<f64>("rope_theta")?.unwrap_or(1e4);
        let compressed = reader.rope_key::<f64>("compress_rope_theta")?.unwrap_or(160_000.0);
        let yarn = |base: f64, is_scaled: bool| -> Result<Rope, Wrong> {
            // Whether a head has so many is asked below, of the indexer's heads too.
            let rope = Rope::new((rope_dims, rope_dims), true, base)?;
            let number = |key: &str, default: f64| -> Result<f64, Wrong> {
                let scaling = if is_scaled { reader.rope_key(key)? } else { None };
                rope::finite(key, scaling.unwrap_or(default))
            };
            let original = number(
                "original_max_position_embeddings",
                if is_scaled { context_max as f64 } else { 4096.0 },
            )?;
            let turns = (number("beta_fast", 32.0)?, number("beta_slow", 1.0)?);
            let ramp = Yarn::ramp(rope_dims, base, original, turns, true);
            let factor = number("factor", 1.0)?;
            if factor <= 0.0 {
                return Err(Wrong::Key(format!("the rope scaling has a factor of {factor}")));
            }
            let scaling = Scaling::Yarn(Yarn { factor, ramp, input: 1.0, attention: 1.0 });
            Ok(Rope { scaling, ..rope })
        };
        let config = DeepseekV41 {
            heads: reader.optional(&["num_attention_heads"])?.unwrap_or(64),
            head_dim: reader.optional(&["head_dim"])?.unwrap_or(512),
            query_rank: reader.optional(&["q_lora_rank"])?.unwrap_or(1280),
            rope_dims,
            output_groups: reader.optional(&["o_groups"])?.unwrap_or(8),
            output_rank: reader.optional(&["o_lora_rank"])?.unwrap_or(1024),
            window: reader.optional(&["sliding_window"])?.unwrap_or(128),
            rope: yarn(base, false)?,
            rope_compressed: yarn(compressed, true)?,
            indexer: Indexer {
                heads: reader.optional(&["index_n_heads"])?.unwrap_or(32),
                head_dim: reader.optional(&["index_head_dim"])?.unwrap_or(128),
                chosen: reader.optional(&["index_topk"])?.unwrap_or(512),
                blocks: reader.optional(&["candidate_topk_blocks"])?.unwrap_or(2048),
                block: reader.optional(&["candidate_block_size"])?.unwrap_or(8),
            },
            layers: layers(reader)?,
            experts: experts(reader)?,
            streams: Streams {
                count: reader.optional(&["hc_mult"])?.unwrap_or(4),
                iterations: reader.optional(&["hc_sinkhorn_iters"])?.unwrap_or(20),
                eps: reader.optional::<f64>(&["hc_eps"])?.unwrap_or(1e-6) as f32,
            },
        };
        config.check()?;
        Ok(config)
    }

    fn check(&self) -> Result<(), Wrong> {
        check_sizes(&[
            self.heads,
            self.head_dim,
            self.query_rank,
            self.rope_dims,
            self.output_groups,
            self.output_rank,
            self.window,
            self.indexer.heads,
            self.indexer.head_dim,
            self.indexer.chosen,
            self.indexer.block,
            self.experts.count,
            self.experts.inner,
            self.streams.count,
            self.streams.iterations,
            self.layers.len(),
        ])?;
        for (heads, dim) in [
            (self.heads, self.head_dim),
            (self.output_groups, self.output_rank),
            (self.indexer.heads, self.indexer.head_dim),
            (self.indexer.blocks, self.indexer.block),
            (self.streams.count, self.streams.count),
        ] {
            product(heads, dim)?;
        }
        check_windows([&self.window])?;
        let wrong = |reason: String| Err(Wrong::Key(reason));
        if self.streams.iterations > ITERATIONS_MAX {
            return wrong(format!(
                "hc_sinkhorn_iters is {}, more than {ITERATIONS_MAX}",
                self.streams.iterations
            ));
        }
        let ratio_max = i32::MAX as usize / 2;
        if let Some(layer) = self.layers.iter().find(|layer| layer.ratio > ratio_max) {
            return wrong(format!("compress_ratios has {}, more than {ratio_max}", layer.ratio));
        }
        if self.rope_dims > self.head_dim.min(self.indexer.head_dim) {
            return wrong(format!("qk_rope_head_dim is {}, more than a head has", self.rope_dims));
        }
        if !(self.heads * self.head_dim).is_multiple_of(self.output_groups) {
            return wrong(format!(
                "{} heads cannot form {} output groups",
                self.heads, self.output_groups
            ));
        }
        let Experts { count, per_token, .. } = self.experts;
        if per_token == 0 || per_token > count {
            return wrong(format!("{per_token} of {count} experts per token"));
        }
        let reads_nothing = |(index, layer): (usize, &Layer)| {
            let before = &self.layers[..=index];
            layer.ratio > 0
                && layer.chooses
                && !before.iter().any(|layer| layer.compresses && layer.chooses)
        };
        if let Some(index) = self.layers.iter().enumerate().position(reads_nothing) {
            return wrong(format!(
                "layer {index} chooses among index keys that no layer before it makes"
            ));
        }
        Ok(())
    }

    /// Bytes of cache that every token of context takes in the long run, in fp32; the window is constant.
    pub(super) fn bytes_per_token(&self) -> u64 {
        let layer = |layer: &Layer| {
            let keys = if layer.chooses { self.indexer.head_dim } else { 0 };
            if layer.compresses {
                (4 * (self.head_dim + keys)).div_ceil(layer.ratio.max(1))
            } else {
                0
            }
        };
        self.layers.iter().map(layer).sum::<usize>() as u64
    }

    /// Bytes of the windows and open groups in fp32, of a sequence of `context` tokens; every place that it can come back to takes as many.
    pub(super) fn bytes_per_place(&self, context: usize) -> u64 {
        let rows = |layer: &Layer| {
            let open =
                if layer.compresses { layer.ratio.saturating_sub(1).min(context) } else { 0 };
            // A latent and a gate.
            (self.window.min(context) + 2 * open) as u64
        };
        let rows: u64 = self.layers.iter().map(rows).sum();
        rows * (size_of::<f32>() * self.head_dim) as u64
    }
}

fn layers(reader: &Reader<'_>) -> Result<Vec<Layer>, Wrong> {
    let count = layer_count(reader, Some(40))?;
    let list = |key: &str| Ok(reader.optional::<Vec<usize>>(&[key])?.unwrap_or_default());
    let ratios = list("compress_ratios")?;
    let compressing = list("kv_source_layer_ids")?;
    let choosing = list("index_source_layer_ids")?;
    let nominating = reader.optional::<i64>(&["candidate_source_layer_id"])?.unwrap_or(-1);
    let layer = |index: usize| {
        let ratio = ratios.get(index).copied().unwrap_or(0);
        Layer {
            ratio,
            compresses: compressing.contains(&index),
            chooses: choosing.contains(&index),
            nominates: nominating == index as i64,
        }
    };
    Ok((0..count).map(layer).collect())
}

fn experts(reader: &Reader<'_>) -> Result<Experts, Wrong> {
    let scoring: Option<String> = reader.optional(&["scoring_func"])?;
    let scoring = match scoring.as_deref() {
        Some("sigmoid") => Scoring::Sigmoid,
        Some("softmax") => Scoring::Softmax,
        None | Some("sqrtsoftplus") => Scoring::SqrtSoftplus,
        Some(other) => {
            return Err(Wrong::Key(format!(
                "scoring_func {other:?} is not supported (sigmoid, softmax, sqrtsoftplus are)"
            )));
        }
    };
    let float = |key: &str, default: f64| -> Result<f32, Wrong> {
        Ok(reader.optional::<f64>(&[key])?.unwrap_or(default) as f32)
    };
    Ok(Experts {
        count: reader.optional(&["n_routed_experts"])?.unwrap_or(384),
        per_token: reader.optional(&["num_experts_per_tok"])?.unwrap_or(6),
        inner: reader.optional(&["moe_intermediate_size"])?.unwrap_or(2304),
        scoring,
        temperature: float("gate_temp", 1.0)?,
        renormalise: reader.optional(&["norm_topk_prob"])?.unwrap_or(true),
        scaling: float("routed_scaling_factor", 1.5)?,
        limit: float("swiglu_limit", 10.0)?,
    })
}
