//! What a server can do, as far as it was seen to do it.

use serde::Serialize;

/// What a server can do, as far as it was seen to do it.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Capabilities {
    /// Where it is.
    pub url: String,
    /// What it is: `llama.cpp`, `vLLM`, `SGLang`, `LM Studio`, `mlx_lm.server`, or `unknown`.
    pub server: String,
    /// Its version, where it says one.
    pub version: Option<String>,
    /// Whose tokens the engine's callers see.
    pub words: Words,
    /// How prompts are sent.
    pub prompts: Prompts,
    /// How many of the likeliest tokens it lists at each position; 0: not even the probability of the one that it drew.
    pub logprobs: usize,
    /// Tokens come as they are drawn.
    pub streaming: bool,
    /// The blank that an answer begins with is lost where it streams, so answers are had whole, some tokens at a time.
    pub loses_blank: bool,
    /// The same seed draws the same text, and another one another; `None`: that was not tried.
    pub seed: Option<bool>,
    /// It ends before a text that it is to stop at; `None`: that was not tried.
    pub stop: Option<bool>,
    /// It leaves out tokens that it is told to leave out.
    pub logit_bias: bool,
    /// How many tokens of a prompt it did not compute again when it was sent a second time; `None`: it does not say.
    pub prefix_reused: Option<usize>,
    /// How many requests it computes at once, where it says so.
    pub parallel: Option<usize>,
    /// It tells the probability of a given continuation; `None`: that is tried when somebody wants it.
    pub scores: Option<bool>,
    /// The languages of grammars that were tried beforehand.
    pub structured: Vec<Structured>,
    /// What differs from an engine of this process, a sentence each.
    pub downgrades: Vec<String>,
}

impl Capabilities {
    /// What it is, and which version where it says one.
    pub fn name(&self) -> String {
        let version = self.version.as_deref().map(|version| format!(" {version}"));
        format!("{}{}", self.server, version.unwrap_or_default())
    }
}

/// A language of grammars that a server has been asked to keep to.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Structured {
    /// As [`crate::Grammar::form`] calls it.
    pub form: &'static str,
    /// The field of the request.
    pub field: &'static str,
    /// It kept to grammars that it would not have kept to by itself.
    pub works: bool,
    /// It took the field and answered something else: believing it would have been wrong.
    pub lied: bool,
    /// What it said when it refused.
    pub refusal: Option<String>,
}

/// Whose tokens the engine's callers see.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Words {
    /// Those of a tokenizer.json that was named.
    File,
    /// The server's, as it tells them.
    Server,
    /// Bytes: nobody said what the server's are.
    Bytes,
}

/// How prompts are sent.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Prompts {
    /// As tokens: the server reads exactly what the engine was given.
    Tokens,
    /// As text, which the server cuts into tokens again.
    Text,
}
