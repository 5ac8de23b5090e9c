//! Clients and one server, joined (wrapper mode).
//!
//! Mostly there is one client; several editor windows may share a server. Everything is decided on the turn of the message: ids are mapped and the route is returned at once, so that order is
//! kept by construction (rule 4.8). What a link cannot do itself, because it holds no queues, is in the [`Route`].
//!
//! The parts: `from_client` and `from_server` for what arrives, `life` for a server that starts, dies and returns,
//! `members` for clients that come, go and are split off, `greeting` for what they have in common, `documents` for those
//! that several have open, `registry` and `progress` for what the server shows them, `own` for requests of our own,
//! `verdicts` for what the server provably says of a revision.

mod documents;
mod from_client;
mod from_server;
mod greeting;
mod life;
mod members;
mod own;
mod progress;
mod registry;
mod watch;
mod verdicts;

use std::collections::{BTreeMap, HashMap, VecDeque};
use std::sync::Arc;
use std::time::{Duration, Instant};

use serde_json::value::RawValue;
use wire::{Bytes, Envelope, Id, Lane, ResponseError, codes};

use crate::verdict::{Barrier, Habits, Ticket, Verdict};
use crate::{ClientId, IdTable, Latencies, Pending, Tap};
use greeting::Greeting;
use members::Member;
pub use members::Parted;
use progress::Progress;
pub use registry::REGISTRATIONS_PATIENCE;
use registry::Registry;

/// How long a server may take to answer a request that was cancelled, before we do (rule 4.17).
pub const CANCEL_PATIENCE: Duration = Duration::from_secs(1);
/// How long a server may take to answer `shutdown`, before we do (rule 4.13).
pub const SHUTDOWN_PATIENCE: Duration = Duration::from_millis(1500);
/// How many messages are held for a server that is not there yet.
pub const HELD_MESSAGES_MAX: usize = 4 * 1024;
/// How many bytes are held for it. Beyond either limit requests are refused and notifications dropped.
pub const HELD_BYTES_MAX: usize = 160 * 1024 * 1024;
/// Requests above this size are not asked again.
const RETRY_BYTES_MAX: usize = 64 * 1024;
/// How many answers to `workspace/configuration` are remembered.
const SETTINGS_MAX: usize = 256;

/// Parameters with JSON text in them that a peer wrote. They are written as they are, and never become a
/// [`serde_json::Value`]: that cannot hold everything that passes (rule 4.2), and `json!` panics where it cannot.
type RawParams<T> = BTreeMap<&'static str, T>;

/// What becomes of reads that a dying server leaves without an answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Reads {
    /// They fail with *content modified*, upon which editors ask again.
    Fail,
    /// They are asked again.
    Retry,
}

/// How a link behaves.
#[derive(Clone, Debug)]
pub struct LinkOptions {
    /// What the server is called in messages to the user.
    pub server: String,
    /// What becomes of unanswered reads.
    pub reads: Reads,
    /// What is known of how the server lets itself be asked for verdicts.
    pub habits: Habits,
    /// The process that the server is to watch in place of the editor's, if any (rule 4.15).
    pub process_id: Option<u32>,
    /// Whether the server is kept when the last client has left: then we answer its `shutdown`.
    pub keep: bool,
}

impl LinkOptions {
    /// A link that leaves everything as it is.
    pub fn new(server: impl Into<String>, reads: Reads) -> LinkOptions {
        LinkOptions {
            server: server.into(),
            reads,
            habits: Habits::default(),
            process_id: None,
            keep: false,
        }
    }
}

/// What to do with a message.
#[derive(Clone, Debug)]
pub enum Route {
    /// Queue it for this client.
    Client(ClientId, Outbound),
    /// Queue it for the server.
    Server(Outbound),
    /// If the request `tag` is still in the server's queue, take it out and call [`Link::withdrawn_from_server`];
    /// otherwise queue the message.
    WithdrawFromServer(u32, Outbound),
    /// The same for this client's queue and [`Link::withdrawn_from_client`].
    WithdrawFromClient(ClientId, u32, Outbound),
    /// This client was split off, for [`Link::take_parted`]: it goes on in a [link of its own](Link::of_parted).
    Parted(ClientId),
    /// The answer to the request of our own that [`Link::ask_server`] gave this number: exactly one, whatever happens.
    Answered(u32, Envelope),
    /// What the user has chosen, upon the question that [`Link::ask_user`] gave this number.
    Chosen(u32, Envelope),
    /// The verdict that [`Link::verdict`] was asked for under this ticket: exactly one, whatever happens.
    Verdict(Ticket, Verdict),
}

/// A message on its way out.
#[derive(Clone, Debug)]
pub struct Outbound {
    /// The body.
    pub body: Bytes,
    /// What may happen to it in a full queue.
    pub lane: Lane,
    /// The id of a request, by which it can be withdrawn.
    pub tag: Option<u32>,
}

/// Where the server is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ServerState {
    /// On its way for the first time: everything is held, and passed on as it is.
    Starting,
    /// There.
    Running,
    /// There again, and greeted by us: `initialize` has no answer yet.
    Greeting,
    /// Gone, and expected back: documents are mirrored, the rest is held.
    Away,
    /// Gone for good, for this reason: everything is refused.
    Stopped(String),
}

/// The joint between clients and a server.
#[derive(Debug)]
pub struct Link {
    options: LinkOptions,
    state: ServerState,
    /// The clients, oldest first.
    members: BTreeMap<ClientId, Member>,
    /// Which client the server knows a document from; kept while there are several.
    owners: HashMap<Arc<str>, ClientId>,
    /// Clients that were split off and not yet taken.
    parted: Vec<Parted>,
    /// Counts what clients do.
    turn: u64,
    greeting: Greeting,
    tap: Tap,
    /// Requests of clients, and our own, that the server has not answered.
    asked_server: IdTable,
    /// Requests of the server, and our own, that a client has not answered.
    asked_client: IdTable,
    held: VecDeque<Outbound>,
    held_bytes: usize,
    progress: Progress,
    registry: Registry,
    /// What the client has answered to `workspace/configuration`, by the JSON text of the item.
    settings: Arc<BTreeMap<String, Box<RawValue>>>,
    /// How long the server takes.
    latencies: Latencies,
    /// Whether the user was told why the server is gone for good.
    told: bool,
    barrier: Barrier,
    /// The barrier's questions that are out, by our id.
    questions: HashMap<u32, u32>,
}

impl Link {
    /// A link whose server is on its way, and that nobody has joined.
    pub fn new(options: LinkOptions) -> Link {
        let barrier = Barrier::new(options.habits.clone().name_or(&options.server));
        Link {
            options,
            barrier,
            questions: HashMap::new(),
            state: ServerState::Starting,
            members: BTreeMap::new(),
            owners: HashMap::new(),
            parted: Vec::new(),
            turn: 0,
            greeting: Greeting::default(),
            tap: Tap::default(),
            asked_server: IdTable::default(),
            asked_client: IdTable::default(),
            held: VecDeque::new(),
            held_bytes: 0,
            progress: Progress::default(),
            registry: Registry::default(),
            settings: Arc::default(),
            latencies: Latencies::default(),
            told: false,
        }
    }

    /// Where the server is.
    pub fn state(&self) -> &ServerState {
        &self.state
    }

    /// What the server has said about documents.
    pub fn tap(&self) -> &Tap {
        &self.tap
    }

    /// What the client has answered to `workspace/configuration`, by the JSON text of the item. Cheap.
    pub fn settings(&self) -> Arc<BTreeMap<String, Box<RawValue>>> {
        Arc::clone(&self.settings)
    }

    /// How many requests of `client` have no answer.
    pub fn pending_len(&self, client: ClientId) -> usize {
        self.asked_server.entries().filter(|(_, pending)| pending.asker == client).count()
    }

    /// Whether anybody, we too, waits for an answer of the server.
    pub fn is_waiting(&self) -> bool {
        !self.asked_server.is_empty()
    }

    /// Whether the server is there and has read the project, nobody waits for anything from it, and it shows no progress.
    pub fn is_quiet(&self, now: Instant) -> bool {
        self.state == ServerState::Running
            && self.asked_server.is_empty()
            && self.held.is_empty()
            && self.progress.is_empty()
            && self.barrier.has_loaded(now)
    }

    /// Whether the server has registered for this method.
    pub fn has_registered(&self, method: &str) -> bool {
        self.registry.has(method)
    }

    /// Whether a client waits for the answer to its `initialize`.
    pub fn is_initializing(&self) -> bool {
        self.asked_server.entries().any(|(_, pending)| is_client_initialize(pending))
    }

    /// When [`Link::expire`] has something to do.
    pub fn next_deadline(&self) -> Option<Instant> {
        let (server, client) =
            (self.asked_server.next_deadline(), self.asked_client.next_deadline());
        let own = [self.registry.deadline, self.barrier.next_deadline()];
        [server, client].into_iter().chain(own).flatten().min()
    }

    /// The same message for every client.
    fn to_all(&self, envelope: &Envelope, lane: &Lane) -> Vec<Route> {
        members::to_each(self.clients(), &envelope.body, lane)
    }

    /// A request of our own to a client, whose answer nobody waits for.
    fn ask_client(
        &mut self,
        client: ClientId,
        method: &str,
        params: &impl serde::Serialize,
    ) -> Option<Route> {
        let pending = Pending { asked: client, ..Pending::ours(method) };
        let ours = self.asked_client.insert(pending).ok()?;
        let request = Envelope::request(Id::number(ours), method, params);
        Some(Route::Client(
            client,
            Outbound { body: request.body, lane: Lane::Keep, tag: Some(ours) },
        ))
    }
}

/// A message to a client that is never dropped.
fn to_client(client: ClientId, envelope: Envelope) -> Route {
    Route::Client(client, outbound(envelope))
}

fn fail_client(client: ClientId, id: Id, code: i64, message: &str) -> Route {
    to_client(client, Envelope::error(id, &ResponseError::new(code, message)))
}

fn to_server(envelope: Envelope) -> Route {
    Route::Server(outbound(envelope))
}

fn outbound(envelope: Envelope) -> Outbound {
    Outbound { body: envelope.body, lane: Lane::Keep, tag: None }
}

fn is_client_initialize(pending: &Pending) -> bool {
    pending.original.is_some() && !pending.joins && &*pending.method == "initialize"
}

/// The id in the parameters of `$/cancelRequest`.
fn cancelled_id(envelope: &Envelope) -> Option<Id> {
    #[derive(serde::Deserialize)]
    struct Cancel {
        id: Box<RawValue>,
    }
    let cancel: Cancel = envelope.params_as().ok()?;
    Id::from_raw(cancel.id.get().as_bytes())
}

fn cancel(ours: u32) -> Outbound {
    outbound(Envelope::notification("$/cancelRequest", &serde_json::json!({ "id": ours })))
}

fn cancelled_error() -> ResponseError {
    ResponseError::new(codes::REQUEST_CANCELLED, "cancelled")
}

#[cfg(test)]
mod tests;
