//! LoRA adapters as mlx-lm saves them: `adapters.safetensors` beside an `adapter_config.json`.
//!
//! A linear map's overlay is `lora_a` `[in, rank]` and `lora_b` `[rank, out]`; that of experts `[experts, rank, in]` (older ones
//! `[rank · experts, in]`) and `[experts, out, rank]`. Here they are only read off the headers.

use std::{
    collections::BTreeMap,
    path::{Path, PathBuf},
};

use serde_json::Value;

use super::{Entry, header, normal_name};
use crate::{
    files,
    info::{LoadError, MountError},
};

/// An adapter, as far as its files tell without their data.
#[derive(Debug)]
pub(crate) struct Adapter {
    /// The file with the tensors.
    pub(crate) path: PathBuf,
    pub(crate) rank: usize,
    pub(crate) scale: f32,
    /// Shapes of `lora_a` and `lora_b`, by the path of the module.
    pub(crate) pairs: BTreeMap<String, [Vec<usize>; 2]>,
}

impl Adapter {
    /// Reads what the files say they hold.
    pub(crate) fn open(dir: &Path) -> Result<Adapter, MountError> {
        let (rank, scale) = parameters(&dir.join("adapter_config.json"))?;
        let path = dir.join("adapters.safetensors");
        let (entries, _) = header::read(&path, 0).map_err(|error| match error {
            LoadError::File { path, reason } => MountError { path, reason: unreadable(&reason) },
            LoadError::Weights { path, reason } => {
                MountError { path, reason: format!("{reason}; copy the adapter again") }
            }
            other => MountError { path: path.clone(), reason: other.to_string() },
        })?;
        let wrong = |reason: String| MountError { path: path.clone(), reason };
        let mut halves: BTreeMap<String, [Option<Vec<usize>>; 2]> = BTreeMap::new();
        for (name, entry) in entries {
            let name = normal_name(&name);
            let (module, half) = match name.rsplit_once('.') {
                Some((module, "lora_a")) => (module, 0),
                Some((module, "lora_b")) => (module, 1),
                Some((module, "m")) => {
                    return Err(wrong(format!(
                        "{module} is a DoRA overlay, which cannot be mounted; LoRA can"
                    )));
                }
                _ => {
                    return Err(wrong(format!("{name} is no LoRA tensor (…lora_a or …lora_b)")));
                }
            };
            if !Entry::is_float(&entry) {
                return Err(wrong(format!("{name} has type {}", entry.dtype)));
            }
            halves.entry(module.to_owned()).or_default()[half] = Some(entry.shape);
        }
        if halves.is_empty() {
            return Err(wrong("it holds no tensor".to_owned()));
        }
        let whole = halves.into_iter().map(|(module, halves)| match halves {
            [Some(a), Some(b)] => Ok((module, [a, b])),
            [None, _] => Err(wrong(format!("{module}.lora_a is missing"))),
            [_, None] => Err(wrong(format!("{module}.lora_b is missing"))),
        });
        Ok(Adapter { rank, scale, pairs: whole.collect::<Result<_, MountError>>()?, path })
    }
}

/// What the system says of a file, with what would help.
fn unreadable(said: &str) -> String {
    let remedy = if said.contains("Permission denied") {
        "make it readable"
    } else {
        "an adapter is a folder with adapter_config.json and adapters.safetensors"
    };
    format!("{said}; {remedy}")
}

/// Rank and scale.
fn parameters(path: &Path) -> Result<(usize, f32), MountError> {
    let wrong = |reason: String| MountError { path: path.to_owned(), reason };
    let text = files::read(path).map_err(|error| wrong(unreadable(&error.to_string())))?;
    let json: Value = serde_json::from_slice(&text)
        .map_err(|error| wrong(format!("not JSON ({error}); copy the adapter again")))?;
    match json["fine_tune_type"].as_str().unwrap_or("lora") {
        "lora" => {}
        "full" => {
            return Err(wrong(
                "fine_tune_type is \"full\": these are whole weights and no overlay; fuse them into the model"
                    .to_owned(),
            ));
        }
        other => {
            return Err(wrong(format!("fine_tune_type is {other:?}; \"lora\" can be mounted")));
        }
    }
    let parameters = &json["lora_parameters"];
    let rank = parameters["rank"].as_u64().filter(|&rank| rank > 0);
    let rank = rank.ok_or_else(|| wrong("lora_parameters.rank is missing".to_owned()))?;
    let scale = parameters["scale"].as_f64().ok_or_else(|| {
        let hint =
            if parameters["alpha"].is_null() { "" } else { " (\"alpha\" is another convention)" };
        wrong(format!("lora_parameters.scale is missing{hint}"))
    })?;
    Ok((rank as usize, scale as f32))
}
