//! Whether a suggestion can stand where it is put: the signs in it, and what follows it on its line.

use super::Place;

/// Controls of the direction of writing, which make text look like something else (CVE-2021-42574), and the sign of what could not be
/// read.
const DISGUISES: [std::ops::RangeInclusive<char>; 4] = [
    '\u{202a}'..='\u{202e}',
    '\u{2066}'..='\u{2069}',
    '\u{fff9}'..='\u{fffd}',
    '\u{feff}'..='\u{feff}',
];

/// The first sign that no suggestion may hold.
pub(super) fn unfit_sign(text: &str) -> Option<usize> {
    let is_unfit = |sign: char| {
        sign.is_control() && !matches!(sign, '\n' | '\r' | '\t')
            || DISGUISES.iter().any(|range| range.contains(&sign))
    };
    text.find(is_unfit)
}

impl Place {
    /// Whether more than closing signs follows on the cursor's line.
    fn has_words_behind(&self) -> bool {
        self.rest.chars().any(is_word)
    }

    /// Whether the first `at` bytes of what the model wrote lead over to what follows on the cursor's line: there are closing signs alone,
    /// or the model went on with it, or ended by itself (`ended`) and leaves the line as sound as it was.
    pub(crate) fn fits(&self, written: &str, at: usize, ended: bool) -> bool {
        if !self.is_inside() || !self.has_words_behind() {
            return true;
        }
        let (text, more) = written.split_at(at);
        let line = more.split('\n').next().unwrap_or("");
        let goes_on = !line.is_empty() && self.rest.starts_with(line.trim_end());
        let glued = text.chars().next_back().is_some_and(is_word)
            && self.rest.chars().next().is_some_and(is_word);
        !glued && (goes_on && !line.trim().is_empty() || line.is_empty() && ended)
    }
}

/// Whether a sign is part of a word.
pub(crate) fn is_word(sign: char) -> bool {
    sign.is_alphanumeric() || sign == '_'
}
