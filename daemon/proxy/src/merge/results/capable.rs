//! Whether a server serves a request: what it said when it was greeted, and what it has registered since.

use serde_json::Value;

use super::{Ask, Row, find};
use crate::merge::glob::Glob;
use crate::merge::uri;

/// Whether a server with these `capabilities`, which has registered these methods with these options, serves `method` for
/// these `params`. Methods that are not in the table are served by whoever is asked.
pub fn capable(
    method: &str,
    params: &Value,
    capabilities: &Value,
    registrations: &[(String, Value)],
) -> bool {
    let Some(row) = find(method) else { return true };
    let provider = provider(capabilities, row);
    if provider.is_some_and(|options| suits(row, options, params)) {
        return true;
    }
    let registered = registration(method);
    registrations.iter().filter(|(name, _)| *name == registered).any(|(_, options)| {
        let options = if options.is_null() { &Value::Bool(true) } else { options };
        has_option(row, options) && selects(options, params) && suits(row, options, params)
    })
}

/// What the capabilities say about the method, if they say that the server has it.
pub(crate) fn provider<'v>(capabilities: &'v Value, row: &Row) -> Option<&'v Value> {
    let provider = at(capabilities, row.provider)?;
    (truthy(provider) && has_option(row, provider)).then_some(provider)
}

/// The member at a path such as `full.delta`.
fn at<'v>(value: &'v Value, path: &str) -> Option<&'v Value> {
    path.split('.').try_fold(value, |value, name| value.get(name))
}

fn truthy(value: &Value) -> bool {
    !matches!(value, Value::Null | Value::Bool(false))
}

fn has_option(row: &Row, provider: &Value) -> bool {
    row.option.is_none_or(|option| at(provider, option).is_some_and(truthy))
}

/// The method that a server registers in order to be asked this one.
fn registration(method: &str) -> &str {
    match method {
        "completionItem/resolve" => "textDocument/completion",
        "codeAction/resolve" => "textDocument/codeAction",
        "codeLens/resolve" => "textDocument/codeLens",
        "inlayHint/resolve" => "textDocument/inlayHint",
        "documentLink/resolve" => "textDocument/documentLink",
        "workspaceSymbol/resolve" => "workspace/symbol",
        "callHierarchy/incomingCalls" | "callHierarchy/outgoingCalls" => {
            "textDocument/prepareCallHierarchy"
        }
        "typeHierarchy/supertypes" | "typeHierarchy/subtypes" => {
            "textDocument/prepareTypeHierarchy"
        }
        "textDocument/colorPresentation" => "textDocument/documentColor",
        "textDocument/prepareRename" => "textDocument/rename",
        "textDocument/rangesFormatting" => "textDocument/rangeFormatting",
        "textDocument/semanticTokens/full"
        | "textDocument/semanticTokens/full/delta"
        | "textDocument/semanticTokens/range" => "textDocument/semanticTokens",
        other => other,
    }
}

/// Whether the document of a registration's selector can be that of the request. Its language is not in the request, so
/// a filter by language lets everything through.
fn selects(options: &Value, params: &Value) -> bool {
    let Some(filters) = options["documentSelector"].as_array() else { return true };
    let Some(uri) = params.pointer("/textDocument/uri").and_then(Value::as_str) else {
        return true;
    };
    let scheme = uri.split(':').next().unwrap_or_default();
    filters.iter().any(|filter| filter["scheme"].as_str().is_none_or(|wanted| wanted == scheme))
}

/// Whether these options fit what is asked.
fn suits(row: &Row, options: &Value, params: &Value) -> bool {
    if row.ask == Ask::Matching {
        return triggers(row.method, options, &params["context"]);
    }
    match row.method {
        "textDocument/codeAction" => kinds(options, &params["context"]["only"]),
        "workspace/executeCommand" => {
            let wanted = &params["command"];
            options["commands"].as_array().is_some_and(|known| known.contains(wanted))
        }
        "textDocument/onTypeFormatting" => {
            let Some(typed) = params["ch"].as_str() else { return true };
            let more = options["moreTriggerCharacter"].as_array();
            options["firstTriggerCharacter"] == *typed
                || more.is_some_and(|more| more.iter().any(|one| one == typed))
        }
        "workspace/willCreateFiles" | "workspace/willRenameFiles" | "workspace/willDeleteFiles" => {
            concerns(&options["filters"], &params["files"])
        }
        "workspace/textDocumentContent" => {
            let Some(uri) = params["uri"].as_str() else { return true };
            let scheme = uri.split(':').next().unwrap_or_default();
            let schemes = options["schemes"].as_array().or_else(|| options["scheme"].as_array());
            schemes.is_none_or(|schemes| schemes.iter().any(|one| one == scheme))
        }
        _ => true,
    }
}

/// Whether a request that a typed character has triggered is for a server with these trigger characters.
fn triggers(method: &str, options: &Value, context: &Value) -> bool {
    const BY_CHARACTER: u64 = 2;
    if context["triggerKind"].as_u64() != Some(BY_CHARACTER) {
        return true;
    }
    let Some(typed) = context["triggerCharacter"].as_str() else { return true };
    let among = |name: &str| {
        options[name].as_array().is_some_and(|known| known.iter().any(|one| one == typed))
    };
    let again = method == "textDocument/signatureHelp"
        && context["isRetrigger"] == true
        && among("retriggerCharacters");
    among("triggerCharacters") || again
}

/// Whether a server that offers these kinds of action can have one of those that are wanted. A kind is the parent of all
/// that begin with it and a dot.
fn kinds(options: &Value, only: &Value) -> bool {
    let list = |value: &Value| -> Vec<String> {
        let values = value.as_array().map(Vec::as_slice).unwrap_or_default();
        values.iter().filter_map(|kind| kind.as_str().map(str::to_owned)).collect()
    };
    let (offered, wanted) = (list(&options["codeActionKinds"]), list(only));
    let within = |kind: &str, parent: &str| {
        parent.is_empty()
            || kind
                .strip_prefix(parent)
                .is_some_and(|rest| rest.is_empty() || rest.starts_with('.'))
    };
    offered.is_empty()
        || wanted.is_empty()
        || offered.iter().any(|one| wanted.iter().any(|two| within(one, two) || within(two, one)))
}

/// Whether some of these files, by their old names, are among those that a server wants to be asked about.
fn concerns(filters: &Value, files: &Value) -> bool {
    let (Some(filters), Some(files)) = (filters.as_array(), files.as_array()) else { return true };
    let uris = files.iter().filter_map(|file| file.get("uri").or(file.get("oldUri"))?.as_str());
    let wanted = |uri: &str, filter: &Value| {
        let scheme = uri.split(':').next().unwrap_or_default();
        if filter["scheme"].as_str().is_some_and(|wanted| wanted != scheme) {
            return false;
        }
        let (Some(glob), Some(path)) = (filter["pattern"]["glob"].as_str(), uri::path(uri)) else {
            return true;
        };
        match filter["pattern"]["options"]["ignoreCase"] {
            Value::Bool(true) => Glob::new(&glob.to_lowercase()).matches(&path.to_lowercase()),
            _ => Glob::new(glob).matches(&path),
        }
    };
    uris.into_iter().any(|uri| filters.iter().any(|filter| wanted(uri, filter)))
}
