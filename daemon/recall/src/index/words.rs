//! Identifiers of a text: whole names, and the parts that camelCase and snake_case are made of.
//!
//! A name is known by the hash of its bytes alone, so that the index keeps no strings: of a million names two share 64 bits with a
//! probability of 3e-8. A part is spelled in small letters, so that `parseTree`, `parse_tree` and `Tree` have something in common.

use std::hash::{BuildHasherDefault, Hasher};

/// Shorter names say nothing.
const NAME_BYTES_MIN: usize = 2;
/// Shorter parts are too common.
const PART_BYTES_MIN: usize = 3;
/// Longer runs of letters are data.
const NAME_BYTES_MAX: usize = 80;

/// The hash of a name or of a part.
pub(super) type Word = u64;

/// Calls `each` with every identifier of `text` and where it starts.
pub fn names<'a>(text: &'a str, mut each: impl FnMut(&'a str, usize)) {
    let bytes = text.as_bytes();
    let mut at = 0;
    while at < bytes.len() {
        if !is_word(bytes[at]) {
            at += 1;
            continue;
        }
        let start = at;
        while at < bytes.len() && is_word(bytes[at]) {
            at += 1;
        }
        let length = at - start;
        if !bytes[start].is_ascii_digit() && (NAME_BYTES_MIN..=NAME_BYTES_MAX).contains(&length) {
            each(&text[start..at], start);
        }
    }
}

/// Bytes beyond ASCII count as letters.
fn is_word(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || byte == b'_' || byte >= 0x80
}

/// Calls `each` with the name's own word and `true`, and with those of its parts and `false`.
pub(super) fn words(name: &str, mut each: impl FnMut(Word, bool)) {
    let whole = hash(name.bytes());
    each(whole, true);
    let bytes = name.as_bytes();
    let mut start = 0;
    for at in 1..=bytes.len() {
        if at < bytes.len() && !is_border(bytes, at) {
            continue;
        }
        let part = name[start..at].trim_matches('_');
        if part.len() >= PART_BYTES_MIN && !part.as_bytes()[0].is_ascii_digit() {
            let word = hash(part.bytes().map(|byte| byte.to_ascii_lowercase()));
            if word != whole {
                each(word, false);
            }
        }
        start = at;
    }
}

/// Whether a part ends before `at`: `snake_|case`, `camel|Case`, `HTTP|Server`.
fn is_border(bytes: &[u8], at: usize) -> bool {
    let (before, here) = (bytes[at - 1], bytes[at]);
    let next = bytes.get(at + 1).copied().unwrap_or(b'_');
    (before == b'_' && here != b'_')
        || (before.is_ascii_lowercase() && here.is_ascii_uppercase())
        || (before.is_ascii_uppercase() && here.is_ascii_uppercase() && next.is_ascii_lowercase())
}

/// The distinct words of a text, in ascending order.
pub(super) fn distinct(text: &str) -> Vec<Word> {
    let mut all = Vec::new();
    names(text, |name, _| words(name, |word, _| all.push(word)));
    all.sort_unstable();
    all.dedup();
    all
}

/// FNV-1a of 64 bits, and a round of mixing, since tables take the low bits.
pub(super) fn hash(bytes: impl Iterator<Item = u8>) -> Word {
    let mut hash: u64 = 0xcbf2_9ce4_8422_2325;
    for byte in bytes {
        hash = (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3);
    }
    hash ^= hash >> 32;
    hash.wrapping_mul(0x9e37_79b9_7f4a_7c15)
}

/// For tables whose keys are hashes already.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Same(u64);

/// How such tables hash.
pub(super) type BySame = BuildHasherDefault<Same>;

impl Hasher for Same {
    fn finish(&self) -> u64 {
        self.0
    }

    fn write(&mut self, bytes: &[u8]) {
        self.0 = hash(bytes.iter().copied());
    }

    fn write_u64(&mut self, word: u64) {
        self.0 = word;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parts(name: &str) -> Vec<String> {
        let candidates = ["http", "server", "parse", "tree", "snake", "case", "get", "x2", "utf8"];
        let mut found = Vec::new();
        words(name, |word, whole| {
            if !whole {
                found.extend(
                    candidates
                        .iter()
                        .filter(|part| hash(part.bytes()) == word)
                        .map(|part| (*part).to_owned()),
                );
            }
        });
        found
    }

    #[test]
    fn names_fall_into_their_parts() {
        assert_eq!(parts("HTTPServer"), ["http", "server"]);
        assert_eq!(parts("parseTree"), ["parse", "tree"]);
        assert_eq!(parts("__snake_case__"), ["snake", "case"]);
        assert_eq!(parts("SNAKE_CASE"), ["snake", "case"]);
        assert_eq!(parts("get"), [""; 0], "the whole is its own part");
        assert_eq!(parts("Tree"), ["tree"]);
    }

    #[test]
    fn numbers_signs_and_runs_of_letters_are_no_names() {
        let mut found = Vec::new();
        let text = format!("a = 12ab + größe_1.x2({}) 😀", "y".repeat(200));
        names(&text, |name, at| found.push((name.to_owned(), at)));
        let names: Vec<&str> = found.iter().map(|(name, _)| name.as_str()).collect();
        assert_eq!(names, ["größe_1", "x2", "😀"]);
        assert!(found.iter().all(|(name, at)| text[*at..].starts_with(name)));
    }

    #[test]
    fn any_text_is_read() {
        for text in ["", "_", "é", "é_É", "aB", "A", "__", "\u{0}\u{7f}", "a\u{301}b"] {
            let _ = distinct(text);
        }
    }
}
