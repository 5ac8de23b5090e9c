//! The joint of several servers (merged mode) under arbitrary messages: nobody panics, every request of the client gets exactly
//! one answer, and no request of a server gets two.

use std::collections::{BTreeMap, HashMap};
use std::time::{Duration, Instant};

use proxy::merge::{Branch, ChildOptions, Merge, MergeOptions, MergeRoute};
use wire::{Bytes, Envelope, Kind};

use super::input::Input;
use super::router::{IDS, NOTES, SERVER_NOTES, SERVER_REQUESTS, params};

/// What a client asks of several servers.
const REQUESTS: &[&str] = &[
    "textDocument/hover",
    "textDocument/completion",
    "textDocument/definition",
    "textDocument/codeAction",
    "textDocument/formatting",
    "textDocument/rename",
    "textDocument/willSaveWaitUntil",
    "textDocument/diagnostic",
    "workspace/diagnostic",
    "textDocument/semanticTokens/full",
    "textDocument/semanticTokens/full/delta",
    "completionItem/resolve",
    "codeAction/resolve",
    "workspace/willRenameFiles",
    "workspace/executeCommand",
    "workspace/symbol",
    "initialize",
    "shutdown",
    "custom/method",
];

/// What servers can do.
pub const CAPABILITIES: &[&str] = &[
    r#"{"hoverProvider":true,"completionProvider":{"resolveProvider":true},"textDocumentSync":1,"diagnosticProvider":{}}"#,
    r#"{"positionEncoding":"utf-8","hoverProvider":true,"definitionProvider":true,"codeActionProvider":{"resolveProvider":true},"textDocumentSync":{"change":2,"openClose":true,"willSaveWaitUntil":true},"executeCommandProvider":{"commands":["a","b"]}}"#,
    r#"{"semanticTokensProvider":{"full":{"delta":true},"legend":{}},"documentFormattingProvider":true,"renameProvider":true,"completionProvider":{"triggerCharacters":["."]},"diagnosticProvider":{"identifier":"x"},"workspace":{"fileOperations":{"willRename":{"filters":[]}}}}"#,
    "{}",
];

/// What the client can do.
const CLIENTS: &[&str] = &[
    r#"{"capabilities":{"general":{"positionEncodings":["utf-16"]},"workspace":{"inlayHint":{"refreshSupport":true},"configuration":true},"textDocument":{"diagnostic":{"dynamicRegistration":true},"publishDiagnostics":{"dataSupport":true}},"window":{"workDoneProgress":true}}}"#,
    r#"{"capabilities":{"general":{"positionEncodings":["utf-8"]},"workspace":{"didChangeWatchedFiles":{"dynamicRegistration":true}}}}"#,
    r#"{"capabilities":{}}"#,
];

/// The choices of one input.
pub fn run(input: &mut Input<'_>) {
    let mut rig = Rig::new(input);
    while !input.is_empty() && rig.turns < 200 {
        rig.turn(input);
    }
    rig.end();
}

/// Settings of a server's own, for some.
fn settings(input: &mut Input<'_>) -> serde_json::Value {
    if input.one_in(3) { serde_json::json!({ "a": { "b": 1 } }) } else { serde_json::Value::Null }
}

struct Rig {
    merge: Merge,
    now: Instant,
    turns: u32,
    children: usize,
    greeted: bool,
    /// Requests of the client without an answer, by id.
    open: HashMap<String, u32>,
    /// Requests that the servers have not answered.
    at_child: Vec<(Branch, u32, String)>,
    /// Requests that the client has not answered.
    at_client: Vec<u32>,
    /// Requests of the servers without an answer.
    child_open: BTreeMap<(Branch, String), u32>,
}

impl Rig {
    fn new(input: &mut Input<'_>) -> Rig {
        let children = 1 + input.below(3);
        let named = ["a", "b", "c"].iter().take(children);
        let options = MergeOptions {
            children: named
                .map(|name| ChildOptions {
                    settings: settings(input),
                    initialization_options: input.one_in(3).then(|| serde_json::json!({ "o": 1 })),
                    ..ChildOptions::named(name)
                })
                .collect(),
            ..MergeOptions::default()
        };
        let mut rig = Rig {
            merge: Merge::new(options),
            now: Instant::now(),
            turns: 0,
            children,
            greeted: false,
            open: HashMap::new(),
            at_child: Vec::new(),
            at_client: Vec::new(),
            child_open: BTreeMap::new(),
        };
        // Mostly the greeting is as it should be; else nothing but refusals would be tried.
        if !input.one_in(8) {
            rig.greet(input);
        }
        rig
    }

    fn greet(&mut self, input: &mut Input<'_>) {
        self.greeted = true;
        let client = *input.of(CLIENTS);
        self.client_sends(format!(r#"{{"id":1,"method":"initialize","params":{client}}}"#));
        for (branch, id, method) in std::mem::take(&mut self.at_child) {
            let capabilities = *input.of(CAPABILITIES);
            let result = format!(r#"{{"id":{id},"result":{{"capabilities":{capabilities}}}}}"#);
            assert_eq!(method, "initialize", "what comes first");
            self.child_sends(branch, result);
        }
        self.client_sends(r#"{"method":"initialized","params":{}}"#.to_owned());
    }

    fn turn(&mut self, input: &mut Input<'_>) {
        self.turns += 1;
        match input.byte() {
            0..80 => {
                let (id, method) = (*input.of(IDS), *input.of(REQUESTS));
                let params = match (method, input.below(3)) {
                    (_, 0) => input.json(3),
                    ("initialize", _) => (*input.of(CLIENTS)).to_owned(),
                    _ => params(method, input),
                };
                self.client_sends(format!(
                    r#"{{"id":{id},"method":"{method}","params":{params}}}"#
                ));
            }
            80..110 => {
                let method = *input.of(NOTES);
                let params = params(method, input);
                self.client_sends(format!(r#"{{"method":"{method}","params":{params}}}"#));
            }
            110..125 => {
                let id = *input.of(IDS);
                self.client_sends(format!(
                    r#"{{"method":"$/cancelRequest","params":{{"id":{id}}}}}"#
                ));
            }
            125..140 => self.client_answers(input),
            140..195 => self.child_answers(input),
            195..210 => {
                // A link counts the requests of its server, over all lives of it.
                let (id, method) = (self.turns, *input.of(SERVER_REQUESTS));
                let params = params(method, input);
                let branch = self.branch(input);
                self.child_sends(
                    branch,
                    format!(r#"{{"id":{id},"method":"{method}","params":{params}}}"#),
                );
            }
            210..228 => {
                let method = *input.of(SERVER_NOTES);
                let params = params(method, input);
                let branch = self.branch(input);
                self.child_sends(branch, format!(r#"{{"method":"{method}","params":{params}}}"#));
            }
            228..246 => {
                self.now += Duration::from_millis(u64::from(input.byte()) * 20);
                let routes = self.merge.expire(self.now);
                self.follow(routes, input.one_in(2));
            }
            _ => {
                let branch = self.branch(input);
                self.die(branch);
            }
        }
    }

    fn branch(&self, input: &mut Input<'_>) -> Branch {
        Branch(input.below(self.children) as u32)
    }

    fn client_sends(&mut self, body: String) {
        let Ok(envelope) = Envelope::read(Bytes::from(body)) else { return };
        if let Kind::Request { id, .. } = &envelope.kind {
            *self.open.entry(id.raw().to_owned()).or_default() += 1;
        }
        let routes = self.merge.on_client(envelope, self.now);
        self.follow(routes, true);
    }

    fn child_sends(&mut self, branch: Branch, body: String) {
        let Ok(envelope) = Envelope::read(Bytes::from(body)) else { return };
        if let Kind::Request { id, .. } = &envelope.kind {
            *self.child_open.entry((branch, id.raw().to_owned())).or_default() += 1;
        }
        let routes = self.merge.on_child(branch, envelope, self.now);
        self.follow(routes, true);
    }

    fn client_answers(&mut self, input: &mut Input<'_>) {
        let id = match self.at_client.len() {
            0 => u32::from(input.byte()),
            len => self.at_client.remove(input.below(len)),
        };
        let outcome = if input.one_in(4) { "error" } else { "result" };
        let value = input.json(2);
        self.client_sends(format!(r#"{{"id":{id},"{outcome}":{value}}}"#));
    }

    /// A link lets through one answer to each request, of the server that was asked; what is in it is the server's.
    fn child_answers(&mut self, input: &mut Input<'_>) {
        if self.at_child.is_empty() {
            return;
        }
        let (branch, id, method) = self.at_child.remove(input.below(self.at_child.len()));
        let value = match (method.as_str(), input.below(4)) {
            ("initialize", 1..) => format!(r#"{{"capabilities":{}}}"#, input.of(CAPABILITIES)),
            _ => input.json(4),
        };
        let outcome = if input.one_in(5) { "error" } else { "result" };
        self.child_sends(branch, format!(r#"{{"id":{id},"{outcome}":{value}}}"#));
    }

    /// What the link of a server that dies does: what that has asked is cancelled, and all that it was asked fails.
    fn die(&mut self, branch: Branch) {
        let routes = self.merge.child_died(branch, self.now);
        self.follow(routes, true);
        let asked: Vec<_> = self.child_open.extract_if(.., |(of, _), _| *of == branch).collect();
        for ((branch, id), _) in asked {
            let params = format!(r#"{{"id":{id}}}"#);
            self.child_sends(
                branch,
                format!(r#"{{"method":"$/cancelRequest","params":{params}}}"#),
            );
        }
        let lost: Vec<u32> =
            self.at_child.extract_if(.., |(of, ..)| *of == branch).map(|(_, id, _)| id).collect();
        for id in lost {
            self.child_sends(
                branch,
                format!(r#"{{"id":{id},"error":{{"code":-32801,"message":"gone"}}}}"#),
            );
        }
    }

    /// What the queues and the peers do with what is routed to them.
    fn follow(&mut self, routes: Vec<MergeRoute>, in_time: bool) {
        for route in routes {
            match route {
                MergeRoute::Child(branch, envelope) => self.child_gets(branch, &envelope),
                MergeRoute::Client(outbound) => self.client_gets(outbound.body),
                MergeRoute::WithdrawFromClient(tag, outbound) => {
                    if in_time && self.at_client.contains(&tag) {
                        self.at_client.retain(|other| *other != tag);
                        let routes = self.merge.withdrawn_from_client(tag);
                        self.follow(routes, in_time);
                    } else {
                        self.client_gets(outbound.body);
                    }
                }
            }
        }
    }

    fn client_gets(&mut self, body: Bytes) {
        let envelope = Envelope::read(body).expect("what is routed is a message");
        match &envelope.kind {
            Kind::Request { id, .. } => {
                let id = id.as_u32().expect("our ids are numbers");
                self.at_client.push(id);
            }
            Kind::Response { id } => {
                let open = self.open.get_mut(id.raw()).filter(|open| **open > 0);
                *open.expect("an answer to a request, once") -= 1;
            }
            Kind::Notification { .. } => {}
        }
    }

    fn child_gets(&mut self, branch: Branch, envelope: &Envelope) {
        assert!((branch.0 as usize) < self.children, "a server that there is");
        assert!(Envelope::read(envelope.body.clone()).is_ok(), "what is routed is a message");
        match &envelope.kind {
            Kind::Request { id, method } => {
                let id = id.as_u32().expect("our ids are numbers");
                let used = self.at_child.iter().any(|(of, other, _)| *of == branch && *other == id);
                assert!(!used, "an id that is in use");
                self.at_child.push((branch, id, method.to_string()));
            }
            Kind::Response { id } => {
                if let Some(open) = self.child_open.get_mut(&(branch, id.raw().to_owned())) {
                    assert!(*open > 0, "a second answer to the request {id} of a server");
                    *open -= 1;
                }
            }
            Kind::Notification { .. } => {}
        }
    }

    /// When all servers have died and time has passed, nobody is left waiting.
    fn end(mut self) {
        while let Some(id) = self.at_client.pop() {
            self.client_sends(format!(r#"{{"id":{id},"result":null}}"#));
        }
        let waiting: Vec<_> = self.child_open.iter().filter(|(_, open)| **open > 0).collect();
        // Before the client has been greeted, what servers want waits.
        assert!(!self.greeted || waiting.is_empty(), "servers without an answer: {waiting:?}");
        for _ in 0..5 {
            for branch in 0..self.children {
                self.die(Branch(branch as u32));
            }
            self.now += Duration::from_secs(3600);
            let routes = self.merge.expire(self.now);
            self.follow(routes, true);
        }
        let waiting: Vec<_> = self.open.iter().filter(|(_, open)| **open > 0).collect();
        assert!(waiting.is_empty(), "without an answer: {waiting:?}");
        assert_eq!(self.merge.pending_len(), 0);
    }
}
