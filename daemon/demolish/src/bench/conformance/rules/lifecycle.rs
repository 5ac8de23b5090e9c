//! 4.10 to 4.16: initialize, registrations, the end, and what a server says outside of messages. What happens when a server
//! dies is in `restart`.

use std::time::{Duration, Instant};

use serde_json::{Value, json};
use wire::{Envelope, Id};

use crate::bench::conformance::stage::{EDITOR, Fault, SERVER, Stage, Verdict, is_alive};
use crate::bench::conformance::suite::{
    Check,
    Duty::{Pipe, Proxy},
    check,
};
use crate::bench::conformance::talk::{ensure, refusal, result, same};

/// Within which `shutdown` is to be answered, with some time for a loaded machine.
const SHUTDOWN_PATIENCE: Duration = Duration::from_millis(2500);
/// Within which everything is to be over after `exit`.
const EXIT_PATIENCE: Duration = Duration::from_secs(6);

pub(super) fn checks() -> Vec<Check> {
    [initialize(), registrations(), ending(), left_alone(), noise()].concat()
}

fn initialize() -> Vec<Check> {
    let passes = async |s: &mut Stage| {
        s.begin().await?;
        let sent = s.initialize_params();
        let heard = first(s, "initialize")?;
        for member in
            ["initializationOptions", "rootUri", "workspaceFolders", "capabilities", "clientInfo"]
        {
            same(member, &heard[member], &sent[member])?;
        }
        Ok(())
    };
    let result = async |s: &mut Stage| {
        s.capabilities["experimental"] =
            json!({ "runnables": { "kinds": ["cargo"] }, "x": [1, null] });
        s.capabilities["oddProvider"] = json!({ "a": 1 });
        let expected = s.capabilities.clone();
        let got = s.begin_at(EDITOR).await?;
        same("the server's capabilities", &got["capabilities"], &expected)
    };
    let once = async |s: &mut Stage| {
        s.begin().await?;
        s.fence().await?;
        for method in ["initialize", "initialized"] {
            let count = s.port(SERVER).map_or(0, |port| port.count(method));
            ensure(count == 1, format!("the server got `{method}` {count} times"))?;
        }
        Ok(())
    };
    let refused = async |s: &mut Stage| {
        s.auto.initialize = false;
        let id = s.ask("initialize", &s.initialize_params())?;
        let asked = s.hears("initialize").await?;
        s.refuse(SERVER, &asked, -32603, "no licence")?;
        let answer = s.response(EDITOR, &id).await?;
        ensure(refusal(&answer)? == -32603, "the error arrived changed")
    };
    vec![
        check(10, Pipe, "what the editor says of itself reaches the server as it is", passes),
        check(10, Pipe, "`initialized` is heard once", once),
        check(10, Pipe, "a server that refuses is heard", refused),
        check(10, Pipe, "what a server says before its answer is seen before it", early_words),
        check(10, Pipe, "what is sent before the answer waits, in order", early_editor),
        check(11, Pipe, "what one server can do reaches the editor as it is", result),
    ]
}

/// The parameters of the first message of this method that the server heard.
fn first(s: &Stage, method: &str) -> Verdict<Value> {
    let port = s.port(SERVER).ok_or("there is no server")?;
    let heard = port.heard.iter().find(|envelope| envelope.method() == Some(method));
    Ok(heard.ok_or("it was not heard")?.params_as().unwrap_or_default())
}

async fn early_words(s: &mut Stage) -> Verdict {
    s.auto.initialize = false;
    let mut params = s.initialize_params();
    params["workDoneToken"] = json!("init-1");
    let id = s.ask("initialize", &params)?;
    let asked = s.hears("initialize").await?;
    let token = asked.params_as::<Value>().unwrap_or_default()["workDoneToken"].clone();
    s.say("window/showMessage", &json!({ "type": 3, "message": "early" }))?;
    s.say("window/logMessage", &json!({ "type": 4, "message": "early too" }))?;
    let mut words = vec!["window/showMessage", "window/logMessage"];
    // A proxy may keep the token to itself; then there is nothing to report.
    if !token.is_null() {
        words.push("$/progress");
        let begin = json!({ "token": token, "value": { "kind": "begin", "title": "indexing" } });
        s.say("$/progress", &begin)?;
    }
    s.answer(SERVER, &asked, &json!({ "capabilities": s.capabilities }))?;
    let answer = s.response(EDITOR, &id).await?;
    ensure(answer.outcome().is_ok(), "initialize was refused")?;
    for method in words {
        let port = s.port(EDITOR).ok_or("gone")?;
        let at = |wanted: &dyn Fn(&Envelope) -> bool| port.heard.iter().position(wanted);
        let word = at(&|envelope| envelope.method() == Some(method));
        let answered = at(&|envelope| envelope.method().is_none() && envelope.id() == Some(&id));
        ensure(word.is_some(), format!("`{method}` did not reach the editor"))?;
        ensure(word < answered, format!("`{method}` came after the answer"))?;
    }
    Ok(())
}

async fn early_editor(s: &mut Stage) -> Verdict {
    s.auto.initialize = false;
    let id = s.ask("initialize", &s.initialize_params())?;
    s.notify("initialized", &json!({}))?;
    s.open_document(&s.uri("main.py"), "x = 1\n")?;
    s.change_document(&s.uri("main.py"), 2, "x = 2\n")?;
    let hover = s.ask("textDocument/hover", &s.place(0))?;
    let asked = s.hears("initialize").await?;
    s.answer(SERVER, &asked, &json!({ "capabilities": s.capabilities }))?;
    s.response(EDITOR, &id).await?;
    let asked = s.hears("textDocument/hover").await?;
    let heard: Vec<String> = s
        .port(SERVER)
        .ok_or("gone")?
        .heard
        .iter()
        .filter_map(|e| e.method().map(str::to_owned))
        .collect();
    let wanted = [
        "initialize",
        "initialized",
        "textDocument/didOpen",
        "textDocument/didChange",
        "textDocument/hover",
    ];
    let mut rest = heard.iter();
    for method in wanted {
        ensure(
            rest.any(|heard| heard == method),
            format!("`{method}` is missing or late in {heard:?}"),
        )?;
    }
    s.answer(SERVER, &asked, &Value::Null)?;
    s.response(EDITOR, &hover).await?;
    Ok(())
}

fn registrations() -> Vec<Check> {
    let passes = async |s: &mut Stage| {
        s.auto.editor = false;
        s.begin().await?;
        let watchers = json!({ "watchers": [{ "globPattern": "**/*.py", "kind": 7 }] });
        let registration = json!({ "id": "watch-1", "method": "workspace/didChangeWatchedFiles", "registerOptions": watchers });
        s.question("1", "client/registerCapability", &json!({ "registrations": [registration] }))?;
        let seen = s.sees("client/registerCapability").await?;
        let params: Value = seen.params_as().unwrap_or_default();
        let options = &params["registrations"][0];
        same("the method", &options["method"], &registration["method"])?;
        same("the options", &options["registerOptions"], &registration["registerOptions"])?;
        s.answer(EDITOR, &seen, &Value::Null)?;
        let answer = s.response(SERVER, &Id::number(1)).await?;
        same("the answer", &result(&answer)?, &Value::Null)?;
        let known = options["id"].clone();
        let gone = json!([{ "id": "watch-1", "method": "workspace/didChangeWatchedFiles" }]);
        s.question("2", "client/unregisterCapability", &json!({ "unregisterations": gone }))?;
        let seen = s.sees("client/unregisterCapability").await?;
        let params: Value = seen.params_as().unwrap_or_default();
        same("the id that is unregistered", &params["unregisterations"][0]["id"], &known)?;
        s.answer(EDITOR, &seen, &Value::Null)?;
        s.response(SERVER, &Id::number(2)).await?;
        Ok(())
    };
    let refused = async |s: &mut Stage| {
        s.auto.editor = false;
        s.begin().await?;
        let registration =
            json!({ "id": "x", "method": "textDocument/hover", "registerOptions": {} });
        s.question("1", "client/registerCapability", &json!({ "registrations": [registration] }))?;
        let seen = s.sees("client/registerCapability").await?;
        s.refuse(EDITOR, &seen, -32601, "not I")?;
        let answer = s.response(SERVER, &Id::number(1)).await?;
        ensure(refusal(&answer)? == -32601, "the editor's refusal arrived changed")
    };
    vec![
        check(
            12,
            Pipe,
            "a registration and its end reach the editor, and its answers the server",
            passes,
        ),
        check(12, Pipe, "an editor that refuses a registration is heard", refused),
    ]
}

/// `shutdown` and its answer.
async fn shut_down(s: &mut Stage, patience: Duration) -> Verdict {
    let begun = Instant::now();
    let id = s.ask("shutdown", &Value::Null)?;
    s.patience = patience;
    let answer = s.response(EDITOR, &id).await?;
    same("the answer to shutdown", &result(&answer)?, &Value::Null)?;
    let took = begun.elapsed();
    ensure(took <= patience, format!("it took {} ms", took.as_millis()))
}

/// After the end: the proxy has gone, and so has the server, unless the proxy keeps it for the next editor.
async fn all_gone(s: &mut Stage) -> Verdict<Option<i32>> {
    let code = s.ended(0, EXIT_PATIENCE).await?;
    let Some(pid) = s.server_pid("1") else { return Ok(code) };
    let end = Instant::now() + EXIT_PATIENCE;
    while is_alive(pid) {
        if Instant::now() > end {
            return if s.subject.besides.is_empty() {
                Err("the server was left running".into())
            } else {
                Err(Fault::Apart("it keeps servers for the next editor".to_owned()))
            };
        }
        s.idle(Duration::from_millis(10)).await;
    }
    Ok(code)
}

fn ending() -> Vec<Check> {
    let plain = async |s: &mut Stage| {
        s.begin().await?;
        shut_down(s, SHUTDOWN_PATIENCE).await?;
        s.notify("exit", &Value::Null)?;
        all_gone(s).await.map(drop)
    };
    let code = async |s: &mut Stage| {
        s.begin().await?;
        shut_down(s, SHUTDOWN_PATIENCE).await?;
        s.notify("exit", &Value::Null)?;
        let code = s.ended(0, EXIT_PATIENCE).await?;
        ensure(code == Some(0), format!("its exit code is {code:?}"))
    };
    let rude = async |s: &mut Stage| {
        s.begin().await?;
        s.notify("exit", &Value::Null)?;
        let code = s.ended(0, EXIT_PATIENCE).await?;
        ensure(code != Some(0), "its exit code is 0, as if shutdown had been asked for")
    };
    let hung = async |s: &mut Stage| {
        s.auto.shutdown = false;
        s.begin().await?;
        shut_down(s, SHUTDOWN_PATIENCE).await
    };
    let asks = async |s: &mut Stage| {
        s.auto.shutdown = false;
        s.auto.editor = false;
        s.begin().await?;
        let id = s.ask("shutdown", &Value::Null)?;
        let asked = match s.hears("shutdown").await {
            Err(_) if !s.subject.besides.is_empty() => {
                return Err(Fault::Apart("it keeps servers for the next editor".to_owned()));
            }
            asked => asked?,
        };
        let question = s.question("9", "workspace/configuration", &json!({ "items": [{}] }))?;
        let seen = s.sees("workspace/configuration").await?;
        s.answer(EDITOR, &seen, &json!([1]))?;
        s.response(SERVER, &question).await?;
        s.answer(SERVER, &asked, &Value::Null)?;
        s.response(EDITOR, &id).await?;
        Ok(())
    };
    let stays = async |s: &mut Stage| {
        s.auto.exit = false;
        s.auto.end = false;
        s.begin().await?;
        shut_down(s, SHUTDOWN_PATIENCE).await?;
        s.notify("exit", &Value::Null)?;
        all_gone(s).await.map(drop)
    };
    vec![
        check(13, Pipe, "shutdown is answered, and after exit nothing is left", plain),
        check(13, Pipe, "the exit code is 0 after shutdown", code),
        check(13, Pipe, "the exit code is not 0 without shutdown", rude),
        check(13, Proxy, "shutdown is answered within two seconds by a server that does not", hung),
        check(13, Pipe, "a server that asks during shutdown is answered", asks),
        check(13, Proxy, "a server that does not go is ended", stays),
    ]
}

fn left_alone() -> Vec<Check> {
    let leaves = async |s: &mut Stage| {
        s.begin().await?;
        s.editor_leaves();
        all_gone(s).await.map(drop)
    };
    let killed = async |s: &mut Stage| {
        s.begin().await?;
        if !s.kill_besides() {
            s.kill_proxy();
        }
        server_dies(s).await
    };
    let stubborn = async |s: &mut Stage| {
        s.auto.end = false;
        s.begin().await?;
        if !s.kill_besides() {
            s.kill_proxy();
        }
        server_dies(s).await
    };
    vec![
        check(15, Pipe, "an editor that disappears takes its server with it", leaves),
        check(15, Proxy, "a proxy that is killed takes its server with it", killed),
        check(15, Proxy, "even a server that does not look at its stdin", stubborn),
    ]
}

async fn server_dies(s: &mut Stage) -> Verdict {
    let pid = s.server_pid("1").ok_or("there is no server")?;
    let end = Instant::now() + EXIT_PATIENCE;
    while is_alive(pid) {
        ensure(Instant::now() < end, "the server lives on")?;
        s.idle(Duration::from_millis(10)).await;
    }
    Ok(())
}

fn noise() -> Vec<Check> {
    let flood = async |s: &mut Stage| {
        s.begin().await?;
        s.server_stderr(&[&[b'x'; 99][..], b"\n"].concat().repeat(50_000))?;
        s.fence().await?;
        s.fence().await
    };
    let apart = async |s: &mut Stage| {
        s.begin().await?;
        s.server_stderr(b"Content-Length: 2\r\n\r\n{}\nto stderr\n")?;
        s.fence().await?;
        s.nothing_odd(EDITOR)
    };
    let stray = async |s: &mut Stage| {
        s.begin().await?;
        for line in 0..20 {
            s.write(SERVER, format!("INFO [{line}] analysed 1 file: ok\n").as_bytes())?;
            s.say("window/showMessage", &json!({ "type": 3, "message": line.to_string() }))?;
            s.sees("window/showMessage").await?;
        }
        s.fence().await?;
        s.nothing_odd(EDITOR)
    };
    vec![
        check(16, Pipe, "5 MB on stderr block nothing", flood),
        check(16, Pipe, "stderr does not get among the messages", apart),
        check(16, Proxy, "log lines on stdout do not get among the messages", stray),
    ]
}
