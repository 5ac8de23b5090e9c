//! Messages pass between the editor and whatever stands behind us now: the daemon, or the real server.

use std::process::ExitCode;
use std::sync::Arc;
use std::time::{Duration, Instant};

use proxy::{BackOff, ClientId, Link, LinkOptions, Mirror, Reads, Route};
use tokio::sync::mpsc;
use wire::child::{Child, ChildOptions, SpawnError};
use wire::codec::{Incoming, Malformed, Why};
use wire::ext::{EditorMalformed, Goodbye};
use wire::lsp::MessageType;
use wire::lsp::notification::Notification as _;
use wire::peer::{Peer, PeerEvent};
use wire::{Envelope, ResponseError, codes, ends};

use super::connect::{self, AGAIN, Connection, NoDaemon};
use super::suspicion::Suspicion;
use super::{ShimMode, ShimOptions};
use crate::handlers::routes::{self, FINISH_PATIENCE, Wedged};
use crate::journal::{Head, Keeper};
use crate::linger::Linger;

/// How many events may wait; readers wait for room.
const INBOX_EVENTS_MAX: usize = 256;
/// How long the server may take to end after the editor's `exit` (rule 4.13).
const EXIT_PATIENCE: Duration = Duration::from_millis(900);
/// How long the daemon may take nothing while the editor is held: longer than it gives to a server, whose fault it may be.
const DAEMON_WEDGED_AFTER: Duration = Duration::from_secs(30);
/// We look around at least this often.
const LOOK_AROUND: Duration = Duration::from_secs(60);

/// How a shim begins.
pub(super) enum Beginning {
    /// With a daemon.
    Connected(Connection),
    /// Without a daemon: with the real server, as our own child.
    Alone,
    /// With nothing but the reason for it.
    Refused(String),
}

/// What can wake a shim.
enum Event {
    /// Something from the editor.
    Editor(PeerEvent),
    /// Something from what stands behind us; the number says in which life.
    Behind(u32, PeerEvent),
    /// The daemon, in this life, was asked whether it still answers: whether it does.
    Asked(u32, bool),
    /// A daemon was found again, or not.
    Connected(Result<Connection, NoDaemon>),
    /// The real server was started, or not.
    Started(Box<Result<Direct, SpawnError>>),
}

/// The real server, as our own child.
struct Direct {
    child: Child,
    stdin: ends::Writer,
    stdout: ends::Reader,
}

/// A shim at work.
struct Shim {
    options: Arc<ShimOptions>,
    link: Link,
    /// What is open, on the disk.
    keeper: Keeper,
    editor: Peer,
    behind: Option<Peer>,
    /// The real server, if that is what stands behind us.
    child: Option<Child>,
    life: u32,
    inbox: mpsc::Sender<Event>,
    /// When what stands behind us may be started again after it died: the daemon, and later the real server.
    back_off: BackOff,
    /// How many messages of the editor could not be read.
    malformed: u64,
    /// Whether no other daemon is to be looked for: this one has said that the user wants none, or it hangs and is in the way.
    dismissed: bool,
    /// Whether the daemon hangs.
    suspicion: Suspicion,
    /// Whether the daemon has had its chances.
    direct: bool,
    /// When to look for a daemon again.
    retry_at: Option<Instant>,
    /// When we stop waiting after the editor's `exit`.
    exit_at: Option<Instant>,
    /// Whether the user knows that one of several servers runs alone.
    told_alone: bool,
    over: bool,
}

/// Runs until the editor is gone. The exit code is that which the protocol asks of a server.
///
/// It is a task, as the readers and writers are: what the runtime itself waits for is looked at only between two looks at
/// the system, and every message would pay for one.
pub(super) async fn run(options: &ShimOptions, beginning: Beginning) -> ExitCode {
    let options = Arc::new(options.clone());
    tokio::spawn(serve(options, beginning)).await.unwrap_or(ExitCode::FAILURE)
}

async fn serve(options: Arc<ShimOptions>, beginning: Beginning) -> ExitCode {
    let (inbox, mut events) = mpsc::channel(INBOX_EVENTS_MAX);
    let ends = (ends::stdin(), ends::stdout());
    let (Ok(stdin), Ok(stdout)) = ends else { return ExitCode::FAILURE };
    let to_inbox = inbox.clone();
    let editor = Peer::start(stdin, stdout, move |event| {
        let inbox = to_inbox.clone();
        async move {
            let _ = inbox.send(Event::Editor(event)).await;
        }
    });
    let mut shim = Shim::new(options, editor, inbox);
    match beginning {
        Beginning::Connected(connection) => shim.connected(connection),
        Beginning::Alone => shim.go_direct(),
        Beginning::Refused(reason) => {
            let routes = shim.link.give_up(&reason);
            shim.pass(routes);
        }
    }
    let linger = Linger::here();
    let mut passed = false;
    while !shim.over {
        if passed {
            linger.wait(&events).await;
        }
        let event = tokio::select! {
            biased;
            event = events.recv() => event,
            () = tokio::time::sleep_until(shim.next_deadline().into()) => None,
        };
        passed = matches!(event, Some(Event::Editor(_) | Event::Behind(..)));
        match event {
            Some(event) => shim.handle(event),
            None => shim.tick(Instant::now()),
        }
    }
    let clean = shim.link.is_shutdown();
    let Shim { editor, child, keeper, .. } = shim;
    drop(child);
    editor.finish(FINISH_PATIENCE).await;
    keeper.end(clean);
    if clean { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

impl Shim {
    fn new(options: Arc<ShimOptions>, editor: Peer, inbox: mpsc::Sender<Event>) -> Shim {
        let command = options.mode.command().unwrap_or_default();
        let server = command.first().map(|name| name.to_string_lossy().into_owned());
        let server = server.unwrap_or_else(|| "demolish".to_owned());
        let mut link = Link::new(LinkOptions::new(server, Reads::Retry));
        link.join(ClientId::ONLY);
        let keeper = Keeper::new(options.journal_dir.clone(), head(&options), options.journal);
        Shim {
            options,
            link,
            keeper,
            editor,
            behind: None,
            child: None,
            life: 0,
            inbox,
            back_off: BackOff::eager(),
            malformed: 0,
            dismissed: false,
            suspicion: Suspicion::new(),
            direct: false,
            retry_at: None,
            exit_at: None,
            told_alone: false,
            over: false,
        }
    }

    fn handle(&mut self, event: Event) {
        let now = Instant::now();
        match event {
            Event::Editor(PeerEvent::Incoming(Incoming::Message(envelope))) => {
                self.editor_sent(envelope, now);
            }
            Event::Editor(PeerEvent::Incoming(Incoming::Malformed(bad))) => {
                self.malformed_editor(&bad, now);
            }
            Event::Editor(PeerEvent::Incoming(Incoming::Junk(bytes))) => {
                tracing::warn!(bytes = bytes.len(), "the editor sent bytes outside of any message");
            }
            Event::Editor(PeerEvent::Closed(_)) => self.over = true,
            Event::Behind(life, event) if life == self.life => self.behind_sent(event, now),
            Event::Behind(..) => {}
            Event::Asked(life, alive) if life == self.life => self.daemon_asked(alive, now),
            Event::Asked(..) => {}
            Event::Connected(Ok(connection)) => self.connected(connection),
            Event::Connected(Err(error)) => {
                tracing::warn!(%error, "no daemon");
                self.not_connected(&error);
            }
            Event::Started(outcome) => self.started(*outcome),
        }
    }

    fn editor_sent(&mut self, envelope: Envelope, now: Instant) {
        let exit = envelope.method() == Some("exit");
        if let Some(mirror) = self.link.mirror_mut(ClientId::ONLY) {
            self.keeper.editor_sent(&envelope, mirror);
        }
        if envelope.id().is_some() && envelope.method().is_some() && self.child.is_none() {
            self.suspicion.asked(now);
        }
        let greeted = envelope.method() == Some("initialized");
        let routes = self.link.on_client(ClientId::ONLY, envelope, now);
        self.pass(routes);
        if greeted {
            self.tell_alone();
        }
        if exit {
            self.exit_at = Some(now + EXIT_PATIENCE);
            self.over = self.behind.is_none();
        }
    }

    /// A message of the editor that cannot be read: whoever waits for it is told (rules 4.2, 4.4).
    fn malformed_editor(&mut self, bad: &Malformed, now: Instant) {
        tracing::warn!(why = %bad.why, excerpt = bad.excerpt, "malformed message of the editor");
        self.malformed += 1;
        if let (None, Some(daemon)) = (&self.child, &self.behind) {
            let told = Envelope::notification(EditorMalformed::METHOD, &self.malformed);
            let _ = daemon.sender().send(told.body, wire::Lane::Keep, None);
        }
        let Some(id) = bad.id.clone() else { return };
        let code = match bad.why {
            Why::Envelope(_) => codes::PARSE_ERROR,
            Why::TooLong { .. } => codes::INVALID_REQUEST,
        };
        let answer = Envelope::error(id, &ResponseError::new(code, bad.why.to_string()));
        if bad.method.is_some() {
            let _ = self.editor.sender().send(answer.body, wire::Lane::Keep, None);
        } else {
            // It was an answer to the server: that gets an error in its place.
            let routes = self.link.on_client(ClientId::ONLY, answer, now);
            self.pass(routes);
        }
    }

    fn behind_sent(&mut self, event: PeerEvent, now: Instant) {
        let routes = match event {
            PeerEvent::Incoming(Incoming::Message(envelope)) => {
                if self.child.is_none() && envelope.method() == Some(Goodbye::METHOD) {
                    self.dismissed = true;
                    return;
                }
                let edit = envelope.method() == Some("workspace/applyEdit");
                let edit = edit.then(|| envelope.clone());
                let routes = self.link.on_server(envelope, now);
                if let (Some(edit), Some(id)) = (edit, asked_as(&routes)) {
                    self.keeper.edit_asked(id, edit.params());
                }
                routes
            }
            PeerEvent::Incoming(Incoming::Malformed(bad)) => {
                tracing::warn!(why = %bad.why, "malformed message of the server");
                match &bad.id {
                    Some(id) if bad.method.is_none() => {
                        self.link.on_server_malformed(id, &bad.why.to_string())
                    }
                    _ => Vec::new(),
                }
            }
            PeerEvent::Incoming(Incoming::Junk(bytes)) => {
                if let Some(child) = &self.child {
                    child.log().append(&bytes);
                }
                return;
            }
            PeerEvent::Closed(_) => return self.lost(now),
        };
        self.pass(routes);
        if self.child.is_none() {
            self.suspicion.heard(self.is_waiting(), now);
        }
    }

    /// Whether something is waited for that a daemon which hangs would never send.
    fn is_waiting(&self) -> bool {
        self.behind.is_some() && self.link.is_waiting()
    }

    /// Asks the daemon, in the background, whether it still answers.
    fn ask_daemon(&self) {
        let (options, inbox, life) = (Arc::clone(&self.options), self.inbox.clone(), self.life);
        tokio::spawn(async move {
            let alive = connect::answers(&options).await;
            let _ = inbox.send(Event::Asked(life, alive)).await;
        });
    }

    /// A daemon that hangs is left alone: it holds the lock, so there can be no other.
    fn daemon_asked(&mut self, alive: bool, now: Instant) {
        if self.suspicion.answered(alive, self.is_waiting(), now) {
            tracing::error!("the daemon does not answer: it is given up");
            self.dismissed = true;
            self.lost(now);
        }
    }

    fn pass(&mut self, routes: Vec<Route>) {
        let wedged = routes::apply(&mut self.link, &self.editor, self.behind.as_ref(), routes);
        self.unwedge(wedged);
    }

    fn unwedge(&mut self, wedged: Wedged) {
        // An editor that does not read cannot be served; it starts us anew if it comes to.
        self.over |= wedged.client;
        if wedged.server {
            self.lost(Instant::now());
        }
    }

    /// What stood behind us is gone.
    fn lost(&mut self, now: Instant) {
        self.behind = None;
        self.life += 1;
        let last_words = self.child.take().map(|child| child.log().tail());
        if self.exit_at.is_some() {
            let routes = self.link.on_server_death();
            self.pass(routes);
            self.over = true;
            return;
        }
        let routes = self.link.on_server_death();
        self.pass(routes);
        if self.dismissed && !self.direct {
            return self.go_direct();
        }
        match (self.back_off.died(now), last_words) {
            (Some(wait), None) => {
                tracing::warn!("the daemon is gone; looking for another");
                self.retry_at = Some(now + wait);
            }
            (Some(wait), Some(_)) => self.retry_at = Some(now + wait),
            (None, None) => self.go_direct(),
            (None, Some(words)) => {
                let reason = format!(
                    "Demolish: `{}` keeps ending ({}); it is left alone until the editor starts it again",
                    self.server(),
                    words.last().map_or("without a word", String::as_str),
                );
                let routes = self.link.give_up(&reason);
                self.pass(routes);
            }
        }
    }

    /// Looks for a daemon, or for the real server, in the background.
    fn retry(&mut self) {
        self.retry_at = None;
        if self.direct {
            return self.go_direct();
        }
        let (options, inbox) = (Arc::clone(&self.options), self.inbox.clone());
        let resumed = self.link.is_initialized();
        tokio::spawn(async move {
            let outcome = connect::connect(&options, AGAIN, resumed).await;
            let _ = inbox.send(Event::Connected(outcome)).await;
        });
    }

    fn connected(&mut self, connection: Connection) {
        let Connection { reader, writer } = connection;
        self.begin(reader, writer);
    }

    fn not_connected(&mut self, error: &NoDaemon) {
        match self.options.mode {
            ShimMode::Wrap(_) | ShimMode::Merge(_) => self.go_direct(),
            ShimMode::Own => {
                let routes = self.link.give_up(&format!("Demolish: the daemon is gone: {error}"));
                self.pass(routes);
            }
        }
    }

    /// No daemon can be had: the user's language server works all the same.
    fn go_direct(&mut self) {
        let Some(command) = self.options.mode.command() else {
            let routes = self
                .link
                .give_up("Demolish: the daemon keeps ending, or hangs; see `demolish logs`");
            return self.pass(routes);
        };
        if !std::mem::replace(&mut self.direct, true) {
            // The server has chances of its own.
            self.back_off = BackOff::default();
        }
        let options = ChildOptions { command, ..ChildOptions::default() };
        let inbox = self.inbox.clone();
        tokio::spawn(async move {
            let outcome = Child::spawn(options).await;
            let outcome = outcome.map(|(child, stdin, stdout)| Direct { child, stdin, stdout });
            let _ = inbox.send(Event::Started(Box::new(outcome))).await;
        });
    }

    fn started(&mut self, outcome: Result<Direct, SpawnError>) {
        match outcome {
            Ok(Direct { child, stdin, stdout }) => {
                tracing::warn!(server = self.server(), "runs without the daemon");
                self.child = Some(child);
                self.begin(stdout, stdin);
            }
            Err(error) => {
                let reason = format!("Demolish: the language server cannot be started: {error}");
                let routes = self.link.give_up(&reason);
                self.pass(routes);
            }
        }
    }

    fn begin<R, W>(&mut self, reader: R, writer: W)
    where
        R: tokio::io::AsyncRead + Unpin + Send + 'static,
        W: tokio::io::AsyncWrite + Unpin + Send + 'static,
    {
        self.life += 1;
        let (life, inbox) = (self.life, self.inbox.clone());
        self.behind = Some(Peer::start(reader, writer, move |event| {
            let inbox = inbox.clone();
            async move {
                let _ = inbox.send(Event::Behind(life, event)).await;
            }
        }));
        let routes = self.link.on_server_up(Instant::now());
        self.pass(routes);
        self.tell_alone();
        self.suspicion = Suspicion::new();
        if self.child.is_none() && self.is_waiting() {
            self.suspicion.asked(Instant::now());
        }
    }

    fn next_deadline(&self) -> Instant {
        let now = Instant::now();
        let look = routes::next_look(self.behind.as_ref(), now);
        let ask = self.suspicion.next().filter(|_| self.child.is_none());
        let journal = self.keeper.next_deadline();
        let due = [self.link.next_deadline(), self.retry_at, self.exit_at, look, ask, journal];
        due.into_iter().flatten().min().unwrap_or(now + LOOK_AROUND)
    }

    fn tick(&mut self, now: Instant) {
        let answers = self.link.expire(now);
        self.pass(answers);
        let editor = std::iter::once(&self.editor);
        let server = routes::is_stalled(editor, self.behind.as_ref(), DAEMON_WEDGED_AFTER);
        self.unwedge(Wedged { client: false, server });
        if let Some(mirror) = self.link.mirror_mut(ClientId::ONLY) {
            self.keeper.tick(mirror, now);
        }
        if self.child.is_none() && self.suspicion.is_due(now) {
            self.ask_daemon();
        }
        if self.retry_at.is_some_and(|at| at <= now) {
            self.retry();
        }
        self.over |= self.exit_at.is_some_and(|at| at <= now);
    }

    fn server(&self) -> String {
        let command = self.options.mode.command().unwrap_or_else(|| vec!["demolish".into()]);
        command.iter().map(|arg| arg.to_string_lossy()).collect::<Vec<_>>().join(" ")
    }

    /// Several servers are one only with a daemon: the user is told, once, that one runs alone (rule 4.48).
    fn tell_alone(&mut self) {
        let missing = self.options.mode.without().join(", ");
        let greeted = self.link.mirror(ClientId::ONLY).is_some_and(Mirror::is_initialized);
        if self.child.is_none() || missing.is_empty() || !greeted || self.told_alone {
            return;
        }
        self.told_alone = true;
        let server = self.server();
        let message = format!(
            "Demolish: no daemon, so `{server}` runs alone, without {missing}; see `demolish doctor`"
        );
        let params = serde_json::json!({ "type": MessageType::WARNING, "message": message });
        let envelope = Envelope::notification("window/showMessage", &params);
        let _ = self.editor.sender().send(envelope.body, wire::Lane::Keep, None);
    }
}

/// Whose journal a shim keeps.
fn head(options: &ShimOptions) -> Head {
    Head::of_process(&options.mode.command().unwrap_or_default())
}

/// The id under which the editor is asked.
fn asked_as(routes: &[Route]) -> Option<u32> {
    routes.iter().find_map(|route| match route {
        Route::Client(_, asked) => asked.tag,
        _ => None,
    })
}
