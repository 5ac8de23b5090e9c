//! The options of one capability of several servers, as those of one.

use serde_json::{Map, Value};

/// Whether the member `name` of an object is there and not false.
pub(super) fn any(value: &Value, name: &str) -> bool {
    !matches!(value.get(name), None | Some(Value::Null | Value::Bool(false)))
}

/// The options of a capability that all servers are asked for: one server's as they are; of several what holds for any,
/// with lists united.
pub(super) fn joined(given: &[&Value]) -> Option<Value> {
    match given {
        [] => None,
        [one] => Some((*one).clone()),
        many => Some(unite(many)),
    }
}

/// All elements of all arrays, each once.
pub(super) fn union_of<'v>(lists: impl Iterator<Item = &'v Value>) -> Vec<Value> {
    let mut union: Vec<Value> = Vec::new();
    for element in lists.filter_map(Value::as_array).flatten() {
        if !union.contains(element) {
            union.push(element.clone());
        }
    }
    union
}

fn unite(given: &[&Value]) -> Value {
    let objects: Vec<&Map<String, Value>> =
        given.iter().filter_map(|value| value.as_object()).collect();
    let mut merged = Map::new();
    for name in objects.iter().flat_map(|object| object.keys()) {
        // The id would let the client end the registration of one server for all.
        if merged.contains_key(name) || name == "id" {
            continue;
        }
        let values: Vec<&Value> = objects.iter().filter_map(|object| object.get(name)).collect();
        let everywhere = values.len() == given.len();
        if let Some(value) = member(name, &values, everywhere) {
            merged.insert(name.clone(), value);
        }
    }
    if merged.is_empty() { Value::Bool(true) } else { Value::Object(merged) }
}

/// A member of the options that some have. `everywhere` tells that nobody left it out.
fn member(name: &str, values: &[&Value], everywhere: bool) -> Option<Value> {
    match name {
        // Who names no documents wants all of them, and who names no kinds may have any.
        "documentSelector" | "codeActionKinds"
            if !everywhere || values.iter().any(|value| value.is_null()) =>
        {
            None
        }
        "completionItem" => joined(values),
        _ if values.iter().any(|value| value.is_boolean()) => Some(Value::Bool(
            values.iter().any(|value| !matches!(value, Value::Bool(false) | Value::Null)),
        )),
        _ if values.iter().any(|value| value.is_array()) => {
            Some(Value::Array(union_of(values.iter().copied())))
        }
        _ => values.first().map(|value| (*value).clone()),
    }
}
