//! Several windows and one language server.

use std::time::Duration;

use rustix::process::Signal;
use serde_json::{Value, json};

use crate::house::{Editor, House, is_alive, kill, signal, until};

/// Two windows that share a server.
async fn two(house: &House) -> (Editor, Editor, i32) {
    let mut one = house.ready_editor().await;
    let mut other = house.editor(&[]).await;
    other.initialize().await;
    let server = one.server_pid().await;
    assert_eq!(other.server_pid().await, server, "one process");
    (one, other, server)
}

fn published(uri: &'static str) -> impl Fn(&wire::Envelope) -> bool {
    move |envelope| {
        let params: Value = envelope.params_as().unwrap_or_default();
        envelope.method() == Some("textDocument/publishDiagnostics") && params["uri"] == uri
    }
}

#[tokio::test]
async fn rule_4_30_two_windows_share_one_process_and_a_document_is_opened_once() {
    let house = House::new();
    let (mut one, mut other, _) = two(&house).await;
    one.open("file:///a", "bad\n");
    one.state().await;
    other.open("file:///a", "bad\n");
    let state = other.state().await;
    let opened = state["heard"].as_array().unwrap().iter();
    assert_eq!(opened.filter(|method| **method == "textDocument/didOpen").count(), 1);
    assert_eq!(state["documents"], json!({ "file:///a": [1, "bad\n"] }));
    let shown: Value = other.wire.find_where(published("file:///a")).await.params_as().unwrap();
    assert_eq!(shown["diagnostics"][0]["message"], "bad");
    let status = house.status().await;
    let clients = &status.links[0].server.as_ref().unwrap().clients;
    assert_eq!(*clients, [status.links[0].link, status.links[1].link]);
}

#[tokio::test]
async fn rule_4_30_a_different_text_is_a_process_of_its_own_and_both_texts_are_right() {
    let house = House::new();
    let (mut one, mut other, server) = two(&house).await;
    one.open("file:///a", "text\n");
    one.state().await;
    other.open("file:///a", "text\n");
    other.open("file:///b", "b\n");
    other.change("file:///a", 2, "theirs\n");
    other.change("file:///a", 3, "theirs, twice\n");
    one.change("file:///a", 2, "mine\n");
    let state = other.state().await;
    assert_ne!(state["pid"], server);
    let documents = json!({ "file:///a": [3, "theirs, twice\n"], "file:///b": [1, "b\n"] });
    assert_eq!(state["documents"], documents);
    let state = one.state().await;
    assert_eq!(state["pid"], server, "the older one stays");
    assert_eq!(state["documents"], json!({ "file:///a": [2, "mine\n"] }));
    let status = house.status().await;
    let apart = |at: usize| status.links[at].server.as_ref().unwrap().apart.clone();
    assert_eq!(apart(0), None);
    assert!(apart(1).unwrap().contains("text of a document"), "{:?}", apart(1));
}

#[tokio::test]
async fn rule_4_30_opened_with_a_different_text_is_a_process_of_its_own() {
    let house = House::new();
    let (mut one, mut other, server) = two(&house).await;
    one.open("file:///a", "on the disk\n");
    one.state().await;
    other.open("file:///a", "edited\n");
    let state = other.state().await;
    assert_ne!(state["pid"], server);
    assert_eq!(state["documents"], json!({ "file:///a": [1, "edited\n"] }));
    assert_eq!(one.state().await["documents"], json!({ "file:///a": [1, "on the disk\n"] }));
}

#[tokio::test]
async fn rule_4_13_one_window_leaves_and_the_other_goes_on() {
    let house = House::new();
    let (mut one, mut other, server) = two(&house).await;
    one.open("file:///a", "a\n");
    one.open("file:///u", "u\n");
    one.state().await;
    other.open("file:///u", "u\n");
    let (code, took) = one.leave().await;
    assert_eq!(code, Some(0));
    assert!(took < Duration::from_secs(2), "{took:?}");
    let state = other.state().await;
    assert_eq!(state["pid"], server);
    assert_eq!(state["documents"], json!({ "file:///u": [1, "u\n"] }));
    other.change("file:///u", 2, "on\n");
    assert_eq!(other.state().await["documents"]["file:///u"][1], "on\n");
    let (code, _) = other.leave().await;
    assert_eq!(code, Some(0));
    until("the server is gone", || !is_alive(server)).await;
}

#[tokio::test]
async fn rule_4_13_one_window_just_goes_and_the_other_goes_on() {
    let house = House::new();
    let (mut one, mut other, server) = two(&house).await;
    one.open("file:///a", "a\n");
    one.state().await;
    drop(one);
    let mut state = other.state().await;
    while state["documents"] != json!({}) {
        state = other.state().await;
    }
    assert_eq!(state["pid"], server);
}

#[tokio::test]
async fn rule_4_14_a_shared_server_that_is_killed_comes_back_for_both() {
    let house = House::new();
    let (mut one, mut other, server) = two(&house).await;
    one.open("file:///a", "a\n");
    one.open("file:///u", "u\n");
    one.state().await;
    other.open("file:///u", "u\n");
    other.open("file:///b", "bad\n");
    let hung = other.wire.request("test/hang", &json!({}));
    other.state().await;
    kill(server);
    assert!(other.answer(&hung).await.is_err());
    let state = one.state().await;
    let back = state["pid"].clone();
    assert_ne!(back, server);
    let documents =
        json!({ "file:///a": [1, "a\n"], "file:///b": [1, "bad\n"], "file:///u": [1, "u\n"] });
    assert_eq!(state["documents"], documents);
    assert_eq!(other.state().await["pid"], back);
    let shown = |envelope: &wire::Envelope| {
        let params: Value = envelope.params_as().unwrap_or_default();
        published("file:///b")(envelope) && params["diagnostics"][0]["message"] == "bad"
    };
    one.wire.find_where(shown).await;
}

#[tokio::test]
async fn rule_4_48_a_daemon_that_is_killed_is_replaced_for_both() {
    let house = House::new();
    let (mut one, mut other, server) = two(&house).await;
    one.open("file:///a", "a\n");
    other.open("file:///b", "b\n");
    house.kill_daemon();
    let of = |state: &Value| state["documents"].as_object().unwrap().clone();
    let (mine, theirs) = (one.state().await, other.state().await);
    assert_ne!(mine["pid"], server);
    assert_ne!(theirs["pid"], server);
    assert_eq!(of(&mine)["file:///a"][1], "a\n");
    assert_eq!(of(&theirs)["file:///b"][1], "b\n");
}

#[tokio::test]
async fn rule_4_32_windows_that_want_something_else_do_not_share() {
    let house = House::new();
    let mut one = house.ready_editor().await;
    let mut other = house.editor(&[]).await;
    let params = json!({ "processId": null, "rootUri": "file:///elsewhere", "capabilities": {} });
    other.ask("initialize", params).await.unwrap();
    other.wire.notify("initialized", &json!({}));
    assert_ne!(one.server_pid().await, other.server_pid().await);
}

#[tokio::test]
async fn rule_4_32_sharing_can_be_turned_off() {
    let house = House::new();
    let config = house.dir.path().join("config/demolish");
    std::fs::create_dir_all(&config).unwrap();
    std::fs::write(config.join("demolish.toml"), "servers.share = false\n").unwrap();
    let mut one = house.ready_editor().await;
    let mut other = house.editor(&[]).await;
    other.initialize().await;
    assert_ne!(one.server_pid().await, other.server_pid().await);
}

#[tokio::test]
async fn rule_4_15_a_server_can_be_kept_for_the_next_window() {
    let house = House::new();
    let config = house.dir.path().join("config/demolish");
    std::fs::create_dir_all(&config).unwrap();
    std::fs::write(config.join("demolish.toml"), "servers.linger_s = 600\n").unwrap();
    let mut one = house.ready_editor().await;
    let server = one.server_pid().await;
    one.open("file:///a", "a\n");
    let (code, _) = one.leave().await;
    assert_eq!(code, Some(0));
    let mut other = house.editor(&[]).await;
    other.initialize().await;
    let state = other.state().await;
    assert_eq!(state["pid"], server, "the same process");
    assert_eq!(state["documents"], json!({}));
}

#[tokio::test]
async fn rule_4_15_the_server_watches_the_daemon_and_not_the_editor() {
    let house = House::new();
    let mut editor = house.ready_editor().await;
    let told = editor.state().await["processId"].clone();
    assert_eq!(told, json!(house.daemon_pid().unwrap()));
}

#[tokio::test]
async fn rule_4_7_a_suspended_window_does_not_hold_the_server_of_the_others() {
    let house = House::new();
    let (mut one, mut other, server) = two(&house).await;
    one.open("file:///a", "a\n");
    one.state().await;
    let shim = one.shim.id().unwrap() as i32;
    signal(shim, Signal::STOP);
    // More than its queue takes: the server is held, until the window is let go.
    other.ask("test/flood", json!({ "count": 20_000, "documents": 20_000 })).await.unwrap();
    assert_eq!(house.status().await.links.len(), 1, "its link was closed");
    signal(shim, Signal::CONT);
    // It comes back, with its documents, to the same server.
    let mut state = one.state().await;
    while state["documents"] != json!({ "file:///a": [1, "a\n"] }) {
        state = one.state().await;
    }
    assert_eq!(state["pid"], server);
    assert_eq!(other.server_pid().await, server);
}
