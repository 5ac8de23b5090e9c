//! Small rewrites that often repair a diagnostic, as data: `grammars/<lang>/repairs.toml`.

use serde::Deserialize;

/// One way to rewrite the text that a diagnostic points at. A checker decides whether it helps.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Repair {
    /// A name for logs.
    pub name: String,
    /// The codes that it may help with; empty means all.
    #[serde(default)]
    pub codes: Vec<String>,
    /// Only messages that hold one of these; empty means all.
    #[serde(default)]
    pub messages: Vec<String>,
    /// What is rewritten.
    pub on: On,
    /// What stands there instead: `{}` is the expression, `{inner}` a string literal's text without its quotes, `{receiver}` what stands
    /// before its last dot, `{indent}` the line's indentation, `{unit}` one more level of it, `{line}` the line without it.
    pub with: String,
}

/// The part of the document that a repair rewrites.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum On {
    /// An expression that the diagnostic is about: the text of its range, or the value that is assigned or returned there, or an operand.
    Expression,
    /// The same, if it is a string literal.
    StringLiteral,
    /// The same, if it is a number literal.
    NumberLiteral,
    /// What stands before the dot of the member that the diagnostic points at.
    Receiver,
    /// The whole line.
    Line,
}
