//! Adapters: the same numbers as mlx-lm's, swapped per job, refused where they do not fit.
//!
//! `tests/engine/make_souls.py` made the adapters and the reference; each lies on the checkpoint of its name.

#![cfg(feature = "mlx")]
#![allow(clippy::disallowed_methods, reason = "tests write scratch files")]

#[path = "support/checkpoint.rs"]
mod checkpoint;

use std::{
    collections::BTreeMap,
    fs,
    path::{Path, PathBuf},
};

use checkpoint::{Checkpoint, fixture, read_folder, read_safetensors};
use engine::{
    Bare, Class, Compute, Engine, EngineError, Job, Limits, LoadOptions, MountError, Sampling,
    SoulId, Speculation, TokenId,
};
use serde_json::{Value, json};

/// Same operations, same order, same library.
const PARITY: f32 = 1e-6;
/// Other orders, another BLAS.
const FAST: f32 = 1e-4;

fn souls() -> Vec<Checkpoint> {
    read_folder(&Path::new(env!("CARGO_MANIFEST_DIR")).join("../../tests/engine/fixtures/souls"))
}

fn soul(name: &str) -> Checkpoint {
    souls().into_iter().find(|soul| soul.name == name).unwrap()
}

fn options(compute: Compute) -> LoadOptions {
    LoadOptions { compute, ..LoadOptions::AUTO }
}

fn distance(a: &[f32], b: &[f32]) -> f32 {
    assert_eq!(a.len(), b.len());
    a.iter().zip(b).map(|(a, b)| (a - b).abs()).fold(0.0, f32::max)
}

/// The greatest difference from the reference: of one pass, and of decode steps.
fn worst(soul: &Checkpoint, compute: Compute) -> f32 {
    let mut model = Bare::load(&fixture(&soul.name).dir, options(compute)).unwrap();
    model.wear(&soul.dir).unwrap();
    let prefill = distance(&model.feed(&soul.prompt).unwrap(), &soul.floats("prefill"));
    model.rewind(0).unwrap();
    for chunk in soul.prompt.chunks(7) {
        model.feed(chunk).unwrap();
    }
    let mut worst = prefill;
    for (step, token) in soul.greedy.iter().enumerate().take(soul.greedy.len() - 1) {
        let logits = model.feed(&[*token]).unwrap();
        worst = worst.max(distance(&logits, &soul.decoded(step + 1)));
    }
    worst
}

#[test]
fn logits_with_an_adapter_are_those_of_mlx_lm() {
    for soul in souls() {
        let distance = worst(&soul, Compute::Parity);
        assert!(distance <= PARITY, "{}: {distance:e}", soul.name);
    }
}

#[test]
fn other_arithmetic_is_close() {
    for soul in souls() {
        for compute in [Compute::Quantized, Compute::Fast] {
            let distance = worst(&soul, compute);
            assert!(distance <= FAST, "{} {compute:?}: {distance:e}", soul.name);
        }
    }
}

fn job(prompt: &[TokenId], tokens_max: u32, soul: Option<SoulId>) -> Job {
    Job {
        prompt: prompt.to_vec(),
        constraint: None,
        sampling: Sampling::GREEDY,
        limits: Limits { tokens_max, stop: Vec::new(), ahead_max: 4 },
        class: Class::Agent,
        soul,
        mixture: None,
        lookup: Vec::new(),
        speculation: Speculation::Auto,
    }
}

async fn rest(engine: &Engine, job: Job) -> Result<Vec<TokenId>, EngineError> {
    let mut sequence = engine.submit(job).unwrap();
    let mut tokens = Vec::new();
    while let Some(step) = sequence.next().await? {
        tokens.push(step.token);
    }
    Ok(tokens)
}

#[tokio::test]
async fn jobs_of_one_model_wear_what_they_ask_for() {
    let (name, tokens_max) = ("glm4_moe-f32", 6);
    let (soul, plain) = (soul(name), fixture(name));
    let engine = Engine::load(&plain.dir, LoadOptions::PARITY).unwrap();
    let before = engine.logits(soul.prompt.clone()).await.unwrap();
    let mounted = engine.mount(&soul.dir).await.unwrap();
    let again = engine.mount(&soul.dir).await.unwrap();
    assert_ne!(mounted, again);

    // At the same time, from the same prompt: neither sees the other's cache.
    let count = tokens_max as usize;
    let with = rest(&engine, job(&soul.prompt, tokens_max, Some(mounted)));
    let without = rest(&engine, job(&soul.prompt, tokens_max, None));
    let twin = rest(&engine, job(&soul.prompt, tokens_max, Some(again)));
    let (with, without, twin) = tokio::join!(with, without, twin);
    let (with, without) = (with.unwrap(), without.unwrap());
    assert!(soul.greedy[..count].starts_with(&with) && !with.is_empty());
    assert_ne!(with, without);
    assert_eq!(twin.unwrap(), with);
    let kept = rest(&engine, job(&soul.prompt, tokens_max, Some(mounted))).await.unwrap();
    assert_eq!(kept, with, "with the cache of the first one, too");

    let after = engine.logits(soul.prompt.clone()).await.unwrap();
    assert_eq!(before, after, "the model below is as it was");
    let worn = engine.logits_with(Some(mounted), soul.prompt.clone()).await.unwrap();
    assert!(distance(&worn, &soul.prefill(soul.prompt.len() - 1)) <= PARITY);

    engine.unmount(mounted).unwrap();
    let refused = rest(&engine, job(&soul.prompt, 2, Some(mounted))).await;
    assert!(matches!(&refused, Err(EngineError::Refused(why)) if why.contains("not mounted")));
    assert!(rest(&engine, job(&soul.prompt, 2, Some(again))).await.is_ok(), "the other one stays");
    assert!(rest(&engine, job(&soul.prompt, 2, None)).await.is_ok(), "other jobs go on");
}

/// Copies an adapter and changes its tensors: shapes and bytes by name.
fn changed(
    soul: &Checkpoint,
    to: &Path,
    change: impl FnOnce(&mut BTreeMap<String, (Vec<usize>, Vec<u8>)>),
) {
    let (header, bytes) = read_safetensors(&soul.dir.join("adapters.safetensors"));
    let mut tensors = bytes
        .into_iter()
        .map(|(name, bytes)| {
            let shape = serde_json::from_value(header[&name]["shape"].clone()).unwrap();
            (name, (shape, bytes))
        })
        .collect();
    change(&mut tensors);
    let (mut header, mut data) = (serde_json::Map::new(), Vec::new());
    for (name, (shape, bytes)) in tensors {
        let start = data.len();
        data.extend(bytes);
        let place = [start, data.len()];
        header.insert(name, json!({"dtype": "F32", "shape": shape, "data_offsets": place}));
    }
    let header = Value::Object(header).to_string();
    let mut file = (header.len() as u64).to_le_bytes().to_vec();
    file.extend(header.as_bytes());
    file.extend(data);
    fs::write(to.join("adapters.safetensors"), file).unwrap();
    fs::copy(soul.dir.join("adapter_config.json"), to.join("adapter_config.json")).unwrap();
}

async fn refusal(engine: &Engine, dir: &Path) -> String {
    let MountError { path, reason } = engine.mount(dir).await.err().unwrap();
    assert!(path.starts_with(dir), "{}", path.display());
    reason
}

#[tokio::test]
async fn an_adapter_that_does_not_fit_is_refused_by_name() {
    let soul = soul("glm4_moe-f32");
    let engine = Engine::load(&fixture("glm4_moe-f32").dir, LoadOptions::PARITY).unwrap();
    let scratch = tempfile::tempdir().unwrap();
    let dir: PathBuf = scratch.path().to_owned();
    let gate = "model.layers.1.mlp.switch_mlp.gate_proj";
    let zeros = |shape: &[usize]| (shape.to_vec(), vec![0; 4 * shape.iter().product::<usize>()]);
    let query = "model.layers.1.self_attn.q_proj";
    let other = "; the adapter was made for another model";
    let mut says = BTreeMap::new();
    for (half, shape, expected) in [
        (
            "switch_mlp.gate_proj.lora_a",
            &[77, 3, 64][..],
            "is made for 77 experts, the model has 8",
        ),
        ("switch_mlp.gate_proj.lora_a", &[77 * 3, 64], "is made for 77 experts, the model has 8"),
        ("switch_mlp.gate_proj.lora_b", &[77, 32, 3], "is made for 77 experts, the model has 8"),
        ("switch_mlp.gate_proj.lora_a", &[8, 3, 96], "is made for 96 inputs, the model has 64"),
        ("switch_mlp.gate_proj.lora_b", &[8, 48, 3], "is made for 48 outputs, the model has 32"),
        ("switch_mlp.gate_proj.lora_b", &[8, 32, 5], "has rank 5, the configuration says 3"),
        ("switch_mlp.gate_proj.lora_b", &[8, 32], "has shape [8, 32], not [experts, out, rank]"),
    ] {
        let name = format!("model.layers.1.mlp.{half}");
        changed(&soul, &dir, |tensors| drop(tensors.insert(name.clone(), zeros(shape))));
        let remedy = if expected.contains("rank 5") { "" } else { other };
        says.insert(format!("{name} {expected}{remedy}"), refusal(&engine, &dir).await);
    }
    for (expected, said) in says {
        assert_eq!(said, expected);
    }
    changed(&soul, &dir, |tensors| {
        drop(tensors.insert(format!("{query}.lora_a"), zeros(&[32, 3])))
    });
    let said = refusal(&engine, &dir).await;
    assert_eq!(said, format!("{query}.lora_a is made for 32 inputs, the model has 64{other}"));
    changed(&soul, &dir, |tensors| drop(tensors.remove(&format!("{gate}.lora_b"))));
    assert_eq!(refusal(&engine, &dir).await, format!("{gate}.lora_b is missing"));
    changed(&soul, &dir, |tensors| {
        for half in ["a", "b"] {
            let moved = tensors.remove(&format!("{query}.lora_{half}")).unwrap();
            tensors.insert(format!("model.layers.9.self_attn.q_proj.lora_{half}"), moved);
        }
    });
    let said = refusal(&engine, &dir).await;
    assert_eq!(said, format!("the model has no linear map model.layers.9.self_attn.q_proj{other}"));
    changed(&soul, &dir, |tensors| {
        let (_, bytes) = tensors.get_mut(&format!("{query}.lora_a")).unwrap();
        bytes[40..44].copy_from_slice(&f32::NAN.to_le_bytes());
    });
    let said = refusal(&engine, &dir).await;
    assert_eq!(said, format!("{query}.lora_a holds values that are not numbers (NaN)"));
    assert!(engine.mount(&soul.dir).await.is_ok(), "what fits is mounted still");
    // As older versions of mlx-lm saved it.
    changed(&soul, &dir, |tensors| {
        let (shape, _) = tensors.get_mut(&format!("{gate}.lora_a")).unwrap();
        *shape = vec![shape[0] * shape[1], shape[2]];
    });
    let old = engine.mount(&dir).await.unwrap();
    let logits = engine.logits_with(Some(old), soul.prompt.clone()).await.unwrap();
    assert!(distance(&logits, &soul.prefill(soul.prompt.len() - 1)) <= PARITY);
}

#[tokio::test]
async fn an_adapter_of_another_kind_is_refused_with_its_place() {
    let soul = soul("glm4_moe-f32");
    let engine = Engine::load(&fixture("glm4_moe-f32").dir, LoadOptions::PARITY).unwrap();
    let scratch = tempfile::tempdir().unwrap();
    let dir = scratch.path();
    let said = refusal(&engine, &dir.join("none")).await;
    let remedy = "; an adapter is a folder with adapter_config.json and adapters.safetensors";
    assert!(said.contains("No such file") && said.ends_with(remedy), "{said}");
    fs::create_dir(dir.join("adapters.safetensors")).unwrap();
    fs::copy(soul.dir.join("adapter_config.json"), dir.join("adapter_config.json")).unwrap();
    assert_eq!(refusal(&engine, dir).await, format!("not a regular file{remedy}"));
    fs::remove_dir(dir.join("adapters.safetensors")).unwrap();
    changed(&soul, dir, |_| {});
    let config =
        |json: Value| fs::write(dir.join("adapter_config.json"), json.to_string()).unwrap();
    config(json!({"fine_tune_type": "dora", "lora_parameters": {"rank": 3, "scale": 1.0}}));
    assert!(refusal(&engine, dir).await.contains("\"dora\""));
    config(json!({"fine_tune_type": "full", "lora_parameters": {}}));
    assert!(refusal(&engine, dir).await.contains("whole weights"));
    config(json!({"lora_parameters": {"rank": 3, "alpha": 16}}));
    assert!(refusal(&engine, dir).await.contains("\"alpha\" is another convention"));
    config(json!({"lora_parameters": {"scale": 1.0}}));
    assert!(refusal(&engine, dir).await.contains("rank is missing"));
    fs::write(dir.join("adapter_config.json"), "{").unwrap();
    assert!(refusal(&engine, dir).await.contains("not JSON"));
    fs::copy(soul.dir.join("adapter_config.json"), dir.join("adapter_config.json")).unwrap();
    let whole = fs::read(soul.dir.join("adapters.safetensors")).unwrap();
    fs::write(dir.join("adapters.safetensors"), &whole[..whole.len() / 2]).unwrap();
    assert!(refusal(&engine, dir).await.starts_with("truncated"));
}

#[tokio::test]
async fn an_adapter_that_memory_cannot_hold_is_refused_with_numbers() {
    let soul = soul("glm4_moe-f32");
    let dir = fixture("glm4_moe-f32").dir;
    let options = LoadOptions { context_max: Some(256), ..LoadOptions::PARITY };
    let survey = Engine::survey(&dir, options).unwrap().memory;
    let least = survey.modes.iter().find(|mode| mode.compute == Compute::Parity).unwrap().least;
    let load = |bytes| {
        let options = LoadOptions { memory_max: Some(bytes), ..options };
        Engine::load(&dir, options).unwrap()
    };
    let engine = load(least);
    let said = refusal(&engine, &soul.dir).await;
    assert!(said.starts_with("it takes ") && said.contains("and 0 bytes are allowed;"), "{said}");
    drop(engine);
    // One takes 55 KiB.
    let engine = load(least + (80 << 10));
    let mounted = engine.mount(&soul.dir).await.unwrap();
    let said = refusal(&engine, &soul.dir).await;
    assert!(said.contains("unmount another adapter"), "{said}");
    engine.unmount(mounted).unwrap();
    assert!(engine.mount(&soul.dir).await.is_ok(), "what was unmounted takes no memory");
}
