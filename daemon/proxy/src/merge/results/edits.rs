//! Edits of several servers (rule 4.40): all of them if no two touch the same place, otherwise those of the first.

use std::collections::HashMap;

use super::Part;
use crate::raw::{Raw, Splice, array};

/// Start and end as (line, character).
type Span = [(u32, u32); 2];

/// Lists of text edits of one document. `None` if they are not disjoint.
pub(super) fn merge_lists(parts: &[Part<'_>]) -> Option<Vec<u8>> {
    let lists: Vec<Vec<Raw<'_>>> =
        parts.iter().map(|part| Raw::new(part.result).elements()).collect();
    let spans = lists.iter().map(|list| spans(list)).collect::<Option<Vec<_>>>()?;
    disjoint(&spans).then(|| array(lists.iter().flatten().map(|edit| edit.bytes())))
}

/// Edits of the workspace. `None` if they are not disjoint, or cannot stand in one edit.
pub(super) fn merge_workspace(parts: &[Part<'_>]) -> Option<Vec<u8>> {
    let [first, others @ ..] = parts else { return None };
    let mut merged = first.result.to_vec();
    for other in others {
        merged = both(&merged, other.result)?;
    }
    Some(merged)
}

fn both(one: &[u8], other: &[u8]) -> Option<Vec<u8>> {
    let (into, from) = (Raw::new(one), Raw::new(other));
    if !is_sound(into) || !is_sound(from) {
        return None;
    }
    let (mine, theirs) = (Touched::of(into)?, Touched::of(from)?);
    if !mine.is_disjoint(&theirs) {
        return None;
    }
    if theirs.documents.is_empty() && theirs.files.is_empty() {
        return Some(one.to_vec());
    }
    if mine.documents.is_empty() && mine.files.is_empty() {
        return Some(other.to_vec());
    }
    let mut splice = Splice::new(one);
    match (into.get("documentChanges"), from.get("documentChanges")) {
        (Some(into), Some(from)) => document_changes(&mut splice, into, from)?,
        (None, None) => changes(&mut splice, into.get("changes")?, from.get("changes")?)?,
        (Some(into), None) => document_changes_from(&mut splice, into, from.get("changes")?)?,
        // The other way round it is the same, but for the order of the documents.
        (None, Some(_)) => return both(other, one),
    }
    annotations(&mut splice, into, from)?;
    Some(splice.finish())
}

/// Whether the members that are put together have the shape that they must have.
fn is_sound(edit: Raw<'_>) -> bool {
    edit.get("changes").is_none_or(Raw::is_object)
        && edit.get("documentChanges").is_none_or(Raw::is_array)
        && edit.get("changeAnnotations").is_none_or(Raw::is_object)
}

/// What an edit of the workspace touches.
#[derive(Default)]
struct Touched {
    documents: HashMap<String, Vec<Span>>,
    files: Vec<String>,
}

impl Touched {
    fn of(edit: Raw<'_>) -> Option<Touched> {
        let mut touched = Touched::default();
        if let Some(changes) = edit.get("documentChanges") {
            for change in changes.elements() {
                if change.get("kind").is_some() {
                    let uris = ["uri", "oldUri", "newUri"].into_iter();
                    touched.files.extend(uris.filter_map(|name| change.get(name)?.string()));
                } else {
                    let uri = change.path("textDocument.uri")?.string()?;
                    let spans = spans(&change.get("edits")?.elements())?;
                    touched.documents.entry(uri).or_default().extend(spans);
                }
            }
            return Some(touched);
        }
        for member in edit.get("changes").map(Raw::members).unwrap_or_default() {
            let spans = spans(&member.value.elements())?;
            touched.documents.entry(member.name()).or_default().extend(spans);
        }
        Some(touched)
    }

    fn is_disjoint(&self, other: &Touched) -> bool {
        let apart = |one: &Touched, other: &Touched| {
            !one.files
                .iter()
                .any(|uri| other.files.contains(uri) || other.documents.contains_key(uri))
        };
        let documents = self.documents.iter().all(|(uri, mine)| {
            other.documents.get(uri).is_none_or(|theirs| disjoint(&[mine.clone(), theirs.clone()]))
        });
        documents && apart(self, other) && apart(other, self)
    }
}

/// Adds their documents; where both change one, the edits go into one list, since positions count in the text before.
fn document_changes(splice: &mut Splice<'_>, into: Raw<'_>, from: Raw<'_>) -> Option<()> {
    let mine = into.elements();
    for change in from.elements() {
        let uri = change.path("textDocument.uri").and_then(Raw::string);
        match uri.and_then(|uri| document(&mine, &uri)) {
            Some(edits) => push_all(splice, edits, change.get("edits")?),
            None => splice.push(into, change.bytes()),
        }
    }
    Some(())
}

fn document_changes_from(splice: &mut Splice<'_>, into: Raw<'_>, from: Raw<'_>) -> Option<()> {
    let mine = into.elements();
    for member in from.members() {
        match document(&mine, &member.name()) {
            Some(edits) => push_all(splice, edits, member.value),
            None => {
                let uri = crate::raw::quoted(&member.name());
                let change = [
                    br#"{"textDocument":{"uri":"#,
                    &uri[..],
                    br#","version":null},"edits":"#,
                    member.value.bytes(),
                    b"}",
                ];
                splice.push(into, &change.concat());
            }
        }
    }
    Some(())
}

fn changes(splice: &mut Splice<'_>, into: Raw<'_>, from: Raw<'_>) -> Option<()> {
    for member in from.members() {
        match into.get(&member.name()) {
            Some(edits) if edits.is_array() => push_all(splice, edits, member.value),
            Some(_) => return None,
            None => splice.insert(into, &member.name(), member.value.bytes()),
        }
    }
    Some(())
}

/// Annotations go by name; two of the same name cannot both stand.
fn annotations(splice: &mut Splice<'_>, into: Raw<'_>, from: Raw<'_>) -> Option<()> {
    let Some(theirs) = from.get("changeAnnotations") else { return Some(()) };
    let Some(mine) = into.get("changeAnnotations") else {
        splice.insert(into, "changeAnnotations", theirs.bytes());
        return Some(());
    };
    for member in theirs.members() {
        if mine.get(&member.name()).is_some() {
            return None;
        }
        splice.insert(mine, &member.name(), member.value.bytes());
    }
    Some(())
}

/// The edits of the first change of the document `uri`.
fn document<'a>(changes: &[Raw<'a>], uri: &str) -> Option<Raw<'a>> {
    let of = |change: &&Raw<'a>| {
        change.path("textDocument.uri").and_then(Raw::string).as_deref() == Some(uri)
    };
    changes.iter().find(of)?.get("edits").filter(|edits| edits.is_array())
}

fn push_all(splice: &mut Splice<'_>, into: Raw<'_>, from: Raw<'_>) {
    for edit in from.elements() {
        splice.push(into, edit.bytes());
    }
}

/// The ranges of edits; `None` if one has none that can be read.
fn spans(edits: &[Raw<'_>]) -> Option<Vec<Span>> {
    let span = |edit: &Raw<'_>| {
        let range = edit.get("range")?;
        let at = |path| range.path(path)?.number();
        let start = (at("start.line")?, at("start.character")?);
        Some([start, (at("end.line")?, at("end.character")?).max(start)])
    };
    edits.iter().map(span).collect()
}

/// Whether no range of one list touches one of another: they may meet, but two insertions at one place have no order.
fn disjoint(lists: &[Vec<Span>]) -> bool {
    let mut all: Vec<(Span, usize)> = Vec::new();
    for (list, spans) in lists.iter().enumerate() {
        all.extend(spans.iter().map(|span| (*span, list)));
    }
    all.sort_unstable();
    // Of the spans so far, the one that reaches furthest; those of one list do not overlap in a valid edit, and of an
    // invalid one it is enough that what is said here is cautious.
    let mut furthest: Option<(Span, usize)> = None;
    for (span, list) in all {
        if let Some((before, other)) = furthest
            && other != list
            && (span[0] < before[1] || span == before)
        {
            return false;
        }
        if furthest.is_none_or(|(before, _)| span[1] >= before[1]) {
            furthest = Some((span, list));
        }
    }
    true
}
