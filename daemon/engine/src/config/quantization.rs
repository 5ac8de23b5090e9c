//! Which weights are packed, and how: the `quantization` entry of config.json.

use std::collections::BTreeMap;

use serde_json::Value;

use super::{Wrong, read::Reader};
use crate::weights::normal_name;

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
    /// A scale and a bias, in floats; any of some widths and groups.
    Affine,
    /// Floats of 4 bits (e2m1), a power of two for 32 of them.
    Mxfp4,
    /// Floats of 8 bits (e4m3), a power of two for 32 of them.
    Mxfp8,
    /// Floats of 4 bits (e2m1), a float of 8 bits (e4m3) for 16 of them.
    Nvfp4,
}

impl Mode {
    const ALL: [Mode; 4] = [Mode::Affine, Mode::Mxfp4, Mode::Mxfp8, Mode::Nvfp4];

    /// MLX's name.
    pub(crate) fn name(self) -> &'static str {
        match self {
            Mode::Affine => "affine",
            Mode::Mxfp4 => "mxfp4",
            Mode::Mxfp8 => "mxfp8",
            Mode::Nvfp4 => "nvfp4",
        }
    }

    /// Bits and group where the configuration names none.
    fn usual(self) -> (usize, usize) {
        match self {
            Mode::Affine => (4, 64),
            Mode::Mxfp4 => (4, 32),
            Mode::Mxfp8 => (8, 32),
            Mode::Nvfp4 => (4, 16),
        }
    }
}

impl Packing {
    pub(crate) fn affine(bits: usize, group: usize) -> Packing {
        Packing { bits, group, mode: Mode::Affine }
    }

    /// Scales and biases are floats.
    pub(crate) fn is_affine(self) -> bool {
        self.mode == Mode::Affine
    }

    /// The packing of scales of one byte, whose mode follows from width and group.
    pub(crate) fn of_bytes(bits: usize, group: usize) -> Option<Packing> {
        let modes = Mode::ALL.into_iter().filter(|&mode| mode != Mode::Affine);
        let mut fitting = modes.filter(|mode| mode.usual() == (bits, group));
        fitting.next().map(|mode| Packing { bits, group, mode })
    }

    /// Whether MLX has kernels for it.
    pub(crate) fn is_known(self) -> bool {
        match self.mode {
            Mode::Affine => {
                [2, 3, 4, 5, 6, 8].contains(&self.bits) && [32, 64, 128].contains(&self.group)
            }
            mode => mode.usual() == (self.bits, self.group),
        }
    }
}

impl Quantization {
    pub(super) fn parse(reader: &Reader<'_>) -> Result<Quantization, Wrong> {
        if reader.is_published_mxfp4() {
            let (bits, group) = Mode::Mxfp4.usual();
            let default = Some(Packing { bits, group, mode: Mode::Mxfp4 });
            return Ok(Quantization { default, ..Quantization::default() });
        }
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
            quantization.overrides.insert(normal_name(path), packing);
        }
        Ok(quantization)
    }
}

fn packing(path: &str, value: &Value) -> Result<Packing, Wrong> {
    let name = value["mode"].as_str().unwrap_or("affine");
    let Some(mode) = Mode::ALL.into_iter().find(|mode| mode.name() == name) else {
        let known = Mode::ALL.map(Mode::name).join(", ");
        return Err(Wrong::Key(format!(
            "{path}: quantization mode {name:?} is not supported ({known} are)"
        )));
    };
    let number = |key: &str| value[key].as_u64().map(|number| number as usize);
    let (bits, group) = mode.usual();
    let packing = Packing {
        bits: number("bits").unwrap_or(bits),
        group: number("group_size").unwrap_or(group),
        mode,
    };
    if !packing.is_known() {
        return Err(Wrong::Key(format!(
            "{path}: {} bits in groups of {} are not supported in mode {name}",
            packing.bits, packing.group
        )));
    }
    Ok(packing)
}
