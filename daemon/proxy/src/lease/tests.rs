//! A lease between a link and a server that tells everything it sees, with a clock that the test turns.

use std::collections::{BTreeMap, VecDeque};

use proptest::prelude::*;

use super::*;
use crate::{ClientId, Link, LinkOptions, Reads, Route};

const A: &str = "file:///p/a";
const B: &str = "file:///p/b";
/// A word that no editor has ever written.
const SECRET: &str = "CANDIDATE";

/// How the server goes about things.
#[derive(Clone, Copy, Debug)]
struct Ways {
    pull: bool,
    /// Says something of the other document, too, with every change.
    far: bool,
    /// Asks for a refresh, shows progress and logs with every change.
    loud: bool,
}

/// A server that takes one message after the other, some time after it came.
#[derive(Debug)]
struct Server {
    ways: Ways,
    inbox: VecDeque<Value>,
    outbox: VecDeque<Value>,
    open: BTreeMap<String, (i64, String)>,
    asked: u32,
}

impl Server {
    fn say(&mut self, message: Value) {
        self.outbox.push_back(message);
    }

    /// Takes the next message.
    fn step(&mut self) -> bool {
        let Some(message) = self.inbox.pop_front() else { return false };
        let params = &message["params"];
        let uri = params["textDocument"]["uri"].as_str().unwrap_or_default().to_owned();
        let method = message["method"].as_str().unwrap_or_default().to_owned();
        if let Some(id) = message.get("id").filter(|_| !method.is_empty()) {
            let result = self.answer(&method, &uri);
            self.say(json!({"id": id, "result": result}));
            return true;
        }
        match method.as_str() {
            "textDocument/didOpen" => {
                let item = &params["textDocument"];
                let text = item["text"].as_str().unwrap().to_owned();
                self.open.insert(uri.clone(), (item["version"].as_i64().unwrap(), text));
            }
            "textDocument/didChange" => {
                let version = params["textDocument"]["version"].as_i64().unwrap();
                let change = params["contentChanges"][0].clone();
                let (last, text) = self.open.get_mut(&uri).unwrap();
                assert!(version > *last, "versions grow: {last} {version}");
                *last = version;
                match change.get("range") {
                    None => change["text"].as_str().unwrap().clone_into(text),
                    Some(range) => {
                        let column = |end: &str| {
                            usize::try_from(range[end]["character"].as_u64().unwrap()).unwrap()
                        };
                        assert_eq!(
                            (range["start"]["line"].as_u64(), range["end"]["line"].as_u64()),
                            (Some(0), Some(0))
                        );
                        text.replace_range(
                            column("start")..column("end"),
                            change["text"].as_str().unwrap(),
                        );
                    }
                }
            }
            "textDocument/didSave" => {
                assert!(!self.open[&uri].1.contains(SECRET), "a candidate is never saved");
                return true;
            }
            _ => return true,
        }
        self.react(&uri);
        true
    }

    fn react(&mut self, uri: &str) {
        let (version, text) = self.open[uri].clone();
        if self.ways.loud {
            self.asked += 1;
            let (number, token) = (self.asked, format!("of {text}"));
            self.say(json!({"id": format!("r{number}"), "method": "workspace/diagnostic/refresh"}));
            self.say(json!({"id": format!("p{number}"), "method": "window/workDoneProgress/create", "params": {"token": token}}));
            self.say(json!({"method": "$/progress", "params": {"token": token, "value": {"kind": "begin", "title": text}}}));
            self.say(json!({"method": "$/progress", "params": {"token": token, "value": {"kind": "end"}}}));
            self.say(
                json!({"method": "window/logMessage", "params": {"type": 3, "message": text}}),
            );
            self.say(json!({"method": "textDocument/inactiveRegions", "params": {"textDocument": {"uri": uri, "version": version}, "regions": text}}));
        }
        if self.ways.far {
            [A, B].into_iter().for_each(|uri| self.publish(uri));
        } else if !self.ways.pull {
            self.publish(uri);
        }
    }

    fn publish(&mut self, uri: &str) {
        let other = if uri == A { B } else { A };
        let Some((version, own)) = self.open.get(uri).cloned() else { return };
        let beside = self.open.get(other).filter(|_| self.ways.far).map(|(_, text)| text.clone());
        let said = json!([{"message": own, "beside": beside}]);
        self.say(json!({"method": "textDocument/publishDiagnostics", "params": {"uri": uri, "version": version, "diagnostics": said}}));
    }

    fn answer(&mut self, method: &str, uri: &str) -> Value {
        let open = self.open.get(uri).cloned();
        match method {
            "textDocument/diagnostic" => {
                json!({"kind": "full", "items": [{"message": open.unwrap().1}]})
            }
            "textDocument/codeAction" => {
                let (version, text) = open.unwrap();
                let edit = json!({"documentChanges": [{"textDocument": {"uri": uri, "version": version}, "edits": [{"newText": text}]}]});
                json!([{"title": "t", "edit": edit, "data": {"uri": uri, "version": version}}])
            }
            "initialize" => json!({"capabilities": {"textDocumentSync": 2}}),
            _ => Value::Null,
        }
    }
}

/// An editor, a link, a lease, a server, and what the editor has heard.
struct Rig {
    link: Link,
    lease: Lease,
    server: Server,
    now: Instant,
    texts: BTreeMap<&'static str, (i32, String)>,
    heard: Vec<Value>,
    answers: Vec<(u64, Result<Said, Refusal>)>,
    asked: u64,
    /// The server does not count as quiet, so that no lease begins.
    busy: bool,
}

impl Rig {
    fn new(ways: Ways) -> Rig {
        let mut link = Link::new(LinkOptions::new("ls", Reads::Fail));
        link.join(ClientId::ONLY);
        let server = Server {
            ways,
            inbox: VecDeque::new(),
            outbox: VecDeque::new(),
            open: BTreeMap::new(),
            asked: 0,
        };
        let texts = BTreeMap::from([(A, (1, "a".to_owned())), (B, (1, "b".to_owned()))]);
        let mut rig = Rig {
            link,
            lease: Lease::default(),
            server,
            now: Instant::now(),
            texts,
            heard: Vec::new(),
            answers: Vec::new(),
            asked: 0,
            busy: false,
        };
        let routes = rig.link.on_server_up(rig.now);
        rig.routes(routes);
        rig.editor(json!({"id": 0, "method": "initialize", "params": {"capabilities": {}}}));
        rig.pump();
        rig.editor(json!({"method": "initialized", "params": {}}));
        for uri in [A, B] {
            rig.editor(json!({"method": "textDocument/didOpen", "params": {"textDocument": {"uri": uri, "languageId": "x", "version": 1, "text": rig.texts[uri].1}}}));
        }
        rig.pass(200);
        rig
    }

    fn editor(&mut self, message: Value) {
        let envelope = Envelope::read(message.to_string().into()).unwrap();
        let routes = self.link.on_client(ClientId::ONLY, envelope, self.now);
        self.routes(routes);
    }

    /// What the daemon does with routes and steps.
    fn routes(&mut self, routes: Vec<Route>) {
        for route in routes {
            match route {
                Route::Server(message) | Route::WithdrawFromServer(_, message) => {
                    let steps = self.lease.to_server(message, self.now);
                    self.steps(steps);
                }
                Route::Client(_, message) | Route::WithdrawFromClient(_, _, message) => {
                    self.hear(&message.body)
                }
                _ => {}
            }
        }
    }

    fn steps(&mut self, steps: Vec<Step>) {
        for step in steps {
            match step {
                Step::Server(message) => {
                    self.server.inbox.push_back(serde_json::from_slice(&message.body).unwrap())
                }
                Step::Link(envelope) => {
                    let routes = self.link.on_server(envelope, self.now);
                    self.routes(routes);
                }
                Step::Answer(number, result) => self.answers.push((number, result)),
            }
        }
    }

    fn hear(&mut self, body: &[u8]) {
        let message: Value = serde_json::from_slice(body).unwrap();
        assert!(
            !message.to_string().contains(SECRET),
            "the editor hears of a candidate: {message}"
        );
        let question = message.get("method").and(message.get("id")).cloned();
        self.heard.push(message);
        if let Some(id) = question {
            self.editor(json!({"id": id, "result": null}));
        }
    }

    fn deliver(&mut self) -> bool {
        let Some(message) = self.server.outbox.pop_front() else { return false };
        let envelope = Envelope::read(message.to_string().into()).unwrap();
        let steps = self.lease.from_server(envelope, self.link.tap(), self.now);
        self.steps(steps);
        self.look();
        true
    }

    fn look(&mut self) {
        let documents = self.link.mirror_mut(ClientId::ONLY).unwrap().documents();
        let document =
            |uri: &str| documents.get(uri).map(|open| (open.document.clone(), open.encoding));
        let quiet = self.link.pending_len(ClientId::ONLY) == 0 && !self.busy;
        let ground = Ground { quiet, manner: None, document: &document, tap: self.link.tap() };
        let steps = self.lease.look(ground, self.now);
        self.steps(steps);
    }

    fn pump(&mut self) {
        while self.server.step() || self.deliver() {}
    }

    /// Time passes, in which everybody does what there is to do.
    fn pass(&mut self, ms: u64) {
        for _ in 0..ms / 10 {
            self.pump();
            self.now += Duration::from_millis(10);
            self.look();
        }
        self.pump();
    }

    fn ask(&mut self, uri: &str, text: &str) -> u64 {
        self.asked += 1;
        let manner = Manner {
            pull: self.server.ways.pull,
            barrier: Some("textDocument/documentSymbol".into()),
            incremental: true,
            ..Manner::default()
        };
        let deadline = self.now + Duration::from_secs(2);
        let question =
            Question { number: self.asked, uri: uri.into(), text: text.into(), manner, deadline };
        let step = self.lease.ask(question);
        self.steps(step.into_iter().collect());
        self.look();
        self.asked
    }

    fn type_word(&mut self, uri: &'static str, word: &str) {
        let (version, text) = self.texts.get_mut(uri).unwrap();
        let at = text.len();
        *version += 1;
        text.push_str(word);
        let version = *version;
        let place = json!({"line": 0, "character": at});
        self.editor(json!({"method": "textDocument/didChange", "params": {
            "textDocument": {"uri": uri, "version": version},
            "contentChanges": [{"range": {"start": place, "end": place}, "text": word}],
        }}));
    }

    fn answer(&self, number: u64) -> Option<&Result<Said, Refusal>> {
        self.answers.iter().find(|(of, _)| *of == number).map(|(_, result)| result)
    }

    /// What the server has is what the editor has.
    fn check_texts(&self) {
        for (uri, (_, text)) in &self.texts {
            assert_eq!(self.server.open[*uri].1, *text, "{uri}");
        }
    }
}

const PUSH: Ways = Ways { pull: false, far: false, loud: false };
const PULL: Ways = Ways { pull: true, far: false, loud: false };

fn methods(messages: &VecDeque<Value>) -> Vec<&str> {
    messages.iter().map(|message| message["method"].as_str().unwrap_or("=")).collect()
}

#[test]
fn rule_4_34_a_candidate_is_seen_by_the_server_and_by_nobody_else() {
    for ways in
        [PUSH, PULL, Ways { far: true, loud: true, ..PUSH }, Ways { far: true, loud: true, ..PULL }]
    {
        let mut rig = Rig::new(ways);
        let before = rig.heard.clone();
        let number = rig.ask(A, &format!("a{SECRET}"));
        rig.pass(1000);
        let said = rig.answer(number).expect("answered").clone().expect("said");
        assert!(String::from_utf8_lossy(&said.diagnostics).contains(SECRET), "{ways:?}");
        assert_eq!(rig.heard, before, "{ways:?}");
        rig.check_texts();
        assert_eq!(
            rig.server.open[A].0, 3,
            "one version more for the candidate, one for the way back"
        );
        rig.type_word(A, "!");
        rig.pass(1000);
        rig.check_texts();
        let publications =
            rig.heard.iter().filter(|m| m["params"]["uri"] == A && m["params"]["version"] == 2);
        assert_eq!(
            publications.count(),
            usize::from(!ways.pull || ways.far),
            "the editor's own count: {ways:?}"
        );
    }
}

#[test]
fn rule_4_34_a_lease_waits_until_every_client_is_silent_and_served() {
    let mut rig = Rig::new(PULL);
    rig.type_word(A, "!");
    let number = rig.ask(A, SECRET);
    rig.pass(140);
    assert_eq!(rig.answer(number), None);
    assert!(rig.server.open[A].1 == "a!");
    rig.editor(json!({"id": 5, "method": "textDocument/hover", "params": {}}));
    rig.now += Duration::from_secs(1);
    rig.look();
    assert_eq!(methods(&rig.server.inbox), ["textDocument/hover"], "a request is under way");
    rig.pass(200);
    assert!(rig.answer(number).is_some_and(Result::is_ok));
    // Who waits too long is told so.
    rig.busy = true;
    let number = rig.ask(A, SECRET);
    rig.pass(2100);
    assert_eq!(rig.answer(number), Some(&Err(Refusal::Busy)));
    let many: Vec<u64> = (0..=LEASES_WAITING_MAX).map(|_| rig.ask(A, SECRET)).collect();
    assert_eq!(rig.answer(many[LEASES_WAITING_MAX]), Some(&Err(Refusal::Busy)));
}

#[test]
fn rule_4_34_whatever_a_client_says_comes_after_the_way_back() {
    let messages = [
        json!({"method": "textDocument/didSave", "params": {"textDocument": {"uri": B}}}),
        json!({"id": 9, "method": "textDocument/hover", "params": {"textDocument": {"uri": B}}}),
        json!({"method": "$/setTrace", "params": {"value": "off"}}),
        json!({"method": "textDocument/didClose", "params": {"textDocument": {"uri": A}}}),
    ];
    for message in messages {
        let mut rig = Rig::new(PULL);
        let number = rig.ask(A, SECRET);
        assert_eq!(
            methods(&rig.server.inbox),
            ["textDocument/didChange", "textDocument/diagnostic"]
        );
        let method = message["method"].as_str().unwrap().to_owned();
        rig.editor(message);
        assert_eq!(rig.answer(number), Some(&Err(Refusal::Preempted)));
        assert_eq!(
            methods(&rig.server.inbox)[2..],
            ["$/cancelRequest", "textDocument/didChange", "textDocument/documentSymbol", &method]
        );
        assert_eq!(rig.server.inbox[3]["params"]["contentChanges"][0]["text"], "a");
        rig.pass(1000);
        assert_eq!(rig.answers.len(), 1, "one answer, whatever the server still says");
    }
}

#[test]
fn rule_4_34_an_asker_that_is_gone_or_late_leaves_nothing_behind() {
    let mut rig = Rig::new(PULL);
    let number = rig.ask(A, SECRET);
    let steps = rig.lease.forget(number, rig.now);
    rig.steps(steps);
    rig.pass(1000);
    rig.check_texts();
    assert!(rig.answers.is_empty());
    // A server that does not answer: the way back comes with the deadline.
    let number = rig.ask(A, SECRET);
    rig.server.inbox.clear();
    rig.now += Duration::from_secs(3);
    rig.look();
    assert_eq!(rig.answer(number), Some(&Err(Refusal::Timeout)));
    assert_eq!(methods(&rig.server.inbox)[..2], ["$/cancelRequest", "textDocument/didChange"]);
}

#[test]
fn rule_4_34_a_server_that_dies_with_a_candidate_comes_back_without_it() {
    let mut rig = Rig::new(PULL);
    let number = rig.ask(A, SECRET);
    rig.server.step();
    assert_eq!(rig.server.open[A].1, SECRET);
    let steps = rig.lease.died();
    rig.steps(steps);
    assert_eq!(rig.answer(number), Some(&Err(Refusal::Died)));
    let routes = rig.link.on_server_death();
    rig.routes(routes);
    rig.server.inbox.clear();
    rig.server.outbox.clear();
    rig.server.open.clear();
    let routes = rig.link.on_server_up(rig.now);
    rig.routes(routes);
    rig.pass(1000);
    rig.check_texts();
    assert_eq!(rig.server.open[A].0, 1, "the count begins anew");
    rig.type_word(A, "!");
    rig.pass(200);
    assert_eq!(rig.server.open[A], (2, "a!".to_owned()));
}

#[test]
fn rule_4_20_edits_are_of_the_editor_s_version_and_what_is_wrapped_comes_back_current() {
    let mut rig = Rig::new(PULL);
    rig.editor(json!({"id": 1, "method": "textDocument/codeAction", "params": {"textDocument": {"uri": A}}}));
    rig.pass(200);
    let early = rig.heard.last().unwrap()["result"][0].clone();
    rig.ask(A, SECRET);
    rig.pass(1000);
    rig.editor(json!({"id": 2, "method": "textDocument/codeAction", "params": {"textDocument": {"uri": A}}}));
    rig.pass(200);
    let late = rig.heard.last().unwrap()["result"][0].clone();
    assert_eq!(early["edit"], late["edit"]);
    assert_eq!(late["edit"]["documentChanges"][0]["textDocument"]["version"], 1);
    assert_eq!((&early["data"]["version"], &late["data"]["version"]), (&json!(1), &json!(3)));
    for action in [early, late] {
        rig.editor(json!({"id": 3, "method": "codeAction/resolve", "params": action}));
        let sent = rig.server.inbox.back().unwrap();
        assert_eq!(
            sent["params"]["data"]["version"], 3,
            "the text that the server has is the one it was asked about"
        );
        rig.pass(200);
    }
}

#[test]
fn rule_4_34_news_of_other_documents_is_late_but_not_lost() {
    let mut rig = Rig::new(Ways { far: true, ..PUSH });
    rig.ask(A, &format!("a{SECRET}"));
    rig.server.step();
    // A slow check of the other document ends just now.
    rig.server.say(json!({"method": "textDocument/publishDiagnostics", "params": {"uri": "file:///p/c", "diagnostics": [{"message": "found"}]}}));
    rig.pass(1000);
    assert_eq!(rig.heard.last().unwrap()["params"]["uri"], "file:///p/c");
}

#[derive(Clone, Debug)]
enum Deed {
    Type(bool, u8),
    Ask(bool, u8),
    Hover,
    Actions(bool),
    Save(bool),
    Step,
    Deliver,
    Pass,
}

fn deeds(second: bool) -> impl Strategy<Value = Vec<Deed>> {
    let which = move || if second { any::<bool>().boxed() } else { Just(true).boxed() };
    let deed = prop_oneof![
        3 => (which(), 0..26u8).prop_map(|(which, letter)| Deed::Type(which, letter)),
        3 => (which(), 0..26u8).prop_map(|(which, letter)| Deed::Ask(which, letter)),
        1 => Just(Deed::Hover),
        1 => which().prop_map(Deed::Actions),
        1 => which().prop_map(Deed::Save),
        4 => Just(Deed::Step),
        4 => Just(Deed::Deliver),
        3 => Just(Deed::Pass),
    ];
    proptest::collection::vec(deed, 1..60)
}

/// Does the deeds, with or without leases; gives what the editor has heard.
fn live(ways: Ways, deeds: &[Deed], leases: bool) -> Rig {
    let mut rig = Rig::new(ways);
    let uri = |first: bool| if first { A } else { B };
    for (number, deed) in deeds.iter().enumerate() {
        match deed {
            Deed::Type(which, letter) => {
                rig.type_word(uri(*which), &char::from(b'a' + letter).to_string())
            }
            Deed::Ask(which, letter) if leases => {
                let text = format!("{SECRET}{}", char::from(b'a' + letter));
                rig.ask(uri(*which), &text);
            }
            Deed::Ask(..) => {}
            Deed::Hover => {
                rig.editor(json!({"id": number, "method": "textDocument/hover", "params": {}}))
            }
            Deed::Actions(which) => {
                rig.editor(json!({"id": number, "method": "textDocument/codeAction", "params": {"textDocument": {"uri": uri(*which)}}}));
            }
            Deed::Save(which) => {
                rig.editor(json!({"method": "textDocument/didSave", "params": {"textDocument": {"uri": uri(*which)}}}));
            }
            Deed::Step => drop(rig.server.step()),
            Deed::Deliver => drop(rig.deliver()),
            Deed::Pass => rig.pass(200),
        }
    }
    rig.pass(3000);
    rig.check_texts();
    assert_eq!(rig.answers.len() as u64, rig.asked, "one answer for every question");
    rig
}

/// What a run without leases hears, but for what servers wrap for themselves: they may count there as they like.
fn without_data(heard: &[Value]) -> Vec<Value> {
    let mut heard = heard.to_vec();
    for message in &mut heard {
        if message["result"][0]["data"].is_object() {
            message["result"][0]["data"] = Value::Null;
        }
    }
    heard
}

/// The last word about every document.
fn last_words(heard: &[Value]) -> BTreeMap<String, Value> {
    let said = heard.iter().filter(|m| m["method"] == "textDocument/publishDiagnostics");
    said.map(|m| (m["params"]["uri"].to_string(), m["params"].clone())).collect()
}

proptest! {
    /// What the editor sees of one document is the same, message by message, whether there are leases or not.
    #[test]
    fn rule_4_34_an_editor_cannot_tell_whether_there_are_leases(pull in any::<bool>(), loud in any::<bool>(), deeds in deeds(false)) {
        let ways = Ways { pull, loud, far: false };
        let (with, without) = (live(ways, &deeds, true), live(ways, &deeds, false));
        prop_assert_eq!(without_data(&with.heard), without_data(&without.heard));
    }

    /// With several documents that tell of each other, words may come late and superseded ones not at all; in the end all is as it would be.
    #[test]
    fn rule_4_34_at_rest_nothing_of_a_lease_is_left(pull in any::<bool>(), loud in any::<bool>(), deeds in deeds(true)) {
        let ways = Ways { pull, loud, far: true };
        let (with, without) = (live(ways, &deeds, true), live(ways, &deeds, false));
        prop_assert_eq!(last_words(&with.heard), last_words(&without.heard));
        let answers = |rig: &Rig| without_data(&rig.heard).into_iter().filter(|m| m.get("method").is_none()).collect::<Vec<_>>();
        prop_assert_eq!(answers(&with), answers(&without));
    }
}
