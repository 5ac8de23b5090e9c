//! What passes is what was sent: 4.2 bodies, 4.5 ids, 4.6 answers, 4.43 unknown methods, 4.46 bridges, 4.47 URIs.

use serde_json::{Value, json};
use wire::{Envelope, Id, Kind};

use crate::bench::conformance::port::excerpt;
use crate::bench::conformance::stage::{EDITOR, SERVER, Stage, Verdict};
use crate::bench::conformance::suite::{
    Check,
    Duty::{Pipe, Proxy},
    check,
};
use crate::bench::conformance::talk::{SETTLE, ensure, refusal, same, same_bytes};

/// JSON texts that a careless reader changes.
const TEXTS: [(&str, &[u8]); 9] = [
    ("a lone surrogate", br#"{"text":"a\ud83db"}"#),
    ("escapes and what needs none", br#"{"text":"\u00e9 \/ \ud83d\ude00 \u0061"}"#),
    ("numbers in odd spellings", b"{\"a\":[1.0e0,-0,1E2,0.10]}"),
    ("a number beyond 64 bits", b"{\"n\":123456789012345678901234567890}"),
    ("a fraction that no double holds", b"{\"n\":0.1234567890123456789012345}"),
    ("blanks everywhere", b"{ \"a\" : [ 1 ,\t2 ,\r\n 3 ] }"),
    ("members in their order, one twice", br#"{"z":1,"a":2,"z":3}"#),
    ("characters beyond ASCII as they are", "{\"t\":\"é😀\u{2028}\u{7f}\"}".as_bytes()),
    ("a byte that is no UTF-8", b"{\"t\":\"\xe9\"}"),
];

/// Ids in flight at once, as JSON.
const IDS: [&str; 9] = [
    "0",
    "-1",
    "2147483648",
    "4294967296",
    "9007199254740993",
    "\"\"",
    "\"1\"",
    "\"3f1c-uuid\"",
    "\"é\"",
];

/// Responses, from their result or error on.
const ANSWERS: [(&str, &str); 12] = [
    ("null", r#""result":null"#),
    ("false", r#""result":false"#),
    ("an empty list", r#""result":[]"#),
    ("an empty string", r#""result":"""#),
    ("a member that nobody knows", r#""result":{"contents":"x"},"extra":{"kept":[null]}"#),
    ("cancelled", r#""error":{"code":-32800,"message":"cancelled"}"#),
    ("modified", r#""error":{"code":-32801,"message":"modified"}"#),
    (
        "cancelled by the server",
        r#""error":{"code":-32802,"message":"again","data":{"retriggerRequest":true}}"#,
    ),
    ("failed", r#""error":{"code":-32803,"message":"failed","data":"why"}"#),
    ("a code of its own, with data", r#""error":{"code":1,"message":"é","data":{"a":[1.5,null]}}"#),
    ("an error with a member more", r#""error":{"code":-32603,"message":"m","more":true}"#),
    ("an error beside a null result", r#""result":null,"error":{"code":-32603,"message":"both"}"#),
];

pub(super) fn checks() -> Vec<Check> {
    let mut all = Vec::new();
    for (says, text) in TEXTS {
        let into = async move |s: &mut Stage| to_server(s, text).await;
        all.push(check(2, Pipe, format!("{says}, to the server"), into));
        let back = async move |s: &mut Stage| to_editor(s, text).await;
        all.push(check(2, Pipe, format!("{says}, to the editor"), back));
    }
    for (says, text) in ANSWERS {
        let says = format!("an answer that is {says}");
        all.push(check(6, Pipe, says, async move |s: &mut Stage| answer(s, text).await));
    }
    all.extend(ids());
    all.extend(unknown());
    all.extend(uris());
    all
}

/// A body with these parameters, bare of any blanks of ours.
fn body(head: &str, member: &str, text: &[u8]) -> Vec<u8> {
    [format!("{{\"jsonrpc\":\"2.0\",{head},\"{member}\":").as_bytes(), text, b"}"].concat()
}

async fn to_server(s: &mut Stage, text: &[u8]) -> Verdict {
    s.begin().await?;
    // Parameters of a command may be anything.
    let params = [&br#"{"command":"test.run","arguments":["#[..], text, b"]}"].concat();
    s.send_body(
        EDITOR,
        &body(r#""id":700,"method":"workspace/executeCommand""#, "params", &params),
    )?;
    let asked = s.hears("workspace/executeCommand").await?;
    s.answer(SERVER, &asked, &Value::Null)?;
    s.response(EDITOR, &Id::number(700)).await?;
    same_bytes("a command's argument", asked.params(), &params)
}

async fn to_editor(s: &mut Stage, text: &[u8]) -> Verdict {
    s.begin().await?;
    let id =
        s.ask("workspace/executeCommand", &json!({ "command": "test.run", "arguments": [] }))?;
    let asked = s.hears("workspace/executeCommand").await?;
    let head = format!("\"id\":{}", asked.id().ok_or("a request without id")?);
    s.send_body(SERVER, &body(&head, "result", text))?;
    let answer = s.response(EDITOR, &id).await?;
    let Ok(result) = answer.outcome() else { return Err("the answer became an error".into()) };
    same_bytes("a command's result", result, text)?;
    s.fence().await
}

async fn answer(s: &mut Stage, text: &str) -> Verdict {
    s.begin().await?;
    let id = s.ask("textDocument/hover", &s.place(0))?;
    let asked = s.hears("textDocument/hover").await?;
    let theirs = asked.id().ok_or("a request without id")?;
    let sent = format!("{{\"jsonrpc\":\"2.0\",\"id\":{theirs},{text}}}");
    s.send_body(SERVER, sent.as_bytes())?;
    let got = s.response(EDITOR, &id).await?;
    s.only_one_answer(EDITOR, &id).await?;
    let value = |body: &[u8]| wire::parse::<Value>(body).unwrap_or_default();
    let (got_value, mut expected) = (value(&got.body), value(sent.as_bytes()));
    expected["id"] = got_value["id"].clone();
    if expected["error"].is_object() && expected["result"].is_null() {
        // Whether the null result goes along does not matter, if the error does.
        same("the error", &got_value["error"], &expected["error"])?;
        return ensure(got.outcome().is_err(), "the error became a result");
    }
    if got_value.get("result").is_none() {
        return Err(format!("the result is missing in `{}`", excerpt(&got.body)).into());
    }
    same("the answer", &got_value, &expected)
}

fn ids() -> Vec<Check> {
    let unasked = async |s: &mut Stage| {
        s.begin().await?;
        s.send(SERVER, &Envelope::response(Id::number(987_654), &json!("unasked")))?;
        s.send(EDITOR, &Envelope::response(Id::number(987_654), &json!("unasked")))?;
        s.fence().await?;
        let unasked = |envelope: &Envelope| {
            matches!(envelope.kind, Kind::Response { .. })
                && envelope.body.windows(7).any(|bytes| bytes == b"unasked")
        };
        s.absent(EDITOR, "an answer that nobody asked for", SETTLE, unasked).await?;
        s.absent(SERVER, "an answer that nobody asked for", SETTLE, unasked).await
    };
    let twice = async |s: &mut Stage| {
        s.begin().await?;
        let place = s.place(0);
        let request = Envelope::request(Id::number(700), "textDocument/hover", &place);
        s.send(EDITOR, &request)?;
        let first = s.hears("textDocument/hover").await?;
        s.send(EDITOR, &request)?;
        let refused = s.response(EDITOR, &Id::number(700)).await?;
        refusal(&refused)?;
        s.answer(SERVER, &first, &json!({ "contents": "the first" }))?;
        let answer = s.response(EDITOR, &Id::number(700)).await?;
        ensure(answer.outcome().is_ok(), "the first request lost its answer")
    };
    let crossed = async |s: &mut Stage| {
        s.auto.editor = false;
        s.begin().await?;
        let place = s.place(0);
        s.send(EDITOR, &Envelope::request(Id::number(5), "textDocument/hover", &place))?;
        let asked = s.hears("textDocument/hover").await?;
        let theirs = asked.id().ok_or("a request without id")?.raw().to_owned();
        let question = s.question(&theirs, "workspace/configuration", &json!({ "items": [{}] }))?;
        let seen = s.sees("workspace/configuration").await?;
        s.answer(EDITOR, &seen, &json!(["settings"]))?;
        s.answer(SERVER, &asked, &json!({ "contents": "hover" }))?;
        let hover = s.response(EDITOR, &Id::number(5)).await?;
        ensure(
            hover.outcome().is_ok_and(|raw| raw.windows(5).any(|b| b == b"hover")),
            "the answers were mixed up",
        )?;
        let settings = s.response(SERVER, &question).await?;
        ensure(
            settings.outcome().is_ok_and(|raw| raw.windows(8).any(|b| b == b"settings")),
            "the answers were mixed up",
        )
    };
    vec![
        check(5, Pipe, "ids of the editor come back, all in flight at once", editor_ids),
        check(5, Pipe, "ids of the server come back, all in flight at once", server_ids),
        check(5, Pipe, "an id comes back as it was spelled", spelled),
        check(5, Pipe, "both sides may use the same id", crossed),
        check(5, Proxy, "an answer that nobody asked for is dropped", unasked),
        check(5, Proxy, "a second request with an id in flight is refused", twice),
    ]
}

async fn spelled(s: &mut Stage) -> Verdict {
    s.begin().await?;
    for raw in ["\"\\u00e9\\n\"", "\"\\/\"", "\"é\""] {
        let id = Id::from_raw(raw.as_bytes()).ok_or("that is no id")?;
        s.send(EDITOR, &Envelope::request(id.clone(), "textDocument/hover", &s.place(0)))?;
        let asked = s.hears("textDocument/hover").await?;
        s.answer(SERVER, &asked, &Value::Null)?;
        let answer = s.response(EDITOR, &id).await?;
        let back = answer.id().map(|id| id.raw().to_owned()).unwrap_or_default();
        ensure(back == raw, format!("{raw} came back as {back}"))?;
    }
    Ok(())
}

async fn editor_ids(s: &mut Stage) -> Verdict {
    s.begin().await?;
    let mut asked = Vec::new();
    for (line, raw) in IDS.iter().enumerate() {
        let id = Id::from_raw(raw.as_bytes()).ok_or("that is no id")?;
        s.send(EDITOR, &Envelope::request(id, "textDocument/hover", &s.place(line)))?;
        asked.push(
            s.hears("textDocument/hover")
                .await
                .map_err(|_| format!("a request with id {raw} did not reach the server"))?,
        );
    }
    for (line, envelope) in asked.iter().enumerate().rev() {
        s.answer(SERVER, envelope, &json!({ "contents": format!("line {line}") }))?;
    }
    for (line, raw) in IDS.iter().enumerate() {
        let id = Id::from_raw(raw.as_bytes()).ok_or("that is no id")?;
        let answer =
            s.response(EDITOR, &id).await.map_err(|_| format!("no answer carries id {raw}"))?;
        let result: Value =
            answer.outcome().ok().and_then(|raw| wire::parse(raw).ok()).unwrap_or_default();
        let right = result["contents"].to_string().contains(&format!("line {line}"));
        ensure(right, format!("id {raw} got the answer of another request"))?;
    }
    Ok(())
}

async fn server_ids(s: &mut Stage) -> Verdict {
    s.auto.editor = false;
    s.begin().await?;
    let mut seen = Vec::new();
    for (number, raw) in IDS.iter().enumerate() {
        let items = json!({ "items": [{ "section": format!("s{number}") }] });
        s.question(raw, "workspace/configuration", &items)?;
        seen.push(
            s.sees("workspace/configuration")
                .await
                .map_err(|_| format!("a question with id {raw} did not reach the editor"))?,
        );
    }
    for (number, envelope) in seen.iter().enumerate().rev() {
        s.answer(EDITOR, envelope, &json!([number]))?;
    }
    for (number, raw) in IDS.iter().enumerate() {
        let id = Id::from_raw(raw.as_bytes()).ok_or("that is no id")?;
        let answer =
            s.response(SERVER, &id).await.map_err(|_| format!("no answer carries id {raw}"))?;
        let result: Value =
            answer.outcome().ok().and_then(|raw| wire::parse(raw).ok()).unwrap_or_default();
        same("the settings", &result, &json!([number]))?;
    }
    Ok(())
}

fn unknown() -> Vec<Check> {
    let mut all = Vec::new();
    for method in ["$/odd", "rust-analyzer/reloadWorkspace", "$/setTrace", "textDocument/didFocus"]
    {
        let says = format!("`{method}` reaches the server");
        all.push(check(43, Pipe, says, async move |s: &mut Stage| {
            s.begin().await?;
            let params = json!({ "value": "off", "x": [null] });
            s.notify(method, &params)?;
            let heard: Value = s.hears(method).await?.params_as().unwrap_or_default();
            same("its parameters", &heard, &params)
        }));
    }
    for method in [
        "$/odd",
        "textDocument/inactiveRegions",
        "telemetry/event",
        "$/logTrace",
        "experimental/status",
    ] {
        let says = format!("`{method}` reaches the editor");
        all.push(check(43, Pipe, says, async move |s: &mut Stage| {
            s.begin().await?;
            let params = json!({ "message": "m", "x": [null] });
            s.say(method, &params)?;
            let seen: Value = s.sees(method).await?.params_as().unwrap_or_default();
            same("its parameters", &seen, &params)
        }));
    }
    all.extend(asked());
    all.extend(bridges());
    all
}

fn asked() -> Vec<Check> {
    let request = async |s: &mut Stage| {
        s.begin().await?;
        let params = json!({ "textDocument": { "uri": s.uri("main.py") }, "x": 1 });
        let id = s.ask("rust-analyzer/expandMacro", &params)?;
        let asked = s.hears("rust-analyzer/expandMacro").await?;
        s.refuse(SERVER, &asked, -32601, "no such thing")?;
        let answer = s.response(EDITOR, &id).await?;
        ensure(refusal(&answer)? == -32601, "the error arrived changed")
    };
    let question = async |s: &mut Stage| {
        s.begin().await?;
        let id = s.question("\"q\"", "custom/question", &json!({ "x": 1 }))?;
        let seen = s.sees("custom/question").await?;
        s.answer(EDITOR, &seen, &json!({ "y": 2 }))?;
        let answer = s.response(SERVER, &id).await?;
        same("the answer", &crate::bench::conformance::talk::result(&answer)?, &json!({ "y": 2 }))
    };
    vec![
        check(43, Pipe, "a request of the editor that nobody knows, and its error", request),
        check(43, Pipe, "a request of the server that nobody knows, and its answer", question),
    ]
}

fn bridges() -> Vec<Check> {
    let bridge = async |s: &mut Stage| {
        s.begin().await?;
        let request =
            json!([[7, "_vue:projectInfo", { "file": "a.vue", "needFileNameList": false }]]);
        s.say("tsserver/request", &request)?;
        let seen: Value = s.sees("tsserver/request").await?.params_as().unwrap_or_default();
        same("the bridge's request", &seen, &request)?;
        let response = json!([[7, { "configFileName": "tsconfig.json" }]]);
        s.notify("tsserver/response", &response)?;
        let heard: Value = s.hears("tsserver/response").await?.params_as().unwrap_or_default();
        same("the bridge's response", &heard, &response)
    };
    let vue = async |s: &mut Stage| {
        s.begin().await?;
        let id = s.ask("_vue:quickinfo", &json!(["a.vue", 12]))?;
        let asked = s.hears("_vue:quickinfo").await?;
        let params: Value = asked.params_as().unwrap_or_default();
        same("the parameters", &params, &json!(["a.vue", 12]))?;
        s.answer(SERVER, &asked, &json!("info"))?;
        s.response(EDITOR, &id).await?;
        Ok(())
    };
    vec![
        check(46, Pipe, "`tsserver/request` and `tsserver/response` pass", bridge),
        check(46, Pipe, "`_vue:` requests pass", vue),
    ]
}

/// Spellings of the same few files.
const URIS: [&str; 7] = [
    "file:///c%3A/Users/a%20b/x.py",
    "file:///C:/Users/a b/x.py",
    "file:///home/u/%C3%A9.py",
    "file:///home/u/e\u{301}.py",
    "file:///home//u/../u/x.py",
    "untitled:Untitled-1",
    "vscode-notebook-cell:/home/u/n.ipynb#W0sZmlsZQ%3D%3D",
];

fn uris() -> Vec<Check> {
    let spelling = async |s: &mut Stage| {
        s.begin().await?;
        for uri in URIS {
            s.open_document(uri, "x = 1\n")?;
            let opened: Value =
                s.hears("textDocument/didOpen").await?.params_as().unwrap_or_default();
            same("an opened URI", &opened["textDocument"]["uri"], &json!(uri))?;
            let shown = json!({ "uri": uri, "version": 1, "diagnostics": [] });
            s.say("textDocument/publishDiagnostics", &shown)?;
            let seen: Value =
                s.sees("textDocument/publishDiagnostics").await?.params_as().unwrap_or_default();
            same("a published URI", &seen["uri"], &json!(uri))?;
        }
        Ok(())
    };
    let other = async |s: &mut Stage| {
        s.begin().await?;
        let at = json!({ "line": 0, "character": 0 });
        for uri in URIS {
            let id = s.ask("textDocument/definition", &s.place(0))?;
            let asked = s.hears("textDocument/definition").await?;
            let found = json!([{ "uri": uri, "range": { "start": at, "end": at } }]);
            s.answer(SERVER, &asked, &found)?;
            let answer = s.response(EDITOR, &id).await?;
            same("a location", &crate::bench::conformance::talk::result(&answer)?, &found)?;
        }
        Ok(())
    };
    vec![
        check(47, Pipe, "documents keep the spelling of their URIs both ways", spelling),
        check(47, Pipe, "locations keep the server's spelling", other),
    ]
}
