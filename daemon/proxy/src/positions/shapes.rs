//! Where positions are in the protocol's methods: LSP 3.17, and what 3.18 adds.

/// What a value holds.
pub(super) enum Shape {
    /// A line and a character.
    Position,
    /// An array of them, or a single one.
    List(&'static Shape),
    /// An object with these members; others are opaque.
    Object(&'static [(&'static str, Shape)]),
    /// Something in the document whose URI is at this path.
    In(&'static str, &'static Shape),
    /// The first in the document whose URI is at this path, the second in the one that is spoken of already.
    Elsewhere(&'static str, &'static Shape, &'static Shape),
    /// An object whose names are the URIs of what their values are in.
    ByUri(&'static Shape),
    /// Folding ranges.
    Folds,
    /// The numbers of semantic tokens.
    Tokens,
    /// Changes of such numbers.
    TokenChanges,
    /// Changes of the text.
    Changes,
}

use Shape::{ByUri, Changes, Elsewhere, Folds, In, List, Object, Position, TokenChanges, Tokens};

static RANGE: Shape = Object(&[("start", Position), ("end", Position)]);
/// A thing with a range, or a list of such things.
static RANGED: Shape = List(&Object(&[("range", List(&RANGE))]));
static LOCATION: Shape = In("uri", &Object(&[("range", List(&RANGE))]));
/// A location, or a link to one.
static PLACES: Shape = List(&Elsewhere(
    "targetUri",
    &Object(&[("targetRange", List(&RANGE)), ("targetSelectionRange", List(&RANGE))]),
    &Elsewhere(
        "uri",
        &Object(&[("range", List(&RANGE))]),
        &Object(&[("originSelectionRange", List(&RANGE))]),
    ),
));
static TEXT_EDIT: Shape =
    Object(&[("range", List(&RANGE)), ("insert", List(&RANGE)), ("replace", List(&RANGE))]);
static TEXT_EDITS: Shape = List(&TEXT_EDIT);
static WORKSPACE_EDIT: Shape = Object(&[
    ("changes", ByUri(&TEXT_EDITS)),
    ("documentChanges", List(&In("textDocument.uri", &Object(&[("edits", List(&TEXT_EDIT))])))),
]);
static DIAGNOSTICS: Shape = List(&Object(&[
    ("range", List(&RANGE)),
    ("relatedInformation", List(&Object(&[("location", List(&LOCATION))]))),
]));
static COMPLETION_ITEM: Shape =
    Object(&[("textEdit", List(&TEXT_EDIT)), ("additionalTextEdits", List(&TEXT_EDIT))]);
static COMPLETION_ITEMS: Shape = List(&COMPLETION_ITEM);
/// A list of completions, or just its items.
static COMPLETIONS: Shape = List(&Object(&[
    ("items", List(&COMPLETION_ITEM)),
    (
        "itemDefaults",
        Object(&[(
            "editRange",
            Object(&[
                ("start", Position),
                ("end", Position),
                ("insert", List(&RANGE)),
                ("replace", List(&RANGE)),
            ]),
        )]),
    ),
    ("textEdit", List(&TEXT_EDIT)),
    ("additionalTextEdits", List(&TEXT_EDIT)),
]));
static ACTIONS: Shape =
    List(&Object(&[("diagnostics", List(&DIAGNOSTICS)), ("edit", List(&WORKSPACE_EDIT))]));
static HINTS: Shape = List(&Object(&[
    ("position", Position),
    ("textEdits", List(&TEXT_EDIT)),
    ("label", List(&Object(&[("location", List(&LOCATION))]))),
]));
static COLORS: Shape =
    List(&Object(&[("textEdit", List(&TEXT_EDIT)), ("additionalTextEdits", List(&TEXT_EDIT))]));
/// An item of a hierarchy, or a list of such items.
static ITEMS: Shape =
    List(&In("uri", &Object(&[("range", List(&RANGE)), ("selectionRange", List(&RANGE))])));
/// The places of a call stand in the one who calls.
static INCOMING: Shape =
    List(&In("from.uri", &Object(&[("from", List(&ITEMS)), ("fromRanges", List(&RANGE))])));
static OUTGOING: Shape = List(&Object(&[("to", List(&ITEMS)), ("fromRanges", List(&RANGE))]));
static SYMBOL: Shape = Object(&[
    ("range", List(&RANGE)),
    ("selectionRange", List(&RANGE)),
    ("location", List(&LOCATION)),
    ("children", List(&SYMBOL)),
]);
static SYMBOLS: Shape = List(&SYMBOL);
static SELECTION: Shape = Object(&[("range", List(&RANGE)), ("parent", List(&SELECTION))]);
static SELECTIONS: Shape = List(&SELECTION);
/// A range, bare or in an object beside a placeholder.
static PREPARED: Shape = Object(&[("start", Position), ("end", Position), ("range", List(&RANGE))]);
static LINKED: Shape = Object(&[("ranges", List(&RANGE))]);
static INLINE: Shape = List(&Object(&[("items", List(&RANGED)), ("range", List(&RANGE))]));
static TOKENS: Shape = Object(&[("data", Tokens), ("edits", TokenChanges)]);
static REPORT: Shape = Object(&[
    ("items", List(&DIAGNOSTICS)),
    ("relatedDocuments", ByUri(&Object(&[("items", List(&DIAGNOSTICS))]))),
]);
static WORKSPACE_REPORT: Shape =
    Object(&[("items", List(&In("uri", &Object(&[("items", List(&DIAGNOSTICS))]))))]);

/// The parameters of the requests about a document: no two of them use one name for different things.
static ABOUT: Shape = In(
    "textDocument.uri",
    &Object(&[
        ("position", Position),
        ("positions", List(&Position)),
        ("range", List(&RANGE)),
        ("ranges", List(&RANGE)),
        (
            "context",
            Object(&[
                ("diagnostics", List(&DIAGNOSTICS)),
                ("stoppedLocation", List(&RANGE)),
                ("selectedCompletionInfo", List(&RANGED)),
            ]),
        ),
    ]),
);
static CHANGED: Shape = In("textDocument.uri", &Object(&[("contentChanges", Changes)]));
static NOTEBOOK: Shape = Object(&[(
    "change",
    Object(&[(
        "cells",
        Object(&[("textContent", List(&In("document.uri", &Object(&[("changes", Changes)]))))]),
    )]),
)]);
static PUBLISHED: Shape = In("uri", &Object(&[("diagnostics", List(&DIAGNOSTICS))]));
static APPLY: Shape = Object(&[("edit", List(&WORKSPACE_EDIT))]);
static SHOW: Shape = In("uri", &Object(&[("selection", List(&RANGE))]));
static FOLLOW_UP: Shape = Object(&[("item", List(&ITEMS))]);

/// Methods that the protocol has and that carry no positions.
pub(super) const WITHOUT_POSITIONS: &[&str] = &[
    "initialize",
    "initialized",
    "shutdown",
    "exit",
    "$/cancelRequest",
    "$/progress",
    "$/setTrace",
    "$/logTrace",
    "client/registerCapability",
    "client/unregisterCapability",
    "notebookDocument/didOpen",
    "notebookDocument/didSave",
    "notebookDocument/didClose",
    "telemetry/event",
    "textDocument/didOpen",
    "textDocument/didSave",
    "textDocument/didClose",
    "textDocument/willSave",
    "window/logMessage",
    "window/showMessage",
    "window/showMessageRequest",
    "window/workDoneProgress/cancel",
    "window/workDoneProgress/create",
    "workspace/codeLens/refresh",
    "workspace/configuration",
    "workspace/diagnostic/refresh",
    "workspace/didChangeConfiguration",
    "workspace/didChangeWatchedFiles",
    "workspace/didChangeWorkspaceFolders",
    "workspace/didCreateFiles",
    "workspace/didDeleteFiles",
    "workspace/didRenameFiles",
    "workspace/executeCommand",
    "workspace/foldingRange/refresh",
    "workspace/inlayHint/refresh",
    "workspace/inlineValue/refresh",
    "workspace/semanticTokens/refresh",
    "workspace/textDocumentContent",
    "workspace/textDocumentContent/refresh",
    "workspace/workspaceFolders",
];

/// Where positions are in the parameters of `method`.
pub(super) fn of_params(method: &str) -> Option<&'static Shape> {
    Some(match method {
        "textDocument/didChange" => &CHANGED,
        "notebookDocument/didChange" => &NOTEBOOK,
        "textDocument/publishDiagnostics" => &PUBLISHED,
        "workspace/applyEdit" => &APPLY,
        "window/showDocument" => &SHOW,
        "callHierarchy/incomingCalls"
        | "callHierarchy/outgoingCalls"
        | "typeHierarchy/supertypes"
        | "typeHierarchy/subtypes" => &FOLLOW_UP,
        // What is resolved is what was answered before.
        "completionItem/resolve" => &COMPLETION_ITEMS,
        "codeAction/resolve" => &ACTIONS,
        "codeLens/resolve" | "documentLink/resolve" => &RANGED,
        "inlayHint/resolve" => &HINTS,
        "workspaceSymbol/resolve" => &SYMBOLS,
        "textDocument/didOpen"
        | "textDocument/didSave"
        | "textDocument/didClose"
        | "textDocument/willSave" => return None,
        _ if of_result(method).is_some() && method.starts_with("textDocument/") => &ABOUT,
        _ => return None,
    })
}

/// Where positions are in the result of `method`.
pub(super) fn of_result(method: &str) -> Option<&'static Shape> {
    Some(match method {
        "textDocument/completion" => &COMPLETIONS,
        "completionItem/resolve" => &COMPLETION_ITEMS,
        "textDocument/hover"
        | "textDocument/documentHighlight"
        | "textDocument/codeLens"
        | "codeLens/resolve"
        | "textDocument/documentLink"
        | "documentLink/resolve"
        | "textDocument/documentColor"
        | "textDocument/inlineValue"
        // These have no positions in their results, but are about some.
        | "textDocument/signatureHelp"
        | "textDocument/moniker" => &RANGED,
        "textDocument/declaration"
        | "textDocument/definition"
        | "textDocument/typeDefinition"
        | "textDocument/implementation"
        | "textDocument/references" => &PLACES,
        "textDocument/documentSymbol" | "workspace/symbol" | "workspaceSymbol/resolve" => &SYMBOLS,
        "textDocument/foldingRange" => &Folds,
        "textDocument/selectionRange" => &SELECTIONS,
        "textDocument/linkedEditingRange" => &LINKED,
        "textDocument/prepareCallHierarchy"
        | "textDocument/prepareTypeHierarchy"
        | "typeHierarchy/supertypes"
        | "typeHierarchy/subtypes" => &ITEMS,
        "callHierarchy/incomingCalls" => &INCOMING,
        "callHierarchy/outgoingCalls" => &OUTGOING,
        "textDocument/codeAction" | "codeAction/resolve" => &ACTIONS,
        "textDocument/inlayHint" | "inlayHint/resolve" => &HINTS,
        "textDocument/colorPresentation" => &COLORS,
        "textDocument/formatting"
        | "textDocument/rangeFormatting"
        | "textDocument/rangesFormatting"
        | "textDocument/onTypeFormatting"
        | "textDocument/willSaveWaitUntil" => &TEXT_EDITS,
        "textDocument/rename"
        | "workspace/willCreateFiles"
        | "workspace/willRenameFiles"
        | "workspace/willDeleteFiles" => &WORKSPACE_EDIT,
        "textDocument/prepareRename" => &PREPARED,
        "textDocument/semanticTokens/full"
        | "textDocument/semanticTokens/full/delta"
        | "textDocument/semanticTokens/range" => &TOKENS,
        "textDocument/inlineCompletion" => &INLINE,
        "textDocument/diagnostic" => &REPORT,
        "workspace/diagnostic" => &WORKSPACE_REPORT,
        _ => return None,
    })
}
