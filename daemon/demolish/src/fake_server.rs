//! `demolish fake-server`: a language server that does as it is told.
//!
//! The proxy's tests and benchmarks need a server that sends exactly what they ask for, hangs, dies, or writes rubbish, as
//! a real process. Requests of the family `test/…` tell it; see [`Server::request`]. It is one thread on blocking pipes, so
//! that it is never the slow part of a measurement.

mod documents;
mod record;
mod tower;

use std::collections::{BTreeMap, BTreeSet};
use std::io::{self, Read, Write};
use std::process::ExitCode;
use std::time::{Duration, Instant};

use serde_json::{Value, json};
use wire::codec::{Codec, Incoming};
use wire::{Envelope, Id, Kind, ResponseError, codes, frame};

use documents::Documents;
use record::Record;

/// How many methods of notifications are remembered: enough for every test, and a soak does not fill the memory.
const HEARD_MAX: usize = 4096;

/// What it does apart from what it is told.
#[derive(Debug, Default)]
struct Habits {
    /// Ends at once, with something to say on stderr.
    exits: bool,
    /// Publishes nothing by itself.
    silent: bool,
    /// Never answers `initialize`.
    mute: bool,
    /// Does not end on `exit`.
    stays: bool,
    /// Ends at once when it is started for the second time, of which its record knows.
    stumbles: bool,
    /// Capabilities that it has besides its own.
    able: Value,
    /// What it answers, by method, instead of what it would.
    answers: Value,
    /// Counts positions in UTF-8 when it is started for the second time in its folder.
    fickle: bool,
    /// Where it writes down that it has started, and every `test/serial` at once: what a killed server has heard.
    record: Record,
}

/// Runs it, if the command line asks for it; the verb is not in the help.
#[must_use]
pub fn early() -> Option<ExitCode> {
    let mut args = std::env::args().skip(1);
    if args.next()? != "fake-server" {
        return None;
    }
    let mut habits = Habits::default();
    while let Some(arg) = args.next() {
        match arg.as_str() {
            "--exits" => habits.exits = true,
            "--silent" => habits.silent = true,
            "--mute" => habits.mute = true,
            "--tower" => return Some(tower::run()),
            "--stays" => habits.stays = true,
            "--stumbles" => habits.stumbles = true,
            "--able" => habits.able = serde_json::from_str(&args.next()?).ok()?,
            "--answers" => habits.answers = serde_json::from_str(&args.next()?).ok()?,
            "--fickle" => habits.fickle = true,
            "--record" => habits.record = Record::open(args.next()?.as_ref()),
            _ => return Some(ExitCode::from(2)),
        }
    }
    Some(run(habits))
}

fn run(habits: Habits) -> ExitCode {
    if habits.exits {
        let _ = writeln!(io::stderr(), "\u{1b}[31mfake-server: no licence found\u{1b}[0m");
        return ExitCode::from(7);
    }
    if habits.stumbles && habits.record.starts() == 2 {
        return ExitCode::from(9);
    }
    let mut server = Server::new(habits);
    let (mut stdin, mut codec) = (io::stdin().lock(), Codec::default());
    let mut buffer = vec![0; 64 * 1024];
    loop {
        while let Some(incoming) = codec.next_incoming() {
            if let Incoming::Message(envelope) = incoming {
                server.message(&envelope);
            }
            if let Some(code) = server.exit {
                return code;
            }
        }
        // All answers to what came in one read leave in one write.
        server.flush();
        let room = if server.is_slow() { 1 } else { buffer.len() };
        match stdin.read(&mut buffer[..room]) {
            Ok(0) | Err(_) => return ExitCode::FAILURE,
            Ok(bytes) => codec.push(&buffer[..bytes]),
        }
    }
}

/// Its state.
struct Server {
    habits: Habits,
    out: bytes::BytesMut,
    exit: Option<ExitCode>,
    shutdown: bool,
    documents: Documents,
    /// Methods of the notifications that came, in order.
    heard: Vec<String>,
    settings: Value,
    /// The process that it was told to watch.
    process_id: Value,
    /// Requests to the client, by our id: the request that is answered with the answer.
    asked: BTreeMap<String, Id>,
    /// Answers to what it has not asked, or had an answer to.
    strays: u64,
    hung: Vec<Id>,
    /// Memory that it has taken because it was told to.
    ballast: Vec<u8>,
    /// Tokens of progress that it has begun and not ended.
    progress: BTreeSet<String>,
    /// Until when it reads one byte in a millisecond.
    slow_until: Option<Instant>,
}

impl Server {
    fn new(habits: Habits) -> Server {
        Server {
            habits,
            out: bytes::BytesMut::new(),
            exit: None,
            shutdown: false,
            documents: Documents::default(),
            heard: Vec::new(),
            settings: Value::Null,
            process_id: Value::Null,
            asked: BTreeMap::new(),
            strays: 0,
            hung: Vec::new(),
            ballast: Vec::new(),
            progress: BTreeSet::new(),
            slow_until: None,
        }
    }

    /// Whether it is to read only one byte now; waits a millisecond if so.
    fn is_slow(&mut self) -> bool {
        let slow = self.slow_until.is_some_and(|until| Instant::now() < until);
        if slow {
            std::thread::sleep(Duration::from_millis(1));
        }
        slow
    }

    fn message(&mut self, envelope: &Envelope) {
        match &envelope.kind {
            Kind::Request { id, method } => self.request(id, method, envelope),
            Kind::Notification { method } => self.notification(method, envelope),
            Kind::Response { id } => {
                if let Some(asker) = self.asked.remove(id.raw()) {
                    let body = String::from_utf8_lossy(&envelope.body).into_owned();
                    self.answer(&asker, &json!(body));
                } else {
                    self.strays += 1;
                }
            }
        }
    }

    /// What can be asked for.
    fn request(&mut self, id: &Id, method: &str, envelope: &Envelope) {
        let params = || envelope.params_as::<Value>().unwrap_or_default();
        match method {
            "initialize" if self.habits.mute => {}
            "initialize" => {
                self.process_id = params()["processId"].take();
                let sync = json!({ "openClose": true, "change": 1 });
                let mut capabilities = json!({ "textDocumentSync": sync, "hoverProvider": true });
                for (name, value) in self.habits.able.as_object().into_iter().flatten() {
                    capabilities[name] = value.clone();
                }
                if self.habits.fickle && std::fs::File::create_new("fickle").is_err() {
                    capabilities["positionEncoding"] = "utf-8".into();
                }
                self.answer(id, &json!({ "capabilities": capabilities }));
            }
            "shutdown" => {
                self.shutdown = true;
                self.answer(id, &Value::Null);
            }
            _ if self.habits.answers.get(method).is_some() => {
                let answer = self.habits.answers[method].clone();
                self.answer(id, &answer);
            }
            // The parameters as they came, byte for byte.
            "test/echo" | "textDocument/hover" | "workspace/executeCommand" => {
                let raw: Result<Box<serde_json::value::RawValue>, _> =
                    serde_json::from_slice(envelope.params());
                match raw {
                    Ok(raw) => self.send(&Envelope::response(id.clone(), &raw)),
                    Err(_) => self.answer(id, &json!("unreadable")),
                }
            }
            // The whole message, as a string.
            "test/body" => {
                let body: String = envelope.body.iter().map(|byte| char::from(*byte)).collect();
                self.answer(id, &json!(body));
            }
            // `count` notifications, then the answer.
            "test/notes" => {
                let params = params();
                for number in 0..params["count"].as_u64().unwrap_or(0) {
                    let mut note = json!({ "number": number });
                    if let Some(name) = params.get("name") {
                        note["name"] = name.clone();
                    }
                    self.send(&Envelope::notification("test/note", &note));
                }
                self.answer(id, &Value::Null);
            }
            // A string of `bytes` bytes.
            "test/big" => {
                let bytes = params()["bytes"].as_u64().unwrap_or(0) as usize;
                self.answer(id, &json!("x".repeat(bytes)));
            }
            // No answer, until it is cancelled.
            "test/hang" | "textDocument/definition" | "textDocument/rename" => {
                self.hung.push(id.clone());
            }
            _ => self.order(id, method, &params()),
        }
    }

    /// What it can be told to do besides answering.
    fn order(&mut self, id: &Id, method: &str, params: &Value) {
        match method {
            // A request to the client, under the id that is given; answered with what the client says.
            "test/ask" => {
                let raw = params["id"].as_str().unwrap_or("1").to_owned();
                let method = params["method"].as_str().unwrap_or("test/question").to_owned();
                let Some(ours) = Id::from_raw(raw.as_bytes()) else { return };
                self.asked.insert(raw, id.clone());
                self.send(&Envelope::request(ours, &method, &params["params"]));
            }
            // A notification, as it is given.
            "test/say" => {
                let method = params["method"].as_str().unwrap_or("test/note").to_owned();
                if method == "$/progress" {
                    self.note_progress(&params["params"]);
                }
                self.send(&Envelope::notification(&method, &params["params"]));
                self.answer(id, &Value::Null);
            }
            // `count` sets of diagnostics for `documents` documents in turn, numbered by their versions.
            "test/flood" => {
                let (count, documents) = (params["count"].as_u64(), params["documents"].as_u64());
                self.flood(count.unwrap_or(0), documents.unwrap_or(1).max(1));
                self.answer(id, &Value::Null);
            }
            // Reads one byte in a millisecond, for so many milliseconds.
            "test/slow" => {
                let time = Duration::from_millis(params["ms"].as_u64().unwrap_or(100));
                self.slow_until = Some(Instant::now() + time);
                self.answer(id, &Value::Null);
            }
            // Bytes on stdout, outside of any message or as a broken one.
            "test/rubbish" => {
                self.out.extend_from_slice(params["text"].as_str().unwrap_or("").as_bytes());
                self.answer(id, &Value::Null);
            }
            // Bytes on stderr.
            "test/stderr" => {
                let line = "x".repeat(99) + "\n";
                for _ in 0..params["lines"].as_u64().unwrap_or(0) {
                    let _ = io::stderr().write_all(line.as_bytes());
                }
                self.answer(id, &Value::Null);
            }
            // Dies without a word.
            "test/die" => self.exit = Some(ExitCode::from(9)),
            // Takes so much memory, and keeps it.
            "test/allocate" => {
                let bytes = params["mib"].as_u64().unwrap_or(0) as usize * 1024 * 1024;
                self.ballast = vec![1; bytes];
                self.answer(id, &Value::Null);
            }
            // Stops reading for ever.
            "test/deaf" => loop {
                std::thread::sleep(std::time::Duration::from_secs(60));
            },
            "test/state" => self.tell_state(id),
            _ => {
                let error = ResponseError::new(codes::METHOD_NOT_FOUND, method);
                self.send(&Envelope::error(id.clone(), &error));
            }
        }
    }

    /// What it knows.
    fn tell_state(&mut self, id: &Id) {
        let state = json!({
            "pid": std::process::id(),
            "cwd": std::env::current_dir().unwrap_or_default(),
            "documents": self.documents.all(),
            "heard": self.heard,
            "settings": self.settings,
            "processId": self.process_id,
            "hung": self.hung.len(),
            "ballast": self.ballast.len(),
            "asked": self.asked.len(),
            "strays": self.strays,
            "progress": self.progress,
        });
        self.answer(id, &state);
    }

    fn notification(&mut self, method: &str, envelope: &Envelope) {
        let params = || envelope.params_as::<Value>().unwrap_or_default();
        if self.heard.len() < HEARD_MAX {
            self.heard.push(method.to_owned());
        }
        match method {
            "exit" if !self.habits.stays => {
                self.exit = Some(if self.shutdown { ExitCode::SUCCESS } else { ExitCode::FAILURE });
            }
            "workspace/didChangeConfiguration" => self.settings = params()["settings"].take(),
            "textDocument/didOpen" => {
                let uri = self.documents.open(&params());
                self.publish(&uri);
            }
            "textDocument/didChange" => {
                let uri = self.documents.change(&params());
                self.publish(&uri);
            }
            "test/serial" => self.habits.record.serial(&params()),
            "textDocument/didClose" => {
                self.documents.close(&params());
            }
            "$/cancelRequest" => {
                let id = params()["id"].to_string();
                let hung = self.hung.iter().position(|hung| hung.raw() == id);
                if let Some(id) = hung.map(|at| self.hung.remove(at)) {
                    let error = ResponseError::new(codes::REQUEST_CANCELLED, "as you wish");
                    self.send(&Envelope::error(id, &error));
                }
            }
            _ => {}
        }
    }

    /// Every line of a document that holds `bad` gets a diagnostic.
    fn publish(&mut self, uri: &str) {
        let Some((version, text)) = self.documents.get(uri).filter(|_| !self.habits.silent) else {
            return;
        };
        let diagnostics: Vec<Value> = text
            .lines()
            .enumerate()
            .filter(|(_, line)| line.contains("bad"))
            .map(|(line, _)| {
                let at = json!({ "line": line, "character": 0 });
                json!({ "range": { "start": at, "end": at }, "severity": 1, "message": "bad" })
            })
            .collect();
        let published = json!({ "uri": uri, "version": version, "diagnostics": diagnostics });
        self.send(&Envelope::notification("textDocument/publishDiagnostics", &published));
    }

    fn flood(&mut self, count: u64, documents: u64) {
        let at = json!({ "line": 0, "character": 0 });
        for number in 0..count {
            let found = json!({ "range": { "start": at, "end": at }, "message": number });
            let uri = format!("file:///flood/{}", number % documents);
            let published = json!({ "uri": uri, "version": number, "diagnostics": [found] });
            self.send(&Envelope::notification("textDocument/publishDiagnostics", &published));
            if self.out.len() >= 1 << 16 {
                self.flush();
            }
        }
    }

    fn note_progress(&mut self, params: &Value) {
        let token = params["token"].to_string();
        match params["value"]["kind"].as_str() {
            Some("begin") => drop(self.progress.insert(token)),
            Some("end") => drop(self.progress.remove(&token)),
            _ => {}
        }
    }

    fn answer(&mut self, id: &Id, result: &Value) {
        self.send(&Envelope::response(id.clone(), result));
    }

    fn send(&mut self, envelope: &Envelope) {
        frame::encode_into(&mut self.out, &envelope.body);
    }

    fn flush(&mut self) {
        let mut stdout = io::stdout().lock();
        let _ = stdout.write_all(&self.out).and_then(|()| stdout.flush());
        self.out.clear();
    }
}
