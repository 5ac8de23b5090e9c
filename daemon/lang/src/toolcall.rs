//! Calls of tools in what a model writes: every family has a format of its own, and each is a file in `grammars/toolcall/`.
//!
//! A [`Parser`] reads the output as it arrives, in pieces cut anywhere, and tells text, reasoning and calls apart. Arguments are
//! kept to the byte: an edit's indentation and its last line break are part of it. What cannot be read is reported with its
//! place, never dropped. [`Format::render`] writes calls as the model would.
//!
//! Where the vocabulary has a token for a mark (`<tool_call>`), only that token is the mark: text that spells the same is text.

mod buffer;
mod channels;
mod draft;
mod format;
mod json;
mod marked;
mod parser;
mod python;
mod render;
mod schema;
#[cfg(test)]
mod tests;

use std::ops::Range;

use serde_json::Value;

pub use format::{Format, all, by_id, detect};
pub use parser::Parser;
pub use render::RenderError;

/// The most bytes that one call may take.
pub const CALL_LEN_MAX: usize = 8 << 20;

/// The most bytes in the name of a tool, of an argument, or in a message's head.
pub const NAME_LEN_MAX: usize = 512;

/// A tool as the model was told of it.
#[derive(Debug, Clone, PartialEq)]
pub struct Tool {
    /// What calls say.
    pub name: String,
    /// The JSON schema of the object of arguments.
    pub parameters: Value,
}

impl Tool {
    /// From an entry of a request's `tools`: OpenAI's form, with or without its `function`, or Anthropic's.
    pub fn from_json(entry: &Value) -> Option<Tool> {
        let function = entry.get("function").unwrap_or(entry);
        let parameters = function.get("parameters").or_else(|| function.get("input_schema"));
        Some(Tool {
            name: function.get("name")?.as_str()?.to_owned(),
            parameters: parameters.cloned().unwrap_or(Value::Null),
        })
    }
}

/// One call of a tool.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct ToolCall {
    /// The id that the model gave it, where its format has ids.
    pub id: Option<String>,
    /// The tool.
    pub name: String,
    /// The arguments: the text of a JSON object, in the order and, where the format is JSON, in the spelling of the model.
    pub arguments: String,
    /// The model was still reasoning when it called.
    pub in_reasoning: bool,
}

/// What was read.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Event {
    /// Plain text of the answer.
    Text(String),
    /// Text of the reasoning before it.
    Reasoning(String),
    /// A call of this tool has begun; its arguments are still being written.
    Begun {
        /// The tool.
        name: String,
    },
    /// A whole call.
    Call(ToolCall),
    /// Something that began like a call and is none.
    Broken(Broken),
}

/// A call that cannot be carried out.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Broken {
    /// Where it stands, in bytes of the whole output including marks.
    pub at: Range<usize>,
    /// The tool, if its name was read.
    pub name: Option<String>,
    /// Everything that was written of it.
    pub raw: String,
    /// What is wrong.
    pub fault: Fault,
}

/// What is wrong with a call.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Fault {
    /// The output was cut at its greatest length, in the middle of the call.
    #[error("the answer was cut off in the middle of a call")]
    Truncated,
    /// The model ended its answer in the middle of the call.
    #[error("the answer ended in the middle of a call")]
    Unclosed,
    /// The format is violated.
    #[error("a malformed call, at byte {place}: {reason}")]
    Malformed {
        /// In bytes of the whole output.
        place: usize,
        /// What was found, and what should be there.
        reason: String,
    },
}

/// How the output ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum End {
    /// By the model's own decision.
    Stopped,
    /// At its greatest length, or because somebody cancelled.
    Cut,
}
