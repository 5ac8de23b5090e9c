//! Text of others in a conversation: what looks like a special token there must not become one.
//!
//! Before a template is rendered, the names of special tokens in texts are broken up by a character that no text of the
//! conversation contains; afterwards it is taken out again, and what it was in is encoded as text.

use std::collections::BTreeMap;

use serde_json::Value;

use super::{chat::ChatMessage, specials::Specials};

/// Characters that are none, by Unicode's definition; one that nobody used is taken.
const BREAKS: std::ops::RangeInclusive<char> = '\u{fdd0}'..='\u{fdef}';

/// Marks that templates themselves look for in what the assistant said, to take its reasoning out.
const REASONING: [&str; 4] = ["<think>", "</think>", "[THINK]", "[/THINK]"];

/// A conversation in which no text contains the name of a special token.
pub(super) struct Guarded {
    pub(super) messages: Vec<ChatMessage>,
    pub(super) variables: BTreeMap<String, Value>,
    /// What the names are broken up with.
    pub(super) breaker: char,
}

/// `None`: somebody has used all the characters that could break names up.
pub(super) fn guard(
    messages: &[ChatMessage],
    variables: &BTreeMap<String, Value>,
    specials: &Specials,
) -> Option<Guarded> {
    let is_used = |breaker: char| {
        let in_message = |message: &ChatMessage| {
            message.content.contains(breaker)
                || message.extra.values().any(|value| has(value, breaker))
        };
        messages.iter().any(in_message) || variables.values().any(|value| has(value, breaker))
    };
    let breaker = BREAKS.into_iter().find(|breaker| !is_used(*breaker))?;
    let messages = messages.iter().map(|message| {
        let own = message.role == "assistant";
        let text = |text: &str| broken(text, specials, breaker, own);
        ChatMessage {
            role: broken(&message.role, specials, breaker, false),
            content: text(&message.content),
            extra: message
                .extra
                .iter()
                .map(|(key, value)| {
                    // What templates take reasoning out of is text; arguments of calls are not.
                    let own = own && value.is_string();
                    (key.clone(), walked(value, &|text: &str| broken(text, specials, breaker, own)))
                })
                .collect(),
        }
    });
    let messages = messages.collect();
    let variables = variables.iter().map(|(key, value)| {
        (key.clone(), walked(value, &|text: &str| broken(text, specials, breaker, false)))
    });
    Some(Guarded { messages, variables: variables.collect(), breaker })
}

fn has(value: &Value, breaker: char) -> bool {
    match value {
        Value::String(text) => text.contains(breaker),
        Value::Array(items) => items.iter().any(|item| has(item, breaker)),
        Value::Object(entries) => {
            entries.iter().any(|(key, item)| key.contains(breaker) || has(item, breaker))
        }
        _ => false,
    }
}

fn walked(value: &Value, change: &impl Fn(&str) -> String) -> Value {
    match value {
        Value::String(text) => Value::from(change(text)),
        Value::Array(items) => items.iter().map(|item| walked(item, change)).collect(),
        Value::Object(entries) => entries
            .iter()
            .map(|(key, item)| (change(key), walked(item, change)))
            .collect::<serde_json::Map<_, _>>()
            .into(),
        leaf => leaf.clone(),
    }
}

/// The text with a break after the first character of every name.
fn broken(text: &str, specials: &Specials, breaker: char, keeps_reasoning: bool) -> String {
    let mut whole = String::with_capacity(text.len());
    let mut rest = text;
    while let Some((at, name, _)) = specials.find(rest) {
        let first = name.chars().next().map_or(1, char::len_utf8);
        whole.push_str(&rest[..at + first]);
        // From the second character on, another name may begin.
        let kept = keeps_reasoning && REASONING.contains(&name);
        if !kept {
            whole.push(breaker);
        }
        let next = if kept { at + name.len() } else { at + first };
        whole.push_str(if kept { &rest[at + first..next] } else { "" });
        rest = &rest[next..];
    }
    whole + rest
}
