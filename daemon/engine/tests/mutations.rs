//! Whether the comparison with mlx-lm would notice a mistake: models whose configuration or weights are not quite the reference's
//! must be a hundred times further away than the tolerance, or the comparison proves nothing.

#![cfg(feature = "mlx")]
#![allow(clippy::print_stdout, reason = "tests report")]

#[path = "support/checkpoint.rs"]
mod checkpoint;
#[path = "support/compare.rs"]
mod compare;
#[path = "support/damage.rs"]
mod damage;

use std::{collections::BTreeSet, fs, path::Path};

use checkpoint::{Checkpoint, fixtures};
use compare::{PARITY, distance};
use damage::{edit_config, edit_tensors, exchange_gate_and_up};
use engine::{Bare, Compute, LoadOptions};
use serde_json::{Value, json};

/// How much further than the tolerance a mistake has to be.
const FACTOR: f32 = 100.0;

/// A key of the configuration, wherever it is nested, and what becomes of its value; `None`: the mistake cannot be made there.
type Change = fn(&Value) -> Option<Value>;

fn times(value: &Value, factor: f64) -> Option<Value> {
    value.as_f64().filter(|&number| number != 0.0).map(|number| json!(number * factor))
}

fn plus(value: &Value, by: i64) -> Option<Value> {
    value.as_i64().map(|number| json!(number + by))
}

const KEYS: &[(&str, Change)] = &[
    ("rope_theta", |value| times(value, 2.0)),
    ("factor", |value| times(value, 2.0)),
    ("rms_norm_eps", |value| times(value, 10.0)),
    ("routed_scaling_factor", |value| times(value, 1.1)),
    ("num_experts_per_tok", |value| plus(value, 1)),
    ("num_local_experts_per_tok", |value| plus(value, 1)),
    ("index_topk", |value| plus(value, -1)),
    ("sliding_window", |value| plus(value, -1)),
    ("norm_topk_prob", |value| value.as_bool().map(|is| json!(!is))),
    ("topk_group", |value| value.as_i64().filter(|&kept| kept > 1).map(|kept| json!(kept - 1))),
    ("partial_rotary_factor", |value| times(value, 2.0)),
    ("mscale_all_dim", |value| times(value, 1.5)),
];

/// Tensors, by the end of their names, whose numbers become zero.
const TENSORS: [&str; 5] =
    ["e_score_correction_bias", ".sinks", "A_log", "dt_bias", "indexer.k_norm.bias"];

#[test]
fn mistakes_are_noticed() {
    let mut seen = BTreeSet::new();
    let mut unnoticed = Vec::new();
    let mut count = 0;
    // One checkpoint of each architecture for each mistake that can be made in it.
    for checkpoint in fixtures().into_iter().filter(|checkpoint| !compare::is_half(checkpoint)) {
        let architecture = checkpoint.architecture();
        let mut check = |what: &str, mutate: &dyn Fn(&Path) -> bool| {
            if seen.contains(&(architecture.clone(), what.to_owned())) {
                return;
            }
            if let Some(found) = moved(&checkpoint, mutate) {
                seen.insert((architecture.clone(), what.to_owned()));
                count += 1;
                println!("{:20} {what:24} {found:e}", checkpoint.name);
                if found < FACTOR * PARITY {
                    unnoticed.push(format!("{}, {what}: only {found:e}", checkpoint.name));
                }
            }
        };
        for (key, change) in KEYS {
            check(key, &|dir| change_key(dir, key, *change));
        }
        for name in TENSORS {
            check(name, &|dir| zero(dir, name));
        }
        check("gate and up exchanged", &|dir| exchange(dir));
    }
    assert!(unnoticed.is_empty(), "not noticed:\n{}", unnoticed.join("\n"));
    assert!(count > 30, "only {count} mistakes could be made");
}

/// How far the logits move with the change; `None` where it cannot be made.
fn moved(checkpoint: &Checkpoint, mutate: &dyn Fn(&Path) -> bool) -> Option<f32> {
    let dir = tempfile::tempdir().unwrap();
    checkpoint.copy(dir.path());
    if !mutate(dir.path()) {
        return None;
    }
    let options = LoadOptions { compute: Compute::Parity, ..LoadOptions::AUTO };
    // What is refused is noticed.
    let Ok(mut model) = Bare::load(dir.path(), options) else { return Some(f32::INFINITY) };
    let mut logits = model.feed(&checkpoint.prompt).unwrap();
    let mut expected = checkpoint.floats("prefill");
    // And one step with the cache.
    logits.extend(model.feed(&checkpoint.greedy[..1]).unwrap());
    expected.extend(checkpoint.decoded(1));
    Some(distance(&logits, &expected))
}

fn change_key(dir: &Path, key: &str, change: Change) -> bool {
    let mut is_changed = false;
    edit_config(dir, |json| is_changed = change_in(json, key, change));
    is_changed
}

fn change_in(json: &mut Value, key: &str, change: Change) -> bool {
    let Some(fields) = json.as_object_mut() else { return false };
    if let Some(value) = fields.get_mut(key)
        && let Some(changed) = change(value)
    {
        *value = changed;
        return true;
    }
    let mut nested = fields.iter_mut().filter(|(name, _)| !name.starts_with("quantization"));
    nested.any(|(_, inner)| change_in(inner, key, change))
}

/// The files of the weights.
fn files(dir: &Path) -> Vec<std::path::PathBuf> {
    let files = fs::read_dir(dir).unwrap().map(|entry| entry.unwrap().path());
    files
        .filter(|path| path.extension().is_some_and(|end| end == "safetensors"))
        .filter(|path| !path.ends_with("ref.safetensors"))
        .collect()
}

fn zero(dir: &Path, end: &str) -> bool {
    let is_changed = std::cell::Cell::new(false);
    for file in files(dir) {
        edit_tensors(&file, |name, _, bytes| {
            if name.ends_with(end) {
                bytes.fill(0);
                is_changed.set(true);
            }
            true
        });
    }
    is_changed.get()
}

/// Not where the two are packed otherwise, or are one tensor.
fn exchange(dir: &Path) -> bool {
    let text = fs::read_to_string(dir.join("config.json")).unwrap();
    let files = files(dir);
    let is_fused = |path: &std::path::PathBuf| {
        let bytes = fs::read(path).unwrap();
        bytes.windows(12).any(|window| window == b"gate_up_proj")
    };
    if text.contains("up_proj") || files.iter().any(is_fused) {
        return false;
    }
    files.iter().for_each(|file| exchange_gate_and_up(file));
    true
}
