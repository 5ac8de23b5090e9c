//! Diagnostics, and what was there before.
//!
//! A candidate is judged by what it *introduces*. Diagnostics before and after are therefore compared as multisets of
//! keys that survive an edit elsewhere in the file: the code, the message without its numbers of lines and columns, and
//! the text of the line. Offsets are never compared.

use std::collections::HashMap;
use std::hash::{DefaultHasher, Hash, Hasher};
use std::ops;

/// How bad a diagnostic is; earlier is worse.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Severity {
    /// The program is wrong.
    Error,
    /// The program is probably wrong.
    Warning,
    /// Something to know.
    Information,
    /// Something that could be nicer.
    Hint,
}

/// What a language server says about a range of a text.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Diagnostic {
    /// Bytes of the text that it was computed for.
    pub range: ops::Range<usize>,
    /// How bad it is.
    pub severity: Severity,
    /// The checker's code, such as `E0308` or `invalid-assignment`.
    pub code: Option<String>,
    /// Who says it.
    pub source: Option<String>,
    /// What it says.
    pub message: String,
}

/// The diagnostics of a text before a change, as a multiset: what a later text may have without being blamed for it.
#[derive(Clone, Debug, Default)]
pub struct Baseline {
    counts: HashMap<Key, u32>,
}

/// What makes two diagnostics the same although the text around them moved. Several with one key are counted, which is
/// the ordinal: the third of a kind is introduced if there were two.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
struct Key {
    code: Option<String>,
    message: String,
    line: u64,
}

impl Baseline {
    /// The baseline of `text` with its `diagnostics`.
    pub fn new(text: &str, diagnostics: &[Diagnostic]) -> Baseline {
        let mut counts = HashMap::new();
        for diagnostic in diagnostics {
            *counts.entry(Key::of(text, diagnostic)).or_insert(0) += 1;
        }
        Baseline { counts }
    }

    /// Those of `now`, the diagnostics of `text`, that the baseline does not have, in their order.
    pub fn introduced<'d>(&self, text: &str, now: &'d [Diagnostic]) -> Vec<&'d Diagnostic> {
        let mut left = self.counts.clone();
        let mut introduced = Vec::new();
        for diagnostic in now {
            match left.get_mut(&Key::of(text, diagnostic)) {
                Some(count) if *count > 0 => *count -= 1,
                _ => introduced.push(diagnostic),
            }
        }
        introduced
    }
}

impl Key {
    fn of(text: &str, diagnostic: &Diagnostic) -> Key {
        let mut hasher = DefaultHasher::new();
        text[line_at(text, diagnostic.range.start)].trim().hash(&mut hasher);
        Key {
            code: diagnostic.code.clone(),
            message: normalised(&diagnostic.message),
            line: hasher.finish(),
        }
    }
}

/// The bytes of the line around `offset`, without its line end. An offset beyond the text means the last line, and one
/// inside a character the line of that character.
pub fn line_at(text: &str, offset: usize) -> ops::Range<usize> {
    let bytes = text.as_bytes();
    let offset = offset.min(bytes.len());
    let ends = |byte: &u8| matches!(byte, b'\n' | b'\r');
    let between = offset > 0 && bytes[offset - 1] == b'\r' && bytes.get(offset) == Some(&b'\n');
    let offset = if between { offset - 1 } else { offset };
    let start = bytes[..offset].iter().rposition(ends).map_or(0, |at| at + 1);
    let end = bytes[offset..].iter().position(ends).map_or(bytes.len(), |at| offset + at);
    start..end
}

/// The message with white space collapsed, and with numbers masked that follow a colon or the words *line* and *column*.
fn normalised(message: &str) -> String {
    let mut out = String::with_capacity(message.len());
    for word in message.split_whitespace() {
        if !out.is_empty() {
            out.push(' ');
        }
        let counted = ["line ", "lines ", "column ", "col "].iter().any(|name| out.ends_with(name));
        let mut mask = counted;
        let mut previous_digit = false;
        for character in word.chars() {
            let digit = character.is_ascii_digit();
            if !(digit && mask) {
                out.push(character);
            } else if !previous_digit {
                out.push('#');
            }
            previous_digit = digit;
            mask = if digit { mask } else { character == ':' };
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn at(text: &str, needle: &str, message: &str) -> Diagnostic {
        let start = text.find(needle).unwrap();
        Diagnostic {
            range: start..start + needle.len(),
            severity: Severity::Error,
            code: Some("E1".to_owned()),
            source: None,
            message: message.to_owned(),
        }
    }

    #[test]
    fn an_old_finding_that_moved_is_not_introduced() {
        let before = "x = bad\n";
        let after = "import y\n    x = bad\nz = worse\n";
        let baseline = Baseline::new(before, &[at(before, "bad", "no `bad`, see line 1:5")]);
        let now = [at(after, "bad", "no `bad`,  see line 2:9"), at(after, "worse", "no `worse`")];
        assert_eq!(baseline.introduced(after, &now), [&now[1]]);
    }

    #[test]
    fn the_second_of_a_kind_is_introduced() {
        let (before, after) = ("f(bad)\n", "f(bad)\nf(bad)\n");
        let old = at(before, "bad", "no");
        let mut second = old.clone();
        second.range = 9..12;
        let baseline = Baseline::new(before, std::slice::from_ref(&old));
        let now = [old, second];
        assert_eq!(baseline.introduced(after, &now), [&now[1]]);
    }

    #[test]
    fn numbers_that_are_not_places_stay() {
        assert_eq!(
            normalised("expected 2\n arguments at line 30, a.py:3:14"),
            "expected 2 arguments at line #, a.py:#:#"
        );
    }

    #[test]
    fn an_offset_between_cr_and_lf_belongs_to_the_line_before() {
        assert_eq!(line_at("ab\r\ncd", 3), 0..2);
        assert_eq!(line_at("ab\r\ncd", 2), 0..2);
        assert_eq!(line_at("ab\r\ncd", 4), 4..6);
        assert_eq!(line_at("ab\n", 9), 3..3);
        assert_eq!(line_at("", 0), 0..0);
    }

    proptest! {
        #[test]
        fn line_at_is_a_slice_of_the_text(text in "[a😀\r\n]{0,20}", offset in 0usize..90) {
            let line = line_at(&text, offset);
            prop_assert!(!text[line].contains(['\r', '\n']));
        }

        #[test]
        fn nothing_is_introduced_by_the_same_text(text in "[ab\n]{1,20}", starts in proptest::collection::vec(0usize..20, 0..6)) {
            let all: Vec<Diagnostic> = starts
                .iter()
                .map(|start| Diagnostic { range: *start..*start, severity: Severity::Hint, code: None, source: None, message: "m".to_owned() })
                .collect();
            prop_assert!(Baseline::new(&text, &all).introduced(&text, &all).is_empty());
            prop_assert_eq!(Baseline::default().introduced(&text, &all).len(), all.len());
        }
    }
}
