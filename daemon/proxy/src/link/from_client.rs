//! What the client sends.

use std::sync::Arc;
use std::time::Instant;

use serde_json::value::RawValue;
use wire::{Bytes, Envelope, Id, Kind, Lane, codes};

use super::members::goodbye;
use super::{
    CANCEL_PATIENCE, HELD_BYTES_MAX, HELD_MESSAGES_MAX, Link, Outbound, RETRY_BYTES_MAX, Reads,
    Route, SETTINGS_MAX, SHUTDOWN_PATIENCE, ServerState, cancel, cancelled_error, cancelled_id,
    fail_client, to_client, to_server,
};
use crate::mirror::is_mirrored;
use crate::{ClientId, Pending, is_read};

impl Link {
    /// A message from a client.
    pub fn on_client(&mut self, client: ClientId, envelope: Envelope, now: Instant) -> Vec<Route> {
        let shared = self.is_shared();
        let Some(member) = self.members.get_mut(&client) else { return Vec::new() };
        if !matches!(envelope.kind, Kind::Response { .. }) {
            self.turn += 1;
            member.active = self.turn;
        }
        if shared && let Kind::Notification { method } = &envelope.kind {
            return self.shared_notification(client, method, &envelope, now);
        }
        let told = member.mirror.on_client(&envelope);
        let mut routes = match &envelope.kind {
            Kind::Request { id, method } => self.client_request(client, &envelope, id, method, now),
            Kind::Notification { method } if *method == "$/cancelRequest" => {
                self.client_cancel(client, &envelope, now)
            }
            Kind::Notification { method } if *method == "initialized" => {
                self.on_initialized(client, &envelope, now)
            }
            Kind::Notification { method } if *method == "workspace/didChangeConfiguration" => {
                self.on_settings(client, &envelope, now)
            }
            Kind::Notification { method } if *method == "exit" && self.outlives(client) => {
                Vec::new()
            }
            Kind::Notification { .. } => self.forward(&envelope),
            Kind::Response { id } => self.client_response(client, &envelope, id, now),
        };
        routes.extend(self.barrier_on_client(told, now));
        routes
    }

    /// A notification of one of several clients.
    fn shared_notification(
        &mut self,
        client: ClientId,
        method: &str,
        envelope: &Envelope,
        now: Instant,
    ) -> Vec<Route> {
        let stopped = matches!(self.state, ServerState::Stopped(_));
        match method {
            "$/cancelRequest" => self.client_cancel(client, envelope, now),
            _ if method.starts_with("textDocument/did")
                || method.starts_with("notebookDocument/did") =>
            {
                if stopped {
                    self.listen(client, envelope);
                    return Vec::new();
                }
                self.shared_document(client, envelope, now)
            }
            "workspace/didChangeWorkspaceFolders" if !stopped => {
                self.shared_folders(client, envelope, now)
            }
            _ => {
                self.listen(client, envelope);
                match method {
                    "initialized" => self.on_initialized(client, envelope, now),
                    "workspace/didChangeConfiguration" => self.on_settings(client, envelope, now),
                    "window/workDoneProgress/cancel" => self.cancel_progress(client, envelope),
                    "$/setTrace" if self.lead() != Some(client) => Vec::new(),
                    "exit" if self.outlives(client) => Vec::new(),
                    _ => self.forward(envelope),
                }
            }
        }
    }

    /// The request `ours` was taken out of the server's queue before it was written.
    pub fn withdrawn_from_server(&mut self, ours: u32) -> Vec<Route> {
        let Some(pending) = self.asked_server.take(ours) else { return Vec::new() };
        let answer = |id| to_client(pending.asker, Envelope::error(id, &cancelled_error()));
        pending.original.map(answer).into_iter().collect()
    }

    fn client_request(
        &mut self,
        client: ClientId,
        envelope: &Envelope,
        id: &Id,
        method: &str,
        now: Instant,
    ) -> Vec<Route> {
        if let ServerState::Stopped(reason) = &self.state {
            let reason = reason.clone();
            return self.refuse(client, id, method, &reason);
        }
        if method == "shutdown" && self.outlives(client) {
            let mut routes = self.close_documents_of(client, now);
            routes.push(goodbye(client, id));
            return routes;
        }
        if method == "shutdown" && self.state == ServerState::Away {
            return vec![to_client(client, Envelope::response(id.clone(), &()))];
        }
        let mut pending = Pending::of(client, id.clone(), method);
        pending.since = Some(now);
        match method {
            "shutdown" => pending.deadline = Some(now + SHUTDOWN_PATIENCE),
            "textDocument/diagnostic" => pending.about = self.about(client, envelope),
            _ => {}
        }
        let Ok(ours) = self.asked_server.insert(pending) else {
            tracing::warn!(%id, method, "the client has this id in use");
            let message = "a request with this id has no answer yet";
            return vec![fail_client(client, id.clone(), codes::INVALID_REQUEST, message)];
        };
        let shared = self.is_shared();
        let asked = if method == "initialize" {
            let Some(asked) = self.on_initialize(client, envelope, ours) else {
                return self.answer_joiners();
            };
            asked.with_id(Id::number(ours))
        } else if shared {
            self.with_minted_tokens(client, ours, envelope.with_id(Id::number(ours)))
        } else {
            envelope.with_id(Id::number(ours))
        };
        let body = asked.body;
        let retry = (shared || self.options.reads == Reads::Retry) && is_read(method);
        let keep = method == "initialize" || retry && body.len() <= RETRY_BYTES_MAX;
        if let Some(pending) = self.asked_server.get_mut(ours).filter(|_| keep) {
            pending.body = Some(Bytes::copy_from_slice(&body));
        }
        let outbound = Outbound { body, lane: Lane::Keep, tag: Some(ours) };
        match self.server_or_hold(outbound) {
            Ok(routes) => routes,
            Err(_full) => {
                self.asked_server.take(ours);
                let message = "too many requests wait for the language server";
                vec![fail_client(client, id.clone(), codes::REQUEST_FAILED, message)]
            }
        }
    }

    /// A notification on its way to the server.
    pub(super) fn forward(&mut self, envelope: &Envelope) -> Vec<Route> {
        let away = matches!(self.state, ServerState::Away | ServerState::Greeting);
        if away && is_mirrored(envelope) {
            // The replay will tell the server.
            return Vec::new();
        }
        let outbound = Outbound { body: envelope.body.clone(), lane: Lane::Keep, tag: None };
        self.server_or_hold(outbound).unwrap_or_else(|_full| {
            tracing::error!(method = ?envelope.method(), "dropped: the server does not start");
            Vec::new()
        })
    }

    fn client_cancel(&mut self, client: ClientId, envelope: &Envelope, now: Instant) -> Vec<Route> {
        let ours = cancelled_id(envelope).and_then(|id| self.asked_server.ours(client, &id));
        let Some(ours) = ours else {
            // Answered already, or never asked.
            return Vec::new();
        };
        if self.take_held(ours) {
            return self.withdrawn_from_server(ours);
        }
        if let Some(pending) = self.asked_server.get_mut(ours) {
            let deadline = now + CANCEL_PATIENCE;
            pending.cancelled = true;
            pending.deadline = Some(pending.deadline.map_or(deadline, |d| d.min(deadline)));
        }
        vec![Route::WithdrawFromServer(ours, cancel(ours))]
    }

    fn client_response(
        &mut self,
        client: ClientId,
        envelope: &Envelope,
        id: &Id,
        now: Instant,
    ) -> Vec<Route> {
        // Only whoever was asked can answer.
        let asked = id.as_u32().and_then(|ours| self.asked_client.get_mut(ours));
        let of_another = asked.is_some_and(|pending| pending.asked != client);
        let answered = if of_another { None } else { self.asked_client.answered(id) };
        let Some((ours, pending)) = answered else {
            tracing::debug!(%id, "an answer that nobody waits for");
            return Vec::new();
        };
        let Some(original) = pending.original else {
            // The answer to a request of our own.
            let chosen = Route::Chosen(ours, envelope.clone());
            return if pending.awaited { vec![chosen] } else { Vec::new() };
        };
        let mut after = Vec::new();
        match (&*pending.method, &pending.body, envelope.outcome()) {
            ("workspace/configuration", Some(body), Ok(result)) => self.note_settings(body, result),
            ("client/registerCapability", Some(body), Ok(_)) => {
                after = self.note_registered(body, now);
            }
            ("client/unregisterCapability", Some(body), Ok(_)) => {
                self.registry.note_unregistered(body);
            }
            _ => {}
        }
        // A server that asks is there, even if it has not answered our greeting, which may wait for this very answer. It is never
        // held: the next server would take it for the answer to a request of its own.
        let mut routes = vec![to_server(envelope.with_id(original))];
        routes.extend(after);
        routes
    }

    /// The route to the server if it is there; otherwise the message is held, or given back if there is no room.
    fn server_or_hold(&mut self, outbound: Outbound) -> Result<Vec<Route>, Outbound> {
        match self.state {
            ServerState::Running => return Ok(vec![Route::Server(outbound)]),
            ServerState::Stopped(_) => return Ok(Vec::new()),
            ServerState::Starting | ServerState::Greeting | ServerState::Away => {}
        }
        let bytes = self.held_bytes + outbound.body.len();
        if self.held.len() >= HELD_MESSAGES_MAX || bytes > HELD_BYTES_MAX {
            return Err(outbound);
        }
        self.held_bytes = bytes;
        self.held.push_back(outbound);
        Ok(Vec::new())
    }

    /// The server is gone for good.
    fn refuse(&mut self, client: ClientId, id: &Id, method: &str, reason: &str) -> Vec<Route> {
        match method {
            "shutdown" => vec![to_client(client, Envelope::response(id.clone(), &()))],
            "initialize" => {
                let mut routes = self.tell(reason);
                routes.push(fail_client(client, id.clone(), codes::REQUEST_FAILED, reason));
                routes
            }
            _ => vec![fail_client(client, id.clone(), codes::REQUEST_FAILED, reason)],
        }
    }

    /// The document that a request is about, and its version.
    fn about(&self, client: ClientId, envelope: &Envelope) -> Option<(Arc<str>, Option<i32>)> {
        #[derive(serde::Deserialize)]
        #[serde(rename_all = "camelCase")]
        struct About {
            text_document: Document,
        }
        #[derive(serde::Deserialize)]
        struct Document {
            uri: String,
        }
        let uri = envelope.params_as::<About>().ok()?.text_document.uri;
        // The server answers about the owner's version.
        let version = match self.own_version(client, &uri) {
            Some((_, owners)) => owners,
            None => self.mirror(client)?.latest(&uri).map(|revision| revision.0),
        };
        Some((uri.into(), version))
    }

    fn note_settings(&mut self, request: &Bytes, result: &[u8]) {
        #[derive(serde::Deserialize)]
        struct Items {
            items: Vec<Box<RawValue>>,
        }
        let items = Envelope::read(request.clone()).ok().and_then(|e| e.params_as::<Items>().ok());
        let answers: Vec<Box<RawValue>> = wire::parse(result).unwrap_or_default();
        let settings = Arc::make_mut(&mut self.settings);
        for (item, answer) in items.into_iter().flat_map(|items| items.items).zip(answers) {
            if settings.len() < SETTINGS_MAX || settings.contains_key(item.get()) {
                settings.insert(item.get().to_owned(), answer);
            }
        }
    }

    pub(super) fn note_registered(&mut self, request: &Bytes, now: Instant) -> Vec<Route> {
        self.registry.note_registered(request);
        let Ok(request) = Envelope::read(request.clone()) else { return Vec::new() };
        let steps = self.barrier.on_register(request.params(), now);
        self.barrier_routes(steps)
    }
}
