//! 4.33 settings, 4.34 nothing that nobody typed, 4.35 edits, and what is left alone where one server answers (4.36 to
//! 4.42), 4.44 questions to the user, 4.45 refreshes.

use serde_json::{Value, json};

use crate::bench::conformance::stage::{EDITOR, SERVER, Stage, Verdict};
use crate::bench::conformance::suite::{Check, Duty::Pipe, check};
use crate::bench::conformance::talk::{SETTLE, ensure, result, same};

/// Requests whose parameters and results must arrive as they were sent, by rule. `U` is the open document.
const EXCHANGES: [(u8, &str, &str, &str); 15] = [
    (
        36,
        "textDocument/codeLens",
        r#"{"textDocument":{"uri":"U"}}"#,
        r#"[{"range":R,"command":{"title":"run","command":"test.run","arguments":[1]},"data":7}]"#,
    ),
    (
        36,
        "workspace/executeCommand",
        r#"{"command":"test.run","arguments":["U",{"a":null}]}"#,
        r#"{"done":true}"#,
    ),
    (
        36,
        "textDocument/codeAction",
        r#"{"textDocument":{"uri":"U"},"range":R,"context":{"diagnostics":[],"triggerKind":1}}"#,
        r#"[{"title":"t","command":"test.run","arguments":[]},{"title":"u","kind":"quickfix","command":{"title":"u","command":"editor.action.rename"}}]"#,
    ),
    (
        38,
        "textDocument/completion",
        r#"{"textDocument":{"uri":"U"},"position":P,"context":{"triggerKind":2,"triggerCharacter":"."}}"#,
        r#"{"isIncomplete":true,"itemDefaults":{"commitCharacters":["."],"data":{"d":1}},"items":[{"label":"b","sortText":"2"},{"label":"a","sortText":"1","data":3}]}"#,
    ),
    (
        38,
        "textDocument/completion",
        r#"{"textDocument":{"uri":"U"},"position":P}"#,
        r#"[{"label":"b"},{"label":"a"},{"label":"a"}]"#,
    ),
    (
        39,
        "textDocument/formatting",
        r#"{"textDocument":{"uri":"U"},"options":{"tabSize":4,"insertSpaces":true,"odd":"x"}}"#,
        r#"[{"range":R,"newText":"é\r\n"}]"#,
    ),
    (
        40,
        "textDocument/prepareRename",
        r#"{"textDocument":{"uri":"U"},"position":P}"#,
        r#"{"range":R,"placeholder":"x"}"#,
    ),
    (
        40,
        "textDocument/rename",
        r#"{"textDocument":{"uri":"U"},"position":P,"newName":"é"}"#,
        r#"{"documentChanges":[{"textDocument":{"uri":"U","version":1},"edits":[{"range":R,"newText":"é","annotationId":"a"}]},{"kind":"rename","oldUri":"U","newUri":"U2","options":{"overwrite":true}}],"changeAnnotations":{"a":{"label":"l"}}}"#,
    ),
    (
        41,
        "textDocument/hover",
        r#"{"textDocument":{"uri":"U"},"position":P}"#,
        r#"{"contents":[{"language":"python","value":"x: int"},"text"],"range":R}"#,
    ),
    (
        41,
        "textDocument/hover",
        r#"{"textDocument":{"uri":"U"},"position":P}"#,
        r#"{"contents":{"kind":"plaintext","value":"a\n---\nb"}}"#,
    ),
    (
        41,
        "textDocument/signatureHelp",
        r#"{"textDocument":{"uri":"U"},"position":P}"#,
        r#"{"signatures":[{"label":"f(a)","parameters":[{"label":[2,3]}]}],"activeSignature":0,"activeParameter":null}"#,
    ),
    (
        42,
        "textDocument/prepareCallHierarchy",
        r#"{"textDocument":{"uri":"U"},"position":P}"#,
        r#"[{"name":"f","kind":12,"uri":"U","range":R,"selectionRange":R,"data":{"k":1}}]"#,
    ),
    (
        11,
        "textDocument/documentSymbol",
        r#"{"textDocument":{"uri":"U"}}"#,
        r#"[{"name":"x","kind":13,"range":R,"selectionRange":R,"children":[]}]"#,
    ),
    (
        11,
        "workspace/symbol",
        r#"{"query":"x"}"#,
        r#"[{"name":"x","kind":13,"location":{"uri":"U"},"data":[1]}]"#,
    ),
    (
        37,
        "textDocument/inlayHint",
        r#"{"textDocument":{"uri":"U"},"range":R}"#,
        r#"[{"position":P,"label":"l","data":{"k":1}}]"#,
    ),
];

/// Items that come back in a follow-up: rule, what is asked for them, with what result, where in it the item stands, what
/// the follow-up is, and whether the item is its `item` or all of it.
const FOLLOW_UPS: [(u8, &str, &str, &str, &str, &str, bool); 5] = [
    (
        37,
        "textDocument/completion",
        r#"{"textDocument":{"uri":"U"},"position":P}"#,
        r#"{"isIncomplete":false,"items":[{"label":"a","data":{"id":[1,2]}}]}"#,
        "/items/0",
        "completionItem/resolve",
        false,
    ),
    (
        37,
        "textDocument/codeAction",
        r#"{"textDocument":{"uri":"U"},"range":R,"context":{"diagnostics":[]}}"#,
        r#"[{"title":"t","kind":"quickfix","data":"7"}]"#,
        "/0",
        "codeAction/resolve",
        false,
    ),
    (
        37,
        "textDocument/codeLens",
        r#"{"textDocument":{"uri":"U"}}"#,
        r#"[{"range":R,"data":7}]"#,
        "/0",
        "codeLens/resolve",
        false,
    ),
    (
        37,
        "textDocument/inlayHint",
        r#"{"textDocument":{"uri":"U"},"range":R}"#,
        r#"[{"position":P,"label":"l","data":[1.5]}]"#,
        "/0",
        "inlayHint/resolve",
        false,
    ),
    (
        42,
        "textDocument/prepareCallHierarchy",
        r#"{"textDocument":{"uri":"U"},"position":P}"#,
        r#"[{"name":"f","kind":12,"uri":"U","range":R,"selectionRange":R,"data":{"k":1}}]"#,
        "/0",
        "callHierarchy/incomingCalls",
        true,
    ),
];

const REFRESHES: [&str; 6] = [
    "workspace/codeLens/refresh",
    "workspace/inlayHint/refresh",
    "workspace/semanticTokens/refresh",
    "workspace/diagnostic/refresh",
    "workspace/foldingRange/refresh",
    "workspace/inlineValue/refresh",
];

pub(super) fn checks() -> Vec<Check> {
    let mut all: Vec<Check> = EXCHANGES
        .iter()
        .map(|(rule, method, params, answer)| {
            let says = format!("`{method}` and its answer are left alone where one server answers");
            check(*rule, Pipe, says, async move |s: &mut Stage| {
                exchange(s, method, params, answer).await
            })
        })
        .collect();
    for row in FOLLOW_UPS {
        let says = format!("`{}` reaches the server with the item that it gave", row.5);
        all.push(check(row.0, Pipe, says, async move |s: &mut Stage| follow_up(s, row).await));
    }
    for method in REFRESHES {
        let says = format!("`{method}` is answered, and reaches the editor");
        all.push(check(45, Pipe, says, async move |s: &mut Stage| refresh(s, method).await));
    }
    all.push(check(33, Pipe, "settings are asked of the editor, item by item", configuration));
    all.push(check(33, Pipe, "settings that change reach the server as they are", changed));
    all.push(check(34, Pipe, "the server gets no text that nobody typed", nothing_typed));
    all.push(check(
        35,
        Pipe,
        "an edit of the server is answered once, with what the editor said",
        apply_edit,
    ));
    all.push(check(
        36,
        Pipe,
        "commands are promised under the names that the server gave them",
        commands,
    ));
    all.push(check(
        44,
        Pipe,
        "the answer to a message with buttons returns to the server",
        buttons,
    ));
    all.push(check(
        44,
        Pipe,
        "the answer to `window/showDocument` returns to the server",
        show_document,
    ));
    all
}

fn filled(s: &Stage, text: &str) -> Value {
    let point = r#"{"line":0,"character":1}"#;
    let range = format!(r#"{{"start":{point},"end":{point}}}"#);
    // Holes stand behind a colon or bracket, so that no other letter is one.
    let text = text.replace("\"U", &format!("\"{}", s.uri("main.py")));
    let text = text.replace(":R", &format!(":{range}")).replace("[R", &format!("[{range}"));
    let text = text.replace(":P", &format!(":{point}"));
    wire::parse(text.as_bytes()).unwrap_or_default()
}

async fn exchange(s: &mut Stage, method: &str, params: &str, answer: &str) -> Verdict {
    s.begin().await?;
    let (params, answer) = (filled(s, params), filled(s, answer));
    ensure(params.is_object() && !answer.is_null(), "the check itself is wrong")?;
    let id = s.ask(method, &params)?;
    let asked = s.hears(method).await?;
    same("the question", &asked.params_as().unwrap_or_default(), &params)?;
    s.answer(SERVER, &asked, &answer)?;
    same("the answer", &result(&s.response(EDITOR, &id).await?)?, &answer)
}

async fn follow_up(
    s: &mut Stage,
    (_, first, params, answer, place, then, wrapped): (u8, &str, &str, &str, &str, &str, bool),
) -> Verdict {
    s.begin().await?;
    let (params, answer) = (filled(s, params), filled(s, answer));
    let id = s.ask(first, &params)?;
    let asked = s.hears(first).await?;
    s.answer(SERVER, &asked, &answer)?;
    let seen = result(&s.response(EDITOR, &id).await?)?;
    // Some proxies make a list of what was an object, or the other way round.
    let item =
        seen.pointer(place).or_else(|| seen.pointer("/0")).or_else(|| seen.pointer("/items/0"));
    let item = item.ok_or("the item did not reach the editor")?.clone();
    let params = if wrapped { json!({ "item": item }) } else { item };
    let id = s.ask(then, &params)?;
    let asked = s.hears(then).await?;
    let heard: Value = asked.params_as().unwrap_or_default();
    let heard = if wrapped { heard["item"].clone() } else { heard };
    let given = answer.pointer(place).ok_or("the check itself is wrong")?;
    same("the item", &heard, given)?;
    let last = if wrapped { json!([]) } else { json!({ "label": "resolved" }) };
    s.answer(SERVER, &asked, &last)?;
    let mut seen = result(&s.response(EDITOR, &id).await?)?;
    if let Some(item) = seen.as_object_mut() {
        // It may be marked again.
        item.remove("data");
    }
    same("the answer", &seen, &last)
}

async fn refresh(s: &mut Stage, method: &str) -> Verdict {
    s.begin().await?;
    let id = s.question("1", method, &Value::Null)?;
    same("the answer", &result(&s.response(SERVER, &id).await?)?, &Value::Null)?;
    s.idle(SETTLE).await;
    let count = s.port(EDITOR).map_or(0, |port| port.count(method));
    ensure(count == 1, format!("the editor was asked {count} times"))
}

async fn configuration(s: &mut Stage) -> Verdict {
    s.auto.editor = false;
    s.begin().await?;
    let items = json!({ "items": [
        { "scopeUri": s.uri("main.py"), "section": "a.b" }, { "section": "c" }, {}, { "section": "a.b" },
    ] });
    let id = s.question("\"conf\"", "workspace/configuration", &items)?;
    let seen = s.sees("workspace/configuration").await?;
    same("the items", &seen.params_as().unwrap_or_default(), &items)?;
    let settings = json!([{ "x": 1 }, null, false, "é"]);
    s.answer(EDITOR, &seen, &settings)?;
    same("the settings", &result(&s.response(SERVER, &id).await?)?, &settings)
}

async fn changed(s: &mut Stage) -> Verdict {
    s.begin().await?;
    for settings in [json!(null), json!({ "python": { "a": [1, null] } }), json!({})] {
        let params = json!({ "settings": settings });
        s.notify("workspace/didChangeConfiguration", &params)?;
        let heard: Value =
            s.hears("workspace/didChangeConfiguration").await?.params_as().unwrap_or_default();
        same("the settings", &heard, &params)?;
    }
    Ok(())
}

async fn nothing_typed(s: &mut Stage) -> Verdict {
    s.begin().await?;
    let uri = s.uri("main.py");
    s.change_document(&uri, 2, "x = 2\n")?;
    s.hears("textDocument/didChange").await?;
    s.idle(SETTLE * 4).await;
    let port = s.port(SERVER).ok_or("gone")?;
    let counts = ["textDocument/didOpen", "textDocument/didChange", "textDocument/didSave"]
        .map(|m| port.count(m));
    ensure(counts == [1, 1, 0], "the server got a text that the editor did not send")?;
    s.fence().await
}

async fn apply_edit(s: &mut Stage) -> Verdict {
    s.auto.editor = false;
    s.begin().await?;
    let uri = s.uri("main.py");
    let at = json!({ "line": 0, "character": 0 });
    let edit = json!({ "label": "l", "edit": { "documentChanges": [{
        "textDocument": { "uri": uri, "version": 1 }, "edits": [{ "range": { "start": at, "end": at }, "newText": "é" }] }] } });
    for (number, answer) in [
        json!({ "applied": true }),
        json!({ "applied": false, "failureReason": "stale", "failedChange": 0 }),
    ]
    .iter()
    .enumerate()
    {
        let id = s.question(&number.to_string(), "workspace/applyEdit", &edit)?;
        let seen = s.sees("workspace/applyEdit").await?;
        same("the edit", &seen.params_as().unwrap_or_default(), &edit)?;
        s.answer(EDITOR, &seen, answer)?;
        same("the answer", &result(&s.response(SERVER, &id).await?)?, answer)?;
        s.only_one_answer(SERVER, &id).await?;
    }
    Ok(())
}

async fn commands(s: &mut Stage) -> Verdict {
    let names = json!(["test.run", "rust-analyzer.runSingle", "_typescript.organizeImports"]);
    s.capabilities["executeCommandProvider"] = json!({ "commands": names });
    let got = s.begin_at(EDITOR).await?;
    same("the commands", &got["capabilities"]["executeCommandProvider"]["commands"], &names)
}

async fn buttons(s: &mut Stage) -> Verdict {
    s.auto.editor = false;
    s.begin().await?;
    let params = json!({ "type": 2, "message": "which?", "actions": [{ "title": "A", "x": 1 }, { "title": "B" }] });
    let first = s.question("1", "window/showMessageRequest", &params)?;
    let seen_first = s.sees("window/showMessageRequest").await?;
    let second = s.question("\"1\"", "window/showMessageRequest", &params)?;
    let seen_second = s.sees("window/showMessageRequest").await?;
    let seen: Value = seen_first.params_as().unwrap_or_default();
    same("the buttons", &seen["actions"], &params["actions"])?;
    s.answer(EDITOR, &seen_second, &Value::Null)?;
    s.answer(EDITOR, &seen_first, &json!({ "title": "A", "x": 1 }))?;
    same(
        "the answer",
        &result(&s.response(SERVER, &first).await?)?,
        &json!({ "title": "A", "x": 1 }),
    )?;
    same("the answer", &result(&s.response(SERVER, &second).await?)?, &Value::Null)
}

async fn show_document(s: &mut Stage) -> Verdict {
    s.auto.editor = false;
    s.begin().await?;
    let params = json!({ "uri": "https://example.com/a b", "external": true, "takeFocus": false });
    let id = s.question("1", "window/showDocument", &params)?;
    let seen = s.sees("window/showDocument").await?;
    same("the document", &seen.params_as().unwrap_or_default(), &params)?;
    s.answer(EDITOR, &seen, &json!({ "success": true }))?;
    same("the answer", &result(&s.response(SERVER, &id).await?)?, &json!({ "success": true }))
}
