//! An open document: a rope and the count of its text.
//!
//! Positions from outside are clamped and never refused: beyond the end of a line means its end, beyond the last line
//! means the end of the text, and inside a character (a UTF-8 sequence, a surrogate pair) means before it.

use std::ops;

use ropey::{Rope, RopeSlice};

use crate::{Encoding, Position, Range};

/// The largest text that a [`Document`] holds; a change that would exceed it is refused and leaves the text as it was.
pub const DOCUMENT_BYTES_MAX: usize = 512 * 1024 * 1024;

/// The version that the protocol gives to a text; grows with every change, not necessarily by one.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Revision(pub i32);

/// A text and its revision. Cloning is O(1).
#[derive(Clone, Debug)]
pub struct Document {
    rope: Rope,
    revision: Revision,
}

/// One content change of the protocol: replaces `range`, or everything if there is none.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Change {
    /// What is replaced; `None` is the whole text.
    pub range: Option<Range>,
    /// The new text.
    pub text: String,
}

/// Why changes were not applied. The document is as it was before.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ApplyError {
    /// The text would exceed [`DOCUMENT_BYTES_MAX`].
    #[error("the text would have {bytes} bytes, more than {DOCUMENT_BYTES_MAX}")]
    TooLarge {
        /// The length that it would have.
        bytes: usize,
    },
}

impl Document {
    /// A document with this text.
    pub fn new(revision: Revision, text: &str) -> Document {
        Document { rope: Rope::from_str(text), revision }
    }

    /// The revision of the text.
    pub fn revision(&self) -> Revision {
        self.revision
    }

    /// The text as a rope.
    pub fn rope(&self) -> &Rope {
        &self.rope
    }

    /// The text as one string (copies it).
    pub fn text(&self) -> String {
        self.rope.to_string()
    }

    /// The length of the text in bytes.
    pub fn len(&self) -> usize {
        self.rope.len_bytes()
    }

    /// Whether the text is empty.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Applies `changes` one after the other, each to the text that its predecessor left. A range whose end lies before
    /// its start is taken the other way round.
    pub fn apply(
        &mut self,
        revision: Revision,
        changes: &[Change],
        encoding: Encoding,
    ) -> Result<(), ApplyError> {
        let mut next = self.clone();
        for change in changes {
            let replaced = match change.range {
                Some(range) => next.byte_range(range, encoding),
                None => 0..next.len(),
            };
            let bytes = next.len() - replaced.len() + change.text.len();
            if bytes > DOCUMENT_BYTES_MAX {
                return Err(ApplyError::TooLarge { bytes });
            }
            if replaced.len() == next.len() {
                next.rope = Rope::from_str(&change.text);
                continue;
            }
            let start = next.rope.byte_to_char(replaced.start);
            let end = next.rope.byte_to_char(replaced.end);
            next.rope.remove(start..end);
            next.rope.insert(start, &change.text);
        }
        next.revision = revision;
        *self = next;
        Ok(())
    }

    /// The byte offset of `position`.
    pub fn offset(&self, position: Position, encoding: Encoding) -> usize {
        let line = position.line as usize;
        if line >= self.rope.len_lines() {
            return self.len();
        }
        let content = content(self.rope.line(line));
        let units = position.character as usize;
        let within = match encoding {
            Encoding::Utf8 => {
                content.char_to_byte(content.byte_to_char(units.min(content.len_bytes())))
            }
            Encoding::Utf16 => {
                content.char_to_byte(content.utf16_cu_to_char(units.min(content.len_utf16_cu())))
            }
            Encoding::Utf32 => content.char_to_byte(units.min(content.len_chars())),
        };
        self.rope.line_to_byte(line) + within
    }

    /// The position of the byte `offset`; inside a line end it is the place before the line end.
    pub fn position(&self, offset: usize, encoding: Encoding) -> Position {
        let line = self.rope.byte_to_line(offset.min(self.len()));
        let content = content(self.rope.line(line));
        let within =
            (offset.min(self.len()) - self.rope.line_to_byte(line)).min(content.len_bytes());
        let chars = content.byte_to_char(within);
        let character = match encoding {
            Encoding::Utf8 => content.char_to_byte(chars),
            Encoding::Utf16 => content.char_to_utf16_cu(chars),
            Encoding::Utf32 => chars,
        };
        Position { line: line as u32, character: character as u32 }
    }

    /// The bytes that `range` covers; a reversed range is taken the other way round.
    pub fn byte_range(&self, range: Range, encoding: Encoding) -> ops::Range<usize> {
        let (start, end) = (self.offset(range.start, encoding), self.offset(range.end, encoding));
        start.min(end)..start.max(end)
    }

    /// The positions of the ends of a range of bytes.
    pub fn range(&self, bytes: ops::Range<usize>, encoding: Encoding) -> Range {
        Range {
            start: self.position(bytes.start, encoding),
            end: self.position(bytes.end, encoding),
        }
    }
}

/// A line without its line end.
fn content(line: RopeSlice<'_>) -> RopeSlice<'_> {
    let mut bytes = line.len_bytes();
    if bytes > 0 && line.byte(bytes - 1) == b'\n' {
        bytes -= 1;
    }
    if bytes > 0 && line.byte(bytes - 1) == b'\r' {
        bytes -= 1;
    }
    line.byte_slice(..bytes)
}

#[cfg(test)]
mod tests;
