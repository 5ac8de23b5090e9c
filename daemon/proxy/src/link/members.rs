//! Clients that come and go.

use super::from_server::give_fallback;
use super::{Link, Route, cancel, to_server};
use crate::{ClientId, Mirror};

/// A client of a link.
#[derive(Debug, Default)]
pub(super) struct Member {
    /// What it has told the server.
    pub(super) mirror: Mirror,
}

impl Link {
    /// A client comes. It has said nothing yet.
    pub fn join(&mut self, client: ClientId) {
        self.members.insert(client, Member::default());
    }

    /// A client is gone: nobody works for it any more, and what the server asked it is answered in its place.
    pub fn leave(&mut self, client: ClientId) -> Vec<Route> {
        self.members.remove(&client);
        let asked = self.asked_server.take_where(|pending| pending.asker == client);
        self.asked_server.forget(client);
        let mut routes: Vec<Route> = asked
            .into_iter()
            .map(|(ours, _)| Route::WithdrawFromServer(ours, cancel(ours)))
            .collect();
        let unanswered = self.asked_client.take_where(|pending| pending.asked == client);
        let answer = |(_, pending)| give_fallback(pending).map(to_server);
        routes.extend(unanswered.into_iter().filter_map(answer));
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

    /// Whether a client has said `initialized`.
    pub fn is_initialized(&self) -> bool {
        self.members.values().any(|member| member.mirror.is_initialized())
    }

    /// Whether every client has asked for the shutdown.
    pub fn is_shutdown(&self) -> bool {
        !self.members.is_empty() && self.members.values().all(|member| member.mirror.is_shutdown())
    }

    /// The oldest client: it speaks for all where only one can.
    pub(super) fn lead(&self) -> Option<(ClientId, &Member)> {
        self.members.first_key_value().map(|(id, member)| (*id, member))
    }
}
