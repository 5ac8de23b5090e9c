//! What the server sends.

use std::time::{Duration, Instant};

use serde_json::value::RawValue;
use serde_json::{Value, json};
use wire::{Bytes, Envelope, Id, Kind, Lane, ResponseError, codes};

use super::own::failed;
use super::registry::Rest;
use super::{
    Link, Outbound, RawParams, Route, cancel, cancelled_error, cancelled_id, fail_client,
    to_client, to_server,
};
use crate::{ClientId, Pending, lane_to_client};

/// How long an editor may take to answer a request that needs no user (rule 4.18).
const EDITOR_PATIENCE: Duration = Duration::from_secs(30);
/// How long a user may take to answer a question.
const USER_PATIENCE: Duration = Duration::from_secs(600);

impl Link {
    /// A message from the server.
    pub fn on_server(&mut self, envelope: Envelope, now: Instant) -> Vec<Route> {
        match &envelope.kind {
            Kind::Request { id, method } => self.server_request(&envelope, id, method, now),
            Kind::Response { id } => self.server_response(&envelope, id, now),
            Kind::Notification { method } => match &**method {
                "$/cancelRequest" => self.server_cancel(&envelope, now),
                "$/progress" => {
                    let mut routes = self.server_progress(&envelope);
                    routes.extend(self.barrier_on_notification(&envelope, now));
                    routes
                }
                "textDocument/publishDiagnostics" => {
                    let Some(uri) = self.tap.on_publish(&envelope) else {
                        return self.to_all(&envelope, &Lane::Keep);
                    };
                    let lane = Lane::Latest(format!("d{uri}").into());
                    let mut routes = if self.is_shared() {
                        self.publish(&uri, &envelope, &lane)
                    } else {
                        self.to_all(&envelope, &lane)
                    };
                    routes.extend(self.barrier_on_publish(&uri, now));
                    routes
                }
                _ => {
                    let lane = lane_to_client(&envelope);
                    let mut routes = self.to_all(&envelope, &lane);
                    routes.extend(self.barrier_on_notification(&envelope, now));
                    routes
                }
            },
        }
    }

    /// A message that the server sent could not be read, but it is the answer to `id`.
    pub fn on_server_malformed(&mut self, id: &Id, why: &str) -> Vec<Route> {
        let Some((ours, pending)) = self.asked_server.answered(id) else { return Vec::new() };
        let message = format!("the answer of {} cannot be read: {why}", self.options.server);
        match pending.original {
            Some(original) => {
                vec![fail_client(pending.asker, original, codes::REQUEST_FAILED, &message)]
            }
            None if pending.awaited => vec![Route::Answered(ours, failed(ours, &message))],
            None => Vec::new(),
        }
    }

    /// The request `ours` was taken out of the client's queue before it was written.
    pub fn withdrawn_from_client(&mut self, ours: u32) -> Vec<Route> {
        let original = self.asked_client.take(ours).and_then(|pending| pending.original);
        original.map(|id| to_server(Envelope::error(id, &cancelled_error()))).into_iter().collect()
    }

    /// Answers what has waited too long.
    pub fn expire(&mut self, now: Instant) -> Vec<Route> {
        let mut routes = Vec::new();
        for (ours, pending) in self.asked_server.expired(now) {
            let Some(id) = pending.original else {
                routes.push(Route::WithdrawFromServer(ours, cancel(ours)));
                routes
                    .push(Route::Answered(ours, failed(ours, "the server did not answer in time")));
                continue;
            };
            let answer = if pending.cancelled {
                Envelope::error(id, &cancelled_error())
            } else {
                Envelope::response(id, &())
            };
            routes.push(to_client(pending.asker, answer));
        }
        if self.registry.deadline.is_some_and(|deadline| deadline <= now) {
            routes.extend(self.take_back_stale());
        }
        for (_, pending) in self.asked_client.expired(now) {
            routes.extend(self.note_unanswered(&pending, now));
            routes.extend(give_fallback(pending).map(to_server));
        }
        let steps = self.barrier.expire(now);
        routes.extend(self.barrier_routes(steps));
        routes
    }

    fn server_request(
        &mut self,
        envelope: &Envelope,
        id: &Id,
        method: &str,
        now: Instant,
    ) -> Vec<Route> {
        let mut routes = Vec::new();
        let rewritten;
        let mut envelope = envelope;
        match method {
            "window/workDoneProgress/create" => self.progress.created(envelope),
            "client/registerCapability" if !self.registry.is_fresh() => {
                let (rest, known) = self.registry.register(envelope);
                routes.extend(self.known_again(&known, now));
                match rest {
                    Rest::All => {}
                    Rest::Nothing => {
                        routes.push(to_server(Envelope::response(id.clone(), &())));
                        return routes;
                    }
                    Rest::Some(rest, before) => {
                        routes.extend(self.take_back(&before));
                        rewritten = rest;
                        envelope = &rewritten;
                    }
                }
            }
            "client/unregisterCapability" => {
                self.barrier.on_unregister(envelope.params());
                if !self.registry.is_fresh() {
                    rewritten = self.registry.unregister(envelope);
                    envelope = &rewritten;
                }
            }
            _ => {}
        }
        let Some(client) = self.whom(method) else {
            let mut pending = Pending::of_server(id.clone(), ClientId::NOBODY, method);
            pending.body = Some(envelope.body.clone());
            routes.extend(self.note_unanswered(&pending, now));
            routes.extend(give_fallback(pending).map(to_server));
            return routes;
        };
        let mut pending = Pending::of_server(id.clone(), client, method);
        pending.deadline = patience(method).map(|patience| now + patience);
        let listened = matches!(
            method,
            "workspace/configuration" | "client/registerCapability" | "client/unregisterCapability"
        );
        if listened {
            pending.body = Some(Bytes::copy_from_slice(&envelope.body));
        }
        let Ok(ours) = self.asked_client.insert(pending) else {
            tracing::warn!(%id, method, "the server has this id in use");
            let message = "a request with this id has no answer yet";
            let error = ResponseError::new(codes::INVALID_REQUEST, message);
            return vec![to_server(Envelope::error(id.clone(), &error))];
        };
        routes.push(self.asked(client, ours, envelope));
        if self.is_shared() && is_for_all(method) {
            routes.extend(self.ask_others(client, method, envelope));
        }
        routes
    }

    /// The same request for the other clients; the first answers for all, because the server gets one answer.
    fn ask_others(&mut self, first: ClientId, method: &str, envelope: &Envelope) -> Vec<Route> {
        let mut routes = Vec::new();
        let others: Vec<ClientId> = self.clients().filter(|other| *other != first).collect();
        for other in others {
            let pending = Pending { asked: other, ..Pending::ours(method) };
            let Ok(ours) = self.asked_client.insert(pending) else { continue };
            routes.push(self.asked(other, ours, envelope));
        }
        routes
    }

    /// A request of the server on its way to a client, under our id.
    fn asked(&self, client: ClientId, ours: u32, envelope: &Envelope) -> Route {
        let mut request = envelope.with_id(Id::number(ours));
        if let Some(edit) = envelope.param("edit")
            && let Some(edit) = self.with_own_versions(client, edit)
        {
            request = request.with_param("edit", edit.to_string().as_bytes());
        }
        let body = request.body;
        Route::Client(client, Outbound { body, lane: Lane::Keep, tag: Some(ours) })
    }

    /// The client that answers a request of the server.
    fn whom(&self, method: &str) -> Option<ClientId> {
        if !self.is_shared() {
            return self.lead();
        }
        match method {
            "workspace/configuration" | "workspace/workspaceFolders" => self.lead(),
            _ if is_for_all(method) => self.lead(),
            "window/showMessageRequest" | "window/showDocument" | "workspace/applyEdit" => {
                self.causer().or_else(|| self.most_active())
            }
            _ => self.most_active(),
        }
    }

    /// The client whose command the server is at; of several, whose came last (rule 4.35).
    fn causer(&self) -> Option<ClientId> {
        let commands = self.asked_server.entries();
        let commands = commands.filter(|(_, p)| &*p.method == "workspace/executeCommand");
        let last = commands.filter(|(_, p)| p.original.is_some()).max_by_key(|(ours, _)| *ours);
        last.map(|(_, pending)| pending.asker)
    }

    /// Takes registrations of a server that is gone back from all clients.
    pub(super) fn take_back(&mut self, list: &[Value]) -> Vec<Route> {
        if list.is_empty() {
            return Vec::new();
        }
        // The misspelling is the protocol's.
        let params = json!({ "unregisterations": list });
        let clients: Vec<ClientId> = self.clients().collect();
        let ask = |client| self.ask_client(client, "client/unregisterCapability", &params);
        clients.into_iter().filter_map(ask).collect()
    }

    /// A request of the server gets an answer of ours: what that means for what we remember.
    pub(super) fn note_unanswered(&mut self, pending: &Pending, now: Instant) -> Vec<Route> {
        match (&*pending.method, &pending.body) {
            ("client/registerCapability", Some(body)) => return self.note_registered(body, now),
            ("client/unregisterCapability", Some(body)) => self.registry.note_unregistered(body),
            _ => {}
        }
        Vec::new()
    }

    /// A fresh server has made registrations again that the clients know.
    fn known_again(&mut self, known: &[Box<RawValue>], now: Instant) -> Vec<Route> {
        if known.is_empty() {
            return Vec::new();
        }
        let params =
            serde_json::to_vec(&RawParams::from([("registrations", known)])).unwrap_or_default();
        let steps = self.barrier.on_register(&params, now);
        self.barrier_routes(steps)
    }

    fn server_response(&mut self, envelope: &Envelope, id: &Id, now: Instant) -> Vec<Route> {
        let Some((ours, pending)) = self.asked_server.answered(id) else {
            tracing::debug!(%id, "an answer that nobody waits for");
            return Vec::new();
        };
        if let Some(since) = pending.since {
            self.latencies.note(now.saturating_duration_since(since));
        }
        if envelope.outcome().is_ok() {
            self.barrier.on_any_answer(ours, now);
        }
        let Some(original) = pending.original else {
            return match pending.awaited {
                true => vec![Route::Answered(ours, envelope.clone())],
                false => self.greeted(envelope, now),
            };
        };
        let mut routes = Vec::new();
        match (&*pending.method, envelope.outcome()) {
            ("initialize", Ok(result)) => {
                self.note_result(result);
                routes.extend(self.answer_joiners());
                self.barrier.on_capabilities(result);
            }
            ("textDocument/diagnostic", Ok(result)) => {
                if let Some((uri, version)) = &pending.about {
                    self.tap.on_pulled(uri, *version, result);
                }
            }
            ("workspace/diagnostic", Ok(result)) => self.tap.on_workspace_pulled(result),
            _ => {}
        }
        if let Ok(result) = envelope.outcome()
            && let Some(result) = self.with_own_versions(pending.asker, result)
        {
            routes.push(to_client(pending.asker, Envelope::response(original, &result)));
        } else {
            routes.push(to_client(pending.asker, envelope.with_id(original)));
        }
        routes
    }

    fn server_cancel(&mut self, envelope: &Envelope, now: Instant) -> Vec<Route> {
        let ours =
            cancelled_id(envelope).and_then(|id| self.asked_client.ours(ClientId::NOBODY, &id));
        let Some(ours) = ours else { return Vec::new() };
        let Some(pending) = self.asked_client.get_mut(ours) else { return Vec::new() };
        pending.cancelled = true;
        pending.deadline = Some(now + super::CANCEL_PATIENCE);
        vec![Route::WithdrawFromClient(pending.asked, ours, cancel(ours))]
    }
}

/// Whether a request is for every client.
fn is_for_all(method: &str) -> bool {
    let known = matches!(
        method,
        "client/registerCapability"
            | "client/unregisterCapability"
            | "window/workDoneProgress/create"
    );
    known || method.ends_with("/refresh")
}

/// What the server is told in place of a client that does not answer.
pub(super) fn give_fallback(pending: Pending) -> Option<Envelope> {
    let id = pending.original?;
    if pending.cancelled {
        return Some(Envelope::error(id, &cancelled_error()));
    }
    let items = pending.body.as_ref().map_or(1, configuration_items);
    Some(Envelope::response(id, &fallback(&pending.method, items)))
}

fn patience(method: &str) -> Option<Duration> {
    match method {
        "workspace/configuration"
        | "workspace/workspaceFolders"
        | "workspace/applyEdit"
        | "window/workDoneProgress/create"
        | "client/registerCapability"
        | "client/unregisterCapability" => Some(EDITOR_PATIENCE),
        "window/showMessageRequest" | "window/showDocument" => Some(USER_PATIENCE),
        _ if method.ends_with("/refresh") => Some(EDITOR_PATIENCE),
        // What we do not know may take as long as it takes.
        _ => None,
    }
}

/// What a server is told for an editor that never answers.
fn fallback(method: &str, items: usize) -> Value {
    match method {
        "workspace/configuration" => vec![Value::Null; items].into(),
        "workspace/applyEdit" => json!({ "applied": false }),
        "window/showDocument" => json!({ "success": false }),
        _ => Value::Null,
    }
}

fn configuration_items(request: &Bytes) -> usize {
    #[derive(serde::Deserialize)]
    struct Items {
        items: Vec<serde::de::IgnoredAny>,
    }
    let request = Envelope::read(request.clone()).ok();
    request.and_then(|e| e.params_as::<Items>().ok()).map_or(1, |params| params.items.len())
}
