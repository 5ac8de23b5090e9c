//! Documents and positions (rules 4.25 to 4.28) against a naive model: a string that is searched from its start.

use std::ops;

use proxy::positions::Conversion;
use serde_json::Value;
use text::{Change, Document, Encoding, Position, Range, Revision};

use super::input::Input;

const ENCODINGS: &[Encoding] = &[Encoding::Utf8, Encoding::Utf16, Encoding::Utf32];
const URI: &str = "file:///a";

/// What texts are made of.
const PIECES: &[&str] = &[
    "a",
    "b",
    " ",
    "\t",
    "é",
    "ß",
    "€",
    "😀",
    "\u{1F468}\u{200D}",
    "\n",
    "\r\n",
    "\r",
    "\u{2028}",
    "\u{85}",
    "\u{b}",
    "\u{0}",
    "fn f() {}\n",
    "\u{feff}",
    "e\u{301}",
    "\u{10ffff}",
];

/// One input.
pub fn run(data: &[u8]) {
    let mut input = Input::new(data);
    let mut naive = text_of(&mut input, 40);
    let mut document = Document::new(Revision(0), &naive);
    let mut revision = 0;
    while !input.is_empty() && revision < 4 {
        revision += 1;
        let encoding = *input.of(ENCODINGS);
        let changes: Vec<Change> = (0..1 + input.below(3)).map(|_| change(&mut input)).collect();
        check_conversion(&document, &changes, encoding, *input.of(ENCODINGS));
        document.apply(Revision(revision), &changes, encoding).expect("it is small");
        for change in &changes {
            let bytes =
                change.range.map_or(0..naive.len(), |range| naive_bytes(&naive, range, encoding));
            naive.replace_range(bytes, &change.text);
        }
        assert_eq!(document.text(), naive);
        let (from, to) = (*input.of(ENCODINGS), *input.of(ENCODINGS));
        check_positions(&document, &naive, &mut input, from, to);
    }
}

fn text_of(input: &mut Input<'_>, pieces: usize) -> String {
    (0..input.below(pieces)).map(|_| *input.of(PIECES)).collect()
}

fn position(input: &mut Input<'_>) -> Position {
    let place =
        |byte: u8| if byte < 250 { u32::from(byte % 16) } else { u32::MAX - u32::from(byte) + 250 };
    Position { line: place(input.byte()), character: place(input.byte()) }
}

fn change(input: &mut Input<'_>) -> Change {
    let whole = input.below(16) == 15;
    let range = (!whole).then(|| Range { start: position(input), end: position(input) });
    Change { range, text: text_of(input, 6) }
}

/// Places in the text, one by one and converted as in a message.
fn check_positions(
    document: &Document,
    naive: &str,
    input: &mut Input<'_>,
    from: Encoding,
    to: Encoding,
) {
    let places: Vec<Position> = (0..3).map(|_| position(input)).collect();
    let lines = lines(naive).len();
    let message: Vec<Value> = places
        .iter()
        .map(|place| serde_json::json!({ "range": { "start": wire(*place) } }))
        .collect();
    let text_of = |uri: &str| (uri == URI).then(|| document.clone());
    let by = Conversion { from, to, text_of: &text_of };
    let raw = Value::from(message).to_string();
    let converted = by.result("textDocument/documentHighlight", URI, raw.as_bytes());
    assert!(converted.left.is_empty());
    let converted: Vec<Value> = serde_json::from_slice(&converted.raw).expect("it was JSON");
    for (place, converted) in places.into_iter().zip(converted) {
        let offset = document.offset(place, from);
        assert_eq!(offset, naive_offset(naive, place, from));
        assert_eq!(document.position(offset, to), naive_position(naive, offset, to));
        // Beyond the last line nothing is known, so nothing is changed.
        let known = (place.line as usize) < lines && from != to;
        let expected = if known { naive_position(naive, offset, to) } else { place };
        let unchanged_line = Position { line: place.line, ..expected };
        assert_eq!(converted["range"]["start"], wire(unchanged_line));
    }
}

/// A change that is converted does what it did before.
fn check_conversion(document: &Document, changes: &[Change], from: Encoding, to: Encoding) {
    let listed: Vec<Value> = changes
        .iter()
        .map(|change| match change.range {
            Some(range) => {
                serde_json::json!({ "range": { "start": wire(range.start), "end": wire(range.end) }, "text": change.text })
            }
            None => serde_json::json!({ "text": change.text }),
        })
        .collect();
    let params = serde_json::json!({ "textDocument": { "uri": URI, "version": 1 }, "contentChanges": listed });
    let text_of = |uri: &str| (uri == URI).then(|| document.clone());
    let by = Conversion { from, to, text_of: &text_of };
    let raw = by.params("textDocument/didChange", "", params.to_string().as_bytes()).raw;
    let converted: Value = serde_json::from_slice(&raw).expect("it was JSON");
    let place = |value: &Value| Position {
        line: value["line"].as_u64().expect("a line") as u32,
        character: value["character"].as_u64().expect("a character") as u32,
    };
    let list = converted["contentChanges"].as_array().expect("the changes");
    let again: Vec<Change> = list
        .iter()
        .map(|change| Change {
            range: change
                .get("range")
                .map(|range| Range { start: place(&range["start"]), end: place(&range["end"]) }),
            text: change["text"].as_str().expect("a text").to_owned(),
        })
        .collect();
    let (mut one, mut other) = (document.clone(), document.clone());
    one.apply(Revision(1), changes, from).expect("it is small");
    other.apply(Revision(1), &again, to).expect("it is small");
    assert_eq!(one.text(), other.text(), "{changes:?} in {from:?} became {again:?} in {to:?}");
}

fn wire(position: Position) -> Value {
    serde_json::json!({ "line": position.line, "character": position.character })
}

/// The lines of `text` as byte ranges without line ends.
fn lines(text: &str) -> Vec<ops::Range<usize>> {
    let bytes = text.as_bytes();
    let (mut lines, mut start, mut at) = (Vec::new(), 0, 0);
    while at < bytes.len() {
        let width = match (bytes[at], bytes.get(at + 1)) {
            (b'\r', Some(b'\n')) => 2,
            (b'\r' | b'\n', _) => 1,
            _ => 0,
        };
        if width > 0 {
            lines.push(start..at);
            start = at + width;
        }
        at += width.max(1);
    }
    lines.push(start..bytes.len());
    lines
}

fn units(character: char, encoding: Encoding) -> usize {
    match encoding {
        Encoding::Utf8 => character.len_utf8(),
        Encoding::Utf16 => character.len_utf16(),
        Encoding::Utf32 => 1,
    }
}

fn naive_offset(text: &str, position: Position, encoding: Encoding) -> usize {
    let Some(line) = lines(text).get(position.line as usize).cloned() else { return text.len() };
    let (mut seen, mut offset) = (0, line.start);
    for character in text[line].chars() {
        seen += units(character, encoding);
        if seen > position.character as usize {
            break;
        }
        offset += character.len_utf8();
    }
    offset
}

fn naive_position(text: &str, offset: usize, encoding: Encoding) -> Position {
    let lines = lines(text);
    let line = lines.iter().rposition(|line| line.start <= offset).unwrap_or_default();
    let end = offset.min(lines[line].end);
    let character: usize = text[lines[line].start..end].chars().map(|c| units(c, encoding)).sum();
    Position { line: line as u32, character: character as u32 }
}

fn naive_bytes(text: &str, range: Range, encoding: Encoding) -> ops::Range<usize> {
    let (start, end) =
        (naive_offset(text, range.start, encoding), naive_offset(text, range.end, encoding));
    start.min(end)..start.max(end)
}
