//! What the editor of a fault run has asked and seen. It judges every message as it comes.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Mutex, MutexGuard, OnceLock, PoisonError};
use std::time::Instant;

use serde_json::{Value, json};
use tokio::sync::Notify;
use wire::client::default_answer;
use wire::codec::Incoming;
use wire::peer::{Lane, PeerEvent, Sender};
use wire::{Bytes, Envelope, Id, Kind, ResponseError, codes};

use super::trace::Trace;

/// What a run can find wrong.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Wrong {
    /// A request without exactly one answer, or with another one's.
    Answer,
    /// A document of the server that is not the editor's.
    Document,
    /// A notification that came out of order, twice, or got lost at a server that lived.
    Order,
    /// Diagnostics or progress on the screen that the server does not stand by.
    Screen,
    /// A process that is left.
    Left,
    /// Anything else: something did not happen in its time.
    Other,
}

/// A request of the editor.
#[derive(Debug, Default)]
pub(super) struct Asked {
    pub(super) method: String,
    /// The JSON text of the result, if it must be that.
    echo: Option<String>,
    /// How many notes must have come before the answer.
    notes: Option<u64>,
    /// How often it was answered.
    pub(super) answers: u32,
    /// Its result.
    pub(super) result: Option<Bytes>,
}

/// What is being recovered from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Way {
    /// SIGKILL of the daemon.
    Daemon,
    /// SIGKILL of the server.
    Server,
    /// SIGSTOP of the daemon.
    Hang,
}

/// Something was killed: the next result says how long the way back took.
#[derive(Clone, Copy, Debug)]
struct Recovering {
    way: Way,
    since: Instant,
    first: u32,
}

/// Shared between the editor and the reader of its wire.
pub(super) struct Seen {
    inner: Mutex<Inner>,
    /// Something came.
    pub(super) news: Notify,
    sender: OnceLock<Sender>,
    name: String,
    /// What notes are called that were asked for over this shim.
    tag: String,
    trace: Trace,
}

#[derive(Debug, Default)]
struct Inner {
    asked: BTreeMap<u32, Asked>,
    last_id: u32,
    /// Requests of the server that wait for an answer.
    waiting: Vec<(Id, String)>,
    late: bool,
    /// How many notes of this editor have come in a row.
    note: u64,
    progress: BTreeSet<String>,
    diagnostics: BTreeMap<String, usize>,
    recovering: Option<Recovering>,
    recovered: Vec<(Way, f64)>,
    wrong: Vec<(Wrong, String)>,
    closed: bool,
    messages: u64,
}

impl Seen {
    pub(super) fn new(name: &str, shim: Option<u32>, trace: &Trace) -> Seen {
        Seen {
            inner: Mutex::default(),
            news: Notify::new(),
            sender: OnceLock::new(),
            name: name.to_owned(),
            tag: format!("{name}-{}", shim.unwrap_or_default()),
            trace: trace.clone(),
        }
    }

    /// The way out; known once the wire is up.
    pub(super) fn set_sender(&self, sender: Sender) {
        let _ = self.sender.set(sender);
    }

    /// What notes are called that are asked for here.
    pub(super) fn tag(&self) -> &str {
        &self.tag
    }

    /// Something came over the wire.
    pub(super) fn on_event(&self, event: PeerEvent) {
        let mut inner = self.lock();
        match event {
            PeerEvent::Incoming(Incoming::Message(envelope)) => {
                inner.messages += 1;
                let answer = self.on_message(&mut inner, &envelope);
                answer.into_iter().for_each(|answer| self.send(answer));
            }
            PeerEvent::Incoming(other) => {
                inner.wrong.push((Wrong::Other, format!("no message came: {other:?}")));
            }
            PeerEvent::Closed(_) => inner.closed = true,
        }
        drop(inner);
        self.news.notify_waiters();
    }

    fn on_message(&self, inner: &mut Inner, envelope: &Envelope) -> Option<Envelope> {
        match &envelope.kind {
            Kind::Response { id } => return self.answered(inner, id, envelope),
            Kind::Request { id, method } => {
                self.trace.add(format!("{} ← request {} {method}", self.name, id.raw()));
                if inner.waiting.iter().any(|(waiting, _)| waiting == id) {
                    inner.wrong.push((Wrong::Answer, format!("asked twice under {}", id.raw())));
                }
                if inner.late {
                    inner.waiting.push((id.clone(), method.to_string()));
                } else {
                    return Some(answer_to(id, method, envelope));
                }
            }
            Kind::Notification { method } => {
                let params = envelope.params_as::<Value>().unwrap_or_default();
                return inner.notified(&self.tag, method, &params);
            }
        }
        None
    }

    fn answered(&self, inner: &mut Inner, id: &Id, envelope: &Envelope) -> Option<Envelope> {
        let outcome = envelope.outcome();
        let words = match &outcome {
            Ok(raw) => format!("{} bytes", raw.len()),
            Err(error) => format!("{} {}", error.code, error.message),
        };
        self.trace.add(format!("{} ← answer {}: {words}", self.name, id.raw()));
        let note = inner.note;
        let asked = id.as_u32().and_then(|id| Some((id, inner.asked.get_mut(&id)?)));
        let Some((number, asked)) = asked else {
            inner.wrong.push((Wrong::Answer, format!("an answer to nothing: {}", id.raw())));
            return None;
        };
        asked.answers += 1;
        if let Ok(raw) = outcome {
            asked.result = Some(Bytes::copy_from_slice(raw));
            if asked.echo.as_ref().is_some_and(|echo| echo.as_bytes() != raw) {
                inner.wrong.push((Wrong::Answer, format!("another one's answer to {number}")));
            } else if asked.notes.is_some_and(|notes| notes != note) {
                let words = format!("{note} notes before the answer to {number}");
                inner.wrong.push((Wrong::Order, words));
            }
        }
        let recovering = inner.recovering.filter(|recovering| number >= recovering.first)?;
        if envelope.outcome().is_ok() {
            let took = recovering.since.elapsed().as_secs_f64() * 1e3;
            self.trace.add(format!("{} is back after {took:.0} ms", self.name));
            inner.recovered.push((recovering.way, took));
            inner.recovering = None;
            return None;
        }
        // As editors do upon *content modified*.
        Some(inner.ask("textDocument/hover", &json!({ "again": number })))
    }

    fn send(&self, envelope: Envelope) {
        if let Some(sender) = self.sender.get() {
            let _ = sender.send(envelope.body, Lane::Keep, None);
        }
    }

    /// Sends a request; returns its id.
    pub(super) fn ask(&self, method: &str, params: &Value) -> u32 {
        let mut inner = self.lock();
        let request = inner.ask(method, params);
        let id = inner.last_id;
        self.trace.add(format!("{} → request {id} {method} {params}", self.name));
        self.send(request);
        id
    }

    /// Sends a request that is not JSON, and has an id that can be read.
    pub(super) fn ask_badly(&self) {
        let mut inner = self.lock();
        inner.last_id += 1;
        let id = inner.last_id;
        inner.asked.insert(id, Asked { method: "malformed".to_owned(), ..Asked::default() });
        self.trace.add(format!("{} → malformed request {id}", self.name));
        let body = format!(r#"{{"jsonrpc":"2.0","id":{id},"method":"test/echo","params":[}}}}"#);
        if let Some(sender) = self.sender.get() {
            let _ = sender.send(body.into(), Lane::Keep, None);
        }
    }

    /// Sends a notification.
    pub(super) fn notify(&self, method: &str, params: &Value) {
        self.trace.add(format!("{} → {method} {params}", self.name));
        self.send(Envelope::notification(method, params));
    }

    /// From now on requests of the server wait, or no longer do; those that have waited are answered.
    pub(super) fn be_late(&self, late: bool) {
        let mut inner = self.lock();
        inner.late = late;
        if !late {
            for (id, method) in std::mem::take(&mut inner.waiting) {
                let request = Envelope::request(id.clone(), &method, &Value::Null);
                self.send(answer_to(&id, &method, &request));
            }
        }
    }

    /// Something has just been killed: how long until there is a result again? A second fault spoils the measurement.
    pub(super) fn recover(&self, way: Way) {
        let mut inner = self.lock();
        let first = inner.last_id + 1;
        inner.recovering = Some(Recovering { way, since: Instant::now(), first });
        let request = inner.ask("textDocument/hover", &json!({ "recovering": first }));
        self.trace.add(format!("{} → request {first} textDocument/hover", self.name));
        self.send(request);
    }

    /// Another fault strikes: what is being measured does not count.
    pub(super) fn spoil(&self) {
        self.lock().recovering = None;
    }

    /// Whether the way back is still being measured.
    pub(super) fn is_recovering(&self) -> bool {
        self.lock().recovering.is_some()
    }

    /// How long the ways back took, in milliseconds.
    pub(super) fn recovered(&self) -> Vec<(Way, f64)> {
        self.lock().recovered.clone()
    }

    /// The requests that have no answer.
    pub(super) fn open(&self) -> Vec<u32> {
        let inner = self.lock();
        inner.asked.iter().filter(|(_, asked)| asked.answers == 0).map(|(id, _)| *id).collect()
    }

    /// The request `id`, read by `with`.
    pub(super) fn asked<T>(&self, id: u32, with: impl FnOnce(&Asked) -> T) -> Option<T> {
        self.lock().asked.get(&id).map(with)
    }

    /// Every request of which `with` finds something wrong.
    pub(super) fn requests_wrong(
        &self,
        with: impl Fn(u32, &Asked) -> Option<String>,
    ) -> Vec<String> {
        self.lock().asked.iter().filter_map(|(id, asked)| with(*id, asked)).collect()
    }

    /// What was found wrong as it came.
    pub(super) fn wrong(&self) -> Vec<(Wrong, String)> {
        self.lock().wrong.clone()
    }

    /// Whether the wire has ended.
    pub(super) fn is_closed(&self) -> bool {
        self.lock().closed
    }

    /// Progress on the screen, as JSON texts of tokens, and the number of diagnostics of each document.
    pub(super) fn screen(&self) -> (BTreeSet<String>, BTreeMap<String, usize>) {
        let inner = self.lock();
        (inner.progress.clone(), inner.diagnostics.clone())
    }

    /// How many messages have come and gone, requests and their like.
    pub(super) fn messages(&self) -> u64 {
        let inner = self.lock();
        inner.messages + u64::from(inner.last_id)
    }

    fn lock(&self) -> MutexGuard<'_, Inner> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Inner {
    fn ask(&mut self, method: &str, params: &Value) -> Envelope {
        self.last_id += 1;
        let echoes =
            matches!(method, "test/echo" | "textDocument/hover" | "workspace/executeCommand");
        let asked = Asked {
            method: method.to_owned(),
            echo: echoes.then(|| params.to_string()),
            notes: (method == "test/notes").then(|| params["count"].as_u64().unwrap_or(0)),
            ..Asked::default()
        };
        self.asked.insert(self.last_id, asked);
        Envelope::request(Id::number(self.last_id), method, params)
    }

    fn notified(&mut self, tag: &str, method: &str, params: &Value) -> Option<Envelope> {
        match method {
            "$/cancelRequest" => {
                let id = params["id"].to_string();
                let at = self.waiting.iter().position(|(waiting, _)| waiting.raw() == id)?;
                let error = ResponseError::new(codes::REQUEST_CANCELLED, "cancelled");
                return Some(Envelope::error(self.waiting.remove(at).0, &error));
            }
            // Those that another shim has asked for may begin in the middle, for who joins a shared server then.
            "test/note" if params["name"] == *tag => {
                let number = params["number"].as_u64().unwrap_or(0);
                if number != 0 && number != self.note {
                    let words = format!("note {number} came after {} notes", self.note);
                    self.wrong.push((Wrong::Order, words));
                }
                self.note = number + 1;
            }
            "$/progress" => {
                let token = params["token"].to_string();
                match params["value"]["kind"].as_str() {
                    Some("begin") => drop(self.progress.insert(token)),
                    Some("end") => drop(self.progress.remove(&token)),
                    _ => {}
                }
            }
            "textDocument/publishDiagnostics" => {
                let uri = params["uri"].as_str().unwrap_or("").to_owned();
                let count = params["diagnostics"].as_array().map_or(0, Vec::len);
                self.diagnostics.insert(uri, count);
            }
            _ => {}
        }
        None
    }
}

fn answer_to(id: &Id, method: &str, request: &Envelope) -> Envelope {
    match default_answer(method, request) {
        Ok(result) => Envelope::response(id.clone(), &result),
        Err(error) => Envelope::error(id.clone(), &error),
    }
}
