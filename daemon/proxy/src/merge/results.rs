//! What is asked of several servers, and what becomes of their answers (rules 4.11 and 4.38 to 4.42): one table of methods.
//!
//! Answers are joined as JSON text, piece by piece, so that what we do not know in them survives. An answer that has not
//! the shape that its method promises counts for nothing; if none has, the first one passes as it is.

use serde_json::Value;

use crate::raw::{Raw, array};

mod capable;
pub use capable::capable;
mod completion;
mod diagnostics;
pub use diagnostics::own_diagnostics;
mod edits;
mod hover;
mod locations;
mod owners;
pub use owners::Owners;

/// Who of the servers that can is asked.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Ask {
    /// One: the owner of what is asked for (see [`Owners`]), or the first by priority.
    One,
    /// All.
    All,
    /// All whose trigger characters fit: [`capable`] looks at the context of the request.
    Matching,
}

/// How the answers become one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Join {
    /// The first one that is not `null`.
    First,
    /// The first one that has something in it.
    FirstNonEmpty,
    /// All elements of all arrays.
    Union,
    Completion,
    Hover,
    /// Places, each once; links where the client's capability of this name says so.
    Locations(&'static str),
    TextEdits,
    WorkspaceEdit,
}

/// A method that is not for the primary server alone.
pub(crate) struct Row {
    pub(crate) method: &'static str,
    pub(crate) ask: Ask,
    /// Where a server's capabilities say that it serves the method.
    pub(crate) provider: &'static str,
    /// Which member of that must be true (or an object) besides.
    pub(crate) option: Option<&'static str>,
    pub(crate) join: Join,
}

const fn row(method: &'static str, ask: Ask, provider: &'static str, join: Join) -> Row {
    Row { method, ask, provider, option: None, join }
}

const fn with(option: &'static str, row: Row) -> Row {
    Row { option: Some(option), ..row }
}

use Ask::{All, Matching, One};
use Join::{First, FirstNonEmpty, Locations, Union};

/// Sorted by nothing but sense.
pub(crate) const TABLE: &[Row] = &[
    row("textDocument/completion", Matching, "completionProvider", Join::Completion),
    with("resolveProvider", row("completionItem/resolve", One, "completionProvider", First)),
    row("textDocument/hover", All, "hoverProvider", Join::Hover),
    row("textDocument/signatureHelp", Matching, "signatureHelpProvider", First),
    row("textDocument/declaration", All, "declarationProvider", Locations("declaration")),
    row("textDocument/definition", All, "definitionProvider", Locations("definition")),
    row("textDocument/typeDefinition", All, "typeDefinitionProvider", Locations("typeDefinition")),
    row("textDocument/implementation", All, "implementationProvider", Locations("implementation")),
    row("textDocument/references", All, "referencesProvider", Locations("references")),
    row("textDocument/documentHighlight", All, "documentHighlightProvider", FirstNonEmpty),
    row("textDocument/documentSymbol", One, "documentSymbolProvider", First),
    row("textDocument/foldingRange", One, "foldingRangeProvider", First),
    row("textDocument/selectionRange", One, "selectionRangeProvider", First),
    row("textDocument/linkedEditingRange", One, "linkedEditingRangeProvider", First),
    row("textDocument/prepareCallHierarchy", One, "callHierarchyProvider", First),
    row("callHierarchy/incomingCalls", One, "callHierarchyProvider", First),
    row("callHierarchy/outgoingCalls", One, "callHierarchyProvider", First),
    row("textDocument/prepareTypeHierarchy", One, "typeHierarchyProvider", First),
    row("typeHierarchy/supertypes", One, "typeHierarchyProvider", First),
    row("typeHierarchy/subtypes", One, "typeHierarchyProvider", First),
    row("textDocument/moniker", One, "monikerProvider", First),
    row("workspace/symbol", All, "workspaceSymbolProvider", Union),
    with("resolveProvider", row("workspaceSymbol/resolve", One, "workspaceSymbolProvider", First)),
    row("textDocument/codeAction", All, "codeActionProvider", Union),
    with("resolveProvider", row("codeAction/resolve", One, "codeActionProvider", First)),
    row("textDocument/codeLens", All, "codeLensProvider", Union),
    with("resolveProvider", row("codeLens/resolve", One, "codeLensProvider", First)),
    row("textDocument/inlayHint", All, "inlayHintProvider", Union),
    with("resolveProvider", row("inlayHint/resolve", One, "inlayHintProvider", First)),
    row("textDocument/documentLink", All, "documentLinkProvider", Union),
    with("resolveProvider", row("documentLink/resolve", One, "documentLinkProvider", First)),
    row("textDocument/documentColor", All, "colorProvider", Union),
    row("textDocument/colorPresentation", One, "colorProvider", First),
    row("textDocument/inlineValue", All, "inlineValueProvider", Union),
    row("textDocument/formatting", One, "documentFormattingProvider", First),
    row("textDocument/rangeFormatting", One, "documentRangeFormattingProvider", First),
    with(
        "rangesSupport",
        row("textDocument/rangesFormatting", One, "documentRangeFormattingProvider", First),
    ),
    row("textDocument/onTypeFormatting", One, "documentOnTypeFormattingProvider", First),
    row("textDocument/rename", One, "renameProvider", First),
    with("prepareProvider", row("textDocument/prepareRename", One, "renameProvider", First)),
    with("full", row("textDocument/semanticTokens/full", One, "semanticTokensProvider", First)),
    with(
        "full.delta",
        row("textDocument/semanticTokens/full/delta", One, "semanticTokensProvider", First),
    ),
    with("range", row("textDocument/semanticTokens/range", One, "semanticTokensProvider", First)),
    row("textDocument/inlineCompletion", All, "inlineCompletionProvider", FirstNonEmpty),
    with(
        "willSaveWaitUntil",
        row("textDocument/willSaveWaitUntil", All, "textDocumentSync", Join::TextEdits),
    ),
    row("workspace/willCreateFiles", All, FILE_OPERATIONS[0], Join::WorkspaceEdit),
    row("workspace/willRenameFiles", All, FILE_OPERATIONS[1], Join::WorkspaceEdit),
    row("workspace/willDeleteFiles", All, FILE_OPERATIONS[2], Join::WorkspaceEdit),
    row("workspace/textDocumentContent", One, "workspace.textDocumentContent", First),
    row("workspace/executeCommand", One, "executeCommandProvider", First),
];

/// Where the capabilities have what a server wants to be asked before files are created, renamed, deleted.
const FILE_OPERATIONS: [&str; 3] = [
    "workspace.fileOperations.willCreate",
    "workspace.fileOperations.willRename",
    "workspace.fileOperations.willDelete",
];

/// The row of `method`.
pub(crate) fn find(method: &str) -> Option<&'static Row> {
    TABLE.iter().find(|row| row.method == method)
}

/// Who is to be asked for `method`; `None` means that it is not a request that is merged and goes to the primary server
/// alone. Pulled diagnostics are not here: their result ids need a memory.
pub fn how(method: &str) -> Option<Ask> {
    find(method).map(|row| row.ask)
}

/// What one server has answered.
#[derive(Clone, Copy, Debug)]
pub struct Part<'a> {
    /// Which one, counted by priority.
    pub child: usize,
    /// Its name.
    pub name: &'a str,
    /// The JSON text of the result.
    pub result: &'a [u8],
}

/// The one answer that `parts`, by priority, make. With a single part that says anything it is that part's bytes.
///
/// `all_answered` is false if somebody who was asked did not answer in time: then a list of completions is told to be
/// incomplete, so that the client asks again.
pub fn merge(method: &str, parts: &[Part<'_>], client: &Value, all_answered: bool) -> Vec<u8> {
    let join = find(method).map_or(First, |row| row.join);
    let telling: Vec<Part<'_>> = parts.iter().copied().filter(|part| tells(part, join)).collect();
    let fallback = || {
        let first =
            telling.first().or_else(|| parts.iter().find(|part| !Raw::new(part.result).is_null()));
        first.or(parts.first()).map_or(b"null".to_vec(), |part| part.result.to_vec())
    };
    if join == Join::Completion {
        return completion::merge(&telling, all_answered).unwrap_or_else(fallback);
    }
    if telling.len() < 2 {
        return fallback();
    }
    let merged = match join {
        Join::Hover => hover::merge(&telling, client),
        Locations(family) => Some(locations::merge(family, &telling, client)),
        Union => Some(union(&telling)),
        Join::TextEdits => edits::merge_lists(&telling),
        Join::WorkspaceEdit => edits::merge_workspace(&telling),
        First | FirstNonEmpty | Join::Completion => None,
    };
    merged.unwrap_or_else(fallback)
}

/// The result that ends a request whose partial results have been passed on (rule 4.23): empty, of the method's shape.
pub fn empty(method: &str) -> &'static [u8] {
    match method {
        "textDocument/semanticTokens/full" | "textDocument/semanticTokens/range" => {
            br#"{"data":[]}"#
        }
        "textDocument/semanticTokens/full/delta" => br#"{"edits":[]}"#,
        "textDocument/diagnostic" => br#"{"kind":"full","items":[]}"#,
        "workspace/diagnostic" => br#"{"items":[]}"#,
        _ => b"[]",
    }
}

/// Whether a part has the shape of its method and something in it.
fn tells(part: &Part<'_>, join: Join) -> bool {
    let result = Raw::new(part.result);
    let list = |value: Raw<'_>| value.is_array() && !value.elements().is_empty();
    match join {
        First => !result.is_null(),
        FirstNonEmpty | Join::Completion => {
            let incomplete = result.get("isIncomplete").is_some_and(Raw::is_true);
            list(result) || incomplete || result.get("items").is_some_and(list)
        }
        Union | Join::TextEdits => list(result),
        Locations(_) => list(result) || result.is_object(),
        Join::Hover | Join::WorkspaceEdit => result.is_object(),
    }
}

fn union(parts: &[Part<'_>]) -> Vec<u8> {
    let lists: Vec<_> = parts.iter().map(|part| Raw::new(part.result).elements()).collect();
    array(lists.iter().flatten().map(|element| element.bytes()))
}

#[cfg(test)]
mod tests;
