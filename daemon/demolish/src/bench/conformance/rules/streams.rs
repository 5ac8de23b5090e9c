//! 4.22 progress, 4.23 partial results, 4.24 semantic tokens.

use serde_json::{Value, json};
use wire::Id;

use crate::bench::conformance::stage::{EDITOR, SERVER, Stage, Verdict};
use crate::bench::conformance::suite::{Check, Duty::Pipe, check};
use crate::bench::conformance::talk::{ensure, result, same};

pub(super) fn checks() -> Vec<Check> {
    let mut all = Vec::new();
    for token in [json!("indexing/1"), json!(7)] {
        let says = format!("progress of the server, from `create` to `end` (token {token})");
        all.push(check(22, Pipe, says, async move |s: &mut Stage| work(s, &token).await));
    }
    all.push(check(22, Pipe, "a cancelled progress reaches the server under its token", cancelled));
    all.push(check(22, Pipe, "progress on a request comes before its answer", on_request));
    all.push(check(22, Pipe, "a server whose `create` is refused is told", refused));
    all.push(check(23, Pipe, "partial results pass, before the empty answer", partial));
    all.push(check(24, Pipe, "tokens, their `resultId` and a delta pass", tokens));
    all
}

fn stage(token: &Value, value: &Value) -> Value {
    json!({ "token": token, "value": value })
}

async fn create(s: &mut Stage, token: &Value) -> Verdict<Value> {
    s.question("\"c\"", "window/workDoneProgress/create", &json!({ "token": token }))?;
    let seen = s.sees("window/workDoneProgress/create").await?;
    s.answer(EDITOR, &seen, &Value::Null)?;
    let answer = s.response(SERVER, &Id::string("c")).await?;
    same("the answer", &result(&answer)?, &Value::Null)?;
    Ok(seen.params_as::<Value>().unwrap_or_default()["token"].clone())
}

async fn work(s: &mut Stage, token: &Value) -> Verdict {
    s.auto.editor = false;
    s.begin().await?;
    let known = create(s, token).await?;
    let values = [
        json!({ "kind": "begin", "title": "indexing", "cancellable": true }),
        json!({ "kind": "report", "percentage": 50, "message": "half" }),
        json!({ "kind": "end", "message": "done" }),
    ];
    for value in &values {
        s.say("$/progress", &stage(token, value))?;
        let seen: Value = s.sees("$/progress").await?.params_as().unwrap_or_default();
        same("the token", &seen["token"], &known)?;
        same("the stage", &seen["value"], value)?;
    }
    Ok(())
}

async fn cancelled(s: &mut Stage) -> Verdict {
    s.auto.editor = false;
    s.begin().await?;
    let token = json!("work");
    let known = create(s, &token).await?;
    s.say(
        "$/progress",
        &stage(&token, &json!({ "kind": "begin", "title": "t", "cancellable": true })),
    )?;
    s.sees("$/progress").await?;
    s.notify("window/workDoneProgress/cancel", &json!({ "token": known }))?;
    let heard: Value =
        s.hears("window/workDoneProgress/cancel").await?.params_as().unwrap_or_default();
    same("the token", &heard["token"], &token)
}

async fn refused(s: &mut Stage) -> Verdict {
    s.auto.editor = false;
    s.begin().await?;
    s.question("\"c\"", "window/workDoneProgress/create", &json!({ "token": "x" }))?;
    let seen = s.sees("window/workDoneProgress/create").await?;
    s.refuse(EDITOR, &seen, -32601, "not here")?;
    let answer = s.response(SERVER, &Id::string("c")).await?;
    ensure(answer.outcome().is_err(), "the refusal became a result")
}

/// A request with a token; what the server says under it comes before the answer.
async fn under_token(
    s: &mut Stage,
    member: &str,
    method: &str,
    values: &[Value],
) -> Verdict<Value> {
    s.begin().await?;
    let mut params = s.place(0);
    params[member] = json!("mine-1");
    params["context"] = json!({ "includeDeclaration": true });
    let id = s.ask(method, &params)?;
    let asked = s.hears(method).await?;
    let token = asked.params_as::<Value>().unwrap_or_default()[member].clone();
    ensure(!token.is_null(), format!("`{member}` did not reach the server"))?;
    for value in values {
        s.say("$/progress", &stage(&token, value))?;
    }
    s.answer(SERVER, &asked, &json!([]))?;
    let answer = s.response(EDITOR, &id).await?;
    for value in values {
        let seen = s.find_now(EDITOR, |envelope| envelope.method() == Some("$/progress"));
        let Some(seen) = seen else { return Err("the answer came first".into()) };
        let seen: Value = seen.params_as().unwrap_or_default();
        same("the token", &seen["token"], &json!("mine-1"))?;
        same("what was said", &seen["value"], value)?;
    }
    result(&answer)
}

async fn on_request(s: &mut Stage) -> Verdict {
    let values = [json!({ "kind": "begin", "title": "t" }), json!({ "kind": "end" })];
    under_token(s, "workDoneToken", "textDocument/references", &values).await.map(drop)
}

async fn partial(s: &mut Stage) -> Verdict {
    let at = json!({ "line": 0, "character": 0 });
    let values: Vec<Value> = (0..3)
        .map(|n| json!([{ "uri": format!("file:///{n}.py"), "range": { "start": at, "end": at } }]))
        .collect();
    let answer = under_token(s, "partialResultToken", "textDocument/references", &values).await?;
    same("the answer", &answer, &json!([]))
}

async fn tokens(s: &mut Stage) -> Verdict {
    s.begin().await?;
    let document = json!({ "uri": s.uri("main.py") });
    let full = json!({ "resultId": "t1", "data": [0, 0, 3, 1, 0, 1, 2, 4, 0, 1] });
    let delta =
        json!({ "resultId": "t2", "edits": [{ "start": 5, "deleteCount": 1, "data": [2] }] });
    let rounds = [
        ("textDocument/semanticTokens/full", json!({ "textDocument": document }), full),
        (
            "textDocument/semanticTokens/full/delta",
            json!({ "textDocument": document, "previousResultId": "t1" }),
            delta,
        ),
    ];
    for (method, params, tokens) in rounds {
        let id = s.ask(method, &params)?;
        let asked = s.hears(method).await?;
        same("the question", &asked.params_as().unwrap_or_default(), &params)?;
        s.answer(SERVER, &asked, &tokens)?;
        let answer = s.response(EDITOR, &id).await?;
        same("the tokens", &result(&answer)?, &tokens)?;
    }
    Ok(())
}
