//! Whether a place is one for a suggestion that nobody has asked for. Looks at the cursor's line and once at the text, and at nothing of
//! the model.

use crate::trim::is_word;

/// A longer line is data, or was written by a program.
pub(crate) const LINE_BYTES_MAX: usize = 2 << 10;
/// A longer text is a log or data.
pub(crate) const TEXT_BYTES_MAX: usize = 16 << 20;

/// Whether the cursor stands between two letters of a word: what comes there is known to the author alone.
pub(crate) fn is_inside_word(text: &str, offset: usize) -> bool {
    let (before, after) = text.split_at(crate::prompt::floor_boundary(text, offset));
    before.chars().next_back().is_some_and(is_word) && after.chars().next().is_some_and(is_word)
}

/// Whether nobody writes here by hand: the cursor's line is too long, or the text is too long, or no text. It is not parsed then, nor
/// checked.
pub(crate) fn is_data(text: &str, offset: usize) -> bool {
    if text.len() > TEXT_BYTES_MAX {
        return true;
    }
    let (before, after) = text.split_at(crate::prompt::floor_boundary(text, offset));
    let is_long = |half: &str, end: Option<usize>| end.unwrap_or(half.len()) > LINE_BYTES_MAX;
    let start = before.bytes().rev().take(LINE_BYTES_MAX + 1).position(|byte| byte == b'\n');
    let end = after.bytes().take(LINE_BYTES_MAX + 1).position(|byte| byte == b'\n');
    is_long(before, start) || is_long(after, end) || text.contains('\0')
}

/// Whether something may be suggested at the byte `offset` of `text` that nobody has asked for.
pub(crate) fn is_open(text: &str, offset: usize) -> bool {
    !is_data(text, offset) && !is_inside_word(text, offset) && !text.trim_start().is_empty()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn places_for_a_suggestion() {
        let long = "x".repeat(LINE_BYTES_MAX + 1);
        for (before, after, expected) in [
            ("x = ", "\n", true),
            ("val", "", true),
            ("val", " + 1", true),
            ("val", "ue", false),
            ("val", "é", false),
            ("_", "_", false),
            ("", "", false),
            (" \n\t", "\n \n", false),
            ("a\0b = ", "", false),
            ("a = ", "\n\0", false),
            (&long, "", false),
            ("", &long, false),
            (&format!("{long}\nx = "), &format!("\n{long}"), true),
        ] {
            let text = [before, after].concat();
            assert_eq!(is_open(&text, before.len()), expected, "{before:.20?} {after:.20?}");
        }
        assert!(is_open("é = ", 1000), "behind the end is the end");
        assert!(!is_open("aéb", 2), "inside a letter is before it");
        assert!(!is_open(&"x\n".repeat(TEXT_BYTES_MAX), 4));
    }
}
