//! The servers are greeted at once; the client has its answer as soon as that makes sense, and who comes later joins
//! (rule 4.10).

use std::time::{Duration, Instant};

use serde_json::{Value, json};
use wire::lsp::MessageType;
use wire::{Envelope, Id, ResponseError, codes};

use super::capabilities::{self, child_client_capabilities, merge_capabilities};
use super::children::Stage as ChildStage;
use super::registrations::{Change, Wanted, can_register, wanted};
use super::{Asked, Branch, Merge, Purpose, Stage, raw};
use crate::raw::{Raw, Splice};

/// How long the primary may take before the client is answered without it, if it can be told more later.
pub const INITIALIZE_PATIENCE: Duration = Duration::from_secs(3);
/// How long the others may take after the primary before the client is answered without them, if it can be told more later: a
/// capability that is known at once is worth more than one that is registered.
pub const SETTLE_PATIENCE: Duration = Duration::from_millis(250);
/// How long anybody may take if the client cannot be told more later.
pub const LATE_PATIENCE: Duration = Duration::from_secs(15);

/// The client's `initialize` while it has no answer.
#[derive(Debug, Default)]
pub(super) struct Greeting {
    id: Option<Id>,
    since: Option<Instant>,
    /// When the primary answered or refused.
    primary: Option<Instant>,
    /// When to look again.
    look: Option<Instant>,
    /// What the primary, or the first that refused, said.
    error: Option<ResponseError>,
}

impl Merge {
    /// The client says hello: so do we, to all.
    pub(super) fn initialize(&mut self, envelope: &Envelope, id: &Id, now: Instant) {
        if self.stage != Stage::Silent {
            let message = "`initialize` has been asked for already";
            return self.refuse(id.clone(), codes::INVALID_REQUEST, message);
        }
        self.mirror.on_client(envelope);
        let params: Value = envelope.params_as().unwrap_or_default();
        self.client = params["capabilities"].clone();
        self.encoding = capabilities::chosen_encoding(&self.client);
        self.stage = Stage::Greeting;
        let greeting = Greeting { id: Some(id.clone()), since: Some(now), ..Greeting::default() };
        self.greeting = greeting;
        for branch in self.branches() {
            let params = self.greeting_for(branch, envelope.params());
            let ours = self.next_id();
            self.sent.insert(ours, (branch, Purpose::Initialize));
            self.send_child(
                branch,
                Envelope::request(Id::number(ours), "initialize", &raw(&params)),
            );
        }
        self.look_around(now);
    }

    /// The parameters of `initialize` for one server: options of the editor are for the primary.
    fn greeting_for(&self, branch: Branch, params: &[u8]) -> Vec<u8> {
        let root = Raw::new(params);
        let mut splice = Splice::new(params);
        let mut told = child_client_capabilities(&self.client);
        let options = &self.child(branch).options;
        if !options.settings.is_null()
            && let Some(told) = told.as_object_mut()
        {
            // There is something to answer, whatever the editor has.
            let workspace = told.entry("workspace").or_insert_with(|| json!({}));
            if let Some(workspace) = workspace.as_object_mut() {
                workspace.insert("configuration".to_owned(), true.into());
            }
        }
        if let Some(capabilities) = root.get("capabilities")
            && told != self.client
        {
            splice.replace(capabilities, told.to_string());
        }
        if branch != Branch(0) {
            match (&options.initialization_options, root.get("initializationOptions")) {
                (Some(own), Some(value)) => splice.replace(value, own.to_string()),
                (Some(own), None) => {
                    splice.insert(root, "initializationOptions", own.to_string().as_bytes());
                }
                (None, Some(_)) => splice.remove(root, "initializationOptions"),
                (None, None) => {}
            }
            if root.get("workDoneToken").is_some() {
                splice.remove(root, "workDoneToken");
            }
        }
        splice.finish()
    }

    /// A server has answered `initialize`.
    pub(super) fn child_greeted(&mut self, branch: Branch, envelope: &Envelope, now: Instant) {
        match envelope.outcome() {
            Ok(result) => {
                let encoding = self.encoding;
                let child = self.child_mut(branch);
                child.greeted(result);
                if child.encoding != encoding {
                    tracing::warn!(server = child.name(), "counts positions differently");
                }
            }
            Err(error) => self.child_refused(branch, error),
        }
        if branch == Branch(0) {
            self.greeting.primary = Some(now);
        }
        if self.stage == Stage::Greeting {
            return self.look_around(now);
        }
        if self.child(branch).is_ready() && self.mirror.is_initialized() {
            self.introduce(branch, now);
            self.sync_registrations();
        }
        self.release_held(now);
    }

    /// The client leaves before it was greeted: nobody answers its `initialize` any more, so we do.
    pub(super) fn end_greeting(&mut self) {
        if let Some(id) = self.greeting.id.take() {
            self.refuse(id, codes::REQUEST_CANCELLED, "the shutdown has been asked for");
        }
    }

    fn child_refused(&mut self, branch: Branch, error: ResponseError) {
        let child = self.child_mut(branch);
        child.stage = ChildStage::Refused(error.message.clone());
        let shown = child.last_shown.take().is_some_and(|shown| shown == error.message);
        let message = format!("Demolish: {} did not start: {}", child.name(), error.message);
        tracing::warn!("{message}");
        // Its link says so itself if there is no such program.
        if !shown && self.is_merged() {
            self.tell(MessageType::WARNING, &message);
        }
        if branch == Branch(0) || self.greeting.error.is_none() {
            self.greeting.error = Some(error);
        }
    }

    /// Answers the client's `initialize` if it is time.
    pub(super) fn look_around(&mut self, now: Instant) {
        let Some(since) = self.greeting.since else { return };
        if self.stage != Stage::Greeting {
            return;
        }
        let waiting = self.children.iter().any(|child| child.stage == ChildStage::Greeting);
        let ready = self.children.iter().any(super::children::Child::is_ready);
        let settled = self.greeting.primary.map(|at| at + SETTLE_PATIENCE);
        let patience = match self.can_be_told_more() {
            true => settled.unwrap_or(since + INITIALIZE_PATIENCE).min(since + INITIALIZE_PATIENCE),
            false => since + LATE_PATIENCE,
        };
        if !waiting || ready && now >= patience {
            return self.welcome(now);
        }
        self.greeting.look = Some(patience).filter(|at| *at > now);
    }

    /// When [`Merge::look_around`] has something to do.
    pub(super) fn greeting_deadline(&self) -> Option<Instant> {
        self.greeting.look.filter(|_| self.stage == Stage::Greeting)
    }

    /// Whether the client takes what is registered later, at least the most common of it.
    fn can_be_told_more(&self) -> bool {
        ["completion", "hover", "codeAction"]
            .iter()
            .all(|name| can_register(&self.client, &format!("textDocument/{name}")))
    }

    /// Answers the client's `initialize`.
    fn welcome(&mut self, now: Instant) {
        let Some(id) = self.greeting.id.take() else { return };
        self.greeting.look = None;
        let (_, greeted) = self.greeted();
        if greeted.is_empty() {
            self.stage = Stage::Silent;
            let none = || ResponseError::new(codes::REQUEST_FAILED, "no language server started");
            let error = self.greeting.error.take().unwrap_or_else(none);
            self.restart_greeting();
            return self.send_client(Envelope::error(id, &error));
        }
        let merged = merge_capabilities(&greeted, &self.client, &self.options.owners);
        let names: Vec<&str> = greeted.iter().map(|child| child.name).collect();
        let name = names.join(" + ");
        let result = json!({ "capabilities": merged, "serverInfo": { "name": name } });
        self.advertised = merged;
        self.stage = Stage::Serving;
        if let Ok(bytes) = serde_json::to_vec(&result) {
            self.mirror.on_initialize_result(&bytes);
        }
        self.send_client(Envelope::response(id, &result));
        self.tell_encodings();
        for (branch, envelope) in std::mem::take(&mut self.early) {
            self.child_message(branch, envelope, now);
        }
    }

    /// The client may try again.
    fn restart_greeting(&mut self) {
        self.greeting = Greeting::default();
        for child in &mut self.children {
            child.stage = ChildStage::Greeting;
        }
    }

    /// The client has said that it has read our answer: so do we.
    pub(super) fn initialized(&mut self, now: Instant) {
        for branch in self.ready() {
            self.introduce(branch, now);
        }
        self.sync_registrations();
    }

    /// A server is told what the client has told the others: derived from what is so now.
    fn introduce(&mut self, branch: Branch, now: Instant) {
        for envelope in self.mirror.replay() {
            let wanted = match envelope.method() {
                Some("textDocument/didOpen") => self.child(branch).hears_of_documents(),
                Some("workspace/didChangeWorkspaceFolders") => {
                    self.child(branch).hears_of_folders()
                }
                _ => true,
            };
            if !wanted {
                continue;
            }
            if envelope.method() == Some("textDocument/didOpen") {
                self.note_to_pull(branch, &envelope, now);
            }
            self.send_child(branch, envelope);
        }
    }

    /// Tells the user, once, of servers that are limited because they count positions in their own way (rule 4.27).
    fn tell_encodings(&mut self) {
        let encoding = self.encoding;
        let differs = |child: &&mut super::children::Child| {
            child.is_ready() && child.encoding != encoding && !child.told_encoding
        };
        let mut messages = Vec::new();
        for child in self.children.iter_mut().filter(differs) {
            child.told_encoding = true;
            messages.push(format!(
                "Demolish: {} counts columns in {}, the editor in {}; methods that the protocol does not know do not \
                 reach it",
                child.options.name,
                child.encoding.as_lsp(),
                encoding.as_lsp(),
            ));
        }
        for message in messages {
            self.tell(MessageType::WARNING, &message);
        }
    }

    /// Tells the client what has changed of what is registered (rule 4.12).
    pub(super) fn sync_registrations(&mut self) {
        if !self.mirror.is_initialized() || self.stage != Stage::Serving {
            return;
        }
        self.tell_encodings();
        let wanted = self.wanted_registrations();
        let Change { unregister, register } = self.told.change(wanted);
        if !unregister.is_empty() {
            // The misspelling is the protocol's.
            let params = json!({ "unregisterations": unregister });
            self.ask_client("client/unregisterCapability", &params, Asked::Nothing, None);
        }
        if !register.is_empty() {
            let params = json!({ "registrations": register });
            self.ask_client("client/registerCapability", &params, Asked::Nothing, None);
        }
    }

    fn wanted_registrations(&self) -> Wanted {
        let (ready, greeted) = self.greeted();
        let today = merge_capabilities(&greeted, &self.client, &self.options.owners);
        let all = ready.iter().map(|branch| {
            let child = self.child(*branch);
            (*branch, child.name(), &child.registrations[..])
        });
        let mut wanted = wanted(all, &self.client, &self.advertised, &today);
        if self.advertised["diagnosticProvider"].is_null() {
            for (at, options) in capabilities::diagnostic_registrations(&greeted, &self.client) {
                let method = "textDocument/diagnostic".to_owned();
                wanted.insert(format!("{method}#{}", greeted[at].name), (method, options));
            }
        }
        let files = self.watches.union();
        if !files.is_null() && can_register(&self.client, "workspace/didChangeWatchedFiles") {
            let method = "workspace/didChangeWatchedFiles".to_owned();
            wanted.insert(method.clone(), (method, files));
        }
        wanted
    }
}
