//! What a server has said about documents: its diagnostics, pushed and pulled. Only listens; no byte is altered.

use std::collections::HashMap;
use std::sync::Arc;

use serde::Deserialize;
use serde_json::value::RawValue;
use wire::{Bytes, Envelope};

/// How many documents of one server are remembered, for each way; what is said about further ones only passes.
pub const TAP_DOCUMENTS_MAX: usize = 8 * 1024;

/// How the diagnostics came.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Source {
    /// By `textDocument/publishDiagnostics`.
    Push,
    /// As the answer to a pull.
    Pull,
}

/// A set of diagnostics as the server gave it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Published {
    /// The version of the document that they are for: the server's word, or for a pull what had been sent when it was asked.
    pub version: Option<i32>,
    /// A JSON array of the protocol's diagnostics.
    pub diagnostics: Bytes,
    /// How they came.
    pub source: Source,
    /// Counts the sets of this server: a greater number is later.
    pub sequence: u64,
}

/// The latest diagnostics of every document, by the URI as the server spells it.
#[derive(Clone, Debug, Default)]
pub struct Tap {
    pushed: Arc<HashMap<Arc<str>, Published>>,
    pulled: Arc<HashMap<Arc<str>, Published>>,
    sequence: u64,
}

#[derive(Deserialize)]
struct Push {
    uri: String,
    version: Option<i32>,
    diagnostics: Box<RawValue>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Report {
    kind: Option<String>,
    items: Option<Box<RawValue>>,
    related_documents: Option<HashMap<String, Report>>,
}

#[derive(Deserialize)]
struct WorkspaceReport {
    items: Vec<WorkspaceItem>,
}

#[derive(Deserialize)]
struct WorkspaceItem {
    uri: String,
    version: Option<i32>,
    #[serde(flatten)]
    report: HashMap<String, Box<RawValue>>,
}

impl Tap {
    /// Listens to `textDocument/publishDiagnostics`; returns the URI.
    pub fn on_publish(&mut self, envelope: &Envelope) -> Option<Arc<str>> {
        let push: Push = envelope.params_as().ok()?;
        let uri: Arc<str> = push.uri.into();
        let set = self.set(push.version, &push.diagnostics, Source::Push);
        insert(&mut self.pushed, &uri, set);
        Some(uri)
    }

    /// Listens to the result of `textDocument/diagnostic`, asked for `uri` at `version`.
    pub fn on_pulled(&mut self, uri: &Arc<str>, version: Option<i32>, result: &[u8]) {
        if let Ok(report) = wire::parse::<Report>(result) {
            self.pulled(uri, version, &report);
            for (uri, report) in report.related_documents.into_iter().flatten() {
                self.pulled(&uri.into(), None, &report);
            }
        }
    }

    /// Listens to the result of `workspace/diagnostic`.
    pub fn on_workspace_pulled(&mut self, result: &[u8]) {
        let Ok(report) = wire::parse::<WorkspaceReport>(result) else { return };
        for item in report.items {
            if let Some(items) = item.report.get("items") {
                let set = self.set(item.version, items, Source::Pull);
                insert(&mut self.pulled, &item.uri.into(), set);
            }
        }
    }

    /// The latest diagnostics of a document, however they came.
    pub fn latest(&self, uri: &str) -> Option<&Published> {
        let (pushed, pulled) = (self.pushed.get(uri), self.pulled.get(uri));
        match (pushed, pulled) {
            (Some(push), Some(pull)) => {
                Some(if push.sequence > pull.sequence { push } else { pull })
            }
            (one, other) => one.or(other),
        }
    }

    /// The latest pushed set of a document.
    pub fn last_pushed(&self, uri: &str) -> Option<&Published> {
        self.pushed.get(uri)
    }

    /// All pushed sets; cheap.
    pub fn pushed(&self) -> Arc<HashMap<Arc<str>, Published>> {
        Arc::clone(&self.pushed)
    }

    /// All pulled sets; cheap.
    pub fn all_pulled(&self) -> Arc<HashMap<Arc<str>, Published>> {
        Arc::clone(&self.pulled)
    }

    /// The documents that clients now show pushed diagnostics for.
    pub fn shown(&self) -> Vec<Arc<str>> {
        let shown = |set: &Published| !matches!(&*set.diagnostics, b"[]");
        let pushed = self.pushed.iter().filter(|(_, set)| shown(set));
        let mut uris: Vec<_> = pushed.map(|(uri, _)| Arc::clone(uri)).collect();
        uris.sort_unstable();
        uris
    }

    /// Forgets everything; returns the documents that the client now shows pushed diagnostics for.
    pub fn clear(&mut self) -> Vec<Arc<str>> {
        let uris = self.shown();
        (self.pulled, self.pushed) = (Arc::default(), Arc::default());
        uris
    }

    fn pulled(&mut self, uri: &Arc<str>, version: Option<i32>, report: &Report) {
        match (&report.items, report.kind.as_deref()) {
            (Some(items), _) => {
                let set = self.set(version, items, Source::Pull);
                insert(&mut self.pulled, uri, set);
            }
            (None, Some("unchanged")) => {
                if let Some(set) = Arc::make_mut(&mut self.pulled).get_mut(uri) {
                    self.sequence += 1;
                    set.sequence = self.sequence;
                    set.version = version;
                }
            }
            (None, _) => {}
        }
    }

    fn set(&mut self, version: Option<i32>, items: &RawValue, source: Source) -> Published {
        self.sequence += 1;
        let diagnostics = Bytes::copy_from_slice(items.get().as_bytes());
        Published { version, diagnostics, source, sequence: self.sequence }
    }
}

fn insert(sets: &mut Arc<HashMap<Arc<str>, Published>>, uri: &Arc<str>, set: Published) {
    if sets.len() < TAP_DOCUMENTS_MAX || sets.contains_key(uri) {
        Arc::make_mut(sets).insert(Arc::clone(uri), set);
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn the_latest_of_push_and_pull_counts_and_unchanged_keeps_the_items() {
        let mut tap = Tap::default();
        let uri: Arc<str> = "file:///a".into();
        let publish = json!({ "uri": &*uri, "version": 3, "diagnostics": [{"message": "m"}] });
        tap.on_publish(&Envelope::notification("textDocument/publishDiagnostics", &publish));
        assert_eq!(tap.latest(&uri).unwrap().version, Some(3));
        tap.on_pulled(&uri, Some(4), br#"{"kind":"full","items":[],"resultId":"1"}"#);
        let latest = tap.latest(&uri).unwrap();
        assert_eq!((latest.source, &latest.diagnostics[..]), (Source::Pull, &b"[]"[..]));
        tap.on_pulled(&uri, Some(5), br#"{"kind":"unchanged","resultId":"1"}"#);
        assert_eq!(tap.latest(&uri).unwrap().version, Some(5));
        assert_eq!(tap.clear(), [uri]);
        assert!(tap.clear().is_empty());
    }
}
