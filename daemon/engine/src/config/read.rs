//! Typed access to config.json that remembers which keys were asked for.

use std::{cell::RefCell, collections::BTreeSet, path::Path};

use serde::de::{DeserializeOwned, IntoDeserializer};
use serde_json::{Map, Value, json};

use super::Wrong;
use crate::{files, info::LoadError, job::TokenId};

/// Keys that say nothing about the arithmetic of the supported architectures.
const HARMLESS: [&str; 45] = [
    "_name_or_path",
    "architectures",
    "attention_dropout",
    "attn_temperature_tuning",
    "auto_map",
    "bos_token_id",
    "dtype",
    "eos_token_id",
    "hidden_act",
    "hidden_dropout",
    "image_token_id",
    "initializer_range",
    "layer_types",
    "mamba_ssm_dtype",
    "max_window_layers",
    "mlp_only_layers",
    "model_type",
    "moe_layer_freq",
    "moe_router_dtype",
    "mtp_num_hidden_layers",
    "mtp_use_dedicated_embeddings",
    "name",
    "num_nextn_predict_layers",
    "output_router_logits",
    "pad_token_id",
    "pretraining_tp",
    "quantization",
    "quantization_config",
    "rope_interleave",
    "rope_parameters",
    "rope_scaling",
    "router_aux_loss_coef",
    "scoring_func",
    "sliding_window",
    "text_config",
    "topk_method",
    "torch_dtype",
    "transformers_version",
    "unsloth_version",
    "use_cache",
    "use_sliding_window",
    "video_token_id",
    "vision_config",
    "vision_end_token_id",
    "vision_start_token_id",
];

/// Other names of the same fact, as architectures and converters have them.
const ALIASES: [&[&str]; 2] = [
    &["num_experts", "num_local_experts", "n_routed_experts"],
    &["num_experts_per_tok", "num_experts_per_token", "experts_per_token"],
];

/// Where the facts about rotary positions are nested; the first one that has a key is right.
const ROPE: [&str; 2] = ["rope_parameters", "rope_scaling"];

/// One of these, by its name.
type Place<'j> = (&'static str, &'j Map<String, Value>);

/// Keys of these that say nothing about the positions of a text.
const ROPE_HARMLESS: [&str; 5] =
    ["finetuned", "mrope_interleaved", "mrope_section", "rope_type", "type"];

/// The configuration of a text model.
pub(super) struct Reader<'j> {
    outer: &'j Map<String, Value>,
    /// `text_config`, where there is one; its keys go first.
    inner: Option<&'j Map<String, Value>>,
    asked: RefCell<BTreeSet<String>>,
    /// The objects about rotary positions, by the names of [`ROPE`].
    rope: Vec<Place<'j>>,
    rope_asked: RefCell<BTreeSet<String>>,
}

/// Reads and parses a JSON file.
pub(super) fn file(path: &Path) -> Result<Value, LoadError> {
    let text = files::read(path)
        .map_err(|error| LoadError::File { path: path.to_owned(), reason: error.to_string() })?;
    serde_json::from_slice(&text).map_err(|error| LoadError::Config {
        path: path.to_owned(),
        reason: format!("not JSON ({error})"),
    })
}

impl<'j> Reader<'j> {
    pub(super) fn new(json: &'j Value) -> Result<Self, Wrong> {
        static EMPTY: std::sync::LazyLock<Map<String, Value>> = std::sync::LazyLock::new(Map::new);
        let outer = match json {
            Value::Object(outer) => outer,
            Value::Null => &EMPTY,
            _ => return Err(Wrong::Key("not a JSON object".to_owned())),
        };
        let inner = outer.get("text_config").and_then(Value::as_object);
        let mut reader = Self {
            outer,
            inner,
            asked: RefCell::default(),
            rope: Vec::new(),
            rope_asked: RefCell::default(),
        };
        reader.rope = reader.rope_nested()?;
        Ok(reader)
    }

    fn get(&self, key: &str) -> Option<&'j Value> {
        self.asked.borrow_mut().insert(key.to_owned());
        let places = [self.inner, Some(self.outer)].into_iter().flatten();
        places.filter_map(|place| place.get(key)).find(|value| !value.is_null())
    }

    /// The value under one of the names, or under another name of the same fact, and that name.
    fn find<'n>(&self, names: &[&'n str]) -> Option<(&'n str, &'j Value)> {
        let same =
            ALIASES.into_iter().filter(|group| names.iter().any(|name| group.contains(name)));
        let mut names = names.iter().chain(same.flatten());
        // All of them are asked for, so that a second spelling is not reported as unknown.
        let found: Vec<_> = names.by_ref().map(|&name| (name, self.get(name))).collect();
        found.into_iter().find_map(|(name, value)| Some((name, value?)))
    }

    /// The value under the first of the names that is there.
    pub(super) fn optional<T: DeserializeOwned>(&self, names: &[&str]) -> Result<Option<T>, Wrong> {
        self.find(names).map(|(name, value)| typed(name, value)).transpose()
    }

    /// Like [`Reader::optional`], of a value that every such model has.
    pub(super) fn need<T: DeserializeOwned>(&self, names: &[&str]) -> Result<T, Wrong> {
        self.optional(names)?.ok_or_else(|| Wrong::Key(format!("{} is missing", names[0])))
    }

    /// A number or a list of numbers.
    pub(super) fn tokens(&self, key: &str) -> Result<Vec<TokenId>, Wrong> {
        match self.get(key) {
            None => Ok(Vec::new()),
            Some(value @ Value::Array(_)) => typed(key, value),
            Some(value) => Ok(vec![typed(key, value)?]),
        }
    }

    /// The objects that describe rotary positions. They may be nested once more, by the kind of layer; then the kinds that occur have to
    /// agree.
    fn rope_nested(&self) -> Result<Vec<Place<'j>>, Wrong> {
        let kinds: Vec<String> = self.optional(&["layer_types"])?.unwrap_or_default();
        let mut found = Vec::new();
        for name in ROPE {
            let Some(parameters) = self.get(name).and_then(Value::as_object) else { continue };
            let mut by_kind = parameters
                .iter()
                .filter(|(kind, _)| kind.ends_with("_attention"))
                .filter(|(kind, _)| kinds.is_empty() || kinds.contains(kind))
                .filter_map(|(_, value)| value.as_object());
            let is_nested = parameters.keys().any(|kind| kind.ends_with("_attention"));
            match by_kind.next() {
                Some(first) if by_kind.all(|other| other == first) => found.push((name, first)),
                None if !is_nested => found.push((name, parameters)),
                None => {}
                Some(_) => {
                    return Err(Wrong::Key(format!(
                        "{name} differ between kinds of layers, which is not supported"
                    )));
                }
            }
        }
        Ok(found)
    }

    /// A key of `rope_parameters`, `rope_scaling`, or the top level.
    pub(super) fn rope_key<T: DeserializeOwned>(&self, key: &str) -> Result<Option<T>, Wrong> {
        self.rope_asked.borrow_mut().insert(key.to_owned());
        let mut nested = self.rope.iter().filter_map(|(_, parameters)| parameters.get(key));
        let top = self.get(key);
        let found = nested.find(|value| !value.is_null()).or(top);
        found.map(|value| typed(key, value)).transpose()
    }

    pub(super) fn rope_type(&self) -> Result<String, Wrong> {
        let named: Option<String> = match self.rope_key("rope_type")? {
            None => {
                let mut old = self.rope.iter().filter_map(|(_, parameters)| parameters.get("type"));
                old.next().map(|value| typed("type", value)).transpose()?
            }
            named => named,
        };
        Ok(named.unwrap_or_else(|| "default".to_owned()))
    }

    /// What would be computed wrongly, whatever the architecture.
    pub(super) fn refuse_what_is_not_done(&self) -> Result<(), Wrong> {
        let activation: Option<String> = self.optional(&["hidden_act", "hidden_activation"])?;
        if let Some(other) = activation.filter(|name| !["silu", "swish"].contains(&name.as_str())) {
            return Err(Wrong::Key(format!("hidden_act {other:?} is not supported (silu is)")));
        }
        if self.optional(&["quantize_activations"])?.unwrap_or(false) {
            return Err(Wrong::Key("quantize_activations is not supported".to_owned()));
        }
        if let Some(file) = self.optional::<String>(&["model_file"])? {
            return Err(Wrong::Key(format!(
                "model_file is {file:?}, and a model's code is never run"
            )));
        }
        Ok(())
    }

    /// Biases that models of this architecture do not have, in the reference implementation either.
    pub(super) fn refuse_biases(&self, keys: &[&str]) -> Result<(), Wrong> {
        for key in keys {
            if self.optional(&[key])?.unwrap_or(false) {
                return Err(Wrong::Key(format!("{key} is not supported here")));
            }
        }
        Ok(())
    }

    /// The packing in which gpt-oss is published: of every module that has scales.
    pub(super) fn is_published_mxfp4(&self) -> bool {
        let published = self.get("quantization").is_none().then(|| self.get("quantization_config"));
        published.flatten().is_some_and(|config| config["quant_method"] == "mxfp4")
    }

    pub(super) fn quantization(&self) -> Result<Option<&'j Map<String, Value>>, Wrong> {
        let found = self.get("quantization").or_else(|| self.get("quantization_config"));
        let Some(value) = found else { return Ok(None) };
        let entries = value
            .as_object()
            .ok_or_else(|| Wrong::Key("quantization is not an object".to_owned()))?;
        match entries.get("quant_method").and_then(Value::as_str) {
            // Blocks of 8-bit floats are known by their scales.
            Some("fp8") if entries.get("weight_block_size") == Some(&json!([128, 128])) => Ok(None),
            // What is packed is known by its tensors' names.
            Some("compressed-tensors") => supported_compression(entries).map(|()| None),
            Some(method) => Err(Wrong::Key(format!(
                "quantization by {method:?} is not supported; convert with mlx-lm"
            ))),
            None => Ok(Some(entries)),
        }
    }

    /// The keys that nobody asked for.
    pub(super) fn unknown(&self) -> Vec<String> {
        let asked = self.asked.borrow();
        let keys = self.outer.keys().chain(self.inner.into_iter().flat_map(Map::keys));
        let known = |key: &&String| asked.contains(*key) || HARMLESS.contains(&key.as_str());
        let mut unknown: Vec<String> = keys.filter(|key| !known(key)).cloned().collect();
        let asked = self.rope_asked.borrow();
        for (place, parameters) in &self.rope {
            let unasked = parameters.iter().filter(|(key, value)| {
                !value.is_null() && !asked.contains(*key) && !ROPE_HARMLESS.contains(&key.as_str())
            });
            unknown.extend(unasked.map(|(key, _)| format!("{place}.{key}")));
        }
        unknown
    }
}

/// Of what compressed-tensors knows, whole numbers of 4 bits around zero are affine packing in other words.
fn supported_compression(entries: &Map<String, Value>) -> Result<(), Wrong> {
    let format = entries.get("format").and_then(Value::as_str).unwrap_or("?");
    let groups = entries.get("config_groups").and_then(Value::as_object);
    let is_affine = |group: &Value| {
        let weights = &group["weights"];
        weights["num_bits"] == 4
            && weights["type"] == "int"
            && weights["symmetric"] == true
            && matches!(weights["group_size"].as_u64(), Some(32 | 64 | 128))
            && matches!(weights["actorder"], Value::Null | Value::Bool(false))
    };
    if format == "pack-quantized" && groups.is_some_and(|groups| groups.values().all(is_affine)) {
        return Ok(());
    }
    Err(Wrong::Key(format!(
        "quantization by \"compressed-tensors\" in format {format:?} is not supported (symmetric int4 in groups, pack-quantized, is); convert with mlx-lm"
    )))
}

fn typed<T: DeserializeOwned>(key: &str, value: &Value) -> Result<T, Wrong> {
    let wrong = |error: serde_json::Error| Wrong::Key(format!("{key}: {error}"));
    // Floats that JSON does not have are written {"__float__": "Infinity"}.
    match value.get("__float__").and_then(Value::as_str).and_then(|text| text.parse::<f64>().ok()) {
        Some(number) => {
            T::deserialize(IntoDeserializer::<serde_json::Error>::into_deserializer(number))
                .map_err(wrong)
        }
        None => serde_json::from_value(value.clone()).map_err(wrong),
    }
}
