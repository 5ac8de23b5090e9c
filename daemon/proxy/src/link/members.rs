//! Clients that come, go, and are split off.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Instant;

use serde_json::value::RawValue;
use wire::{Bytes, Envelope};

use super::from_server::give_fallback;
use super::greeting::Greeting;
use super::registry::Registry;
use super::{Link, LinkOptions, Outbound, Route, ServerState, cancel, to_client, to_server};
use crate::{ClientId, IdTable, Mirror, Pending, is_read};

/// A client of a link.
#[derive(Debug, Default)]
pub(super) struct Member {
    /// What it has told the server, or would have.
    pub(super) mirror: Mirror,
    /// When it last did something, in turns of the link.
    pub(super) active: u64,
    /// Whether its `initialize` was answered with what the server had told another client.
    pub(super) joined: bool,
}

/// A client that was split off: all that a link of its own needs to go on with it.
#[derive(Debug)]
pub struct Parted {
    client: ClientId,
    member: Member,
    greeting: Greeting,
    registry: Registry,
    settings: Arc<BTreeMap<String, Box<RawValue>>>,
    /// Reads that are asked again.
    again: Vec<Pending>,
    /// The last id under which it was asked something.
    last_asked: u32,
    /// Why.
    why: String,
}

impl Parted {
    /// Why it was split off, in words.
    pub fn why(&self) -> &str {
        &self.why
    }
}

impl Link {
    /// A client comes. It has said nothing yet.
    pub fn join(&mut self, client: ClientId) {
        if let (1, Some((first, member))) = (self.members.len(), self.members.first_key_value()) {
            self.owners = member.mirror.held().into_iter().map(|uri| (uri, *first)).collect();
        }
        let mut member = Member::default();
        if let Some(result) = &self.greeting.result {
            member.mirror.on_initialize_result(result);
        }
        self.members.insert(client, member);
    }

    /// A link of its own for a client that was split off. Its server is not there yet; it will be greeted, told everything,
    /// and asked again.
    pub fn of_parted(options: LinkOptions, parted: Parted, now: Instant) -> Link {
        let mut link = Link::new(options);
        link.state = ServerState::Away;
        link.greeting = parted.greeting;
        link.registry = parted.registry;
        link.settings = parted.settings;
        link.asked_client = IdTable::after(parted.last_asked);
        if let Some(params) = &link.greeting.params {
            link.barrier.on_initialize(params);
        }
        for uri in parted.member.mirror.uris() {
            let revision = parted.member.mirror.latest(&uri).unwrap_or_default();
            // Nobody has asked about it yet, so nothing follows.
            link.barrier.on_open(&uri, revision, 0, now);
        }
        link.members.insert(parted.client, parted.member);
        for pending in parted.again {
            let Some(body) = pending.body.clone() else { continue };
            let Ok(ours) = link.asked_server.insert(pending) else { continue };
            let body = Envelope::read(body).map(|e| e.with_id(wire::Id::number(ours)).body);
            if let Some(pending) = link.asked_server.get_mut(ours) {
                pending.body = body.ok();
            }
        }
        link
    }

    /// A client that [`Route::Parted`] named.
    pub fn take_parted(&mut self, client: ClientId) -> Option<Parted> {
        let at = self.parted.iter().position(|parted| parted.client == client)?;
        Some(self.parted.remove(at))
    }

    /// A client is gone: nobody works for it any more, what the server asked it is answered in its place, and its documents
    /// are closed unless another client has them open.
    pub fn leave(&mut self, client: ClientId, now: Instant) -> Vec<Route> {
        let mut routes = self.hand_over_greeting(client);
        routes.extend(self.close_documents_of(client, now));
        self.members.remove(&client);
        for (ours, _) in self.asked_server.take_where(|pending| pending.asker == client) {
            routes.extend(self.unask(ours));
        }
        self.asked_server.forget(client);
        for (_, pending) in self.asked_client.take_where(|pending| pending.asked == client) {
            routes.extend(self.note_unanswered(&pending, now));
            routes.extend(give_fallback(pending).map(to_server));
        }
        self.owners.retain(|_, owner| *owner != client);
        self.progress.forget(client);
        routes
    }

    /// Splits a client off: what it waits for is asked again by its new link or answered now, its screen is cleared, and
    /// for the server it is gone.
    pub(super) fn part(&mut self, client: ClientId, why: &str, now: Instant) -> Vec<Route> {
        let mut routes = Vec::new();
        let mut again = Vec::new();
        for (ours, pending) in self.asked_server.take_where(|pending| pending.asker == client) {
            routes.extend(self.unask(ours));
            if pending.body.is_some() && is_read(&pending.method) && !pending.cancelled {
                again.push(self.with_own_tokens(ours, pending));
            } else {
                routes.extend(self.left_behind(ours, pending));
            }
        }
        self.asked_server.forget(client);
        for (ours, pending) in self.asked_client.take_where(|pending| pending.asked == client) {
            if pending.original.is_some() {
                routes.push(Route::WithdrawFromClient(client, ours, cancel(ours)));
            }
            routes.extend(self.note_unanswered(&pending, now));
            routes.extend(give_fallback(pending).map(to_server));
        }
        routes.extend(self.clear_screen_of(client));
        routes.extend(self.close_documents_of(client, now));
        let Some(member) = self.members.remove(&client) else { return routes };
        self.owners.retain(|_, owner| *owner != client);
        let settings = member.mirror.settings().cloned();
        let greeting = Greeting {
            params: member.mirror.initialize_params().cloned(),
            by: client,
            result: self.greeting.result.clone(),
            initialized: member.mirror.is_initialized(),
            settings: settings.or_else(|| self.greeting.settings.clone()),
            told_other: false,
        };
        tracing::info!(client = client.0, why, "split off");
        self.parted.push(Parted {
            client,
            member,
            greeting,
            registry: self.registry.stale(),
            settings: Arc::clone(&self.settings),
            again,
            last_asked: self.asked_client.last(),
            why: why.to_owned(),
        });
        routes.push(Route::Parted(client));
        routes
    }

    /// The clients, oldest first.
    pub fn clients(&self) -> impl Iterator<Item = ClientId> + '_ {
        self.members.keys().copied()
    }

    /// What a client has told the server.
    pub fn mirror(&self, client: ClientId) -> Option<&Mirror> {
        self.members.get(&client).map(|member| &member.mirror)
    }

    /// The same, to look at documents.
    pub fn mirror_mut(&mut self, client: ClientId) -> Option<&mut Mirror> {
        self.members.get_mut(&client).map(|member| &mut member.mirror)
    }

    /// Whether the server has been told `initialized`.
    pub fn is_initialized(&self) -> bool {
        self.greeting.initialized
    }

    /// Whether every client has asked for the shutdown.
    pub fn is_shutdown(&self) -> bool {
        !self.members.is_empty() && self.members.values().all(|member| member.mirror.is_shutdown())
    }

    /// Whether the server is to go on when `client` has left.
    pub fn outlives(&self, client: ClientId) -> bool {
        let stays =
            |(id, member): (&ClientId, &Member)| *id != client && !member.mirror.is_shutdown();
        self.options.keep || self.members.iter().any(stays)
    }

    /// The oldest client: it speaks for all where only one can.
    pub(super) fn lead(&self) -> Option<ClientId> {
        self.members.first_key_value().map(|(id, _)| *id)
    }

    /// The client that did something last.
    pub(super) fn most_active(&self) -> Option<ClientId> {
        self.members.iter().max_by_key(|(_, member)| member.active).map(|(id, _)| *id)
    }

    /// The server need not answer `ours` any more: if it is held it never gets it, otherwise it is cancelled.
    fn unask(&mut self, ours: u32) -> Option<Route> {
        if self.take_held(ours) {
            None
        } else {
            Some(Route::WithdrawFromServer(ours, cancel(ours)))
        }
    }

    pub(super) fn take_held(&mut self, ours: u32) -> bool {
        let held = self.held.iter().position(|outbound| outbound.tag == Some(ours));
        let Some(outbound) = held.and_then(|at| self.held.remove(at)) else { return false };
        self.held_bytes -= outbound.body.len();
        true
    }
}

/// A message to every client of `clients`.
pub(super) fn to_each(
    clients: impl IntoIterator<Item = ClientId>,
    body: &Bytes,
    lane: &wire::Lane,
) -> Vec<Route> {
    let route =
        |id| Route::Client(id, Outbound { body: body.clone(), lane: lane.clone(), tag: None });
    clients.into_iter().map(route).collect()
}

/// The answer to `shutdown` of a client that is not the last.
pub(super) fn goodbye(client: ClientId, id: &wire::Id) -> Route {
    to_client(client, Envelope::response(id.clone(), &()))
}
