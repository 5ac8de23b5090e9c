//! Which server does what only one may do: two formatters would corrupt the text (rules 4.24, 4.39 and 4.40).

use std::collections::BTreeMap;

use serde_json::Value;

use super::{capable, find};
use crate::merge::capabilities::Child;

/// The features that have one owner for several methods, and those methods: who has the first of them is the owner of all.
const FEATURES: &[(&str, &[&str])] = &[
    (
        "formatting",
        &[
            "textDocument/formatting",
            "textDocument/rangeFormatting",
            "textDocument/rangesFormatting",
            "textDocument/onTypeFormatting",
        ],
    ),
    ("rename", &["textDocument/rename", "textDocument/prepareRename"]),
    (
        "semanticTokens",
        &[
            "textDocument/semanticTokens/full",
            "textDocument/semanticTokens/range",
            "textDocument/semanticTokens/full/delta",
        ],
    ),
    (
        "callHierarchy",
        &[
            "textDocument/prepareCallHierarchy",
            "callHierarchy/incomingCalls",
            "callHierarchy/outgoingCalls",
        ],
    ),
    (
        "typeHierarchy",
        &[
            "textDocument/prepareTypeHierarchy",
            "typeHierarchy/supertypes",
            "typeHierarchy/subtypes",
        ],
    ),
];

/// Who owns what: by default the first server by priority that has the feature.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Owners {
    chosen: BTreeMap<String, String>,
}

impl Owners {
    /// Owners as the user chose them: pairs of a feature and the name of a server. A feature is `formatting`, `rename`,
    /// `semanticTokens`, `callHierarchy`, `typeHierarchy`, or for anything else that one server answers the last part of its
    /// method (`documentSymbol`).
    pub fn new(chosen: impl IntoIterator<Item = (String, String)>) -> Owners {
        Owners { chosen: chosen.into_iter().collect() }
    }

    /// Which of `children`, by priority, is to be asked for `method`, of which one server is asked. `None` if nobody has
    /// the feature, or if its owner has not this method of it.
    pub fn owner(&self, method: &str, params: &Value, children: &[Child<'_>]) -> Option<usize> {
        let has = |child: &Child<'_>, method: &str, params: &Value| {
            capable(method, params, child.capabilities, child.registrations)
        };
        let (feature, methods) = feature(method);
        let chosen = self.chosen.get(feature);
        let by_choice = chosen.and_then(|name| {
            let chosen = |child: &Child<'_>| {
                child.name == name && methods.iter().any(|m| has(child, m, &Value::Null))
            };
            children.iter().position(chosen)
        });
        if methods.len() == 1 && by_choice.is_none() {
            return children.iter().position(|child| has(child, method, params));
        }
        let by_priority = || {
            let first = |m: &&str| children.iter().position(|child| has(child, m, &Value::Null));
            methods.iter().find_map(first)
        };
        let owner = by_choice.or_else(by_priority)?;
        has(&children[owner], method, params).then_some(owner)
    }
}

/// The feature that a method is part of, and its methods.
fn feature(method: &str) -> (&str, &[&str]) {
    let of = FEATURES.iter().find(|(_, methods)| methods.contains(&method));
    match of {
        Some((name, methods)) => (name, methods),
        None => {
            let name = method.rsplit('/').next().unwrap_or(method);
            (name, find(method).map_or(&[], |row| std::slice::from_ref(&row.method)))
        }
    }
}
