//! What the server sends.

use std::time::{Duration, Instant};

use serde_json::value::RawValue;
use serde_json::{Value, json};
use wire::{Bytes, Envelope, Id, Kind, Lane, ResponseError, codes};

use super::own::failed;
use super::{
    Link, Outbound, Route, ServerState, cancel, cancelled_error, cancelled_id, fail_client,
    to_client, to_server,
};
use crate::{ClientId, Pending, lane_to_client};

/// How long an editor may take to answer a request that needs no user (rule 4.18).
const EDITOR_PATIENCE: Duration = Duration::from_secs(30);
/// How long a user may take to answer a question.
const USER_PATIENCE: Duration = Duration::from_secs(600);
/// How many tokens of progress are remembered to be ended.
const PROGRESS_MAX: usize = 1024;

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
                    let mut routes = self.to_all(&envelope, &lane);
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
        for (_, pending) in self.asked_client.expired(now) {
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
        let Some((client, _)) = self.lead() else {
            let pending = Pending::of_server(id.clone(), ClientId::NOBODY, method);
            return give_fallback(pending).map(to_server).into_iter().collect();
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
        let body = envelope.with_id(Id::number(ours)).body;
        vec![Route::Client(client, Outbound { body, lane: Lane::Keep, tag: Some(ours) })]
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
        match (&*pending.method, envelope.outcome()) {
            ("initialize", Ok(result)) => {
                for member in self.members.values_mut() {
                    member.mirror.on_initialize_result(result);
                }
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
        vec![to_client(pending.asker, envelope.with_id(original))]
    }

    /// The answer to the `initialize` with which we greeted a fresh server.
    fn greeted(&mut self, envelope: &Envelope, now: Instant) -> Vec<Route> {
        if self.state != ServerState::Greeting {
            return Vec::new();
        }
        match envelope.outcome() {
            Ok(result) => {
                self.barrier.on_capabilities(result);
                let mut routes = self.take_over();
                routes.extend(self.barrier_on_up(now));
                routes
            }
            Err(error) => {
                let reason = format!("{} did not come back: {error}", self.options.server);
                self.give_up(&reason)
            }
        }
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

    fn server_progress(&mut self, envelope: &Envelope) -> Vec<Route> {
        #[derive(serde::Deserialize)]
        struct Progress {
            token: Box<RawValue>,
            value: Stage,
        }
        #[derive(serde::Deserialize)]
        struct Stage {
            kind: Option<String>,
        }
        let mut lane = Lane::Keep;
        // Partial results share the method, and have no kind; they are kept.
        if let Ok(Progress { token, value }) = envelope.params_as::<Progress>() {
            let known = self.progress.iter().position(|open| **open == *token.get());
            match (value.kind.as_deref(), known) {
                (Some("begin"), None) if self.progress.len() < PROGRESS_MAX => {
                    self.progress.push(token.get().into());
                }
                (Some("end"), Some(at)) => drop(self.progress.remove(at)),
                (Some("report"), _) => lane = Lane::Latest(format!("p{}", token.get()).into()),
                _ => {}
            }
        }
        self.to_all(envelope, &lane)
    }
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
