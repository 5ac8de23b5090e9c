//! `Compute::Fast` on the CPU: what a token comes to depends on the tokens before it, and not on how they were cut into passes. To
//! the bit, so that what is speculated, batched or read in chunks is what would have been without.
//!
//! This holds where all of a layer is in our own kernels. Attention to chosen tokens is still computed by MLX, whose BLAS takes its
//! blocks by the number of rows (docs/shortcomings.md).

#![cfg(all(feature = "mlx", not(target_os = "macos")))]
#![allow(clippy::disallowed_methods, reason = "tests read the environment and scratch files")]

#[path = "support/checkpoint.rs"]
mod checkpoint;

use checkpoint::{Checkpoint, fixtures};
use engine::{
    Bare, Class, Compute, Engine, Job, Limits, LoadOptions, Sampling, Sequence, Speculation,
};

/// Families that are in our kernels from end to end.
const WHOLE: [&str; 14] = [
    "llama",
    "mistral",
    "qwen2",
    "qwen3",
    "qwen3_moe",
    "glm4_moe",
    "gpt_oss",
    "minimax_m2",
    "deepseek_v3",
    "kimi_k25",
    "glm4_moe_lite",
    "qwen3_next",
    "qwen3_5",
    "qwen3_5_moe",
];

fn whole() -> Vec<Checkpoint> {
    let found: Vec<Checkpoint> = fixtures()
        .into_iter()
        .filter(|checkpoint| WHOLE.contains(&&*checkpoint.architecture()))
        .collect();
    let names: Vec<String> = found.iter().map(Checkpoint::architecture).collect();
    assert!(WHOLE.iter().all(|family| names.iter().any(|name| name == family)), "{names:?}");
    found
}

#[test]
fn a_text_comes_to_the_same_however_it_is_cut() {
    for checkpoint in whole() {
        let options = LoadOptions { compute: Compute::Fast, ..LoadOptions::AUTO };
        let mut model = Bare::load(&checkpoint.dir, options).unwrap();
        let text: Vec<u32> = checkpoint.prompt.iter().chain(&checkpoint.greedy).copied().collect();
        let at_once = bits(&model.feed(&text).unwrap());
        for len in [1, 2, 4, 7, 8] {
            model.rewind(0).unwrap();
            let rows: Vec<f32> =
                text.chunks(len).flat_map(|part| model.feed(part).unwrap()).collect();
            assert!(at_once == bits(&rows), "{}: in pieces of {len}", checkpoint.name);
        }
        // Cut back, and on from there: as a refused draft is.
        let half = text.len() / 2;
        model.rewind(half).unwrap();
        let rows = model.feed(&text[half..]).unwrap();
        let place = half * model.vocabulary();
        assert!(at_once[place..] == bits(&rows), "{}: cut back", checkpoint.name);
    }
}

/// Tokens of each job in a batch.
const TOKENS: u32 = 12;

#[tokio::test]
async fn a_batch_gives_each_what_it_gets_alone() {
    for checkpoint in whole() {
        let options = LoadOptions { compute: Compute::Fast, ..LoadOptions::AUTO };
        let engine = Engine::load(&checkpoint.dir, options).unwrap();
        let prompts: Vec<Vec<u32>> = (0..5)
            .map(|job| checkpoint.prompt[job..checkpoint.prompt.len() - 2 * job].to_vec())
            .collect();
        let mut alone = Vec::new();
        for prompt in &prompts {
            engine.shrink_to(0).unwrap();
            alone.push(taken(submit(&engine, prompt)).await);
        }
        engine.shrink_to(0).unwrap();
        let together: Vec<Sequence> =
            prompts.iter().map(|prompt| submit(&engine, prompt)).collect();
        for (sequence, alone) in together.into_iter().zip(alone) {
            assert_eq!(taken(sequence).await, alone, "{}", checkpoint.name);
        }
        assert!(engine.stats().batch_len_max >= 2, "{}", checkpoint.name);
    }
}

fn submit(engine: &Engine, prompt: &[u32]) -> Sequence {
    let job = Job {
        prompt: prompt.to_vec(),
        constraint: None,
        sampling: Sampling::GREEDY,
        limits: Limits { tokens_max: TOKENS, stop: Vec::new(), ahead_max: TOKENS },
        class: Class::Agent,
        soul: None,
        mixture: None,
        lookup: Vec::new(),
        speculation: Speculation::Auto,
    };
    engine.submit(job).unwrap()
}

/// Tokens and the bits of their probabilities.
async fn taken(mut sequence: Sequence) -> Vec<(u32, u32)> {
    let mut steps = Vec::new();
    while let Some(step) = sequence.next().await.unwrap() {
        steps.push((step.token, step.logprob.to_bits()));
    }
    steps
}

fn bits(rows: &[f32]) -> Vec<u32> {
    rows.iter().map(|number| number.to_bits()).collect()
}
