//! The folder of models: written once, used by every run, in MLX's format with scales of three types and as GGUF.

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::io::{self, BufWriter, Write};
use std::path::{Path, PathBuf};

use serde_json::{Map, Value, json};

use super::gguf;
use super::numbers::{Float, Numbers, offset};
use super::shapes::{GROUP, Kind, Shape, Tensor};

/// Changes when the numbers or the formats do, so that no folder of before is used.
const EDITION: u32 = 1;

/// The models of one shape.
#[derive(Debug, Clone)]
pub(super) struct Checkpoint {
    folder: PathBuf,
}

impl Checkpoint {
    fn at(shape: &Shape, models: &Path) -> Checkpoint {
        Checkpoint { folder: models.join(format!("{}.{EDITION}", shape.name)) }
    }

    /// Those of `shape` below `models`, written if they are not there.
    ///
    /// # Errors
    /// They cannot be written: one sentence.
    pub(super) fn of(shape: &Shape, models: &Path) -> Result<Checkpoint, String> {
        let checkpoint = Checkpoint::at(shape, models);
        if !checkpoint.folder.is_dir() {
            super::tell(&format!("writing {}: once, some seconds", checkpoint.folder.display()));
            write(shape, &checkpoint.folder)
                .map_err(|error| format!("{}: {error}", checkpoint.folder.display()))?;
        }
        Ok(checkpoint)
    }

    /// The folder that we and mlx-lm load.
    pub(super) fn mlx(&self, float: Float) -> PathBuf {
        self.folder.join(float.name())
    }

    /// The file that llama.cpp loads.
    pub(super) fn gguf(&self) -> PathBuf {
        self.folder.join("q4_0.gguf")
    }
}

/// Removes the models of a shape, if they are there.
pub(super) fn discard(shape: &Shape, models: &Path) {
    let _ = fs::remove_dir_all(Checkpoint::at(shape, models).folder); // Whoever asked for it will see.
}

/// Writes all of it beside its place and moves it there when it is whole.
#[allow(clippy::disallowed_methods, reason = "the folder is the measurement's own")]
fn write(shape: &Shape, folder: &Path) -> io::Result<()> {
    let draft = folder.with_extension(format!("draft-{}", std::process::id()));
    fs::create_dir_all(&draft)?;
    let written = fill(shape, &draft).and_then(|()| fs::rename(&draft, folder));
    if written.is_err() {
        let _ = fs::remove_dir_all(&draft); // What went wrong is told.
    }
    written
}

#[allow(clippy::disallowed_methods, reason = "the folder is the measurement's own")]
fn fill(shape: &Shape, folder: &Path) -> io::Result<()> {
    let tensors = shape.tensors();
    let codes = folder.join("codes.safetensors");
    safetensors(&codes, tensors.iter().filter_map(codes_of).collect())?;
    for float in [Float::Bf16, Float::F16, Float::F32] {
        let folder = folder.join(float.name());
        fs::create_dir_all(&folder)?;
        // All variants share the codes.
        fs::hard_link(&codes, folder.join(FILES[0]))?;
        let floats = tensors.iter().flat_map(|tensor| floats_of(tensor, float)).collect();
        safetensors(&folder.join(FILES[1]), floats)?;
        fs::write(folder.join("model.safetensors.index.json"), index(&tensors).to_string())?;
        fs::write(folder.join("config.json"), shape.config().to_string())?;
        fs::write(folder.join("tokenizer.json"), tokenizer(shape.vocabulary).to_string())?;
    }
    gguf::write(shape, &folder.join("q4_0.gguf"))
}

const FILES: [&str; 2] = ["model-00001-of-00002.safetensors", "model-00002-of-00002.safetensors"];

/// A tensor of a file: its name, type and shape, and what makes its bytes.
struct Entry<'t> {
    name: String,
    dtype: &'static str,
    shape: Vec<usize>,
    length: usize,
    bytes: Box<dyn Fn() -> Vec<u8> + 't>,
}

fn safetensors(path: &Path, entries: Vec<Entry<'_>>) -> io::Result<()> {
    let (mut header, mut at) = (Map::new(), 0);
    for entry in &entries {
        let end = at + entry.length;
        let said = json!({ "dtype": entry.dtype, "shape": entry.shape, "data_offsets": [at, end] });
        header.insert(entry.name.clone(), said);
        at = end;
    }
    header.insert("__metadata__".to_owned(), json!({ "format": "mlx" }));
    let mut header = Value::Object(header).to_string();
    header.push_str(&" ".repeat(header.len().next_multiple_of(8) - header.len()));
    let mut file = BufWriter::new(File::create(path)?);
    file.write_all(&(header.len() as u64).to_le_bytes())?;
    file.write_all(header.as_bytes())?;
    for entry in entries {
        file.write_all(&(entry.bytes)())?;
    }
    file.flush()
}

/// The stored shape, `per_word` numbers to an element of the last axis.
fn shape_of(tensor: &Tensor, per_word: usize) -> Vec<usize> {
    let mut shape: Vec<usize> = tensor.experts.into_iter().collect();
    if matches!(tensor.kind, Kind::FourBits | Kind::EightBits) {
        shape.push(tensor.out);
    }
    shape.push(tensor.inner / per_word);
    shape
}

fn codes_of(tensor: &Tensor) -> Option<Entry<'_>> {
    let per_word = match tensor.kind {
        Kind::FourBits => 8,
        Kind::EightBits => 4,
        Kind::Norm | Kind::Bias => return None,
    };
    Some(Entry {
        name: format!("{}.weight", tensor.mlx),
        dtype: "U32",
        shape: shape_of(tensor, per_word),
        length: tensor.numbers() / per_word * 4,
        bytes: Box::new(|| Numbers::of(tensor).codes),
    })
}

fn floats_of(tensor: &Tensor, float: Float) -> Vec<Entry<'_>> {
    let entry = |suffix: &str, per_word: usize, number: fn(Kind, u16) -> u16| Entry {
        name: format!("{}.{suffix}", tensor.mlx),
        dtype: float.name(),
        shape: shape_of(tensor, per_word),
        length: tensor.numbers() / per_word * float.bytes(),
        bytes: Box::new(move || {
            let mut bytes = Vec::new();
            for stored in Numbers::of(tensor).floats {
                float.put(number(tensor.kind, stored), &mut bytes);
            }
            bytes
        }),
    };
    match tensor.kind {
        Kind::Norm => vec![entry("weight", 1, |_, float| float)],
        Kind::Bias => vec![entry("bias", 1, |_, float| float)],
        Kind::FourBits | Kind::EightBits => {
            vec![entry("scales", GROUP, |_, scale| scale), entry("biases", GROUP, offset)]
        }
    }
}

fn index(tensors: &[Tensor]) -> Value {
    let mut files = BTreeMap::new();
    for tensor in tensors {
        files.extend(codes_of(tensor).map(|entry| (entry.name, FILES[0])));
        files.extend(floats_of(tensor, Float::F32).into_iter().map(|entry| (entry.name, FILES[1])));
    }
    json!({ "metadata": {}, "weight_map": files })
}

/// A word per token.
fn tokenizer(vocabulary: usize) -> Value {
    let words: Map<String, Value> =
        (0..vocabulary).map(|token| (format!("w{token}"), json!(token))).collect();
    json!({
        "version": "1.0", "truncation": null, "padding": null, "added_tokens": [],
        "normalizer": null, "pre_tokenizer": { "type": "Whitespace" }, "post_processor": null,
        "decoder": null, "model": { "type": "WordLevel", "vocab": words, "unk_token": "w0" },
    })
}
