//! A small random model with a long context, for what does not depend on what a model knows: caches, turns, forks.

use std::fs;
use std::io::Write as _;
use std::path::{Path, PathBuf};

use engine::{
    Class, Compute, Engine, Job, Limits, LoadOptions, Sampling, Sequence, Speculation, Step,
    TokenId,
};
use serde_json::{Map, Value, json};

/// Its sizes.
const VOCABULARY: usize = 256;
const HIDDEN: usize = 32;
const LAYERS: usize = 2;
const HEADS: usize = 2;
const HEAD_DIM: usize = 16;
const EXPERTS: usize = 4;
const INNER: usize = 16;
/// How far it can look back.
const CONTEXT: usize = 1 << 18;

/// The folder with the model and everything that it leaves on the disk. It goes with this value.
pub(super) struct Small {
    folder: PathBuf,
}

impl Small {
    /// Writes the model.
    pub(super) fn make() -> Result<Small, String> {
        let folder =
            std::env::temp_dir().join(format!("demolish-bench-small-{}", std::process::id()));
        let small = Small { folder };
        write(&small.model()).map_err(|error| format!("{}: {error}", small.folder.display()))?;
        Ok(small)
    }

    fn model(&self) -> PathBuf {
        self.folder.join("small")
    }

    /// Where caches may be written.
    pub(super) fn caches(&self) -> PathBuf {
        self.folder.join("caches")
    }

    /// Loads it: every weight and every sum in fp32.
    pub(super) fn load(&self) -> Result<Engine, String> {
        let options = LoadOptions { compute: Compute::Fast, ..LoadOptions::AUTO };
        crate::model::load(&self.model(), options)
    }
}

impl Drop for Small {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.folder); // It is in the folder for temporary files.
    }
}

/// `len` tokens that are others for every `seed`.
pub(super) fn text(len: usize, seed: u64) -> Vec<TokenId> {
    let mut chance = Chance(seed);
    #[allow(clippy::cast_possible_truncation, reason = "less than the vocabulary")]
    let token = |number: u64| (number % (VOCABULARY as u64 - 2)) as TokenId;
    (0..len).map(|_| token(chance.next())).collect()
}

/// A job that writes the likeliest tokens and runs as far ahead as it may.
pub(super) fn job(prompt: Vec<TokenId>, tokens_max: u32, class: Class) -> Job {
    Job {
        prompt,
        constraint: None,
        sampling: Sampling::GREEDY,
        limits: Limits { tokens_max, stop: Vec::new(), ahead_max: tokens_max },
        class,
        soul: None,
        mixture: None,
        lookup: Vec::new(),
        speculation: Speculation::Auto,
    }
}

/// The next `count` steps.
pub(super) async fn take(sequence: &mut Sequence, count: usize) -> Result<Vec<Step>, String> {
    let mut steps = Vec::new();
    while steps.len() < count
        && let Some(step) = sequence.next().await.map_err(|error| error.to_string())?
    {
        steps.push(step);
    }
    Ok(steps)
}

/// Starts a job.
pub(super) fn submit(engine: &Engine, job: Job) -> Result<Sequence, String> {
    engine.submit(job).map_err(|error| error.to_string())
}

/// Numbers that look random and are the same in every run (SplitMix64).
pub(in crate::bench) struct Chance(u64);

impl Chance {
    /// The numbers of `seed`.
    pub(in crate::bench) fn of(seed: u64) -> Chance {
        Chance(seed)
    }

    /// Any number.
    pub(in crate::bench) fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut bits = self.0;
        bits = (bits ^ (bits >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        bits = (bits ^ (bits >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        bits ^ (bits >> 31)
    }

    /// Between -1 and 1.
    #[allow(clippy::cast_precision_loss, reason = "24 bits are what a float holds")]
    pub(in crate::bench) fn weight(&mut self) -> f32 {
        (self.next() >> 40) as f32 / (1u32 << 23) as f32 - 1.0
    }
}

#[allow(clippy::disallowed_methods, reason = "the folder is the measurement's own")]
fn write(dir: &Path) -> std::io::Result<()> {
    fs::create_dir_all(dir)?;
    let config = json!({
        "model_type": "qwen3_moe", "hidden_size": HIDDEN, "num_hidden_layers": LAYERS,
        "intermediate_size": INNER, "num_attention_heads": HEADS, "num_key_value_heads": 1,
        "head_dim": HEAD_DIM, "vocab_size": VOCABULARY, "rms_norm_eps": 1e-6,
        "rope_theta": 1_000_000.0, "max_position_embeddings": CONTEXT, "tie_word_embeddings": true,
        "num_experts": EXPERTS, "num_experts_per_tok": 2, "decoder_sparse_step": 1,
        "mlp_only_layers": [], "moe_intermediate_size": INNER, "norm_topk_prob": true,
        "eos_token_id": VOCABULARY - 1,
    });
    fs::write(dir.join("config.json"), config.to_string())?;
    let words: Map<String, Value> =
        (0..VOCABULARY).map(|token| (format!("w{token}"), json!(token))).collect();
    let tokenizer = json!({
        "version": "1.0", "truncation": null, "padding": null, "added_tokens": [],
        "normalizer": null, "pre_tokenizer": { "type": "Whitespace" }, "post_processor": null,
        "decoder": null, "model": { "type": "WordLevel", "vocab": words, "unk_token": "w0" },
    });
    fs::write(dir.join("tokenizer.json"), tokenizer.to_string())?;
    let mut file = std::io::BufWriter::new(fs::File::create(dir.join("model.safetensors"))?);
    let (mut header, mut at) = (Map::new(), 0);
    for (name, shape) in tensors() {
        let end = at + shape.iter().product::<usize>() * 4;
        let entry = json!({ "dtype": "F32", "shape": shape, "data_offsets": [at, end] });
        header.insert(name, entry);
        at = end;
    }
    let header = Value::Object(header).to_string();
    file.write_all(&(header.len() as u64).to_le_bytes())?;
    file.write_all(header.as_bytes())?;
    let mut chance = Chance(1);
    for (name, shape) in tensors() {
        let is_norm = name.contains("norm");
        // Large enough that a token depends on what came before it.
        #[allow(clippy::cast_precision_loss, reason = "some dozens")]
        let scale = 2.0 / (shape[shape.len() - 1] as f32).sqrt();
        for _ in 0..shape.iter().product::<usize>() {
            let weight = if is_norm { 1.0 } else { chance.weight() * scale };
            file.write_all(&weight.to_le_bytes())?;
        }
    }
    file.flush()
}

/// Names and shapes, in the order of the file.
fn tensors() -> Vec<(String, Vec<usize>)> {
    let mut all = vec![
        ("model.embed_tokens.weight".to_owned(), vec![VOCABULARY, HIDDEN]),
        ("model.norm.weight".to_owned(), vec![HIDDEN]),
    ];
    for layer in 0..LAYERS {
        let mut add = |name: &str, shape: &[usize]| {
            all.push((format!("model.layers.{layer}.{name}.weight"), shape.to_vec()));
        };
        add("input_layernorm", &[HIDDEN]);
        add("post_attention_layernorm", &[HIDDEN]);
        add("self_attn.q_proj", &[HEADS * HEAD_DIM, HIDDEN]);
        add("self_attn.k_proj", &[HEAD_DIM, HIDDEN]);
        add("self_attn.v_proj", &[HEAD_DIM, HIDDEN]);
        add("self_attn.o_proj", &[HIDDEN, HEADS * HEAD_DIM]);
        add("self_attn.q_norm", &[HEAD_DIM]);
        add("self_attn.k_norm", &[HEAD_DIM]);
        add("mlp.gate", &[EXPERTS, HIDDEN]);
        add("mlp.switch_mlp.gate_proj", &[EXPERTS, INNER, HIDDEN]);
        add("mlp.switch_mlp.up_proj", &[EXPERTS, INNER, HIDDEN]);
        add("mlp.switch_mlp.down_proj", &[EXPERTS, HIDDEN, INNER]);
    }
    all
}
