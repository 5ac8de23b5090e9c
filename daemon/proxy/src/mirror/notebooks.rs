//! Notebooks that a client has open: their cells, and the texts of the cells.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;

use serde::Deserialize;
use serde_json::{Value, json};
use text::Encoding;
use wire::Envelope;

use super::{OpenDocument, Opened, Which};

/// The notebooks by URI, as the client spells it.
#[derive(Clone, Debug, Default)]
pub(super) struct Notebooks {
    open: HashMap<Arc<str>, Notebook>,
    opened: u64,
}

#[derive(Clone, Debug)]
struct Notebook {
    /// The notebook as an item of the protocol; its cells are replaced as they change.
    item: Value,
    texts: BTreeMap<String, OpenDocument>,
    opened: u64,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct DidOpen {
    notebook_document: Value,
    #[serde(default)]
    cell_text_documents: Vec<Opened>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct DidChange {
    notebook_document: Which,
    change: NotebookChange,
}

#[derive(Deserialize)]
struct NotebookChange {
    metadata: Option<Value>,
    cells: Option<CellChanges>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase", default)]
#[derive(Default)]
struct CellChanges {
    structure: Option<Structure>,
    data: Vec<Value>,
    text_content: Vec<TextContent>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Structure {
    array: ArrayChange,
    #[serde(default)]
    did_open: Vec<Opened>,
    #[serde(default)]
    did_close: Vec<Which>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct ArrayChange {
    start: usize,
    delete_count: usize,
    #[serde(default)]
    cells: Vec<Value>,
}

#[derive(Deserialize)]
struct TextContent {
    document: Which,
    changes: Vec<super::ContentChange>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct DidClose {
    notebook_document: Which,
}

impl Notebooks {
    /// Listens to a notification about a notebook.
    pub(super) fn on_client(&mut self, method: &str, envelope: &Envelope, encoding: Encoding) {
        let read = match method {
            "notebookDocument/didOpen" => {
                envelope.params_as().map(|params| self.did_open(params, encoding))
            }
            "notebookDocument/didChange" => {
                envelope.params_as().map(|params| self.did_change(params, encoding))
            }
            "notebookDocument/didClose" => envelope.params_as::<DidClose>().map(|params| {
                self.open.remove(params.notebook_document.uri.as_str());
            }),
            _ => Ok(()),
        };
        if let Err(error) = read {
            tracing::warn!(%error, method, "a notification that cannot be read");
        }
    }

    pub(super) fn has(&self, uri: &str) -> bool {
        self.open.contains_key(uri)
    }

    pub(super) fn uris(&self) -> impl Iterator<Item = Arc<str>> + '_ {
        self.open.keys().cloned()
    }

    /// The notifications that open the notebooks as they are now, in the order in which they were opened.
    pub(super) fn replay(&self, of: impl Fn(&str) -> bool) -> Vec<Envelope> {
        let mut open: Vec<_> = self.open.iter().filter(|(uri, _)| of(uri)).collect();
        open.sort_unstable_by_key(|(_, notebook)| notebook.opened);
        open.into_iter().map(|(_, notebook)| notebook.did_open()).collect()
    }

    fn did_open(&mut self, params: DidOpen, encoding: Encoding) {
        let Some(uri) = params.notebook_document["uri"].as_str() else { return };
        self.opened += 1;
        let mut notebook =
            Notebook { item: Value::Null, texts: BTreeMap::new(), opened: self.opened };
        notebook.add(params.cell_text_documents, encoding);
        let uri = uri.into();
        notebook.item = params.notebook_document;
        self.open.insert(uri, notebook);
    }

    fn did_change(&mut self, params: DidChange, encoding: Encoding) {
        let Some(notebook) = self.open.get_mut(params.notebook_document.uri.as_str()) else {
            return;
        };
        if let Some(version) = params.notebook_document.version {
            notebook.item["version"] = version.into();
        }
        if let Some(metadata) = params.change.metadata {
            notebook.item["metadata"] = metadata;
        }
        let cells = params.change.cells.unwrap_or_default();
        if let Some(structure) = cells.structure {
            notebook.restructure(structure, encoding);
        }
        for cell in cells.data {
            notebook.replace(cell);
        }
        for content in cells.text_content {
            if let Some(text) = notebook.texts.get_mut(&content.document.uri) {
                text.apply(content.document.version, content.changes);
            }
        }
    }
}

impl Notebook {
    fn add(&mut self, texts: Vec<Opened>, encoding: Encoding) {
        for item in texts {
            self.texts.insert(item.uri.clone(), OpenDocument::new(item, encoding, 0));
        }
    }

    fn restructure(&mut self, structure: Structure, encoding: Encoding) {
        if let Some(cells) = self.item["cells"].as_array_mut() {
            let ArrayChange { start, delete_count, cells: new } = structure.array;
            let start = start.min(cells.len());
            let end = start.saturating_add(delete_count).min(cells.len());
            cells.splice(start..end, new);
        }
        for gone in structure.did_close {
            self.texts.remove(&gone.uri);
        }
        self.add(structure.did_open, encoding);
    }

    /// A cell has other data; which cell that is, its document says.
    fn replace(&mut self, cell: Value) {
        let cells = self.item["cells"].as_array_mut().into_iter().flatten();
        for old in cells {
            if old["document"] == cell["document"] {
                *old = cell;
                return;
            }
        }
    }

    /// Texts come in the order of their cells, as servers expect.
    fn did_open(&self) -> Envelope {
        let cells = self.item["cells"].as_array().into_iter().flatten();
        let texts: Vec<Value> = cells
            .filter_map(|cell| cell["document"].as_str())
            .filter_map(|uri| Some(self.texts.get(uri)?.item(uri)))
            .collect();
        let params = json!({ "notebookDocument": self.item, "cellTextDocuments": texts });
        Envelope::notification("notebookDocument/didOpen", &params)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn tell(notebooks: &mut Notebooks, method: &str, params: &Value) {
        let envelope = Envelope::notification(method, params);
        notebooks.on_client(method, &envelope, Encoding::Utf16);
    }

    fn text(uri: &str, version: i32, text: &str) -> Value {
        json!({ "uri": uri, "languageId": "python", "version": version, "text": text })
    }

    #[test]
    fn rule_4_30_a_notebook_is_replayed_as_it_is_now() {
        let mut notebooks = Notebooks::default();
        let cell = |uri: &str| json!({ "kind": 2, "document": uri });
        let item = json!({
            "uri": "n", "notebookType": "jupyter", "version": 1, "cells": [cell("a"), cell("b")],
        });
        let texts = json!([text("a", 1, "x = 1"), text("b", 1, "y")]);
        let params = json!({ "notebookDocument": item, "cellTextDocuments": texts });
        tell(&mut notebooks, "notebookDocument/didOpen", &params);
        let edit = json!({ "range": { "start": { "line": 0, "character": 4 }, "end": { "line": 0, "character": 5 } }, "text": "2" });
        let change = json!({
            "metadata": { "m": 1 },
            "cells": {
                "structure": {
                    "array": { "start": 1, "deleteCount": 1, "cells": [cell("c")] },
                    "didOpen": [text("c", 1, "z")],
                    "didClose": [{ "uri": "b" }],
                },
                "data": [{ "kind": 1, "document": "c" }],
                "textContent": [{ "document": { "uri": "a", "version": 2 }, "changes": [edit] }],
            },
        });
        let params = json!({ "notebookDocument": { "uri": "n", "version": 2 }, "change": change });
        tell(&mut notebooks, "notebookDocument/didChange", &params);
        let replay = notebooks.replay(|_| true);
        let params: Value = replay[0].params_as().unwrap();
        let cells = json!([cell("a"), { "kind": 1, "document": "c" }]);
        let expected = json!({
            "notebookDocument": {
                "uri": "n", "notebookType": "jupyter", "version": 2, "metadata": { "m": 1 }, "cells": cells,
            },
            "cellTextDocuments": [text("a", 2, "x = 2"), text("c", 1, "z")],
        });
        assert_eq!(params, expected);
        let closed = json!({ "notebookDocument": { "uri": "n" }, "cellTextDocuments": [] });
        tell(&mut notebooks, "notebookDocument/didClose", &closed);
        assert!(notebooks.replay(|_| true).is_empty());
    }
}
