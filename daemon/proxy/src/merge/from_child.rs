//! What a server says, asks and answers.

use std::sync::Arc;
use std::time::{Duration, Instant};

use serde_json::{Value, json};
use wire::{Envelope, Id, Kind, Lane, ResponseError};

use super::children::overlaid;
use super::diagnostics::Way;
use super::progress::{Show, Stage as Progressed};
use super::registrations::{REGISTRATIONS_MAX, Registration, can_register};
use super::{Asked, Branch, Merge, Purpose, Stage, raw};
use crate::lane_to_client;
use crate::positions::Conversion;
use crate::raw::{Raw, Splice, quoted};

/// How long the editor may take to say what its settings are (rule 4.33).
pub const CONFIGURATION_PATIENCE: Duration = Duration::from_secs(1);
/// How long the editor may take to answer anything else; the server's link answers long before.
const CLIENT_PATIENCE: Duration = Duration::from_secs(660);
/// How long a wish to have something refreshed waits for others of its kind (rule 4.45).
pub const REFRESH_DELAY: Duration = Duration::from_millis(100);
/// How many messages of servers wait for the client's answer to `initialize`.
const EARLY_MAX: usize = 4 * 1024;

impl Merge {
    /// A message of a server.
    pub(super) fn child_message(&mut self, branch: Branch, envelope: Envelope, now: Instant) {
        if let Kind::Response { id } = &envelope.kind {
            let id = id.clone();
            return self.child_response(branch, envelope, &id, now);
        }
        let method = envelope.method().unwrap_or_default().to_owned();
        let early = matches!(self.stage, Stage::Silent | Stage::Greeting);
        if early && !is_allowed_early(&method) {
            if self.early.len() < EARLY_MAX {
                self.early.push_back((branch, envelope));
            }
            return;
        }
        if method != "textDocument/publishDiagnostics" {
            self.flush_diagnostics(branch);
        }
        match envelope.kind.clone() {
            Kind::Request { id, .. } => self.child_request(branch, &envelope, &id, &method, now),
            _ => self.child_notification(branch, &envelope, &method, now),
        }
    }

    fn child_response(&mut self, branch: Branch, envelope: Envelope, id: &Id, now: Instant) {
        let purpose = id.as_u32().and_then(|sent| {
            let (of, _) = self.sent.get(&sent).filter(|(of, _)| *of == branch)?;
            debug_assert_eq!(*of, branch);
            Some((sent, self.sent.remove(&sent)?.1))
        });
        match purpose {
            None => tracing::debug!(%id, "an answer that nobody waits for any more"),
            Some((_, Purpose::Initialize)) => self.child_greeted(branch, &envelope, now),
            Some((_, Purpose::Shutdown)) => self.leave(now),
            Some((sent, Purpose::Part(number))) => self.part_answered(number, sent, envelope, now),
            Some((_, Purpose::Pull(uri, version))) => {
                self.pull_answered(branch, (uri, version), &envelope, now);
            }
        }
    }

    fn child_request(
        &mut self,
        branch: Branch,
        envelope: &Envelope,
        id: &Id,
        method: &str,
        now: Instant,
    ) {
        let params = envelope.params();
        match method {
            "client/registerCapability" => {
                self.register(branch, params);
                self.send_child(branch, Envelope::response(id.clone(), &()));
            }
            "client/unregisterCapability" => {
                self.unregister(branch, params);
                self.send_child(branch, Envelope::response(id.clone(), &()));
            }
            "workspace/configuration" => self.settings(branch, id, params, now),
            "window/workDoneProgress/create" => {
                if let Some(token) = Raw::new(params).get("token") {
                    let token = String::from_utf8_lossy(token.bytes()).into_owned();
                    self.progress.create(branch, &token);
                }
                // The client hears of it when there is something to show.
                self.send_child(branch, Envelope::response(id.clone(), &()));
            }
            _ if method.ends_with("/refresh") && method.starts_with("workspace/") => {
                self.send_child(branch, Envelope::response(id.clone(), &()));
                self.refresh(branch, method, now);
            }
            "window/showMessageRequest" => {
                let params = self.with_name(branch, params);
                self.pass_request(branch, id, method, &params, now);
            }
            "workspace/applyEdit" => self.apply_edit(branch, id, params, now),
            _ => {
                let params = self.converted(branch, method, params);
                self.pass_request(branch, id, method, &params, now);
            }
        }
    }

    /// A question of a server that the client answers.
    fn pass_request(&mut self, branch: Branch, id: &Id, method: &str, params: &[u8], now: Instant) {
        let what = Asked::For(branch, id.clone());
        self.ask_client(method, &raw(params), what, Some(now + CLIENT_PATIENCE));
    }

    fn child_notification(
        &mut self,
        branch: Branch,
        envelope: &Envelope,
        method: &str,
        now: Instant,
    ) {
        match method {
            "$/cancelRequest" => self.child_cancel(branch, envelope),
            "$/progress" => self.child_progress(branch, envelope, now),
            "textDocument/publishDiagnostics" => self.published(branch, envelope, now),
            "window/showMessage" | "window/logMessage" => {
                if method == "window/showMessage" {
                    let text = Raw::new(envelope.params()).get("message").and_then(Raw::string);
                    self.child_mut(branch).last_shown = text;
                }
                let params = self.with_name(branch, envelope.params());
                let envelope = Envelope::notification(method, &raw(&params));
                let lane = lane_to_client(&envelope);
                self.lane(envelope, lane);
            }
            "telemetry/event" if self.is_merged() && !self.options.telemetry => {}
            _ => {
                let lane = lane_to_client(envelope);
                let params = self.converted(branch, method, envelope.params());
                if params == envelope.params() {
                    self.lane(envelope.clone(), lane);
                } else {
                    self.lane(Envelope::notification(method, &raw(&params)), lane);
                }
            }
        }
    }

    /// A server no longer wants an answer of the client.
    fn child_cancel(&mut self, branch: Branch, envelope: &Envelope) {
        let id = Raw::new(envelope.params()).get("id").and_then(|id| Id::from_raw(id.bytes()));
        let is_it = |what: &Asked| match what {
            Asked::For(of, asked) | Asked::Settings(of, asked, _) => {
                *of == branch && Some(asked) == id.as_ref()
            }
            Asked::Token(_) | Asked::Nothing => false,
        };
        let ours = self.asked_client.iter().find(|(_, asked)| is_it(&asked.what));
        if let Some(ours) = ours.map(|(ours, _)| *ours) {
            let cancel = Envelope::notification("$/cancelRequest", &json!({ "id": ours }));
            let outbound = crate::Outbound { body: cancel.body, lane: Lane::Keep, tag: None };
            self.routes.push(super::MergeRoute::WithdrawFromClient(ours, outbound));
        }
    }

    fn child_progress(&mut self, branch: Branch, envelope: &Envelope, now: Instant) {
        let root = Raw::new(envelope.params());
        let token =
            root.get("token").map(|token| String::from_utf8_lossy(token.bytes()).into_owned());
        let (Some(token), Some(value)) = (token, root.get("value")) else { return };
        let kind = value.get("kind").and_then(Raw::string);
        let stage = match kind.as_deref() {
            Some("begin") => Some(Progressed::Begin),
            Some("report") => Some(Progressed::Report),
            Some("end") => Some(Progressed::End),
            _ => None,
        };
        let ours = self.progress.knows(branch, &token);
        let Some(stage) = stage.filter(|_| ours || !self.is_client_s_token(&token)) else {
            // Progress and partial results of what the client has asked, under a token of its own.
            return self.send_client(envelope.clone());
        };
        if !ours && stage != Progressed::Begin {
            return self.send_client(envelope.clone());
        }
        if !ours && !self.progress.create(branch, &token) {
            return;
        }
        let title = value.get("title").and_then(Raw::string).unwrap_or_default();
        let message = value.get("message").and_then(Raw::string).unwrap_or_default();
        let blank = title.trim().is_empty() && message.trim().is_empty();
        let show = self.progress.said(branch, &token, stage, (value.bytes(), blank), now);
        self.show(show, now);
    }

    /// Shows progress.
    pub(super) fn show(&mut self, show: Vec<Show>, now: Instant) {
        for one in show {
            match one {
                Show::Create(token) => {
                    if self.client["window"]["workDoneProgress"] == Value::Bool(true) {
                        let params = json!({ "token": &*token });
                        let until = Some(now + CLIENT_PATIENCE);
                        let method = "window/workDoneProgress/create";
                        self.ask_client(method, &params, Asked::Token(token), until);
                    } else {
                        // It cannot be told of progress that it has not asked for.
                        self.progress.acknowledged(&token, false, now);
                    }
                }
                Show::Value(token, value) => {
                    let mut params = br#"{"token":"#.to_vec();
                    params.extend_from_slice(&quoted(&token));
                    params.extend_from_slice(br#","value":"#);
                    params.extend_from_slice(&value);
                    params.push(b'}');
                    self.send_client(Envelope::notification("$/progress", &raw(&params)));
                }
            }
        }
    }

    /// Diagnostics of one server: they are joined with those of the others (rule 4.19).
    fn published(&mut self, branch: Branch, envelope: &Envelope, now: Instant) {
        let params = self.converted(branch, "textDocument/publishDiagnostics", envelope.params());
        let root = Raw::new(&params);
        let uri = root.get("uri").and_then(Raw::string);
        let items = root.get("diagnostics").filter(|items| items.is_array());
        let (Some(uri), Some(items)) = (uri, items) else {
            return tracing::warn!("diagnostics that cannot be read");
        };
        let uri = self.spellings.of(&uri);
        let version = root.get("version").and_then(Raw::number).map(|version| version as i32);
        let latest = self.mirror.latest(&uri).map(|revision| revision.0);
        if version.zip(latest).is_some_and(|(theirs, latest)| theirs < latest) {
            // Of a text that is gone; those of the present one are on their way (rule 4.20).
            return;
        }
        let epoch = self.child(branch).epoch;
        let items = self.dressed_diagnostics(branch, epoch, items.bytes());
        self.store(branch, Way::Pushed, &uri, version, items, now);
    }

    /// Keeps a set of diagnostics until it is published with the others.
    pub(super) fn store(
        &mut self,
        branch: Branch,
        way: Way,
        uri: &Arc<str>,
        version: Option<i32>,
        items: Vec<u8>,
        now: Instant,
    ) {
        if !self.diagnostics.set((branch, way), uri, version, items.clone(), now) {
            self.publish_one(super::diagnostics::Union { uri: Arc::clone(uri), version, items });
        }
    }

    /// Publishes what waits and has been said by one server, because something else of it follows.
    pub(super) fn flush_diagnostics(&mut self, branch: Branch) {
        for union in self.diagnostics.flush(branch) {
            self.publish_one(union);
        }
    }

    /// Publishes what has waited long enough.
    pub(super) fn publish(&mut self, now: Instant) {
        for union in self.diagnostics.expire(now) {
            self.publish_one(union);
        }
    }

    fn publish_one(&mut self, union: super::diagnostics::Union) {
        let latest = self.mirror.latest(&union.uri).map(|revision| revision.0);
        // Findings of several versions are shown for the present one: those who have not said anything about it will.
        let version = union.version.map(|version| latest.unwrap_or(version));
        let mut params = br#"{"uri":"#.to_vec();
        params.extend_from_slice(&quoted(&union.uri));
        if let Some(version) = version {
            params.extend_from_slice(format!(r#","version":{version}"#).as_bytes());
        }
        params.extend_from_slice(br#","diagnostics":"#);
        params.extend_from_slice(&union.items);
        params.push(b'}');
        let envelope = Envelope::notification("textDocument/publishDiagnostics", &raw(&params));
        self.lane(envelope, Lane::Latest(format!("d{}", union.uri).into()));
    }

    fn register(&mut self, branch: Branch, params: &[u8]) {
        let params: Value = wire::parse(params).unwrap_or_default();
        let list = params["registrations"].as_array().cloned().unwrap_or_default();
        let child = self.child_mut(branch);
        for one in list {
            let (Some(id), Some(method)) = (one["id"].as_str(), one["method"].as_str()) else {
                continue;
            };
            if child.registrations.len() >= REGISTRATIONS_MAX {
                tracing::warn!(server = child.name(), method, "too many registrations");
                break;
            }
            let (id, method) = (id.to_owned(), method.to_owned());
            child.registrations.retain(|known| known.id != id);
            let options = one["registerOptions"].clone();
            child.registrations.push(Registration { id, method, options });
        }
        self.registered(branch);
    }

    fn unregister(&mut self, branch: Branch, params: &[u8]) {
        let params: Value = wire::parse(params).unwrap_or_default();
        // The misspelling is the protocol's; not every server makes it.
        let list =
            params["unregisterations"].as_array().or_else(|| params["unregistrations"].as_array());
        let gone: Vec<&str> =
            list.into_iter().flatten().filter_map(|one| one["id"].as_str()).collect();
        self.child_mut(branch).registrations.retain(|known| !gone.contains(&known.id.as_str()));
        self.registered(branch);
    }

    fn registered(&mut self, branch: Branch) {
        self.child_mut(branch).note_registered();
        let child = &self.children[branch.0 as usize];
        self.watches.set(branch, child.options_of("workspace/didChangeWatchedFiles"));
        let watching = child.options_of("workspace/didChangeWatchedFiles").next().is_some();
        if watching && !can_register(&self.client, "workspace/didChangeWatchedFiles") {
            tracing::info!(server = child.name(), "the client cannot watch files for it");
        }
        self.sync_registrations();
    }

    /// A server asks for settings: the client is asked with the server's own items (rule 4.33).
    fn settings(&mut self, branch: Branch, id: &Id, params: &[u8], now: Instant) {
        let items = Raw::new(params).get("items").map(Raw::elements).unwrap_or_default();
        let sections = items.iter().map(|item| item.get("section").and_then(Raw::string)).collect();
        let what = Asked::Settings(branch, id.clone(), sections);
        let until = Some(now + CONFIGURATION_PATIENCE);
        if self.client["workspace"]["configuration"] == Value::Bool(true) {
            return self.ask_client("workspace/configuration", &raw(params), what, until);
        }
        let asked =
            super::AskedClient { what, method: "workspace/configuration".into(), deadline: None };
        self.settle(asked, |id| Envelope::response(id, &Value::Array(Vec::new())));
    }

    /// The answer has as many items as were asked for, in their order, whatever the client has said.
    pub(super) fn settings_answered(
        &mut self,
        branch: Branch,
        id: Id,
        sections: &[Option<String>],
        mut given: Vec<Value>,
        answer: &Envelope,
    ) {
        let own = &self.child(branch).options.settings;
        if own.is_null() && given.len() == sections.len() {
            return self.send_child(branch, answer.clone());
        }
        given.resize(sections.len(), Value::Null);
        let answers = given.into_iter().zip(sections);
        let answers: Vec<Value> =
            answers.map(|(given, section)| overlaid(given, own, section.as_deref())).collect();
        self.send_child(branch, Envelope::response(id, &answers));
    }

    /// A server wants something asked for again: it is answered at once, and the client is told once for all (rule 4.45).
    fn refresh(&mut self, branch: Branch, method: &str, now: Instant) {
        if method == "workspace/diagnostic/refresh" {
            self.pull_again(branch, now);
        }
        let section = match method.trim_start_matches("workspace/").trim_end_matches("/refresh") {
            "diagnostic" => "diagnostics",
            other => other,
        };
        if self.client["workspace"][section]["refreshSupport"] == Value::Bool(true) {
            self.refreshes.entry(method.to_owned()).or_insert(now + REFRESH_DELAY);
        }
    }

    /// Asks the client for the refreshes whose time has come.
    pub(super) fn expire_refreshes(&mut self, now: Instant) {
        let due: Vec<String> = self
            .refreshes
            .iter()
            .filter(|(_, at)| **at <= now)
            .map(|(name, _)| name.clone())
            .collect();
        for method in due {
            self.refreshes.remove(&method);
            self.ask_client(&method, &(), Asked::Nothing, None);
        }
    }

    /// Edits of a version that is gone would corrupt the text: they are refused, as the client would (rule 4.35).
    fn apply_edit(&mut self, branch: Branch, id: &Id, params: &[u8], now: Instant) {
        let root = Raw::new(params);
        let changes = root.path("edit.documentChanges").map(Raw::elements).unwrap_or_default();
        let stale = changes.iter().any(|change| {
            let uri = change.path("textDocument.uri").and_then(Raw::string);
            let version = change.path("textDocument.version").and_then(Raw::number);
            let latest = uri.and_then(|uri| self.mirror.latest(&self.spellings.of(&uri)));
            latest.zip(version).is_some_and(|(latest, version)| latest.0 != version as i32)
        });
        if stale {
            let reason = "a document has changed since";
            let answer = json!({ "applied": false, "failureReason": reason });
            return self.send_child(branch, Envelope::response(id.clone(), &answer));
        }
        let params = self.converted(branch, "workspace/applyEdit", params);
        self.pass_request(branch, id, "workspace/applyEdit", &params, now);
    }

    /// What a server says to the user carries its name (rule 4.44).
    fn with_name(&self, branch: Branch, params: &[u8]) -> Vec<u8> {
        let root = Raw::new(params);
        let message = root.get("message");
        let text = message.and_then(Raw::string);
        let (Some(message), Some(text)) = (message, text) else { return params.to_vec() };
        if !self.is_merged() {
            return params.to_vec();
        }
        let mut splice = Splice::new(params);
        splice.replace(message, quoted(&format!("[{}] {text}", self.child(branch).name())));
        splice.finish()
    }

    /// Parameters of a server that counts positions in its own way, as the client counts.
    fn converted(&mut self, branch: Branch, method: &str, params: &[u8]) -> Vec<u8> {
        let from = self.child(branch).encoding;
        if from == self.encoding {
            return params.to_vec();
        }
        let texts = self.mirror.documents();
        let text_of = |uri: &str| self.text_in(&texts, uri);
        let conversion = Conversion { from, to: self.encoding, text_of: &text_of };
        let converted = conversion.params(method, "", params);
        if !converted.left.is_empty() {
            tracing::warn!(documents = ?converted.left, method, "positions stay as the server counts them");
        }
        converted.raw
    }

    /// What the client has not answered in time.
    pub(super) fn expire_questions(&mut self, now: Instant) {
        let is_due = |asked: &super::AskedClient| asked.deadline.is_some_and(|at| at <= now);
        let due: Vec<u32> = self
            .asked_client
            .iter()
            .filter(|(_, asked)| is_due(asked))
            .map(|(id, _)| *id)
            .collect();
        for ours in due {
            let Some(asked) = self.asked_client.remove(&ours) else { continue };
            tracing::warn!(method = &*asked.method, "the client has not answered");
            if let Asked::Token(token) = &asked.what {
                self.progress.acknowledged(token, false, now);
            }
            let settings = matches!(asked.what, Asked::Settings(..));
            self.settle(asked, |id| match settings {
                true => Envelope::response(id, &Value::Array(Vec::new())),
                false => Envelope::error(
                    id,
                    &ResponseError::new(wire::codes::REQUEST_FAILED, "the editor did not answer"),
                ),
            });
        }
    }
}

/// What a server may say before `initialize` is answered.
fn is_allowed_early(method: &str) -> bool {
    matches!(
        method,
        "window/showMessage"
            | "window/logMessage"
            | "window/showMessageRequest"
            | "telemetry/event"
            | "$/progress"
            | "$/cancelRequest"
    )
}
