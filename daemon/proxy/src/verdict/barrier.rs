//! The barrier: what proves that a server has processed a revision.
//!
//! Three ways, the surest first. (a) The server is *asked* (`textDocument/diagnostic`, or commands of its own): the answer
//! is of the state in which it was asked, so it counts if nothing was changed meanwhile. (b) It *publishes with the
//! version* of the revision, and no other text ever had that version. (c) It publishes without a version: that counts only
//! if it came after the answer to a request that was sent after the change, to a server that takes one message after the
//! other, and if nothing else came until its own delay had passed and a second such request was answered.
//!
//! Nobody is asked unless somebody wants to know. A question waits (until its ticket ends) for a server that is starting,
//! that reads its project, or that has died and is expected back.

mod known;
mod inquiry;

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;
use std::time::{Duration, Instant};

use serde_json::{Value, json};
use text::Revision;
use wire::{Bytes, Envelope, ResponseError, codes};

use super::findings::{judged, published, read};
use super::ways::{Form, Habits, Offers, Request, Way, identifier};
use super::{Reason, State, Verdict};
use inquiry::{Asking, Inquiry, Stage};
use known::{Known, Loading};

/// How often one question is asked again, because the server asked for that or the document was changed.
pub const ASK_AGAIN_MAX: u32 = 400;
/// How many documents of one server can be asked about at a time.
pub const INQUIRIES_MAX: usize = 256;
/// How many can wait for a verdict about one document.
pub const TICKETS_MAX: usize = 64;
/// How many documents of one server are known.
pub const VERDICT_DOCUMENTS_MAX: usize = 8 * 1024;
/// How long to wait before a server is asked again that asked for patience: at first, and at most.
const AGAIN_AFTER: [Duration; 2] = [Duration::from_millis(5), Duration::from_millis(100)];

/// Who waits for a verdict; a number that the asker chooses.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Ticket(pub u64);

/// What is to be done.
#[derive(Clone, Debug, PartialEq)]
pub enum Step {
    /// Ask the server; what it answers goes to [`Barrier::on_answer`] under this number.
    Ask(u32, String, Value),
    /// The answer to this question is of no use any more.
    Forget(u32),
    /// This is for whoever holds the ticket.
    Verdict(Ticket, Verdict),
}

/// Why the server cannot be asked.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Standing {
    Starting,
    Up,
    Away,
    Stopped,
}

/// What is known of one server's documents, and who wants to know more.
#[derive(Debug)]
pub struct Barrier {
    server: Arc<str>,
    habits: Habits,
    offers: Offers,
    standing: Standing,
    loading: Loading,
    documents: HashMap<Arc<str>, Known>,
    inquiries: BTreeMap<Arc<str>, Inquiry>,
    /// The document that a question is about.
    questions: HashMap<u32, Arc<str>>,
    last_question: u32,
    /// Counts what was published.
    sequence: u64,
    /// The latest request to the server, anybody's, that it has answered, and when.
    answered: Option<(u32, Instant)>,
}

impl Barrier {
    /// For a server that is on its way.
    pub fn new(habits: Habits) -> Barrier {
        Barrier {
            server: habits.name.as_deref().unwrap_or("the server").into(),
            habits,
            offers: Offers::default(),
            standing: Standing::Starting,
            loading: Loading::default(),
            documents: HashMap::new(),
            inquiries: BTreeMap::new(),
            questions: HashMap::new(),
            last_question: 0,
            sequence: 0,
            answered: None,
        }
    }

    /// A client says what it accepts: the parameters of `initialize`.
    pub fn on_initialize(&mut self, params: &[u8]) {
        if self.habits.ready.is_some() {
            self.loading.greet(&wire::parse::<Value>(params).unwrap_or_default());
        }
    }

    /// The server says what it can: the result of `initialize`.
    pub fn on_capabilities(&mut self, result: &[u8]) {
        self.offers = Offers::read(result);
    }

    /// Whether the server has read the project, as far as it says so: before, it may find nothing wrong.
    pub fn has_loaded(&self, now: Instant) -> bool {
        self.loading.is_done(self.habits.ready.as_ref(), now)
    }

    /// The server has been greeted, and told every open document.
    pub fn on_server_ready(&mut self, now: Instant) -> Vec<Step> {
        self.standing = Standing::Up;
        self.drive_all(now)
    }

    /// The server is gone; `back`: it is expected again. What it said counts no longer.
    pub fn on_server_gone(&mut self, back: bool) -> Vec<Step> {
        self.standing = if back { Standing::Away } else { Standing::Stopped };
        self.offers = Offers::default();
        self.loading.restart();
        self.questions.clear();
        self.answered = None;
        self.documents.retain(|_, known| known.open);
        self.documents.values_mut().for_each(Known::forget_all);
        let mut steps = Vec::new();
        for uri in self.asked_about() {
            match back {
                true => self.park(&uri, Reason::Restarting),
                false => self.give_up(&uri, &Reason::Stopped, &mut steps),
            }
        }
        steps
    }

    /// A document was opened; `last_id` is the id of the latest request to the server.
    pub fn on_open(
        &mut self,
        uri: &Arc<str>,
        revision: Revision,
        last_id: u32,
        now: Instant,
    ) -> Vec<Step> {
        if self.documents.len() >= VERDICT_DOCUMENTS_MAX && !self.documents.contains_key(uri) {
            self.documents.retain(|_, known| known.open);
            if self.documents.len() >= VERDICT_DOCUMENTS_MAX {
                return Vec::new();
            }
        }
        let known = self.documents.entry(Arc::clone(uri)).or_default();
        known.open = true;
        known.told(revision, last_id);
        self.drive_after_change(uri, now)
    }

    /// A document was changed.
    pub fn on_change(
        &mut self,
        uri: &str,
        revision: Revision,
        last_id: u32,
        now: Instant,
    ) -> Vec<Step> {
        let Some(known) = self.documents.get_mut(uri).filter(|known| known.open) else {
            return Vec::new();
        };
        known.told(revision, last_id);
        if self.inquiries.is_empty() {
            return Vec::new();
        }
        self.drive_after_change(uri, now)
    }

    /// A document was closed.
    pub fn on_close(&mut self, uri: &str) -> Vec<Step> {
        let mut steps = Vec::new();
        if let Some(known) = self.documents.get_mut(uri) {
            known.open = false;
            self.give_up(uri, &Reason::NotOpen, &mut steps);
        }
        steps
    }

    /// The server has published diagnostics of a document.
    pub fn on_publish(
        &mut self,
        uri: &str,
        version: Option<i32>,
        list: &Bytes,
        now: Instant,
    ) -> Vec<Step> {
        self.sequence += 1;
        let (sequence, answered) = (self.sequence, self.answered);
        let in_order = self.habits.barrier.is_some();
        let Some(known) = self.documents.get_mut(uri).filter(|known| known.open) else {
            return Vec::new();
        };
        if !known.hear(version, list, sequence, answered.filter(|_| in_order), now) {
            return Vec::new();
        }
        let mut steps = Vec::new();
        let hearing = |inquiry: &Inquiry| inquiry.stage.is_hearing();
        if self.inquiries.get(uri).is_some_and(hearing) {
            self.drive(uri, now, &mut steps);
        }
        steps
    }

    /// The server has sent another notification.
    pub fn on_notification(&mut self, envelope: &Envelope, now: Instant) -> Vec<Step> {
        let Some(ready) = &self.habits.ready else { return Vec::new() };
        if !self.loading.listen(ready, envelope, now) {
            return Vec::new();
        }
        self.drive_all(now)
    }

    /// The server has answered the request with this id, whoever asked it, with a result.
    pub fn on_any_answer(&mut self, id: u32, now: Instant) {
        self.answered = Some((id, now));
    }

    /// The server has registered something (`client/registerCapability`), and the client has accepted it.
    pub fn on_register(&mut self, params: &[u8], now: Instant) -> Vec<Step> {
        let params: Value = wire::parse(params).unwrap_or_default();
        let before = self.offers.registered.len();
        for registration in params["registrations"].as_array().into_iter().flatten() {
            if registration["method"] == "textDocument/diagnostic"
                && self.offers.registered.len() < TICKETS_MAX
            {
                let id = registration["id"].as_str().unwrap_or_default().to_owned();
                self.offers.registered.push((id, identifier(&registration["registerOptions"])));
            }
        }
        if self.offers.registered.len() == before { Vec::new() } else { self.drive_all(now) }
    }

    /// The server takes registrations back.
    pub fn on_unregister(&mut self, params: &[u8]) {
        let params: Value = wire::parse(params).unwrap_or_default();
        // The misspelling is the protocol's.
        for gone in params["unregisterations"].as_array().into_iter().flatten() {
            self.offers.registered.retain(|(id, _)| gone["id"] != id.as_str());
        }
    }

    /// Somebody wants a verdict about a document, and waits for it until then.
    pub fn ask(&mut self, uri: &str, ticket: Ticket, until: Instant, now: Instant) -> Vec<Step> {
        let Some((uri, _)) = self.documents.get_key_value(uri).filter(|(_, known)| known.open)
        else {
            let full = self.documents.len() >= VERDICT_DOCUMENTS_MAX;
            let reason = if full { Reason::Crowded } else { Reason::NotOpen };
            return vec![Step::Verdict(ticket, self.verdict(&uri.into(), State::Unknown(reason)))];
        };
        let uri = Arc::clone(uri);
        let there = self.inquiries.len();
        let crowded = match self.inquiries.get(&uri) {
            Some(inquiry) => inquiry.waiting.len() >= TICKETS_MAX,
            None => there >= INQUIRIES_MAX,
        };
        if crowded {
            return vec![Step::Verdict(
                ticket,
                self.verdict(&uri, State::Unknown(Reason::Crowded)),
            )];
        }
        let new = !self.inquiries.contains_key(&uri);
        let inquiry = self.inquiries.entry(Arc::clone(&uri)).or_default();
        inquiry.waiting.push((ticket, until));
        let mut steps = Vec::new();
        if new {
            self.drive(&uri, now, &mut steps);
        } else if let Some(inquiry) = self.inquiries.get_mut(&uri) {
            // The answer that is on its way may be of a state from before whatever made the asker ask (a saved file, a
            // change of another document): it is asked once more.
            inquiry.stale = true;
        }
        steps.extend(self.expire(now));
        steps
    }

    /// The server has answered a question, or will not.
    pub fn on_answer(
        &mut self,
        question: u32,
        outcome: Result<&[u8], &ResponseError>,
        now: Instant,
    ) -> Vec<Step> {
        let mut steps = Vec::new();
        let Some(uri) = self.questions.remove(&question) else { return steps };
        let Some(inquiry) = self.inquiries.get_mut(&uri) else { return steps };
        let stage = std::mem::replace(&mut inquiry.stage, Stage::Parked);
        let changes = self.documents.get(&uri).map_or(0, |known| known.changes);
        match stage {
            Stage::Asked { at, asking, .. } if at == changes && !inquiry.stale => {
                self.on_asked(&uri, asking, outcome, now, &mut steps);
            }
            Stage::Asked { .. } => {
                inquiry.stale = false;
                self.again(&uri, Reason::Changing, None, now, &mut steps);
            }
            Stage::Barrier { at, .. } => match outcome {
                Ok(_) => {
                    let known = self.documents.get_mut(&uri).filter(|known| known.changes == at);
                    if let Some(known) = known {
                        known.proven.get_or_insert(now);
                    }
                    self.drive(&uri, now, &mut steps);
                }
                Err(error) if is_later(error) => self.on_refusal(&uri, error, now, &mut steps),
                // It proves nothing; what is published with the version still does.
                Err(_) => self.set_stage(&uri, Stage::Listening { settled: None }, Reason::Silent),
            },
            Stage::Settling { at, sequence, .. } => match outcome {
                Ok(_) => {
                    let known = self.documents.get_mut(&uri).filter(|known| known.changes == at);
                    if let Some(known) = known {
                        known.settle(sequence);
                    }
                    self.drive(&uri, now, &mut steps);
                }
                Err(error) => self.on_refusal(&uri, error, now, &mut steps),
            },
            other => inquiry.stage = other,
        }
        steps
    }

    /// When [`Barrier::expire`] has something to do.
    pub fn next_deadline(&self) -> Option<Instant> {
        let loaded = self.loading.next_deadline(self.habits.ready.as_ref());
        let of = |inquiry: &Inquiry| match inquiry.stage {
            Stage::Parked => [inquiry.next_deadline(), loaded].into_iter().flatten().min(),
            _ => inquiry.next_deadline(),
        };
        self.inquiries.values().filter_map(of).min()
    }

    /// Does what is due: asks again, and gives up what has waited too long.
    pub fn expire(&mut self, now: Instant) -> Vec<Step> {
        let mut steps = Vec::new();
        for uri in self.asked_about() {
            let due = match self.inquiries.get(&uri).map(|inquiry| &inquiry.stage) {
                Some(Stage::Again(at)) => *at <= now,
                Some(Stage::Listening { settled }) => settled.is_some_and(|at| at <= now),
                Some(Stage::Parked) => self.hindrance(now).is_none(),
                _ => false,
            };
            if due {
                self.drive(&uri, now, &mut steps);
            }
            let Some(inquiry) = self.inquiries.get_mut(&uri) else { continue };
            let late = inquiry.take_late(now);
            let (reason, over) = (inquiry.why.clone(), inquiry.waiting.is_empty());
            for ticket in late {
                let unknown = self.verdict(&uri, State::Unknown(reason.clone()));
                steps.push(Step::Verdict(ticket, unknown));
            }
            if over {
                self.drop_inquiry(&uri, &mut steps);
            }
        }
        steps
    }

    /// Why nobody can be asked now.
    fn hindrance(&self, now: Instant) -> Option<Reason> {
        match self.standing {
            Standing::Starting => Some(Reason::Starting),
            Standing::Away => Some(Reason::Restarting),
            Standing::Stopped => Some(Reason::Stopped),
            Standing::Up => {
                let loaded = self.loading.is_done(self.habits.ready.as_ref(), now);
                (!loaded).then_some(Reason::Loading)
            }
        }
    }

    fn asked_about(&self) -> Vec<Arc<str>> {
        self.inquiries.keys().cloned().collect()
    }

    fn drive_all(&mut self, now: Instant) -> Vec<Step> {
        let mut steps = Vec::new();
        for uri in self.asked_about() {
            let asked = self.inquiries.get(&uri).is_some_and(|one| one.stage.is_asked());
            if !asked {
                self.drive(&uri, now, &mut steps);
            }
        }
        steps
    }

    /// A change makes what is under way worthless, but a question is let run: a server is not asked at every keystroke.
    fn drive_after_change(&mut self, uri: &str, now: Instant) -> Vec<Step> {
        let mut steps = Vec::new();
        let hearing = |inquiry: &Inquiry| inquiry.stage.is_hearing();
        if self.inquiries.get(uri).is_some_and(hearing) {
            self.drive(uri, now, &mut steps);
        }
        steps
    }

    /// Does the next thing for a document that is asked about.
    fn drive(&mut self, uri: &str, now: Instant, steps: &mut Vec<Step>) {
        self.forget_question(uri, steps);
        if self.standing == Standing::Stopped {
            return self.give_up(uri, &Reason::Stopped, steps);
        }
        if let Some(reason) = self.hindrance(now) {
            return self.park(uri, reason);
        }
        let Some((uri, known)) = self.documents.get_key_value(uri).filter(|(_, known)| known.open)
        else {
            return self.give_up(uri, &Reason::NotOpen, steps);
        };
        let (uri, at) = (Arc::clone(uri), known.changes);
        match self.offers.way(&self.habits, &uri) {
            Way::Asked(mut requests, form) => {
                let first = requests.remove(0);
                let question = self.question(&uri, first, steps);
                let asking = Asking { form, found: Vec::new(), rest: requests };
                self.set_stage(&uri, Stage::Asked { question, at, asking }, Reason::NoAnswer);
            }
            Way::Heard => self.drive_hearing(&uri, at, now, steps),
        }
    }

    fn drive_hearing(&mut self, uri: &Arc<str>, at: u64, now: Instant, steps: &mut Vec<Step>) {
        let Some(known) = self.documents.get(uri) else { return };
        if let Some(list) = &known.said {
            let state = judged(&published(list));
            return self.resolve(uri, &state, steps);
        }
        let request = self.habits.barrier.as_ref().map(|method| Request {
            method: method.clone(),
            params: json!({ "textDocument": { "uri": &**uri } }),
        });
        let settled = known.settled(self.habits.debounce);
        let stage = match (request, known.proven, settled) {
            (Some(request), None, _) => {
                Stage::Barrier { question: self.question(uri, request, steps), at }
            }
            (Some(request), Some(_), Some((when, sequence))) if when <= now => {
                Stage::Settling { question: self.question(uri, request, steps), at, sequence }
            }
            (_, _, settled) => Stage::Listening { settled: settled.map(|(when, _)| when) },
        };
        self.set_stage(uri, stage, Reason::Silent);
    }

    fn on_asked(
        &mut self,
        uri: &Arc<str>,
        mut asking: Asking,
        outcome: Result<&[u8], &ResponseError>,
        now: Instant,
        steps: &mut Vec<Step>,
    ) {
        if let Some(reason) = self.hindrance(now) {
            return self.park(uri, reason);
        }
        match outcome.map(|result| read(asking.form, result)) {
            Ok(Ok(items)) => asking.found.extend(items),
            Ok(Err(words)) => return self.give_up(uri, &Reason::Refused(words), steps),
            Err(error) if error.code == codes::METHOD_NOT_FOUND && asking.form == Form::Report => {
                self.offers.refuses = true;
                return self.drive(uri, now, steps);
            }
            Err(error) => return self.on_refusal(uri, error, now, steps),
        }
        if asking.rest.is_empty() {
            return self.resolve(uri, &judged(&asking.found), steps);
        }
        let next = asking.rest.remove(0);
        let at = self.documents.get(uri).map_or(0, |known| known.changes);
        let question = self.question(uri, next, steps);
        self.set_stage(uri, Stage::Asked { question, at, asking }, Reason::NoAnswer);
    }

    /// The server answered with an error. Some mean: ask again.
    fn on_refusal(
        &mut self,
        uri: &Arc<str>,
        error: &ResponseError,
        now: Instant,
        steps: &mut Vec<Step>,
    ) {
        if !is_later(error) {
            return self.give_up(uri, &Reason::Refused(error.message.clone()), steps);
        }
        let round = self.inquiries.get(uri).map_or(0, |inquiry| inquiry.rounds).min(10);
        let pause = (AGAIN_AFTER[0] * 2u32.pow(round)).min(AGAIN_AFTER[1]);
        self.again(uri, Reason::Busy, Some(now + pause), now, steps);
    }

    /// Another round, now or at `when`.
    fn again(
        &mut self,
        uri: &Arc<str>,
        why: Reason,
        when: Option<Instant>,
        now: Instant,
        steps: &mut Vec<Step>,
    ) {
        let Some(inquiry) = self.inquiries.get_mut(uri) else { return };
        inquiry.rounds += 1;
        if inquiry.rounds > ASK_AGAIN_MAX {
            return self.give_up(uri, &why, steps);
        }
        match when {
            Some(when) => self.set_stage(uri, Stage::Again(when), why),
            None => {
                self.drive(uri, now, steps);
                if let Some(inquiry) = self.inquiries.get_mut(uri) {
                    inquiry.why = why;
                }
            }
        }
    }

    fn question(&mut self, uri: &Arc<str>, request: Request, steps: &mut Vec<Step>) -> u32 {
        self.last_question = self.last_question.wrapping_add(1);
        self.questions.insert(self.last_question, Arc::clone(uri));
        steps.push(Step::Ask(self.last_question, request.method, request.params));
        self.last_question
    }

    fn forget_question(&mut self, uri: &str, steps: &mut Vec<Step>) {
        let question = self.inquiries.get(uri).and_then(|inquiry| inquiry.stage.question());
        if let Some(question) =
            question.filter(|question| self.questions.remove(question).is_some())
        {
            steps.push(Step::Forget(question));
        }
    }

    fn set_stage(&mut self, uri: &str, stage: Stage, why: Reason) {
        if let Some(inquiry) = self.inquiries.get_mut(uri) {
            inquiry.stage = stage;
            inquiry.why = why;
        }
    }

    fn park(&mut self, uri: &str, why: Reason) {
        self.set_stage(uri, Stage::Parked, why);
    }

    fn give_up(&mut self, uri: &str, reason: &Reason, steps: &mut Vec<Step>) {
        self.resolve(uri, &State::Unknown(reason.clone()), steps);
    }

    /// Everybody who waits for this document is told.
    fn resolve(&mut self, uri: &str, state: &State, steps: &mut Vec<Step>) {
        let Some((uri, _)) = self.inquiries.get_key_value(uri) else { return };
        let verdict = self.verdict(&Arc::clone(uri), state.clone());
        let waiting = self.drop_inquiry(&verdict.uri, steps);
        let tell = |(ticket, _)| Step::Verdict(ticket, verdict.clone());
        steps.extend(waiting.into_iter().map(tell));
    }

    fn drop_inquiry(&mut self, uri: &Arc<str>, steps: &mut Vec<Step>) -> Vec<(Ticket, Instant)> {
        self.forget_question(uri, steps);
        self.inquiries.remove(uri).map(|inquiry| inquiry.waiting).unwrap_or_default()
    }

    fn verdict(&self, uri: &Arc<str>, state: State) -> Verdict {
        let known = self.documents.get(uri).filter(|known| known.open);
        let revision = known.map(|known| known.revision);
        Verdict { uri: Arc::clone(uri), revision, server: Arc::clone(&self.server), state }
    }
}

/// Whether an error means: ask again.
fn is_later(error: &ResponseError) -> bool {
    matches!(
        error.code,
        codes::SERVER_CANCELLED | codes::CONTENT_MODIFIED | codes::REQUEST_CANCELLED
    )
}
