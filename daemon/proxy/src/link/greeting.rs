//! What the server was greeted with, what it answered, and who may share that.

use std::time::Instant;

use serde_json::value::RawValue;
use serde_json::{Value, json};
use text::Encoding;
use wire::lsp::MessageType;
use wire::{Bytes, Envelope, Id, Lane};

use super::{Link, Outbound, RawParams, Route, ServerState, to_client, to_server};
use crate::{ClientId, Mirror, Pending};

/// The members of the parameters of `initialize` that say who a client is, and not what it wants.
const WHO: [&str; 4] = ["processId", "clientInfo", "workDoneToken", "trace"];

/// What the server knows of its clients, all of which would have said the same.
#[derive(Clone, Debug, Default)]
pub(super) struct Greeting {
    /// The parameters of `initialize`, as the client gave them.
    pub(super) params: Option<Bytes>,
    /// Whose they were.
    pub(super) by: ClientId,
    /// The result of `initialize`.
    pub(super) result: Option<Bytes>,
    /// Whether the server has been told `initialized`.
    pub(super) initialized: bool,
    /// The last `workspace/didChangeConfiguration`, whole.
    pub(super) settings: Option<Bytes>,
    /// Whether the clients were told that the server has come back another.
    pub(super) told_other: bool,
}

impl Link {
    /// Whether a client that says this in `initialize` can join: the server was, or is being, greeted alike, and has the
    /// folders that it was greeted with.
    pub fn welcomes(&self, params: &[u8]) -> bool {
        let over = matches!(self.state, ServerState::Stopped(_)) || self.is_shutdown();
        let moved = self.members.values().any(|member| member.mirror.has_moved());
        let greeting = self.greeting.params.as_ref().filter(|_| !over && !moved);
        greeting.is_some_and(|known| {
            // Nobody is there to ask again if the server dies before it answers.
            let alone = self.members.is_empty() && self.greeting.result.is_none();
            !alone && greets_alike(known, params)
        })
    }

    /// `initialize` of a client, under our id `ours`. `None`: it is answered without the server.
    pub(super) fn on_initialize(
        &mut self,
        client: ClientId,
        envelope: &Envelope,
        ours: u32,
    ) -> Option<Envelope> {
        if self.greeting.params.is_none() {
            self.greeting.params = Some(Bytes::copy_from_slice(envelope.params()));
            self.greeting.by = client;
        }
        if self.greeting.by == client {
            self.barrier.on_initialize(envelope.params());
            return Some(self.with_process_id(envelope));
        }
        if let Some(member) = self.members.get_mut(&client) {
            member.joined = true;
        }
        if let Some(pending) = self.asked_server.get_mut(ours) {
            pending.joins = true;
        }
        None
    }

    /// The answers to clients that wait for what the server has told, or tells, another.
    pub(super) fn answer_joiners(&mut self) -> Vec<Route> {
        let Some(result) = &self.greeting.result else { return Vec::new() };
        let result: Option<&RawValue> = serde_json::from_slice(result).ok();
        let joiners = self.asked_server.take_where(|pending| pending.joins);
        let answer = |(_, pending): (u32, Pending)| {
            let id = pending.original?;
            Some(to_client(pending.asker, Envelope::response(id, &result)))
        };
        joiners.into_iter().filter_map(answer).collect()
    }

    /// The server has answered the `initialize` of a client.
    pub(super) fn note_result(&mut self, result: &[u8]) {
        self.greeting.result = Some(Bytes::copy_from_slice(result));
        for member in self.members.values_mut() {
            member.mirror.on_initialize_result(result);
        }
    }

    /// The answer to the `initialize` with which we greeted a fresh server.
    pub(super) fn greeted(&mut self, envelope: &Envelope, now: Instant) -> Vec<Route> {
        if self.state != ServerState::Greeting {
            return Vec::new();
        }
        let name = &self.options.server;
        match envelope.outcome() {
            Ok(result) => {
                let mut routes = match self.differs(result) {
                    Ok(None) => Vec::new(),
                    Ok(Some(words)) => self.say_once(&words),
                    Err(reason) => return self.give_up(&reason),
                };
                self.barrier.on_capabilities(result);
                routes.extend(self.take_over(now));
                routes.extend(self.barrier_on_up(now));
                routes
            }
            Err(error) => {
                let reason = format!("{name} did not come back: {error}");
                self.give_up(&reason)
            }
        }
    }

    /// What a fresh server answers that the old one did not: words for the user, or the reason why it cannot be used.
    fn differs(&mut self, result: &[u8]) -> Result<Option<String>, String> {
        let Some(known) = self.greeting.result.clone() else {
            self.note_result(result);
            return Ok(None);
        };
        let (old, new) = (encoding(&known), encoding(result));
        let name = &self.options.server;
        if old != new {
            return Err(format!(
                "Demolish: {name} came back and counts positions in {}, not in {} as before; restart it in the \
                 editor, so that the two agree anew",
                new.as_lsp(),
                old.as_lsp(),
            ));
        }
        let capabilities = |raw: &[u8]| match wire::parse::<Value>(raw) {
            Ok(mut result) if result["capabilities"].is_object() => result["capabilities"].take(),
            _ => json!({}),
        };
        if capabilities(&known) == capabilities(result) {
            return Ok(None);
        }
        Ok(Some(format!(
            "Demolish: {name} came back with other capabilities than before; restart it in the editor to use them"
        )))
    }

    /// Tells the users something about the server, once in the life of the link.
    fn say_once(&mut self, words: &str) -> Vec<Route> {
        if std::mem::replace(&mut self.greeting.told_other, true) {
            return Vec::new();
        }
        let params = json!({ "type": MessageType::WARNING, "message": words });
        self.to_all(&Envelope::notification("window/showMessage", &params), &Lane::Keep)
    }

    /// The request that a fresh server is greeted with: the client's own parameters under the id `id`.
    pub(super) fn replay_initialize(&self, id: Id) -> Option<Envelope> {
        let params: &RawValue = serde_json::from_slice(self.greeting.params.as_ref()?).ok()?;
        let request = Envelope::request(id, "initialize", &params);
        Some(self.with_process_id(&request))
    }

    /// Servers end when the process that they are told has ended: that is ours, because the editor's may go while others
    /// still need the server (rule 4.15). Every other byte stays.
    fn with_process_id(&self, initialize: &Envelope) -> Envelope {
        let given = initialize.param("processId").is_some_and(|pid| pid != b"null");
        match self.options.process_id.filter(|_| given) {
            Some(pid) => initialize.with_param("processId", pid.to_string().as_bytes()),
            None => initialize.clone(),
        }
    }

    /// A client leaves whose `initialize` the server has not answered: the answer goes to one that waits for the same.
    pub(super) fn hand_over_greeting(&mut self, client: ClientId) -> Vec<Route> {
        let asked = |pending: &Pending| {
            pending.asker == client && !pending.joins && &*pending.method == "initialize"
        };
        let Some(ours) = self.asked_server.entries().find(|(_, p)| asked(p)).map(|(ours, _)| ours)
        else {
            return Vec::new();
        };
        let waits = |pending: &Pending| pending.joins && pending.asker != client;
        let next =
            self.asked_server.entries().filter(|(_, p)| waits(p)).map(|(ours, _)| ours).min();
        let Some(mut pending) = next.and_then(|next| self.asked_server.take(next)) else {
            if self.greeting.result.is_none() && !self.options.keep {
                self.greeting = Greeting::default();
            }
            return Vec::new();
        };
        let body = self.asked_server.take(ours).and_then(|old| old.body);
        self.greeting.by = pending.asker;
        if let Some(member) = self.members.get_mut(&pending.asker) {
            member.joined = false;
        }
        (pending.joins, pending.body) = (false, body);
        self.asked_server.put_back(ours, pending);
        Vec::new()
    }

    /// `initialized` of a client. The server is told once; a client that joined later is told what the others were.
    pub(super) fn on_initialized(
        &mut self,
        client: ClientId,
        envelope: &Envelope,
        now: Instant,
    ) -> Vec<Route> {
        let first = !std::mem::replace(&mut self.greeting.initialized, true);
        let joined = self.members.get(&client).is_some_and(|member| member.joined);
        let mut routes = Vec::new();
        if first || !joined {
            routes.extend(self.forward(envelope));
            routes.extend(self.barrier_on_up(now));
        }
        if joined {
            routes.extend(self.welcome(client));
        }
        routes
    }

    /// What a client that joined late has missed: registrations, progress, diagnostics.
    fn welcome(&mut self, client: ClientId) -> Vec<Route> {
        let mut routes = Vec::new();
        if let Some(params) = self.registry.replay() {
            routes.extend(self.ask_client(client, "client/registerCapability", &params));
        }
        for (token, begin) in self.progress.replay() {
            let params = RawParams::from([("token", token)]);
            routes.extend(self.ask_client(client, "window/workDoneProgress/create", &params));
            let body = begin.clone();
            routes.push(Route::Client(client, Outbound { body, lane: Lane::Keep, tag: None }));
        }
        let mut uris: Vec<_> = self.tap.pushed().keys().cloned().collect();
        uris.sort_unstable();
        for uri in uris {
            routes.extend(self.republish(client, &uri));
        }
        routes
    }

    /// Other settings of one of several clients: the oldest one's hold, another one's hold if nobody has given any, and
    /// whoever wants others gets a server of its own.
    pub(super) fn on_settings(
        &mut self,
        client: ClientId,
        envelope: &Envelope,
        now: Instant,
    ) -> Vec<Route> {
        let known = self.greeting.settings.as_ref();
        let known = known.and_then(|body| Envelope::read(body.clone()).ok());
        let same =
            known.as_ref().is_some_and(|known| same_value(known.params(), envelope.params()));
        if same && self.is_shared() {
            return Vec::new();
        }
        if known.is_some() && self.lead() != Some(client) && self.can_part(client) {
            return self.part(client, "its settings are not those of the others", now);
        }
        self.greeting.settings = Some(Bytes::copy_from_slice(&envelope.body));
        self.forward(envelope)
    }

    /// The messages that bring a fresh server, once it has answered `initialize`, to the state of the old one.
    pub(super) fn replay(&mut self) -> Vec<Route> {
        let mut routes = Vec::new();
        if self.greeting.initialized {
            routes.push(to_server(Envelope::notification("initialized", &json!({}))));
        }
        let lead = self.lead().and_then(|lead| self.members.get(&lead));
        let state = lead.map(|lead| lead.mirror.replay_state(self.greeting.settings.as_ref()));
        routes.extend(state.into_iter().flatten().map(to_server));
        let (shared, owners) = (self.is_shared(), &self.owners);
        for (id, member) in &mut self.members {
            let of = |uri: &str| !shared || owners.get(uri) == Some(id);
            routes.extend(member.mirror.replay_documents(of).into_iter().map(to_server));
        }
        routes
    }
}

/// Whether two JSON texts say the same: editors write the members of an object in any order.
fn same_value(one: &[u8], other: &[u8]) -> bool {
    let read = |raw: &[u8]| wire::parse::<Value>(raw).ok();
    one == other || read(one).is_some_and(|one| read(other) == Some(one))
}

/// Whether two clients want the same of a server.
fn greets_alike(one: &[u8], other: &[u8]) -> bool {
    let read = |raw: &[u8]| -> Option<Value> {
        let mut value: Value = wire::parse(raw).ok()?;
        let object = value.as_object_mut()?;
        for name in WHO {
            object.remove(name);
        }
        Some(value)
    };
    read(one).is_some_and(|one| read(other) == Some(one))
}

fn encoding(result: &[u8]) -> Encoding {
    let mut mirror = Mirror::default();
    mirror.on_initialize_result(result);
    mirror.encoding()
}
