//! A server that starts, dies and comes back.

use std::time::Instant;

use serde_json::{Value, json};
use wire::lsp::MessageType;
use wire::{Envelope, Id, Lane, codes};

use super::own::failed;
use super::{
    Link, Outbound, Reads, Route, ServerState, cancel, fail_client, is_client_initialize,
    to_client, to_server,
};
use crate::{ClientId, Mirror, Pending, is_read};

/// Requests that make an editor ask again for what a dead server had told it, and the capability under `workspace` that
/// says whether it can.
const REFRESHES: [(&str, &str); 5] = [
    ("workspace/diagnostic/refresh", "diagnostics"),
    ("workspace/semanticTokens/refresh", "semanticTokens"),
    ("workspace/inlayHint/refresh", "inlayHint"),
    ("workspace/codeLens/refresh", "codeLens"),
    ("workspace/foldingRange/refresh", "foldingRange"),
];

impl Link {
    /// A server process is there. The first one is given what was held; later ones are greeted in the client's name.
    pub fn on_server_up(&mut self, now: Instant) -> Vec<Route> {
        let greet = match self.state {
            ServerState::Starting => false,
            ServerState::Away => {
                self.greeting.params.is_some() && !self.is_initializing() && !self.is_shutdown()
            }
            ServerState::Running | ServerState::Greeting | ServerState::Stopped(_) => {
                return Vec::new();
            }
        };
        if greet {
            let ours = self.asked_server.insert(Pending::ours("initialize"));
            let request = ours.ok().and_then(|id| self.replay_initialize(Id::number(id)));
            if let Some(request) = request {
                self.state = ServerState::Greeting;
                return vec![to_server(request)];
            }
        }
        self.state = ServerState::Running;
        let mut routes = self.ask_again();
        routes.extend(self.release());
        routes.extend(self.barrier_on_up(now));
        routes
    }

    /// The server is gone: nobody is left waiting, nothing is left on the screen (rule 4.14). Call [`Link::on_server_up`]
    /// when it is back, or [`Link::give_up`].
    pub fn on_server_death(&mut self) -> Vec<Route> {
        if matches!(self.state, ServerState::Stopped(_)) {
            return Vec::new();
        }
        let mut routes = Vec::new();
        for (ours, pending) in self.asked_client.drain() {
            if pending.original.is_some() {
                routes.push(Route::WithdrawFromClient(pending.asked, ours, cancel(ours)));
            }
        }
        let held: Vec<u32> = self.held.iter().filter_map(|outbound| outbound.tag).collect();
        for (ours, pending) in self.asked_server.drain() {
            let asks = pending.body.is_some()
                && !pending.cancelled
                && (is_client_initialize(&pending) || self.options.reads == Reads::Retry);
            if held.contains(&ours) || asks || pending.joins {
                self.asked_server.put_back(ours, pending);
            } else {
                routes.extend(self.left_behind(ours, pending));
            }
        }
        routes.extend(self.clear_screen());
        routes.extend(self.barrier_on_gone(true));
        if self.state != ServerState::Starting {
            self.state = ServerState::Away;
        }
        routes
    }

    /// The server will not come back; `reason` is for the user, names the command, and says what to do.
    pub fn give_up(&mut self, reason: &str) -> Vec<Route> {
        let mut routes = Vec::new();
        let greeted = |id: &ClientId| {
            self.mirror(*id).is_some_and(|mirror| mirror.initialize_params().is_some())
        };
        if self.members.keys().any(greeted) && !self.is_shutdown() {
            routes.extend(self.tell(reason));
        }
        routes.extend(self.on_server_death());
        routes.extend(self.take_back_stale());
        self.state = ServerState::Stopped(reason.to_owned());
        routes.extend(self.barrier_on_gone(false));
        self.held.clear();
        self.held_bytes = 0;
        for (ours, pending) in self.asked_server.drain() {
            match pending.original {
                Some(id) => {
                    routes.push(fail_client(pending.asker, id, codes::REQUEST_FAILED, reason));
                }
                None if pending.awaited => {
                    routes.push(Route::Answered(ours, failed(ours, reason)));
                }
                None => {}
            }
        }
        routes
    }

    /// The fresh server has answered `initialize`: it is told what the old one knew, asked again what that one did not
    /// answer, and given what was held.
    pub(super) fn take_over(&mut self, now: Instant) -> Vec<Route> {
        self.state = ServerState::Running;
        let mut routes = self.replay();
        routes.extend(self.answer_joiners());
        self.registry.renewed(now);
        routes.extend(self.ask_again());
        routes.extend(self.release());
        for client in self.clients().collect::<Vec<_>>() {
            for method in self.refreshes(client) {
                routes.extend(self.ask_client(client, method, &Value::Null));
            }
        }
        routes
    }

    /// Shows the user a message, once.
    pub(super) fn tell(&mut self, reason: &str) -> Vec<Route> {
        if std::mem::replace(&mut self.told, true) {
            return Vec::new();
        }
        let params = json!({ "type": MessageType::ERROR, "message": reason });
        self.to_all(&Envelope::notification("window/showMessage", &params), &Lane::Keep)
    }

    /// The answer to a request that the dead server has not given.
    pub(super) fn left_behind(&self, ours: u32, pending: Pending) -> Option<Route> {
        let (client, server) = (pending.asker, &self.options.server);
        let Some(id) = pending.original else {
            let message = format!("{server} ended before it answered");
            return pending.awaited.then(|| Route::Answered(ours, failed(ours, &message)));
        };
        Some(match &*pending.method {
            "shutdown" => to_client(client, Envelope::response(id, &())),
            _ if pending.cancelled => {
                fail_client(client, id, codes::REQUEST_CANCELLED, "cancelled")
            }
            method if is_read(method) => {
                let message = format!("{server} is being restarted");
                fail_client(client, id, codes::CONTENT_MODIFIED, &message)
            }
            _ => {
                let message = format!("{server} ended before it answered");
                fail_client(client, id, codes::REQUEST_FAILED, &message)
            }
        })
    }

    /// Ends progress and clears diagnostics.
    fn clear_screen(&mut self) -> Vec<Route> {
        let mut routes = self.end_progress();
        self.registry.expire_later();
        for uri in self.tap.clear() {
            let params = json!({ "uri": &*uri, "diagnostics": [] });
            let envelope = Envelope::notification("textDocument/publishDiagnostics", &params);
            let lane = Lane::Latest(format!("d{uri}").into());
            routes.extend(self.to_all(&envelope, &lane));
        }
        routes
    }

    /// The same for a client that is split off.
    pub(super) fn clear_screen_of(&mut self, client: ClientId) -> Vec<Route> {
        let mut routes = self.end_progress_of(client);
        for uri in self.tap.shown() {
            let params = json!({ "uri": &*uri, "diagnostics": [] });
            let envelope = Envelope::notification("textDocument/publishDiagnostics", &params);
            let lane = Lane::Latest(format!("d{uri}").into());
            let body = envelope.body;
            routes.push(Route::Client(client, Outbound { body, lane, tag: None }));
        }
        routes
    }

    /// Takes back what the dead server had registered and no fresh one has made again.
    pub(super) fn take_back_stale(&mut self) -> Vec<Route> {
        let Some(params) = self.registry.take_stale().filter(|_| !self.is_shutdown()) else {
            return Vec::new();
        };
        let clients: Vec<ClientId> = self.clients().collect();
        let ask = |client| self.ask_client(client, "client/unregisterCapability", &params);
        clients.into_iter().filter_map(ask).collect()
    }

    /// What was kept to be asked again, oldest first, unless it is still held.
    fn ask_again(&mut self) -> Vec<Route> {
        let held: Vec<u32> = self.held.iter().filter_map(|outbound| outbound.tag).collect();
        let mut again: Vec<(u32, wire::Bytes)> = self
            .asked_server
            .entries()
            .filter(|(ours, _)| !held.contains(ours))
            .filter_map(|(ours, pending)| Some((ours, pending.body.clone()?)))
            .collect();
        again.sort_unstable_by_key(|(ours, _)| *ours);
        let route =
            |(ours, body)| Route::Server(Outbound { body, lane: Lane::Keep, tag: Some(ours) });
        again.into_iter().map(route).collect()
    }

    fn release(&mut self) -> Vec<Route> {
        self.held_bytes = 0;
        self.held.drain(..).map(Route::Server).collect()
    }

    fn refreshes(&self, client: ClientId) -> Vec<&'static str> {
        let params = self.mirror(client).and_then(Mirror::initialize_params);
        let params: Value = params.and_then(|raw| wire::parse(raw).ok()).unwrap_or_default();
        let workspace = &params["capabilities"]["workspace"];
        let able = |name: &str| workspace[name]["refreshSupport"] == Value::Bool(true);
        REFRESHES.iter().filter(|(_, name)| able(name)).map(|(method, _)| *method).collect()
    }
}
