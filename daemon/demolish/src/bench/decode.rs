//! `demolish bench decode`: how close decoding comes to the limits of the machine, and to llama.cpp and mlx-lm on the same shapes.
//!
//! Models with random weights are written once, in MLX's format and as GGUF with the same numbers ([`checkpoint`]). Ours and the
//! peers, at their best counts of threads, are measured in turns in one run ([`measure`]).

mod shapes;
mod numbers;
mod checkpoint;
mod gguf;
mod work;
mod peers;
mod ours;
mod passes;
mod measure;
mod rows;
mod roofline;
#[cfg(test)]
mod tests;

use std::io::Write as _;
use std::path::{Path, PathBuf};

use checkpoint::Checkpoint;
use kernels::roof::Memory;
use peers::Peers;
use shapes::Shape;

use super::report::{Report, Row};

/// What is asked for.
#[derive(Debug, Clone, Default)]
pub(crate) struct Options {
    /// Tiny shapes, to see that everything works.
    pub(crate) is_quick: bool,
    /// The folder of the models; `None`: one in the folder for temporary files.
    pub(crate) models: Option<PathBuf>,
    /// The models are removed at the end.
    pub(crate) discards: bool,
    /// llama.cpp's `llama-bench`, if it is not that of the source tree's tools.
    pub(crate) llama_bench: Option<PathBuf>,
    /// Where the roofline is drawn.
    pub(crate) svg: Option<PathBuf>,
}

/// How much is measured.
#[derive(Debug, Clone, Copy)]
struct Extent {
    /// Tokens that are read.
    read: usize,
    /// Tokens that are decoded.
    written: usize,
    /// How often; medians count.
    rounds: usize,
    /// Bytes of the buffer of which the memory's speed is told: many times the caches.
    buffer: usize,
}

const FULL: Extent = Extent { read: 512, written: 64, rounds: 5, buffer: 1 << 30 };
const QUICK: Extent = Extent { read: 512, written: 32, rounds: 1, buffer: 1 << 22 };

/// Measurements of the memory and of the arithmetic for each round, of milliseconds each; the best counts.
const READS: usize = 12;
const MULTIPLICATIONS: usize = 60;

/// The limits of the machine.
#[derive(Debug, Clone, Copy)]
struct Machine {
    /// Bytes per second that all threads read.
    read: f64,
    /// Products of eight bits per second, where the processor has an instruction for them.
    products: Option<f64>,
}

/// Runs it.
///
/// # Errors
/// A model cannot be written or loaded, or a peer fails: one sentence.
pub(crate) async fn run(options: &Options) -> Result<Report, String> {
    run_beside(options, &Peers::find(options.llama_bench.as_deref())).await
}

async fn run_beside(options: &Options, peers: &Peers) -> Result<Report, String> {
    let models = options
        .models
        .clone()
        .unwrap_or_else(|| std::env::temp_dir().join("demolish-bench-models"));
    let measured = measured(options, peers, &models).await;
    if options.discards {
        for shape in [shapes::MOE, shapes::DENSE, shapes::MOE_TINY, shapes::DENSE_TINY] {
            checkpoint::discard(&shape, &models);
        }
    }
    measured
}

async fn measured(options: &Options, peers: &Peers, models: &Path) -> Result<Report, String> {
    let (shapes, extent) = if options.is_quick {
        ([shapes::MOE_TINY, shapes::DENSE_TINY], QUICK)
    } else {
        ([shapes::MOE, shapes::DENSE], FULL)
    };
    let mut all = Vec::new();
    let memory = Memory::new(extent.buffer);
    let mut machine = limits(extent, &memory);
    for shape in &shapes {
        let checkpoint = Checkpoint::of(shape, models)?;
        all.push(measure::shape(shape, &checkpoint, peers, (extent, &memory)).await?);
        // Other work may have disturbed the first measurement, and nothing makes memory faster than it is.
        machine = machine.max(limits(extent, &memory));
    }
    let mut rows = rows::machine(machine);
    for figures in &all {
        rows.extend(rows::shape(figures));
    }
    rows.extend(others(&shapes[0], models, extent).await?);
    if !options.is_quick {
        tell("speculation");
        rows.extend(super::engine::speculation().await?);
    }
    if let Some(path) = &options.svg {
        draw(path, &roofline::svg(&all, machine))?;
    }
    Ok(Report::new("decode", rows).noted(rows::missing(peers)))
}

/// What is not measured on both shapes.
async fn others(shape: &Shape, models: &Path, extent: Extent) -> Result<Vec<Row>, String> {
    let checkpoint = Checkpoint::of(shape, models)?;
    let loss = measure::half_precision_loss(shape, &checkpoint, extent).await?;
    tell("the default model");
    let default = super::engine::default_model_decode(extent.rounds).await?;
    Ok(rows::others(loss, default))
}

fn limits(extent: Extent, memory: &Memory) -> Machine {
    tell("the memory's speed");
    Machine {
        read: memory.rates(READS * extent.rounds).into_iter().fold(0.0, f64::max),
        products: kernels::roof::multiply_rate(MULTIPLICATIONS * extent.rounds),
    }
}

impl Machine {
    fn max(self, other: Machine) -> Machine {
        let products = match (self.products, other.products) {
            (Some(one), Some(other)) => Some(one.max(other)),
            (one, other) => one.or(other),
        };
        Machine { read: self.read.max(other.read), products }
    }
}

#[allow(clippy::disallowed_methods, reason = "the file that was asked for")]
fn draw(path: &Path, svg: &str) -> Result<(), String> {
    std::fs::write(path, svg).map_err(|error| format!("{}: {error}", path.display()))
}

/// Says on stderr what is done now: all of it takes minutes.
fn tell(what: &str) {
    let _ = writeln!(std::io::stderr(), "bench decode: {what}"); // Nobody may be listening.
}
