//! The features as an editor sees them: the loop in process, a scripted model, language servers at the ends of memory pipes.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use engine::{Engine, LoadPhase, LoadProgress, Script};
use serde_json::{Value as Json, json};
use tokio::net::UnixStream;
use tokio::sync::mpsc;
use wire::fake::FakePeer;
use wire::{Id, codes};

use super::{Definitions, Shared};
use crate::main_loop::{Event, INBOX_EVENTS_MAX, run};
use crate::model::{Model, Models, Role};
use crate::state::{DaemonOptions, State};
use crate::twin::fake::{self, Manner, PULL};
use crate::twin::plan::uri_of;

mod defined;
mod places;
#[allow(clippy::disallowed_methods, reason = "tests write the files of their projects")]
mod sql;

/// An editor that is connected to a daemon of its own.
struct Editor {
    wire: FakePeer,
    dir: tempfile::TempDir,
    /// How many tokens the model has been fed.
    fed: Arc<AtomicUsize>,
    /// What is known of names.
    definitions: Arc<Definitions>,
    engine: Engine,
}

/// After the prompt, the model says these; the first one is the likeliest.
fn says(lines: &[&str]) -> Script {
    let words = ["bad", "good", "fine", "slow"];
    lines.iter().enumerate().fold(Script::new().words(&words), |script, (rank, line)| {
        #[allow(clippy::cast_precision_loss, reason = "a handful")]
        script.line("<|fim_middle|>", line, 10.0 - 0.7 * rank as f32)
    })
}

async fn editor(script: Script) -> Editor {
    editor_with(script, PULL, json!({})).await
}

async fn editor_with(script: Script, manner: Manner, options: Json) -> Editor {
    let dir = tempfile::tempdir().unwrap();
    let ty = dir.path().join("ty");
    std::fs::File::create(&ty).unwrap();
    let fed = script.fed();
    let engine = Engine::scripted(script);
    let shared = Shared {
        models: Models::ready(engine.clone()),
        twins: fake::twins(manner, Arc::default()),
        around: Arc::default(),
        workspaces: crate::workspace::Workspaces::default(),
        definitions: Arc::default(),
    };
    let definitions = shared.definitions.clone();
    let wire = connect(shared).await;
    let mut editor = Editor { wire, dir, fed, definitions, engine };
    editor.initialize(&ty, options).await;
    editor
}

/// A connection to a loop of its own with these features.
async fn connect(shared: Shared) -> FakePeer {
    let (near, far) = UnixStream::pair().unwrap();
    let (inbox, mut events) = mpsc::channel(INBOX_EVENTS_MAX);
    let daemon = DaemonOptions {
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
        let mut state = State::new(daemon, Arc::new(shared), inbox);
        run(&mut state, &mut events).await;
    });
    let (reader, writer) = near.into_split();
    let mut wire = FakePeer::over(reader, writer);
    let hello = json!({"protocol": wire::ext::PROTOCOL, "version": "test", "mode": "own", "cwd": "/", "pid": 1});
    wire.request("demolish/hello", &hello);
    wire.expect_response::<Json>().await.1.unwrap();
    wire
}

impl Editor {
    async fn initialize(&mut self, ty: &std::path::Path, options: Json) {
        let mut settings =
            json!({"servers": {"command": {"python": [ty]}}, "twin": {"check_deadline_ms": 300}});
        for (name, value) in options.as_object().into_iter().flatten() {
            settings[name] = value.clone();
        }
        let able = json!({
            "window": {"workDoneProgress": true},
            "textDocument": {"codeAction": {"disabledSupport": true, "resolveSupport": {"properties": ["edit"]}}},
        });
        let params = json!({"capabilities": able, "rootUri": uri_of(self.dir.path()), "initializationOptions": settings});
        let id = self.wire.request("initialize", &params);
        let result = self.answer(id).await.unwrap();
        assert_eq!(result["capabilities"]["inlineCompletionProvider"], true);
        assert_eq!(result["capabilities"]["positionEncoding"], "utf-16");
        self.wire.notify("initialized", &json!({}));
    }

    fn uri(&self) -> String {
        uri_of(&self.dir.path().join("a.py"))
    }

    fn open(&self, text: &str) {
        let document =
            json!({"uri": self.uri(), "languageId": "python", "version": 1, "text": text});
        self.wire.notify("textDocument/didOpen", &json!({"textDocument": document}));
    }

    fn insert(&self, version: i32, line: u32, character: u32, text: &str) {
        let at = json!({"line": line, "character": character});
        self.wire.notify(
            "textDocument/didChange",
            &json!({
                "textDocument": {"uri": self.uri(), "version": version},
                "contentChanges": [{"range": {"start": at, "end": at}, "text": text}],
            }),
        );
    }

    /// Asks for a completion without waiting for it.
    fn wish(&mut self, line: u32, character: u32) -> Id {
        let params = json!({
            "textDocument": {"uri": self.uri()},
            "position": {"line": line, "character": character},
            "context": {"triggerKind": 2},
        });
        self.wire.request("textDocument/inlineCompletion", &params)
    }

    async fn complete(&mut self, line: u32, character: u32) -> Json {
        let id = self.wish(line, character);
        self.answer(id).await.unwrap()
    }

    async fn ask(&mut self, method: &str, params: &Json) -> Result<Json, wire::ResponseError> {
        let id = self.wire.request(method, params);
        self.answer(id).await
    }

    /// The answer to one request; what the daemon asks meanwhile is answered, what it tells is looked at.
    async fn answer(&mut self, id: Id) -> Result<Json, wire::ResponseError> {
        loop {
            let envelope = self.wire.next().await.expect("the daemon is there");
            match &envelope.kind {
                wire::Kind::Response { id: of } if *of == id => {
                    return envelope.outcome().map(|raw| wire::parse(raw).unwrap());
                }
                wire::Kind::Request { id, method } => match &**method {
                    "workspace/applyEdit" => {
                        self.wire.answer(id.clone(), &json!({"applied": true}))
                    }
                    _ => self.wire.answer(id.clone(), &Json::Null),
                },
                _ => {}
            }
        }
    }
}

#[tokio::test]
async fn the_best_suggestion_comes_with_its_verdict_and_what_was_refused() {
    let mut editor = editor(says(&["bad\n", "good\n"])).await;
    editor.open("é😀 = \n");
    let list = editor.complete(0, 6).await;
    let item = &list["items"][0];
    assert_eq!(item["insertText"], "good");
    let at = json!({"line": 0, "character": 6});
    assert_eq!(item["range"], json!({"start": at, "end": at}));
    let data = &item["data"]["demolish"];
    assert_eq!(
        (&data["verdict"]["kind"], &data["verdict"]["server"]),
        (&json!("clean"), &json!("ty"))
    );
    assert_eq!(data["refused"][0]["text"], "bad");
    assert_eq!(
        data["refused"][0]["diagnostic"]["range"],
        json!({"start": {"line": 0, "character": 6}, "end": {"line": 0, "character": 9}})
    );
    assert_eq!(data["model"], "scripted");
    let refused = editor
        .ask("demolish/refused", &json!({"textDocument": {"uri": editor.uri()}}))
        .await
        .unwrap();
    assert_eq!(refused["refused"][0]["text"], "bad");
}

#[tokio::test]
async fn when_all_is_refused_the_list_says_so() {
    let mut editor = editor(says(&["bad\n"])).await;
    editor.open("x = \n");
    let list = editor.complete(0, 4).await;
    assert_eq!(list["items"], json!([]));
    assert_eq!(list["demolish"]["refused"][0]["diagnostic"]["code"], "bad");
}

#[tokio::test]
async fn a_checker_that_says_nothing_makes_the_verdict_unknown() {
    let mut editor = editor(says(&["slow\n"])).await;
    editor.open("x = \n");
    let verdict = editor.complete(0, 4).await["items"][0]["data"]["demolish"]["verdict"].clone();
    assert_eq!((&verdict["kind"], &verdict["code"]), (&json!("unknown"), &json!("timeout")));
}

#[tokio::test]
async fn unchecked_suggestions_are_kept_back_if_the_user_wants_that() {
    let options = json!({"complete": {"show_unchecked": false}});
    let mut editor = editor_with(says(&["slow\n"]), PULL, options).await;
    editor.open("x = \n");
    assert_eq!(editor.complete(0, 4).await["items"], json!([]));
}

#[tokio::test]
async fn who_wants_clean_suggestions_alone_gets_no_others() {
    let options = json!({"complete": {"only_clean": true, "show_findings": true}});
    for (said, shown) in [("slow\n", 0), ("bad\n", 0), ("good\n", 1)] {
        let mut editor = editor_with(says(&[said]), PULL, options.clone()).await;
        editor.open("x = \n");
        let list = editor.complete(0, 4).await;
        assert_eq!(list["items"].as_array().map(Vec::len), Some(shown), "{said}: {list}");
    }
}

#[tokio::test]
async fn what_is_typed_of_a_suggestion_is_not_asked_again() {
    let mut editor = editor(says(&["good + fine\n"])).await;
    editor.open("x = \n");
    assert_eq!(editor.complete(0, 4).await["items"][0]["insertText"], "good + fine");
    let fed = editor.fed.load(Ordering::SeqCst);
    editor.insert(2, 0, 4, "go");
    let item = editor.complete(0, 6).await["items"][0].clone();
    assert_eq!(
        (&item["insertText"], &item["data"]["demolish"]["verdict"]["kind"]),
        (&json!("od + fine"), &json!("clean"))
    );
    assert_eq!(editor.fed.load(Ordering::SeqCst), fed, "the model was not asked");
}

#[tokio::test]
async fn the_next_request_ends_the_one_before_it() {
    let script = says(&["good good good good good good\n"]).delay(Duration::from_millis(20));
    let mut editor = editor(script).await;
    editor.open("x = \ny = \n");
    let first = editor.wish(0, 4);
    let second = editor.wish(1, 4);
    let outcome = editor.answer(first).await.unwrap();
    assert_eq!(outcome, json!({"items": []}));
    assert_eq!(editor.answer(second).await.unwrap()["items"].as_array().unwrap().len(), 1);
}

#[tokio::test]
async fn a_change_ends_a_completion_down_to_the_engine() {
    const SAID: usize = 8;
    /// Tokens that the engine may have said before anybody has taken them.
    const AHEAD_MAX: usize = 12;
    let middle = Engine::scripted(says(&[])).tokenizer().fim().unwrap().middle;
    let (reached, mut reaches) = mpsc::channel(1);
    let (release, released) = std::sync::mpsc::channel::<()>();
    let later = Arc::new(AtomicUsize::new(0));
    let counted = later.clone();
    // A model that goes on for ever, and holds its breath where it has said some letters, until it is let go.
    let script = says(&[]).rule(move |seen| {
        let said = seen.iter().rev().take_while(|token| **token != middle).count();
        counted.fetch_add(usize::from(said > SAID && said < seen.len()), Ordering::SeqCst);
        if said == SAID && reached.try_send(()).is_ok() {
            let _ = released.recv(); // The test is over.
        }
        let letter = (said as u32).wrapping_mul(2_654_435_761) >> 16;
        vec![(u32::from(b'a') + letter % 26, 10.0)]
    });
    let options = json!({"complete": {"deadline_ms": 60_000}});
    let mut editor = editor_with(script, PULL, options).await;
    editor.open("x = \n");
    let wish = editor.wish(0, 4);
    reaches.recv().await.unwrap();
    editor.insert(2, 0, 4, "1");
    assert_eq!(editor.answer(wish).await.unwrap(), Json::Null);
    release.send(()).unwrap();
    // The engine answers between two tokens: if somebody still took them, it would have come to the end by then.
    for _ in 0..100 {
        editor.engine.cache_bytes().await.unwrap();
    }
    let later = later.load(Ordering::SeqCst);
    assert!(later <= AHEAD_MAX, "{later} tokens");
}

#[tokio::test]
async fn the_code_action_is_offered_where_something_is_wrong_and_resolved_when_it_is_chosen() {
    let mut editor = editor(says(&[])).await;
    editor.open("x = 1\ny = bad\n");
    let action = async |editor: &mut Editor, line: u32| {
        let at = json!({"line": line, "character": 0});
        let params = json!({
            "textDocument": {"uri": editor.uri()}, "range": {"start": at, "end": at}, "context": {"diagnostics": []},
        });
        editor.ask("textDocument/codeAction", &params).await.unwrap()
    };
    assert_eq!(action(&mut editor, 0).await, Json::Null);
    let offered = action(&mut editor, 1).await[0].clone();
    assert_eq!(
        (&offered["title"], &offered["edit"]),
        (&json!("Demolish: fix this diagnostic"), &Json::Null)
    );
    let resolved = editor.ask("codeAction/resolve", &offered).await.unwrap();
    let change = &resolved["edit"]["documentChanges"][0];
    assert_eq!(change["textDocument"]["version"], 1);
    assert_eq!(change["edits"][0]["newText"], "good");
    editor.insert(2, 0, 0, "#");
    let stale = editor.ask("codeAction/resolve", &offered).await.unwrap_err();
    assert_eq!(stale.code, codes::CONTENT_MODIFIED);
}

#[tokio::test]
async fn a_fix_that_finds_nothing_says_so() {
    let mut editor = editor(says(&[])).await;
    editor.open("x = 1\n");
    let at = json!({"line": 0, "character": 0});
    let place = json!({"textDocument": {"uri": editor.uri(), "version": 1}, "range": {"start": at, "end": at}});
    let action = json!({"title": "t", "kind": "quickfix", "data": place});
    let id = editor.wire.request("codeAction/resolve", &action);
    let message = editor.wire.find("window/workDoneProgress/create").await;
    editor.wire.answer(message.id().unwrap().clone(), &Json::Null);
    let said: Json = editor.wire.find("window/showMessage").await.params_as().unwrap();
    assert!(said["message"].as_str().unwrap().starts_with("Demolish: "), "{said}");
    let resolved = editor.answer(id).await.unwrap();
    assert_eq!(resolved["edit"], json!({}));
    assert!(resolved["disabled"]["reason"].is_string());
}

#[tokio::test]
async fn the_fix_of_a_command_is_applied_by_the_editor_and_shows_its_progress() {
    let mut editor = editor(says(&[])).await;
    editor.open("y = bad\n");
    let place = json!({"textDocument": {"uri": editor.uri()}});
    let params = json!({"command": "demolish.fix", "arguments": [place], "workDoneToken": "t"});
    let id = editor.wire.request("workspace/executeCommand", &params);
    let mut kinds = Vec::new();
    while kinds.last().is_none_or(|kind| kind != "end") {
        let progress: Json = editor.wire.find("$/progress").await.params_as().unwrap();
        assert_eq!(progress["token"], "t");
        kinds.push(progress["value"]["kind"].as_str().unwrap().to_owned());
    }
    assert_eq!(kinds, ["begin", "report", "end"]);
    let found = editor.answer(id).await.unwrap();
    assert_eq!(
        (&found["applied"], &found["proposal"]["origin"]),
        (&json!(true), &json!("quick_fix"))
    );
    assert_eq!(
        found["proposal"]["diff"],
        "--- a/a.py\n+++ b/a.py\n@@ -1,1 +1,1 @@\n-y = bad\n+y = good\n"
    );
    assert_eq!(
        (found["before"].as_array().unwrap().len(), found["after"].as_array().unwrap().len()),
        (1, 0)
    );
}

#[tokio::test]
async fn progress_can_be_cancelled() {
    let mut editor = editor(says(&[])).await;
    editor.open("y = bad slow\n");
    let params = json!({"textDocument": {"uri": editor.uri()}, "workDoneToken": 7});
    let id = editor.wire.request("demolish/fix", &params);
    let _ = editor.wire.find("$/progress").await;
    let _ = editor.wire.find("$/progress").await;
    editor.wire.notify("window/workDoneProgress/cancel", &json!({"token": 7}));
    assert_eq!(editor.answer(id).await.unwrap_err().code, codes::REQUEST_CANCELLED);
}

#[tokio::test]
async fn the_editor_sees_how_far_a_load_is() {
    let model = Model::new(&crate::config::Model::default(), Role::Typing);
    let half = LoadProgress { phase: LoadPhase::Reading, bytes: 5 << 30, total: 10 << 30 };
    model.load_to(half);
    let mut editor = editor(says(&[])).await;
    let models = Models::of_one(model.clone());
    let shared = Shared {
        models,
        twins: fake::twins(PULL, Arc::default()),
        around: Arc::default(),
        workspaces: crate::workspace::Workspaces::default(),
        definitions: Arc::default(),
    };
    editor.wire = connect(shared).await;
    editor.initialize(&editor.dir.path().join("ty").clone(), json!({})).await;
    editor.open("x = \n");
    let wish = editor.wish(0, 4);
    let message = editor.wire.find("window/workDoneProgress/create").await;
    editor.wire.answer(message.id().unwrap().clone(), &Json::Null);
    let mut next = async || {
        let said: Json = editor.wire.find("$/progress").await.params_as().unwrap();
        said["value"].clone()
    };
    assert_eq!(next().await["kind"], "begin");
    assert_eq!(next().await["message"], "50 %, 5.0 of 10.0 GiB");
    model.load_to(LoadProgress { bytes: 8 << 30, ..half });
    assert_eq!(next().await["message"], "80 %, 8.0 of 10.0 GiB");
    model.give_up();
    assert_eq!(next().await["kind"], "end");
    let _ = editor.wire.find("window/showMessage").await;
    assert_eq!(editor.answer(wish).await.unwrap()["demolish"]["error"], "it is too big");
}

#[tokio::test]
async fn without_a_model_the_editor_is_told_once() {
    let dir = tempfile::tempdir().unwrap();
    let settings = crate::config::Model {
        path: Some(dir.path().join("none")),
        ..crate::config::Model::default()
    };
    let model = Model::new(&settings, Role::Typing);
    assert!(model.engine().await.is_err());
    let mut editor = editor(says(&[])).await;
    // The same daemon cannot change its model, so the link is made anew around one that has none.
    let shared = Shared {
        models: Models::of_one(model),
        twins: fake::twins(PULL, Arc::default()),
        around: Arc::default(),
        workspaces: crate::workspace::Workspaces::default(),
        definitions: Arc::default(),
    };
    editor.wire = connect(shared).await;
    editor.initialize(&editor.dir.path().join("ty").clone(), json!({})).await;
    editor.open("x = \n");
    let first = editor.wish(0, 4);
    let said: Json = editor.wire.find("window/showMessage").await.params_as().unwrap();
    assert!(said["message"].as_str().unwrap().contains("there is no model at"), "{said}");
    assert!(editor.answer(first).await.unwrap()["demolish"]["error"].is_string());
    let id = editor.wish(0, 4);
    assert!(editor.answer(id).await.unwrap()["items"].as_array().unwrap().is_empty());
    editor.wire.expect_silence(Duration::from_millis(50)).await;
}

#[tokio::test]
async fn a_wrong_setting_is_told_and_the_rest_holds() {
    let mut editor =
        editor_with(says(&["good\n"]), PULL, json!({"complete": {"deadlin_ms": 1}})).await;
    let said: Json = editor.wire.find("window/showMessage").await.params_as().unwrap();
    assert!(
        said["message"].as_str().unwrap().contains("did you mean `complete.deadline_ms`?"),
        "{said}"
    );
    editor.open("x = \n");
    assert_eq!(editor.complete(0, 4).await["items"][0]["insertText"], "good");
}

#[tokio::test]
async fn completion_can_be_switched_off_and_on() {
    let mut editor = editor(says(&["good\n"])).await;
    editor.open("x = \n");
    let toggle = json!({"command": "demolish.toggle"});
    assert_eq!(
        editor.ask("workspace/executeCommand", &toggle).await.unwrap(),
        json!({"enabled": false})
    );
    assert_eq!(editor.complete(0, 4).await, json!({"items": []}));
    assert_eq!(
        editor.ask("workspace/executeCommand", &toggle).await.unwrap(),
        json!({"enabled": true})
    );
    assert_eq!(editor.complete(0, 4).await["items"].as_array().unwrap().len(), 1);
    let unknown = editor
        .ask("workspace/executeCommand", &json!({"command": "demolish.x"}))
        .await
        .unwrap_err();
    assert!(unknown.message.contains("demolish.fix"), "{}", unknown.message);
}
