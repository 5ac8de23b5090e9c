//! Latent attention: one order of operations for any number of tokens, indexers that layers share, and other layouts of the weights.

#![cfg(feature = "mlx")]
#![allow(
    clippy::disallowed_methods,
    clippy::print_stderr,
    reason = "tests write scratch files and report"
)]

#[path = "support/checkpoint.rs"]
mod checkpoint;
#[path = "support/compare.rs"]
mod compare;

use std::{fs, path::Path};

use checkpoint::{Checkpoint, fixture, fixtures};
use compare::{FAST, PARITY, distance, is_half};
use engine::{
    Bare, Class, Compute, Engine, Job, Limits, LoadOptions, Sampling, Sequence, Speculation, Step,
};
use serde_json::{Value, json};

const ARCHITECTURES: [&str; 6] =
    ["deepseek_v3", "deepseek_v32", "glm4_moe_lite", "glm_moe_dsa", "kimi_k2", "kimi_k25"];

fn of_this_family() -> Vec<Checkpoint> {
    let mut all = fixtures();
    all.retain(|checkpoint| ARCHITECTURES.contains(&&*checkpoint.architecture()));
    assert!(!all.is_empty());
    all
}

fn load(dir: &Path, compute: Compute) -> Bare {
    let options = LoadOptions { compute, ..LoadOptions::AUTO };
    Bare::load(dir, options).unwrap_or_else(|error| panic!("{}: {error}", dir.display()))
}

/// The logits of all tokens, fed in pieces of `len`.
fn in_pieces(model: &mut Bare, tokens: &[u32], len: usize) -> Vec<f32> {
    model.rewind(0).unwrap();
    tokens.chunks(len).flat_map(|piece| model.feed(piece).unwrap()).collect()
}

/// Prompt and answer of the reference.
fn text(checkpoint: &Checkpoint) -> Vec<u32> {
    [&checkpoint.prompt[..], &checkpoint.greedy].concat()
}

#[test]
fn how_a_text_is_cut_makes_no_difference() {
    for checkpoint in of_this_family() {
        let tokens = text(&checkpoint);
        let mut model = load(&checkpoint.dir, Compute::Uniform);
        let whole = in_pieces(&mut model, &tokens, tokens.len());
        for len in [1, 2, 3, 7, 16, 17] {
            let found = distance(&whole, &in_pieces(&mut model, &tokens, len));
            assert!(found == 0.0, "{} in pieces of {len}: {found:e}", checkpoint.name);
        }
        // Cut back into the prompt, to where the indexer begins to choose, and to the last token.
        let vocabulary = model.vocabulary();
        for len in [checkpoint.prompt.len() - 5, 17, 16, 15, tokens.len() - 1] {
            model.rewind(len).unwrap();
            let again = model.feed(&tokens[len..]).unwrap();
            let found = distance(&whole[len * vocabulary..], &again);
            assert!(found == 0.0, "{} from {len} on: {found:e}", checkpoint.name);
        }
    }
}

#[test]
fn the_order_for_any_number_of_tokens_is_close_to_mlx_lm() {
    for checkpoint in of_this_family().into_iter().filter(|checkpoint| !is_half(checkpoint)) {
        let mut model = load(&checkpoint.dir, Compute::Uniform);
        let found =
            distance(&model.feed(&checkpoint.prompt).unwrap(), &checkpoint.floats("prefill"));
        eprintln!("{:24} Uniform: {found:e}", checkpoint.name);
        assert!(found <= FAST && found > 0.0, "{}: {found:e}", checkpoint.name);
    }
}

async fn all(mut sequence: Sequence) -> Vec<Step> {
    let mut steps = Vec::new();
    while let Some(step) = sequence.next().await.unwrap() {
        steps.push(step);
    }
    steps
}

#[tokio::test]
async fn three_at_once_get_what_each_gets_alone() {
    for checkpoint in of_this_family() {
        let options = LoadOptions { compute: Compute::Uniform, ..LoadOptions::AUTO };
        let engine = Engine::load(&checkpoint.dir, options).unwrap();
        let submit = |prompt: &[u32]| {
            let limits = Limits { tokens_max: 10, stop: Vec::new(), ahead_max: 10 };
            let (prompt, sampling, class) = (prompt.to_vec(), Sampling::GREEDY, Class::Agent);
            engine
                .submit(Job {
                    prompt,
                    constraint: None,
                    sampling,
                    limits,
                    class,
                    soul: None,
                    mixture: None,
                    lookup: Vec::new(),
                    speculation: Speculation::Auto,
                })
                .unwrap()
        };
        // One that comes to where the indexer begins to choose while it is decoded, and two beyond.
        let text = &checkpoint.prompt;
        let prompts = [&text[3..15], &text[1..], &text[5..text.len() - 2]];
        let mut alone = Vec::new();
        for prompt in prompts {
            engine.shrink_to(0).unwrap();
            alone.push(all(submit(prompt)).await);
        }
        engine.shrink_to(0).unwrap();
        let [first, second, third] = prompts.map(submit);
        let (first, second, third) = tokio::join!(all(first), all(second), all(third));
        assert!(alone.iter().any(|steps| steps.len() > 1), "{}", checkpoint.name);
        // To the last bit of every log probability.
        assert_eq!(alone, [first, second, third], "{}", checkpoint.name);
    }
}

/// The distance from the reference after `change` of the configuration.
fn changed(checkpoint: &Checkpoint, change: impl FnOnce(&mut Value)) -> Result<f32, String> {
    let scratch = tempfile::tempdir().unwrap();
    checkpoint.copy(scratch.path());
    let path = scratch.path().join("config.json");
    let mut config: Value = serde_json::from_slice(&fs::read(&path).unwrap()).unwrap();
    change(&mut config);
    fs::write(&path, serde_json::to_vec(&config).unwrap()).unwrap();
    let options = LoadOptions { compute: Compute::Parity, ..LoadOptions::AUTO };
    let mut model = Bare::load(scratch.path(), options).map_err(|error| error.to_string())?;
    let logits = model.feed(&checkpoint.prompt).map_err(|error| error.to_string())?;
    Ok(distance(&logits, &checkpoint.floats("prefill")))
}

#[test]
fn the_comparison_would_notice_a_mistake_of_the_indexer() {
    let checkpoint = fixture("glm_moe_dsa_52-q4a4h6");
    assert!(changed(&checkpoint, |_| {}).unwrap() <= PARITY);
    let noticed = |what: &str, change: fn(&mut Value)| {
        let found = changed(&checkpoint, change).unwrap();
        eprintln!("{what}: {found:e}");
        assert!(found > 100.0 * PARITY, "{what}: {found:e}");
    };
    noticed("one token less", |config| config["index_topk"] = json!(15));
    noticed("no choice", |config| config["index_topk"] = json!(64));
    noticed("the other pairs", |config| config["indexer_rope_interleave"] = json!(false));
    // Layers 2 and 3 follow the indexer of layer 1; here all follow that of layer 0.
    noticed("another layer's choice", |config| {
        config["indexer_types"] = json!(["full", "shared", "shared", "shared"]);
    });
    noticed("scale", |config| config["routed_scaling_factor"] = json!(2.0));
    noticed("norm", |config| config["rms_norm_eps"] = json!(1e-3));
    noticed("rotation", |config| config["rope_parameters"]["rope_theta"] = json!(4e6));
}

#[test]
fn an_indexer_that_is_not_there_is_named() {
    let checkpoint = fixture("glm_moe_dsa_52-q4a4h6");
    let refused = changed(&checkpoint, |config| config["indexer_types"] = json!(vec!["full"; 4]));
    let refused = refused.unwrap_err();
    assert!(
        refused.contains("model.layers.2.self_attn.indexer") && refused.contains("is missing"),
        "{refused}"
    );
}

#[test]
fn blocks_of_8_bits_are_checked_with_their_scales() {
    let checkpoint = fixture("deepseek_v3-fp8");
    let refused = |change: fn(&mut Value)| changed(&checkpoint, change).unwrap_err();
    let other_blocks = refused(|config| {
        config["quantization_config"]["weight_block_size"] = json!([64, 64]);
    });
    assert!(other_blocks.contains("quantization by \"fp8\""), "{other_blocks}");
    let other_width = refused(|config| config["intermediate_size"] = json!(96));
    assert!(other_width.contains("has shape"), "{other_width}");
}
