//! Ours and the peers on one shape, in turns.

use std::path::{Path, PathBuf};

use kernels::roof::Memory;

use super::checkpoint::Checkpoint;
use super::numbers::Float;
use super::ours::Ours;
use super::peers::{Best, Peers};
use super::shapes::Shape;
use super::work::Work;
use super::{Extent, passes, tell};
use crate::bench::report::Samples;

/// Tokens that are read at once where several are verified.
pub(super) const VERIFIED: [usize; 4] = [2, 4, 8, 16];

/// Passes over the memory before a round of decoding, and as many after it: together about as long as the round.
const READS_BESIDE: usize = 20;

/// What was measured on one shape: medians of tokens per second.
#[derive(Debug, Clone)]
pub(super) struct Figures {
    /// The shape.
    pub(super) shape: Shape,
    /// Decoding.
    pub(super) decode: f64,
    /// Bytes per second that were read from memory before and after each round of it, and the share of that which its weights take.
    pub(super) memory: f64,
    pub(super) share: f64,
    /// Reading a long prompt.
    pub(super) prefill: f64,
    /// Decoding eight sequences together.
    pub(super) batch: f64,
    /// Reading some tokens in one pass.
    pub(super) verify: Vec<(usize, f64)>,
    /// llama.cpp, where it is installed.
    pub(super) llama: Option<Llama>,
    /// mlx-lm's decoding, where it is installed.
    pub(super) mlx_lm: Option<f64>,
}

/// llama.cpp at its best counts of threads.
#[derive(Debug, Clone)]
pub(super) struct Llama {
    /// Decoding.
    pub(super) decode: Best,
    /// Reading a long prompt.
    pub(super) prefill: Best,
    /// Reading some tokens at once, on as many threads as for a long prompt.
    pub(super) verify: Vec<(usize, f64)>,
}

/// Measures one shape.
pub(super) async fn shape(
    shape: &Shape,
    checkpoint: &Checkpoint,
    peers: &Peers,
    (extent, memory): (Extent, &Memory),
) -> Result<Figures, String> {
    let gguf = checkpoint.gguf();
    tell(&format!("{}: llama.cpp's best count of threads", shape.name));
    let counts = thread_counts();
    let best = peers.llama_best(&gguf, &counts, (extent.read, extent.written)).await?;
    tell(&format!("{}: loading", shape.name));
    let mut ours = Ours::load(&checkpoint.mlx(Float::Bf16), shape.vocabulary)?;
    // Buffers are made in the first round.
    ours.decode(extent.written).await?;
    let [mut decode, mut prefill, mut batch, mut llama_decode, mut llama_prefill] =
        std::array::from_fn(|_| Samples::default());
    let [mut around, mut shares] = std::array::from_fn(|_| Samples::default());
    let bytes = Work::of(shape, 1, Float::Bf16).bytes;
    for round in 1..=extent.rounds {
        tell(&format!("{}: round {round} of {}", shape.name, extent.rounds));
        // Neighbours of a virtual machine take now more, now less of the memory: what is compared is measured side by side.
        let before = memory.rate(READS_BESIDE);
        let rate = ours.decode(extent.written).await?;
        let beside = before.midpoint(memory.rate(READS_BESIDE));
        decode.push(rate);
        around.push(beside);
        shares.push(bytes * rate / beside);
        prefill.push(ours.read(extent.read).await?);
        batch.push(ours.batch(extent.written).await?);
        if let Some((decode, prefill)) = best {
            let (rate, read) =
                again(peers, &gguf, (decode.threads, prefill.threads), extent).await?;
            llama_decode.push(rate);
            llama_prefill.push(read);
        }
    }
    drop(ours);
    let verify = verify(checkpoint.mlx(Float::Bf16), shape.vocabulary, extent.rounds).await?;
    let llama = match best {
        None => None,
        Some((decode, prefill)) => {
            let speeds = peers.llama(&gguf, prefill.threads, (&VERIFIED, 0)).await?;
            Some(Llama {
                decode: Best { rate: llama_decode.quantile(0.5), ..decode },
                prefill: Best { rate: llama_prefill.quantile(0.5), ..prefill },
                verify: speeds.unwrap_or_default().reads,
            })
        }
    };
    let mlx_lm = mlx_lm(shape, checkpoint, peers).await?;
    Ok(Figures {
        shape: shape.clone(),
        decode: decode.quantile(0.5),
        memory: around.quantile(0.5),
        share: shares.quantile(0.5),
        prefill: prefill.quantile(0.5),
        batch: batch.quantile(0.5),
        verify,
        llama,
        mlx_lm,
    })
}

/// llama.cpp once more: decoding and reading, each with its count of threads.
async fn again(
    peers: &Peers,
    gguf: &Path,
    (decode, prefill): (usize, usize),
    extent: Extent,
) -> Result<(f64, f64), String> {
    let missing = || "llama.cpp measured nothing".to_owned();
    let written = peers.llama(gguf, decode, (&[], extent.written)).await?;
    let read = peers.llama(gguf, prefill, (&[extent.read], 0)).await?;
    let written = written.and_then(|speeds| speeds.decode).ok_or_else(missing)?;
    let read = read.and_then(|speeds| speeds.reads.first().copied()).ok_or_else(missing)?;
    Ok((written, read.1))
}

async fn verify(
    folder: PathBuf,
    vocabulary: usize,
    rounds: usize,
) -> Result<Vec<(usize, f64)>, String> {
    let measured = move || passes::rates(&folder, vocabulary, &VERIFIED, rounds);
    tokio::task::spawn_blocking(measured).await.map_err(|error| error.to_string())?
}

/// mlx-lm at its best: fp32 scales are the fastest on the CPU, bf16 is what is published.
async fn mlx_lm(
    shape: &Shape,
    checkpoint: &Checkpoint,
    peers: &Peers,
) -> Result<Option<f64>, String> {
    let mut best: Option<f64> = None;
    for float in [Float::F32, Float::Bf16] {
        tell(&format!("{}: mlx-lm with scales in {}", shape.name, float.name()));
        let rate = peers.mlx_lm(&checkpoint.mlx(float)).await?;
        best = match (best, rate) {
            (Some(best), Some(rate)) => Some(best.max(rate)),
            (best, rate) => best.or(rate),
        };
    }
    Ok(best)
}

/// What bf16 and fp16 scales lose against fp32 scales, the worse of both: a share of the tokens per second.
pub(super) async fn half_precision_loss(
    shape: &Shape,
    checkpoint: &Checkpoint,
    extent: Extent,
) -> Result<f64, String> {
    tell(&format!("{}: scales in bf16, fp16 and fp32", shape.name));
    let mut engines = Vec::new();
    for float in [Float::Bf16, Float::F16, Float::F32] {
        let mut ours = Ours::load(&checkpoint.mlx(float), shape.vocabulary)?;
        ours.decode(extent.written).await?;
        engines.push((ours, Samples::default()));
    }
    for _ in 0..extent.rounds {
        for (ours, samples) in &mut engines {
            samples.push(ours.decode(extent.written).await?);
        }
    }
    let rate = |index: usize| engines[index].1.quantile(0.5);
    Ok(1.0 - rate(0).min(rate(1)) / rate(2))
}

/// One, two and so on up to all cores; of many only powers of two.
fn thread_counts() -> Vec<usize> {
    let cores = std::thread::available_parallelism().map_or(1, usize::from);
    (1..=cores).filter(|count| cores <= 8 || count.is_power_of_two() || *count == cores).collect()
}
