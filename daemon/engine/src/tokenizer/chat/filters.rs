//! Filters and tests that Jinja2 defines otherwise than minijinja.

use minijinja::{
    Environment, Error, ErrorKind, Value,
    value::{Kwargs, Rest, ValueKind},
};

use super::{budget::Budget, json, methods, text};

/// Counts a text, and makes a value of it.
fn spend(budget: &Budget, text: String) -> Result<Value, Error> {
    budget.spend(text.len()).map(|()| Value::from(text))
}

pub(super) fn add(environment: &mut Environment<'static>, budget: &Budget) {
    let counted = budget.clone();
    environment.add_filter(
        "tojson",
        move |value: &Value, arguments: Rest<Value>, options: Kwargs| {
            json::tojson(&counted, value, arguments, options)
        },
    );
    let counted = budget.clone();
    environment.add_filter("string", move |value: &Value| spend(&counted, text::python(value)));
    let counted = budget.clone();
    environment.add_filter("trim", move |value: &Value, set: Option<String>| {
        spend(&counted, methods::strip(&text::python(value), set.as_deref(), true, true).to_owned())
    });
    let counted = budget.clone();
    environment.add_filter("upper", move |value: &Value| {
        spend(&counted, text::python(value).to_uppercase())
    });
    let counted = budget.clone();
    environment.add_filter("lower", move |value: &Value| {
        spend(&counted, text::python(value).to_lowercase())
    });
    let counted = budget.clone();
    environment.add_filter(
        "replace",
        move |value: &Value, from: Value, to: Value, count: Option<usize>| {
            let (value, from, to) = (text::python(value), text::python(&from), text::python(&to));
            spend(
                &counted,
                match count {
                    Some(count) => value.replacen(&from, &to, count),
                    None => methods::replace(&value, &from, &to)?,
                },
            )
        },
    );
    add_joining(environment, budget);
    add_counting(environment);
    tests(environment);
}

/// Filters that make a text of several pieces.
fn add_joining(environment: &mut Environment<'static>, budget: &Budget) {
    let counted = budget.clone();
    environment.add_filter(
        "join",
        move |items: &Value, separator: Option<Value>, options: Kwargs| {
            let named: Option<Value> = options.get("d")?;
            let attribute: Option<String> = options.get("attribute")?;
            options.assert_all_used()?;
            let separator =
                separator.or(named).map_or(String::new(), |separator| text::python(&separator));
            let mut joined = String::new();
            for (index, item) in items.try_iter()?.enumerate() {
                let item = match &attribute {
                    Some(name) => item.get_attr(name)?,
                    None => item,
                };
                let part = text::python(&item);
                let glue = if index > 0 { separator.as_str() } else { "" };
                // Not at the end: what is joined may be a list without one.
                counted.spend(part.len() + glue.len())?;
                joined.push_str(glue);
                joined.push_str(&part);
            }
            Ok::<_, Error>(Value::from(joined))
        },
    );
    let counted = budget.clone();
    environment.add_filter(
        "indent",
        move |value: &Value,
              width: Option<Value>,
              first: Option<bool>,
              blank: Option<bool>,
              options: Kwargs| {
            let width =
                options.get::<Option<Value>>("width")?.or(width).unwrap_or_else(|| Value::from(4));
            let first = options.get::<Option<bool>>("first")?.or(first).unwrap_or(false);
            let blank = options.get::<Option<bool>>("blank")?.or(blank).unwrap_or(false);
            options.assert_all_used()?;
            let margin = match width.as_str() {
                Some(text) => text.to_owned(),
                None => {
                    " ".repeat(width.as_usize().unwrap_or(4).min(super::budget::DEPTH_MAX * 10))
                }
            };
            spend(&counted, indent(&text::python(value), &margin, first, blank))
        },
    );
}

/// Filters about numbers.
fn add_counting(environment: &mut Environment<'static>) {
    for name in ["length", "count"] {
        environment.add_filter(name, length);
    }
    environment.add_filter("list", |value: &Value| -> Result<Value, Error> {
        Budget::items(Some(value.len().unwrap_or(0)))?;
        Ok(match value.as_str() {
            Some(text) => text.chars().map(|c| Value::from(c.to_string())).collect(),
            None => Value::from(value.try_iter()?.collect::<Vec<_>>()),
        })
    });
    environment.add_filter("int", |value: &Value, default: Option<Value>| {
        let number = as_number(value);
        let whole = number
            .filter(|number| number.is_finite())
            .map(|number| Value::from(number.trunc() as i64));
        // What is whole already may be greater than a float can tell.
        let exact =
            i64::try_from(value.clone()).ok().or_else(|| value.as_str()?.trim().parse().ok());
        exact.map(Value::from).or(whole).or(default).unwrap_or_else(|| Value::from(0))
    });
    environment.add_filter("float", |value: &Value, default: Option<Value>| {
        as_number(value).map(Value::from).or(default).unwrap_or_else(|| Value::from(0.0))
    });
    environment.add_filter("round", |value: &Value, digits: Option<usize>| {
        let number = as_number(value)
            .ok_or_else(|| Error::new(ErrorKind::InvalidOperation, "round wants a number"))?;
        // Halves go to the even neighbour, as with Python's `round`.
        let rounded = format!("{number:.*}", digits.unwrap_or(0).min(30)).parse::<f64>();
        Ok::<_, Error>(Value::from(rounded.unwrap_or(number)))
    });
}

fn as_number(value: &Value) -> Option<f64> {
    match value.as_str() {
        Some(text) => text.trim().parse().ok(),
        None if value.kind() == ValueKind::Bool => Some(f64::from(u8::from(value.is_true()))),
        None => f64::try_from(value.clone()).ok(),
    }
}

fn indent(text: &str, margin: &str, first: bool, blank: bool) -> String {
    let mut indented = String::with_capacity(text.len());
    for (index, line) in text.split('\n').enumerate() {
        indented.push_str(if index > 0 { "\n" } else { "" });
        let is_first = index == 0 && !first;
        indented.push_str(if is_first || line.is_empty() && !blank && index > 0 {
            ""
        } else {
            margin
        });
        indented.push_str(line);
    }
    indented
}

/// Of something undefined, 0.
fn length(value: &Value) -> Result<Value, Error> {
    let len = match (value.is_undefined(), value.as_str()) {
        (true, _) => Some(0),
        (_, Some(text)) => Some(text.chars().count()),
        _ => value.len(),
    };
    len.map(Value::from).ok_or_else(|| {
        Error::new(
            ErrorKind::InvalidOperation,
            format!("a value that is {} has no length", value.kind()),
        )
    })
}

fn tests(environment: &mut Environment<'static>) {
    let is_list = |value: &Value| matches!(value.kind(), ValueKind::Seq | ValueKind::Iterable);
    let has_items = move |value: &Value| {
        is_list(value)
            || matches!(value.kind(), ValueKind::Map | ValueKind::String | ValueKind::Undefined)
    };
    // In Python, text and dictionaries have items too.
    environment.add_test("sequence", move |value: &Value| has_items(value));
    environment.add_test("iterable", move |value: &Value| has_items(value));
    environment.add_test("mapping", |value: &Value| value.kind() == ValueKind::Map);
    // And truth values are numbers.
    environment.add_test("number", |value: &Value| {
        matches!(value.kind(), ValueKind::Number | ValueKind::Bool)
    });
    environment.add_test("integer", |value: &Value| {
        value.kind() == ValueKind::Number && value.is_integer()
    });
    environment.add_test("float", |value: &Value| {
        value.kind() == ValueKind::Number && !value.is_integer()
    });
}
