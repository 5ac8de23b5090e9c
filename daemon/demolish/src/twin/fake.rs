//! A language server for tests, at the other end of a memory pipe.

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};

use serde_json::{Value as Json, json};
use text::{Change, Document, Encoding, Revision};
use wire::client::Client;
use wire::fake::{self, FakePeer};
use wire::{Kind, ResponseError, codes};

use super::Twins;

/// How the fake server behaves.
#[derive(Clone, Copy)]
pub(crate) struct Manner {
    pub(crate) pull: bool,
    pub(crate) encoding: &'static str,
    pub(crate) change: u32,
    /// Answers that many pulls with *content modified* first.
    pub(crate) restless: u32,
}

pub(crate) const PULL: Manner = Manner { pull: true, encoding: "utf-8", change: 2, restless: 0 };
pub(crate) const PUSH: Manner = Manner { pull: false, encoding: "utf-16", change: 1, restless: 0 };

/// A language server whose language has three rules: the word `bad` is an error, `slow` is never answered, and it dies of `die`. Names
/// that begin with `no` are defined nowhere.
struct Server {
    peer: FakePeer,
    manner: Manner,
    open: HashMap<String, Document>,
}

impl Server {
    async fn serve(mut self) {
        while let Some(envelope) = self.peer.next().await {
            let params: Json = envelope.params_as().unwrap_or(Json::Null);
            match &envelope.kind {
                Kind::Request { id, method } => match self.answer(method, &params) {
                    Some(Ok(result)) => self.peer.answer(id.clone(), &result),
                    Some(Err(error)) => self.peer.refuse(id.clone(), &error),
                    None => {}
                },
                Kind::Notification { method } => self.note(method, &params),
                Kind::Response { .. } => {}
            }
            if self.open.values().any(|document| document.text().contains("die")) {
                return;
            }
        }
    }

    fn encoding(&self) -> Encoding {
        Encoding::from_lsp(self.manner.encoding).unwrap()
    }

    fn note(&mut self, method: &str, params: &Json) {
        let uri = params["textDocument"]["uri"].as_str().unwrap_or_default().to_owned();
        let version = || {
            Revision(i32::try_from(params["textDocument"]["version"].as_i64().unwrap()).unwrap())
        };
        match method {
            "textDocument/didOpen" => {
                let text = params["textDocument"]["text"].as_str().unwrap();
                assert!(
                    self.open.insert(uri.clone(), Document::new(version(), text)).is_none(),
                    "opened twice"
                );
            }
            "textDocument/didChange" => {
                let change = &params["contentChanges"][0];
                let number = |json: &Json| u32::try_from(json.as_u64().unwrap()).unwrap();
                let place = |json: &Json| text::Position {
                    line: number(&json["line"]),
                    character: number(&json["character"]),
                };
                let range = change.get("range");
                assert_eq!(range.is_some(), self.manner.change == 2);
                let range = range.map(|range| text::Range {
                    start: place(&range["start"]),
                    end: place(&range["end"]),
                });
                let encoding = self.encoding();
                let document = self.open.get_mut(&uri).expect("changed before it was opened");
                assert!(version() > document.revision(), "versions grow");
                let text = change["text"].as_str().unwrap().to_owned();
                document.apply(version(), &[Change { range, text }], encoding).unwrap();
            }
            "textDocument/didClose" => {
                self.open.remove(&uri).expect("closed before it was opened");
            }
            _ => return,
        }
        if let (false, Some(document)) = (self.manner.pull, self.open.get(&uri))
            && !document.text().contains("slow")
        {
            // An older version first: it must not be taken for the answer.
            let stale = document.revision().0 - 1;
            for (version, list) in
                [(stale, json!([])), (document.revision().0, self.diagnostics(&uri))]
            {
                let params = json!({"uri": uri, "version": version, "diagnostics": list});
                self.peer.notify("textDocument/publishDiagnostics", &params);
            }
        }
    }

    fn diagnostics(&self, uri: &str) -> Json {
        let document = &self.open[uri];
        let text = document.text();
        let place = |offset| {
            let position = document.position(offset, self.encoding());
            json!({"line": position.line, "character": position.character})
        };
        let said = text.match_indices("bad").map(|(at, word)| {
            json!({"range": {"start": place(at), "end": place(at + word.len())}, "message": "bad word", "code": "bad", "data": at})
        });
        said.collect()
    }

    /// A name is defined in the file `NAME.py` beside the document, in the line where the document has it.
    fn definition(&self, uri: &str, position: &Json) -> Json {
        let number = |json: &Json| u32::try_from(json.as_u64().unwrap()).unwrap();
        let (line, character) = (number(&position["line"]), number(&position["character"]));
        let document = &self.open[uri];
        let at = document.offset(text::Position { line, character }, self.encoding());
        let text = document.text();
        let name: String =
            text[at..].chars().take_while(|char| char.is_alphanumeric() || *char == '_').collect();
        if name.starts_with("no") {
            return Json::Null;
        }
        let folder = &uri[..=uri.rfind('/').unwrap()];
        let start = json!({"line": line, "character": 0});
        json!([{"uri": format!("{folder}{name}.py"), "range": {"start": start, "end": start}}])
    }

    fn answer(&mut self, method: &str, params: &Json) -> Option<Result<Json, ResponseError>> {
        let uri = params["textDocument"]["uri"].as_str().unwrap_or_default();
        Some(Ok(match method {
            "initialize" => {
                let diagnostics = if self.manner.pull {
                    json!({"interFileDependencies": true})
                } else {
                    Json::Null
                };
                json!({"capabilities": {
                    "positionEncoding": self.manner.encoding,
                    "textDocumentSync": self.manner.change,
                    "diagnosticProvider": diagnostics,
                    "codeActionProvider": {"resolveProvider": true},
                    "definitionProvider": true,
                }})
            }
            "textDocument/diagnostic" if self.open[uri].text().contains("slow") => return None,
            "textDocument/diagnostic" if self.manner.restless > 0 => {
                self.manner.restless -= 1;
                return Some(Err(ResponseError::new(codes::CONTENT_MODIFIED, "again")));
            }
            "textDocument/diagnostic" => json!({"kind": "full", "items": self.diagnostics(uri)}),
            "textDocument/completion" => {
                let others: Vec<_> = self.open.keys().filter(|open| *open != uri).collect();
                json!({"isIncomplete": false, "items": [{"label": "good"}, {"label": format!("n{}", others.len())}]})
            }
            "textDocument/definition" => self.definition(uri, &params["position"]),
            "textDocument/codeAction" => {
                let diagnostic = &params["context"]["diagnostics"][0];
                assert!(diagnostic["data"].is_u64(), "the server gets its own words back");
                let elsewhere = json!({"changes": {"file:///other": [{"range": diagnostic["range"], "newText": ""}]}});
                json!([
                    {"title": "good", "kind": "quickfix", "data": diagnostic["range"]},
                    {"title": "elsewhere", "kind": "quickfix", "edit": elsewhere},
                    {"title": "rearrange", "kind": "refactor", "edit": {"changes": {}}},
                ])
            }
            "codeAction/resolve" => {
                let edits = json!([{"range": params["data"], "newText": "good"}]);
                let uri = self.open.keys().find(|uri| uri.ends_with("a.py")).unwrap();
                json!({"title": "good", "edit": {"changes": {uri.clone(): edits}}})
            }
            _ => return Some(Err(ResponseError::new(codes::METHOD_NOT_FOUND, method))),
        }))
    }
}

/// Twins whose servers are fakes; `starts` counts them.
pub(crate) fn twins(manner: Manner, starts: Arc<AtomicU32>) -> Twins {
    Twins::connecting(Arc::new(move |_plan, listener| {
        starts.fetch_add(1, Ordering::Relaxed);
        Box::pin(async move {
            let (peer, (reader, writer)) = fake::pair();
            tokio::spawn(Server { peer: peer.lenient(), manner, open: HashMap::new() }.serve());
            Ok((Client::start(reader, writer, listener), None))
        })
    }))
}
