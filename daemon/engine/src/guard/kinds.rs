//! Which tokens are words, and which are data: a table of zeros may be as long as it likes.

use crate::job::TokenId;

/// What a vocabulary's tokens are made of, as far as the collapse guard asks.
#[derive(Debug, Clone, Default)]
pub struct TokenKinds {
    kinds: Vec<Kind>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Kind {
    /// It has letters that no hexadecimal number has.
    is_word: bool,
    /// A number, a line drawn with signs, a quote or a comma: what tables consist of.
    is_datum: bool,
    /// It has anything but letters and digits, so that no long word is made of it alone.
    is_broken: bool,
    /// It has several letters.
    is_long: bool,
}

/// A repeated passage, by what it is made of.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Material {
    /// Text or code.
    Words,
    /// Text that repeats itself within the passage: the lines of a list of equals.
    List,
    /// One long word: base64, a word of one letter.
    Blob,
    /// Numbers, rulers, empty fields.
    Data,
}

/// From which share of words on a passage is text.
const WORDS_MIN: f32 = 0.1;
/// A word of so many letters is no abbreviation in a table.
const LETTERS_MIN: usize = 3;
/// In a list, a token stands this many times on average.
const LIST_TIMES: usize = 4;
/// Shorter passages are no lists of their own.
const LIST_LEN_MIN: usize = 8;

impl TokenKinds {
    /// From the bytes of each token of a vocabulary.
    pub fn new<'b>(vocabulary: impl Iterator<Item = &'b [u8]>) -> TokenKinds {
        TokenKinds { kinds: vocabulary.map(Kind::of).collect() }
    }

    fn get(&self, token: TokenId) -> Kind {
        let unknown = Kind { is_word: true, is_datum: false, is_broken: true, is_long: true };
        self.kinds.get(token as usize).copied().unwrap_or(unknown)
    }

    /// Whether `tokens` hold enough words to be text.
    fn is_text(&self, tokens: &[TokenId]) -> bool {
        let words = tokens.iter().filter(|&&token| self.get(token).is_word).count();
        words as f32 >= WORDS_MIN * tokens.len() as f32
    }

    /// The share of words with several letters.
    pub(super) fn long_words(&self, tokens: &[TokenId]) -> f32 {
        let words = tokens.iter().filter(|&&token| self.get(token).is_long).count();
        words as f32 / tokens.len() as f32
    }

    /// What a repeated passage is made of.
    pub(super) fn material(&self, unit: &[TokenId]) -> Material {
        let mut kinds = unit.iter().map(|&token| self.get(token));
        if !self.is_text(unit) {
            // Brackets and line ends alone are no data.
            return if kinds.any(|kind| kind.is_datum) { Material::Data } else { Material::Words };
        }
        if !kinds.any(|kind| kind.is_broken) {
            return Material::Blob;
        }
        let mut distinct = unit.to_vec();
        distinct.sort_unstable();
        distinct.dedup();
        if unit.len() >= LIST_LEN_MIN && distinct.len() * LIST_TIMES <= unit.len() {
            return Material::List;
        }
        Material::Words
    }
}

impl Kind {
    fn of(bytes: &[u8]) -> Kind {
        let Ok(text) = std::str::from_utf8(bytes) else {
            // A part of a character.
            return Kind { is_word: true, is_datum: false, is_broken: false, is_long: false };
        };
        let is_word = text.chars().any(|sign| match sign {
            // Hexadecimal, and the marks and suffixes of numbers.
            'a'..='f' | 'A'..='F' | 'x' | 'X' | 'u' | 'U' | 'l' | 'L' => false,
            sign => sign.is_alphabetic(),
        });
        let is_datum = !is_word
            && text.chars().any(|sign| {
                sign.is_alphanumeric()
                    || !sign.is_ascii()
                    || "-_=*#~+!^/.,'\"`|\\%&$".contains(sign)
            });
        let is_broken = text.chars().any(|sign| !sign.is_alphanumeric() && !"+/=_-".contains(sign));
        let is_long =
            is_word && text.chars().filter(|sign| sign.is_alphabetic()).count() >= LETTERS_MIN;
        Kind { is_word, is_datum, is_broken, is_long }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn passages_are_told_apart_by_what_they_are_made_of() {
        let material = |tokens: &[&str]| {
            let mut words: Vec<&str> = tokens.to_vec();
            words.sort_unstable();
            words.dedup();
            let kinds = TokenKinds::new(words.iter().map(|word| word.as_bytes()));
            let unit: Vec<TokenId> =
                tokens.iter().map(|token| words.binary_search(token).unwrap() as TokenId).collect();
            kinds.material(&unit)
        };
        assert_eq!(material(&[".value", "Of", "()"]), Material::Words);
        assert_eq!(material(&["}", "\n"]), Material::Words);
        assert_eq!(material(&["0x", "00", ", "]), Material::Data);
        assert_eq!(material(&["-", "-"]), Material::Data);
        assert_eq!(material(&["", "━━"]), Material::Data);
        assert_eq!(material(&["EBA", "Q"]), Material::Blob);
        assert_eq!(material(&[" the"]), Material::Words);
        let row = ["T", "::default", "(), "].repeat(8);
        assert_eq!(material(&[&row[..], &["\n"]].concat()), Material::List);
    }
}
