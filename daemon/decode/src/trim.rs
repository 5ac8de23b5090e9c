//! Where a suggestion ends, and what is cut off it.
//!
//! All rules look at the candidate with `\n` line ends, at the cursor it stands at, and at what is open there. They never change
//! what they keep, so that a verdict over the rest stays a verdict over these very bytes.

use lang::{Gap, Grammar, indentation};

use crate::prompt::floor_boundary;

/// Lines that a suggestion may take beyond its limit to close what it has opened.
pub(crate) const CLOSE_LINES_MAX: u32 = 8;
/// Lines of a suggestion at the start of a block, where the request leaves it to the place.
pub(crate) const BLOCK_LINES_MAX: u32 = 4;
/// A line of the suggestion that repeats the next line of the document is the end of it; shorter lines (`}`, `else:`) may well come twice.
const REPEAT_LETTERS_MIN: usize = 4;
/// The overlap with the rest of the line that counts even where it is no closing sign.
const OVERLAP_BYTES_MIN: usize = 3;

/// The place of a suggestion.
#[derive(Debug, Clone)]
pub(crate) struct Place {
    /// The cursor's line before the cursor.
    line: String,
    /// The cursor's line after the cursor.
    rest: String,
    /// The next line that is not blank.
    following: String,
    /// Content lines before the suggestion should end.
    lines_max: u32,
    layout: Option<(Grammar, Gap)>,
}

/// What the rules say of a candidate.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum End {
    /// It goes on.
    Open,
    /// It is these first bytes.
    At(usize),
}

impl Place {
    /// `before` and `after` are the document around the cursor with `\n` line ends; `lines_max` is 0 where the place decides.
    pub(crate) fn new(
        before: &str,
        after: &str,
        lines_max: u32,
        grammar: Option<Grammar>,
    ) -> Place {
        let line = before.rsplit('\n').next().unwrap_or("").to_owned();
        let mut lines = after.split('\n');
        let rest = lines.next().unwrap_or("").to_owned();
        let following = lines.find(|line| !line.trim().is_empty()).unwrap_or("").to_owned();
        let layout = grammar.map(|grammar| (grammar, grammar.gap(before, after)));
        let mut place = Place { line, rest, following, lines_max, layout };
        if !place.rest.trim().is_empty() {
            place.lines_max = 1;
        } else if lines_max == 0 {
            place.lines_max =
                if place.is_blank() || place.opens_block() { BLOCK_LINES_MAX } else { 1 };
        }
        place
    }

    /// Whether nothing but indentation stands before the cursor and nothing after it.
    pub(crate) fn is_blank(&self) -> bool {
        self.line.trim().is_empty() && self.rest.trim().is_empty()
    }

    /// Whether the cursor stands in the middle of a line, so that only the rest of an expression is wanted.
    pub(crate) fn is_inside(&self) -> bool {
        !self.rest.trim().is_empty()
    }

    /// The cursor's line before the cursor.
    pub(crate) fn line(&self) -> &str {
        &self.line
    }

    /// The grammar and the gap, where the language is known.
    pub(crate) fn layout(&self) -> Option<&(Grammar, Gap)> {
        self.layout.as_ref()
    }

    fn opens_block(&self) -> bool {
        self.line.trim_end().ends_with([':', '{'])
    }

    /// Where the candidate `text` ends. `finished`: the model has nothing more to say.
    pub(crate) fn end(&self, text: &str, finished: bool) -> End {
        if let Some(at) = self
            .layout
            .as_ref()
            .and_then(|(grammar, gap)| gap.over_closed(*grammar, text))
            .into_iter()
            .chain(self.stopped(text))
            .min()
        {
            return End::At(self.tidy(text, at));
        }
        if self.is_inside() {
            let newline = text.find('\n');
            let at = newline.or_else(|| finished.then_some(text.len()));
            return at.map_or(End::Open, |at| {
                End::At(self.tidy(text, at.min(self.overlap(&text[..at]).unwrap_or(at))))
            });
        }
        if finished {
            return End::At(self.tidy(text, text.len()));
        }
        self.enough(text).map_or(End::Open, |at| End::At(self.tidy(text, at)))
    }

    /// The last line end where the candidate could stop by itself: everything it opened is closed there. 0 where there is none.
    pub(crate) fn last_whole(&self, text: &str) -> usize {
        let ends = text.match_indices('\n').map(|(at, _)| at).chain([text.len()]);
        let mut whole =
            ends.filter(|at| self.is_whole(&text[..*at]) && !text[..*at].trim().is_empty());
        whole.next_back().map_or(0, |at| self.tidy(text, at))
    }

    /// Whether the candidate has closed what it opened, and no block of it lacks a body.
    pub(crate) fn is_whole(&self, text: &str) -> bool {
        let Some((grammar, gap)) = &self.layout else { return true };
        let open = grammar.open_after(&gap.open, text);
        if grammar.goes_on(text) {
            return false;
        }
        let last = text.trim_end().rsplit('\n').next().unwrap_or("");
        open.depth() <= gap.open.depth() && !(self.needs_body() && last.trim_end().ends_with(':'))
    }

    /// Whether blocks are shown by indentation alone.
    fn needs_body(&self) -> bool {
        self.layout.as_ref().is_some_and(|(grammar, _)| grammar.language().indents())
    }

    /// The start of the first line that no longer belongs here: it goes back out of the block, or repeats what follows.
    fn stopped(&self, text: &str) -> Option<usize> {
        let base = indentation(&self.line).len();
        let strict = self.opens_block();
        let mut at = 0;
        let mut previous: [&str; 2] = ["", ""];
        for (number, line) in text.split('\n').enumerate() {
            let whole = at + line.len() < text.len();
            let start = at;
            at += line.len() + 1;
            if line.trim().is_empty() {
                continue;
            }
            let letters = line.chars().filter(|character| character.is_alphanumeric()).count();
            if whole
                && letters >= REPEAT_LETTERS_MIN
                && line.trim() == self.following.trim()
                && (number > 0 || self.line.trim().is_empty())
            {
                return Some(start);
            }
            let indent = indentation(line).len();
            let closes = line.trim_start().starts_with(['}', ')', ']']);
            if number > 0
                && indent < line.len()
                && !closes
                && (indent < base || strict && indent == base)
                && !self.inside_brackets(&text[..start])
            {
                return Some(start);
            }
            if whole
                && letters >= REPEAT_LETTERS_MIN
                && previous.iter().all(|other| other.trim() == line.trim())
            {
                return Some(start - previous[1].len() - 1);
            }
            previous = [previous[1], line];
        }
        None
    }

    /// Whether the candidate is inside brackets or a string that it opened itself, where indentation says nothing.
    fn inside_brackets(&self, text: &str) -> bool {
        self.layout.as_ref().is_some_and(|(grammar, gap)| {
            let open = grammar.open_after(&gap.open, text);
            open.depth() > open.lowest().min(gap.open.depth())
                && (grammar.language().indents() || open.in_string())
        })
    }

    /// The end of the line that makes it enough: the limit is reached, or a blank line ends what was begun.
    fn enough(&self, text: &str) -> Option<usize> {
        let mut lines = 0;
        let mut at = 0;
        for line in text.split_inclusive('\n') {
            let end = at + line.trim_end_matches('\n').len();
            let complete = line.ends_with('\n');
            let blank = line.trim().is_empty();
            at += line.len();
            if !complete {
                break;
            }
            lines += u32::from(!blank);
            if blank && lines > 0 && self.is_whole(&text[..end]) {
                return Some(end);
            }
            if lines >= self.lines_max && self.is_whole(&text[..end]) {
                return Some(end);
            }
            if lines >= self.lines_max + CLOSE_LINES_MAX {
                return Some(self.last_whole(&text[..end]));
            }
        }
        None
    }

    /// Where the end of `text` begins to repeat the rest of the cursor's line.
    fn overlap(&self, text: &str) -> Option<usize> {
        let rest = self.rest.trim_end();
        let longest = rest.len().min(text.len());
        (1..=longest).rev().map(|len| (len, text.len() - len)).find_map(|(len, at)| {
            let same = text.is_char_boundary(at) && rest.starts_with(&text[at..]);
            let signs = same && text[at..].chars().all(|sign| ")]}\"'`;,:".contains(sign));
            (same && (signs || len >= OVERLAP_BYTES_MIN)).then_some(at)
        })
    }

    /// Leaves out the blanks at the end, unless something follows on the line that they separate it from.
    fn tidy(&self, text: &str, at: usize) -> usize {
        let kept = &text[..floor_boundary(text, at)];
        if self.is_inside() && !kept.contains('\n') { kept.len() } else { kept.trim_end().len() }
    }
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::*;

    /// `$0` is the cursor in `document`; what is left of `candidate`.
    fn check(path: &str, document: &str, candidate: &str, expected: Option<&str>) {
        let (before, after) = document.split_once("$0").unwrap();
        let grammar =
            lang::detect(Path::new(path)).map(|language| Grammar::new(language, Path::new(path)));
        let (text, finished) =
            candidate.strip_suffix("<end>").map_or((candidate, false), |text| (text, true));
        let kept = match Place::new(before, after, 0, grammar).end(text, finished) {
            End::Open => None,
            End::At(at) => Some(&text[..at]),
        };
        assert_eq!(kept, expected, "{document:?} + {candidate:?}");
    }

    #[test]
    fn one_line_at_the_end_of_a_line() {
        check("a.py", "x = $0\n", "1\n", Some("1"));
        check("a.py", "x = $0\n", "f(1,\n", None);
        check("a.py", "x = $0\n", "f(1,\n      2)\ny", Some("f(1,\n      2)"));
        check("a.py", "x = $0\n", "1  <end>", Some("1"));
    }

    #[test]
    fn a_line_that_goes_on_is_not_the_end() {
        check("a.py", "x = $0\n", "1 + \\\n", None);
        check("a.py", "x = $0\n", "1 + \\\n    2\n", Some("1 + \\\n    2"));
    }

    #[test]
    fn a_block_has_a_body() {
        check("a.py", "def f($0\n", "x):\n", None);
        check("a.py", "def f($0\n", "x):\n    return x\n", Some("x):\n    return x"));
        check("a.ts", "function f$0\n", "() {\n  return 1;\n}\n", Some("() {\n  return 1;\n}"));
        check("a.py", "if x:$0\n", "\n    a()\nb()\n", Some("\n    a()"));
    }

    #[test]
    fn what_the_document_closes_is_not_closed_twice() {
        check("a.py", "f($0)\n", "a, b)\n", Some("a, b"));
        check("a.ts", "f($0);\n", "[1, 2]);\n", Some("[1, 2]"));
        check("a.ts", "function f() {\n  $0\n}\n", "return 1;\n}\n", Some("return 1;"));
        check("a.py", "x = [$0\n", "1, 2]\n", Some("1, 2]"));
        check("a.py", "x = \"$0\"\n", "abc\"\n", Some("abc"));
    }

    #[test]
    fn the_rest_of_the_line_is_not_repeated() {
        check("a.py", "x = $0 + 1\n", "y + 1\n", Some("y"));
        check("a.py", "return $0 else None\n", "a if b<end>", Some("a if b"));
        check("a.py", "foo($0bar)\n", "a, <end>", Some("a, "));
    }

    #[test]
    fn the_next_line_is_not_repeated() {
        check(
            "a.py",
            "def f():\n    $0\n    return total\n",
            "total = 1\n    return total\n",
            Some("total = 1"),
        );
        check("a.py", "def f():\n    $0\n    return total\n", "return total\n", Some(""));
    }

    #[test]
    fn going_back_out_of_the_block_ends_it() {
        check("a.py", "def f():\n    $0\n", "return 1\nx = 2\n", Some("return 1"));
        check("a.ts", "if (x)$0\n", " {\n  a();\n}\nb();\n", Some(" {\n  a();\n}"));
    }

    #[test]
    fn repeated_lines_end_it() {
        check("a.py", "$0\n", "print(x)\nprint(x)\nprint(x)\n", Some("print(x)"));
    }

    #[test]
    fn blank_suggestions_are_nothing() {
        check("a.py", "    $0\n", "   \n<end>", Some(""));
    }
}
