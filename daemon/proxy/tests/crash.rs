//! The crash model without processes: the link of a shim and the link of a daemon, joined by queues in memory, with an editor
//! and a server that speak at random, and a scheduler that kills either of the far ends at any moment. Every seed must end with
//! one answer for each request, the editor's text at the server, and nothing on the screen that nobody stands by.
//!
//! `demolish bench faults` does the same with real processes; this is what ten thousand times as many seeds can be tried on.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::time::{Duration, Instant};

use proxy::{ClientId, Link, LinkOptions, Outbound, Reads, Route, ServerState};
use serde_json::{Value, json};
use text::{Change, Document, Encoding, Position, Range, Revision};
use wire::{Envelope, Id, Kind, ResponseError};

/// Numbers drawn from a seed (xorshift).
struct Chance(u64);

impl Chance {
    fn below(&mut self, end: usize) -> usize {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        (self.0 >> 11) as usize % end.max(1)
    }

    fn percent(&mut self, share: usize) -> bool {
        self.below(100) < share
    }
}

#[derive(Default)]
struct Editor {
    last_id: u32,
    answers: BTreeMap<u32, u32>,
    documents: BTreeMap<String, (i32, String)>,
    waiting: Vec<Id>,
    serial: u64,
    progress: BTreeSet<String>,
    shown: BTreeMap<String, u64>,
}

/// One life of a server.
#[derive(Default)]
struct Server {
    documents: BTreeMap<String, Document>,
    waiting: Vec<Id>,
    asked: BTreeSet<u64>,
    strays: u32,
    serials: Vec<u64>,
    progress: BTreeSet<String>,
    published: BTreeMap<String, u64>,
    counted: u64,
}

struct World {
    chance: Chance,
    now: Instant,
    editor: Editor,
    shim: Link,
    daemon: Option<Link>,
    server: Option<Server>,
    /// From shim to editor and daemon, from daemon to shim and server, from server to daemon.
    to_editor: VecDeque<Outbound>,
    to_daemon: VecDeque<Outbound>,
    to_shim: VecDeque<Outbound>,
    to_server: VecDeque<Outbound>,
    from_server: VecDeque<Envelope>,
    /// Whether the shim knows that its daemon is dead, and the daemon that its server is.
    daemon_missed: bool,
    server_missed: bool,
    log: Vec<String>,
}

fn link(reads: Reads, client: ClientId) -> Link {
    let mut link = Link::new(LinkOptions::new("server", reads));
    link.join(client);
    link
}

const DAEMONS: ClientId = ClientId(7);

impl World {
    fn new(seed: u64) -> World {
        let chance = Chance(seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1);
        let mut world = World {
            chance,
            now: Instant::now(),
            editor: Editor::default(),
            shim: link(Reads::Retry, ClientId::ONLY),
            daemon: None,
            server: None,
            to_editor: VecDeque::new(),
            to_daemon: VecDeque::new(),
            to_shim: VecDeque::new(),
            to_server: VecDeque::new(),
            from_server: VecDeque::new(),
            daemon_missed: true,
            server_missed: true,
            log: Vec::new(),
        };
        world.chance.below(2);
        world.daemon_up();
        world.server_up();
        world.ask("initialize", json!({ "capabilities": {} }));
        world.drain();
        world.tell("initialized", json!({}));
        world
    }

    fn say(&mut self, line: String) {
        self.log.push(line);
    }

    // What the editor does.

    fn send(&mut self, envelope: Envelope) {
        self.say(format!("editor: {}", String::from_utf8_lossy(&envelope.body)));
        let routes = self.shim.on_client(ClientId::ONLY, envelope, self.now);
        self.route_shim(routes);
    }

    fn ask(&mut self, method: &str, params: Value) {
        self.editor.last_id += 1;
        self.editor.answers.insert(self.editor.last_id, 0);
        self.send(Envelope::request(Id::number(self.editor.last_id), method, &params));
    }

    fn tell(&mut self, method: &str, params: Value) {
        self.send(Envelope::notification(method, &params));
    }

    fn number(&mut self) {
        self.editor.serial += 1;
        self.tell("test/serial", json!(self.editor.serial));
    }

    fn write(&mut self) {
        let uri = format!("file:///{}", self.chance.below(3));
        let Some((version, text)) = self.editor.documents.get(&uri).cloned() else {
            let document = json!({ "uri": uri, "languageId": "x", "version": 1, "text": "é😀\n" });
            self.editor.documents.insert(uri, (1, "é😀\n".to_owned()));
            return self.tell("textDocument/didOpen", json!({ "textDocument": document }));
        };
        let which = json!({ "uri": uri, "version": version + 1 });
        if self.chance.percent(10) {
            self.editor.documents.remove(&uri);
            return self.tell("textDocument/didClose", json!({ "textDocument": which }));
        }
        // Everything stands in the first line, so that places are easily counted.
        let letters: Vec<char> = text.trim_end().chars().collect();
        let (start, more) = (self.chance.below(letters.len() + 1), self.chance.below(3));
        let end = (start + more).min(letters.len());
        let units = |to: usize| letters[..to].iter().map(|c| c.len_utf16()).sum::<usize>();
        let put = ["", "a", "漢", "𝄞"][self.chance.below(4)];
        let place = |to: usize| json!({ "line": 0, "character": units(to) });
        let change = json!({ "range": { "start": place(start), "end": place(end) }, "text": put });
        let text: String = letters[..start]
            .iter()
            .chain(put.chars().collect::<Vec<_>>().iter())
            .chain(&letters[end..])
            .collect();
        self.editor.documents.insert(uri, (version + 1, text + "\n"));
        let params = json!({ "textDocument": which, "contentChanges": [change] });
        self.tell("textDocument/didChange", params);
    }

    fn cancel(&mut self, all: bool) {
        let open = self.editor.answers.iter().filter(|(_, answers)| **answers == 0);
        let open: Vec<u32> = open.map(|(id, _)| *id).collect();
        if !open.is_empty() {
            let one = self.chance.below(open.len());
            let which = if all { &open[..] } else { &open[one..=one] };
            for id in which {
                self.tell("$/cancelRequest", json!({ "id": id }));
            }
        }
    }

    fn answer(&mut self) {
        if !self.editor.waiting.is_empty() {
            let at = self.chance.below(self.editor.waiting.len());
            let id = self.editor.waiting.remove(at);
            self.send(Envelope::response(id, &json!("yes")));
        }
    }

    fn editor_reads(&mut self, envelope: &Envelope) {
        self.say(format!("      → editor: {}", String::from_utf8_lossy(&envelope.body)));
        let params = envelope.params_as::<Value>().unwrap_or_default();
        match &envelope.kind {
            Kind::Response { id } => {
                let id = id.as_u32().expect("an id of the editor");
                *self.editor.answers.get_mut(&id).expect("it was asked") += 1;
            }
            Kind::Request { id, .. } => self.editor.waiting.push(id.clone()),
            Kind::Notification { method } => match &**method {
                "$/cancelRequest" => {
                    let id = params["id"].to_string();
                    if let Some(at) = self.editor.waiting.iter().position(|w| w.raw() == id) {
                        let id = self.editor.waiting.remove(at);
                        self.send(Envelope::error(id, &ResponseError::new(-32800, "cancelled")));
                    }
                }
                "$/progress" => progress(&mut self.editor.progress, &params),
                "textDocument/publishDiagnostics" => {
                    let count = params["diagnostics"].as_array().unwrap().len() as u64;
                    self.editor.shown.insert(params["uri"].to_string(), count);
                }
                _ => {}
            },
        }
    }

    // What the server does.

    fn server_reads(&mut self, envelope: &Envelope) {
        self.say(format!("      → server: {}", String::from_utf8_lossy(&envelope.body)));
        let Some(server) = &mut self.server else { return };
        let params = envelope.params_as::<Value>().unwrap_or_default();
        let document = &params["textDocument"];
        let uri = document["uri"].as_str().unwrap_or_default().to_owned();
        let version = Revision(document["version"].as_i64().unwrap_or(0) as i32);
        match &envelope.kind {
            Kind::Request { id, method } if *method == "initialize" => {
                let answer = Envelope::response(id.clone(), &json!({ "capabilities": {} }));
                self.from_server.push_back(answer);
            }
            Kind::Request { id, .. } => server.waiting.push(id.clone()),
            Kind::Response { id } => {
                let id: u64 = id.raw().parse().unwrap();
                server.strays += u32::from(!server.asked.remove(&id));
            }
            Kind::Notification { method } => match &**method {
                "textDocument/didOpen" => {
                    let text = document["text"].as_str().unwrap();
                    server.documents.insert(uri, Document::new(version, text));
                }
                "textDocument/didChange" => {
                    let document = server.documents.get_mut(&uri).expect("it is open");
                    document.apply(version, &changes(&params), Encoding::Utf16).unwrap();
                }
                "textDocument/didClose" => drop(server.documents.remove(&uri).expect("it is open")),
                "test/serial" => server.serials.push(params.as_u64().unwrap()),
                "$/cancelRequest" => {
                    let id = params["id"].to_string();
                    if let Some(at) = server.waiting.iter().position(|w| w.raw() == id) {
                        let id = server.waiting.remove(at);
                        let error = ResponseError::new(-32800, "cancelled");
                        self.from_server.push_back(Envelope::error(id, &error));
                    }
                }
                _ => {}
            },
        }
    }

    fn server_acts(&mut self) {
        let act = self.chance.below(6);
        let Some(server) = &mut self.server else { return };
        server.counted += 1;
        let envelope = match act {
            0..=2 if !server.waiting.is_empty() => {
                let id = server.waiting.remove(self.chance.below(server.waiting.len()));
                Envelope::response(id, &json!(1))
            }
            3 => {
                server.asked.insert(server.counted);
                let id = Id::from_raw(server.counted.to_string().as_bytes()).unwrap();
                Envelope::request(id, ["custom/q", "workspace/applyEdit"][self.chance.below(2)], &1)
            }
            4 => {
                let token = self.chance.below(3).to_string();
                let kind = if server.progress.contains(&token) { "end" } else { "begin" };
                let params = json!({ "token": token, "value": { "kind": kind } });
                progress(&mut server.progress, &params);
                Envelope::notification("$/progress", &params)
            }
            5 => {
                let uri = format!("file:///{}", self.chance.below(3));
                let count = self.chance.below(3);
                server.published.insert(json!(uri).to_string(), count as u64);
                let params = json!({ "uri": uri, "diagnostics": vec![json!({}); count] });
                Envelope::notification("textDocument/publishDiagnostics", &params)
            }
            _ => return,
        };
        self.from_server.push_back(envelope);
    }

    // What goes between.

    fn route_shim(&mut self, routes: Vec<Route>) {
        for route in routes {
            match route {
                Route::Client(_, message) => self.to_editor.push_back(message),
                Route::Server(message) => self.to_daemon.push_back(message),
                Route::WithdrawFromServer(tag, otherwise) => {
                    if self.chance.percent(50) && withdraw(&mut self.to_daemon, tag) {
                        let routes = self.shim.withdrawn_from_server(tag);
                        self.route_shim(routes);
                    } else {
                        self.to_daemon.push_back(otherwise);
                    }
                }
                Route::WithdrawFromClient(_, tag, otherwise) => {
                    if self.chance.percent(50) && withdraw(&mut self.to_editor, tag) {
                        let routes = self.shim.withdrawn_from_client(tag);
                        self.route_shim(routes);
                    } else {
                        self.to_editor.push_back(otherwise);
                    }
                }
                other => panic!("{other:?}"),
            }
        }
    }

    fn route_daemon(&mut self, routes: Vec<Route>) {
        for route in routes {
            match route {
                Route::Client(_, message) => self.to_shim.push_back(message),
                Route::Server(message) => self.to_server.push_back(message),
                Route::WithdrawFromServer(tag, otherwise) => {
                    if self.chance.percent(50) && withdraw(&mut self.to_server, tag) {
                        let routes = self.daemon.as_mut().unwrap().withdrawn_from_server(tag);
                        self.route_daemon(routes);
                    } else {
                        self.to_server.push_back(otherwise);
                    }
                }
                Route::WithdrawFromClient(_, tag, otherwise) => {
                    if self.chance.percent(50) && withdraw(&mut self.to_shim, tag) {
                        let link = self.daemon.as_mut().unwrap();
                        let routes = link.withdrawn_from_client(tag);
                        self.route_daemon(routes);
                    } else {
                        self.to_shim.push_back(otherwise);
                    }
                }
                other => panic!("{other:?}"),
            }
        }
    }

    /// Lets one message go one step; `false`: there is none on this way.
    fn deliver(&mut self, way: usize) -> bool {
        match way {
            0 => {
                let Some(message) = self.to_editor.pop_front() else { return false };
                self.editor_reads(&Envelope::read(message.body).unwrap());
            }
            1 => {
                if self.daemon.is_none() {
                    return false;
                }
                let Some(message) = self.to_daemon.pop_front() else { return false };
                let envelope = Envelope::read(message.body).unwrap();
                let routes = self.daemon.as_mut().unwrap().on_client(DAEMONS, envelope, self.now);
                self.route_daemon(routes);
            }
            2 => {
                let Some(message) = self.to_shim.pop_front() else { return false };
                let routes = self.shim.on_server(Envelope::read(message.body).unwrap(), self.now);
                self.route_shim(routes);
            }
            3 => {
                if self.server.is_none() {
                    return false;
                }
                let Some(message) = self.to_server.pop_front() else { return false };
                self.server_reads(&Envelope::read(message.body).unwrap());
            }
            _ => {
                if self.daemon.is_none() {
                    return false;
                }
                let Some(envelope) = self.from_server.pop_front() else { return false };
                let routes = self.daemon.as_mut().unwrap().on_server(envelope, self.now);
                self.route_daemon(routes);
            }
        }
        true
    }

    fn drain(&mut self) {
        while (0..5).any(|way| self.deliver(way)) {}
    }

    // What dies and returns.

    fn kill_server(&mut self) {
        if self.server.take().is_some() {
            self.say("SERVER KILLED".to_owned());
            // What it had written may still be read.
            let kept = self.chance.below(self.from_server.len() + 1);
            self.from_server.truncate(kept);
        }
    }

    fn kill_daemon(&mut self) {
        if self.daemon.take().is_some() {
            self.say("DAEMON KILLED".to_owned());
            self.server = None;
            self.from_server.clear();
            self.to_server.clear();
            let kept = self.chance.below(self.to_shim.len() + 1);
            self.to_shim.truncate(kept);
            self.server_missed = true;
        }
    }

    /// Whoever has lost the other side notices, or it returns.
    fn recover(&mut self) {
        if self.daemon.is_none() {
            if self.daemon_missed {
                self.daemon_up();
            } else if self.to_shim.is_empty() {
                self.daemon_missed = true;
                let routes = self.shim.on_server_death();
                self.say("the shim notices".to_owned());
                self.to_daemon.clear();
                self.route_shim(routes);
            }
        } else if self.server.is_none() {
            if self.server_missed {
                self.server_up();
            } else if self.from_server.is_empty() {
                self.server_missed = true;
                let routes = self.daemon.as_mut().unwrap().on_server_death();
                self.say("the daemon notices".to_owned());
                self.to_server.clear();
                self.route_daemon(routes);
            }
        }
    }

    fn daemon_up(&mut self) {
        self.say("a daemon is there".to_owned());
        self.daemon = Some(link(Reads::Fail, DAEMONS));
        self.daemon_missed = false;
        let routes = self.shim.on_server_up(self.now);
        self.route_shim(routes);
    }

    fn server_up(&mut self) {
        self.say("a server is there".to_owned());
        self.server = Some(Server::default());
        self.server_missed = false;
        let routes = self.daemon.as_mut().unwrap().on_server_up(self.now);
        self.route_daemon(routes);
    }

    fn pass_time(&mut self, ms: usize) {
        self.now += Duration::from_millis(ms as u64);
        let routes = self.shim.expire(self.now);
        self.route_shim(routes);
        if let Some(daemon) = &mut self.daemon {
            let routes = daemon.expire(self.now);
            self.route_daemon(routes);
        }
    }

    // One run.

    fn run(&mut self) {
        for _ in 0..150 + self.chance.below(250) {
            match self.chance.below(100) {
                0..=49 => {
                    let way = self.chance.below(5);
                    self.deliver(way);
                }
                50..=59 => self.write(),
                60..=66 => {
                    let method = ["textDocument/hover", "workspace/executeCommand", "test/x"];
                    let method = method[self.chance.below(3)];
                    self.ask(method, json!({}));
                }
                67..=71 => self.number(),
                72..=73 => self.cancel(false),
                74..=77 => self.answer(),
                78..=90 => self.server_acts(),
                91..=92 => {
                    let ms = self.chance.below(700);
                    self.pass_time(ms);
                }
                93 => self.kill_server(),
                94 if self.chance.percent(60) => self.kill_daemon(),
                _ => self.recover(),
            }
        }
        self.settle();
    }

    /// No more faults: everything that can happen happens.
    fn settle(&mut self) {
        for _ in 0..12 {
            self.recover();
            self.drain();
            while !self.editor.waiting.is_empty() {
                self.answer();
            }
        }
        assert_eq!(*self.shim.state(), ServerState::Running);
        self.cancel(true);
        self.number();
        self.drain();
        self.pass_time(2000);
        self.drain();
        while !self.editor.waiting.is_empty() {
            self.answer();
        }
        self.drain();
    }

    fn check(&self) {
        let unanswered: Vec<_> =
            self.editor.answers.iter().filter(|(_, answers)| **answers != 1).collect();
        assert!(unanswered.is_empty(), "requests and their answers: {unanswered:?}");
        let server = self.server.as_ref().expect("a server");
        let held: BTreeMap<String, (i32, String)> = server
            .documents
            .iter()
            .map(|(uri, document)| (uri.clone(), (document.revision().0, document.text())))
            .collect();
        assert_eq!(held, self.editor.documents);
        assert_eq!((server.strays, &server.asked), (0, &BTreeSet::new()));
        assert_eq!(server.serials.last(), Some(&self.editor.serial));
        let follows = server.serials.windows(2).all(|pair| pair[1] == pair[0] + 1);
        assert!(follows, "serial numbers: {:?}", server.serials);
        assert_eq!(self.editor.progress, server.progress);
        let shown = |of: &BTreeMap<String, u64>| -> BTreeMap<String, u64> {
            of.iter().filter(|(_, count)| **count > 0).map(|(u, c)| (u.clone(), *c)).collect()
        };
        assert_eq!(shown(&self.editor.shown), shown(&server.published));
    }
}

fn withdraw(queue: &mut VecDeque<Outbound>, tag: u32) -> bool {
    let at = queue.iter().position(|message| message.tag == Some(tag));
    at.and_then(|at| queue.remove(at)).is_some()
}

fn progress(open: &mut BTreeSet<String>, params: &Value) {
    let token = params["token"].as_str().unwrap().to_owned();
    match params["value"]["kind"].as_str() {
        Some("begin") => drop(open.insert(token)),
        _ => drop(open.remove(&token)),
    }
}

fn changes(params: &Value) -> Vec<Change> {
    let position = |value: &Value| Position {
        line: value["line"].as_u64().unwrap() as u32,
        character: value["character"].as_u64().unwrap() as u32,
    };
    let change = |change: &Value| Change {
        range: Some(Range {
            start: position(&change["range"]["start"]),
            end: position(&change["range"]["end"]),
        }),
        text: change["text"].as_str().unwrap().to_owned(),
    };
    params["contentChanges"].as_array().unwrap().iter().map(change).collect()
}

/// Runs the seeds; the one that fails is told with everything that happened in it.
fn check(seeds: std::ops::Range<u64>) {
    for seed in seeds {
        let mut world = World::new(seed);
        let outcome = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| {
            world.run();
            world.check();
        }));
        if outcome.is_err() {
            panic!("seed {seed} fails:\n{}", world.log.join("\n"));
        }
    }
}

#[test]
fn rule_4_14_whoever_dies_at_whatever_moment_nothing_is_lost() {
    check(0..1500);
}

#[test]
#[allow(clippy::disallowed_methods, reason = "a slow test asks whether it may run")]
#[allow(clippy::print_stdout, reason = "a skipped test says so")]
fn rule_4_14_the_same_with_a_hundred_thousand_seeds() {
    if std::env::var_os("DEMOLISH_SLOW").is_none_or(|value| value == "0") {
        println!("skipped: takes a minute, needs DEMOLISH_SLOW=1");
        return;
    }
    std::thread::scope(|scope| {
        for part in 0..4 {
            scope.spawn(move || check(1500 + part * 25_000..1500 + (part + 1) * 25_000));
        }
    });
}
