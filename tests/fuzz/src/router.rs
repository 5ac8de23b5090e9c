//! The router under arbitrary sequences of messages, lives of the server and comings and goings of clients: nobody panics, and
//! every request gets exactly one answer (rules 4.5, 4.14 and 4.17).

use std::collections::{HashMap, HashSet};
use std::time::{Duration, Instant};

use proxy::verdict::{Ask, AskForm, Habits, Ready, Ticket};
use proxy::{ClientId, Link, LinkOptions, Reads, Route, ServerState};
use wire::lsp::MessageType;
use wire::{Bytes, Envelope, Id, Kind};

use super::input::Input;
use super::merger::CAPABILITIES;

pub const IDS: &[&str] = &["1", "2", "\"1\"", "null", "-7", "1.5e3", "9000000000", "\"\\u00e9\""];
pub const REQUESTS: &[&str] = &[
    "textDocument/hover",
    "textDocument/rename",
    "workspace/executeCommand",
    "textDocument/diagnostic",
    "workspace/diagnostic",
    "initialize",
    "shutdown",
    "custom/method",
];
pub const NOTES: &[&str] = &[
    "textDocument/didOpen",
    "textDocument/didChange",
    "textDocument/didClose",
    "textDocument/didSave",
    "initialized",
    "workspace/didChangeConfiguration",
    "workspace/didChangeWorkspaceFolders",
    "$/setTrace",
    "exit",
    "custom/note",
    "window/workDoneProgress/cancel",
];
pub const SERVER_REQUESTS: &[&str] = &[
    "workspace/configuration",
    "client/registerCapability",
    "client/unregisterCapability",
    "workspace/applyEdit",
    "window/showMessageRequest",
    "window/workDoneProgress/create",
    "workspace/inlayHint/refresh",
    "custom/question",
];
pub const SERVER_NOTES: &[&str] =
    &["$/progress", "textDocument/publishDiagnostics", "window/logMessage", "custom/note"];

/// One input: for a link, or for the joint of several servers.
pub fn run(data: &[u8]) {
    let mut input = Input::new(data);
    if input.one_in(2) {
        return super::merger::run(&mut input);
    }
    let reads = if input.one_in(2) { Reads::Fail } else { Reads::Retry };
    let mut rig = Rig::new(reads, habits(&mut input));
    while !input.is_empty() && rig.turns < 200 {
        rig.turn(&mut input);
    }
    rig.end();
}

/// A link, and what its peers believe.
struct Rig {
    link: Link,
    now: Instant,
    turns: u32,
    clients: Vec<ClientId>,
    joined: u32,
    /// Requests without an answer, by client and id.
    open: HashMap<(ClientId, String), u32>,
    /// Requests that were routed to the server and neither withdrawn nor answered.
    at_server: Vec<u32>,
    /// Requests that were routed to a client and neither withdrawn nor answered.
    at_client: Vec<(ClientId, u32)>,
    /// Requests of this life of the server without an answer, by id.
    server_open: HashMap<String, u32>,
    /// Our own questions without an answer.
    questions: Vec<u32>,
    /// Questions of ours that have had their answer.
    answered: HashSet<u32>,
    /// What somebody wants a verdict on.
    tickets: Vec<Ticket>,
    /// What the user was asked to choose.
    choices: Vec<u32>,
}

impl Rig {
    fn new(reads: Reads, habits: Habits) -> Rig {
        let link = Link::new(LinkOptions { habits, ..LinkOptions::new("ls", reads) });
        let mut rig = Rig {
            link,
            now: Instant::now(),
            turns: 0,
            clients: Vec::new(),
            joined: 0,
            open: HashMap::new(),
            at_server: Vec::new(),
            at_client: Vec::new(),
            server_open: HashMap::new(),
            questions: Vec::new(),
            answered: HashSet::new(),
            tickets: Vec::new(),
            choices: Vec::new(),
        };
        rig.join();
        rig
    }

    fn turn(&mut self, input: &mut Input<'_>) {
        self.turns += 1;
        match input.byte() {
            0..70 => self.client_asks(input),
            70..105 => self.client_says(input),
            105..120 => self.client_answers(input),
            120..150 => self.server_answers(input),
            150..170 => self.server_asks(input),
            170..185 => self.server_says(input),
            185..200 => self.cancel(input),
            200..210 => self.question(input),
            210..220 => {
                self.now += Duration::from_millis(u64::from(input.byte()) * 20);
                let routes = self.link.expire(self.now);
                self.follow(routes, input);
            }
            220..230 => {
                let routes = self.link.on_server_up(self.now);
                self.follow(routes, input);
            }
            230..240 => {
                self.at_server.clear();
                self.server_open.clear();
                let routes = self.link.on_server_death();
                self.follow(routes, input);
            }
            240..246 => self.join(),
            246..252 => self.leave(input),
            252 => self.ask_user(input),
            253.. if input.byte() < 64 => self.give_up(input),
            253.. => _ = self.link.revive(),
        }
    }

    fn join(&mut self) {
        if self.clients.len() < 3 {
            self.joined += 1;
            self.link.join(ClientId(self.joined));
            self.clients.push(ClientId(self.joined));
        }
    }

    fn leave(&mut self, input: &mut Input<'_>) {
        if self.clients.is_empty() {
            return;
        }
        let client = self.clients.remove(input.below(self.clients.len()));
        self.open.retain(|(of, _), _| *of != client);
        self.at_client.retain(|(of, _)| *of != client);
        let routes = self.link.leave(client, self.now);
        self.follow(routes, input);
    }

    fn give_up(&mut self, input: &mut Input<'_>) {
        self.at_server.clear();
        self.server_open.clear();
        let routes = self.link.give_up("the reason");
        self.follow(routes, input);
    }

    fn client_sends(&mut self, client: ClientId, body: String, input: &mut Input<'_>) {
        let Ok(envelope) = Envelope::read(Bytes::from(body)) else { return };
        if let Kind::Request { id, .. } = &envelope.kind {
            *self.open.entry((client, id.raw().to_owned())).or_default() += 1;
        }
        let routes = self.link.on_client(client, envelope, self.now);
        self.follow(routes, input);
    }

    fn server_sends(&mut self, body: String, input: &mut Input<'_>) {
        if !self.is_server_there() {
            return;
        }
        let Ok(envelope) = Envelope::read(Bytes::from(body)) else { return };
        match &envelope.kind {
            Kind::Request { id, .. } => {
                *self.server_open.entry(id.raw().to_owned()).or_default() += 1;
            }
            Kind::Response { id } => self.at_server.retain(|tag| Some(*tag) != id.as_u32()),
            Kind::Notification { .. } => {}
        }
        let routes = self.link.on_server(envelope, self.now);
        self.follow(routes, input);
    }

    fn is_server_there(&self) -> bool {
        matches!(self.link.state(), ServerState::Running | ServerState::Greeting)
    }

    fn client(&self, input: &mut Input<'_>) -> Option<ClientId> {
        (!self.clients.is_empty()).then(|| *input.of(&self.clients))
    }

    fn client_asks(&mut self, input: &mut Input<'_>) {
        let Some(client) = self.client(input) else { return };
        let (id, method) = (*input.of(IDS), *input.of(REQUESTS));
        let params = params(method, input);
        let body =
            format!(r#"{{"jsonrpc":"2.0","id":{id},"method":"{method}","params":{params}}}"#);
        self.client_sends(client, body, input);
    }

    fn client_says(&mut self, input: &mut Input<'_>) {
        let Some(client) = self.client(input) else { return };
        let method = *input.of(NOTES);
        let params = params(method, input);
        self.client_sends(client, format!(r#"{{"method":"{method}","params":{params}}}"#), input);
    }

    fn client_answers(&mut self, input: &mut Input<'_>) {
        if self.at_client.is_empty() || input.byte() < 16 {
            // An answer to nothing, under a name that may be somebody's.
            let Some(client) = self.client(input) else { return };
            let (id, result) = (*input.of(IDS), input.json(2));
            self.client_sends(client, format!(r#"{{"id":{id},"result":{result}}}"#), input);
            return;
        }
        let at = input.below(self.at_client.len());
        let (client, id) = self.at_client.remove(at);
        let outcome = if input.one_in(4) { "error" } else { "result" };
        let value = input.json(2);
        self.client_sends(client, format!(r#"{{"id":{id},"{outcome}":{value}}}"#), input);
    }

    fn server_answers(&mut self, input: &mut Input<'_>) {
        let id = match self.at_server.as_slice() {
            [] => u32::from(input.byte()),
            some => *input.of(some),
        };
        if input.byte() < 8 && self.is_server_there() {
            self.at_server.retain(|tag| *tag != id);
            let routes = self.link.on_server_malformed(&Id::number(id), "odd");
            return self.follow(routes, input);
        }
        let outcome = if input.one_in(4) { "error" } else { "result" };
        let value = match input.below(4) {
            0 => format!(r#"{{"capabilities":{}}}"#, input.of(CAPABILITIES)),
            1 => r#"{"kind":"full","items":[{"range":{"start":{"line":0,"character":0},"end":{"line":0,"character":1}},"message":"m"}],"resultId":"r"}"#.to_owned(),
            _ => input.json(3),
        };
        self.server_sends(format!(r#"{{"id":{id},"{outcome}":{value}}}"#), input);
    }

    fn server_asks(&mut self, input: &mut Input<'_>) {
        let (id, method) = (*input.of(IDS), *input.of(SERVER_REQUESTS));
        let params = params(method, input);
        self.server_sends(format!(r#"{{"id":{id},"method":"{method}","params":{params}}}"#), input);
    }

    fn server_says(&mut self, input: &mut Input<'_>) {
        let method = *input.of(SERVER_NOTES);
        let params = params(method, input);
        self.server_sends(format!(r#"{{"method":"{method}","params":{params}}}"#), input);
    }

    fn cancel(&mut self, input: &mut Input<'_>) {
        let id = *input.of(IDS);
        let body = format!(r#"{{"method":"$/cancelRequest","params":{{"id":{id}}}}}"#);
        match self.client(input) {
            Some(client) if !input.one_in(4) => self.client_sends(client, body, input),
            _ => self.server_sends(body, input),
        }
    }

    fn question(&mut self, input: &mut Input<'_>) {
        if input.one_in(3) {
            let ticket = Ticket(u64::from(self.turns));
            self.tickets.push(ticket);
            let until = self.now + Duration::from_millis(u64::from(input.byte()) * 20);
            let routes = self.link.verdict("file:///a", ticket, until, self.now);
            return self.follow(routes, input);
        }
        if input.one_in(4) && !self.questions.is_empty() {
            let ours = self.questions.remove(0);
            let routes = self.link.forget_question(ours).into_iter().collect();
            return self.follow(routes, input);
        }
        let deadline = input.one_in(2).then(|| self.now + Duration::from_secs(1));
        let (ours, route) = self.link.ask_server("ours", &serde_json::json!({}), deadline);
        self.questions.push(ours);
        self.follow(vec![route], input);
    }

    fn ask_user(&mut self, input: &mut Input<'_>) {
        if let Some((ours, route)) = self.link.ask_user(MessageType::INFO, "?", &["a", "b"]) {
            self.choices.push(ours);
            self.follow(vec![route], input);
        }
        let routes = self.link.say(MessageType::INFO, "!");
        self.follow(routes, input);
    }

    /// What the queues and the peers do with what is routed to them.
    fn follow(&mut self, routes: Vec<Route>, input: &mut Input<'_>) {
        for route in routes {
            match route {
                Route::Client(client, outbound) => self.client_gets(client, outbound.body),
                Route::Server(outbound) => self.server_gets(outbound.body),
                Route::WithdrawFromServer(tag, outbound) => {
                    let here = self.at_server.contains(&tag);
                    if here && input.one_in(2) {
                        self.at_server.retain(|other| *other != tag);
                        let routes = self.link.withdrawn_from_server(tag);
                        self.follow(routes, input);
                    } else {
                        self.server_gets(outbound.body);
                    }
                }
                Route::WithdrawFromClient(client, tag, outbound) => {
                    let here = self.at_client.contains(&(client, tag));
                    if here && input.one_in(2) {
                        self.at_client.retain(|other| *other != (client, tag));
                        let routes = self.link.withdrawn_from_client(tag);
                        self.follow(routes, input);
                    } else {
                        self.client_gets(client, outbound.body);
                    }
                }
                Route::Parted(client) => self.goes_on_alone(client, input),
                Route::Chosen(ours, _) => {
                    let at = self.choices.iter().position(|choice| *choice == ours);
                    self.choices.remove(at.expect("the user was asked this, and chose once"));
                }
                Route::Verdict(ticket, _) => {
                    let at = self.tickets.iter().position(|other| *other == ticket);
                    self.tickets.remove(at.expect("a verdict that somebody waits for, once"));
                }
                Route::Answered(ours, envelope) => {
                    assert!(envelope.id().is_some(), "an answer has an id");
                    if let Some(more) = self.link.on_question_answered(ours, &envelope, self.now) {
                        self.follow(more, input);
                        continue;
                    }
                    // The link has questions of its own, which it forgets when the server dies.
                    assert!(self.answered.insert(ours), "a second answer to our question {ours}");
                    self.questions.retain(|question| *question != ours);
                }
            }
        }
    }

    /// A client that was split off goes on in a link of its own: what it waits for is asked again there, or answered.
    fn goes_on_alone(&mut self, client: ClientId, input: &mut Input<'_>) {
        let parted = self.link.take_parted(client).expect("it was split off");
        let mut alone = Link::of_parted(LinkOptions::new("ls", Reads::Fail), parted, self.now);
        let mut routes = alone.on_server_up(self.now);
        let greeting = routes.iter().find_map(|route| match route {
            Route::Server(outbound) => Envelope::read(outbound.body.clone()).ok()?.id().cloned(),
            _ => None,
        });
        if let Some(id) = greeting.filter(|_| input.one_in(2)) {
            let greeted = Envelope::response(id, &serde_json::json!({ "capabilities": {} }));
            routes.extend(alone.on_server(greeted, self.now));
        }
        routes.extend(alone.give_up("the end"));
        for route in routes {
            if let Route::Client(to, outbound) = route {
                assert_eq!(to, client, "a message for somebody who is not there");
                self.client_gets(to, outbound.body);
            }
        }
        let waiting = |(of, _): &(ClientId, String), open: &u32| *of == client && *open > 0;
        let left: Vec<_> = self.open.iter().filter(|(id, open)| waiting(id, open)).collect();
        assert!(left.is_empty(), "split off without an answer: {left:?}");
        self.clients.retain(|other| *other != client);
        self.at_client.retain(|(of, _)| *of != client);
    }

    fn client_gets(&mut self, client: ClientId, body: Bytes) {
        let envelope = Envelope::read(body).expect("what is routed is a message");
        assert!(self.clients.contains(&client), "a message for somebody who is not there");
        match &envelope.kind {
            Kind::Request { id, .. } => {
                self.at_client.push((client, id.as_u32().expect("our ids are numbers")));
            }
            Kind::Response { id } => {
                let open = self.open.get_mut(&(client, id.raw().to_owned()));
                let open = open.filter(|open| **open > 0).expect("an answer to a request, once");
                *open -= 1;
            }
            Kind::Notification { .. } => {}
        }
    }

    fn server_gets(&mut self, body: Bytes) {
        let envelope = Envelope::read(body).expect("what is routed is a message");
        match &envelope.kind {
            Kind::Request { id, .. } => {
                let id = id.as_u32().expect("our ids are numbers");
                assert!(!self.at_server.contains(&id), "an id that is in use");
                self.at_server.push(id);
            }
            Kind::Response { id } => {
                if let Some(open) = self.server_open.get_mut(id.raw()) {
                    assert!(*open > 0, "a second answer to the server's request {id}");
                    *open -= 1;
                }
            }
            Kind::Notification { .. } => {}
        }
    }

    /// When the server is given up and time has passed, nobody is left waiting.
    fn end(mut self) {
        let mut input = Input::new(&[]);
        self.give_up(&mut input);
        self.now += Duration::from_secs(3600);
        let routes = self.link.expire(self.now);
        self.follow(routes, &mut input);
        let waiting: Vec<_> = self.open.iter().filter(|(_, open)| **open > 0).collect();
        assert!(waiting.is_empty(), "without an answer: {waiting:?}");
        assert!(self.tickets.is_empty(), "without a verdict: {:?}", self.tickets);
        assert!(self.questions.is_empty(), "questions without an answer: {:?}", self.questions);
    }
}

/// Servers of several kinds: that can be asked for a barrier, that has a command of its own, that says when it is ready.
fn habits(input: &mut Input<'_>) -> Habits {
    let barrier = Some("textDocument/documentSymbol".to_owned());
    let debounce = Duration::from_millis(200);
    let ask = Ask {
        command: "a".to_owned(),
        arguments: vec!["one".to_owned(), "two".to_owned()],
        form: AskForm::Tsserver,
    };
    let ready = Ready {
        status: Some("custom/note".to_owned()),
        progress: vec!["t".to_owned()],
        settle: Duration::from_millis(500),
    };
    match input.below(4) {
        0 => Habits { barrier, debounce, ..Habits::default() },
        1 => Habits { ask: Some(ask), debounce, ..Habits::default() },
        2 => Habits { barrier, ready: Some(ready), ..Habits::default() },
        _ => Habits::default(),
    }
}

/// Parameters that fit the method, or do not.
pub fn params(method: &str, input: &mut Input<'_>) -> String {
    let uri = *input.of(&["file:///a", "file:///b", "untitled:x"]);
    let version = input.byte();
    match (method, input.below(4)) {
        (_, 0) => input.json(3),
        ("textDocument/didOpen", _) => {
            format!(
                r#"{{"textDocument":{{"uri":"{uri}","languageId":"x","version":{version},"text":"a\n😀b"}}}}"#
            )
        }
        ("textDocument/didChange", _) => format!(
            r#"{{"textDocument":{{"uri":"{uri}","version":{version}}},"contentChanges":[{{"range":{{"start":{{"line":0,"character":{}}},"end":{{"line":1,"character":2}}}},"text":"y"}}]}}"#,
            input.below(9)
        ),
        ("initialize", _) => {
            r#"{"capabilities":{"workspace":{"inlayHint":{"refreshSupport":true}},"window":{"showMessage":{}}}}"#.to_owned()
        }
        ("$/progress", 1) => r#"{"token":"t","value":{"kind":"end"}}"#.to_owned(),
        ("$/progress", _) => r#"{"token":"t","value":{"kind":"begin"}}"#.to_owned(),
        ("textDocument/publishDiagnostics", _) => {
            format!(r#"{{"uri":"{uri}","version":{version},"diagnostics":[{{"message":"m"}}]}}"#)
        }
        ("client/registerCapability", _) => {
            r#"{"registrations":[{"id":"r","method":"workspace/didChangeWatchedFiles"}]}"#
                .to_owned()
        }
        ("workspace/configuration", _) => r#"{"items":[{"section":"a"},{}]}"#.to_owned(),
        _ => format!(r#"{{"textDocument":{{"uri":"{uri}"}}}}"#),
    }
}
