//! Documents against a naive model: a string, searched from its start.

use proptest::prelude::*;

use super::*;

const ENCODINGS: [Encoding; 3] = [Encoding::Utf8, Encoding::Utf16, Encoding::Utf32];

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

fn naive_offset(text: &str, position: Position, encoding: Encoding) -> usize {
    let Some(line) = lines(text).get(position.line as usize).cloned() else {
        return text.len();
    };
    let (mut units, mut offset) = (0, line.start);
    for character in text[line].chars() {
        units += encoding.units(character);
        if units > position.character as usize {
            return offset;
        }
        offset += character.len_utf8();
    }
    offset
}

fn naive_position(text: &str, offset: usize, encoding: Encoding) -> Position {
    let offset = (0..=offset.min(text.len())).rev().find(|at| text.is_char_boundary(*at)).unwrap();
    let lines = lines(text);
    let line = lines.iter().rposition(|line| line.start <= offset).unwrap();
    let end = offset.min(lines[line].end);
    let units: usize =
        text[lines[line].start..end].chars().map(|character| encoding.units(character)).sum();
    Position { line: line as u32, character: units as u32 }
}

fn texts() -> impl Strategy<Value = String> {
    "(a|b|\t| |é|€|😀|\u{1F468}\u{200D}|\r\n|\r|\n|\u{2028}|\u{85}|\u{b}){0,40}"
}

fn ranges() -> impl Strategy<Value = Option<Range>> {
    let position = (0u32..6, 0u32..9).prop_map(|(line, character)| Position { line, character });
    proptest::option::weighted(
        0.9,
        (position.clone(), position).prop_map(|(start, end)| Range { start, end }),
    )
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(600))]

    #[test]
    fn rule_4_28_offsets_agree_with_the_naive_model(text in texts(), line in 0u32..8, character in 0u32..12) {
        let document = Document::new(Revision(1), &text);
        let position = Position { line, character };
        for encoding in ENCODINGS {
            prop_assert_eq!(document.offset(position, encoding), naive_offset(&text, position, encoding));
        }
    }

    #[test]
    fn rule_4_28_positions_agree_with_the_naive_model(text in texts(), offset in 0usize..90) {
        let document = Document::new(Revision(1), &text);
        for encoding in ENCODINGS {
            let position = document.position(offset, encoding);
            prop_assert_eq!(position, naive_position(&text, offset, encoding));
            let back = document.offset(position, encoding);
            prop_assert_eq!(document.position(back, encoding), position);
        }
    }

    #[test]
    fn rule_4_25_changes_agree_with_the_naive_model(
        text in texts(),
        changes in proptest::collection::vec((ranges(), texts()), 0..5),
    ) {
        for encoding in ENCODINGS {
            let mut document = Document::new(Revision(1), &text);
            let mut naive = text.clone();
            let mut list = Vec::new();
            for (range, text) in &changes {
                list.push(Change { range: *range, text: text.clone() });
                let bytes = range.map_or(0..naive.len(), |range| {
                    let start = naive_offset(&naive, range.start, encoding);
                    let end = naive_offset(&naive, range.end, encoding);
                    start.min(end)..start.max(end)
                });
                naive.replace_range(bytes, text);
            }
            document.apply(Revision(2), &list, encoding).unwrap();
            prop_assert_eq!(document.text(), naive);
            prop_assert_eq!(document.revision(), Revision(2));
        }
    }
}

#[test]
fn rule_4_28_a_position_inside_a_surrogate_pair_is_before_it() {
    let document = Document::new(Revision(0), "a😀b");
    let at = |character| document.offset(Position { line: 0, character }, Encoding::Utf16);
    assert_eq!([at(0), at(1), at(2), at(3), at(4), at(9)], [0, 1, 1, 5, 6, 6]);
}
