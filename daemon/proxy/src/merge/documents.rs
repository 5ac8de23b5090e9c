//! What the client tells about its documents (rules 4.25, 4.29 and 4.30): every server hears what it has asked for, in order.
//!
//! A server that takes changes as they are made gets the client's own bytes. One that wants the whole text gets it a moment
//! later, but always before anything else about that document.

use std::sync::Arc;
use std::time::{Duration, Instant};

use serde_json::json;
use wire::{Envelope, Id};

use super::children::Changes;
use super::{Branch, Merge, Stage};
use crate::raw::{Raw, Splice};

/// How long a whole text waits for further changes.
pub const TEXT_DELAY: Duration = Duration::from_millis(20);

impl Merge {
    /// A notification of the client.
    pub(super) fn client_notification(&mut self, envelope: &Envelope, method: &str, now: Instant) {
        if method == "$/cancelRequest" {
            if let Some(id) =
                Raw::new(envelope.params()).get("id").and_then(|id| Id::from_raw(id.bytes()))
            {
                self.client_cancel(&id, now);
            }
            return;
        }
        self.mirror.on_client(envelope);
        let uri = || Raw::new(envelope.params()).path("textDocument.uri").and_then(Raw::string);
        match method {
            "exit" => self.tell_all(envelope),
            _ if self.stage == Stage::Silent || self.stage == Stage::Greeting => {
                tracing::warn!(method, "before `initialize` was answered: dropped");
            }
            "initialized" => self.initialized(now),
            "textDocument/didOpen" => self.did_open(envelope, &uri().unwrap_or_default(), now),
            "textDocument/didChange" => {
                self.did_change(envelope, &uri().unwrap_or_default().into(), now)
            }
            "textDocument/didClose" => self.did_close(envelope, &uri().unwrap_or_default()),
            "textDocument/willSave" => {
                let uri = uri().unwrap_or_default();
                for branch in self.ready() {
                    if self.child(branch).hears_before_saves() {
                        self.flush_text(branch, &uri);
                        self.send_child(branch, envelope.clone());
                    }
                }
            }
            "textDocument/didSave" => {
                self.did_save(envelope, &uri().unwrap_or_default().into(), now)
            }
            _ => self.other_notification(envelope, method),
        }
    }

    fn did_open(&mut self, envelope: &Envelope, uri: &str, now: Instant) {
        self.spellings.opened(uri);
        for branch in self.ready() {
            if self.child(branch).hears_of_documents() {
                self.send_child(branch, envelope.clone());
            }
            self.note_to_pull(branch, envelope, now);
        }
    }

    fn did_change(&mut self, envelope: &Envelope, uri: &Arc<str>, now: Instant) {
        for branch in self.ready() {
            match self.child(branch).changes(self.encoding) {
                Changes::No => {}
                Changes::Incremental => self.send_child(branch, envelope.clone()),
                Changes::Full => {
                    self.texts.entry((branch, Arc::clone(uri))).or_insert(now + TEXT_DELAY);
                }
            }
            self.pull_soon(branch, uri, now);
        }
    }

    fn did_close(&mut self, envelope: &Envelope, uri: &str) {
        self.spellings.closed(uri);
        self.pulls.closed(uri);
        self.texts.retain(|(_, of), _| **of != *uri);
        self.to_pull.retain(|(_, of), _| **of != *uri);
        for branch in self.ready() {
            if self.child(branch).hears_of_documents() {
                self.send_child(branch, envelope.clone());
            }
        }
    }

    /// The text of a save is for those that have asked for it (rule 4.29).
    fn did_save(&mut self, envelope: &Envelope, uri: &Arc<str>, now: Instant) {
        let root = Raw::new(envelope.params());
        for branch in self.ready() {
            self.pull_soon(branch, uri, now);
            let Some(with_text) = self.child(branch).hears_of_saves() else { continue };
            self.flush_text(branch, uri);
            let told = if with_text || root.get("text").is_none() {
                envelope.clone()
            } else {
                let mut splice = Splice::new(envelope.params());
                splice.remove(root, "text");
                Envelope::notification("textDocument/didSave", &super::raw(&splice.finish()))
            };
            self.send_child(branch, told);
        }
    }

    /// Sends a server the text of a document that it does not have yet; before anything else about that document.
    pub(super) fn flush_text(&mut self, branch: Branch, uri: &str) {
        let key = (branch, Arc::from(uri));
        if self.texts.remove(&key).is_none() {
            return;
        }
        let documents = self.mirror.documents();
        let Some(open) = documents.get(uri) else { return };
        let document = json!({ "uri": uri, "version": open.document.revision().0 });
        let changes = json!([{ "text": open.document.text() }]);
        let params = json!({ "textDocument": document, "contentChanges": changes });
        self.send_child(branch, Envelope::notification("textDocument/didChange", &params));
    }

    /// Sends all texts of one server: before something that may be about any of them.
    pub(super) fn flush_texts(&mut self, branch: Branch) {
        let of = |(key, _): (&(Branch, Arc<str>), &Instant)| {
            (key.0 == branch).then(|| Arc::clone(&key.1))
        };
        let waiting: Vec<Arc<str>> = self.texts.iter().filter_map(of).collect();
        for uri in waiting {
            self.flush_text(branch, &uri);
        }
    }

    /// Sends the texts whose time has come.
    pub(super) fn expire_texts(&mut self, now: Instant) {
        let is_due = |(_, at): &(&(Branch, Arc<str>), &Instant)| **at <= now;
        let due: Vec<_> = self.texts.iter().filter(is_due).map(|(key, _)| key.clone()).collect();
        for (branch, uri) in due {
            self.flush_text(branch, &uri);
        }
    }

    pub(super) fn tell_all(&mut self, envelope: &Envelope) {
        for branch in self.branches() {
            self.send_child(branch, envelope.clone());
        }
    }
}
