//! Leases: a candidate on the user's own server, for a moment, while nobody uses it (rule 4.34).
//!
//! A [`Lease`] stands between a [`Link`](crate::Link) and its server, and sees every message of both directions. While it has
//! touched nothing, it changes nothing. A candidate goes to the server as the version after the editor's, what the server says of
//! it is taken out of the stream, and it is taken back by yet another version before anything else is sent. From then on the
//! server counts further than the editor, and the two counts are translated into each other (rule 4.20).
//!
//! The parts: `versions` for the counts, `screen` for what the editor does not get to see.

mod screen;
mod versions;

use std::collections::{HashMap, VecDeque};
use std::sync::Arc;
use std::time::{Duration, Instant};

use serde_json::{Value, json};
use text::{Document, Encoding, Revision, differing};
use wire::{Bytes, Envelope, Id, Kind, Lane, codes};

use crate::ids::LEASE_IDS;
use crate::{Outbound, Tap};
use screen::Window;
use versions::{Seen, Versions, key, restamped, stamps, wrapped};

/// For how long every client must have been silent before a server is leased; what the server lets pass after a change before it
/// works is added.
pub const LEASE_IDLE: Duration = Duration::from_millis(150);
/// How long after the end of a lease the server may still speak of it; what it lets pass after a change is added.
pub const LEASE_SETTLE: Duration = Duration::from_millis(250);
/// How long the answer to the barrier behind a lease is waited for.
pub const LEASE_WINDOW_MAX: Duration = Duration::from_secs(10);
/// How many questions wait for one server.
pub const LEASES_WAITING_MAX: usize = 4;
/// How many documents of one server may have been touched; further ones are not leased.
pub const LEASE_DOCUMENTS_MAX: usize = 256;
/// How soon a server that is not idle is looked at again.
const LOOK_AGAIN: Duration = Duration::from_millis(25);
/// How often one question is asked again after *content modified* or *server cancelled*.
const ASK_AGAIN_MAX: u32 = 20;

/// How a server is asked, and what is known of its pace.
#[derive(Clone, Debug, Default)]
pub struct Manner {
    /// Whether it is asked for its diagnostics; else it publishes them with the version.
    pub pull: bool,
    /// A cheap request about one document, answered in the order of messages: what comes before its answer was said before it.
    pub barrier: Option<Box<str>>,
    /// How long it waits after a change before it works.
    pub debounce: Duration,
    /// Members that are added to the change that brings the candidate.
    pub did_change: Option<Value>,
    /// Whether it takes changed parts; else it gets whole texts.
    pub incremental: bool,
}

/// A question: what does the server say of this text in place of the document's?
#[derive(Clone, Debug)]
pub struct Question {
    /// By which the answer is known.
    pub number: u64,
    /// The document, as its client spells it.
    pub uri: Arc<str>,
    /// The whole text.
    pub text: Arc<str>,
    /// How the server is asked.
    pub manner: Manner,
    /// When the asker no longer waits.
    pub deadline: Instant,
}

/// What the server said.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Said {
    /// A JSON array of the protocol's diagnostics; positions are those of the text that was asked about.
    pub diagnostics: Bytes,
    /// From the moment that the candidate was sent.
    pub took: Duration,
}

/// Why there is no answer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Refusal {
    /// The document is not open there, or by more than one client.
    NotOpen,
    /// The server was not idle in time, or others wait already.
    Busy,
    /// A client wanted something.
    Preempted,
    /// The server did not answer in time.
    Timeout,
    /// The server has ended.
    Died,
    /// The server answered with an error, quoted here.
    Failed(String),
}

/// What to do.
#[derive(Clone, Debug)]
pub enum Step {
    /// Queue it for the server.
    Server(Outbound),
    /// Hand it to the link, as if the server had said it now.
    Link(Envelope),
    /// Tell whoever asked.
    Answer(u64, Result<Said, Refusal>),
}

/// What is known around the lease at the moment.
#[derive(Clone, Copy)]
pub struct Ground<'g> {
    /// Whether the server is there, and nobody waits for anything from it.
    pub quiet: bool,
    /// How the server is asked now, if that has changed since the question came.
    pub manner: Option<&'g Manner>,
    /// The document as exactly one client has it open, and how positions are counted in it.
    pub document: &'g dyn Fn(&str) -> Option<(Document, Encoding)>,
    /// What the server has said so far.
    pub tap: &'g Tap,
}

/// The lease of one server.
#[derive(Debug, Default)]
pub struct Lease {
    documents: HashMap<String, Versions>,
    held: Option<Held>,
    window: Option<Window>,
    waiting: VecDeque<Question>,
    heard: Option<Instant>,
    look_again: Option<Instant>,
    /// What was last said of documents in words that we do not know, as a hash, by method and document.
    echoes: HashMap<String, u64>,
    /// Progress that was begun because of a candidate, as the JSON text of its token.
    tokens: Vec<Box<str>>,
    last_id: u32,
    total: u64,
}

/// A candidate is on the server.
#[derive(Debug)]
struct Held {
    question: Question,
    candidate: i32,
    back: Value,
    asked: Option<u32>,
    times: u32,
    since: Instant,
}

impl Lease {
    /// Whether everything may pass by it, because it has touched nothing.
    pub fn is_transparent(&self) -> bool {
        self.documents.is_empty() && self.window.is_none() && self.waiting.is_empty()
    }

    /// Whether somebody waits for the server to be idle.
    pub fn is_waiting(&self) -> bool {
        !self.waiting.is_empty()
    }

    /// How many candidates have been lent.
    pub fn total(&self) -> u64 {
        self.total
    }

    /// Somebody asks. Call [`Lease::look`] afterwards.
    pub fn ask(&mut self, question: Question) -> Option<Step> {
        if self.waiting.len() >= LEASES_WAITING_MAX {
            return Some(Step::Answer(question.number, Err(Refusal::Busy)));
        }
        self.look_again = None;
        self.waiting.push_back(question);
        None
    }

    /// Whoever asked does not wait any more.
    pub fn forget(&mut self, number: u64, now: Instant) -> Vec<Step> {
        self.waiting.retain(|question| question.number != number);
        match self.held.take_if(|held| held.question.number == number) {
            Some(held) => self.take_back(held, now).collect(),
            None => Vec::new(),
        }
    }

    /// A message on its way to the server.
    pub fn to_server(&mut self, message: Outbound, now: Instant) -> Vec<Step> {
        self.heard = Some(now);
        if self.is_transparent() {
            return vec![Step::Server(message)];
        }
        let mut steps = Vec::new();
        if let Some(held) = self.held.take() {
            let number = held.question.number;
            steps.extend(self.take_back(held, now));
            steps.push(Step::Answer(number, Err(Refusal::Preempted)));
        }
        steps.push(Step::Server(self.counted_on(message)));
        steps
    }

    /// A message of the server.
    pub fn from_server(&mut self, envelope: Envelope, tap: &Tap, now: Instant) -> Vec<Step> {
        if self.is_transparent() {
            return vec![self.passed(envelope)];
        }
        match &envelope.kind {
            Kind::Response { id } => match id.as_u32().filter(|id| LEASE_IDS.contains(id)) {
                Some(ours) => self.answered(ours, &envelope, now),
                None => vec![Step::Link(self.counted_back(envelope))],
            },
            Kind::Notification { method } if *method == "textDocument/publishDiagnostics" => {
                self.published(envelope, tap, now)
            }
            Kind::Notification { .. } | Kind::Request { .. } => self.screened(envelope),
        }
    }

    /// The server has ended. What it counted counts no more.
    pub fn died(&mut self) -> Vec<Step> {
        self.documents.clear();
        self.echoes.clear();
        self.tokens.clear();
        self.window = None;
        let held = self.held.take().map(|held| held.question.number);
        let waiting = std::mem::take(&mut self.waiting).into_iter().map(|question| question.number);
        held.into_iter().chain(waiting).map(|n| Step::Answer(n, Err(Refusal::Died))).collect()
    }

    /// When [`Lease::look`] has something to do.
    pub fn next_deadline(&self) -> Option<Instant> {
        let held = self.held.as_ref().map(|held| held.question.deadline);
        let window = self.window.as_ref().and_then(Window::deadline);
        let waiting = self.waiting.iter().map(|question| question.deadline).min();
        let start = match (&self.held, self.waiting.front()) {
            (None, Some(question)) => self
                .look_again
                .or_else(|| Some(self.heard? + LEASE_IDLE + question.manner.debounce)),
            _ => None,
        };
        [held, window, waiting, start].into_iter().flatten().min()
    }

    /// Begins what can begin, and ends what has waited too long.
    pub fn look(&mut self, ground: Ground<'_>, now: Instant) -> Vec<Step> {
        let mut steps = Vec::new();
        if let Some(held) = self.held.take_if(|held| held.question.deadline <= now) {
            let number = held.question.number;
            steps.extend(self.take_back(held, now));
            steps.push(Step::Answer(number, Err(Refusal::Timeout)));
        }
        if self.window.as_ref().and_then(Window::deadline).is_some_and(|until| until <= now) {
            steps.extend(self.close_window(ground.tap));
        }
        self.waiting.retain(|question| {
            let late = question.deadline <= now;
            if late {
                steps.push(Step::Answer(question.number, Err(Refusal::Busy)));
            }
            !late
        });
        while self.held.is_none() {
            let Some(next) = self.waiting.front() else { break };
            let idle = LEASE_IDLE + next.manner.debounce;
            let idle = self.heard.is_none_or(|heard| now >= heard + idle);
            if !idle || !ground.quiet {
                self.look_again = idle.then_some(now + LOOK_AGAIN);
                break;
            }
            let Some(next) = self.waiting.pop_front() else { break };
            steps.extend(self.begin(next, ground, now));
        }
        steps
    }

    fn begin(&mut self, mut question: Question, ground: Ground<'_>, now: Instant) -> Vec<Step> {
        if let Some(manner) = ground.manner {
            question.manner = manner.clone();
        }
        let refuse = |why| vec![Step::Answer(question.number, Err(why))];
        let Some((document, encoding)) = (ground.document)(&question.uri) else {
            return refuse(Refusal::NotOpen);
        };
        let editor = document.revision().0;
        let published = ground.tap.pushed();
        let published = published.get(&question.uri).filter(|set| set.version == Some(editor));
        let text = document.text();
        if let Some(set) = published.filter(|_| !question.manner.pull && *text == *question.text) {
            // A server that is told nothing new may say nothing new.
            let said = Said { diagnostics: set.diagnostics.clone(), took: Duration::ZERO };
            return vec![Step::Answer(question.number, Ok(said))];
        }
        let key = key(&question.uri);
        if self.documents.len() >= LEASE_DOCUMENTS_MAX && !self.documents.contains_key(&key) {
            return refuse(Refusal::Busy);
        }
        let versions = self.documents.entry(key).or_insert_with(|| Versions::new(editor));
        let Some((candidate, back)) = versions.lend() else { return refuse(Refusal::Busy) };
        let manner = &question.manner;
        let (there, again) =
            changes(&document, &text, &question.text, encoding, manner.incremental);
        let mut change = change(&question.uri, candidate, &there);
        if let (Some(Value::Object(more)), Some(change)) =
            (&manner.did_change, change.as_object_mut())
        {
            change.extend(more.clone());
        }
        let back = self::change(&question.uri, back, &again);
        let mut steps = vec![notification("textDocument/didChange", &change)];
        self.total += 1;
        self.open_window(&question.uri);
        let mut held = Held { question, candidate, back, asked: None, times: 0, since: now };
        steps.extend(self.put(&mut held));
        self.held = Some(held);
        steps
    }

    /// Asks the server about the candidate; one that publishes by itself is only hurried.
    fn put(&mut self, held: &mut Held) -> Option<Step> {
        let manner = &held.question.manner;
        let method = match &manner.barrier {
            _ if manner.pull => "textDocument/diagnostic",
            Some(barrier) => barrier,
            None => return None,
        };
        let id = self.id();
        held.asked = manner.pull.then_some(id);
        held.times += 1;
        let params = json!({"textDocument": {"uri": &*held.question.uri}});
        Some(request(id, method, &params))
    }

    /// The answer to a question of ours; the answers to those that were given up come too.
    fn answered(&mut self, ours: u32, envelope: &Envelope, now: Instant) -> Vec<Step> {
        if let Some(window) = &mut self.window {
            window.met(ours);
        }
        let Some(mut held) = self.held.take_if(|held| held.asked == Some(ours)) else {
            return Vec::new();
        };
        let result = match envelope.outcome() {
            Ok(report) => match report_items(report) {
                Some(diagnostics) => Ok(Said { diagnostics, took: now - held.since }),
                None => Err(Refusal::Failed("a diagnostic report without items".to_owned())),
            },
            Err(error)
                if matches!(error.code, codes::CONTENT_MODIFIED | codes::SERVER_CANCELLED)
                    && held.times < ASK_AGAIN_MAX =>
            {
                let again = self.put(&mut held);
                self.held = Some(held);
                return again.into_iter().collect();
            }
            Err(error) => Err(Refusal::Failed(error.message)),
        };
        held.asked = None;
        self.end(held, result, now)
    }

    fn end(&mut self, held: Held, result: Result<Said, Refusal>, now: Instant) -> Vec<Step> {
        let number = held.question.number;
        let mut steps: Vec<Step> = self.take_back(held, now).collect();
        steps.push(Step::Answer(number, result));
        steps
    }

    /// The candidate goes; nothing else may be sent before this.
    fn take_back(&mut self, held: Held, now: Instant) -> impl Iterator<Item = Step> + use<> {
        let cancel = held.asked.map(|id| notification("$/cancelRequest", &json!({ "id": id })));
        let back = notification("textDocument/didChange", &held.back);
        let manner = &held.question.manner;
        let barrier = manner.barrier.as_ref().map(|method| (self.id(), method));
        if let Some(window) = &mut self.window {
            window.settle(
                now + LEASE_SETTLE + manner.debounce,
                now + LEASE_WINDOW_MAX,
                barrier.as_ref().map(|(id, _)| *id),
            );
        }
        let barrier = barrier.map(|(id, method)| {
            request(id, method, &json!({"textDocument": {"uri": &*held.question.uri}}))
        });
        cancel.into_iter().chain([back]).chain(barrier)
    }

    /// A message to the server, with the server's count of versions.
    fn counted_on(&mut self, message: Outbound) -> Outbound {
        let Ok(envelope) = Envelope::read(message.body.clone()) else { return message };
        let method = envelope.method().unwrap_or_default();
        if let Some(window) = &mut self.window {
            window.hear(method);
        }
        let body = match method {
            "textDocument/didOpen" => {
                for stamp in stamps(&message.body).into_iter().take(1) {
                    if let Some(versions) = self.documents.get_mut(&stamp.key) {
                        *versions = Versions::new(stamp.version);
                    }
                    self.freshen(stamp.key, stamp.version);
                }
                return message;
            }
            "textDocument/didChange" => {
                let stamp = stamps(&message.body).into_iter().next();
                let Some(stamp) = stamp else { return message };
                let Some(versions) = self.documents.get_mut(&stamp.key) else {
                    self.freshen(stamp.key, stamp.version);
                    return message;
                };
                let server = versions.made(stamp.version);
                self.freshen(stamp.key, server);
                restamped(&message.body, vec![(stamp.at, server)])
            }
            _ if method.ends_with("/resolve") || method == "workspace/executeCommand" => {
                self.wrapped_again(&message.body)
            }
            _ => return message,
        };
        Outbound { body, ..message }
    }

    /// What the server has wrapped for itself comes back. If it wrapped the version of a text that is the editor's still, though the
    /// count has gone on, it is told today's number of that text.
    fn wrapped_again(&self, body: &Bytes) -> Bytes {
        let text = String::from_utf8_lossy(body);
        let mut changes = Vec::new();
        for (uri_key, versions) in &self.documents {
            let name = uri_key.rsplit('/').next().unwrap_or(uri_key);
            if !text.contains(name) {
                continue;
            }
            for (version, at) in wrapped(body) {
                let same = versions.seen(version) == Seen::Editor(versions.editor());
                if same
                    && version != versions.server()
                    && !changes.iter().any(|(other, _)| *other == at)
                {
                    changes.push((at, versions.server()));
                }
            }
        }
        restamped(body, changes)
    }

    /// A message of the server, with the editor's count of versions.
    fn counted_back(&self, envelope: Envelope) -> Envelope {
        if self.documents.is_empty() {
            return envelope;
        }
        let mut changes = Vec::new();
        for stamp in stamps(&envelope.body) {
            let Some(versions) = self.documents.get(&stamp.key) else { continue };
            let version = match versions.seen(stamp.version) {
                Seen::Editor(version) => version,
                // An edit of a candidate, or of a text long gone, fits no text of the editor's.
                Seen::Candidate | Seen::Forgotten => versions.editor().saturating_sub(1),
            };
            if version != stamp.version {
                changes.push((stamp.at, version));
            }
        }
        if changes.is_empty() {
            return envelope;
        }
        Envelope::read(restamped(&envelope.body, changes)).unwrap_or(envelope)
    }

    fn id(&mut self) -> u32 {
        self.last_id = (self.last_id + 1) % (LEASE_IDS.end - LEASE_IDS.start);
        LEASE_IDS.start + self.last_id
    }
}

/// The content changes from `old` to `new`, and back.
fn changes(
    document: &Document,
    old: &str,
    new: &str,
    encoding: Encoding,
    incremental: bool,
) -> (Value, Value) {
    if !incremental {
        return (json!({ "text": new }), json!({ "text": old }));
    }
    let (of_old, of_new) = differing(old, new);
    let there = document.range(of_old.clone(), encoding);
    let again = Document::new(Revision(0), new).range(of_new.clone(), encoding);
    (part(there, &new[of_new]), part(again, &old[of_old]))
}

fn part(range: text::Range, text: &str) -> Value {
    let place = |at: text::Position| json!({"line": at.line, "character": at.character});
    json!({"range": {"start": place(range.start), "end": place(range.end)}, "text": text})
}

fn change(uri: &str, version: i32, change: &Value) -> Value {
    json!({"textDocument": {"uri": uri, "version": version}, "contentChanges": [change]})
}

fn notification(method: &str, params: &Value) -> Step {
    Step::Server(outbound(Envelope::notification(method, params)))
}

fn request(id: u32, method: &str, params: &Value) -> Step {
    Step::Server(outbound(Envelope::request(Id::number(id), method, params)))
}

fn outbound(envelope: Envelope) -> Outbound {
    Outbound { body: envelope.body, lane: Lane::Keep, tag: None }
}

/// The items of a full report; gopls leaves out the kind.
fn report_items(report: &[u8]) -> Option<Bytes> {
    let mut items = None;
    let whole = wire::json::members(report, |key, at| {
        if &report[key] == b"items" {
            items = Some(Bytes::copy_from_slice(&report[at]));
        }
    });
    whole.ok().and(items).filter(|items| items.first() == Some(&b'['))
}

#[cfg(test)]
mod tests;
