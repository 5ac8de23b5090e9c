//! A document as the editor of a fault run has it: a plain string, and edits that are counted from it anew each time. It shares
//! no code with the mirror that it is compared with.

use serde_json::{Value, json};

use super::chance::Chance;

/// What texts are made of: letters of one to four bytes, all three ends of line, and what JSON must escape.
const PIECES: [&str; 16] = [
    "a",
    "é",
    "漢字",
    "😀",
    "𝄞x",
    "bad",
    "\n",
    "\n",
    "\r\n",
    "\r",
    "\t\"",
    "\\",
    "let x = 1;",
    " ",
    "\u{2028}",
    "e\u{301}",
];

/// An open document.
#[derive(Clone, Debug)]
pub(super) struct Buffer {
    /// Counts up with every change.
    pub(super) version: i32,
    /// What is in it.
    pub(super) text: String,
}

impl Buffer {
    /// A new document.
    pub(super) fn new(chance: &mut Chance) -> Buffer {
        Buffer { version: 1, text: pieces(chance, 60) }
    }

    /// Changes it; returns the `contentChanges` that say how.
    pub(super) fn edit(&mut self, chance: &mut Chance) -> Value {
        self.version += 1;
        let changes: Vec<Value> = (0..chance.between(1, 4)).map(|_| self.change(chance)).collect();
        changes.into()
    }

    fn change(&mut self, chance: &mut Chance) -> Value {
        if chance.percent(15) {
            self.text = pieces(chance, 40);
            return json!({ "text": self.text });
        }
        let (one, other) = (self.place(chance), self.place(chance));
        let (start, end) = (one.min(other), one.max(other));
        // Most edits are small.
        let end = if chance.percent(70) { start } else { end };
        let range =
            json!({ "start": position(&self.text, start), "end": position(&self.text, end) });
        let text = pieces(chance, 6);
        self.text.replace_range(start..end, &text);
        json!({ "range": range, "text": text })
    }

    /// A place that an editor can name: between two characters, and not within an end of line.
    fn place(&self, chance: &mut Chance) -> usize {
        let mut at = chance.below(self.text.len() + 1);
        while !self.text.is_char_boundary(at) {
            at -= 1;
        }
        let within = self.text[..at].ends_with('\r') && self.text[at..].starts_with('\n');
        if within { at - 1 } else { at }
    }

    /// How many lines hold `bad`, as the fake server counts them.
    pub(super) fn bad_lines(&self) -> usize {
        self.text.lines().filter(|line| line.contains("bad")).count()
    }
}

fn pieces(chance: &mut Chance, max: usize) -> String {
    (0..chance.below(max)).map(|_| *chance.one_of(&PIECES)).collect()
}

/// Line and UTF-16 units within it.
fn position(text: &str, offset: usize) -> Value {
    let (mut line, mut character) = (0, 0);
    let mut letters = text[..offset].chars().peekable();
    while let Some(letter) = letters.next() {
        match letter {
            '\r' if letters.peek() == Some(&'\n') => {}
            '\r' | '\n' => (line, character) = (line + 1, 0),
            _ => character += letter.len_utf16(),
        }
    }
    json!({ "line": line, "character": character })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn positions_count_lines_of_all_three_kinds_and_units_of_utf_16() {
        let text = "a😀\r\n\ré\nx";
        assert_eq!(position(text, 5), json!({ "line": 0, "character": 3 }));
        assert_eq!(position(text, 7), json!({ "line": 1, "character": 0 }));
        assert_eq!(position(text, 8), json!({ "line": 2, "character": 0 }));
        assert_eq!(position(text, 10), json!({ "line": 2, "character": 1 }));
        assert_eq!(position(text, text.len()), json!({ "line": 3, "character": 1 }));
    }
}
