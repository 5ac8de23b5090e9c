//! JSON as templates see it.

use std::{collections::BTreeMap, sync::Arc};

use minijinja::{
    Error, State, Value,
    value::{Enumerator, Object, ObjectRepr},
};

use super::methods;

/// A dictionary of Python: in the order of its making, and with methods that its keys do not hide: a tool may well have a
/// parameter that is called `items` or `get`.
#[derive(Debug)]
struct Dictionary {
    keys: Vec<Value>,
    values: BTreeMap<String, Value>,
}

impl Object for Dictionary {
    fn repr(self: &Arc<Self>) -> ObjectRepr {
        ObjectRepr::Map
    }

    fn get_value(self: &Arc<Self>, key: &Value) -> Option<Value> {
        self.values.get(key.as_str()?).cloned()
    }

    fn enumerate(self: &Arc<Self>) -> Enumerator {
        Enumerator::Values(self.keys.clone())
    }

    fn call_method(
        self: &Arc<Self>,
        _: &State<'_, '_>,
        method: &str,
        arguments: &[Value],
    ) -> Result<Value, Error> {
        methods::of_dictionary(&Value::from_dyn_object(self.clone()), method, arguments)
    }
}

pub(super) fn dictionary(entries: Vec<(String, Value)>) -> Value {
    let keys = entries.iter().map(|(key, _)| Value::from(key.as_str())).collect();
    Value::from_object(Dictionary { keys, values: entries.into_iter().collect() })
}

pub(super) fn from_json(json: &serde_json::Value) -> Value {
    match json {
        serde_json::Value::Array(items) => items.iter().map(from_json).collect(),
        serde_json::Value::Object(entries) => {
            dictionary(entries.iter().map(|(key, value)| (key.clone(), from_json(value))).collect())
        }
        serde_json::Value::String(text) => Value::from(text.as_str()),
        leaf => Value::from_serialize(leaf),
    }
}
