//! Leases of the user's servers: whoever has a candidate asks through a [`Leaser`], the loop answers (rule 4.34).
//!
//! The [`proxy::Lease`] of an instance stands between its link and its server; here its steps become messages and answers. What it
//! sends goes straight into the server's queue, past itself.

use std::collections::HashMap;
use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use proxy::{Ground, Lease, Link, Manner, Outbound, Question, Refusal, Route, Said, Step};
use serde_json::Value as Json;
use text::{Document, Encoding};
use tokio::sync::{mpsc, oneshot};
use wire::Envelope;

use super::routes;
use crate::main_loop::Event;
use crate::state::{Instance, InstanceId, State};

/// What is found of a candidate, and how positions are counted in it.
pub type Found = Result<(Said, Encoding), Refusal>;

/// The way from a task to the lease of one server.
#[derive(Clone)]
pub struct Leaser {
    instance: InstanceId,
    inbox: mpsc::Sender<Event>,
}

/// What the loop is told.
#[derive(Debug)]
pub enum Wish {
    /// Somebody asks about a candidate.
    Ask {
        /// The instance.
        instance: InstanceId,
        /// The number of the question.
        number: u64,
        /// The document, as its client spells it.
        uri: Arc<str>,
        /// The candidate.
        text: Arc<str>,
        /// How long the asker waits.
        patience: Duration,
        /// Where the answer goes.
        reply: oneshot::Sender<Found>,
    },
    /// Whoever asked is gone.
    Forget(InstanceId, u64),
}

/// The lease of an instance, and who waits for it.
#[derive(Default)]
pub(crate) struct Leased {
    lease: Lease,
    askers: HashMap<u64, (oneshot::Sender<Found>, Encoding)>,
}

impl Leaser {
    pub(crate) fn new(instance: InstanceId, inbox: mpsc::Sender<Event>) -> Leaser {
        Leaser { instance, inbox }
    }

    /// What the server says of `text` in place of the document's. Dropping the future takes the candidate back.
    ///
    /// # Errors
    /// There is no answer, and why.
    pub async fn ask(&self, uri: &str, text: Arc<str>, patience: Duration) -> Found {
        static LAST: AtomicU64 = AtomicU64::new(0);
        let number = LAST.fetch_add(1, Ordering::Relaxed) + 1;
        let (reply, answer) = oneshot::channel();
        let (instance, uri) = (self.instance, uri.into());
        let wish = Wish::Ask { instance, number, uri, text, patience, reply };
        self.inbox.send(Event::Lease(Box::new(wish))).await.map_err(|_| Refusal::Died)?;
        let mut asked = Asked { leaser: self, number, answered: false };
        let found = answer.await.unwrap_or(Err(Refusal::Died));
        asked.answered = true;
        found
    }
}

impl fmt::Debug for Leaser {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Leaser({})", self.instance.0)
    }
}

/// Tells the loop when the asker goes before the answer comes.
struct Asked<'l> {
    leaser: &'l Leaser,
    number: u64,
    answered: bool,
}

impl Drop for Asked<'_> {
    fn drop(&mut self) {
        if !self.answered {
            let wish = Wish::Forget(self.leaser.instance, self.number);
            // If there is no room, the deadline takes the candidate back.
            let _ = self.leaser.inbox.try_send(Event::Lease(Box::new(wish)));
        }
    }
}

/// Somebody wishes something of a lease.
pub fn wished(state: &mut State, wish: Wish, now: Instant) {
    match wish {
        Wish::Ask { instance: id, number, uri, text, patience, reply } => {
            let Some(instance) = state.instances.get_mut(&id) else { return };
            let Some((manner, encoding)) = manner(instance) else {
                let why = "the server cannot be taken at its word about one version";
                let _ = reply.send(Err(Refusal::Failed(why.to_owned())));
                return;
            };
            instance.leased.askers.insert(number, (reply, encoding));
            let question = Question { number, uri, text, manner, deadline: now + patience };
            let steps = instance.leased.lease.ask(question).into_iter().collect();
            let routes = walk(instance, steps, now);
            super::wrap::pass(state, id, routes, now);
            look(state, id, now);
        }
        Wish::Forget(id, number) => {
            let Some(instance) = state.instances.get_mut(&id) else { return };
            instance.leased.askers.remove(&number);
            let steps = instance.leased.lease.forget(number, now);
            let routes = walk(instance, steps, now);
            super::wrap::pass(state, id, routes, now);
        }
    }
}

/// A message on its way to the server: what has to go before it goes, and it is counted as the server counts.
pub(crate) fn to_server(
    instance: &mut Instance,
    message: Outbound,
    now: Instant,
) -> Option<Outbound> {
    let mut steps = instance.leased.lease.to_server(message, now);
    let Some(Step::Server(message)) = steps.pop() else { return None };
    // Nothing of this is for the link: what a client pre-empts is between the lease and the server.
    walk(instance, steps, now);
    Some(message)
}

/// A message of the server: what the clients get to see of it.
pub(crate) fn from_server(instance: &mut Instance, envelope: Envelope, now: Instant) -> Vec<Route> {
    let steps = instance.leased.lease.from_server(envelope, instance.link.tap(), now);
    walk(instance, steps, now)
}

/// The server is gone.
pub(crate) fn died(instance: &mut Instance, now: Instant) {
    let steps = instance.leased.lease.died();
    walk(instance, steps, now);
}

/// When something is due.
pub(crate) fn next_deadline(instance: &Instance) -> Option<Instant> {
    instance.leased.lease.next_deadline()
}

/// Does what is due.
pub(crate) fn look(state: &mut State, id: InstanceId, now: Instant) {
    let Some(instance) = state.instances.get_mut(&id) else { return };
    if instance.leased.lease.next_deadline().is_none() {
        return;
    }
    let quiet = instance.server.is_some() && instance.link.is_quiet(now);
    let manner = instance.leased.lease.is_waiting().then(|| manner(instance)).flatten();
    let manner = manner.as_ref().map(|(manner, _)| manner);
    let documents: Vec<_> = instance
        .link
        .clients()
        .collect::<Vec<_>>()
        .into_iter()
        .filter_map(|client| instance.link.mirror_mut(client).map(proxy::Mirror::documents))
        .collect();
    let document = |uri: &str| -> Option<(Document, Encoding)> {
        let mut open = documents.iter().filter_map(|documents| documents.get(uri));
        let only = open.next().filter(|_| open.next().is_none())?;
        Some((only.document.clone(), only.encoding))
    };
    let ground = Ground { quiet, manner, document: &document, tap: instance.link.tap() };
    let steps = instance.leased.lease.look(ground, now);
    let routes = walk(instance, steps, now);
    super::wrap::pass(state, id, routes, now);
}

/// Does what the steps say; gives the routes of what goes on to the clients.
fn walk(instance: &mut Instance, steps: Vec<Step>, now: Instant) -> Vec<Route> {
    let mut out = Vec::new();
    for step in steps {
        match step {
            Step::Server(message) => {
                if let Some(server) = &instance.server {
                    // A queue that is full is found full by the next message of a client too, who is told.
                    let _ = routes::queue(&server.peer, [], message);
                }
            }
            Step::Link(envelope) => out.extend(instance.link.on_server(envelope, now)),
            Step::Answer(number, result) => {
                if let Some((reply, encoding)) = instance.leased.askers.remove(&number) {
                    let _ = reply.send(result.map(|said| (said, encoding)));
                }
            }
        }
    }
    out
}

/// How the server of an instance is asked; `None` if its word about one version cannot be had.
fn manner(instance: &Instance) -> Option<(Manner, Encoding)> {
    let (_, server) = lang::server_for(&instance.command)?;
    let mirror = instance.link.clients().find_map(|client| instance.link.mirror(client))?;
    let capabilities: Json =
        mirror.capabilities().and_then(|raw| wire::parse(raw).ok()).unwrap_or_default();
    let pull = pulls(&instance.link, &capabilities);
    if !server.leases() || !(pull || server.publishes_versions()) {
        return None;
    }
    let sync = &capabilities["textDocumentSync"];
    let offers = |name: &str| !capabilities[name].is_null() && capabilities[name] != false;
    let barrier =
        server.barrier().filter(|barrier| barrier.in_order).filter(|barrier| {
            match barrier.method.as_str() {
                "textDocument/documentSymbol" => offers("documentSymbolProvider"),
                "textDocument/foldingRange" => offers("foldingRangeProvider"),
                _ => false,
            }
        });
    let manner = Manner {
        pull,
        barrier: barrier.map(|barrier| barrier.method.as_str().into()),
        debounce: Duration::from_millis(server.debounce_ms().into()),
        did_change: server.twin().did_change.clone(),
        incremental: sync["change"].as_u64().or(sync.as_u64()) == Some(2),
    };
    Some((manner, mirror.encoding()))
}

fn pulls(link: &Link, capabilities: &Json) -> bool {
    capabilities["diagnosticProvider"].is_object() || link.has_registered("textDocument/diagnostic")
}
