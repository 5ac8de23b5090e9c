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
    /// What stands there instead: `{}` is the text itself, `{inner}` a string literal's text without its quotes, `{indent}` the line's indentation.
    pub with: String,
}

/// The part of the document that a repair rewrites.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum On {
    /// The text of the diagnostic's range, as an expression.
    Expression,
    /// The same, if it is a string literal.
    StringLiteral,
    /// The same, if it is a number literal.
    NumberLiteral,
    /// The whole line.
    Line,
}
