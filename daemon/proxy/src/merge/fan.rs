//! One request of the client, asked of several servers: parts that go out, come back or come too late, and exactly one answer
//! (rules 4.17, 4.18, 4.23).

use std::collections::{HashMap, VecDeque};
use std::sync::Arc;
use std::time::{Duration, Instant};

use text::Revision;
use wire::{Envelope, Id, codes};

use super::{Branch, Merge, Purpose, cancelled_error, raw};
use crate::mirror::OpenDocument;
use crate::positions::Conversion;
use crate::raw::{Raw, Splice};

/// How long the others may take after the first has answered.
pub const FAN_PATIENCE: Duration = Duration::from_secs(2);
/// How long they may take for completions (rule 4.38).
pub const COMPLETION_PATIENCE: Duration = Duration::from_millis(150);
/// How long the first may take before what the others have said is the answer.
pub const ASK_PATIENCE: Duration = Duration::from_secs(20);
/// How long all servers together may hold up the saving of a document (rule 4.29).
pub const SAVE_PATIENCE: Duration = Duration::from_millis(500);
/// How long a server may take to answer what was cancelled; its link has the same patience, and answers first.
const CANCEL_PATIENCE: Duration = Duration::from_millis(1200);
/// How long all servers together may take to shut down (rule 4.13).
pub(super) const SHUTDOWN_PATIENCE: Duration = Duration::from_millis(1800);
/// How many requests wait for a server that is coming; further ones are refused.
pub const HELD_MAX: usize = 256;
/// How long a request waits for a server that is coming.
pub const HELD_PATIENCE: Duration = Duration::from_secs(15);

/// How an answer is made.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    Plain,
    /// Edits before a document is saved: one server after the other.
    Save,
    /// Pulled diagnostics.
    Pull {
        /// What the client gave as its previous result id.
        previous: Option<String>,
        /// Under which name the answer is remembered.
        memory: String,
    },
}

/// Who is asked.
#[derive(Debug)]
pub(super) struct Order {
    /// By priority; with parameters of its own, or those of the client.
    pub(super) parts: Vec<(Branch, Option<Vec<u8>>)>,
    /// Whether items get an envelope that says whose they are.
    pub(super) wrap: bool,
    pub(super) kind: Kind,
    /// What is asked for instead of what the client asks for.
    pub(super) method: Option<&'static str>,
}

impl Order {
    /// One server, with the client's own parameters.
    pub(super) fn to(branch: Branch) -> Order {
        Order { parts: vec![(branch, None)], wrap: false, kind: Kind::Plain, method: None }
    }

    /// One server, with these parameters.
    pub(super) fn with(branch: Branch, params: Vec<u8>) -> Order {
        Order { parts: vec![(branch, Some(params))], ..Order::to(branch) }
    }
}

/// One server's part of a request.
#[derive(Debug)]
pub(super) struct Part {
    pub(super) branch: Branch,
    pub(super) epoch: u32,
    /// The id that it has there.
    pub(super) sent: u32,
    pub(super) answer: Option<Envelope>,
}

impl Part {
    /// The JSON text of its result, if it has one.
    pub(super) fn result(&self) -> Option<&[u8]> {
        self.answer.as_ref()?.outcome().ok()
    }
}

/// A request of the client without an answer.
#[derive(Debug)]
pub(super) struct Ask {
    pub(super) id: Id,
    /// What the servers were asked for.
    pub(super) method: Box<str>,
    /// The document that it is about; empty if it is about none.
    pub(super) about: Arc<str>,
    /// The version of that document when it was asked.
    pub(super) version: Option<Revision>,
    pub(super) parts: Vec<Part>,
    /// Who is to be asked when the last one has answered, with what.
    rest: VecDeque<(Branch, Envelope)>,
    pub(super) wrap: bool,
    pub(super) kind: Kind,
    /// The open documents when it was asked, if a server that counts positions in its own way is among those asked.
    pub(super) texts: Option<Arc<HashMap<Arc<str>, OpenDocument>>>,
    /// JSON texts of the tokens that the client has given.
    tokens: Vec<String>,
    /// When what there is becomes the answer.
    due: Option<Instant>,
    cancelled: bool,
}

/// A request that waits for a server that is coming.
#[derive(Debug)]
pub(super) struct Held {
    pub(super) id: Id,
    envelope: Envelope,
    until: Instant,
}

impl Merge {
    /// Sends the parts of a request.
    pub(super) fn fan_out(
        &mut self,
        envelope: &Envelope,
        id: &Id,
        method: &str,
        order: Order,
        now: Instant,
    ) {
        let number = self.next_id();
        let root = Raw::new(envelope.params());
        let about: Arc<str> = document_of(root).unwrap_or_default().into();
        let several = order.parts.len() > 1;
        let differs = |(branch, _): &(Branch, _)| self.child(*branch).encoding != self.encoding;
        let texts = order.parts.iter().any(differs).then(|| self.mirror.documents());
        let tokens = ["workDoneToken", "partialResultToken"].iter();
        let tokens = tokens.filter_map(|name| root.get(name));
        let mut ask = Ask {
            id: id.clone(),
            method: order.method.unwrap_or(method).into(),
            version: self.mirror.latest(&about),
            about,
            parts: Vec::new(),
            rest: VecDeque::new(),
            wrap: order.wrap,
            kind: order.kind,
            texts,
            tokens: tokens
                .map(|token| String::from_utf8_lossy(token.bytes()).into_owned())
                .collect(),
            due: several.then(|| now + ASK_PATIENCE),
            cancelled: false,
        };
        if ask.kind == Kind::Save {
            ask.due = Some(now + SAVE_PATIENCE);
        }
        for (at, (branch, own)) in order.parts.into_iter().enumerate() {
            let request = self.part_for(branch, envelope, own, (&ask, at, several));
            ask.rest.push_back((branch, request));
        }
        self.originals.insert(id.clone(), number);
        let at_once = if ask.kind == Kind::Save { 1 } else { ask.rest.len() };
        for _ in 0..at_once {
            self.next_part(number, &mut ask);
        }
        self.asks.insert(number, ask);
    }

    /// The request as one server is asked it, still under the client's id.
    fn part_for(
        &mut self,
        branch: Branch,
        envelope: &Envelope,
        own: Option<Vec<u8>>,
        (ask, at, several): (&Ask, usize, bool),
    ) -> Envelope {
        let differs = self.child(branch).encoding != self.encoding;
        let asked = envelope.method().unwrap_or_default();
        if own.is_none() && !several && !differs && *ask.method == *asked {
            return envelope.clone();
        }
        let mut params = own.unwrap_or_else(|| envelope.params().to_vec());
        if several {
            // One token must not live twice: partial results are put together here, progress is the first one's.
            params = without(&params, "partialResultToken");
            if at > 0 {
                params = without(&params, "workDoneToken");
            }
        }
        if let (true, Some(texts)) = (differs, &ask.texts) {
            let text_of = |uri: &str| self.text_in(texts, uri);
            let conversion = Conversion {
                from: self.encoding,
                to: self.child(branch).encoding,
                text_of: &text_of,
            };
            params = conversion.params(&ask.method, &ask.about, &params).raw;
        }
        if params == envelope.params() && *ask.method == *asked {
            return envelope.clone();
        }
        Envelope::request(ask.id.clone(), &ask.method, &raw(&params))
    }

    /// Asks the next server.
    fn next_part(&mut self, number: u32, ask: &mut Ask) {
        let Some((branch, request)) = ask.rest.pop_front() else { return };
        self.flush_text(branch, &ask.about);
        let sent = self.next_id();
        self.sent.insert(sent, (branch, Purpose::Part(number)));
        let epoch = self.child(branch).epoch;
        ask.parts.push(Part { branch, epoch, sent, answer: None });
        self.send_child(branch, request.with_id(Id::number(sent)));
    }

    /// A server has answered its part.
    pub(super) fn part_answered(
        &mut self,
        number: u32,
        sent: u32,
        envelope: Envelope,
        now: Instant,
    ) {
        let Some(mut ask) = self.asks.remove(&number) else { return };
        let first = ask.parts.first().is_some_and(|part| part.sent == sent);
        if let Some(part) = ask.parts.iter_mut().find(|part| part.sent == sent) {
            part.answer = Some(envelope);
        }
        if !ask.rest.is_empty() && !ask.cancelled {
            self.next_part(number, &mut ask);
        }
        if ask.parts.iter().all(|part| part.answer.is_some()) || first && ask.is_decided() {
            return self.finish(ask);
        }
        if first && ask.kind != Kind::Save && !ask.cancelled {
            let patience = match &*ask.method {
                "textDocument/completion" => COMPLETION_PATIENCE,
                _ => FAN_PATIENCE,
            };
            ask.due = Some(ask.due.map_or(now + patience, |due| due.min(now + patience)));
        }
        self.asks.insert(number, ask);
    }

    /// The client no longer wants an answer, and gets one (rule 4.17).
    pub(super) fn client_cancel(&mut self, id: &Id, now: Instant) {
        if let Some(at) = self.held.iter().position(|held| held.id == *id) {
            self.held.remove(at);
            return self.send_client(Envelope::error(id.clone(), &cancelled_error()));
        }
        let Some(number) = self.originals.get(id).copied() else { return };
        let Some(mut ask) = self.asks.remove(&number) else { return };
        ask.cancelled = true;
        ask.rest.clear();
        let due = now + CANCEL_PATIENCE;
        ask.due = Some(ask.due.map_or(due, |other| other.min(due)));
        for part in ask.parts.iter().filter(|part| part.answer.is_none()) {
            self.send_child(part.branch, cancel(part.sent));
        }
        self.asks.insert(number, ask);
    }

    /// Holds a request until a server has come.
    pub(super) fn hold(&mut self, envelope: &Envelope, id: &Id, now: Instant) {
        if self.held.len() >= HELD_MAX {
            let message = "too many requests wait for language servers that are starting";
            return self.refuse(id.clone(), codes::REQUEST_FAILED, message);
        }
        let until = now + HELD_PATIENCE;
        self.held.push_back(Held { id: id.clone(), envelope: envelope.clone(), until });
    }

    /// A server has come, or will not: those that wait are looked at again, in their order.
    pub(super) fn release_held(&mut self, now: Instant) {
        for held in std::mem::take(&mut self.held) {
            let method = held.envelope.method().unwrap_or_default().to_owned();
            let before = self.held.len();
            self.start(&held.envelope, &held.id, &method, now);
            // If it still waits, then not longer than before.
            if self.held.len() > before
                && let Some(again) = self.held.back_mut()
            {
                again.until = held.until;
            }
        }
    }

    /// Does what is due.
    pub(super) fn expire_asks(&mut self, now: Instant) {
        while self.held.front().is_some_and(|held| held.until <= now) {
            let Some(held) = self.held.pop_front() else { return };
            let message = "the language server that this is for is still starting";
            self.refuse(held.id, codes::REQUEST_FAILED, message);
        }
        let is_due = |ask: &Ask| ask.due.is_some_and(|due| due <= now);
        let late: Vec<u32> =
            self.asks.iter().filter(|(_, ask)| is_due(ask)).map(|(number, _)| *number).collect();
        for number in late {
            let Some(mut ask) = self.asks.remove(&number) else { continue };
            let answered = ask.parts.iter().any(|part| part.result().is_some());
            if answered || ask.cancelled || ask.kind == Kind::Save {
                self.finish(ask);
            } else {
                // Nobody has said anything: it takes as long as it takes.
                ask.due = None;
                self.asks.insert(number, ask);
            }
        }
    }

    /// When [`Merge::expire_asks`] has something to do.
    pub(super) fn asks_deadline(&self) -> Option<Instant> {
        let held = self.held.front().map(|held| held.until);
        self.asks.values().filter_map(|ask| ask.due).chain(held).min()
    }

    /// Lets go of what is not answered: nobody waits for it any more.
    pub(super) fn abandon(&mut self, ask: &Ask) {
        self.originals.remove(&ask.id);
        for part in &ask.parts {
            if self.sent.remove(&part.sent).is_some() && part.answer.is_none() && !ask.cancelled {
                self.send_child(part.branch, cancel(part.sent));
            }
        }
    }

    /// Whether the client has given this token with a request that has no answer.
    pub(super) fn is_client_s_token(&self, token: &str) -> bool {
        self.asks.values().any(|ask| ask.tokens.iter().any(|own| own == token))
    }
}

impl Ask {
    pub(super) fn is_cancelled(&self) -> bool {
        self.cancelled
    }

    /// Whether the first answer is the answer, whatever the others say.
    fn is_decided(&self) -> bool {
        let first_wins = matches!(
            &*self.method,
            "textDocument/signatureHelp" | "textDocument/documentHighlight"
        );
        let said = self.parts.first().and_then(Part::result);
        first_wins && said.is_some_and(|said| !matches!(said, b"null" | b"[]"))
    }
}

/// The document that parameters are about.
pub(super) fn document_of(params: Raw<'_>) -> Option<String> {
    let paths = ["textDocument.uri", "item.uri"];
    paths.iter().find_map(|path| params.path(path)).and_then(Raw::string)
}

fn without(params: &[u8], name: &str) -> Vec<u8> {
    let root = Raw::new(params);
    let mut splice = Splice::new(params);
    if root.get(name).is_some() {
        splice.remove(root, name);
    }
    splice.finish()
}

fn cancel(sent: u32) -> Envelope {
    Envelope::notification("$/cancelRequest", &serde_json::json!({ "id": sent }))
}
