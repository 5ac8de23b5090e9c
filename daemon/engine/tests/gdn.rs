//! Gated delta nets on real weights: their memory cannot be cut back, and yet going back repeats, wherever one goes back to.

#![cfg(feature = "mlx")]
#![allow(clippy::disallowed_methods, reason = "tests write scratch files")]

#[path = "support/checkpoint.rs"]
mod checkpoint;
#[path = "support/steps.rs"]
mod steps;

use std::{fs, path::Path, time::Duration};

use checkpoint::{Checkpoint, fixture, read_safetensors};
use engine::{
    Bare, Class, Compute, Constraint, Engine, Fork, Job, Limits, LoadOptions, Sampling, Sequence,
    Speculation, Spill, TokenId,
};
use proptest::prelude::*;
use serde_json::{Value, json};
use steps::take;

/// The latest places that a sequence can come back to without feeding anything again.
const RECENT: usize = 8;
/// What other arithmetic may differ by.
const FAST: f32 = 5e-4;
/// Bytes of a checkpoint of `qwen3_next-q4`: two layers of four heads of 16 × 16, and three inputs of 32 + 32 + 64 channels.
const CHECKPOINT_BYTES: u64 = 2 * 4 * (4 * 16 * 16 + 3 * 128);
/// Bytes of the keys and values of one layer with room for 512 tokens.
const KEYS_BYTES: u64 = 512 * 2 * 2 * 16 * 4;

fn options(compute: Compute) -> LoadOptions {
    LoadOptions { compute, ..LoadOptions::AUTO }
}

fn bare(dir: &Path, compute: Compute) -> Bare {
    Bare::load(dir, options(compute)).unwrap_or_else(|error| panic!("{error}"))
}

fn distance(a: &[f32], b: &[f32]) -> f32 {
    assert_eq!(a.len(), b.len());
    a.iter().zip(b).map(|(a, b)| (a - b).abs()).fold(0.0, f32::max)
}

/// Some tokens of the tiny vocabulary.
fn tape(seed: u32, len: usize) -> Vec<TokenId> {
    let square = |index: u32| index.wrapping_mul(index).wrapping_mul(104_729);
    (0..len as u32).map(|index| (seed + index * 7919).wrapping_add(square(index)) % 256).collect()
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 10, failure_persistence: None, ..ProptestConfig::default() })]

    /// In mlx-lm's arithmetic to the bit, in the fast one up to rounding; and nothing is fed again near the end.
    #[test]
    fn going_back_anywhere_repeats(name in prop::sample::select(vec!["qwen3_next-q4", "qwen3_5-mixed", "qwen3_5_moe-nvfp4"]),
                                   compute in prop::sample::select(vec![Compute::Parity, Compute::Fast]),
                                   seed in 0u32..1000, prompt_len in 1usize..40, chunk_len in 1usize..40,
                                   walk in prop::collection::vec((1usize..14, 0usize..60), 1..6)) {
        let checkpoint = fixture(name);
        let tape = tape(seed, 120);
        let mut model = bare(&checkpoint.dir, compute);
        let vocabulary = model.vocabulary();
        let limit = if compute == Compute::Parity { 0.0 } else { FAST };
        let straight = model.feed(&tape).unwrap();
        model.rewind(0).unwrap();
        for chunk in tape[..prompt_len].chunks(chunk_len) {
            model.feed(chunk).unwrap();
            model.checkpoint();
        }
        let mut len = prompt_len;
        // Since the last time that tokens were fed again without being remembered.
        let mut remembered = 1;
        for (forward, back) in walk {
            for _ in 0..forward {
                let row = model.feed(&tape[len..=len]).unwrap();
                model.checkpoint();
                let error = distance(&row, &straight[len * vocabulary..][..vocabulary]);
                prop_assert!(error <= limit, "{name} {compute:?} at {len}: {error:e}");
                len += 1;
                remembered += 1;
            }
            let back = back.min(len);
            let again = model.rewind(len - back).unwrap();
            len -= back;
            if back < remembered.min(RECENT) {
                prop_assert_eq!(again, 0, "{} back after {} steps", back, remembered);
            }
            prop_assert!(again <= len);
            remembered = if again == 0 { remembered.saturating_sub(back).max(1) } else { 1 };
            if again > 0 {
                model.checkpoint();
            }
        }
    }
}

#[test]
fn packed_keys_and_values_go_back_with_the_rest() {
    let checkpoint = fixture("qwen3_5-mixed");
    let options = LoadOptions { kv_bits: Some(8), ..options(Compute::Parity) };
    let mut model = Bare::load(&checkpoint.dir, options).unwrap();
    let tape = tape(7, 60);
    let straight = model.feed(&tape).unwrap();
    let unpacked = bare(&checkpoint.dir, Compute::Parity).feed(&tape).unwrap();
    assert!((1e-4..0.5).contains(&distance(&straight, &unpacked)), "they are packed");
    let vocabulary = model.vocabulary();
    for len in [55, 40, 3] {
        model.rewind(len).unwrap();
        let rows = model.feed(&tape[len..]).unwrap();
        assert_eq!(distance(&rows, &straight[len * vocabulary..]), 0.0, "from {len} on");
    }
}

/// Never ends a sequence, so that it can be as long as a test wants.
struct Endless;

impl Constraint for Endless {
    fn apply(&mut self, _: &[TokenId], logits: &mut [f32]) {
        logits[256..].fill(f32::NEG_INFINITY);
    }
}

fn job(prompt: &[TokenId], tokens_max: u32) -> Job {
    Job {
        prompt: prompt.to_vec(),
        constraint: Some(Box::new(Endless)),
        sampling: Sampling::GREEDY,
        limits: Limits { tokens_max, stop: Vec::new(), ahead_max: 3 },
        class: Class::Typing,
        soul: None,
        mixture: None,
        lookup: Vec::new(),
        speculation: Speculation::Auto,
    }
}

fn load(name: &str, compute: Compute) -> (Engine, Checkpoint) {
    let checkpoint = fixture(name);
    let engine = Engine::load(&checkpoint.dir, options(compute)).unwrap();
    (engine, checkpoint)
}

#[tokio::test]
async fn forks_go_on_as_if_they_were_alone() {
    let (engine, checkpoint) = load("qwen3_next-q4", Compute::Parity);
    let straight = take(&mut engine.submit(job(&checkpoint.prompt, 60)).unwrap(), 60).await;
    assert_eq!(straight.len(), 60);
    let mut sequence = engine.submit(job(&checkpoint.prompt, 60)).unwrap();
    assert_eq!(take(&mut sequence, 20).await, straight[..20]);
    let forks = (0..3).map(|seed| Fork { seed, constraint: Some(Box::new(Endless)) });
    let mut forks = sequence.fork(forks.collect()).unwrap();
    for fork in &mut forks {
        assert_eq!(take(fork, 15).await, straight[20..35]);
        // Beyond the latest places, and before the place where it was forked.
        fork.rewind(fork.mark_at(5));
        assert_eq!(take(fork, 40).await, straight[5..45]);
    }
    assert_eq!(take(&mut sequence, 40).await, straight[20..]);
}

#[tokio::test]
async fn a_batch_is_what_its_sequences_are_alone() {
    for (compute, limit) in [(Compute::Parity, 1e-4), (Compute::Fast, 1e-4)] {
        let (engine, _) = load("qwen3_next-q4", compute);
        let prompts: Vec<Vec<TokenId>> =
            (0..8).map(|seed| tape(seed * 31, 5 + 4 * seed as usize)).collect();
        let mut alone = Vec::new();
        for prompt in &prompts {
            alone.push(take(&mut engine.submit(job(prompt, 20)).unwrap(), 20).await);
        }
        // Another engine, which remembers nothing of these prompts.
        let (engine, _) = load("qwen3_next-q4", compute);
        let jobs = prompts.iter().map(|prompt| engine.submit(job(prompt, 20)).unwrap());
        let mut sequences: Vec<Sequence> = jobs.collect();
        let mut together = vec![Vec::new(); 8];
        for _ in 0..20 {
            for (sequence, steps) in sequences.iter_mut().zip(&mut together) {
                steps.extend(take(sequence, 1).await);
            }
        }
        assert_eq!(engine.stats().batch_len_max, 8, "they were decoded together");
        for (alone, together) in alone.iter().zip(&together) {
            assert_eq!(together.len(), 20);
            for (alone, together) in alone.iter().zip(together) {
                assert_eq!(alone.token, together.token);
                assert!((alone.logprob - together.logprob).abs() <= limit, "{compute:?}");
            }
        }
    }
}

#[tokio::test]
async fn checkpoints_are_bounded_and_counted() {
    let (engine, checkpoint) = load("qwen3_next-q4", Compute::Parity);
    let mut sequence = engine.submit(job(&checkpoint.prompt[..10], 400)).unwrap();
    take(&mut sequence, 40).await;
    let bytes = engine.cache_bytes().await.unwrap();
    assert!(bytes >= RECENT as u64 * CHECKPOINT_BYTES, "{bytes}: checkpoints are counted");
    take(&mut sequence, 300).await;
    let bytes = engine.cache_bytes().await.unwrap();
    assert!(bytes <= KEYS_BYTES + 25 * CHECKPOINT_BYTES, "{bytes} after 340 steps");
    drop(sequence);
    // The first question may come before the sequence has gone.
    engine.cache_bytes().await.unwrap();
    let resting = engine.cache_bytes().await.unwrap();
    assert!(resting <= KEYS_BYTES + 5 * CHECKPOINT_BYTES, "{resting} of a sequence that rests");
}

#[tokio::test]
async fn the_next_turn_pays_for_its_own_tokens_alone() {
    let (engine, checkpoint) = load("qwen3_next-q4", Compute::Parity);
    let mut first = engine.submit(job(&checkpoint.prompt, 30)).unwrap();
    let answer: Vec<TokenId> = take(&mut first, 30).await.iter().map(|step| step.token).collect();
    drop(first);
    let next = [checkpoint.prompt.clone(), answer.clone(), tape(5, 12)].concat();
    let before = engine.stats();
    let steps = take(&mut engine.submit(job(&next, 5)).unwrap(), 5).await;
    let fed = engine.stats().tokens_prefilled - before.tokens_prefilled;
    assert!(fed <= 12, "{fed} tokens were fed for 12 new ones");
    // A prompt that leaves the answer away comes back to where it began.
    let other = [checkpoint.prompt.clone(), tape(9, 12)].concat();
    let before = engine.stats();
    let others = take(&mut engine.submit(job(&other, 5)).unwrap(), 5).await;
    let fed = engine.stats().tokens_prefilled - before.tokens_prefilled;
    assert!(fed <= 13, "{fed} tokens were fed for 12 new ones");
    let (fresh, _) = load("qwen3_next-q4", Compute::Parity);
    assert_eq!(take(&mut fresh.submit(job(&next, 5)).unwrap(), 5).await, steps);
    assert_eq!(take(&mut fresh.submit(job(&other, 5)).unwrap(), 5).await, others);
}

#[tokio::test]
async fn a_prompt_that_differs_near_its_end_is_not_read_again_as_a_whole() {
    let (engine, _) = load("qwen3_next-q4", Compute::Fast);
    let prompt = tape(3, 420);
    drop(take(&mut engine.submit(job(&prompt, 20)).unwrap(), 20).await);
    let before = engine.stats().tokens_prefilled;
    let other = [&prompt[..400], &tape(11, 20)].concat();
    take(&mut engine.submit(job(&other, 1)).unwrap(), 1).await;
    let fed = engine.stats().tokens_prefilled - before;
    assert!(fed < 420 - 250, "{fed} of 420 tokens were fed again");
}

#[tokio::test]
async fn a_restart_comes_back_to_where_the_answer_began() {
    let dir = tempfile::tempdir().unwrap();
    let spill = || Spill {
        tokens_min: 8,
        patience: Duration::from_secs(3600),
        ..Spill::to(dir.path().to_owned())
    };
    let (engine, checkpoint) = load("qwen3_next-q4", Compute::Parity);
    engine.spill_to(spill()).unwrap();
    take(&mut engine.submit(job(&checkpoint.prompt, 30)).unwrap(), 30).await;
    drop(engine);
    let (engine, _) = load("qwen3_next-q4", Compute::Parity);
    engine.spill_to(spill()).unwrap();
    let other = [checkpoint.prompt.clone(), tape(9, 12)].concat();
    let steps = take(&mut engine.submit(job(&other, 5)).unwrap(), 5).await;
    let stats = engine.stats();
    // The prompt's last token is fed like an answer's.
    let fed = checkpoint.prompt.len() as u64 - 1;
    assert!((fed..=fed + 1).contains(&stats.tokens_restored), "{stats:?}");
    let (fresh, _) = load("qwen3_next-q4", Compute::Parity);
    assert_eq!(take(&mut fresh.submit(job(&other, 5)).unwrap(), 5).await, steps);
}

/// Each of these mistakes must move the logits far beyond the tolerance, or the comparison proves nothing.
#[test]
fn the_comparison_notices_mistakes() {
    let check = |name: &str, what: &str, change: &dyn Fn(&Path)| {
        let checkpoint = fixture(name);
        let dir = tempfile::tempdir().unwrap();
        checkpoint.copy(dir.path());
        change(dir.path());
        let found = bare(dir.path(), Compute::Parity).feed(&checkpoint.prompt).unwrap();
        let distance = distance(&found, &checkpoint.floats("prefill"));
        assert!(distance > 1e-4, "{name}, {what}: only {distance:e}");
    };
    let config = |name: &str, what: &str, change: fn(&mut Value)| {
        check(name, what, &|dir: &Path| {
            let path = dir.join("config.json");
            let mut json: Value = serde_json::from_slice(&fs::read(&path).unwrap()).unwrap();
            change(&mut json);
            fs::write(path, json.to_string()).unwrap();
        });
    };
    let tensor = |name: &str, what: &str, change: fn(&mut [f32])| {
        check(name, what, &|dir: &Path| {
            change_tensors(&dir.join("model.safetensors"), what, change)
        });
    };
    let (next, small, big) = ("qwen3_next-q4", "qwen3_5-mixed", "qwen3_5_moe-nvfp4");
    config(next, "rope theta", |json| json["rope_theta"] = json!(20000.0));
    config(next, "partial rotary", |json| json["partial_rotary_factor"] = json!(0.5));
    config(next, "experts per token", |json| json["num_experts_per_tok"] = json!(2));
    config(next, "renormalisation", |json| json["norm_topk_prob"] = json!(false));
    config(next, "epsilon", |json| json["rms_norm_eps"] = json!(1e-3));
    config(next, "shared expert", |json| json["shared_expert_intermediate_size"] = json!(0));
    config(small, "rope theta", |json| {
        json["text_config"]["rope_parameters"]["rope_theta"] = json!(20000.0);
    });
    config(big, "renormalisation", |json| json["text_config"]["norm_topk_prob"] = json!(false));
    tensor(next, "linear_attn.A_log", |a| a.iter_mut().for_each(|a| *a += 0.1));
    tensor(next, "linear_attn.dt_bias", |bias| bias.fill(0.0));
    tensor(next, "linear_attn.conv1d.weight", |taps| taps.rotate_left(1));
    tensor(next, "linear_attn.norm.weight", |norm| norm.rotate_left(1));
    tensor(next, "self_attn.q_norm.weight", |norm| norm.rotate_left(1));
    tensor(big, "linear_attn.A_log", |a| a.reverse());
    // The one that is added to the norms.
    tensor("qwen3_next-hf", "input_layernorm.weight", |norm| {
        norm.iter_mut().for_each(|norm| *norm += 1.0);
    });
    tensor("qwen3_5_moe-hf", "norm.weight", |norm| norm.iter_mut().for_each(|norm| *norm += 1.0));
}

/// Changes the fp32 tensors whose names end in `name`.
fn change_tensors(path: &Path, name: &str, change: fn(&mut [f32])) {
    let (header, tensors) = read_safetensors(path);
    let mut file = fs::read(path).unwrap();
    let data = file.len() - tensors.values().map(Vec::len).sum::<usize>();
    let mut count = 0;
    for (tensor, bytes) in tensors.iter().filter(|(tensor, _)| tensor.ends_with(name)) {
        assert_eq!(header[tensor]["dtype"], "F32");
        let words = bytes.chunks_exact(4).map(|word| f32::from_le_bytes(word.try_into().unwrap()));
        let mut floats: Vec<f32> = words.collect();
        change(&mut floats);
        let start = data + header[tensor]["data_offsets"][0].as_u64().unwrap() as usize;
        let changed: Vec<u8> = floats.iter().flat_map(|float| float.to_le_bytes()).collect();
        file[start..start + changed.len()].copy_from_slice(&changed);
        count += 1;
    }
    assert!(count > 0, "no tensor ends in {name}");
    fs::write(path, file).unwrap();
}
