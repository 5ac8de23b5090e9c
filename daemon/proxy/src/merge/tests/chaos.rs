//! Random traffic: servers that are slow, silent, wrong or dying. Whatever happens, every request of the client gets exactly one
//! answer, every server hears the changes of a document in their order, and what is shown last is the union of what is
//! said.

use std::collections::{BTreeMap, BTreeSet};

use proptest::prelude::*;

use super::*;

#[derive(Clone, Debug)]
enum Step {
    Ask(u8),
    Cancel(u8),
    Change(bool),
    Answer(u8, bool),
    Publish(u8, Vec<u8>),
    Request(u8),
    Reply,
    Wait(u16),
    Die(u8),
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let step = prop_oneof![
        5 => (0u8..6).prop_map(Step::Ask),
        2 => (0u8..30).prop_map(Step::Cancel),
        3 => any::<bool>().prop_map(Step::Change),
        6 => (0u8..30, any::<bool>()).prop_map(|(n, good)| Step::Answer(n, good)),
        4 => (0u8..3, proptest::collection::vec(0u8..4, 0..3)).prop_map(|(n, m)| Step::Publish(n, m)),
        1 => (0u8..3).prop_map(Step::Request),
        1 => Just(Step::Reply),
        2 => (0u16..3000).prop_map(Step::Wait),
        1 => (0u8..3).prop_map(Step::Die),
    ];
    proptest::collection::vec(step, 0..120)
}

const METHODS: [&str; 6] = [
    "textDocument/hover",
    "textDocument/completion",
    "textDocument/formatting",
    "textDocument/willSaveWaitUntil",
    "textDocument/diagnostic",
    "custom/unknown",
];

struct World {
    rig: Rig,
    asked: Vec<u32>,
    answers: BTreeMap<String, u32>,
    /// Requests that servers have not answered: server and id.
    open: Vec<(char, Value)>,
    /// Requests that the client has not answered.
    questions: Vec<Value>,
    /// What servers have asked, and how often they were answered.
    asked_by_servers: BTreeMap<(char, u32), u32>,
    /// The last version of the document that every server has heard of.
    versions: BTreeMap<char, i64>,
    said: BTreeMap<char, BTreeSet<u8>>,
    shown: BTreeSet<String>,
}

impl World {
    fn new() -> World {
        let sync =
            |change: u32| json!({ "openClose": true, "change": change, "willSaveWaitUntil": true });
        let able = |change: u32| {
            json!({
                "textDocumentSync": sync(change), "hoverProvider": true, "completionProvider": {},
                "documentFormattingProvider": true, "diagnosticProvider": {},
            })
        };
        let mut rig = Rig::ready(client(), &[able(2), able(1), able(2)]);
        rig.opens("u", 0, "text\n");
        World {
            rig,
            asked: Vec::new(),
            answers: BTreeMap::new(),
            open: Vec::new(),
            questions: Vec::new(),
            asked_by_servers: BTreeMap::new(),
            versions: BTreeMap::new(),
            said: BTreeMap::new(),
            shown: BTreeSet::new(),
        }
    }

    fn step(&mut self, step: Step, version: i32) {
        let left = match step {
            Step::Ask(n) => {
                let id = self.asked.len() as u32 + 1000;
                self.asked.push(id);
                self.rig.asks(id, METHODS[n as usize], about("u"))
            }
            Step::Cancel(n) => match self.asked.get(n as usize % self.asked.len().max(1)) {
                Some(id) => self.rig.tells("$/cancelRequest", json!({ "id": id })),
                None => Vec::new(),
            },
            Step::Change(whole) => {
                let at = json!({ "line": 0, "character": 0 });
                let change = json!({ "range": { "start": at, "end": at }, "text": "x" });
                let change = if whole { json!({ "text": "new\n" }) } else { change };
                self.rig.changes("u", version, json!([change]))
            }
            Step::Answer(n, good) => self.answer(n as usize, good),
            Step::Publish(n, findings) => {
                let name = (b'a' + n) as char;
                let names: Vec<String> = findings.iter().map(|f| format!("{name}{f}")).collect();
                self.said.insert(name, findings.into_iter().collect());
                let names: Vec<&str> = names.iter().map(String::as_str).collect();
                self.rig.published(name, "u", None, &names)
            }
            Step::Request(n) => {
                let name = (b'a' + n) as char;
                let id = self.asked_by_servers.len() as u32;
                self.asked_by_servers.insert((name, id), 0);
                self.rig.server(name, json!({ "id": id, "method": "custom/ask" }))
            }
            Step::Reply => match self.questions.pop() {
                Some(id) => self.rig.says(json!({ "id": id, "result": 1 })),
                None => Vec::new(),
            },
            Step::Wait(ms) => self.rig.wait(Duration::from_millis(ms.into())),
            Step::Die(n) => self.die((b'a' + n) as char),
        };
        self.note(left);
    }

    fn answer(&mut self, n: usize, good: bool) -> Vec<Left> {
        if self.open.is_empty() {
            return Vec::new();
        }
        let (name, id) = self.open.remove(n % self.open.len());
        let answer = match good {
            true => json!({ "id": id, "result": null }),
            false => json!({ "id": id, "error": { "code": -32803, "message": "no" } }),
        };
        self.rig.server(name, answer)
    }

    /// What the link of a dying server does: everything fails.
    fn die(&mut self, name: char) -> Vec<Left> {
        self.said.remove(&name);
        let mut left = self.rig.dies(name);
        for (_, id) in self.open.extract_if(.., |(of, _)| *of == name).collect::<Vec<_>>() {
            let error = json!({ "code": codes::CONTENT_MODIFIED, "message": "gone" });
            left.extend(self.rig.server(name, json!({ "id": id, "error": error })));
        }
        left
    }

    fn note(&mut self, left: Vec<Left>) {
        for one in left {
            let body = one.body();
            match (&one.envelope.kind, one.to) {
                (Kind::Response { id }, '-') => {
                    *self.answers.entry(id.to_string()).or_default() += 1
                }
                (Kind::Response { id }, name) => {
                    *self.asked_by_servers.get_mut(&(name, id.as_u32().unwrap())).unwrap() += 1;
                }
                (Kind::Request { .. }, '-') => self.questions.push(body["id"].clone()),
                (Kind::Request { .. }, name) => self.open.push((name, body["id"].clone())),
                (Kind::Notification { method }, '-')
                    if *method == "textDocument/publishDiagnostics" =>
                {
                    self.shown = messages(&one).into_iter().collect();
                }
                (Kind::Notification { method }, name) if *method == "textDocument/didChange" => {
                    let version = body["params"]["textDocument"]["version"].as_i64().unwrap();
                    let last = self.versions.insert(name, version);
                    assert!(last.is_none_or(|last| last < version), "{name}: {last:?} {version}");
                }
                _ => {}
            }
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn rule_4_17_every_request_gets_exactly_one_answer_whatever_the_servers_do(steps in steps()) {
        let mut world = World::new();
        let mut version = 0;
        for step in steps {
            version += 1;
            world.step(step, version);
            for count in world.answers.values() {
                prop_assert_eq!(*count, 1);
            }
        }
        // All servers die, everybody answers, time passes.
        for name in ['a', 'b', 'c'] {
            let said = world.said.get(&name).cloned();
            let left = world.die(name);
            world.note(left);
            // They come back, and say the same again.
            if let Some(said) = said {
                world.step(Step::Publish(name as u8 - b'a', said.into_iter().collect()), 0);
            }
        }
        while !world.questions.is_empty() {
            world.step(Step::Reply, 0);
        }
        // A save asks one server after the other, so that deaths alone do not end it.
        for _ in 0..3 {
            world.step(Step::Wait(60_000), 0);
        }
        prop_assert_eq!(world.answers.len(), world.asked.len());
        prop_assert!(world.answers.values().all(|count| *count == 1), "{:?}", world.answers);
        prop_assert!(world.asked_by_servers.values().all(|count| *count == 1));
        prop_assert_eq!(world.rig.merge.pending_len(), 0);
        prop_assert_eq!(world.rig.merge.next_deadline(), None);
        let said: BTreeSet<String> = world
            .said
            .iter()
            .flat_map(|(name, said)| said.iter().map(move |finding| format!("{name}{finding}")))
            .collect();
        prop_assert_eq!(&world.shown, &said);
    }
}
