//! What the editor does not get to see: whatever the server says because of a candidate.
//!
//! A publication that names the candidate's version is dropped for good. What names no version, or another document, may be about
//! the candidate or about the editor's text: of each document the latest is kept back until the server has come to rest, and is
//! passed on then if it is news. Questions that redraw the screen (`*/refresh`), progress and messages are not passed on while
//! nothing but the lease can have caused them.

use std::collections::HashMap;
use std::hash::{DefaultHasher, Hasher as _};
use std::time::Instant;

use serde::Deserialize;
use serde_json::value::RawValue;
use serde_json::{Value, json};
use wire::{Envelope, Id, Kind};

use super::versions::{Seen, Versions, key};
use super::{Lease, Said, Step, outbound};
use crate::Tap;

/// Of how many documents the latest word is kept back; further ones pass.
const KEPT_BACK_MAX: usize = 1024;
/// How many tokens of progress are known to be the lease's.
const TOKENS_MAX: usize = 64;

/// The time in which the server may speak of a candidate: from the moment that it is sent until the server has come to rest.
#[derive(Debug, Default)]
pub(super) struct Window {
    /// When the server is taken to have come to rest; `None` while the candidate is there.
    until: Option<Instant>,
    /// When its answer to the barrier is no longer waited for.
    at_last: Option<Instant>,
    /// The barrier that was sent behind the candidate.
    barrier: Option<u32>,
    /// Whether a client has said anything since.
    heard: bool,
    /// Whether a client has changed anything since.
    changed: bool,
    /// The documents that had a candidate.
    leased: Vec<String>,
    /// The first version that a client has made of a document since the candidate was taken back: what is said of it, or of a later
    /// one, was found after that.
    fresh: HashMap<String, i32>,
    kept: HashMap<String, Envelope>,
    order: Vec<String>,
}

impl Window {
    pub(super) fn settle(&mut self, until: Instant, at_last: Instant, barrier: Option<u32>) {
        self.fresh.clear();
        (self.until, self.at_last, self.barrier) = (Some(until), Some(at_last), barrier);
    }

    pub(super) fn deadline(&self) -> Option<Instant> {
        let at_last = self.at_last.filter(|_| self.barrier.is_some());
        at_last.or(self.until)
    }

    /// The server has answered a request of ours.
    pub(super) fn met(&mut self, id: u32) {
        self.barrier.take_if(|barrier| *barrier == id);
    }

    /// A client says something.
    pub(super) fn hear(&mut self, method: &str) {
        self.heard = true;
        let changes = [
            "/didChange",
            "/didOpen",
            "/didClose",
            "/didSave",
            "/didRename",
            "/didCreate",
            "/didDelete",
        ];
        self.changed |= changes.iter().any(|change| method.contains(change));
    }

    /// Whether only the lease can have made the server speak.
    fn is_alone(&self) -> bool {
        self.barrier.is_some() || !self.heard
    }

    /// The same of what only a change makes it say.
    fn is_unchanged(&self) -> bool {
        self.barrier.is_some() || !self.changed
    }

    /// Whether this was found after the candidate was taken back.
    fn is_fresh(&self, name: &str, version: Option<i32>) -> bool {
        let since = self.fresh.get(name);
        since.zip(version).is_some_and(|(since, version)| version >= *since)
    }

    fn keep_back(&mut self, key: String, envelope: Envelope) -> Option<Envelope> {
        if !self.kept.contains_key(&key) {
            if self.kept.len() >= KEPT_BACK_MAX {
                return Some(envelope);
            }
            self.order.push(key.clone());
        }
        self.kept.insert(key, envelope);
        None
    }
}

#[derive(Deserialize)]
struct Publication {
    uri: String,
    version: Option<i32>,
    diagnostics: Box<RawValue>,
}

#[derive(Deserialize)]
struct Token {
    token: Box<RawValue>,
    #[serde(default)]
    value: Option<Value>,
}

impl Lease {
    /// A candidate is on its way to the server.
    pub(super) fn open_window(&mut self, uri: &str) {
        // What is kept back from an earlier lease stays kept back.
        let Window { kept, order, mut leased, .. } = self.window.take().unwrap_or_default();
        let name = key(uri);
        if !leased.contains(&name) {
            leased.push(name);
        }
        self.window = Some(Window { kept, order, leased, ..Window::default() });
    }

    /// A client has made this version of a document, as the server counts.
    pub(super) fn freshen(&mut self, name: String, version: i32) {
        if let Some(window) = &mut self.window {
            window.fresh.entry(name).or_insert(version);
        }
    }

    /// The server has come to rest: what was kept back and is news is passed on.
    pub(super) fn close_window(&mut self, tap: &Tap) -> Vec<Step> {
        let Some(mut window) = self.window.take() else { return Vec::new() };
        let mut steps = Vec::new();
        for name in std::mem::take(&mut window.order) {
            let Some(envelope) = window.kept.remove(&name) else { continue };
            let envelope = self.counted_back(envelope);
            let known = match wire::parse::<Publication>(envelope.params()) {
                Ok(said) => is_known(&said, said.version, tap),
                Err(_) => self.echoes.get(&name) == Some(&hash(&envelope)),
            };
            if !known {
                steps.push(self.remembered(envelope));
            }
        }
        steps
    }

    /// The server publishes diagnostics.
    pub(super) fn published(&mut self, envelope: Envelope, tap: &Tap, now: Instant) -> Vec<Step> {
        let Ok(said) = wire::parse::<Publication>(envelope.params()) else {
            return vec![Step::Link(envelope)];
        };
        let name = key(&said.uri);
        let seen = match (self.documents.get(&name), said.version) {
            (Some(versions), Some(version)) => Some(versions.seen(version)),
            _ => None,
        };
        match (seen, &mut self.window) {
            (Some(Seen::Forgotten), _) => Vec::new(),
            (Some(Seen::Candidate), _) => self.found(&name, &said, now),
            (_, None) => vec![Step::Link(self.counted_back(envelope))],
            (_, Some(window)) if window.is_fresh(&name, said.version) => {
                window.kept.remove(&name);
                vec![Step::Link(self.counted_back(envelope))]
            }
            (Some(Seen::Editor(version)), Some(window)) if window.leased == [name.as_str()] => {
                if is_known(&said, Some(version), tap) {
                    return Vec::new();
                }
                vec![Step::Link(self.counted_back(envelope))]
            }
            _ => self.not_now(name, envelope),
        }
    }

    /// Diagnostics of a candidate: of the one that is there they are the answer.
    fn found(&mut self, name: &str, said: &Publication, now: Instant) -> Vec<Step> {
        let awaited = self.held.take_if(|held| {
            let manner = &held.question.manner;
            Some(held.candidate) == said.version && !manner.pull && key(&held.question.uri) == name
        });
        let Some(held) = awaited else { return Vec::new() };
        let diagnostics = said.diagnostics.get().as_bytes().to_vec().into();
        let said = Said { diagnostics, took: now - held.since };
        self.end(held, Ok(said), now)
    }

    /// Passed on if the server is at rest; else kept back until it is.
    fn not_now(&mut self, name: String, envelope: Envelope) -> Vec<Step> {
        let passed = match &mut self.window {
            Some(window) => window.keep_back(name, envelope),
            None => Some(envelope),
        };
        passed.map(|envelope| self.passed(envelope)).into_iter().collect()
    }

    /// Anything else that the server says by itself.
    pub(super) fn screened(&mut self, envelope: Envelope) -> Vec<Step> {
        let method = envelope.method().unwrap_or_default().to_owned();
        if method == "$/progress" && self.is_of_lease(&envelope) {
            return Vec::new();
        }
        let Some(window) = &mut self.window else { return vec![self.passed(envelope)] };
        let id = match &envelope.kind {
            Kind::Request { id, .. } => Some(id.clone()),
            _ => None,
        };
        let fallback = match method.as_str() {
            method if method.ends_with("/refresh") => window.is_unchanged().then_some(Value::Null),
            "window/workDoneProgress/create" if window.is_alone() => {
                note_token(&mut self.tokens, &envelope);
                Some(Value::Null)
            }
            "window/showMessageRequest" => window.is_alone().then_some(Value::Null),
            "window/showDocument" => window.is_alone().then(|| json!({ "success": false })),
            "workspace/applyEdit" => window.is_alone().then(|| json!({ "applied": false })),
            "window/showMessage" | "window/logMessage" | "telemetry/event" | "$/logTrace" => {
                if window.is_alone() {
                    return Vec::new();
                }
                None
            }
            _ => None,
        };
        if let (Some(id), Some(answer)) = (id, fallback) {
            return vec![answer_to(id, &answer)];
        }
        self.about_the_document(&method, envelope)
    }

    /// Whether this progress was begun by a lease; its end is the end of the token.
    fn is_of_lease(&mut self, envelope: &Envelope) -> bool {
        let Ok(Token { token, value }) = wire::parse::<Token>(envelope.params()) else {
            return false;
        };
        let Some(at) = self.tokens.iter().position(|known| **known == *token.get()) else {
            return false;
        };
        if value.is_some_and(|value| value["kind"] == "end") {
            self.tokens.remove(at);
        }
        true
    }

    /// What is said of a document in words that we do not know: of the candidate it is dropped, else it waits like a publication.
    fn about_the_document(&mut self, method: &str, envelope: Envelope) -> Vec<Step> {
        let notification = matches!(envelope.kind, Kind::Notification { .. });
        let about = about(&envelope).filter(|_| notification);
        let versions = |(name, version): (String, Option<i32>)| {
            let versions: &Versions = self.documents.get(&name)?;
            Some((name, version, version.map(|version| versions.seen(version))))
        };
        let Some((name, version, seen)) = about.and_then(versions) else {
            return vec![self.passed(envelope)];
        };
        let words = format!("{method} {name}");
        match (seen, &mut self.window) {
            (Some(Seen::Candidate | Seen::Forgotten), _) => Vec::new(),
            // While the candidate is there, what names no version is of it.
            (None, _) if self.held.is_some() => Vec::new(),
            (_, Some(window)) if window.is_fresh(&name, version) => {
                window.kept.remove(&words);
                vec![self.passed(envelope)]
            }
            (Some(Seen::Editor(_)), Some(window)) if window.leased == [name.as_str()] => {
                let known =
                    self.echoes.get(&words) == Some(&hash(&self.counted_back(envelope.clone())));
                if known { Vec::new() } else { vec![self.passed(envelope)] }
            }
            _ => self.not_now(words, envelope),
        }
    }

    /// A message that passes.
    pub(super) fn passed(&mut self, envelope: Envelope) -> Step {
        let envelope = self.counted_back(envelope);
        self.remembered(envelope)
    }

    /// What is said of documents in words that we do not know is remembered, to know its repetition.
    fn remembered(&mut self, envelope: Envelope) -> Step {
        if let Some(name) = echo(&envelope)
            && (self.echoes.len() < KEPT_BACK_MAX || self.echoes.contains_key(&name))
        {
            self.echoes.insert(name, hash(&envelope));
        }
        Step::Link(envelope)
    }
}

/// Under which name a message about a document is remembered.
fn echo(envelope: &Envelope) -> Option<String> {
    let Kind::Notification { method } = &envelope.kind else { return None };
    if !method.starts_with("textDocument/") || *method == "textDocument/publishDiagnostics" {
        return None;
    }
    let (name, _) = about(envelope)?;
    Some(format!("{} {name}", &**method))
}

/// The document that a notification is about, and the version that it names.
fn about(envelope: &Envelope) -> Option<(String, Option<i32>)> {
    let params = wire::parse::<Value>(envelope.params()).ok()?;
    let which = if params["uri"].is_string() { &params } else { &params["textDocument"] };
    let version = which["version"].as_i64().and_then(|version| i32::try_from(version).ok());
    Some((key(which["uri"].as_str()?), version))
}

fn hash(envelope: &Envelope) -> u64 {
    let mut hasher = DefaultHasher::new();
    hasher.write(&envelope.body);
    hasher.finish()
}

fn note_token(tokens: &mut Vec<Box<str>>, envelope: &Envelope) {
    if let Ok(Token { token, .. }) = wire::parse(envelope.params())
        && tokens.len() < TOKENS_MAX
    {
        tokens.push(token.get().into());
    }
}

/// Whether the editor has been told exactly this last.
fn is_known(said: &Publication, version: Option<i32>, tap: &Tap) -> bool {
    tap.pushed().get(said.uri.as_str()).is_some_and(|set| {
        set.version == version && *set.diagnostics == *said.diagnostics.get().as_bytes()
    })
}

fn answer_to(id: Id, answer: &Value) -> Step {
    Step::Server(outbound(Envelope::response(id, answer)))
}
