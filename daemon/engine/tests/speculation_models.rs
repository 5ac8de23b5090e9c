//! Speculation on real (tiny) models of every family and every kind of cache: every step is the one that plain decoding gives.

#![cfg(feature = "mlx")]

#[path = "support/checkpoint.rs"]
mod checkpoint;
#[path = "support/steps.rs"]
mod steps;

use std::{collections::BTreeSet, path::Path, sync::Arc};

use checkpoint::{Checkpoint, fixture, fixtures, is_slow};
use engine::{Compute, Engine, Job, LoadOptions, LoadWatch, Speculation, Step, TokenId};
use steps::{block_on, compared, undisturbed, walk};

const TOKENS: u32 = 30;
/// What a logarithm of a probability may differ by where sums are added up in another order for every number of rows.
const CLOSE: f32 = 1e-3;

fn load(dir: &Path, compute: Compute, kv_bits: Option<u8>) -> Option<Engine> {
    let speculation = Speculation::Always;
    let options = LoadOptions { compute, kv_bits, speculation, ..LoadOptions::AUTO };
    Engine::load(dir, options).ok()
}

/// A text that is what the model says, but for a token here and there; so drafts are right for a while and then wrong.
fn nearly(steps: &[Step]) -> Arc<[TokenId]> {
    let wrong = |index: usize| index % 9 == 8;
    let tokens = steps.iter().enumerate();
    tokens.map(|(index, step)| if wrong(index) { step.token ^ 1 } else { step.token }).collect()
}

fn check(checkpoint: &Checkpoint, compute: Compute, kv_bits: Option<u8>, is_exact: bool) {
    let Some(engine) = load(&checkpoint.dir, compute, kv_bits) else {
        return; // Not every family packs its cache.
    };
    block_on(async {
        for temperature in [0.0, 0.8] {
            let name = format!("{} {compute:?} at {temperature}", checkpoint.name);
            let job = |speculation| compared(&checkpoint.prompt, TOKENS, temperature, speculation);
            let straight = undisturbed(&engine, job(Speculation::Off)).await;
            let speculating =
                || Job { lookup: vec![nearly(&straight)], ..job(Speculation::Always) };
            let before = engine.stats();
            let told = undisturbed(&engine, speculating()).await;
            let after = engine.stats();
            assert_same(&name, &told, &straight, is_exact);
            let accepted = after.accepted[1] - before.accepted[1];
            let drafted = after.drafted[1] - before.drafted[1];
            if straight.len() == TOKENS as usize {
                assert!(accepted >= 10 && drafted > accepted, "{name}: {accepted} of {drafted}");
            }
            let expected = walk(&engine, job(Speculation::Off)).await.concat();
            let told = walk(&engine, speculating()).await.concat();
            assert_same(&name, &told, &expected, is_exact);
        }
    });
}

fn assert_same(name: &str, told: &[Step], expected: &[Step], is_exact: bool) {
    if is_exact {
        assert!(told == expected, "{name}");
        return;
    }
    let tokens = |all: &[Step]| -> Vec<TokenId> { all.iter().map(|step| step.token).collect() };
    assert_eq!(tokens(told), tokens(expected), "{name}");
    let distance = |(one, other): (&Step, &Step)| (one.logprob - other.logprob).abs();
    let worst = told.iter().zip(expected).map(distance).fold(0.0f32, f32::max);
    assert!(worst < CLOSE, "{name}: {worst}");
}

/// One checkpoint of every architecture, and all in the slow run.
fn checkpoints() -> Vec<Checkpoint> {
    let mut seen = BTreeSet::new();
    let mut all = fixtures();
    all.retain(|checkpoint| is_slow() || seen.insert(checkpoint.architecture()));
    all
}

/// Whether a row of logits is to the bit the same whatever is computed with it.
fn is_exact(checkpoint: &Checkpoint) -> bool {
    let family = checkpoint.architecture();
    !["qwen3_next", "qwen3_5", "qwen3_5_moe", "deepseek_v41"].contains(&&*family)
}

#[test]
fn where_rows_do_not_depend_on_each_other_steps_are_the_same_to_the_bit() {
    for checkpoint in checkpoints() {
        check(&checkpoint, Compute::Uniform, None, is_exact(&checkpoint));
    }
}

/// Families whose layers are in our own kernels from end to end.
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

#[test]
#[cfg(not(target_os = "macos"))]
fn our_own_kernels_keep_rows_apart() {
    let mut seen = 0;
    for checkpoint in checkpoints() {
        if WHOLE.contains(&&*checkpoint.architecture()) {
            check(&checkpoint, Compute::Fast, None, true);
            seen += 1;
        }
    }
    assert!(seen >= WHOLE.len(), "{seen}");
}

#[test]
fn packed_caches_are_cut_as_exactly() {
    for checkpoint in checkpoints() {
        check(&checkpoint, Compute::Uniform, Some(8), is_exact(&checkpoint));
    }
}

#[tokio::test]
async fn a_small_model_of_the_same_tokenizer_drafts() {
    let [big, small] = ["qwen3_moe-f32", "qwen3_moe-q4"].map(fixture);
    let options = LoadOptions {
        compute: Compute::Fast,
        speculation: Speculation::Always,
        ..LoadOptions::AUTO
    };
    // Drafts of itself are nearly all right; of another one they may be wrong.
    for (drafter, share) in [(&big, 2), (&small, 0)] {
        let watch = LoadWatch::nobody();
        let engine =
            Engine::load_with_drafter(&big.dir, Some(&drafter.dir), options, watch).unwrap();
        let job = |speculation| compared(&big.prompt, TOKENS, 0.8, speculation);
        let expected = undisturbed(&engine, job(Speculation::Off)).await;
        let told = undisturbed(&engine, job(Speculation::Always)).await;
        assert!(told == expected, "{}", drafter.name);
        let stats = engine.stats();
        let is_enough = stats.accepted[2] * share >= told.len() as u64 * share / 2;
        assert!(stats.drafted[2] > 0 && is_enough, "{stats:?}");
    }
}

#[test]
fn a_model_of_another_tokenizer_does_not_draft() {
    let big = fixture("qwen3_moe-q4");
    let nano = Path::new(env!("CARGO_MANIFEST_DIR")).join("../nano/model");
    let watch = LoadWatch::nobody();
    let options = LoadOptions::AUTO;
    let refused = Engine::load_with_drafter(&big.dir, Some(&nano), options, watch).err().unwrap();
    let said = refused.to_string();
    assert!(said.starts_with("model.draft_path = ") && said.contains("tokens against"), "{said}");
}
