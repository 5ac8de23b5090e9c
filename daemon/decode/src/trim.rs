//! Where a suggestion ends, and what is cut off it.
//!
//! All rules look at the candidate with `\n` line ends, at the cursor it stands at, and at what is open there. They never change
//! what they keep, so that a verdict over the rest stays a verdict over these very bytes. What the place wants is one of three things
//! ([`Wanted`]); what a candidate repeats is in `repeats`, and whether it fits before what follows on its line in `fits`.

mod fits;
mod repeats;

pub(crate) use fits::is_word;

use lang::{Gap, Grammar, indentation};

use self::repeats::Neighbours;
use crate::judge::Desk;
use crate::prompt::floor_boundary;
use crate::style::Style;

/// Lines that a suggestion may take beyond its limit to close what it has opened.
pub(crate) const CLOSE_LINES_MAX: u32 = 8;
/// Lines of a suggestion at the start of a block, where the request leaves it to the place; and of a block that the suggestion begins, where
/// blocks are shown by indentation.
pub(crate) const BLOCK_LINES_MAX: u32 = 4;

/// The place of a suggestion.
#[derive(Debug, Clone)]
pub(crate) struct Place {
    /// The cursor's line before the cursor.
    line: String,
    /// The cursor's line after the cursor.
    rest: String,
    neighbours: Neighbours,
    wanted: Wanted,
    /// Content lines before the suggestion should end.
    lines_max: u32,
    /// Columns of indentation of the next line behind the cursor's that is not blank; 0 where there is none.
    below: usize,
    style: Style,
    layout: Option<(Grammar, Gap)>,
}

/// What is wanted of a suggestion.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Wanted {
    /// The rest of an expression: the line goes on behind the cursor.
    Rest,
    /// The statement that stands on the cursor's line, with the block that it begins.
    Statement,
    /// Lines of a block whose header stands already, or as many as were asked for.
    Block,
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
    /// Where `desk` has its cursor; `lines_max` is 0 where the place decides.
    pub(crate) fn new(desk: &Desk, lines_max: u32) -> Place {
        let (before, after) = (desk.before.as_str(), desk.after.as_str());
        let line = before.rsplit('\n').next().unwrap_or("").to_owned();
        let rest = after.split('\n').next().unwrap_or("").to_owned();
        let layout = desk.grammar.map(|grammar| (grammar, grammar.gap(before, after)));
        let at_block = match &layout {
            Some((grammar, gap)) => grammar.opens_block(gap, before),
            None => before.trim_end().ends_with([':', '{']),
        };
        let wanted = match lines_max {
            _ if !rest.trim().is_empty() => Wanted::Rest,
            0 if !at_block => Wanted::Statement,
            _ => Wanted::Block,
        };
        let lines_max = match (wanted, lines_max) {
            (Wanted::Rest | Wanted::Statement, _) => 1,
            (Wanted::Block, 0) => BLOCK_LINES_MAX,
            (Wanted::Block, lines_max) => lines_max,
        };
        let neighbours = Neighbours::of(before, after);
        let style = desk.style;
        let next = after.split('\n').skip(1).find(|line| !line.trim().is_empty());
        let below = next.map_or(0, |line| style.columns(indentation(line)));
        Place { line, rest, neighbours, wanted, lines_max, below, style, layout }
    }

    /// The same place, where a suggestion that repeats the line above is none.
    pub(crate) fn without_above(mut self) -> Place {
        self.neighbours.heed_above = true;
        self
    }

    /// Whether nothing but indentation stands before the cursor and nothing after it.
    pub(crate) fn is_blank(&self) -> bool {
        self.line.trim().is_empty() && self.rest.trim().is_empty()
    }

    /// Whether the cursor stands in the middle of a line, so that only the rest of an expression is wanted.
    pub(crate) fn is_inside(&self) -> bool {
        self.wanted == Wanted::Rest
    }

    /// The cursor's line before the cursor.
    pub(crate) fn line(&self) -> &str {
        &self.line
    }

    /// The grammar and the gap, where the language is known.
    pub(crate) fn layout(&self) -> Option<&(Grammar, Gap)> {
        self.layout.as_ref()
    }

    /// Where the candidate `text` ends. `finished`: the model has nothing more to say.
    pub(crate) fn end(&self, text: &str, finished: bool) -> End {
        let over = |(grammar, gap): &(Grammar, Gap)| gap.over_closed(*grammar, text);
        let cuts = self.layout.as_ref().and_then(over).into_iter();
        let cuts = cuts.chain(self.outside(text)).chain(fits::unfit_sign(text));
        let cuts = cuts.chain(self.neighbours.repeated(&self.line, &self.rest, text, finished));
        let cut = cuts.min();
        if self.is_inside() {
            let at = cut.into_iter().chain(text.find('\n')).min();
            return at.or_else(|| finished.then_some(text.len())).map_or(End::Open, |at| {
                let is_sound = |text: &str| self.is_closed(text);
                let overlap = repeats::overlap(&self.rest, &text[..at], is_sound);
                End::At(self.tidy(text, overlap.unwrap_or(at)))
            });
        }
        if let Some(at) = cut {
            return End::At(self.tidy(text, at));
        }
        if finished {
            return End::At(self.tidy(text, text.len()));
        }
        self.enough(text).map_or(End::Open, |at| End::At(self.tidy(text, at)))
    }

    /// Whether the candidate begins with a line that stands around the cursor already.
    pub(crate) fn repeats(&self, text: &str, finished: bool) -> bool {
        let at = self.neighbours.repeated(&self.line, &self.rest, text, finished);
        at.is_some_and(|at| text[..at].trim().is_empty())
    }

    /// The last line end where the candidate could stop by itself: everything it opened is closed there. 0 where there is none.
    pub(crate) fn last_whole(&self, text: &str) -> usize {
        self.whole_ends(text).next().unwrap_or(0)
    }

    /// The line ends where the candidate could stop by itself, the last one first.
    pub(crate) fn whole_ends<'t>(&'t self, text: &'t str) -> impl Iterator<Item = usize> + 't {
        let ends = std::iter::once(text.len()).chain(text.rmatch_indices('\n').map(|(at, _)| at));
        let whole = |at: &usize| !text[..*at].trim().is_empty() && self.is_whole(&text[..*at]);
        ends.filter(whole).map(|at| self.tidy(text, at))
    }

    /// Whether the candidate has closed the brackets and strings that it opened.
    fn is_closed(&self, text: &str) -> bool {
        match &self.layout {
            Some((grammar, gap)) => grammar.is_closed(gap, text),
            None => repeats::is_even(text),
        }
    }

    /// Whether the candidate has closed what it opened, and no block of it lacks a body.
    pub(crate) fn is_whole(&self, text: &str) -> bool {
        let Some((grammar, gap)) = &self.layout else { return true };
        if grammar.goes_on(text) {
            return false;
        }
        let begins_block = self.indents() && text.trim_end().ends_with(':');
        grammar.is_closed(gap, text) && (!begins_block || self.has_body_below(text))
    }

    /// Whether the candidate ends with the header of a block whose body stands behind the cursor already.
    fn has_body_below(&self, text: &str) -> bool {
        let lines = [self.line.as_str(), text.trim_end()].concat();
        let last = lines.rsplit('\n').next().unwrap_or("");
        let is_header = match &self.layout {
            Some((grammar, _)) if grammar.language().indents() => last.ends_with(':'),
            Some((grammar, gap)) => grammar.opens_lacking(gap, text),
            None => false,
        };
        is_header && self.columns(last) < self.below
    }

    /// Whether blocks are shown by indentation alone.
    fn indents(&self) -> bool {
        self.layout.as_ref().is_some_and(|(grammar, _)| grammar.language().indents())
    }

    fn columns(&self, line: &str) -> usize {
        self.style.columns(indentation(line))
    }

    /// The start of the first line that goes back out of the block, or out of the statement.
    fn outside(&self, text: &str) -> Option<usize> {
        let base = self.columns(&self.line);
        // Its body is further in.
        let is_header = self.wanted == Wanted::Block && !self.line.trim().is_empty();
        let (mut at, mut lines) = (0, 0);
        for (number, line) in text.split('\n').enumerate() {
            let start = at;
            at += line.len() + 1;
            let content = line.trim_start();
            if content.is_empty() {
                continue;
            }
            lines += 1;
            let columns = self.columns(line);
            let is_back = columns < base
                || columns == base
                    && (is_header || self.wanted == Wanted::Statement || lines > self.lines_max);
            let goes_on = columns == base && self.continues(content);
            let closes = content.starts_with(['}', ')', ']']);
            if number > 0 && is_back && !closes && !goes_on && !self.inside_brackets(&text[..start])
            {
                return Some(start);
            }
        }
        None
    }

    fn continues(&self, line: &str) -> bool {
        self.layout.as_ref().is_some_and(|(grammar, _)| grammar.continues(line))
    }

    /// Whether the candidate is inside brackets or a string that it opened itself, where indentation says nothing.
    fn inside_brackets(&self, text: &str) -> bool {
        self.layout.as_ref().is_some_and(|(grammar, gap)| {
            let open = grammar.open_after(&gap.open, text);
            open.depth() > open.lowest().min(gap.open.depth())
                && (grammar.language().indents() || open.in_string())
        })
    }

    /// Whether the candidate ends in a block that it began itself and that only the next line can end.
    fn in_own_block(&self, text: &str) -> bool {
        let joined = [self.line.as_str(), text].concat();
        let mut lines = joined.split('\n').filter(|line| !line.trim().is_empty());
        let Some(first) = lines.next().filter(|_| self.indents()) else { return false };
        // Where the header stands already, the first line of its body tells where its lines begin.
        let is_header = self.wanted == Wanted::Block && !self.line.trim().is_empty();
        let Some(first) = (if is_header { lines.next() } else { Some(first) }) else {
            return false;
        };
        let base = self.columns(first);
        let mut opened = first.trim_end().ends_with(':');
        let mut last = base;
        for line in lines {
            opened |= line.trim_end().ends_with(':');
            last = self.columns(line);
        }
        opened && last > base
    }

    /// The end of the line that makes it enough: the limit is reached, or a blank line ends what was begun.
    fn enough(&self, text: &str) -> Option<usize> {
        let more = if self.indents() { BLOCK_LINES_MAX } else { CLOSE_LINES_MAX };
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
            let whole = &text[..end];
            if (blank && lines > 0 || self.has_body_below(whole)) && self.is_whole(whole) {
                return Some(end);
            }
            if lines >= self.lines_max && self.is_whole(whole) && !self.in_own_block(whole) {
                return Some(end);
            }
            if lines >= self.lines_max + more && (self.is_whole(whole) || !self.indents())
                || lines >= self.lines_max + CLOSE_LINES_MAX
            {
                return Some(self.last_whole(whole));
            }
        }
        None
    }

    /// Leaves out the blanks at the end, unless something follows on the line that they separate it from.
    fn tidy(&self, text: &str, at: usize) -> usize {
        let kept = &text[..floor_boundary(text, at)];
        if self.is_inside() && !kept.contains('\n') { kept.len() } else { kept.trim_end().len() }
    }
}

#[cfg(test)]
mod tests;
