//! Records a conversation with a real server (`cargo xtask record-peer NAME`): what an editor does in a few minutes, and
//! what the server says to it, connected directly. Demolish's own questions are asked beside it, as the daemon asks them,
//! and written down apart.
//!
//! What is of this machine or of this moment is put into words that are the same everywhere (`normal`), and what only fills
//! the file is left out.

mod normal;
mod script;

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

use proxy::verdict::{Barrier, State, Step, Ticket, Verdict};
use serde_json::Value as Json;
use text::Revision;
use tokio::sync::mpsc;
use wire::client::default_answer;
use wire::codec::Incoming;
use wire::peer::{Lane, Peer, PeerEvent};
use wire::{Envelope, Id, Kind};

use super::peers::{self, RealPeer};
use super::sandbox::Sandbox;
use super::transcript::{Line, TRANSCRIPT_BYTES_MAX};
use crate::handlers::verdicts::habits;
use normal::Normal;

/// How long the server may take for anything.
const PATIENCE: Duration = Duration::from_secs(60);
/// What it says within this time after something was done is written down before the next is done.
const QUIET: Duration = Duration::from_millis(600);
/// Ids of Demolish's own questions begin here.
const OWN_IDS: u32 = 1 << 20;
/// How many events of the server may wait.
const INBOX_MAX: usize = 4096;

/// Records the peer into the folder of the transcripts; returns what was done, in words.
///
/// # Errors
/// The server is not installed, or the conversation broke off: one sentence.
#[allow(clippy::disallowed_methods, reason = "recordings are written into the source tree")]
pub(crate) async fn run(name: &str) -> Result<String, String> {
    let peers = peers::all()?;
    let peer = peers.iter().find(|peer| peer.name == name);
    let peer = peer.ok_or_else(|| format!("no server is called `{name}`"))?;
    let command = peer.located().ok_or_else(|| format!("{name} is not installed"))?;
    let sandbox = Sandbox::new(&format!("record-{name}"), "")?;
    let project = sandbox.folder().join("project");
    peer.write(&project)?;
    let project = project.canonicalize().map_err(|error| error.to_string())?;
    let mut recorder = Recorder::start(&sandbox, peer, &command, &project).await?;
    script::play(&mut recorder, peer, &project).await?;
    let text = recorder.finish(&Normal::new(&project))?;
    if text.len() > TRANSCRIPT_BYTES_MAX {
        return Err(format!("{} bytes are more than a transcript may have", text.len()));
    }
    let path = peers::recordings().join(format!("{name}.jsonl"));
    std::fs::write(&path, &text)
        .map_err(|error| format!("{} cannot be written ({error})", path.display()))?;
    Ok(format!("{name}: {} lines, {} bytes\n", text.lines().count(), text.len()))
}

/// A connection on which everything is written down.
pub(super) struct Recorder {
    peer: Peer,
    events: mpsc::Receiver<PeerEvent>,
    lines: Vec<Line>,
    barrier: Barrier,
    start: Instant,
    last_id: u32,
    last_own: u32,
    /// The barrier's questions by our id.
    own: BTreeMap<u32, u32>,
    verdicts: Vec<Verdict>,
    _child: wire::child::Child,
}

impl Recorder {
    async fn start(
        sandbox: &Sandbox,
        peer: &RealPeer,
        command: &[String],
        project: &Path,
    ) -> Result<Recorder, String> {
        let (child, stdin, stdout) = sandbox.spawn_in(command, project, &peer.env).await?;
        let (inbox, events) = mpsc::channel(INBOX_MAX);
        let connection = Peer::start(stdout, stdin, move |event| {
            let inbox = inbox.clone();
            async move {
                let _ = inbox.send(event).await;
            }
        });
        Ok(Recorder {
            peer: connection,
            events,
            lines: vec![Line::Peer { name: peer.name.clone(), version: peer.version.clone() }],
            barrier: Barrier::new(habits(command)),
            start: Instant::now(),
            last_id: 0,
            last_own: OWN_IDS,
            own: BTreeMap::new(),
            verdicts: Vec::new(),
            _child: child,
        })
    }

    /// Asks as the editor, and does not wait.
    pub(super) fn ask(&mut self, method: &str, params: &Json) -> Id {
        self.last_id += 1;
        let id = Id::number(self.last_id);
        if method == "initialize" {
            self.barrier.on_initialize(params.to_string().as_bytes());
        }
        self.say(&Envelope::request(id.clone(), method, params));
        id
    }

    /// Asks as the editor, and waits for the answer.
    pub(super) async fn request(&mut self, method: &str, params: &Json) -> Result<Json, String> {
        let id = self.ask(method, params);
        self.answer(&id).await
    }

    /// Waits for the answer to a request; `null` for an error.
    pub(super) async fn answer(&mut self, id: &Id) -> Result<Json, String> {
        let until = Instant::now() + PATIENCE;
        loop {
            let envelope = self.next(until).await?.ok_or_else(|| format!("no answer to {id}"))?;
            if envelope.id() == Some(id) && envelope.method().is_none() {
                let result = envelope.outcome().map(wire::parse::<Json>);
                return Ok(result.ok().and_then(Result::ok).unwrap_or_default());
            }
        }
    }

    /// Tells as the editor.
    pub(super) fn notify(&mut self, method: &str, params: &Json) {
        self.say(&Envelope::notification(method, params));
        let (uri, now, last) = (&params["textDocument"]["uri"], Instant::now(), self.last_id);
        let version = params["textDocument"]["version"].as_i64().unwrap_or_default();
        let revision = Revision(i32::try_from(version).unwrap_or_default());
        let uri: Arc<str> = uri.as_str().unwrap_or_default().into();
        let steps = match method {
            "initialized" => self.barrier.on_server_ready(now),
            "textDocument/didOpen" => self.barrier.on_open(&uri, revision, last, now),
            "textDocument/didChange" => self.barrier.on_change(&uri, revision, last, now),
            _ => Vec::new(),
        };
        self.steps(steps);
    }

    /// Waits for a verdict as the daemon comes to it, and writes it down.
    pub(super) async fn verdict(&mut self, uri: &str, good: bool) -> Result<(), String> {
        let until = Instant::now() + PATIENCE;
        let steps = self.barrier.ask(uri, Ticket(1), until, Instant::now());
        self.steps(steps);
        while self.verdicts.is_empty() {
            let due = self.barrier.next_deadline().unwrap_or(until);
            if self.next(due).await?.is_none() {
                let steps = self.barrier.expire(Instant::now());
                self.steps(steps);
            }
        }
        let verdict = self.verdicts.remove(0);
        let findings = match &verdict.state {
            State::Findings(list) => wire::parse::<Vec<Json>>(list).map_or(0, |list| list.len()),
            State::Clean => 0,
            State::Unknown(reason) => return Err(format!("the verdict is unknown: {reason}")),
        };
        if good != (verdict.state == State::Clean) {
            return Err(format!("the verdict is wrong: {verdict:?}"));
        }
        let revision = verdict.revision.map_or(0, |revision| revision.0);
        self.lines.push(Line::Verdict { revision, state: verdict.word().to_owned(), findings });
        Ok(())
    }

    /// Writes down what else comes, until nothing has for a while.
    pub(super) async fn quiet(&mut self) -> Result<(), String> {
        while self.next(Instant::now() + QUIET).await?.is_some() {}
        Ok(())
    }

    /// The end: a notification that nothing follows.
    fn finish(mut self, normal: &Normal) -> Result<String, String> {
        self.say(&Envelope::notification("exit", &()));
        normal.text(self.lines)
    }

    /// The next message of the server, which has been written down and, if it is a request, answered.
    async fn next(&mut self, until: Instant) -> Result<Option<Envelope>, String> {
        let event = match tokio::time::timeout_at(until.into(), self.events.recv()).await {
            Ok(event) => event,
            Err(_) => return Ok(None),
        };
        let envelope = match event {
            Some(PeerEvent::Incoming(Incoming::Message(envelope))) => envelope,
            Some(PeerEvent::Incoming(_)) => return Ok(None),
            Some(PeerEvent::Closed(_)) | None => return Err("the server is gone".to_owned()),
        };
        self.hear(&envelope)?;
        Ok(Some(envelope))
    }

    fn hear(&mut self, envelope: &Envelope) -> Result<(), String> {
        let now = Instant::now();
        let question = envelope.id().and_then(Id::as_u32).and_then(|id| self.own.remove(&id));
        if let (Some(question), Kind::Response { .. }) = (question, &envelope.kind) {
            self.lines.push(Line::Answered(raw(envelope)?));
            let steps = match envelope.outcome() {
                Ok(result) => self.barrier.on_answer(question, Ok(result), now),
                Err(error) => self.barrier.on_answer(question, Err(&error), now),
            };
            self.steps(steps);
            return Ok(());
        }
        self.lines.push(Line::Server(raw(envelope)?));
        let steps = match &envelope.kind {
            Kind::Request { id, method } => {
                let answer = match default_answer(method, envelope) {
                    Ok(result) => Envelope::response(id.clone(), &result),
                    Err(error) => Envelope::error(id.clone(), &error),
                };
                self.say(&answer);
                match &**method {
                    "client/registerCapability" => self.barrier.on_register(envelope.params(), now),
                    _ => Vec::new(),
                }
            }
            Kind::Notification { method } if **method == *"textDocument/publishDiagnostics" => {
                let params: Json = envelope.params_as().unwrap_or_default();
                let version = params["version"].as_i64().and_then(|v| i32::try_from(v).ok());
                let list = params["diagnostics"].to_string().into();
                let uri = params["uri"].as_str().unwrap_or_default();
                self.barrier.on_publish(uri, version, &list, now)
            }
            Kind::Notification { .. } => self.barrier.on_notification(envelope, now),
            Kind::Response { .. } => {
                if let (Some(1), Ok(result)) =
                    (envelope.id().and_then(Id::as_u32), envelope.outcome())
                {
                    self.barrier.on_capabilities(result);
                }
                Vec::new()
            }
        };
        self.steps(steps);
        Ok(())
    }

    fn steps(&mut self, steps: Vec<Step>) {
        for step in steps {
            match step {
                Step::Ask(question, method, params) => {
                    self.last_own += 1;
                    self.own.insert(self.last_own, question);
                    self.send(&Envelope::request(Id::number(self.last_own), &method, &params));
                    self.lines.push(Line::Asked { method, params });
                }
                // It is answered all the same, and the answer is of no use.
                Step::Forget(_) => {}
                Step::Verdict(_, verdict) => self.verdicts.push(verdict),
            }
        }
    }

    fn say(&mut self, envelope: &Envelope) {
        self.send(envelope);
        self.lines.extend(raw(envelope).ok().map(Line::Client));
    }

    fn send(&self, envelope: &Envelope) {
        tracing::debug!(since = ?self.start.elapsed(), method = envelope.method(), "said");
        let _ = self.peer.sender().send(envelope.body.clone(), Lane::Keep, None);
    }
}

fn raw(envelope: &Envelope) -> Result<Box<serde_json::value::RawValue>, String> {
    let text = String::from_utf8_lossy(&envelope.body).into_owned();
    serde_json::value::RawValue::from_string(text).map_err(|error| error.to_string())
}
