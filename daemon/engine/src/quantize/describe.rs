//! What stands beside the weights: the configuration, the index, and the files that are copied.

use std::{
    collections::BTreeMap,
    fs::{self, File},
    io::{self, Write},
    path::Path,
};

use serde_json::{Map, Value, json};

use super::{plan::Plan, write::shard_name};
use crate::config::Packing;

/// Beginnings of the names of files that go with a model, whatever its weights are.
const COPIED: [&str; 11] = [
    "tokenizer",
    "special_tokens_map.json",
    "added_tokens.json",
    "vocab.",
    "merges.txt",
    "chat_template",
    "generation_config.json",
    "README",
    "LICENSE",
    "NOTICE",
    "additional_chat_templates",
];

/// config.json of the packed model: sorted, as mlx-lm has it.
pub(super) fn config(json: Value, base: Packing, plan: &Plan) -> Value {
    let mut sorted: BTreeMap<String, Value> = match json {
        Value::Object(entries) => entries.into_iter().collect(),
        _ => BTreeMap::new(),
    };
    sorted.remove("_name_or_path");
    sorted.remove("vision_config");
    let mut quantization = Map::new();
    quantization.extend(entries(base));
    for module in &plan.modules {
        if let Some(named) = module.named {
            let what = named.map_or(Value::Bool(false), |packing| Value::Object(entries(packing)));
            quantization.insert(module.path.clone(), what);
        }
    }
    sorted.insert("quantization".to_owned(), Value::Object(quantization.clone()));
    sorted.insert("quantization_config".to_owned(), Value::Object(quantization));
    Value::Object(sorted.into_iter().collect())
}

fn entries(packing: Packing) -> Map<String, Value> {
    let entries = [
        ("group_size", json!(packing.group)),
        ("bits", json!(packing.bits)),
        ("mode", json!(packing.mode.name())),
    ];
    entries.into_iter().map(|(key, value)| (key.to_owned(), value)).collect()
}

/// Writes everything but the weights.
pub(super) fn write(source: &Path, target: &Path, config: &Value, plan: &Plan) -> io::Result<()> {
    for entry in fs::read_dir(source)? {
        let entry = entry?;
        let name = entry.file_name();
        let is_copied =
            name.to_str().is_some_and(|name| COPIED.iter().any(|start| name.starts_with(start)));
        // Links are followed: in Hugging Face's cache every file is one.
        if is_copied && fs::metadata(entry.path())?.is_file() {
            fs::copy(entry.path(), target.join(name))?;
        }
    }
    let places: BTreeMap<&str, String> = plan
        .modules
        .iter()
        .flat_map(|module| module.outputs.iter().map(move |output| (output, module.shard)))
        .map(|(output, shard)| (output.name.as_str(), shard_name(shard, plan.result.files)))
        .collect();
    let index = json!({
        "metadata": {
            "total_size": plan.result.bytes,
            "total_parameters": plan.result.parameters,
        },
        "weight_map": places,
    });
    for (name, json) in [("model.safetensors.index.json", &index), ("config.json", config)] {
        let mut file = File::create(target.join(name))?;
        file.write_all(serde_json::to_string_pretty(json)?.as_bytes())?;
        file.write_all(b"\n")?;
        file.sync_all()?;
    }
    Ok(())
}
