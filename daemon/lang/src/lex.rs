//! What is open at a place in a text: brackets, strings, interpolations, comments.
//!
//! A small scanner, driven by the `[lex]` table of a language. Unlike a parser it is exact on text that stops anywhere, which
//! is what a prefix does. It does not know JSX text and heredocs.

use serde::Deserialize;

/// The `[lex]` table.
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Lex {
    /// Pairs of opening and closing signs.
    brackets: Vec<String>,
    /// Block comments nest.
    #[serde(default)]
    nested_comments: bool,
    /// `'a` is a lifetime, `'a'` a character.
    #[serde(default)]
    lifetimes: bool,
    /// `r#"…"#` is a string.
    #[serde(default)]
    raw_hashes: bool,
    /// `/…/` is a regular expression where a value is expected.
    #[serde(default)]
    regex: bool,
    /// `$$…$$` and `$tag$…$tag$` are strings.
    #[serde(default)]
    dollar_quotes: bool,
    /// The longest first.
    #[serde(default)]
    quote: Vec<Quote>,
    #[serde(skip)]
    line_comment: String,
    #[serde(skip)]
    block_comment: Option<[String; 2]>,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Quote {
    open: String,
    #[serde(default)]
    close: Option<String>,
    #[serde(default)]
    multiline: bool,
    #[serde(default = "yes")]
    escape: bool,
    #[serde(default)]
    interpolation: Option<Interpolation>,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Interpolation {
    /// Only strings that one of these letters stands before have it; empty means all.
    #[serde(default)]
    prefix: String,
    open: String,
    close: char,
}

fn yes() -> bool {
    true
}

/// Something that was opened and not closed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Frame {
    Bracket(char),
    Quote { index: usize, interpolates: bool },
    Interpolation(char),
    Raw { hashes: usize },
    Dollar { tag: Tag },
    Regex { class: bool },
    LineComment,
    BlockComment,
}

/// The sign that opens and closes a string in dollars (`$tag$`), of at most [`TAG_BYTES_MAX`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Tag {
    bytes: [u8; TAG_BYTES_MAX],
    len: usize,
}

/// A longer sign in dollars is not taken for one.
const TAG_BYTES_MAX: usize = 22;

impl Tag {
    /// The sign that `rest` starts with.
    fn at_start(rest: &str) -> Option<Tag> {
        let name = rest.strip_prefix('$')?;
        let len = 2 + name.find(|letter: char| !(letter.is_alphanumeric() || letter == '_'))?;
        let is_sign = rest[..len].ends_with('$') && !name.starts_with(|c: char| c.is_ascii_digit());
        let mut bytes = [0; TAG_BYTES_MAX];
        bytes.get_mut(..len).filter(|_| is_sign)?.copy_from_slice(&rest.as_bytes()[..len]);
        Some(Tag { bytes, len })
    }

    fn as_bytes(&self) -> &[u8] {
        &self.bytes[..self.len]
    }
}

/// What is open at one place, and what the scanner needs to go on from there.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Open {
    frames: Vec<Frame>,
    /// The fewest frames that were open at any time since [`Open::watch`].
    lowest: usize,
    /// How many frames were open when the watch began, and how many bytes were scanned since.
    floor: usize,
    scanned: usize,
    /// Where it first went below that floor.
    fell: Option<usize>,
    /// How many of the frames below that floor went because something around them was closed.
    left: usize,
    /// Where the first closing sign stands that nothing had opened.
    stray: Option<usize>,
    /// The last character that is neither blank nor comment, and the word that it ends.
    last: Option<char>,
    word: String,
}

impl Open {
    /// How many things are open.
    pub fn depth(&self) -> usize {
        self.frames.len()
    }

    /// Whether the place is inside a string or a regular expression, where letters are not code. The code of an interpolation is code.
    pub fn in_string(&self) -> bool {
        matches!(
            self.frames.last(),
            Some(
                Frame::Quote { .. }
                    | Frame::Raw { .. }
                    | Frame::Dollar { .. }
                    | Frame::Regex { .. }
            )
        )
    }

    /// Whether the place is inside a comment.
    pub fn in_comment(&self) -> bool {
        matches!(self.frames.last(), Some(Frame::LineComment | Frame::BlockComment))
    }

    /// Whether the place is inside a comment that ends with its line.
    pub(crate) fn in_line_comment(&self) -> bool {
        matches!(self.frames.last(), Some(Frame::LineComment))
    }

    /// Whether the place is neither inside a string nor a comment.
    pub(crate) fn in_code(&self) -> bool {
        !self.in_string() && !self.in_comment()
    }

    /// A whole word was passed over, of which nothing but its end matters.
    pub(crate) fn pass_word(&mut self) {
        self.last = Some('a');
        self.word.clear();
    }

    /// Starts to watch how deep it goes down from here.
    pub(crate) fn watch(&mut self, floor: usize) {
        self.lowest = self.frames.len();
        self.floor = floor;
        self.scanned = 0;
        self.fell = None;
        self.left = 0;
        self.stray = None;
    }

    /// The fewest frames since the watch began.
    pub fn lowest(&self) -> usize {
        self.lowest
    }

    /// The byte, counted from where the watch began, that first closed what had been open then.
    pub fn fell(&self) -> Option<usize> {
        self.fell
    }

    /// How many of the things that were open then were left open, where something around them was the first to be closed.
    pub(crate) fn left(&self) -> usize {
        self.left
    }

    /// The byte, counted likewise, of the first closing sign that nothing had opened.
    pub fn stray(&self) -> Option<usize> {
        self.stray
    }

    /// Without the innermost `count` frames.
    pub(crate) fn without(&self, count: usize) -> Open {
        let mut outer = self.clone();
        outer.frames.truncate(self.frames.len().saturating_sub(count));
        outer
    }

    /// The frames that are open, outermost first.
    pub(crate) fn frames(&self) -> &[Frame] {
        &self.frames
    }

    fn pop(&mut self) {
        self.frames.pop();
        self.lowest = self.lowest.min(self.frames.len());
    }
}

impl Lex {
    /// Whether the place is inside a string that has to end on its line.
    pub(crate) fn in_line_string(&self, open: &Open) -> bool {
        matches!(open.frames.last(), Some(Frame::Quote { index, .. }) if !self.quote[*index].multiline)
    }

    /// Whether the string or comment that is open may span lines, and what closes it in `after` belongs to another one: closing signs that
    /// come in pairs, or an opening one before the first closing one.
    pub(crate) fn is_left_open(&self, open: &Open, after: &str) -> bool {
        match open.frames.last() {
            Some(Frame::Quote { index, .. }) if self.quote[*index].multiline => {
                let quote = &self.quote[*index];
                quote.open == quote.close()
                    && after.matches(quote.close()).count().is_multiple_of(2)
            }
            Some(Frame::BlockComment) => {
                let [start, end] =
                    self.block_comment.as_ref().map_or(["", ""], |[start, end]| [start, end]);
                match (after.find(start), after.find(end)) {
                    (_, None) => true,
                    (opens, Some(closes)) => opens.is_some_and(|opens| opens < closes),
                }
            }
            _ => false,
        }
    }

    /// Comments are declared once, in `[comment]`.
    pub(crate) fn set_comments(&mut self, line: &str, block: Option<&[String; 2]>) {
        line.clone_into(&mut self.line_comment);
        self.block_comment = block.cloned();
    }

    /// What closes a frame.
    pub(crate) fn closer(&self, frame: Frame) -> String {
        match frame {
            Frame::Bracket(close) | Frame::Interpolation(close) => close.to_string(),
            Frame::Quote { index, .. } => self.quote[index].close().to_owned(),
            Frame::Raw { hashes } => format!("\"{}", "#".repeat(hashes)),
            Frame::Dollar { tag } => String::from_utf8_lossy(tag.as_bytes()).into_owned(),
            Frame::Regex { class } => if class { "]/" } else { "/" }.to_owned(),
            Frame::LineComment => "\n".to_owned(),
            Frame::BlockComment => {
                self.block_comment.as_ref().map_or_else(String::new, |pair| pair[1].clone())
            }
        }
    }

    /// Scans `text` from the state `open` and leaves the state behind it there.
    pub(crate) fn scan(&self, open: &mut Open, text: &str) {
        let mut rest = text;
        while let Some(taken) = self.step(open, rest) {
            if open.frames.len() < open.floor && open.fell.is_none() {
                open.fell = Some(open.scanned);
                open.left = open.floor - open.frames.len() - 1;
            }
            open.scanned += taken;
            rest = &rest[taken..];
        }
    }

    /// Scans the first sign of `rest`; the bytes that it took, `None` at the end.
    pub(crate) fn step(&self, open: &mut Open, rest: &str) -> Option<usize> {
        let first = rest.chars().next()?;
        let taken = match open.frames.last().copied() {
            Some(Frame::LineComment) => self.in_line_comment(open, first),
            Some(Frame::BlockComment) => self.in_block_comment(open, rest, first),
            Some(Frame::Quote { index, interpolates }) => {
                self.in_quote(open, rest, first, index, interpolates)
            }
            Some(Frame::Raw { hashes }) => in_raw(open, rest, first, hashes),
            Some(Frame::Dollar { tag }) => in_dollars(open, rest, first, tag),
            Some(Frame::Regex { class }) => in_regex(open, rest, first, class),
            _ => self.in_code(open, rest, first),
        };
        Some(taken.min(rest.len()))
    }

    fn in_line_comment(&self, open: &mut Open, first: char) -> usize {
        if first == '\n' || first == '\r' {
            open.pop();
        }
        first.len_utf8()
    }

    fn in_block_comment(&self, open: &mut Open, rest: &str, first: char) -> usize {
        let Some([start, end]) = &self.block_comment else { return first.len_utf8() };
        if rest.starts_with(end.as_str()) {
            open.pop();
            return end.len();
        }
        if self.nested_comments && rest.starts_with(start.as_str()) {
            open.frames.push(Frame::BlockComment);
            return start.len();
        }
        first.len_utf8()
    }

    fn in_quote(
        &self,
        open: &mut Open,
        rest: &str,
        first: char,
        index: usize,
        interpolates: bool,
    ) -> usize {
        let quote = &self.quote[index];
        if quote.escape && first == '\\' {
            return 1 + rest[1..].chars().next().map_or(0, char::len_utf8);
        }
        if rest.starts_with(quote.close()) {
            open.pop();
            open.last = Some('"');
            open.word.clear();
            return quote.close().len();
        }
        if (first == '\n' || first == '\r') && !quote.multiline {
            open.pop(); // It was never closed: an error, but the next line is code again.
            return first.len_utf8();
        }
        if let Some(interpolation) = quote.interpolation.as_ref().filter(|_| interpolates)
            && let Some(after) = rest.strip_prefix(interpolation.open.as_str())
        {
            if interpolation.open.len() == 1 && after.starts_with(interpolation.open.as_str()) {
                return 2; // Doubled, it stands for itself.
            }
            open.frames.push(Frame::Interpolation(interpolation.close));
            open.last = None;
            return interpolation.open.len();
        }
        first.len_utf8()
    }

    fn in_code(&self, open: &mut Open, rest: &str, first: char) -> usize {
        if first.is_whitespace() {
            if !open.word.is_empty()
                && open.last.is_some_and(char::is_alphanumeric)
                && !open.word.ends_with(' ')
            {
                open.word.push(' ');
            }
            return first.len_utf8();
        }
        if let Some(taken) =
            self.comment_start(open, rest).or_else(|| self.string_start(open, rest, first))
        {
            return taken;
        }
        if let Some(pair) = self.brackets.iter().find(|pair| pair.starts_with(first)) {
            open.frames.push(Frame::Bracket(pair.chars().nth(1).unwrap_or(first)));
        } else if self.brackets.iter().any(|pair| pair.ends_with(first)) {
            close_bracket(open, first);
        }
        if first.is_alphanumeric() || first == '_' {
            if open.word.ends_with(' ') || open.word.len() > WORD_BYTES_MAX {
                open.word.clear();
            }
            open.word.push(first);
        } else {
            open.word.clear();
        }
        open.last = Some(first);
        first.len_utf8()
    }

    fn comment_start(&self, open: &mut Open, rest: &str) -> Option<usize> {
        if let Some([start, _]) =
            self.block_comment.as_ref().filter(|pair| rest.starts_with(pair[0].as_str()))
        {
            open.frames.push(Frame::BlockComment);
            return Some(start.len());
        }
        if rest.starts_with(self.line_comment.as_str()) {
            open.frames.push(Frame::LineComment);
            return Some(self.line_comment.len());
        }
        None
    }

    fn string_start(&self, open: &mut Open, rest: &str, first: char) -> Option<usize> {
        if self.raw_hashes
            && let Some(hashes) = raw_start(rest)
            && (open.word.is_empty() || open.word.ends_with(' '))
        {
            open.frames.push(Frame::Raw { hashes });
            return Some(rest.find('"').unwrap_or(0) + 1);
        }
        if self.lifetimes && first == '\'' {
            return Some(character_len(rest));
        }
        if self.dollar_quotes
            && first == '$'
            && (open.word.is_empty() || open.word.ends_with(' '))
            && let Some(tag) = Tag::at_start(rest)
        {
            open.frames.push(Frame::Dollar { tag });
            return Some(tag.len);
        }
        if self.regex && first == '/' && value_expected(open) {
            open.frames.push(Frame::Regex { class: false });
            return Some(1);
        }
        let index = self.quote.iter().position(|quote| rest.starts_with(quote.open.as_str()))?;
        let quote = &self.quote[index];
        let interpolates = quote.interpolation.as_ref().is_some_and(|interpolation| {
            interpolation.prefix.is_empty()
                || open.word.chars().any(|letter| interpolation.prefix.contains(letter))
                    && open.word.len() <= 2
                    && !open.word.ends_with(' ')
        });
        open.frames.push(Frame::Quote { index, interpolates });
        Some(quote.open.len())
    }
}

/// Longer words are no keywords.
const WORD_BYTES_MAX: usize = 16;

impl Quote {
    fn close(&self) -> &str {
        self.close.as_deref().unwrap_or(&self.open)
    }
}

fn in_raw(open: &mut Open, rest: &str, first: char, hashes: usize) -> usize {
    if first == '"' && rest[1..].bytes().take_while(|byte| *byte == b'#').count() >= hashes {
        open.pop();
        open.last = Some('"');
        return 1 + hashes;
    }
    first.len_utf8()
}

fn in_dollars(open: &mut Open, rest: &str, first: char, tag: Tag) -> usize {
    if rest.as_bytes().starts_with(tag.as_bytes()) {
        open.pop();
        open.last = Some('"');
        return tag.len;
    }
    first.len_utf8()
}

fn in_regex(open: &mut Open, rest: &str, first: char, class: bool) -> usize {
    match first {
        '\\' => return 1 + rest[1..].chars().next().map_or(0, char::len_utf8),
        '\n' | '\r' => open.pop(), // It was a division after all.
        '[' | ']' => {
            open.frames.pop();
            open.frames.push(Frame::Regex { class: first == '[' });
        }
        '/' if !class => {
            open.pop();
            open.last = Some('"');
            open.word.clear();
        }
        _ => {}
    }
    first.len_utf8()
}

/// Closes the innermost bracket of this kind, and with it what was left open inside; strings are never left.
fn close_bracket(open: &mut Open, sign: char) {
    let inside = open
        .frames
        .iter()
        .rev()
        .take_while(|frame| matches!(frame, Frame::Bracket(_) | Frame::Interpolation(_)));
    let back =
        inside.take_while(|frame| !matches!(frame, Frame::Interpolation(close) if *close != sign));
    let found = back.enumerate().find(|(_, frame)| matches!(frame, Frame::Bracket(close) | Frame::Interpolation(close) if *close == sign));
    match found.map(|(index, _)| index) {
        Some(count) => {
            for _ in 0..=count {
                open.pop();
            }
        }
        None => {
            open.stray.get_or_insert(open.scanned);
        }
    }
}

/// `r"`, `br#"`, … at the start of `rest`: how many hashes.
fn raw_start(rest: &str) -> Option<usize> {
    let after = rest
        .strip_prefix("br")
        .or_else(|| rest.strip_prefix("cr"))
        .or_else(|| rest.strip_prefix('r'))?;
    let hashes = after.bytes().take_while(|byte| *byte == b'#').count();
    after[hashes..].starts_with('"').then_some(hashes)
}

/// The bytes of `'x'`, or 1 where the quote starts a lifetime.
fn character_len(rest: &str) -> usize {
    let mut characters = rest.char_indices().skip(1);
    match characters.next() {
        Some((_, '\\')) => {
            characters.next();
            let end = characters.find(|(_, character)| matches!(character, '\'' | '\n'));
            end.filter(|(_, character)| *character == '\'').map_or(1, |(at, _)| at + 1)
        }
        Some((_, character)) if character != '\'' => {
            characters.next().filter(|(_, next)| *next == '\'').map_or(1, |(at, _)| at + 1)
        }
        _ => 1,
    }
}

/// Whether a `/` here starts a regular expression: nothing that has a value stands before it.
fn value_expected(open: &Open) -> bool {
    let word = open.word.trim_end();
    if matches!(
        word,
        "return"
            | "typeof"
            | "case"
            | "in"
            | "of"
            | "delete"
            | "void"
            | "throw"
            | "new"
            | "instanceof"
            | "yield"
            | "await"
    ) {
        return true;
    }
    open.last.is_none_or(|last| "(,=:[!&|?{};+-*%~^<>".contains(last))
}
