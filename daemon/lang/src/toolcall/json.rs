//! JSON that arrives in pieces: where a value ends, and what it says.

use std::collections::BTreeMap;

use serde_json::{Value, value::RawValue};

/// Looks for the end of an object or a list. Only brackets and strings are looked at.
#[derive(Debug, Clone, Default)]
pub(super) struct Scan {
    /// Bytes looked at.
    pub(super) at: usize,
    depth: usize,
    /// The quote that the string in progress ends with.
    quote: Option<u8>,
    is_escaped: bool,
    /// Python's strings may be in single quotes; JSON's may not.
    is_python: bool,
}

impl Scan {
    pub(super) fn python() -> Scan {
        Scan { is_python: true, ..Scan::default() }
    }

    /// Goes on over `text`, which begins where the value does. The length of the value when its end was found.
    pub(super) fn run(&mut self, text: &str) -> Option<usize> {
        for (at, &byte) in text.as_bytes().iter().enumerate().skip(self.at) {
            self.at = at + 1;
            if let Some(quote) = self.quote {
                if self.is_escaped {
                    self.is_escaped = false;
                } else if byte == b'\\' {
                    self.is_escaped = true;
                } else if byte == quote {
                    self.quote = None;
                }
                continue;
            }
            match byte {
                b'"' => self.quote = Some(byte),
                b'\'' if self.is_python => self.quote = Some(byte),
                b'{' | b'[' | b'(' => self.depth += 1,
                b'}' | b']' | b')' => self.depth = self.depth.saturating_sub(1),
                _ => {}
            }
            if self.depth == 0 && matches!(byte, b'}' | b']' | b')') {
                return Some(at + 1);
            }
        }
        None
    }
}

/// The text as strict JSON: models write line breaks into strings that JSON wants escaped.
pub(super) fn strict(text: &str) -> String {
    let mut strict = String::with_capacity(text.len());
    let (mut is_string, mut is_escaped) = (false, false);
    for c in text.chars() {
        match c {
            _ if is_escaped => is_escaped = false,
            '\\' if is_string => is_escaped = true,
            '"' => is_string = !is_string,
            '\u{0}'..='\u{1f}' if is_string => {
                let quoted = Value::from(c.to_string()).to_string();
                strict.push_str(&quoted[1..quoted.len() - 1]);
                continue;
            }
            _ => {}
        }
        strict.push(c);
    }
    strict
}

/// Checks that `text` is a JSON object; gives it in strict spelling.
pub(super) fn object(text: &str) -> Result<String, String> {
    let text = strict(text.trim());
    match serde_json::from_str::<Value>(&text) {
        Ok(Value::Object(_)) => Ok(text),
        Ok(_) => Err("the arguments are no JSON object".to_owned()),
        Err(error) => Err(format!("the arguments are no JSON: {error}")),
    }
}

/// A call that is written as one object.
pub(super) struct Object {
    pub(super) id: Option<String>,
    pub(super) name: String,
    pub(super) arguments: String,
}

/// The calls in `text`: an object, or a list of them. `keys`: where the name is, and where the arguments are.
pub(super) fn objects(text: &str, keys: (&str, &str)) -> Result<Vec<Object>, String> {
    let text = strict(text.trim());
    let wrong = |error: serde_json::Error| format!("the call is no JSON: {error}");
    let entries: Vec<BTreeMap<String, Box<RawValue>>> = if text.starts_with('[') {
        serde_json::from_str(&text).map_err(wrong)?
    } else {
        vec![serde_json::from_str(&text).map_err(wrong)?]
    };
    entries.into_iter().map(|entry| one(&entry, keys)).collect()
}

fn one(
    entry: &BTreeMap<String, Box<RawValue>>,
    (name_key, arguments_key): (&str, &str),
) -> Result<Object, String> {
    let text = |key: &str| -> Option<String> { serde_json::from_str(entry.get(key)?.get()).ok() };
    let name = text(name_key).filter(|name| !name.is_empty());
    let name = name.ok_or_else(|| format!("the call has no {name_key:?} that is text"))?;
    let arguments = entry.get(arguments_key).map_or("{}", |raw| raw.get());
    // Some models quote the arguments once more.
    let quoted: Option<String> = serde_json::from_str(arguments).ok();
    let arguments = if arguments == "null" {
        "{}".to_owned()
    } else {
        object(quoted.as_deref().unwrap_or(arguments))?
    };
    Ok(Object { id: text("id"), name, arguments })
}
