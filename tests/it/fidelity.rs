//! What passes is what was sent, byte for byte.

use serde_json::{Value, json};
use wire::{Envelope, Id};

use crate::house::House;

/// Sends `body` as a request of `test/body` and returns what the server saw.
async fn seen_by_server(editor: &mut crate::house::Editor, id: &str, rest: &[u8]) -> Vec<u8> {
    let mut body = format!(r#"{{"id":{id} , "jsonrpc" :"2.0","method":"test/body","#).into_bytes();
    body.extend_from_slice(rest);
    editor.wire.send_body(body);
    let id = Id::from_raw(id.as_bytes()).unwrap();
    let seen = editor.answer(&id).await.unwrap();
    seen.as_str().unwrap().chars().map(|character| character as u32 as u8).collect()
}

#[tokio::test]
async fn rule_4_2_what_is_not_read_is_not_touched() {
    let house = House::new();
    let mut editor = house.ready_editor().await;
    let cases: [&[u8]; 8] = [
        br#" "params" : { "a" : [ 1.0e0 , -0 ] , "\u0061": "\ud83d" } }"#,
        br#""params":{"x":"\u00e9 \/ \ud83d\ude00"},"extra":{"kept":null}}"#,
        b"\"params\":{\"latin1\":\"\xe9\xff\"}}",
        br#""params":{"big":12345678901234567890123456789.5}}"#,
        br#""params":{"dup":1,"dup":2}}"#,
        br#""params":null}"#,
        br#""trailing":true  }  "#,
        "\"params\":{\"raw\":\"😀\u{2028}\"}}".as_bytes(),
    ];
    for (n, rest) in cases.iter().enumerate() {
        let id = format!("\"case {n}\"");
        let seen = seen_by_server(&mut editor, &id, rest).await;
        // The id is ours there; all else is what was sent.
        let seen = String::from_utf8_lossy(&seen).into_owned();
        let (_, after) = seen.split_once(' ').unwrap();
        let expected = [br#", "jsonrpc" :"2.0","method":"test/body","#, *rest].concat();
        assert_eq!(after, String::from_utf8_lossy(&expected));
    }
}

#[tokio::test]
async fn rule_4_5_ids_of_every_kind_come_back_as_they_were() {
    let house = House::new();
    let mut editor = house.ready_editor().await;
    for raw in
        ["0", "-1", "2147483648", "9007199254740993", "\"\"", "\"1\"", "\"\\u00e9\\n\"", "1.5"]
    {
        let id = Id::from_raw(raw.as_bytes()).unwrap();
        editor.wire.send(&Envelope::request(id.clone(), "test/echo", &json!([raw])));
        assert_eq!(editor.answer(&id).await.unwrap(), json!([raw]), "{raw}");
    }
}

#[tokio::test]
async fn rule_4_5_ids_of_the_server_come_back_as_they_were() {
    let house = House::new();
    let mut editor = house.ready_editor().await;
    for raw in ["0", "3000000000", "\"a/1\"", "9007199254740993"] {
        let asking =
            editor.wire.request("test/ask", &json!({ "id": raw, "method": "test/question" }));
        let question = editor.find("test/question").await;
        editor.wire.answer(question.id().unwrap().clone(), &json!({ "x": null }));
        let body = editor.answer(&asking).await.unwrap();
        let expected = format!(r#"{{"jsonrpc":"2.0","id":{raw},"result":{{"x":null}}}}"#);
        assert_eq!(body, json!(expected));
    }
}

#[tokio::test]
async fn rule_4_5_an_id_in_use_is_refused() {
    let house = House::new();
    let mut editor = house.ready_editor().await;
    let twice = Envelope::request(Id::number(500), "test/hang", &json!({}));
    editor.wire.send(&twice);
    editor.wire.send(&twice);
    let error = editor.answer(&Id::number(500)).await.unwrap_err();
    assert_eq!(error.code, wire::codes::INVALID_REQUEST);
}

#[tokio::test]
async fn rule_4_4_huge_messages_pass_both_ways() {
    let house = House::new();
    let mut editor = house.ready_editor().await;
    for bytes in [70_000, 1 << 20, 10 << 20] {
        let big = editor.ask("test/big", json!({ "bytes": bytes })).await.unwrap();
        assert_eq!(big.as_str().unwrap().len(), bytes);
        let params = json!({ "x": "é".repeat(bytes / 2) });
        assert_eq!(editor.ask("test/echo", params.clone()).await.unwrap(), params);
    }
}

#[tokio::test]
async fn rule_4_28_line_ends_tabs_emoji_and_fifty_thousand_lines_arrive() {
    let house = House::new();
    let mut editor = house.ready_editor().await;
    let odd = "a\r\nb\tc\r\"😀\u{0}\\\n\u{2028}é".to_owned();
    let long: String = (0..50_000).map(|n| format!("line {n} 😀\r\n")).collect();
    for (n, text) in [odd, long].iter().enumerate() {
        let uri = format!("file:///{n}");
        editor.open(&uri, "x");
        editor.change(&uri, 2, text);
        let state = editor.state().await;
        assert_eq!(state["documents"][&uri], json!([2, text]));
    }
}

#[tokio::test]
async fn rule_4_43_unknown_methods_pass() {
    let house = House::new();
    let mut editor = house.ready_editor().await;
    editor.wire.notify("$/odd", &json!({}));
    editor.wire.notify("rust-analyzer/custom", &json!({}));
    let say = json!({ "method": "_vue:custom", "params": [1] });
    editor.ask("test/say", say).await.unwrap();
    assert_eq!(editor.find("_vue:custom").await.params_as::<Value>().unwrap(), json!([1]));
    let state = editor.state().await;
    assert_eq!(state["heard"], json!(["initialized", "$/odd", "rust-analyzer/custom"]));
    let error = editor.ask("no/such", json!({})).await.unwrap_err();
    assert_eq!((error.code, &*error.message), (-32601, "no/such"));
}
