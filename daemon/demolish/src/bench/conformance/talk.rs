//! The words in which checks are written: who says what to whom, and what must arrive.

use std::time::Duration;

use serde_json::{Value, json};
use text::{Change, Document, Encoding, Position, Range, Revision};
use wire::{Envelope, Id, Kind, ResponseError};

use super::port::excerpt;
use super::stage::{At, EDITOR, SERVER, Stage, Verdict};

/// How long a proxy and the server behind it may take to start.
const START_PATIENCE: Duration = Duration::from_secs(15);
/// How long nothing must come for *nothing comes* to hold.
pub(super) const SETTLE: Duration = Duration::from_millis(250);

impl Stage {
    /// `initialize`, its answer, `initialized`, and one open document.
    pub(super) async fn begin(&mut self) -> Verdict {
        self.begin_at(EDITOR).await?;
        if self.births("1") == 0 {
            return Err("initialize was answered, and no server was started".into());
        }
        self.open_document(&self.uri("main.py"), super::MAIN)?;
        self.hears("textDocument/didOpen").await?;
        Ok(())
    }

    /// `initialize`, its answer, `initialized`, for one editor.
    pub(super) async fn begin_at(&mut self, editor: At) -> Verdict<Value> {
        let id = self.id(editor);
        let initialize = self.initialize_params();
        self.send(editor, &Envelope::request(id.clone(), "initialize", &initialize))?;
        // A start takes longer than an answer.
        let patience = self.patience;
        self.patience = patience.max(START_PATIENCE);
        let answer = self.response(editor, &id).await?;
        self.patience = patience;
        let Ok(result) = answer.outcome() else {
            return Err(format!("initialize was refused: {}", excerpt(&answer.body)).into());
        };
        let result = wire::parse(result).unwrap_or_default();
        self.send(editor, &Envelope::notification("initialized", &json!({})))?;
        Ok(result)
    }

    /// What the editor says of itself.
    pub(super) fn initialize_params(&self) -> Value {
        let root = format!("file://{}", self.project().display());
        let able = json!({ "dynamicRegistration": true });
        let refresh = json!({ "refreshSupport": true });
        json!({
            "processId": std::process::id(),
            "clientInfo": { "name": "conformance", "version": "1" },
            "rootPath": self.project(),
            "rootUri": root,
            "workspaceFolders": [{ "uri": root, "name": "project" }],
            "initializationOptions": { "odd": [1.5, null, "\u{1F600}"] },
            "capabilities": {
                "general": { "positionEncodings": ["utf-16"] },
                "textDocument": {
                    "synchronization": { "didSave": true, "willSave": true, "willSaveWaitUntil": true },
                    "publishDiagnostics": { "versionSupport": true, "dataSupport": true },
                    "diagnostic": able, "hover": able, "definition": able,
                    "completion": { "completionItem": { "snippetSupport": true } },
                    "semanticTokens": { "requests": { "full": { "delta": true } },
                        "tokenTypes": ["a", "b"], "tokenModifiers": ["m"], "formats": ["relative"] },
                },
                "window": { "workDoneProgress": true, "showDocument": { "support": true } },
                "workspace": {
                    "applyEdit": true, "configuration": true, "workspaceFolders": true,
                    "didChangeConfiguration": able, "didChangeWatchedFiles": able,
                    "executeCommand": able, "codeLens": refresh, "inlayHint": refresh,
                    "semanticTokens": refresh, "diagnostics": refresh, "foldingRange": refresh,
                    "inlineValue": refresh,
                },
            },
        })
    }

    /// Sends a message from one end.
    pub(super) fn send(&self, from: At, envelope: &Envelope) -> Verdict {
        self.send_body(from, &envelope.body)
    }

    /// Sends a body from one end.
    pub(super) fn send_body(&self, from: At, body: &[u8]) -> Verdict {
        Ok(self.port(from).ok_or_else(|| format!("{from} is not there"))?.send(body)?)
    }

    /// Sends bytes from one end.
    pub(super) fn write(&self, from: At, bytes: &[u8]) -> Verdict {
        let port = self.port(from).ok_or_else(|| format!("{from} is not there"))?;
        Ok(port.write(bytes.to_vec())?)
    }

    /// The editor asks; the id of the request.
    pub(super) fn ask(&mut self, method: &str, params: &Value) -> Verdict<Id> {
        self.ask_at(EDITOR, method, params)
    }

    /// An editor asks.
    pub(super) fn ask_at(&mut self, editor: At, method: &str, params: &Value) -> Verdict<Id> {
        let id = self.id(editor);
        self.send(editor, &Envelope::request(id.clone(), method, params))?;
        Ok(id)
    }

    /// The editor notifies.
    pub(super) fn notify(&self, method: &str, params: &Value) -> Verdict {
        self.send(EDITOR, &Envelope::notification(method, params))
    }

    /// The server notifies.
    pub(super) fn say(&self, method: &str, params: &Value) -> Verdict {
        self.send(SERVER, &Envelope::notification(method, params))
    }

    /// The server asks, under the id with this JSON text.
    pub(super) fn question(&self, id: &str, method: &str, params: &Value) -> Verdict<Id> {
        let id = Id::from_raw(id.as_bytes()).ok_or("that is no id")?;
        self.send(SERVER, &Envelope::request(id.clone(), method, params))?;
        Ok(id)
    }

    /// Somebody answers.
    pub(super) fn answer(&self, from: At, to: &Envelope, result: &Value) -> Verdict {
        let id = to.id().ok_or("a notification cannot be answered")?.clone();
        self.send(from, &Envelope::response(id, result))
    }

    /// Somebody answers with an error.
    pub(super) fn refuse(&self, from: At, to: &Envelope, code: i64, message: &str) -> Verdict {
        let id = to.id().ok_or("a notification cannot be answered")?.clone();
        self.send(from, &Envelope::error(id, &ResponseError::new(code, message)))
    }

    /// The next message of this method at the server.
    pub(super) async fn hears(&mut self, method: &str) -> Verdict<Envelope> {
        self.hears_at(SERVER, method).await
    }

    /// The next message of this method at one end.
    pub(super) async fn hears_at(&mut self, at: At, method: &str) -> Verdict<Envelope> {
        self.find(at, &format!("`{method}`"), |envelope| envelope.method() == Some(method)).await
    }

    /// The next message of this method at the editor.
    pub(super) async fn sees(&mut self, method: &str) -> Verdict<Envelope> {
        self.hears_at(EDITOR, method).await
    }

    /// The response to `id` at one end.
    pub(super) async fn response(&mut self, at: At, id: &Id) -> Verdict<Envelope> {
        let wanted = |envelope: &Envelope| is_response(envelope, id);
        self.find(at, &format!("the answer to request {id}"), wanted).await
    }

    /// No second answer to `id` comes.
    pub(super) async fn only_one_answer(&mut self, at: At, id: &Id) -> Verdict {
        self.absent(at, "a second answer", SETTLE, |envelope| is_response(envelope, id)).await
    }

    /// One request of the editor goes to the server, and its answer comes back; so everything before it has arrived.
    pub(super) async fn fence(&mut self) -> Verdict {
        self.fence_at(EDITOR, SERVER).await
    }

    /// The same for another editor and server.
    pub(super) async fn fence_at(&mut self, editor: At, server: At) -> Verdict {
        let id = self.ask_at(editor, "textDocument/hover", &self.place(0))?;
        let asked = self.hears_at(server, "textDocument/hover").await?;
        let text = format!("fence {id}");
        self.answer(server, &asked, &json!({ "contents": text }))?;
        let answer = self.response(editor, &id).await?;
        let result: Value =
            answer.outcome().ok().and_then(|raw| wire::parse(raw).ok()).unwrap_or_default();
        if result["contents"].to_string().contains(&text) {
            return Ok(());
        }
        Err(format!("a hover was answered with `{}`", excerpt(&answer.body)).into())
    }

    /// A place in the open document, as parameters.
    pub(super) fn place(&self, line: usize) -> Value {
        let position = json!({ "line": line, "character": 0 });
        json!({ "textDocument": { "uri": self.uri("main.py") }, "position": position })
    }

    /// The editor opens a document.
    pub(super) fn open_document(&self, uri: &str, text: &str) -> Verdict {
        self.open_document_at(EDITOR, uri, text)
    }

    /// An editor opens a document.
    pub(super) fn open_document_at(&self, editor: At, uri: &str, text: &str) -> Verdict {
        let item = json!({ "uri": uri, "languageId": "python", "version": 1, "text": text });
        let params = json!({ "textDocument": item });
        self.send(editor, &Envelope::notification("textDocument/didOpen", &params))
    }

    /// The editor replaces a document's whole text.
    pub(super) fn change_document(&self, uri: &str, version: i32, text: &str) -> Verdict {
        let params = json!({
            "textDocument": { "uri": uri, "version": version },
            "contentChanges": [{ "text": text }],
        });
        self.notify("textDocument/didChange", &params)
    }

    /// Everything that reached the editor or the server outside of messages, in words; nothing must.
    pub(super) fn nothing_odd(&self, at: At) -> Verdict {
        match self.port(at).and_then(|port| port.odd.first()) {
            None => Ok(()),
            Some(odd) => Err(format!("`{}` reached {at}", excerpt(odd.as_bytes())).into()),
        }
    }
}

/// Whether this is the answer to `id`. How an id is spelled is a check of its own.
pub(super) fn is_response(envelope: &Envelope, id: &Id) -> bool {
    let alike = |of: &Id| {
        let value = |id: &Id| wire::parse::<Value>(id.raw().as_bytes()).ok();
        of == id || value(of) == value(id)
    };
    matches!(&envelope.kind, Kind::Response { id: of } if alike(of))
}

/// The result of a response, or the error in words.
pub(super) fn result(answer: &Envelope) -> Verdict<Value> {
    match answer.outcome() {
        Ok(raw) => Ok(wire::parse(raw).unwrap_or_default()),
        Err(error) => Err(format!("was refused: {error}").into()),
    }
}

/// The code of a response that must be an error.
pub(super) fn refusal(answer: &Envelope) -> Verdict<i64> {
    match answer.outcome() {
        Err(error) => Ok(error.code),
        Ok(_) => Err(format!("an error was to come, and `{}` came", excerpt(&answer.body)).into()),
    }
}

/// Two values that must be the same; if not, where they differ first.
pub(super) fn same(what: &str, got: &Value, expected: &Value) -> Verdict {
    let Some((place, got, expected)) = difference(String::new(), got, expected) else {
        return Ok(());
    };
    let text = |value: Option<&Value>| match value {
        Some(value) => format!("`{}`", excerpt(value.to_string().as_bytes())),
        None => "nothing".to_owned(),
    };
    let at = if place.is_empty() { String::new() } else { format!(" at `{place}`") };
    Err(format!("{what} arrived with {} instead of {}{at}", text(got), text(expected)).into())
}

type Difference<'v> = (String, Option<&'v Value>, Option<&'v Value>);

fn difference<'v>(place: String, got: &'v Value, expected: &'v Value) -> Option<Difference<'v>> {
    let below = |name: &str| {
        if place.is_empty() { name.to_owned() } else { format!("{place}.{name}") }
    };
    match (got, expected) {
        (Value::Object(got), Value::Object(expected)) => {
            let names =
                expected.keys().chain(got.keys().filter(|name| !expected.contains_key(*name)));
            names.into_iter().find_map(|name| match (got.get(name), expected.get(name)) {
                (Some(got), Some(expected)) => difference(below(name), got, expected),
                (got, expected) => Some((below(name), got, expected)),
            })
        }
        (Value::Array(got), Value::Array(expected)) if got.len() == expected.len() => {
            let pairs = got.iter().zip(expected).enumerate();
            pairs
                .into_iter()
                .find_map(|(n, (got, expected))| difference(format!("{place}[{n}]"), got, expected))
        }
        _ if got == expected => None,
        _ => Some((place, Some(got), Some(expected))),
    }
}

/// The text and version of a document that the present server knows, from everything that it was told.
pub(super) fn told(s: &Stage, uri: &str) -> Option<(Value, String)> {
    told_at(s, SERVER, uri)
}

/// The same of another server.
pub(super) fn told_at(s: &Stage, server: At, uri: &str) -> Option<(Value, String)> {
    let mut told: Option<(Value, Document)> = None;
    for envelope in &s.port(server)?.heard {
        let params: Value = envelope.params_as().unwrap_or_default();
        let document = &params["textDocument"];
        if document["uri"] != uri {
            continue;
        }
        match envelope.method() {
            Some("textDocument/didOpen") => {
                let text = document["text"].as_str().unwrap_or("");
                told =
                    Some((document["version"].clone(), Document::new(Revision::default(), text)));
            }
            Some("textDocument/didChange") => {
                let changes: Vec<Change> =
                    params["contentChanges"].as_array()?.iter().filter_map(change).collect();
                let (version, text) = told.as_mut()?;
                text.apply(Revision::default(), &changes, Encoding::Utf16).ok()?;
                *version = document["version"].clone();
            }
            Some("textDocument/didClose") => told = None,
            _ => {}
        }
    }
    told.map(|(version, document)| (version, document.text()))
}

fn change(value: &Value) -> Option<Change> {
    let point = |value: &Value| {
        let number =
            |name: &str| value[name].as_u64().and_then(|number| u32::try_from(number).ok());
        Some(Position { line: number("line")?, character: number("character")? })
    };
    let range = match value.get("range") {
        Some(range) => Some(Range { start: point(&range["start"])?, end: point(&range["end"])? }),
        None => None,
    };
    Some(Change { range, text: value["text"].as_str()?.to_owned() })
}

/// Two texts that must be the same to the byte.
pub(super) fn same_bytes(what: &str, got: &[u8], expected: &[u8]) -> Verdict {
    if got == expected {
        return Ok(());
    }
    let at = got.iter().zip(expected).take_while(|(a, b)| a == b).count();
    let from = |bytes: &[u8]| excerpt(&bytes[at.saturating_sub(8).min(bytes.len())..]);
    Err(format!("{what} arrived as `{}` instead of `{}`", from(got), from(expected)).into())
}

/// Something that must be so.
pub(super) fn ensure(so: bool, otherwise: impl Into<String>) -> Verdict {
    if so { Ok(()) } else { Err(otherwise.into().into()) }
}
