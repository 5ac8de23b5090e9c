//! `demolish fake-server`: a language server that does as it is told.
//!
//! The proxy's tests and benchmarks need a server that sends exactly what they ask for, hangs, dies, or writes rubbish, as
//! a real process. Requests of the family `test/…` tell it; see [`Server::request`]. It is one thread on blocking pipes, so
//! that it is never the slow part of a measurement.

use std::collections::BTreeMap;
use std::io::{self, Read, Write};
use std::process::ExitCode;

use serde_json::{Value, json};
use wire::codec::{Codec, Incoming};
use wire::{Envelope, Id, Kind, ResponseError, codes, frame};

/// What it does apart from what it is told.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct Habits {
    /// Ends at once, with something to say on stderr.
    exits: bool,
    /// Never answers `initialize`.
    mute: bool,
    /// Does not end on `exit`.
    stays: bool,
}

/// Runs it, if the command line asks for it; the verb is not in the help.
#[must_use]
pub fn early() -> Option<ExitCode> {
    let mut args = std::env::args().skip(1);
    if args.next()? != "fake-server" {
        return None;
    }
    let mut habits = Habits::default();
    for arg in args {
        match arg.as_str() {
            "--exits" => habits.exits = true,
            "--mute" => habits.mute = true,
            "--stays" => habits.stays = true,
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
        match stdin.read(&mut buffer) {
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
    /// Open documents: version and text. Only whole texts are understood.
    documents: BTreeMap<String, (i64, String)>,
    /// Methods of the notifications that came, in order.
    heard: Vec<String>,
    settings: Value,
    /// Requests to the client, by our id: the request that is answered with the answer.
    asked: BTreeMap<String, Id>,
    hung: Vec<Id>,
}

impl Server {
    fn new(habits: Habits) -> Server {
        Server {
            habits,
            out: bytes::BytesMut::new(),
            exit: None,
            shutdown: false,
            documents: BTreeMap::new(),
            heard: Vec::new(),
            settings: Value::Null,
            asked: BTreeMap::new(),
            hung: Vec::new(),
        }
    }

    fn message(&mut self, envelope: &Envelope) {
        match &envelope.kind {
            Kind::Request { id, method } => self.request(id, method, envelope),
            Kind::Notification { method } => self.notification(method, envelope),
            Kind::Response { id } => {
                if let Some(asker) = self.asked.remove(id.raw()) {
                    let body = String::from_utf8_lossy(&envelope.body).into_owned();
                    self.answer(&asker, &json!(body));
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
                let sync = json!({ "openClose": true, "change": 1 });
                let capabilities = json!({ "textDocumentSync": sync, "hoverProvider": true });
                self.answer(id, &json!({ "capabilities": capabilities }));
            }
            "shutdown" => {
                self.shutdown = true;
                self.answer(id, &Value::Null);
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
                for number in 0..params()["count"].as_u64().unwrap_or(0) {
                    self.send(&Envelope::notification("test/note", &json!({ "number": number })));
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
                self.send(&Envelope::notification(&method, &params["params"]));
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
            // Stops reading for ever.
            "test/deaf" => loop {
                std::thread::sleep(std::time::Duration::from_secs(60));
            },
            "test/state" => {
                let state = json!({
                    "pid": std::process::id(),
                    "cwd": std::env::current_dir().unwrap_or_default(),
                    "documents": self.documents,
                    "heard": self.heard,
                    "settings": self.settings,
                    "hung": self.hung.len(),
                });
                self.answer(id, &state);
            }
            _ => {
                let error = ResponseError::new(codes::METHOD_NOT_FOUND, method);
                self.send(&Envelope::error(id.clone(), &error));
            }
        }
    }

    fn notification(&mut self, method: &str, envelope: &Envelope) {
        let params = || envelope.params_as::<Value>().unwrap_or_default();
        self.heard.push(method.to_owned());
        match method {
            "exit" if !self.habits.stays => {
                self.exit = Some(if self.shutdown { ExitCode::SUCCESS } else { ExitCode::FAILURE });
            }
            "workspace/didChangeConfiguration" => self.settings = params()["settings"].take(),
            "textDocument/didOpen" => {
                let mut params = params();
                let document = params["textDocument"].take();
                self.text(&document, document["text"].as_str().unwrap_or(""));
            }
            "textDocument/didChange" => {
                let params = params();
                let text = params["contentChanges"][0]["text"].as_str().unwrap_or("");
                self.text(&params["textDocument"], text);
            }
            "textDocument/didClose" => {
                let uri = params()["textDocument"]["uri"].as_str().unwrap_or("").to_owned();
                self.documents.remove(&uri);
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

    /// A document has this text now; every line that holds `bad` gets a diagnostic.
    fn text(&mut self, document: &Value, text: &str) {
        let uri = document["uri"].as_str().unwrap_or("").to_owned();
        let version = document["version"].as_i64().unwrap_or(0);
        let diagnostics: Vec<Value> = text
            .lines()
            .enumerate()
            .filter(|(_, line)| line.contains("bad"))
            .map(|(line, _)| {
                let at = json!({ "line": line, "character": 0 });
                json!({ "range": { "start": at, "end": at }, "severity": 1, "message": "bad" })
            })
            .collect();
        self.documents.insert(uri.clone(), (version, text.to_owned()));
        let published = json!({ "uri": uri, "version": version, "diagnostics": diagnostics });
        self.send(&Envelope::notification("textDocument/publishDiagnostics", &published));
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
