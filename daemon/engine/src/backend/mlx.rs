//! The backend that computes: MLX, through mlx-rs.
//!
//! Everything of MLX lives on the engine thread. Operations only build a graph; one evaluation per forward pass runs it.

mod exit;
mod pass;

use std::path::Path;

use mlx_rs::{Stream, error::Exception, with_stream};

use crate::{
    config::ModelConfig,
    info::{Compute, LoadError, LoadOptions, ModelInfo},
    line::Line,
    models,
    nn::{Builder, Floats},
    ops,
    thread::{self, Facts},
    tokenizer::Tokenizer,
    weights::{Shards, check::Cost, memory},
};
pub(crate) use pass::Mlx;

/// The bounds of a prefill pass, in tokens. Within them a pass multiplies as often as below, so that an urgent job waits for some
/// tens of milliseconds at most. The length depends on the model alone: results must not depend on how busy the machine is.
const CHUNK_LEN: std::ops::RangeInclusive<u64> = 16..=256;
/// Multiplications of a pass whose products BLAS computes.
const CHUNK_WORK_FAST: u64 = 2_000_000_000;
/// Multiplications of a pass through MLX's own CPU kernels for packed weights.
const CHUNK_WORK_PACKED: u64 = 100_000_000;
/// Memory that MLX may keep for reuse when nothing is computed.
const MLX_CACHE_BYTES_MAX: usize = 128 << 20;
/// Room for caches and intermediate results, in tokens of cache, that loading must leave.
const RESERVE_TOKENS: u64 = 4096;
/// Room for everything else.
const RESERVE_BYTES: u64 = 64 << 20;

/// The most threads for one big product; the daemon is not alone on the machine.
const BLAS_THREADS_MAX: usize = 8;

/// A model on its thread, and what the handle needs to know of it.
pub(crate) struct Loaded {
    pub(crate) line: Line,
    pub(crate) info: ModelInfo,
    pub(crate) tokenizer: Tokenizer,
}

/// Checks and loads the model directory `dir`.
pub(crate) fn load(dir: &Path, options: LoadOptions) -> Result<Loaded, LoadError> {
    let config = ModelConfig::load(dir)?.with_kv_bits(options.kv_bits, dir)?;
    let shards = Shards::open(dir)?;
    let cost = check(&config, &shards)?;
    let tokenizer = Tokenizer::load(dir, &config.eos)?;
    if !config.unknown.is_empty() {
        tracing::warn!(
            "{}: ignored keys: {}",
            dir.join("config.json").display(),
            config.unknown.join(", ")
        );
    }
    let floats = choose(&config, &cost, options)?;
    let context_max = options.context_max.unwrap_or(usize::MAX).min(config.context_max);
    let info = ModelInfo {
        name: name_of(dir),
        path: dir.to_owned(),
        architecture: config.architecture.clone(),
        parameters: cost.parameters,
        parameters_active: cost.parameters_active,
        vocabulary: config.vocabulary,
        context_max,
        bytes_resident: resident(&cost, floats),
        bytes_per_token: config.bytes_per_token(),
        quantization: config.quantization.default.map(|packing| {
            format!("{} bit, groups of {}, {}", packing.bits, packing.group, packing.mode.name())
        }),
        compute: match floats {
            Floats::Stored => Compute::Parity,
            Floats::Uniform => Compute::Uniform,
            Floats::Single => Compute::Quantized,
            Floats::Dense => Compute::Fast,
        },
        config_unknown: config.unknown.clone(),
    };
    let facts = Facts::of(&tokenizer, context_max);
    let open = move || -> Result<(Mlx, Facts, ()), LoadError> {
        let backend = open(&config, &cost, &shards, floats)?;
        Ok((backend, facts, ()))
    };
    let (line, ()) = thread::start(open)?;
    exit::guard(&line.shared);
    Ok(Loaded { line, info, tokenizer })
}

/// The model of a directory on the calling thread, and the size of its vocabulary.
pub(crate) fn bare(dir: &Path, options: LoadOptions) -> Result<(Mlx, usize), LoadError> {
    let config = ModelConfig::load(dir)?.with_kv_bits(options.kv_bits, dir)?;
    let shards = Shards::open(dir)?;
    let cost = check(&config, &shards)?;
    let floats = choose(&config, &cost, options)?;
    Ok((open(&config, &cost, &shards, floats)?, config.vocabulary))
}

/// A model is called after its folder; `nano/model` is `nano`.
fn name_of(dir: &Path) -> String {
    let mut names = dir.iter().rev().filter_map(|name| name.to_str());
    let name = names.next().unwrap_or_default();
    let name = if name == "model" { names.next().unwrap_or(name) } else { name };
    name.to_owned()
}

/// The arithmetic, and whether it fits.
fn choose(config: &ModelConfig, cost: &Cost, options: LoadOptions) -> Result<Floats, LoadError> {
    let cache =
        config.bytes_per_token() * RESERVE_TOKENS.min(config.context_max as u64) + RESERVE_BYTES;
    let free = memory::available();
    let limits = [(options.memory_max, "allowed"), (free, "free")];
    let limit = limits.into_iter().filter_map(|(bytes, name)| Some((bytes?, name))).min();
    let fits = |floats: Floats| {
        limit.is_none_or(|(available, _)| resident(cost, floats) + cache <= available)
    };
    let on_cpu = is_cpu();
    // What MLX's CPU kernels cannot multiply at all is converted in any case.
    let or_single = |floats| if on_cpu && cost.has_half_experts { Floats::Single } else { floats };
    let floats = match options.compute {
        Compute::Fast => Floats::Dense,
        Compute::Quantized => Floats::Single,
        Compute::Parity => or_single(Floats::Stored),
        Compute::Uniform => or_single(Floats::Uniform),
        Compute::Auto if !on_cpu => Floats::Uniform,
        Compute::Auto if fits(Floats::Dense) => Floats::Dense,
        Compute::Auto => Floats::Single,
    };
    if fits(floats) {
        return Ok(floats);
    }
    let (available, source_of_limit) = limit.unwrap_or((0, "free"));
    Err(LoadError::TooBig { weights: resident(cost, floats), cache, available, source_of_limit })
}

/// Bytes of the weights once loaded.
fn resident(cost: &Cost, floats: Floats) -> u64 {
    match floats {
        Floats::Stored | Floats::Uniform => cost.bytes_stored,
        Floats::Single => cost.bytes_single,
        Floats::Dense => cost.parameters * 4,
    }
}

fn is_cpu() -> bool {
    !cfg!(target_os = "macos")
}

/// Checks every tensor that the model needs, and counts.
fn check(config: &ModelConfig, shards: &Shards) -> Result<Cost, LoadError> {
    let mut builder = Builder::check(shards, &config.quantization);
    models::build(config, &mut builder)?;
    Ok(*builder.cost())
}

/// Loads the weights, on the thread that will run them.
fn open(
    config: &ModelConfig,
    cost: &Cost,
    shards: &Shards,
    floats: Floats,
) -> Result<Mlx, LoadError> {
    let failed = |error: Exception| LoadError::Backend(error.what().to_owned());
    mlx_rs::memory::set_cache_limit(MLX_CACHE_BYTES_MAX).map_err(failed)?;
    let stream = Stream::new();
    if is_cpu() {
        choose_blas(&stream, floats).map_err(failed)?;
    }
    let (model, souls) = with_stream(&stream, || {
        let mut builder = Builder::load(shards, &config.quantization, floats)?;
        Ok::<_, LoadError>((models::build(config, &mut builder)?, builder.souls()))
    })?;
    // The packed forms of widened weights.
    mlx_rs::memory::clear_cache().map_err(failed)?;
    let work = if floats == Floats::Dense { CHUNK_WORK_FAST } else { CHUNK_WORK_PACKED };
    let affordable = if is_cpu() { work / cost.parameters_active.max(1) } else { *CHUNK_LEN.end() };
    let chunk_len_max = affordable.clamp(*CHUNK_LEN.start(), *CHUNK_LEN.end()) as usize;
    Ok(Mlx { model, stream, chunk_len_max, floats, souls })
}

/// Parity needs the reference BLAS, whose results are those of mlx-lm; all else is computed with OpenBLAS, where there is one. Models
/// that are loaded on one thread share its stream, so each says what it needs.
fn choose_blas(stream: &Stream, floats: Floats) -> Result<(), Exception> {
    if floats.are_stored() {
        return ops::use_openblas(stream, None);
    }
    if !ops::has_openblas() {
        tracing::warn!(
            "libopenblas.so.0 is not installed: the model will run many times slower than it could"
        );
        return Ok(());
    }
    let threads = std::thread::available_parallelism().map_or(1, usize::from).min(BLAS_THREADS_MAX);
    ops::use_openblas(stream, Some(threads as i32))
}

impl From<String> for LoadError {
    fn from(reason: String) -> Self {
        LoadError::Backend(reason)
    }
}
