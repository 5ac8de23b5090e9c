//! What a constraint allows, in the languages that servers understand.

use serde_json::Value;

/// A set of texts.
#[derive(Debug, Clone, PartialEq)]
pub enum Grammar {
    /// JSON texts that fit a schema.
    Json(Value),
    /// Texts that a regular expression describes from their beginning to their end.
    Regex(String),
    /// Texts that follow from the rule `root` of a grammar in llama.cpp's notation.
    Gbnf(String),
    /// Texts that follow from the rule `start` of a grammar in Lark's notation.
    Lark(String),
}

impl Grammar {
    /// What its language is called.
    pub fn form(&self) -> &'static str {
        match self {
            Grammar::Json(_) => "json_schema",
            Grammar::Regex(_) => "regex",
            Grammar::Gbnf(_) => "gbnf",
            Grammar::Lark(_) => "lark",
        }
    }
}
