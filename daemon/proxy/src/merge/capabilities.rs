//! What several servers can do, as one server (rule 4.11), and what each of them is told that the client can do.
//!
//! Nothing is advertised that no server supports, and nothing that we could not route.

use serde_json::{Map, Value, json};
use text::Encoding;

use super::commands;
use super::results::Owners;

mod options;
use options::{any, joined, union_of};

/// A server that has been greeted.
#[derive(Clone, Copy, Debug)]
pub struct Child<'a> {
    /// Its name: without a colon, and no other server has it.
    pub name: &'a str,
    /// The `capabilities` that it answered `initialize` with.
    pub capabilities: &'a Value,
    /// What it has registered since: methods with their options.
    pub registrations: &'a [(String, Value)],
}

/// The capabilities that the client is told, of servers by priority: the first one is the primary.
pub fn merge_capabilities(children: &[Child<'_>], client: &Value, owners: &Owners) -> Value {
    let mut merged = Map::new();
    for (name, value) in
        children.first().and_then(|c| c.capabilities.as_object()).into_iter().flatten()
    {
        if !is_ours(name) {
            merged.insert(name.clone(), value.clone());
        }
    }
    let mut set = |name: &str, value: Option<Value>| {
        if let Some(value) = value {
            merged.insert(name.to_owned(), value);
        }
    };
    set("positionEncoding", encoding_told(client));
    set("textDocumentSync", sync(children));
    for name in JOINED {
        set(name, joined(&values(children, name)));
    }
    for (name, method) in OWNED {
        set(name, owned(children, owners, name, method));
    }
    set("semanticTokensProvider", semantic_tokens(children, client, owners));
    set("diagnosticProvider", diagnostics(children, client));
    set("executeCommandProvider", execute_command(children));
    set("workspace", workspace(children));
    Value::Object(merged)
}

/// The capabilities of the client as every server is told them: it may only count positions as the client's connection
/// does (rule 4.26).
pub fn child_client_capabilities(client: &Value) -> Value {
    let mut told = client.clone();
    let chosen = chosen_encoding(client).as_lsp();
    let Some(object) = told.as_object_mut() else { return told };
    if let Some(general) = object.get_mut("general").and_then(Value::as_object_mut)
        && general.contains_key("positionEncodings")
    {
        general.insert("positionEncodings".to_owned(), json!([chosen]));
    }
    // Older clangd has an extension of its own.
    if object.contains_key("offsetEncoding") {
        object.insert("offsetEncoding".to_owned(), json!([chosen]));
    }
    told
}

/// How positions are counted on the client's connection: in UTF-16 if the client can, because every server can, otherwise
/// as the client likes best.
pub fn chosen_encoding(client: &Value) -> Encoding {
    let offered = client.pointer("/general/positionEncodings").and_then(Value::as_array);
    let offered = offered.map(Vec::as_slice).unwrap_or_default();
    let mut known = offered.iter().filter_map(|name| Encoding::from_lsp(name.as_str()?));
    let first = known.clone().next().unwrap_or_default();
    known.find(|encoding| *encoding == Encoding::Utf16).unwrap_or(first)
}

/// How a server counts positions that answered with these capabilities.
pub fn child_encoding(capabilities: &Value) -> Encoding {
    capabilities["positionEncoding"].as_str().and_then(Encoding::from_lsp).unwrap_or_default()
}

/// What to register with the client for servers that can be asked for diagnostics (rule 4.21): which server, and its
/// options, in which no `identifier` is that of another. Empty if at most one can, or if the client takes no such
/// registration: then the merged capabilities have what there is to say.
pub fn diagnostic_registrations(children: &[Child<'_>], client: &Value) -> Vec<(usize, Value)> {
    let pulled: Vec<(usize, &Value)> = children
        .iter()
        .enumerate()
        .filter_map(|(at, child)| Some((at, child.capabilities.get("diagnosticProvider")?)))
        .filter(|(_, options)| options.is_object())
        .collect();
    let dynamic = client.pointer("/textDocument/diagnostic/dynamicRegistration");
    if pulled.len() < 2 || dynamic != Some(&Value::Bool(true)) {
        return Vec::new();
    }
    let registration = |(at, options): (usize, &Value)| {
        let mut options = options.clone();
        let name = match options["identifier"].as_str() {
            Some(own) => format!("{}:{own}", children[at].name),
            None => children[at].name.to_owned(),
        };
        options["identifier"] = name.into();
        if options.get("documentSelector").is_none() {
            options["documentSelector"] = Value::Null;
        }
        (at, options)
    };
    pulled.into_iter().map(registration).collect()
}

/// What all servers that can are asked for.
const JOINED: &[&str] = &[
    "completionProvider",
    "hoverProvider",
    "signatureHelpProvider",
    "declarationProvider",
    "definitionProvider",
    "typeDefinitionProvider",
    "implementationProvider",
    "referencesProvider",
    "documentHighlightProvider",
    "workspaceSymbolProvider",
    "codeActionProvider",
    "codeLensProvider",
    "inlayHintProvider",
    "inlineValueProvider",
    "documentLinkProvider",
    "colorProvider",
    "inlineCompletionProvider",
];

/// What one server is asked for, with the method that tells who.
const OWNED: &[(&str, &str)] = &[
    ("documentSymbolProvider", "textDocument/documentSymbol"),
    ("foldingRangeProvider", "textDocument/foldingRange"),
    ("selectionRangeProvider", "textDocument/selectionRange"),
    ("linkedEditingRangeProvider", "textDocument/linkedEditingRange"),
    ("callHierarchyProvider", "textDocument/prepareCallHierarchy"),
    ("typeHierarchyProvider", "textDocument/prepareTypeHierarchy"),
    ("monikerProvider", "textDocument/moniker"),
    ("documentFormattingProvider", "textDocument/formatting"),
    ("documentRangeFormattingProvider", "textDocument/rangeFormatting"),
    ("documentOnTypeFormattingProvider", "textDocument/onTypeFormatting"),
    ("renameProvider", "textDocument/rename"),
];

/// Whether the merged value of this capability is made here; what we do not know is the primary's alone.
fn is_ours(name: &str) -> bool {
    let ours = [
        "positionEncoding",
        "textDocumentSync",
        "semanticTokensProvider",
        "diagnosticProvider",
        "executeCommandProvider",
        "workspace",
    ];
    ours.contains(&name) || JOINED.contains(&name) || OWNED.iter().any(|(owned, _)| *owned == name)
}

/// What the servers that have the capability say about it.
fn values<'a>(children: &[Child<'a>], name: &str) -> Vec<&'a Value> {
    let given = children.iter().filter_map(|child| child.capabilities.get(name));
    given.filter(|value| !matches!(value, Value::Null | Value::Bool(false))).collect()
}

fn encoding_told(client: &Value) -> Option<Value> {
    client.pointer("/general/positionEncodings")?;
    Some(chosen_encoding(client).as_lsp().into())
}

fn owned(children: &[Child<'_>], owners: &Owners, name: &str, method: &str) -> Option<Value> {
    // The owner is asked for, so that all methods of a feature come from one server; its options may want parameters.
    let owner = owners.owner(method, &Value::Null, children)?;
    let value = children[owner].capabilities.get(name)?;
    (!matches!(value, Value::Null | Value::Bool(false))).then(|| value.clone())
}

/// A server that counts columns differently cannot send changes of tokens, which say nothing of the lines that they are in.
fn semantic_tokens(children: &[Child<'_>], client: &Value, owners: &Owners) -> Option<Value> {
    let methods = ["textDocument/semanticTokens/full", "textDocument/semanticTokens/range"];
    let owner = methods.iter().find_map(|m| owners.owner(m, &Value::Null, children))?;
    let capabilities = children[owner].capabilities;
    let mut value = capabilities.get("semanticTokensProvider")?.clone();
    let differs = child_encoding(capabilities) != chosen_encoding(client);
    if differs && let Some(full) = value.get_mut("full").filter(|full| full.is_object()) {
        full["delta"] = false.into();
    }
    Some(value)
}

fn sync(children: &[Child<'_>]) -> Option<Value> {
    const INCREMENTAL: u64 = 2;
    let given = values(children, "textDocumentSync");
    if given.is_empty() {
        return None;
    }
    // A number alone means that kind of change, with opening and closing.
    let kind = |value: &Value| value.as_u64().or_else(|| value["change"].as_u64()).unwrap_or(0);
    let open_close =
        |value: &Value| value.as_u64().is_some_and(|kind| kind > 0) || any(value, "openClose");
    let mut merged = json!({
        "openClose": given.iter().any(|value| open_close(value)),
        "change": given.iter().map(|value| kind(value)).max().unwrap_or(0).min(INCREMENTAL),
    });
    for name in ["willSave", "willSaveWaitUntil"] {
        if given.iter().any(|value| any(value, name)) {
            merged[name] = true.into();
        }
    }
    if given.iter().any(|value| any(value, "save")) {
        let text = given.iter().any(|value| any(&value["save"], "includeText"));
        merged["save"] = json!({ "includeText": text });
    }
    Some(merged)
}

fn diagnostics(children: &[Child<'_>], client: &Value) -> Option<Value> {
    let given = values(children, "diagnosticProvider");
    match given.as_slice() {
        [] => None,
        [one] => Some((*one).clone()),
        _ if !diagnostic_registrations(children, client).is_empty() => None,
        _ => Some(json!({
            "identifier": "demolish",
            "interFileDependencies": given.iter().any(|value| any(value, "interFileDependencies")),
            "workspaceDiagnostics": given.iter().any(|value| any(value, "workspaceDiagnostics")),
        })),
    }
}

fn execute_command(children: &[Child<'_>]) -> Option<Value> {
    let given = values(children, "executeCommandProvider");
    if given.is_empty() {
        return None;
    }
    let commands: Vec<String> = children
        .iter()
        .flat_map(|child| {
            let known = child.capabilities["executeCommandProvider"]["commands"].as_array();
            let known = known.map(Vec::as_slice).unwrap_or_default();
            known.iter().filter_map(|command| Some(commands::name(child.name, command.as_str()?)))
        })
        .collect();
    let mut merged = json!({ "commands": commands });
    if given.iter().any(|value| any(value, "workDoneProgress")) {
        merged["workDoneProgress"] = true.into();
    }
    Some(merged)
}

fn workspace(children: &[Child<'_>]) -> Option<Value> {
    let given = values(children, "workspace");
    if given.is_empty() {
        return None;
    }
    let primary = children.first().and_then(|child| child.capabilities["workspace"].as_object());
    let mut merged = primary.cloned().unwrap_or_default();
    let part = |name: &str| -> Vec<&Value> {
        given.iter().filter_map(|value| value.get(name)).filter(|value| value.is_object()).collect()
    };
    let folders = part("workspaceFolders");
    if !folders.is_empty() {
        // A notification can be asked for by the id of a registration.
        let told = |value: &&&Value| {
            !matches!(value["changeNotifications"], Value::Null | Value::Bool(false))
        };
        let value = json!({
            "supported": folders.iter().any(|value| any(value, "supported")),
            "changeNotifications": folders.iter().any(|value| told(&value)),
        });
        merged.insert("workspaceFolders".to_owned(), value);
    }
    let operations = part("fileOperations");
    if !operations.is_empty() {
        merged.insert("fileOperations".to_owned(), file_operations(&operations));
    }
    let contents = part("textDocumentContent");
    if !contents.is_empty() {
        let schemes = union_of(contents.iter().map(|value| &value["schemes"]));
        merged.insert("textDocumentContent".to_owned(), json!({ "schemes": schemes }));
    }
    (!merged.is_empty()).then_some(Value::Object(merged))
}

fn file_operations(given: &[&Value]) -> Value {
    let mut merged = Map::new();
    for (name, value) in given.iter().filter_map(|value| value.as_object()).flatten() {
        if value["filters"].is_array() {
            let so_far =
                merged.get(name).map_or(Value::Null, |so_far: &Value| so_far["filters"].clone());
            let filters = union_of([&so_far, &value["filters"]].into_iter());
            merged.insert(name.clone(), json!({ "filters": filters }));
        }
    }
    Value::Object(merged)
}

#[cfg(test)]
mod tests;
