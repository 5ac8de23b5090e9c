//! The loop in process, with features of a test: cancelling, panics, changes.

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
use wire::{Bytes, Envelope, Kind, codes};

struct Test;

impl Features for Test {
    fn own(&self, outlet: Outlet) -> Box<dyn Own> {
        Box::new(TestOwn(outlet))
    }

    fn control(&self, _: Snapshot, _: Envelope) -> BoxFuture<'static, Option<Bytes>> {
        std::future::ready(None).boxed()
    }

    fn status(&self, _: &mut wire::ext::Status) {}
}

struct TestOwn(Outlet);

impl Own for TestOwn {
    fn call(
        &mut self,
        snapshot: Snapshot,
        envelope: Envelope,
    ) -> BoxFuture<'static, Option<Bytes>> {
        let outlet = self.0.clone();
        let Kind::Request { id, method } = envelope.kind.clone() else {
            return std::future::ready(None).boxed();
        };
        match &*method {
            "panic" => async { panic!("on purpose") }.boxed(),
            "forever" | "textDocument/inlineCompletion" => std::future::pending().boxed(),
            "documents" => {
                let texts: Vec<String> =
                    snapshot.documents.values().map(|open| open.document.text()).collect();
                std::future::ready(Some(Envelope::response(id, &texts).body)).boxed()
            }
            "say" => async move {
                for number in 0..3 {
                    outlet.send(Envelope::notification("note", &number)).await;
                }
                Some(Envelope::response(id, &true).body)
            }
            .boxed(),
            _ => std::future::ready(Some(Envelope::response(id, &Value::Null).body)).boxed(),
        }
    }
}

async fn connected() -> FakePeer {
    let (near, far) = UnixStream::pair().unwrap();
    let (inbox, mut events) = mpsc::channel(INBOX_EVENTS_MAX);
    let options = DaemonOptions {
        socket: "/nowhere".into(),
        idle_exit: Duration::from_secs(60),
        servers_log_dir: None,
        share: true,
        linger: Duration::ZERO,
        version: "test".to_owned(),
        memory_max: None,
    };
    inbox.send(Event::Accepted(far)).await.unwrap();
    tokio::spawn(async move {
        let mut state = State::new(options, Arc::new(Test), inbox);
        run(&mut state, &mut events).await;
    });
    let (reader, writer) = near.into_split();
    let mut editor = FakePeer::over(reader, writer);
    let hello = json!({
        "protocol": wire::ext::PROTOCOL, "version": "test", "mode": "own", "cwd": "/", "pid": 1,
    });
    editor.request("demolish/hello", &hello);
    let (_, hello) = editor.expect_response::<Value>().await;
    assert_eq!(hello.unwrap()["link"], 1);
    editor
}

#[tokio::test]
async fn a_panic_costs_one_answer() {
    let mut editor = connected().await;
    let id = editor.request("panic", &json!({}));
    let (of, outcome) = editor.expect_response::<Value>().await;
    assert_eq!(of, id);
    let error = outcome.unwrap_err();
    assert_eq!(error.code, codes::INTERNAL_ERROR);
    assert!(error.message.contains("on purpose"), "{error}");
    editor.request("fine", &json!({}));
    assert!(editor.expect_response::<Value>().await.1.is_ok());
}

#[tokio::test]
async fn rule_4_17_a_cancelled_task_is_dropped_and_answered() {
    let mut editor = connected().await;
    let id = editor.request("forever", &json!({}));
    editor.notify("$/cancelRequest", &json!({ "id": id.as_u32() }));
    let (of, outcome) = editor.expect_response::<Value>().await;
    assert_eq!((of, outcome.unwrap_err().code), (id, codes::REQUEST_CANCELLED));
}

#[tokio::test]
async fn a_change_of_the_document_ends_its_completion_with_nothing() {
    let mut editor = connected().await;
    let document = json!({ "uri": "file:///a", "languageId": "x", "version": 1, "text": "a\n" });
    editor.notify("textDocument/didOpen", &json!({ "textDocument": document }));
    let asked = json!({ "textDocument": { "uri": "file:///a" } });
    let id = editor.request("textDocument/inlineCompletion", &asked);
    let at = json!({ "line": 1, "character": 0 });
    let change = json!({
        "textDocument": { "uri": "file:///a", "version": 2 },
        "contentChanges": [{ "range": { "start": at, "end": at }, "text": "b" }],
    });
    editor.notify("textDocument/didChange", &change);
    let (of, outcome) = editor.expect_response::<Value>().await;
    assert_eq!((of, outcome.unwrap()), (id, Value::Null));
    editor.request("documents", &json!({}));
    assert_eq!(editor.expect_response::<Value>().await.1.unwrap(), json!(["a\nb"]));
}

#[tokio::test]
async fn rule_4_8_what_features_say_before_their_answer_arrives_before_it() {
    let mut editor = connected().await;
    for _ in 0..50 {
        editor.request("say", &json!({}));
        for number in 0..3 {
            assert_eq!(editor.expect_notification::<Value>("note").await, number);
        }
        assert!(editor.expect_response::<Value>().await.1.is_ok());
    }
}

#[tokio::test]
async fn too_many_requests_at_once_are_refused() {
    let mut editor = connected().await;
    for _ in 0..demolish::tasks::TASKS_MAX {
        editor.request("forever", &json!({}));
    }
    let id = editor.request("forever", &json!({}));
    let (of, outcome) = editor.expect_response::<Value>().await;
    assert_eq!((of, outcome.unwrap_err().code), (id, codes::REQUEST_FAILED));
}

#[tokio::test]
async fn another_version_is_refused() {
    let (near, far) = UnixStream::pair().unwrap();
    let (inbox, mut events) = mpsc::channel(INBOX_EVENTS_MAX);
    let options = DaemonOptions {
        socket: "/nowhere".into(),
        idle_exit: Duration::from_secs(60),
        servers_log_dir: None,
        share: true,
        linger: Duration::ZERO,
        version: "new".to_owned(),
        memory_max: None,
    };
    inbox.send(Event::Accepted(far)).await.unwrap();
    let daemon = tokio::spawn(async move {
        let mut state = State::new(options, Arc::new(Test), inbox);
        run(&mut state, &mut events).await;
        state.is_over()
    });
    let (reader, writer) = near.into_split();
    let mut editor = FakePeer::over(reader, writer);
    let hello = json!({ "protocol": 1, "version": "old", "mode": "own", "cwd": "/", "pid": 1 });
    editor.request("demolish/hello", &hello);
    let (_, outcome) = editor.expect_response::<Value>().await;
    assert!(outcome.unwrap_err().message.contains("new"));
    assert!(daemon.await.unwrap(), "it was alone with an old shim: it gives way");
}
