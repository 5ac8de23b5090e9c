//! Editors and language servers: messages pass.
//!
//! A client takes a [seat](share::seat) in an instance; what it says goes in through [`from_client`], and what it is told
//! comes out through [`deliver`], whoever it is.

use std::time::{Duration, Instant};

use proxy::{ClientId, Outbound, Route, ServerState};
use wire::Envelope;
use wire::codec::{Incoming, Malformed};
use wire::peer::{Peer, PeerEvent};

use super::{lease, life, merge, routes, share, trace, verdicts, watch};
use crate::state::{Instance, InstanceId, LinkId, Seat, ServerId, State};

/// How many malformed messages in [`MALFORMED_WINDOW`] make a server be restarted (rule 4.2).
pub const MALFORMED_MAX: usize = 5;
/// How long a malformed message counts.
pub const MALFORMED_WINDOW: Duration = Duration::from_secs(10);
/// How long a server may take to end after `exit` before it is asked to (rule 4.13).
pub const EXIT_PATIENCE: Duration = Duration::from_millis(500);

/// Which peers take nothing any more.
#[derive(Debug, Default)]
struct Wedged {
    clients: Vec<LinkId>,
    server: bool,
}

/// A client leaves its seat. With the last one the server goes, at once or after a while: dropping the instance asks its
/// process to end.
pub(crate) fn leave(state: &mut State, client: ClientId, now: Instant) {
    let Some(Seat { instance: id, .. }) = state.seats.remove(&client) else { return };
    let linger = state.options.linger;
    let Some(instance) = instance(state, id) else { return };
    let routes = instance.link.leave(client, now);
    if instance.link.clients().next().is_some() {
        return pass(state, id, routes, now);
    }
    let usable = *instance.link.state() == ServerState::Running && instance.link.is_initialized();
    if usable && instance.closing.is_none() && !linger.is_zero() {
        instance.lingers_until = Some(now + linger);
        pass(state, id, routes, now);
    } else {
        state.instances.remove(&id);
    }
}

/// An instance has ended, as its clients wished.
pub(crate) fn over(state: &mut State, id: InstanceId, now: Instant) {
    let seats = state.seats.iter().filter(|(_, seat)| seat.instance == id);
    let clients: Vec<ClientId> = seats.map(|(client, _)| *client).collect();
    for client in clients {
        finish(state, client, now);
    }
}

/// A client has said `exit`, and nothing more will come.
fn finish(state: &mut State, client: ClientId, now: Instant) {
    let Some(Seat { link, .. }) = state.seats.get(&client).copied() else { return };
    if merge::is_last(state, client, now).unwrap_or(true) {
        super::finish(state, link, now);
    }
}

/// A message from a client.
pub fn from_client(state: &mut State, client: ClientId, envelope: Envelope, now: Instant) {
    share::settle(state, client, &envelope);
    let Some(&Seat { instance: id, .. }) = state.seats.get(&client) else { return };
    let Some(instance) = instance(state, id) else { return };
    let exit = envelope.method() == Some("exit");
    let ends = exit && !instance.link.outlives(client);
    let routes = instance.link.on_client(client, envelope, now);
    if ends {
        instance.closing = Some(now + EXIT_PATIENCE);
        instance.restart_at = None;
    }
    let gone = exit && (!ends || instance.server.is_none());
    pass(state, id, routes, now);
    if gone {
        finish(state, client, now);
    }
}

/// Something from the server.
pub fn from_server(state: &mut State, server: ServerId, event: PeerEvent, now: Instant) {
    let ServerId { instance: id, life } = server;
    let Some(instance) = instance(state, id).filter(|instance| instance.life == life) else {
        return;
    };
    instance.watch.heard(now);
    if let PeerEvent::Incoming(Incoming::Message(envelope)) = &event {
        trace::from_server(state, id, envelope, now);
    }
    let Some(instance) = self::instance(state, id) else { return };
    let routes = match event {
        PeerEvent::Incoming(Incoming::Message(envelope)) => {
            lease::from_server(instance, envelope, now)
        }
        PeerEvent::Incoming(Incoming::Malformed(bad)) => malformed(instance, &bad, now),
        PeerEvent::Incoming(Incoming::Junk(bytes)) => {
            if let Some(server) = &instance.server {
                server.log.append(&bytes);
            }
            return;
        }
        PeerEvent::Closed(_) => return life::silent(state, server, now),
    };
    pass(state, id, routes, now);
    life::end_given_up(state, id, now);
    let noisy = |instance: &&mut Instance| instance.malformed.len() >= MALFORMED_MAX;
    if let Some(instance) = self::instance(state, id).filter(noisy) {
        instance.malformed.clear();
        tracing::warn!(command = ?instance.command, "too many malformed messages: restarted");
        life::lost(state, id, "it sent too many malformed messages", now);
    }
}

/// Queues what `routes` say; a server that does not read is restarted, a client that does not is left.
pub fn pass(state: &mut State, id: InstanceId, routes: Vec<Route>, now: Instant) {
    let mut wedged = Wedged::default();
    for route in routes {
        match route {
            Route::Answered(ours, answer) => verdicts::answered(state, id, ours, &answer, now),
            Route::Verdict(ticket, verdict) => verdicts::arrived(state, id, ticket, &verdict, now),
            Route::Chosen(ours, answer) => watch::chosen(state, id, ours, &answer, now),
            Route::Parted(client) => share::split(state, id, client, now),
            route => step(state, id, route, &mut wedged),
        }
    }
    for link in wedged.clients {
        tracing::error!(link = link.0, "the client does not read: its link is closed");
        super::remove(state, link, now);
    }
    if wedged.server {
        unwedge(state, id, now);
    }
}

/// Does what one route says. What cannot be withdrawn from a queue any more is cancelled instead.
fn step(state: &mut State, id: InstanceId, route: Route, wedged: &mut Wedged) {
    match route {
        Route::Client(client, message) => deliver(state, client, message, wedged),
        Route::Server(message) => wedged.server |= to_server(state, id, message),
        Route::WithdrawFromServer(tag, otherwise) => {
            let Some(instance) = instance(state, id) else { return };
            let server = instance.server.as_ref();
            if server.is_some_and(|server| server.peer.sender().withdraw(tag)) {
                for answer in instance.link.withdrawn_from_server(tag) {
                    step(state, id, answer, wedged);
                }
            } else {
                wedged.server |= to_server(state, id, otherwise);
            }
        }
        Route::WithdrawFromClient(client, tag, otherwise) => {
            if merge::heard(state, client, &otherwise) {
                return;
            }
            let peer = client_peer(state, client);
            if peer.is_some_and(|peer| peer.sender().withdraw(tag)) {
                let Some(instance) = instance(state, id) else { return };
                for answer in instance.link.withdrawn_from_client(tag) {
                    step(state, id, answer, wedged);
                }
            } else {
                deliver(state, client, otherwise, wedged);
            }
        }
        Route::Parted(_) | Route::Answered(..) | Route::Chosen(..) | Route::Verdict(..) => {
            tracing::error!(instance = id.0, "an answer out of place");
        }
    }
}

/// The one way of a message to a client.
fn deliver(state: &mut State, client: ClientId, message: Outbound, wedged: &mut Wedged) {
    if merge::heard(state, client, &message) {
        return;
    }
    let Some(seat) = state.seats.get(&client) else { return };
    let Some(link) = state.links.get(&seat.link) else { return };
    let server = state.instances.get(&seat.instance).and_then(|instance| instance.server.as_ref());
    if routes::queue(&link.client, server.map(|server| &server.peer), message) {
        wedged.clients.push(seat.link);
    }
}

/// Queues a message for the server of an instance. `true`: wedged.
fn to_server(state: &mut State, id: InstanceId, message: Outbound) -> bool {
    let Some(instance) = state.instances.get_mut(&id) else { return false };
    let Some(message) = lease::to_server(instance, message, Instant::now()) else { return false };
    let Some(instance) = state.instances.get(&id) else { return false };
    let Some(server) = &instance.server else { return false };
    let clients = instance.link.clients().filter_map(|client| client_peer(state, client));
    routes::queue(&server.peer, clients, message)
}

/// The connection of a client.
pub(super) fn client_peer(state: &State, client: ClientId) -> Option<&Peer> {
    let seat = state.seats.get(&client)?;
    state.links.get(&seat.link).map(|link| &link.client)
}

/// Whether the server of an instance takes nothing, and it is its own fault.
pub fn is_stalled(state: &State, id: InstanceId) -> bool {
    let Some(instance) = state.instances.get(&id) else { return false };
    let clients = instance.link.clients().filter_map(|client| client_peer(state, client));
    let server = instance.server.as_ref().map(|server| &server.peer);
    routes::is_stalled(clients, server, routes::WEDGED_AFTER)
}

/// Whether a client holds an instance's server because it does not read.
pub fn is_held(state: &State, id: InstanceId) -> bool {
    let Some(instance) = state.instances.get(&id) else { return false };
    let mut clients = instance.link.clients().filter_map(|client| client_peer(state, client));
    clients.any(|client| client.sender().is_holding())
}

/// What happens to a server that takes nothing.
pub fn unwedge(state: &mut State, id: InstanceId, now: Instant) {
    tracing::error!(instance = id.0, "the server does not read: it is restarted");
    life::lost(state, id, "it did not read its messages", now);
}

/// An instance.
pub(crate) fn instance(state: &mut State, id: InstanceId) -> Option<&mut Instance> {
    state.instances.get_mut(&id)
}

/// Drops a malformed message, counts it, and fails the request that it was meant to answer.
fn malformed(instance: &mut Instance, bad: &Malformed, now: Instant) -> Vec<Route> {
    let old = |at: &Instant| now.duration_since(*at) >= MALFORMED_WINDOW;
    while instance.malformed.front().is_some_and(old) {
        instance.malformed.pop_front();
    }
    instance.malformed.push_back(now);
    instance.malformed_total += 1;
    tracing::warn!(command = ?instance.command, why = %bad.why, "malformed message of a server");
    if let Some(server) = &instance.server {
        let note = format!("\n[demolish] malformed message ({}): {}\n", bad.why, bad.excerpt);
        server.log.append(note.as_bytes());
    }
    match &bad.id {
        Some(id) if bad.method.is_none() => {
            instance.link.on_server_malformed(id, &bad.why.to_string())
        }
        _ => Vec::new(),
    }
}
