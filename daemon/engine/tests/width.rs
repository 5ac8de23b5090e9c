//! Checkpoints in half precision are computed in half precision: no number on the way widens what follows, nor what caches hold.

#![cfg(feature = "mlx")]
#![allow(clippy::disallowed_methods, reason = "tests write scratch files")]

#[path = "support/checkpoint.rs"]
mod checkpoint;

use std::{fs, path::Path};

use checkpoint::{fixture, read_safetensors};
use engine::{Class, Compute, Engine, Job, Limits, LoadOptions, Sampling, Speculation};
use serde_json::{Map, Value, json};

/// What stays in fp32 in files of half precision.
const SINGLE: &[&str] = &["e_score_correction_bias", "A_log", "correction_bias"];

/// Rewrites a file of fp32 floats as one of bf16.
fn halve(path: &Path) {
    let (header, tensors) = read_safetensors(path);
    let (mut entries, mut bytes) = (Map::new(), Vec::new());
    for (name, data) in tensors {
        let (entry, before) = (&header[&name], bytes.len());
        let stays = SINGLE.iter().any(|single| name.ends_with(single));
        let dtype = if entry["dtype"] == "F32" && !stays {
            // The upper halves.
            bytes.extend(data.chunks_exact(4).flat_map(|float| [float[2], float[3]]));
            json!("BF16")
        } else {
            bytes.extend(data);
            entry["dtype"].clone()
        };
        let place = [before, bytes.len()];
        let entry = json!({"dtype": dtype, "shape": entry["shape"], "data_offsets": place});
        entries.insert(name, entry);
    }
    let header = Value::Object(entries).to_string();
    let len = (header.len() as u64).to_le_bytes();
    fs::write(path, [len.as_slice(), header.as_bytes(), &bytes].concat()).unwrap();
}

/// (In builds for tests the engine itself looks at the type of every layer's result.)
#[tokio::test]
async fn no_family_widens_what_it_computes_with_or_keeps() {
    for name in [
        "llama-q6",
        "llama-yarn-exact",
        "qwen2-q4",
        "qwen3-q8-tied",
        "glm4_moe-q4",
        "gpt_oss-packed",
        "minimax-q4",
        "deepseek_v3-q4",
        "kimi_k25-q4a4h6",
        "glm_moe_dsa_52-q4a4h6",
        "glm4_moe_lite-mixed",
        "qwen3_next-q4",
        "qwen3_5-mixed",
        "deepseek_v41-q4",
    ] {
        let scratch = tempfile::tempdir().unwrap();
        let whole = fixture(name);
        whole.copy(scratch.path());
        for file in fs::read_dir(scratch.path()).unwrap() {
            let path = file.unwrap().path();
            if path.extension().is_some_and(|extension| extension == "safetensors") {
                halve(&path);
            }
        }
        for compute in [Compute::Parity, Compute::Uniform] {
            let options = LoadOptions { compute, context_max: Some(256), ..LoadOptions::AUTO };
            let [single, half] =
                [taken(&whole.dir, options).await, taken(scratch.path(), options).await];
            // States of delta nets and of compressors are always fp32.
            let has_states = name.starts_with("qwen3_") || name.starts_with("deepseek_v41");
            let is_half = if has_states { half < single } else { half * 2 == single };
            assert!(is_half, "{name} {compute:?}: {half} of {single}");
        }
    }
}

/// Bytes of cache after a text of some hundred tokens.
async fn taken(dir: &Path, options: LoadOptions) -> u64 {
    let engine = Engine::load(dir, options).unwrap();
    let prompt: Vec<u32> = (0..255).map(|token| token % 200 + 1).collect();
    let mut sequence = engine.submit(job(&prompt)).unwrap();
    sequence.next().await.unwrap();
    engine.cache_bytes().await.unwrap()
}

fn job(prompt: &[u32]) -> Job {
    Job {
        prompt: prompt.to_vec(),
        constraint: None,
        sampling: Sampling::GREEDY,
        limits: Limits { tokens_max: 1, stop: Vec::new(), ahead_max: 0 },
        class: Class::Agent,
        soul: None,
        mixture: None,
        lookup: Vec::new(),
        speculation: Speculation::Auto,
    }
}
