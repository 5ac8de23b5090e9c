//! A unified diff from edits: what changes is known, so nothing has to be guessed.

use std::fmt::Write as _;
use std::ops::Range;

use text::Edit;

/// Lines shown before and after a change.
const CONTEXT: usize = 3;

/// The unified diff of `edits`, which are disjoint, on `text`; empty if they change nothing.
pub(super) fn unified(name: &str, text: &str, edits: &[Edit]) -> String {
    let Ok(new) = text::apply_edits(text, edits) else { return String::new() };
    if new == text {
        return String::new();
    }
    let old_lines = lines(text);
    let new_lines = lines(&new);
    let mut out = format!("--- a/{name}\n+++ b/{name}\n");
    let mut shift = 0isize;
    for hunk in hunks(text, &old_lines, edits) {
        let grown: isize = hunk.grown;
        let old = hunk.lines.clone();
        let new_start = old.start.saturating_add_signed(shift);
        let new_end = old.end.saturating_add_signed(shift + grown);
        let (old_part, new_part) =
            (&old_lines[old.clone()], &new_lines[new_start..new_end.min(new_lines.len())]);
        write_hunk(&mut out, (old.start, old_part), (new_start, new_part));
        shift += grown;
    }
    out
}

struct Hunk {
    /// Lines of the old text, context included.
    lines: Range<usize>,
    /// How many lines more the new text has here.
    grown: isize,
}

/// The lines of a text with their line ends.
fn lines(text: &str) -> Vec<&str> {
    text.split_inclusive('\n').collect()
}

fn hunks(text: &str, old_lines: &[&str], edits: &[Edit]) -> Vec<Hunk> {
    let line_of =
        |offset: usize| text.as_bytes()[..offset].iter().filter(|byte| **byte == b'\n').count();
    let mut edits: Vec<&Edit> = edits.iter().collect();
    edits.sort_by_key(|edit| (edit.range.start, edit.range.end));
    let mut hunks: Vec<Hunk> = Vec::new();
    for edit in edits {
        let first = line_of(edit.range.start).saturating_sub(CONTEXT);
        let last = (line_of(edit.range.end) + 1 + CONTEXT).min(old_lines.len());
        let breaks = |part: &str| isize::try_from(part.matches('\n').count()).unwrap_or(0);
        let mut grown = breaks(&edit.text) - breaks(&text[edit.range.clone()]);
        // The last line may have no line end: text that is added behind it makes a line that no break announces.
        let at_end = edit.range.start == text.len();
        if at_end
            && (text.is_empty() || text.ends_with('\n'))
            && !edit.text.is_empty()
            && !edit.text.ends_with('\n')
        {
            grown += 1;
        }
        match hunks.last_mut() {
            Some(hunk) if first <= hunk.lines.end => {
                hunk.lines.end = hunk.lines.end.max(last);
                hunk.grown += grown;
            }
            _ => hunks.push(Hunk { lines: first.min(old_lines.len())..last, grown }),
        }
    }
    hunks
}

fn write_hunk(
    out: &mut String,
    (old_start, old): (usize, &[&str]),
    (new_start, new): (usize, &[&str]),
) {
    let number = |start: usize, len: usize| if len == 0 { start } else { start + 1 };
    let (at, to) = (number(old_start, old.len()), number(new_start, new.len()));
    let _ = writeln!(out, "@@ -{at},{} +{to},{} @@", old.len(), new.len());
    let head = old.iter().zip(new).take_while(|(a, b)| a == b).count();
    let most = old.len().min(new.len()) - head;
    let tail =
        old.iter().rev().zip(new.iter().rev()).take(most).take_while(|(a, b)| a == b).count();
    let mut write = |sign: char, lines: &[&str]| {
        for line in lines {
            out.push(sign);
            out.push_str(line);
            if !line.ends_with('\n') {
                out.push_str("\n\\ No newline at end of file\n");
            }
        }
    };
    write(' ', &old[..head]);
    write('-', &old[head..old.len() - tail]);
    write('+', &new[head..new.len() - tail]);
    write(' ', &old[old.len() - tail..]);
}

#[cfg(test)]
mod tests {
    use expect_test::{Expect, expect};

    use super::*;

    fn check(text: &str, edits: &[(Range<usize>, &str)], expected: &Expect) {
        let edits: Vec<Edit> = edits
            .iter()
            .map(|(range, text)| Edit { range: range.clone(), text: (*text).to_owned() })
            .collect();
        expected.assert_eq(&unified("a.py", text, &edits));
    }

    #[test]
    fn one_line() {
        check(
            "a\nb\nc\nd\ne\nf\n",
            &[(6..7, "D")],
            &expect![[r"
                --- a/a.py
                +++ b/a.py
                @@ -1,6 +1,6 @@
                 a
                 b
                 c
                -d
                +D
                 e
                 f
            "]],
        );
    }

    #[test]
    fn two_places_far_apart() {
        check(
            "1\n2\n3\n4\n5\n6\n7\n8\n9\n10\n11\n12\n",
            &[(0..0, "import x\n"), (24..26, "y")],
            &expect![[r"
                --- a/a.py
                +++ b/a.py
                @@ -1,4 +1,5 @@
                +import x
                 1
                 2
                 3
                 4
                @@ -9,4 +10,4 @@
                 9
                 10
                 11
                -12
                +y
            "]],
        );
    }

    #[test]
    fn without_a_line_end() {
        check(
            "a\nb",
            &[(2..3, "c\nd")],
            &expect![[r"
                --- a/a.py
                +++ b/a.py
                @@ -1,2 +1,3 @@
                 a
                -b
                \ No newline at end of file
                +c
                +d
                \ No newline at end of file
            "]],
        );
    }

    #[test]
    fn what_changes_nothing_is_no_diff() {
        check("a\n", &[(0..1, "a")], &expect![""]);
    }
}
