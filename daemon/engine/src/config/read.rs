//! Typed access to config.json that remembers which keys were asked for.

use std::{cell::RefCell, collections::BTreeSet, fs, path::Path};

use serde::de::DeserializeOwned;
use serde_json::{Map, Value};

use super::Wrong;
use crate::{info::LoadError, job::TokenId};

/// Keys that say nothing about the arithmetic of the supported architectures.
const HARMLESS: [&str; 38] = [
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
    "initializer_range",
    "layer_types",
    "max_window_layers",
    "mlp_only_layers",
    "model_type",
    "moe_layer_freq",
    "moe_router_dtype",
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
    "vision_config",
];

/// The configuration of a text model.
pub(super) struct Reader<'j> {
    outer: &'j Map<String, Value>,
    /// `text_config`, where there is one; its keys go first.
    inner: Option<&'j Map<String, Value>>,
    asked: RefCell<BTreeSet<String>>,
    rope_scaling_ignored: bool,
}

/// Reads and parses a JSON file.
pub(super) fn file(path: &Path) -> Result<Value, LoadError> {
    let text = fs::read(path)
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
        Ok(Self { outer, inner, asked: RefCell::default(), rope_scaling_ignored: false })
    }

    fn get(&self, key: &str) -> Option<&'j Value> {
        self.asked.borrow_mut().insert(key.to_owned());
        let found = self.inner.and_then(|inner| inner.get(key)).or_else(|| self.outer.get(key));
        found.filter(|value| !value.is_null())
    }

    /// The value under the first of the names that is there.
    pub(super) fn optional<T: DeserializeOwned>(&self, names: &[&str]) -> Result<Option<T>, Wrong> {
        let found =
            names.iter().filter_map(|name| self.get(name).map(|value| (name, value))).next();
        found.map(|(name, value)| typed(name, value)).transpose()
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

    /// A key of `rope_parameters`, `rope_scaling`, or the top level.
    pub(super) fn rope_key<T: DeserializeOwned>(&self, key: &str) -> Result<Option<T>, Wrong> {
        let nested = ["rope_parameters", "rope_scaling"]
            .iter()
            .filter_map(|outer| self.get(outer)?.get(key))
            .next();
        let found = self.get(key).or(nested.filter(|value| !value.is_null()));
        found.map(|value| typed(key, value)).transpose()
    }

    pub(super) fn rope_type(&self) -> Result<String, Wrong> {
        let named: Option<String> = match self.rope_key("rope_type")? {
            None => {
                let nested = ["rope_parameters", "rope_scaling"]
                    .iter()
                    .filter_map(|outer| self.get(outer)?.get("type"));
                nested.map(|value| typed("type", value)).next().transpose()?
            }
            named => named,
        };
        Ok(named.unwrap_or_else(|| "default".to_owned()))
    }

    /// Reports a scaling that is not applied.
    pub(super) fn ignore_rope_scaling(&mut self) {
        self.rope_scaling_ignored = !matches!(self.rope_type().as_deref(), Ok("default"));
    }

    pub(super) fn quantization(&self) -> Result<Option<&'j Map<String, Value>>, Wrong> {
        let found = self.get("quantization").or_else(|| self.get("quantization_config"));
        let Some(value) = found else { return Ok(None) };
        let entries = value
            .as_object()
            .ok_or_else(|| Wrong::Key("quantization is not an object".to_owned()))?;
        match entries.get("quant_method").and_then(Value::as_str) {
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
        unknown.extend(self.rope_scaling_ignored.then(|| "rope_scaling".to_owned()));
        unknown
    }
}

fn typed<T: DeserializeOwned>(key: &str, value: &Value) -> Result<T, Wrong> {
    // mlx-lm writes floats that JSON does not have as {"__float__": "Infinity"}; none of the keys read here may be one.
    serde_json::from_value(value.clone()).map_err(|error| Wrong::Key(format!("{key}: {error}")))
}
