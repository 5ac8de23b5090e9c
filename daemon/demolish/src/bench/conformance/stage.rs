//! One proxy on stage: the suite is the editor before it and the server behind it.
//!
//! Every check has a stage of its own: a fresh folder, a fresh proxy, fresh servers. What the suite does by itself while a
//! check waits (answering `initialize`, ending on `exit`) stands in [`Auto`], and a check can switch it off.

mod door;
mod process;

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::path::PathBuf;
use std::time::{Duration, Instant};

use serde_json::{Value, json};
use tokio::sync::{mpsc, watch};
use wire::child::{Child, ChildOptions};
use wire::ends::{Reader, Writer};
use wire::{Bytes, Envelope, Id, Kind};

use super::port::Port;
use super::subject::{Holes, Subject, words};
use crate::conformance_server::Tag;
use door::Event;
pub(super) use process::{is_alive, kill};

/// How long a command beside the proxy may take until it listens.
const BESIDE_PATIENCE: Duration = Duration::from_secs(8);
/// How long a command beside the proxy is given if nothing shows that it is ready.
const BESIDE_PAUSE: Duration = Duration::from_millis(400);
/// Chunks that have arrived and that nobody has looked at.
const EVENTS_MAX: usize = 4096;
/// The variable by which processes are found that a proxy leaves behind.
pub(super) const MARK: &str = "CONFORMANCE_STAGE";

/// Why a check does not hold.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Fault {
    /// The rule is broken; what happened, in words.
    Broken(String),
    /// The rule is nobody's here; why, in words.
    Apart(String),
}

/// What a check comes to.
pub(super) type Verdict<T = ()> = Result<T, Fault>;

impl<T: Into<String>> From<T> for Fault {
    fn from(why: T) -> Fault {
        Fault::Broken(why.into())
    }
}

/// An end of the wire.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum At {
    /// The editor of this number.
    Editor(usize),
    /// The running server of this name.
    Server(&'static str),
}

/// The first editor.
pub(super) const EDITOR: At = At::Editor(0);
/// A second editor, if a check starts one.
pub(super) const SECOND: At = At::Editor(1);
/// The first server of the first editor.
pub(super) const SERVER: At = At::Server("1");

impl std::fmt::Display for At {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            At::Editor(0) => f.write_str("the editor"),
            At::Editor(_) => f.write_str("the second editor"),
            At::Server("1") => f.write_str("the server"),
            At::Server(name) => write!(f, "server {name}"),
        }
    }
}

/// What the suite does by itself.
#[derive(Clone, Copy, Debug)]
pub(super) struct Auto {
    /// The server answers `initialize`.
    pub(super) initialize: bool,
    /// The server answers `shutdown`.
    pub(super) shutdown: bool,
    /// The server ends on `exit`.
    pub(super) exit: bool,
    /// The server ends when its stdin ends.
    pub(super) end: bool,
    /// The editor answers what needs no user.
    pub(super) editor: bool,
}

struct Editor {
    port: Port,
    child: Child,
    /// Its process, for as long as nobody has waited for it.
    pid: Option<i32>,
    reads: watch::Sender<bool>,
    next_id: u32,
}

struct Server {
    name: String,
    pid: i32,
    port: Port,
}

/// See the head of the module.
pub(super) struct Stage {
    pub(super) subject: Subject,
    pub(super) auto: Auto,
    /// What the servers say that they can do.
    pub(super) capabilities: Value,
    /// How long a message may take that should come.
    pub(super) patience: Duration,
    holes: Holes,
    env: BTreeMap<OsString, OsString>,
    editors: Vec<Editor>,
    servers: BTreeMap<usize, Server>,
    besides: Vec<Child>,
    events: mpsc::Receiver<Event>,
    sender: mpsc::Sender<Event>,
}

impl Stage {
    /// A stage with one proxy, started and not spoken to.
    pub(super) async fn open(subject: &Subject, patience: Duration) -> Result<Stage, String> {
        let (holes, env) = process::furnish(subject)?;
        let (sender, events) = mpsc::channel(EVENTS_MAX);
        door::listen(&holes.socket, sender.clone())?;
        let mut stage = Stage {
            subject: subject.clone(),
            auto: Auto { initialize: true, shutdown: true, exit: true, end: true, editor: true },
            capabilities: capabilities(),
            patience,
            holes,
            env,
            editors: Vec::new(),
            servers: BTreeMap::new(),
            besides: Vec::new(),
            events,
            sender,
        };
        for beside in &subject.besides {
            let command = words(&stage.holes.text(beside, ""));
            let (child, _stdin, mut stdout) =
                stage.spawn(command.into_iter().map(Into::into).collect()).await?;
            // A pipe that nobody reads would block it.
            tokio::spawn(async move { tokio::io::copy(&mut stdout, &mut tokio::io::sink()).await });
            stage.besides.push(child);
        }
        stage.wait_for_besides().await;
        stage.start_editor("").await?;
        Ok(stage)
    }

    async fn wait_for_besides(&self) {
        if self.besides.is_empty() {
            return;
        }
        let end = Instant::now() + BESIDE_PATIENCE;
        let socket = self.subject.appears.as_ref().map(|path| self.holes.folder.join(path));
        let address = ("127.0.0.1", self.holes.port);
        loop {
            let ready = match &socket {
                Some(socket) => tokio::net::UnixStream::connect(socket).await.is_ok(),
                None if self.subject.listens() => {
                    tokio::net::TcpStream::connect(address).await.is_ok()
                }
                None => {
                    tokio::time::sleep(BESIDE_PAUSE).await;
                    true
                }
            };
            if ready || Instant::now() > end {
                return;
            }
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    }

    /// Starts the proxy once more, for another editor; `tells` tells its servers from those of the others.
    pub(super) async fn start_editor(&mut self, tells: &str) -> Result<At, String> {
        let command = self.holes.fill(&self.subject.command, tells);
        let (child, stdin, stdout) = self.spawn(command).await?;
        let number = self.editors.len();
        let (reads, gate) = watch::channel(true);
        let writer = door::start_editor(number, stdin, stdout, gate, self.sender.clone());
        let pid = child.id().and_then(|id| i32::try_from(id).ok());
        let port = Port::new(writer, false);
        self.editors.push(Editor { port, child, pid, reads, next_id: 1 });
        Ok(At::Editor(number))
    }

    async fn spawn(&self, command: Vec<OsString>) -> Result<(Child, Writer, Reader), String> {
        let options = ChildOptions {
            command,
            cwd: Some(self.project()),
            env: Some(self.env.clone()),
            log: None,
        };
        Child::spawn(options).await.map_err(|error| error.to_string())
    }

    /// Where the project is that the editor has open.
    pub(super) fn project(&self) -> PathBuf {
        self.holes.folder.join("project")
    }

    /// A document of the project.
    pub(super) fn uri(&self, name: &str) -> String {
        format!("file://{}/{name}", self.project().display())
    }

    /// The wire at one end; a server that has never been there has none.
    pub(super) fn port(&self, at: At) -> Option<&Port> {
        match at {
            At::Editor(number) => self.editors.get(number).map(|editor| &editor.port),
            At::Server(name) => self.lives(name).last().map(|server| &server.port),
        }
    }

    fn port_mut(&mut self, at: At) -> Option<&mut Port> {
        match at {
            At::Editor(number) => self.editors.get_mut(number).map(|editor| &mut editor.port),
            At::Server(name) => {
                let of = self.servers.values_mut().filter(|server| server.name == name);
                of.last().map(|server| &mut server.port)
            }
        }
    }

    fn lives<'a>(&'a self, name: &'a str) -> impl Iterator<Item = &'a Server> {
        self.servers.values().filter(move |server| server.name == name)
    }

    /// How many processes there have been of this server.
    pub(super) fn births(&self, name: &str) -> usize {
        self.lives(name).count()
    }

    /// The process of the server that runs, or ran last.
    pub(super) fn server_pid(&self, name: &str) -> Option<i32> {
        self.lives(name).last().map(|server| server.pid)
    }

    /// Waits until the editor's proxy has ended, without taking its children with it; its exit code, if it has one.
    pub(super) async fn ended(
        &mut self,
        editor: usize,
        patience: Duration,
    ) -> Verdict<Option<i32>> {
        let end = Instant::now() + patience;
        while self.editors[editor].pid.is_some_and(process::is_running) {
            if Instant::now() > end {
                return Err(format!(
                    "it still runs after {} s, its stdin open",
                    patience.as_secs()
                )
                .into());
            }
            self.idle(Duration::from_millis(5)).await;
        }
        // What it wrote at the end may still be on its way.
        self.idle(Duration::from_millis(20)).await;
        Ok(process::code(self.editors[editor].pid))
    }

    /// Whether the editor's proxy runs.
    pub(super) fn runs(&self, editor: usize) -> bool {
        self.editors[editor].pid.is_some_and(process::is_running)
    }

    /// SIGKILL for the proxy.
    pub(super) fn kill_proxy(&self) {
        self.editors[0].pid.into_iter().for_each(kill);
    }

    /// SIGKILL for what runs beside it; false if nothing does.
    pub(super) fn kill_besides(&self) -> bool {
        let pids = self.besides.iter().filter_map(|child| i32::try_from(child.id()?).ok());
        pids.inspect(|pid| kill(*pid)).count() > 0
    }

    /// SIGKILL for the server.
    pub(super) fn kill_server(&self) -> Verdict {
        kill(self.server_pid("1").ok_or("there is no server")?);
        Ok(())
    }

    /// The editor stops reading, or goes on.
    pub(super) fn editor_reads(&self, editor: usize, reads: bool) {
        let _ = self.editors[editor].reads.send(reads);
    }

    /// The server stops reading, or goes on.
    pub(super) fn server_reads(&self, reads: bool) -> Verdict {
        let tag = if reads { Tag::Resume } else { Tag::Pause };
        Ok(self.port(SERVER).ok_or("there is no server")?.order(tag, b"")?)
    }

    /// Text on the server's stderr.
    pub(super) fn server_stderr(&self, text: &[u8]) -> Verdict {
        Ok(self.port(SERVER).ok_or("there is no server")?.order(Tag::Stderr, text)?)
    }

    /// The server ends by itself.
    pub(super) fn server_exits(&self, code: u8) -> Verdict {
        Ok(self.port(SERVER).ok_or("there is no server")?.order(Tag::Exit, &[code])?)
    }

    /// The editor closes its end of the proxy's stdin.
    pub(super) fn editor_leaves(&mut self) {
        self.editors[0].port.close();
    }

    /// A fresh id of the editor.
    pub(super) fn id(&mut self, at: At) -> Id {
        let At::Editor(number) = at else { return Id::number(0) };
        let editor = &mut self.editors[number];
        editor.next_id += 1;
        Id::number(editor.next_id)
    }

    /// Lets time pass, and does what the suite does by itself.
    pub(super) async fn idle(&mut self, time: Duration) {
        let end = Instant::now() + time;
        while self.pump(end).await {}
    }

    /// Takes in the next thing that arrives anywhere; false if nothing came in time.
    pub(super) async fn pump(&mut self, end: Instant) -> bool {
        match tokio::time::timeout_at(end.into(), self.events.recv()).await {
            Ok(Some(event)) => {
                self.file(event);
                true
            }
            _ => false,
        }
    }

    fn file(&mut self, event: Event) {
        match event {
            Event::EditorBytes(number, bytes) => {
                let editor = &mut self.editors[number];
                for envelope in editor.port.arrive(&bytes) {
                    match self.auto.editor.then(|| editor_answer(&envelope)).flatten() {
                        Some(answer) => drop(editor.port.send(&answer)),
                        None => editor.port.keep(envelope),
                    }
                }
            }
            Event::EditorClosed(number) => self.editors[number].port.closed = true,
            Event::ServerUp { id, name, pid, writer } => {
                let port = Port::new(writer, true);
                self.servers.insert(id, Server { name, pid, port });
            }
            Event::ServerBytes(id, bytes) => self.server_bytes(id, &bytes),
            Event::ServerInputEnd(id) => {
                if let Some(server) = self.servers.get(&id).filter(|_| self.auto.end) {
                    let _ = server.port.order(Tag::Exit, &[1]);
                }
            }
            Event::ServerClosed(id) => {
                if let Some(server) = self.servers.get_mut(&id) {
                    server.port.closed = true;
                }
            }
        }
    }

    fn server_bytes(&mut self, id: usize, bytes: &Bytes) {
        let auto = self.auto;
        let Some(server) = self.servers.get_mut(&id) else { return };
        for envelope in server.port.arrive(bytes) {
            match (&envelope.kind, envelope.method()) {
                (Kind::Request { id, .. }, Some("initialize")) if auto.initialize => {
                    let result = json!({ "capabilities": self.capabilities });
                    let _ = server.port.send(&Envelope::response(id.clone(), &result).body);
                }
                (Kind::Request { id, .. }, Some("shutdown")) if auto.shutdown => {
                    let _ = server.port.send(&Envelope::response(id.clone(), &()).body);
                }
                (Kind::Notification { .. }, Some("exit")) if auto.exit => {
                    let code = u8::from(server.port.count("shutdown") == 0);
                    let _ = server.port.order(Tag::Exit, &[code]);
                }
                _ => server.port.keep(envelope),
            }
        }
    }

    /// The first message of this kind at one end, now or soon.
    pub(super) async fn find(
        &mut self,
        at: At,
        what: &str,
        wanted: impl Fn(&Envelope) -> bool,
    ) -> Verdict<Envelope> {
        let end = Instant::now() + self.patience;
        loop {
            if let Some(envelope) = self.port_mut(at).and_then(|port| port.take(&wanted)) {
                return Ok(envelope);
            }
            let closed =
                matches!(at, At::Editor(_)) && self.port(at).is_none_or(|port| port.closed);
            if closed {
                return Err(self.how_it_ended(at, what).into());
            }
            if !self.pump(end).await && Instant::now() >= end {
                let seconds = self.patience.as_secs();
                return Err(format!("{what} did not reach {at} within {seconds} s").into());
            }
        }
    }

    /// The first message of this kind that has arrived at one end.
    pub(super) fn find_now(
        &mut self,
        at: At,
        wanted: impl Fn(&Envelope) -> bool,
    ) -> Option<Envelope> {
        self.port_mut(at)?.take(wanted)
    }

    fn how_it_ended(&self, at: At, what: &str) -> String {
        let At::Editor(number) = at else { return String::new() };
        let tail = self.editors[number].child.log().tail();
        let last = tail.iter().rev().find(|line| !line.trim().is_empty());
        let said = last.map_or(String::new(), |line| {
            format!(" (its stderr: {})", super::port::excerpt(line.trim().as_bytes()))
        });
        format!("the proxy closed its stdout before {what} came{said}")
    }

    /// Fails if a message of this kind arrives in the time.
    pub(super) async fn absent(
        &mut self,
        at: At,
        what: &str,
        time: Duration,
        unwanted: impl Fn(&Envelope) -> bool,
    ) -> Verdict {
        self.idle(time).await;
        match self.port_mut(at).and_then(|port| port.take(unwanted)) {
            Some(_) => Err(format!("{what} reached {at}").into()),
            None => Ok(()),
        }
    }
}

impl Drop for Stage {
    fn drop(&mut self) {
        self.editors.clear();
        self.besides.clear();
        process::sweep(&self.holes.folder);
        let _ = std::fs::remove_dir_all(&self.holes.folder);
    }
}

/// What the editor answers by itself.
fn editor_answer(envelope: &Envelope) -> Option<Bytes> {
    let Kind::Request { id, method } = &envelope.kind else { return None };
    let result = match &**method {
        "workspace/configuration" => {
            let params: Value = envelope.params_as().unwrap_or_default();
            vec![Value::Null; params["items"].as_array().map_or(0, Vec::len)].into()
        }
        "client/registerCapability"
        | "client/unregisterCapability"
        | "window/workDoneProgress/create" => Value::Null,
        method if method.ends_with("/refresh") => Value::Null,
        _ => return None,
    };
    Some(Envelope::response(id.clone(), &result).body)
}

/// What a server says that it can do, unless a check says otherwise.
fn capabilities() -> Value {
    json!({
        "textDocumentSync": { "openClose": true, "change": 2, "save": { "includeText": true },
            "willSave": true, "willSaveWaitUntil": true },
        "hoverProvider": true,
        "definitionProvider": true,
        "referencesProvider": true,
        "documentSymbolProvider": true,
        "completionProvider": { "resolveProvider": true, "triggerCharacters": ["."] },
        "codeActionProvider": { "resolveProvider": true, "codeActionKinds": ["quickfix"] },
        "codeLensProvider": { "resolveProvider": true },
        "signatureHelpProvider": { "triggerCharacters": ["("] },
        "renameProvider": { "prepareProvider": true },
        "documentFormattingProvider": true,
        "inlayHintProvider": { "resolveProvider": true },
        "callHierarchyProvider": true,
        "workspaceSymbolProvider": true,
        "executeCommandProvider": { "commands": ["test.run"] },
        "semanticTokensProvider": {
            "legend": { "tokenTypes": ["a", "b"], "tokenModifiers": ["m"] },
            "full": { "delta": true },
        },
        "workspace": { "workspaceFolders": { "supported": true, "changeNotifications": true } },
    })
}
