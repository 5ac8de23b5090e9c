//! The watch over servers, with a clock that the test turns: mute, silent, dying and greedy servers.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use demolish::daemon::Bare;
use demolish::handlers::watch::{INITIALIZE_PATIENCE, MUTE_AFTER, SILENT_AFTER};
use demolish::main_loop::{Event, INBOX_EVENTS_MAX, handle_event};
use demolish::state::{DaemonOptions, State};
use serde_json::{Value, json};
use tokio::net::UnixStream;
use tokio::sync::mpsc;
use wire::fake::FakePeer;
use wire::{Envelope, Id, Kind, codes};

use crate::house::{DEMOLISH, House, PATIENCE, is_alive, kill, until};

/// A daemon in process, whose time can be moved on, and an editor that wraps the fake server.
struct Watched {
    editor: FakePeer,
    inbox: mpsc::Sender<Event>,
    ahead_ms: Arc<AtomicU64>,
}

impl Watched {
    async fn new(habits: &[&str]) -> Watched {
        let (near, far) = UnixStream::pair().unwrap();
        let (inbox, mut events) = mpsc::channel(INBOX_EVENTS_MAX);
        let options = DaemonOptions {
            socket: "/nowhere".into(),
            idle_exit: Duration::from_secs(60 * 60),
            servers_log_dir: None,
            share: true,
            linger: Duration::ZERO,
            version: "test".to_owned(),
            memory_max: None,
        };
        let ahead_ms = Arc::new(AtomicU64::new(0));
        let (ahead, to_inbox) = (Arc::clone(&ahead_ms), inbox.clone());
        tokio::spawn(async move {
            let mut state = State::new(options, Arc::new(Bare), to_inbox);
            while let Some(event) = events.recv().await {
                let ahead = Duration::from_millis(ahead.load(Ordering::SeqCst));
                handle_event(&mut state, event, Instant::now() + ahead);
            }
        });
        inbox.send(Event::Accepted(far)).await.unwrap();
        let (reader, writer) = near.into_split();
        let mut editor = FakePeer::over(reader, writer).lenient();
        let command = [&[DEMOLISH, "fake-server"][..], habits].concat();
        let env: Vec<(String, String)> = std::env::vars().collect();
        let env: Value = env.into_iter().map(|(name, value)| (name, Value::from(value))).collect();
        editor.request(
            "demolish/hello",
            &json!({
                "protocol": wire::ext::PROTOCOL, "version": "test", "mode": "wrap", "command": command,
                "cwd": "/", "pid": 1, "env": env,
            }),
        );
        editor.expect_response::<Value>().await.1.unwrap();
        Watched { editor, inbox, ahead_ms }
    }

    /// The same, with an editor that is ready, and can show actions or not.
    async fn ready(actions: bool) -> Watched {
        let mut watched = Watched::new(&[]).await;
        let window = if actions { json!({ "showMessage": {} }) } else { json!({}) };
        let id = watched.initialize(&json!({ "window": window }));
        watched.answer(&id).await.unwrap();
        watched.editor.notify("initialized", &json!({}));
        watched.ask("test/state").await.unwrap();
        watched
    }

    fn initialize(&mut self, capabilities: &Value) -> Id {
        self.editor.request("initialize", &json!({ "capabilities": capabilities }))
    }

    /// So much later the loop looks around.
    async fn pass(&self, time: Duration) {
        self.ahead_ms.fetch_add(time.as_millis() as u64, Ordering::SeqCst);
        self.look().await;
    }

    async fn look(&self) {
        self.inbox.send(Event::Tick).await.unwrap();
    }

    async fn answer(&mut self, id: &Id) -> Result<Value, wire::ResponseError> {
        let is =
            |envelope: &Envelope| matches!(&envelope.kind, Kind::Response { id: of } if of == id);
        let envelope = self.editor.find_where(is).await;
        envelope.outcome().map(|raw| wire::parse(raw).unwrap())
    }

    async fn ask(&mut self, method: &str) -> Result<Value, wire::ResponseError> {
        let id = self.editor.request(method, &json!({}));
        self.answer(&id).await
    }

    async fn server_pid(&mut self) -> i32 {
        self.ask("test/state").await.unwrap()["pid"].as_i64().unwrap() as i32
    }

    /// The next question to the user: its id, its words, its actions.
    async fn question(&mut self) -> (Id, String, Value) {
        let envelope = self.editor.find("window/showMessageRequest").await;
        let params: Value = envelope.params_as().unwrap();
        let Kind::Request { id, .. } = envelope.kind else { panic!("a request") };
        (id, params["message"].as_str().unwrap().to_owned(), params["actions"].clone())
    }

    async fn said(&mut self) -> String {
        let params: Value = self.editor.find("window/showMessage").await.params_as().unwrap();
        params["message"].as_str().unwrap().to_owned()
    }

    /// Lets the server of a dead one's link come back, which takes a deadline and a start.
    async fn back(&mut self, dead: i32) -> i32 {
        let end = Instant::now() + PATIENCE;
        let id = self.editor.request("test/state", &json!({}));
        let is =
            |envelope: &Envelope| matches!(&envelope.kind, Kind::Response { id: of } if *of == id);
        loop {
            self.look().await;
            let found =
                tokio::time::timeout(Duration::from_millis(50), self.editor.find_where(is)).await;
            if let Ok(envelope) = found {
                let state: Value = envelope.outcome().map(|raw| wire::parse(raw).unwrap()).unwrap();
                let pid = state["pid"].as_i64().unwrap() as i32;
                assert_ne!(pid, dead);
                return pid;
            }
            assert!(Instant::now() < end, "it does not come back");
        }
    }

    /// Kills the server so often that it is given up; moves the time on past every wait.
    async fn give_up(&mut self) {
        for _ in 0..=proxy_restarts_max() {
            let pid = self.server_pid().await;
            kill(pid);
            let end = Instant::now() + PATIENCE;
            while is_alive(pid) {
                assert!(Instant::now() < end);
                tokio::time::sleep(Duration::from_millis(2)).await;
            }
            // Both signs of its death, then the wait.
            tokio::time::sleep(Duration::from_millis(150)).await;
            self.pass(Duration::from_secs(16)).await;
            tokio::time::sleep(Duration::from_millis(50)).await;
            self.look().await;
        }
    }
}

fn proxy_restarts_max() -> usize {
    5
}

#[tokio::test]
async fn rule_4_10_who_never_answers_initialize_is_named_and_then_given_up() {
    let mut watched = Watched::new(&["--mute"]).await;
    let initialize = watched.initialize(&json!({}));
    let asked = watched.editor.request("textDocument/definition", &json!({}));
    // The server needs a moment to be up; a clock that is moved on before that proves nothing.
    tokio::time::sleep(Duration::from_millis(300)).await;
    watched.pass(MUTE_AFTER - Duration::from_secs(5)).await;
    watched.editor.expect_silence(Duration::from_millis(100)).await;
    watched.pass(Duration::from_secs(6)).await;
    let said = watched.said().await;
    assert!(said.contains("fake-server --mute` has not answered `initialize` for 2"), "{said}");
    assert!(said.contains("demolish logs --server"), "{said}");
    watched.pass(Duration::from_secs(10)).await;
    watched.editor.expect_silence(Duration::from_millis(100)).await;
    watched.pass(INITIALIZE_PATIENCE).await;
    let error = watched.answer(&initialize).await.unwrap_err();
    assert_eq!(error.code, codes::REQUEST_FAILED);
    assert!(error.message.contains("no answer to `initialize` within 120 s"), "{error}");
    assert!(watched.answer(&asked).await.is_err());
}

#[tokio::test]
async fn rule_4_14_a_server_that_keeps_dying_can_be_restarted_by_the_user() {
    let mut watched = Watched::ready(true).await;
    watched.give_up().await;
    let (id, words, actions) = watched.question().await;
    assert!(words.contains("keeps ending") && words.contains("fake-server"), "{words}");
    assert_eq!(actions, json!([{ "title": "Restart" }]));
    let refused = watched.ask("test/state").await.unwrap_err();
    assert_eq!(refused.code, codes::REQUEST_FAILED);
    watched.editor.answer(id, &json!({ "title": "Restart" }));
    let pid = watched.back(0).await;
    assert!(is_alive(pid));
}

#[tokio::test]
async fn rule_4_14_an_editor_without_actions_is_told() {
    let mut watched = Watched::ready(false).await;
    watched.give_up().await;
    let said = watched.said().await;
    assert!(said.contains("keeps ending"), "{said}");
}

#[tokio::test]
async fn rule_4_18_a_server_that_is_silent_while_requests_wait_may_be_restarted() {
    let mut watched = Watched::ready(true).await;
    let pid = watched.server_pid().await;
    let hung = watched.editor.request("textDocument/definition", &json!({}));
    tokio::time::sleep(Duration::from_millis(100)).await;
    watched.pass(SILENT_AFTER - Duration::from_secs(5)).await;
    watched.editor.expect_silence(Duration::from_millis(100)).await;
    watched.pass(Duration::from_secs(10)).await;
    let (id, words, actions) = watched.question().await;
    assert!(words.contains("has said nothing for 3"), "{words}");
    assert_eq!(actions, json!([{ "title": "Restart" }, { "title": "Wait" }]));
    // Asked once.
    watched.pass(SILENT_AFTER * 2).await;
    watched.editor.expect_silence(Duration::from_millis(100)).await;
    watched.editor.answer(id, &json!({ "title": "Wait" }));
    // It speaks, and is silent again.
    assert_eq!(watched.server_pid().await, pid);
    watched.pass(SILENT_AFTER + Duration::from_secs(5)).await;
    let (id, ..) = watched.question().await;
    watched.editor.answer(id, &json!({ "title": "Restart" }));
    assert_eq!(watched.answer(&hung).await.unwrap_err().code, codes::CONTENT_MODIFIED);
    watched.pass(Duration::from_secs(1)).await;
    watched.back(pid).await;
}

#[tokio::test]
async fn rule_4_18_what_may_take_long_is_not_taken_for_silence() {
    let mut watched = Watched::ready(true).await;
    watched.editor.request("test/hang", &json!({}));
    tokio::time::sleep(Duration::from_millis(100)).await;
    watched.pass(SILENT_AFTER * 10).await;
    watched.editor.expect_silence(Duration::from_millis(200)).await;
}

#[tokio::test]
async fn a_server_whose_memory_explodes_is_ended_and_restarted_and_the_user_told_once() {
    let house = House::new().with("DEMOLISH_SERVERS_MEMORY_MAX_MIB", "300");
    let mut editor = house.ready_editor().await;
    let pid = editor.server_pid().await;
    editor.ask("test/allocate", json!({ "mib": 400 })).await.unwrap();
    let said: Value = editor.find("window/showMessage").await.params_as().unwrap();
    let said = said["message"].as_str().unwrap();
    assert!(said.contains("MiB of memory, of 300 that `servers.memory_max_mib` allows"), "{said}");
    assert!(said.contains("fake-server"), "{said}");
    until("it is dead", || !is_alive(pid)).await;
    assert_ne!(editor.server_pid().await, pid);
    let status = house.status().await;
    assert_eq!(status.links[0].server.as_ref().unwrap().restarts, 1);
}

#[tokio::test]
async fn a_server_can_be_restarted_by_name_and_by_link() {
    let house = House::new();
    let mut editor = house.ready_editor().await;
    editor.open("file:///a", "text");
    let link = house.status().await.links[0].link.to_string();
    for which in ["demolish", "fake-server", &link] {
        let pid = editor.server_pid().await;
        let mut command = std::process::Command::new(DEMOLISH);
        let output =
            command.args(["restart", which]).env_clear().envs(&house.env).output().unwrap();
        assert!(String::from_utf8_lossy(&output.stdout).contains("fake-server"), "{output:?}");
        let state = editor.state().await;
        assert_ne!(state["pid"], pid);
        assert_eq!(state["documents"]["file:///a"][1], "text");
    }
    let mut command = std::process::Command::new(DEMOLISH);
    let output =
        command.args(["restart", "nonsense"]).env_clear().envs(&house.env).output().unwrap();
    assert_eq!(output.status.code(), Some(2));
}
