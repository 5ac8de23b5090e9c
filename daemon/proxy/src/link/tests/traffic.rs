//! Random traffic of several clients, with servers that die and clients that are split off: whatever happens, every request
//! gets one answer, every server has the texts of its clients, and nothing that a client says is overtaken.

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use super::*;

const CLIENTS: u32 = 3;
const URIS: [&str; 3] = ["u0", "u1", "u2"];
/// Versions of a client end in its number, so that a version tells whose it is.
const VERSION_STEP: i32 = 10;

#[derive(Clone, Debug)]
enum Step {
    Enter(u32),
    Leave(u32),
    Quit(u32),
    Open(u32, usize, u8),
    Change(u32, usize, bool),
    Close(u32, usize),
    Ask(u32, bool),
    Cancel(u32),
    Note(u32),
    Answer(usize, usize),
    Publish(usize, usize),
    Create(usize),
    Die(usize),
    Up(usize),
    Wait(u16),
}

fn step() -> impl Strategy<Value = Step> {
    let client = 1..=CLIENTS;
    let (uri, link) = (0..URIS.len(), 0usize..8);
    prop_oneof![
        4 => client.clone().prop_map(Step::Enter),
        1 => client.clone().prop_map(Step::Leave),
        1 => client.clone().prop_map(Step::Quit),
        6 => (client.clone(), uri.clone(), 0u8..3).prop_map(|(c, u, t)| Step::Open(c, u, t)),
        4 => (client.clone(), uri.clone(), any::<bool>()).prop_map(|(c, u, w)| Step::Change(c, u, w)),
        2 => (client.clone(), uri.clone()).prop_map(|(c, u)| Step::Close(c, u)),
        6 => (client.clone(), any::<bool>()).prop_map(|(c, read)| Step::Ask(c, read)),
        2 => client.clone().prop_map(Step::Cancel),
        3 => client.prop_map(Step::Note),
        9 => (link.clone(), 0usize..9).prop_map(|(l, n)| Step::Answer(l, n)),
        3 => (link.clone(), uri).prop_map(|(l, u)| Step::Publish(l, u)),
        1 => link.clone().prop_map(Step::Create),
        1 => link.clone().prop_map(Step::Die),
        3 => link.prop_map(Step::Up),
        1 => (0u16..1500).prop_map(Step::Wait),
    ]
}

/// A client as its user sees it.
#[derive(Default)]
struct Client {
    /// Its number at links; who comes again is another client.
    number: ClientId,
    link: usize,
    ready: bool,
    documents: BTreeMap<&'static str, (i32, String)>,
    version: i32,
    asked: u32,
    answers: BTreeMap<u32, u32>,
    notes: u32,
}

/// A server that does what it is told.
#[derive(Default)]
struct Server {
    up: bool,
    documents: BTreeMap<String, (i32, String)>,
    pending: Vec<(u32, String)>,
    heard: BTreeMap<u32, u64>,
    asked: u32,
}

struct World {
    now: Instant,
    clients: BTreeMap<u32, Client>,
    links: Vec<(Link, Server)>,
    /// Answers of clients that are on their way.
    answers: VecDeque<(u32, Value)>,
    reads: Reads,
    entered: u32,
}

impl World {
    /// Which client a link means.
    fn who(&self, number: ClientId) -> Option<u32> {
        self.clients.iter().find(|(_, client)| client.number == number).map(|(id, _)| *id)
    }

    fn apply(&mut self, at: usize, routes: Vec<Route>) {
        for route in routes {
            match route {
                Route::Client(client, message) | Route::WithdrawFromClient(client, _, message) => {
                    if let Some(id) = self.who(client) {
                        self.hear(id, &message);
                    }
                }
                Route::Server(message) => self.links[at].1.hear(&message),
                Route::WithdrawFromServer(tag, otherwise) => {
                    let (link, server) = &mut self.links[at];
                    let queued = server.pending.iter().position(|(id, _)| *id == tag);
                    if let Some(queued) = queued.filter(|_| tag.is_multiple_of(2)) {
                        server.pending.remove(queued);
                        let routes = link.withdrawn_from_server(tag);
                        self.apply(at, routes);
                    } else {
                        server.hear(&otherwise);
                    }
                }
                Route::Parted(client) => {
                    let parted = self.links[at].0.take_parted(client).unwrap();
                    let options = LinkOptions::new("ls", self.reads);
                    let link = Link::of_parted(options, parted, self.now);
                    self.links.push((link, Server::default()));
                    let id = self.who(client).unwrap();
                    self.clients.get_mut(&id).unwrap().link = self.links.len() - 1;
                }
                route => panic!("{route:?}"),
            }
        }
    }

    /// What a client is told.
    fn hear(&mut self, id: u32, message: &Outbound) {
        let Some(client) = self.clients.get_mut(&id) else { return };
        let envelope = Envelope::read(message.body.clone()).unwrap();
        match &envelope.kind {
            Kind::Response { id } if id.raw() == "\"i\"" => {
                client.ready = envelope.outcome().is_ok()
            }
            Kind::Response { id } => *client.answers.entry(id.as_u32().unwrap()).or_default() += 1,
            Kind::Request { id: asked, .. } => {
                let id_raw: Value = serde_json::from_str(asked.raw()).unwrap();
                self.answers.push_back((id, json!({ "id": id_raw, "result": null })));
            }
            Kind::Notification { method } if *method == "textDocument/publishDiagnostics" => {
                let params: Value = envelope.params_as().unwrap();
                let open = client.documents.contains_key(params["uri"].as_str().unwrap());
                if let Some(version) = params["version"].as_i64().filter(|_| open) {
                    assert_eq!(version % i64::from(VERSION_STEP), i64::from(id), "whose version?");
                }
            }
            Kind::Notification { .. } => {}
        }
    }

    fn say(&mut self, id: u32, message: Value) {
        let Some(client) = self.clients.get(&id) else { return };
        let (at, number) = (client.link, client.number);
        let envelope = Envelope::read(message.to_string().into()).unwrap();
        let routes = self.links[at].0.on_client(number, envelope, self.now);
        self.apply(at, routes);
    }

    fn notify(&mut self, id: u32, method: &str, params: Value) {
        self.say(id, json!({ "method": method, "params": params }));
    }

    /// A client that may speak.
    fn ready(&mut self, id: u32) -> Option<&mut Client> {
        self.clients.get_mut(&id).filter(|client| client.ready)
    }

    fn enter(&mut self, id: u32) {
        if self.clients.contains_key(&id) {
            return;
        }
        let params = json!({ "processId": id, "capabilities": {} });
        let raw = params.to_string();
        let found = self.links.iter().position(|(link, _)| link.welcomes(raw.as_bytes()));
        let at = found.unwrap_or_else(|| {
            let link = Link::new(LinkOptions::new("ls", self.reads));
            self.links.push((link, Server::default()));
            self.links.len() - 1
        });
        self.entered += 1;
        let (number, version) = (ClientId(self.entered), id as i32);
        self.links[at].0.join(number);
        self.clients.insert(id, Client { number, link: at, version, ..Client::default() });
        self.say(id, json!({ "id": "i", "method": "initialize", "params": params }));
    }

    fn leave(&mut self, id: u32, politely: bool) {
        let Some(client) = self.clients.get(&id) else { return };
        let (at, number) = (client.link, client.number);
        if politely && client.ready && self.links[at].0.outlives(number) {
            self.say(id, json!({ "id": 0, "method": "shutdown" }));
            self.notify(id, "exit", Value::Null);
        }
        let routes = self.links[at].0.leave(number, self.now);
        self.clients.remove(&id);
        self.apply(at, routes);
        if self.links[at].0.clients().next().is_none() {
            // The process goes with its last client.
            self.links[at] = (Link::new(LinkOptions::new("ls", self.reads)), Server::default());
            self.links[at].0.give_up("gone");
        }
    }

    fn take(&mut self, step: &Step) {
        match *step {
            Step::Enter(id) => self.enter(id),
            Step::Leave(id) => self.leave(id, false),
            Step::Quit(id) => self.leave(id, true),
            Step::Open(id, uri, text) => {
                let Some(client) = self.ready(id) else { return };
                if client.documents.contains_key(URIS[uri]) {
                    return;
                }
                client.version += VERSION_STEP;
                let (version, text) = (client.version, format!("text {}\n", text / 2));
                client.documents.insert(URIS[uri], (version, text.clone()));
                let item = json!({ "uri": URIS[uri], "languageId": "x", "version": version, "text": text });
                self.notify(id, "textDocument/didOpen", json!({ "textDocument": item }));
            }
            Step::Change(id, uri, whole) => {
                let Some(client) = self.ready(id) else { return };
                let version = client.version + VERSION_STEP;
                let Some(document) = client.documents.get_mut(URIS[uri]) else { return };
                let change = if whole {
                    *document = (version, format!("{version}\n"));
                    json!({ "text": document.1 })
                } else {
                    *document = (version, format!("{version} {}", document.1));
                    let start = json!({ "line": 0, "character": 0 });
                    json!({ "range": { "start": start, "end": start }, "text": format!("{version} ") })
                };
                client.version = version;
                let item = json!({ "uri": URIS[uri], "version": version });
                let params = json!({ "textDocument": item, "contentChanges": [change] });
                self.notify(id, "textDocument/didChange", params);
            }
            Step::Close(id, uri) => {
                let Some(client) = self.ready(id) else { return };
                if client.documents.remove(URIS[uri]).is_some() {
                    let params = json!({ "textDocument": { "uri": URIS[uri] } });
                    self.notify(id, "textDocument/didClose", params);
                }
            }
            Step::Ask(id, read) => {
                let Some(client) = self.ready(id) else { return };
                client.asked += 1;
                let method = if read { "textDocument/hover" } else { "workspace/executeCommand" };
                let params = json!({ "workDoneToken": 1 });
                let request = json!({ "id": client.asked, "method": method, "params": params });
                self.say(id, request);
            }
            Step::Cancel(id) => {
                let Some(client) = self.ready(id) else { return };
                let asked = client.asked;
                self.notify(id, "$/cancelRequest", json!({ "id": asked }));
            }
            Step::Note(id) => {
                let Some(client) = self.ready(id) else { return };
                client.notes += 1;
                let params = json!({ "client": client.number.0, "number": client.notes });
                self.notify(id, "custom/note", params);
            }
            _ => self.take_of_server(step),
        }
    }

    fn take_of_server(&mut self, step: &Step) {
        let (Step::Answer(link, _)
        | Step::Publish(link, _)
        | Step::Create(link)
        | Step::Die(link)
        | Step::Up(link)) = *step
        else {
            if let Step::Wait(ms) = *step {
                self.now += Duration::from_millis(ms.into());
                for at in 0..self.links.len() {
                    let routes = self.links[at].0.expire(self.now);
                    self.apply(at, routes);
                }
            }
            return;
        };
        if self.links.is_empty() {
            return;
        }
        let at = link % self.links.len();
        let up = self.links[at].1.up;
        match *step {
            Step::Answer(_, n) if up => self.answer(at, n),
            Step::Publish(_, uri) if up => {
                let Some((version, _)) = self.links[at].1.documents.get(URIS[uri]) else { return };
                let params = json!({ "uri": URIS[uri], "version": version, "diagnostics": [{}] });
                self.server_says(
                    at,
                    json!({ "method": "textDocument/publishDiagnostics", "params": params }),
                );
            }
            Step::Create(_) if up && self.links[at].1.greeted() => {
                self.links[at].1.asked += 1;
                let asked = self.links[at].1.asked;
                let registrations = json!([{ "id": format!("r{asked}"), "method": "m" }]);
                let params = json!({ "registrations": registrations });
                let request =
                    json!({ "id": asked, "method": "client/registerCapability", "params": params });
                self.server_says(at, request);
            }
            Step::Die(_) if up => {
                self.links[at].1 = Server::default();
                let routes = self.links[at].0.on_server_death();
                self.apply(at, routes);
            }
            Step::Up(_) => self.up(at),
            _ => {}
        }
    }

    fn up(&mut self, at: usize) {
        let stopped = matches!(self.links[at].0.state(), ServerState::Stopped(_));
        if !self.links[at].1.up && !stopped {
            self.links[at].1.up = true;
            let routes = self.links[at].0.on_server_up(self.now);
            self.apply(at, routes);
        }
    }

    fn answer(&mut self, at: usize, n: usize) {
        let pending = &mut self.links[at].1.pending;
        if !pending.is_empty() {
            let (id, method) = pending.remove(n % pending.len());
            let result =
                if method == "initialize" { json!({ "capabilities": {} }) } else { json!(1) };
            self.server_says(at, json!({ "id": id, "result": result }));
        }
    }

    fn server_says(&mut self, at: usize, message: Value) {
        let envelope = Envelope::read(message.to_string().into()).unwrap();
        let routes = self.links[at].0.on_server(envelope, self.now);
        self.apply(at, routes);
    }

    /// What clients do by themselves: they answer, and they say `initialized` when they may.
    fn settle(&mut self, initialized: &mut BTreeSet<u32>) {
        while let Some((id, answer)) = self.answers.pop_front() {
            self.say(id, answer);
        }
        initialized.retain(|id| self.clients.contains_key(id));
        let new: Vec<u32> = (1..=CLIENTS)
            .filter(|id| !initialized.contains(id) && self.ready(*id).is_some())
            .collect();
        for id in new {
            initialized.insert(id);
            self.notify(id, "initialized", json!({}));
        }
    }

    /// Every server that is there has the texts of its clients, and no others.
    fn check(&self) {
        for (at, (link, server)) in self.links.iter().enumerate() {
            if *link.state() != ServerState::Running || !link.is_initialized() {
                continue;
            }
            let mut expected: BTreeMap<String, String> = BTreeMap::new();
            for client in self.clients.values().filter(|client| client.link == at) {
                for (uri, (_, text)) in &client.documents {
                    let earlier = expected.insert((*uri).to_owned(), text.clone());
                    assert!(earlier.is_none_or(|earlier| earlier == *text), "they differ in {uri}");
                }
            }
            let texts = server.documents.iter().map(|(uri, (_, text))| (uri.clone(), text.clone()));
            assert_eq!(texts.collect::<BTreeMap<_, _>>(), expected, "link {at}");
        }
    }
}

impl Server {
    fn greeted(&self) -> bool {
        self.pending.iter().all(|(_, method)| method != "initialize")
    }

    fn hear(&mut self, message: &Outbound) {
        if !self.up {
            return;
        }
        let envelope = Envelope::read(message.body.clone()).unwrap();
        let params: Value = envelope.params_as().unwrap_or_default();
        let document = &params["textDocument"];
        let uri = document["uri"].as_str().unwrap_or_default().to_owned();
        let version = document["version"].as_i64().unwrap_or_default() as i32;
        match &envelope.kind {
            Kind::Request { id, method } => {
                self.pending.push((id.as_u32().unwrap(), method.to_string()));
            }
            Kind::Response { .. } => {}
            Kind::Notification { method } => match &**method {
                "textDocument/didOpen" => {
                    let text = document["text"].as_str().unwrap().to_owned();
                    assert!(self.documents.insert(uri, (version, text)).is_none(), "opened twice");
                }
                "textDocument/didClose" => {
                    assert!(self.documents.remove(&uri).is_some(), "closed without being open");
                }
                "textDocument/didChange" => {
                    let (last, text) = self.documents.get_mut(&uri).expect("an open document");
                    assert!(version > *last, "versions grow");
                    *last = version;
                    let change = &params["contentChanges"][0];
                    let new = change["text"].as_str().unwrap();
                    *text = if change["range"].is_null() {
                        new.to_owned()
                    } else {
                        format!("{new}{text}")
                    };
                }
                "custom/note" => {
                    let client = params["client"].as_u64().unwrap() as u32;
                    let number = params["number"].as_u64().unwrap();
                    let last = self.heard.insert(client, number).unwrap_or_default();
                    assert!(number > last, "overtaken");
                }
                _ => {}
            },
        }
    }
}

/// A client that has left and come again starts anew, so that only those who are there are looked at.
fn check(steps: &[Step], reads: Reads) {
    let mut world = World {
        now: Instant::now(),
        clients: BTreeMap::new(),
        links: Vec::new(),
        answers: VecDeque::new(),
        reads,
        entered: 0,
    };
    let mut initialized = BTreeSet::new();
    for step in steps {
        world.take(step);
        world.settle(&mut initialized);
        world.check();
    }
    // Everything comes back, and is answered.
    for _ in 0..3 {
        for at in 0..world.links.len() {
            world.up(at);
            while !world.links[at].1.pending.is_empty() {
                world.answer(at, 0);
                world.settle(&mut initialized);
            }
        }
    }
    world.check();
    for client in world.clients.values() {
        let (link, server) = &world.links[client.link];
        assert!(*link.state() == ServerState::Running && server.up, "{:?}", link.state());
    }
    for at in 0..world.links.len() {
        let routes = world.links[at].0.give_up("the end");
        world.apply(at, routes);
    }
    for (id, client) in &world.clients {
        let answered: Vec<u32> = client.answers.keys().copied().filter(|id| *id > 0).collect();
        assert_eq!(answered, (1..=client.asked).collect::<Vec<_>>(), "client {id}");
        assert!(
            client.answers.values().all(|count| *count == 1),
            "client {id}: {:?}",
            client.answers
        );
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 512, ..ProptestConfig::default() })]
    #[test]
    fn rule_4_30_whatever_happens_texts_answers_and_order_are_right(
        steps in proptest::collection::vec(step(), 0..120),
        retry in any::<bool>(),
    ) {
        check(&steps, if retry { Reads::Retry } else { Reads::Fail });
    }
}
