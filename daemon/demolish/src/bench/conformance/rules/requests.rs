//! 4.17 cancelling, 4.18 peers that never answer, 4.49 latency, 4.50 one message in, one message out.

use std::time::{Duration, Instant};

use serde_json::{Value, json};
use wire::{Envelope, Id, codes};

use crate::bench::conformance::stage::{At, EDITOR, SERVER, Stage, Verdict};
use crate::bench::conformance::suite::{
    Check,
    Duty::{Pipe, Proxy},
    check,
};
use crate::bench::conformance::talk::{SETTLE, ensure, is_response, refusal, result, same};

/// How long the longest deadline may be that a proxy sets an editor.
const EDITOR_PATIENCE: Duration = Duration::from_secs(40);
/// How long a round trip may take at the median; that is about being held back, not about speed.
const ROUND_TRIP_MS_MAX: f64 = 20.0;
/// How long a round trip with a megabyte may take at the median.
const MEGABYTE_MS_MAX: f64 = 1000.0;

pub(super) fn checks() -> Vec<Check> {
    let mut all = Vec::new();
    for raw in ["77", "\"a string\"", "4294967299"] {
        let says = format!("a cancel reaches the right request (id {raw})");
        all.push(check(17, Pipe, says, async move |s: &mut Stage| right_request(s, raw).await));
    }
    for raw in ["7", "\"s1\"", "9007199254740993"] {
        let says = format!("a cancel of the server reaches the right question (id {raw})");
        all.push(check(17, Pipe, says, async move |s: &mut Stage| right_question(s, raw).await));
    }
    all.push(check(17, Pipe, "request and cancel in one write get one answer", at_once));
    all.push(check(
        17,
        Pipe,
        "an answer that comes in spite of the cancel is the only one",
        in_spite,
    ));
    all.push(check(17, Proxy, "a server that ignores a cancel keeps nobody waiting", ignored));
    all.push(check(17, Pipe, "a cancel of nothing harms nothing", of_nothing));
    all.push(check(18, Pipe, "an editor that does not answer holds up nothing else", unanswered));
    all.push(
        check(18, Proxy, "an editor that never answers is answered for", never_answers).within(60),
    );
    all.push(check(49, Pipe, "small messages are not held back", small));
    all.push(check(49, Pipe, "a megabyte is not held back", megabyte).within(40));
    all.push(check(50, Pipe, "what the editor says arrives, and nothing else", nothing_added));
    all.push(check(50, Pipe, "what the server says arrives, and nothing else", nothing_shown));
    all
}

fn cancel(id: &str) -> Vec<u8> {
    format!(r#"{{"jsonrpc":"2.0","method":"$/cancelRequest","params":{{"id":{id}}}}}"#).into_bytes()
}

/// The id that a cancel names, as JSON text.
fn cancelled(envelope: &Envelope) -> Verdict<String> {
    let params: std::collections::BTreeMap<String, Box<serde_json::value::RawValue>> =
        envelope.params_as().unwrap_or_default();
    Ok(params.get("id").ok_or("a cancel without id")?.get().to_owned())
}

async fn right_request(s: &mut Stage, raw: &str) -> Verdict {
    s.begin().await?;
    let id = Id::from_raw(raw.as_bytes()).ok_or("that is no id")?;
    let other = s.ask("textDocument/definition", &s.place(1))?;
    let before = s.hears("textDocument/definition").await?;
    s.send(EDITOR, &Envelope::request(id.clone(), "textDocument/definition", &s.place(2)))?;
    let asked = s.hears("textDocument/definition").await?;
    s.send_body(EDITOR, &cancel(raw))?;
    let heard = s.hears("$/cancelRequest").await?;
    let named = cancelled(&heard)?;
    let right = asked.id().map(|id| id.raw().to_owned()).unwrap_or_default();
    ensure(
        named == right,
        format!("the server knows the request as {right}, and was told to cancel {named}"),
    )?;
    s.refuse(SERVER, &asked, codes::REQUEST_CANCELLED, "as you wish")?;
    let answer = s.response(EDITOR, &id).await?;
    ensure(refusal(&answer)? == codes::REQUEST_CANCELLED, "the answer arrived changed")?;
    s.only_one_answer(EDITOR, &id).await?;
    s.answer(SERVER, &before, &json!([]))?;
    s.response(EDITOR, &other).await?;
    Ok(())
}

async fn right_question(s: &mut Stage, raw: &str) -> Verdict {
    s.auto.editor = false;
    s.begin().await?;
    let buttons = json!({ "type": 3, "message": "m", "actions": [{ "title": "A" }] });
    let id = s.question(raw, "window/showMessageRequest", &buttons)?;
    let seen = s.sees("window/showMessageRequest").await?;
    s.send_body(SERVER, &cancel(raw))?;
    let told = s.sees("$/cancelRequest").await?;
    let (named, right) =
        (cancelled(&told)?, seen.id().map(|id| id.raw().to_owned()).unwrap_or_default());
    ensure(
        named == right,
        format!("the editor knows the question as {right}, and was told to cancel {named}"),
    )?;
    s.refuse(EDITOR, &seen, codes::REQUEST_CANCELLED, "fine")?;
    let answer = s.response(SERVER, &id).await?;
    ensure(refusal(&answer)? == codes::REQUEST_CANCELLED, "the answer arrived changed")?;
    s.only_one_answer(SERVER, &id).await
}

async fn at_once(s: &mut Stage) -> Verdict {
    s.begin().await?;
    let id = s.id(EDITOR);
    let request = Envelope::request(id.clone(), "textDocument/definition", &s.place(0));
    let both =
        [wire::frame::encode(&request.body), wire::frame::encode(&cancel(id.raw()))].concat();
    s.write(EDITOR, &both)?;
    // The request may have been taken back before it was written; then the server hears nothing of it.
    let end = Instant::now() + s.patience;
    while Instant::now() < end {
        if let Some(asked) = s.find_now(SERVER, |e| e.method() == Some("textDocument/definition")) {
            s.refuse(SERVER, &asked, codes::REQUEST_CANCELLED, "as you wish")?;
        }
        if s.port(EDITOR).is_some_and(|port| port.heard.iter().any(|e| is_response(e, &id))) {
            break;
        }
        s.idle(Duration::from_millis(10)).await;
    }
    let answer = s.response(EDITOR, &id).await?;
    ensure(refusal(&answer)? == codes::REQUEST_CANCELLED, "it was not answered as cancelled")?;
    s.only_one_answer(EDITOR, &id).await
}

async fn in_spite(s: &mut Stage) -> Verdict {
    s.begin().await?;
    let id = s.ask("textDocument/definition", &s.place(0))?;
    let asked = s.hears("textDocument/definition").await?;
    s.send_body(EDITOR, &cancel(id.raw()))?;
    s.hears("$/cancelRequest").await?;
    s.idle(Duration::from_millis(150)).await;
    s.answer(SERVER, &asked, &json!([]))?;
    s.response(EDITOR, &id).await?;
    s.only_one_answer(EDITOR, &id).await
}

async fn ignored(s: &mut Stage) -> Verdict {
    s.begin().await?;
    let id = s.ask("textDocument/definition", &s.place(0))?;
    let asked = s.hears("textDocument/definition").await?;
    s.send_body(EDITOR, &cancel(id.raw()))?;
    s.hears("$/cancelRequest").await?;
    s.patience = Duration::from_secs(3);
    let answer = s.response(EDITOR, &id).await?;
    ensure(refusal(&answer)? == codes::REQUEST_CANCELLED, "it was not answered as cancelled")?;
    s.answer(SERVER, &asked, &json!([]))?;
    s.only_one_answer(EDITOR, &id).await?;
    s.fence().await
}

async fn of_nothing(s: &mut Stage) -> Verdict {
    s.begin().await?;
    s.send_body(EDITOR, &cancel("999"))?;
    s.send_body(EDITOR, &cancel("\"never\""))?;
    s.fence().await
}

async fn unanswered(s: &mut Stage) -> Verdict {
    s.auto.editor = false;
    s.begin().await?;
    let buttons = json!({ "type": 3, "message": "m", "actions": [{ "title": "A" }] });
    s.question("1", "window/showMessageRequest", &buttons)?;
    s.sees("window/showMessageRequest").await?;
    for _ in 0..10 {
        s.fence().await?;
    }
    s.say("window/showMessage", &json!({ "type": 3, "message": "after" }))?;
    s.sees("window/showMessage").await?;
    Ok(())
}

async fn never_answers(s: &mut Stage) -> Verdict {
    s.auto.editor = false;
    s.begin().await?;
    let questions = [
        (
            "1",
            "workspace/configuration",
            json!({ "items": [{}, {}, {}] }),
            json!([null, null, null]),
        ),
        (
            "2",
            "workspace/applyEdit",
            json!({ "edit": { "changes": {} } }),
            json!({ "applied": false }),
        ),
        ("3", "window/workDoneProgress/create", json!({ "token": "t" }), Value::Null),
        ("4", "client/registerCapability", json!({ "registrations": [] }), Value::Null),
    ];
    for (id, method, params, _) in &questions {
        s.question(id, method, params)?;
    }
    s.patience = s.patience.max(EDITOR_PATIENCE);
    for (id, method, _, fallback) in &questions {
        let id = Id::from_raw(id.as_bytes()).ok_or("that is no id")?;
        let answer = s.response(SERVER, &id).await?;
        // An error is an answer too.
        if answer.outcome().is_ok() {
            let got = result(&answer)?;
            let shape =
                if fallback.is_object() { json!({ "applied": got["applied"] }) } else { got };
            same(&format!("the answer to `{method}`"), &shape, fallback)?;
        }
    }
    Ok(())
}

async fn median_ms(s: &mut Stage, text: &str, rounds: usize) -> Verdict<f64> {
    let mut took = Vec::new();
    for _ in 0..rounds {
        let begun = Instant::now();
        let id = s.ask("textDocument/hover", &s.place(0))?;
        let asked = s.hears("textDocument/hover").await?;
        s.answer(SERVER, &asked, &json!({ "contents": text }))?;
        s.response(EDITOR, &id).await?;
        took.push(begun.elapsed().as_secs_f64() * 1e3);
    }
    took.sort_by(f64::total_cmp);
    Ok(took[took.len() / 2])
}

async fn small(s: &mut Stage) -> Verdict {
    s.begin().await?;
    s.fence().await?;
    let median = median_ms(s, &"x".repeat(400), 100).await?;
    ensure(median <= ROUND_TRIP_MS_MAX, format!("a round trip takes {median:.1} ms at the median"))
}

async fn megabyte(s: &mut Stage) -> Verdict {
    s.begin().await?;
    s.fence().await?;
    let median = median_ms(s, &"x".repeat(1 << 20), 10).await?;
    ensure(
        median <= MEGABYTE_MS_MAX,
        format!("a round trip with a megabyte takes {median:.0} ms at the median"),
    )
}

/// The methods that one end heard.
fn heard(s: &Stage, at: At) -> Vec<String> {
    let port = s.port(at).map(|port| &port.heard).into_iter().flatten();
    port.map(|envelope| envelope.method().unwrap_or("an answer").to_owned()).collect()
}

async fn nothing_added(s: &mut Stage) -> Verdict {
    s.begin().await?;
    s.fence().await?;
    s.change_document(&s.uri("main.py"), 2, "x = 2\n")?;
    s.idle(SETTLE * 3).await;
    let got = heard(s, SERVER);
    let said = [
        "initialize",
        "initialized",
        "textDocument/didOpen",
        "textDocument/hover",
        "textDocument/didChange",
    ];
    ensure(got == said, format!("the server heard {got:?}"))
}

async fn nothing_shown(s: &mut Stage) -> Verdict {
    s.begin().await?;
    s.fence().await?;
    s.say("window/showMessage", &json!({ "type": 3, "message": "m" }))?;
    s.idle(SETTLE * 3).await;
    let got = heard(s, EDITOR);
    ensure(
        got == ["an answer", "an answer", "window/showMessage"],
        format!("the editor saw {got:?}"),
    )
}
