//! An editor and a language server: messages pass.

use std::time::{Duration, Instant};

use proxy::Route;
use wire::Envelope;
use wire::codec::{Incoming, Malformed};
use wire::peer::PeerEvent;

use super::{life, routes};
use crate::state::{LinkId, Role, ServerId, State, Wrap};

/// How many malformed messages in [`MALFORMED_WINDOW`] make a server be restarted (rule 4.2).
pub const MALFORMED_MAX: usize = 5;
/// How long a malformed message counts.
pub const MALFORMED_WINDOW: Duration = Duration::from_secs(10);
/// How long a server may take to end after `exit` before it is asked to (rule 4.13).
pub const EXIT_PATIENCE: Duration = Duration::from_millis(500);

/// A message from the client.
pub fn from_client(state: &mut State, id: LinkId, envelope: Envelope, now: Instant) {
    let Some(wrap) = wrap(state, id) else { return };
    let exit = envelope.method() == Some("exit");
    let routes = wrap.link.on_client(envelope, now);
    if exit {
        wrap.closing = Some(now + EXIT_PATIENCE);
        wrap.restart_at = None;
    }
    let gone = exit && wrap.server.is_none();
    pass(state, id, routes, now);
    if gone {
        super::finish(state, id, now);
    }
}

/// Something from the server.
pub fn from_server(state: &mut State, server: ServerId, event: PeerEvent, now: Instant) {
    let ServerId { link: id, life } = server;
    let Some(wrap) = wrap(state, id).filter(|wrap| wrap.life == life) else { return };
    let routes = match event {
        PeerEvent::Incoming(Incoming::Message(envelope)) => wrap.link.on_server(envelope, now),
        PeerEvent::Incoming(Incoming::Malformed(bad)) => malformed(wrap, &bad, now),
        PeerEvent::Incoming(Incoming::Junk(bytes)) => {
            if let Some(server) = &wrap.server {
                server.log.append(&bytes);
            }
            return;
        }
        PeerEvent::Closed(_) => return life::silent(state, server, now),
    };
    pass(state, id, routes, now);
    let noisy = |wrap: &&mut Wrap| wrap.malformed.len() >= MALFORMED_MAX;
    if let Some(wrap) = self::wrap(state, id).filter(noisy) {
        wrap.malformed.clear();
        tracing::warn!(link = id.0, command = ?wrap.command, "too many malformed messages: restarted");
        life::lost(state, id, "it sent too many malformed messages", now);
    }
}

/// Queues what `routes` say; a server that does not read is restarted, a client that does not is left.
pub fn pass(state: &mut State, id: LinkId, routes: Vec<Route>, now: Instant) {
    let Some(link) = state.links.get_mut(&id) else { return };
    let Role::Wrap(wrap) = &mut link.role else { return };
    let server = wrap.server.as_ref().map(|server| &server.peer);
    let wedged = routes::apply(&mut wrap.link, &link.client, server, routes);
    unwedge(state, id, wedged, now);
}

/// What happens to peers that take nothing.
pub fn unwedge(state: &mut State, id: LinkId, wedged: routes::Wedged, now: Instant) {
    if wedged.client {
        tracing::error!(link = id.0, "the client does not read: its link is closed");
        super::remove(state, id, now);
    } else if wedged.server {
        tracing::error!(link = id.0, "the server does not read: it is restarted");
        life::lost(state, id, "it did not read its messages", now);
    }
}

/// The wrapped server of a link.
pub(crate) fn wrap(state: &mut State, id: LinkId) -> Option<&mut Wrap> {
    match &mut state.links.get_mut(&id)?.role {
        Role::Wrap(wrap) => Some(wrap),
        _ => None,
    }
}

/// Drops a malformed message, counts it, and fails the request that it was meant to answer.
fn malformed(wrap: &mut Wrap, bad: &Malformed, now: Instant) -> Vec<Route> {
    let old = |at: &Instant| now.duration_since(*at) >= MALFORMED_WINDOW;
    while wrap.malformed.front().is_some_and(old) {
        wrap.malformed.pop_front();
    }
    wrap.malformed.push_back(now);
    wrap.malformed_total += 1;
    tracing::warn!(command = ?wrap.command, why = %bad.why, "malformed message of a server");
    if let Some(server) = &wrap.server {
        let note = format!("\n[demolish] malformed message ({}): {}\n", bad.why, bad.excerpt);
        server.log.append(note.as_bytes());
    }
    match &bad.id {
        Some(id) if bad.method.is_none() => wrap.link.on_server_malformed(id, &bad.why.to_string()),
        _ => Vec::new(),
    }
}
