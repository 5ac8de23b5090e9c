//! The model: of Qwen3-30B-A3B's widths, with as many layers as the size asks for, in files as big as those of hubs.

use std::fs::{self, File};
use std::io::{self, BufWriter, Write as _};
use std::path::{Path, PathBuf};

use serde_json::{Map, Value, json};

use super::super::engine::Chance;

const HIDDEN: usize = 2048;
const EXPERTS: usize = 128;
const INNER: usize = 768;
const HEADS: usize = 32;
const KV_HEADS: usize = 4;
const HEAD_DIM: usize = 128;
const VOCABULARY: usize = 1024;
/// Of a group of so many weights there is a scale and a bias.
const GROUP: usize = 64;
/// Experts of a model that is smaller than one layer of that.
const EXPERTS_FEW: usize = 8;
/// The most bytes of one file.
const FILE_BYTES_MAX: u64 = 4 << 30;
/// What is written again and again: nothing depends on the weights' values but that they are numbers.
const NOISE_BYTES: usize = 16 << 20;

/// A tensor: its name, type, shape and size in bytes.
struct Tensor {
    name: String,
    dtype: &'static str,
    shape: Vec<usize>,
    bytes: u64,
}

impl Tensor {
    fn new(name: &str, dtype: &'static str, shape: &[usize]) -> Tensor {
        let width = if dtype == "U32" { 4 } else { 2 };
        let bytes = shape.iter().product::<usize>() * width;
        Tensor { name: name.to_owned(), dtype, shape: shape.to_vec(), bytes: bytes as u64 }
    }
}

/// Writes a model of about so many bytes, to the disk. How many they are.
#[allow(clippy::disallowed_methods, reason = "the folder is the measurement's own")]
pub(super) fn write(folder: &Path, bytes: u64) -> io::Result<u64> {
    fs::create_dir_all(folder)?;
    let size = |tensors: &[Tensor]| tensors.iter().map(|tensor| tensor.bytes).sum::<u64>();
    let whole = size(&layer(0, EXPERTS));
    let experts = if bytes < whole { EXPERTS_FEW } else { EXPERTS };
    let layers = (bytes / size(&layer(0, experts))).max(1) as usize;
    let mut tensors = vec![Tensor::new("model.norm.weight", "BF16", &[HIDDEN])];
    packed("model.embed_tokens", &[VOCABULARY], HIDDEN, &mut tensors);
    packed("lm_head", &[VOCABULARY], HIDDEN, &mut tensors);
    tensors.extend((0..layers).flat_map(|index| layer(index, experts)));
    fs::write(folder.join("config.json"), config(layers, experts).to_string())?;
    fs::write(folder.join("tokenizer.json"), tokenizer().to_string())?;
    let mut rest = tensors.as_slice();
    for number in 1.. {
        let mut sum = 0;
        let count = rest.iter().take_while(|tensor| {
            sum += tensor.bytes;
            sum <= FILE_BYTES_MAX
        });
        let (part, others) = rest.split_at(count.count().max(1));
        file(&folder.join(format!("model-{number:05}.safetensors")), part)?;
        rest = others;
        if rest.is_empty() {
            break;
        }
    }
    files(folder)?.iter().map(|path| Ok(fs::metadata(path)?.len())).sum()
}

/// Its weights.
pub(super) fn files(folder: &Path) -> io::Result<Vec<PathBuf>> {
    let paths = fs::read_dir(folder)?.map(|entry| Ok(entry?.path()));
    let paths: Vec<PathBuf> = paths.collect::<io::Result<_>>()?;
    let is_weights = |path: &PathBuf| path.extension().is_some_and(|name| name == "safetensors");
    Ok(paths.into_iter().filter(is_weights).collect())
}

fn layer(index: usize, experts: usize) -> Vec<Tensor> {
    let mut tensors = Vec::new();
    let at = |name: &str| format!("model.layers.{index}.{name}");
    for (norm, width) in [
        ("input_layernorm", HIDDEN),
        ("post_attention_layernorm", HIDDEN),
        ("self_attn.q_norm", HEAD_DIM),
        ("self_attn.k_norm", HEAD_DIM),
    ] {
        tensors.push(Tensor::new(&at(&format!("{norm}.weight")), "BF16", &[width]));
    }
    let maps: [(&str, &[usize], usize); 8] = [
        ("self_attn.q_proj", &[HEADS * HEAD_DIM], HIDDEN),
        ("self_attn.k_proj", &[KV_HEADS * HEAD_DIM], HIDDEN),
        ("self_attn.v_proj", &[KV_HEADS * HEAD_DIM], HIDDEN),
        ("self_attn.o_proj", &[HIDDEN], HEADS * HEAD_DIM),
        ("mlp.gate", &[experts], HIDDEN),
        ("mlp.switch_mlp.gate_proj", &[experts, INNER], HIDDEN),
        ("mlp.switch_mlp.up_proj", &[experts, INNER], HIDDEN),
        ("mlp.switch_mlp.down_proj", &[experts, HIDDEN], INNER),
    ];
    maps.iter().for_each(|(name, rows, inner)| packed(&at(name), rows, *inner, &mut tensors));
    tensors
}

/// A matrix in four bits.
fn packed(path: &str, rows: &[usize], inner: usize, tensors: &mut Vec<Tensor>) {
    let shape = |columns: usize| [rows, &[columns]].concat();
    tensors.push(Tensor::new(&format!("{path}.weight"), "U32", &shape(inner / 8)));
    for kind in ["scales", "biases"] {
        tensors.push(Tensor::new(&format!("{path}.{kind}"), "BF16", &shape(inner / GROUP)));
    }
}

fn file(path: &Path, tensors: &[Tensor]) -> io::Result<()> {
    let (mut header, mut end) = (Map::new(), 0);
    for tensor in tensors {
        let start = end;
        end += tensor.bytes;
        let entry =
            json!({"dtype": tensor.dtype, "shape": tensor.shape, "data_offsets": [start, end]});
        header.insert(tensor.name.clone(), entry);
    }
    let header = Value::Object(header).to_string();
    let mut file = BufWriter::with_capacity(1 << 20, File::create(path)?);
    file.write_all(&(header.len() as u64).to_le_bytes())?;
    file.write_all(header.as_bytes())?;
    let (words, floats) = noise();
    for tensor in tensors {
        let noise = if tensor.dtype == "U32" { &words } else { &floats };
        let mut left = tensor.bytes as usize;
        while left > 0 {
            let len = left.min(noise.len());
            file.write_all(&noise[..len])?;
            left -= len;
        }
    }
    // What is not on the disk yet cannot be forgotten.
    file.into_inner().map_err(io::IntoInnerError::into_error)?.sync_all()
}

/// Bits of any value, and small numbers in bf16.
fn noise() -> (Vec<u8>, Vec<u8>) {
    let mut chance = Chance::of(1);
    let words = (0..NOISE_BYTES / 8).flat_map(|_| chance.next().to_le_bytes()).collect();
    let mut chance = Chance::of(2);
    let number = |weight: f32| (((weight * 0.01).to_bits() >> 16) as u16).to_le_bytes();
    let floats = (0..NOISE_BYTES / 2).flat_map(|_| number(chance.weight())).collect();
    (words, floats)
}

fn config(layers: usize, experts: usize) -> Value {
    json!({
        "model_type": "qwen3_moe", "hidden_size": HIDDEN, "num_hidden_layers": layers,
        "intermediate_size": INNER, "num_attention_heads": HEADS, "num_key_value_heads": KV_HEADS,
        "head_dim": HEAD_DIM, "vocab_size": VOCABULARY, "rms_norm_eps": 1e-6,
        "rope_theta": 1_000_000.0, "max_position_embeddings": 32768, "tie_word_embeddings": false,
        "num_experts": experts, "num_experts_per_tok": 8, "decoder_sparse_step": 1,
        "mlp_only_layers": [], "moe_intermediate_size": INNER, "norm_topk_prob": true,
        "eos_token_id": VOCABULARY - 1, "quantization": {"group_size": GROUP, "bits": 4},
    })
}

/// A word per token.
fn tokenizer() -> Value {
    let words: Map<String, Value> =
        (0..VOCABULARY).map(|token| (format!("w{token}"), json!(token))).collect();
    json!({
        "version": "1.0", "truncation": null, "padding": null, "added_tokens": [],
        "normalizer": null, "pre_tokenizer": { "type": "Whitespace" }, "post_processor": null,
        "decoder": null, "model": { "type": "WordLevel", "vocab": words, "unk_token": "w0" },
    })
}
