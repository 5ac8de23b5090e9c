//! The loop: everything that can wake the daemon, the order in which it is taken, and who handles it.
//!
//! One task owns the [`State`]. It waits for nothing but its inbox and its own clock; handlers return at once. Events are
//! taken in batches, in which cancels come first; no two other messages of one peer are ever swapped.

use std::time::Instant;

use tokio::net::UnixStream;
use tokio::sync::mpsc;
use wire::Envelope;
use wire::child::SpawnError;
use wire::peer::PeerEvent;

use crate::handlers::{self, order};
use crate::linger::Linger;
use crate::state::{LinkId, ServerId, State};
use crate::tasks::{Outcome, TaskId};

/// How many events may wait. Readers wait for room, and their peers with them.
pub const INBOX_EVENTS_MAX: usize = 1024;
/// How many are taken at once.
const BATCH_EVENTS_MAX: usize = 64;

/// What can wake the daemon.
#[derive(Debug)]
pub enum Event {
    /// A connection to the socket.
    Accepted(UnixStream),
    /// Something from a client.
    Client(LinkId, PeerEvent),
    /// Something from a server.
    Server(ServerId, PeerEvent),
    /// A server was started, or could not be.
    Started(ServerId, Box<Result<handlers::Started, SpawnError>>),
    /// A server's process has ended; how, in words.
    Ended(ServerId, String),
    /// The memory of servers and what they have started, in bytes.
    Sampled(Vec<(ServerId, u64)>),
    /// A message of our own features to their editor.
    Own(LinkId, Envelope),
    /// A task has ended.
    Done(TaskId, Outcome),
    /// Somebody wishes something of the lease of a server.
    Lease(Box<handlers::lease::Wish>),
    /// A deadline has come.
    Tick,
    /// The daemon is told to end.
    Stop,
}

/// Handles events until the daemon is to end.
pub async fn run(state: &mut State, inbox: &mut mpsc::Receiver<Event>) {
    let mut batch = Vec::with_capacity(BATCH_EVENTS_MAX);
    let linger = Linger::here();
    let mut passed = false;
    while !state.is_over() {
        if passed {
            linger.wait(inbox).await;
        }
        let tick = handlers::time::next(state);
        tokio::select! {
            biased;
            _ = inbox.recv_many(&mut batch, BATCH_EVENTS_MAX) => {}
            () = tokio::time::sleep_until(tick.into()) => batch.push(Event::Tick),
        }
        order::cancels_first(&mut batch);
        passed = batch.iter().any(|event| matches!(event, Event::Client(..) | Event::Server(..)));
        let now = Instant::now();
        for event in batch.drain(..) {
            handle_event(state, event, now);
        }
    }
}

/// Handles one event.
pub fn handle_event(state: &mut State, event: Event, now: Instant) {
    match event {
        Event::Accepted(stream) => handlers::greet::accepted(state, stream, now),
        Event::Client(link, event) => handlers::client(state, link, event, now),
        Event::Server(server, event) => handlers::wrap::from_server(state, server, event, now),
        Event::Started(server, outcome) => handlers::life::started(state, server, *outcome, now),
        Event::Ended(server, how) => handlers::life::ended(state, server, how, now),
        Event::Sampled(samples) => handlers::watch::sampled(state, samples, now),
        Event::Own(link, envelope) => handlers::own::to_client(state, link, &envelope),
        Event::Done(task, outcome) => handlers::own::done(state, task, outcome),
        Event::Lease(wish) => handlers::lease::wished(state, *wish, now),
        Event::Tick => handlers::time::tick(state, now),
        Event::Stop => state.over = true,
    }
    handlers::merge::drain(state, now);
}
