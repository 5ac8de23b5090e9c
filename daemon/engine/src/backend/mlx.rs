//! The backend that computes: MLX, through mlx-rs.
//!
//! Everything of MLX lives on the engine thread. Operations only build a graph; one evaluation per forward pass runs it.

mod chunk;
mod exit;
mod pass;
#[cfg(test)]
mod scratch;

use std::{ops::ControlFlow, path::Path, sync::Arc};

use mlx_rs::{Stream, error::Exception, with_stream};

use crate::{
    config::{Family, ModelConfig},
    info::{LoadError, LoadOptions, LoadWatch, ModelInfo},
    line::{Line, Shared},
    memory::{
        MemoryPlan, ModePlan, Reservation, Survey, admit,
        plan::{Needs, Room},
        pressure::Pressure,
        promised,
        system::machine,
    },
    models::{self, PairBytes},
    nn::{Builder, Floats},
    ops,
    speculate::Speculation,
    thread::{self, Facts, Opened},
    tokenizer::Tokenizer,
    weights::{Place, Shards, Source, check::Cost},
};
pub(crate) use chunk::{Chunk, Effort, Processor};
use pass::Leftovers;
pub(crate) use pass::Mlx;

/// Memory that MLX may keep for reuse.
const MLX_CACHE_BYTES_MAX: usize = 128 << 20;
/// The same on a GPU, whose driver takes far longer to make memory: what a pass needs on its way ought to be there for the next one.
const MLX_CACHE_BYTES_GPU_MAX: usize = 1 << 30;

/// The most threads for one big product; the daemon is not alone on the machine.
const BLAS_THREADS_MAX: usize = 8;

/// A model on its thread, and what the handle needs to know of it.
pub(crate) struct Loaded {
    pub(crate) line: Line,
    pub(crate) info: ModelInfo,
    pub(crate) tokenizer: Tokenizer,
}

/// A model directory, as far as it was read: everything but the weights.
struct Directory {
    config: ModelConfig,
    shards: Shards,
    cost: Cost,
    /// Where the weights lie, in the order in which they are asked for.
    places: Vec<Place>,
    /// Which weights have no fast kernel.
    slow: Vec<String>,
    pair_bytes: PairBytes,
}

/// A model directory that is admitted to memory, and in which arithmetic.
struct Admitted {
    directory: Directory,
    plan: MemoryPlan,
    mode: ModePlan,
    floats: Floats,
    options: LoadOptions,
    /// What it was promised; goes with the weights.
    reservation: Reservation,
}

/// Checks and loads the model directory `dir`, and that of a small model that drafts for it.
pub(crate) fn load(
    dir: &Path,
    drafter: Option<&Path>,
    options: LoadOptions,
    watch: LoadWatch,
) -> Result<Loaded, LoadError> {
    // Where a small model drafts, no layer of the big one has to, nor one of its own.
    let read = match drafter {
        Some(_) => LoadOptions { speculation: Speculation::Off, ..options },
        None => options,
    };
    let directory = Directory::read(dir, read)?;
    // First, so that the plan of the big one knows what is left.
    let small = drafter.map(|drafter| Directory::read(drafter, read)?.admit(options));
    let small = small.transpose()?;
    let admitted = directory.admit(options)?;
    let tokenizer = Tokenizer::load(dir, &admitted.directory.config.eos)?;
    if let (Some(path), Some(small)) = (drafter, &small) {
        let own = Tokenizer::load(path, &small.directory.config.eos)?;
        if let Some(difference) = tokenizer.difference(&own) {
            let (path, dir) = (path.display(), dir.display());
            return Err(LoadError::Options(format!(
                "model.draft_path = {path}: its tokenizer is not that of {dir} ({difference}); name a smaller model of the same family"
            )));
        }
    }
    let info = admitted.directory.info(&admitted.mode, options);
    let speculation = match options.speculation {
        Speculation::Auto if !rows_are_alike(&admitted.directory.config, admitted.floats) => {
            Speculation::Off
        }
        asked => asked,
    };
    let facts = Facts::of(&tokenizer, info.context_max, info.vocabulary, speculation);
    let open = move |shared: &Arc<Shared>| -> Result<(Opened<Mlx>, Facts, ()), LoadError> {
        let line = shared.clone();
        let watch = LoadWatch::new(move |progress| {
            let is_closed = line.lock().closed;
            if is_closed { ControlFlow::Break(()) } else { watch.tell(progress) }
        });
        // Nobody is told of the small one's bytes, but a stop counts for it too.
        let line = shared.clone();
        let stop = LoadWatch::new(move |_| {
            let is_closed = line.lock().closed;
            if is_closed { ControlFlow::Break(()) } else { ControlFlow::Continue(()) }
        });
        let drafter = small.map(|small| small.open(stop)).transpose()?;
        Ok((Opened { backend: admitted.open(watch)?, drafter }, facts, ()))
    };
    let (line, ()) = thread::start(open)?;
    exit::guard(&line.shared);
    Ok(Loaded { line, info, tokenizer })
}

/// The model of a directory on the calling thread, and the size of its vocabulary.
pub(crate) fn bare(
    dir: &Path,
    options: LoadOptions,
    watch: LoadWatch,
) -> Result<(Mlx, usize), LoadError> {
    let admitted = Directory::read(dir, options)?.admit(options)?;
    let vocabulary = admitted.directory.config.vocabulary;
    Ok((admitted.open(watch)?, vocabulary))
}

/// What a directory would be if it were loaded, and what that would take. No weights are read, so it may be larger than memory.
pub(crate) fn survey(dir: &Path, options: LoadOptions) -> Result<Survey, LoadError> {
    let directory = Directory::read(dir, options)?;
    let needs = directory.needs(options);
    let room = Room::now(options, promised());
    let (memory, floats) = needs.plan(options.compute, room);
    Ok(Survey { info: directory.info(&needs.chosen(floats, room), options), memory })
}

impl Directory {
    /// Reads the configuration and the headers, and checks every tensor that the model needs.
    fn read(dir: &Path, options: LoadOptions) -> Result<Directory, LoadError> {
        let mut config = ModelConfig::load(dir)?.with_kv_bits(options.kv_bits)?;
        let shards = Shards::open(dir, &config.architecture)?;
        config.mtp = drafts_itself(&config, &shards, options);
        let mut builder = Builder::check(&shards, &config.quantization);
        let pair_bytes = models::build(&config, &mut builder)?.pair_bytes();
        let (cost, places) = (*builder.cost(), builder.places());
        let slow = builder.slow().lines();
        if !config.unknown.is_empty() {
            tracing::warn!(
                "{}: ignored keys: {}",
                dir.join("config.json").display(),
                config.unknown.join(", ")
            );
        }
        Ok(Directory { config, shards, cost, places, slow, pair_bytes })
    }

    fn needs(&self, options: LoadOptions) -> Needs<'_> {
        self.needs_of(self.pair_bytes, options)
    }

    fn needs_of(&self, pair_bytes: PairBytes, options: LoadOptions) -> Needs<'_> {
        Needs::new(&self.config, &self.cost, pair_bytes, options, is_cpu())
    }

    /// Finds room for it, or says why there is none.
    fn admit(self, options: LoadOptions) -> Result<Admitted, LoadError> {
        let needs = self.needs(options);
        let (reservation, (plan, mode, floats)) = admit(|promised| {
            let room = Room::now(options, promised);
            let (plan, floats) = needs.plan(options.compute, room);
            if plan.fits {
                Ok((needs.least(floats), (plan, needs.chosen(floats, room), floats)))
            } else {
                Err(needs.refusal(&plan, floats))
            }
        })?;
        Ok(Admitted { directory: self, plan, mode, floats, options, reservation })
    }

    fn info(&self, mode: &ModePlan, options: LoadOptions) -> ModelInfo {
        let Directory { config, shards, cost, slow, .. } = self;
        ModelInfo {
            name: name_of(&shards.dir),
            path: shards.dir.clone(),
            architecture: config.architecture.clone(),
            parameters: cost.parameters,
            parameters_active: cost.parameters_active,
            vocabulary: config.vocabulary,
            context_max: options.context_max.unwrap_or(usize::MAX).min(config.context_max),
            bytes_resident: mode.weights,
            bytes_per_token: mode.cache_per_1k / 1000,
            context_fits: mode.context_fits as usize,
            quantization: config.quantization.default.map(|packing| {
                let mode = packing.mode.name();
                format!("{} bit, groups of {}, {mode}", packing.bits, packing.group)
            }),
            compute: mode.compute,
            unpacked: slow.clone(),
            config_unknown: config.unknown.clone(),
            remote: None,
        }
    }
}

impl Admitted {
    /// Loads the weights, on the thread that will run them.
    fn open(self, watch: LoadWatch) -> Result<Mlx, LoadError> {
        let Admitted { directory, plan, floats, options, reservation, .. } = self;
        let failed = |error: Exception| LoadError::Backend(error.what().to_owned());
        let kept = if is_cpu() { MLX_CACHE_BYTES_MAX } else { MLX_CACHE_BYTES_GPU_MAX };
        mlx_rs::memory::set_cache_limit(kept).map_err(failed)?;
        keep_resident();
        let stream = Stream::new();
        if is_cpu() {
            choose_blas(&stream, floats, &directory.config.family).map_err(failed)?;
        }
        let (model, souls) = with_stream(&stream, || {
            let Directory { config, shards, places, .. } = &directory;
            let source = Source::open(shards, places, watch)?;
            let mut builder = Builder::load(shards, &config.quantization, floats, source);
            Ok::<_, LoadError>((models::build(config, &mut builder)?, builder.souls()))
        })?;
        // The packed forms of widened weights.
        mlx_rs::memory::clear_cache().map_err(failed)?;
        tracing::debug!(limit = plan.limit, available = plan.available, "the model was admitted");
        // By what the layers have become: where one is not all in our kernels, MLX's own attention makes scores.
        let needs = directory.needs_of(model.pair_bytes(), options);
        let (chunk, worn) = (needs.chunk(floats), needs.worn(floats));
        let (pressure, leftovers) = (Pressure::new(), Leftovers);
        Ok(Mlx {
            model,
            stream,
            chunk,
            floats,
            souls,
            options,
            worn,
            pressure,
            reservation,
            leftovers,
        })
    }
}

/// Whether a row of logits is to the bit the same however many rows are computed with it, or nobody expects that anyway. Our kernels
/// keep it so where a layer is in them from end to end, which those are not that choose tokens or have a packed cache, nor
/// DeepSeek-V4.1's; BLAS adds up in another order where there are more rows. In the order that MLX's own kernels keep, delta nets
/// still sum up by the pass. A GPU's kernels are others for every number of rows, also where sequences are batched.
fn rows_are_alike(config: &ModelConfig, floats: Floats) -> bool {
    let is_alike = match (&config.family, floats) {
        (Family::Gqa(_) | Family::Gdn(_), Floats::Tiles) => config.kv.is_none(),
        (Family::Mla(mla), Floats::Tiles) => mla.indexer.is_none(),
        (Family::Gqa(_) | Family::Mla(_), Floats::Uniform) => true,
        _ => false,
    };
    is_alike || !is_cpu()
}

/// Whether a layer that drafts is to be loaded: the files have it, and somebody may ask for drafts. Whether the steps stay what they
/// are is known only when room is found, so it may be loaded in vain where an arithmetic other than the usual one is asked for.
fn drafts_itself(config: &ModelConfig, shards: &Shards, options: LoadOptions) -> bool {
    let (count, looks_at_all) = match &config.family {
        Family::Gqa(gqa) => (gqa.layers.len(), gqa.windows.iter().all(Option::is_none)),
        Family::Mla(mla) => (mla.layers.len(), mla.indexer.is_none()),
        _ => return false,
    };
    let is_wanted = match options.speculation {
        Speculation::Off => false,
        Speculation::Auto => config.kv.is_none() || !is_cpu(),
        Speculation::On | Speculation::Always => true,
    };
    is_wanted
        && looks_at_all
        && shards.get(&format!("model.layers.{count}.eh_proj.weight")).is_some()
}

/// Has the system keep weights in memory, where that has to be asked for: MLX refuses more than the system recommends, and nothing is
/// kept then. Not tested: nobody has run it on a Mac yet.
fn keep_resident() {
    let Some(bytes) = machine().wired_max() else { return };
    if let Err(error) = mlx_rs::memory::set_wired_limit(bytes as usize) {
        tracing::warn!("models may be paged out: {}", error.what());
    }
}

/// A model is called after its folder; `nano/model` is `nano`.
fn name_of(dir: &Path) -> String {
    let mut names = dir.iter().rev().filter_map(|name| name.to_str());
    let name = names.next().unwrap_or_default();
    let name = if name == "model" { names.next().unwrap_or(name) } else { name };
    name.to_owned()
}

fn is_cpu() -> bool {
    !ops::on_gpu()
}

/// Parity needs the reference BLAS, whose results are those of mlx-lm, and so does a model that rounds what it computes, where the last
/// bit of a sum must not depend on the rows beside it; all else is computed with OpenBLAS, where there is one. Models
/// that are loaded on one thread share its stream, so each says what it needs.
fn choose_blas(stream: &Stream, floats: Floats, family: &Family) -> Result<(), Exception> {
    let rounds = matches!(family, Family::DeepseekV41(_)) && floats == Floats::Tiles;
    if floats.are_stored() || rounds {
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

#[cfg(test)]
mod tests {
    use super::*;

    fn of_fixture(name: &str, kv_bits: Option<u8>) -> ModelConfig {
        let fixtures = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../tests/engine/fixtures");
        ModelConfig::load(&fixtures.join(name)).unwrap().with_kv_bits(kv_bits).unwrap()
    }

    #[test]
    #[cfg(not(target_os = "macos"))]
    fn rows_are_alike_where_layers_are_in_our_kernels_from_end_to_end() {
        let in_tiles = |name, kv_bits| rows_are_alike(&of_fixture(name, kv_bits), Floats::Tiles);
        for name in ["llama-packed", "deepseek_v3-q4", "qwen3_next-q4", "qwen3_5-mixed"] {
            assert!(in_tiles(name, None), "{name}");
        }
        for name in ["deepseek_v32-nvfp4", "glm_moe_dsa_52-q4a4h6", "deepseek_v41-q4"] {
            assert!(!in_tiles(name, None), "{name}");
        }
        for name in ["llama-packed", "qwen3_5-mixed"] {
            assert!(!in_tiles(name, Some(8)), "{name}");
            assert!(!rows_are_alike(&of_fixture(name, None), Floats::Dense), "{name}");
        }
    }
}
