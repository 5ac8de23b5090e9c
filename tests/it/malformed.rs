//! Peers that write rubbish: one clear answer at most, and everything goes on.

use std::time::Duration;

use serde_json::json;
use wire::{Id, codes};

use crate::house::{House, is_alive};

#[tokio::test]
async fn rule_4_2_bad_json_of_the_editor_is_answered_if_its_id_is_readable() {
    let house = House::new();
    let mut editor = house.ready_editor().await;
    editor.wire.send_body(r#"{"id":70,"method":"test/echo","params":{"x":}}"#);
    assert_eq!(editor.answer(&Id::number(70)).await.unwrap_err().code, codes::PARSE_ERROR);
    editor.wire.send_body(r#"{"nothing":"#);
    editor.wire.send_body("[1,2");
    assert_eq!(editor.ask("test/echo", json!(5)).await.unwrap(), 5);
}

#[tokio::test]
async fn rule_4_3_a_batch_is_taken_apart() {
    let house = House::new();
    let mut editor = house.ready_editor().await;
    let body = r#"[{"id":71,"method":"test/echo","params":1},{"method":"n"},{"id":72,"method":"test/echo","params":2}]"#;
    editor.wire.send_body(body);
    assert_eq!(editor.answer(&Id::number(71)).await.unwrap(), 1);
    assert_eq!(editor.answer(&Id::number(72)).await.unwrap(), 2);
    let state = editor.state().await;
    assert_eq!(state["heard"], json!(["initialized", "n"]));
}

#[tokio::test]
async fn rule_4_1_rubbish_of_the_server_is_logged_and_never_forwarded() {
    let house = House::new();
    let mut editor = house.ready_editor().await;
    let pid = editor.server_pid().await;
    let texts = [
        "a line that somebody printed\n",
        "no line end",
        "content-length: 13\r\nX-Odd: 1\r\n\r\nnot json at al",
        "Content-Length: 2\r\n\r\n[]",
        "Content-Length: 17\r\n\r\n{\"jsonrpc\":\"2.0\"}",
    ];
    for text in texts {
        editor.ask("test/rubbish", json!({ "text": text })).await.unwrap();
    }
    assert_eq!(editor.server_pid().await, pid);
    editor.wire.expect_silence(Duration::from_millis(50)).await;
    let status = house.status().await;
    let server = status.links[0].server.as_ref().unwrap();
    assert!(server.malformed >= 1, "{server:?}");
    let log = std::fs::read_to_string(server.log.as_ref().unwrap()).unwrap();
    assert!(log.contains("a line that somebody printed"), "{log}");
}

#[tokio::test]
async fn rule_4_2_a_server_that_keeps_writing_rubbish_is_restarted() {
    let house = House::new();
    let mut editor = house.ready_editor().await;
    let pid = editor.server_pid().await;
    let bad = "Content-Length: 3\r\n\r\n{{{".repeat(5);
    let _ = editor.wire.request("test/rubbish", &json!({ "text": bad }));
    let again = editor.server_pid().await;
    assert_ne!(again, pid);
    crate::house::until("the old one is dead", || !is_alive(pid)).await;
}

#[tokio::test]
async fn rule_4_2_a_lone_surrogate_in_a_document_does_not_stop_the_mirror() {
    let house = House::new();
    let mut editor = house.ready_editor().await;
    let body = r#"{"method":"textDocument/didOpen","params":{"textDocument":{"uri":"file:///s","languageId":"x","version":1,"text":"a\ud83db"}}}"#;
    editor.wire.send_body(body);
    let server = editor.server_pid().await;
    crate::house::kill(server);
    let state = editor.state().await;
    assert_eq!(state["documents"]["file:///s"], json!([1, "a\u{fffd}b"]));
}
