//! Cutting a file into chunks of whole lines, so that what belongs together stays together.

use std::ops::Range;

use super::Symbol;

/// A chunk has at least so many lines, where the file has.
const LINES_MIN: usize = 8;
/// A chunk has no more lines.
pub const LINES_MAX: usize = 24;
/// How long a chunk is where only blank lines tell where to cut.
const LINES_WISHED: usize = 14;
/// A chunk has no more bytes: a longer line is data, and left out.
pub const CHUNK_BYTES_MAX: usize = 2048;

/// How good a place is to cut before a line.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Border {
    None,
    /// A blank line is above.
    Blank,
    /// A definition starts.
    Symbol,
}

/// A chunk: its bytes, and the number of its first line, from 0.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Cut {
    pub(super) bytes: Range<usize>,
    pub(super) line: usize,
}

/// Cuts `text` into chunks. Blank lines at the ends of chunks belong to none.
pub(super) fn cut(text: &str, symbols: &[Symbol]) -> Vec<Cut> {
    let lines = lines(text);
    let borders = borders(text, &lines, symbols);
    let mut cuts = Vec::new();
    let mut at = 0;
    while at < lines.len() {
        let end = end_of(&lines, &borders, at);
        cuts.extend(trimmed(text, &lines, at, end));
        at = end;
    }
    cuts
}

/// The bytes of each line, with its line end.
fn lines(text: &str) -> Vec<Range<usize>> {
    let mut at = 0;
    let line = |line: &str| {
        at += line.len();
        at - line.len()..at
    };
    text.split_inclusive('\n').map(line).collect()
}

fn borders(text: &str, lines: &[Range<usize>], symbols: &[Symbol]) -> Vec<Border> {
    let blank = |line: &Range<usize>| text[line.clone()].trim().is_empty();
    let mut borders: Vec<Border> = (0..lines.len())
        .map(|at| if at > 0 && blank(&lines[at - 1]) { Border::Blank } else { Border::None })
        .collect();
    for symbol in symbols {
        let mut line = lines.partition_point(|line| line.end <= symbol.range.start);
        // What is written right above a definition belongs to it: comments, attributes, decorators.
        while line > 0 && line <= lines.len() && heads(&text[lines[line - 1].clone()]) {
            line -= 1;
        }
        if let Some(border) = borders.get_mut(line) {
            *border = Border::Symbol;
        }
    }
    borders
}

fn heads(line: &str) -> bool {
    let line = line.trim_start();
    ["//", "#", "@", "--", "/*", "*", "template"].iter().any(|sign| line.starts_with(sign))
}

/// Where the chunk that starts at line `at` ends.
fn end_of(lines: &[Range<usize>], borders: &[Border], at: usize) -> usize {
    let fits = |end: usize| lines[end - 1].end - lines[at].start <= CHUNK_BYTES_MAX;
    let mut most = at + 1;
    while most < lines.len() && most - at < LINES_MAX && fits(most + 1) {
        most += 1;
    }
    if most - at <= LINES_MIN {
        return most;
    }
    let places = at + LINES_MIN..=most.min(lines.len() - 1);
    let symbol = places.clone().find(|end| borders[*end] == Border::Symbol);
    if most == lines.len() {
        return symbol.unwrap_or(most);
    }
    let blank = || {
        let blank = places.clone().filter(|end| borders[*end] == Border::Blank);
        blank.min_by_key(|end| end.abs_diff(at + LINES_WISHED))
    };
    symbol.or_else(blank).unwrap_or(most)
}

/// The chunk of some lines without the blank ones at its ends; none where nothing is left, or where it is a single line of data.
fn trimmed(text: &str, lines: &[Range<usize>], from: usize, to: usize) -> Option<Cut> {
    let filled = |at: &usize| !text[lines[*at].clone()].trim().is_empty();
    let (first, last) = ((from..to).find(filled)?, (from..to).rfind(filled)?);
    let bytes = lines[first].start..lines[last].end;
    (bytes.len() <= CHUNK_BYTES_MAX).then_some(Cut { bytes, line: first })
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn cuts(text: &str, starts: &[&str]) -> Vec<(usize, usize)> {
        let symbol = |name: &&str| {
            let at = text.find(*name).unwrap();
            Symbol { name: (*name).to_owned(), range: at..at + 1 }
        };
        let symbols: Vec<Symbol> = starts.iter().map(symbol).collect();
        let count = |cut: &Cut| (cut.line, text[cut.bytes.clone()].lines().count());
        cut(text, &symbols).iter().map(count).collect()
    }

    #[test]
    fn a_definition_starts_a_chunk_with_what_is_written_above_it() {
        let text = format!(
            "{}# says\n@decorated\ndef second():\n{}",
            "def first():\n    a = 1\n".repeat(6),
            "    b = 2\n".repeat(9)
        );
        assert_eq!(cuts(&text, &["def second"]), [(0, 12), (12, 12)]);
    }

    #[test]
    fn small_definitions_share_a_chunk_and_long_ones_are_cut_at_blank_lines() {
        let small = "def aa():\n    pass\n\ndef bb():\n    pass\n";
        assert_eq!(cuts(small, &["def aa", "def bb"]), [(0, 5)]);
        let long = format!("{}\n{}", "x = 1\n".repeat(12), "y = 1\n".repeat(20));
        assert_eq!(cuts(&long, &[]), [(0, 12), (13, 20)]);
        assert_eq!(cuts(&"x = 1\n".repeat(60), &[]), [(0, 24), (24, 24), (48, 12)]);
    }

    #[test]
    fn lines_of_data_are_left_out() {
        let text = format!("a = 1\nb = \"{}\"\nc = 1\n", "x".repeat(5000));
        assert_eq!(cuts(&text, &[]), [(0, 1), (2, 1)]);
        assert_eq!(cut("", &[]), []);
        assert_eq!(cut("\n\n \n", &[]), []);
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(64))]

        /// Chunks are whole lines in order, none overlaps another, and every line that is neither blank nor too long is in one.
        #[test]
        fn every_line_is_in_one_chunk(
            text in "(([a-z é=#@]{0,9}|x{2100})\r?\n){0,80}[a-z]{0,3}",
            starts in prop::collection::vec(0usize..2000, 0..8),
        ) {
            let symbols: Vec<Symbol> =
                starts.iter().map(|at| Symbol { name: String::new(), range: *at..*at + 9 }).collect();
            let cuts = cut(&text, &symbols);
            let mut end = 0;
            for cut in &cuts {
                prop_assert!(cut.bytes.start >= end && cut.bytes.len() <= CHUNK_BYTES_MAX);
                prop_assert_eq!(text[..cut.bytes.start].matches('\n').count(), cut.line);
                prop_assert!(text[cut.bytes.clone()].lines().count() <= LINES_MAX);
                end = cut.bytes.end;
            }
            for line in lines(&text) {
                let inside = cuts.iter().any(|cut| cut.bytes.start <= line.start && line.end <= cut.bytes.end);
                let wanted = !text[line.clone()].trim().is_empty() && line.len() <= CHUNK_BYTES_MAX;
                prop_assert!(inside || !wanted);
            }
        }
    }
}
