//! Dynamic registrations of several servers (rule 4.12): what the client must have registered is derived from what is so
//! now, and compared with what it has been told. A server that dies takes its share with it; one that comes back brings
//! only what is missing.
//!
//! One method is registered once, for all servers that want it, and not at all if the client was told of it when it was
//! greeted: a client asks once for every registration, and would get every answer twice.

use std::collections::BTreeMap;

use serde_json::{Map, Value, json};

use super::{Branch, commands, results};

/// How many registrations of one server are remembered; further ones have no effect.
pub const REGISTRATIONS_MAX: usize = 1024;

/// What a server has registered.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Registration {
    pub(super) id: String,
    pub(super) method: String,
    pub(super) options: Value,
}

/// What the client is to have: by a key of ours, a method and its options.
pub(super) type Wanted = BTreeMap<String, (String, Value)>;

/// What to tell the client: first to take back, then to take in.
#[derive(Debug, Default, PartialEq)]
pub(super) struct Change {
    pub(super) unregister: Vec<Value>,
    pub(super) register: Vec<Value>,
}

/// What the client has been told, by key: the id of the registration, its method and options.
#[derive(Debug, Default)]
pub(super) struct Told {
    told: BTreeMap<String, (String, String, Value)>,
    last: u32,
}

impl Told {
    /// What must be said so that the client has exactly `wanted`.
    pub(super) fn change(&mut self, wanted: Wanted) -> Change {
        let mut change = Change::default();
        self.told.retain(|key, (id, method, options)| {
            let stays = wanted.get(key).is_some_and(|(_, wanted)| wanted == options);
            if !stays {
                change.unregister.push(json!({ "id": id, "method": method }));
            }
            stays
        });
        for (key, (method, options)) in wanted {
            if self.told.contains_key(&key) {
                continue;
            }
            self.last += 1;
            let id = format!("demolish:{key}:{}", self.last);
            let registration = json!({ "id": id, "method": method, "registerOptions": options });
            change.register.push(registration);
            self.told.insert(key, (id, method, options));
        }
        change
    }
}

/// What all servers together want to have registered, apart from the files that they watch. `advertised` is what the client
/// was told when it was greeted, `now` what it would be told today.
pub(super) fn wanted<'a>(
    all: impl Iterator<Item = (Branch, &'a str, &'a [Registration])>,
    client: &Value,
    advertised: &Value,
    now: &Value,
) -> Wanted {
    let mut wanted = Wanted::new();
    for (branch, name, registrations) in all {
        for Registration { method, options, .. } in registrations {
            let notebook = method.starts_with("notebookDocument/") && branch != Branch(0);
            let watching = method == "workspace/didChangeWatchedFiles";
            if watching || notebook || !can_register(client, method) || covered(advertised, method)
            {
                continue;
            }
            let options = match &**method {
                "workspace/executeCommand" => named(options, name),
                _ => options.clone(),
            };
            unite(&mut wanted, method, options);
        }
    }
    for (provider, method) in PROVIDERS {
        let fresh = !is_set(&advertised[provider]) && is_set(&now[provider]);
        if fresh && can_register(client, method) {
            let mut options = now[provider].as_object().cloned().unwrap_or_default();
            options.entry("documentSelector").or_insert(Value::Null);
            unite(&mut wanted, method, Value::Object(options));
        }
    }
    new_commands(&mut wanted, client, advertised, now);
    wanted
}

/// Whether the client takes registrations of this method.
pub(super) fn can_register(client: &Value, method: &str) -> bool {
    let Some((space, name)) = method.split_once('/') else { return false };
    let section = match (space, name) {
        ("textDocument", "didOpen" | "didChange" | "didClose" | "didSave" | "willSave")
        | ("textDocument", "willSaveWaitUntil") => "synchronization",
        ("textDocument", "prepareCallHierarchy") => "callHierarchy",
        ("textDocument", "prepareTypeHierarchy") => "typeHierarchy",
        ("textDocument", "documentColor") => "colorProvider",
        ("workspace", "didChangeWorkspaceFolders") => {
            return client["workspace"]["workspaceFolders"] == Value::Bool(true);
        }
        ("workspace", "didCreateFiles" | "didRenameFiles" | "didDeleteFiles")
        | ("workspace", "willCreateFiles" | "willRenameFiles" | "willDeleteFiles") => {
            "fileOperations"
        }
        ("notebookDocument", _) => "synchronization",
        _ => name,
    };
    client[space][section]["dynamicRegistration"] == Value::Bool(true)
}

/// What a server says when it is greeted, and the method by which the same can be registered later.
const PROVIDERS: [(&str, &str); 24] = [
    ("completionProvider", "textDocument/completion"),
    ("hoverProvider", "textDocument/hover"),
    ("signatureHelpProvider", "textDocument/signatureHelp"),
    ("declarationProvider", "textDocument/declaration"),
    ("definitionProvider", "textDocument/definition"),
    ("typeDefinitionProvider", "textDocument/typeDefinition"),
    ("implementationProvider", "textDocument/implementation"),
    ("referencesProvider", "textDocument/references"),
    ("documentHighlightProvider", "textDocument/documentHighlight"),
    ("documentSymbolProvider", "textDocument/documentSymbol"),
    ("codeActionProvider", "textDocument/codeAction"),
    ("codeLensProvider", "textDocument/codeLens"),
    ("documentLinkProvider", "textDocument/documentLink"),
    ("colorProvider", "textDocument/documentColor"),
    ("documentFormattingProvider", "textDocument/formatting"),
    ("documentRangeFormattingProvider", "textDocument/rangeFormatting"),
    ("documentOnTypeFormattingProvider", "textDocument/onTypeFormatting"),
    ("renameProvider", "textDocument/rename"),
    ("foldingRangeProvider", "textDocument/foldingRange"),
    ("selectionRangeProvider", "textDocument/selectionRange"),
    ("inlayHintProvider", "textDocument/inlayHint"),
    ("semanticTokensProvider", "textDocument/semanticTokens"),
    ("diagnosticProvider", "textDocument/diagnostic"),
    ("workspaceSymbolProvider", "workspace/symbol"),
];

/// Whether the client asks for this anyway, because of what it was told when it was greeted.
fn covered(advertised: &Value, method: &str) -> bool {
    let sync = &advertised["textDocumentSync"];
    match method {
        "textDocument/didOpen" | "textDocument/didChange" | "textDocument/didClose" => is_set(sync),
        "textDocument/didSave" => is_set(&sync["save"]),
        "textDocument/willSave" => is_set(&sync["willSave"]),
        "workspace/executeCommand" => false,
        _ => match PROVIDERS.iter().find(|(_, of)| *of == method) {
            Some((provider, _)) => is_set(&advertised[provider]),
            None => {
                results::how(method).is_some()
                    && results::capable(method, &Value::Null, advertised, &[])
            }
        },
    }
}

fn is_set(value: &Value) -> bool {
    !matches!(value, Value::Null | Value::Bool(false))
}

/// The commands of a server under the names that the client knows (rule 4.36).
fn named(options: &Value, server: &str) -> Value {
    let mut options = options.clone();
    for command in options["commands"].as_array_mut().into_iter().flatten() {
        if let Some(own) = command.as_str() {
            *command = commands::name(server, own).into();
        }
    }
    options
}

/// Commands that a server has brought that came late.
fn new_commands(wanted: &mut Wanted, client: &Value, advertised: &Value, now: &Value) {
    let commands = |value: &Value| {
        value["executeCommandProvider"]["commands"].as_array().cloned().unwrap_or_default()
    };
    let known = commands(advertised);
    let fresh: Vec<Value> = commands(now).into_iter().filter(|one| !known.contains(one)).collect();
    if !fresh.is_empty() && can_register(client, "workspace/executeCommand") {
        unite(wanted, "workspace/executeCommand", json!({ "commands": fresh }));
    }
}

fn unite(wanted: &mut Wanted, method: &str, options: Value) {
    match wanted.get_mut(method) {
        Some((_, united)) => *united = either(std::mem::take(united), options),
        None => {
            wanted.insert(method.to_owned(), (method.to_owned(), options));
        }
    }
}

/// The options that allow whatever one of two allows.
fn either(one: Value, other: Value) -> Value {
    match (one, other) {
        (Value::Object(mut one), Value::Object(other)) => {
            // No selector, or a selector that is null: every document.
            let everywhere = |options: &Map<String, Value>| {
                options.get("documentSelector").is_none_or(Value::is_null)
            };
            let all = everywhere(&one) || everywhere(&other);
            for (name, value) in other {
                let old = one.remove(&name).unwrap_or_default();
                let united = if old.is_null() { value } else { either(old, value) };
                one.insert(name, united);
            }
            if all && one.contains_key("documentSelector") {
                one.insert("documentSelector".to_owned(), Value::Null);
            }
            Value::Object(one)
        }
        (Value::Array(mut one), Value::Array(other)) => {
            for value in other {
                if !one.contains(&value) {
                    one.push(value);
                }
            }
            Value::Array(one)
        }
        (Value::Bool(one), Value::Bool(other)) => Value::Bool(one || other),
        (Value::Null, other) | (Value::Bool(false), other) => other,
        (one, _) => one,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn registration(method: &str, options: Value) -> Registration {
        Registration { id: "r1".to_owned(), method: method.to_owned(), options }
    }

    fn client() -> Value {
        let dynamic = json!({ "dynamicRegistration": true });
        let document =
            json!({ "completion": dynamic, "hover": dynamic, "synchronization": dynamic });
        json!({ "textDocument": document, "workspace": { "executeCommand": dynamic } })
    }

    fn check(a: &[Registration], b: &[Registration], advertised: Value, now: Value) -> Vec<String> {
        let all = [(Branch(0), "a", a), (Branch(1), "b", b)];
        let wanted = wanted(all.into_iter(), &client(), &advertised, &now);
        wanted.into_values().map(|(method, options)| format!("{method} {options}")).collect()
    }

    #[test]
    fn rule_4_12_one_method_is_registered_once_for_all() {
        let a = registration(
            "textDocument/hover",
            json!({ "documentSelector": [{ "language": "a" }] }),
        );
        let b = registration(
            "textDocument/hover",
            json!({ "documentSelector": [{ "language": "b" }] }),
        );
        let both = r#"textDocument/hover {"documentSelector":[{"language":"a"},{"language":"b"}]}"#;
        assert_eq!(check(&[a], &[b], json!({}), json!({})), [both]);
    }

    #[test]
    fn rule_4_12_what_the_client_cannot_register_or_knows_already_is_absorbed() {
        let advertised = json!({ "hoverProvider": true });
        let known = registration("textDocument/hover", json!({}));
        let unable = registration("textDocument/foldingRange", json!({}));
        assert!(check(&[known, unable], &[], advertised.clone(), advertised).is_empty());
    }

    #[test]
    fn rule_4_10_what_a_late_server_brings_is_registered() {
        let advertised = json!({ "executeCommandProvider": { "commands": ["demolish:a:x"] } });
        let now = json!({
            "executeCommandProvider": { "commands": ["demolish:a:x", "demolish:b:x"] },
            "completionProvider": { "triggerCharacters": ["."] },
            "hoverProvider": true,
        });
        let expected = [
            r#"textDocument/completion {"triggerCharacters":["."],"documentSelector":null}"#,
            r#"textDocument/hover {"documentSelector":null}"#,
            r#"workspace/executeCommand {"commands":["demolish:b:x"]}"#,
        ];
        assert_eq!(check(&[], &[], advertised, now), expected);
    }

    #[test]
    fn rule_4_36_registered_commands_carry_their_server() {
        let one =
            |name: &str| registration("workspace/executeCommand", json!({ "commands": [name] }));
        let expected =
            [r#"workspace/executeCommand {"commands":["demolish:a:fix","demolish:b:fix"]}"#];
        assert_eq!(check(&[one("fix")], &[one("fix")], json!({}), json!({})), expected);
    }

    #[test]
    fn rule_4_12_only_differences_are_told() {
        let mut told = Told::default();
        let wanted = |options: Value| Wanted::from([("m".to_owned(), ("m".to_owned(), options))]);
        let first = told.change(wanted(json!(1)));
        assert_eq!(
            first.register,
            [json!({ "id": "demolish:m:1", "method": "m", "registerOptions": 1 })]
        );
        assert!(first.unregister.is_empty());
        assert_eq!(told.change(wanted(json!(1))), Change::default());
        let second = told.change(wanted(json!(2)));
        assert_eq!(second.unregister, [json!({ "id": "demolish:m:1", "method": "m" })]);
        assert_eq!(second.register[0]["id"], "demolish:m:2");
        assert_eq!(told.change(Wanted::new()).unregister.len(), 1);
    }
}
