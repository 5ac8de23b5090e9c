//! Decoders with multi-head latent attention: deepseek_v3, kimi_k2, kimi_k25, glm4_moe_lite; and, with an indexer that chooses
//! the tokens that attention looks at, deepseek_v32 and glm_moe_dsa (GLM-5.1 and 5.2).

use serde_json::Value;

use super::{
    LAYERS_MAX, Wrong, check_sizes,
    feed_forward::{Experts, FeedForward, Router, Shared},
    product,
    read::Reader,
    rope::Rope,
};

/// What such a decoder is made of, beside what all families have.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Mla {
    pub(crate) heads: usize,
    /// Width that queries are squeezed through; `None`: they are not.
    pub(crate) query_rank: Option<usize>,
    /// Width of the latent that keys and values are made of, and that the cache holds.
    pub(crate) latent: usize,
    /// Dimensions of a head's query and key that have no position.
    pub(crate) plain: usize,
    /// The rotated dimensions of a head's query, and of the one key that all heads share.
    pub(crate) rope: Rope,
    /// Dimensions of a head's value.
    pub(crate) value: usize,
    /// Multiplies the products of queries and keys.
    pub(crate) scale: f64,
    /// Epsilon of the norms of the squeezed query and of the latent.
    pub(crate) latent_eps: f32,
    /// Biases on the projections that squeeze, and on the output projection.
    pub(crate) bias: bool,
    /// In models that have one.
    pub(crate) indexer: Option<Indexer>,
    /// One per layer.
    pub(crate) layers: Vec<Layer>,
}

/// One layer.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Layer {
    pub(crate) feed_forward: FeedForward,
    pub(crate) attention: Attention,
}

/// Which tokens a layer looks at.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Attention {
    /// All.
    Whole,
    /// Those that its own indexer chooses.
    Indexed,
    /// Those that the indexer of the nearest layer before it chose (GLM-5.2).
    Shared,
}

/// What chooses tokens: many small heads over one key.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Indexer {
    pub(crate) heads: usize,
    pub(crate) dim: usize,
    /// How many tokens it chooses.
    pub(crate) kept: usize,
    /// Rotates the first dimensions.
    pub(crate) rope: Rope,
}

/// The architectures of this family.
pub(super) const ARCHITECTURES: [&str; 6] =
    ["deepseek_v3", "deepseek_v32", "glm4_moe_lite", "glm_moe_dsa", "kimi_k2", "kimi_k25"];

/// Epsilon of the norms inside the attention, which no configuration names.
const LATENT_EPS: f32 = 1e-6;

/// Keys that say what is so in any case, or that concern training and prediction of several tokens.
const WITHOUT_EFFECT: [&str; 8] = [
    "aux_loss_alpha",
    "ep_size",
    "head_dim",
    "index_share_for_mtp_iteration",
    "num_key_value_heads",
    "partial_rotary_factor",
    "qk_head_dim",
    "seq_aux",
];

impl Mla {
    pub(super) fn parse(reader: &mut Reader<'_>, architecture: &str) -> Result<Mla, Wrong> {
        for key in WITHOUT_EFFECT {
            reader.optional::<Value>(&[key])?;
        }
        reader.refuse_biases(&["mlp_bias"])?;
        let is_lite = architecture == "glm4_moe_lite";
        let (plain, rotated): (usize, usize) =
            (reader.need(&["qk_nope_head_dim"])?, reader.need(&["qk_rope_head_dim"])?);
        let named_eps = reader.optional::<f64>(&["rms_norm_eps"])?.map(|eps| eps as f32);
        let base = if is_lite { 1e6 } else { 1e4 };
        let interleaved = reader.optional(&["rope_interleave"])?.unwrap_or(true);
        let head_dim = plain.saturating_add(rotated);
        let rope = Rope::plain(reader, (rotated, head_dim), interleaved, base)?.scaled(reader)?;
        let mla = Mla {
            heads: reader.need(&["num_attention_heads"])?,
            query_rank: reader.optional(&["q_lora_rank"])?,
            latent: reader.need(&["kv_lora_rank"])?,
            plain,
            value: reader.need(&["v_head_dim"])?,
            scale: (head_dim as f64).powf(-0.5) * rope.attention(),
            // transformers has 1e-6 here too; mlx-lm and others take the other norms' epsilon.
            latent_eps: named_eps.filter(|_| is_lite).unwrap_or(LATENT_EPS),
            bias: reader.optional(&["attention_bias"])?.unwrap_or(false),
            indexer: indexer(reader, architecture, &rope)?,
            layers: layers(reader, architecture)?,
            rope,
        };
        mla.check()?;
        Ok(mla)
    }

    /// The latent and the rotated key of a token in a layer without an indexer, as numbers.
    pub(super) fn numbers_per_layer(&self) -> u64 {
        (self.latent + self.rope.dims) as u64
    }

    /// The latent, the rotated key and the indexer's key of a token, in fp32.
    pub(super) fn bytes_per_token(&self) -> u64 {
        let index = self.indexer.as_ref().map_or(0, |indexer| indexer.dim);
        let widths = self.layers.iter().map(|layer| {
            let index = if layer.attention == Attention::Indexed { index } else { 0 };
            self.latent + self.rope.dims + index
        });
        4 * widths.sum::<usize>() as u64
    }

    fn check(&self) -> Result<(), Wrong> {
        let sizes = [self.heads, self.latent, self.plain, self.value, self.layers.len()];
        check_sizes(&sizes)?;
        product(self.heads, self.plain + self.rope.dims)?;
        product(self.heads, self.plain + self.value)?;
        if let Some(rank) = self.query_rank {
            check_sizes(&[rank])?;
        }
        if let Some(indexer) = &self.indexer {
            check_sizes(&[indexer.heads, indexer.dim, indexer.kept])?;
            product(indexer.heads, indexer.dim)?;
            if indexer.dim < self.rope.dims {
                return Err(Wrong::Key(format!(
                    "index_head_dim is {}, less than the {} dimensions that are rotated",
                    indexer.dim, self.rope.dims
                )));
            }
            if self.query_rank.is_none() {
                return Err(Wrong::Key("an indexer needs a q_lora_rank".to_owned()));
            }
        }
        if self.layers[0].attention == Attention::Shared {
            return Err(Wrong::Key("the first layer has no indexer before it to share".to_owned()));
        }
        self.layers.iter().try_for_each(|layer| layer.feed_forward.check())
    }
}

fn indexer(reader: &Reader<'_>, architecture: &str, rope: &Rope) -> Result<Option<Indexer>, Wrong> {
    let is_glm = architecture == "glm_moe_dsa";
    if !is_glm && architecture != "deepseek_v32" {
        return Ok(None);
    }
    // DeepSeek's indexer pairs the two halves, GLM's the neighbours.
    let interleaved = reader.optional(&["indexer_rope_interleave"])?.unwrap_or(is_glm);
    Ok(Some(Indexer {
        heads: reader.need(&["index_n_heads"])?,
        dim: reader.need(&["index_head_dim"])?,
        kept: reader.need(&["index_topk"])?,
        rope: Rope { interleaved, ..rope.clone() },
    }))
}

fn layers(reader: &Reader<'_>, architecture: &str) -> Result<Vec<Layer>, Wrong> {
    let count: usize = reader.need(&["num_hidden_layers"])?;
    if count > LAYERS_MAX {
        return Err(Wrong::Key(format!("num_hidden_layers is {count}, more than {LAYERS_MAX}")));
    }
    let attention = attention(reader, architecture, count)?;
    let feed_forward = feed_forward(reader, count)?;
    let layers = feed_forward.into_iter().zip(attention);
    Ok(layers.map(|(feed_forward, attention)| Layer { feed_forward, attention }).collect())
}

fn feed_forward(reader: &Reader<'_>, count: usize) -> Result<Vec<FeedForward>, Wrong> {
    let inner: usize = reader.need(&["intermediate_size"])?;
    let first: usize = reader.optional(&["first_k_dense_replace"])?.unwrap_or(0);
    let step: usize = reader.optional(&["moe_layer_freq"])?.unwrap_or(1).max(1);
    let kinds: Option<Vec<String>> = reader.optional(&["mlp_layer_types"])?;
    let kinds = kinds.map(|kinds| sparse(&kinds, count)).transpose()?;
    let is_sparse = |layer: usize| match &kinds {
        Some(kinds) => kinds[layer],
        None => layer >= first && layer.is_multiple_of(step),
    };
    let dense = FeedForward::Dense { inner };
    let Some(experts) = experts(reader)? else { return Ok(vec![dense; count]) };
    Ok((0..count).map(|layer| FeedForward::choose(is_sparse(layer), &experts, inner)).collect())
}

/// `["dense", "sparse"]`, one word per layer; words more are those of the layers that predict several tokens.
fn sparse(kinds: &[String], count: usize) -> Result<Vec<bool>, Wrong> {
    if kinds.len() < count {
        return Err(Wrong::Key(format!(
            "mlp_layer_types has {} entries for {count} layers",
            kinds.len()
        )));
    }
    let is_sparse = |kind: &String| match kind.as_str() {
        "dense" => Ok(false),
        "sparse" => Ok(true),
        other => Err(Wrong::Key(format!("mlp_layer_types has {other:?}"))),
    };
    kinds.iter().map(is_sparse).collect()
}

fn experts(reader: &Reader<'_>) -> Result<Option<Experts>, Wrong> {
    let names = ["n_routed_experts", "num_local_experts", "num_experts"];
    let Some(count) = reader.optional(&names)? else { return Ok(None) };
    for (key, known) in [("topk_method", "noaux_tc"), ("scoring_func", "sigmoid")] {
        let named: Option<String> = reader.optional(&[key])?;
        if let Some(other) = named.filter(|named| named != known) {
            return Err(Wrong::Key(format!("{key} {other:?} is not supported ({known:?} is)")));
        }
    }
    let inner: usize = reader.need(&["moe_intermediate_size"])?;
    let shared: Option<usize> = reader.optional(&["n_shared_experts"])?;
    Ok(Some(Experts {
        count,
        per_token: reader.need(&["num_experts_per_tok"])?,
        inner,
        shared: shared
            .map(|shared| product(inner, shared))
            .transpose()?
            .filter(|&inner| inner > 0)
            .map(|inner| Shared::Plain { inner }),
        router: Router::Sigmoid {
            groups: reader.optional(&["n_group"])?.unwrap_or(1),
            groups_kept: reader.optional(&["topk_group"])?.unwrap_or(1),
            scaling: reader.optional::<f64>(&["routed_scaling_factor"])?.unwrap_or(1.0) as f32,
            renormalise: reader.optional(&["norm_topk_prob"])?.unwrap_or(true),
        },
    }))
}

/// Which layers have an indexer: a list of words, a pattern of letters, or one in so many layers after the first ones.
fn attention(
    reader: &Reader<'_>,
    architecture: &str,
    count: usize,
) -> Result<Vec<Attention>, Wrong> {
    match architecture {
        "deepseek_v32" => return Ok(vec![Attention::Indexed; count]),
        "glm_moe_dsa" => {}
        _ => return Ok(vec![Attention::Whole; count]),
    }
    let pattern: Option<Value> = reader.optional(&["index_topk_pattern"])?;
    let pattern = pattern.map(|pattern| words("index_topk_pattern", &pattern)).transpose()?;
    let named: Option<Value> = reader.optional(&["indexer_types"])?;
    let named = named.map(|named| words("indexer_types", &named)).transpose()?.or(pattern);
    let step: usize = reader.optional(&["index_topk_freq"])?.unwrap_or(1).max(1);
    let first: usize = reader.optional(&["index_skip_topk_offset"])?.unwrap_or(2);
    match named {
        // A word more is that of the layer that predicts several tokens.
        Some(named) if named.len() >= count => Ok(named.into_iter().take(count).collect()),
        Some(named) => Err(Wrong::Key(format!(
            "the list of indexers has {} entries for {count} layers",
            named.len()
        ))),
        None => {
            let is_full = |layer: usize| (layer + 1).saturating_sub(first).is_multiple_of(step);
            let kind = |layer| if is_full(layer) { Attention::Indexed } else { Attention::Shared };
            Ok((0..count).map(kind).collect())
        }
    }
}

/// `"FSS"` or `["full", "shared", "shared"]`.
fn words(key: &str, value: &Value) -> Result<Vec<Attention>, Wrong> {
    let words: Option<Vec<String>> = match value {
        Value::String(letters) => Some(letters.chars().map(String::from).collect()),
        Value::Array(words) => words.iter().map(|word| word.as_str().map(str::to_owned)).collect(),
        _ => None,
    };
    let kinds = words.into_iter().flatten().map(|word| match word.as_str() {
        "F" | "full" => Ok(Attention::Indexed),
        "S" | "shared" => Ok(Attention::Shared),
        other => Err(Wrong::Key(format!("{key}: {other:?} is neither full nor shared"))),
    });
    kinds.collect()
}

#[cfg(test)]
mod tests;
