//! What a value that was written as bare text means: its tool's JSON schema says.

use std::collections::BTreeSet;

use serde_json::Value;

use super::python;

/// How many references a schema may follow to get at a type.
const REFERENCES_MAX: usize = 16;

/// The JSON text of a value that was written as `text`. A property that the schema does not know, or gives no type, is text.
/// Where several types are allowed, the narrower one that fits goes before text; where none fits, it is text, and the
/// tool will say what it wanted.
pub(super) fn coerce(text: &str, schema: &Value, property: &str) -> String {
    let mut kinds = BTreeSet::new();
    let mut words = Vec::new();
    if let Some(property) = find(schema, schema, property, 0) {
        collect(schema, property, &mut kinds, &mut words, 0);
    }
    if words.iter().any(|word| word == text) {
        return quote(text);
    }
    let trimmed = text.trim();
    let parsed: Option<Value> = serde_json::from_str(trimmed).ok();
    let is_json = |fits: fn(&Value) -> bool| parsed.as_ref().is_some_and(fits);
    for kind in ["null", "integer", "number", "boolean", "object", "array"] {
        if !kinds.contains(kind) {
            continue;
        }
        let found = match kind {
            // Templates write None, True and False as Python does.
            "null" => (is_json(Value::is_null) || trimmed == "None").then(|| "null".to_owned()),
            "boolean" => ["true", "false"]
                .into_iter()
                .find(|word| trimmed.eq_ignore_ascii_case(word))
                .map(str::to_owned),
            "integer" => is_json(is_whole).then(|| trimmed.to_owned()),
            "number" => is_json(Value::is_number).then(|| trimmed.to_owned()),
            "object" if is_json(Value::is_object) => Some(trimmed.to_owned()),
            "array" if is_json(Value::is_array) => Some(trimmed.to_owned()),
            "object" => python::literal(trimmed).filter(|json| json.starts_with('{')),
            _ => python::literal(trimmed).filter(|json| json.starts_with('[')),
        };
        if let Some(json) = found {
            return json;
        }
    }
    quote(text)
}

/// A JSON string.
pub(super) fn quote(text: &str) -> String {
    Value::from(text).to_string()
}

/// Whether the number has no fraction, and is exact.
fn is_whole(value: &Value) -> bool {
    value.is_i64() || value.is_u64()
}

/// The schema of a property, wherever the schema of its object hides it.
fn find<'s>(root: &'s Value, schema: &'s Value, property: &str, depth: usize) -> Option<&'s Value> {
    if depth > REFERENCES_MAX {
        return None;
    }
    if let Some(found) = schema.get("properties").and_then(|properties| properties.get(property)) {
        return Some(found);
    }
    let referred = schema.get("$ref").and_then(|target| refer(root, target)).into_iter();
    let parts = ["anyOf", "oneOf", "allOf"]
        .into_iter()
        .filter_map(|key| schema.get(key)?.as_array())
        .flatten();
    let further = schema.get("additionalProperties").filter(|further| further.is_object());
    referred.chain(parts).find_map(|part| find(root, part, property, depth + 1)).or(further)
}

/// The types that a schema allows, and the strings that it lists.
fn collect(
    root: &Value,
    schema: &Value,
    kinds: &mut BTreeSet<String>,
    words: &mut Vec<String>,
    depth: usize,
) {
    if depth > REFERENCES_MAX {
        return;
    }
    match schema.get("type") {
        Some(Value::String(kind)) => kinds.extend([kind.clone()]),
        Some(Value::Array(several)) => {
            kinds.extend(several.iter().filter_map(|kind| Some(kind.as_str()?.to_owned())))
        }
        _ => {}
    }
    let listed = schema.get("enum").and_then(Value::as_array).into_iter().flatten();
    for value in listed.chain(schema.get("const")) {
        words.extend(value.as_str().map(str::to_owned));
        if schema.get("type").is_none() {
            kinds.insert(kind(value).to_owned());
        }
    }
    let referred = schema.get("$ref").and_then(|target| refer(root, target)).into_iter();
    let parts = ["anyOf", "oneOf", "allOf"]
        .into_iter()
        .filter_map(|key| schema.get(key)?.as_array())
        .flatten();
    referred.chain(parts).for_each(|part| collect(root, part, kinds, words, depth + 1));
    if schema.get("type").is_none() && kinds.is_empty() {
        let implied = [("properties", "object"), ("items", "array")];
        kinds.extend(
            implied
                .iter()
                .filter(|(key, _)| schema.get(key).is_some())
                .map(|(_, kind)| (*kind).to_owned()),
        );
    }
}

/// `#/$defs/name`: only what is in the same schema.
fn refer<'s>(root: &'s Value, target: &Value) -> Option<&'s Value> {
    root.pointer(target.as_str()?.strip_prefix('#')?)
}

fn kind(value: &Value) -> &'static str {
    match value {
        Value::Null => "null",
        Value::Bool(_) => "boolean",
        Value::Number(number) if number.is_f64() => "number",
        Value::Number(_) => "integer",
        Value::String(_) => "string",
        Value::Array(_) => "array",
        Value::Object(_) => "object",
    }
}
