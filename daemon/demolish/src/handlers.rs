//! What is done about each event. Everything here runs on the loop and returns at once.
//!
//! `greet`: a connection says what it is for · `wrap`: editors and a language server · `share`: which editors have one
//! together · `life`: that server starts, dies and returns · `watch`: whether it is well · `own`: an editor and our own
//! features · `control`: command-line verbs · `lease`: candidates on the user's servers · `verdicts`: what servers provably
//! say of documents · `time`: deadlines · `trace`: what passes · `order`: which event of a batch comes first · `routes`:
//! into the queues, and what if they are full.

pub mod control;
pub mod greet;
pub mod lease;
pub mod life;
pub(crate) mod merge;
pub mod order;
pub mod own;
pub mod routes;
pub mod share;
pub mod time;
pub mod trace;
pub mod verdicts;
pub mod watch;
pub mod wrap;

use std::time::Instant;

use wire::codec::Incoming;
use wire::ext::EditorMalformed;
use wire::lsp::notification::Notification as _;
use wire::peer::{Lane, Peer, PeerEvent};
use wire::{Envelope, ResponseError, codes};

use crate::state::{LinkId, LinkState, Role, State};
pub use life::Started;

/// Something from a client.
pub fn client(state: &mut State, id: LinkId, event: PeerEvent, now: Instant) {
    let Some(link) = state.links.get_mut(&id) else { return };
    let envelope = match event {
        PeerEvent::Incoming(Incoming::Message(envelope)) => envelope,
        PeerEvent::Incoming(Incoming::Malformed(bad)) => {
            // Shims only pass on what is well formed, and answer the rest themselves.
            tracing::warn!(link = id.0, why = %bad.why, excerpt = bad.excerpt, "malformed");
            if let (Some(request), Some(_)) = (bad.id, bad.method) {
                let error = ResponseError::new(codes::PARSE_ERROR, bad.why.to_string());
                send(&link.client, Envelope::error(request, &error));
            }
            return;
        }
        PeerEvent::Incoming(Incoming::Junk(_)) => return,
        PeerEvent::Closed(error) => {
            tracing::info!(link = id.0, ?error, "the client is gone");
            return remove(state, id, now);
        }
    };
    if envelope.method() == Some(EditorMalformed::METHOD) {
        link.malformed = envelope.params_as().unwrap_or_default();
        return;
    }
    if matches!(link.role, Role::Wrap(_) | Role::Merge(_) | Role::Own(_)) {
        trace::from_editor(state, id, &envelope, now);
    }
    let Some(link) = state.links.get(&id) else { return };
    match link.role {
        Role::Greeting(_) => greet::first(state, id, &envelope, now),
        Role::Wrap(client) => wrap::from_client(state, client, envelope, now),
        Role::Merge(_) => merge::from_client(state, id, envelope, now),
        Role::Own(_) => own::from_client(state, id, envelope, now),
        Role::Control => control::from_client(state, id, envelope, now),
    }
}

/// Takes a link out: its tasks are cancelled, and its server is asked to end if nobody else needs it.
pub fn remove(state: &mut State, id: LinkId, now: Instant) {
    state.tasks.cancel_link(id);
    state.polls.forget(id);
    if let Some(LinkState { role, .. }) = state.links.remove(&id) {
        stand_up(state, &role, now);
    }
    if state.links.is_empty() {
        state.idle_since = Some(now);
    }
}

/// Takes a link out once its client has been sent what is queued.
pub fn finish(state: &mut State, id: LinkId, now: Instant) {
    if let Some(link) = state.links.remove(&id) {
        tokio::spawn(link.client.finish(routes::FINISH_PATIENCE));
        stand_up(state, &link.role, now);
    }
    remove(state, id, now);
}

/// A connection that is gone leaves its seats.
fn stand_up(state: &mut State, role: &Role, now: Instant) {
    match role {
        Role::Wrap(client) => wrap::leave(state, *client, now),
        Role::Merge(merged) => merge::leave(state, merged, now),
        Role::Greeting(_) | Role::Own(_) | Role::Control => {}
    }
}

/// Queues an answer of our own. A client that does not read is found out by its other messages.
fn send(peer: &Peer, envelope: Envelope) {
    let _ = peer.sender().send(envelope.body, Lane::Keep, None);
}
