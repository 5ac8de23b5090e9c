//! 4.14 a server that dies, 4.48 a proxy's daemon that dies.
//!
//! A proxy that ends with its server does what a plain pipe does: the editor sees it. That is no fault, and no answer to
//! the rule either.

use std::time::{Duration, Instant};

use serde_json::{Value, json};
use wire::Envelope;

use crate::bench::conformance::stage::{EDITOR, Fault, SERVER, Stage, Verdict};
use crate::bench::conformance::suite::{Check, Duty::Proxy, check};
use crate::bench::conformance::talk::{ensure, refusal, result, same, told};

/// How long a proxy may take to end with its server.
const END_PATIENCE: Duration = Duration::from_secs(2);
/// How long a registration of a dead server may stay.
const REGISTRATION_PATIENCE: Duration = Duration::from_secs(15);
/// How long a proxy may take to start a server again.
const RESTART_PATIENCE: Duration = Duration::from_secs(8);

pub(super) fn checks() -> Vec<Check> {
    let exits = async |s: &mut Stage| {
        s.begin().await?;
        let id = s.ask("textDocument/definition", &s.place(0))?;
        s.hears("textDocument/definition").await?;
        s.server_exits(3)?;
        still_there(s).await?;
        refusal(&s.response(EDITOR, &id).await?)?;
        restarted(s, 2).await?;
        s.fence().await
    };
    vec![
        check(
            14,
            Proxy,
            "after SIGKILL the request in flight has exactly one answer, an error",
            answered,
        ),
        check(14, Proxy, "a server that exits by itself is started again", exits),
        check(14, Proxy, "the next server is told of the open documents as they are now", replayed),
        check(14, Proxy, "what happens while no server is there is not lost", meanwhile),
        check(14, Proxy, "settings and workspace folders are told again", settings),
        check(14, Proxy, "progress of the dead server is ended", progress),
        check(14, Proxy, "diagnostics of the dead server are cleared", diagnostics),
        check(14, Proxy, "registrations of the dead server are taken back", registrations)
            .within(30),
        check(
            14,
            Proxy,
            "a question of the dead server is taken back, and its late answer harms nothing",
            question,
        ),
        check(14, Proxy, "two deaths are survived", twice).within(30),
        check(48, Proxy, "the editor goes on when the proxy's daemon is killed", daemon).within(30),
        check(48, Proxy, "documents survive the proxy's daemon", daemon_replay).within(30),
        check(
            48,
            Proxy,
            "a request in flight survives the proxy's daemon with exactly one answer",
            daemon_request,
        )
        .within(30),
    ]
}

/// Passes if the proxy outlives its server.
async fn still_there(s: &mut Stage) -> Verdict {
    let end = Instant::now() + END_PATIENCE;
    while Instant::now() < end {
        let closed = s.port(EDITOR).is_none_or(|port| port.closed);
        if closed || !s.runs(0) {
            return Err(Fault::Apart("it ends with its server, as a plain pipe does".to_owned()));
        }
        if s.births("1") > 1 {
            break;
        }
        s.idle(Duration::from_millis(20)).await;
    }
    Ok(())
}

async fn die(s: &mut Stage) -> Verdict {
    s.kill_server()?;
    still_there(s).await
}

async fn restarted(s: &mut Stage, births: usize) -> Verdict {
    let end = Instant::now() + RESTART_PATIENCE;
    while s.births("1") < births {
        ensure(Instant::now() < end, "the server was not started again")?;
        s.idle(Duration::from_millis(20)).await;
    }
    Ok(())
}

async fn answered(s: &mut Stage) -> Verdict {
    s.begin().await?;
    let read = s.ask("textDocument/definition", &s.place(0))?;
    s.hears("textDocument/definition").await?;
    let write =
        s.ask("workspace/executeCommand", &json!({ "command": "test.run", "arguments": [] }))?;
    s.hears("workspace/executeCommand").await?;
    die(s).await?;
    for id in [read, write] {
        refusal(&s.response(EDITOR, &id).await?)?;
        s.only_one_answer(EDITOR, &id).await?;
    }
    Ok(())
}

async fn replayed(s: &mut Stage) -> Verdict {
    s.begin().await?;
    let (main, closed, odd) = (s.uri("main.py"), s.uri("closed.py"), s.uri("odd.py"));
    s.open_document(&closed, "x = 1\n")?;
    s.open_document(&odd, "é😀\r\n")?;
    s.change_document(&main, 7, "new 😀\n")?;
    s.notify("textDocument/didClose", &json!({ "textDocument": { "uri": closed } }))?;
    s.fence().await?;
    die(s).await?;
    restarted(s, 2).await?;
    s.fence().await?;
    for method in ["initialize", "initialized"] {
        let count = s.port(SERVER).map_or(0, |port| port.count(method));
        ensure(count == 1, format!("the new server got `{method}` {count} times"))?;
    }
    ensure(told(s, &closed).is_none(), "a closed document was opened again")?;
    let now = told(s, &main).ok_or("the open document was not opened again")?;
    same("the open document", &json!([now.0, now.1]), &json!([7, "new 😀\n"]))?;
    let now = told(s, &odd).ok_or("the second document was not opened again")?;
    same("the second document", &json!(now.1), &json!("é😀\r\n"))
}

async fn meanwhile(s: &mut Stage) -> Verdict {
    s.begin().await?;
    let (main, other) = (s.uri("main.py"), s.uri("other.py"));
    s.kill_server()?;
    s.change_document(&main, 2, "changed meanwhile\n")?;
    s.open_document(&other, "opened meanwhile\n")?;
    still_there(s).await?;
    restarted(s, 2).await?;
    s.fence().await?;
    let now = told(s, &main).ok_or("the open document was not opened again")?;
    same("the open document", &json!(now.1), &json!("changed meanwhile\n"))?;
    let now = told(s, &other).ok_or("the document that was opened meanwhile is lost")?;
    same("the other document", &json!(now.1), &json!("opened meanwhile\n"))
}

async fn settings(s: &mut Stage) -> Verdict {
    s.begin().await?;
    s.notify("workspace/didChangeConfiguration", &json!({ "settings": { "a": { "b": 1 } } }))?;
    s.fence().await?;
    die(s).await?;
    restarted(s, 2).await?;
    s.fence().await?;
    let port = s.port(SERVER).ok_or("gone")?;
    let settings =
        port.heard.iter().filter(|e| e.method() == Some("workspace/didChangeConfiguration"));
    let last: Value =
        settings.last().ok_or("the settings were not told again")?.params_as().unwrap_or_default();
    same("the settings", &last["settings"], &json!({ "a": { "b": 1 } }))?;
    let initialize = port.heard.iter().find(|e| e.method() == Some("initialize"));
    let initialize: Value = initialize.ok_or("no initialize")?.params_as().unwrap_or_default();
    same(
        "the options",
        &initialize["initializationOptions"],
        &s.initialize_params()["initializationOptions"],
    )?;
    same("the folders", &initialize["workspaceFolders"], &s.initialize_params()["workspaceFolders"])
}

async fn progress(s: &mut Stage) -> Verdict {
    s.begin().await?;
    s.question("\"p\"", "window/workDoneProgress/create", &json!({ "token": "t1" }))?;
    s.response(SERVER, &wire::Id::string("p")).await?;
    s.say(
        "$/progress",
        &json!({ "token": "t1", "value": { "kind": "begin", "title": "indexing" } }),
    )?;
    let begun: Value = s.sees("$/progress").await?.params_as().unwrap_or_default();
    die(s).await?;
    let ended: Value = s.sees("$/progress").await?.params_as().unwrap_or_default();
    same("the token", &ended["token"], &begun["token"])?;
    same("the stage", &ended["value"]["kind"], &json!("end"))
}

async fn diagnostics(s: &mut Stage) -> Verdict {
    s.begin().await?;
    let at = json!({ "line": 0, "character": 0 });
    let found = json!([{ "range": { "start": at, "end": at }, "message": "bad" }]);
    let uri = s.uri("main.py");
    s.say("textDocument/publishDiagnostics", &json!({ "uri": uri, "diagnostics": found }))?;
    s.sees("textDocument/publishDiagnostics").await?;
    die(s).await?;
    let cleared: Value =
        s.sees("textDocument/publishDiagnostics").await?.params_as().unwrap_or_default();
    same("the list", &cleared["diagnostics"], &json!([]))
}

async fn registrations(s: &mut Stage) -> Verdict {
    s.begin().await?;
    let registration = json!({ "id": "r1", "method": "workspace/didChangeWatchedFiles", "registerOptions": { "watchers": [] } });
    s.question("1", "client/registerCapability", &json!({ "registrations": [registration] }))?;
    let answer = s.response(SERVER, &wire::Id::number(1)).await?;
    result(&answer)?;
    die(s).await?;
    restarted(s, 2).await?;
    s.fence().await?;
    // It may wait a while for the next server to make the same again.
    let end = Instant::now() + REGISTRATION_PATIENCE;
    let count =
        |s: &Stage| s.port(EDITOR).map_or(0, |port| port.count("client/unregisterCapability"));
    while count(s) == 0 && Instant::now() < end {
        s.idle(Duration::from_millis(50)).await;
    }
    let count = count(s);
    ensure(count == 1, format!("the editor got `client/unregisterCapability` {count} times"))
}

async fn question(s: &mut Stage) -> Verdict {
    s.auto.editor = false;
    s.begin().await?;
    s.question("1", "custom/question", &json!({}))?;
    let seen = s.sees("custom/question").await?;
    die(s).await?;
    restarted(s, 2).await?;
    s.fence().await?;
    // The editor answers a question that nobody has any more.
    s.answer(EDITOR, &seen, &json!("late"))?;
    s.fence().await?;
    let late = |envelope: &Envelope| envelope.body.windows(6).any(|bytes| bytes == b"\"late\"");
    s.absent(SERVER, "an answer to the dead server's question", Duration::from_millis(200), late)
        .await
}

async fn twice(s: &mut Stage) -> Verdict {
    s.begin().await?;
    for births in [2, 3] {
        die_again(s, births).await?;
        s.fence().await?;
    }
    Ok(())
}

async fn die_again(s: &mut Stage, births: usize) -> Verdict {
    s.kill_server()?;
    if births == 2 {
        still_there(s).await?;
    }
    restarted(s, births).await
}

/// Kills what runs beside the proxy; apart, if nothing does.
fn kill_daemon(s: &Stage) -> Verdict {
    if s.kill_besides() {
        return Ok(());
    }
    Err(Fault::Apart("no daemon stands behind it".to_owned()))
}

async fn daemon(s: &mut Stage) -> Verdict {
    s.begin().await?;
    s.fence().await?;
    kill_daemon(s)?;
    s.fence().await
}

async fn daemon_replay(s: &mut Stage) -> Verdict {
    s.begin().await?;
    let main = s.uri("main.py");
    s.change_document(&main, 5, "before\n")?;
    s.fence().await?;
    kill_daemon(s)?;
    s.change_document(&main, 6, "after\n")?;
    s.fence().await?;
    let now = told(s, &main).ok_or("the open document was not opened again")?;
    same("the open document", &json!([now.0, now.1]), &json!([6, "after\n"]))
}

async fn daemon_request(s: &mut Stage) -> Verdict {
    s.begin().await?;
    let id = s.ask("textDocument/definition", &s.place(0))?;
    let asked = s.hears("textDocument/definition").await?;
    kill_daemon(s)?;
    // It may be asked again, or be refused.
    restarted(s, 2).await?;
    drop(asked);
    let end = Instant::now() + Duration::from_secs(4);
    while Instant::now() < end {
        let again =
            s.find_now(SERVER, |envelope| envelope.method() == Some("textDocument/definition"));
        if let Some(again) = again {
            s.answer(SERVER, &again, &json!([]))?;
            break;
        }
        if s.port(EDITOR).is_some_and(|port| {
            port.heard.iter().any(|e| e.method().is_none() && e.id() == Some(&id))
        }) {
            break;
        }
        s.idle(Duration::from_millis(20)).await;
    }
    s.response(EDITOR, &id).await?;
    s.only_one_answer(EDITOR, &id).await
}
