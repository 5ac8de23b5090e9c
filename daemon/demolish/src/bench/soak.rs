//! `demolish bench soak`: millions of messages between four editors and eight language servers. None may be lost, and neither
//! the daemon nor a shim may grow.
//!
//! Now and then an editor starts one of its servers anew, so that what is left of a connection would add up too.

use std::ffi::{OsStr, OsString};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use serde_json::{Value as Json, json};
use wire::child::Child;
use wire::client::{Client, Handler, default_answer};
use wire::{Envelope, ResponseError};

use super::report::{Report, Row};
use super::sandbox::{Sandbox, program};

/// How long one answer may take.
const PATIENCE: Duration = Duration::from_secs(60);
/// Notifications that a server is told to send in one round.
const NOTES: u64 = 6;
/// Requests that are out at once in one round.
const READS: u64 = 3;
/// The share of the messages after which memory is taken to have settled.
const WARM_UP: u64 = 10;
/// How often, in the whole soak, an editor starts a server anew.
const RESTARTS: u64 = 40;
/// A document grows to so many lines, and is then begun anew.
const LINES_MAX: u64 = 200;

/// How much.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Options {
    /// Messages, both ways.
    pub(crate) messages: u64,
    /// Language servers.
    pub(crate) servers: usize,
    /// Editors, among whom the servers are shared out.
    pub(crate) editors: usize,
}

/// Runs it.
///
/// # Errors
/// A part of it could not be started, or broke off: one sentence.
pub(crate) async fn run(options: Options) -> Result<Report, String> {
    let sandbox = Arc::new(Sandbox::new("soak", "")?);
    let started = Instant::now();
    let rows = soak(options, &sandbox).await;
    sandbox.stop_daemon().await;
    let mut rows = rows?;
    rows.push(Row::new("took", started.elapsed().as_secs_f64(), "s"));
    Ok(Report::new("soak", rows))
}

#[allow(clippy::cast_precision_loss, reason = "counts far below 2^52")]
async fn soak(options: Options, sandbox: &Arc<Sandbox>) -> Result<Vec<Row>, String> {
    let program = program();
    let (_client, daemon) =
        sandbox.start(&[&program, OsStr::new("daemon")], wire::client::Quiet).await?;
    let daemon = daemon.id().zip(Some(daemon)).ok_or("the daemon did not start")?;
    while wire::socket::connect(&sandbox.socket()).await.is_err() {
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    let servers = options.servers.max(1);
    let per_server = options.messages / servers as u64;
    let warm_up = per_server / WARM_UP;
    let mut wires = Vec::new();
    for number in 0..servers {
        wires.push(Wire::start(sandbox, number, options.editors).await?);
    }
    let mut wires = together(wires, warm_up, per_server).await?;
    let before = memory(daemon.0, &wires).await?;
    for _ in 1..WARM_UP {
        wires = together(wires, warm_up, per_server).await?;
    }
    let after = memory(daemon.0, &wires).await?;
    let (mut messages, mut lost) = (0, 0);
    for wire in wires {
        let (passed, missing) = wire.finish().await?;
        messages += passed;
        lost += missing;
    }
    let growth = |before: f64, after: f64| (after - before).max(0.0) / before.max(f64::EPSILON);
    let (daemon, shim) = (growth(before.0, after.0), growth(before.1, after.1));
    Ok(vec![
        Row::new("messages", messages as f64, ""),
        Row::new("lost", lost as f64, "").exactly(0.0),
        Row::new("rss_growth", daemon.max(shim), "of what it was").at_most(0.05),
        Row::new("rss_after_warm_up", before.0, "MiB"),
        Row::new("rss_end", after.0, "MiB"),
        Row::new("shim_rss_after_warm_up", before.1, "MiB"),
        Row::new("shim_rss_end", after.1, "MiB"),
        Row::new("servers", servers as f64, ""),
        Row::new("editors", options.editors as f64, ""),
    ])
}

/// Every server takes its share of messages, all at the same time.
async fn together(wires: Vec<Wire>, share: u64, whole: u64) -> Result<Vec<Wire>, String> {
    let restart_every = (whole / RESTARTS).max(1);
    let tasks: Vec<_> = wires
        .into_iter()
        .map(|mut wire| {
            tokio::spawn(async move { wire.pass(share, restart_every).await.map(|()| wire) })
        })
        .collect();
    let mut wires = Vec::new();
    for task in tasks {
        wires.push(task.await.map_err(|error| error.to_string())??);
    }
    Ok(wires)
}

/// The resident memory of the daemon and of the largest shim, once all is quiet, in MiB.
async fn memory(daemon: u32, wires: &[Wire]) -> Result<(f64, f64), String> {
    tokio::time::sleep(Duration::from_secs(1)).await;
    let daemon = super::proxy::rss_mib(daemon).ok_or("the daemon is gone")?;
    let shims = wires.iter().filter_map(|wire| super::proxy::rss_mib(wire.shim.id()?));
    Ok((daemon, shims.fold(0.0, f64::max)))
}

/// One editor's connection to one server.
struct Wire {
    sandbox: Arc<Sandbox>,
    number: usize,
    editors: usize,
    client: Client,
    shim: Child,
    came: Arc<Came>,
    /// What must have come since the last restart.
    due: Due,
    text: String,
    version: u64,
    round: u64,
    /// Messages of former connections.
    passed: u64,
    lost: u64,
    since_restart: u64,
}

/// What a server has sent by itself.
#[derive(Default)]
struct Came {
    notes: AtomicU64,
    sets: AtomicU64,
    questions: AtomicU64,
}

/// What it should have.
#[derive(Default)]
struct Due {
    notes: u64,
    sets: u64,
    questions: u64,
    /// Everything, with what the editor has sent.
    messages: u64,
}

struct Counting(Arc<Came>);

impl Handler for Counting {
    fn notified(&self, method: &str, _envelope: &Envelope) {
        match method {
            "test/note" => self.0.notes.fetch_add(1, Ordering::Relaxed),
            "textDocument/publishDiagnostics" => self.0.sets.fetch_add(1, Ordering::Relaxed),
            _ => 0,
        };
    }

    fn asked(&self, method: &str, envelope: &Envelope) -> Result<Json, ResponseError> {
        self.0.questions.fetch_add(1, Ordering::Relaxed);
        default_answer(method, envelope)
    }
}

impl Wire {
    async fn start(sandbox: &Arc<Sandbox>, number: usize, editors: usize) -> Result<Wire, String> {
        let came = Arc::new(Came::default());
        let program = program();
        // A record of its own makes it a server of its own.
        let record = sandbox.folder().join(format!("{number}.record")).into_os_string();
        let words: [OsString; 6] = [
            program.clone(),
            "lsp".into(),
            "--".into(),
            program,
            "fake-server".into(),
            "--record".into(),
        ];
        let command: Vec<&OsStr> =
            words.iter().map(OsString::as_os_str).chain([record.as_os_str()]).collect();
        let (client, shim) = sandbox.start(&command, Counting(Arc::clone(&came))).await?;
        let editor = json!({ "name": format!("editor {}", number % editors.max(1)) });
        let hello = json!({ "capabilities": {}, "clientInfo": editor });
        client.initialize(&hello, PATIENCE).await.map_err(|error| error.to_string())?;
        let mut wire = Wire {
            sandbox: Arc::clone(sandbox),
            number,
            editors,
            client,
            shim,
            came,
            due: Due { messages: 3, ..Due::default() },
            text: String::new(),
            version: 0,
            round: 0,
            passed: 0,
            lost: 0,
            since_restart: 0,
        };
        wire.open()?;
        Ok(wire)
    }

    fn uri(&self) -> String {
        format!("file:///soak/{}.rs", self.number)
    }

    fn open(&mut self) -> Result<(), String> {
        (self.version, self.text) = (1, "// é😀\n".to_owned());
        let document =
            json!({ "uri": self.uri(), "languageId": "rust", "version": 1, "text": self.text });
        self.notify("textDocument/didOpen", &json!({ "textDocument": document }))?;
        self.due.sets += 1;
        self.due.messages += 1;
        Ok(())
    }

    fn notify(&mut self, method: &str, params: &Json) -> Result<(), String> {
        self.due.messages += 1;
        self.client.notify(method, params).map_err(|error| error.to_string())
    }

    async fn ask(&mut self, method: &str, params: &Json) -> Result<Json, String> {
        self.due.messages += 2;
        let reply = self.client.request(method, params, PATIENCE).await;
        reply.map_err(|error| error.to_string())?.parse().map_err(|error| error.to_string())
    }

    /// So many messages more.
    async fn pass(&mut self, share: u64, restart_every: u64) -> Result<(), String> {
        let until = self.passed + self.due.messages + share;
        while self.passed + self.due.messages < until {
            self.round += 1;
            self.write()?;
            self.read().await?;
            if self.since_restart + restart_every <= self.passed + self.due.messages {
                self.start_again().await?;
                self.since_restart = self.passed + self.due.messages;
            }
        }
        Ok(())
    }

    /// A keystroke: a line more, or a document anew.
    fn write(&mut self) -> Result<(), String> {
        let lines = self.version % LINES_MAX;
        self.version += 1;
        let line = format!("let line_{} = \"é😀 {}\";\n", self.version, self.round);
        let at = json!({ "line": lines, "character": 0 });
        let change = if lines == 0 {
            self.text.clone_from(&line);
            json!({ "text": line })
        } else {
            self.text.push_str(&line);
            json!({ "range": { "start": at, "end": at }, "text": line })
        };
        let document = json!({ "uri": self.uri(), "version": self.version });
        self.due.sets += 1;
        self.due.messages += 1;
        let params = json!({ "textDocument": document, "contentChanges": [change] });
        self.notify("textDocument/didChange", &params)
    }

    async fn read(&mut self) -> Result<(), String> {
        let params = json!({ "round": self.round, "text": "x".repeat(300) });
        let reads =
            (0..READS).map(|_| self.client.request("textDocument/hover", &params, PATIENCE));
        for reply in futures_util::future::join_all(reads).await {
            let reply = reply.map_err(|error| error.to_string())?;
            self.lost += u64::from(reply.raw() != params.to_string().as_bytes());
        }
        self.due.messages += 2 * READS + NOTES;
        self.due.notes += NOTES;
        self.ask("test/notes", &json!({ "count": NOTES })).await?;
        if self.round.is_multiple_of(20) {
            self.due.questions += 1;
            self.due.messages += 2;
            let params = json!({ "items": [{ "section": "a" }] });
            let ask = json!({ "id": self.round.to_string(), "method": "workspace/configuration", "params": params });
            self.ask("test/ask", &ask).await?;
            for kind in ["begin", "end"] {
                let params =
                    json!({ "token": self.round, "value": { "kind": kind, "title": "t" } });
                self.due.messages += 1;
                self.ask("test/say", &json!({ "method": "$/progress", "params": params })).await?;
            }
        }
        Ok(())
    }

    /// What came is what was due, and the server's text is the editor's; the connection is ended.
    async fn settle(&mut self) -> Result<(), String> {
        let state = self.ask("test/state", &json!({})).await?;
        let same = state["documents"][self.uri()] == json!([self.version, self.text]);
        let missing = |came: &AtomicU64, due: u64| due.abs_diff(came.load(Ordering::Relaxed));
        self.lost += u64::from(!same)
            + missing(&self.came.notes, self.due.notes)
            + missing(&self.came.sets, self.due.sets)
            + missing(&self.came.questions, self.due.questions);
        self.client.shutdown(PATIENCE).await.map_err(|error| error.to_string())?;
        let ended = tokio::time::timeout(PATIENCE, self.shim.wait()).await;
        ended.map_err(|_| "a shim does not end".to_owned())?.map_err(|error| error.to_string())?;
        self.passed += self.due.messages + 3;
        Ok(())
    }

    async fn start_again(&mut self) -> Result<(), String> {
        self.settle().await?;
        let fresh = Wire::start(&self.sandbox, self.number, self.editors).await?;
        let (round, passed, lost) = (self.round, self.passed, self.lost);
        *self = Wire { round, passed, lost, ..fresh };
        Ok(())
    }

    /// How many messages have passed, and how many were lost.
    async fn finish(mut self) -> Result<(u64, u64), String> {
        self.settle().await?;
        Ok((self.passed, self.lost))
    }
}
