//! Merged mode with real processes: one editor, several servers on one connection. The rules themselves are tested in `proxy`.

use std::time::Duration;

use serde_json::{Value, json};
use wire::codes;

use crate::house::{DEMOLISH, Editor, House, is_alive, kill, until};

/// A house with an editor and two fake servers, `demolish` and `demolish-2`, the second of which has actions and a command.
async fn two(house: &House) -> Editor {
    let able = json!({
        "codeActionProvider": true,
        "completionProvider": { "resolveProvider": true },
        "executeCommandProvider": { "commands": ["fix"] },
    });
    let action = json!([{ "title": "Fix", "command": { "title": "Fix", "command": "fix", "arguments": [1] } }]);
    let answers = |label: &str| {
        json!({
            "textDocument/completion": [{ "label": label }],
            "completionItem/resolve": { "label": label, "detail": format!("of {label}") },
            "textDocument/codeAction": action,
            "textDocument/hover": { "contents": { "kind": "markdown", "value": label } },
        })
    };
    let command = |label: &str| {
        format!("{DEMOLISH} fake-server --able '{able}' --answers '{}'", answers(label))
    };
    let both = format!("{},{}", command("one"), command("two"));
    house.start(&[DEMOLISH, "lsp", "--merge", &both]).await
}

async fn ready(house: &House) -> Editor {
    house.daemon().await;
    let mut editor = two(house).await;
    let told = editor.initialize().await;
    assert_eq!(told["serverInfo"]["name"], "demolish + demolish-2");
    let commands = &told["capabilities"]["executeCommandProvider"]["commands"];
    assert_eq!(*commands, json!(["demolish:demolish:fix", "demolish:demolish-2:fix"]));
    editor
}

/// What is shown about a document next: its diagnostics.
async fn published(editor: &mut Editor, uri: &str) -> Vec<Value> {
    let about = |envelope: &wire::Envelope| {
        let params: Value = envelope.params_as().unwrap_or_default();
        envelope.method() == Some("textDocument/publishDiagnostics") && params["uri"] == uri
    };
    let params: Value = editor.wire.find_where(about).await.params_as().unwrap();
    params["diagnostics"].as_array().unwrap().clone()
}

/// The same, as their sources.
async fn shown(editor: &mut Editor, uri: &str) -> Vec<String> {
    sources(&published(editor, uri).await)
}

fn sources(items: &[Value]) -> Vec<String> {
    items.iter().map(|item| item["source"].as_str().unwrap_or("").to_owned()).collect()
}

/// Waits until exactly these are shown.
async fn shows(editor: &mut Editor, uri: &str, sources: &[&str]) {
    while shown(editor, uri).await != sources {}
}

/// The process of the second server.
async fn second(house: &House) -> Option<i32> {
    let status = house.status().await;
    status.links[0].others[0].pid.map(|pid| pid as i32)
}

#[tokio::test]
async fn rule_4_11_two_servers_are_one_to_the_editor() {
    let house = House::new();
    let mut editor = ready(&house).await;
    editor.open("file:///a", "bad\n");
    shows(&mut editor, "file:///a", &["demolish", "demolish-2"]).await;
    let at = json!({ "textDocument": { "uri": "file:///a" }, "position": { "line": 0, "character": 0 } });
    let hover = editor.ask("textDocument/hover", at.clone()).await.unwrap();
    let hover = hover.to_string();
    assert!(hover.contains("one") && hover.contains("two"), "{hover}");
    let items = editor.ask("textDocument/completion", at.clone()).await.unwrap();
    let items = items["items"].as_array().unwrap().clone();
    assert_eq!(items.len(), 2);
    let item = items.into_iter().find(|item| item["label"] == "two").unwrap();
    assert_eq!(editor.ask("completionItem/resolve", item).await.unwrap()["detail"], "of two");
    let params = json!({ "textDocument": { "uri": "file:///a" }, "range": {}, "context": { "diagnostics": [] } });
    let actions = editor.ask("textDocument/codeAction", params).await.unwrap();
    assert_eq!(actions[1]["command"]["command"], "demolish:demolish-2:fix");
    // The fake server answers with what it was told.
    let run = actions[1]["command"].clone();
    let done = editor.ask("workspace/executeCommand", run).await.unwrap();
    assert_eq!((&done["command"], &done["arguments"]), (&json!("fix"), &json!([1])));
    let status = house.status().await;
    assert_eq!(status.links[0].mode, "merge");
    assert_eq!(status.links[0].documents, 1);
    assert!(status.links[0].server.is_some() && status.links[0].others.len() == 1);
    let (code, took) = editor.leave().await;
    assert_eq!(code, Some(0));
    assert!(took < Duration::from_secs(4), "{took:?}");
}

#[tokio::test]
async fn rule_4_14_one_of_two_is_killed_and_the_other_does_not_notice() {
    let house = House::new();
    let mut editor = ready(&house).await;
    editor.open("file:///a", "bad\n");
    shows(&mut editor, "file:///a", &["demolish", "demolish-2"]).await;
    let hung = editor.wire.request("test/hang", &json!({}));
    let first = editor.server_pid().await;
    let before = second(&house).await.unwrap();
    kill(before);
    shows(&mut editor, "file:///a", &["demolish"]).await;
    // It comes back, with the document.
    shows(&mut editor, "file:///a", &["demolish", "demolish-2"]).await;
    assert_ne!(second(&house).await, Some(before));
    // What the other one was asked is still asked.
    let state = editor.state().await;
    assert_eq!((&state["pid"], &state["hung"]), (&json!(first), &json!(1)));
    editor.wire.notify("$/cancelRequest", &json!({ "id": hung.as_u32() }));
    assert_eq!(editor.answer(&hung).await.unwrap_err().code, codes::REQUEST_CANCELLED);
    editor.change("file:///a", 2, "good\n");
    shows(&mut editor, "file:///a", &[]).await;
}

#[tokio::test]
async fn rule_4_10_a_server_that_does_not_start_leaves_the_other_alone() {
    let house = House::new();
    house.daemon().await;
    let both = format!("{DEMOLISH} fake-server,/nowhere/checker --stdio");
    let mut editor = house.start(&[DEMOLISH, "lsp", "--merge", &both]).await;
    let told = editor.initialize().await;
    assert_eq!(told["serverInfo"]["name"], "demolish");
    let shown: Value = editor.find("window/showMessage").await.params_as().unwrap();
    let text = shown["message"].as_str().unwrap();
    assert!(text.contains("checker"), "{text}");
    editor.open("file:///a", "bad\n");
    shows(&mut editor, "file:///a", &["demolish"]).await;
    assert_eq!(editor.leave().await.0, Some(0));
}

#[tokio::test]
async fn rule_4_48_a_daemon_that_is_killed_is_replaced_for_both() {
    let house = House::new();
    let mut editor = ready(&house).await;
    editor.open("file:///a", "bad\n");
    shows(&mut editor, "file:///a", &["demolish", "demolish-2"]).await;
    let daemon = house.daemon_pid();
    let servers = [editor.server_pid().await, second(&house).await.unwrap()];
    house.kill_daemon();
    shows(&mut editor, "file:///a", &[]).await;
    shows(&mut editor, "file:///a", &["demolish", "demolish-2"]).await;
    assert_ne!(house.daemon_pid(), daemon);
    for server in servers {
        until("the children died with their daemon", || !is_alive(server)).await;
    }
    editor.change("file:///a", 2, "good\n");
    shows(&mut editor, "file:///a", &[]).await;
}

#[tokio::test]
async fn rule_4_48_without_a_daemon_the_first_server_runs_alone_and_the_user_is_told() {
    // A socket that cannot be made.
    let house = House::new().with("DEMOLISH_SOCKET", "/proc/nowhere/demolish.sock");
    let mut editor = two(&house).await;
    let told = editor.initialize().await;
    assert_eq!(told["serverInfo"], Value::Null, "the server's own answer");
    let shown: Value = editor.find("window/showMessage").await.params_as().unwrap();
    let text = shown["message"].as_str().unwrap();
    assert!(text.contains("runs alone, without demolish-2"), "{text}");
    assert_eq!(editor.state().await["documents"], json!({}));
    assert_eq!(editor.leave().await.0, Some(0));
}

#[tokio::test]
async fn rule_4_15_both_servers_go_with_their_editor() {
    let house = House::new();
    let mut editor = ready(&house).await;
    let servers = [editor.server_pid().await, second(&house).await.unwrap()];
    drop(editor);
    for server in servers {
        until("the servers are gone", || !is_alive(server)).await;
    }
    assert!(house.status().await.links.is_empty());
}

#[tokio::test]
async fn rule_4_30_two_merged_windows_share_both_servers() {
    let house = House::new();
    let mut one = ready(&house).await;
    let mut other = two(&house).await;
    other.initialize().await;
    one.open("file:///a", "bad\n");
    shows(&mut one, "file:///a", &["demolish", "demolish-2"]).await;
    other.open("file:///b", "bad\n");
    shows(&mut other, "file:///b", &["demolish", "demolish-2"]).await;
    assert_eq!(one.server_pid().await, other.server_pid().await);
    let status = house.status().await;
    assert_eq!(status.links[0].others[0].pid, status.links[1].others[0].pid);
    let (code, _) = one.leave().await;
    assert_eq!(code, Some(0));
    other.change("file:///b", 2, "good\n");
    shows(&mut other, "file:///b", &[]).await;
    assert_eq!(other.leave().await.0, Some(0));
}

#[tokio::test]
async fn what_is_wrong_with_the_command_line_is_told() {
    let house = House::new();
    for (args, wanted) in [
        (&["--merge", "a,,b"][..], "a command is empty"),
        (&["--merge", "a", "--owner", "formatting=b"][..], "no server `b` among a"),
    ] {
        let mut shim = house.start(&[&[DEMOLISH, "lsp"], args].concat()).await.shim;
        assert_eq!(shim.wait().await.unwrap().code(), Some(2));
        shim.log().drained(Duration::from_secs(5)).await;
        let said = shim.log().tail().join("\n");
        assert!(said.contains(wanted), "{said}");
    }
}

/// A program of `.tools/bin`, if slow tests are wanted.
fn real(name: &str) -> Option<String> {
    if !crate::house::slow() {
        println!("skipped: needs DEMOLISH_SLOW=1 and a real {name}");
        return None;
    }
    let bin = std::path::PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../../.tools/bin");
    let path = bin.join(name).canonicalize().expect("`make setup` installs it into .tools");
    Some(path.to_str().unwrap().to_owned())
}

#[tokio::test]
async fn real_ty_and_ruff_are_one_server_and_one_of_them_may_die() {
    let (Some(ty), Some(ruff)) = (real("ty"), real("ruff")) else { return };
    let house = House::new();
    house.daemon().await;
    let file = house.dir.path().join("a.py");
    let text = "import os\n\nx: int = 'a'\nx.bit\n";
    std::fs::write(&file, text).unwrap();
    let uri = format!("file://{}", file.display());
    let both = format!("{ty} server,{ruff} server");
    let mut editor = house.start(&[DEMOLISH, "lsp", "--merge", &both]).await;
    let root = format!("file://{}", house.dir.path().display());
    let literals = json!({ "codeActionKind": { "valueSet": ["quickfix", "source"] } });
    let params = json!({
        "processId": std::process::id(), "rootUri": root,
        "workspaceFolders": [{ "uri": root, "name": "r" }],
        "capabilities": {
            "textDocument": {
                "publishDiagnostics": { "versionSupport": true, "dataSupport": true },
                "codeAction": { "codeActionLiteralSupport": literals, "dataSupport": true },
            },
            "workspace": { "applyEdit": true, "workspaceEdit": { "documentChanges": true } },
        },
    });
    let id = editor.wire.request("initialize", &params);
    let told = editor.answer(&id).await.unwrap();
    assert!(told["serverInfo"]["name"].as_str().unwrap().contains(" + "), "{told}");
    editor.wire.notify("initialized", &json!({}));
    editor.open(&uri, text);
    // What each finds.
    let both =
        |sources: &[String]| ["ty", "Ruff"].iter().all(|name| sources.iter().any(|s| s == name));
    let found = loop {
        let found = published(&mut editor, &uri).await;
        if both(&sources(&found)) {
            break found;
        }
    };
    // Completions of ty.
    let at = json!({ "textDocument": { "uri": uri }, "position": { "line": 3, "character": 5 } });
    let items = editor.ask("textDocument/completion", at).await.unwrap();
    let items = items["items"].as_array().unwrap();
    assert!(items.iter().any(|item| item["label"] == "bit_length"), "{items:?}");
    // A command of ruff, which asks for an edit.
    let commands = told["capabilities"]["executeCommandProvider"]["commands"].as_array().unwrap();
    assert!(commands.contains(&json!("demolish:ruff:ruff.applyAutofix")), "{commands:?}");
    let document = json!([{ "uri": uri, "version": 1 }]);
    let run = json!({ "command": "demolish:ruff:ruff.applyAutofix", "arguments": document });
    let running = editor.wire.request("workspace/executeCommand", &run);
    let edit = editor.find("workspace/applyEdit").await;
    let params: Value = edit.params_as().unwrap();
    assert!(params["edit"].to_string().contains("a.py"), "{params}");
    editor
        .wire
        .send(&wire::Envelope::response(edit.id().unwrap().clone(), &json!({ "applied": true })));
    editor.answer(&running).await.unwrap();
    // Actions of ruff for its own finding, although the editor tells of all.
    let range =
        json!({ "start": { "line": 0, "character": 0 }, "end": { "line": 0, "character": 9 } });
    let params = json!({ "textDocument": { "uri": uri }, "range": range, "context": { "diagnostics": found } });
    let actions = editor.ask("textDocument/codeAction", params).await.unwrap();
    let unused =
        |action: &&Value| action["title"].as_str().is_some_and(|title| title.contains("os"));
    assert!(actions.as_array().unwrap().iter().any(|action| unused(&action)), "{actions}");
    // Ruff is killed in the middle: ty's findings stay, and ruff's come back.
    kill(second(&house).await.unwrap());
    while both(&shown(&mut editor, &uri).await) {}
    while !both(&shown(&mut editor, &uri).await) {}
    let (code, _) = editor.leave().await;
    assert_eq!(code, Some(0));
}
