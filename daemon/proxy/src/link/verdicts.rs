//! What the server provably says of a revision: the barrier listens to what passes, and asks through the link.

use std::sync::Arc;
use std::time::Instant;

use wire::Envelope;

use super::{Link, Route, ServerState};
use crate::mirror::Told;
use crate::verdict::{Step, Ticket};

impl Link {
    /// Somebody wants to know what the server says of a document as the clients have it now, and waits for that until then.
    /// The verdict comes as [`Route::Verdict`].
    pub fn verdict(
        &mut self,
        uri: &str,
        ticket: Ticket,
        until: Instant,
        now: Instant,
    ) -> Vec<Route> {
        let steps = self.barrier.ask(uri, ticket, until, now);
        self.barrier_routes(steps)
    }

    /// The documents that some client has open, in order.
    pub fn open_documents(&self) -> Vec<Arc<str>> {
        let mut uris: Vec<Arc<str>> =
            self.members.values().flat_map(|member| member.mirror.uris()).collect();
        uris.sort_unstable();
        uris.dedup();
        uris
    }

    /// A [`Route::Answered`] came: what follows if it was the barrier's question, else `None`.
    pub fn on_question_answered(
        &mut self,
        ours: u32,
        answer: &Envelope,
        now: Instant,
    ) -> Option<Vec<Route>> {
        let question = self.questions.remove(&ours)?;
        let steps = match answer.outcome() {
            Ok(result) => self.barrier.on_answer(question, Ok(result), now),
            Err(error) => self.barrier.on_answer(question, Err(&error), now),
        };
        Some(self.barrier_routes(steps))
    }

    /// The server is told something of a client: what the barrier has to know of it.
    pub(super) fn barrier_on_client(&mut self, told: Option<Told>, now: Instant) -> Vec<Route> {
        let last = self.asked_server.last();
        let steps = match told {
            Some(Told::Opened(uri, revision)) => self.barrier.on_open(&uri, revision, last, now),
            Some(Told::Changed(uri, revision)) => self.barrier.on_change(&uri, revision, last, now),
            Some(Told::Closed(uri)) => self.barrier.on_close(&uri),
            None => return Vec::new(),
        };
        self.barrier_routes(steps)
    }

    /// The server has sent a notification.
    pub(super) fn barrier_on_notification(
        &mut self,
        envelope: &Envelope,
        now: Instant,
    ) -> Vec<Route> {
        let steps = self.barrier.on_notification(envelope, now);
        self.barrier_routes(steps)
    }

    /// The server has just published: the tap has the set.
    pub(super) fn barrier_on_publish(&mut self, uri: &str, now: Instant) -> Vec<Route> {
        let Some(set) = self.tap.last_pushed(uri) else { return Vec::new() };
        let steps = self.barrier.on_publish(uri, set.version, &set.diagnostics, now);
        self.barrier_routes(steps)
    }

    /// The server may be there and greeted.
    pub(super) fn barrier_on_up(&mut self, now: Instant) -> Vec<Route> {
        if self.state != ServerState::Running || !self.is_initialized() {
            return Vec::new();
        }
        let steps = self.barrier.on_server_ready(now);
        self.barrier_routes(steps)
    }

    /// The server is gone.
    pub(super) fn barrier_on_gone(&mut self, back: bool) -> Vec<Route> {
        self.questions.clear();
        let steps = self.barrier.on_server_gone(back);
        self.barrier_routes(steps)
    }

    /// What the barrier wants done.
    pub(super) fn barrier_routes(&mut self, steps: Vec<Step>) -> Vec<Route> {
        let mut routes = Vec::new();
        for step in steps {
            match step {
                Step::Ask(question, method, params) => {
                    let (ours, route) = self.ask_server(&method, &params, None);
                    self.questions.insert(ours, question);
                    routes.push(route);
                }
                Step::Forget(question) => {
                    let ours = self.questions.iter().find(|(_, other)| **other == question);
                    let ours = ours.map(|(ours, _)| *ours);
                    routes.extend(ours.and_then(|ours| {
                        self.questions.remove(&ours);
                        self.forget_question(ours)
                    }));
                }
                Step::Verdict(ticket, verdict) => routes.push(Route::Verdict(ticket, verdict)),
            }
        }
        routes
    }
}
