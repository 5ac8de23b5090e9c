//! What loading takes is known before it, what does not fit is refused, and what is broken is named.

#![cfg(feature = "mlx")]
#![allow(clippy::disallowed_methods, reason = "tests write scratch files")]

#[path = "support/checkpoint.rs"]
mod checkpoint;
#[path = "support/sparse.rs"]
mod sparse;

use std::{
    fs,
    ops::ControlFlow,
    path::Path,
    sync::{
        Arc, Mutex,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use checkpoint::{Checkpoint, fixture, read_safetensors};
use engine::{
    Class, Compute, Engine, Job, Limits, LoadError, LoadOptions, LoadPhase, LoadWatch, Sampling,
    Speculation, SubmitError, Survey,
};
use serde_json::{Value, json};

const MIB: u64 = 1 << 20;
const GIB: f64 = (1u64 << 30) as f64;

fn survey(dir: &Path, options: LoadOptions) -> Survey {
    Engine::survey(dir, options).unwrap_or_else(|error| panic!("{}: {error}", dir.display()))
}

#[test]
fn the_intended_model_is_planned_from_its_headers() {
    let scratch = tempfile::tempdir().unwrap();
    sparse::glm_demolition(scratch.path());
    let options = LoadOptions { memory_max: Some(1 << 30), ..LoadOptions::PARITY };
    let Survey { info, memory } = survey(scratch.path(), options);
    assert_eq!((info.architecture.as_str(), info.context_max), ("glm_moe_dsa", 1_048_576));
    let mode = |compute| *memory.modes.iter().find(|mode| mode.compute == compute).unwrap();
    let parity = mode(Compute::Parity);
    let weights = parity.weights as f64 / GIB;
    assert!((97.6..97.8).contains(&weights), "{weights} GiB");
    // 78 latents with their rotated keys, and 21 keys of indexers.
    assert_eq!(parity.cache_per_1k, 1000 * 2 * (78 * (512 + 64) + 21 * 128));
    let active = info.parameters_active as f64 / 1e9;
    assert!((39.0..42.0).contains(&active), "{active} thousand million weights meet a token");
    assert!(!memory.fits && memory.limit == "allowed");
    assert_eq!(parity.context_fits, 0);

    match Engine::load(scratch.path(), options).err() {
        Some(LoadError::TooBig { weights, tokens: 4096, .. }) => {
            assert_eq!(weights, parity.weights)
        }
        other => panic!("{other:?}"),
    }
}

#[test]
fn a_shorter_context_and_a_packed_cache_take_less() {
    let dir = fixture("llama-packed").dir;
    let whole = survey(&dir, LoadOptions::PARITY).memory.modes[0];
    let asked = |context_max, kv_bits| {
        let options = LoadOptions { context_max, kv_bits, ..LoadOptions::PARITY };
        survey(&dir, options).memory.modes[0]
    };
    assert!(asked(Some(256), None).cache_context * 2 == whole.cache_context);
    assert_eq!(asked(Some(256), None).cache_per_1k, whole.cache_per_1k);
    let packed = asked(None, Some(8));
    assert!(packed.cache_per_1k * 2 < whole.cache_per_1k, "{packed:?} {whole:?}");
    assert_eq!(packed.weights, whole.weights);
}

/// The bytes of caches and weights that a plan counts are those that are there then.
#[tokio::test]
async fn what_is_planned_is_what_is_taken() {
    for name in ["glm4_moe-q4", "deepseek_v3-q4", "glm_moe_dsa_52-q4a4h6", "llama-q6"] {
        let checkpoint = fixture(name);
        for compute in [Compute::Parity, Compute::Fast] {
            let options = LoadOptions { compute, context_max: Some(256), ..LoadOptions::AUTO };
            let memory = survey(&checkpoint.dir, options).memory;
            let planned = memory.modes.iter().find(|mode| mode.compute == compute).unwrap();
            let engine = Engine::load(&checkpoint.dir, options).unwrap();
            assert_eq!(engine.info().bytes_resident, planned.weights, "{name}");
            let prompt: Vec<u32> = (0..256).map(|token| token % 200 + 1).collect();
            let mut sequence = engine.submit(job(&prompt[..255], 1)).unwrap();
            sequence.next().await.unwrap();
            let taken = engine.cache_bytes().await.unwrap();
            assert_eq!(taken, planned.cache_context, "{name} {compute:?}");
        }
    }
}

fn job(prompt: &[u32], tokens_max: u32) -> Job {
    Job {
        prompt: prompt.to_vec(),
        constraint: None,
        sampling: Sampling::GREEDY,
        limits: Limits { tokens_max, stop: Vec::new(), ahead_max: 0 },
        class: Class::Agent,
        soul: None,
        mixture: None,
        lookup: Vec::new(),
        speculation: Speculation::Auto,
    }
}

#[tokio::test]
async fn a_job_that_memory_cannot_hold_is_refused_with_numbers() {
    let scratch = tempfile::tempdir().unwrap();
    fixture("glm4_moe-q4").copy(scratch.path());
    let path = scratch.path().join("config.json");
    let mut config: Value = serde_json::from_slice(&fs::read(&path).unwrap()).unwrap();
    config["max_position_embeddings"] = json!(1_000_000);
    fs::write(&path, config.to_string()).unwrap();
    let whole = survey(scratch.path(), LoadOptions::PARITY).memory.modes[0];
    let room = whole.least + 10 * MIB;
    let options = LoadOptions { memory_max: Some(room), ..LoadOptions::PARITY };
    let engine = Engine::load(scratch.path(), options).unwrap();
    let info = engine.info();
    assert_eq!(info.context_max, 1_000_000);
    let fits = info.context_fits;
    assert!((4096..100_000).contains(&fits), "{fits} tokens");
    let too_long = fits as u32 - 100;
    match engine.submit(job(&[1; 200], too_long)).err() {
        Some(SubmitError::TooBig { tokens, cache, tokens_fit }) => {
            assert_eq!((tokens, tokens_fit), (fits + 100, fits));
            assert_eq!(cache, tokens as u64 * info.bytes_per_token);
        }
        other => panic!("{other:?}"),
    }
    assert!(engine.submit(job(&[1; 200], 1000)).is_ok());

    drop(engine);
    // Who asks for a context gets it or nothing, and is told which one there is room for.
    let asked = LoadOptions { context_max: Some(fits * 2), ..options };
    match Engine::load(scratch.path(), asked).err() {
        Some(LoadError::TooBig { tokens, advice, .. }) => {
            assert_eq!(tokens, 2 * fits as u64);
            let fitting = fits / 256 * 256;
            assert!(advice.contains(&format!("a context of {fitting} tokens fits")), "{advice}");
        }
        other => panic!("{other:?}"),
    }
}

#[tokio::test]
async fn two_models_share_one_plan_and_compute_at_the_same_time() {
    let (small, big) = (fixture("qwen3-q8-tied"), fixture("glm4_moe-q4"));
    let (_, alone) = (survey(&small.dir, LoadOptions::PARITY), LoadOptions::PARITY);
    let typing = Engine::load(&small.dir, alone).unwrap();
    let promised = survey(&big.dir, alone).memory.promised;
    assert!(promised > typing.info().bytes_resident, "{promised}");

    // What both may take together is not enough for the second one.
    let options = LoadOptions { memory_max: Some(promised + 8 * MIB), ..alone };
    match Engine::load(&big.dir, options).err() {
        Some(LoadError::TooBig { available, promised: held, source_of_limit, advice, .. }) => {
            assert_eq!((available, held, source_of_limit), (8 * MIB, promised, "allowed"));
            assert!(advice.contains("model.memory_max_gib = 1"), "{advice}");
        }
        other => panic!("{other:?}"),
    }
    let agent = Engine::load(&big.dir, alone).unwrap();
    let ask = async |engine: &Engine, checkpoint: &Checkpoint| {
        let logits = engine.logits(checkpoint.prompt.clone()).await.unwrap();
        let expected = checkpoint.prefill(checkpoint.prompt.len() - 1);
        logits.iter().zip(&expected).map(|(a, b)| (a - b).abs()).fold(0.0, f32::max)
    };
    for _ in 0..5 {
        let (one, other) = tokio::join!(ask(&typing, &small), ask(&agent, &big));
        assert!(one <= 1e-6 && other <= 1e-6, "{one:e} {other:e}");
    }
    drop(typing);
    let left = survey(&small.dir, alone).memory.promised;
    assert!(left > 0 && left < 2 * promised, "the second one's share alone: {left}");
    drop(agent);
    assert_eq!(survey(&small.dir, alone).memory.promised, 0);
}

/// Loads a model that is stopped at its third word of progress in this way.
fn stopped(by: impl Fn() -> ControlFlow<()> + Send + Sync + 'static) -> LoadError {
    let told = AtomicUsize::new(0);
    let watch = LoadWatch::new(move |progress| match told.fetch_add(1, Ordering::SeqCst) {
        2 => by(),
        count => {
            assert!(count < 2, "it was stopped at {progress:?}");
            ControlFlow::Continue(())
        }
    });
    let dir = fixture("glm4_moe-q4").dir;
    Engine::load_watched(&dir, LoadOptions::PARITY, watch).err().expect("it was stopped")
}

#[test]
fn a_load_ends_soon_when_it_is_not_wanted_any_more_and_leaves_nothing() {
    let before = survey(&fixture("glm4_moe-q4").dir, LoadOptions::PARITY).memory.promised;
    let error = stopped(|| ControlFlow::Break(()));
    assert!(matches!(error, LoadError::Cancelled), "{error}");
    let error = stopped(|| {
        // It waits for this very thread, which is not idle.
        engine::end_all(Duration::ZERO);
        ControlFlow::Continue(())
    });
    assert!(matches!(error, LoadError::Cancelled), "{error}");
    assert_eq!(survey(&fixture("glm4_moe-q4").dir, LoadOptions::PARITY).memory.promised, before);
    assert!(engine::end_all(Duration::ZERO), "a thread that has opened nothing is gone");
}

#[test]
fn a_load_tells_how_far_it_is() {
    let seen = Arc::new(Mutex::new(Vec::new()));
    let sink = seen.clone();
    let watch = LoadWatch::new(move |progress| {
        sink.lock().unwrap().push(progress);
        ControlFlow::Continue(())
    });
    // Published layouts are read once, too, though two tensors are made of one.
    for name in ["gpt_oss-published-bf16", "kimi_k25-q4a4h6", "glm4_moe-q4"] {
        seen.lock().unwrap().clear();
        Engine::load_watched(&fixture(name).dir, LoadOptions::PARITY, watch.clone()).unwrap();
        let seen = seen.lock().unwrap();
        assert_eq!((seen[0].phase, seen[0].total), (LoadPhase::Checking, 0));
        let last = seen.last().unwrap();
        let size = fs::metadata(fixture(name).dir.join("model.safetensors")).unwrap().len();
        assert_eq!((last.phase, last.bytes), (LoadPhase::Reading, last.total));
        assert!(last.total < size && last.total > size * 9 / 10, "{last:?} of {size} {name}");
    }
}

#[test]
fn weights_that_are_not_numbers_are_refused_by_name() {
    let scratch = tempfile::tempdir().unwrap();
    for (name, tensor) in [
        ("glm4_moe-q4", "model.layers.1.self_attn.q_proj.scales"),
        ("glm4_moe-q4", "model.layers.0.input_layernorm.weight"),
        ("qwen3_moe-q4-bf16", "model.layers.0.mlp.switch_mlp.up_proj.biases"),
        ("qwen3_moe-f32", "model.layers.1.mlp.switch_mlp.down_proj.weight"),
        ("qwen3_moe-mxfp4", "model.layers.0.mlp.switch_mlp.down_proj.scales"),
    ] {
        let dir = scratch.path().join(name).join(tensor);
        fs::create_dir_all(&dir).unwrap();
        fixture(name).copy(&dir);
        break_tensor(&dir.join("model.safetensors"), tensor);
        for compute in [Compute::Parity, Compute::Quantized, Compute::Fast] {
            match Engine::load(&dir, LoadOptions { compute, ..LoadOptions::AUTO }).err() {
                Some(LoadError::Weights { path, reason }) => {
                    assert_eq!(path, dir.join("model.safetensors"));
                    let expected =
                        format!("tensor {tensor} holds values that are not numbers (NaN)");
                    assert_eq!(reason, expected, "{compute:?}");
                }
                other => panic!("{name} {tensor} {compute:?}: {other:?}"),
            }
        }
    }
}

/// Makes the last element of a tensor NaN.
fn break_tensor(path: &Path, tensor: &str) {
    let (header, _) = read_safetensors(path);
    let entry = &header[tensor];
    let end = entry["data_offsets"][1].as_u64().unwrap();
    let mut bytes = fs::read(path).unwrap();
    let start = 8 + u64::from_le_bytes(bytes[..8].try_into().unwrap());
    let end = (start + end) as usize;
    match entry["dtype"].as_str().unwrap() {
        "F32" => bytes[end - 4..end].copy_from_slice(&f32::NAN.to_le_bytes()),
        "BF16" => bytes[end - 2..end].copy_from_slice(&0x7fc0u16.to_le_bytes()),
        // A scale that is a power of two: all bits set say that it is none.
        "U8" => bytes[end - 1] = 0xff,
        other => panic!("{other}"),
    }
    fs::write(path, bytes).unwrap();
}
