//! What makes unfinished text parse: closing signs, a body for a block that has none, the rest of a half statement.
//!
//! The aim is that a checker can look at a candidate that goes on. What it says of the half statement is not used (see
//! `Syntax::settled`); the closing only has to keep the trouble from spreading to what stands before and after.

use serde::Deserialize;

use crate::{Grammar, Open};

/// The `[close]` table.
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Close {
    #[serde(default)]
    layout: Layout,
    /// The smallest body of a block.
    #[serde(default)]
    body: String,
    /// What may complete a half statement; the first one that parses is taken.
    #[serde(default)]
    fillers: Vec<String>,
    /// Blocks that want another one after them, where blocks are shown by indentation.
    #[serde(default)]
    wanting: Vec<Wanting>,
    /// What some closing braces are followed by (`};` of a class in C++).
    #[serde(default)]
    behind_brace: String,
}

/// A block that cannot stand alone.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Wanting {
    /// The line that opens it.
    opens: String,
    /// How the lines start that complete it.
    completed_by: Vec<String>,
    /// The line that completes it in a pinch.
    with: String,
}

impl Close {
    /// Whether blocks are shown by indentation alone.
    pub(crate) fn indents(&self) -> bool {
        self.layout == Layout::Indent
    }
}

/// How a language shows its blocks.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Layout {
    #[default]
    Braces,
    Indent,
}

/// What closes a candidate.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Closing {
    /// Goes between the candidate and what follows the cursor.
    pub at_cursor: String,
    /// Goes to the end of the document: what was open before the cursor already, and nothing after it closes.
    pub at_end: String,
}

/// A document seen from the cursor: what is open there, and what of it the text behind the cursor closes.
#[derive(Debug, Clone)]
pub struct Gap {
    /// What is open at the cursor.
    pub open: Open,
    /// How many of the things open at the cursor stay open to the end of the document.
    pub unclosed: usize,
    /// How many of the innermost things nothing behind the cursor was meant to close: strings and comments, and brackets around which
    /// something is closed first.
    pub loose: usize,
    /// The first closing sign behind the cursor that nothing opens, where the lines that follow are further in than the cursor's: what
    /// stands at the cursor is to open that.
    pub lacking: Option<char>,
    /// Whether nothing but blanks follows.
    pub at_end: bool,
}

impl Gap {
    /// The byte of `candidate` that closes what the document itself closes behind the cursor, or what nothing has opened. As many as stay
    /// open to its end may be closed: what closes the outer ones behind the cursor does so then too.
    pub fn over_closed(&self, grammar: Grammar, candidate: &str) -> Option<usize> {
        let floor = self.inner() - self.unclosed;
        let open = grammar.open_below(&self.open, floor, candidate);
        open.fell().into_iter().chain(open.stray()).min()
    }

    /// How many of the things open at the cursor something behind it may close.
    fn inner(&self) -> usize {
        self.open.depth() - self.loose
    }
}

impl Grammar {
    /// Looks at the place between `before` and `after`.
    pub fn gap(self, before: &str, after: &str) -> Gap {
        let open = self.open(before);
        let line = after.find('\n').unwrap_or(after.len());
        let unterminated = self.language.lex().in_line_string(&open)
            && self.open_after(&open, &after[..line]).lowest() == open.depth();
        let (loose, from) = if unterminated || self.language.lex().is_left_open(&open, after) {
            (1, line)
        } else {
            (self.open_after(&open, after).left(), 0)
        };
        let behind = self.open_after(&open.without(loose), &after[from..]);
        let own = before.rsplit('\n').next().unwrap_or("");
        let next = after[line..].lines().find(|line| !line.trim().is_empty());
        let is_deeper = next.is_some_and(|next| indentation(next).len() > indentation(own).len());
        let stray = behind.stray().filter(|_| is_deeper);
        let lacking = stray.and_then(|at| after[from + at..].chars().next());
        Gap { open, unclosed: behind.lowest(), loose, lacking, at_end: after.trim().is_empty() }
    }

    /// Whether `candidate` leaves no more open than what follows it closes.
    pub fn is_closed(self, gap: &Gap, candidate: &str) -> bool {
        let open = self.open_after(&gap.open, candidate);
        open.depth() <= gap.inner() || self.is_lacking(gap, &open, gap.inner())
    }

    /// Whether `candidate` opens what the text behind the cursor closes in vain, and leaves nothing else open.
    pub fn opens_lacking(self, gap: &Gap, candidate: &str) -> bool {
        let open = self.open_after(&gap.open, candidate);
        self.is_lacking(gap, &open, gap.inner())
    }

    /// The same of what is open beyond the first `kept`.
    fn is_lacking(self, gap: &Gap, open: &Open, kept: usize) -> bool {
        let closer = |frame: &crate::lex::Frame| self.language.lex().closer(*frame);
        match (gap.lacking, open.frames().get(kept..)) {
            (Some(sign), Some([one])) => closer(one) == sign.to_string(),
            _ => false,
        }
    }

    /// What closes `before`, a text that may stop anywhere.
    pub fn close(self, before: &str) -> String {
        let open = Open::default();
        let gap = Gap { open, unclosed: 0, loose: 0, lacking: None, at_end: true };
        let closing = self.close_in(&gap, "", before, "");
        closing.at_cursor + &closing.at_end
    }

    /// What closes `candidate`, which stands in the gap between `before` and `after`.
    pub fn close_in(self, gap: &Gap, before: &str, candidate: &str, after: &str) -> Closing {
        let (signs, at_end) = self.signs(gap, candidate);
        let text = [before, candidate].concat();
        let mut best: Option<(usize, String)> = None;
        let fillers = self.language.closing().fillers.iter().filter(|filler| !filler.is_empty());
        let both = fillers.flat_map(|filler| {
            [[filler.as_str(), &signs].concat(), [&signs, filler.as_str()].concat()]
        });
        let behind = &self.language.closing().behind_brace;
        let braces =
            (!behind.is_empty()).then(|| signs.replace('}', &["}", behind.as_str()].concat()));
        for added in std::iter::once(signs.clone()).chain(both).chain(braces) {
            let at_cursor = self.with_blocks(&text, self.with_body(&text, added), after);
            let whole = [&text, at_cursor.as_str(), after, &at_end].concat();
            let Some(syntax) = self.parse(&whole) else { return Closing { at_cursor, at_end } };
            let errors = syntax.errors(before.len()..text.len() + at_cursor.len());
            if best.as_ref().is_none_or(|(fewest, _)| errors < *fewest) {
                best = Some((errors, at_cursor));
            }
            if errors == 0 {
                break;
            }
        }
        Closing { at_cursor: best.map_or_else(String::new, |(_, text)| text), at_end }
    }

    /// Whether `before`, the text before the gap, ends with the header of a block: the place is for the first line of its body.
    pub fn opens_block(self, gap: &Gap, before: &str) -> bool {
        if gap.open.in_string() || gap.open.in_comment() {
            return false;
        }
        let line = self.without_comment(self.last_code_line(before)).trim_end();
        if self.language.indents() {
            gap.open.depth() == 0 && line.ends_with(':')
        } else {
            line.ends_with('{')
        }
    }

    /// The signs that close what `candidate` leaves open, for behind it and for the end of the document.
    pub fn signs(self, gap: &Gap, candidate: &str) -> (String, String) {
        let lex = self.language.lex();
        let open = self.open_after(&gap.open, candidate);
        let kept = open.lowest().min(gap.inner());
        let close = |frames: &[crate::lex::Frame]| {
            frames.iter().rev().map(|frame| lex.closer(*frame)).collect::<String>()
        };
        let unclosed = gap.unclosed.saturating_sub(gap.inner() - kept);
        if gap.at_end {
            return (close(&open.frames()[kept..]) + &close(&open.frames()[..kept]), String::new());
        }
        let lacked = usize::from(self.is_lacking(gap, &open, kept));
        (close(&open.frames()[kept + lacked..]), close(&open.frames()[..unclosed]))
    }

    /// What is `added` to `text`, with a body where the block needs one.
    fn with_body(self, text: &str, mut added: String) -> String {
        let closing = self.language.closing();
        if closing.indents() && self.wants_body(text, &added) {
            let indent = indentation(self.last_code_line(text));
            let start = if added.is_empty() && text.ends_with('\n') { "" } else { "\n" };
            added.push_str(&format!("{start}{indent}{}{}\n", unit(text), closing.body));
        }
        added
    }

    /// What is `added` to `text`, with the blocks that the open ones want: `try:` wants `except:` or `finally:`.
    fn with_blocks(self, text: &str, mut added: String, after: &str) -> String {
        let closing = self.language.closing();
        if closing.wanting.is_empty() {
            return added;
        }
        let next = after.lines().find(|line| !line.trim().is_empty()).unwrap_or("");
        let unit = unit(text);
        // Closing signs at the start of a line say nothing about the block.
        let base =
            if added.starts_with([')', ']', '}', '"', '\'']) { text.trim_end() } else { text };
        for (opener, indent) in self.openers(&[base, added.as_str()].concat()) {
            let Some(wanting) = closing.wanting.iter().find(|wanting| wanting.opens == opener)
            else {
                continue;
            };
            let inside = indentation(next).len();
            let completed = wanting
                .completed_by
                .iter()
                .any(|word| next.trim_start().starts_with(word.as_str()));
            if !next.is_empty() && (inside > indent.len() || inside == indent.len() && completed) {
                continue;
            }
            let start = if added.ends_with('\n') || added.is_empty() && text.ends_with('\n') {
                ""
            } else {
                "\n"
            };
            added.push_str(&format!(
                "{start}{indent}{}\n{indent}{unit}{}\n",
                wanting.with, closing.body
            ));
        }
        added
    }

    /// The lines whose blocks the end of `text` is in, innermost first: each is the nearest line above with less indentation.
    fn openers(self, text: &str) -> Vec<(String, String)> {
        let mut found = Vec::new();
        let mut inside: Option<usize> = None;
        let sign = self.language.comment().line.as_str();
        let code = |line: &&str| !line.trim().is_empty() && !line.trim_start().starts_with(sign);
        for line in text.lines().rev().filter(code) {
            let indent = indentation(line);
            if inside.is_some_and(|inside| indent.len() < inside) {
                found.push((self.without_comment(line).trim().to_owned(), indent.to_owned()));
            }
            if inside.is_none_or(|inside| indent.len() < inside) {
                inside = Some(indent.len());
            }
            if indent.is_empty() {
                break;
            }
        }
        found
    }

    /// Whether the last line opens a block that has no body yet.
    fn wants_body(self, text: &str, added: &str) -> bool {
        let whole = [text, added].concat();
        let open = self.open(&whole);
        open.depth() == 0
            && self.without_comment(self.last_code_line(&whole)).trim_end().ends_with(':')
    }

    /// The last line that is neither blank nor a comment.
    fn last_code_line(self, text: &str) -> &str {
        let sign = self.language.comment().line.as_str();
        let code = |line: &&str| !line.trim().is_empty() && !line.trim_start().starts_with(sign);
        text.lines().rev().find(code).unwrap_or("")
    }

    /// A line without the comment at its end.
    fn without_comment(self, line: &str) -> &str {
        let sign = self.language.comment().line.as_str();
        let mut open = Open::default();
        let mut from = 0;
        while let Some(found) = line[from..].find(sign) {
            let at = from + found;
            self.language.lex().scan(&mut open, &line[from..at]);
            if !open.in_string() {
                return &line[..at];
            }
            self.language.lex().scan(&mut open, &line[at..at + sign.len()]);
            from = at + sign.len();
        }
        line
    }
}

/// The blanks at the start of a line.
pub fn indentation(line: &str) -> &str {
    &line[..line.len() - line.trim_start_matches([' ', '\t']).len()]
}

/// What one level of indentation looks like in a text: the smallest step that its lines take.
pub fn unit(text: &str) -> &str {
    let mut previous = "";
    let mut best: Option<&str> = None;
    for line in text.lines().filter(|line| !line.trim().is_empty()).take(UNIT_LINES_MAX) {
        let indent = indentation(line);
        if let Some(step) =
            indent.strip_prefix(previous).filter(|step| !step.is_empty() && step.len() <= 8)
            && best.is_none_or(|best| step.len() < best.len())
            && step.len() > 1
        {
            best = Some(step);
        }
        if indent.starts_with('\t') {
            return "\t";
        }
        previous = indent;
    }
    best.unwrap_or("    ")
}

/// The first lines tell.
const UNIT_LINES_MAX: usize = 400;
