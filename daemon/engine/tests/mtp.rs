//! A model that drafts with a layer of its own writes what it writes without, and drafts that are right are taken.

#![cfg(feature = "mlx")]

#[path = "support/checkpoint.rs"]
mod checkpoint;
#[path = "support/damage.rs"]
mod damage;
#[path = "support/steps.rs"]
mod steps;

use std::path::Path;

use checkpoint::read_safetensors;
use damage::{edit_tensors, scratch};
use engine::{Compute, DRAFT_SOURCES, Engine, LoadOptions, Speculation, TokenId};
use serde_json::json;
use steps::{compared, undisturbed, walk};

/// Grouped queries, and latents.
const NAMES: [&str; 2] = ["glm4_moe-q4-mtp", "deepseek_v3-q4-mtp"];
/// The index of the layer that drafts.
const LAYER: &str = "model.layers.3.";
const TOKENS: u32 = 40;

/// Has every layer add nothing to the residual stream, so that the next token depends on the last one alone; the layer that drafts hands
/// the embedding through, and so says the same.
fn simplify(path: &Path) {
    let (_, tensors) = read_safetensors(path);
    let norm = tensors["model.norm.weight"].clone();
    let hidden = norm.len() / size_of::<f32>();
    edit_tensors(path, |name, entry, bytes| {
        let joint = format!("{LAYER}eh_proj.");
        if name == format!("{joint}weight") {
            let one =
                |index: usize| f32::from(u8::from(index % (2 * hidden) == index / (2 * hidden)));
            *bytes = (0..2 * hidden * hidden).flat_map(|index| one(index).to_le_bytes()).collect();
            (entry["dtype"], entry["shape"]) = (json!("F32"), json!([hidden, 2 * hidden]));
        } else if name.starts_with(&joint) {
            return false;
        } else if name == format!("{LAYER}enorm.weight") {
            *bytes = 1.0f32.to_le_bytes().repeat(hidden);
        } else if name == format!("{LAYER}shared_head.norm.weight") {
            bytes.clone_from(&norm);
        } else if (name.contains("o_proj") || name.contains("down_proj"))
            && !name.ends_with(".weight")
        {
            bytes.fill(0);
        }
        true
    });
}

/// Walks plainly and with drafts. How many there are depends on who is faster, the engine or its caller, so nobody counts them.
async fn compare(engine: &Engine, prompt: &[TokenId], temperature: f32) {
    let job = |speculation| compared(prompt, TOKENS, temperature, speculation);
    let expected = walk(engine, job(Speculation::Off)).await;
    let told = walk(engine, job(Speculation::Always)).await;
    assert!(told == expected, "at {temperature}");
}

/// Writes an answer plainly and with drafts, and hands back how many tokens the layer drafted, and how many of them were right. The
/// engine must have nothing else in hand.
async fn count(engine: &Engine, prompt: &[TokenId], temperature: f32) -> (u64, u64) {
    let job = |speculation| compared(prompt, TOKENS, temperature, speculation);
    let expected = undisturbed(engine, job(Speculation::Off)).await;
    let before = engine.stats();
    let told = undisturbed(engine, job(Speculation::Always)).await;
    let after = engine.stats();
    assert!(told == expected, "at {temperature}");
    let source = DRAFT_SOURCES.iter().position(|&name| name == "mtp").unwrap();
    let gained = |after: &[u64], before: &[u64]| after[source] - before[source];
    (gained(&after.drafted, &before.drafted), gained(&after.accepted, &before.accepted))
}

#[tokio::test]
async fn drafts_change_nothing_and_those_that_are_right_are_taken() {
    for (name, compute) in
        NAMES.into_iter().flat_map(|name| [(name, Compute::Fast), (name, Compute::Uniform)])
    {
        let options = LoadOptions { compute, ..LoadOptions::AUTO };
        let (checkpoint, dir) = scratch(name);
        let random = Engine::load(dir.path(), options).unwrap();
        let (_, dir) = scratch(name);
        simplify(&dir.path().join("model.safetensors"));
        let simple = Engine::load(dir.path(), options).unwrap();
        for temperature in [0.0, 1.0] {
            let (drafted, right) = count(&random, &checkpoint.prompt, temperature).await;
            assert!(drafted >= 20 && right < drafted / 2, "{name}: {right} of {drafted}");
        }
        let (drafted, right) = count(&simple, &checkpoint.prompt, 1.0).await;
        // What is drafted beyond the end of a job is right in vain.
        assert!(drafted >= 20 && right * 10 >= drafted * 8, "{name}: {right} of {drafted}");
        compare(&random, &checkpoint.prompt, 1.0).await;
        if compute == Compute::Fast {
            compare(&random, &checkpoint.prompt, 0.0).await;
            compare(&simple, &checkpoint.prompt, 1.0).await;
        }
    }
}

#[tokio::test]
async fn a_model_that_is_not_to_speculate_does_not_load_the_layer() {
    for name in NAMES {
        let (checkpoint, dir) = scratch(name);
        let with = Engine::load(dir.path(), LoadOptions::AUTO).unwrap();
        let off = LoadOptions { speculation: Speculation::Off, ..LoadOptions::AUTO };
        let without = Engine::load(dir.path(), off).unwrap();
        let (more, less) = (with.info(), without.info());
        assert!(more.parameters > less.parameters && more.bytes_resident > less.bytes_resident);
        assert_eq!(more.parameters_active, less.parameters_active);
        // A layer more of what each of three keeps.
        assert_eq!(more.bytes_per_token * 3, less.bytes_per_token * 4);
        let job = compared(&checkpoint.prompt, TOKENS, 0.0, Speculation::Always);
        undisturbed(&without, job).await;
        assert_eq!(without.stats().drafted, [0; DRAFT_SOURCES.len()]);
    }
}
