//! Edits: replacements of byte ranges, all counted in the same text.

use std::ops;

/// Replaces the bytes `range` by `text`.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Edit {
    /// Bytes of the text that the edit was made for.
    pub range: ops::Range<usize>,
    /// What stands there afterwards.
    pub text: String,
}

/// Why a list of edits cannot be applied.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum EditError {
    /// Two edits change the same bytes.
    #[error("two edits overlap at byte {at}")]
    Overlap {
        /// Where the second one starts.
        at: usize,
    },
    /// The range is reversed, ends beyond the text, or cuts a character.
    #[error("an edit of bytes {start}..{end} does not fit a text of {bytes} bytes")]
    Range {
        /// The start of the range.
        start: usize,
        /// The end of the range.
        end: usize,
        /// The length of the text.
        bytes: usize,
    },
}

/// Applies `edits`, whose ranges all refer to `text` and may stand in any order. Insertions at the same place keep the
/// order in which they are given; an insertion may touch a replacement, and comes before it.
pub fn apply_edits(text: &str, edits: &[Edit]) -> Result<String, EditError> {
    let mut order: Vec<&Edit> = edits.iter().collect();
    order.sort_by_key(|edit| (edit.range.start, edit.range.end));
    let added: usize = order.iter().map(|edit| edit.text.len()).sum();
    let mut out = String::with_capacity(text.len() + added);
    let mut taken = 0;
    for edit in order {
        let ops::Range { start, end } = edit.range;
        if text.get(start..end).is_none() {
            return Err(EditError::Range { start, end, bytes: text.len() });
        }
        if start < taken {
            return Err(EditError::Overlap { at: start });
        }
        out.push_str(&text[taken..start]);
        out.push_str(&edit.text);
        taken = end;
    }
    out.push_str(&text[taken..]);
    Ok(out)
}

/// The bytes of `old` that are replaced, and the bytes of `new` that replace them: what is left between the longest common
/// start and the longest common end. Never cuts a character, nor a line end of two bytes, so that positions can name them.
pub fn differing(old: &str, new: &str) -> (ops::Range<usize>, ops::Range<usize>) {
    let (a, b) = (old.as_bytes(), new.as_bytes());
    let mut start = a.iter().zip(b).take_while(|(x, y)| x == y).count();
    while start > 0 && (!is_place(old, start) || !is_place(new, start)) {
        start -= 1;
    }
    let most = (a.len() - start).min(b.len() - start);
    let mut tail =
        a.iter().rev().zip(b.iter().rev()).take(most).take_while(|(x, y)| x == y).count();
    while tail > 0 && (!is_place(old, a.len() - tail) || !is_place(new, b.len() - tail)) {
        tail -= 1;
    }
    (start..a.len() - tail, start..b.len() - tail)
}

/// Whether a position of the protocol can name this offset exactly.
fn is_place(text: &str, offset: usize) -> bool {
    let bytes = text.as_bytes();
    let within_line_end =
        offset > 0 && bytes[offset - 1] == b'\r' && bytes.get(offset) == Some(&b'\n');
    text.is_char_boundary(offset) && !within_line_end
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn edit(range: ops::Range<usize>, text: &str) -> Edit {
        Edit { range, text: text.to_owned() }
    }

    #[test]
    fn edits_apply_in_any_order() {
        let edits =
            [edit(4..5, "E"), edit(0..0, ">"), edit(0..1, "A"), edit(5..5, "<"), edit(5..5, "!")];
        assert_eq!(apply_edits("abcde", &edits).unwrap(), ">AbcdE<!");
    }

    #[test]
    fn bad_edits_are_refused() {
        let overlap = [edit(0..3, ""), edit(2..4, "")];
        assert_eq!(apply_edits("abcde", &overlap), Err(EditError::Overlap { at: 2 }));
        let cut = EditError::Range { start: 0, end: 1, bytes: 2 };
        assert_eq!(apply_edits("é", &[edit(0..1, "")]), Err(cut));
        assert!(apply_edits("abc", &[edit(2..9, "")]).is_err());
        #[expect(clippy::reversed_empty_ranges, reason = "the point of the test")]
        let reversed = edit(2..1, "");
        assert!(apply_edits("abc", &[reversed]).is_err());
    }

    proptest! {
        #[test]
        fn disjoint_edits_agree_with_replacing_from_the_back(
            text in "[a-zé😀]{0,30}",
            cuts in proptest::collection::vec((0usize..60, "[X-Z]{0,3}"), 0..8),
        ) {
            let mut starts: Vec<(usize, String)> = cuts
                .into_iter()
                .filter(|(at, _)| text.is_char_boundary(*at))
                .collect();
            starts.sort_by_key(|(at, _)| *at);
            starts.dedup_by_key(|(at, _)| *at);
            let mut edits: Vec<Edit> = Vec::new();
            for (index, (start, new)) in starts.iter().enumerate() {
                let end = starts.get(index + 1).map_or(text.len(), |(next, _)| *next);
                edits.push(edit(*start..end, new));
            }
            let mut naive = text.clone();
            for edit in edits.iter().rev() {
                naive.replace_range(edit.range.clone(), &edit.text);
            }
            edits.reverse();
            prop_assert_eq!(apply_edits(&text, &edits).unwrap(), naive);
        }
    }
}
