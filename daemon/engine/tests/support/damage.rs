//! Copies of fixtures with something changed.

#![allow(
    dead_code,
    clippy::disallowed_methods,
    reason = "shared by several test binaries, which use different parts; tests write scratch files"
)]

use std::{fs, path::Path};

use serde_json::{Value, json};

use crate::checkpoint::{Checkpoint, fixture, read_safetensors};

/// A copy of a fixture, to be damaged.
pub(crate) fn scratch(name: &str) -> (Checkpoint, tempfile::TempDir) {
    let checkpoint = fixture(name);
    let dir = tempfile::tempdir().unwrap();
    checkpoint.copy(dir.path());
    (checkpoint, dir)
}

pub(crate) fn edit_config(dir: &Path, change: impl FnOnce(&mut Value)) {
    let path = dir.join("config.json");
    let mut json: Value = serde_json::from_slice(&fs::read(&path).unwrap()).unwrap();
    change(&mut json);
    fs::write(path, json.to_string()).unwrap();
}

/// Rewrites a safetensors file with other tensors.
pub(crate) fn edit_tensors(path: &Path, change: impl Fn(&str, &mut Value, &mut Vec<u8>) -> bool) {
    let (header, tensors) = read_safetensors(path);
    let (mut new_header, mut data) = (serde_json::Map::new(), Vec::new());
    for (name, mut bytes) in tensors {
        let mut entry = header[&name].clone();
        if change(&name, &mut entry, &mut bytes) {
            entry["data_offsets"] = json!([data.len(), data.len() + bytes.len()]);
            data.extend(bytes);
            new_header.insert(name, entry);
        }
    }
    let text = Value::Object(new_header).to_string();
    let mut file = (text.len() as u64).to_le_bytes().to_vec();
    file.extend(text.as_bytes());
    file.extend(data);
    fs::write(path, file).unwrap();
}

/// Gives the gates' weights to the other half of the gated networks, and the other way round.
pub(crate) fn exchange_gate_and_up(path: &Path) {
    let mut file = fs::read(path).unwrap();
    let len = u64::from_le_bytes(file[..8].try_into().unwrap()) as usize;
    let text = String::from_utf8(file[8..8 + len].to_vec()).unwrap();
    // Same length, so that the data stays where it is.
    let text = text
        .replace("gate_proj", "other_prj")
        .replace("up_proj", "gate_prj")
        .replace("other_prj", "up_proj__");
    let text = text.replace("gate_prj", "gate_proj").replace("up_proj__", "up_proj");
    let mut bytes = (text.len() as u64).to_le_bytes().to_vec();
    bytes.extend(text.as_bytes());
    bytes.extend(file.split_off(8 + len));
    fs::write(path, bytes).unwrap();
}
