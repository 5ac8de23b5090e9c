//! Semantic tokens: lines and columns relative to the token before, and lengths.

use std::ops::Range;

use text::{Document, Encoding, Position};

/// The numbers of all tokens, counted in `to` instead of `from`; `None` if they are not tokens.
pub(super) fn convert(
    numbers: &[u32],
    document: &Document,
    from: Encoding,
    to: Encoding,
) -> Option<Vec<u32>> {
    let (tokens, []) = numbers.as_chunks::<5>() else { return None };
    let mut out = Vec::with_capacity(numbers.len());
    let (mut line, mut column, mut column_out) = (0u32, 0u32, 0u32);
    for [lines, columns, length, kind, modifiers] in tokens {
        if *lines > 0 {
            (line, column, column_out) = (line.checked_add(*lines)?, 0, 0);
        }
        column = column.checked_add(*columns)?;
        let position = Position { line, character: column };
        let (new_column, new_length) = if (line as usize) < document.rope().len_lines() {
            let start = document.offset(position, from);
            let end = advance(document, start, *length, from);
            (document.position(start, to).character, units(document, start..end, to))
        } else {
            (column, *length)
        };
        let relative = new_column.saturating_sub(column_out);
        out.extend([*lines, relative, new_length, *kind, *modifiers]);
        column_out = new_column;
    }
    Some(out)
}

/// How many units of `encoding` the bytes take, line ends included.
pub(super) fn units(document: &Document, bytes: Range<usize>, encoding: Encoding) -> u32 {
    let rope = document.rope();
    let count = |byte: usize| match encoding {
        Encoding::Utf8 => byte,
        Encoding::Utf16 => rope.char_to_utf16_cu(rope.byte_to_char(byte)),
        Encoding::Utf32 => rope.byte_to_char(byte),
    };
    (count(bytes.end) - count(bytes.start)) as u32
}

/// The byte that is `length` units behind the byte `start`; at most the end of the text.
fn advance(document: &Document, start: usize, length: u32, encoding: Encoding) -> usize {
    let rope = document.rope();
    let length = length as usize;
    let first = rope.byte_to_char(start);
    let end = match encoding {
        Encoding::Utf8 => rope.byte_to_char((start + length).min(rope.len_bytes())),
        Encoding::Utf16 => {
            let unit = rope.char_to_utf16_cu(first) + length;
            rope.utf16_cu_to_char(unit.min(rope.len_utf16_cu()))
        }
        Encoding::Utf32 => (first + length).min(rope.len_chars()),
    };
    rope.char_to_byte(end)
}
