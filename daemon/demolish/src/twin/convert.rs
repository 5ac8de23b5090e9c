//! Between what a language server says and what the rest of the program works with: positions become bytes, edits of one
//! document become [`text::Edit`]s, and everything that reaches further than that one document is turned away.

use recall::index;
use serde::Deserialize;
use serde_json::Value as Json;
use text::{Diagnostic, Document, Edit, Encoding, Severity};

use super::plan::path_of;

/// A name that is defined in more places says little; the first are enough.
const PLACES_MAX: usize = 3;

/// A diagnostic of the server: converted, and as it came, because the server wants its own words back when it is asked for
/// a fix.
#[derive(Debug, Clone)]
pub(crate) struct Said {
    /// Converted.
    pub(crate) diagnostic: Diagnostic,
    /// As it came.
    pub(crate) raw: Json,
}

#[derive(Deserialize)]
struct Place {
    line: u32,
    character: u32,
}

#[derive(Deserialize)]
struct Extent {
    start: Place,
    end: Place,
}

impl Extent {
    fn bytes(&self, document: &Document, encoding: Encoding) -> std::ops::Range<usize> {
        let place = |place: &Place| text::Position { line: place.line, character: place.character };
        document
            .byte_range(text::Range { start: place(&self.start), end: place(&self.end) }, encoding)
    }
}

/// Reads one diagnostic of `document`; `None` if it is not one.
#[must_use]
pub(crate) fn diagnostic(
    raw: &Json,
    document: &Document,
    encoding: Encoding,
) -> Option<Diagnostic> {
    let extent = Extent::deserialize(&raw["range"]).ok()?;
    let severity = match raw["severity"].as_u64() {
        Some(2) => Severity::Warning,
        Some(3) => Severity::Information,
        Some(4) => Severity::Hint,
        _ => Severity::Error,
    };
    let code = match &raw["code"] {
        Json::String(code) => Some(code.clone()),
        Json::Number(code) => Some(code.to_string()),
        _ => None,
    };
    Some(Diagnostic {
        range: extent.bytes(document, encoding),
        severity,
        code,
        source: raw["source"].as_str().map(str::to_owned),
        message: raw["message"].as_str()?.to_owned(),
    })
}

/// Reads a list of diagnostics; entries that are none are left out.
#[must_use]
pub(crate) fn diagnostics(list: &Json, document: &Document, encoding: Encoding) -> Vec<Said> {
    let items = list.as_array().map_or(&[][..], Vec::as_slice);
    let said = |raw: &Json| {
        Some(Said { diagnostic: diagnostic(raw, document, encoding)?, raw: raw.clone() })
    };
    items.iter().filter_map(said).collect()
}

/// The edits of a `WorkspaceEdit`, if they touch `uri` and nothing else: no other document, no file made, moved or deleted.
#[must_use]
pub(crate) fn edits_of_one(
    edit: &Json,
    uri: &str,
    document: &Document,
    encoding: Encoding,
) -> Option<Vec<Edit>> {
    let mut edits = Vec::new();
    if let Some(changes) = edit["documentChanges"].as_array() {
        for change in changes {
            if change["textDocument"]["uri"].as_str() != Some(uri) {
                return None;
            }
            text_edits(&change["edits"], document, encoding, &mut edits)?;
        }
    } else {
        for (changed, list) in edit["changes"].as_object()? {
            if changed != uri {
                return None;
            }
            text_edits(list, document, encoding, &mut edits)?;
        }
    }
    (!edits.is_empty()).then_some(edits)
}

fn text_edits(
    list: &Json,
    document: &Document,
    encoding: Encoding,
    into: &mut Vec<Edit>,
) -> Option<()> {
    for edit in list.as_array()? {
        let extent = Extent::deserialize(&edit["range"]).ok()?;
        let text = edit["newText"].as_str()?.to_owned();
        into.push(Edit { range: extent.bytes(document, encoding), text });
    }
    Some(())
}

/// What silences a checker instead of fixing what it found, in any language.
const SILENCERS: &[&str] = &[
    "ty: ignore",
    "type: ignore",
    "pyright: ignore",
    "noqa",
    "pylint: disable",
    "@ts-ignore",
    "@ts-expect-error",
    "@ts-nocheck",
    "eslint-disable",
    "#[allow(",
    "#![allow(",
    "nolint",
    "NOLINT",
];

/// Whether edits bring in a comment that silences the checker. Such a "fix" makes the finding go away and leaves the fault.
#[must_use]
pub(crate) fn silences(edits: &[Edit]) -> bool {
    edits.iter().any(|edit| SILENCERS.iter().any(|silencer| edit.text.contains(silencer)))
}

/// The name that `offset` stands in or at the end of, in bytes; empty if there is none.
#[must_use]
pub(crate) fn name_at(text: &str, offset: usize) -> std::ops::Range<usize> {
    let part = |c: &char| c.is_alphanumeric() || *c == '_' || *c == '$';
    let mut offset = offset.min(text.len());
    while !text.is_char_boundary(offset) {
        offset -= 1;
    }
    let before: usize = text[..offset].chars().rev().take_while(part).map(char::len_utf8).sum();
    let after: usize = text[offset..].chars().take_while(part).map(char::len_utf8).sum();
    offset - before..offset + after
}

/// The names that a completion list offers; `None` if it is no list.
///
/// Left out is what is not a plain name: snippets, and items that would change another place too (imports), because the
/// name alone would not be right there.
#[must_use]
pub(crate) fn names(response: &Json) -> Option<Vec<String>> {
    let items = response.as_array().or_else(|| response["items"].as_array())?;
    let name = |item: &Json| {
        let elsewhere =
            item["additionalTextEdits"].as_array().is_some_and(|edits| !edits.is_empty());
        let text = item["textEdit"]["newText"]
            .as_str()
            .or(item["insertText"].as_str())
            .or(item["label"].as_str())?;
        let plain = !text.is_empty() && name_at(text, 0) == (0..text.len());
        (plain && !elsewhere && item["insertTextFormat"] != 2).then(|| text.to_owned())
    };
    Some(items.iter().filter_map(name).collect())
}

/// The places of an answer to *where is this defined*: a `Location`, several of them or of `LocationLink`s, or nothing. Those that are no
/// files are left out.
#[must_use]
pub(crate) fn places(response: &Json) -> Vec<index::Place> {
    let list = response.as_array().map_or(std::slice::from_ref(response), Vec::as_slice);
    let place = |item: &Json| {
        let uri = item["uri"].as_str().or(item["targetUri"].as_str())?;
        let start = ["range", "targetSelectionRange", "targetRange"]
            .into_iter()
            .find_map(|extent| item[extent]["start"]["line"].as_u64())?;
        Some(index::Place { path: path_of(uri)?, line: usize::try_from(start).ok()? })
    };
    list.iter().filter_map(place).take(PLACES_MAX).collect()
}

#[cfg(test)]
mod tests {
    use serde_json::json;
    use text::Revision;

    use super::*;

    const TEXT: &str = "a = 'é😀'\nb = a + 1\n";

    fn document() -> Document {
        Document::new(Revision(1), TEXT)
    }

    fn range(start: (u32, u32), end: (u32, u32)) -> Json {
        let place = |(line, character)| json!({"line": line, "character": character});
        json!({"start": place(start), "end": place(end)})
    }

    #[test]
    fn positions_become_bytes_in_the_server_s_encoding() {
        let raw =
            json!({"range": range((0, 4), (0, 9)), "message": "no", "code": 2322, "severity": 2});
        let utf16 = diagnostic(&raw, &document(), Encoding::Utf16).unwrap();
        assert_eq!(&TEXT[utf16.range], "'é😀'");
        assert_eq!((utf16.severity, utf16.code.as_deref()), (Severity::Warning, Some("2322")));
        let raw = json!({"range": range((0, 4), (0, 12)), "message": "no"});
        let utf8 = diagnostic(&raw, &document(), Encoding::Utf8).unwrap();
        assert_eq!(&TEXT[utf8.range], "'é😀'");
    }

    #[test]
    fn edits_that_reach_further_are_turned_away() {
        let edit = json!({"range": range((1, 8), (1, 9)), "newText": "'1'"});
        let check = |workspace_edit: Json| {
            edits_of_one(&workspace_edit, "file:///a", &document(), Encoding::Utf16)
        };
        let expected = vec![Edit { range: TEXT.len() - 2..TEXT.len() - 1, text: "'1'".to_owned() }];
        assert_eq!(check(json!({"changes": {"file:///a": [edit]}})), Some(expected.clone()));
        let of_a = json!({"textDocument": {"uri": "file:///a", "version": 3}, "edits": [edit]});
        assert_eq!(check(json!({"documentChanges": [of_a]})), Some(expected));
        assert_eq!(
            check(json!({"documentChanges": [of_a, {"kind": "create", "uri": "file:///b"}]})),
            None
        );
        assert_eq!(check(json!({"changes": {"file:///a": [edit], "file:///b": [edit]}})), None);
        assert_eq!(check(json!({})), None);
    }

    #[test]
    fn every_form_of_a_place_is_read() {
        let line = |line: usize| range((u32::try_from(line).unwrap(), 4), (9, 9));
        let place = |path: &str, line| index::Place { path: path.into(), line };
        let location = json!({"uri": "file:///a.py", "range": line(3)});
        assert_eq!(places(&location), [place("/a.py", 3)]);
        let link = json!({
            "targetUri": "file:///b%20c.py", "targetRange": line(4), "targetSelectionRange": line(5),
        });
        let foreign = json!({"uri": "jar:file:///x.jar!/A.class", "range": line(1)});
        let list = json!([location, foreign, {"uri": 7}, link]);
        assert_eq!(places(&list), [place("/a.py", 3), place("/b c.py", 5)]);
        assert_eq!(places(&json!([location, location, location, location])).len(), PLACES_MAX);
        assert!(places(&Json::Null).is_empty() && places(&json!([])).is_empty());
    }

    #[test]
    fn only_plain_names_count() {
        let items = json!([
            {"label": "name"},
            {"label": "call(x)", "insertText": "call"},
            {"label": "for", "insertText": "for ${1:x}", "insertTextFormat": 2},
            {"label": "imported", "additionalTextEdits": [{}]},
            {"label": "two words"},
        ]);
        assert_eq!(names(&items).unwrap(), ["name", "call"]);
        assert_eq!(names(&json!({"isIncomplete": true, "items": items})).unwrap().len(), 2);
        assert_eq!(names(&Json::Null), None);
    }

    #[test]
    fn the_name_at_an_offset() {
        let text = "é.über_1(x)";
        for offset in 3..=10 {
            assert_eq!(&text[name_at(text, offset)], "über_1", "{offset}");
        }
        assert_eq!(name_at("a. ", 2), 2..2);
        assert_eq!(name_at("", 7), 0..0);
    }

    #[test]
    fn silencing_is_not_fixing() {
        let edit = |text: &str| Edit { range: 0..0, text: text.to_owned() };
        assert!(silences(&[edit("x"), edit("  # ty: ignore[missing-attribute]")]));
        assert!(!silences(&[edit("ignored = True")]));
    }
}
