//! Bytes as a source of choices. When they are used up, every choice is the first one, so that every body ends.

use std::sync::LazyLock;

/// Words of JSON and of the protocol, odd ones among them.
const WORDS: &[&str] = &[
    "{",
    "}",
    "[",
    "]",
    ",",
    ":",
    "\"",
    "\\",
    "{}",
    "[]",
    "null",
    "true",
    "0",
    "1",
    "-1",
    "1.5e3",
    "1e400",
    "4294967296",
    "123456789012345678901234567890",
    "\"id\":",
    "\"method\":",
    "\"params\":",
    "\"result\":",
    "\"error\":",
    "\"jsonrpc\":\"2.0\",",
    "\"\\u0069d\":",
    "\"a\"",
    "\"\\ud83d\"",
    "\"\\ude00\"",
    "\\u00e9",
    "\"m\"",
    "\"initialize\"",
    "\"code\":",
    "\"message\":",
    "\"data\":",
    "\"_d\":[1,2]",
    "\"v\":",
    "\"items\":",
    "\"item\":",
    "\"command\":",
    "\"title\":",
    "\"label\":",
    "\"uri\":\"file:///a\"",
    "\"range\":",
    "\"start\":",
    "\"end\":",
    "\"line\":0",
    "\"character\":1",
    "\"contents\":",
    "\"kind\":\"markdown\"",
    "\"value\":",
    "\"edits\":",
    "\"changes\":",
    "\"documentChanges\":",
    "\"textDocument\":",
    "\"newText\":",
    "\"diagnostics\":",
    "\"context\":",
    "\"isIncomplete\":true",
    "\"itemDefaults\":",
    "\"sortText\":",
    "\"editRange\":",
    "\"resultId\":",
    "\"previousResultId\":\"demolish:0:1:x\"",
    "\"demolish:a:b\"",
    "\"from\":",
    "\"to\":",
    "\"targetUri\":",
    " ",
    "\n",
    "\t",
    "é",
    "😀",
    "\u{0}",
];

/// Values that have no values in them.
const LEAVES: &[&str] = &[
    "null",
    "true",
    "false",
    "0",
    "1",
    "7",
    "-1",
    "1.50",
    "1e400",
    "4294967295",
    "4294967296",
    "\"\"",
    "\"a\"",
    "\"\\ud83d\"",
    "\"é😀\"",
    "\"file:///a\"",
    "\"markdown\"",
    "\"demolish:1:2:x\"",
    "[0,0]",
    "{\"line\":0,\"character\":3}",
    "{\"start\":{\"line\":0,\"character\":1},\"end\":{\"line\":1,\"character\":2}}",
    "{\"_d\":[1,2],\"v\":1e400}",
];

/// Names of members that somebody looks for, one a line, as they stand between quotes; the proxy's property tests use them too.
static NAMES: LazyLock<Vec<&str>> =
    LazyLock::new(|| include_str!("../member-names.txt").lines().collect());

/// The choices.
pub struct Input<'a> {
    bytes: &'a [u8],
}

impl<'a> Input<'a> {
    /// Choices made by these bytes.
    pub fn new(bytes: &'a [u8]) -> Input<'a> {
        Input { bytes }
    }

    /// Whether all bytes are used up.
    pub fn is_empty(&self) -> bool {
        self.bytes.is_empty()
    }

    /// Any byte.
    pub fn byte(&mut self) -> u8 {
        let (first, rest) = self.bytes.split_first().unwrap_or((&0, &[]));
        self.bytes = rest;
        *first
    }

    /// A number below `end`, which is at most 256.
    pub fn below(&mut self, end: usize) -> usize {
        self.byte() as usize % end.max(1)
    }

    /// True for one byte in `many`.
    pub fn one_in(&mut self, many: u8) -> bool {
        self.byte().is_multiple_of(many)
    }

    /// One of these.
    pub fn of<'t, T>(&mut self, choices: &'t [T]) -> &'t T {
        &choices[self.below(choices.len())]
    }

    /// What is left.
    pub fn rest(&mut self) -> &'a [u8] {
        std::mem::take(&mut self.bytes)
    }

    /// A text of at most `words` words of JSON, well formed only by chance; sometimes a byte that is no text.
    pub fn soup(&mut self, words: usize) -> Vec<u8> {
        let mut soup = Vec::new();
        for _ in 0..words {
            match self.byte() {
                0 => break,
                byte if (byte as usize) <= WORDS.len() => {
                    soup.extend_from_slice(WORDS[byte as usize - 1].as_bytes());
                }
                byte => soup.push(byte),
            }
        }
        soup
    }

    /// A JSON value that nests at most `depth` deep.
    pub fn json(&mut self, depth: usize) -> String {
        match self.byte() {
            byte if depth == 0 || byte < 110 => LEAVES[byte as usize % LEAVES.len()].to_owned(),
            byte if byte < 170 => {
                let elements: Vec<String> =
                    (0..self.below(4)).map(|_| self.json(depth - 1)).collect();
                format!("[{}]", elements.join(","))
            }
            _ => {
                let member = |input: &mut Self| {
                    format!("\"{}\":{}", input.of(&NAMES), input.json(depth - 1))
                };
                let members: Vec<String> = (0..self.below(5)).map(|_| member(self)).collect();
                format!("{{{}}}", members.join(", "))
            }
        }
    }
}
