//! Cancelling, in both directions: the right id, and exactly one answer.

use std::time::Duration;

use serde_json::{Value, json};
use wire::{Envelope, Id, codes};

use crate::house::House;

fn cancel(id: &Id) -> Envelope {
    let body = format!(r#"{{"jsonrpc":"2.0","method":"$/cancelRequest","params":{{"id":{id}}}}}"#);
    Envelope::read(body.into()).unwrap()
}

#[tokio::test]
async fn rule_4_17_a_request_of_the_editor_is_cancelled_under_its_own_id() {
    let house = House::new();
    let mut editor = house.ready_editor().await;
    for raw in ["77", "\"a string\"", "4294967299"] {
        let id = Id::from_raw(raw.as_bytes()).unwrap();
        editor.wire.send(&Envelope::request(id.clone(), "test/hang", &json!({})));
        // Make sure that the server has it.
        assert_eq!(editor.state().await["hung"], 1);
        editor.wire.send(&cancel(&id));
        let error = editor.answer(&id).await.unwrap_err();
        assert_eq!((error.code, &*error.message), (codes::REQUEST_CANCELLED, "as you wish"));
        assert_eq!(editor.state().await["hung"], 0);
    }
    editor.wire.expect_silence(Duration::from_millis(50)).await;
}

#[tokio::test]
async fn rule_4_17_a_request_and_its_cancel_at_once_get_one_answer() {
    let house = House::new();
    let mut editor = house.ready_editor().await;
    let id = editor.wire.request("test/hang", &json!({}));
    editor.wire.send(&cancel(&id));
    assert_eq!(editor.answer(&id).await.unwrap_err().code, codes::REQUEST_CANCELLED);
    editor.wire.expect_silence(Duration::from_millis(50)).await;
}

#[tokio::test]
async fn rule_4_17_a_server_that_ignores_the_cancel_does_not_keep_the_editor_waiting() {
    let house = House::new();
    let mut editor = house.ready_editor().await;
    // It no longer reads, so it cannot answer either.
    editor.wire.request("test/deaf", &json!({}));
    let id = editor.wire.request("test/hang", &json!({}));
    tokio::time::sleep(Duration::from_millis(100)).await;
    editor.wire.send(&cancel(&id));
    assert_eq!(editor.answer(&id).await.unwrap_err().code, codes::REQUEST_CANCELLED);
    editor.wire.expect_silence(Duration::from_millis(1200)).await;
}

#[tokio::test]
async fn rule_4_17_a_cancel_of_nothing_is_swallowed() {
    let house = House::new();
    let mut editor = house.ready_editor().await;
    editor.wire.send(&cancel(&Id::number(999)));
    let state = editor.state().await;
    assert_eq!(state["heard"], json!(["initialized"]));
}

#[tokio::test]
async fn rule_4_17_a_request_of_the_server_is_cancelled_under_the_id_that_the_editor_knows() {
    let house = House::new();
    let mut editor = house.ready_editor().await;
    let asking =
        editor.wire.request("test/ask", &json!({ "id": "\"s1\"", "method": "test/question" }));
    let question = editor.find("test/question").await;
    let known = question.id().unwrap().clone();
    let say = json!({ "method": "$/cancelRequest", "params": { "id": "s1" } });
    editor.ask("test/say", say).await.unwrap();
    let cancelled: Value = editor.find("$/cancelRequest").await.params_as().unwrap();
    assert_eq!(cancelled["id"].to_string(), known.raw());
    editor.wire.refuse(known, &wire::ResponseError::new(codes::REQUEST_CANCELLED, "fine"));
    let answer = editor.answer(&asking).await.unwrap();
    let answer: Value = serde_json::from_str(answer.as_str().unwrap()).unwrap();
    assert_eq!((&answer["id"], &answer["error"]["code"]), (&json!("s1"), &json!(-32800)));
}

#[tokio::test]
async fn rule_4_7_a_hung_server_and_400_frames_do_not_stop_a_cancel() {
    let house = House::new();
    let mut editor = house.ready_editor().await;
    let hung: Vec<Id> = (0..8).map(|_| editor.wire.request("test/hang", &json!({}))).collect();
    for _ in 0..400 {
        editor.wire.request("test/hang", &json!({}));
    }
    editor.wire.send(&cancel(&hung[3]));
    assert_eq!(editor.answer(&hung[3]).await.unwrap_err().code, codes::REQUEST_CANCELLED);
}
