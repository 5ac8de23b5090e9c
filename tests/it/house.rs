//! A house of its own for every test: socket, logs and processes, all gone at the end.

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::path::PathBuf;
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, kill_process};
use serde_json::{Value, json};
use wire::child::{Child, ChildOptions};
use wire::ext::{GetStatus, Hello, Status};
use wire::fake::FakePeer;
use wire::lsp::request::Request as _;
use wire::{Envelope, Id, Kind};

/// The program under test.
pub const DEMOLISH: &str = env!("CARGO_BIN_EXE_demolish");
/// How long anything may take on a machine that is busy with other things.
pub const PATIENCE: Duration = Duration::from_secs(20);

/// A test's own socket, folders and environment.
pub struct House {
    /// Everything of this test.
    pub dir: tempfile::TempDir,
    /// What processes are started with.
    pub env: BTreeMap<OsString, OsString>,
}

/// An editor that has started a shim.
pub struct Editor {
    /// The wire, as the editor sees it.
    pub wire: FakePeer,
    /// The shim, or the server that it has become.
    pub shim: Child,
}

impl House {
    /// A new house.
    pub fn new() -> House {
        let dir = tempfile::tempdir().unwrap();
        let mut env: BTreeMap<OsString, OsString> = std::env::vars_os()
            .filter(|(name, _)| !name.to_string_lossy().starts_with("DEMOLISH_"))
            .collect();
        let mut set = |name: &str, value: PathBuf| env.insert(name.into(), value.into());
        set("DEMOLISH_SOCKET", dir.path().join("run/demolish.sock"));
        set("XDG_STATE_HOME", dir.path().join("state"));
        set("XDG_CONFIG_HOME", dir.path().join("config"));
        set("XDG_DATA_HOME", dir.path().join("data"));
        set("HF_HUB_CACHE", dir.path().join("cache"));
        House { dir, env }
    }

    /// The same with a variable more.
    pub fn with(mut self, name: &str, value: &str) -> House {
        self.env.insert(name.into(), value.into());
        self
    }

    /// Starts a program with these pipes and this environment.
    pub async fn start(&self, command: &[&str]) -> Editor {
        let options = ChildOptions {
            command: command.iter().map(Into::into).collect(),
            cwd: Some(self.dir.path().to_owned()),
            env: Some(self.env.clone()),
            log: None,
        };
        let (shim, stdin, stdout) = Child::spawn(options).await.unwrap();
        Editor { wire: FakePeer::over(stdout, stdin).lenient(), shim }
    }

    /// Starts a daemon and waits until it listens, so that no shim has to hurry.
    pub async fn daemon(&self) {
        let mut daemon = self.start(&[DEMOLISH, "daemon"]).await;
        let until = Instant::now() + PATIENCE;
        while wire::socket::connect(&self.socket()).await.is_err() {
            assert!(Instant::now() < until, "no daemon: {:?}", daemon.shim.log().tail());
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
        // It outlives the test's handle; the house ends it.
        tokio::spawn(async move { daemon.shim.wait().await });
    }

    /// An editor with a shim around the fake server.
    pub async fn editor(&self, habits: &[&str]) -> Editor {
        let command = [&[DEMOLISH, "lsp", "--", DEMOLISH, "fake-server"][..], habits].concat();
        self.start(&command).await
    }

    /// The same, with a daemon that was there before and `initialize` done.
    pub async fn ready_editor(&self) -> Editor {
        self.daemon().await;
        let mut editor = self.editor(&[]).await;
        editor.initialize().await;
        editor
    }

    /// Where the daemon listens.
    pub fn socket(&self) -> PathBuf {
        self.dir.path().join("run/demolish.sock")
    }

    /// The daemon's process, from its lock.
    pub fn daemon_pid(&self) -> Option<i32> {
        let lock = std::fs::read_to_string(self.socket().with_extension("lock")).ok()?;
        lock.trim().parse().ok()
    }

    /// Kills the daemon as the system would.
    pub fn kill_daemon(&self) {
        kill(self.daemon_pid().expect("a daemon"));
    }

    /// What `demolish status` sees.
    pub async fn status(&self) -> Status {
        wire::parse(self.control(GetStatus::METHOD).await.to_string().as_bytes()).unwrap()
    }

    /// Waits until the daemon holds so many requests of its first editor without an answer: a shim that has not said hello yet would
    /// take a daemon's death for its absence, and step aside.
    pub async fn asked(&self, pending: usize) {
        let end = Instant::now() + PATIENCE;
        while self.status().await.links.first().is_none_or(|link| link.pending < pending) {
            assert!(Instant::now() < end, "not within {PATIENCE:?}: {pending} requests");
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    }

    /// What a command-line verb is told.
    pub async fn control(&self, method: &str) -> Value {
        self.control_with(method, &()).await
    }

    /// The same, with parameters.
    pub async fn control_with(&self, method: &str, params: &impl serde::Serialize) -> Value {
        let stream = wire::socket::connect(&self.socket()).await.unwrap();
        let (reader, writer) = stream.into_split();
        let mut control = FakePeer::over(reader, writer).lenient();
        let hello = json!({
            "protocol": wire::ext::PROTOCOL, "version": demolish::VERSION, "mode": "control",
            "cwd": "/", "pid": 1, "env": {}
        });
        control.request(Hello::METHOD, &hello);
        control.expect_response::<Value>().await.1.unwrap();
        control.request(method, params);
        control.expect_response::<Value>().await.1.unwrap()
    }
}

impl Drop for House {
    fn drop(&mut self) {
        if let Some(pid) = self.daemon_pid() {
            kill(pid);
        }
    }
}

impl Editor {
    /// `initialize`, its answer, `initialized`.
    pub async fn initialize(&mut self) -> Value {
        let params = json!({
            "processId": std::process::id(), "rootUri": null,
            "clientInfo": { "name": "a test" },
            "capabilities": { "workspace": { "inlayHint": { "refreshSupport": true } } },
        });
        let id = self.wire.request("initialize", &params);
        let result = self.answer(&id).await.expect("initialize is answered");
        self.wire.notify("initialized", &json!({}));
        result
    }

    /// The next response, which is to `id`; what comes before it stays for later.
    pub async fn answer(&mut self, id: &Id) -> Result<Value, wire::ResponseError> {
        let envelope = self
            .wire
            .find_where(|envelope| matches!(&envelope.kind, Kind::Response { id: of } if of == id))
            .await;
        envelope.outcome().map(|raw| wire::parse(raw).unwrap())
    }

    /// Asks and waits.
    pub async fn ask(&mut self, method: &str, params: Value) -> Result<Value, wire::ResponseError> {
        let id = self.wire.request(method, &params);
        self.answer(&id).await
    }

    /// Opens a document.
    pub fn open(&self, uri: &str, text: &str) {
        let language = if uri.ends_with(".py") { "python" } else { "plain" };
        let item = json!({ "uri": uri, "languageId": language, "version": 1, "text": text });
        self.wire.notify("textDocument/didOpen", &json!({ "textDocument": item }));
    }

    /// Replaces the text of a document.
    pub fn change(&self, uri: &str, version: i32, text: &str) {
        let params = json!({
            "textDocument": { "uri": uri, "version": version },
            "contentChanges": [{ "text": text }],
        });
        self.wire.notify("textDocument/didChange", &params);
    }

    /// What the server knows. Asked again if the server, or what is between, dies meanwhile.
    pub async fn state(&mut self) -> Value {
        let until = Instant::now() + PATIENCE;
        loop {
            match self.ask("test/state", json!({})).await {
                Ok(state) => return state,
                Err(error) => assert!(Instant::now() < until, "{error}"),
            }
        }
    }

    /// The server's process.
    pub async fn server_pid(&mut self) -> i32 {
        self.state().await["pid"].as_i64().unwrap() as i32
    }

    /// The next message of this method.
    pub async fn find(&mut self, method: &str) -> Envelope {
        self.wire.find(method).await
    }

    /// `shutdown` and `exit`; returns how the shim ended and how long that took.
    pub async fn leave(mut self) -> (Option<i32>, Duration) {
        let begun = Instant::now();
        self.ask("shutdown", Value::Null).await.unwrap();
        self.wire.notify("exit", &Value::Null);
        let status =
            tokio::time::timeout(PATIENCE, self.shim.wait()).await.expect("it ends").unwrap();
        (status.code(), begun.elapsed())
    }
}

/// SIGKILL.
pub fn kill(pid: i32) {
    signal(pid, Signal::KILL);
}

/// Any signal.
pub fn signal(pid: i32, signal: Signal) {
    if let Some(pid) = Pid::from_raw(pid) {
        let _ = kill_process(pid, signal);
    }
}

/// Whether a process is there and no zombie.
pub fn is_alive(pid: i32) -> bool {
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
    stat.rsplit(") ").next().is_some_and(|rest| !rest.is_empty() && !rest.starts_with('Z'))
}

/// Waits until something is so.
pub async fn until(what: &str, so: impl Fn() -> bool) {
    let end = Instant::now() + PATIENCE;
    while !so() {
        assert!(Instant::now() < end, "not within {PATIENCE:?}: {what}");
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}

/// Whether there is time for slow tests.
pub fn slow() -> bool {
    std::env::var_os("DEMOLISH_SLOW").is_some_and(|value| value != "0")
}
