//! Puts a candidate into the document, and reads from the server's diagnostics what the candidate brings in.

use std::collections::{BTreeMap, BTreeSet};
use std::ops::Range;
use std::path::Path;
use std::sync::Arc;

use lang::{Blame, Class, Gap, Grammar, Language, Policy, Until};
use text::{Baseline, Diagnostic, Severity};

use crate::sign;
use crate::style::{Dressed, Indent, Style};

/// Longer documents are not parsed at every line: they are closed by signs alone, and judged when the candidate is whole.
pub(crate) const PARSE_BYTES_MAX: usize = 1 << 18;

/// So many different diagnostics of one code of the server's environment, and the machine lacks something: no more of it counts.
const ENVIRONMENT_MIN: usize = 3;

/// The document around the cursor.
pub(crate) struct Desk {
    pub(crate) text: Arc<str>,
    pub(crate) offset: usize,
    /// The two halves with `\n` line ends, as the model and the rules of trimming see them.
    pub(crate) before: String,
    pub(crate) after: String,
    /// How the document is written.
    pub(crate) style: Style,
    pub(crate) grammar: Option<Grammar>,
    policy: &'static Policy,
    /// Codes of what the machine lacks.
    environment: &'static [String],
}

/// A candidate in its place.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Placed {
    /// The whole document.
    pub(crate) text: Arc<str>,
    /// The candidate's bytes in it.
    pub(crate) inserted: Range<usize>,
    /// The candidate as it stands there.
    dressed: Dressed,
}

/// What stood before any candidate did.
#[derive(Debug, Default)]
pub(crate) struct Before {
    baselines: Vec<Baseline>,
    /// What is said once the cursor's line is closed or gone, where a syntax error in it may hide that, or may have nothing to do with
    /// it: the lines below may then belong to something else. It is no objection, but it is told.
    doubtful: Vec<Baseline>,
    /// Code and start of what was said of the text before the cursor, which keeps its place.
    known: Vec<(Option<String>, usize)>,
    /// What was said under each code, once.
    said: BTreeMap<String, BTreeSet<String>>,
}

/// Whether the cursor's line hides what is wrong elsewhere.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Hidden {
    /// It opens a comment or a string.
    Surely,
    /// It has a syntax error, which servers read over well, but not always.
    Perhaps,
}

/// When a check was made.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Stage<'t> {
    /// The candidate goes on.
    Line {
        /// How what follows begins.
        next: &'t str,
        /// The byte of the placed text up to which a verdict has let it pass. What makes an earlier line wrong is still being written, and
        /// may yet make it right.
        from: usize,
    },
    /// The candidate is all that will be inserted.
    Whole,
}

/// What a candidate brings in.
#[derive(Debug, Clone, Default, PartialEq)]
pub(crate) struct Judged {
    /// What counts against it.
    pub(crate) bad: Vec<Diagnostic>,
    /// What may yet go away when the user writes on. The text is not clean until it does.
    pub(crate) deferred: Vec<Diagnostic>,
}

impl Desk {
    pub(crate) fn new(
        text: Arc<str>,
        offset: usize,
        language: Option<&'static Language>,
        path: &Path,
        server: &str,
        indent: Option<Indent>,
    ) -> Desk {
        let offset = crate::prompt::floor_boundary(&text, offset);
        let is_within_end = text[..offset].ends_with('\r') && text[offset..].starts_with('\n');
        let offset = offset - usize::from(is_within_end);
        let plain = |half: &str| half.replace("\r\n", "\n");
        let (before, after) = (plain(&text[..offset]), plain(&text[offset..]));
        let grammar = language.map(|language| Grammar::new(language, path));
        let policy = language.map_or_else(Policy::unmeasured, |language| language.policy(server));
        let server = language.and_then(|language| language.server(server));
        let environment = server.map_or(&[][..], lang::Server::environment);
        // A single line from elsewhere does not make a file of the other kind.
        let crlf = text.matches("\r\n").count() * 2 > text.matches('\n').count();
        let style = Style::of(crlf, &before, &after, indent, grammar.is_some());
        Desk { text, offset, before, after, style, grammar, policy, environment }
    }

    /// A candidate in the document's own style: what is inserted.
    pub(crate) fn dressed(&self, candidate: &str) -> Dressed {
        let line = self.before.rsplit('\n').next().unwrap_or("");
        self.style.dress(line, candidate)
    }

    /// The document with exactly `candidate` at the cursor.
    pub(crate) fn place(&self, candidate: &str) -> Placed {
        self.place_closed(candidate, "", "")
    }

    /// The document with `candidate` at the cursor and what closes it behind it and at the end.
    pub(crate) fn place_closed(&self, candidate: &str, closer: &str, tail: &str) -> Placed {
        let dressed = self.dressed(candidate);
        let inserted = self.offset..self.offset + dressed.text.len();
        let (before, after) = self.text.split_at(self.offset);
        let closer = self.style.line_ends(closer);
        let text = [before, &dressed.text, &closer, after, tail].concat();
        Placed { text: text.into(), inserted, dressed }
    }

    /// The document with a candidate that goes on, closed as its language wants it.
    pub(crate) fn place_unfinished(
        &self,
        candidate: &str,
        layout: Option<&(Grammar, Gap)>,
    ) -> Placed {
        let Some((grammar, gap)) = layout else { return self.place(candidate) };
        if self.text.len() > PARSE_BYTES_MAX {
            let (closer, tail) = grammar.signs(gap, candidate);
            return self.place_closed(candidate, &closer, &tail);
        }
        let closing = grammar.close_in(gap, &self.before, candidate, &self.after);
        self.place_closed(candidate, &closing.at_cursor, &closing.at_end)
    }

    /// Whether the unfinished line may hide what is wrong elsewhere.
    pub(crate) fn hides(&self) -> Option<Hidden> {
        let grammar = self.grammar.filter(|_| self.text.len() <= PARSE_BYTES_MAX)?;
        let open = grammar.open(&self.before);
        if open.in_comment() || open.in_string() {
            return Some(Hidden::Surely);
        }
        let broken = grammar.parse(&self.text)?.errors(0..self.text.len()) > 0;
        broken.then_some(Hidden::Perhaps)
    }

    /// The document without the cursor's line; `None` if there is nothing in it.
    pub(crate) fn without_line(&self) -> Option<Arc<str>> {
        let line = text::line_at(&self.text, self.offset);
        (!line.is_empty())
            .then(|| [&self.text[..line.start], &self.text[line.end..]].concat().into())
    }

    /// What `diagnostics`, the server's of the placed candidate, say against it.
    pub(crate) fn judge(
        &self,
        before: &Before,
        placed: &Placed,
        diagnostics: &[Diagnostic],
        stage: Stage<'_>,
    ) -> Judged {
        let introduced = before.introduced(self.offset, &placed.text, diagnostics);
        let mut judged = Judged::default();
        if introduced.is_empty() {
            return judged;
        }
        let line = self.text[..self.offset].rfind('\n').map_or(0, |newline| newline + 1);
        // What a candidate lacks at its end is said there, or of the line that follows.
        let end = placed.inserted.end;
        let region =
            line..if stage == Stage::Whole { next_line_end(&placed.text, end) } else { end };
        let small = placed.text.len() <= PARSE_BYTES_MAX;
        let syntax = self.grammar.filter(|_| small).and_then(|grammar| grammar.parse(&placed.text));
        for diagnostic in introduced {
            let at = diagnostic.range.start;
            let inside = region.contains(&at);
            // What reaches into the closing is about what is not written yet.
            let is_written = diagnostic.range.end <= end;
            let over = |until| {
                syntax.as_ref().is_some_and(|syntax| {
                    syntax.scope_over(&placed.text, placed.inserted.end, at, until)
                })
            };
            let settled = |next| {
                syntax.as_ref().is_some_and(|syntax| {
                    syntax.settled(&placed.text, placed.inserted.end, at, next)
                })
            };
            // An error further down is what the candidate does to text that is there already; writing on will not mend that. (Further
            // up it may: a function's head is where a missing return is told.)
            let below = at >= region.end && diagnostic.severity == Severity::Error;
            let sign =
                syntax.as_ref().and_then(|syntax| sign::of(&placed.text, syntax, diagnostic));
            let class = self.policy.class(diagnostic, sign);
            // What reaches into the candidate is the candidate's doing, even if closing the line with nothing in it does the same.
            let apart = diagnostic.range.end <= self.offset || at >= end;
            if apart && class != Class::Ignore && before.doubts(&placed.text, diagnostic) {
                judged.deferred.push(diagnostic.clone());
                continue;
            }
            let is_lacking = self.lacks(before, diagnostic);
            let counts = match (class, stage) {
                (_, _) if class != Class::Ignore && is_lacking => false,
                (Class::Ignore, _) => continue,
                (Class::Definite, Stage::Whole) => true,
                (Class::Deferred(_), Stage::Whole) if below => true,
                (Class::Definite, Stage::Line { next, from }) => {
                    inside && is_written && diagnostic.range.end > from && settled(next)
                }
                (Class::Deferred(Until::File), Stage::Whole) => inside,
                (Class::Deferred(Until::File), Stage::Line { .. }) => false,
                (Class::Deferred(Until::Statement), Stage::Whole) => true,
                (Class::Deferred(until), Stage::Whole) => {
                    inside && self.policy.stays(diagnostic) || over(until)
                }
                (Class::Deferred(until), Stage::Line { .. }) => inside && is_written && over(until),
            };
            let list = if counts { &mut judged.bad } else { &mut judged.deferred };
            list.push(diagnostic.clone());
        }
        judged
    }

    /// Whether this is wrong because the machine lacks packages: the text had several such before.
    fn lacks(&self, before: &Before, diagnostic: &Diagnostic) -> bool {
        let code = diagnostic.code.as_ref().filter(|code| self.environment.contains(code));
        let said = code.and_then(|code| before.said.get(code));
        said.is_some_and(|said| said.len() >= ENVIRONMENT_MIN)
    }

    /// The byte of the candidate, as the model wrote it, where a diagnostic of the placed text puts the blame; `None` if it points elsewhere.
    pub(crate) fn blamed(&self, placed: &Placed, diagnostic: &Diagnostic) -> Option<Range<usize>> {
        let start = match self.policy.blame(diagnostic) {
            Blame::Start => diagnostic.range.start,
            Blame::Member => {
                let pointed = placed.text.get(diagnostic.range.clone())?;
                diagnostic.range.start + pointed.rfind('.').map_or(0, |dot| dot + 1)
            }
        };
        let start = start.max(placed.inserted.start);
        let end = diagnostic.range.end.min(placed.inserted.end);
        let touches = start < placed.inserted.end && diagnostic.range.end > placed.inserted.start;
        touches.then(|| self.written(placed, start)..self.written(placed, end.max(start)))
    }

    /// A byte of the placed document as a byte of the candidate with `\n` line ends.
    fn written(&self, placed: &Placed, at: usize) -> usize {
        placed.dressed.raw(at - placed.inserted.start)
    }
}

/// The end of the first line behind `at` that is not blank.
fn next_line_end(text: &str, at: usize) -> usize {
    let Some(newline) = text[at..].find('\n') else { return text.len() + 1 };
    let start = at + newline + 1;
    let blank = text[start..].len() - text[start..].trim_start().len();
    text[start + blank..].find('\n').map_or(text.len() + 1, |newline| start + blank + newline)
}

impl Before {
    /// Adds the server's diagnostics of a text that has no candidate in it; `offset` is the cursor.
    pub(crate) fn add(&mut self, offset: usize, text: &str, diagnostics: &[Diagnostic]) {
        self.baselines.push(Baseline::new(text, diagnostics));
        for one in diagnostics {
            let said = self.said.entry(one.code.clone().unwrap_or_default()).or_default();
            said.insert(one.message.clone());
        }
        let early = diagnostics.iter().filter(|diagnostic| diagnostic.range.start < offset);
        self.known
            .extend(early.map(|diagnostic| (diagnostic.code.clone(), diagnostic.range.start)));
    }

    /// Adds the server's diagnostics of a text whose unfinished line was closed or taken away.
    pub(crate) fn add_mended(&mut self, text: &str, hidden: Hidden, diagnostics: &[Diagnostic]) {
        let baseline = Baseline::new(text, diagnostics);
        match hidden {
            Hidden::Surely => self.baselines.push(baseline),
            Hidden::Perhaps => self.doubtful.push(baseline),
        }
    }

    /// Whether the unfinished line may have hidden this.
    fn doubts(&self, text: &str, diagnostic: &Diagnostic) -> bool {
        let one = std::slice::from_ref(diagnostic);
        self.doubtful.iter().any(|baseline| baseline.introduced(text, one).is_empty())
    }

    /// Those that none of the baselines has.
    fn introduced<'d>(
        &self,
        offset: usize,
        text: &str,
        now: &'d [Diagnostic],
    ) -> Vec<&'d Diagnostic> {
        // What is said of the text before the cursor alone; a half word that the candidate goes on with is the candidate's.
        let fresh = |diagnostic: &Diagnostic| {
            let early = diagnostic.range.end <= offset;
            let same = |(code, start): &(Option<String>, usize)| {
                *code == diagnostic.code && *start == diagnostic.range.start
            };
            !(early && self.known.iter().any(same))
        };
        let mut left: Vec<&Diagnostic> =
            now.iter().filter(|diagnostic| fresh(diagnostic)).collect();
        for baseline in &self.baselines {
            let introduced = baseline.introduced(text, now);
            left.retain(|diagnostic| {
                introduced.iter().any(|other| std::ptr::eq(*other, *diagnostic))
            });
        }
        left
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn desk(text: &str, offset: usize) -> Desk {
        Desk::new(text.into(), offset, lang::detect(Path::new("a.py")), Path::new("a.py"), "", None)
    }

    #[test]
    fn a_text_of_mixed_line_ends_gets_those_of_most_lines() {
        for (text, expected) in [
            ("a\nb\nc\r\nd", "x\ny"),
            ("a\r\nb\r\nc\nd", "x\r\ny"),
            ("a\r\nb", "x\r\ny"),
            ("a", "x\ny"),
            ("", "x\ny"),
        ] {
            assert_eq!(desk(text, text.len()).dressed("x\ny").text, expected, "{text:?}");
        }
    }

    #[test]
    fn a_cursor_within_a_line_end_or_a_letter_stands_before_it() {
        let within = desk("a = \r\nb\r\n", 5);
        assert_eq!((within.offset, &*within.before, &*within.after), (4, "a = ", "\nb\n"));
        assert_eq!(&*within.place("1").text, "a = 1\r\nb\r\n");
        assert_eq!(desk("x = '😀'", 7).offset, 5);
        assert_eq!(desk("x", 99).offset, 1);
    }

    /// Whatever a document holds and wherever the cursor is, a candidate is put there whole, in the document's line ends, and its bytes are
    /// found again.
    #[test]
    fn nothing_is_put_wrongly_into_documents_that_are_out_of_the_ordinary() {
        let documents = [
            String::new(),
            "\n".to_owned(),
            "\r\n\t\t\r\n  \t x\r\n".to_owned(),
            "\ttab()\r\n        spaces()\r\n".to_owned(),
            "é😀e\u{301}👩\u{200d}👩 = '\u{1f1e9}\u{1f1ea}'\n".to_owned(),
            "a=>{b({c:[d]})};".repeat(900),
            (0..900u32).map(|at| char::from((at * 7919 % 256) as u8)).collect(),
        ];
        let candidates =
            ["", "\n", "x", "if a:\n    b()\r\n\n\tc()\n", "😀\n\t \té)]}\"'", "\r\r\n"];
        for text in &documents {
            for offset in [0, 1, 3, text.len() / 2, text.len().saturating_sub(1), text.len()] {
                let desk = desk(text, offset);
                for candidate in candidates {
                    let place = crate::trim::Place::new(&desk, 0).without_above();
                    let crate::trim::End::At(at) = place.end(candidate, true) else {
                        panic!("{candidate:?} has ended");
                    };
                    let placed = desk.place(&candidate[..at]);
                    let put = &placed.text[placed.inserted.clone()];
                    let [before, after] =
                        [&placed.text[..desk.offset], &placed.text[placed.inserted.end..]];
                    assert_eq!([before, after].concat(), **text, "{offset} {candidate:?}");
                    let ends = put.replace("\r\n", "");
                    assert!(
                        !ends.contains('\r') && (!desk.style.is_crlf() || !ends.contains('\n'))
                    );
                    let raw: Vec<usize> =
                        (0..=put.len()).map(|own| placed.dressed.raw(own)).collect();
                    assert!(raw.is_sorted() && raw.iter().all(|raw| *raw <= at), "{raw:?}");
                }
            }
        }
    }
}
