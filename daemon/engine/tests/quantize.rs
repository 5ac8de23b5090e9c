//! Packing checkpoints: what is written loads and computes what it should, and is what mlx-lm writes.
//!
//! The comparison with mlx-lm is slow: skipped unless `DEMOLISH_SLOW=1`; needs `.tools/oracle` (`make setup`).

#![cfg(feature = "mlx")]
#![allow(
    clippy::disallowed_methods,
    clippy::print_stdout,
    reason = "tests read the environment, write scratch files and run the oracle"
)]

#[path = "support/checkpoint.rs"]
mod checkpoint;
#[path = "support/fresh.rs"]
mod fresh;

use std::{
    fs,
    path::{Path, PathBuf},
    sync::{
        Mutex,
        atomic::{AtomicUsize, Ordering},
    },
    thread,
};

use checkpoint::{fixture, is_slow, read_folder, read_safetensors};
use engine::{Bare, Keep, LoadOptions, Method, Mixed, Quantized, Quantizer, Recipe};
use serde_json::{Value, json};

/// Processes of the oracle at the same time.
const WORKERS: usize = 4;
const TOKENS: [u32; 12] = [1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12];

fn affine(bits: u8, group: u8) -> Recipe {
    Recipe { bits: Some(bits), group: Some(group), ..Recipe::default() }
}

fn quantize(source: &Path, target: &Path, recipe: &Recipe) -> Result<Quantized, String> {
    let quantizer =
        Quantizer::open(source, recipe, &|_| None).map_err(|error| error.to_string())?;
    quantizer.write(target, &mut |_| {}).map_err(|error| error.to_string())
}

fn logits(dir: &Path) -> Vec<f32> {
    let mut model = Bare::load(dir, LoadOptions::PARITY).unwrap();
    model.feed(&TOKENS).unwrap()
}

fn largest(one: &[f32], other: &[f32]) -> f32 {
    assert_eq!(one.len(), other.len());
    one.iter().zip(other).map(|(a, b)| (a - b).abs()).fold(0.0, f32::max)
}

/// The median difference: where rounding makes a router choose another expert, a few positions differ by much.
fn typical(one: &[f32], other: &[f32]) -> f32 {
    let mut off: Vec<f32> = one.iter().zip(other).map(|(a, b)| (a - b).abs()).collect();
    off.sort_by(f32::total_cmp);
    off[off.len() / 2]
}

fn json(path: &Path) -> Value {
    serde_json::from_slice(&fs::read(path).unwrap()).unwrap()
}

#[test]
fn eight_bits_compute_nearly_what_floats_do_and_fewer_bits_less_nearly() {
    for name in ["glm4_moe-f32", "qwen3_moe-f32", "qwen3_next-hf", "qwen3_5_moe-hf"] {
        let (source, folder) = (fixture(name), tempfile::tempdir().unwrap());
        let floats = logits(&source.dir);
        let off = [8, 4].map(|bits| {
            let target = folder.path().join(bits.to_string());
            quantize(&source.dir, &target, &affine(bits, 32)).unwrap();
            typical(&logits(&target), &floats)
        });
        assert!(off[0] > 0.0 && off[0] < 0.05 && off[1] > 4.0 * off[0], "{name}: {off:?}");
    }
}

#[test]
fn every_method_and_recipe_loads_and_says_so_in_its_configuration() {
    let source = fixture("qwen3_moe-f32");
    let folder = tempfile::tempdir().unwrap();
    let method = |method| Recipe { method, ..Recipe::default() };
    let mixed = Recipe { mixed: Some(Mixed { low: 4, high: 6 }), ..affine(4, 32) };
    let recipes = [
        ("2", affine(2, 32), json!({"group_size": 32, "bits": 2, "mode": "affine"})),
        ("3", affine(3, 32), json!({"group_size": 32, "bits": 3, "mode": "affine"})),
        ("5", affine(5, 64), json!({"group_size": 64, "bits": 5, "mode": "affine"})),
        ("6", affine(6, 32), json!({"group_size": 32, "bits": 6, "mode": "affine"})),
        ("mixed", mixed, json!({"group_size": 32, "bits": 4, "mode": "affine"})),
        ("mxfp4", method(Method::Mxfp4), json!({"group_size": 32, "bits": 4, "mode": "mxfp4"})),
        ("nvfp4", method(Method::Nvfp4), json!({"group_size": 16, "bits": 4, "mode": "nvfp4"})),
        ("mxfp8", method(Method::Mxfp8), json!({"group_size": 32, "bits": 8, "mode": "mxfp8"})),
    ];
    for (name, recipe, expected) in recipes {
        let target = folder.path().join(name);
        let made = quantize(&source.dir, &target, &recipe).unwrap();
        assert!(made.bytes < made.bytes_before && made.packed > 10, "{name}: {made:?}");
        assert!(logits(&target).iter().all(|logit| logit.is_finite()), "{name}");
        let config = json(&target.join("config.json"));
        for (key, value) in expected.as_object().unwrap() {
            assert_eq!(&config["quantization"][key], value, "{name}");
        }
        assert_eq!(config["quantization"], config["quantization_config"], "{name}");
        let router = &config["quantization"]["model.layers.0.mlp.gate"]["bits"];
        assert_eq!(router, if name == "mixed" { 4 } else { 8 }, "{name}");
        let index = json(&target.join("model.safetensors.index.json"));
        assert_eq!(index["metadata"]["total_size"], made.bytes);
        let (header, tensors) = read_safetensors(&target.join("model.safetensors"));
        assert_eq!(header["__metadata__"]["format"], "mlx");
        assert_eq!(index["weight_map"].as_object().unwrap().len(), tensors.len());
        assert!(target.join("tokenizer.json").exists() && !folder.path().join("x.part").exists());
    }
}

#[test]
fn what_is_kept_is_kept_and_named() {
    let (source, folder) = (fixture("glm4_moe-f32"), tempfile::tempdir().unwrap());
    let target = folder.path().join("kept");
    let keep = |path: &str| match path {
        "lm_head" => Some(Keep::Bits(8)),
        path if path.ends_with("o_proj") => Some(Keep::Floats),
        _ => None,
    };
    let quantizer = Quantizer::open(&source.dir, &affine(4, 32), &keep).unwrap();
    let made = quantizer.write(&target, &mut |_| {}).unwrap();
    let quantization = &json(&target.join("config.json"))["quantization"];
    assert_eq!(quantization["lm_head"]["bits"], 8);
    assert_eq!(quantization["model.layers.0.self_attn.o_proj"], false);
    assert!(made.unpacked.iter().any(|one| one.module.ends_with("mlp.gate")), "{made:?}");
    let (_, tensors) = read_safetensors(&target.join("model.safetensors"));
    assert!(!tensors.contains_key("model.layers.0.self_attn.o_proj.scales"));
    assert!(!tensors.contains_key("model.layers.1.mlp.gate.scales"));
    assert!(logits(&target).iter().all(|logit| logit.is_finite()));
}

#[test]
fn progress_ends_with_everything_and_an_earlier_attempt_is_replaced() {
    let (source, folder) = (fixture("qwen3_moe-f32"), tempfile::tempdir().unwrap());
    let (target, part) = (folder.path().join("new"), folder.path().join("new.part"));
    fs::create_dir(&part).unwrap();
    fs::write(part.join("model-00001-of-00009.safetensors"), "half").unwrap();
    let quantizer = Quantizer::open(&source.dir, &affine(4, 32), &|_| None).unwrap();
    let mut steps = Vec::new();
    quantizer.write(&target, &mut |step| steps.push((step.done, step.total))).unwrap();
    assert!(steps.is_sorted() && steps.last().is_some_and(|(done, total)| done == total));
    assert!(!part.exists() && !target.join("model-00001-of-00009.safetensors").exists());
    let refused = quantizer.write(&target, &mut |_| {}).unwrap_err().to_string();
    assert!(refused.contains("is there already"), "{refused}");
}

#[test]
fn what_cannot_be_packed_is_refused() {
    let folder = tempfile::tempdir().unwrap();
    let refused = |name: &str, recipe: &Recipe| {
        quantize(&fixture(name).dir, &folder.path().join("x"), recipe).unwrap_err()
    };
    for name in ["qwen2-q4", "gpt_oss-published-bf16", "deepseek_v3-fp8", "kimi_k25-q4a4h6"] {
        let said = refused(name, &affine(4, 32));
        assert!(said.contains("packed already") || said.contains("plain floats"), "{name}: {said}");
    }
    let said = refused("qwen3_moe-f32", &affine(4, 48));
    assert!(said.contains("groups of 32, 64 or 128"), "{said}");
    let said = refused("qwen3_moe-f32", &Recipe { method: Method::Mxfp4, ..affine(8, 32) });
    assert!(said.contains("mxfp4 has 4 bits in groups of 32"), "{said}");
    let mixed = Some(Mixed { low: 4, high: 6 });
    let said =
        refused("qwen3_moe-f32", &Recipe { method: Method::Nvfp4, mixed, ..Recipe::default() });
    assert!(said.contains("is affine"), "{said}");
    assert!(!folder.path().join("x").exists() && !folder.path().join("x.part").exists());
}

/// One checkpoint, packed in one way by both.
struct Pair {
    source: PathBuf,
    name: String,
    recipe: Recipe,
    arguments: Vec<&'static str>,
}

#[test]
fn what_is_written_is_what_mlx_lm_writes_and_computes_the_same_there() {
    if !is_slow() {
        println!("skipped: the comparison with mlx-lm needs DEMOLISH_SLOW=1");
        return;
    }
    let seed = fresh::seed();
    let folder = tempfile::tempdir().unwrap();
    make(folder.path(), &seed);
    let pairs = pairs(folder.path());
    let (next, wrong) = (AtomicUsize::new(0), Mutex::new(Vec::new()));
    thread::scope(|scope| {
        for _ in 0..WORKERS {
            scope.spawn(|| {
                while let Some(pair) = pairs.get(next.fetch_add(1, Ordering::Relaxed)) {
                    if let Err(error) = compare(pair, folder.path()) {
                        wrong.lock().unwrap().push(format!("{}: {error}", pair.name));
                    }
                }
            });
        }
    });
    let wrong = wrong.into_inner().unwrap();
    println!("seed {seed}: {} checkpoints packed by both", pairs.len());
    assert!(wrong.is_empty(), "seed {seed}:\n{}", wrong.join("\n"));
}

/// Every architecture in floats, in mlx-lm's layout and in Hugging Face's.
fn make(folder: &Path, seed: &str) {
    let mut command = fresh::oracle();
    command.arg(fresh::root().join("tests/engine/make_fixtures.py"));
    command.args(["--jobs", "4", "--seed", seed]);
    command.args(["--all", "--out"]).arg(folder);
    for name in ["*-f32", "*-hf", "*-f16", "llama-bf16", "qwen3_5-bf16", "deepseek_v3-dense-bf16"] {
        command.args(["--only", name]);
    }
    fresh::make(&mut command, seed);
}

/// Each checkpoint in three of the ways.
fn pairs(folder: &Path) -> Vec<Pair> {
    let method = |method| Recipe { method, ..Recipe::default() };
    let mixed = |low, high| Recipe {
        group: Some(32),
        mixed: Some(Mixed { low, high }),
        ..Recipe::default()
    };
    let ways = [
        (affine(4, 32), vec!["--bits", "4", "--group", "32"]),
        (affine(3, 64), vec!["--bits", "3", "--group", "64"]),
        (mixed(4, 6), vec!["--recipe", "mixed_4_6", "--group", "32", "--bits", "4"]),
        (method(Method::Mxfp4), vec!["--mode", "mxfp4"]),
        (affine(2, 32), vec!["--bits", "2", "--group", "32"]),
        (affine(6, 32), vec!["--bits", "6", "--group", "32"]),
        (method(Method::Nvfp4), vec!["--mode", "nvfp4"]),
        (affine(5, 32), vec!["--bits", "5", "--group", "32"]),
        (method(Method::Mxfp8), vec!["--mode", "mxfp8"]),
        (mixed(3, 4), vec!["--recipe", "mixed_3_4", "--group", "32", "--bits", "3"]),
        (affine(8, 32), vec!["--bits", "8", "--group", "32"]),
    ];
    let mut pairs = Vec::new();
    for (index, checkpoint) in read_folder(folder).iter().enumerate() {
        let is_packed = json(&checkpoint.dir.join("config.json")).get("quantization").is_some();
        // Kimi's published files are packed; mlx-lm 0.32.0 has no indexers that layers share.
        if is_packed || checkpoint.name == "kimi_k25-hf" || checkpoint.name.contains("dsa_52") {
            continue;
        }
        for round in 0..3 {
            let (recipe, arguments) = &ways[(index + 4 * round) % ways.len()];
            let name = format!("{}-{}", checkpoint.name, arguments.join(""));
            let (recipe, arguments) = (recipe.clone(), arguments.clone());
            pairs.push(Pair { source: checkpoint.dir.clone(), name, recipe, arguments });
        }
    }
    pairs
}

fn compare(pair: &Pair, folder: &Path) -> Result<(), String> {
    let ours = folder.join(format!("ours-{}", pair.name));
    quantize(&pair.source, &ours, &pair.recipe)?;
    let told = folder.join(format!("{}.logits", pair.name));
    let mut command = fresh::oracle();
    command
        .arg(fresh::root().join("tests/engine/quantize.py"))
        .arg(&pair.source)
        .arg(&ours)
        .arg(&told);
    let output = command.args(&pair.arguments).output().map_err(|error| error.to_string())?;
    if !output.status.success() {
        let said = [output.stdout, output.stderr].concat();
        return Err(String::from_utf8_lossy(&said).into_owned());
    }
    let bytes = fs::read(&told).map_err(|error| error.to_string())?;
    let theirs: Vec<f32> =
        bytes.chunks_exact(4).map(|word| f32::from_le_bytes(word.try_into().unwrap())).collect();
    let off = largest(&logits(&ours), &theirs);
    fs::remove_dir_all(&ours).map_err(|error| error.to_string())?;
    if off <= 1e-6 { Ok(()) } else { Err(format!("logits differ by {off}")) }
}
