//! 4.25 to 4.32: documents and folders.

use serde_json::{Value, json};

use crate::bench::conformance::MAIN;
use crate::bench::conformance::stage::{At, EDITOR, Fault, SECOND, SERVER, Stage, Verdict};
use crate::bench::conformance::suite::{
    Check,
    Duty::{Pipe, Proxy},
    check,
};
use crate::bench::conformance::talk::{SETTLE, ensure, result, same, told};

pub(super) fn checks() -> Vec<Check> {
    vec![
        check(25, Pipe, "fifty changes arrive in order, as they were sent", changes),
        check(25, Pipe, "several changes in one notification stay together and in order", several),
        check(
            26,
            Pipe,
            "the encodings that the editor offers reach the server, its choice the editor",
            encodings,
        ),
        check(26, Pipe, "positions pass as they are when both sides agree", positions),
        check(27, Pipe, "positions in data, arguments and custom methods are not touched", opaque),
        check(28, Pipe, "every line end, NUL, emoji and 50,000 lines arrive", texts),
        check(28, Pipe, "a position out of range passes", out_of_range),
        check(29, Pipe, "edits before a save pass, and the save comes after them", saving),
        check(30, Pipe, "a document is opened and closed as often as the editor says", opening),
        check(30, Pipe, "notebooks pass", notebooks),
        check(30, Proxy, "two editors that share a server open a document once", shared),
        check(31, Pipe, "watched files pass as they are", watched),
        check(32, Pipe, "folders that come and go reach the server", folders),
        check(32, Pipe, "a server that asks for the folders is answered", asks_folders),
    ]
}

async fn changes(s: &mut Stage) -> Verdict {
    s.begin().await?;
    let uri = s.uri("main.py");
    let mut expected = MAIN.to_owned();
    for version in 2..52 {
        let at = json!({ "line": 0, "character": 0 });
        let text = format!("é😀{version}");
        s.notify(
            "textDocument/didChange",
            &json!({
                "textDocument": { "uri": uri, "version": version },
                "contentChanges": [{ "range": { "start": at, "end": at }, "text": text }],
            }),
        )?;
        expected.insert_str(0, &text);
    }
    s.fence().await?;
    let (version, text) = told(s, &uri).ok_or("the server has no such document")?;
    same("the text", &json!(text), &json!(expected))?;
    same("the version", &version, &json!(51))
}

async fn several(s: &mut Stage) -> Verdict {
    s.begin().await?;
    let uri = s.uri("main.py");
    let point = |line: u32, character: u32| json!({ "line": line, "character": character });
    let rounds = [
        json!([
            { "range": { "start": point(1, 0), "end": point(1, 1) }, "rangeLength": 1, "text": "" },
            { "range": { "start": point(0, 2), "end": point(0, 2) }, "text": "\r\n" },
            { "range": { "start": point(1, 0), "end": point(1, 2) }, "text": "😀\rz" },
            { "range": { "start": point(2, 1), "end": point(2, 1) }, "text": "!" },
        ]),
        json!([
            { "range": { "start": point(0, 0), "end": point(0, 1) }, "text": "gone" },
            { "text": "the whole\ntext" },
            { "range": { "start": point(1, 4), "end": point(1, 4) }, "text": "!" },
        ]),
    ];
    let expected = ["x \r\n😀\rz!1\n = x\n", "the whole\ntext!"];
    for (round, (changes, expected)) in rounds.iter().zip(expected).enumerate() {
        let document = json!({ "uri": uri, "version": round + 2 });
        s.notify(
            "textDocument/didChange",
            &json!({ "textDocument": document, "contentChanges": changes }),
        )?;
        s.fence().await?;
        let (_, text) = told(s, &uri).ok_or("the server has no such document")?;
        same("the text", &json!(text), &json!(expected))?;
    }
    Ok(())
}

async fn encodings(s: &mut Stage) -> Verdict {
    s.auto.initialize = false;
    let mut params = s.initialize_params();
    let offered = json!(["utf-8", "utf-32", "utf-16"]);
    params["capabilities"]["general"]["positionEncodings"] = offered.clone();
    let id = s.ask("initialize", &params)?;
    let asked = s.hears("initialize").await?;
    let heard: Value = asked.params_as().unwrap_or_default();
    let heard = &heard["capabilities"]["general"]["positionEncodings"];
    // A proxy may offer less, but nothing that the editor did not; the server takes the first.
    let heard: Vec<&Value> = heard.as_array().into_iter().flatten().collect();
    let known = offered.as_array().into_iter().flatten().collect::<Vec<_>>();
    ensure(
        heard.iter().all(|one| known.contains(one)),
        format!("the server was offered {heard:?}"),
    )?;
    let choice = heard.first().map_or(json!("utf-16"), |first| (*first).clone());
    s.capabilities["positionEncoding"] = choice.clone();
    s.answer(SERVER, &asked, &json!({ "capabilities": s.capabilities }))?;
    let answer = result(&s.response(EDITOR, &id).await?)?;
    let seen = &answer["capabilities"]["positionEncoding"];
    // Not to say one is to say UTF-16.
    let seen = if seen.is_null() { json!("utf-16") } else { seen.clone() };
    same("the choice", &seen, &choice)
}

async fn positions(s: &mut Stage) -> Verdict {
    s.begin().await?;
    let uri = s.uri("main.py");
    s.change_document(&uri, 2, "a😀b = 'é'\n")?;
    let mut params = s.place(0);
    params["position"]["character"] = json!(3);
    let id = s.ask("textDocument/definition", &params)?;
    let asked = s.hears("textDocument/definition").await?;
    same("the question", &asked.params_as().unwrap_or_default(), &params)?;
    let found = json!([{ "uri": uri, "range": { "start": { "line": 0, "character": 1 }, "end": { "line": 0, "character": 3 } } }]);
    s.answer(SERVER, &asked, &found)?;
    same("the place", &result(&s.response(EDITOR, &id).await?)?, &found)
}

async fn opaque(s: &mut Stage) -> Verdict {
    s.begin().await?;
    let data = json!({ "position": { "line": 0, "character": 5 }, "textDocument": { "uri": s.uri("main.py"), "version": 1 } });
    let range =
        json!({ "start": { "line": 0, "character": 0 }, "end": { "line": 0, "character": 1 } });
    let ask = json!({ "textDocument": { "uri": s.uri("main.py") }, "range": range, "context": { "diagnostics": [] } });
    let action = json!([{ "title": "a", "kind": "quickfix", "data": data,
        "command": { "title": "a", "command": "test.run", "arguments": [data] } }]);
    exchange(s, "textDocument/codeAction", &ask, &action).await?;
    let run = json!({ "command": "test.run", "arguments": [data] });
    exchange(s, "workspace/executeCommand", &run, &data).await?;
    exchange(s, "custom/positions", &data, &data).await
}

/// A request whose parameters and result arrive as they were sent.
async fn exchange(s: &mut Stage, method: &str, params: &Value, answer: &Value) -> Verdict {
    let id = s.ask(method, params)?;
    let asked = s.hears(method).await?;
    same(&format!("`{method}`"), &asked.params_as().unwrap_or_default(), params)?;
    s.answer(SERVER, &asked, answer)?;
    let answered = s.response(EDITOR, &id).await?;
    same(&format!("the answer to `{method}`"), &result(&answered)?, answer)
}

async fn texts(s: &mut Stage) -> Verdict {
    s.begin().await?;
    let odd = "a\r\nb\tc\r\"😀\u{0}\\\n\u{2028}é\u{85}".to_owned();
    let long: String = (0..50_000).map(|n| format!("line {n} 😀\r\n")).collect();
    for (number, text) in [odd, long].iter().enumerate() {
        let uri = s.uri(&format!("{number}.py"));
        s.open_document(&uri, text)?;
        let heard: Value = s.hears("textDocument/didOpen").await?.params_as().unwrap_or_default();
        ensure(
            heard["textDocument"]["text"].as_str() == Some(text),
            "an opened text arrived changed",
        )?;
        let text = format!("{text}\r");
        s.change_document(&uri, 2, &text)?;
        s.hears("textDocument/didChange").await?;
        let (_, known) = told(s, &uri).ok_or("the server has no such document")?;
        ensure(known == text, "a changed text arrived changed")?;
    }
    Ok(())
}

async fn out_of_range(s: &mut Stage) -> Verdict {
    s.begin().await?;
    let far = json!({ "line": 4_000_000, "character": 2_147_483_647 });
    let params = json!({ "textDocument": { "uri": s.uri("main.py") }, "position": far });
    exchange(s, "textDocument/definition", &params, &json!([])).await?;
    let change = json!({
        "textDocument": { "uri": s.uri("main.py"), "version": 2 },
        "contentChanges": [{ "range": { "start": far, "end": far }, "text": "end" }],
    });
    s.notify("textDocument/didChange", &change)?;
    s.fence().await?;
    let (_, text) = told(s, &s.uri("main.py")).ok_or("the server has no such document")?;
    same("the text", &json!(text), &json!(format!("{MAIN}end")))
}

async fn saving(s: &mut Stage) -> Verdict {
    s.begin().await?;
    let uri = s.uri("main.py");
    let saving = json!({ "textDocument": { "uri": uri }, "reason": 1 });
    s.notify("textDocument/willSave", &saving)?;
    s.hears("textDocument/willSave").await?;
    let at = json!({ "line": 0, "character": 0 });
    let edits = json!([{ "range": { "start": at, "end": at }, "newText": "# é\n" }]);
    exchange(s, "textDocument/willSaveWaitUntil", &saving, &edits).await?;
    s.change_document(&uri, 2, "# é\nx = 1\n")?;
    s.notify(
        "textDocument/didSave",
        &json!({ "textDocument": { "uri": uri }, "text": "# é\nx = 1\n" }),
    )?;
    let saved: Value = s.hears("textDocument/didSave").await?.params_as().unwrap_or_default();
    same("the saved text", &saved["text"], &json!("# é\nx = 1\n"))?;
    let changed =
        s.find_now(SERVER, |envelope| envelope.method() == Some("textDocument/didChange"));
    ensure(changed.is_some(), "the save overtook the change before it")
}

async fn opening(s: &mut Stage) -> Verdict {
    s.begin().await?;
    let uri = s.uri("again.py");
    for round in 0..3 {
        s.open_document(&uri, &format!("round {round}\n"))?;
        let heard: Value = s.hears("textDocument/didOpen").await?.params_as().unwrap_or_default();
        same("the text", &heard["textDocument"]["text"], &json!(format!("round {round}\n")))?;
        s.notify("textDocument/didClose", &json!({ "textDocument": { "uri": uri } }))?;
        s.hears("textDocument/didClose").await?;
    }
    s.fence().await?;
    let count = |method| s.port(SERVER).map_or(0, |port| port.count(method));
    ensure(
        (count("textDocument/didOpen"), count("textDocument/didClose")) == (4, 3),
        "a document was opened or closed too often",
    )
}

async fn notebooks(s: &mut Stage) -> Verdict {
    s.begin().await?;
    let cell = json!({ "kind": 2, "document": "vscode-notebook-cell:/n.ipynb#1" });
    let open = json!({
        "notebookDocument": { "uri": "file:///n.ipynb", "notebookType": "jupyter", "version": 1, "cells": [cell] },
        "cellTextDocuments": [{ "uri": "vscode-notebook-cell:/n.ipynb#1", "languageId": "python", "version": 1, "text": "x" }],
    });
    s.notify("notebookDocument/didOpen", &open)?;
    let heard: Value = s.hears("notebookDocument/didOpen").await?.params_as().unwrap_or_default();
    same("the notebook", &heard, &open)?;
    let change = json!({ "notebookDocument": { "uri": "file:///n.ipynb", "version": 2 }, "change": { "metadata": { "a": 1 } } });
    s.notify("notebookDocument/didChange", &change)?;
    let heard: Value = s.hears("notebookDocument/didChange").await?.params_as().unwrap_or_default();
    same("the change", &heard, &change)
}

/// Two windows on the same project: whether they share a server is the proxy's choice, and then it has to count.
async fn shared(s: &mut Stage) -> Verdict {
    s.begin().await?;
    s.start_editor("").await?;
    s.begin_at(SECOND).await?;
    if s.births("1") > 1 {
        return Err(Fault::Apart("every editor has a server of its own".to_owned()));
    }
    let uri = s.uri("main.py");
    s.open_document_at(SECOND, &uri, MAIN)?;
    s.fence_at(SECOND, SERVER).await?;
    s.idle(SETTLE).await;
    let count = |s: &Stage, method| s.port(SERVER).map_or(0, |port| port.count(method));
    ensure(
        count(s, "textDocument/didOpen") == 1,
        "the server was told twice that one document is open",
    )?;
    let close = wire::Envelope::notification(
        "textDocument/didClose",
        &json!({ "textDocument": { "uri": uri } }),
    );
    s.send(SECOND, &close)?;
    s.fence_at(SECOND, SERVER).await?;
    ensure(
        count(s, "textDocument/didClose") == 0,
        "a document was closed that another editor has open",
    )?;
    s.send(EDITOR, &close)?;
    s.hears("textDocument/didClose").await?;
    both_ask(s).await
}

/// Both editors ask under the same id; each gets its own answer.
async fn both_ask(s: &mut Stage) -> Verdict {
    let id = wire::Id::number(5000);
    for (editor, line) in [(EDITOR, 1), (SECOND, 2)] {
        let place = s.place(line);
        s.send(editor, &wire::Envelope::request(id.clone(), "textDocument/hover", &place))?;
    }
    for _ in 0..2 {
        let asked = s.hears("textDocument/hover").await?;
        let line = asked.params_as::<Value>().unwrap_or_default()["position"]["line"].clone();
        s.answer(SERVER, &asked, &json!({ "contents": format!("line {line}") }))?;
    }
    for (editor, line) in [(EDITOR, 1), (SECOND, 2)] {
        let answer = result(&s.response(editor, &id).await?)?;
        same("the answer", &answer["contents"], &json!(format!("line {line}")))?;
    }
    Ok(())
}

async fn watched(s: &mut Stage) -> Verdict {
    s.begin().await?;
    let watchers = json!({ "watchers": [{ "globPattern": "**/*.py" }] });
    let registration = json!({ "id": "w", "method": "workspace/didChangeWatchedFiles", "registerOptions": watchers });
    let id =
        s.question("1", "client/registerCapability", &json!({ "registrations": [registration] }))?;
    s.response(SERVER, &id).await?;
    let params = json!({ "changes": [
        { "uri": s.uri("a.py"), "type": 1 }, { "uri": s.uri("b.py"), "type": 2 }, { "uri": s.uri("c.py"), "type": 3 },
    ] });
    s.notify("workspace/didChangeWatchedFiles", &params)?;
    let heard: Value =
        s.hears("workspace/didChangeWatchedFiles").await?.params_as().unwrap_or_default();
    same("the changes", &heard, &params)
}

async fn folders(s: &mut Stage) -> Verdict {
    s.begin().await?;
    let event = json!({ "event": { "added": [{ "uri": "file:///other", "name": "other" }], "removed": [] } });
    s.notify("workspace/didChangeWorkspaceFolders", &event)?;
    let heard: Value =
        s.hears("workspace/didChangeWorkspaceFolders").await?.params_as().unwrap_or_default();
    same("the folders", &heard, &event)
}

async fn asks_folders(s: &mut Stage) -> Verdict {
    s.auto.editor = false;
    s.begin().await?;
    let id = s.question("1", "workspace/workspaceFolders", &Value::Null)?;
    let folders = json!([{ "uri": "file:///p", "name": "p" }]);
    let seen = s
        .find(EDITOR, "`workspace/workspaceFolders`", |e| {
            e.method() == Some("workspace/workspaceFolders")
        })
        .await?;
    s.answer(EDITOR, &seen, &folders)?;
    same("the folders", &result(&s.response(At::Server("1"), &id).await?)?, &folders)
}
