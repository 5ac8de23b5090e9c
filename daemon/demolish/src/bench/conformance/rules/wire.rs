//! 4.1 framing, 4.2 malformed bodies, 4.3 batches, 4.4 huge messages, 4.7 back-pressure, 4.8 order, 4.9 one slow reader.

use std::time::Duration;

use serde_json::{Value, json};
use wire::{Envelope, codes, frame};

use crate::bench::conformance::stage::{At, EDITOR, SECOND, SERVER, Stage, Verdict};
use crate::bench::conformance::suite::{
    Check,
    Duty::{Pipe, Proxy},
    check,
};
use crate::bench::conformance::talk::{ensure, refusal, result, same};

/// Headers that a reader must take; `#` is the length.
const HEADERS: [(&str, &str); 9] = [
    ("in lower case", "content-length: #\r\n\r\n"),
    ("in upper case", "CONTENT-LENGTH: #\r\n\r\n"),
    ("without a blank", "Content-Length:#\r\n\r\n"),
    ("with more blanks", "Content-Length:   #  \r\n\r\n"),
    (
        "with a type behind it",
        "Content-Length: #\r\nContent-Type: application/vscode-jsonrpc; charset=utf-8\r\n\r\n",
    ),
    (
        "with a type before it",
        "Content-Type: application/vscode-jsonrpc; charset=utf-8\r\nContent-Length: #\r\n\r\n",
    ),
    ("with an unknown header behind it", "Content-Length: #\r\nX-Trace: 1\r\n\r\n"),
    (
        "among three others",
        "Content-Type: a/b\r\nContent-Length: #\r\nX-One: 1\r\nX-Two: 2\r\n\r\n",
    ),
    ("with bare line feeds", "Content-Length: #\n\n"),
];

/// Bytes that are no frame; what comes after them must arrive.
const JUNK: [(&str, &[u8]); 9] = [
    ("a printed line", b"loading workspace ...\n"),
    ("a coloured line", b"\x1b[31merror\x1b[0m: no licence\r\n"),
    ("a text without a line end", b"no line end"),
    ("three lines, one empty", b"one\n\nthree: 3\n"),
    ("bytes that are no text", b"\xff\xfe\x00\x01\n"),
    ("a length that is no number", b"Content-Length: many\r\n\r\n"),
    ("a length below zero", b"Content-Length: -1\r\n\r\n"),
    ("a length of 20 digits", b"Content-Length: 99999999999999999999\r\n\r\n"),
    ("an empty frame", b"Content-Length: 0\r\n\r\n"),
];

/// Bodies that are no messages.
const MALFORMED: [(&str, &[u8]); 10] = [
    ("nothing but blanks", b"  \r\n "),
    ("an open object", b"{\"jsonrpc\":\"2.0\",\"method\":\"x\""),
    ("half a word", b"nul"),
    ("a number", b"42"),
    ("a string", b"\"hello\""),
    ("an object that says nothing", b"{\"jsonrpc\":\"2.0\"}"),
    ("two values", b"{\"jsonrpc\":\"2.0\",\"method\":\"$/x\"} {}"),
    ("a comma too many", b"{\"jsonrpc\":\"2.0\",\"method\":\"$/x\",}"),
    ("bytes that are no text", b"{\xff\xfe"),
    ("an empty array", b"[]"),
];

pub(super) fn checks() -> Vec<Check> {
    let mut all = Vec::new();
    for (from, way) in [(EDITOR, "the editor"), (SERVER, "the server")] {
        for (says, header) in HEADERS {
            let says = format!("a length {says}, from {way}");
            all.push(check(1, Pipe, says, async move |s: &mut Stage| {
                s.begin().await?;
                let (marker, body) = marked(from);
                let mut bytes = header.replace('#', &body.len().to_string()).into_bytes();
                bytes.extend_from_slice(&body);
                s.write(from, &bytes)?;
                arrives(s, from, marker).await?;
                s.fence().await
            }));
        }
        for (says, junk) in JUNK {
            let says = format!("{says} from {way} harms nothing and goes no further");
            all.push(check(1, Proxy, says, async move |s: &mut Stage| {
                s.begin().await?;
                s.write(from, junk)?;
                goes_on(s, from).await
            }));
        }
        for (says, body) in MALFORMED {
            let says = format!("{says} from {way} harms nothing and goes no further");
            all.push(check(2, Proxy, says, async move |s: &mut Stage| {
                s.begin().await?;
                s.send_body(from, body)?;
                goes_on(s, from).await
            }));
        }
        for mebibytes in [1, 10, 40] {
            let says = format!("{mebibytes} MiB from {way}");
            all.push(
                check(4, Pipe, says, async move |s: &mut Stage| huge(s, from, mebibytes).await)
                    .within(60),
            );
        }
    }
    all.extend(framing());
    all.extend(malformed());
    all.extend(batches());
    all.extend(pressure());
    all.extend(order());
    all
}

/// A notification that is recognized at the other end.
fn marked(from: At) -> (&'static str, Vec<u8>) {
    match from {
        At::Editor(_) => {
            let params = json!({ "settings": { "marker": 1 } });
            let method = "workspace/didChangeConfiguration";
            (method, Envelope::notification(method, &params).body.to_vec())
        }
        At::Server(_) => {
            let params = json!({ "type": 3, "message": "marker" });
            let method = "window/showMessage";
            (method, Envelope::notification(method, &params).body.to_vec())
        }
    }
}

fn other(from: At) -> At {
    if from == EDITOR { SERVER } else { EDITOR }
}

async fn arrives(s: &mut Stage, from: At, marker: &str) -> Verdict {
    s.hears_at(other(from), marker).await?;
    Ok(())
}

/// After something that was no message: the next message arrives, requests are answered, and nothing odd came through.
async fn goes_on(s: &mut Stage, from: At) -> Verdict {
    let (marker, body) = marked(from);
    s.send_body(from, &body)?;
    arrives(s, from, marker).await?;
    s.fence().await?;
    s.nothing_odd(EDITOR)?;
    s.nothing_odd(SERVER)
}

fn framing() -> Vec<Check> {
    let mut all = Vec::new();
    for from in [EDITOR, SERVER] {
        let says = format!("a frame that arrives in two parts, cut at every byte, from {from}");
        let split = async move |s: &mut Stage| {
            s.begin().await?;
            let (marker, body) = marked(from);
            let bytes = frame::encode(&body);
            for at in 1..bytes.len() {
                s.write(from, &bytes[..at])?;
                s.idle(Duration::from_millis(1)).await;
                s.write(from, &bytes[at..])?;
                arrives(s, from, marker).await?;
            }
            s.fence().await
        };
        all.push(check(1, Pipe, says, split).within(30));
        let says = format!("a hundred frames in one write, from {from}");
        all.push(check(1, Pipe, says, async move |s: &mut Stage| {
            s.begin().await?;
            let (marker, body) = marked(from);
            s.write(from, &frame::encode(&body).repeat(100))?;
            for _ in 0..100 {
                arrives(s, from, marker).await?;
            }
            Ok(())
        }));
        let says = format!("a length that is too short, from {from}: the next frame is found");
        all.push(check(1, Proxy, says, async move |s: &mut Stage| {
            s.begin().await?;
            let (_, body) = marked(from);
            s.write(from, &[b"Content-Length: 9\r\n\r\n", &body[..]].concat())?;
            s.fence().await?;
            s.nothing_odd(other(from))
        }));
    }
    all.push(check(1, Proxy, "frames are written in the plain form", async |s: &mut Stage| {
        s.begin().await?;
        for from in [EDITOR, SERVER] {
            let (marker, body) = marked(from);
            let odd = format!("x-odd: 1\r\ncontent-length:{}\r\n\r\n", body.len());
            s.write(from, &[odd.as_bytes(), &body].concat())?;
            arrives(s, from, marker).await?;
        }
        plain(&s.port(EDITOR).ok_or("gone")?.raw, "the editor")?;
        plain(&s.port(SERVER).ok_or("gone")?.raw, "the server")
    }));
    all
}

/// Every frame is `Content-Length: N`, perhaps a type, an empty line, and N bytes.
fn plain(mut raw: &[u8], to: &str) -> Verdict {
    while !raw.is_empty() {
        let text = String::from_utf8_lossy(&raw[..raw.len().min(200)]).into_owned();
        let odd = || format!("a frame to {to} starts with `{}`", text.lines().next().unwrap_or(""));
        let (head, _) = text.split_once("\r\n\r\n").ok_or_else(odd)?;
        let mut length = None;
        for line in head.split("\r\n") {
            match line.split_once(": ") {
                Some(("Content-Length", value)) => length = value.parse::<usize>().ok(),
                Some(("Content-Type", _)) => {}
                _ => return Err(odd().into()),
            }
        }
        let bytes = length.ok_or_else(odd)? + head.len() + 4;
        raw = raw.get(bytes..).unwrap_or_default();
    }
    Ok(())
}

fn malformed() -> Vec<Check> {
    let answered = async |s: &mut Stage| {
        s.begin().await?;
        s.send_body(
            EDITOR,
            br#"{"jsonrpc":"2.0","id":7001,"method":"textDocument/hover","params":{"x":}}"#,
        )?;
        let answer = s.response(EDITOR, &wire::Id::number(7001)).await?;
        ensure(refusal(&answer)? == codes::PARSE_ERROR, "it was not answered with -32700")?;
        s.fence().await
    };
    let flood = async |s: &mut Stage| {
        s.begin().await?;
        for _ in 0..6 {
            s.send_body(SERVER, b"{{{")?;
        }
        // It may be restarted for that.
        s.idle(Duration::from_millis(800)).await;
        s.fence().await?;
        s.nothing_odd(EDITOR)
    };
    vec![
        check(2, Proxy, "bad JSON of the editor is answered if its id can be read", answered),
        check(2, Proxy, "a server that keeps writing bad JSON does not end the connection", flood),
    ]
}

fn batches() -> Vec<Check> {
    let editor = async |s: &mut Stage| {
        s.begin().await?;
        let place = s.place(1);
        let (a, b) = (s.id(EDITOR), s.id(EDITOR));
        let body = format!(
            r#"[{{"jsonrpc":"2.0","id":{a},"method":"textDocument/hover","params":{place}}},
                {{"jsonrpc":"2.0","method":"textDocument/didSave","params":{place}}},
                {{"jsonrpc":"2.0","id":{b},"method":"textDocument/definition","params":{place}}}]"#
        );
        s.send_body(EDITOR, body.as_bytes())?;
        let hover = s.hears("textDocument/hover").await?;
        s.hears("textDocument/didSave").await?;
        let definition = s.hears("textDocument/definition").await?;
        s.answer(SERVER, &hover, &json!({ "contents": "a" }))?;
        s.answer(SERVER, &definition, &json!([]))?;
        same(
            "the first answer",
            &result(&s.response(EDITOR, &a).await?)?["contents"],
            &json!("a"),
        )?;
        s.response(EDITOR, &b).await?;
        no_array(s, SERVER)
    };
    let server = async |s: &mut Stage| {
        s.begin().await?;
        let body =
            br#"[{"jsonrpc":"2.0","method":"window/showMessage","params":{"type":3,"message":"1"}},
            {"jsonrpc":"2.0","method":"window/showMessage","params":{"type":3,"message":"2"}}]"#;
        s.send_body(SERVER, body)?;
        for number in ["1", "2"] {
            let seen: Value = s.sees("window/showMessage").await?.params_as().unwrap_or_default();
            same("the message", &seen["message"], &json!(number))?;
        }
        s.fence().await?;
        no_array(s, EDITOR)
    };
    vec![
        check(3, Proxy, "an array from the editor is taken apart", editor),
        check(3, Proxy, "an array from the server is taken apart", server),
    ]
}

fn no_array(s: &Stage, at: At) -> Verdict {
    let raw = &s.port(at).ok_or("gone")?.raw;
    ensure(!raw.windows(5).any(|bytes| bytes == b"\r\n\r\n["), format!("{at} was sent an array"))
}

/// A message of so many mebibytes in each of its forms, and the connection lives.
async fn huge(s: &mut Stage, from: At, mebibytes: usize) -> Verdict {
    s.patience = s.patience.max(Duration::from_secs(25));
    s.begin().await?;
    let big = "0123456789abcde\n".repeat(mebibytes << 16);
    if from == EDITOR {
        s.open_document(&s.uri("big.py"), &big)?;
        let opened: Value = s.hears("textDocument/didOpen").await?.params_as().unwrap_or_default();
        let text = opened["textDocument"]["text"].as_str();
        ensure(text == Some(&*big), "its text arrived changed")?;
    } else {
        let id = s.ask("textDocument/hover", &s.place(0))?;
        let asked = s.hears("textDocument/hover").await?;
        s.answer(SERVER, &asked, &json!({ "contents": big }))?;
        let answer = result(&s.response(EDITOR, &id).await?)?;
        ensure(answer["contents"].as_str() == Some(&*big), "its text arrived changed")?;
    }
    s.fence().await
}

fn pressure() -> Vec<Check> {
    let hung = async |s: &mut Stage| {
        s.begin().await?;
        let mut first = None;
        for line in 0..400 {
            let id = s.ask("textDocument/definition", &s.place(line))?;
            first.get_or_insert(id);
        }
        let first = first.ok_or("nothing was asked")?;
        let cancelled =
            format!(r#"{{"jsonrpc":"2.0","method":"$/cancelRequest","params":{{"id":{first}}}}}"#);
        s.send_body(EDITOR, cancelled.as_bytes())?;
        for _ in 0..400 {
            s.hears("textDocument/definition").await?;
        }
        s.hears("$/cancelRequest").await?;
        s.fence().await
    };
    let deaf = async |s: &mut Stage| {
        s.begin().await?;
        s.server_reads(false)?;
        for version in 2..400 {
            s.change_document(&s.uri("main.py"), version, &"x = 1\n".repeat(2000))?;
        }
        s.idle(Duration::from_millis(200)).await;
        for number in 0..50 {
            s.say("window/showMessage", &json!({ "type": 3, "message": number.to_string() }))?;
            s.sees("window/showMessage").await?;
        }
        s.server_reads(true)?;
        s.fence().await
    };
    let blind = async |s: &mut Stage| {
        s.begin().await?;
        s.editor_reads(0, false);
        for number in 0..200 {
            let text = format!("{number} {}", "x".repeat(10_000));
            s.say("window/logMessage", &json!({ "type": 4, "message": text }))?;
        }
        s.idle(Duration::from_millis(200)).await;
        s.notify("workspace/didChangeConfiguration", &json!({ "settings": { "a": 1 } }))?;
        s.hears("workspace/didChangeConfiguration").await?;
        s.editor_reads(0, true);
        s.fence().await
    };
    vec![
        check(7, Pipe, "400 requests that nobody answers do not stop a cancel", hung),
        check(7, Pipe, "a server that does not read is still heard", deaf),
        check(7, Pipe, "an editor that does not read is still heard", blind),
        check(7, Pipe, "8 MiB each way at the same time", both).within(30),
        check(
            9,
            Pipe,
            "an editor that does not read does not hold up another editor",
            slow_neighbour,
        ),
    ]
}

async fn both(s: &mut Stage) -> Verdict {
    s.patience = s.patience.max(Duration::from_secs(15));
    s.begin().await?;
    let text = "y".repeat(16 * 1024);
    for number in 0..500 {
        s.notify("workspace/didChangeConfiguration", &json!({ "settings": [number, text] }))?;
        s.say("window/showMessage", &json!({ "type": 3, "message": format!("{number} {text}") }))?;
    }
    for number in 0..500 {
        let heard: Value =
            s.hears("workspace/didChangeConfiguration").await?.params_as().unwrap_or_default();
        same("a setting", &heard["settings"][0], &json!(number))?;
        let seen: Value = s.sees("window/showMessage").await?.params_as().unwrap_or_default();
        let seen = seen["message"].as_str().unwrap_or("").contains(&format!("{number} y"));
        ensure(seen, format!("message {number} is missing"))?;
    }
    Ok(())
}

async fn slow_neighbour(s: &mut Stage) -> Verdict {
    s.begin().await?;
    s.editor_reads(0, false);
    for number in 0..400 {
        let text = format!("{number} {}", "x".repeat(10_000));
        s.say("window/showMessage", &json!({ "type": 3, "message": text }))?;
    }
    let id = s.ask("textDocument/hover", &s.place(0))?;
    let asked = s.hears("textDocument/hover").await?;
    s.answer(SERVER, &asked, &json!({ "contents": "late" }))?;
    s.start_editor("b").await?;
    s.begin_at(SECOND).await?;
    for _ in 0..5 {
        s.fence_at(SECOND, At::Server("1b")).await?;
    }
    s.editor_reads(0, true);
    s.response(EDITOR, &id).await?;
    Ok(())
}

fn order() -> Vec<Check> {
    let mut all = Vec::new();
    for (count, rounds) in [(1, 100), (3, 60), (100, 10)] {
        let says = format!("{count} notifications before a response stay before it");
        all.push(check(8, Pipe, says, async move |s: &mut Stage| notes(s, count, rounds).await));
    }
    all.push(check(8, Pipe, "a burst of 200 requests keeps its order, there and back", burst));
    all.push(check(8, Pipe, "a change is heard before the request after it", changes));
    all.push(check(8, Pipe, "a response and a question stay in their order", mixed));
    all
}

fn note(number: usize) -> Value {
    json!({ "type": 3, "message": format!("note {number};") })
}

/// The editor's messages, in order, until the answer to `id`: which notes came before it.
async fn notes(s: &mut Stage, count: usize, rounds: usize) -> Verdict {
    s.begin().await?;
    for round in 0..rounds {
        let id = s.ask("textDocument/hover", &s.place(round))?;
        let asked = s.hears("textDocument/hover").await?;
        for number in 0..count {
            s.say("window/showMessage", &note(number))?;
        }
        s.answer(SERVER, &asked, &json!({ "contents": "x" }))?;
        for number in 0..count {
            let wanted = |envelope: &Envelope| {
                envelope.method() == Some("window/showMessage") || envelope.id() == Some(&id)
            };
            let next = s.find(EDITOR, "a note or the answer", wanted).await?;
            let seen: Value = next.params_as().unwrap_or_default();
            let text = seen["message"].as_str().unwrap_or("the answer").to_owned();
            let right = text.contains(&format!("note {number};"));
            ensure(right, format!("`{text}` came where note {number} of {count} was to come"))?;
        }
        s.response(EDITOR, &id).await?;
    }
    Ok(())
}

async fn burst(s: &mut Stage) -> Verdict {
    s.begin().await?;
    let mut ids = Vec::new();
    for line in 0..200 {
        ids.push(s.ask("textDocument/hover", &s.place(line))?);
    }
    for line in 0..200 {
        let asked = s.hears("textDocument/hover").await?;
        let params: Value = asked.params_as().unwrap_or_default();
        same("the line that is asked about", &params["position"]["line"], &json!(line))?;
        s.say("window/showMessage", &note(line))?;
        s.answer(SERVER, &asked, &json!({ "contents": line.to_string() }))?;
    }
    let wanted = |envelope: &Envelope| {
        envelope.method() == Some("window/showMessage")
            || envelope.method().is_none() && envelope.id().is_some()
    };
    for (line, id) in ids.iter().enumerate() {
        let first = s.find(EDITOR, "a note or an answer", wanted).await?;
        let seen: Value = first.params_as().unwrap_or_default();
        let right =
            seen["message"].as_str().is_some_and(|text| text.contains(&format!("note {line};")));
        ensure(right, format!("note {line} was overtaken"))?;
        let then = s.find(EDITOR, "a note or an answer", wanted).await?;
        ensure(then.id() == Some(id), format!("answer {line} was overtaken"))?;
    }
    Ok(())
}

async fn changes(s: &mut Stage) -> Verdict {
    s.begin().await?;
    let uri = s.uri("main.py");
    for version in 2..60 {
        s.change_document(&uri, version, &format!("text {version}\n"))?;
        s.ask("textDocument/hover", &s.place(0))?;
        let wanted = |envelope: &Envelope| {
            matches!(envelope.method(), Some("textDocument/didChange" | "textDocument/hover"))
        };
        let first = s.find(SERVER, "a change or a request", wanted).await?;
        ensure(
            first.method() == Some("textDocument/didChange"),
            format!("the request overtook change {version}"),
        )?;
        let then = s.hears("textDocument/hover").await?;
        s.answer(SERVER, &then, &Value::Null)?;
    }
    Ok(())
}

async fn mixed(s: &mut Stage) -> Verdict {
    s.auto.editor = false;
    s.begin().await?;
    for round in 0..20 {
        let id = s.ask("textDocument/hover", &s.place(round))?;
        let asked = s.hears("textDocument/hover").await?;
        let items = json!({ "items": [{ "section": "a" }] });
        s.question(&round.to_string(), "workspace/configuration", &items)?;
        s.answer(SERVER, &asked, &Value::Null)?;
        let wanted = |envelope: &Envelope| {
            envelope.method() == Some("workspace/configuration")
                || envelope.method().is_none() && envelope.id() == Some(&id)
        };
        let first = s.find(EDITOR, "a question or an answer", wanted).await?;
        ensure(first.method().is_some(), "the answer overtook the question before it")?;
        s.answer(EDITOR, &first, &json!([null]))?;
        s.response(EDITOR, &id).await?;
    }
    Ok(())
}
