//! An editor and several language servers on one connection (merged mode).
//!
//! Every server is an instance like any other, and the connection has a seat in each: to the instances it is several
//! clients. What they are told comes here instead of to the editor, in the turn in which it is said; see [`drain`].

use std::collections::BTreeMap;
use std::time::Instant;

use proxy::merge::results::Owners;
use proxy::merge::{Branch, ChildOptions, Merge, MergeOptions, MergeRoute};
use proxy::{ClientId, Outbound};
use wire::Envelope;
use wire::ext::{HelloParams, MergedServer};
use wire::peer::Peer;

use super::share::{self, Origin};
use super::{routes, wrap};
use crate::state::{Instance, InstanceId, LinkId, Role, State};

/// A connection with several servers.
pub(crate) struct Merged {
    /// What makes one server of them.
    pub(crate) merge: Merge,
    /// Its seats, by priority. A seat that was left stays in the list.
    pub(crate) seats: Vec<ClientId>,
}

/// What has happened to a seat in this turn of the loop.
#[derive(Debug)]
pub(crate) enum Word {
    /// It was told this.
    Told(ClientId, Envelope),
    /// Its server has died.
    Died(ClientId),
}

/// Seats the connection with its servers.
pub(crate) fn start(
    state: &mut State,
    id: LinkId,
    servers: &[MergedServer],
    owners: &BTreeMap<String, String>,
    hello: &HelloParams,
) -> Role {
    let child = |server: &MergedServer| ChildOptions {
        name: server.name.clone(),
        initialization_options: server.initialization_options.clone(),
        settings: server.settings.clone(),
    };
    let options = MergeOptions {
        children: servers.iter().map(child).collect(),
        owners: Owners::new(owners.clone()),
        telemetry: false,
    };
    let env: std::sync::Arc<BTreeMap<String, String>> = hello.env.clone().into();
    let seats = servers.iter().map(|server| {
        let origin = Origin {
            link: id,
            command: server.command.as_slice().into(),
            cwd: hello.cwd.clone().into(),
            env: env.clone(),
            resumed: hello.resumed,
        };
        share::seat(state, origin)
    });
    let seats = seats.collect();
    Role::Merge(Box::new(Merged { merge: Merge::new(options), seats }))
}

/// A message of the editor.
pub(crate) fn from_client(state: &mut State, id: LinkId, envelope: Envelope, now: Instant) {
    let Some(merged) = merged(state, id) else { return };
    let routes = merged.merge.on_client(envelope, now);
    pass(state, id, routes, now);
}

/// Whether a client is a seat of a merged connection; then it has heard this message.
pub(crate) fn heard(state: &mut State, client: ClientId, message: &Outbound) -> bool {
    if !is_branch(state, client) {
        return false;
    }
    match Envelope::read(message.body.clone()) {
        Ok(envelope) => state.words.push_back(Word::Told(client, envelope)),
        Err(error) => tracing::error!(%error, "a message of ours that cannot be read"),
    }
    true
}

/// The server of an instance has died: the merged connections among its clients are told before they hear what follows.
pub(crate) fn died(state: &mut State, id: InstanceId) {
    let seats: Vec<ClientId> = state
        .seats
        .iter()
        .filter(|(_, seat)| seat.instance == id)
        .map(|(client, _)| *client)
        .collect();
    for client in seats {
        if is_branch(state, client) {
            state.words.push_back(Word::Died(client));
        }
    }
}

/// Passes on what seats were told in this turn, in its order, until there is no more of it.
pub(crate) fn drain(state: &mut State, now: Instant) {
    while let Some(word) = state.words.pop_front() {
        let (Word::Told(client, _) | Word::Died(client)) = &word;
        let Some((id, branch)) = branch_of(state, *client) else { continue };
        let Some(merged) = merged(state, id) else { continue };
        let routes = match word {
            Word::Told(_, envelope) => merged.merge.on_child(branch, envelope, now),
            Word::Died(_) => merged.merge.child_died(branch, now),
        };
        pass(state, id, routes, now);
    }
}

/// Does what is due.
pub(crate) fn tick(state: &mut State, id: LinkId, now: Instant) {
    let Some(merged) = merged(state, id) else { return };
    let routes = merged.merge.expire(now);
    pass(state, id, routes, now);
}

/// Whether nothing more can come for a client that is a seat of a merged connection: it leaves that seat, and the
/// connection ends with the last one. `None`: it is no such seat.
pub(crate) fn is_last(state: &mut State, client: ClientId, now: Instant) -> Option<bool> {
    let (id, _) = branch_of(state, client)?;
    wrap::leave(state, client, now);
    let seats = merged(state, id).map(|merged| merged.seats.clone()).unwrap_or_default();
    Some(!seats.iter().any(|seat| state.seats.contains_key(seat)))
}

/// The connection is gone: so are its seats.
pub(crate) fn leave(state: &mut State, merged: &Merged, now: Instant) {
    for client in &merged.seats {
        wrap::leave(state, *client, now);
    }
}

/// The instances of a merged connection, by priority.
pub(crate) fn instances<'s>(state: &'s State, merged: &Merged) -> Vec<(InstanceId, &'s Instance)> {
    let seats = merged.seats.iter().filter_map(|client| state.seats.get(client));
    let instance = |id| Some((id, state.instances.get(&id)?));
    seats.filter_map(|seat| instance(seat.instance)).collect()
}

fn pass(state: &mut State, id: LinkId, all: Vec<MergeRoute>, now: Instant) {
    let mut wedged = false;
    for route in all {
        match route {
            MergeRoute::Child(branch, envelope) => {
                if let Some(client) = seat_of(state, id, branch) {
                    wrap::from_client(state, client, envelope, now);
                }
            }
            MergeRoute::Client(message) => wedged |= queue(state, id, message),
            MergeRoute::WithdrawFromClient(tag, otherwise) => {
                let withdrawn =
                    state.links.get(&id).is_some_and(|link| link.client.sender().withdraw(tag));
                if !withdrawn {
                    wedged |= queue(state, id, otherwise);
                } else if let Some(merged) = merged(state, id) {
                    let routes = merged.merge.withdrawn_from_client(tag);
                    pass(state, id, routes, now);
                }
            }
        }
    }
    if wedged {
        tracing::error!(link = id.0, "the client does not read: its link is closed");
        super::remove(state, id, now);
    }
}

/// Queues a message for the editor, and holds the servers if the queue is filling up. `true`: wedged.
fn queue(state: &State, id: LinkId, message: Outbound) -> bool {
    let Some(link) = state.links.get(&id) else { return false };
    let Role::Merge(merged) = &link.role else { return false };
    let servers: Vec<&Peer> = instances(state, merged)
        .into_iter()
        .filter_map(|(_, instance)| instance.server.as_ref())
        .map(|server| &server.peer)
        .collect();
    routes::queue(&link.client, servers, message)
}

fn merged(state: &mut State, id: LinkId) -> Option<&mut Merged> {
    match &mut state.links.get_mut(&id)?.role {
        Role::Merge(merged) => Some(merged),
        _ => None,
    }
}

fn seat_of(state: &mut State, id: LinkId, branch: Branch) -> Option<ClientId> {
    merged(state, id)?.seats.get(branch.0 as usize).copied()
}

fn is_branch(state: &State, client: ClientId) -> bool {
    let link = state.seats.get(&client).and_then(|seat| state.links.get(&seat.link));
    // A link that is being greeted has its seats before it has its role.
    link.is_some_and(|link| matches!(link.role, Role::Merge(_)))
}

fn branch_of(state: &mut State, client: ClientId) -> Option<(LinkId, Branch)> {
    let id = state.seats.get(&client)?.link;
    let at = merged(state, id)?.seats.iter().position(|seat| *seat == client)?;
    Some((id, Branch(at as u32)))
}
