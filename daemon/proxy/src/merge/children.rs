//! What we know of each server behind a merged connection.

use std::collections::BTreeMap;

use serde_json::Value;
use text::Encoding;

use super::registrations::Registration;
use super::{Branch, ChildOptions, capabilities, results};
use crate::raw::Raw;

/// Where a server is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Stage {
    /// It has not answered `initialize`.
    Greeting,
    /// It has.
    Ready,
    /// It has refused, for this reason.
    Refused(String),
}

/// What a server wants to hear of changes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Changes {
    No,
    /// The whole text.
    Full,
    /// As the client sends them.
    Incremental,
}

/// One server.
#[derive(Debug)]
pub(super) struct Child {
    pub(super) options: ChildOptions,
    pub(super) stage: Stage,
    /// What it answered `initialize` with.
    pub(super) capabilities: Value,
    pub(super) registrations: Vec<Registration>,
    /// The same as methods with options.
    pub(super) registered: Vec<(String, Value)>,
    /// How often it has been started: what an earlier life has made is of no use to a later one.
    pub(super) epoch: u32,
    /// How it counts positions.
    pub(super) encoding: Encoding,
    /// The commands that it has said to have.
    pub(super) commands: Vec<String>,
    /// The last error that it has shown, so that it is not shown again.
    pub(super) last_shown: Option<String>,
    /// Whether the user was told that it counts positions in its own way.
    pub(super) told_encoding: bool,
}

impl Child {
    pub(super) fn new(options: ChildOptions) -> Child {
        Child {
            options,
            stage: Stage::Greeting,
            capabilities: Value::Null,
            registrations: Vec::new(),
            registered: Vec::new(),
            epoch: 1,
            encoding: Encoding::default(),
            commands: Vec::new(),
            last_shown: None,
            told_encoding: false,
        }
    }

    pub(super) fn name(&self) -> &str {
        &self.options.name
    }

    pub(super) fn is_ready(&self) -> bool {
        self.stage == Stage::Ready
    }

    /// It has answered `initialize`.
    pub(super) fn greeted(&mut self, result: &[u8]) {
        let result = Raw::new(result);
        // One by one, so that a number that no number type holds costs what it stands in and not all.
        let given = result.get("capabilities").map(Raw::members).unwrap_or_default();
        let known = given.into_iter().filter_map(|member| {
            let value: Value = wire::parse(member.value.bytes()).ok()?;
            Some((member.name(), value))
        });
        self.capabilities = Value::Object(known.collect());
        self.encoding = capabilities::child_encoding(&self.capabilities);
        // Older clangd has an extension of its own.
        let other = result.get("offsetEncoding").and_then(Raw::string);
        if let Some(encoding) = other.as_deref().and_then(Encoding::from_lsp) {
            self.encoding = encoding;
        }
        self.stage = Stage::Ready;
        self.note_registered();
    }

    /// Its registrations have changed.
    pub(super) fn note_registered(&mut self) {
        let pair = |one: &Registration| (one.method.clone(), one.options.clone());
        self.registered = self.registrations.iter().map(pair).collect();
        let fixed = &self.capabilities["executeCommandProvider"]["commands"];
        let later = self.options_of("workspace/executeCommand").map(|options| &options["commands"]);
        let names = [fixed].into_iter().chain(later).filter_map(Value::as_array).flatten();
        self.commands = names.filter_map(|name| Some(name.as_str()?.to_owned())).collect();
    }

    /// The options of what it has registered for a method.
    pub(super) fn options_of<'a>(&'a self, method: &'a str) -> impl Iterator<Item = &'a Value> {
        let of = move |(name, options): &'a (String, Value)| (name == method).then_some(options);
        self.registered.iter().filter_map(of)
    }

    /// Whether it serves a request.
    pub(super) fn serves(&self, method: &str, params: &Value) -> bool {
        if method == "textDocument/diagnostic" {
            return self.pulls();
        }
        self.is_ready() && results::capable(method, params, &self.capabilities, &self.registered)
    }

    /// Whether it can be asked for diagnostics.
    pub(super) fn pulls(&self) -> bool {
        let registered = self.options_of("textDocument/diagnostic").next().is_some();
        self.is_ready() && (registered || self.capabilities["diagnosticProvider"].is_object())
    }

    /// Whether it wants to hear that documents are opened and closed.
    pub(super) fn hears_of_documents(&self) -> bool {
        let sync = self.sync();
        let fixed =
            sync["openClose"] == Value::Bool(true) || sync.as_u64().is_some_and(|kind| kind > 0);
        fixed || self.options_of("textDocument/didOpen").next().is_some()
    }

    /// What it wants to hear of changes, if it counts positions as the client does.
    pub(super) fn changes(&self, encoding: Encoding) -> Changes {
        let sync = self.sync();
        let registered = self.options_of("textDocument/didChange").next();
        let registered = registered.and_then(|options| options["syncKind"].as_u64());
        let kind = sync.as_u64().or_else(|| sync["change"].as_u64()).or(registered);
        match kind {
            Some(2) if self.encoding == encoding => Changes::Incremental,
            Some(1 | 2) => Changes::Full,
            _ => Changes::No,
        }
    }

    /// Whether it wants to hear that a document was saved, and with its text.
    pub(super) fn hears_of_saves(&self) -> Option<bool> {
        let sync = self.sync();
        // A server that only names the kind of its changes hears of saves too.
        let fixed = match &sync["save"] {
            Value::Bool(hears) => hears.then_some(false),
            Value::Object(options) => Some(options.get("includeText") == Some(&Value::Bool(true))),
            _ => sync.as_u64().filter(|kind| *kind > 0).map(|_| false),
        };
        let registered = self.options_of("textDocument/didSave").next();
        fixed.or(registered.map(|options| options["includeText"] == Value::Bool(true)))
    }

    /// Whether it wants to hear that a document is about to be saved.
    pub(super) fn hears_before_saves(&self) -> bool {
        let registered = self.options_of("textDocument/willSave").next().is_some();
        self.sync()["willSave"] == Value::Bool(true) || registered
    }

    /// Whether it wants to hear of a change of the workspace's folders.
    pub(super) fn hears_of_folders(&self) -> bool {
        let folders = &self.capabilities["workspace"]["workspaceFolders"]["changeNotifications"];
        let registered = self.options_of("workspace/didChangeWorkspaceFolders").next().is_some();
        registered || matches!(folders, Value::Bool(true) | Value::String(_))
    }

    /// Whether it wants to hear of files that were made, renamed or deleted in the editor, by this method.
    pub(super) fn hears_of_files(&self, method: &str) -> bool {
        let what = method.trim_start_matches("workspace/").trim_end_matches("Files");
        let fixed = &self.capabilities["workspace"]["fileOperations"][what];
        !fixed.is_null() || self.options_of(method).next().is_some()
    }

    fn sync(&self) -> &Value {
        &self.capabilities["textDocumentSync"]
    }
}

/// The settings of a server from Demolish's own configuration, laid over what the editor has answered (rule 4.33).
pub(super) fn overlaid(answer: Value, settings: &Value, section: Option<&str>) -> Value {
    let keys = section.unwrap_or_default().split('.').filter(|key| !key.is_empty());
    let over = keys.fold(settings, |value, key| &value[key]);
    lay(answer, over)
}

fn lay(under: Value, over: &Value) -> Value {
    match (under, over) {
        (under, Value::Null) => under,
        (Value::Object(mut under), Value::Object(over)) => {
            for (key, value) in over {
                let old = under.remove(key).unwrap_or_default();
                under.insert(key.clone(), lay(old, value));
            }
            Value::Object(under)
        }
        (_, over) => over.clone(),
    }
}

/// Servers by what they are called: from the commands that start them, each name once.
pub fn names<'c>(commands: impl IntoIterator<Item = &'c [String]>) -> Vec<String> {
    let mut seen: BTreeMap<String, u32> = BTreeMap::new();
    let name = |command: &[String]| {
        let program = command.first().map_or("server", String::as_str);
        let name = program.rsplit(['/', '\\']).next().unwrap_or(program);
        let name = name.replace(':', "-");
        let count = seen.entry(name.clone()).or_default();
        *count += 1;
        if *count == 1 { name } else { format!("{name}-{count}") }
    };
    commands.into_iter().map(name).collect()
}

/// All servers, by priority.
pub(super) fn branches(children: &[Child]) -> impl Iterator<Item = (Branch, &Child)> {
    children.iter().enumerate().map(|(at, child)| (Branch(at as u32), child))
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn rule_4_33_settings_of_ours_lie_over_those_of_the_editor() {
        let settings = json!({ "ruff": { "lint": { "enable": true } } });
        let check = |answer: Value, section: Option<&str>, expected: Value| {
            assert_eq!(overlaid(answer, &settings, section), expected);
        };
        check(Value::Null, Some("ruff.lint"), json!({ "enable": true }));
        check(
            json!({ "enable": false, "x": 1 }),
            Some("ruff.lint"),
            json!({ "enable": true, "x": 1 }),
        );
        check(json!({ "y": 1 }), Some("other"), json!({ "y": 1 }));
        check(Value::Null, Some("other"), Value::Null);
        check(Value::Null, None, settings.clone());
    }

    #[test]
    fn names_are_short_and_each_is_there_once() {
        let command = |text: &str| text.split(' ').map(str::to_owned).collect::<Vec<_>>();
        let commands = [command("/usr/bin/ty server"), command("ruff server"), command("ruff x")];
        assert_eq!(names(commands.iter().map(Vec::as_slice)), ["ty", "ruff", "ruff-2"]);
    }

    #[test]
    fn rule_4_25_how_a_server_wants_to_hear_of_documents() {
        let check = |capabilities: Value, open: bool, changes: Changes, saves: Option<bool>| {
            let mut child = Child::new(ChildOptions::named("a"));
            child.greeted(&serde_json::to_vec(&json!({ "capabilities": capabilities })).unwrap());
            let heard = (
                child.hears_of_documents(),
                child.changes(Encoding::Utf16),
                child.hears_of_saves(),
            );
            assert_eq!(heard, (open, changes, saves), "{capabilities}");
        };
        check(json!({}), false, Changes::No, None);
        check(json!({ "textDocumentSync": 1 }), true, Changes::Full, Some(false));
        let sync = json!({ "openClose": true, "change": 2, "save": { "includeText": true } });
        check(json!({ "textDocumentSync": sync }), true, Changes::Incremental, Some(true));
        let other = json!({ "textDocumentSync": { "openClose": true, "change": 2 }, "positionEncoding": "utf-8" });
        check(other, true, Changes::Full, None);
    }
}
