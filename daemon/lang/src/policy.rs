//! How far a server's diagnostics can be trusted about text that is still being written.
//!
//! The classes come from replays of real programs, line by line, through the real server: a code whose diagnostics nearly always
//! survive until the program is whole is definite. The measurements stand beside the classes in `grammars/<lang>/policy/<server>.toml`.

use std::collections::BTreeMap;
use std::sync::OnceLock;

use serde::{Deserialize, Serialize};

/// What a diagnostic means for text that goes on.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Class {
    /// As soon as its statement is settled, more text will not make it go away.
    Definite,
    /// It may go away until this much has been written.
    Deferred(Until),
    /// It says nothing about right or wrong (unused names, style).
    Ignore,
}

/// The end of what has to be written before a deferred diagnostic counts.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Until {
    /// The statement that holds it.
    Statement,
    /// The block that holds it.
    Block,
    /// The function that holds it.
    Function,
    /// The outermost function, class or module that holds it; outside of all, its statement.
    Item,
    /// The whole text.
    File,
}

impl Until {
    /// As the data writes it.
    pub fn name(self) -> &'static str {
        match self {
            Until::Statement => "statement",
            Until::Block => "block",
            Until::Function => "function",
            Until::Item => "item",
            Until::File => "file",
        }
    }
}

/// Which token of a diagnostic's range is to blame first.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Blame {
    /// The first one: the wrong value, the unknown name.
    #[default]
    Start,
    /// The one after the last member access (`.`): the unknown attribute.
    Member,
}

/// What can be seen of the place of a diagnostic, beside its code.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Sign {
    /// It points at a name that is nearly one of the text: misspelt.
    Near,
    /// It points at a member of something else than the type that is being written (`self.x`, `this.x`): no later line will add it.
    Member,
    /// It is within a function and points at a name that looks like a variable's: no later line will declare it.
    Local,
    /// It is outside of functions, where what is used must have been declared.
    Outside,
}

impl Sign {
    /// As the data writes it.
    pub fn name(self) -> &'static str {
        match self {
            Sign::Near => "near",
            Sign::Member => "member",
            Sign::Local => "local",
            Sign::Outside => "outside",
        }
    }
}

/// What was measured about one code, and the class that follows from it.
#[derive(Debug, Clone, Copy, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Rule {
    /// What it means where nothing more is to be seen.
    pub class: Class,
    /// What it means where its place has a [`Sign`]; as `class` where that was not measured.
    #[serde(default)]
    pub near: Option<Class>,
    /// The same of [`Sign::Member`].
    #[serde(default)]
    pub member: Option<Class>,
    /// The same of [`Sign::Local`].
    #[serde(default)]
    pub local: Option<Class>,
    /// The same of [`Sign::Outside`].
    #[serde(default)]
    pub outside: Option<Class>,
    /// Which token is to blame first.
    #[serde(default)]
    pub blame: Blame,
    /// The share of its settled diagnostics that were still there when the program was whole.
    #[serde(default)]
    pub persistence: Option<f32>,
    /// How many settled diagnostics that share was measured on.
    #[serde(default)]
    pub sample: Option<u32>,
}

/// The rules of one server.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Policy {
    /// Errors whose code has no rule.
    #[serde(default = "deferred_to_the_end")]
    pub error: Class,
    /// Warnings whose code has no rule. Information and hints are always ignored.
    #[serde(default = "ignore")]
    pub warning: Class,
    /// The rules by code.
    #[serde(default)]
    pub code: BTreeMap<String, Rule>,
}

impl Policy {
    /// The cautious policy of a server that was never measured: errors count when all is written, the rest never.
    pub fn unmeasured() -> &'static Policy {
        static UNMEASURED: OnceLock<Policy> = OnceLock::new();
        UNMEASURED.get_or_init(Policy::default)
    }

    /// What this diagnostic means, at a place with this sign.
    pub fn class(&self, diagnostic: &text::Diagnostic, sign: Option<Sign>) -> Class {
        let of = |rule: &Rule| match sign {
            Some(Sign::Near) => rule.near,
            Some(Sign::Member) => rule.member,
            Some(Sign::Local) => rule.local,
            Some(Sign::Outside) => rule.outside,
            None => None,
        };
        let of = |rule: &Rule| of(rule).unwrap_or(rule.class);
        match diagnostic.severity {
            text::Severity::Error => self.rule(diagnostic).map_or(self.error, of),
            text::Severity::Warning => self.rule(diagnostic).map_or(self.warning, of),
            text::Severity::Information | text::Severity::Hint => Class::Ignore,
        }
    }

    /// Which token of its range is to blame first.
    pub fn blame(&self, diagnostic: &text::Diagnostic) -> Blame {
        self.rule(diagnostic).map_or(Blame::Start, |rule| rule.blame)
    }

    /// Whether a deferred diagnostic, once its statement is settled, is still there at the end more often than not.
    pub fn stays(&self, diagnostic: &text::Diagnostic) -> bool {
        self.rule(diagnostic).and_then(|rule| rule.persistence).is_some_and(|share| share >= 0.5)
    }

    fn rule(&self, diagnostic: &text::Diagnostic) -> Option<&Rule> {
        self.code.get(diagnostic.code.as_deref()?)
    }
}

impl Default for Policy {
    fn default() -> Self {
        Policy { error: deferred_to_the_end(), warning: ignore(), code: BTreeMap::new() }
    }
}

fn deferred_to_the_end() -> Class {
    Class::Deferred(Until::File)
}

fn ignore() -> Class {
    Class::Ignore
}
