//! Command-line verbs: what the loop can answer itself, and what it hands to the features.

use std::time::Instant;

use wire::ext::{GetRecent, GetStatus, GetVerdicts, Goodbye, Restart, RestartParams, Stop, Trace};
use wire::lsp::notification::Notification as _;
use wire::lsp::request::Request as _;
use wire::{Envelope, Kind, ResponseError, codes};

use super::{own, send, trace, verdicts, watch};
use crate::state::{LinkId, State};

/// A message from a command-line verb.
pub fn from_client(state: &mut State, id: LinkId, envelope: Envelope, now: Instant) {
    let Kind::Request { id: request, method } = &envelope.kind else {
        if envelope.method() == Some("$/cancelRequest") {
            own::cancel(state, id, &envelope);
        }
        return;
    };
    let request = request.clone();
    match &**method {
        GetStatus::METHOD => {
            let status = state.status();
            if let Some(link) = state.links.get(&id) {
                send(&link.client, Envelope::response(request, &status));
            }
        }
        Stop::METHOD => {
            if let Some(link) = state.links.get(&id) {
                send(&link.client, Envelope::response(request, &()));
            }
            let goodbye = Envelope::notification(Goodbye::METHOD, &());
            for (_, link) in state.links.iter().filter(|(other, _)| **other != id) {
                send(&link.client, goodbye.clone());
            }
            state.over = true;
        }
        GetVerdicts::METHOD => verdicts::asked(state, id, request, &envelope, now),
        Trace::METHOD => {
            let wants = envelope.params_as().unwrap_or_default();
            let followed = trace::follow(state, id, wants);
            let Some(link) = state.links.get(&id) else { return };
            let full = || ResponseError::new(codes::REQUEST_FAILED, "too many follow already");
            let answer = if followed {
                Envelope::response(request, &())
            } else {
                Envelope::error(request, &full())
            };
            send(&link.client, answer);
        }
        GetRecent::METHOD => {
            let recent = state.trace.recent();
            if let Some(link) = state.links.get(&id) {
                send(&link.client, Envelope::response(request, &recent));
            }
        }
        Restart::METHOD => {
            let which = envelope.params_as::<RestartParams>().map(|params| params.which);
            let result = watch::restart_all(state, &which.unwrap_or_default(), now);
            if let Some(link) = state.links.get(&id) {
                send(&link.client, Envelope::response(request, &result));
            }
        }
        _ => own::call(state, id, envelope),
    }
}
