//! Chat templates: the Jinja of Hugging Face, through minijinja.
//!
//! The templates were written for Python, so the few string and dictionary methods that they call are provided, and `tojson`
//! writes what Python's `json.dumps(ensure_ascii=False)` writes.

use std::collections::BTreeMap;

use minijinja::{Environment, Error, ErrorKind, State, UndefinedBehavior, Value, value::Kwargs};
use serde::Serialize;

/// One message of a conversation.
#[derive(Debug, Clone, Serialize)]
pub struct ChatMessage {
    /// `system`, `user`, `assistant` or `tool`.
    pub role: String,
    /// The text.
    pub content: String,
    /// Everything else that templates read: `tool_calls`, `reasoning_content`, `tool_call_id`, `name`, …
    #[serde(flatten)]
    pub extra: BTreeMap<String, serde_json::Value>,
}

/// A conversation that could not be rendered.
#[derive(Debug, thiserror::Error)]
pub enum ChatError {
    /// The model directory has none.
    #[error("the model has no chat template")]
    Missing,
    /// The template, or what it was given, is wrong.
    #[error("the model's chat template: {0}")]
    Template(String),
}

pub(super) fn render(
    template: &str,
    names: &[(String, String)],
    messages: &[ChatMessage],
    variables: &BTreeMap<String, serde_json::Value>,
) -> Result<String, ChatError> {
    let mut environment = Environment::new();
    environment.set_trim_blocks(true);
    environment.set_lstrip_blocks(true);
    environment.set_undefined_behavior(UndefinedBehavior::Chainable);
    environment.add_filter("tojson", to_json);
    environment.add_function("raise_exception", |text: String| -> Result<Value, Error> {
        Err(Error::new(ErrorKind::InvalidOperation, text))
    });
    environment.set_unknown_method_callback(python_method);

    let mut context: BTreeMap<String, Value> = BTreeMap::new();
    context.extend(names.iter().map(|(name, token)| (name.clone(), Value::from(token.as_str()))));
    context.insert("messages".to_owned(), Value::from_serialize(messages));
    context.insert("add_generation_prompt".to_owned(), Value::from(true));
    context
        .extend(variables.iter().map(|(name, value)| (name.clone(), Value::from_serialize(value))));
    let rendered = environment.render_str(template, context);
    rendered.map_err(|error| ChatError::Template(format!("{error:#}")))
}

/// `json.dumps`: separators with a space, no escapes of non-ASCII, the order of keys as given.
fn to_json(value: Value, options: Kwargs) -> Result<Value, Error> {
    let _: Option<bool> = options.get("ensure_ascii")?;
    let indent: Option<usize> = options.get("indent")?;
    options.assert_all_used()?;
    let json = serde_json::to_value(&value)
        .map_err(|error| Error::new(ErrorKind::BadSerialization, error.to_string()))?;
    let mut text = String::new();
    write_json(&json, indent, 0, &mut text);
    Ok(Value::from_safe_string(text))
}

fn write_json(json: &serde_json::Value, indent: Option<usize>, depth: usize, text: &mut String) {
    let line = |text: &mut String, depth: usize| {
        if let Some(indent) = indent {
            text.push('\n');
            text.extend(std::iter::repeat_n(' ', indent * depth));
        }
    };
    let separator = if indent.is_some() { "," } else { ", " };
    match json {
        serde_json::Value::Array(items) if !items.is_empty() => {
            text.push('[');
            for (index, item) in items.iter().enumerate() {
                text.push_str(if index > 0 { separator } else { "" });
                line(text, depth + 1);
                write_json(item, indent, depth + 1, text);
            }
            line(text, depth);
            text.push(']');
        }
        serde_json::Value::Object(entries) if !entries.is_empty() => {
            text.push('{');
            for (index, (key, item)) in entries.iter().enumerate() {
                text.push_str(if index > 0 { separator } else { "" });
                line(text, depth + 1);
                text.push_str(&format!("{}: ", serde_json::Value::from(key.as_str())));
                write_json(item, indent, depth + 1, text);
            }
            line(text, depth);
            text.push('}');
        }
        leaf => text.push_str(&leaf.to_string()),
    }
}

/// The methods of Python's `str` and `dict` that published templates call.
fn python_method(
    _: &State<'_, '_>,
    value: &Value,
    method: &str,
    arguments: &[Value],
) -> Result<Value, Error> {
    let unknown = || Error::new(ErrorKind::UnknownMethod, format!("no method named {method}"));
    let argument =
        |index: usize| arguments.get(index).and_then(|value| value.as_str().map(str::to_owned));
    if let Some(text) = value.as_str() {
        let set: Vec<char> =
            argument(0).map_or_else(|| vec![' ', '\t', '\n', '\r'], |set| set.chars().collect());
        return Ok(match method {
            "strip" => Value::from(text.trim_matches(&set[..])),
            "lstrip" => Value::from(text.trim_start_matches(&set[..])),
            "rstrip" => Value::from(text.trim_end_matches(&set[..])),
            "upper" => Value::from(text.to_uppercase()),
            "lower" => Value::from(text.to_lowercase()),
            "startswith" => Value::from(text.starts_with(&argument(0).ok_or_else(unknown)?)),
            "endswith" => Value::from(text.ends_with(&argument(0).ok_or_else(unknown)?)),
            "replace" => Value::from(
                text.replace(&argument(0).ok_or_else(unknown)?, &argument(1).ok_or_else(unknown)?),
            ),
            "split" => match argument(0) {
                Some(separator) => {
                    Value::from_serialize(text.split(&separator).collect::<Vec<_>>())
                }
                None => Value::from_serialize(text.split_whitespace().collect::<Vec<_>>()),
            },
            _ => return Err(unknown()),
        });
    }
    match method {
        "get" => {
            let found = arguments.first().map(|key| value.get_item(key)).transpose()?;
            let default = arguments.get(1).cloned().unwrap_or_else(|| Value::from(()));
            Ok(found.filter(|found| !found.is_undefined()).unwrap_or(default))
        }
        "keys" => Ok(Value::from_iter(value.try_iter()?)),
        "items" => {
            let keys = value.try_iter()?;
            let pairs: Result<Vec<Value>, Error> =
                keys.map(|key| Ok(Value::from(vec![key.clone(), value.get_item(&key)?]))).collect();
            Ok(Value::from(pairs?))
        }
        "values" => {
            let values: Result<Vec<Value>, Error> =
                value.try_iter()?.map(|key| value.get_item(&key)).collect();
            Ok(Value::from(values?))
        }
        _ => Err(unknown()),
    }
}
