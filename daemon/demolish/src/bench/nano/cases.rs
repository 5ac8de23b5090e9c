//! Where completions are asked for: holes in held-out files, and what the author wrote there.
//!
//! A hole is an identifier, the rest of a line or some lines. What stands before and behind it is what the editor has. Holes are in
//! code, not in comments or strings; which one of a file is asked for is decided by a hash of the file's name.

use lang::Grammar;

use super::corpus::{File, Held};
use crate::bench::draw::{hash, pick};

/// Lines of a block that is left out, at most and at least.
const BLOCK_LINES: std::ops::RangeInclusive<usize> = 2..=6;
/// Shorter identifiers are a matter of taste.
const IDENTIFIER_BYTES_MIN: usize = 2;
/// The rest of a line has at least so many characters that are no blanks.
const REST_CHARS_MIN: usize = 2;
/// Places of a file that are tried before it is given up.
const TRIES: u64 = 24;
/// How often all files are gone through, where there are fewer than cases.
const PASSES_MAX: u64 = 16;

/// What is left out.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(super) enum Kind {
    /// An identifier; the rest of the line stays.
    Identifier,
    /// A line from an identifier on; the identifier is what counts.
    Name,
    /// A line from its indentation on.
    Line,
    /// A line from a random place on.
    Rest,
    /// Two to six lines.
    Block,
}

impl Kind {
    pub(super) const ALL: [Kind; 5] =
        [Kind::Identifier, Kind::Name, Kind::Line, Kind::Rest, Kind::Block];

    /// As rows name it.
    pub(super) fn name(self) -> &'static str {
        match self {
            Kind::Identifier => "identifier",
            Kind::Name => "name",
            Kind::Line => "line",
            Kind::Rest => "rest",
            Kind::Block => "block",
        }
    }
}

/// A hole in a file.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Case<'h> {
    pub(super) language: &'static str,
    pub(super) kind: Kind,
    pub(super) file: &'h File,
    /// In bytes of the file.
    pub(super) begin: usize,
    pub(super) end: usize,
}

impl<'h> Case<'h> {
    /// What the author wrote.
    pub(super) fn truth(&self) -> &'h str {
        &self.file.text[self.begin..self.end]
    }

    pub(super) fn before(&self) -> &'h str {
        &self.file.text[..self.begin]
    }

    pub(super) fn after(&self) -> &'h str {
        &self.file.text[self.end..]
    }

    /// The document as the editor has it.
    pub(super) fn document(&self) -> String {
        [self.before(), self.after()].concat()
    }
}

/// `count` holes of a kind, or as many as there are.
pub(super) fn cases(held: &Held, kind: Kind, count: usize) -> Vec<Case<'_>> {
    let mut all: Vec<Case<'_>> = Vec::new();
    for pass in 0..PASSES_MAX {
        for file in &held.files {
            let found = (0..TRIES).find_map(|attempt| {
                let seed = format!("{} {pass} {attempt}", kind.name());
                let drawn = hash(&[&seed, &file.package, &file.path]);
                let (begin, end) = hole(held.language, kind, file, drawn)?;
                let case = Case { language: held.language, kind, file, begin, end };
                (!all.contains(&case)).then_some(case)
            });
            all.extend(found);
            if all.len() >= count {
                return all;
            }
        }
    }
    all
}

/// The hole that a number chooses; `None` where it chooses none.
fn hole(language: &'static str, kind: Kind, file: &File, drawn: u64) -> Option<(usize, usize)> {
    let text = &file.text;
    let (begin, line) = line_at(text, pick(drawn, text.matches('\n').count()))?;
    let code = line.trim_end();
    let first = begin + line.len() - line.trim_start().len();
    let end = begin + code.len();
    if first >= end || is_comment(language, code.trim_start()) || !is_code(file, first) {
        return None;
    }
    let again = hash(&["again", &drawn.to_string()]);
    match kind {
        Kind::Line => Some((first, end)),
        Kind::Rest => {
            let at = floor(text, first + pick(again, end - first));
            let chars = text[at..end].chars().filter(|one| !one.is_whitespace()).count();
            (chars >= REST_CHARS_MIN && is_code(file, at)).then_some((at, end))
        }
        Kind::Identifier | Kind::Name => {
            let all = identifiers(language, &text[first..end]);
            let (at, len) = *all.get(pick(again, all.len()))?;
            let begin = first + at;
            let until = if kind == Kind::Name { end } else { begin + len };
            is_code(file, begin).then_some((begin, until))
        }
        Kind::Block => {
            let lines = BLOCK_LINES.start() + pick(again, BLOCK_LINES.count());
            block(text, begin, line, lines).map(|end| (first, end))
        }
    }
}

fn floor(text: &str, mut at: usize) -> usize {
    while !text.is_char_boundary(at) {
        at -= 1;
    }
    at
}

/// Where a line begins, and its text without the line's end.
fn line_at(text: &str, index: usize) -> Option<(usize, &str)> {
    let begin = match index {
        0 => 0,
        _ => text.match_indices('\n').nth(index - 1)?.0 + 1,
    };
    Some((begin, text[begin..].split('\n').next().unwrap_or("")))
}

/// Where a block of so many lines from this one on ends: they are not blank at their ends, and none is indented less.
fn block(text: &str, begin: usize, first: &str, lines: usize) -> Option<usize> {
    let indentation = |line: &str| line.len() - line.trim_start().len();
    let mut end = begin;
    let mut last = "";
    for (index, line) in text[begin..].split('\n').enumerate().take(lines) {
        if !line.trim().is_empty() && indentation(line) < indentation(first) {
            return None;
        }
        end += line.len() + usize::from(index > 0);
        last = line;
    }
    (end < text.len() && !last.trim().is_empty())
        .then(|| end - (last.len() - last.trim_end().len()))
}

/// Whether a trimmed line is a comment, or text for people.
fn is_comment(language: &str, line: &str) -> bool {
    let marks: &[&str] = match language {
        "python" => &["#", "\"\"\"", "'''", "r\"\"\""],
        "sql" | "lua" => &["--", "/*"],
        _ => &["//", "/*", "*"],
    };
    marks.iter().any(|mark| line.starts_with(mark))
}

/// Whether a place is neither in a string nor in a comment, as far as the language's grammar tells.
fn is_code(file: &File, at: usize) -> bool {
    let path = std::path::Path::new(&file.path);
    lang::detect(path).is_none_or(|language| {
        let open = Grammar::new(language, path).open(&file.text[..at]);
        !open.in_string() && !open.in_comment()
    })
}

/// Identifiers of a line that are no keywords: where they begin, and how long they are.
fn identifiers(language: &str, line: &str) -> Vec<(usize, usize)> {
    let mut found = Vec::new();
    let mut at = 0;
    while let Some(start) = line[at..].find(is_word) {
        let begin = at + start;
        let word = leading_word(&line[begin..]);
        at = begin + word.len();
        let is_name = word.starts_with(|first: char| !first.is_ascii_digit());
        let is_key = keywords(language).split(' ').any(|key| key.eq_ignore_ascii_case(word));
        if is_name && !is_key && word.len() >= IDENTIFIER_BYTES_MIN {
            found.push((begin, word.len()));
        }
    }
    found
}

fn is_word(one: char) -> bool {
    one.is_alphanumeric() || one == '_'
}

/// The identifier that a text begins with; empty if it begins with none.
pub(super) fn leading_word(text: &str) -> &str {
    &text[..text.find(|one| !is_word(one)).unwrap_or(text.len())]
}

/// Words that are no names.
fn keywords(language: &str) -> &'static str {
    match language {
        "python" => {
            "and as assert async await break class continue def del elif else except finally for from global if import in is \
             lambda nonlocal not or pass raise return try while with yield True False None"
        }
        "typescript" => {
            "abstract as async await break case catch class const continue declare default delete do else enum export extends \
             false finally for from function get if implements import in instanceof interface keyof let new null of private \
             protected public readonly return set static super switch this throw true try type typeof undefined var void while yield"
        }
        "rust" => {
            "as async await break const continue crate dyn else enum extern false fn for if impl in let loop match mod move mut \
             pub ref return self Self static struct super trait true type unsafe use where while"
        }
        "go" => {
            "break case chan const continue default defer else fallthrough for func go goto if import interface map nil package \
             range return select struct switch type var true false"
        }
        "c" => {
            "auto bool break case catch char class const constexpr continue default delete do double else enum explicit extern \
             false float for friend goto if include define ifdef ifndef endif undef inline int long namespace new noexcept nullptr \
             operator override private protected public register return short signed sizeof static struct switch template this \
             throw true try typedef typename union unsigned using virtual void volatile while"
        }
        "sql" => {
            "add all alter and any as asc begin between by case cast check column commit constraint create cross database declare \
             default delete desc distinct drop else elsif end except exists for foreign from full function group having if in index \
             inner insert intersect into is join key language left like limit loop not null offset on or order outer perform plpgsql \
             primary procedure raise references replace return returns right rollback row schema select set sql table then to \
             trigger truncate union unique update using values view when where while with"
        }
        _ => {
            "and break do else elseif end false for function goto if in local nil not or repeat return then true until while self"
        }
    }
}
