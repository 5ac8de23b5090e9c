//! What a twin has open, and the messages that bring it from one text to the next. Pure.
//!
//! A twin's versions are its own: they start at 1 and grow by one with every change, whatever the editor's do. Between two
//! texts only the part that differs is sent, where the server takes parts.

use std::collections::BTreeMap;
use std::sync::Arc;

use serde_json::{Value as Json, json};
use text::{Change, Document, Encoding, Revision, differing};

/// A document as some client sees it: what the twin shall have open beside the one that is checked.
#[derive(Debug, Clone)]
pub struct Open {
    /// Its address, as the client spells it.
    pub uri: String,
    /// Its language, as the protocol names it.
    pub language_id: String,
    /// Its text and the client's revision of it.
    pub document: Document,
}

/// A notification for the server.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Note {
    /// The method.
    pub(crate) method: &'static str,
    /// The parameters.
    pub(crate) params: Json,
}

/// How the server wants to be told.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Dialect {
    /// The unit of positions.
    pub(crate) encoding: Encoding,
    /// Whether it takes changed parts; else each change carries the whole text.
    pub(crate) incremental: bool,
}

/// What the server has open.
#[derive(Debug, Default)]
pub(crate) struct Documents {
    open: BTreeMap<String, Held>,
}

#[derive(Debug)]
struct Held {
    document: Document,
    text: Arc<str>,
    /// The client's revision that this text is, when it is one: the cheap proof that nothing has changed.
    client_revision: Option<(Revision, usize)>,
}

impl Documents {
    /// Brings one document to `text`: opened if it is new, changed if it differs, nothing if not.
    pub(crate) fn set(
        &mut self,
        dialect: Dialect,
        uri: &str,
        language_id: &str,
        text: &Arc<str>,
    ) -> Option<Note> {
        let Some(held) = self.open.get_mut(uri) else {
            let document = Document::new(Revision(1), text);
            self.open.insert(
                uri.to_owned(),
                Held { document, text: text.clone(), client_revision: None },
            );
            return Some(Note {
                method: "textDocument/didOpen",
                params: json!({"textDocument": {"uri": uri, "languageId": language_id, "version": 1, "text": &**text}}),
            });
        };
        held.client_revision = None;
        if held.text == *text {
            return None;
        }
        let version = held.document.revision().0 + 1;
        let change = held.change_to(dialect, version, text);
        Some(Note {
            method: "textDocument/didChange",
            params: json!({"textDocument": {"uri": uri, "version": version}, "contentChanges": [change]}),
        })
    }

    /// Brings the documents beside `checked` to what the client has open, and closes what it has not.
    pub(crate) fn surround(
        &mut self,
        dialect: Dialect,
        checked: &str,
        others: &[Open],
    ) -> Vec<Note> {
        let mut notes = Vec::new();
        let gone: Vec<String> = self
            .open
            .keys()
            .filter(|uri| *uri != checked && !others.iter().any(|other| other.uri == **uri))
            .cloned()
            .collect();
        for uri in gone {
            self.open.remove(&uri);
            notes.push(Note {
                method: "textDocument/didClose",
                params: json!({"textDocument": {"uri": uri}}),
            });
        }
        for other in others.iter().filter(|other| other.uri != checked) {
            let revision = (other.document.revision(), other.document.len());
            if self.open.get(&other.uri).is_some_and(|held| held.client_revision == Some(revision))
            {
                continue;
            }
            let text: Arc<str> = other.document.text().into();
            notes.extend(self.set(dialect, &other.uri, &other.language_id, &text));
            if let Some(held) = self.open.get_mut(&other.uri) {
                held.client_revision = Some(revision);
            }
        }
        notes
    }

    /// The version that the server has of a document.
    #[must_use]
    pub(crate) fn version(&self, uri: &str) -> Option<i32> {
        self.open.get(uri).map(|held| held.document.revision().0)
    }

    /// The text that the server has of a document.
    #[must_use]
    pub(crate) fn document(&self, uri: &str) -> Option<&Document> {
        self.open.get(uri).map(|held| &held.document)
    }
}

impl Held {
    fn change_to(&mut self, dialect: Dialect, version: i32, text: &Arc<str>) -> Json {
        let (old, new) = differing(&self.text, text);
        let range = self.document.range(old.clone(), dialect.encoding);
        let part = &text[new];
        let change = Change { range: Some(range), text: part.to_owned() };
        let whole = json!({"text": &**text});
        // The rope is the proof that the server, which does the same, will have this text: else it gets the whole one.
        let applied = self.document.apply(Revision(version), &[change], dialect.encoding).is_ok()
            && self.document.len() == text.len();
        if !applied {
            self.document = Document::new(Revision(version), text);
        }
        self.text = text.clone();
        if !applied || !dialect.incremental {
            return whole;
        }
        let place = |position: text::Position| json!({"line": position.line, "character": position.character});
        json!({"range": {"start": place(range.start), "end": place(range.end)}, "text": part})
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const DIALECT: Dialect = Dialect { encoding: Encoding::Utf16, incremental: true };

    fn set(documents: &mut Documents, text: &str) -> Option<Note> {
        documents.set(DIALECT, "file:///a.py", "python", &Arc::from(text))
    }

    #[test]
    fn a_document_is_opened_once_and_then_changed_in_its_differing_part() {
        let mut documents = Documents::default();
        assert_eq!(set(&mut documents, "x = 1\n").unwrap().method, "textDocument/didOpen");
        assert_eq!(set(&mut documents, "x = 1\n"), None);
        let note = set(&mut documents, "x = 12\n").unwrap();
        assert_eq!(
            note.params["contentChanges"],
            json!([{"range": {"start": {"line": 0, "character": 5}, "end": {"line": 0, "character": 5}}, "text": "2"}])
        );
        assert_eq!(note.params["textDocument"]["version"], 2);
    }

    #[test]
    fn a_server_that_takes_no_parts_gets_the_whole_text() {
        let mut documents = Documents::default();
        let dialect = Dialect { incremental: false, ..DIALECT };
        let _ = documents.set(dialect, "file:///a.py", "python", &Arc::from("a\n"));
        let note = documents.set(dialect, "file:///a.py", "python", &Arc::from("b\n")).unwrap();
        assert_eq!(note.params["contentChanges"], json!([{"text": "b\n"}]));
    }

    #[test]
    fn what_surrounds_the_document_follows_the_client() {
        let open = |uri: &str, revision, text: &str| Open {
            uri: uri.to_owned(),
            language_id: "python".to_owned(),
            document: Document::new(Revision(revision), text),
        };
        let mut documents = Documents::default();
        let _ = set(&mut documents, "x = 1\n");
        let methods = |notes: Vec<Note>| notes.iter().map(|note| note.method).collect::<Vec<_>>();
        let b = open("file:///b.py", 7, "b");
        let notes = documents.surround(DIALECT, "file:///a.py", std::slice::from_ref(&b));
        assert_eq!(methods(notes), ["textDocument/didOpen"]);
        assert_eq!(methods(documents.surround(DIALECT, "file:///a.py", &[b])), [""; 0]);
        let notes = documents.surround(DIALECT, "file:///a.py", &[open("file:///b.py", 8, "bb")]);
        assert_eq!(methods(notes), ["textDocument/didChange"]);
        assert_eq!(
            methods(documents.surround(DIALECT, "file:///a.py", &[])),
            ["textDocument/didClose"]
        );
        assert!(documents.document("file:///a.py").is_some(), "the one that is checked stays");
    }

    proptest! {
        /// A server that applies what it is sent has the text that was meant, in every encoding.
        #[test]
        fn a_server_that_applies_the_changes_has_the_text(
            texts in prop::collection::vec("([a-c\\r\\n\\t äé€😀]|\\r\\n){0,12}", 1..6),
            encoding in prop::sample::select(vec![Encoding::Utf8, Encoding::Utf16, Encoding::Utf32]),
        ) {
            let dialect = Dialect { encoding, incremental: true };
            let mut documents = Documents::default();
            let mut server = Document::new(Revision(0), "");
            for text in &texts {
                let Some(note) = documents.set(dialect, "file:///a", "x", &Arc::from(text.as_str())) else { continue };
                if note.method == "textDocument/didOpen" {
                    server = Document::new(Revision(1), note.params["textDocument"]["text"].as_str().unwrap());
                } else {
                    let change = &note.params["contentChanges"][0];
                    let place = |end: &str| {
                        let number = |name: &str| u32::try_from(change["range"][end][name].as_u64().unwrap()).unwrap();
                        text::Position { line: number("line"), character: number("character") }
                    };
                    let range = change.get("range").map(|_| text::Range { start: place("start"), end: place("end") });
                    let text = change["text"].as_str().unwrap().to_owned();
                    server.apply(Revision(2), &[Change { range, text }], encoding).unwrap();
                }
                prop_assert_eq!(server.text(), text.as_str());
            }
        }
    }
}
