//! One hover out of several (rule 4.41): what each says in the client's preferred kind of text, with a rule between.

use serde_json::Value;

use super::Part;
use crate::raw::{Raw, Splice, quoted};

/// The kinds of text that a client can want.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Kind {
    Markdown,
    Plain,
    /// The client names none, so it may not know that a text can have a kind: a string, which is markdown.
    Marked,
}

/// `None` if no part has a text.
pub(super) fn merge(parts: &[Part<'_>], client: &Value) -> Option<Vec<u8>> {
    let kind = preferred(client);
    let said: Vec<(&[u8], String)> = parts
        .iter()
        .filter_map(|part| {
            let text = text_of(Raw::new(part.result).get("contents")?, kind);
            (!text.trim().is_empty()).then_some((part.result, text))
        })
        .collect();
    let [(first, _), more @ ..] = said.as_slice() else { return None };
    if more.is_empty() {
        return Some(first.to_vec());
    }
    let texts: Vec<&str> = said.iter().map(|(_, text)| text.trim_end()).collect();
    let text = quoted(&texts.join("\n\n---\n\n"));
    let value = match kind {
        Kind::Marked => text,
        Kind::Markdown => [br#"{"kind":"markdown","value":"#, &text[..], b"}"].concat(),
        Kind::Plain => [br#"{"kind":"plaintext","value":"#, &text[..], b"}"].concat(),
    };
    let hover = Raw::new(first);
    let mut splice = Splice::new(first);
    splice.replace(hover.get("contents")?, value);
    if hover.get("range").is_none()
        && let Some(range) = more.iter().find_map(|(other, _)| Raw::new(other).get("range"))
    {
        splice.insert(hover, "range", range.bytes());
    }
    Some(splice.finish())
}

fn preferred(client: &Value) -> Kind {
    match client.pointer("/textDocument/hover/contentFormat/0").and_then(Value::as_str) {
        Some("markdown") => Kind::Markdown,
        Some(_) => Kind::Plain,
        None => Kind::Marked,
    }
}

/// The text of any of the shapes that contents have.
fn text_of(contents: Raw<'_>, kind: Kind) -> String {
    if contents.is_array() {
        let texts = contents.elements().into_iter().map(|part| text_of(part, kind));
        return texts.filter(|text| !text.is_empty()).collect::<Vec<_>>().join("\n\n");
    }
    if let Some(markdown) = contents.string() {
        return markdown;
    }
    let value = contents.get("value").and_then(Raw::string).unwrap_or_default();
    if value.is_empty() || kind == Kind::Plain {
        return value;
    }
    if let Some(language) = contents.get("language").and_then(Raw::string) {
        return fenced(&language, &value);
    }
    match contents.get("kind").and_then(Raw::string).as_deref() {
        Some("plaintext") => escaped(&value),
        _ => value,
    }
}

/// A block of code; the fence is longer than any in it.
fn fenced(language: &str, code: &str) -> String {
    let mut longest = 0;
    let mut run = 0;
    for character in code.chars() {
        run = if character == '`' { run + 1 } else { 0 };
        longest = longest.max(run);
    }
    let fence = "`".repeat(longest.max(2) + 1);
    format!("{fence}{language}\n{code}\n{fence}")
}

/// Plain text as markdown that looks the same.
fn escaped(text: &str) -> String {
    let mut out = String::with_capacity(text.len() + 16);
    for character in text.chars() {
        match character {
            '\n' => out.push_str("  \n"),
            '\\' | '`' | '*' | '_' | '{' | '}' | '[' | ']' | '(' | ')' | '#' | '+' | '-' | '!'
            | '<' | '>' | '~' | '|' | '&' => {
                out.push('\\');
                out.push(character);
            }
            _ => out.push(character),
        }
    }
    out
}
