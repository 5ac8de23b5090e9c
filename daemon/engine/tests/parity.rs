//! The engine against mlx-lm: the same random checkpoints, the same libmlx, every logit.
//!
//! `tests/engine/make_fixtures.py` made the checkpoints and the reference. DEMOLISH_FIXTURES names another folder of such
//! checkpoints to be compared instead, for example ones made with another seed and size.

#![cfg(feature = "mlx")]
#![allow(
    clippy::disallowed_methods,
    clippy::print_stderr,
    reason = "tests read the environment, write scratch files and report"
)]

#[path = "support/checkpoint.rs"]
mod checkpoint;

use std::path::Path;

use checkpoint::{Checkpoint, fixtures};
use engine::{Class, Compute, Engine, Finish, Job, Limits, LoadOptions, Sampling, Step};

/// Same operations, same order, same library.
const PARITY: f32 = 1e-6;
/// Other orders, another BLAS.
const FAST: f32 = 1e-4;

fn load(dir: &Path, compute: Compute) -> Engine {
    let options = LoadOptions { compute, ..LoadOptions::AUTO };
    Engine::load(dir, options).unwrap_or_else(|error| panic!("{}: {error}", dir.display()))
}

/// The greatest difference.
fn distance(a: &[f32], b: &[f32]) -> f32 {
    assert_eq!(a.len(), b.len());
    a.iter().zip(b).map(|(a, b)| (a - b).abs()).fold(0.0, f32::max)
}

/// The logits after each prefix of the reference's tokens: of one pass, and of a decode step each.
async fn worst(engine: &Engine, checkpoint: &Checkpoint) -> f32 {
    let mut tokens = checkpoint.prompt.clone();
    let mut worst = distance(
        &engine.logits(tokens.clone()).await.unwrap(),
        &checkpoint.prefill(checkpoint.prompt.len() - 1),
    );
    for (step, &token) in checkpoint.greedy.iter().enumerate() {
        let logits = engine.logits(tokens.clone()).await.unwrap();
        worst = worst.max(distance(&logits, &checkpoint.decoded(step)));
        tokens.push(token);
    }
    worst
}

#[tokio::test]
async fn logits_are_those_of_mlx_lm() {
    for checkpoint in fixtures() {
        // bf16 rounds every intermediate result, so a token decoded with a cache differs from one in a single pass.
        let is_half = checkpoint.name.ends_with("bf16");
        let engine = load(&checkpoint.dir, Compute::Parity);
        let prefill = distance(
            &engine.logits(checkpoint.prompt.clone()).await.unwrap(),
            &checkpoint.prefill(checkpoint.prompt.len() - 1),
        );
        let decode = if is_half { 0.0 } else { worst(&engine, &checkpoint).await };
        eprintln!(
            "{:20} parity: prefill {prefill:e}, with decode steps {decode:e}",
            checkpoint.name
        );
        assert!(
            prefill <= PARITY && decode <= PARITY,
            "{}: {prefill:e}, {decode:e}",
            checkpoint.name
        );
    }
}

#[tokio::test]
async fn decoding_finds_the_same_tokens() {
    for checkpoint in fixtures() {
        let engine = load(&checkpoint.dir, Compute::Parity);
        let steps = decode(&engine, &checkpoint).await;
        let tokens: Vec<u32> = steps.iter().map(|step| step.token).collect();
        let is_stopped = steps.last().is_some_and(|step| step.finish == Some(Finish::Stop));
        assert!(is_stopped || tokens.len() == checkpoint.greedy.len(), "{}", checkpoint.name);
        assert_eq!(tokens, checkpoint.greedy[..tokens.len()], "{}", checkpoint.name);
        for (index, step) in steps.iter().enumerate() {
            let expected = logprob(&checkpoint.decoded(index), step.token);
            // The log probability is made of a sum over the vocabulary, whose rounding is ours.
            let error = (step.logprob - expected).abs();
            assert!(
                error <= 2e-6,
                "{} step {index}: {} against {expected}",
                checkpoint.name,
                step.logprob
            );
        }
    }
}

#[tokio::test]
async fn other_arithmetic_is_close() {
    for compute in [Compute::Quantized, Compute::Fast] {
        for checkpoint in
            fixtures().into_iter().filter(|checkpoint| !checkpoint.name.ends_with("bf16"))
        {
            let engine = load(&checkpoint.dir, compute);
            let distance = worst(&engine, &checkpoint).await;
            eprintln!("{:20} {compute:?}: {distance:e}", checkpoint.name);
            assert!(distance <= FAST, "{} {compute:?}: {distance:e}", checkpoint.name);
        }
    }
}

async fn decode(engine: &Engine, checkpoint: &Checkpoint) -> Vec<Step> {
    let job = Job {
        prompt: checkpoint.prompt.clone(),
        constraint: None,
        sampling: Sampling::GREEDY,
        limits: Limits {
            tokens_max: checkpoint.greedy.len() as u32,
            stop: Vec::new(),
            ahead_max: 4,
        },
        class: Class::Typing,
    };
    let mut sequence = engine.submit(job).unwrap();
    let mut steps = Vec::new();
    while let Some(step) = sequence.next().await.unwrap() {
        steps.push(step);
    }
    steps
}

fn logprob(logits: &[f32], token: u32) -> f32 {
    let max = logits.iter().copied().fold(f32::NEG_INFINITY, f32::max);
    let sum: f64 = logits.iter().map(|&logit| f64::from(logit - max).exp()).sum();
    (f64::from(logits[token as usize] - max) - sum.ln()) as f32
}
