//! tokenizer.json, through the tokenizers crate.

use std::{collections::BTreeMap, path::Path};

use serde_json::Value;

use super::{
    FimTokens, Kind, Place, Tokenizer,
    specials::{self, Role, Specials},
    templates::Templates,
};
use crate::{files, info::LoadError, job::TokenId, profile::Profile};

/// Names in tokenizer_config.json that chat templates read as variables.
const CHAT_NAMES: [&str; 4] = ["bos_token", "eos_token", "pad_token", "unk_token"];

/// A tokenizer.json, as it is and without the blank that some put before every text.
pub(super) struct Hf {
    whole: tokenizers::Tokenizer,
    /// `None`: there is no such blank.
    bare: Option<tokenizers::Tokenizer>,
    /// The blank is put before every text between special tokens, not only before the first.
    is_always: bool,
}

pub(super) fn load(dir: &Path, eos: &[TokenId]) -> Result<Tokenizer, LoadError> {
    let path = dir.join("tokenizer.json");
    let text = files::read(&path)
        .map_err(|error| LoadError::File { path: path.clone(), reason: error.to_string() })?;
    let wrong = |reason: String| LoadError::Tokenizer { path: path.clone(), reason };
    let mut json: Value =
        serde_json::from_slice(&text).map_err(|error| wrong(error.to_string()))?;
    let roles = mark_special(&mut json);
    let is_byte_level = names_type(&json["decoder"], "ByteLevel")
        || names_type(&json["pre_tokenizer"], "ByteLevel");
    let read = |json: Value| -> Result<tokenizers::Tokenizer, LoadError> {
        let mut hf: tokenizers::Tokenizer =
            serde_json::from_value(json).map_err(|error| wrong(error.to_string()))?;
        hf.set_encode_special_tokens(true);
        Ok(hf)
    };
    let without = without_prefix(&json);
    let bare = match without {
        Some((bare, is_always)) => Some((read(bare)?, is_always)),
        None => None,
    };
    let whole = read(json)?;
    let added = whole.get_added_tokens_decoder();
    let role = |name: &str| roles.get(name).copied().unwrap_or(Role::Control);
    let named: BTreeMap<String, Role> =
        added.values().map(|token| (token.content.clone(), role(&token.content))).collect();
    let bytes = token_bytes(&whole, &named, is_byte_level);
    let tokens = added.iter().map(|(id, token)| (token.content.clone(), *id, role(&token.content)));
    let mut specials = Specials::new(tokens, bytes.len());
    for (id, token) in &added {
        specials.set_takes(*id, token.lstrip, token.rstrip);
    }

    let config = read_json(&dir.join("tokenizer_config.json"))?;
    let profile = Profile::of(dir)?;
    let chat_names: Vec<(String, String)> = CHAT_NAMES
        .iter()
        .filter_map(|name| Some(((*name).to_owned(), token_name(&config[*name])?)))
        .collect();
    let mut all_eos = eos.to_vec();
    all_eos.extend(token_name(&config["eos_token"]).and_then(|name| specials.get(&name)));
    all_eos.extend(profile.ends().filter_map(|name| specials.get(name)));
    all_eos.sort_unstable();
    all_eos.dedup();
    let fim = FimTokens::find(|name| specials.get(name), config["fim_suffix_first"] == true);
    let mut templates = Templates::find(dir, &config)?;
    if templates.is_empty()
        && let Some((name, source)) = profile.fallback_template()
    {
        templates = Templates::built_in(name, source);
    }
    let (bare, is_always) = bare.map_or((None, false), |(bare, is_always)| (Some(bare), is_always));
    Ok(Tokenizer {
        kind: Kind::Hf(Box::new(Hf { whole, bare, is_always })),
        bytes,
        specials,
        eos: all_eos,
        fim,
        templates,
        chat_names,
        profile,
    })
}

impl Hf {
    /// The tokens of a text. `place`: whether text or special tokens stand before it in its prompt.
    pub(super) fn encode(&self, text: &str, place: Place) -> Vec<TokenId> {
        let is_prefixed = match place {
            Place::Within => false,
            Place::First => true,
            Place::AfterSpecial => self.is_always,
        };
        let hf = self.bare.as_ref().filter(|_| !is_prefixed).unwrap_or(&self.whole);
        // Encoding fails only where a pre-tokenizer's regular expression gives up; the bytes are still better than nothing.
        match hf.encode_fast(text, false) {
            Ok(encoding) => encoding.get_ids().to_vec(),
            Err(error) => {
                tracing::error!("the tokenizer failed on {} bytes: {error}", text.len());
                Vec::new()
            }
        }
    }
}

/// Qwen lists its fill-in-the-middle tokens as not special, which would let a user's file contain them. What each added token
/// was declared to be, and is taken for.
fn mark_special(json: &mut Value) -> BTreeMap<String, Role> {
    let mut roles = BTreeMap::new();
    let added = json.get_mut("added_tokens").and_then(Value::as_array_mut);
    for token in added.into_iter().flatten() {
        let name = token["content"].as_str().unwrap_or_default().to_owned();
        let role = match (token["special"] == true, specials::is_mark(&name)) {
            (true, _) => Role::Control,
            (false, true) => Role::Mark,
            (false, false) => Role::Text,
        };
        token["special"] = Value::Bool(role != Role::Text);
        roles.insert(name, role);
    }
    roles
}

/// The same without the blank before texts, and whether it stands before every text. `None`: there is none.
fn without_prefix(json: &Value) -> Option<(Value, bool)> {
    let mut bare = json.clone();
    let mut schemes = Vec::new();
    for part in ["normalizer", "pre_tokenizer"] {
        strip_prefix(&mut bare[part], &mut schemes);
    }
    (!schemes.is_empty()).then(|| (bare, schemes.contains(&true)))
}

fn strip_prefix(component: &mut Value, schemes: &mut Vec<bool>) {
    for key in ["normalizers", "pretokenizers"] {
        if let Some(parts) = component.get_mut(key).and_then(Value::as_array_mut) {
            let is_blank = |part: &Value| part["type"] == "Prepend";
            schemes.extend(parts.iter().any(is_blank).then_some(true));
            parts.retain(|part| !is_blank(part));
            parts.iter_mut().for_each(|part| strip_prefix(part, schemes));
        }
    }
    let scheme = component["prepend_scheme"].as_str().map(str::to_owned);
    match component["type"].as_str() {
        Some("Metaspace") if scheme.as_deref() != Some("never") => {
            schemes.push(scheme.as_deref() != Some("first"));
            component["prepend_scheme"] = Value::from("never");
        }
        Some("ByteLevel") if component["add_prefix_space"] == true => {
            schemes.push(true);
            component["add_prefix_space"] = Value::Bool(false);
        }
        Some("Prepend") => {
            schemes.push(true);
            *component = Value::Null;
        }
        _ => {}
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
    added: &BTreeMap<String, Role>,
    is_byte_level: bool,
) -> Vec<Box<[u8]>> {
    let vocabulary = hf.get_vocab(true);
    let len = vocabulary.values().max().map_or(0, |&max| max as usize + 1);
    let bytes_of_chars = byte_level_chars();
    let mut bytes: Vec<Box<[u8]>> = vec![Box::default(); len];
    for (token, id) in vocabulary {
        bytes[id as usize] = if added.contains_key(&token) {
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

/// A token is named by a string, or by an object with its `content`.
fn token_name(value: &Value) -> Option<String> {
    value.as_str().or_else(|| value["content"].as_str()).map(str::to_owned)
}

/// `Null` when the file is not there.
pub(crate) fn read_json(path: &Path) -> Result<Value, LoadError> {
    let wrong = |reason: String| LoadError::Tokenizer { path: path.to_owned(), reason };
    match files::read(path) {
        Ok(text) => serde_json::from_slice(&text).map_err(|error| wrong(error.to_string())),
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(Value::Null),
        Err(error) => Err(wrong(error.to_string())),
    }
}
