//! Whose item it is (rules 4.24, 4.37 and 4.42): `data` of what several servers can produce is wrapped in an envelope with
//! the server and its epoch, so that what the client sends back finds its way to the one that can make sense of it.
//!
//! Never used where only one server can produce the item: then the bytes stay as they are.

use crate::raw::{Member, Raw, Splice, find};

/// Before the number of the child in the result id of semantic tokens.
const RESULT_ID: &str = "demolish:";

/// What a method's result, or notification, has `data` in.
enum Items {
    /// The value itself, or the elements of the array that it is.
    Bare,
    /// A list of completion items.
    Completion,
    /// Elements with the item in this member.
    Within(&'static str),
    /// Actions; commands among them have no data.
    Actions,
    /// Diagnostics, in `diagnostics`.
    Diagnostics,
    /// No items, but a result id.
    ResultId,
}

fn items(method: &str) -> Option<Items> {
    Some(match method {
        "textDocument/completion" => Items::Completion,
        "textDocument/codeAction" | "codeAction/resolve" => Items::Actions,
        "callHierarchy/incomingCalls" => Items::Within("from"),
        "callHierarchy/outgoingCalls" => Items::Within("to"),
        "textDocument/publishDiagnostics" => Items::Diagnostics,
        "textDocument/semanticTokens/full" | "textDocument/semanticTokens/full/delta" => {
            Items::ResultId
        }
        "completionItem/resolve"
        | "textDocument/codeLens"
        | "codeLens/resolve"
        | "textDocument/inlayHint"
        | "inlayHint/resolve"
        | "textDocument/documentLink"
        | "documentLink/resolve"
        | "workspace/symbol"
        | "workspaceSymbol/resolve"
        | "textDocument/prepareCallHierarchy"
        | "textDocument/prepareTypeHierarchy"
        | "typeHierarchy/supertypes"
        | "typeHierarchy/subtypes" => Items::Bare,
        _ => return None,
    })
}

/// The result `raw` of `method` (for `textDocument/publishDiagnostics`: its parameters) with every item marked as one of
/// `child` in its `epoch`: how often that server has been started.
pub fn wrap_items(method: &str, raw: &[u8], child: usize, epoch: u32) -> Vec<u8> {
    let root = Raw::new(raw);
    let mut wrap = Wrap { splice: Splice::new(raw), child, epoch };
    match items(method) {
        Some(Items::Bare) => each(root, |item| wrap.item(item)),
        Some(Items::Within(name)) => each(root, |call| {
            if let Some(item) = call.get(name) {
                wrap.item(item);
            }
        }),
        Some(Items::Actions) => each(root, |action| {
            if !action.get("command").is_some_and(Raw::is_string) {
                wrap.item(action);
            }
        }),
        Some(Items::Diagnostics) => each_in(root, "diagnostics", |item| wrap.item(item)),
        Some(Items::Completion) => wrap.completion(root),
        Some(Items::ResultId) => {
            if let Some(id) = root.get("resultId").filter(|id| id.is_string()) {
                wrap.result_id(id);
            }
        }
        None => {}
    }
    wrap.splice.finish()
}

/// Whose item `params` carry, in which epoch, and the parameters as that server would have got them from the client: those
/// of a `resolve`, of a follow-up on a hierarchy, or of `textDocument/semanticTokens/full/delta`.
pub fn unwrap(params: &[u8]) -> Option<(usize, u32, Vec<u8>)> {
    let root = Raw::new(params);
    let mut splice = Splice::new(params);
    let (child, epoch) = unwrap_item(&mut splice, root)
        .or_else(|| unwrap_item(&mut splice, root.get("item")?))
        .or_else(|| unwrap_result_id(&mut splice, root.get("previousResultId")?))?;
    Some((child, epoch, splice.finish()))
}

/// Whose item a single `item` is, and the item as its server made it. For diagnostics that come back in
/// `textDocument/codeAction`.
pub fn owner(item: &[u8]) -> Option<(usize, u32, Vec<u8>)> {
    let mut splice = Splice::new(item);
    let (child, epoch) = unwrap_item(&mut splice, Raw::new(item))?;
    Some((child, epoch, splice.finish()))
}

struct Wrap<'a> {
    splice: Splice<'a>,
    child: usize,
    epoch: u32,
}

impl Wrap<'_> {
    fn item(&mut self, item: Raw<'_>) {
        if !item.is_object() {
            return;
        }
        match item.get("data") {
            Some(data) => self.data(data),
            None => {
                let envelope = format!(r#"{{"_d":[{},{}]}}"#, self.child, self.epoch);
                self.splice.insert(item, "data", envelope.as_bytes());
            }
        }
    }

    fn data(&mut self, data: Raw<'_>) {
        let head = format!(r#"{{"_d":[{},{}],"v":"#, self.child, self.epoch);
        self.splice.replace(data, [head.as_bytes(), data.bytes(), b"}"].concat());
    }

    /// An item without data of its own has that of the list's defaults, which is wrapped once, there.
    fn completion(&mut self, root: Raw<'_>) {
        let default = root.path("itemDefaults.data");
        if let Some(data) = default {
            self.data(data);
        }
        each(root.get("items").unwrap_or(root), |item| {
            if default.is_none() || item.get("data").is_some() {
                self.item(item);
            }
        });
    }

    fn result_id(&mut self, id: Raw<'_>) {
        let head = format!("\"{RESULT_ID}{}:{}:", self.child, self.epoch);
        self.splice.replace(id, [head.as_bytes(), &id.bytes()[1..]].concat());
    }
}

fn unwrap_item(splice: &mut Splice<'_>, item: Raw<'_>) -> Option<(usize, u32)> {
    let data = item.get("data")?;
    let envelope: Vec<Member<'_>> = data.members();
    let owner = find(&envelope, "_d")?.elements();
    let [child, epoch] = owner[..] else { return None };
    let owner = (child.number()? as usize, epoch.number()?);
    match find(&envelope, "v") {
        Some(value) => splice.replace(data, value.bytes()),
        None => splice.remove(item, "data"),
    }
    Some(owner)
}

fn unwrap_result_id(splice: &mut Splice<'_>, id: Raw<'_>) -> Option<(usize, u32)> {
    let text = std::str::from_utf8(id.bytes()).ok()?;
    let (child, rest) = text.strip_prefix('"')?.strip_prefix(RESULT_ID)?.split_once(':')?;
    let (epoch, rest) = rest.split_once(':')?;
    let owner = (child.parse().ok()?, epoch.parse().ok()?);
    splice.replace(id, format!("\"{rest}"));
    Some(owner)
}

fn each(value: Raw<'_>, mut visit: impl FnMut(Raw<'_>)) {
    if value.is_array() {
        value.elements().into_iter().for_each(visit);
    } else {
        visit(value);
    }
}

fn each_in(object: Raw<'_>, name: &str, visit: impl FnMut(Raw<'_>)) {
    if let Some(list) = object.get(name).filter(|list| list.is_array()) {
        each(list, visit);
    }
}

#[cfg(test)]
mod tests;
