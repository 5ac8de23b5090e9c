//! tokenizer.json, through the tokenizers crate.

use std::{collections::BTreeMap, fs, path::Path};

use serde_json::Value;

use super::{FimTokens, Kind, Tokenizer};
use crate::{info::LoadError, job::TokenId};

/// Names in tokenizer_config.json that chat templates read as variables.
const CHAT_NAMES: [&str; 4] = ["bos_token", "eos_token", "pad_token", "unk_token"];

pub(super) fn load(dir: &Path, eos: &[TokenId]) -> Result<Tokenizer, LoadError> {
    let path = dir.join("tokenizer.json");
    let text = fs::read(&path)
        .map_err(|error| LoadError::File { path: path.clone(), reason: error.to_string() })?;
    let wrong = |reason: String| LoadError::Tokenizer { path: path.clone(), reason };
    let mut json: Value =
        serde_json::from_slice(&text).map_err(|error| wrong(error.to_string()))?;
    mark_special(&mut json);
    let is_byte_level = names_type(&json["decoder"], "ByteLevel")
        || names_type(&json["pre_tokenizer"], "ByteLevel");
    let mut hf: tokenizers::Tokenizer =
        serde_json::from_value(json).map_err(|error| wrong(error.to_string()))?;
    hf.set_encode_special_tokens(true);
    let specials: BTreeMap<String, TokenId> =
        hf.get_added_tokens_decoder().into_iter().map(|(id, token)| (token.content, id)).collect();
    let bytes = token_bytes(&hf, &specials, is_byte_level);

    let config = read_json(&dir.join("tokenizer_config.json"))?;
    let chat_names: Vec<(String, String)> = CHAT_NAMES
        .iter()
        .filter_map(|name| Some(((*name).to_owned(), token_name(&config[*name])?)))
        .collect();
    let mut all_eos = eos.to_vec();
    all_eos.extend(token_name(&config["eos_token"]).and_then(|name| specials.get(&name).copied()));
    all_eos.sort_unstable();
    all_eos.dedup();
    let fim = FimTokens::find(&specials, config["fim_suffix_first"] == true);
    let chat_template = chat_template(dir, &config)?;
    Ok(Tokenizer {
        kind: Kind::Hf(Box::new(hf)),
        bytes,
        specials,
        eos: all_eos,
        fim,
        chat_template,
        chat_names,
    })
}

pub(super) fn encode(hf: &tokenizers::Tokenizer, text: &str) -> Vec<TokenId> {
    // Encoding fails only where a pre-tokenizer's regular expression gives up; the bytes are still better than nothing.
    match hf.encode_fast(text, false) {
        Ok(encoding) => encoding.get_ids().to_vec(),
        Err(error) => {
            tracing::error!("the tokenizer failed on {} bytes: {error}", text.len());
            Vec::new()
        }
    }
}

/// Qwen lists its fill-in-the-middle tokens as not special, which would let a user's file contain them.
fn mark_special(json: &mut Value) {
    let added = json.get_mut("added_tokens").and_then(Value::as_array_mut);
    for token in added.into_iter().flatten() {
        token["special"] = Value::Bool(true);
    }
}

/// Whether a component, or one of the sequence that it is, has the type.
fn names_type(component: &Value, name: &str) -> bool {
    let parts =
        ["decoders", "pretokenizers"].iter().filter_map(|key| component[*key].as_array()).flatten();
    component["type"] == name || parts.into_iter().any(|part| names_type(part, name))
}

/// The bytes behind every id.
fn token_bytes(
    hf: &tokenizers::Tokenizer,
    specials: &BTreeMap<String, TokenId>,
    is_byte_level: bool,
) -> Vec<Box<[u8]>> {
    let vocabulary = hf.get_vocab(true);
    let len = vocabulary.values().max().map_or(0, |&max| max as usize + 1);
    let bytes_of_chars = byte_level_chars();
    let mut bytes: Vec<Box<[u8]>> = vec![Box::default(); len];
    for (token, id) in vocabulary {
        bytes[id as usize] = if specials.contains_key(&token) {
            token.into_bytes().into()
        } else if is_byte_level {
            token
                .chars()
                .flat_map(|c| {
                    bytes_of_chars.get(&c).map_or(c.to_string().into_bytes(), |&b| vec![b])
                })
                .collect()
        } else {
            sentence_piece_bytes(&token)
        };
    }
    bytes
}

/// GPT-2's table: every byte has a printable character.
fn byte_level_chars() -> BTreeMap<char, u8> {
    let printable = |byte: u8| matches!(byte, b'!'..=b'~' | 0xa1..=0xac | 0xae..=0xff);
    let mut next = 256u32;
    let mut chars = BTreeMap::new();
    for byte in 0..=255u8 {
        let code = if printable(byte) {
            u32::from(byte)
        } else {
            next += 1;
            next - 1
        };
        chars.extend(char::from_u32(code).map(|c| (c, byte)));
    }
    chars
}

/// `▁` is a space, `<0x0A>` a byte.
fn sentence_piece_bytes(token: &str) -> Box<[u8]> {
    let hex = token.strip_prefix("<0x").and_then(|rest| rest.strip_suffix('>'));
    match hex.and_then(|hex| u8::from_str_radix(hex, 16).ok()) {
        Some(byte) => Box::from([byte]),
        None => token.replace('▁', " ").into_bytes().into(),
    }
}

fn chat_template(dir: &Path, config: &Value) -> Result<Option<String>, LoadError> {
    let path = dir.join("chat_template.jinja");
    if path.exists() {
        let text = fs::read_to_string(&path);
        return text.map(Some).map_err(|error| LoadError::File { path, reason: error.to_string() });
    }
    let template = &config["chat_template"];
    let named =
        template.as_array().and_then(|all| all.iter().find(|entry| entry["name"] == "default"));
    Ok(template
        .as_str()
        .or_else(|| named.and_then(|entry| entry["template"].as_str()))
        .map(str::to_owned))
}

/// A token is named by a string, or by an object with its `content`.
fn token_name(value: &Value) -> Option<String> {
    value.as_str().or_else(|| value["content"].as_str()).map(str::to_owned)
}

/// `Null` when the file is not there.
fn read_json(path: &Path) -> Result<Value, LoadError> {
    let wrong = |reason: String| LoadError::Tokenizer { path: path.to_owned(), reason };
    match fs::read(path) {
        Ok(text) => serde_json::from_slice(&text).map_err(|error| wrong(error.to_string())),
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(Value::Null),
        Err(error) => Err(wrong(error.to_string())),
    }
}
