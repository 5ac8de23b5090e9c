//! Merged connections, message by message, with a clock that the test turns. Servers are called `a`, `b`, `c` by priority.

use std::collections::HashMap;
use std::time::Duration;

use serde_json::json;

use super::*;

mod chaos;
mod greeting;
mod requests;
mod servers;
mod telling;

/// One message that has left.
#[derive(Clone, Debug)]
struct Left {
    /// `a`, `b`, … for a server, `-` for the client.
    to: char,
    envelope: Envelope,
    tag: Option<u32>,
}

impl Left {
    fn body(&self) -> Value {
        serde_json::from_slice(&self.envelope.body).unwrap()
    }

    fn params(&self) -> Value {
        self.body()["params"].clone()
    }

    /// `a textDocument/hover` is a request or notification to a server, `- 7=` an answer to the client's request 7,
    /// `- 7!-32800` an error.
    fn show(&self) -> String {
        let to = self.to;
        match (&self.envelope.kind, self.envelope.outcome()) {
            (Kind::Response { id }, Ok(_)) => format!("{to} {id}="),
            (Kind::Response { id }, Err(error)) => format!("{to} {id}!{}", error.code),
            (Kind::Request { method, .. } | Kind::Notification { method }, _) => {
                format!("{to} {method}")
            }
        }
    }
}

struct Rig {
    merge: Merge,
    now: Instant,
    /// The last request of each method to each server, and to the client: its id there.
    ids: HashMap<(char, String), Id>,
}

/// A client that can do much, but takes no registrations.
fn client() -> Value {
    json!({
        "general": { "positionEncodings": ["utf-8", "utf-16"] },
        "textDocument": {
            "publishDiagnostics": { "dataSupport": true },
            "diagnostic": {},
            "hover": { "contentFormat": ["markdown"] },
            "definition": { "linkSupport": true },
        },
        "workspace": {
            "configuration": true,
            "inlayHint": { "refreshSupport": true },
            "diagnostics": { "refreshSupport": true },
        },
        "window": { "workDoneProgress": true },
    })
}

/// The same, and it takes all registrations.
fn dynamic() -> Value {
    let mut client = client();
    let yes = json!({ "dynamicRegistration": true });
    for name in ["completion", "hover", "codeAction", "formatting", "diagnostic", "synchronization"]
    {
        let mut section = client["textDocument"][name].clone();
        section["dynamicRegistration"] = true.into();
        client["textDocument"][name] = section;
    }
    for name in ["executeCommand", "didChangeWatchedFiles"] {
        client["workspace"][name] = yes.clone();
    }
    client
}

impl Rig {
    fn new(servers: usize) -> Rig {
        let children =
            ["a", "b", "c"][..servers].iter().map(|name| ChildOptions::named(name)).collect();
        Rig::with(MergeOptions { children, ..MergeOptions::default() })
    }

    fn with(options: MergeOptions) -> Rig {
        Rig { merge: Merge::new(options), now: Instant::now(), ids: HashMap::new() }
    }

    /// Greeted: every server has answered with its capabilities.
    fn ready(client: Value, capabilities: &[Value]) -> Rig {
        let mut rig = Rig::new(capabilities.len());
        rig.greet(client, capabilities);
        rig
    }

    fn greet(&mut self, client: Value, capabilities: &[Value]) {
        self.initialize(client);
        for (at, capabilities) in capabilities.iter().enumerate() {
            let name = (b'a' + at as u8) as char;
            self.answers(name, "initialize", json!({ "capabilities": capabilities }));
        }
        self.says(json!({ "method": "initialized", "params": {} }));
    }

    fn initialize(&mut self, client: Value) -> Vec<Left> {
        let options = json!({ "for": "a" });
        let params =
            json!({ "capabilities": client, "initializationOptions": options, "processId": 7 });
        self.asks("i", "initialize", params)
    }

    /// The client sends a message.
    fn says(&mut self, message: Value) -> Vec<Left> {
        let envelope = Envelope::read(message.to_string().into()).unwrap();
        let routes = self.merge.on_client(envelope, self.now);
        self.note(routes)
    }

    fn asks(&mut self, id: impl Into<Value>, method: &str, params: Value) -> Vec<Left> {
        self.says(json!({ "jsonrpc": "2.0", "id": id.into(), "method": method, "params": params }))
    }

    fn tells(&mut self, method: &str, params: Value) -> Vec<Left> {
        self.says(json!({ "method": method, "params": params }))
    }

    fn opens(&mut self, uri: &str, version: i32, text: &str) -> Vec<Left> {
        let document = json!({ "uri": uri, "languageId": "x", "version": version, "text": text });
        self.tells("textDocument/didOpen", json!({ "textDocument": document }))
    }

    fn changes(&mut self, uri: &str, version: i32, changes: Value) -> Vec<Left> {
        let document = json!({ "uri": uri, "version": version });
        let params = json!({ "textDocument": document, "contentChanges": changes });
        self.tells("textDocument/didChange", params)
    }

    /// A server sends a message.
    fn server(&mut self, name: char, message: Value) -> Vec<Left> {
        let envelope = Envelope::read(message.to_string().into()).unwrap();
        let routes = self.merge.on_child(branch(name), envelope, self.now);
        self.note(routes)
    }

    /// A server (or with `-` the client) answers the last request of this method.
    fn answers(&mut self, name: char, method: &str, result: Value) -> Vec<Left> {
        let id = self.last(name, method);
        self.server_or_client(name, json!({ "jsonrpc": "2.0", "id": id, "result": result }))
    }

    fn fails(&mut self, name: char, method: &str, code: i64) -> Vec<Left> {
        let id = self.last(name, method);
        let error = json!({ "code": code, "message": "no", "data": [name.to_string()] });
        self.server_or_client(name, json!({ "id": id, "error": error }))
    }

    fn server_or_client(&mut self, name: char, message: Value) -> Vec<Left> {
        if name == '-' { self.says(message) } else { self.server(name, message) }
    }

    fn last(&self, name: char, method: &str) -> Value {
        let key = (name, method.to_owned());
        let id =
            self.ids.get(&key).unwrap_or_else(|| panic!("{name} was never asked for {method}"));
        serde_json::from_str(id.raw()).unwrap()
    }

    fn published(
        &mut self,
        name: char,
        uri: &str,
        version: Option<i32>,
        messages: &[&str],
    ) -> Vec<Left> {
        let items: Vec<Value> = messages.iter().map(|message| finding(message)).collect();
        let mut params = json!({ "uri": uri, "diagnostics": items });
        if let Some(version) = version {
            params["version"] = version.into();
        }
        self.server(name, json!({ "method": "textDocument/publishDiagnostics", "params": params }))
    }

    fn wait(&mut self, time: Duration) -> Vec<Left> {
        self.now += time;
        let routes = self.merge.expire(self.now);
        self.note(routes)
    }

    fn dies(&mut self, name: char) -> Vec<Left> {
        let routes = self.merge.child_died(branch(name), self.now);
        self.note(routes)
    }

    fn note(&mut self, routes: Vec<MergeRoute>) -> Vec<Left> {
        let left = |route: MergeRoute| match route {
            MergeRoute::Child(branch, envelope) => {
                Left { to: (b'a' + branch.0 as u8) as char, envelope, tag: None }
            }
            MergeRoute::Client(outbound) => {
                let envelope = Envelope::read(outbound.body).unwrap();
                Left { to: '-', envelope, tag: outbound.tag }
            }
            MergeRoute::WithdrawFromClient(tag, outbound) => {
                let envelope = Envelope::read(outbound.body).unwrap();
                Left { to: '-', envelope, tag: Some(tag) }
            }
        };
        let all: Vec<Left> = routes.into_iter().map(left).collect();
        for left in &all {
            if let Kind::Request { id, method } = &left.envelope.kind {
                self.ids.insert((left.to, method.to_string()), id.clone());
            }
        }
        all
    }
}

fn branch(name: char) -> Branch {
    Branch((name as u8 - b'a').into())
}

fn show(left: &[Left]) -> Vec<String> {
    left.iter().map(Left::show).collect()
}

/// The only result that the client was given.
fn result(left: &[Left]) -> Value {
    let answers: Vec<&Left> =
        left.iter().filter(|left| left.to == '-' && left.envelope.method().is_none()).collect();
    let [answer] = answers[..] else { panic!("{:?}", show(left)) };
    answer.body()["result"].clone()
}

fn find<'l>(left: &'l [Left], shown: &str) -> &'l Left {
    left.iter()
        .find(|left| left.show() == shown)
        .unwrap_or_else(|| panic!("{shown} in {:?}", show(left)))
}

fn finding(message: &str) -> Value {
    let at = json!({ "line": 0, "character": 0 });
    json!({ "range": { "start": at, "end": at }, "message": message, "source": "s" })
}

/// Messages of the diagnostics that a message publishes.
fn messages(left: &Left) -> Vec<String> {
    let params = left.params();
    let items = params["diagnostics"].as_array().unwrap();
    items.iter().map(|item| item["message"].as_str().unwrap().to_owned()).collect()
}

fn about(uri: &str) -> Value {
    json!({ "textDocument": { "uri": uri }, "position": { "line": 0, "character": 0 } })
}

const SECOND: Duration = Duration::from_secs(1);
