//! What the client tells about everything but documents: settings, folders, files, tokens; and what we do not know.

use std::time::Instant;

use serde_json::Value;
use wire::{Envelope, Id};

use super::{Asked, AskedClient, Branch, Merge, raw, uri};
use crate::positions;
use crate::raw::{Raw, Splice, array};

impl Merge {
    pub(super) fn other_notification(&mut self, envelope: &Envelope, method: &str) {
        match method {
            "workspace/didChangeConfiguration" | "$/setTrace" => {
                for branch in self.ready() {
                    self.send_child(branch, envelope.clone());
                }
            }
            "workspace/didChangeWorkspaceFolders" => {
                for branch in self.ready() {
                    if self.child(branch).hears_of_folders() {
                        self.send_child(branch, envelope.clone());
                    }
                }
            }
            "workspace/didChangeWatchedFiles" => self.watched_files(envelope),
            "workspace/didCreateFiles"
            | "workspace/didRenameFiles"
            | "workspace/didDeleteFiles" => {
                for branch in self.ready() {
                    if self.child(branch).hears_of_files(method) {
                        self.send_child(branch, envelope.clone());
                    }
                }
            }
            "window/workDoneProgress/cancel" => self.cancel_progress(envelope),
            // Notebooks (rule 4.30), and what we do not know (rule 4.43), are the primary's.
            _ => {
                let primary = &self.children[0];
                let opaque = primary.encoding != self.encoding && !positions::is_typed(method);
                if primary.is_ready() && !opaque {
                    self.flush_texts(Branch(0));
                    self.send_child(Branch(0), envelope.clone());
                }
            }
        }
    }

    /// Every event goes to those who have asked for it (rule 4.31).
    fn watched_files(&mut self, envelope: &Envelope) {
        let root = Raw::new(envelope.params());
        let Some(list) = root.get("changes").filter(|list| list.is_array()) else { return };
        let events = list.elements();
        let roots = self.roots();
        for branch in self.ready() {
            let wanted: Vec<&[u8]> = events
                .iter()
                .filter(|event| {
                    let file = event.get("uri").and_then(Raw::string).unwrap_or_default();
                    let kind = event.get("type").and_then(Raw::number).unwrap_or_default();
                    self.watches.wants(branch, &file, kind.into(), &roots)
                })
                .map(|event| event.bytes())
                .collect();
            if wanted.len() == events.len() {
                self.send_child(branch, envelope.clone());
            } else if !wanted.is_empty() {
                let mut splice = Splice::new(envelope.params());
                splice.replace(list, array(wanted));
                let params = raw(&splice.finish());
                let method = "workspace/didChangeWatchedFiles";
                self.send_child(branch, Envelope::notification(method, &params));
            }
        }
    }

    /// The paths of the workspace's folders, as far as `initialize` has named them.
    fn roots(&self) -> Vec<String> {
        let params: Value = self
            .mirror
            .initialize_params()
            .and_then(|raw| wire::parse(raw).ok())
            .unwrap_or_default();
        let folders = params["workspaceFolders"].as_array();
        let folders = folders.into_iter().flatten().filter_map(|folder| folder["uri"].as_str());
        let root = params["rootUri"].as_str();
        folders.chain(root).filter_map(uri::path).collect()
    }

    /// The user wants something ended: its maker knows it under another name (rule 4.22).
    fn cancel_progress(&mut self, envelope: &Envelope) {
        let root = Raw::new(envelope.params());
        let Some(token) = root.get("token") else { return };
        let ours = token.string();
        let owner = ours.as_deref().and_then(|ours| self.progress.owner(ours));
        match owner.map(|(branch, theirs)| (branch, theirs.to_owned())) {
            Some((branch, theirs)) => {
                let mut splice = Splice::new(envelope.params());
                splice.replace(token, theirs);
                let params = raw(&splice.finish());
                let method = "window/workDoneProgress/cancel";
                self.send_child(branch, Envelope::notification(method, &params));
            }
            // A token that the client has made: whoever was given it.
            None => {
                for branch in self.ready() {
                    self.send_child(branch, envelope.clone());
                }
            }
        }
    }

    /// The client has answered a request.
    pub(super) fn client_response(&mut self, envelope: &Envelope, id: &Id, now: Instant) {
        let Some(asked) = id.as_u32().and_then(|ours| self.asked_client.remove(&ours)) else {
            return tracing::debug!(%id, "an answer that nobody waits for");
        };
        if let Asked::Token(token) = &asked.what {
            let show = self.progress.acknowledged(token, envelope.outcome().is_ok(), now);
            return self.show(show, now);
        }
        self.settle(asked, |id| envelope.with_id(id));
    }

    /// Gives a server the answer to what it has asked the client.
    pub(super) fn settle(&mut self, asked: AskedClient, answer: impl Fn(Id) -> Envelope) {
        match asked.what {
            Asked::For(branch, id) => self.send_child(branch, answer(id)),
            Asked::Settings(branch, id, items) => {
                let answer = answer(id.clone());
                let given: Vec<Value> = match answer.outcome() {
                    Ok(result) => wire::parse(result).unwrap_or_default(),
                    Err(_) => Vec::new(),
                };
                self.settings_answered(branch, id, &items, given, &answer);
            }
            Asked::Token(_) | Asked::Nothing => {}
        }
    }
}
