//! Requests of our own to the server: barriers, leases, questions of the agent. No editor hears of them.

use std::time::Instant;

use serde::Serialize;
use wire::{Envelope, Id, Lane, ResponseError, codes};

use super::{Link, Outbound, Route, ServerState, cancel, to_server};
use crate::Pending;

impl Link {
    /// Asks the server something. The answer comes as [`Route::Answered`] with the number that is returned; if the server
    /// is not there, or dies, or takes longer than until `deadline`, that is an error.
    pub fn ask_server(
        &mut self,
        method: &str,
        params: &impl Serialize,
        deadline: Option<Instant>,
    ) -> (u32, Route) {
        let pending = Pending { awaited: true, deadline, ..Pending::ours(method) };
        // A request of ours has no original id, so it cannot be a duplicate.
        let Ok(ours) = self.asked_server.insert(pending) else { unreachable!() };
        if self.state != ServerState::Running {
            self.asked_server.take(ours);
            return (ours, Route::Answered(ours, failed(ours, "the server is not there")));
        }
        let body = Envelope::request(Id::number(ours), method, params).body;
        (ours, Route::Server(Outbound { body, lane: Lane::Keep, tag: Some(ours) }))
    }

    /// Tells the server something, if it is there.
    pub fn tell_server(&mut self, method: &str, params: &impl Serialize) -> Option<Route> {
        let there = self.state == ServerState::Running;
        there.then(|| to_server(Envelope::notification(method, params)))
    }

    /// The answer to a request of our own is of no use any more: it is cancelled, and nothing comes back.
    pub fn forget_question(&mut self, ours: u32) -> Option<Route> {
        self.asked_server.get_mut(ours).filter(|pending| pending.awaited)?;
        self.asked_server.take(ours);
        Some(Route::WithdrawFromServer(ours, cancel(ours)))
    }
}

/// What whoever waits for the answer to `ours` gets instead.
pub(super) fn failed(ours: u32, why: &str) -> Envelope {
    Envelope::error(Id::number(ours), &ResponseError::new(codes::REQUEST_FAILED, why))
}
