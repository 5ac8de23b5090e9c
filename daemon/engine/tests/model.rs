//! The engine's promises on real weights: rewinding repeats, cancelling stops, urgent work goes first, damaged models are
//! refused with a message that names the damage.

#![cfg(feature = "mlx")]
#![allow(clippy::disallowed_methods, reason = "tests write scratch files")]

#[path = "support/checkpoint.rs"]
mod checkpoint;
#[path = "support/damage.rs"]
mod damage;
#[path = "support/steps.rs"]
mod steps;

use std::{
    fs,
    path::Path,
    sync::{
        Arc, Mutex,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use checkpoint::{fixture, read_safetensors};
use damage::{edit_config, edit_tensors, scratch};
use engine::{
    ChatMessage, Class, Compute, Constraint, Engine, Job, Limits, LoadError, LoadOptions, Sampling,
    Speculation, TokenId,
};
use proptest::prelude::*;
use serde_json::{Value, json};
use steps::{block_on, take};

fn load(dir: &Path, compute: Compute) -> Result<Engine, LoadError> {
    Engine::load(dir, LoadOptions { compute, ..LoadOptions::AUTO })
}

fn job(prompt: &[TokenId], tokens_max: u32) -> Job {
    Job {
        prompt: prompt.to_vec(),
        constraint: None,
        sampling: Sampling::GREEDY,
        limits: Limits { tokens_max, stop: Vec::new(), ahead_max: 3 },
        class: Class::Typing,
        soul: None,
        mixture: None,
        lookup: Vec::new(),
        speculation: Speculation::Auto,
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 12, failure_persistence: None, ..ProptestConfig::default() })]

    /// Whatever is taken and rewound, the steps from a mark are always the same, to the last bit of every log probability.
    #[test]
    fn rewinding_repeats(name in prop::sample::select(vec!["qwen3_moe-q4", "glm4_moe-f32"]),
                         compute in prop::sample::select(vec![Compute::Parity, Compute::Fast]),
                         walk in prop::collection::vec((1usize..6, 0usize..12), 1..6),
                         prompt_len in 1usize..40) {
        let checkpoint = fixture(name);
        let engine = load(&checkpoint.dir, compute).unwrap();
        block_on(async {
            let prompt = &checkpoint.prompt[..prompt_len];
            let straight = take(&mut engine.submit(job(prompt, 40)).unwrap(), 40).await;
            let mut sequence = engine.submit(job(prompt, 40)).unwrap();
            let mut position = 0;
            for (forward, back) in walk {
                let steps = take(&mut sequence, forward).await;
                assert_eq!(steps, straight[position..(position + forward).min(straight.len())]);
                position = (position + steps.len()).saturating_sub(back);
                sequence.rewind(sequence.mark_at(position));
            }
            assert_eq!(take(&mut sequence, 40).await, straight[position..]);
        });
    }
}

#[tokio::test]
async fn scores_are_the_logprobs_of_decoding() {
    let checkpoint = fixture("qwen3_moe-q4");
    let engine = load(&checkpoint.dir, Compute::Fast).unwrap();
    let steps = take(&mut engine.submit(job(&checkpoint.prompt, 10)).unwrap(), 10).await;
    let tokens: Vec<TokenId> = steps.iter().map(|step| step.token).collect();
    let other = vec![tokens[0], tokens[0]];
    let scores =
        engine.score(checkpoint.prompt.clone(), vec![tokens, other], Class::Fix).await.unwrap();
    for (step, score) in steps.iter().zip(&scores[0]) {
        assert!((step.logprob - score).abs() < 1e-4, "{} against {score}", step.logprob);
    }
    assert!((scores[1][0] - scores[0][0]).abs() < 1e-4, "the first token is the same");
    let greedy = vec![steps.iter().map(|step| step.token).collect()];
    let rows = engine.opinions(checkpoint.prompt.clone(), greedy, Class::Fix).await.unwrap();
    for (step, scored) in steps.iter().zip(&rows[0]) {
        let opinion = scored.opinion.unwrap();
        assert_eq!(opinion.top, step.token, "what was drawn is the likeliest");
        assert!((opinion.certainty - scored.logprob.exp()).abs() < 1e-4);
    }
}

/// Counts the tokens that are drawn.
struct Count(Arc<AtomicUsize>);

impl Constraint for Count {
    fn apply(&mut self, _: &[TokenId], _: &mut [f32]) {
        self.0.fetch_add(1, Ordering::SeqCst);
    }
}

#[tokio::test]
async fn a_dropped_sequence_stops_within_one_token() {
    let checkpoint = fixture("qwen3_moe-q4");
    let engine = load(&checkpoint.dir, Compute::Parity).unwrap();
    let drawn = Arc::new(AtomicUsize::new(0));
    let mut endless = job(&checkpoint.prompt, 400);
    endless.limits.ahead_max = 400;
    endless.constraint = Some(Box::new(Count(drawn.clone())));
    let mut sequence = engine.submit(endless).unwrap();
    sequence.next().await.unwrap();
    drop(sequence);
    let at_drop = drawn.load(Ordering::SeqCst);
    tokio::time::sleep(Duration::from_millis(50)).await;
    assert!(drawn.load(Ordering::SeqCst) <= at_drop + 1);
}

/// Notes at each of its own draws how many another job has had.
struct Compare {
    other: Arc<AtomicUsize>,
    seen: Arc<Mutex<Vec<usize>>>,
}

impl Constraint for Compare {
    fn apply(&mut self, _: &[TokenId], _: &mut [f32]) {
        self.seen.lock().unwrap().push(self.other.load(Ordering::SeqCst));
    }
}

#[tokio::test]
async fn typing_goes_before_the_agent() {
    let checkpoint = fixture("qwen3_moe-q4");
    let engine = load(&checkpoint.dir, Compute::Parity).unwrap();
    let drawn = Arc::new(AtomicUsize::new(0));
    let mut slow = job(&checkpoint.prompt, 400);
    slow.class = Class::Agent;
    slow.limits.ahead_max = 400;
    slow.constraint = Some(Box::new(Count(drawn.clone())));
    let mut agent = engine.submit(slow).unwrap();
    agent.next().await.unwrap();
    let seen = Arc::new(Mutex::new(Vec::new()));
    let mut typing = job(&checkpoint.prompt[..20], 5);
    typing.limits.ahead_max = 5;
    typing.constraint = Some(Box::new(Compare { other: drawn.clone(), seen: seen.clone() }));
    let mut typing = engine.submit(typing).unwrap();
    assert_eq!(take(&mut typing, 5).await.len(), 5);
    let seen = seen.lock().unwrap().clone();
    assert_eq!(seen, [seen[0]; 5], "the agent waits while somebody types");
    assert!(take(&mut agent, 30).await.len() >= 4, "and goes on afterwards");
}

fn refusal(dir: &Path) -> String {
    load(dir, Compute::Parity).err().expect("a refusal").to_string()
}

#[test]
fn damaged_models_are_refused() {
    let (_, dir) = scratch("qwen3_moe-q4");
    let file = dir.path().join("model.safetensors");
    let whole = fs::read(&file).unwrap();
    let check = |damage: &dyn Fn(), parts: &[&str]| {
        fs::write(&file, &whole).unwrap();
        damage();
        let message = refusal(dir.path());
        assert!(
            parts.iter().all(|part| message.contains(part)),
            "{message:?} should name {parts:?}"
        );
    };
    let down = "model.layers.0.mlp.switch_mlp.down_proj.weight";
    check(
        &|| fs::write(&file, &whole[..whole.len() - 100]).unwrap(),
        &["model.safetensors", "truncated: tensor"],
    );
    check(&|| fs::write(&file, &whole[..5]).unwrap(), &["the file has 5 bytes"]);
    check(&|| fs::write(&file, &whole[..500]).unwrap(), &["truncated: the header has"]);
    check(&|| fs::write(&file, "hello, this is not a model").unwrap(), &["not a safetensors file"]);
    check(&|| edit_tensors(&file, |name, _, _| name != down), &[down, "is missing"]);
    let scales = "model.layers.0.self_attn.q_proj.scales";
    check(
        &|| edit_tensors(&file, |name, _, _| name != scales),
        &[&format!("tensor {scales} is missing (the weight is packed)")],
    );
    let reshape = |name: &str, entry: &mut Value, bytes: &mut Vec<u8>| {
        if name == "model.norm.weight" {
            entry["shape"] = json!([63]);
            bytes.truncate(63 * 4);
        }
        true
    };
    check(&|| edit_tensors(&file, reshape), &["model.norm.weight", "has shape [63], not [64]"]);
    check(&|| fs::remove_file(&file).unwrap(), &["no model*.safetensors"]);
}

#[cfg(unix)]
#[test]
fn a_pipe_or_a_folder_is_refused_and_not_waited_for() {
    for name in ["config.json", "model.safetensors", "tokenizer.json", "tokenizer_config.json"] {
        for make in ["mkfifo", "mkdir"] {
            let (_, dir) = scratch("qwen3_moe-q4");
            let file = dir.path().join(name);
            let _ = fs::remove_file(&file);
            assert!(std::process::Command::new(make).arg(&file).status().unwrap().success());
            let message = refusal(dir.path());
            assert!(message.ends_with(&format!("{name}: not a regular file")), "{message}");
        }
    }
}

#[test]
fn a_missing_shard_is_named() {
    let (_, dir) = scratch("qwen3_moe-mixed");
    fs::remove_file(dir.path().join("model-00002-of-00003.safetensors")).unwrap();
    let message = refusal(dir.path());
    assert!(
        message.contains("model-00002-of-00003.safetensors")
            && message.contains("the file is not there"),
        "{message}"
    );
}

#[test]
fn configurations_that_cannot_be_run_are_refused() {
    let check = |change: fn(&mut Value), part: &str| {
        let (_, dir) = scratch("qwen3_moe-q4");
        edit_config(dir.path(), change);
        let message = refusal(dir.path());
        assert!(message.contains(part), "{message:?} should say {part:?}");
    };
    check(|json| json["model_type"] = json!("qwen3-moe"), "did you mean \"qwen3_moe\"?");
    check(|json| json["num_experts"] = json!(16), "has shape [8, 16], not [16, 16]");
    check(|json| json["quantization"]["lm_head"] = json!(false), "contradicts config.json");
    check(|json| json["quantization"]["mode"] = json!("fp4"), "mode \"fp4\" is not supported");
    let (_, dir) = scratch("qwen3_moe-q4");
    fs::write(dir.path().join("config.json"), "{").unwrap();
    assert!(refusal(dir.path()).contains("config.json: not JSON (EOF"));
    fs::write(dir.path().join("tokenizer.json"), "{}").unwrap();
    assert!(refusal(&dir.path().join("nowhere")).contains("No such file"));
}

#[test]
fn a_broken_tokenizer_is_refused() {
    let (_, dir) = scratch("qwen3_moe-q4");
    fs::write(dir.path().join("tokenizer.json"), "{}").unwrap();
    assert!(refusal(dir.path()).contains("tokenizer.json"));
    fs::remove_file(dir.path().join("tokenizer.json")).unwrap();
    assert!(refusal(dir.path()).contains("tokenizer.json: No such file"));
}

#[test]
fn too_big_is_refused_with_the_numbers() {
    let checkpoint = fixture("qwen3_moe-q4");
    let options = LoadOptions { memory_max: Some(1 << 20), ..LoadOptions::AUTO };
    match Engine::load(&checkpoint.dir, options).err() {
        Some(LoadError::TooBig { weights, available, source_of_limit, .. }) => {
            assert!(weights > 100_000 && available == 1 << 20 && source_of_limit == "allowed");
        }
        other => panic!("{other:?}"),
    }
}

#[test]
fn packing_can_be_inferred() {
    let (checkpoint, dir) = scratch("qwen2-q4");
    edit_config(dir.path(), |json| {
        json.as_object_mut().unwrap().retain(|key, _| !key.starts_with("quantization"));
    });
    let engine = load(dir.path(), Compute::Parity).unwrap();
    let logits = block_on(engine.logits(checkpoint.prompt.clone())).unwrap();
    assert_eq!(logits, checkpoint.prefill(checkpoint.prompt.len() - 1));
}

#[test]
fn experts_may_be_separate_tensors() {
    let (checkpoint, dir) = scratch("glm4_moe-q4");
    let file = dir.path().join("model.safetensors");
    scatter_experts(&file);
    let engine = load(dir.path(), Compute::Parity).unwrap();
    let logits = block_on(engine.logits(checkpoint.prompt.clone())).unwrap();
    assert_eq!(logits, checkpoint.prefill(checkpoint.prompt.len() - 1));
}

/// Hugging Face's layout: `mlp.experts.N.gate_proj.weight` in place of `mlp.switch_mlp.gate_proj.weight`.
fn scatter_experts(path: &Path) {
    let (header, tensors) = read_safetensors(path);
    let (mut new_header, mut data) = (serde_json::Map::new(), Vec::new());
    let mut put = |name: String, mut entry: Value, bytes: &[u8]| {
        entry["data_offsets"] = json!([data.len(), data.len() + bytes.len()]);
        data.extend_from_slice(bytes);
        new_header.insert(name, entry);
    };
    for (name, bytes) in tensors {
        let mut entry = header[&name].clone();
        match name.split_once("switch_mlp.") {
            None => put(name, entry, &bytes),
            Some((before, after)) => {
                let shape: Vec<usize> = serde_json::from_value(entry["shape"].clone()).unwrap();
                entry["shape"] = json!(shape[1..]);
                for (expert, part) in bytes.chunks(bytes.len() / shape[0]).enumerate() {
                    put(format!("{before}experts.{expert}.{after}"), entry.clone(), part);
                }
            }
        }
    }
    let text = Value::Object(new_header).to_string();
    let mut file = (text.len() as u64).to_le_bytes().to_vec();
    file.extend(text.as_bytes());
    file.extend(data);
    fs::write(path, file).unwrap();
}

#[test]
fn tokenizers_of_models() {
    let checkpoint = fixture("qwen3_moe-q4");
    let engine = load(&checkpoint.dir, Compute::Parity).unwrap();
    let tokenizer = engine.tokenizer();
    let text = "def f(x):\n\treturn \"→ ünïcode 🎉\"  # <|fim_middle|> is text here\r\n";
    let tokens = tokenizer.encode(text);
    assert_eq!(tokenizer.decode(&tokens), text);
    let fim = tokenizer.fim().unwrap();
    assert!(!tokens.contains(&fim.middle));
    assert_eq!(
        tokenizer.encode_prompt("<|fim_prefix|>a<|fim_suffix|>")[..],
        [fim.prefix, tokenizer.encode("a")[0], fim.suffix]
    );
    assert_eq!(tokenizer.special("<|fim_middle|>"), Some(fim.middle));
    let bytes: Vec<u8> =
        tokens.iter().flat_map(|&token| tokenizer.token_bytes(token)).copied().collect();
    assert_eq!(bytes, text.as_bytes());
    let mut stream = tokenizer.stream();
    let streamed: String = tokens.iter().map(|&token| stream.push(token)).collect();
    assert_eq!(streamed + &stream.finish(), text);
    let special = |name: &str| tokenizer.special(name).unwrap();
    let mut eos = vec![special("<|endoftext|>"), special("<|im_start|>"), special("<|im_end|>")];
    eos.sort_unstable();
    assert_eq!(
        tokenizer.eos(),
        eos,
        "config.json, generation_config.json and tokenizer_config.json together"
    );
    let message = |role: &str, content: &str| ChatMessage {
        role: role.to_owned(),
        content: content.to_owned(),
        extra: Default::default(),
    };
    let chat = tokenizer.chat_template(
        &[message("system", "be brief"), message("user", " hello ")],
        &Default::default(),
    );
    let expected = "<|im_start|>system\nbe brief<|im_end|>\n<|im_start|>user\nhello<|im_end|>\n<|im_start|>assistant";
    assert_eq!(chat.unwrap(), expected);
    let glm = load(&fixture("glm4_moe-q4").dir, Compute::Parity).unwrap();
    assert!(glm.tokenizer().fim().is_some(), "<|code_prefix|> and its like");
}

/// MLX crashes a process that ends while it computes, unless the engine thread is stopped first.
#[test]
fn a_busy_process_ends_cleanly() {
    const CHILD: &str = "DEMOLISH_TEST_BUSY_EXIT";
    if let Some(delay) = std::env::var_os(CHILD) {
        let checkpoint = fixture("glm4_moe-f32");
        let engine = Box::leak(Box::new(load(&checkpoint.dir, Compute::Fast).unwrap()));
        let mut endless = job(&checkpoint.prompt, 450);
        endless.limits.ahead_max = 450;
        std::mem::forget(engine.submit(endless).unwrap());
        std::thread::sleep(Duration::from_millis(delay.to_str().unwrap().parse().unwrap()));
        std::process::exit(0);
    }
    for delay in [1, 5, 20, 50, 100] {
        let mut child = std::process::Command::new(std::env::current_exe().unwrap());
        child.args(["--exact", "a_busy_process_ends_cleanly"]).env(CHILD, delay.to_string());
        let output = child.output().unwrap();
        assert!(output.status.success(), "after {delay} ms: {}", output.status);
    }
}
