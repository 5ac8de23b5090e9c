//! URIs as map keys (rule 4.47): two spellings of one place are one key, and the client is shown the spelling that it
//! chose itself.

use std::collections::HashMap;
use std::sync::Arc;

/// What two spellings of the same place have in common: escapes are undone, scheme and drive letter are lower case.
pub(super) fn key(uri: &str) -> Box<str> {
    let plain = unescaped(uri);
    let Some((scheme, rest)) = plain.split_once(':') else { return plain.into() };
    let mut key = scheme.to_ascii_lowercase();
    key.push(':');
    let path = rest.strip_prefix("///").map(|path| ("///", path)).unwrap_or(("", rest));
    key.push_str(path.0);
    let mut letters = path.1.chars();
    match (letters.next(), letters.next()) {
        (Some(drive), Some(':')) if drive.is_ascii_alphabetic() => {
            key.push(drive.to_ascii_lowercase());
            key.push_str(&path.1[1..]);
        }
        _ => key.push_str(path.1),
    }
    key.into()
}

/// The path that a `file:` URI names, as text.
pub(super) fn path(uri: &str) -> Option<String> {
    let plain = unescaped(uri);
    let (scheme, rest) = plain.split_once(':')?;
    let rest = rest.strip_prefix("//").unwrap_or(rest);
    scheme.eq_ignore_ascii_case("file").then(|| rest.to_owned())
}

fn unescaped(uri: &str) -> String {
    if !uri.contains('%') {
        return uri.to_owned();
    }
    let bytes = uri.as_bytes();
    let digit = |at: usize| bytes.get(at).and_then(|byte| char::from(*byte).to_digit(16));
    let mut plain = Vec::with_capacity(bytes.len());
    let mut at = 0;
    while at < bytes.len() {
        match (bytes[at], digit(at + 1), digit(at + 2)) {
            (b'%', Some(high), Some(low)) => {
                plain.push((high * 16 + low) as u8);
                at += 3;
            }
            (byte, ..) => {
                plain.push(byte);
                at += 1;
            }
        }
    }
    // What is no text when unescaped stays as it is spelled.
    String::from_utf8(plain).unwrap_or_else(|_| uri.to_owned())
}

/// How the client spells the documents that it has open.
#[derive(Debug, Default)]
pub(super) struct Spellings(HashMap<Box<str>, Arc<str>>);

impl Spellings {
    /// The client has opened `uri`.
    pub(super) fn opened(&mut self, uri: &str) {
        self.0.insert(key(uri), uri.into());
    }

    /// The client has closed `uri`.
    pub(super) fn closed(&mut self, uri: &str) {
        self.0.remove(&key(uri));
    }

    /// The client's spelling of what a server calls `uri`; that itself if the client does not have it open.
    pub(super) fn of(&self, uri: &str) -> Arc<str> {
        self.0.get(&key(uri)).cloned().unwrap_or_else(|| uri.into())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rule_4_47_spellings_of_one_place_are_one_key() {
        let check = |one: &str, other: &str| assert_eq!(key(one), key(other), "{one} {other}");
        check("file:///C%3A/a%20b.py", "file:///c:/a b.py");
        check("FILE:///x", "file:///x");
        check("file:///%C3%A9", "file:///é");
        assert_ne!(key("file:///X"), key("file:///x"), "file systems may tell them apart");
        assert_eq!(&*key("file:///%ff"), "file:///%ff", "no text: left alone");
        assert_eq!(&*key("untitled:Untitled-1"), "untitled:Untitled-1");
        assert_eq!(path("file:///a%20b/c.py").as_deref(), Some("/a b/c.py"));
        assert_eq!(path("untitled:x"), None);
    }

    #[test]
    fn rule_4_47_the_client_is_shown_its_own_spelling() {
        let mut spellings = Spellings::default();
        spellings.opened("file:///c%3A/x.py");
        assert_eq!(&*spellings.of("file:///C:/x.py"), "file:///c%3A/x.py");
        spellings.closed("file:///C:/x.py");
        assert_eq!(&*spellings.of("file:///C:/x.py"), "file:///C:/x.py");
    }
}
