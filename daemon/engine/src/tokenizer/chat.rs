//! Chat templates: the Jinja of Hugging Face, through minijinja.
//!
//! Templates are written for Jinja2 and Python, and a prompt must be to the byte what the model was trained with. So what the two
//! differ in is provided here: operators (`operators`), methods and filters (`methods`, `filters`), how values print (`text`),
//! and `tojson` (`json`). A template comes with a model from anywhere: what it may use up is bounded by `budget`.

mod budget;
mod filters;
mod json;
mod methods;
mod operators;
mod text;
mod time;
mod values;

use std::{collections::BTreeMap, time::SystemTime};

use minijinja::{Environment, Error, ErrorKind, UndefinedBehavior, Value};
use serde::Serialize;

use budget::{Budget, FUEL_MAX};

/// The most bytes of a template's source.
pub(crate) const TEMPLATE_LEN_MAX: usize = 1 << 20;

/// One message of a conversation.
#[derive(Debug, Clone, Serialize)]
pub struct ChatMessage {
    /// `system`, `user`, `assistant` or `tool`.
    pub role: String,
    /// The text.
    pub content: String,
    /// Everything else that templates read: `tool_calls`, `reasoning_content`, `tool_call_id`, `name`, …; a `content` here
    /// replaces the text (`null`, or a list of parts).
    #[serde(flatten)]
    pub extra: BTreeMap<String, serde_json::Value>,
}

/// A conversation that could not be rendered.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ChatError {
    /// The model directory has none, and none is known for its kind.
    #[error("the model has no chat template, and none is built in for its architecture")]
    Missing,
    /// Texts of the conversation contain every character that could be used to keep special tokens out of them.
    #[error("the conversation contains all of the noncharacters U+FDD0 to U+FDEF")]
    Breakers,
    /// The template, or what it was given, is wrong.
    #[error("{file}:{line}: the chat template fails: {reason}")]
    Template {
        /// Where the template was found.
        file: String,
        /// In the template's text, from 1; 0 if unknown.
        line: usize,
        /// What is wrong.
        reason: String,
    },
    /// The template itself refuses the conversation.
    #[error("{file}:{line}: the chat template refuses the conversation: {reason}")]
    Refused {
        /// Where the template was found.
        file: String,
        /// In the template's text, from 1.
        line: usize,
        /// What the template says.
        reason: String,
    },
}

/// A template and where it was found.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Template {
    /// The path, with the name of the template if there are several; `built in: NAME`.
    pub(crate) file: String,
    pub(crate) source: String,
}

/// What an error begins with when a template raised it itself.
const RAISED: &str = "raised: ";

/// What a conversation is rendered with, beside itself.
pub(super) struct Surroundings<'a> {
    /// `bos_token` and its like.
    pub(super) names: &'a [(String, String)],
    pub(super) variables: &'a BTreeMap<String, serde_json::Value>,
    pub(super) now: SystemTime,
}

pub(super) fn render(
    template: &Template,
    messages: &[ChatMessage],
    surroundings: &Surroundings<'_>,
) -> Result<String, ChatError> {
    let wrong = |error: Error| explain(&template.file, &error);
    if template.source.len() > TEMPLATE_LEN_MAX {
        let reason = format!(
            "it has {} bytes; at most {TEMPLATE_LEN_MAX} are allowed",
            template.source.len()
        );
        return Err(ChatError::Template { file: template.file.clone(), line: 0, reason });
    }
    let budget = Budget::default();
    let source = operators::spell_out(&template.source).map_err(wrong)?;
    let environment = environment(&budget, surroundings.now);
    let compiled = environment.template_from_named_str("chat template", &source).map_err(wrong)?;

    let mut context: BTreeMap<String, Value> = BTreeMap::new();
    context.extend(
        surroundings.names.iter().map(|(name, token)| (name.clone(), Value::from(token.as_str()))),
    );
    context.insert("messages".to_owned(), messages.iter().map(message).collect());
    context.insert("add_generation_prompt".to_owned(), Value::from(true));
    // Absent in every published template means none, and some ask whether it is.
    for name in ["tools", "documents"] {
        context.insert(name.to_owned(), Value::from(()));
    }
    context.extend(
        surroundings.variables.iter().map(|(name, value)| (name.clone(), values::from_json(value))),
    );
    compiled.render(context).map_err(wrong)
}

/// The names under which reasoning is passed; templates read the first, that of gpt-oss the second.
const REASONING: [&str; 3] = ["reasoning_content", "thinking", "reasoning"];

/// A message as templates see it.
fn message(message: &ChatMessage) -> Value {
    let given =
        REASONING.iter().find_map(|name| message.extra.get(*name).filter(|value| !value.is_null()));
    let mut entries: Vec<(String, Value)> = Vec::new();
    let mut add = |key: &str, value: Value| match entries.iter_mut().find(|(known, _)| known == key)
    {
        Some((_, place)) => *place = value,
        None => entries.push((key.to_owned(), value)),
    };
    // The order is transformers'; a template that prints a whole message shows it.
    if let Some(reasoning) = given {
        add("thinking", values::from_json(reasoning));
    }
    add("role", Value::from(message.role.as_str()));
    add("content", Value::from(message.content.as_str()));
    message.extra.iter().for_each(|(key, value)| add(key, values::from_json(value)));
    if let Some(reasoning) = given {
        add("reasoning_content", values::from_json(reasoning));
    }
    values::dictionary(entries)
}

fn environment(budget: &Budget, now: SystemTime) -> Environment<'static> {
    let mut environment = Environment::new();
    environment.set_trim_blocks(true);
    environment.set_lstrip_blocks(true);
    environment.set_auto_escape_callback(|_| minijinja::AutoEscape::None);
    environment.set_undefined_behavior(UndefinedBehavior::Lenient);
    environment.set_fuel(Some(FUEL_MAX));
    environment.set_recursion_limit(budget::DEPTH_MAX);
    let counted = budget.clone();
    environment.set_formatter(move |output, _, value| {
        let text = text::python(value);
        counted.spend(text.len())?;
        output.write_str(&text).map_err(Error::from)
    });
    environment.add_function("raise_exception", |text: Value| -> Result<Value, Error> {
        Err(Error::new(ErrorKind::InvalidOperation, format!("{RAISED}{}", text::python(&text))))
    });
    environment.add_function("strftime_now", move |format: &str| time::format(now, format));
    operators::add(&mut environment, budget);
    filters::add(&mut environment, budget);
    let counted = budget.clone();
    environment.set_unknown_method_callback(move |_, value, method, arguments| {
        let result = methods::call(value, method, arguments)?;
        counted.spend(result.as_str().map_or(0, str::len))?;
        Ok(result)
    });
    environment
}

fn explain(file: &str, error: &Error) -> ChatError {
    // The innermost error is the cause; the innermost place is where it happened.
    let mut inner: &dyn std::error::Error = error;
    let mut line = error.line();
    let mut reason = error.detail().map_or_else(|| error.kind().to_string(), str::to_owned);
    while let Some(source) = inner.source() {
        inner = source;
        if let Some(error) = inner.downcast_ref::<Error>() {
            line = error.line().or(line);
            reason = error.detail().map_or_else(|| error.kind().to_string(), str::to_owned);
        } else {
            reason = inner.to_string();
        }
    }
    if error.kind() == ErrorKind::OutOfFuel {
        reason = format!("it does not end within {FUEL_MAX} steps");
    }
    let (file, line) = (file.to_owned(), line.unwrap_or(0));
    match reason.strip_prefix(RAISED) {
        Some(said) => ChatError::Refused { file, line, reason: said.to_owned() },
        None => ChatError::Template { file, line, reason },
    }
}
