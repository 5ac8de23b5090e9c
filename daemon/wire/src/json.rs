//! A scanner over JSON text that finds the ends of values and builds nothing.
//!
//! It checks the structure (brackets, commas, colons, escapes, literals) and lets through what a transparent proxy has
//! no business judging: lone surrogates, bytes that are not UTF-8, control characters in strings, odd numbers.

use std::ops::Range;

/// How deep arrays and objects may nest.
pub const DEPTH_MAX: usize = 512;

/// The text is not JSON, or not complete; `at` is the byte where that shows.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Bad {
    /// The byte where that shows.
    pub at: usize,
}

/// Calls `each` with the spans of key (without quotes) and value of every member of the object that `bytes` is. What
/// was reported before an error is to be trusted.
pub fn members(bytes: &[u8], mut each: impl FnMut(Range<usize>, Range<usize>)) -> Result<(), Bad> {
    let mut scanner = Scanner { bytes, at: 0 };
    scanner.expect(b'{')?;
    if !scanner.accept(b'}') {
        loop {
            let key = scanner.key()?;
            let value = scanner.spanned_value()?;
            each(key, value);
            if scanner.accept(b',') {
                continue;
            }
            scanner.expect(b'}')?;
            break;
        }
    }
    scanner.end()
}

/// Calls `each` with the span of every element of the array that `bytes` is.
pub fn elements(bytes: &[u8], mut each: impl FnMut(Range<usize>)) -> Result<(), Bad> {
    let mut scanner = Scanner { bytes, at: 0 };
    scanner.expect(b'[')?;
    if !scanner.accept(b']') {
        loop {
            each(scanner.spanned_value()?);
            if scanner.accept(b',') {
                continue;
            }
            scanner.expect(b']')?;
            break;
        }
    }
    scanner.end()
}

/// The end of the value that starts at `start`, if one does.
pub fn value_end(bytes: &[u8], start: usize) -> Option<Range<usize>> {
    Scanner { bytes, at: start }.spanned_value().ok()
}

/// Whether `word` stands anywhere in `bytes`: the cheap question before the dear one.
pub fn contains(bytes: &[u8], word: &[u8]) -> bool {
    memchr::memmem::find(bytes, word).is_some()
}

/// The first byte that is not white space.
pub fn first(bytes: &[u8]) -> Option<u8> {
    bytes.iter().copied().find(|byte| !is_space(*byte))
}

fn is_space(byte: u8) -> bool {
    matches!(byte, b' ' | b'\n' | b'\r' | b'\t')
}

struct Scanner<'a> {
    bytes: &'a [u8],
    at: usize,
}

impl Scanner<'_> {
    fn bad<T>(&self) -> Result<T, Bad> {
        Err(Bad { at: self.at })
    }

    fn space(&mut self) -> Option<u8> {
        while let Some(byte) = self.bytes.get(self.at) {
            if !is_space(*byte) {
                return Some(*byte);
            }
            self.at += 1;
        }
        None
    }

    fn accept(&mut self, byte: u8) -> bool {
        let found = self.space() == Some(byte);
        self.at += usize::from(found);
        found
    }

    fn expect(&mut self, byte: u8) -> Result<(), Bad> {
        if self.accept(byte) { Ok(()) } else { self.bad() }
    }

    fn end(&mut self) -> Result<(), Bad> {
        if self.space().is_none() { Ok(()) } else { self.bad() }
    }

    /// A key and its colon; the span lies within the quotes.
    fn key(&mut self) -> Result<Range<usize>, Bad> {
        self.expect(b'"')?;
        let start = self.at;
        self.string()?;
        let key = start..self.at - 1;
        self.expect(b':')?;
        Ok(key)
    }

    fn spanned_value(&mut self) -> Result<Range<usize>, Bad> {
        self.space();
        let start = self.at;
        self.value()?;
        Ok(start..self.at)
    }

    /// The rest of a string, after its opening quote.
    fn string(&mut self) -> Result<(), Bad> {
        loop {
            match memchr::memchr2(b'"', b'\\', &self.bytes[self.at..]) {
                None => {
                    self.at = self.bytes.len();
                    return self.bad();
                }
                Some(ahead) => self.at += ahead + 1,
            }
            if self.bytes[self.at - 1] == b'"' {
                return Ok(());
            }
            let width = match self.bytes.get(self.at) {
                Some(b'u') => 5,
                Some(b'"' | b'\\' | b'/' | b'b' | b'f' | b'n' | b'r' | b't') => 1,
                _ => return self.bad(),
            };
            let digits = self.bytes.get(self.at + 1..self.at + width);
            if !digits.is_some_and(|digits| digits.iter().all(u8::is_ascii_hexdigit)) {
                return self.bad();
            }
            self.at += width;
        }
    }

    fn literal(&mut self, literal: &[u8]) -> Result<(), Bad> {
        if !self.bytes[self.at..].starts_with(literal) {
            return self.bad();
        }
        self.at += literal.len();
        Ok(())
    }

    fn number(&mut self) -> Result<(), Bad> {
        let start = self.at;
        let part = |byte: &u8| matches!(byte, b'0'..=b'9' | b'-' | b'+' | b'.' | b'e' | b'E');
        while self.bytes.get(self.at).is_some_and(part) {
            self.at += 1;
        }
        let digits = self.bytes[start..self.at].iter().any(u8::is_ascii_digit);
        if digits { Ok(()) } else { self.bad() }
    }

    /// One value, without recursion: `open` holds one bit per enclosing bracket, set for an object.
    fn value(&mut self) -> Result<(), Bad> {
        let mut open = [0u64; DEPTH_MAX / 64];
        let mut depth = 0;
        loop {
            match self.space() {
                Some(bracket @ (b'{' | b'[')) => {
                    self.at += 1;
                    let object = bracket == b'{';
                    if !self.accept(if object { b'}' } else { b']' }) {
                        if depth == DEPTH_MAX {
                            return self.bad();
                        }
                        let (word, bit) = (depth / 64, 1 << (depth % 64));
                        open[word] = if object { open[word] | bit } else { open[word] & !bit };
                        depth += 1;
                        if object {
                            self.key()?;
                        }
                        continue;
                    }
                }
                Some(b'"') => {
                    self.at += 1;
                    self.string()?;
                }
                Some(b'-' | b'0'..=b'9') => self.number()?,
                Some(b't') => self.literal(b"true")?,
                Some(b'f') => self.literal(b"false")?,
                Some(b'n') => self.literal(b"null")?,
                _ => return self.bad(),
            }
            loop {
                if depth == 0 {
                    return Ok(());
                }
                let object = open[(depth - 1) / 64] >> ((depth - 1) % 64) & 1 == 1;
                match self.space() {
                    Some(b',') => {
                        self.at += 1;
                        if object {
                            self.key()?;
                        }
                        break;
                    }
                    Some(b'}') if object => depth -= 1,
                    Some(b']') if !object => depth -= 1,
                    _ => return self.bad(),
                }
                self.at += 1;
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn json() -> impl Strategy<Value = serde_json::Value> {
        let leaf = prop_oneof![
            Just(serde_json::Value::Null),
            any::<bool>().prop_map(Into::into),
            any::<i64>().prop_map(Into::into),
            any::<f64>().prop_map(Into::into),
            "[a\"\\\\\n\u{1}é😀]{0,6}".prop_map(Into::into),
        ];
        leaf.prop_recursive(5, 40, 6, |inner| {
            prop_oneof![
                proptest::collection::vec(inner.clone(), 0..5).prop_map(Into::into),
                proptest::collection::hash_map("[a\"é]{0,3}", inner, 0..5)
                    .prop_map(|map| { serde_json::Value::Object(map.into_iter().collect()) }),
            ]
        })
    }

    proptest! {
        #[test]
        fn every_json_value_is_scanned_to_its_end(value in json(), pretty in any::<bool>()) {
            let text = if pretty { serde_json::to_string_pretty(&value) } else { serde_json::to_string(&value) }.unwrap();
            prop_assert_eq!(value_end(text.as_bytes(), 0), Some(0..text.len()));
            let object = format!("{{\"k\": {text} ,\"l\":1}}");
            let mut seen = Vec::new();
            members(object.as_bytes(), |key, value| seen.push((object[key].to_owned(), object[value].to_owned()))).unwrap();
            prop_assert_eq!(seen, [("k".to_owned(), text), ("l".to_owned(), "1".to_owned())]);
        }

        #[test]
        fn nothing_that_serde_refuses_for_its_structure_passes(text in "[\\[\\]{}:,\"a1 ]{0,12}") {
            let ours = value_end(text.as_bytes(), 0).is_some_and(|span| first(&text.as_bytes()[span.end..]).is_none());
            let serde = serde_json::from_str::<serde_json::Value>(&text).is_ok();
            // Leading zeros and repeated dots in numbers are the one thing let through.
            prop_assert!(ours == serde || ours && text.contains('1'), "{} {} {}", text, ours, serde);
        }
    }

    #[test]
    fn depth_has_a_limit() {
        let deep = |depth: usize| "[".repeat(depth) + &"]".repeat(depth);
        assert!(value_end(deep(DEPTH_MAX).as_bytes(), 0).is_some());
        assert!(value_end(deep(DEPTH_MAX + 2).as_bytes(), 0).is_none());
    }
}
