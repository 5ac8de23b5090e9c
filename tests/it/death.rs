//! Servers and daemons that die: the editor keeps working.

use std::time::Duration;

use serde_json::{Value, json};
use wire::codes;

use rustix::process::Signal;

use crate::house::{House, is_alive, kill, signal, until};

#[tokio::test]
async fn rule_4_14_a_server_that_is_killed_comes_back_with_everything_it_knew() {
    let house = House::new();
    let mut editor = house.ready_editor().await;
    editor.wire.notify("workspace/didChangeConfiguration", &json!({ "settings": { "a": 1 } }));
    editor.open("file:///closed", "x");
    editor.open("file:///a", "old");
    editor.open("file:///b", "bad\n");
    editor.change("file:///a", 7, "new 😀");
    editor
        .wire
        .notify("textDocument/didClose", &json!({ "textDocument": { "uri": "file:///closed" } }));
    let begin = json!({ "token": "t1", "value": { "kind": "begin", "title": "indexing" } });
    editor.ask("test/say", json!({ "method": "$/progress", "params": begin })).await.unwrap();
    editor.find("$/progress").await;
    let published = |envelope: &wire::Envelope| {
        let params: Value = envelope.params_as().unwrap_or_default();
        params["uri"] == "file:///b"
    };
    let shown = editor.wire.find_where(published).await.params_as::<Value>().unwrap();
    assert_eq!(shown["diagnostics"][0]["message"], "bad");
    let read = editor.wire.request("textDocument/definition", &json!({}));
    let write = editor.wire.request("textDocument/willSaveWaitUntil", &json!({}));
    let _ = write;
    let hung = editor.wire.request("test/hang", &json!({}));
    let server = editor.server_pid().await;
    kill(server);
    // Nobody is left waiting, nothing is left on the screen.
    assert_eq!(editor.answer(&read).await.unwrap_err().code, codes::CONTENT_MODIFIED);
    assert_eq!(editor.answer(&hung).await.unwrap_err().code, codes::REQUEST_FAILED);
    let ended: Value = editor.find("$/progress").await.params_as().unwrap();
    assert_eq!(ended, json!({ "token": "t1", "value": { "kind": "end" } }));
    let cleared = editor.wire.find_where(published).await.params_as::<Value>().unwrap();
    assert_eq!(cleared["diagnostics"], json!([]));
    // The next one knows what is so now.
    let state = editor.state().await;
    assert_ne!(state["pid"], server);
    let documents = json!({ "file:///a": [7, "new 😀"], "file:///b": [1, "bad\n"] });
    assert_eq!(state["documents"], documents);
    assert_eq!(state["settings"], json!({ "a": 1 }));
    assert_eq!(state["heard"][0], "initialized");
    let again = editor.wire.find_where(published).await.params_as::<Value>().unwrap();
    assert_eq!(again["diagnostics"][0]["message"], "bad");
    editor.find("workspace/inlayHint/refresh").await;
    assert_eq!(house.status().await.links[0].server.as_ref().unwrap().restarts, 1);
}

#[tokio::test]
async fn rule_4_48_a_daemon_that_is_killed_is_replaced_and_reads_are_asked_again() {
    let house = House::new();
    let mut editor = house.ready_editor().await;
    editor.open("file:///a", "old");
    editor.change("file:///a", 3, "new");
    let (daemon, server) = (house.daemon_pid().unwrap(), editor.server_pid().await);
    let read = editor.wire.request("textDocument/hover", &json!({ "n": 1 }));
    assert_eq!(editor.answer(&read).await.unwrap()["n"], 1);
    let hangs = editor.wire.request("textDocument/definition", &json!({ "n": 2 }));
    let other = editor.wire.request("test/hang", &json!({}));
    assert_eq!(editor.state().await["hung"], 2);
    house.kill_daemon();
    // What only reads is asked again; the rest is answered.
    assert_eq!(editor.answer(&other).await.unwrap_err().code, codes::REQUEST_FAILED);
    let state = editor.state().await;
    assert_ne!(state["pid"], server);
    assert_eq!(state["documents"], json!({ "file:///a": [3, "new"] }));
    assert_eq!(state["hung"], 1, "the read is asked again");
    let cancel = json!({ "id": hangs.as_u32() });
    editor.wire.notify("$/cancelRequest", &cancel);
    assert_eq!(editor.answer(&hangs).await.unwrap_err().message, "as you wish");
    let replaced = house.daemon_pid().unwrap();
    assert_ne!(replaced, daemon);
    until("the children died with their daemon", || !is_alive(server)).await;
    editor.change("file:///a", 4, "newer");
    let state = editor.state().await;
    assert_eq!(state["documents"]["file:///a"][0], 4);
}

#[tokio::test]
async fn rule_4_48_a_daemon_that_is_killed_while_initializing_is_not_noticed() {
    let house = House::new();
    house.daemon().await;
    let mut editor = house.editor(&["--mute"]).await;
    let _initialize = editor.wire.request("initialize", &json!({ "capabilities": {} }));
    house.asked(1).await;
    let before = house.daemon_pid();
    house.kill_daemon();
    until("another daemon", || house.daemon_pid() != before).await;
    // The server is mute, so nothing comes; but it was asked again, and nothing was refused.
    editor.wire.expect_silence(Duration::from_millis(300)).await;
}

#[tokio::test]
async fn rule_4_48_a_server_that_dies_before_a_fresh_daemon_has_greeted_it_is_started_again() {
    let house = House::new();
    house.daemon().await;
    let record = house.dir.path().join("record");
    let mut editor = house.editor(&["--record", record.to_str().unwrap(), "--stumbles"]).await;
    editor.initialize().await;
    editor.open("file:///a", "text");
    let server = editor.server_pid().await;
    house.kill_daemon();
    // The second server, of the second daemon, dies before it has said anything; that is no reason to give it up.
    let state = editor.state().await;
    assert_ne!(state["pid"], server);
    assert_eq!(state["documents"], json!({ "file:///a": [1, "text"] }));
    let starts = std::fs::read_to_string(&record).unwrap();
    assert_eq!(starts.lines().count(), 3, "{starts}");
}

#[tokio::test]
async fn rule_4_48_a_daemon_that_hangs_is_given_up_and_nothing_is_lost() {
    let house = House::new();
    let mut editor = house.ready_editor().await;
    editor.open("file:///a", "old");
    let (daemon, server) = (house.daemon_pid().unwrap(), editor.server_pid().await);
    signal(daemon, Signal::STOP);
    editor.change("file:///a", 2, "new 😀");
    let read = editor.wire.request("textDocument/hover", &json!({ "n": 1 }));
    let write = editor.wire.request("workspace/executeCommand", &json!({ "n": 2 }));
    editor.change("file:///a", 3, "newer 😀");
    // What only reads is asked again, of the server itself; the rest has failed.
    assert_eq!(editor.answer(&write).await.unwrap_err().code, codes::REQUEST_FAILED);
    assert_eq!(editor.answer(&read).await.unwrap()["n"], 1);
    let state = editor.state().await;
    assert_ne!(state["pid"], server);
    assert_eq!(state["documents"], json!({ "file:///a": [3, "newer 😀"] }));
    // The daemon wakes up, and finds that nobody is there any more.
    signal(daemon, Signal::CONT);
    until("its server has ended", || !is_alive(server)).await;
    assert!(house.status().await.links.is_empty());
    let again = editor.state().await;
    assert_eq!((&again["pid"], &again["strays"]), (&state["pid"], &json!(0)));
    assert!(is_alive(daemon));
}

#[tokio::test]
async fn rule_4_15_children_die_with_the_daemon() {
    let house = House::new();
    let mut editor = house.ready_editor().await;
    let server = editor.server_pid().await;
    drop(editor.shim);
    house.kill_daemon();
    until("the server is dead", || !is_alive(server)).await;
}

#[tokio::test]
async fn rule_4_14_five_deaths_in_three_minutes_are_enough() {
    // Waits of 0.25, 1, 4, 15 and 15 seconds are too long for a fast test; the state machine is tested with a clock of
    // its own in `proxy`. Here: one death, and a second one, in real time.
    let house = House::new();
    let mut editor = house.ready_editor().await;
    for _ in 0..2 {
        let server = editor.server_pid().await;
        editor.wire.request("test/die", &json!({}));
        assert_ne!(editor.server_pid().await, server);
    }
    assert_eq!(house.status().await.links[0].server.as_ref().unwrap().restarts, 2);
}

#[tokio::test]
async fn rule_4_26_a_server_that_comes_back_counting_otherwise_is_given_up_and_ended() {
    let house = House::new();
    house.daemon().await;
    let mut editor = house.editor(&["--fickle"]).await;
    editor.initialize().await;
    let server = editor.server_pid().await;
    kill(server);
    let shown: Value = editor.find("window/showMessage").await.params_as().unwrap();
    let words = shown["message"].as_str().unwrap();
    assert!(words.contains("utf-8") && words.contains("utf-16"), "{words}");
    assert_eq!(editor.ask("test/echo", json!(1)).await.unwrap_err().code, codes::REQUEST_FAILED);
    let status = house.status().await;
    let server = status.links[0].server.as_ref().unwrap();
    assert_eq!((server.pid, &*server.state), (None, "stopped"));
}
