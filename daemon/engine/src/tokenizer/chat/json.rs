//! `tojson`, as transformers defines it: Python's `json.dumps` with `ensure_ascii=False`.

use minijinja::{
    Error, ErrorKind, Value,
    value::{Kwargs, Rest, ValueKind},
};

use super::{budget::Budget, text};

/// How JSON is laid out.
struct Layout {
    ensure_ascii: bool,
    indent: Option<String>,
    item: String,
    key: String,
    sort_keys: bool,
}

/// How deep values may nest.
const DEPTH_MAX: usize = 128;

pub(super) fn tojson(
    budget: &Budget,
    value: &Value,
    arguments: Rest<Value>,
    options: Kwargs,
) -> Result<Value, Error> {
    let option = |index: usize, name: &str| -> Result<Value, Error> {
        let named: Option<Value> = options.get(name)?;
        Ok(named.or_else(|| arguments.get(index).cloned()).unwrap_or_default())
    };
    let indent = option(1, "indent")?;
    let indent = match indent.as_str() {
        Some(text) => Some(text.to_owned()),
        None => indent.as_usize().map(|width| " ".repeat(width.min(DEPTH_MAX))),
    };
    let separators = option(2, "separators")?;
    let separator =
        |index: usize| Some(separators.get_item_by_index(index).ok()?.as_str()?.to_owned());
    let layout = Layout {
        ensure_ascii: option(0, "ensure_ascii")?.is_true(),
        item: separator(0).unwrap_or_else(|| if indent.is_some() { "," } else { ", " }.to_owned()),
        key: separator(1).unwrap_or_else(|| ": ".to_owned()),
        sort_keys: option(3, "sort_keys")?.is_true(),
        indent,
    };
    options.assert_all_used()?;
    let mut json = String::new();
    layout.write(value, 0, &mut json)?;
    budget.spend(json.len())?;
    Ok(Value::from(json))
}

impl Layout {
    fn write(&self, value: &Value, depth: usize, json: &mut String) -> Result<(), Error> {
        if depth > DEPTH_MAX {
            return Err(Error::new(
                ErrorKind::BadSerialization,
                format!("values nest more than {DEPTH_MAX} deep"),
            ));
        }
        match value.kind() {
            ValueKind::None => json.push_str("null"),
            ValueKind::Bool => json.push_str(if value.is_true() { "true" } else { "false" }),
            ValueKind::Number => json.push_str(&match f64::try_from(value.clone()) {
                Ok(number) if !value.is_integer() && !number.is_finite() => not_finite(number),
                _ => text::number(value),
            }),
            ValueKind::String => self.string(value.as_str().unwrap_or_default(), json),
            ValueKind::Seq | ValueKind::Iterable => {
                let items: Vec<Value> = value.try_iter()?.collect();
                self.nested(['[', ']'], &items, depth, json, |item, json| {
                    self.write(item, depth + 1, json)
                })?;
            }
            ValueKind::Map => {
                let mut keys: Vec<Value> = value.try_iter()?.collect();
                if self.sort_keys {
                    keys.sort();
                }
                self.nested(['{', '}'], &keys, depth, json, |key, json| {
                    self.string(&key_text(key), json);
                    json.push_str(&self.key);
                    self.write(&value.get_item(key)?, depth + 1, json)
                })?;
            }
            kind => {
                return Err(Error::new(
                    ErrorKind::BadSerialization,
                    format!("tojson of a value that is {kind}"),
                ));
            }
        }
        Ok(())
    }

    fn nested(
        &self,
        [open, close]: [char; 2],
        items: &[Value],
        depth: usize,
        json: &mut String,
        mut write: impl FnMut(&Value, &mut String) -> Result<(), Error>,
    ) -> Result<(), Error> {
        let line = |json: &mut String, depth: usize| {
            if let Some(indent) = self.indent.as_ref().filter(|_| !items.is_empty()) {
                json.push('\n');
                json.push_str(&indent.repeat(depth));
            }
        };
        json.push(open);
        for (index, item) in items.iter().enumerate() {
            json.push_str(if index > 0 { &self.item } else { "" });
            line(json, depth + 1);
            write(item, json)?;
        }
        line(json, depth);
        json.push(close);
        Ok(())
    }

    fn string(&self, text: &str, json: &mut String) {
        let quoted = serde_json::Value::from(text).to_string();
        if !self.ensure_ascii {
            json.push_str(&quoted);
            return;
        }
        let mut units = [0; 2];
        for c in quoted.chars() {
            if c.is_ascii() {
                json.push(c);
            } else {
                c.encode_utf16(&mut units)
                    .iter()
                    .for_each(|unit| json.push_str(&format!("\\u{unit:04x}")));
            }
        }
    }
}

/// JSON's keys are text; Python turns the few others into it.
fn key_text(key: &Value) -> String {
    match key.kind() {
        ValueKind::None => "null".to_owned(),
        ValueKind::Bool => if key.is_true() { "true" } else { "false" }.to_owned(),
        _ => text::python(key),
    }
}

fn not_finite(number: f64) -> String {
    if number.is_nan() {
        "NaN"
    } else if number > 0.0 {
        "Infinity"
    } else {
        "-Infinity"
    }
    .to_owned()
}
