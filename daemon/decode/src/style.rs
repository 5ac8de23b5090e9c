//! What the buffer looks like: its line ends and its indentation. A suggestion takes them on, whatever the model writes.
//!
//! A suggestion in another unit is converted, and tabs and spaces are never mixed in one indentation, but for the blank before the star
//! of a block comment. What stands inside a line stays as it is.

use std::collections::BTreeMap;

use lang::indentation;

/// Lines before the cursor that tell the indentation.
const LINES_BEFORE_MAX: usize = 400;
/// Lines behind the cursor that do.
const LINES_AFTER_MAX: usize = 100;
/// Longer lines are data, and tell nothing.
const LINE_BYTES_MAX: usize = 512;
/// The widest level that is believed.
const UNIT_MAX: usize = 8;
/// A level where nothing tells it.
const UNIT: usize = 4;

/// How one level of indentation is written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Indent {
    /// One tab.
    Tabs,
    /// So many spaces, at least one.
    Spaces(usize),
}

/// How a document is written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Style {
    crlf: bool,
    /// `None` where nothing is indented: then nothing is converted.
    indent: Option<Indent>,
    /// Blanks at the ends of lines say nothing.
    trims: bool,
}

/// A text in the document's style.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Dressed {
    pub(crate) text: String,
    lines: Vec<Line>,
}

/// Where a line lies in the text before and after, and how long its indentation is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Line {
    raw: usize,
    raw_indent: usize,
    raw_end: usize,
    own: usize,
    own_indent: usize,
}

impl Dressed {
    /// The byte of the text as the model wrote it that a byte of the dressed text comes from.
    pub(crate) fn raw(&self, own: usize) -> usize {
        let index = self.lines.partition_point(|line| line.own <= own).saturating_sub(1);
        let Some(line) = self.lines.get(index) else { return 0 };
        let into = own - line.own;
        if into < line.own_indent {
            return line.raw + into.min(line.raw_indent);
        }
        (line.raw + line.raw_indent + into - line.own_indent).min(line.raw_end)
    }
}

impl Style {
    /// The style of the document `before` and `after` the cursor, with `\n` line ends. `indent` is what the editor says.
    pub(crate) fn of(
        crlf: bool,
        before: &str,
        after: &str,
        indent: Option<Indent>,
        trims: bool,
    ) -> Style {
        Style { crlf, indent: indent.or_else(|| detect(before, after)), trims }
    }

    /// Whether lines end with two signs.
    #[cfg(test)]
    pub(crate) fn is_crlf(&self) -> bool {
        self.crlf
    }

    /// How wide the blanks at the start of a line are.
    pub(crate) fn columns(&self, indent: &str) -> usize {
        let tab = match self.indent {
            Some(Indent::Spaces(unit)) => unit,
            Some(Indent::Tabs) | None => UNIT,
        };
        indent.chars().map(|blank| if blank == '\t' { tab } else { 1 }).sum()
    }

    /// The line ends of the document.
    pub(crate) fn line_ends(&self, text: &str) -> String {
        if self.crlf { text.replace('\n', "\r\n") } else { text.to_owned() }
    }

    /// `text` as the document has it; `line` is the cursor's line before it.
    pub(crate) fn dress(&self, line: &str, text: &str) -> Dressed {
        let whole = line.trim().is_empty();
        let level = self.level(line, text);
        let last = text.matches('\n').count();
        let mut dressed = Dressed { text: String::with_capacity(text.len()), lines: Vec::new() };
        let mut raw = 0;
        for (number, one) in text.split('\n').enumerate() {
            let raw_end = raw + one.len();
            let one = one.trim_end_matches('\r');
            let one = if self.trims && number < last { one.trim_end() } else { one };
            let raw_indent = if number > 0 || whole { indentation(one).len() } else { 0 };
            let (blanks, rest) = one.split_at(raw_indent);
            let base = if number == 0 { line } else { "" };
            let blank = rest.is_empty() && number < last;
            let indent = if blank { String::new() } else { self.indent(base, blanks, rest, level) };
            let own = dressed.text.len();
            dressed.lines.push(Line { raw, raw_indent, raw_end, own, own_indent: indent.len() });
            dressed.text += &indent;
            dressed.text.extend(rest.chars().filter(|sign| *sign != '\r'));
            if number < last {
                dressed.text += if self.crlf { "\r\n" } else { "\n" };
            }
            raw = raw_end + 1;
        }
        dressed
    }

    /// The blanks at the start of a line that goes on with `rest`, behind those of `base`, which stand already.
    fn indent(&self, base: &str, blanks: &str, rest: &str, level: Level) -> String {
        let star = rest.starts_with('*') && blanks.ends_with(' ');
        match self.indent {
            None => blanks.to_owned(),
            Some(Indent::Tabs) if !blanks.contains(' ') => blanks.to_owned(),
            Some(Indent::Tabs) => {
                let blanks = if star { &blanks[..blanks.len() - 1] } else { blanks };
                let tabs = blanks.matches('\t').count();
                let spaces = blanks.len() - tabs;
                let levels = tabs + (spaces + level.unit / 2) / level.unit;
                "\t".repeat(levels) + if star { " " } else { "" }
            }
            Some(Indent::Spaces(unit)) => {
                let columns = self.columns(blanks);
                // What stands already is the document's own.
                let inside = (self.columns(base) + columns).saturating_sub(level.base);
                if level.unit == unit || inside == 0 || inside > columns {
                    return " ".repeat(columns);
                }
                let scaled = inside / level.unit * unit + inside % level.unit;
                " ".repeat(columns - inside + scaled)
            }
        }
    }

    /// In which steps the text itself goes down into blocks, and from where.
    fn level(&self, line: &str, text: &str) -> Level {
        let joined = [line, text].concat();
        let lines: Vec<&str> = joined.split('\n').filter(|line| !line.trim().is_empty()).collect();
        let base = lines.first().map_or(0, |first| self.columns(indentation(first)));
        let indents = || lines.iter().map(|line| indentation(line));
        let tabs = indents().any(|blanks| blanks.contains('\t'));
        let mut steps = lines.windows(2).filter_map(|pair| {
            let opens = pair[0].trim_end().ends_with([':', '{']);
            let (from, to) = (indentation(pair[0]), indentation(pair[1]));
            let step = self.columns(to).checked_sub(self.columns(from))?;
            (opens && step > 1).then_some(step)
        });
        let first = steps.next().filter(|step| *step <= UNIT_MAX);
        // Where a tab was written for a level, it is as wide as a level already.
        let step = first.filter(|first| !tabs && steps.all(|step| step == *first));
        let unit = match self.indent {
            None => UNIT,
            Some(Indent::Spaces(unit)) => step.unwrap_or(unit).max(1),
            Some(Indent::Tabs) => step.unwrap_or_else(|| {
                let spaces = lines.iter().map(|line| {
                    let star = line.trim_start().starts_with('*');
                    indentation(line).matches(' ').count().saturating_sub(usize::from(star))
                });
                let common = spaces.fold(0, common_divisor);
                if !common.is_multiple_of(UNIT) && common.is_multiple_of(2) { 2 } else { UNIT }
            }),
        };
        Level { base, unit }
    }
}

/// One level of the text as the model wrote it.
#[derive(Debug, Clone, Copy)]
struct Level {
    /// Columns from where its levels are counted.
    base: usize,
    /// Columns of one level.
    unit: usize,
}

fn common_divisor(a: usize, b: usize) -> usize {
    if b == 0 { a } else { common_divisor(b, a % b) }
}

/// What most lines around the cursor are indented with, and the step that they take most often.
fn detect(before: &str, after: &str) -> Option<Indent> {
    let near = before.rsplit('\n').take(LINES_BEFORE_MAX).collect::<Vec<_>>();
    let lines = near.into_iter().rev().chain(after.split('\n').skip(1).take(LINES_AFTER_MAX));
    let (mut tabs, mut spaces) = (0, 0);
    let mut steps: BTreeMap<usize, usize> = BTreeMap::new();
    let mut previous = 0;
    for line in lines.filter(|line| line.len() <= LINE_BYTES_MAX) {
        let blanks = indentation(line);
        if blanks.starts_with('\t') {
            tabs += 1;
            continue;
        }
        // The star of a block comment stands one blank further in.
        if blanks.contains('\t') || line.trim_start().starts_with('*') {
            continue;
        }
        spaces += usize::from(!blanks.is_empty());
        let step = blanks.len().saturating_sub(previous);
        if (2..=UNIT_MAX).contains(&step) {
            *steps.entry(step).or_default() += 1;
        }
        // A line that is blank is where somebody is about to write.
        previous = if blanks.len() < line.len() { blanks.len() } else { previous };
    }
    if tabs == 0 && spaces == 0 {
        return None;
    }
    if tabs >= spaces {
        return Some(Indent::Tabs);
    }
    // The smaller one of equals: what is deeper is two levels, or lined up with something.
    let most = steps.into_iter().rev().max_by_key(|(_, count)| *count);
    Some(Indent::Spaces(most.map_or(UNIT, |(step, _)| step)))
}

#[cfg(test)]
mod tests;
