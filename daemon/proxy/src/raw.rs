//! JSON text as it stands: views of values in it, and changes of single places that leave every other byte alone.
//!
//! What is merged or rewritten was written by other programs. Members that we have never heard of, numbers that no
//! number type holds and lone surrogates must survive, so nothing is read into a tree of ours and written out again.

use std::ops::Range;

/// A value within a JSON text.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Raw<'a> {
    text: &'a [u8],
    start: usize,
    end: usize,
}

/// A member of an object.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Member<'a> {
    key: Raw<'a>,
    /// Its value.
    pub(crate) value: Raw<'a>,
}

impl<'a> Raw<'a> {
    /// The value that the whole of `text` is.
    pub(crate) fn new(text: &'a [u8]) -> Raw<'a> {
        Raw { text, start: 0, end: text.len() }.trimmed()
    }

    /// Its JSON text.
    pub(crate) fn bytes(self) -> &'a [u8] {
        &self.text[self.start..self.end]
    }

    /// Where it stands in the text that the view was made of.
    pub(crate) fn span(self) -> Range<usize> {
        self.start..self.end
    }

    /// The members of an object in their order; none if it is something else.
    pub(crate) fn members(self) -> Vec<Member<'a>> {
        let mut members = Vec::new();
        let read = wire::json::members(self.bytes(), |key, value| {
            members.push(Member { key: self.within(key), value: self.within(value) });
        });
        if read.is_err() {
            members.clear();
        }
        members
    }

    /// The elements of an array in their order; none if it is something else.
    pub(crate) fn elements(self) -> Vec<Raw<'a>> {
        let mut elements = Vec::new();
        let read = wire::json::elements(self.bytes(), |span| elements.push(self.within(span)));
        if read.is_err() {
            elements.clear();
        }
        elements
    }

    /// The member `key` of an object; the last one if there are several.
    pub(crate) fn get(self, key: &str) -> Option<Raw<'a>> {
        find(&self.members(), key)
    }

    /// What `get` finds, member by member, for a path such as `textDocument.uri`.
    pub(crate) fn path(self, path: &str) -> Option<Raw<'a>> {
        path.split('.').try_fold(self, |value, key| value.get(key))
    }

    /// The characters of a string; what is not Unicode in it becomes U+FFFD.
    pub(crate) fn string(self) -> Option<String> {
        self.is_string().then(|| wire::parse(self.bytes()).ok()).flatten()
    }

    /// The number, if it is a whole one of 32 bits.
    pub(crate) fn number(self) -> Option<u32> {
        let text = std::str::from_utf8(self.bytes()).ok()?;
        if let Ok(number) = text.parse() {
            return Some(number);
        }
        // Some servers have only floating point.
        let number: f64 = text.parse().ok()?;
        let whole = number.fract() == 0.0 && (0.0..=f64::from(u32::MAX)).contains(&number);
        whole.then_some(number as u32)
    }

    pub(crate) fn is_true(self) -> bool {
        self.bytes() == b"true"
    }

    pub(crate) fn is_null(self) -> bool {
        self.bytes() == b"null"
    }

    pub(crate) fn is_string(self) -> bool {
        self.bytes().first() == Some(&b'"')
    }

    pub(crate) fn is_array(self) -> bool {
        self.bytes().first() == Some(&b'[')
    }

    pub(crate) fn is_object(self) -> bool {
        self.bytes().first() == Some(&b'{')
    }

    fn within(self, span: Range<usize>) -> Raw<'a> {
        Raw { text: self.text, start: self.start + span.start, end: self.start + span.end }
    }

    fn trimmed(self) -> Raw<'a> {
        let bytes = self.bytes();
        let start = self.start + (bytes.len() - bytes.trim_ascii_start().len());
        let end = self.end - (bytes.len() - bytes.trim_ascii_end().len());
        Raw { text: self.text, start, end: end.max(start) }
    }
}

impl Member<'_> {
    /// Whether this is its name.
    pub(crate) fn is(&self, name: &str) -> bool {
        let key = self.key.bytes();
        if key.contains(&b'\\') { self.name() == name } else { key == name.as_bytes() }
    }

    /// Its name.
    pub(crate) fn name(&self) -> String {
        wire::parse(&[b"\"", self.key.bytes(), b"\""].concat()).unwrap_or_default()
    }

    /// The JSON text of the member: name, colon and value.
    pub(crate) fn bytes(&self) -> &[u8] {
        &self.key.text[self.key.start - 1..self.value.end]
    }
}

/// The value of the member `name`; the last one if there are several.
pub(crate) fn find<'a>(members: &[Member<'a>], name: &str) -> Option<Raw<'a>> {
    members.iter().rfind(|member| member.is(name)).map(|member| member.value)
}

/// A string as JSON text.
pub(crate) fn quoted(text: &str) -> Vec<u8> {
    serde_json::Value::from(text).to_string().into_bytes()
}

/// A JSON array of values that are JSON text.
pub(crate) fn array<'a>(elements: impl IntoIterator<Item = &'a [u8]>) -> Vec<u8> {
    let mut text = vec![b'['];
    for element in elements {
        if text.len() > 1 {
            text.push(b',');
        }
        text.extend_from_slice(element);
    }
    text.push(b']');
    text
}

/// Changes of places in one JSON text.
pub(crate) struct Splice<'a> {
    text: &'a [u8],
    changes: Vec<(Range<usize>, Vec<u8>)>,
}

impl<'a> Splice<'a> {
    /// No changes yet.
    pub(crate) fn new(text: &'a [u8]) -> Splice<'a> {
        Splice { text, changes: Vec::new() }
    }

    /// Puts `json` in the place of `value`.
    pub(crate) fn replace(&mut self, value: Raw<'_>, json: impl Into<Vec<u8>>) {
        self.changes.push((value.span(), json.into()));
    }

    /// Adds a member at the end of an object; what is no object stays as it is. Several are added to one object one directly
    /// after the other.
    pub(crate) fn insert(&mut self, object: Raw<'_>, name: &str, json: &[u8]) {
        if !object.is_object() {
            return;
        }
        let last = object.members().last().map(|member| member.value.end);
        self.append(object, last, &[&quoted(name), &b":"[..], json].concat());
    }

    /// Adds an element, or elements with commas between, at the end of an array; what is no array stays as it is.
    pub(crate) fn push(&mut self, array: Raw<'_>, json: &[u8]) {
        if !array.is_array() {
            return;
        }
        let last = array.elements().last().map(|element| element.end);
        self.append(array, last, json);
    }

    /// Takes a member out of its object.
    pub(crate) fn remove(&mut self, object: Raw<'_>, name: &str) {
        let members = object.members();
        let Some(at) = members.iter().rposition(|member| member.is(name)) else { return };
        let start = |at: usize| members[at].key.start - 1;
        let span = match (at.checked_sub(1), members.get(at + 1)) {
            (Some(before), _) => members[before].value.end..members[at].value.end,
            (None, Some(_)) => start(at)..start(at + 1),
            (None, None) => start(at)..members[at].value.end,
        };
        self.changes.push((span, Vec::new()));
    }

    /// The text with all changes made.
    pub(crate) fn finish(mut self) -> Vec<u8> {
        self.changes.sort_by_key(|(span, _)| (span.start, span.end));
        let mut out = Vec::with_capacity(self.text.len() + 64 * self.changes.len());
        let mut taken = 0;
        for (span, json) in &self.changes {
            if span.start < taken {
                continue;
            }
            out.extend_from_slice(&self.text[taken..span.start]);
            out.extend_from_slice(json);
            taken = span.end;
        }
        out.extend_from_slice(&self.text[taken..]);
        out
    }

    /// Puts `json` behind the value that ends at `last`, or into what is empty.
    fn append(&mut self, within: Raw<'_>, last: Option<usize>, json: &[u8]) {
        let at = last.unwrap_or(within.end - 1);
        let first = last.is_none() && !self.changes.iter().any(|(span, _)| span.start == at);
        let comma: &[u8] = if first { b"" } else { b"," };
        self.changes.push((at..at, [comma, json].concat()));
    }
}

#[cfg(test)]
pub(crate) mod arbitrary;
#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_change_leaves_every_other_byte_alone() {
        let text = br#" {"a" : 1e400, "b\u0062":"\ud83d","c":{}, "d":[ ]} "#;
        let root = Raw::new(text);
        let mut splice = Splice::new(text);
        splice.replace(root.get("bb").unwrap(), b"2".to_vec());
        splice.insert(root.get("c").unwrap(), "x", b"1");
        splice.insert(root.get("c").unwrap(), "y", b"2");
        splice.push(root.get("d").unwrap(), b"3");
        splice.insert(root, "e", b"null");
        let expected = br#" {"a" : 1e400, "b\u0062":2,"c":{"x":1,"y":2}, "d":[ 3],"e":null} "#;
        assert_eq!(splice.finish(), expected);
    }

    #[test]
    fn what_is_empty_may_be_filled_in_turns() {
        let text = br#"{"a":[],"b":[]}"#;
        let root = Raw::new(text);
        let mut splice = Splice::new(text);
        for (name, json) in [("a", b"1"), ("b", b"2"), ("a", b"3"), ("b", b"4")] {
            splice.push(root.get(name).unwrap(), json);
        }
        assert_eq!(splice.finish(), br#"{"a":[1,3],"b":[2,4]}"#);
    }

    #[test]
    fn a_member_is_removed_with_one_comma() {
        let removed = |text: &str, name| {
            let mut splice = Splice::new(text.as_bytes());
            splice.remove(Raw::new(text.as_bytes()), name);
            String::from_utf8(splice.finish()).unwrap()
        };
        assert_eq!(removed(r#"{"a":1, "b":2}"#, "a"), r#"{"b":2}"#);
        assert_eq!(removed(r#"{"a":1, "b":2}"#, "b"), r#"{"a":1}"#);
        assert_eq!(removed(r#"{"a":1}"#, "a"), "{}");
        assert_eq!(removed(r#"{"a":1}"#, "c"), r#"{"a":1}"#);
        assert_eq!(removed("[1]", "c"), "[1]");
    }

    #[test]
    fn nothing_is_added_to_what_cannot_hold_it() {
        for text in ["[1]", "\"a\"", "7", "null"] {
            let mut splice = Splice::new(text.as_bytes());
            splice.insert(Raw::new(text.as_bytes()), "a", b"1");
            assert_eq!(splice.finish(), text.as_bytes());
        }
        let mut splice = Splice::new(b"{}");
        splice.push(Raw::new(b"{}"), b"1");
        assert_eq!(splice.finish(), b"{}");
    }

    #[test]
    fn numbers_are_whole_and_of_32_bits() {
        let number = |text: &str| Raw::new(text.as_bytes()).number();
        assert_eq!(number("4294967295"), Some(u32::MAX));
        assert_eq!(number("3.0"), Some(3));
        for bad in ["-1", "1.5", "4294967296", "1e400", "null", "\"3\""] {
            assert_eq!(number(bad), None, "{bad}");
        }
    }
}
