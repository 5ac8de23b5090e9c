//! Decoders with grouped-query attention: llama, mistral, qwen2, qwen3, qwen3_moe, glm4_moe.

use super::{
    KvPacking, Wrong, check_sizes, check_windows,
    feed_forward::{Experts, FeedForward, Router, Shared},
    layer_count, product,
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
    pub(crate) key_norm: KeyNorm,
    /// Every head has a score that leads nowhere.
    pub(crate) sinks: bool,
    /// One per layer.
    pub(crate) layers: Vec<FeedForward>,
    /// How far back a layer looks, one per layer; `None`: all the way.
    pub(crate) windows: Vec<Option<usize>>,
    /// The form of its mixtures of experts, if it has any.
    pub(crate) mixtures: Mixtures,
}

/// Names and details of a mixture of experts.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) enum Mixtures {
    Common,
    /// Maps with biases; gate and up are cut at a limit, and the gate's sigmoid is that much steeper.
    GptOss {
        limit: f32,
        slope: f32,
    },
    MiniMax,
}

/// RMS norms of queries and keys.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum KeyNorm {
    None,
    /// Over each head.
    Head,
    /// Over all heads together.
    Whole,
}

impl Gqa {
    pub(super) fn parse(
        reader: &mut Reader<'_>,
        architecture: &str,
        hidden: usize,
    ) -> Result<Gqa, Wrong> {
        let is_glm = architecture == "glm4_moe";
        let is_qwen2 = architecture == "qwen2";
        let is_llama = matches!(architecture, "llama" | "mistral");
        let is_qwen3 = matches!(architecture, "qwen3" | "qwen3_moe");
        if !is_llama {
            reader.refuse_biases(&["mlp_bias"])?;
        }
        let heads: usize = reader.need(&["num_attention_heads"])?;
        // mlx-lm does not ask Qwen 2 for it.
        let head_dim =
            reader.optional(&["head_dim"])?.filter(|_| !is_qwen2).unwrap_or(hidden / heads.max(1));
        let attention_bias = reader.optional(&["attention_bias"])?.unwrap_or(false);
        let layers = layers(reader, architecture)?;
        let gqa = Gqa {
            heads,
            kv_heads: reader.optional(&["num_key_value_heads"])?.unwrap_or(heads),
            head_dim,
            rope: rope(reader, architecture, head_dim)?,
            qkv_bias: is_qwen2 || ((is_llama || is_glm || is_qwen3) && attention_bias),
            // GLM has none there. Qwen 3's are those of transformers; mlx-lm gives it none at all.
            output_bias: (is_llama || is_qwen3) && attention_bias,
            mlp_bias: reader.optional(&["mlp_bias"])?.unwrap_or(false),
            key_norm: match architecture {
                _ if is_qwen3 => KeyNorm::Head,
                "glm4_moe" if reader.optional(&["use_qk_norm"])?.unwrap_or(false) => KeyNorm::Head,
                _ => KeyNorm::None,
            },
            sinks: false,
            windows: windows(reader, architecture, layers.len())?,
            layers,
            mixtures: Mixtures::Common,
        };
        gqa.check()?;
        Ok(gqa)
    }

    /// Keys and values of a token, in the layers that keep those of all.
    pub(super) fn bytes_per_token(&self, kv: Option<KvPacking>) -> u64 {
        let full = self.windows.iter().filter(|window| window.is_none()).count();
        2 * (full * self.kv_heads) as u64 * KvPacking::row_bytes(kv, self.head_dim)
    }

    pub(super) fn check(&self) -> Result<(), Wrong> {
        check_sizes(&[self.heads, self.kv_heads, self.head_dim, self.layers.len()])?;
        product(self.heads, self.head_dim)?;
        check_windows(self.windows.iter().flatten())?;
        if !self.heads.is_multiple_of(self.kv_heads) {
            return Err(Wrong::Key(format!(
                "{} heads cannot share {} key-value heads",
                self.heads, self.kv_heads
            )));
        }
        self.layers.iter().try_for_each(FeedForward::check)
    }
}

fn rope(reader: &Reader<'_>, architecture: &str, head_dim: usize) -> Result<Rope, Wrong> {
    let default_base = if architecture == "qwen2" { 1e6 } else { 1e4 };
    let partial = reader.rope_key::<f64>("partial_rotary_factor")?.unwrap_or(1.0);
    let interleaved = reader.optional(&["rope_traditional"])?.unwrap_or(false);
    let dims = (head_dim as f64 * partial) as usize;
    Rope::plain(reader, (dims, head_dim), interleaved, default_base)?.scaled(reader)
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
                shared: None,
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
                shared: shared
                    .map(|shared| product(each, shared))
                    .transpose()?
                    .filter(|&inner| inner > 0)
                    .map(|inner| Shared::Plain { inner }),
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
        _ => Ok(vec![FeedForward::Dense { inner }; count]),
    }
}

/// Which layers look back a limited distance. Where the configuration does not say so layer by layer, Mistral means all of them,
/// and Qwen those from `max_window_layers` on if it says that windows are used (transformers; mlx-lm gives none of them a window).
pub(super) fn windows(
    reader: &Reader<'_>,
    architecture: &str,
    count: usize,
) -> Result<Vec<Option<usize>>, Wrong> {
    let window: Option<usize> = reader.optional(&["sliding_window"])?;
    let is_used = reader.optional(&["use_sliding_window"])?;
    let first = match (architecture, is_used) {
        ("mistral", _) => 0,
        ("qwen2" | "qwen3", Some(true)) => reader.optional(&["max_window_layers"])?.unwrap_or(28),
        ("qwen3_moe", Some(true)) => 0,
        _ => count,
    };
    let kinds: Option<Vec<String>> = reader.optional(&["layer_types"])?;
    if let Some(kinds) = &kinds
        && kinds.len() != count
    {
        return Err(Wrong::Key(format!(
            "layer_types has {} entries for {count} layers",
            kinds.len()
        )));
    }
    let one = |layer: usize| match kinds.as_ref().map(|kinds| kinds[layer].as_str()) {
        Some("full_attention") => Ok(None),
        Some("sliding_attention") => match window {
            Some(window) if window > 0 => Ok(Some(window)),
            _ => Err(Wrong::Key("layers of sliding_attention need a sliding_window".to_owned())),
        },
        Some(other) => Err(Wrong::Key(format!("layer_types has {other:?}"))),
        None => Ok(window.filter(|&window| window > 0 && layer >= first)),
    };
    (0..count).map(one).collect()
}
