//! What is kept and shown: the journal, the logs of shims, the trace, the report, the status.

use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use serde_json::{Value, json};

use crate::house::{DEMOLISH, Editor, House, PATIENCE, kill, slow, until};

/// What a verb prints, and how it ends.
fn verb(house: &House, args: &[&str]) -> (Option<i32>, String) {
    let mut command = Command::new(DEMOLISH);
    command.args(args).env_clear().envs(&house.env).current_dir(house.dir.path());
    let output = command.stdin(Stdio::null()).output().unwrap();
    (output.status.code(), String::from_utf8(output.stdout).unwrap())
}

fn object(house: &House, args: &[&str]) -> Value {
    let (_, out) = verb(house, args);
    serde_json::from_str(&out).unwrap_or_else(|error| panic!("{args:?}: {error}: {out}"))
}

fn journals(house: &House) -> Vec<Value> {
    object(house, &["journal", "--json"])["journals"].as_array().unwrap().clone()
}

fn append(editor: &Editor, uri: &str, version: i32, text: &str) {
    let end = json!({ "line": 1_000_000, "character": 0 });
    let change = json!({ "range": { "start": end, "end": end }, "text": text });
    let document = json!({ "uri": uri, "version": version });
    let params = json!({ "textDocument": document, "contentChanges": [change] });
    editor.wire.notify("textDocument/didChange", &params);
}

#[tokio::test]
async fn a_crash_leaves_what_was_open_and_what_was_accepted() {
    let house = House::new();
    let mut editor = house.ready_editor().await;
    editor.open("file:///w/shop.py", "one\n");
    editor.open("file:///w/closed", "gone");
    append(&editor, "file:///w/shop.py", 2, "two 😀\n");
    let closed = json!({ "textDocument": { "uri": "file:///w/closed" } });
    editor.wire.notify("textDocument/didClose", &closed);
    // The server has an edit applied.
    let edit = json!({ "label": "rename", "edit": { "changes": { "file:///w/shop.py": [] } } });
    let ask = json!({ "id": "77", "method": "workspace/applyEdit", "params": edit });
    let asked = editor.wire.request("test/ask", &ask);
    let request = editor.find("workspace/applyEdit").await;
    let wire::Kind::Request { id, .. } = request.kind else { panic!("a request") };
    editor.wire.answer(id, &json!({ "applied": true }));
    editor.answer(&asked).await.unwrap();
    until("the journal has it all", || {
        let journals = journals(&house);
        let journal = journals.first();
        journal.is_some_and(|j| j["accepted"] == 1 && j["documents"][0]["version"] == 2)
    })
    .await;
    assert_eq!(journals(&house)[0]["inUse"], true);
    let shim = editor.shim.id().unwrap();
    kill(shim as i32);
    until("it is left", || journals(&house)[0]["inUse"] == false).await;
    let shown = object(&house, &["journal", "show", "last", "--json"]);
    assert_eq!(shown["documents"][0]["text"], "one\ntwo 😀\n");
    assert_eq!(shown["documents"].as_array().unwrap().len(), 1);
    assert_eq!(shown["accepted"][0]["params"]["label"], "rename");
    assert_eq!(shown["shimPid"], shim);
    let (code, told) = verb(&house, &["journal", "show", "last"]);
    assert!(code == Some(0) && told.contains("\"rename\" in file:///w/shop.py"), "{told}");
    assert!(told.ends_with("one\ntwo 😀\n"), "{told}");
    // It can be had back, once.
    let to = house.dir.path().join("rescued");
    let restore = ["journal", "restore", "last", "--dir", to.to_str().unwrap()];
    assert_eq!(verb(&house, &restore).0, Some(0));
    assert_eq!(std::fs::read_to_string(to.join("01-shop.py")).unwrap(), "one\ntwo 😀\n");
    assert_eq!(verb(&house, &restore).0, Some(3), "nothing is overwritten");
    assert_eq!(verb(&house, &["journal", "remove", "all"]).0, Some(0));
    assert_eq!(verb(&house, &["journal", "list"]).0, Some(1));
}

#[tokio::test]
async fn an_editor_that_leaves_in_good_order_leaves_no_journal() {
    let house = House::new();
    let mut editor = house.ready_editor().await;
    editor.open("file:///a", "text");
    until("there is a journal", || !journals(&house).is_empty()).await;
    editor.state().await;
    assert_eq!(editor.leave().await.0, Some(0));
    assert!(journals(&house).is_empty());
}

#[tokio::test]
async fn who_wants_no_journal_has_none() {
    let house = House::new().with("DEMOLISH_JOURNAL_ENABLED", "false");
    let mut editor = house.ready_editor().await;
    editor.open("file:///a", "text");
    append(&editor, "file:///a", 2, "more");
    editor.state().await;
    editor.leave().await;
    assert!(!house.dir.path().join("state/demolish/journal").exists());
}

/// What the journal of a killed shim lacks of what the server had seen a moment before.
async fn lost_by_a_kill(seed: u64) -> Duration {
    let house = House::new();
    let mut editor = house.ready_editor().await;
    editor.open("file:///a", "");
    let mut seen: Vec<Instant> = Vec::new();
    let life = Duration::from_millis(300 + seed * 7919 % 900);
    let begun = Instant::now();
    while begun.elapsed() < life {
        append(&editor, "file:///a", 2 + seen.len() as i32, "x");
        // The answer comes after the change, so that the shim has seen that.
        editor.ask("test/echo", json!({})).await.unwrap();
        seen.push(Instant::now());
    }
    kill(editor.shim.id().unwrap() as i32);
    let killed = Instant::now();
    until("it is left", || journals(&house).iter().all(|j| j["inUse"] == false)).await;
    let shown = object(&house, &["journal", "show", "last", "--json"]);
    let kept = shown["documents"][0]["text"].as_str().unwrap_or_default().len();
    // The oldest change that is missing.
    seen.get(kept).map_or(Duration::ZERO, |at| killed.duration_since(*at))
}

#[tokio::test]
async fn a_shim_that_is_killed_at_any_moment_loses_at_most_the_last_tenth_of_a_second() {
    // On a machine that is busy with other tests the thread that writes may wait for its turn.
    let (runs, margin) = if slow() { (40, Duration::from_millis(50)) } else { (2, PATIENCE / 4) };
    let mut worst = Duration::ZERO;
    for seed in 0..runs {
        worst = worst.max(lost_by_a_kill(seed).await);
    }
    println!("worst loss of {runs} kills: {worst:?}");
    assert!(worst <= Duration::from_millis(100) + margin, "{worst:?}");
}

#[tokio::test]
async fn a_shim_has_a_log_once_there_is_something_to_say() {
    let house = House::new();
    let mut editor = house.ready_editor().await;
    let shims = house.dir.path().join("state/demolish/shims");
    assert!(!shims.exists());
    editor.wire.send_body("nonsense!");
    editor.state().await;
    let (code, log) = verb(&house, &["logs", "--shim"]);
    assert!(code == Some(0) && log.contains("malformed message of the editor"), "{log}");
    let pid = editor.shim.id().unwrap().to_string();
    let (_, path) = verb(&house, &["logs", "--shim", &pid, "--path"]);
    assert_eq!(path.trim(), shims.join(format!("{pid}.log")).to_str().unwrap());
}
