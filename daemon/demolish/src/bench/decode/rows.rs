//! The rows of the report. Names without an ending are of the mixture of experts, `_dense` of the dense model.

use super::Machine;
use super::measure::Figures;
use super::numbers::Float;
use super::peers::Peers;
use super::work::Work;
use crate::bench::report::Row;

/// The goals.
const BANDWIDTH_SHARE: f64 = 0.6;
const VS_LLAMA: f64 = 1.0;
const VS_MLX_LM: f64 = 20.0;
const BATCH_GAIN: f64 = 3.0;
const HALF_LOSS: f64 = 0.1;
const DEFAULT_RATE: f64 = 100.0;

/// The machine's.
pub(super) fn machine(machine: Machine) -> Vec<Row> {
    let mut rows = vec![Row::new("read_bandwidth", machine.read / 1e9, "GB/s")];
    rows.extend(machine.products.map(|rate| {
        Row::new("int8_products", rate / 1e12, "10^12/s")
            .noted("out of registers; a product with a whole activation takes three")
    }));
    rows
}

/// Those of a shape.
pub(super) fn shape(figures: &Figures) -> Vec<Row> {
    let is_mixture = figures.shape.is_mixture();
    let row = |name: &str, value: f64, unit: &str| {
        let ending = if is_mixture { "" } else { "_dense" };
        Row::new(&format!("{name}{ending}"), value, unit)
    };
    let work = Work::of(&figures.shape, 1, Float::Bf16);
    let mut rows = vec![
        row("decode_tokens_per_s", figures.decode, "tokens/s")
            .noted("random tokens are fed and none is drawn, as llama-bench does it; likewise in the batch of 8"),
        row("prefill_512_tokens_per_s", figures.prefill, "tokens/s"),
        row("batch8_tokens_per_s", figures.batch, "tokens/s"),
        row("decode_bandwidth_share", figures.share, "share")
            .against("measured read bandwidth", figures.share)
            .at_least(BANDWIDTH_SHARE)
            .noted(&format!(
                "{:.0} MB of weights per token, in the file (4 bits, scales in bf16) and in our tiles, out of {:.0} GB/s that are read before and after each round",
                work.bytes / 1e6,
                figures.memory / 1e9
            )),
    ];
    if let Some(llama) = &figures.llama {
        let compared = |name: &str, ours: f64, best: super::peers::Best| {
            row(name, ours / best.rate, "x")
                .against("llama.cpp", ours / best.rate)
                .at_least(VS_LLAMA)
                .noted(&format!(
                    "Q4_0 on {} threads, its best: {:.0} tokens/s",
                    best.threads, best.rate
                ))
        };
        rows.push(compared("decode_vs_llama_cpp", figures.decode, llama.decode));
        rows.push(compared("prefill_vs_llama_cpp", figures.prefill, llama.prefill));
    }
    if let Some(rate) = figures.mlx_lm {
        let ratio = figures.decode / rate;
        rows.push(
            row("decode_vs_mlx_lm", ratio, "x").against("mlx-lm", ratio).at_least(VS_MLX_LM).noted(
                &format!("on the CPU, the better of scales in fp32 and bf16: {rate:.2} tokens/s"),
            ),
        );
    }
    let gain = figures.batch / figures.decode;
    let gain = row("batch8_gain", gain, "x").against("one sequence", gain);
    rows.push(if is_mixture { gain.at_least(BATCH_GAIN) } else { gain });
    for (count, rate) in &figures.verify {
        let theirs = figures.llama.iter().flat_map(|llama| &llama.verify);
        let theirs = theirs.filter(|(other, _)| other == count).map(|(_, rate)| *rate).next();
        let row = row(&format!("read_{count}_tokens_per_s"), *rate, "tokens/s")
            .noted("in one pass, up to the logits after the last token");
        rows.push(match theirs {
            Some(theirs) => row.against("llama.cpp", rate / theirs),
            None => row,
        });
    }
    rows
}

/// What is measured on one shape alone, or on none.
pub(super) fn others(half_precision_loss: f64, default_model: f64) -> Vec<Row> {
    vec![
        Row::new("half_precision_loss", half_precision_loss, "share")
            .against("scales in fp32", 1.0 - half_precision_loss)
            .at_most(HALF_LOSS)
            .noted("the worse of bf16 and fp16"),
        Row::new("default_model_tokens_per_s", default_model, "tokens/s").at_least(DEFAULT_RATE),
    ]
}

/// What was not measured, and how it would be.
pub(super) fn missing(peers: &Peers) -> Vec<String> {
    let mut notes = Vec::new();
    if peers.llama.is_none() {
        notes.push("llama.cpp is not installed, so there are no rows `*_vs_llama_cpp`: `cargo xtask setup --with llama` brings it, or `--llama-bench PATH` names it".to_owned());
    }
    if peers.python.is_none() {
        notes.push("mlx-lm is not installed, so there are no rows `decode_vs_mlx_lm*`: `cargo xtask setup --only oracle` brings it".to_owned());
    }
    notes
}
