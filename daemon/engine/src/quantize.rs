//! Packing a checkpoint: from floats to MLX's format, tensor by tensor, in memory that does not grow with the model.
//!
//! What the model is made of is asked of its own description (`nn::Builder`), so the layouts that can be loaded can be packed too:
//! experts one by one or stacked, latent maps in one matrix, norms without their one. What is written is mlx-lm's layout, under
//! mlx-lm's names, packed by MLX itself: the same bytes that `mlx_lm.convert` writes.
//!
//! `plan` says what becomes of each tensor, `rules` with how many bits, `write` does it, and `describe` writes what stands beside the
//! weights.

mod describe;
mod plan;
mod rules;
mod source;
mod write;

use std::{
    fs,
    path::{Path, PathBuf},
};

use serde::Serialize;
use serde_json::Value;

use crate::{
    config::{Mode, ModelConfig, Packing},
    files,
    info::LoadError,
    models,
    nn::Builder,
    weights::Shards,
};
use plan::Plan;
use rules::Rules;
pub(crate) use source::Source;

/// What a group of weights shares.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Method {
    /// A scale and a bias.
    #[default]
    Affine,
    /// Floats of 4 bits, a power of two for 32 of them.
    Mxfp4,
    /// Floats of 8 bits, a power of two for 32 of them.
    Mxfp8,
    /// Floats of 4 bits, a float of 8 bits for 16 of them.
    Nvfp4,
}

/// mlx-lm's recipes of two widths: some layers' values and outputs, and the head, get the greater one.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Mixed {
    /// Bits of most weights.
    pub low: u8,
    /// Bits of the others.
    pub high: u8,
}

/// What is to become of one module.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Keep {
    /// It stays as it is.
    Floats,
    /// So many bits, affine.
    Bits(u8),
}

/// How a checkpoint is to be packed.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Recipe {
    /// What groups share.
    pub method: Method,
    /// Bits of a weight; `None`: what is usual for the method, 4 or 8.
    pub bits: Option<u8>,
    /// Weights of a group; `None`: what is usual for the method, 64 for affine.
    pub group: Option<u8>,
    /// Two widths instead of one.
    pub mixed: Option<Mixed>,
}

/// A checkpoint that is about to be packed.
pub struct Quantizer {
    source: Source,
    plan: Plan,
    config: Value,
    dir: PathBuf,
}

/// How far it is.
#[derive(Debug, Clone, Copy)]
pub struct Step<'a> {
    /// Bytes of the checkpoint that are packed.
    pub done: u64,
    /// Bytes of the checkpoint.
    pub total: u64,
    /// What is being packed.
    pub module: &'a str,
}

/// What was made.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Quantized {
    /// Number of weights.
    pub parameters: u64,
    /// Bytes of the checkpoint's tensors.
    pub bytes_before: u64,
    /// Bytes of the packed model's.
    pub bytes: u64,
    /// Bits that a weight takes, with everything that it shares.
    pub bits_per_weight: f64,
    /// Matrices that are packed.
    pub packed: usize,
    /// Matrices that stay as they are, with the reason.
    pub unpacked: Vec<Unpacked>,
    /// Tensors of the checkpoint that the model does not use, and that are left out.
    pub left_out: usize,
    /// Files of weights.
    pub files: usize,
}

/// A matrix that is not packed.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Unpacked {
    /// Its path.
    pub module: String,
    /// Why.
    pub reason: String,
}

impl Recipe {
    fn packing(&self) -> Result<Packing, LoadError> {
        let (mode, bits, group) = match self.method {
            Method::Affine => (Mode::Affine, 4, 64),
            Method::Mxfp4 => (Mode::Mxfp4, 4, 32),
            Method::Mxfp8 => (Mode::Mxfp8, 8, 32),
            Method::Nvfp4 => (Mode::Nvfp4, 4, 16),
        };
        let (bits, group) =
            (self.bits.map_or(bits, usize::from), self.group.map_or(group, usize::from));
        let bits = self.mixed.map_or(bits, |mixed| usize::from(mixed.low));
        let packing = Packing { bits, group, mode };
        let refused = |reason: String| Err(LoadError::Options(reason));
        if self.mixed.is_some() && mode != Mode::Affine {
            return refused(format!("a recipe of two widths is affine, not {}", mode.name()));
        }
        if packing.is_known() {
            return Ok(packing);
        }
        let known = match mode {
            Mode::Affine => "2, 3, 4, 5, 6 or 8 bits in groups of 32, 64 or 128",
            Mode::Mxfp4 => "4 bits in groups of 32",
            Mode::Mxfp8 => "8 bits in groups of 32",
            Mode::Nvfp4 => "4 bits in groups of 16",
        };
        refused(format!(
            "there are no {bits} bits in groups of {group}: {} has {known}",
            mode.name()
        ))
    }
}

impl Quantizer {
    /// Reads what the checkpoint `dir` holds, and decides what becomes of it. `keep` says for a module's path what becomes of it, where
    /// that differs from the recipe. Nothing is written.
    ///
    /// # Errors
    /// It is no checkpoint that can be packed, or the recipe makes no sense.
    pub fn open(
        dir: &Path,
        recipe: &Recipe,
        keep: &dyn Fn(&str) -> Option<Keep>,
    ) -> Result<Quantizer, LoadError> {
        let packing = recipe.packing()?;
        let path = dir.join("config.json");
        let text = files::read(&path)
            .map_err(|error| LoadError::File { path: path.clone(), reason: error.to_string() })?;
        let json: Value = serde_json::from_slice(&text).map_err(|error| LoadError::Config {
            path: path.clone(),
            reason: format!("not JSON ({error})"),
        })?;
        let config = ModelConfig::load(dir)?;
        let packed = || LoadError::Config {
            path: path.clone(),
            reason: "the model is packed already; pack the checkpoint that it was made of"
                .to_owned(),
        };
        if ["quantization", "quantization_config"].iter().any(|key| json.get(key).is_some()) {
            return Err(packed());
        }
        let shards = Shards::open(dir, &config.architecture)?;
        let mut builder = Builder::check(&shards, &config.quantization);
        models::build(&config, &mut builder)?;
        let parameters = builder.cost().parameters;
        let asked = builder.asked();
        if asked.iter().any(plan::is_packed) {
            return Err(packed());
        }
        let source = Source::open(&shards)?;
        let rules = Rules::new(&config, packing, recipe.mixed, &asked, keep);
        let plan =
            Plan::new(&shards, &source, &json, &config.architecture, &rules, asked, parameters)?;
        Ok(Quantizer {
            source,
            config: describe::config(json, packing, &plan),
            plan,
            dir: dir.to_owned(),
        })
    }

    /// What will be made.
    #[must_use]
    pub fn result(&self) -> &Quantized {
        &self.plan.result
    }

    /// Writes the packed model into the folder `target`, which must not be there. While it is being written it is called
    /// `target.part`; what an earlier attempt left there is removed.
    ///
    /// # Errors
    /// A file cannot be read or written.
    pub fn write(
        &self,
        target: &Path,
        told: &mut dyn FnMut(Step<'_>),
    ) -> Result<Quantized, LoadError> {
        let failed = |path: &Path| {
            let path = path.to_owned();
            move |error: std::io::Error| LoadError::File { path, reason: error.to_string() }
        };
        if target.exists() {
            return Err(LoadError::File {
                path: target.to_owned(),
                reason: "is there already; name another folder, or remove it".to_owned(),
            });
        }
        let part = part_of(target);
        if part.exists() {
            fs::remove_dir_all(&part).map_err(failed(&part))?;
        }
        fs::create_dir_all(&part).map_err(failed(&part))?;
        write::weights(&self.source, &self.plan, &part, told)?;
        describe::write(&self.dir, &part, &self.config, &self.plan).map_err(failed(&part))?;
        fs::rename(&part, target).map_err(failed(target))?;
        Ok(self.plan.result.clone())
    }
}

/// What the folder is called while it is being written.
fn part_of(target: &Path) -> PathBuf {
    let mut name = target.file_name().unwrap_or_default().to_owned();
    name.push(".part");
    target.with_file_name(name)
}
