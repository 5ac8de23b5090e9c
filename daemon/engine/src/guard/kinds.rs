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
    /// It has several small letters in a row, or some of a script that has no others.
    is_long: bool,
    /// It has a comma.
    is_comma: bool,
    /// It ends a line.
    is_line: bool,
    /// It has what names in code have and words in prose do not.
    is_code: bool,
    /// Brackets that it opens, less those that it closes.
    depth: i8,
    /// Its braces, and what it has outside of them.
    braces: Braces,
}

/// The braces of a token.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
struct Braces {
    /// Those that it opens, less those that it closes.
    depth: i8,
    /// The least that this comes to within it, 0 at most.
    dip: i8,
    /// Commas as far out as that.
    commas: u8,
    /// It has more than braces, commas and blanks as far out as that.
    speaks: bool,
}

/// A repeated passage, by what it is made of.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Material {
    /// Text or code.
    Words,
    /// A list of equals: one element or record of it, or a line of several.
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
/// Shorter passages are no lines of lists.
const LIST_LEN_MIN: usize = 8;
/// Longer passages are no elements of lists.
const ELEMENT_LEN_MAX: usize = 24;
/// Longer passages are no records: one of JSON with two fields, on lines of their own, has 34 tokens in a small vocabulary.
const RECORD_LEN_MAX: usize = 64;

impl TokenKinds {
    /// From the bytes of each token of a vocabulary.
    pub fn new<'b>(vocabulary: impl Iterator<Item = &'b [u8]>) -> TokenKinds {
        TokenKinds { kinds: vocabulary.map(Kind::of).collect() }
    }

    fn get(&self, token: TokenId) -> Kind {
        self.kinds.get(token as usize).copied().unwrap_or(Kind::PART)
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
        if unit.len() > 1 && !kinds.any(|kind| kind.is_broken || kind.is_long) {
            return Material::Blob;
        }
        if unit.len() <= ELEMENT_LEN_MAX && self.is_element(unit)
            || unit.len() <= RECORD_LEN_MAX && self.is_record(unit)
        {
            return Material::List;
        }
        let mut distinct = unit.to_vec();
        distinct.sort_unstable();
        distinct.dedup();
        if unit.len() >= LIST_LEN_MIN && distinct.len() * LIST_TIMES <= unit.len() {
            return Material::List;
        }
        Material::Words
    }

    /// Whether a passage is a name or a call and the comma after it, wherever it begins: `T::default(), ` has been seen 64 times, in
    /// place of the `Copy` that it lacks.
    fn is_element(&self, unit: &[TokenId]) -> bool {
        let kinds = unit.iter().map(|&token| self.get(token));
        let depths = kinds.scan(0i32, |depth, kind| {
            *depth += i32::from(kind.depth);
            Some((*depth, kind))
        });
        let depths: Vec<(i32, Kind)> = depths.collect();
        let outer = depths.iter().map(|&(depth, _)| depth).min().unwrap_or(0);
        depths.last().is_some_and(|&(depth, _)| depth == 0)
            && depths.iter().any(|&(depth, kind)| kind.is_comma && depth == outer)
            && depths.iter().any(|(_, kind)| kind.is_code)
            && depths.iter().filter(|(_, kind)| kind.is_line).count() <= 1
    }

    /// Whether a passage is one record in braces and the comma after it, on however many lines and wherever it begins: a generated
    /// grammar says `{"type": "PATTERN", "value": "[0-9]"},` once for every digit.
    fn is_record(&self, unit: &[TokenId]) -> bool {
        let mut depth = 0i32;
        let (mut outer, mut commas, mut speaks) = (i32::MAX, 0, false);
        for Braces { depth: change, dip, commas: more, speaks: says } in
            unit.iter().map(|&token| self.get(token).braces)
        {
            let level = depth + i32::from(dip);
            if level < outer {
                (outer, commas, speaks) = (level, 0, false);
            }
            if level == outer {
                commas += u32::from(more);
                speaks |= says;
            }
            depth += i32::from(change);
        }
        depth == 0 && commas == 1 && !speaks
    }
}

impl Kind {
    /// A part of a character, or a token that nobody knows.
    const PART: Kind = Kind {
        is_word: true,
        is_datum: false,
        is_broken: false,
        is_long: false,
        is_comma: false,
        is_line: false,
        is_code: false,
        depth: 0,
        braces: Braces { depth: 0, dip: 0, commas: 0, speaks: true },
    };

    fn of(bytes: &[u8]) -> Kind {
        let Ok(text) = std::str::from_utf8(bytes) else {
            return Kind::PART;
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
        let is_small = |sign: char| sign.is_alphabetic() && !sign.is_uppercase();
        let mut words = text.split(|sign| !is_small(sign));
        let is_long = is_word && words.any(|word| word.chars().count() >= LETTERS_MIN);
        let is_comma = text.contains(',');
        let is_line = text.contains('\n');
        let is_code = text.contains(['_', '(', '<']) || text.contains("::");
        let depth = text.chars().fold(0i8, |depth, sign| match sign {
            '(' | '[' | '{' | '<' => depth.saturating_add(1),
            ')' | ']' | '}' | '>' => depth.saturating_sub(1),
            _ => depth,
        });
        let braces = Braces::of(text);
        Kind { is_word, is_datum, is_broken, is_long, is_comma, is_line, is_code, depth, braces }
    }
}

impl Braces {
    fn of(text: &str) -> Braces {
        let mut all = Braces::default();
        for sign in text.chars() {
            match sign {
                '{' => all.depth = all.depth.saturating_add(1),
                '}' => {
                    all.depth = all.depth.saturating_sub(1);
                    if all.depth < all.dip {
                        all = Braces { depth: all.depth, dip: all.depth, ..Braces::default() };
                    }
                }
                _ if all.depth > all.dip => {}
                ',' => all.commas = all.commas.saturating_add(1),
                sign => all.speaks |= !sign.is_whitespace(),
            }
        }
        all
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
        assert_eq!(material(&["get", "_"]), Material::Words);
        assert_eq!(material(&["ID"]), Material::Words);
        assert_eq!(material(&[" the"]), Material::Words);
        assert_eq!(material(&["default", "(),", " T", "::"]), Material::List);
        assert_eq!(material(&["unwrap", "(a", ", ", "b).", " T"]), Material::Words);
        assert_eq!(material(&[" the", " value", ","]), Material::Words);
        let record = ["type", "\":", " \"", "[A", "\"", "\n", "},\n", "{\n", "\""];
        assert_eq!(material(&record), Material::List);
        assert_eq!(material(&["\"xyz", "\": ", "1", "},{"]), Material::List);
        assert_eq!(material(&["\"xyz", "\": ", "1", "}"]), Material::Words, "closed, not opened");
        assert_eq!(material(&["{\"xyz", "\": ", "1", "}\n"]), Material::Words, "no comma");
        assert_eq!(material(&["{\"xyz", "\"},", "{\"z", "\"},"]), Material::Words, "no equals");
        assert_eq!(material(&["if", " {", "go", "(b", ",", " c);", "}\n"]), Material::Words);
        let row = ["T", "::default", "(), "].repeat(8);
        assert_eq!(material(&[&row[..], &["\n"]].concat()), Material::List);
    }
}
