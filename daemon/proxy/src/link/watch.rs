//! What whoever watches over a server asks of its link: who waits since when, and words to the user.

use std::time::Instant;

use serde_json::{Value, json};
use wire::lsp::MessageType;
use wire::{Envelope, Id, Lane};

use super::{Link, Outbound, Route, ServerState, is_client_initialize};
use crate::latency::Quantiles;
use crate::{ClientId, Pending, is_read};

impl Link {
    /// How long the latest requests of clients took.
    pub fn latency(&self) -> Option<Quantiles> {
        self.latencies.quantiles()
    }

    /// The request that the server, or else a client, would answer with this id.
    pub fn question(&self, by_server: bool, id: &Id) -> Option<&Pending> {
        if by_server { self.asked_server.get(id) } else { self.asked_client.get(id) }
    }

    /// How many requests the server has not answered.
    pub fn unanswered_len(&self) -> usize {
        self.asked_server.len()
    }

    /// Since when the oldest request of a client has no answer.
    pub fn waiting_since(&self) -> Option<Instant> {
        self.asked_server.entries().filter_map(|(_, pending)| pending.since).min()
    }

    /// Since when the oldest request has no answer that a server that works would have answered by now: what only reads,
    /// except for reports that servers hold back until there is news.
    pub fn due_since(&self) -> Option<Instant> {
        let held_back = |pending: &Pending| &*pending.method == "workspace/diagnostic";
        let due = |pending: &&Pending| is_read(&pending.method) && !held_back(pending);
        let waiting = self.asked_server.entries().map(|(_, pending)| pending);
        waiting.filter(due).filter_map(|pending| pending.since).min()
    }

    /// Since when a client waits for the answer to its `initialize`.
    pub fn initialize_since(&self) -> Option<Instant> {
        let waiting = self.asked_server.entries().map(|(_, pending)| pending);
        waiting.filter(|p| is_client_initialize(p)).filter_map(|pending| pending.since).min()
    }

    /// Shows a message to every user.
    pub fn say(&self, kind: MessageType, message: &str) -> Vec<Route> {
        let params = json!({ "type": kind, "message": message });
        self.to_all(&Envelope::notification("window/showMessage", &params), &Lane::Keep)
    }

    /// Asks the user to choose: the oldest client whose editor can show actions, under the number that is returned. The
    /// answer comes as [`Route::Chosen`], if one comes. `None`: no editor can.
    pub fn ask_user(
        &mut self,
        kind: MessageType,
        message: &str,
        actions: &[&str],
    ) -> Option<(u32, Route)> {
        let client = self.clients().find(|client| self.shows_actions(*client))?;
        let method = "window/showMessageRequest";
        let pending = Pending { asked: client, awaited: true, ..Pending::ours(method) };
        let ours = self.asked_client.insert(pending).ok()?;
        let actions: Vec<Value> = actions.iter().map(|title| json!({ "title": title })).collect();
        let params = json!({ "type": kind, "message": message, "actions": actions });
        let body = Envelope::request(Id::number(ours), method, &params).body;
        Some((ours, Route::Client(client, Outbound { body, lane: Lane::Keep, tag: Some(ours) })))
    }

    /// The server will not come back by itself; the user who can choose is asked, others are told. The number of the
    /// question, if one was asked, and what to do.
    pub fn give_up_asking(&mut self, reason: &str, actions: &[&str]) -> (Option<u32>, Vec<Route>) {
        let asked = self.clients().find(|client| self.shows_actions(*client));
        let Some(asked) = asked.filter(|_| self.is_initialized() && !self.is_shutdown()) else {
            return (None, self.give_up(reason));
        };
        self.told = true;
        let mut routes = self.give_up(reason);
        let said = self.say(MessageType::ERROR, reason);
        routes.extend(
            said.into_iter()
                .filter(|route| !matches!(route, Route::Client(client, _) if *client == asked)),
        );
        let question = self.ask_user(MessageType::ERROR, reason, actions);
        let number = question.as_ref().map(|(number, _)| *number);
        routes.extend(question.map(|(_, route)| route));
        (number, routes)
    }

    /// A server that was given up may come again: call [`Link::on_server_up`] when it is there. `false`: it was not given
    /// up, or its clients know it as one that failed.
    pub fn revive(&mut self) -> bool {
        let may = matches!(self.state, ServerState::Stopped(_)) && self.is_initialized();
        if may {
            self.state = ServerState::Away;
            self.told = false;
        }
        may
    }

    /// Whether an editor can show messages with actions.
    fn shows_actions(&self, client: ClientId) -> bool {
        let params = self.mirror(client).and_then(|mirror| mirror.initialize_params());
        let params: Value = params.and_then(|raw| wire::parse(raw).ok()).unwrap_or_default();
        params["capabilities"]["window"]["showMessage"].is_object()
    }
}

#[cfg(test)]
mod tests;
