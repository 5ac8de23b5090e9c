//! What a candidate repeats of the text around it, or of itself.

/// A line with fewer letters (`}`, `else:`) may well come twice.
const REPEAT_LETTERS_MIN: usize = 4;
/// A line with as many letters does not come again two or three lines further down either.
const FAR_LETTERS_MIN: usize = 16;
/// Lines behind the cursor that are looked at.
const BELOW_MAX: usize = 3;
/// Lines longer than this are compared by their starts.
const LINE_BYTES_MAX: usize = 1 << 10;
/// The overlap with the rest of the line that counts even where it is no closing sign.
const OVERLAP_BYTES_MIN: usize = 3;
/// So much of the rest of the line is looked for in a candidate.
const REST_BYTES_MAX: usize = 256;

/// The lines around the cursor that are not blank.
#[derive(Debug, Clone, Default)]
pub(super) struct Neighbours {
    /// The one above the cursor's.
    above: String,
    /// Those below the cursor's, the nearest first.
    below: Vec<String>,
    /// A suggestion that repeats the line above is none.
    pub(super) heed_above: bool,
}

impl Neighbours {
    pub(super) fn of(before: &str, after: &str) -> Neighbours {
        let full = |line: &&str| !line.trim().is_empty();
        let short =
            |line: &str| line[..crate::prompt::floor_boundary(line, LINE_BYTES_MAX)].to_owned();
        let above = before.rsplit('\n').skip(1).find(full).map_or_else(String::new, short);
        let below = after.split('\n').skip(1).filter(full).take(BELOW_MAX).map(short).collect();
        Neighbours { above, below, heed_above: false }
    }

    /// The start of the first line of `text` that repeats a line around the cursor, or the two lines before it. `line` and `rest` are
    /// the cursor's line on both sides of it.
    pub(super) fn repeated(
        &self,
        line: &str,
        rest: &str,
        text: &str,
        finished: bool,
    ) -> Option<usize> {
        let mut at = 0;
        let mut previous: [(usize, &str); 2] = [(0, ""); 2];
        for (number, one) in text.split('\n').enumerate() {
            let start = at;
            at += one.len() + 1;
            let is_over = at <= text.len() || finished;
            if one.trim().is_empty() || !is_over {
                continue;
            }
            let (head, tail) = if number == 0 { (line, rest) } else { ("", "") };
            let parts =
                [head, one, if at <= text.len() && tail.trim().is_empty() { "" } else { tail }];
            let letters = letters(&parts);
            let is_same = |other: &str| same(&parts, other);
            let near = letters >= REPEAT_LETTERS_MIN
                && self.below.first().is_some_and(|below| is_same(below));
            let far = letters >= FAR_LETTERS_MIN && self.below.iter().any(|below| is_same(below));
            let above = self.heed_above
                && number == 0
                && letters >= REPEAT_LETTERS_MIN
                && is_same(&self.above);
            if near || far || above {
                return Some(start);
            }
            if letters >= REPEAT_LETTERS_MIN
                && previous.iter().all(|(_, other)| same(&[one], other))
            {
                return Some(previous[1].0.saturating_sub(1));
            }
            previous = [previous[1], (start, one)];
        }
        None
    }
}

fn letters(parts: &[&str]) -> usize {
    parts.iter().flat_map(|part| part.chars()).filter(|sign| sign.is_alphanumeric()).count()
}

/// Whether the parts together are `other`, up to blanks.
fn same(parts: &[&str], other: &str) -> bool {
    let dense = |sign: &char| !sign.is_whitespace();
    let own = parts.iter().flat_map(|part| part.chars()).filter(dense);
    own.eq(other.chars().filter(dense))
}

/// Where the end of `text` begins to repeat the `rest` of the cursor's line, or where all of the rest comes. `is_sound`: whether the text
/// up to there has closed what it opened, so that the rest goes on from it. Signs that the text needs itself are no repetition; where words
/// are repeated and nothing sound stands before them, it is the whole text.
pub(super) fn overlap(rest: &str, text: &str, is_sound: impl Fn(&str) -> bool) -> Option<usize> {
    let rest = rest.trim_end();
    let whole = rest.len() <= REST_BYTES_MAX && letters(&[rest]) >= REPEAT_LETTERS_MIN;
    let sound_or_none = |at: usize| if is_sound(&text[..at]) { at } else { 0 };
    if let Some(at) = text.find(rest).filter(|_| whole) {
        return Some(sound_or_none(at));
    }
    let longest = rest.len().min(text.len()).min(REST_BYTES_MAX);
    (1..=longest).rev().map(|len| (len, text.len() - len)).find_map(|(len, at)| {
        let same = text.is_char_boundary(at) && rest.starts_with(&text[at..]);
        let signs = same && text[at..].chars().all(|sign| ")]}\"'`;,:".contains(sign));
        if signs {
            return is_sound(&text[..at]).then_some(at);
        }
        (same && len >= OVERLAP_BYTES_MIN).then(|| sound_or_none(at))
    })
}

/// Whether a text has closed the brackets and quotes that it opened, as far as signs alone tell.
pub(super) fn is_even(text: &str) -> bool {
    let count = |sign: char| text.matches(sign).count();
    [('(', ')'), ('[', ']'), ('{', '}')]
        .into_iter()
        .all(|(opening, closing)| count(opening) <= count(closing))
        && ['"', '`'].into_iter().all(|quote| count(quote).is_multiple_of(2))
}
