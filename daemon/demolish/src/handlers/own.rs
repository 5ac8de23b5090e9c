//! An editor and our own features: documents are mirrored here, the rest is theirs.

use std::time::Instant;

use wire::ext::GetStatus;
use wire::lsp::request::Request as _;
use wire::peer::Lane;
use wire::{Bytes, Envelope, Id, Kind, ResponseError, codes};

use super::{send, trace};
use crate::state::{LinkId, Role, State};
use crate::tasks::{About, Outcome, TaskId};

/// A message from the editor.
pub fn from_client(state: &mut State, id: LinkId, envelope: Envelope, now: Instant) {
    let Some(link) = state.links.get_mut(&id) else { return };
    let Role::Own(own) = &mut link.role else { return };
    own.mirror.on_client(&envelope);
    match &envelope.kind {
        Kind::Notification { method } => match &**method {
            "$/cancelRequest" => cancel(state, id, &envelope),
            "exit" => super::finish(state, id, now),
            "textDocument/didChange" => changed(state, id, &envelope),
            "textDocument/didClose" => {
                changed(state, id, &envelope);
                call(state, id, envelope);
            }
            // The journal, which the shim keeps, has heard of what was accepted.
            "textDocument/willSave" | "demolish/didAccept" => {}
            _ => call(state, id, envelope),
        },
        Kind::Request { id: request, method } if &**method == GetStatus::METHOD => {
            let status = Envelope::response(request.clone(), &state.status());
            answer(state, id, status.body);
        }
        Kind::Request { id: request, .. } => {
            if state.tasks.is_running(id, request) {
                let message = "a request with this id has no answer yet";
                let error = ResponseError::new(codes::INVALID_REQUEST, message);
                answer(state, id, Envelope::error(request.clone(), &error).body);
            } else {
                call(state, id, envelope);
            }
        }
        Kind::Response { .. } => call(state, id, envelope),
    }
}

/// A message of the features to their editor.
pub fn to_client(state: &mut State, id: LinkId, envelope: &Envelope) {
    answer(state, id, envelope.body.clone());
}

/// A task has ended.
pub fn done(state: &mut State, task: TaskId, outcome: Outcome) {
    let Some(about) = state.tasks.ended(task) else { return };
    let body = match (outcome, about.id) {
        (Outcome::Answer(Some(body)), _) => body,
        (Outcome::Answer(None), None) => return,
        (Outcome::Answer(None), Some(request)) => {
            let message = format!("`{}` has no answer", about.method);
            let error = ResponseError::new(codes::INTERNAL_ERROR, message);
            Envelope::error(request, &error).body
        }
        (Outcome::Panicked(words), request) => {
            tracing::error!(method = &*about.method, words, "a task panicked");
            let Some(request) = request else { return };
            let message = format!("`{}` broke: {words}", about.method);
            Envelope::error(request, &ResponseError::new(codes::INTERNAL_ERROR, message)).body
        }
    };
    if &*about.method == "initialize" {
        note_encoding(state, about.link, &body);
    }
    answer(state, about.link, body);
}

/// Hands a message to the features, and runs their answer as a task.
pub fn call(state: &mut State, id: LinkId, envelope: Envelope) {
    let snapshot = state.snapshot(id);
    let about = about(id, &envelope);
    let request = about.id.clone();
    let future = match state.links.get_mut(&id).map(|link| &mut link.role) {
        Some(Role::Own(own)) => own.own.call(snapshot, envelope),
        Some(Role::Control) => state.features.control(snapshot, envelope),
        _ => return,
    };
    if !state.tasks.spawn(about, future) {
        tracing::warn!(link = id.0, "too many tasks: refused");
        if let Some(request) = request {
            let message = "too many requests at once";
            let error = ResponseError::new(codes::REQUEST_FAILED, message);
            answer(state, id, Envelope::error(request, &error).body);
        }
    }
}

/// Cancels a request: its task is dropped, and the loop answers.
pub fn cancel(state: &mut State, id: LinkId, envelope: &Envelope) {
    #[derive(serde::Deserialize)]
    struct Cancel {
        id: Box<serde_json::value::RawValue>,
    }
    let cancel = envelope.params_as::<Cancel>().ok();
    let Some(request) = cancel.and_then(|cancel| Id::from_raw(cancel.id.get().as_bytes())) else {
        return;
    };
    if state.tasks.cancel(id, &request) {
        let error = ResponseError::new(codes::REQUEST_CANCELLED, "cancelled");
        answer(state, id, Envelope::error(request, &error).body);
    }
}

/// A document has another text: what was made for the old one is of no use, and answered with nothing.
fn changed(state: &mut State, id: LinkId, envelope: &Envelope) {
    let Some(uri) = uri(envelope) else { return };
    for request in state.tasks.cancel_changed(id, &uri) {
        answer(state, id, Envelope::response(request, &()).body);
    }
}

fn about(link: LinkId, envelope: &Envelope) -> About {
    let method = envelope.method().unwrap_or("response");
    let request = match &envelope.kind {
        Kind::Request { id, .. } => Some(id.clone()),
        Kind::Notification { .. } | Kind::Response { .. } => None,
    };
    let typing = method == "textDocument/inlineCompletion";
    let until_change_of = typing.then(|| uri(envelope)).flatten().map(Into::into);
    About { link, id: request, method: method.into(), until_change_of }
}

fn uri(envelope: &Envelope) -> Option<String> {
    #[derive(serde::Deserialize)]
    #[serde(rename_all = "camelCase")]
    struct Params {
        text_document: Document,
    }
    #[derive(serde::Deserialize)]
    struct Document {
        uri: String,
    }
    Some(envelope.params_as::<Params>().ok()?.text_document.uri)
}

/// Our own answer to `initialize` says how positions are counted.
fn note_encoding(state: &mut State, id: LinkId, body: &Bytes) {
    let Some(Role::Own(own)) = state.links.get_mut(&id).map(|link| &mut link.role) else { return };
    if let Ok(envelope) = Envelope::read(body.clone())
        && let Ok(result) = envelope.outcome()
    {
        own.mirror.on_initialize_result(result);
    }
}

fn answer(state: &mut State, id: LinkId, body: Bytes) {
    trace::from_own(state, id, &body);
    let Some(link) = state.links.get_mut(&id) else { return };
    if link.client.sender().send(body, Lane::Keep, None).is_err() {
        tracing::error!(link = id.0, "the client does not read: its link is closed");
        super::remove(state, id, Instant::now());
    }
}

/// Refuses a request that nobody serves.
pub fn refuse(state: &mut State, id: LinkId, request: Id, method: &str) {
    let message = format!("no `{method}` here");
    let error = ResponseError::new(codes::METHOD_NOT_FOUND, message);
    if let Some(link) = state.links.get(&id) {
        send(&link.client, Envelope::error(request, &error));
    }
}
