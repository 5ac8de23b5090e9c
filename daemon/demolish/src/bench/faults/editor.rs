//! The editor of a fault run: it speaks at random, and knows what must come of it.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use serde_json::{Value, json};
use wire::child::Child;
use wire::peer::Peer;

use super::buffer::Buffer;
use super::chance::Chance;
use super::place::Place;
use super::seen::Seen;
use super::trace::Trace;

/// How long anything may take on a machine that is busy with other runs.
pub(super) const PATIENCE: Duration = Duration::from_secs(30);
/// How often a shim is started in the hope that it does not step aside because the machine is busy.
const SHIMS_MAX: u32 = 5;
/// How many documents an editor has open at most.
const DOCUMENTS_MAX: usize = 5;

/// An editor with its shim.
pub(super) struct Editor {
    /// What it is called in traces and records.
    pub(super) name: String,
    /// Its open documents, by URI.
    pub(super) documents: BTreeMap<String, Buffer>,
    /// What it has asked and seen over this shim.
    pub(super) seen: Arc<Seen>,
    /// The same over those before, which were killed.
    pub(super) former: Vec<Arc<Seen>>,
    shim: Child,
    peer: Peer,
    opened: u32,
    serial: u64,
    questions: usize,
}

impl Editor {
    /// Starts a shim and greets the server.
    pub(super) async fn start(place: &Place, name: &str, trace: &Trace) -> Result<Editor, String> {
        for _ in 0..SHIMS_MAX {
            let (shim, stdin, stdout) = place.shim(name).await?;
            let seen = Arc::new(Seen::new(name, shim.id(), trace));
            let reading = Arc::clone(&seen);
            let peer = Peer::start(stdout, stdin, move |event| {
                reading.on_event(event);
                std::future::ready(())
            });
            seen.set_sender(peer.sender().clone());
            let mut editor = Editor {
                name: name.to_owned(),
                documents: BTreeMap::new(),
                seen,
                former: Vec::new(),
                shim,
                peer,
                opened: 0,
                serial: 0,
                questions: 0,
            };
            if editor.greet(trace).await? {
                return Ok(editor);
            }
            editor.shim.terminate().await;
        }
        Err("the shim stepped aside every time".to_owned())
    }

    /// `false`: the shim has stepped aside, and is the server itself.
    async fn greet(&mut self, trace: &Trace) -> Result<bool, String> {
        let params = json!({ "processId": null, "rootUri": null, "capabilities": {} });
        let id = self.seen.ask("initialize", &params);
        self.wait("an answer to initialize", |editor| editor.result(id).is_some()).await?;
        self.seen.notify("initialized", &json!({}));
        let server = self.state().await?["pid"].as_u64();
        let aside = server == self.shim.id().map(u64::from);
        trace.add(format!("{} is ready; its server is {server:?}", self.name));
        Ok(!aside)
    }

    /// The shim was killed: as editors do, another is started, and told what is open.
    pub(super) async fn start_again(&mut self, place: &Place, trace: &Trace) -> Result<(), String> {
        let fresh = Editor::start(place, &self.name, trace).await?;
        self.former.push(std::mem::replace(&mut self.seen, fresh.seen));
        (self.shim, self.peer) = (fresh.shim, fresh.peer);
        for (uri, buffer) in &self.documents {
            self.seen.notify("textDocument/didOpen", &opened(uri, buffer));
        }
        Ok(())
    }

    /// The process of the shim.
    pub(super) fn shim_pid(&self) -> Option<i32> {
        self.shim.id().and_then(|pid| pid.try_into().ok())
    }

    /// What serial numbers of this shim are recorded under.
    pub(super) fn record_name(&self) -> String {
        format!("{}.{}", self.name, self.former.len())
    }

    /// The last serial number.
    pub(super) fn serial(&self) -> u64 {
        self.serial
    }

    /// Holds the reader, or lets it run.
    pub(super) fn read(&self, read: bool) {
        if read { self.peer.gate().open() } else { self.peer.gate().close() }
    }

    /// A notification with a serial number.
    pub(super) fn number(&mut self) {
        self.serial += 1;
        let params = json!({ "name": self.record_name(), "number": self.serial });
        self.seen.notify("test/serial", &params);
    }

    /// Opens, changes, saves or closes a document. Where a server is `shared`, it is sometimes one that another editor has too,
    /// with a text of its own.
    pub(super) fn write(&mut self, shared: bool, chance: &mut Chance) {
        let uris: Vec<String> = self.documents.keys().cloned().collect();
        if uris.is_empty() || uris.len() < DOCUMENTS_MAX && chance.percent(15) {
            self.opened += 1;
            // Now and then one that was open before.
            let number = if chance.percent(30) { chance.below(9) } else { self.opened as usize };
            let folder = if shared && chance.percent(8) { "both" } else { &self.name };
            let uri = format!("file:///{folder}/{number}%20é.rs");
            if !self.documents.contains_key(&uri) {
                let buffer = Buffer::new(chance);
                self.seen.notify("textDocument/didOpen", &opened(&uri, &buffer));
                self.documents.insert(uri, buffer);
            }
            return;
        }
        let uri = chance.one_of(&uris).clone();
        let Some(buffer) = self.documents.get_mut(&uri) else { return };
        match chance.below(12) {
            0 => {
                self.documents.remove(&uri);
                let closed = json!({ "textDocument": { "uri": uri } });
                self.seen.notify("textDocument/didClose", &closed);
            }
            1 => {
                let saved = json!({ "textDocument": { "uri": uri } });
                self.seen.notify("textDocument/didSave", &saved);
            }
            _ => {
                let changes = buffer.edit(chance);
                let document = json!({ "uri": uri, "version": buffer.version });
                let changed = json!({ "textDocument": document, "contentChanges": changes });
                self.seen.notify("textDocument/didChange", &changed);
            }
        }
    }

    /// Asks for something.
    pub(super) fn ask(&mut self, chance: &mut Chance) {
        let number = chance.below(1_000_000);
        let text = json!({ "number": number, "text": "é😀\\".repeat(chance.below(30)) });
        let (method, params) = match chance.below(20) {
            0..=5 => ("textDocument/hover", text),
            6..=7 => ("workspace/executeCommand", text),
            8..=10 => ("test/echo", text),
            11..=12 => ("textDocument/definition", text),
            13 => ("textDocument/rename", text),
            14..=15 => {
                ("test/notes", json!({ "count": chance.between(1, 40), "name": self.seen.tag() }))
            }
            16 => ("test/big", json!({ "bytes": chance.between(10_000, 200_000) })),
            _ => ("test/ask", self.question(chance)),
        };
        self.seen.ask(method, &params);
    }

    /// What the server is to ask the editor.
    fn question(&mut self, chance: &mut Chance) -> Value {
        // A server must not use an id twice at a time, and several editors may have it ask.
        self.questions += 1;
        let who = self.name.bytes().last().unwrap_or_default();
        let number = self.questions * 256 + usize::from(who);
        let registration = json!({ "id": format!("r{number}"), "method": "custom/thing" });
        let (method, params) = match chance.below(5) {
            0 => ("workspace/configuration", json!({ "items": [{ "section": "a" }] })),
            1 => ("window/showMessageRequest", json!({ "type": 3, "message": "m" })),
            2 => ("client/registerCapability", json!({ "registrations": [registration] })),
            3 => ("workspace/applyEdit", json!({ "edit": {} })),
            _ => ("custom/question", json!({})),
        };
        // Ids of the server: numbers and strings, small and large.
        let id = match number % 3 {
            0 => format!("\"{}-{number}\"", self.name),
            1 => (u64::from(u32::MAX) + number as u64).to_string(),
            _ => number.to_string(),
        };
        json!({ "id": id, "method": method, "params": params })
    }

    /// Has the server report progress: one that ends, or one that does not.
    pub(super) fn progress(&mut self, chance: &mut Chance) {
        let token = format!("{}-{}", self.name, chance.below(1_000_000));
        let ends = chance.percent(50);
        for kind in ["begin", "report", "report", "end"].into_iter().take(if ends { 4 } else { 3 })
        {
            let params = json!({ "token": token, "value": { "kind": kind, "title": "t" } });
            self.seen.ask("test/say", &json!({ "method": "$/progress", "params": params }));
        }
    }

    /// Cancels one of the requests that wait, or all.
    pub(super) fn cancel(&mut self, chance: Option<&mut Chance>) {
        let open = self.seen.open();
        let cancelled = match chance {
            Some(_) if open.is_empty() => Vec::new(),
            Some(chance) => vec![*chance.one_of(&open)],
            None => open,
        };
        for id in cancelled {
            self.seen.notify("$/cancelRequest", &json!({ "id": id }));
        }
    }

    /// What the server knows. Asked again if something dies meanwhile.
    pub(super) async fn state(&mut self) -> Result<Value, String> {
        let until = Instant::now() + PATIENCE;
        loop {
            let id = self.seen.ask("test/state", &json!({}));
            self.wait("the server's state", |editor| editor.is_answered(id)).await?;
            if let Some(state) = self.result(id) {
                return Ok(state);
            }
            if Instant::now() > until {
                return Err("the server's state cannot be had".to_owned());
            }
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    }

    /// `shutdown` and `exit`; the shim must end by itself.
    pub(super) async fn leave(mut self) -> Result<Vec<Arc<Seen>>, String> {
        let id = self.seen.ask("shutdown", &Value::Null);
        self.wait("an answer to shutdown", |editor| editor.is_answered(id)).await?;
        self.seen.notify("exit", &Value::Null);
        self.wait("the end of the shim", |editor| editor.seen.is_closed()).await?;
        let status = tokio::time::timeout(PATIENCE, self.shim.wait()).await;
        if !matches!(&status, Ok(Ok(status)) if status.success()) {
            return Err(format!("the shim of {} ended badly: {status:?}", self.name));
        }
        let mut all = std::mem::take(&mut self.former);
        all.push(Arc::clone(&self.seen));
        Ok(all)
    }

    /// Waits until something is so.
    pub(super) async fn wait(
        &self,
        what: &str,
        so: impl Fn(&Editor) -> bool,
    ) -> Result<(), String> {
        let until = tokio::time::Instant::now() + PATIENCE;
        loop {
            let news = self.seen.news.notified();
            if so(self) {
                return Ok(());
            }
            let closed = self.seen.is_closed() && !what.contains("end");
            if closed || tokio::time::timeout_at(until, news).await.is_err() {
                let how = if closed { "the wire is closed" } else { "not in time" };
                return Err(format!("{}: {how}: {what}", self.name));
            }
        }
    }

    /// Whether `id` has an answer, of whatever kind.
    pub(super) fn is_answered(&self, id: u32) -> bool {
        self.seen.asked(id, |asked| asked.answers > 0).unwrap_or(false)
    }

    /// The result of `id`.
    pub(super) fn result(&self, id: u32) -> Option<Value> {
        let raw = self.seen.asked(id, |asked| asked.result.clone()).flatten()?;
        wire::parse(&raw).ok()
    }
}

fn opened(uri: &str, buffer: &Buffer) -> Value {
    let Buffer { version, text } = buffer;
    json!({ "textDocument": { "uri": uri, "languageId": "rust", "version": version, "text": text } })
}
