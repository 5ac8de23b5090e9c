//! Which weights are packed, and how: the `quantization` entry of config.json.

use std::collections::BTreeMap;

use serde_json::Value;

use super::{Wrong, read::Reader};

/// Which weights are packed, and how.
#[derive(Debug, Clone, PartialEq, Default)]
pub(crate) struct Quantization {
    /// For every module that has scales.
    pub(crate) default: Option<Packing>,
    /// By module path; `None`: expressly unpacked.
    pub(crate) overrides: BTreeMap<String, Option<Packing>>,
}

/// Packed weights: `bits` each, in groups that share what their mode says.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Packing {
    pub(crate) bits: usize,
    pub(crate) group: usize,
    pub(crate) mode: Mode,
}

/// What a group shares.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Mode {
    /// A scale and a bias, in floats.
    Affine,
}

impl Mode {
    /// MLX's name.
    pub(crate) fn name(self) -> &'static str {
        match self {
            Mode::Affine => "affine",
        }
    }
}

impl Packing {
    pub(crate) fn affine(bits: usize, group: usize) -> Packing {
        Packing { bits, group, mode: Mode::Affine }
    }
}

impl Quantization {
    pub(super) fn parse(reader: &Reader<'_>) -> Result<Quantization, Wrong> {
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

    /// The packing of the module `path`, where the configuration says anything about it.
    pub(crate) fn packing(&self, path: &str) -> Option<Packing> {
        match self.overrides.get(path) {
            Some(packing) => *packing,
            None => self.default,
        }
    }
}

fn packing(path: &str, value: &Value) -> Result<Packing, Wrong> {
    let mode = value["mode"].as_str().unwrap_or("affine");
    if mode != "affine" {
        return Err(Wrong::Key(format!(
            "{path}: quantization mode {mode:?} is not supported (affine is)"
        )));
    }
    let number = |key: &str| value[key].as_u64().map(|number| number as usize);
    let packing = Packing::affine(number("bits").unwrap_or(4), number("group_size").unwrap_or(64));
    if ![2, 3, 4, 5, 6, 8].contains(&packing.bits) || ![32, 64, 128].contains(&packing.group) {
        return Err(Wrong::Key(format!(
            "{path}: {} bits in groups of {} are not supported",
            packing.bits, packing.group
        )));
    }
    Ok(packing)
}
