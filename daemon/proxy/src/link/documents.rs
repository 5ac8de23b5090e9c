//! Documents that several clients have open (rule 4.30).
//!
//! The server sees a document once, in the words of its *owner*. The others hold it: their text is the same, and as soon
//! as it is not, they part. So a position, an edit or a diagnostic means the same to all of them; only versions differ.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Instant;

use serde_json::{Value, json};
use wire::{Envelope, Lane};

use super::{Link, Outbound, Route, ServerState, outbound, to_server};
use crate::mirror::Told;
use crate::{ClientId, Mirror, Published};

/// Sets of diagnostics by URI.
type Sets = Arc<HashMap<Arc<str>, Published>>;

/// Why clients part over a document.
const OTHER_TEXT: &str = "its text of a document is not that of the others";

impl Link {
    /// Whether there are several clients.
    pub(super) fn is_shared(&self) -> bool {
        self.members.len() > 1
    }

    /// A notification of one of several clients about a document.
    pub(super) fn shared_document(
        &mut self,
        client: ClientId,
        envelope: &Envelope,
        now: Instant,
    ) -> Vec<Route> {
        let Some(uri) = document(envelope) else {
            let told = self.listen(client, envelope);
            return self.pass_on(envelope, told, now);
        };
        let others = self.holders(&uri, client);
        match envelope.method().unwrap_or_default() {
            "textDocument/didOpen" | "notebookDocument/didOpen" => {
                self.shared_open(client, &uri, &others, envelope, now)
            }
            "textDocument/didChange" | "notebookDocument/didChange" => {
                self.shared_change(client, &others, envelope, now)
            }
            "textDocument/didClose" | "notebookDocument/didClose" => {
                let told = self.listen(client, envelope);
                match self.owners.get(&*uri) {
                    Some(owner) if *owner == client && others.is_empty() => {
                        self.owners.remove(&*uri);
                        self.pass_on(envelope, told, now)
                    }
                    Some(owner) if *owner == client => self.hand_over(&uri, client, now),
                    Some(_) => Vec::new(),
                    None => self.pass_on(envelope, told, now),
                }
            }
            _ => self.forward(envelope),
        }
    }

    fn shared_open(
        &mut self,
        client: ClientId,
        uri: &Arc<str>,
        others: &[ClientId],
        envelope: &Envelope,
        now: Instant,
    ) -> Vec<Route> {
        let told = self.listen(client, envelope);
        let Some(other) = others.first() else {
            self.owners.insert(Arc::clone(uri), client);
            return self.pass_on(envelope, told, now);
        };
        if self.agree(client, *other, uri) {
            return self.republish(client, uri).into_iter().collect();
        }
        if *other < client || others.iter().any(|other| !self.can_part(*other)) {
            return self.part(client, OTHER_TEXT, now);
        }
        // The last of the others hands the document over, which opens it with this client's text.
        others.iter().flat_map(|other| self.part(*other, OTHER_TEXT, now)).collect()
    }

    fn shared_change(
        &mut self,
        client: ClientId,
        others: &[ClientId],
        envelope: &Envelope,
        now: Instant,
    ) -> Vec<Route> {
        let Some(oldest) = others.first() else {
            let told = self.listen(client, envelope);
            return self.pass_on(envelope, told, now);
        };
        if *oldest < client {
            self.listen(client, envelope);
            return self.part(client, OTHER_TEXT, now);
        }
        // They part with the text as it was; the change comes after.
        let mut routes: Vec<Route> =
            others.iter().flat_map(|other| self.part(*other, OTHER_TEXT, now)).collect();
        let told = self.listen(client, envelope);
        routes.extend(self.pass_on(envelope, told, now));
        routes
    }

    /// The folders of one of several clients are others now: it gets a server of its own (rule 4.32).
    pub(super) fn shared_folders(
        &mut self,
        client: ClientId,
        envelope: &Envelope,
        now: Instant,
    ) -> Vec<Route> {
        self.listen(client, envelope);
        if self.can_part(client) {
            self.part(client, "its folders are not those of the others", now)
        } else {
            self.forward(envelope)
        }
    }

    /// The server need not know the documents of `client` any more: others that hold them take them over.
    pub(super) fn close_documents_of(&mut self, client: ClientId, now: Instant) -> Vec<Route> {
        let shared = self.is_shared();
        if !shared && !self.options.keep {
            return Vec::new();
        }
        let Some(member) = self.members.get(&client) else { return Vec::new() };
        let mut uris = member.mirror.held();
        uris.sort_unstable();
        if shared {
            uris.retain(|uri| self.owners.get(uri) == Some(&client));
        }
        uris.iter().flat_map(|uri| self.hand_over(uri, client, now)).collect()
    }

    /// A document is closed, and opened in the words of the oldest other client that holds it.
    fn hand_over(&mut self, uri: &Arc<str>, from: ClientId, now: Instant) -> Vec<Route> {
        let next = self.holders(uri, from).first().copied();
        match next {
            Some(next) => self.owners.insert(Arc::clone(uri), next),
            None => self.owners.remove(uri),
        };
        let mut after = self.barrier_on_client(Some(Told::Closed(Arc::clone(uri))), now);
        if let Some(revision) = next.and_then(|next| self.mirror(next)?.latest(uri)) {
            let told = Told::Opened(Arc::clone(uri), revision);
            after.extend(self.barrier_on_client(Some(told), now));
        }
        if self.state != ServerState::Running {
            // A fresh server will be told.
            return after;
        }
        let mut routes = vec![to_server(did_close(uri, self.is_notebook(uri, from, next)))];
        let open = next
            .and_then(|next| self.members.get_mut(&next))
            .map(|member| member.mirror.replay_documents(|other| other == &**uri));
        routes.extend(open.into_iter().flatten().map(to_server));
        routes.extend(after);
        routes
    }

    fn is_notebook(&self, uri: &str, from: ClientId, next: Option<ClientId>) -> bool {
        let notebook = |id: ClientId| self.mirror(id).is_some_and(|m| m.has_notebook(uri));
        notebook(from) || next.is_some_and(notebook)
    }

    /// The clients apart from `client` that have a document open, oldest first.
    fn holders(&self, uri: &str, client: ClientId) -> Vec<ClientId> {
        let holds = |id: &ClientId| {
            let mirror = self.mirror(*id).filter(|mirror| !mirror.is_shutdown());
            *id != client && mirror.is_some_and(|mirror| mirror.has(uri))
        };
        self.members.keys().copied().filter(holds).collect()
    }

    /// Whether two clients have the same text in a document.
    fn agree(&mut self, client: ClientId, other: ClientId, uri: &str) -> bool {
        // One is taken out so that both can be looked at.
        let Some(mut member) = self.members.remove(&client) else { return false };
        let other = self.members.get_mut(&other);
        let agree = other.is_some_and(|other| member.mirror.agrees(&mut other.mirror, uri));
        self.members.insert(client, member);
        agree
    }

    /// Whether a client can go on with a fresh server: it has been through the greeting.
    pub(super) fn can_part(&self, client: ClientId) -> bool {
        self.is_shared()
            && self.members.get(&client).is_some_and(|member| {
                member.mirror.is_initialized() && !member.mirror.is_shutdown()
            })
    }

    /// Lets the mirror of a client listen to what it says.
    pub(super) fn listen(&mut self, client: ClientId, envelope: &Envelope) -> Option<Told> {
        self.members.get_mut(&client)?.mirror.on_client(envelope)
    }

    /// Passes on what a client says of a document of its own.
    fn pass_on(&mut self, envelope: &Envelope, told: Option<Told>, now: Instant) -> Vec<Route> {
        let mut routes = self.forward(envelope);
        routes.extend(self.barrier_on_client(told, now));
        routes
    }

    /// The version of a document that `client` holds in its own words: `None` if it is the owner, or does not hold it.
    pub(super) fn own_version(&self, client: ClientId, uri: &str) -> Option<(i32, Option<i32>)> {
        let owner = *self.owners.get(uri).filter(|owner| **owner != client)?;
        let latest = |id| self.mirror(id)?.latest(uri).map(|revision| revision.0);
        Some((latest(client)?, latest(owner)))
    }

    /// Diagnostics of the server for every client, each with its own version of the document (rule 4.20).
    pub(super) fn publish(&self, uri: &str, envelope: &Envelope, lane: &Lane) -> Vec<Route> {
        let version = envelope.param("version").filter(|version| *version != b"null");
        let mut routes = Vec::new();
        for client in self.clients() {
            let body = match (version, self.own_version(client, uri)) {
                (Some(said), Some((own, owners))) => {
                    if owners.is_none_or(|owners| said != owners.to_string().as_bytes()) {
                        // It is about a text from before this client shared it.
                        continue;
                    }
                    envelope.with_param("version", own.to_string().as_bytes()).body
                }
                _ => envelope.body.clone(),
            };
            routes.push(Route::Client(client, Outbound { body, lane: lane.clone(), tag: None }));
        }
        routes
    }

    /// What the server has said about documents, pushed and pulled, with the versions that a client knows. Cheap for one that
    /// has the server to itself.
    pub fn said_to(&self, client: ClientId) -> (Sets, Sets) {
        let (mut pushed, mut pulled) = (self.tap.pushed(), self.tap.all_pulled());
        if self.is_shared() {
            let held = self.mirror(client).map(Mirror::held).unwrap_or_default();
            for (uri, (own, owners)) in
                held.iter().filter_map(|uri| Some((uri, self.own_version(client, uri)?)))
            {
                for sets in [&mut pushed, &mut pulled] {
                    let said = sets.get(uri).and_then(|set| set.version);
                    if said.is_none() {
                        continue;
                    }
                    let sets = Arc::make_mut(sets);
                    if said != owners {
                        // It is about a text from before this client shared it.
                        sets.remove(uri);
                    } else if let Some(set) = sets.get_mut(uri) {
                        set.version = Some(own);
                    }
                }
            }
        }
        (pushed, pulled)
    }

    /// What the server last said about a document, for a client that was not there.
    pub(super) fn republish(&self, client: ClientId, uri: &str) -> Option<Route> {
        let pushed = self.tap.pushed();
        let known = pushed.get(uri)?;
        let mut params = json!({ "uri": uri, "diagnostics": [] });
        let current = match (known.version, self.own_version(client, uri)) {
            (None, _) => true,
            (Some(said), Some((own, owners))) => {
                params["version"] = own.into();
                owners == Some(said)
            }
            (Some(_), None) => true,
        };
        let envelope = Envelope::notification("textDocument/publishDiagnostics", &params)
            .with_param("diagnostics", &known.diagnostics);
        let lane = Lane::Latest(format!("d{uri}").into());
        current.then(|| Route::Client(client, Outbound { lane, ..outbound(envelope) }))
    }

    /// Edits of versioned documents, on their way to a client that calls the versions otherwise: `None` if it does not.
    pub(super) fn with_own_versions(&self, client: ClientId, edits: &[u8]) -> Option<Value> {
        let mirror = self.mirror(client).filter(|_| self.is_shared())?;
        let differs = |uri: &Arc<str>| {
            self.own_version(client, uri).is_some_and(|(own, owners)| Some(own) != owners)
        };
        if !mirror.held().iter().any(differs) || !contains(edits, b"documentChanges") {
            return None;
        }
        let mut value: Value = wire::parse(edits).ok()?;
        self.translate(client, &mut value);
        Some(value)
    }

    fn translate(&self, client: ClientId, value: &mut Value) {
        match value {
            Value::Array(items) => items.iter_mut().for_each(|item| self.translate(client, item)),
            Value::Object(members) => {
                if members.contains_key("edits")
                    && let Some(document) = members.get_mut("textDocument")
                    && let Some(uri) = document["uri"].as_str()
                    && let Some((own, Some(owners))) = self.own_version(client, uri)
                    && document["version"] == owners
                {
                    document["version"] = own.into();
                }
                members.values_mut().for_each(|member| self.translate(client, member));
            }
            _ => {}
        }
    }
}

fn contains(text: &[u8], word: &[u8]) -> bool {
    text.windows(word.len()).any(|window| window == word)
}

fn did_close(uri: &str, notebook: bool) -> Envelope {
    if notebook {
        let params = json!({ "notebookDocument": { "uri": uri }, "cellTextDocuments": [] });
        return Envelope::notification("notebookDocument/didClose", &params);
    }
    let params = json!({ "textDocument": { "uri": uri } });
    Envelope::notification("textDocument/didClose", &params)
}

/// The document, or notebook, that a notification is about.
fn document(envelope: &Envelope) -> Option<Arc<str>> {
    #[derive(serde::Deserialize)]
    struct Document {
        uri: String,
    }
    let raw = envelope.param("textDocument").or_else(|| envelope.param("notebookDocument"))?;
    wire::parse::<Document>(raw).ok().map(|document| document.uri.into())
}
