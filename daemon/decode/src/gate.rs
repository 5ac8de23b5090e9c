//! Whether a place is one for a suggestion that nobody has asked for. Looks at the cursor's line and once at the text, and at nothing of
//! the model.

use crate::trim::is_word;

/// A longer line is data, or was written by a program.
pub(crate) const LINE_BYTES_MAX: usize = 2 << 10;
/// A longer text is a log or data.
pub(crate) const TEXT_BYTES_MAX: usize = 16 << 20;

/// Whether something may be suggested at the byte `offset` of `text`.
pub(crate) fn is_open(text: &str, offset: usize) -> bool {
    let offset = crate::prompt::floor_boundary(text, offset);
    if text.len() > TEXT_BYTES_MAX {
        return false;
    }
    let (before, after) = text.split_at(offset);
    let is_inside_word = before.chars().next_back().is_some_and(is_word)
        && after.chars().next().is_some_and(is_word);
    let near = |half: &str, found: Option<usize>| found.unwrap_or(half.len()) <= LINE_BYTES_MAX;
    let line_before = before.bytes().rev().take(LINE_BYTES_MAX + 1).position(|byte| byte == b'\n');
    let line_after = after.bytes().take(LINE_BYTES_MAX + 1).position(|byte| byte == b'\n');
    !is_inside_word
        && near(before, line_before)
        && near(after, line_after)
        && !text.trim_start().is_empty()
        && !text.contains('\0')
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
