//! config.json, in the one form that the rest of the engine reads.
//!
//! The same facts are spelled in many ways: nested under `text_config`, under `rope_parameters` (transformers 5), with three
//! names for the number of experts. All of that ends here. Keys that the engine does not know are reported and ignored; an
//! architecture that it does not know is an error that names the known ones.

mod read;

use std::{collections::BTreeMap, path::Path};

use serde_json::Value;

use crate::{info::LoadError, job::TokenId};
use read::Reader;

/// The architectures that `models` can run, by their `model_type`.
pub(crate) const ARCHITECTURES: [&str; 5] = ["glm4_moe", "llama", "qwen2", "qwen3", "qwen3_moe"];

/// More layers than any model has: a larger number is a broken file, and would take the memory before anything is checked.
const LAYERS_MAX: usize = 4096;

/// What a decoder with grouped-query attention is made of.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct ModelConfig {
    /// `model_type`.
    pub(crate) architecture: String,
    /// Rows of the embedding.
    pub(crate) vocabulary: usize,
    /// Width of the residual stream.
    pub(crate) hidden: usize,
    pub(crate) heads: usize,
    pub(crate) kv_heads: usize,
    pub(crate) head_dim: usize,
    pub(crate) rope: Rope,
    /// Epsilon of every RMS norm.
    pub(crate) norm_eps: f32,
    /// The head is the embedding.
    pub(crate) tied: bool,
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
    pub(crate) context_max: usize,
    pub(crate) quantization: Quantization,
    /// End-of-text tokens of config.json and generation_config.json.
    pub(crate) eos: Vec<TokenId>,
    /// Keys that were ignored.
    pub(crate) unknown: Vec<String>,
}

/// Rotary position embedding.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Rope {
    /// The first so many dimensions of a head are rotated.
    pub(crate) dims: usize,
    /// Neighbouring dimensions form a pair, instead of the two halves.
    pub(crate) interleaved: bool,
    pub(crate) base: f32,
    /// Positions are multiplied by it.
    pub(crate) scale: f32,
    /// Llama 3's scaling by wavelength.
    pub(crate) llama3: Option<Llama3>,
}

/// The parameters of Llama 3's rope scaling.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) struct Llama3 {
    pub(crate) factor: f32,
    pub(crate) low: f32,
    pub(crate) high: f32,
    pub(crate) context_original: f32,
}

/// The feed-forward part of a layer.
#[derive(Debug, Clone, PartialEq)]
pub(crate) enum FeedForward {
    Dense { inner: usize },
    Experts(Experts),
}

/// A mixture of experts.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Experts {
    pub(crate) count: usize,
    /// How many of them see a token.
    pub(crate) per_token: usize,
    pub(crate) inner: usize,
    /// Width of the experts that see every token.
    pub(crate) shared_inner: Option<usize>,
    pub(crate) router: Router,
}

/// How experts are chosen.
#[derive(Debug, Clone, PartialEq)]
pub(crate) enum Router {
    /// Softmax over all, the best are taken (Qwen).
    Softmax { renormalise: bool },
    /// Sigmoid, a correction bias for the choice alone, the best of the best groups (DeepSeek-V3, GLM).
    Sigmoid { groups: usize, groups_kept: usize, scaling: f32, renormalise: bool },
}

/// Which weights are packed, and how.
#[derive(Debug, Clone, PartialEq, Default)]
pub(crate) struct Quantization {
    /// For every module that has scales.
    pub(crate) default: Option<Packing>,
    /// By module path; `None`: expressly unpacked.
    pub(crate) overrides: BTreeMap<String, Option<Packing>>,
}

/// Affine packing: `bits` per weight, one scale and one bias per group.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Packing {
    pub(crate) bits: usize,
    pub(crate) group: usize,
}

impl ModelConfig {
    /// Reads config.json and, where there is one, generation_config.json.
    pub(crate) fn load(dir: &Path) -> Result<ModelConfig, LoadError> {
        let path = dir.join("config.json");
        let json = read::file(&path)?;
        let generation = match read::file(&dir.join("generation_config.json")) {
            Err(LoadError::File { .. }) => Value::Null,
            other => other?,
        };
        ModelConfig::parse(&json, &generation).map_err(|error| match error {
            Wrong::Architecture(found) => unknown_architecture(found),
            Wrong::Key(reason) => LoadError::Config { path, reason },
        })
    }

    fn parse(json: &Value, generation: &Value) -> Result<ModelConfig, Wrong> {
        let mut reader = Reader::new(json)?;
        let architecture: String = reader.need(&["model_type"])?;
        if !ARCHITECTURES.contains(&architecture.as_str()) {
            return Err(Wrong::Architecture(architecture));
        }
        let is_glm = architecture == "glm4_moe";
        let is_qwen2 = architecture == "qwen2";
        let is_llama = architecture == "llama";
        let hidden: usize = reader.need(&["hidden_size"])?;
        let heads: usize = reader.need(&["num_attention_heads"])?;
        // mlx-lm does not ask Qwen 2 for it.
        let head_dim =
            reader.optional(&["head_dim"])?.filter(|_| !is_qwen2).unwrap_or(hidden / heads.max(1));
        let attention_bias = reader.optional(&["attention_bias"])?.unwrap_or(false);
        let config = ModelConfig {
            vocabulary: reader.need(&["vocab_size"])?,
            hidden,
            heads,
            kv_heads: reader.optional(&["num_key_value_heads"])?.unwrap_or(heads),
            head_dim,
            rope: rope(&mut reader, &architecture, head_dim)?,
            norm_eps: reader.optional::<f64>(&["rms_norm_eps"])?.unwrap_or(1e-6) as f32,
            // GLM's configuration may say so, but its weights always have a head.
            tied: reader.optional(&["tie_word_embeddings"])?.unwrap_or(is_llama || is_qwen2)
                && !is_glm,
            qkv_bias: is_qwen2 || ((is_llama || is_glm) && attention_bias),
            output_bias: is_llama && attention_bias,
            mlp_bias: reader.optional(&["mlp_bias"])?.unwrap_or(false) && is_llama,
            qk_norm: match architecture.as_str() {
                "qwen3" | "qwen3_moe" => true,
                "glm4_moe" => reader.optional(&["use_qk_norm"])?.unwrap_or(false),
                _ => false,
            },
            layers: feed_forward(&mut reader, &architecture)?,
            context_max: reader.optional(&["max_position_embeddings"])?.unwrap_or(4096),
            quantization: quantization(&mut reader)?,
            eos: reader
                .tokens("eos_token_id")?
                .into_iter()
                .chain(Reader::new(generation)?.tokens("eos_token_id")?)
                .collect(),
            unknown: reader.unknown(),
            architecture,
        };
        config.check()?;
        Ok(config)
    }

    /// What the arithmetic takes for granted.
    fn check(&self) -> Result<(), Wrong> {
        let wrong = |reason: String| Err(Wrong::Key(reason));
        let sizes = [
            self.vocabulary,
            self.hidden,
            self.heads,
            self.kv_heads,
            self.head_dim,
            self.context_max,
        ];
        if sizes.contains(&0) || self.layers.is_empty() {
            return wrong("a size is 0".to_owned());
        }
        if sizes.iter().any(|&size| size > i32::MAX as usize) {
            return wrong("a size is beyond 2³¹".to_owned());
        }
        if !(self.rope.base > 0.0 && self.norm_eps >= 0.0) {
            return wrong(format!(
                "rope_theta is {} and rms_norm_eps {}, both must be positive",
                self.rope.base, self.norm_eps
            ));
        }
        if !self.heads.is_multiple_of(self.kv_heads) {
            return wrong(format!(
                "{} heads cannot share {} key-value heads",
                self.heads, self.kv_heads
            ));
        }
        for layer in &self.layers {
            let FeedForward::Experts(experts) = layer else { continue };
            if experts.per_token == 0 || experts.per_token > experts.count {
                return wrong(format!(
                    "{} of {} experts per token",
                    experts.per_token, experts.count
                ));
            }
            if let Router::Sigmoid { groups, groups_kept, .. } = experts.router
                && (groups == 0
                    || groups_kept == 0
                    || groups_kept > groups
                    || !experts.count.is_multiple_of(groups))
            {
                return wrong(format!(
                    "{groups_kept} of {groups} groups of {} experts",
                    experts.count
                ));
            }
        }
        Ok(())
    }

    /// The packing of the module `path`, where the configuration says anything about it.
    pub(crate) fn packing(&self, path: &str) -> Option<Packing> {
        match self.quantization.overrides.get(path) {
            Some(packing) => *packing,
            None => self.quantization.default,
        }
    }
}

/// What can be wrong inside config.json.
#[derive(Debug, PartialEq)]
enum Wrong {
    Architecture(String),
    Key(String),
}

fn unknown_architecture(found: String) -> LoadError {
    let near = ARCHITECTURES.iter().map(|name| (strsim::jaro_winkler(name, &found), name));
    let near = near.filter(|(likeness, _)| *likeness > 0.8).max_by(|a, b| a.0.total_cmp(&b.0));
    let suggestion = near.map(|(_, name)| (*name).to_owned());
    LoadError::Architecture { found, suggestion, supported: ARCHITECTURES.join(", ") }
}

fn rope(reader: &mut Reader<'_>, architecture: &str, head_dim: usize) -> Result<Rope, Wrong> {
    let default_base = if architecture == "qwen2" { 1e6 } else { 1e4 };
    let base = reader.rope_key::<f64>("rope_theta")?.unwrap_or(default_base) as f32;
    let partial = reader.rope_key::<f64>("partial_rotary_factor")?.unwrap_or(1.0);
    let interleaved = reader.optional(&["rope_traditional"])?.unwrap_or(false);
    let dims = (head_dim as f64 * partial) as usize;
    let mut rope = Rope { dims, interleaved, base, scale: 1.0, llama3: None };
    // mlx-lm takes no notice of a scaling in these two, and neither do their published weights need one.
    if matches!(architecture, "qwen3_moe" | "glm4_moe") {
        reader.ignore_rope_scaling();
        return Ok(rope);
    }
    match reader.rope_type()?.as_str() {
        "default" => {}
        "linear" => rope.scale = 1.0 / reader.rope_need("factor")?,
        "llama3" => {
            rope.llama3 = Some(Llama3 {
                factor: reader.rope_need("factor")?,
                low: reader.rope_key::<f64>("low_freq_factor")?.unwrap_or(1.0) as f32,
                high: reader.rope_key::<f64>("high_freq_factor")?.unwrap_or(4.0) as f32,
                context_original: reader
                    .rope_key::<f64>("original_max_position_embeddings")?
                    .unwrap_or(8192.0) as f32,
            });
        }
        other => {
            return Err(Wrong::Key(format!(
                "rope scaling {other:?} is not supported (default, linear, llama3 are)"
            )));
        }
    }
    Ok(rope)
}

fn feed_forward(reader: &mut Reader<'_>, architecture: &str) -> Result<Vec<FeedForward>, Wrong> {
    let count: usize = reader.need(&["num_hidden_layers"])?;
    if count > LAYERS_MAX {
        return Err(Wrong::Key(format!("num_hidden_layers is {count}, more than {LAYERS_MAX}")));
    }
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
            Ok((0..count).map(|layer| choose(is_sparse(layer), &experts, inner)).collect())
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
            Ok((0..count).map(|layer| choose(layer >= dense, &experts, inner)).collect())
        }
        _ => {
            reader.refuse_sliding_window()?;
            Ok(vec![FeedForward::Dense { inner }; count])
        }
    }
}

fn choose(is_sparse: bool, experts: &Experts, inner: usize) -> FeedForward {
    if is_sparse { FeedForward::Experts(experts.clone()) } else { FeedForward::Dense { inner } }
}

fn quantization(reader: &mut Reader<'_>) -> Result<Quantization, Wrong> {
    let Some(entries) = reader.quantization()? else { return Ok(Quantization::default()) };
    let mut quantization = Quantization::default();
    if entries.contains_key("bits") {
        quantization.default = Some(packing("quantization", &Value::Object(entries.clone()))?);
    }
    for (path, value) in entries {
        let packing = match value {
            Value::Bool(false) => None,
            Value::Object(_) => Some(packing(path, value)?),
            _ => continue, // bits, group_size, mode, and what converters note beside them
        };
        quantization.overrides.insert(path.clone(), packing);
    }
    Ok(quantization)
}

fn packing(path: &str, value: &Value) -> Result<Packing, Wrong> {
    let mode = value["mode"].as_str().unwrap_or("affine");
    if mode != "affine" {
        return Err(Wrong::Key(format!(
            "{path}: quantization mode {mode:?} is not supported (affine is)"
        )));
    }
    let number = |key: &str| value[key].as_u64().map(|number| number as usize);
    let packing =
        Packing { bits: number("bits").unwrap_or(4), group: number("group_size").unwrap_or(64) };
    if ![2, 3, 4, 5, 6, 8].contains(&packing.bits) || ![32, 64, 128].contains(&packing.group) {
        return Err(Wrong::Key(format!(
            "{path}: {} bits in groups of {} are not supported",
            packing.bits, packing.group
        )));
    }
    Ok(packing)
}

#[cfg(test)]
mod tests;
