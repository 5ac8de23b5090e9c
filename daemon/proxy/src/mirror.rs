//! What a client has told its server that a fresh server would have to be told again.
//!
//! The mirror listens to the client's messages. [`Mirror::replay`] is derived from what *is*, never from a record of what
//! was said (rule 4.14): a document that was closed is not opened, and one that was edited is opened with today's text.

mod notebooks;

use std::collections::HashMap;
use std::sync::Arc;

use serde::Deserialize;
use serde_json::{Value, json};
use text::{Change, Document, Encoding, Position, Range, Revision};
use wire::{Bytes, Envelope, Kind};

use notebooks::Notebooks;

/// How many changes of a document may wait to be applied to its rope; text is only needed when somebody looks.
const WAITING_CHANGES_MAX: usize = 64;
/// How many bytes of changes may wait.
const WAITING_BYTES_MAX: usize = 256 * 1024;
/// How many changes of the workspace's folders are remembered; beyond that the oldest is forgotten.
const FOLDER_CHANGES_MAX: usize = 64;

/// A document that the client has open.
#[derive(Clone, Debug)]
pub struct OpenDocument {
    /// What the client calls its language.
    pub language_id: Arc<str>,
    /// The text.
    pub document: Document,
    /// How the client counts positions in it.
    pub encoding: Encoding,
    /// The version of the last change, which the text may not have yet.
    latest: Revision,
    opened: u64,
    waiting: Vec<Envelope>,
    waiting_bytes: usize,
}

/// What a message says of a document.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Told {
    /// It is open.
    Opened(Arc<str>, Revision),
    /// It has another text.
    Changed(Arc<str>, Revision),
    /// It is closed.
    Closed(Arc<str>),
}

/// The parameters of the three document notifications, as far as they are read. The protocol's own types are stricter
/// about URIs than servers and editors are.
#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct About<T> {
    text_document: T,
}

#[derive(Deserialize)]
struct Which {
    uri: String,
    version: Option<i32>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Opened {
    uri: String,
    #[serde(default)]
    language_id: String,
    version: i32,
    text: String,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Changed {
    text_document: Which,
    content_changes: Vec<ContentChange>,
}

#[derive(Deserialize)]
struct ContentChange {
    range: Option<wire::lsp::Range>,
    text: String,
}

/// The state of a client, as far as its messages tell.
#[derive(Clone, Debug, Default)]
pub struct Mirror {
    initialize: Option<Bytes>,
    initialized: bool,
    settings: Option<Bytes>,
    trace: Option<Bytes>,
    folders: Vec<Bytes>,
    encoding: Encoding,
    capabilities: Option<Bytes>,
    documents: Arc<HashMap<Arc<str>, OpenDocument>>,
    notebooks: Notebooks,
    opened: u64,
    shutdown: bool,
    exited: bool,
}

impl Mirror {
    /// Listens to a message from the client; returns what it says of a document.
    pub fn on_client(&mut self, envelope: &Envelope) -> Option<Told> {
        match envelope.method()? {
            "textDocument/didChange" => return self.did_change(envelope),
            "textDocument/didOpen" => return self.did_open(envelope),
            "textDocument/didClose" => return self.did_close(envelope),
            "initialize" => self.initialize = Some(copy(envelope.params())),
            "initialized" => self.initialized = true,
            "workspace/didChangeConfiguration" => self.settings = Some(copy(&envelope.body)),
            "$/setTrace" => self.trace = Some(copy(&envelope.body)),
            "workspace/didChangeWorkspaceFolders" => {
                if self.folders.len() == FOLDER_CHANGES_MAX {
                    self.folders.remove(0);
                }
                self.folders.push(copy(&envelope.body));
            }
            "shutdown" => self.shutdown = true,
            "exit" => self.exited = true,
            method if method.starts_with("notebookDocument/") => {
                self.notebooks.on_client(method, envelope, self.encoding);
            }
            _ => {}
        }
        None
    }

    /// Listens to the result of `initialize`: from now on positions are counted as it says.
    pub fn on_initialize_result(&mut self, result: &[u8]) {
        let value: Value = wire::parse(result).unwrap_or_default();
        let capabilities = &value["capabilities"];
        let name = capabilities["positionEncoding"].as_str();
        // Older clangd has an extension of its own.
        let name = name.or_else(|| value["offsetEncoding"].as_str());
        self.encoding = name.and_then(Encoding::from_lsp).unwrap_or_default();
        self.capabilities = serde_json::to_vec(capabilities).ok().map(Into::into);
        let encoding = self.encoding;
        for open in Arc::make_mut(&mut self.documents).values_mut() {
            open.encoding = encoding;
        }
    }

    /// The messages that bring a fresh server, once it has answered `initialize`, to the state of the old one.
    pub fn replay(&mut self) -> Vec<Envelope> {
        let mut messages = Vec::new();
        if self.initialized {
            messages.push(Envelope::notification("initialized", &json!({})));
        }
        messages.extend(self.replay_state(self.settings.as_ref()));
        messages.extend(self.replay_documents(|_| true));
        messages
    }

    /// The part of [`Mirror::replay`] between `initialized` and the documents, with these settings.
    pub(crate) fn replay_state(&self, settings: Option<&Bytes>) -> Vec<Envelope> {
        let kept = [self.trace.as_ref(), settings].into_iter().flatten();
        kept.chain(&self.folders).filter_map(|body| Envelope::read(body.clone()).ok()).collect()
    }

    /// The part of [`Mirror::replay`] that opens documents and notebooks: those that `of` chooses.
    pub(crate) fn replay_documents(&mut self, of: impl Fn(&str) -> bool) -> Vec<Envelope> {
        let documents = self.documents();
        let mut open: Vec<_> = documents.iter().filter(|(uri, _)| of(uri)).collect();
        open.sort_unstable_by_key(|(_, open)| open.opened);
        let documents = open.into_iter().map(|(uri, open)| did_open(uri, open));
        documents.chain(self.notebooks.replay(of)).collect()
    }

    /// Whether the document, or notebook, is open.
    pub(crate) fn has(&self, uri: &str) -> bool {
        self.documents.contains_key(uri) || self.notebooks.has(uri)
    }

    /// Whether it is a notebook that is open.
    pub(crate) fn has_notebook(&self, uri: &str) -> bool {
        self.notebooks.has(uri)
    }

    /// The open documents and notebooks, in no order.
    pub(crate) fn held(&self) -> Vec<Arc<str>> {
        self.uris().chain(self.notebooks.uris()).collect()
    }

    /// Whether two clients have the same text, of the same language, in a document.
    pub(crate) fn agrees(&mut self, other: &mut Mirror, uri: &str) -> bool {
        let (ours, theirs) = (self.documents(), other.documents());
        let (Some(ours), Some(theirs)) = (ours.get(uri), theirs.get(uri)) else { return false };
        ours.language_id == theirs.language_id && ours.document.rope() == theirs.document.rope()
    }

    /// Whether the workspace's folders are not those that `initialize` named any more.
    pub(crate) fn has_moved(&self) -> bool {
        !self.folders.is_empty()
    }

    /// The open documents by URI, as the client spells it. O(1) if nothing changed since the last call.
    pub fn documents(&mut self) -> Arc<HashMap<Arc<str>, OpenDocument>> {
        if self.documents.values().any(|open| !open.waiting.is_empty()) {
            for open in Arc::make_mut(&mut self.documents).values_mut() {
                open.settle();
            }
        }
        Arc::clone(&self.documents)
    }

    /// The version of an open document after the last change that the client has sent.
    pub fn latest(&self, uri: &str) -> Option<Revision> {
        self.documents.get(uri).map(|open| open.latest)
    }

    /// The open documents, in no order.
    pub fn uris(&self) -> impl Iterator<Item = Arc<str>> + '_ {
        self.documents.keys().cloned()
    }

    /// How many documents are open.
    pub fn documents_len(&self) -> usize {
        self.documents.len()
    }

    /// The JSON text of the parameters of `initialize`.
    pub fn initialize_params(&self) -> Option<&Bytes> {
        self.initialize.as_ref()
    }

    /// The JSON text of the capabilities that the server answered with.
    pub fn capabilities(&self) -> Option<&Bytes> {
        self.capabilities.as_ref()
    }

    /// The last `workspace/didChangeConfiguration`, whole.
    pub fn settings(&self) -> Option<&Bytes> {
        self.settings.as_ref()
    }

    /// How positions are counted.
    pub fn encoding(&self) -> Encoding {
        self.encoding
    }

    /// Whether the client has sent `initialized`.
    pub fn is_initialized(&self) -> bool {
        self.initialized
    }

    /// Whether the client has asked for the shutdown.
    pub fn is_shutdown(&self) -> bool {
        self.shutdown
    }

    /// Whether the client has sent `exit`.
    pub fn is_exited(&self) -> bool {
        self.exited
    }

    fn did_open(&mut self, envelope: &Envelope) -> Option<Told> {
        let item = match envelope.params_as::<About<Opened>>() {
            Ok(params) => params.text_document,
            Err(error) => {
                tracing::warn!(%error, "a didOpen that cannot be read");
                return None;
            }
        };
        let (uri, revision): (Arc<str>, _) = (item.uri.as_str().into(), Revision(item.version));
        self.opened += 1;
        let open = OpenDocument::new(item, self.encoding, self.opened);
        Arc::make_mut(&mut self.documents).insert(Arc::clone(&uri), open);
        Some(Told::Opened(uri, revision))
    }

    fn did_close(&mut self, envelope: &Envelope) -> Option<Told> {
        let uri = envelope.params_as::<About<Which>>().ok()?.text_document.uri;
        let (uri, _) = Arc::make_mut(&mut self.documents).remove_entry(uri.as_str())?;
        Some(Told::Closed(uri))
    }

    /// Notes the change; the rope follows when somebody looks, off the path of the message.
    fn did_change(&mut self, envelope: &Envelope) -> Option<Told> {
        let Ok(which) = envelope.params_as::<About<Which>>() else {
            tracing::warn!("a didChange that cannot be read");
            return None;
        };
        let uri = which.text_document.uri.as_str();
        let uri = Arc::clone(self.documents.get_key_value(uri)?.0);
        let open = Arc::make_mut(&mut self.documents).get_mut(&uri)?;
        open.latest = which.text_document.version.map_or(open.latest, Revision);
        open.waiting_bytes += envelope.body.len();
        open.waiting.push(envelope.clone());
        let many = open.waiting.len() >= WAITING_CHANGES_MAX;
        if many || open.waiting_bytes >= WAITING_BYTES_MAX {
            open.settle();
        }
        Some(Told::Changed(uri, open.latest))
    }
}

impl OpenDocument {
    fn new(item: Opened, encoding: Encoding, opened: u64) -> OpenDocument {
        OpenDocument {
            language_id: item.language_id.into(),
            document: Document::new(Revision(item.version), &item.text),
            encoding,
            latest: Revision(item.version),
            opened,
            waiting: Vec::new(),
            waiting_bytes: 0,
        }
    }

    fn settle(&mut self) {
        self.waiting_bytes = 0;
        for envelope in std::mem::take(&mut self.waiting) {
            let params = match envelope.params_as::<Changed>() {
                Ok(params) => params,
                Err(error) => {
                    tracing::warn!(%error, "a didChange that cannot be read");
                    continue;
                }
            };
            self.apply(params.text_document.version, params.content_changes);
        }
    }

    fn apply(&mut self, version: Option<i32>, changes: Vec<ContentChange>) {
        let changes: Vec<Change> = changes
            .into_iter()
            .map(|change| Change { range: change.range.map(range), text: change.text })
            .collect();
        let revision = version.map_or(self.document.revision(), Revision);
        if let Err(error) = self.document.apply(revision, &changes, self.encoding) {
            tracing::error!(%error, "a change that the mirror cannot follow");
        }
    }

    /// The document as an item of the protocol.
    fn item(&self, uri: &str) -> Value {
        json!({
            "uri": uri,
            "languageId": &*self.language_id,
            "version": self.document.revision().0,
            "text": self.document.text(),
        })
    }
}

fn did_open(uri: &str, open: &OpenDocument) -> Envelope {
    let params = json!({ "textDocument": open.item(uri) });
    Envelope::notification("textDocument/didOpen", &params)
}

fn range(range: wire::lsp::Range) -> Range {
    let position = |position: wire::lsp::Position| Position {
        line: position.line,
        character: position.character,
    };
    Range { start: position(range.start), end: position(range.end) }
}

/// A copy that does not keep the whole read buffer alive.
fn copy(bytes: &[u8]) -> Bytes {
    Bytes::copy_from_slice(bytes)
}

/// Whether `envelope` is one of those that the mirror keeps, so that they need not be held for a server that is away.
pub(crate) fn is_mirrored(envelope: &Envelope) -> bool {
    let Kind::Notification { method } = &envelope.kind else { return false };
    matches!(
        &**method,
        "textDocument/didOpen"
            | "textDocument/didChange"
            | "textDocument/didClose"
            | "notebookDocument/didOpen"
            | "notebookDocument/didChange"
            | "notebookDocument/didClose"
            | "notebookDocument/didSave"
            | "textDocument/didSave"
            | "textDocument/willSave"
            | "workspace/didChangeConfiguration"
            | "workspace/didChangeWorkspaceFolders"
            | "initialized"
            | "$/setTrace"
    )
}

#[cfg(test)]
mod tests;
