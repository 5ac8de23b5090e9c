//! The weights of a model directory: what the files say they hold, checked before anything is loaded.
//!
//! `Shards` reads the headers of all `*.safetensors` files; `check` compares them with what the model asks for, tensor by
//! tensor, and adds up what loading will cost. A model that is damaged, incomplete or too big is refused here, with the tensor
//! and the file in the message.

pub(crate) mod adapter;
mod ahead;
mod buffer;
pub(crate) mod check;
mod compressed;
mod direct;
mod header;
mod interleaved;
pub(crate) mod numbers;
mod source;
pub(crate) mod tiles;

use std::{
    collections::BTreeMap,
    fs,
    path::{Path, PathBuf},
    sync::Arc,
};

use crate::{files, info::LoadError};
use header::Stamp;
pub(crate) use header::{Entry, Make, Origin, Place};
pub(crate) use interleaved::Form;
pub(crate) use source::{Source, Tensor};

/// All tensors of a directory, by name.
pub(crate) struct Shards {
    pub(crate) dir: PathBuf,
    pub(crate) files: Vec<PathBuf>,
    /// Which files these were when their headers were read.
    stamps: Vec<Stamp>,
    tensors: Arc<BTreeMap<String, Entry>>,
    /// Where the index, if there is one, says that tensors are.
    index: BTreeMap<String, String>,
}

impl Shards {
    /// Reads the headers of all `model*.safetensors` in `dir`, like mlx-lm: the index is not needed.
    pub(crate) fn open(dir: &Path, architecture: &str) -> Result<Shards, LoadError> {
        let unreadable = |error: std::io::Error| LoadError::File {
            path: dir.to_owned(),
            reason: error.to_string(),
        };
        let mut files = Vec::new();
        for entry in fs::read_dir(dir).map_err(unreadable)? {
            let path = entry.map_err(unreadable)?.path();
            let name = path.file_name().and_then(|name| name.to_str()).unwrap_or_default();
            if name.starts_with("model") && name.ends_with(".safetensors") {
                files.push(path);
            }
        }
        files.sort();
        if files.is_empty() {
            return Err(LoadError::File {
                path: dir.to_owned(),
                reason: "no model*.safetensors in it".to_owned(),
            });
        }
        let (mut tensors, mut stamps) = (BTreeMap::new(), Vec::new());
        for (file, path) in files.iter().enumerate() {
            let (entries, stamp) = header::read(path, file)?;
            stamps.push(stamp);
            for (name, entry) in entries {
                if tensors.insert(normal_name(&name), entry).is_some() {
                    let reason = format!("tensor {name} is in an earlier file too");
                    return Err(LoadError::Weights { path: path.clone(), reason });
                }
            }
        }
        if architecture == "gpt_oss" {
            interleaved::rename(&mut tensors).map_err(|(entry, reason)| LoadError::Weights {
                path: files[entry.file].clone(),
                reason,
            })?;
        }
        compressed::rename(&mut tensors);
        let (dir, index, tensors) = (dir.to_owned(), index(dir), Arc::new(tensors));
        Ok(Shards { dir, files, stamps, tensors, index })
    }

    pub(crate) fn get(&self, name: &str) -> Option<&Entry> {
        self.tensors.get(name)
    }

    /// All of them.
    pub(crate) fn entries(&self) -> impl Iterator<Item = (&String, &Entry)> {
        self.tensors.iter()
    }

    /// The tensor, or the error that it is missing.
    pub(crate) fn need(&self, name: &str) -> Result<&Entry, LoadError> {
        self.get(name).ok_or_else(|| self.missing(name, ""))
    }

    /// The error that a tensor is missing, with `note` where its file is there.
    pub(crate) fn missing(&self, name: &str, note: &str) -> LoadError {
        let path =
            self.index.get(name).map_or_else(|| self.dir.clone(), |file| self.dir.join(file));
        let note = if self.files.contains(&path) || path == self.dir {
            note
        } else {
            " (the file is not there)"
        };
        LoadError::Weights { path, reason: format!("tensor {name} is missing{note}") }
    }

    /// An error about a tensor that is there.
    pub(crate) fn wrong(&self, name: &str, what: &str) -> LoadError {
        let path =
            self.get(name).map_or_else(|| self.dir.clone(), |entry| self.files[entry.file].clone());
        LoadError::Weights { path, reason: format!("tensor {name} {what}") }
    }
}

/// The name that a text model gives a tensor, without the prefix that models with more than text put before it.
pub(crate) fn normal_name(name: &str) -> String {
    let name = name.strip_prefix("language_model.").unwrap_or(name);
    match name.strip_prefix("model.language_model.") {
        Some(rest) => format!("model.{rest}"),
        None => name.to_owned(),
    }
}

/// Only used to name the file of a missing tensor, so a broken index is no error.
fn index(dir: &Path) -> BTreeMap<String, String> {
    let text = files::read(&dir.join("model.safetensors.index.json")).unwrap_or_default();
    let json: serde_json::Value = serde_json::from_slice(&text).unwrap_or_default();
    let files: BTreeMap<String, String> =
        serde_json::from_value(json["weight_map"].clone()).unwrap_or_default();
    files.into_iter().map(|(name, file)| (normal_name(&name), file)).collect()
}
