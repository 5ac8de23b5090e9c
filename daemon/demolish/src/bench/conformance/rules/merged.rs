//! Several servers behind one connection: what can be seen of 4.10 to 4.12, 4.14, 4.19, 4.22, 4.26, 4.33 and 4.36 to 4.45
//! from outside, with two servers. Which of them is asked where only one can be is the proxy's choice.

use std::collections::BTreeMap;
use std::time::Duration;

use serde_json::{Value, json};
use wire::{Envelope, Id};

use crate::bench::conformance::MAIN;
use crate::bench::conformance::stage::{At, EDITOR, SERVER, Stage, Verdict, kill};
use crate::bench::conformance::suite::{Check, Duty::Merge, check};
use crate::bench::conformance::talk::{SETTLE, ensure, result, same, told_at};

/// The second server.
const SERVER2: At = At::Server("2");
const BOTH: [At; 2] = [SERVER, SERVER2];

pub(super) fn checks() -> Vec<Check> {
    vec![
        check(10, Merge, "both servers are greeted, and the editor gets one answer", greeted),
        check(10, Merge, "a server that refuses to start does not cost the other", one_refuses),
        check(11, Merge, "what either server can do is promised", capabilities),
        check(12, Merge, "registrations of two servers under one id do not collide", registrations),
        check(13, Merge, "both servers get `shutdown` and `exit`, and are gone", ending),
        check(14, Merge, "the death of one server does not cost the other", one_dies),
        check(17, Merge, "a cancelled request has exactly one answer", cancelled),
        check(19, Merge, "lists of two servers for one document are shown together", pushed),
        check(22, Merge, "tokens of two servers do not collide", progress),
        check(25, Merge, "both servers have the editor's text", documents),
        check(33, Merge, "each server gets the settings that it asked for", settings),
        check(35, Merge, "edits of both servers are answered under their own ids", edits),
        check(36, Merge, "a command goes to the server that offers it", commands),
        check(37, Merge, "an item is resolved by the server that made it", resolved),
        check(38, Merge, "items of both servers are offered", completion),
        check(39, Merge, "one server formats", formatting),
        check(40, Merge, "one server renames", renaming),
        check(41, Merge, "hovers of both servers are shown", hover),
        check(44, Merge, "the answer to a message with buttons returns to its server", buttons),
        check(45, Merge, "refreshes of both servers are answered", refresh),
    ]
}

/// `initialize` with both servers, and one open document at both.
async fn begin(s: &mut Stage) -> Verdict {
    s.begin_at(EDITOR).await?;
    s.open_document(&s.uri("main.py"), MAIN)?;
    for server in BOTH {
        s.hears_at(server, "textDocument/didOpen").await?;
    }
    Ok(())
}

/// The servers' words for themselves, so that answers can be told apart.
fn name(server: At) -> &'static str {
    if server == SERVER { "first" } else { "second" }
}

/// Answers the next question of this kind at both servers, as far as they are asked; which were.
async fn answer_both(
    s: &mut Stage,
    method: &str,
    answer: impl Fn(At) -> Value,
) -> Verdict<Vec<At>> {
    let mut asked = Vec::new();
    // A proxy may ask one after the other.
    for _ in 0..60 {
        for server in BOTH {
            let wanted = |envelope: &Envelope| envelope.method() == Some(method);
            if let Some(request) = s.find_now(server, wanted) {
                s.answer(server, &request, &answer(server))?;
                asked.push(server);
            }
        }
        if asked.len() == 2 {
            break;
        }
        s.idle(Duration::from_millis(20)).await;
    }
    ensure(!asked.is_empty(), format!("no server was asked for `{method}`"))?;
    Ok(asked)
}

async fn greeted(s: &mut Stage) -> Verdict {
    begin(s).await?;
    for server in BOTH {
        let count = |method| s.port(server).map_or(0, |port| port.count(method));
        let counts = (count("initialize"), count("initialized"));
        ensure(counts == (1, 1), format!("{server} was greeted {counts:?} times"))?;
    }
    Ok(())
}

async fn one_refuses(s: &mut Stage) -> Verdict {
    s.auto.initialize = false;
    let id = s.ask("initialize", &s.initialize_params())?;
    let first = s.hears_at(SERVER, "initialize").await?;
    s.answer(SERVER, &first, &json!({ "capabilities": s.capabilities }))?;
    let second = s.hears_at(SERVER2, "initialize").await?;
    s.refuse(SERVER2, &second, -32603, "no licence")?;
    s.patience = s.patience.max(Duration::from_secs(18));
    result(&s.response(EDITOR, &id).await?)?;
    s.notify("initialized", &json!({}))?;
    s.open_document(&s.uri("main.py"), MAIN)?;
    s.fence().await
}

async fn capabilities(s: &mut Stage) -> Verdict {
    s.auto.initialize = false;
    let id = s.ask("initialize", &s.initialize_params())?;
    let able = [
        json!({ "hoverProvider": true, "completionProvider": { "triggerCharacters": ["."] } }),
        json!({ "renameProvider": true, "completionProvider": { "triggerCharacters": [":"] } }),
    ];
    for (server, able) in BOTH.into_iter().zip(able) {
        let asked = s.hears_at(server, "initialize").await?;
        s.answer(server, &asked, &json!({ "capabilities": able }))?;
    }
    let answer = result(&s.response(EDITOR, &id).await?)?;
    let able = &answer["capabilities"];
    for member in ["hoverProvider", "renameProvider", "completionProvider"] {
        let there = !able[member].is_null() && able[member] != false;
        ensure(there, format!("`{member}` is not promised"))?;
    }
    let characters = able["completionProvider"]["triggerCharacters"].to_string();
    let both = characters.contains('.') && characters.contains(':');
    ensure(both, format!("completion is triggered by {characters}"))?;
    ensure(able["foldingRangeProvider"].is_null(), "something is promised that no server can do")
}

/// What is registered with the editor now: ids, and what they are registered with.
fn registered(s: &Stage) -> Verdict<BTreeMap<String, String>> {
    let mut now = BTreeMap::new();
    for envelope in &s.port(EDITOR).ok_or("gone")?.heard {
        let params: Value = envelope.params_as().unwrap_or_default();
        let list = |name: &str| params[name].as_array().cloned().unwrap_or_default();
        match envelope.method() {
            Some("client/registerCapability") => {
                for one in list("registrations") {
                    let before =
                        now.insert(one["id"].to_string(), one["registerOptions"].to_string());
                    ensure(before.is_none(), format!("{} was registered twice", one["id"]))?;
                }
            }
            Some("client/unregisterCapability") => {
                for one in list("unregisterations") {
                    now.remove(&one["id"].to_string());
                }
            }
            _ => {}
        }
    }
    Ok(now)
}

async fn registrations(s: &mut Stage) -> Verdict {
    begin(s).await?;
    for server in BOTH {
        let options = json!({ "watchers": [{ "globPattern": format!("**/*.{}", name(server)) }] });
        let registration = json!({
            "id": "same", "method": "workspace/didChangeWatchedFiles", "registerOptions": options });
        let params = json!({ "registrations": [registration] });
        s.send(server, &Envelope::request(Id::number(1), "client/registerCapability", &params))?;
        s.response(server, &Id::number(1)).await?;
    }
    s.idle(SETTLE * 2).await;
    // One for each, or one for both.
    let all = registered(s)?.into_values().collect::<String>();
    ensure(all.contains("*.first") && all.contains("*.second"), format!("registered is {all}"))?;
    let gone = json!({ "unregisterations": [{ "id": "same", "method": "workspace/didChangeWatchedFiles" }] });
    s.send(SERVER2, &Envelope::request(Id::number(2), "client/unregisterCapability", &gone))?;
    s.response(SERVER2, &Id::number(2)).await?;
    s.idle(SETTLE * 2).await;
    let all = registered(s)?.into_values().collect::<String>();
    ensure(all.contains("*.first") && !all.contains("*.second"), format!("left is {all}"))
}

async fn ending(s: &mut Stage) -> Verdict {
    begin(s).await?;
    let id = s.ask("shutdown", &Value::Null)?;
    result(&s.response(EDITOR, &id).await?)?;
    s.notify("exit", &Value::Null)?;
    s.idle(SETTLE).await;
    s.editor_leaves();
    s.ended(0, Duration::from_secs(6)).await?;
    for server in BOTH {
        let count = s.port(server).map_or(0, |port| port.count("shutdown"));
        ensure(count == 1, format!("{server} got `shutdown` {count} times"))?;
    }
    Ok(())
}

async fn one_dies(s: &mut Stage) -> Verdict {
    begin(s).await?;
    let id = s.ask("textDocument/definition", &s.place(0))?;
    let both = answer_some(s, "textDocument/definition").await?;
    s.server_pid("2").into_iter().for_each(kill);
    s.idle(SETTLE).await;
    if let Some(asked) = both {
        s.answer(SERVER, &asked, &json!([]))?;
    }
    s.response(EDITOR, &id).await?;
    s.only_one_answer(EDITOR, &id).await?;
    let id = s.ask("textDocument/hover", &s.place(0))?;
    answer_both(s, "textDocument/hover", |_| json!({ "contents": "alive" })).await?;
    let answer = result(&s.response(EDITOR, &id).await?)?;
    ensure(answer.to_string().contains("alive"), "the living server is not heard any more")
}

/// The first server's question of this kind, if it is asked.
async fn answer_some(s: &mut Stage, method: &str) -> Verdict<Option<Envelope>> {
    s.idle(SETTLE * 2).await;
    Ok(s.find_now(SERVER, |envelope| envelope.method() == Some(method)))
}

async fn cancelled(s: &mut Stage) -> Verdict {
    begin(s).await?;
    let id = s.ask("textDocument/hover", &s.place(0))?;
    s.idle(SETTLE).await;
    let cancel =
        format!(r#"{{"jsonrpc":"2.0","method":"$/cancelRequest","params":{{"id":{id}}}}}"#);
    s.send_body(EDITOR, cancel.as_bytes())?;
    for _ in 0..40 {
        for server in BOTH {
            if let Some(asked) = s.find_now(server, |e| e.method() == Some("textDocument/hover")) {
                s.idle(Duration::from_millis(20)).await;
                s.refuse(server, &asked, wire::codes::REQUEST_CANCELLED, "as you wish")?;
            }
        }
        s.idle(Duration::from_millis(10)).await;
    }
    s.response(EDITOR, &id).await?;
    s.only_one_answer(EDITOR, &id).await
}

async fn pushed(s: &mut Stage) -> Verdict {
    begin(s).await?;
    let at = json!({ "line": 0, "character": 0 });
    let uri = s.uri("main.py");
    for server in BOTH {
        let one = json!({ "range": { "start": at, "end": at }, "message": name(server), "source": name(server) });
        let params = json!({ "uri": uri, "version": 1, "diagnostics": [one] });
        s.send(server, &Envelope::notification("textDocument/publishDiagnostics", &params))?;
        s.idle(SETTLE).await;
    }
    s.idle(SETTLE * 4).await;
    let last = last_list(s)?;
    ensure(last.contains("first") && last.contains("second"), format!("the last list is {last}"))?;
    let none = json!({ "uri": uri, "version": 1, "diagnostics": [] });
    s.send(SERVER, &Envelope::notification("textDocument/publishDiagnostics", &none))?;
    s.idle(SETTLE * 6).await;
    let last = last_list(s)?;
    ensure(!last.contains("first") && last.contains("second"), format!("the last list is {last}"))
}

fn last_list(s: &Stage) -> Verdict<String> {
    let port = s.port(EDITOR).ok_or("gone")?;
    let lists = port.heard.iter().filter(|e| e.method() == Some("textDocument/publishDiagnostics"));
    let last: Value = lists.last().ok_or("nothing was published")?.params_as().unwrap_or_default();
    Ok(last["diagnostics"].to_string())
}

async fn progress(s: &mut Stage) -> Verdict {
    begin(s).await?;
    let mut known: Vec<Value> = Vec::new();
    for server in BOTH {
        let token = json!({ "token": 1 });
        s.send(
            server,
            &Envelope::request(Id::number(1), "window/workDoneProgress/create", &token),
        )?;
        s.response(server, &Id::number(1)).await?;
        let value = json!({ "kind": "begin", "title": name(server), "cancellable": true });
        s.send(
            server,
            &Envelope::notification("$/progress", &json!({ "token": 1, "value": value })),
        )?;
        let seen: Value = s.sees("$/progress").await?.params_as().unwrap_or_default();
        same("the title", &seen["value"]["title"], &json!(name(server)))?;
        known.push(seen["token"].clone());
    }
    ensure(known[0] != known[1], format!("both work under the token {}", known[0]))?;
    for token in &known {
        // A proxy may wait with `create` until there is something to show.
        let heard = &s.port(EDITOR).ok_or("gone")?.heard;
        let of = |method: &str| {
            let wanted = |e: &&Envelope| e.method() == Some(method);
            let mut list = heard.iter().enumerate().filter(|(_, e)| wanted(e));
            let right =
                |e: &Envelope| e.params_as::<Value>().unwrap_or_default()["token"] == *token;
            list.find(|(_, e)| right(e)).map(|(at, _)| at)
        };
        let created = of("window/workDoneProgress/create");
        ensure(created.is_some(), format!("the token {token} was never created"))?;
        ensure(created < of("$/progress"), format!("{token} began before it was created"))?;
    }
    s.notify("window/workDoneProgress/cancel", &json!({ "token": known[1] }))?;
    let heard = s.hears_at(SERVER2, "window/workDoneProgress/cancel").await?;
    let heard: Value = heard.params_as().unwrap_or_default();
    same("the token", &heard["token"], &json!(1))
}

async fn documents(s: &mut Stage) -> Verdict {
    begin(s).await?;
    let uri = s.uri("main.py");
    let at = json!({ "line": 0, "character": 0 });
    for version in 2..10 {
        let change =
            json!([{ "range": { "start": at, "end": at }, "text": format!("{version}😀") }]);
        let params =
            json!({ "textDocument": { "uri": uri, "version": version }, "contentChanges": change });
        s.notify("textDocument/didChange", &params)?;
    }
    let expected: String = (2..10).rev().map(|version| format!("{version}😀")).collect();
    let expected = format!("{expected}{MAIN}");
    let id = s.ask("textDocument/hover", &s.place(0))?;
    answer_both(s, "textDocument/hover", |_| Value::Null).await?;
    s.response(EDITOR, &id).await?;
    s.idle(SETTLE).await;
    for server in BOTH {
        let (_, text) = told_at(s, server, &uri).ok_or("a server has no such document")?;
        same(&format!("the text at {server}"), &json!(text), &json!(expected))?;
    }
    Ok(())
}

async fn settings(s: &mut Stage) -> Verdict {
    s.auto.editor = false;
    begin(s).await?;
    for server in BOTH {
        let items = json!({ "items": [{ "section": name(server) }, { "section": "x" }] });
        s.send(server, &Envelope::request(Id::number(7), "workspace/configuration", &items))?;
    }
    for _ in BOTH {
        let seen = s.sees("workspace/configuration").await?;
        let asked: Value = seen.params_as().unwrap_or_default();
        let sections = asked["items"].as_array().cloned().unwrap_or_default();
        let answers: Vec<Value> = sections.iter().map(|item| item["section"].clone()).collect();
        s.answer(EDITOR, &seen, &json!(answers))?;
    }
    for server in BOTH {
        let answer = result(&s.response(server, &Id::number(7)).await?)?;
        same("the settings", &answer, &json!([name(server), "x"]))?;
    }
    Ok(())
}

async fn edits(s: &mut Stage) -> Verdict {
    s.auto.editor = false;
    begin(s).await?;
    for server in BOTH {
        let edit = json!({ "label": name(server), "edit": { "changes": {} } });
        s.send(server, &Envelope::request(Id::number(3), "workspace/applyEdit", &edit))?;
    }
    for _ in BOTH {
        let seen = s.sees("workspace/applyEdit").await?;
        let label = seen.params_as::<Value>().unwrap_or_default()["label"].to_string();
        s.answer(EDITOR, &seen, &json!({ "applied": label.contains("first") }))?;
    }
    for server in BOTH {
        let answer = result(&s.response(server, &Id::number(3)).await?)?;
        same("the answer", &answer["applied"], &json!(server == SERVER))?;
        s.only_one_answer(server, &Id::number(3)).await?;
    }
    Ok(())
}

/// The editor gets an item of the second server, and uses it.
async fn commands(s: &mut Stage) -> Verdict {
    begin(s).await?;
    let range =
        json!({ "start": { "line": 0, "character": 0 }, "end": { "line": 0, "character": 1 } });
    let params = json!({ "textDocument": { "uri": s.uri("main.py") }, "range": range, "context": { "diagnostics": [] } });
    let id = s.ask("textDocument/codeAction", &params)?;
    let asked = answer_both(s, "textDocument/codeAction", |server| {
        let command =
            json!({ "title": name(server), "command": "test.run", "arguments": [name(server)] });
        json!([{ "title": name(server), "kind": "quickfix", "command": command }])
    })
    .await?;
    let actions = result(&s.response(EDITOR, &id).await?)?;
    ensure(asked.len() == 2, "only one server was asked for actions")?;
    for server in BOTH {
        let list = actions.as_array().into_iter().flatten();
        let mut list = list.filter(|action| action["title"].to_string().contains(name(server)));
        let action = list.next().ok_or_else(|| format!("no action of {server} is shown"))?;
        let run = json!({ "command": action["command"]["command"], "arguments": action["command"]["arguments"] });
        s.ask("workspace/executeCommand", &run)?;
        let heard: Value =
            s.hears_at(server, "workspace/executeCommand").await?.params_as().unwrap_or_default();
        same("the command", &heard["command"], &json!("test.run"))?;
        same("its arguments", &heard["arguments"], &json!([name(server)]))?;
    }
    Ok(())
}

async fn list_of_items(s: &mut Stage) -> Verdict<Vec<Value>> {
    let id = s.ask("textDocument/completion", &s.place(0))?;
    let asked = answer_both(s, "textDocument/completion", |server| {
        json!({ "isIncomplete": server == SERVER2, "items": [{ "label": name(server), "data": { "same": 1 } }] })
    })
    .await?;
    ensure(asked.len() == 2, "only one server was asked for items")?;
    let list = result(&s.response(EDITOR, &id).await?)?;
    Ok(list["items"].as_array().or(list.as_array()).cloned().unwrap_or_default())
}

async fn resolved(s: &mut Stage) -> Verdict {
    begin(s).await?;
    let items = list_of_items(s).await?;
    for server in BOTH {
        let item = items.iter().find(|item| item["label"] == name(server));
        let id = s.ask("completionItem/resolve", item.ok_or("an item is missing")?)?;
        let asked = s.hears_at(server, "completionItem/resolve").await?;
        let heard: Value = asked.params_as().unwrap_or_default();
        same("the item's data", &heard["data"], &json!({ "same": 1 }))?;
        s.answer(
            server,
            &asked,
            &json!({ "label": name(server), "detail": "d", "data": { "same": 1 } }),
        )?;
        same("the detail", &result(&s.response(EDITOR, &id).await?)?["detail"], &json!("d"))?;
    }
    Ok(())
}

async fn completion(s: &mut Stage) -> Verdict {
    begin(s).await?;
    let items = list_of_items(s).await?;
    let mut labels: Vec<String> = items.iter().map(|item| item["label"].to_string()).collect();
    labels.sort();
    ensure(labels == ["\"first\"", "\"second\""], format!("the items are {labels:?}"))
}

/// A request that only one server may be asked: asks it, and counts.
async fn only_one(s: &mut Stage, method: &str, params: Value, answer: &Value) -> Verdict {
    begin(s).await?;
    let id = s.ask(method, &params)?;
    let asked = answer_both(s, method, |_| answer.clone()).await?;
    ensure(asked.len() == 1, "both servers were asked")?;
    same("the answer", &result(&s.response(EDITOR, &id).await?)?, answer)
}

async fn formatting(s: &mut Stage) -> Verdict {
    let at = json!({ "line": 0, "character": 0 });
    let edits = json!([{ "range": { "start": at, "end": at }, "newText": "# " }]);
    let params = json!({ "textDocument": { "uri": s.uri("main.py") }, "options": { "tabSize": 4, "insertSpaces": true } });
    only_one(s, "textDocument/formatting", params, &edits).await
}

async fn renaming(s: &mut Stage) -> Verdict {
    let mut params = s.place(0);
    params["newName"] = json!("y");
    only_one(s, "textDocument/rename", params, &json!({ "changes": {} })).await
}

async fn hover(s: &mut Stage) -> Verdict {
    begin(s).await?;
    let id = s.ask("textDocument/hover", &s.place(0))?;
    let asked = answer_both(
        s,
        "textDocument/hover",
        |server| json!({ "contents": { "kind": "markdown", "value": name(server) } }),
    )
    .await?;
    ensure(asked.len() == 2, "only one server was asked")?;
    let text = result(&s.response(EDITOR, &id).await?)?.to_string();
    ensure(text.contains("first") && text.contains("second"), format!("the hover is {text}"))
}

async fn buttons(s: &mut Stage) -> Verdict {
    s.auto.editor = false;
    begin(s).await?;
    for server in BOTH {
        let question =
            json!({ "type": 3, "message": name(server), "actions": [{ "title": name(server) }] });
        s.send(server, &Envelope::request(Id::number(4), "window/showMessageRequest", &question))?;
    }
    for _ in BOTH {
        let seen = s.sees("window/showMessageRequest").await?;
        let action = seen.params_as::<Value>().unwrap_or_default()["actions"][0].clone();
        s.answer(EDITOR, &seen, &action)?;
    }
    for server in BOTH {
        let answer = result(&s.response(server, &Id::number(4)).await?)?;
        same("the answer", &answer["title"], &json!(name(server)))?;
    }
    Ok(())
}

async fn refresh(s: &mut Stage) -> Verdict {
    begin(s).await?;
    for server in BOTH {
        s.send(
            server,
            &Envelope::request(Id::number(5), "workspace/codeLens/refresh", &Value::Null),
        )?;
    }
    for server in BOTH {
        result(&s.response(server, &Id::number(5)).await?)?;
    }
    s.idle(SETTLE * 2).await;
    let count = s.port(EDITOR).map_or(0, |port| port.count("workspace/codeLens/refresh"));
    ensure(count >= 1, "the editor was not asked to refresh")
}
