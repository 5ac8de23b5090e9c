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
#[path = "support/compare.rs"]
mod compare;

use checkpoint::{Checkpoint, fixtures};
use compare::{FAST, best, distance, distances, is_comparable, is_fine, is_half, tolerance};
use engine::{Class, Compute, Engine, Job, Limits, LoadOptions, Sampling, Speculation, Step};

#[test]
fn logits_are_those_of_mlx_lm() {
    check(Compute::Parity, fixtures());
}

#[test]
fn other_arithmetic_is_close() {
    for compute in [Compute::Quantized, Compute::Fast] {
        check(compute, fixtures().into_iter().filter(is_comparable).collect());
    }
}

fn check(compute: Compute, checkpoints: Vec<Checkpoint>) {
    let mut wrong = Vec::new();
    for checkpoint in checkpoints {
        let name = &checkpoint.name;
        let limit = tolerance(&checkpoint, compute);
        let found = distances(&checkpoint, compute).unwrap_or_else(|why| panic!("{name}: {why}"));
        eprintln!(
            "{name:24} {compute:?}: prefill {:e}, in chunks {:e}, decoded {:e}, again {:e}, fed again {:e}, misses {}",
            found.prefill, found.chunked, found.decoded, found.rewound, found.refed, found.misses
        );
        // What is fed again is cut otherwise than the reference was fed, and added up otherwise.
        let is_refed_well = !is_fine(&checkpoint) || found.refed <= limit.max(FAST);
        if found.worst() > limit || found.misses > 0 || !is_refed_well {
            wrong.push(format!("{name}: {found:?}"));
        }
    }
    assert!(wrong.is_empty(), "{compute:?}: beyond the tolerance:\n{}", wrong.join("\n"));
}

/// Through jobs and the scheduler: the tokens that mlx-lm takes, wherever it is sure of them.
#[tokio::test]
async fn decoding_finds_the_same_tokens() {
    for checkpoint in fixtures().into_iter().filter(|checkpoint| !is_half(checkpoint)) {
        let name = &checkpoint.name;
        let options = LoadOptions { compute: Compute::Parity, ..LoadOptions::AUTO };
        let engine = Engine::load(&checkpoint.dir, options).unwrap();
        let steps = decode(&engine, &checkpoint).await;
        assert!(!steps.is_empty(), "{name}");
        for (index, step) in steps.iter().enumerate() {
            let expected = checkpoint.decoded(index);
            let (token, margin) = best(&expected);
            if step.token as usize != token {
                assert!(margin < 10.0 * FAST, "{name} step {index}: {} for {token}", step.token);
                break;
            }
            // The prompt's last token is fed alone, which is another order of operations for some.
            let error = (step.logprob - logprob(&expected, step.token)).abs();
            assert!(error <= FAST, "{name} step {index}: {error:e}");
        }
    }
}

/// `Engine::logits` and the bare model agree.
#[tokio::test]
async fn a_question_has_the_same_logits() {
    for checkpoint in fixtures() {
        let options = LoadOptions { compute: Compute::Parity, ..LoadOptions::AUTO };
        let engine = Engine::load(&checkpoint.dir, options).unwrap();
        let last = checkpoint.prompt.len() - 1;
        let logits = engine.logits(checkpoint.prompt.clone()).await.unwrap();
        let found = distance(&logits, &checkpoint.prefill(last));
        assert!(found <= compare::PARITY, "{}: {found:e}", checkpoint.name);
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
        soul: None,
        mixture: None,
        lookup: Vec::new(),
        speculation: Speculation::Auto,
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
