//! A fixture: a model directory and what mlx-lm computed with it.

#![allow(
    dead_code,
    clippy::disallowed_methods,
    reason = "shared by several test binaries, which use different parts"
)]

use std::{
    collections::BTreeMap,
    fs,
    path::{Path, PathBuf},
};

use serde_json::Value;

pub(crate) struct Checkpoint {
    pub(crate) name: String,
    pub(crate) dir: PathBuf,
    pub(crate) prompt: Vec<u32>,
    pub(crate) greedy: Vec<u32>,
    pub(crate) vocabulary: usize,
    tensors: BTreeMap<String, Vec<u8>>,
}

/// All of them, or those of the folder that DEMOLISH_FIXTURES names.
pub(crate) fn fixtures() -> Vec<Checkpoint> {
    let own = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../../tests/engine/fixtures");
    read_folder(&std::env::var_os("DEMOLISH_FIXTURES").map_or(own, PathBuf::from))
}

/// The checkpoints in a folder.
pub(crate) fn read_folder(folder: &Path) -> Vec<Checkpoint> {
    let entries =
        fs::read_dir(folder).unwrap_or_else(|error| panic!("{}: {error}", folder.display()));
    let mut dirs: Vec<PathBuf> = entries.map(|entry| entry.unwrap().path()).collect();
    dirs.sort();
    dirs.retain(|dir| dir.join("ref.safetensors").exists());
    assert!(!dirs.is_empty(), "{} holds no fixtures", folder.display());
    dirs.iter().map(|dir| Checkpoint::read(dir)).collect()
}

pub(crate) fn fixture(name: &str) -> Checkpoint {
    let all = fixtures();
    all.into_iter()
        .find(|checkpoint| checkpoint.name == name)
        .unwrap_or_else(|| panic!("no fixture {name}"))
}

impl Checkpoint {
    fn read(dir: &Path) -> Checkpoint {
        let (_, tensors) = read_safetensors(&dir.join("ref.safetensors"));
        let ints = |name: &str| words(&tensors[name]).map(u32::from_le_bytes).collect::<Vec<u32>>();
        let (prompt, greedy) = (ints("prompt"), ints("greedy"));
        let vocabulary = tensors["prefill"].len() / 4 / prompt.len();
        let name = dir.file_name().unwrap().to_str().unwrap().to_owned();
        Checkpoint { name, dir: dir.to_owned(), prompt, greedy, vocabulary, tensors }
    }

    pub(crate) fn floats(&self, name: &str) -> Vec<f32> {
        words(&self.tensors[name]).map(f32::from_le_bytes).collect()
    }

    /// The logits of position `row` of the prompt, in one pass.
    pub(crate) fn prefill(&self, row: usize) -> Vec<f32> {
        self.floats("prefill")[row * self.vocabulary..][..self.vocabulary].to_vec()
    }

    /// The same when the prompt is fed in chunks of 7.
    pub(crate) fn chunked(&self, row: usize) -> Vec<f32> {
        self.floats("chunked")[row * self.vocabulary..][..self.vocabulary].to_vec()
    }

    /// The logits that greedy token `step` was taken from.
    pub(crate) fn decoded(&self, step: usize) -> Vec<f32> {
        self.floats("decode")[step * self.vocabulary..][..self.vocabulary].to_vec()
    }

    /// Whether every choice of experts or positions was made by a margin that other arithmetic does not turn over, and the logits move
    /// by less than half of `tolerance` with the last bits of the weights. Some random models amplify any rounding.
    pub(crate) fn is_clear(&self, tolerance: f32) -> bool {
        let number = |name: &str| self.tensors.get(name).map(|_| self.floats(name)[0]);
        number("margin").is_none_or(|margin| margin > 1e-5)
            && number("noise").is_none_or(|noise| noise <= tolerance / 2.0)
    }

    /// The `model_type` of its configuration, or of the text model in it.
    pub(crate) fn architecture(&self) -> String {
        let text = fs::read(self.dir.join("config.json")).unwrap();
        let json: Value = serde_json::from_slice(&text).unwrap();
        json["model_type"].as_str().unwrap().to_owned()
    }

    /// Copies the model to `to`.
    pub(crate) fn copy(&self, to: &Path) {
        for entry in fs::read_dir(&self.dir).unwrap() {
            let path = entry.unwrap().path();
            fs::copy(&path, to.join(path.file_name().unwrap())).unwrap();
        }
    }
}

/// Whether this is the slow run.
pub(crate) fn is_slow() -> bool {
    std::env::var_os("DEMOLISH_SLOW").is_some_and(|value| value == "1")
}

fn words(bytes: &[u8]) -> impl Iterator<Item = [u8; 4]> + '_ {
    bytes.chunks_exact(4).map(|word| word.try_into().unwrap())
}

/// The header and the bytes of every tensor.
pub(crate) fn read_safetensors(path: &Path) -> (Value, BTreeMap<String, Vec<u8>>) {
    let bytes = fs::read(path).unwrap();
    let len = u64::from_le_bytes(bytes[..8].try_into().unwrap()) as usize;
    let header: Value = serde_json::from_slice(&bytes[8..8 + len]).unwrap();
    let data = &bytes[8 + len..];
    let tensors = header.as_object().unwrap().iter().filter(|(name, _)| *name != "__metadata__");
    let tensors = tensors.map(|(name, entry)| {
        let place: [usize; 2] = serde_json::from_value(entry["data_offsets"].clone()).unwrap();
        (name.clone(), data[place[0]..place[1]].to_vec())
    });
    let tensors = tensors.collect();
    (header, tensors)
}
