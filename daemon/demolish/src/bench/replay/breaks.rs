//! Breaks a program in one place, as people and models do: a name that does not exist, another one's member, a value of another type, an
//! argument too many or too few. Whether the program is then wrong is the server's to say.

use std::ops::Range;

use lang::Grammar;
use serde::{Deserialize, Serialize};

use crate::bench::draw::{hash, pick};

/// Places of a program that are tried for one kind.
const TRIES: u64 = 12;
/// Names shorter than this are loop variables and keywords.
const NAME_BYTES_MIN: usize = 3;
/// What is put in the place of a name that nobody has declared, beside what it was.
const ADDED: [&str; 4] = ["_value", "Info", "2", "_count"];

/// Words of the languages' own, which nobody misspells for long.
const KEYWORDS: &[&str] = &[
    "and",
    "async",
    "await",
    "break",
    "case",
    "catch",
    "class",
    "const",
    "continue",
    "def",
    "default",
    "defer",
    "delete",
    "elif",
    "else",
    "enum",
    "except",
    "export",
    "extends",
    "false",
    "finally",
    "for",
    "from",
    "func",
    "function",
    "impl",
    "import",
    "interface",
    "lambda",
    "let",
    "match",
    "mod",
    "mut",
    "namespace",
    "new",
    "nil",
    "none",
    "not",
    "null",
    "package",
    "pass",
    "pub",
    "public",
    "private",
    "raise",
    "range",
    "readonly",
    "return",
    "self",
    "static",
    "struct",
    "super",
    "switch",
    "template",
    "this",
    "throw",
    "trait",
    "true",
    "try",
    "type",
    "typedef",
    "typename",
    "typeof",
    "use",
    "using",
    "var",
    "void",
    "where",
    "while",
    "with",
    "yield",
    "False",
    "True",
    "None",
];

/// What is done to a program.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(super) enum Kind {
    /// A letter of a name is left out or doubled.
    Misspelt,
    /// A name that there is not, and that is not nearly another one.
    Invented,
    /// A member gets the name of a member of something else.
    Member,
    /// A name is exchanged for another one of the program.
    Exchanged,
    /// A number becomes a string, or a string a number.
    Literal,
    /// An argument is left out.
    Fewer,
    /// An argument is said twice.
    More,
}

impl Kind {
    /// The kinds, each as often as it is to be tried: the shares are those of the errors in 2,503 programs that language models had written and
    /// that do not compile (wrong types and arguments a half, unknown names a quarter, unknown members a tenth, the rest elsewhere).
    const SHARES: [(Kind, u64); 7] = [
        (Kind::Misspelt, 10),
        (Kind::Invented, 10),
        (Kind::Member, 15),
        (Kind::Exchanged, 15),
        (Kind::Literal, 20),
        (Kind::Fewer, 15),
        (Kind::More, 15),
    ];

    /// The kind that a number draws.
    pub(super) fn drawn(number: u64) -> Kind {
        let all: u64 = Kind::SHARES.iter().map(|(_, share)| share).sum();
        let mut left = number % all;
        for (kind, share) in Kind::SHARES {
            match left.checked_sub(share) {
                Some(rest) => left = rest,
                None => return kind,
            }
        }
        Kind::Literal
    }

    /// As rows name it.
    pub(super) fn name(self) -> &'static str {
        match self {
            Kind::Misspelt => "misspelt",
            Kind::Invented => "invented",
            Kind::Member => "member",
            Kind::Exchanged => "exchanged",
            Kind::Literal => "literal",
            Kind::Fewer => "fewer",
            Kind::More => "more",
        }
    }
}

/// A change of one place.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Break {
    /// What was done.
    pub(super) kind: Kind,
    /// The broken program.
    pub(super) text: String,
    /// Where, in bytes.
    pub(super) at: usize,
}

/// `text` with one thing done to it that `seed` chooses; `None` where it holds no place for it.
pub(super) fn broken(grammar: Grammar, text: &str, kind: Kind, seed: u64) -> Option<Break> {
    let places = places(text, kind);
    if places.is_empty() {
        return None;
    }
    (0..TRIES).find_map(|attempt| {
        let drawn = hash(&[kind.name(), &seed.to_string(), &attempt.to_string()]);
        let place = places[pick(drawn, places.len())].clone();
        let open = grammar.open(&text[..place.start]);
        // A string itself begins in code.
        if open.in_comment() || open.in_string() || in_import(text, place.start) {
            return None;
        }
        let (range, new) = rewritten(text, kind, place, drawn)?;
        let broken = [&text[..range.start], &new, &text[range.end..]].concat();
        (broken != text).then_some(Break { kind, text: broken, at: range.start })
    })
}

fn places(text: &str, kind: Kind) -> Vec<Range<usize>> {
    let is_member = |range: &Range<usize>| {
        text[..range.start].ends_with('.') || text[..range.start].ends_with("->")
    };
    let long = |range: &Range<usize>| range.len() >= NAME_BYTES_MIN;
    let names = words(text).filter(long).filter(|range| !KEYWORDS.contains(&&text[range.clone()]));
    match kind {
        Kind::Misspelt => names.filter(|range| range.len() > NAME_BYTES_MIN).collect(),
        Kind::Invented | Kind::Exchanged => {
            names.filter(|range| !is_member(range) && is_lower(&text[range.clone()])).collect()
        }
        Kind::Member => names.filter(is_member).collect(),
        Kind::Literal => literals(text).collect(),
        Kind::Fewer | Kind::More => calls(text).collect(),
    }
}

/// What comes in which place.
fn rewritten(
    text: &str,
    kind: Kind,
    place: Range<usize>,
    drawn: u64,
) -> Option<(Range<usize>, String)> {
    let word = &text[place.clone()];
    let again = hash(&["again", &drawn.to_string()]);
    let new = match kind {
        Kind::Misspelt => {
            let at = 1 + pick(again, word.len() - 2);
            match again % 2 {
                0 => [&word[..at], &word[at + 1..]].concat(),
                _ => [&word[..at + 1], &word[at..]].concat(),
            }
        }
        Kind::Invented => [word, ADDED[pick(again, ADDED.len())]].concat(),
        Kind::Member | Kind::Exchanged => {
            let others: Vec<Range<usize>> = places(text, kind)
                .into_iter()
                .filter(|other| text[other.clone()] != *word)
                .collect();
            text[others.get(pick(again, others.len().max(1)))?.clone()].to_owned()
        }
        Kind::Literal if word.starts_with('"') => "17".to_owned(),
        Kind::Literal => format!("\"{word}\""),
        Kind::Fewer | Kind::More => {
            let arguments = arguments(text, place.clone())?;
            let argument = arguments[pick(again, arguments.len())].clone();
            let said = text[argument.clone()].trim();
            return Some(if kind == Kind::More {
                (argument.end..argument.end, format!(", {said}"))
            } else if argument.end < place.end - 1 {
                (argument.start..argument.end + 1, String::new())
            } else {
                let comma = text[place.start..argument.start].trim_end().ends_with(',');
                (argument.start - usize::from(comma)..argument.end, String::new())
            });
        }
    };
    Some((place, new))
}

/// The names of a text, keywords among them.
fn words(text: &str) -> impl Iterator<Item = Range<usize>> {
    let is_word = |byte: u8| byte.is_ascii_alphanumeric() || byte == b'_';
    let bytes = text.as_bytes();
    let mut at = 0;
    std::iter::from_fn(move || {
        while at < bytes.len() {
            let start = at;
            while at < bytes.len() && is_word(bytes[at]) {
                at += 1;
            }
            if at > start && !bytes[start].is_ascii_digit() {
                return Some(start..at);
            }
            at = at.max(start + 1);
        }
        None
    })
}

/// Numbers, and strings in double quotes on one line.
fn literals(text: &str) -> impl Iterator<Item = Range<usize>> {
    let bytes = text.as_bytes();
    let numbers = (0..bytes.len()).filter_map(move |at| {
        let begins = bytes[at].is_ascii_digit()
            && (at == 0 || matches!(bytes[at - 1], b' ' | b'(' | b'=' | b'[' | b','));
        let len = bytes[at..].iter().take_while(|byte| byte.is_ascii_digit()).count();
        let ends =
            matches!(bytes.get(at + len), None | Some(b' ' | b')' | b']' | b',' | b';' | b'\n'));
        (begins && ends).then_some(at..at + len)
    });
    let strings = (0..bytes.len()).filter_map(move |at| {
        let begins = bytes[at] == b'"' && at > 0 && matches!(bytes[at - 1], b' ' | b'(' | b'[');
        let end = begins.then(|| text[at + 1..].find(['"', '\n', '\\']))??;
        (bytes[at + 1 + end] == b'"').then_some(at..at + end + 2)
    });
    numbers.chain(strings)
}

/// The brackets of calls with at least one argument, from bracket to bracket.
fn calls(text: &str) -> impl Iterator<Item = Range<usize>> {
    words(text).filter_map(move |word| {
        let start = word.end;
        let is_definition = ["def ", "fn ", "func ", "function ", "class "]
            .iter()
            .any(|sign| text[..word.start].ends_with(sign));
        let open = text.as_bytes().get(start) == Some(&b'(') && !is_definition;
        let end = open.then(|| closing(text, start)).flatten()?;
        (!text[start + 1..end].trim().is_empty()).then_some(start..end + 1)
    })
}

/// The bracket that closes the one at `start`, on the same or the next lines.
fn closing(text: &str, start: usize) -> Option<usize> {
    let mut depth = 0usize;
    for (at, byte) in text.bytes().enumerate().skip(start) {
        match byte {
            b'(' | b'[' | b'{' => depth += 1,
            b')' | b']' | b'}' => depth = depth.checked_sub(1)?,
            _ => {}
        }
        if depth == 0 {
            return Some(at);
        }
    }
    None
}

/// What stands between the commas of a call.
fn arguments(text: &str, call: Range<usize>) -> Option<Vec<Range<usize>>> {
    let (mut depth, mut start, mut found) = (0usize, call.start + 1, Vec::new());
    for at in call.start + 1..call.end - 1 {
        match text.as_bytes()[at] {
            b'(' | b'[' | b'{' => depth += 1,
            b')' | b']' | b'}' => depth = depth.checked_sub(1)?,
            b',' if depth == 0 => {
                found.push(start..at);
                start = at + 1;
            }
            _ => {}
        }
    }
    found.push(start..call.end - 1);
    found.retain(|argument| !text[argument.clone()].trim().is_empty());
    (!found.is_empty()).then_some(found)
}

fn in_import(text: &str, at: usize) -> bool {
    let line = &text[text::line_at(text, at)];
    let code = line.trim_start();
    ["import ", "from ", "use ", "package ", "#include", "mod ", "export * "]
        .iter()
        .any(|word| code.starts_with(word))
}

fn is_lower(word: &str) -> bool {
    word.starts_with(|first: char| first.is_ascii_lowercase() || first == '_')
}
