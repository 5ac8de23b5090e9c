//! config.json, in the one form that the rest of the engine reads.
//!
//! The same facts are spelled in many ways: nested under `text_config`, under `rope_parameters` (transformers 5), with three
//! names for the number of experts. All of that ends here. Keys that the engine does not know are reported and ignored; an
//! architecture that it does not know is an error that names the known ones.

pub(crate) mod deepseek_v41;
mod feed_forward;
mod footprint;
mod gdn;
mod gpt_oss;
mod gqa;
mod kv;
mod minimax;
pub(crate) mod mla;
mod quantization;
mod read;
mod rope;

use std::path::Path;

use serde_json::Value;

use crate::{info::LoadError, job::TokenId};
use deepseek_v41::DeepseekV41;
use read::Reader;

pub(crate) use feed_forward::{Experts, FeedForward, Router, Shared};
pub(crate) use footprint::Footprint;
pub(crate) use gdn::{Delta, Gdn, Mixer};
pub(crate) use gqa::{Gqa, KeyNorm, Mixtures};
pub(crate) use kv::KvPacking;
pub(crate) use mla::{Attention, Indexer, Mla};
pub(crate) use quantization::{Mode, Packing, Quantization};
pub(crate) use rope::{Llama3, Rope, Scaling, Yarn};

/// The architectures that `models` can run, by their `model_type`.
pub(crate) const ARCHITECTURES: [&str; 19] = [
    "deepseek_v3",
    "deepseek_v32",
    "deepseek_v41",
    "glm4_moe",
    "glm4_moe_lite",
    "glm_moe_dsa",
    "gpt_oss",
    "kimi_k2",
    "kimi_k25",
    "llama",
    "minimax",
    "minimax_m2",
    "mistral",
    "qwen2",
    "qwen3",
    "qwen3_5",
    "qwen3_5_moe",
    "qwen3_moe",
    "qwen3_next",
];

/// More layers than any model has: a larger number is a broken file, and would take the memory before anything is checked.
const LAYERS_MAX: usize = 4096;

/// What a decoder is made of.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct ModelConfig {
    /// `model_type`.
    pub(crate) architecture: String,
    /// Rows of the embedding.
    pub(crate) vocabulary: usize,
    /// Width of the residual stream.
    pub(crate) hidden: usize,
    /// Epsilon of every RMS norm.
    pub(crate) norm_eps: f32,
    /// The head is the embedding. `None`: if and only if the files have no head.
    pub(crate) tied: Option<bool>,
    pub(crate) context_max: usize,
    pub(crate) quantization: Quantization,
    /// End-of-text tokens of config.json and generation_config.json.
    pub(crate) eos: Vec<TokenId>,
    /// How cached keys and values are packed; loading decides.
    pub(crate) kv: Option<KvPacking>,
    /// The files hold a layer behind the last one, that drafts, and it is wanted; loading decides.
    pub(crate) mtp: bool,
    /// Keys that were ignored.
    pub(crate) unknown: Vec<String>,
    /// What only models of one kind have.
    pub(crate) family: Family,
}

/// The kinds of decoders; one file of `config` and one of `models` each.
#[derive(Debug, Clone, PartialEq)]
pub(crate) enum Family {
    /// Grouped-query attention.
    Gqa(Gqa),
    /// Multi-head latent attention.
    Mla(Mla),
    /// DeepSeek-V4.1.
    DeepseekV41(Box<DeepseekV41>),
    /// Gated delta nets between layers of full attention.
    Gdn(Gdn),
}

impl Family {
    fn parse(reader: &mut Reader<'_>, architecture: &str, hidden: usize) -> Result<Family, Wrong> {
        Ok(match architecture {
            "deepseek_v41" => Family::DeepseekV41(Box::new(DeepseekV41::parse(reader)?)),
            "qwen3_next" | "qwen3_5" | "qwen3_5_moe" => {
                Family::Gdn(Gdn::parse(reader, architecture, hidden)?)
            }
            "gpt_oss" => Family::Gqa(gpt_oss::parse(reader)?),
            "minimax" | "minimax_m2" => Family::Gqa(minimax::parse(reader, hidden)?),
            name if mla::ARCHITECTURES.contains(&name) => {
                Family::Mla(Mla::parse(reader, architecture)?)
            }
            _ => Family::Gqa(Gqa::parse(reader, architecture, hidden)?),
        })
    }

    /// Bytes of cache that every token of context takes; in fp32 what is not packed.
    fn bytes_per_token(&self, kv: Option<KvPacking>) -> u64 {
        match self {
            Family::Gqa(gqa) => gqa.bytes_per_token(kv),
            Family::Mla(mla) => mla.bytes_per_token(),
            Family::DeepseekV41(model) => model.bytes_per_token(),
            Family::Gdn(gdn) => gdn.bytes_per_token(kv),
        }
    }

    /// How keys and values are packed into so many bits.
    fn kv_packing(&self, bits: u8) -> Result<KvPacking, String> {
        match self {
            Family::Gqa(gqa) if gqa.windows.iter().all(Option::is_some) => {
                Err(KvPacking::refused(bits, KvPacking::WINDOWS))
            }
            Family::Gqa(gqa) => KvPacking::new(bits, gqa.head_dim),
            Family::Gdn(gdn) => KvPacking::new(bits, gdn.attention.head_dim),
            Family::DeepseekV41(_) | Family::Mla(_) => {
                Err(KvPacking::refused(bits, KvPacking::OTHER))
            }
        }
    }
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

    /// The same with a cache of `bits` per number, if any are given.
    pub(crate) fn with_kv_bits(mut self, bits: Option<u8>) -> Result<ModelConfig, LoadError> {
        let packing = bits.map(|bits| self.family.kv_packing(bits)).transpose();
        self.kv = packing.map_err(LoadError::Options)?;
        Ok(self)
    }

    fn parse(json: &Value, generation: &Value) -> Result<ModelConfig, Wrong> {
        let mut reader = Reader::new(json)?;
        let named: String = reader.need(&["model_type"])?;
        // The text part of a model with images.
        let architecture = named.strip_suffix("_text").unwrap_or(&named).to_owned();
        if !ARCHITECTURES.contains(&architecture.as_str()) {
            return Err(Wrong::Architecture(architecture));
        }
        reader.refuse_what_is_not_done()?;
        let hidden: usize = reader.need(&["hidden_size"])?;
        // These configurations may say so, but their weights always have a head.
        let has_head = architecture == "glm4_moe" || mla::ARCHITECTURES.contains(&&*architecture);
        let default_eps = match architecture.as_str() {
            "deepseek_v41" => 1e-20,
            "gpt_oss" => 1e-5,
            _ => 1e-6,
        };
        let config = ModelConfig {
            vocabulary: reader.need(&["vocab_size"])?,
            hidden,
            norm_eps: reader.optional::<f64>(&["rms_norm_eps"])?.unwrap_or(default_eps) as f32,
            tied: reader
                .optional(&["tie_word_embeddings"])?
                .filter(|_| !has_head)
                .or(has_head.then_some(false)),
            context_max: rope::context_max(&reader)?,
            quantization: Quantization::parse(&reader)?,
            eos: reader
                .tokens("eos_token_id")?
                .into_iter()
                .chain(Reader::new(generation)?.tokens("eos_token_id")?)
                .collect(),
            family: Family::parse(&mut reader, &architecture, hidden)?,
            kv: None,
            mtp: false,
            unknown: reader.unknown(),
            architecture,
        };
        check_sizes(&[config.vocabulary, config.hidden, config.context_max])?;
        if !config.norm_eps.is_finite() || config.norm_eps < 0.0 {
            return Err(Wrong::Key(format!("rms_norm_eps is {}", config.norm_eps)));
        }
        Ok(config)
    }
}

/// Sizes that arrays are made of.
fn check_sizes(sizes: &[usize]) -> Result<(), Wrong> {
    if sizes.contains(&0) {
        return Err(Wrong::Key("a size is 0".to_owned()));
    }
    if sizes.iter().any(|&size| size > i32::MAX as usize) {
        return Err(Wrong::Key("a size is beyond 2³¹".to_owned()));
    }
    Ok(())
}

/// A size that is so many others together.
fn product(one: usize, other: usize) -> Result<usize, Wrong> {
    let product = one.checked_mul(other).filter(|&product| product <= i32::MAX as usize);
    product.ok_or_else(|| Wrong::Key("a size is beyond 2³¹".to_owned()))
}

/// How far back layers look: at least at one token, and twice as far is still a number that arrays have.
fn check_windows<'w>(windows: impl IntoIterator<Item = &'w usize>) -> Result<(), Wrong> {
    let most = i32::MAX as usize / 2;
    match windows.into_iter().find(|&&window| window == 0 || window > most) {
        Some(window) => {
            Err(Wrong::Key(format!("sliding_window is {window}, and may be 1 to {most}")))
        }
        None => Ok(()),
    }
}

/// The number of layers, or `default` where the configuration may leave it out.
fn layer_count(reader: &Reader<'_>, default: Option<usize>) -> Result<usize, Wrong> {
    let count = match default {
        Some(default) => reader.optional(&["num_hidden_layers"])?.unwrap_or(default),
        None => reader.need(&["num_hidden_layers"])?,
    };
    if count > LAYERS_MAX {
        return Err(Wrong::Key(format!("num_hidden_layers is {count}, more than {LAYERS_MAX}")));
    }
    Ok(count)
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

#[cfg(test)]
mod tests;
