//! Output that was not read yet, with the places where it is not text but tokens of the vocabulary.

use std::ops::Range;

/// A token that is no text, in the buffer under its name.
#[derive(Debug, Clone, Copy)]
struct Mark {
    start: usize,
    len: usize,
    /// Never part of a value: the end of a turn and its like.
    is_control: bool,
}

/// Output that was not read yet.
#[derive(Debug, Default)]
pub(super) struct Buffer {
    text: String,
    marks: Vec<Mark>,
    /// Bytes of output before `text`.
    pub(super) offset: usize,
}

/// Something to look for.
#[derive(Debug, Clone, Default)]
pub(super) struct Literal {
    text: String,
    /// The parts of it that are tokens.
    tokens: Vec<Range<usize>>,
}

/// Whether a literal stands at a place.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Match {
    No,
    /// As far as the buffer goes.
    Partial,
    Full,
}

impl Literal {
    /// White space at the ends of a mark is not looked for. `names` are the tokens of the vocabulary.
    pub(super) fn new(mark: &str, names: &[String]) -> Literal {
        let text = mark.trim().to_owned();
        let mut tokens = Vec::new();
        let mut at = 0;
        while at < text.len() {
            let here = names
                .iter()
                .filter(|name| !name.is_empty() && text[at..].starts_with(name.as_str()));
            let len = here.map(String::len).max();
            tokens.extend(len.map(|len| at..at + len));
            at += len.unwrap_or_else(|| text[at..].chars().next().map_or(1, char::len_utf8));
        }
        Literal { text, tokens }
    }

    pub(super) fn is_empty(&self) -> bool {
        self.text.is_empty()
    }

    pub(super) fn len(&self) -> usize {
        self.text.len()
    }

    pub(super) fn text(&self) -> &str {
        &self.text
    }

    /// Whether no text can spell it.
    pub(super) fn is_token(&self) -> bool {
        !self.tokens.is_empty()
    }
}

impl Buffer {
    pub(super) fn push(&mut self, text: &str) {
        self.text.push_str(text);
    }

    pub(super) fn push_mark(&mut self, name: &str, is_control: bool) {
        self.marks.push(Mark { start: self.text.len(), len: name.len(), is_control });
        self.text.push_str(name);
    }

    pub(super) fn text(&self) -> &str {
        &self.text
    }

    pub(super) fn len(&self) -> usize {
        self.text.len()
    }

    /// Drops the first `len` bytes.
    pub(super) fn consume(&mut self, len: usize) {
        self.text.drain(..len);
        self.offset += len;
        self.marks.retain_mut(|mark| {
            let stays = mark.start >= len;
            mark.start = mark.start.saturating_sub(len);
            stays
        });
    }

    /// The text of a range, all tokens left out.
    pub(super) fn plain(&self, range: Range<usize>) -> String {
        self.without(range, |_| true)
    }

    /// The text of a range with those tokens that may be meant as text.
    pub(super) fn value(&self, range: Range<usize>) -> String {
        self.without(range, |mark| mark.is_control)
    }

    fn without(&self, range: Range<usize>, is_left_out: impl Fn(&Mark) -> bool) -> String {
        let mut text = String::with_capacity(range.len());
        let mut at = range.start;
        for mark in
            self.marks.iter().filter(|mark| range.contains(&mark.start) && is_left_out(mark))
        {
            text.push_str(&self.text[at..mark.start]);
            at = mark.start + mark.len;
        }
        text.push_str(&self.text[at..range.end]);
        text
    }

    /// Whether `literal` stands at byte `at`.
    pub(super) fn matches(&self, at: usize, literal: &Literal) -> Match {
        let rest = &self.text.as_bytes()[at..];
        let len = rest.len().min(literal.text.len());
        let are_tokens = || {
            let tokens = literal.tokens.iter().filter(|token| token.start < len);
            tokens.into_iter().all(|token| {
                self.marks
                    .iter()
                    .any(|mark| mark.start == at + token.start && mark.len == token.len())
            })
        };
        if literal.is_empty() || rest[..len] != literal.text.as_bytes()[..len] || !are_tokens() {
            Match::No
        } else if len < literal.text.len() {
            Match::Partial
        } else {
            Match::Full
        }
    }

    /// The first place from `from` on where one of `literals` stands, or, while more may come, begins to; and which of them. A
    /// longer one goes before a shorter one.
    pub(super) fn find(
        &self,
        from: usize,
        literals: &[&Literal],
        is_end: bool,
    ) -> Option<(usize, usize, Match)> {
        let bytes = self.text.as_bytes();
        (from..bytes.len()).filter(|&at| self.text.is_char_boundary(at)).find_map(|at| {
            let found = literals.iter().enumerate().filter_map(|(index, literal)| {
                // The first byte settles nearly all places.
                if literal.text.as_bytes().first() != Some(&bytes[at]) {
                    return None;
                }
                let found = self.matches(at, literal);
                let counts = found == Match::Full || found == Match::Partial && !is_end;
                counts.then_some((at, index, found))
            });
            // One that may still come in full must be waited for if it is longer than what is there.
            found.max_by_key(|(_, index, _)| literals[*index].len())
        })
    }

    /// The first byte from `from` on that is not white space.
    pub(super) fn skip_space(&self, from: usize) -> usize {
        let rest = &self.text[from..];
        from + (rest.len() - rest.trim_start().len())
    }
}
