//! Candidates on the user's own server, with the loop in process: a client types, a task asks about what nobody has typed.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use demolish::main_loop::{Event, INBOX_EVENTS_MAX, run};
use demolish::state::{DaemonOptions, Features, Outlet, Own, Snapshot, State};
use futures_util::FutureExt as _;
use futures_util::future::BoxFuture;
use serde_json::{Value, json};
use tokio::net::UnixStream;
use tokio::sync::mpsc;
use wire::fake::FakePeer;
use wire::{Bytes, Envelope, Kind, ResponseError};

use crate::house::{DEMOLISH, PATIENCE};

/// Features that show candidates to the first server of the editor.
struct Test;

struct TestOwn;

impl Features for Test {
    fn own(&self, _: Outlet) -> Box<dyn Own> {
        Box::new(TestOwn)
    }

    fn control(&self, _: Snapshot, _: Envelope) -> BoxFuture<'static, Option<Bytes>> {
        std::future::ready(None).boxed()
    }

    fn status(&self, _: &mut wire::ext::Status) {}
}

impl Own for TestOwn {
    fn call(
        &mut self,
        snapshot: Snapshot,
        envelope: Envelope,
    ) -> BoxFuture<'static, Option<Bytes>> {
        let Kind::Request { id, .. } = envelope.kind.clone() else {
            return std::future::ready(None).boxed();
        };
        let params: Value = envelope.params_as().unwrap();
        let leaser = snapshot.servers[0].leaser.clone();
        async move {
            let text = params["text"].as_str().unwrap().into();
            let found = leaser.ask(params["uri"].as_str().unwrap(), text, PATIENCE).await;
            let answer = match found {
                Ok((said, _)) => json!({"found": wire::parse::<Value>(&said.diagnostics).unwrap()}),
                Err(refusal) => json!({"refused": format!("{refusal:?}")}),
            };
            Some(Envelope::response(id, &answer).body)
        }
        .boxed()
    }
}

/// An editor with one document in a server of its own.
struct Desk {
    editor: FakePeer,
    own: FakePeer,
    uri: String,
    /// What the server has said to the editor by itself.
    heard: Vec<Value>,
}

impl Desk {
    async fn new(command: &[String], dir: &Path, file: &str, language: &str, text: &str) -> Desk {
        let (inbox, mut events) = mpsc::channel(INBOX_EVENTS_MAX);
        let options = DaemonOptions {
            socket: "/nowhere".into(),
            idle_exit: Duration::from_secs(60),
            servers_log_dir: None,
            version: "test".to_owned(),
            memory_max: None,
            share: false,
            linger: Duration::ZERO,
        };
        let mut near = Vec::new();
        for _ in 0..2 {
            let (this, that) = UnixStream::pair().unwrap();
            inbox.send(Event::Accepted(that)).await.unwrap();
            let (reader, writer) = this.into_split();
            near.push(FakePeer::over(reader, writer).lenient());
        }
        tokio::spawn(async move {
            let mut state = State::new(options, Arc::new(Test), inbox);
            run(&mut state, &mut events).await;
        });
        let (mut own, mut editor) = (near.pop().unwrap(), near.pop().unwrap());
        let env: serde_json::Map<String, Value> =
            std::env::vars().map(|(name, value)| (name, value.into())).collect();
        let hello = |mode: &str| {
            json!({
                "protocol": wire::ext::PROTOCOL, "version": "test", "mode": mode, "command": command,
                "cwd": dir, "pid": 1, "editorPid": 77, "env": env,
            })
        };
        editor.request("demolish/hello", &hello("wrap"));
        editor.expect_response::<Value>().await.1.unwrap();
        own.request("demolish/hello", &hello("own"));
        own.expect_response::<Value>().await.1.unwrap();
        let root = demolish::twin::plan::uri_of(dir);
        let mut desk = Desk { editor, own, uri: format!("{root}/{file}"), heard: Vec::new() };
        let text_document = json!({
            "publishDiagnostics": {"versionSupport": true},
            "diagnostic": {"dynamicRegistration": true},
        });
        let capabilities = json!({
            "workspace": {"configuration": true, "diagnostics": {"refreshSupport": true}},
            "window": {"workDoneProgress": true},
            "textDocument": text_document,
        });
        desk.ask("initialize", json!({
            "processId": std::process::id(), "rootUri": root,
            "workspaceFolders": [{"uri": root, "name": "r"}],
            "capabilities": capabilities,
            "initializationOptions": {"checkOnSave": false, "diagnostics": {"experimental": {"enable": true}}},
        }))
        .await;
        desk.editor.notify("initialized", &json!({}));
        let item = json!({"uri": desk.uri, "languageId": language, "version": 1, "text": text});
        desk.editor.notify("textDocument/didOpen", &json!({"textDocument": item}));
        desk
    }

    /// The answer to a request of the editor; what the server says and asks on the way is noted and answered.
    async fn ask(&mut self, method: &str, params: Value) -> Value {
        self.try_ask(method, params).await.expect("no error")
    }

    async fn try_ask(&mut self, method: &str, params: Value) -> Result<Value, ResponseError> {
        let id = self.editor.request(method, &params);
        loop {
            let envelope = self.editor.next().await.expect("the daemon is there");
            match &envelope.kind {
                Kind::Response { id: of } if *of == id => {
                    return envelope.outcome().map(|result| wire::parse(result).unwrap());
                }
                Kind::Response { .. } => {}
                _ => self.note(&envelope),
            }
        }
    }

    fn note(&mut self, envelope: &Envelope) {
        if let Kind::Request { id, method } = &envelope.kind {
            let params: Value = envelope.params_as().unwrap_or_default();
            let items = params["items"].as_array().map_or(0, Vec::len);
            let answer = match &**method {
                "workspace/configuration" => vec![Value::Null; items].into(),
                _ => Value::Null,
            };
            self.editor.answer(id.clone(), &answer);
        }
        self.heard.push(wire::parse(&envelope.body).unwrap());
    }

    /// Listens for as long as this.
    async fn listen(&mut self, time: Duration) {
        while let Ok(Some(envelope)) = tokio::time::timeout(time, self.editor.next()).await {
            if !matches!(envelope.kind, Kind::Response { .. }) {
                self.note(&envelope);
            }
        }
    }

    /// What the user's server says of a candidate: the messages, or why there are none.
    async fn candidate(&mut self, text: &str) -> Result<Vec<String>, String> {
        let id = self.own.request("candidate", &json!({"uri": self.uri, "text": text}));
        loop {
            tokio::select! {
                envelope = self.own.next() => {
                    let envelope = envelope.expect("the daemon is there");
                    if envelope.id() != Some(&id) {
                        continue;
                    }
                    let answer: Value = wire::parse(envelope.outcome().expect("no error")).unwrap();
                    let Some(found) = answer["found"].as_array() else {
                        return Err(answer["refused"].as_str().unwrap().to_owned());
                    };
                    let messages = found.iter().map(|found| found["message"].as_str().unwrap().to_owned());
                    return Ok(messages.collect());
                }
                envelope = self.editor.next() => {
                    let envelope = envelope.expect("the daemon is there");
                    if !matches!(envelope.kind, Kind::Response { .. }) {
                        self.note(&envelope);
                    }
                }
            }
        }
    }

    fn change(&self, version: i32, text: &str) {
        let params = json!({
            "textDocument": {"uri": self.uri, "version": version},
            "contentChanges": [{"text": text}],
        });
        self.editor.notify("textDocument/didChange", &params);
    }

    /// Version and number of findings of every publication of the document.
    fn published(&self) -> Vec<(Value, usize)> {
        let of = |message: &&Value| {
            message["method"] == "textDocument/publishDiagnostics"
                && message["params"]["uri"] == *self.uri
        };
        let count =
            |message: &Value| message["params"]["diagnostics"].as_array().map_or(0, Vec::len);
        let publications = self.heard.iter().filter(of);
        publications.map(|message| (message["params"]["version"].clone(), count(message))).collect()
    }
}

/// The fake server under the name of one that may be leased.
fn fake(dir: &Path) -> Vec<String> {
    let ty = dir.join("ty");
    std::os::unix::fs::symlink(DEMOLISH, &ty).unwrap();
    vec![ty.to_string_lossy().into_owned(), "fake-server".to_owned()]
}

#[tokio::test]
async fn rule_4_34_the_user_s_server_ends_with_the_user_s_text_and_the_editor_hears_of_nothing_else()
 {
    let dir = tempfile::tempdir().unwrap();
    let mut desk = Desk::new(&fake(dir.path()), dir.path(), "a.py", "python", "fine\n").await;
    assert_eq!(desk.candidate("fine\nbad\n").await, Ok(vec!["bad".to_owned()]));
    assert_eq!(desk.candidate("fine\nfiner\n").await, Ok(vec![]));
    desk.change(2, "finest\n");
    assert_eq!(desk.candidate("bad\nbad\n").await.map(|found| found.len()), Ok(2));
    let state = desk.ask("test/state", json!({})).await;
    assert_eq!(state["documents"][&desk.uri][1], "finest\n");
    // The editor's 1 and 2, and twice the way there and back for each candidate.
    assert_eq!(state["documents"][&desk.uri][0], 8);
    desk.listen(Duration::from_millis(600)).await;
    assert_eq!(desk.published(), [(json!(1), 0), (json!(2), 0)]);
}

#[tokio::test]
async fn rule_4_34_typing_and_candidates_in_any_order_leave_the_user_s_text() {
    let dir = tempfile::tempdir().unwrap();
    let mut desk = Desk::new(&fake(dir.path()), dir.path(), "a.py", "python", "0\n").await;
    for round in 1..8_u32 {
        let pause = Duration::from_millis(u64::from(100 + 37 * round));
        let asked = json!({"uri": desk.uri, "text": format!("bad {round}\n")});
        desk.own.request("candidate", &asked);
        desk.listen(pause).await;
        desk.change(i32::try_from(round + 1).unwrap(), &format!("{round}\n"));
    }
    desk.listen(Duration::from_millis(800)).await;
    let state = desk.ask("test/state", json!({})).await;
    assert_eq!(state["documents"][&desk.uri][1], "7\n");
    let published = desk.published();
    assert!(published.iter().all(|(_, found)| *found == 0), "{published:?}");
    assert_eq!(published.last(), Some(&(json!(8), 0)));
    let versions: Vec<_> = published.iter().map(|(version, _)| version.as_i64().unwrap()).collect();
    assert!(versions.is_sorted(), "{versions:?}");
}

#[tokio::test]
async fn rule_4_34_who_asks_a_server_that_dies_is_answered() {
    let dir = tempfile::tempdir().unwrap();
    let mut desk = Desk::new(&fake(dir.path()), dir.path(), "a.py", "python", "fine\n").await;
    // It reads one byte in a millisecond, so that the candidate is on its way when it dies.
    let pid = desk.ask("test/state", json!({})).await["pid"].as_i64().unwrap();
    desk.ask("test/slow", json!({"ms": 60_000})).await;
    let id = desk.own.request("candidate", &json!({"uri": desk.uri, "text": "bad\n"}));
    desk.listen(Duration::from_millis(400)).await;
    crate::house::kill(i32::try_from(pid).unwrap());
    let answer = desk.own.find_where(|envelope| envelope.id() == Some(&id)).await;
    let answer: Value = wire::parse(answer.outcome().unwrap()).unwrap();
    let state = loop {
        if let Ok(state) = desk.try_ask("test/state", json!({})).await {
            break state;
        }
    };
    let text = state["documents"][&desk.uri][1].clone();
    assert_eq!(text, "fine\n", "the next server was told the editor's text: {answer}");
}

/// A real server that may be leased, and what it is asked: file, language, a project's other files, good, wrong.
struct Real {
    command: &'static [&'static str],
    file: &'static str,
    language: &'static str,
    others: &'static [(&'static str, &'static str)],
    good: &'static str,
    wrong: &'static str,
}

const TY: Real = Real {
    command: &["ty", "server"],
    file: "a.py",
    language: "python",
    others: &[],
    good: "def f(x: int) -> int:\n    return x\n",
    wrong: "def f(x: int) -> int:\n    return 'CANDIDATE'\n",
};
const TSC: Real = Real {
    command: &["tsc", "--lsp", "--stdio"],
    file: "a.ts",
    language: "typescript",
    others: &[("tsconfig.json", "{}")],
    good: "export function f(x: number): number {\n  return x;\n}\n",
    wrong: "export function f(x: number): number {\n  return 'CANDIDATE';\n}\n",
};
const CLANGD: Real = Real {
    command: &["clangd"],
    file: "a.c",
    language: "c",
    others: &[],
    good: "int f(int x) {\n  return x;\n}\n",
    wrong: "int f(int x) {\n  return CANDIDATE;\n}\n",
};
const RUST_ANALYZER: Real = Real {
    command: &["rust-analyzer"],
    file: "src/lib.rs",
    language: "rust",
    others: &[("Cargo.toml", "[package]\nname = \"a\"\nversion = \"0.1.0\"\nedition = \"2021\"\n")],
    good: "pub fn f(x: i32) -> i32 {\n    x\n}\n",
    wrong: "pub fn f(x: i32) -> i32 {\n    \"CANDIDATE\"\n}\n",
};
const GOPLS: Real = Real {
    command: &["gopls"],
    file: "a.go",
    language: "go",
    others: &[("go.mod", "module a\n\ngo 1.22\n")],
    good: "package a\n\nfunc F(x int) int {\n\treturn x\n}\n",
    wrong: "package a\n\nfunc F(x int) int {\n\treturn CANDIDATE\n}\n",
};

impl Real {
    async fn desk(&self, name: &str) -> Option<(tempfile::TempDir, Desk)> {
        if !crate::house::slow() {
            println!("skipped: needs DEMOLISH_SLOW=1 and a real {name}");
            return None;
        }
        let tools = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../../.tools/bin");
        let program = tools.canonicalize().unwrap().join(self.command[0]);
        let dir = tempfile::tempdir().unwrap();
        std::fs::create_dir_all(dir.path().join("src")).unwrap();
        for (file, text) in self.others.iter().chain([&(self.file, self.good)]) {
            std::fs::write(dir.path().join(file), text).unwrap();
        }
        let mut command = vec![program.to_string_lossy().into_owned()];
        command.extend(self.command[1..].iter().map(ToString::to_string));
        let root = dir.path().canonicalize().unwrap();
        let mut desk = Desk::new(&command, &root, self.file, self.language, self.good).await;
        // Until the server has read the project: its word about a wrong text is the sign.
        let end = std::time::Instant::now() + Duration::from_secs(60);
        loop {
            let found = desk.candidate(self.wrong).await;
            let done = match &found {
                Ok(found) => !found.is_empty(),
                Err(refused) => refused.contains("taken at its word"),
            };
            if done {
                break;
            }
            assert!(std::time::Instant::now() < end, "{name}: {found:?}");
            desk.listen(Duration::from_millis(300)).await;
        }
        desk.listen(Duration::from_secs(1)).await;
        Some((dir, desk))
    }

    /// A wrong candidate is found out, a good one is not, and the editor sees neither.
    async fn check(&self, name: &str) {
        let Some((_dir, mut desk)) = self.desk(name).await else { return };
        desk.heard.clear();
        for round in 0..3 {
            let wrong = desk.candidate(self.wrong).await;
            assert!(
                wrong.as_ref().is_ok_and(|found| !found.is_empty()),
                "{name} {round}: {wrong:?}"
            );
            let better = format!("{}\n", self.good);
            assert_eq!(desk.candidate(&better).await, Ok(vec![]), "{name} {round}");
        }
        desk.listen(Duration::from_secs(1)).await;
        let noise: Vec<_> = desk.heard.iter().map(|message| message["method"].clone()).collect();
        assert!(desk.heard.is_empty(), "{name}: {noise:?}");
        desk.change(2, self.wrong);
        desk.listen(Duration::from_secs(1)).await;
        let all = json!(desk.heard).to_string();
        let pulled = if desk.published().is_empty() {
            desk.ask("textDocument/diagnostic", json!({"textDocument": {"uri": desk.uri}})).await["items"].clone()
        } else {
            assert_eq!(desk.published().last().unwrap().0, 2, "{name}: the editor's own count");
            json!([desk.published()])
        };
        assert!(
            pulled.as_array().is_some_and(|items| !items.is_empty()),
            "{name}: what is typed is told: {all}"
        );
    }
}

#[tokio::test]
async fn slow_rule_4_34_a_lease_of_ty() {
    TY.check("ty").await;
}

#[tokio::test]
async fn slow_rule_4_34_a_lease_of_tsc() {
    TSC.check("tsc").await;
}

#[tokio::test]
async fn slow_rule_4_34_a_lease_of_clangd() {
    CLANGD.check("clangd").await;
}

#[tokio::test]
async fn slow_rule_4_34_a_lease_of_rust_analyzer() {
    RUST_ANALYZER.check("rust-analyzer").await;
}

#[tokio::test]
async fn slow_rule_4_34_gopls_writes_a_cache_and_is_not_leased() {
    let Some((_dir, mut desk)) = GOPLS.desk("gopls").await else { return };
    let refused = desk.candidate(GOPLS.wrong).await.unwrap_err();
    assert!(refused.contains("taken at its word"), "{refused}");
}
