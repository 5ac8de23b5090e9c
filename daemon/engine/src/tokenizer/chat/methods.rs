//! The methods of Python's `str`, `dict` and `list` that templates call.

use minijinja::{
    Error, ErrorKind, Value,
    value::{Kwargs, ValueKind, from_args},
};

use super::text;

pub(super) fn call(value: &Value, method: &str, arguments: &[Value]) -> Result<Value, Error> {
    match value.kind() {
        ValueKind::String => of_text(value.as_str().unwrap_or_default(), method, arguments),
        ValueKind::Map => of_dictionary(value, method, arguments),
        ValueKind::Seq | ValueKind::Iterable => of_list(value, method, arguments),
        kind => Err(unknown(method, kind)),
    }
}

fn unknown(method: &str, kind: ValueKind) -> Error {
    Error::new(ErrorKind::UnknownMethod, format!("no method {method:?} of a value that is {kind}"))
}

fn wrong(reason: impl Into<String>) -> Error {
    Error::new(ErrorKind::InvalidOperation, reason.into())
}

/// Python's `str.isspace`.
fn is_space(c: char) -> bool {
    c.is_whitespace() || matches!(c, '\u{1c}'..='\u{1f}')
}

/// `str.strip` and its like.
pub(super) fn strip<'t>(text: &'t str, set: Option<&str>, left: bool, right: bool) -> &'t str {
    let is_in = |c: char| set.map_or_else(|| is_space(c), |set| set.contains(c));
    let text = if left { text.trim_start_matches(is_in) } else { text };
    if right { text.trim_end_matches(is_in) } else { text }
}

/// Where Python's slices begin or end: negative positions count from the end.
fn position(at: Option<i64>, len: usize, default: usize) -> usize {
    let len = len as i64;
    at.map_or(default, |at| if at < 0 { (at + len).max(0) } else { at.min(len) } as usize)
}

fn of_text(text: &str, method: &str, arguments: &[Value]) -> Result<Value, Error> {
    let one = || -> Result<String, Error> { Ok(from_args::<(String,)>(arguments)?.0) };
    Ok(match method {
        "strip" | "lstrip" | "rstrip" => {
            let (set,): (Option<String>,) = from_args(arguments)?;
            Value::from(strip(text, set.as_deref(), method != "rstrip", method != "lstrip"))
        }
        "split" | "rsplit" => split(text, method == "rsplit", arguments)?,
        "splitlines" => {
            let (keep, _): (Option<bool>, Kwargs) = from_args(arguments)?;
            lines(text, keep.unwrap_or(false))
        }
        "partition" | "rpartition" => {
            let separator = one()?;
            let found = if method == "partition" {
                text.split_once(&separator)
            } else {
                text.rsplit_once(&separator)
            };
            let parts = match found {
                Some((before, after)) => [before, separator.as_str(), after],
                None if method == "partition" => [text, "", ""],
                None => ["", "", text],
            };
            parts.into_iter().map(Value::from).collect()
        }
        "startswith" | "endswith" => has_affix(text, method, arguments)?,
        "removeprefix" => Value::from(text.strip_prefix(&one()?).unwrap_or(text)),
        "removesuffix" => Value::from(text.strip_suffix(&one()?).unwrap_or(text)),
        "replace" => {
            let (from, to, count): (String, String, Option<i64>) = from_args(arguments)?;
            Value::from(match count.filter(|count| *count >= 0) {
                Some(count) => text.replacen(&from, &to, count as usize),
                None => replace(text, &from, &to)?,
            })
        }
        "find" | "rfind" | "index" | "rindex" => find(text, method, arguments)?,
        "count" => Value::from(match one()?.as_str() {
            "" => text.chars().count() + 1,
            wanted => text.matches(wanted).count(),
        }),
        "join" => {
            let (items,): (Value,) = from_args(arguments)?;
            let parts: Result<Vec<String>, Error> = items
                .try_iter()?
                .map(|item| {
                    item.as_str().map(str::to_owned).ok_or_else(|| wrong("join wants text"))
                })
                .collect();
            Value::from(parts?.join(text))
        }
        "format" => Value::from(fill_in(text, arguments)?),
        "zfill" | "ljust" | "rjust" | "center" => pad(text, method, arguments)?,
        _ => return other_case(text, method),
    })
}

/// Methods about upper and lower case and kinds of characters.
fn other_case(text: &str, method: &str) -> Result<Value, Error> {
    Ok(match method {
        "upper" => Value::from(text.to_uppercase()),
        "lower" | "casefold" => Value::from(text.to_lowercase()),
        "title" => Value::from(title(text)),
        "capitalize" => {
            let mut rest = text.chars();
            let first: String = rest.next().map(|c| c.to_uppercase().collect()).unwrap_or_default();
            Value::from(first + &rest.as_str().to_lowercase())
        }
        "swapcase" => Value::from(text.chars().map(swap_case).collect::<String>()),
        "isspace" => Value::from(!text.is_empty() && text.chars().all(is_space)),
        "isdigit" | "isdecimal" | "isnumeric" => {
            Value::from(!text.is_empty() && text.chars().all(char::is_numeric))
        }
        "isalpha" => Value::from(!text.is_empty() && text.chars().all(char::is_alphabetic)),
        "isalnum" => Value::from(!text.is_empty() && text.chars().all(char::is_alphanumeric)),
        "isupper" => Value::from(
            text.chars().any(char::is_uppercase) && !text.chars().any(char::is_lowercase),
        ),
        "islower" => Value::from(
            text.chars().any(char::is_lowercase) && !text.chars().any(char::is_uppercase),
        ),
        "isascii" => Value::from(text.is_ascii()),
        _ => return Err(unknown(method, ValueKind::String)),
    })
}

fn has_affix(text: &str, method: &str, arguments: &[Value]) -> Result<Value, Error> {
    let (affix,): (Value,) = from_args(arguments)?;
    let has = |affix: &Value| -> Result<bool, Error> {
        let affix = affix.as_str().ok_or_else(|| wrong(format!("{method} wants text")))?;
        Ok(if method == "startswith" { text.starts_with(affix) } else { text.ends_with(affix) })
    };
    Ok(match affix.kind() {
        ValueKind::Seq | ValueKind::Iterable => {
            let results: Result<Vec<bool>, Error> =
                affix.try_iter()?.map(|affix| has(&affix)).collect();
            Value::from(results?.contains(&true))
        }
        _ => Value::from(has(&affix)?),
    })
}

fn find(text: &str, method: &str, arguments: &[Value]) -> Result<Value, Error> {
    let (wanted, start, end): (String, Option<i64>, Option<i64>) = from_args(arguments)?;
    let chars: Vec<char> = text.chars().collect();
    let (start, end) = (position(start, chars.len(), 0), position(end, chars.len(), chars.len()));
    let part: String = chars.get(start..end.max(start)).unwrap_or_default().iter().collect();
    let found = if method.starts_with('r') { part.rfind(&wanted) } else { part.find(&wanted) };
    match found {
        Some(at) => Ok(Value::from(start + part[..at].chars().count())),
        None if method.ends_with("find") => Ok(Value::from(-1)),
        None => Err(wrong("substring not found")),
    }
}

fn split(text: &str, is_right: bool, arguments: &[Value]) -> Result<Value, Error> {
    let (separator, count, options): (Option<String>, Option<i64>, Kwargs) = from_args(arguments)?;
    let separator = match options.get::<Option<String>>("sep")? {
        Some(separator) => Some(separator),
        None => separator,
    };
    let count = options
        .get::<Option<i64>>("maxsplit")?
        .or(count)
        .filter(|count| *count >= 0)
        .map(|count| count as usize);
    options.assert_all_used()?;
    let mut parts: Vec<&str> = match (&separator, count) {
        (Some(separator), _) if separator.is_empty() => return Err(wrong("empty separator")),
        (Some(separator), None) => text.split(separator.as_str()).collect(),
        (Some(separator), Some(count)) if is_right => {
            text.rsplitn(count + 1, separator.as_str()).collect()
        }
        (Some(separator), Some(count)) => text.splitn(count + 1, separator.as_str()).collect(),
        (None, count) => words(text, count.unwrap_or(usize::MAX), is_right),
    };
    if is_right && (count.is_some() || separator.is_none()) {
        parts.reverse();
    }
    Ok(parts.into_iter().map(Value::from).collect())
}

/// Words between white space, at most `count` cuts; from the right they come in reverse.
fn words(text: &str, count: usize, is_right: bool) -> Vec<&str> {
    let mut words = Vec::new();
    let mut rest = strip(text, None, !is_right, is_right);
    while !rest.is_empty() {
        let end = if is_right { rest.rfind(is_space) } else { rest.find(is_space) };
        let Some(at) = end.filter(|_| words.len() < count) else {
            words.push(rest);
            break;
        };
        let (word, left) = if is_right {
            let width = rest[at..].chars().next().map_or(1, char::len_utf8);
            (&rest[at + width..], &rest[..at])
        } else {
            (&rest[..at], &rest[at..])
        };
        words.push(word);
        rest = strip(left, None, !is_right, is_right);
    }
    words
}

fn lines(text: &str, keep: bool) -> Value {
    let mut lines = Vec::new();
    let mut rest = text;
    while !rest.is_empty() {
        let end = rest.find([
            '\n', '\r', '\u{b}', '\u{c}', '\u{1c}', '\u{1d}', '\u{1e}', '\u{85}', '\u{2028}',
            '\u{2029}',
        ]);
        let (line, width) = match end {
            Some(at) if rest[at..].starts_with("\r\n") => (at, 2),
            Some(at) => (at, rest[at..].chars().next().map_or(1, char::len_utf8)),
            None => (rest.len(), 0),
        };
        lines.push(Value::from(&rest[..if keep { line + width } else { line }]));
        rest = &rest[line + width..];
    }
    Value::from(lines)
}

fn title(text: &str) -> String {
    let mut is_inside = false;
    let mut titled = String::with_capacity(text.len());
    for c in text.chars() {
        if is_inside {
            titled.extend(c.to_lowercase())
        } else {
            titled.extend(c.to_uppercase())
        }
        is_inside = c.is_alphabetic();
    }
    titled
}

fn swap_case(c: char) -> char {
    let swapped = |mut chars: Box<dyn Iterator<Item = char>>| chars.next().unwrap_or(c);
    if c.is_uppercase() {
        swapped(Box::new(c.to_lowercase()))
    } else {
        swapped(Box::new(c.to_uppercase()))
    }
}

/// `str.replace`, refusing what would fill the memory.
pub(super) fn replace(text: &str, from: &str, to: &str) -> Result<String, Error> {
    // At most: counting them would take as long as replacing.
    let places = text.len() / from.len().max(1) + 1;
    let most = super::budget::TEXT_MADE_MAX;
    if places.saturating_mul(to.len()) > most {
        return Err(wrong(format!("replace would make more than {most} bytes of text")));
    }
    Ok(text.replace(from, to))
}

fn pad(text: &str, method: &str, arguments: &[Value]) -> Result<Value, Error> {
    let (width, fill): (usize, Option<String>) = from_args(arguments)?;
    let missing = width.min(super::budget::ITEMS_MADE_MAX).saturating_sub(text.chars().count());
    let fill = fill.unwrap_or_else(|| if method == "zfill" { "0" } else { " " }.to_owned());
    let left = match method {
        "ljust" => 0,
        "center" => missing / 2 + (missing & width & 1),
        _ => missing,
    };
    let (sign, digits) = match text.strip_prefix(['-', '+']) {
        Some(digits) if method == "zfill" => text.split_at(text.len() - digits.len()),
        _ => ("", text),
    };
    Ok(Value::from(format!("{sign}{}{digits}{}", fill.repeat(left), fill.repeat(missing - left))))
}

/// `str.format` with plain holes: `{}`, `{0}`, `{name}`.
fn fill_in(text: &str, arguments: &[Value]) -> Result<String, Error> {
    let named = arguments.last().filter(|last| last.is_kwargs());
    let mut filled = String::new();
    let mut next = 0;
    let mut rest = text;
    while let Some(at) = rest.find(['{', '}']) {
        filled.push_str(&rest[..at]);
        let brace = &rest[at..];
        if let Some(after) = brace.strip_prefix("{{").or_else(|| brace.strip_prefix("}}")) {
            filled.push_str(&brace[..1]);
            rest = after;
            continue;
        }
        let (hole, after) = brace
            .get(1..)
            .and_then(|inner| inner.split_once('}'))
            .ok_or_else(|| wrong("a single brace in format"))?;
        let value = match (hole, hole.parse::<usize>()) {
            ("", _) => {
                next += 1;
                arguments.get(next - 1).cloned()
            }
            (_, Ok(index)) => arguments.get(index).cloned(),
            (name, _) => named
                .and_then(|named| named.get_attr(name).ok())
                .filter(|value| !value.is_undefined()),
        };
        filled.push_str(&text::python(
            &value.ok_or_else(|| wrong(format!("format has nothing for {{{hole}}}")))?,
        ));
        rest = after;
    }
    filled.push_str(rest);
    Ok(filled)
}

pub(super) fn of_dictionary(
    value: &Value,
    method: &str,
    arguments: &[Value],
) -> Result<Value, Error> {
    let keys = || -> Result<Vec<Value>, Error> { Ok(value.try_iter()?.collect()) };
    match method {
        "get" => {
            let (key, default): (Value, Option<Value>) = from_args(arguments)?;
            let found = value.get_item(&key)?;
            Ok(if found.is_undefined() {
                default.unwrap_or_else(|| Value::from(()))
            } else {
                found
            })
        }
        "keys" => Ok(Value::from(keys()?)),
        "values" => keys()?
            .iter()
            .map(|key| value.get_item(key))
            .collect::<Result<Vec<_>, _>>()
            .map(Value::from),
        "items" => {
            let pair = |key: Value| Ok(Value::from(vec![key.clone(), value.get_item(&key)?]));
            keys()?.into_iter().map(pair).collect::<Result<Vec<_>, _>>().map(Value::from)
        }
        "copy" => Ok(value.clone()),
        // As in Jinja2's sandbox.
        "update" | "pop" | "popitem" | "clear" | "setdefault" => Err(refuse(method)),
        _ => Err(unknown(method, ValueKind::Map)),
    }
}

fn refuse(method: &str) -> Error {
    wrong(format!("{method} would change a value; templates may not"))
}

fn of_list(value: &Value, method: &str, arguments: &[Value]) -> Result<Value, Error> {
    match method {
        "count" | "index" => {
            let (wanted,): (Value,) = from_args(arguments)?;
            let items: Vec<Value> = value.try_iter()?.collect();
            if method == "count" {
                return Ok(Value::from(items.iter().filter(|item| **item == wanted).count()));
            }
            let at = items.iter().position(|item| *item == wanted);
            at.map(Value::from).ok_or_else(|| wrong("the list has no such item"))
        }
        "copy" => Ok(value.clone()),
        "append" | "extend" | "insert" | "pop" | "remove" | "reverse" | "sort" | "clear" => {
            Err(refuse(method))
        }
        _ => Err(unknown(method, ValueKind::Seq)),
    }
}
