//! What a layer that drafts in front of latents drafts (DeepSeek-V3) changes no step, and what is right of it is taken.

#![cfg(feature = "mlx")]

#[path = "support/checkpoint.rs"]
mod checkpoint;
#[path = "support/damage.rs"]
mod damage;

use std::path::Path;

use checkpoint::read_safetensors;
use damage::{edit_tensors, scratch};
use engine::{
    Class, Compute, DRAFT_SOURCES, Engine, Job, Limits, LoadOptions, Sampling, Speculation, Step,
    TokenId,
};
use serde_json::json;

const NAME: &str = "deepseek_v3-q4-mtp";
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

/// The steps of a job that nobody disturbs and that has room for all of them, so that every pass is the same each time.
async fn answer(
    engine: &Engine,
    prompt: &[TokenId],
    (temperature, rewound): (f32, bool),
    speculation: Speculation,
) -> Vec<Step> {
    let mut sequence = engine
        .submit(Job {
            prompt: prompt.to_vec(),
            constraint: None,
            sampling: Sampling { temperature, seed: 3, top_len: 4, ..Sampling::GREEDY },
            limits: Limits { tokens_max: TOKENS, stop: Vec::new(), ahead_max: TOKENS },
            class: Class::Typing,
            soul: None,
            lookup: Vec::new(),
            speculation,
        })
        .unwrap();
    let mut steps = Vec::new();
    while let Some(step) = sequence.next().await.unwrap() {
        steps.push(step);
    }
    if rewound {
        sequence.rewind(sequence.mark_at(9));
        while let Some(step) = sequence.next().await.unwrap() {
            steps.push(step);
        }
    }
    steps
}

/// How many tokens the layer drafted, and how many of them were right. The engine must have nothing else in hand.
async fn count(engine: &Engine, prompt: &[TokenId], how: (f32, bool)) -> (u64, u64) {
    let expected = answer(engine, prompt, how, Speculation::Off).await;
    let before = engine.stats();
    let told = answer(engine, prompt, how, Speculation::Always).await;
    let after = engine.stats();
    assert!(told.last().unwrap().finish.is_some() && told == expected, "{how:?}");
    let source = DRAFT_SOURCES.iter().position(|&name| name == "mtp").unwrap();
    let gained = |after: &[u64], before: &[u64]| after[source] - before[source];
    (gained(&after.drafted, &before.drafted), gained(&after.accepted, &before.accepted))
}

#[tokio::test]
async fn drafts_change_nothing_and_those_that_are_right_are_taken() {
    let (checkpoint, dir) = scratch(NAME);
    let (_, simple) = scratch(NAME);
    simplify(&simple.path().join("model.safetensors"));
    for compute in [Compute::Fast, Compute::Uniform] {
        let options = LoadOptions { compute, ..LoadOptions::AUTO };
        let random = Engine::load(dir.path(), options).unwrap();
        for how in [(0.0, false), (1.0, true)] {
            let (drafted, right) = count(&random, &checkpoint.prompt, how).await;
            assert!(drafted >= 20 && right < drafted / 2, "{how:?}: {right} of {drafted}");
        }
        let simple = Engine::load(simple.path(), options).unwrap();
        let (drafted, right) = count(&simple, &checkpoint.prompt, (1.0, false)).await;
        // What is drafted beyond the end of a job is right in vain.
        assert!(drafted >= 20 && right * 10 >= drafted * 8, "{right} of {drafted}");
    }
}

#[tokio::test]
async fn the_plan_counts_the_layer_and_its_cache() {
    let (_, dir) = scratch(NAME);
    let with = Engine::load(dir.path(), LoadOptions::AUTO).unwrap();
    let off = LoadOptions { speculation: Speculation::Off, ..LoadOptions::AUTO };
    let without = Engine::load(dir.path(), off).unwrap();
    let (more, less) = (with.info(), without.info());
    assert!(more.bytes_resident > less.bytes_resident);
    assert_eq!(more.parameters_active, less.parameters_active);
    // A layer more of latents and rotated keys.
    assert_eq!(more.bytes_per_token * 3, less.bytes_per_token * 4);
}
