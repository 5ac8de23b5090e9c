//! tower-lsp through the proxy, unchanged: a server of its own `Server` behind shim and daemon, and an editor that builds and
//! reads messages with its types. The same conversation is held with the server directly; both must come to the same.

use serde_json::{Value, json};
use wire::tower::jsonrpc::{Request, Response};
use wire::{Envelope, Kind};

use crate::house::{DEMOLISH, Editor, House};

/// A request as tower-lsp writes it; returns the answer as tower-lsp reads it.
async fn ask(editor: &mut Editor, id: i64, method: &'static str, params: Value) -> Value {
    let request = Request::build(method).id(id).params(params).finish();
    editor.wire.send_body(serde_json::to_vec(&request).unwrap());
    let wanted = wire::Id::from_raw(id.to_string().as_bytes()).unwrap();
    let answer =
        editor.wire.find_where(|e| matches!(&e.kind, Kind::Response { id } if *id == wanted)).await;
    let response: Response = serde_json::from_slice(&answer.body).expect("tower-lsp reads it");
    match response.into_parts().1 {
        Ok(result) => result,
        Err(error) => json!({ "code": error.code.code(), "message": error.message }),
    }
}

fn notify(editor: &Editor, method: &'static str, params: Value) {
    let request = Request::build(method).params(params).finish();
    editor.wire.send_body(serde_json::to_vec(&request).unwrap());
}

async fn published(editor: &mut Editor, version: i32) -> Value {
    let of_version = |envelope: &Envelope| {
        let params: Value = envelope.params_as().unwrap_or_default();
        envelope.method() == Some("textDocument/publishDiagnostics") && params["version"] == version
    };
    editor.wire.find_where(of_version).await.params_as().unwrap()
}

/// Everything that tower-lsp offers to a small server, in one conversation.
async fn converse(editor: &mut Editor) -> Vec<Value> {
    let uri = "file:///w.txt";
    let document = json!({ "uri": uri });
    let at = json!({ "line": 1, "character": 0 });
    let place = json!({ "textDocument": document, "position": at });
    let mut said = Vec::new();
    said.push(ask(editor, 1, "initialize", json!({ "capabilities": {} })).await);
    notify(editor, "initialized", json!({}));
    said.push(editor.find("window/logMessage").await.params_as().unwrap());
    let open = json!({ "uri": uri, "languageId": "words", "version": 1, "text": "good\nbad 😀\n" });
    notify(editor, "textDocument/didOpen", json!({ "textDocument": open }));
    said.push(published(editor, 1).await);
    said.push(ask(editor, 2, "textDocument/hover", place.clone()).await);
    said.push(ask(editor, 3, "textDocument/completion", place.clone()).await);
    let mut rename = place.clone();
    rename["newName"] = json!("é");
    said.push(ask(editor, 4, "textDocument/rename", rename).await);
    let change = json!({ "textDocument": { "uri": uri, "version": 2 }, "contentChanges": [{ "text": "fine\n" }] });
    notify(editor, "textDocument/didChange", change);
    said.push(published(editor, 2).await);
    said.push(ask(editor, 5, "textDocument/definition", place.clone()).await);
    said.push(ask(editor, 6, "no/such/method", place).await);
    said.push(with_settings(editor).await);
    said.push(ask(editor, 8, "shutdown", Value::Null).await);
    notify(editor, "exit", Value::Null);
    said
}

/// A command for which the server asks the editor for settings.
async fn with_settings(editor: &mut Editor) -> Value {
    let run = json!({ "command": "words.ask", "arguments": [] });
    let request = Request::build("workspace/executeCommand").id(7).params(run).finish();
    editor.wire.send_body(serde_json::to_vec(&request).unwrap());
    let asked = editor.find("workspace/configuration").await;
    let asked: Request = serde_json::from_slice(&asked.body).expect("tower-lsp reads it");
    let id = asked.id().expect("a request").clone();
    let answer = Response::from_ok(id, json!([{ "case": "lower" }]));
    editor.wire.send_body(serde_json::to_vec(&answer).unwrap());
    editor.answer(&wire::Id::number(7)).await.unwrap()
}

#[tokio::test]
async fn rule_4_50_a_server_and_a_client_of_tower_lsp_do_not_notice_the_proxy() {
    let house = House::new();
    let mut direct = house.start(&[DEMOLISH, "fake-server", "--tower"]).await;
    let expected = converse(&mut direct).await;
    house.daemon().await;
    let command = [DEMOLISH, "lsp", "--", DEMOLISH, "fake-server", "--tower"];
    let mut through = house.start(&command).await;
    let said = converse(&mut through).await;
    assert_eq!(said, expected);
    assert_eq!(said[0]["serverInfo"]["name"], "words");
    assert_eq!(said[2]["diagnostics"][0]["message"], "a bad word");
    assert_eq!(said[3]["contents"], "bad 😀");
    assert_eq!(said[6]["diagnostics"], json!([]));
    assert_eq!(said[8]["code"], -32601);
    assert_eq!(said[9]["settings"], json!([{ "case": "lower" }]));
    for mut editor in [direct, through] {
        let ended = tokio::time::timeout(crate::house::PATIENCE, editor.shim.wait()).await;
        assert_eq!(ended.expect("it ends").unwrap().code(), Some(0));
    }
}

#[tokio::test]
async fn a_server_of_tower_lsp_that_is_killed_comes_back() {
    let house = House::new();
    house.daemon().await;
    let command = [DEMOLISH, "lsp", "--", DEMOLISH, "fake-server", "--tower"];
    let mut editor = house.start(&command).await;
    ask(&mut editor, 1, "initialize", json!({ "capabilities": {} })).await;
    notify(&editor, "initialized", json!({}));
    editor.open("file:///w.txt", "bad\n");
    assert_eq!(published(&mut editor, 1).await["diagnostics"][0]["message"], "a bad word");
    let pid = house.status().await.links[0].server.as_ref().unwrap().pid.unwrap();
    crate::house::kill(pid as i32);
    // The new one reads the same document and says the same of it.
    assert_eq!(published(&mut editor, 1).await["diagnostics"][0]["message"], "a bad word");
    let place = json!({ "textDocument": { "uri": "file:///w.txt" }, "position": { "line": 0, "character": 0 } });
    assert_eq!(ask(&mut editor, 2, "textDocument/hover", place).await["contents"], "bad");
}
