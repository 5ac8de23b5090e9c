//! 4.19 to 4.21: diagnostics, pushed and pulled, behind one server.

use serde_json::{Value, json};

use crate::bench::conformance::stage::{EDITOR, SERVER, Stage};
use crate::bench::conformance::suite::{Check, Duty::Pipe, check};
use crate::bench::conformance::talk::{SETTLE, ensure, result, same};

/// A diagnostic with everything that one may have.
fn full(uri: &str) -> Value {
    let range =
        json!({ "start": { "line": 0, "character": 0 }, "end": { "line": 0, "character": 1 } });
    json!({
        "range": range, "severity": 2, "code": "E-1", "codeDescription": { "href": "https://example.com/E-1" },
        "source": "test", "message": "é😀", "tags": [1],
        "relatedInformation": [{ "location": { "uri": uri, "range": range }, "message": "here" }],
        "data": { "fix": [1.5, null] },
    })
}

pub(super) fn checks() -> Vec<Check> {
    let raw = async |s: &mut Stage| {
        s.begin().await?;
        let uri = s.uri("main.py");
        let sent = json!({ "uri": uri, "version": 1, "diagnostics": [full(&uri), full(&uri)] });
        s.say("textDocument/publishDiagnostics", &sent)?;
        let seen: Value =
            s.sees("textDocument/publishDiagnostics").await?.params_as().unwrap_or_default();
        same("the list", &seen, &sent)
    };
    let latest = async |s: &mut Stage| {
        s.begin().await?;
        let uri = s.uri("main.py");
        for number in 0..50 {
            let mut one = full(&uri);
            one["message"] = json!(number.to_string());
            s.say("textDocument/publishDiagnostics", &json!({ "uri": uri, "diagnostics": [one] }))?;
        }
        s.fence().await?;
        // Lists in between may be left out, the last may not.
        let mut last = Value::Null;
        while let Some(seen) =
            s.find_now(EDITOR, |e| e.method() == Some("textDocument/publishDiagnostics"))
        {
            last = seen.params_as().unwrap_or_default();
        }
        same("the last list", &last["diagnostics"][0]["message"], &json!("49"))
    };
    let versions = async |s: &mut Stage| {
        s.begin().await?;
        let uri = s.uri("main.py");
        s.change_document(&uri, 3, "x = 3\n")?;
        s.hears("textDocument/didChange").await?;
        for (number, version) in [Some(3), None].into_iter().enumerate() {
            let mut sent = json!({ "uri": uri, "diagnostics": [full(&uri)] });
            sent["diagnostics"][0]["code"] = json!(number);
            if let Some(version) = version {
                sent["version"] = json!(version);
            }
            s.say("textDocument/publishDiagnostics", &sent)?;
            let seen: Value =
                s.sees("textDocument/publishDiagnostics").await?.params_as().unwrap_or_default();
            // Where the server says none, a proxy may say which text it takes the list to be about.
            if version.is_some() || seen.get("version").is_some_and(|version| version != 3) {
                same("the version", &seen["version"], &sent["version"])?;
            }
        }
        Ok(())
    };
    vec![
        check(19, Pipe, "what one server publishes reaches the editor as it is", raw),
        check(19, Pipe, "the last list of a document is the one that stays", latest),
        check(
            20,
            Pipe,
            "a version is passed on, and a missing one does not become another's",
            versions,
        ),
        check(21, Pipe, "a pulled report and its `resultId` pass", pulled),
        check(21, Pipe, "a server that asks for another pull is heard and answered", refresh),
        check(21, Pipe, "a list that is only pulled is not pushed too", not_pushed),
    ]
}

async fn pull(
    s: &mut Stage,
    params: &Value,
    report: &Value,
) -> crate::bench::conformance::stage::Verdict {
    let id = s.ask("textDocument/diagnostic", params)?;
    let asked = s.hears("textDocument/diagnostic").await?;
    same("the question", &asked.params_as().unwrap_or_default(), params)?;
    s.answer(SERVER, &asked, report)?;
    let answer = s.response(EDITOR, &id).await?;
    same("the report", &result(&answer)?, report)
}

async fn pulled(s: &mut Stage) -> crate::bench::conformance::stage::Verdict {
    s.capabilities["diagnosticProvider"] = json!({ "identifier": "test", "interFileDependencies": true, "workspaceDiagnostics": false });
    s.begin().await?;
    let uri = s.uri("main.py");
    let params = json!({ "textDocument": { "uri": uri }, "identifier": "test" });
    pull(s, &params, &json!({ "kind": "full", "resultId": "r:1", "items": [full(&uri)] })).await?;
    let params =
        json!({ "textDocument": { "uri": uri }, "identifier": "test", "previousResultId": "r:1" });
    pull(s, &params, &json!({ "kind": "unchanged", "resultId": "r:1" })).await
}

async fn refresh(s: &mut Stage) -> crate::bench::conformance::stage::Verdict {
    s.begin().await?;
    let id = s.question("\"again\"", "workspace/diagnostic/refresh", &Value::Null)?;
    let answer = s.response(SERVER, &id).await?;
    same("the answer", &result(&answer)?, &Value::Null)?;
    s.idle(SETTLE).await;
    let count = s.port(EDITOR).map_or(0, |port| port.count("workspace/diagnostic/refresh"));
    ensure(count == 1, format!("the editor was asked {count} times"))
}

async fn not_pushed(s: &mut Stage) -> crate::bench::conformance::stage::Verdict {
    s.capabilities["diagnosticProvider"] =
        json!({ "interFileDependencies": false, "workspaceDiagnostics": false });
    s.begin().await?;
    let uri = s.uri("main.py");
    let params = json!({ "textDocument": { "uri": uri } });
    pull(s, &params, &json!({ "kind": "full", "items": [full(&uri)] })).await?;
    let pushed =
        |envelope: &wire::Envelope| envelope.method() == Some("textDocument/publishDiagnostics");
    s.absent(EDITOR, "the same list once more, pushed,", SETTLE, pushed).await
}
