//! Types a program in, line by line, and notes what the server says of each prefix, closed as steering closes it.
//!
//! A diagnostic persists if the whole program still has its code at its place. What is noted of it is when it was first said, and when the
//! scopes that hold it were over: from that the policy of the code follows.

use std::collections::{BTreeMap, HashSet};
use std::sync::Arc;
use std::time::Instant;

use decode::{Checked, Critic, sign};
use lang::{Blame, Grammar, Sign, Until};
use serde::{Deserialize, Serialize};
use text::{Diagnostic, Severity};

use crate::bench::report::Samples;

/// The scopes that a diagnostic may wait for, the smallest first.
pub(super) const SCOPES: [Until; 4] =
    [Until::Statement, Until::Block, Until::Function, Until::Item];

/// What was said of a program while it was typed in.
#[derive(Debug, Clone, Default)]
pub(super) struct Typed {
    /// Everything that was said of a prefix within what was typed.
    pub(super) notes: Vec<Note>,
    /// How long checks took, in milliseconds.
    pub(super) times: Samples,
    /// Checks without an answer.
    pub(super) unknown: usize,
}

/// A diagnostic of unfinished text.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Note {
    /// Its code.
    pub(super) code: String,
    /// Its start, in bytes.
    pub(super) at: usize,
    /// Its end, in bytes.
    pub(super) end: usize,
    /// Whether it is an error; else a warning.
    pub(super) is_error: bool,
    /// The line that it starts on, from 0.
    pub(super) line: usize,
    /// After which line it was first said.
    pub(super) first: usize,
    /// After which line each of [`SCOPES`] was over while it was said.
    pub(super) over: [Option<usize>; 4],
    /// It was first said when its statement had been over for a line already: something that is being written makes an earlier line wrong, and
    /// may yet make it right.
    pub(super) is_late: bool,
    /// What its place looked like when it was first said.
    pub(super) sign: Option<Sign>,
    /// Where in its range the break is that caused it, if one did.
    pub(super) blame: Option<Blame>,
    /// The whole program has it too.
    pub(super) kept: bool,
}

/// Whoever types, and where.
pub(super) struct Typist<'c> {
    pub(super) critic: &'c dyn Critic,
    pub(super) grammar: Grammar,
}

impl Typed {
    /// Says of each lasting diagnostic whether it points at the break at byte `at` of `text`, or has it behind a member access.
    pub(super) fn blame(&mut self, text: &str, at: usize) {
        for note in self.notes.iter_mut().filter(|note| note.kept) {
            let is_member = text[..at].ends_with(['.', '>', ':']);
            note.blame = match (note.at..note.end).contains(&at) {
                true if note.at == at => Some(Blame::Start),
                true if is_member => Some(Blame::Member),
                _ => None,
            };
        }
    }
}

type Found = BTreeMap<(String, usize), Note>;

impl Typist<'_> {
    /// What the server says of the whole text; `None` where it does not answer.
    pub(super) async fn check(&self, text: &str) -> Option<Vec<Diagnostic>> {
        match self.critic.check(Arc::from(text)).await {
            Checked::Diagnostics(found) => Some(found),
            Checked::Unknown(_) => None,
        }
    }

    /// Types `text` in from its line `from` on. What comes before is not asked about again: it was typed in before, without an error.
    pub(super) async fn type_in(&self, text: &str, from: usize) -> Option<Typed> {
        let whole = self.check(text).await?;
        let kept: HashSet<(String, usize)> = whole.iter().map(key).collect();
        let mut typed = Typed::default();
        let lines: Vec<&str> = text.split_inclusive('\n').collect();
        let mut found = Found::new();
        let mut end = 0;
        for (number, line) in lines.iter().enumerate() {
            end += line.len();
            if number < from || line.trim().is_empty() {
                continue;
            }
            let closed = [&text[..end], &self.grammar.close(&text[..end])].concat();
            let started = Instant::now();
            let Some(said) = self.check(&closed).await else {
                typed.unknown += 1;
                continue;
            };
            typed.times.push(started.elapsed().as_secs_f64() * 1e3);
            let next = lines[number + 1..].iter().find(|line| !line.trim().is_empty());
            self.note(&mut found, &said, &closed, end, number, next.unwrap_or(&""));
        }
        typed.notes = found.into_values().collect();
        for note in &mut typed.notes {
            note.kept = kept.contains(&(note.code.clone(), note.at));
        }
        Some(typed)
    }

    fn note(
        &self,
        found: &mut Found,
        said: &[Diagnostic],
        closed: &str,
        end: usize,
        number: usize,
        next: &str,
    ) {
        let within = |one: &&Diagnostic| {
            one.range.start < end && matches!(one.severity, Severity::Error | Severity::Warning)
        };
        let mut within = said.iter().filter(within).peekable();
        if within.peek().is_none() {
            return;
        }
        let Some(syntax) = self.grammar.parse(closed) else { return };
        for one in within {
            let at = one.range.start;
            let note = found.entry(key(one)).or_insert_with(|| Note {
                code: one.code.clone().unwrap_or_default(),
                at,
                end: one.range.end,
                is_error: one.severity == Severity::Error,
                line: closed[..at].matches('\n').count(),
                first: number,
                over: [None; 4],
                is_late: syntax
                    .statement_end(at)
                    .is_some_and(|over| closed[..over].trim_end().matches('\n').count() < number),
                sign: sign::of(closed, &syntax, one),
                blame: None,
                kept: false,
            });
            for (over, until) in note.over.iter_mut().zip(SCOPES) {
                let is_over = match until {
                    Until::Statement => syntax.settled(closed, end, at, next),
                    // At the end of the program everything is over.
                    until => next.is_empty() || syntax.scope_over(closed, end, at, until),
                };
                // What reaches into the closing is about what is not written yet.
                if is_over && one.range.end <= end && over.is_none() {
                    *over = Some(number);
                }
            }
        }
    }
}

fn key(one: &Diagnostic) -> (String, usize) {
    (one.code.clone().unwrap_or_default(), one.range.start)
}
