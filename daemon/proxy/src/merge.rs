//! Merged mode: one connection of a client, several servers behind it.
//!
//! A [`Merge`] is a client to every one of its servers (each behind a [`crate::Link`] of its own, which knows of ids,
//! restarts and replays) and a server to its one client. Messages go in, routes come out; nothing waits, and everything
//! is decided on the turn of the message, so that the order of what each server hears and says is kept (rule 4.8).
//!
//! The parts: `greeting` and `children` for servers that come, late or not at all; `requests`, `fan` and `answers` for what
//! the client asks; `documents` and `files` for what it tells; `from_child` for what servers ask and tell; `diagnostics`,
//! `pulls`, `progress`, `registrations`, `watch` for what several say at once; `time` for deadlines. How capabilities
//! and answers are joined is in `capabilities`, `results`, `data` and `commands`.

use std::collections::{BTreeMap, HashMap, VecDeque};
use std::sync::Arc;
use std::time::Instant;

use serde_json::Value;
use serde_json::value::RawValue;
use text::Encoding;
use wire::{Envelope, Id, Kind, Lane, ResponseError, codes};

use crate::{Mirror, Outbound};

pub mod capabilities;
pub mod commands;
pub mod data;
pub mod results;
mod children;
pub use children::names;
mod greeting;
pub use greeting::{INITIALIZE_PATIENCE, LATE_PATIENCE, SETTLE_PATIENCE};
mod requests;
mod fan;
pub use fan::{
    ASK_PATIENCE, COMPLETION_PATIENCE, FAN_PATIENCE, HELD_MAX, HELD_PATIENCE, SAVE_PATIENCE,
};
mod answers;
mod documents;
pub use documents::TEXT_DELAY;
mod files;
mod from_child;
pub use from_child::{CONFIGURATION_PATIENCE, REFRESH_DELAY};
mod diagnostics;
pub use diagnostics::{COALESCE, SETS_MAX};
mod pulls;
pub use pulls::PULLED_DOCUMENTS_MAX;
mod pulling;
pub use pulling::PULL_DELAY;
mod progress;
pub use progress::{REPORT_INTERVAL, TOKENS_MAX};
mod registrations;
pub use registrations::REGISTRATIONS_MAX;
mod watch;
mod glob;
mod uri;
mod time;

use capabilities::Child as Greeted;
use children::{Child, branches};

/// One of the servers, counted by priority: 0 is the primary.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Branch(pub u32);

/// What a server is called, and what is special about it.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct ChildOptions {
    /// Its name in messages and in names of commands; no two have the same. See [`names`].
    pub name: String,
    /// What it is told at its start instead of what the editor says. The primary is always told what the editor says.
    pub initialization_options: Option<Value>,
    /// Settings that are laid over those of the editor.
    pub settings: Value,
}

impl ChildOptions {
    /// A server with nothing special about it.
    pub fn named(name: &str) -> ChildOptions {
        ChildOptions { name: name.to_owned(), ..ChildOptions::default() }
    }
}

/// How a merged connection behaves.
#[derive(Clone, Debug, Default)]
pub struct MergeOptions {
    /// The servers by priority.
    pub children: Vec<ChildOptions>,
    /// Which of them does what only one may do.
    pub owners: results::Owners,
    /// Whether `telemetry/event` reaches the client.
    pub telemetry: bool,
}

/// What to do with a message.
#[derive(Clone, Debug)]
pub enum MergeRoute {
    /// It is for a server: give it to that one's link, as a message of its client.
    Child(Branch, Envelope),
    /// Queue it for the client.
    Client(Outbound),
    /// If the request `tag` is still in the client's queue, take it out and call [`Merge::withdrawn_from_client`];
    /// otherwise queue the message.
    WithdrawFromClient(u32, Outbound),
}

/// Where the connection is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Stage {
    /// The client has not said hello.
    Silent,
    /// It has, and has no answer.
    Greeting,
    /// It is served.
    Serving,
    /// It has asked for the shutdown.
    Shutdown,
}

/// What a request to a server is for.
#[derive(Clone, Debug)]
enum Purpose {
    Initialize,
    Shutdown,
    /// One part of what the client asks.
    Part(u32),
    /// Diagnostics that we pull for a client that cannot: of this document, at this version.
    Pull(Arc<str>, Option<i32>),
}

/// What a request to the client is for.
#[derive(Debug)]
enum Asked {
    /// A server asks: under this id.
    For(Branch, Id),
    /// The same, about settings: the items.
    Settings(Branch, Id, Vec<Option<String>>),
    /// A token of progress is made known.
    Token(Box<str>),
    /// Nobody waits for the answer.
    Nothing,
}

#[derive(Debug)]
struct AskedClient {
    what: Asked,
    method: Box<str>,
    deadline: Option<Instant>,
}

/// One connection, several servers.
#[derive(Debug)]
pub struct Merge {
    options: MergeOptions,
    stage: Stage,
    greeting: greeting::Greeting,
    children: Vec<Child>,
    /// What the client has told us.
    mirror: Mirror,
    /// The client's capabilities.
    client: Value,
    /// The capabilities that the client was told.
    advertised: Value,
    /// How positions are counted on the client's connection.
    encoding: Encoding,
    spellings: uri::Spellings,
    /// What the client asks and has no answer to, by a number of ours.
    asks: BTreeMap<u32, fan::Ask>,
    /// The same numbers by the client's ids.
    originals: HashMap<Id, u32>,
    /// Requests that wait for a server that is coming.
    held: VecDeque<fan::Held>,
    /// Requests to servers, by the id that they have there.
    sent: BTreeMap<u32, (Branch, Purpose)>,
    /// Requests to the client.
    asked_client: BTreeMap<u32, AskedClient>,
    last: u32,
    /// What servers say before the client has its answer to `initialize`.
    early: VecDeque<(Branch, Envelope)>,
    diagnostics: diagnostics::Diagnostics,
    pulls: pulls::Pulls,
    /// Documents whose diagnostics we have to pull, and when.
    to_pull: BTreeMap<(Branch, Arc<str>), Instant>,
    progress: progress::Progress,
    told: registrations::Told,
    watches: watch::Watches,
    /// Refreshes that the client is to be asked for, and when.
    refreshes: BTreeMap<String, Instant>,
    /// Documents whose whole text is to be sent, and when.
    texts: BTreeMap<(Branch, Arc<str>), Instant>,
    /// The answer that `shutdown` waits to be given, and until when.
    leaving: Option<(Id, Instant)>,
    routes: Vec<MergeRoute>,
}

impl Merge {
    /// A connection on which nothing has been said.
    pub fn new(options: MergeOptions) -> Merge {
        let children = options.children.iter().cloned().map(Child::new).collect();
        Merge {
            options,
            stage: Stage::Silent,
            greeting: greeting::Greeting::default(),
            children,
            mirror: Mirror::default(),
            client: Value::Null,
            advertised: Value::Null,
            encoding: Encoding::default(),
            spellings: uri::Spellings::default(),
            asks: BTreeMap::new(),
            originals: HashMap::new(),
            held: VecDeque::new(),
            sent: BTreeMap::new(),
            asked_client: BTreeMap::new(),
            last: 0,
            early: VecDeque::new(),
            diagnostics: diagnostics::Diagnostics::default(),
            pulls: pulls::Pulls::default(),
            to_pull: BTreeMap::new(),
            progress: progress::Progress::default(),
            told: registrations::Told::default(),
            watches: watch::Watches::default(),
            refreshes: BTreeMap::new(),
            texts: BTreeMap::new(),
            leaving: None,
            routes: Vec::new(),
        }
    }

    /// A message from the client.
    pub fn on_client(&mut self, envelope: Envelope, now: Instant) -> Vec<MergeRoute> {
        match &envelope.kind {
            Kind::Request { id, method } => self.client_request(&envelope, id, method, now),
            Kind::Notification { method } => self.client_notification(&envelope, method, now),
            Kind::Response { id } => self.client_response(&envelope, id, now),
        }
        std::mem::take(&mut self.routes)
    }

    /// A message that a server's link has for its client.
    pub fn on_child(
        &mut self,
        branch: Branch,
        envelope: Envelope,
        now: Instant,
    ) -> Vec<MergeRoute> {
        if (branch.0 as usize) < self.children.len() {
            self.child_message(branch, envelope, now);
        }
        std::mem::take(&mut self.routes)
    }

    /// A server has died. Its link fails what it was asked, takes its registrations back if the next life does not make them
    /// again, and says what it has to say when it is back; here goes what it has left behind (rule 4.14), and what it made is
    /// of no use to the next life.
    pub fn child_died(&mut self, branch: Branch, now: Instant) -> Vec<MergeRoute> {
        let Some(child) = self.children.get_mut(branch.0 as usize) else { return Vec::new() };
        child.epoch += 1;
        self.diagnostics.died(branch, now);
        self.pulls.died(branch);
        let show = self.progress.died(branch);
        self.show(show, now);
        self.publish(now);
        std::mem::take(&mut self.routes)
    }

    /// The request `tag` was taken out of the client's queue before it was written.
    pub fn withdrawn_from_client(&mut self, tag: u32) -> Vec<MergeRoute> {
        if let Some(asked) = self.asked_client.remove(&tag) {
            let error = ResponseError::new(codes::REQUEST_CANCELLED, "cancelled");
            self.settle(asked, |id| Envelope::error(id, &error));
        }
        std::mem::take(&mut self.routes)
    }

    /// What the client has told us.
    pub fn mirror(&self) -> &Mirror {
        &self.mirror
    }

    /// The same, to look at documents.
    pub fn mirror_mut(&mut self) -> &mut Mirror {
        &mut self.mirror
    }

    /// How many requests of the client have no answer.
    pub fn pending_len(&self) -> usize {
        self.asks.len() + self.held.len()
    }

    /// The names of the servers, by priority.
    pub fn names(&self) -> impl Iterator<Item = &str> {
        self.children.iter().map(Child::name)
    }

    fn child(&self, branch: Branch) -> &Child {
        &self.children[branch.0 as usize]
    }

    fn child_mut(&mut self, branch: Branch) -> &mut Child {
        &mut self.children[branch.0 as usize]
    }

    fn branches(&self) -> Vec<Branch> {
        (0..self.children.len() as u32).map(Branch).collect()
    }

    fn ready(&self) -> Vec<Branch> {
        branches(&self.children).filter(|(_, child)| child.is_ready()).map(|(b, _)| b).collect()
    }

    fn is_merged(&self) -> bool {
        self.children.len() > 1
    }

    /// The servers that have been greeted, as the pure functions see them.
    fn greeted(&self) -> (Vec<Branch>, Vec<Greeted<'_>>) {
        let mut all = (Vec::new(), Vec::new());
        for (branch, child) in branches(&self.children).filter(|(_, child)| child.is_ready()) {
            all.0.push(branch);
            all.1.push(Greeted {
                name: child.name(),
                capabilities: &child.capabilities,
                registrations: &child.registered,
            });
        }
        all
    }

    fn next_id(&mut self) -> u32 {
        loop {
            self.last = if self.last < i32::MAX as u32 { self.last + 1 } else { 1 };
            if !self.sent.contains_key(&self.last) && !self.asked_client.contains_key(&self.last) {
                return self.last;
            }
        }
    }

    fn send_child(&mut self, branch: Branch, envelope: Envelope) {
        self.routes.push(MergeRoute::Child(branch, envelope));
    }

    fn send_client(&mut self, envelope: Envelope) {
        self.lane(envelope, Lane::Keep);
    }

    fn lane(&mut self, envelope: Envelope, lane: Lane) {
        self.routes.push(MergeRoute::Client(Outbound { body: envelope.body, lane, tag: None }));
    }

    fn refuse(&mut self, id: Id, code: i64, message: &str) {
        self.send_client(Envelope::error(id, &ResponseError::new(code, message)));
    }

    /// A request to the client.
    fn ask_client(
        &mut self,
        method: &str,
        params: &impl serde::Serialize,
        what: Asked,
        deadline: Option<Instant>,
    ) {
        let ours = self.next_id();
        let body = Envelope::request(Id::number(ours), method, params).body;
        if !matches!(what, Asked::Nothing) {
            self.asked_client.insert(ours, AskedClient { what, method: method.into(), deadline });
        }
        self.routes.push(MergeRoute::Client(Outbound { body, lane: Lane::Keep, tag: Some(ours) }));
    }

    /// A message of ours for the user.
    fn tell(&mut self, kind: wire::lsp::MessageType, message: &str) {
        let params = serde_json::json!({ "type": kind, "message": message });
        self.send_client(Envelope::notification("window/showMessage", &params));
    }
}

/// JSON text as a value that is written as it is.
fn raw(json: &[u8]) -> Box<RawValue> {
    let text = String::from_utf8_lossy(json).into_owned();
    RawValue::from_string(text).unwrap_or_else(|_| RawValue::NULL.to_owned())
}

fn cancelled_error() -> ResponseError {
    ResponseError::new(codes::REQUEST_CANCELLED, "cancelled")
}

#[cfg(test)]
mod tests;
