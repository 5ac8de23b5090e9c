//! Decoders with grouped-query attention: llama, qwen2, qwen3, qwen3_moe, glm4_moe.

use super::{
    Wrong,
    feed_forward::{Experts, FeedForward, Router},
    layer_count,
    read::Reader,
    rope::Rope,
};

/// What such a decoder is made of, beside what all families have.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Gqa {
    pub(crate) heads: usize,
    pub(crate) kv_heads: usize,
    pub(crate) head_dim: usize,
    pub(crate) rope: Rope,
    /// Biases on the query, key and value projections.
    pub(crate) qkv_bias: bool,
    /// A bias on the output projection of attention.
    pub(crate) output_bias: bool,
    /// Biases in dense feed-forward layers.
    pub(crate) mlp_bias: bool,
    /// RMS norms over each head's query and key.
    pub(crate) qk_norm: bool,
    /// One per layer.
    pub(crate) layers: Vec<FeedForward>,
}

impl Gqa {
    pub(super) fn parse(
        reader: &mut Reader<'_>,
        architecture: &str,
        hidden: usize,
    ) -> Result<Gqa, Wrong> {
        let is_glm = architecture == "glm4_moe";
        let is_qwen2 = architecture == "qwen2";
        let is_llama = architecture == "llama";
        let heads: usize = reader.need(&["num_attention_heads"])?;
        // mlx-lm does not ask Qwen 2 for it.
        let head_dim =
            reader.optional(&["head_dim"])?.filter(|_| !is_qwen2).unwrap_or(hidden / heads.max(1));
        let attention_bias = reader.optional(&["attention_bias"])?.unwrap_or(false);
        let gqa = Gqa {
            heads,
            kv_heads: reader.optional(&["num_key_value_heads"])?.unwrap_or(heads),
            head_dim,
            rope: rope(reader, architecture, head_dim)?,
            qkv_bias: is_qwen2 || ((is_llama || is_glm) && attention_bias),
            output_bias: is_llama && attention_bias,
            mlp_bias: reader.optional(&["mlp_bias"])?.unwrap_or(false) && is_llama,
            qk_norm: match architecture {
                "qwen3" | "qwen3_moe" => true,
                "glm4_moe" => reader.optional(&["use_qk_norm"])?.unwrap_or(false),
                _ => false,
            },
            layers: layers(reader, architecture)?,
        };
        gqa.check()?;
        Ok(gqa)
    }

    /// Keys and values of a token, in fp32.
    pub(super) fn bytes_per_token(&self) -> u64 {
        (2 * 4 * self.layers.len() * self.kv_heads * self.head_dim) as u64
    }

    fn check(&self) -> Result<(), Wrong> {
        super::check_sizes(&[self.heads, self.kv_heads, self.head_dim, self.layers.len()])?;
        if !self.heads.is_multiple_of(self.kv_heads) {
            return Err(Wrong::Key(format!(
                "{} heads cannot share {} key-value heads",
                self.heads, self.kv_heads
            )));
        }
        self.layers.iter().try_for_each(FeedForward::check)
    }
}

fn rope(reader: &mut Reader<'_>, architecture: &str, head_dim: usize) -> Result<Rope, Wrong> {
    let default_base = if architecture == "qwen2" { 1e6 } else { 1e4 };
    let partial = reader.rope_key::<f64>("partial_rotary_factor")?.unwrap_or(1.0);
    let interleaved = reader.optional(&["rope_traditional"])?.unwrap_or(false);
    let dims = (head_dim as f64 * partial) as usize;
    let rope = Rope::plain(reader, dims, interleaved, default_base)?;
    // mlx-lm takes no notice of a scaling in these two, and neither do their published weights need one.
    if matches!(architecture, "qwen3_moe" | "glm4_moe") {
        reader.ignore_rope_scaling();
        return Ok(rope);
    }
    rope.scaled(reader)
}

fn layers(reader: &mut Reader<'_>, architecture: &str) -> Result<Vec<FeedForward>, Wrong> {
    let count = layer_count(reader, None)?;
    let inner: usize = reader.need(&["intermediate_size"])?;
    match architecture {
        "qwen3_moe" => {
            let experts = Experts {
                count: reader.need(&["num_experts", "num_local_experts"])?,
                per_token: reader.need(&["num_experts_per_tok"])?,
                inner: reader.need(&["moe_intermediate_size"])?,
                shared_inner: None,
                router: Router::Softmax {
                    renormalise: reader.optional(&["norm_topk_prob"])?.unwrap_or(false),
                },
            };
            let step: usize = reader.optional(&["decoder_sparse_step"])?.unwrap_or(1);
            let dense: Vec<usize> = reader.optional(&["mlp_only_layers"])?.unwrap_or_default();
            let is_sparse = |layer: usize| {
                !dense.contains(&layer) && step > 0 && (layer + 1).is_multiple_of(step)
            };
            let layer = |layer| FeedForward::choose(is_sparse(layer), &experts, inner);
            Ok((0..count).map(layer).collect())
        }
        "glm4_moe" => {
            let each: usize = reader.need(&["moe_intermediate_size"])?;
            let shared: Option<usize> = reader.optional(&["n_shared_experts"])?;
            let experts = Experts {
                count: reader.need(&["n_routed_experts", "num_local_experts", "num_experts"])?,
                per_token: reader.need(&["num_experts_per_tok"])?,
                inner: each,
                shared_inner: shared.map(|shared| each * shared).filter(|&inner| inner > 0),
                router: Router::Sigmoid {
                    groups: reader.optional(&["n_group"])?.unwrap_or(1),
                    groups_kept: reader.optional(&["topk_group"])?.unwrap_or(1),
                    scaling: reader.optional::<f64>(&["routed_scaling_factor"])?.unwrap_or(1.0)
                        as f32,
                    renormalise: reader.optional(&["norm_topk_prob"])?.unwrap_or(true),
                },
            };
            let dense: usize = reader.optional(&["first_k_dense_replace"])?.unwrap_or(0);
            let layer = |layer| FeedForward::choose(layer >= dense, &experts, inner);
            Ok((0..count).map(layer).collect())
        }
        _ => {
            reader.refuse_sliding_window()?;
            Ok(vec![FeedForward::Dense { inner }; count])
        }
    }
}
