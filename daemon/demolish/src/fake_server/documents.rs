//! The documents that a fake server has open; it follows whole texts and edits of ranges, counted in UTF-16.

use std::collections::BTreeMap;

use serde_json::Value;
use text::{Change, Document, Encoding, Position, Range, Revision};

/// Open documents by URI: version and text.
#[derive(Debug, Default)]
pub(super) struct Documents(BTreeMap<String, (i64, String)>);

impl Documents {
    /// All of them.
    pub(super) fn all(&self) -> &BTreeMap<String, (i64, String)> {
        &self.0
    }

    /// One of them.
    pub(super) fn get(&self, uri: &str) -> Option<(i64, String)> {
        self.0.get(uri).cloned()
    }

    /// `textDocument/didOpen`; returns the URI.
    pub(super) fn open(&mut self, params: &Value) -> String {
        let document = &params["textDocument"];
        let text = document["text"].as_str().unwrap_or("").to_owned();
        let uri = uri(params);
        self.0.insert(uri.clone(), (version(document), text));
        uri
    }

    /// `textDocument/didChange`; returns the URI.
    pub(super) fn change(&mut self, params: &Value) -> String {
        let uri = uri(params);
        let text = self.0.remove(&uri).map(|(_, text)| text).unwrap_or_default();
        let changes: Vec<Change> =
            params["contentChanges"].as_array().into_iter().flatten().map(change).collect();
        let mut document = Document::new(Revision(0), &text);
        let _ = document.apply(Revision(1), &changes, Encoding::Utf16);
        self.0.insert(uri.clone(), (version(&params["textDocument"]), document.text()));
        uri
    }

    /// `textDocument/didClose`.
    pub(super) fn close(&mut self, params: &Value) {
        self.0.remove(&uri(params));
    }
}

fn uri(params: &Value) -> String {
    params["textDocument"]["uri"].as_str().unwrap_or("").to_owned()
}

fn version(document: &Value) -> i64 {
    document["version"].as_i64().unwrap_or(0)
}

fn change(change: &Value) -> Change {
    let number = |value: &Value| value.as_u64().and_then(|n| u32::try_from(n).ok()).unwrap_or(0);
    let position = |value: &Value| Position {
        line: number(&value["line"]),
        character: number(&value["character"]),
    };
    let range = change
        .get("range")
        .map(|range| Range { start: position(&range["start"]), end: position(&range["end"]) });
    Change { range, text: change["text"].as_str().unwrap_or("").to_owned() }
}
