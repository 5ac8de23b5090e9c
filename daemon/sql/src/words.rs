//! The words and signs of SQL text, without its strings and comments. Pure.

use std::ops::Range;

/// What a token is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Kind {
    /// A keyword, a name or a number.
    Word,
    /// A name in quotes, with them.
    Quoted,
    /// `$1`, `?2`, `:name`, `@name`.
    Parameter,
    /// `::`
    Cast,
    /// A string in dollars.
    Dollars,
    /// Any other sign, one character.
    Sign,
}

/// One token.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Token {
    pub(crate) kind: Kind,
    pub(crate) range: Range<usize>,
}

/// The tokens of a text, in order.
pub(crate) fn tokens(text: &str) -> impl Iterator<Item = Token> + '_ {
    let mut at = 0;
    std::iter::from_fn(move || {
        loop {
            let rest = &text[at..];
            let first = rest.chars().next()?;
            let (kind, len) = token(rest, first);
            let range = at..at + len.clamp(1, rest.len());
            at = range.end;
            if let Some(kind) = kind {
                return Some(Token { kind, range });
            }
        }
    })
}

/// What `rest` starts with, and its bytes; no kind is a blank, a string or a comment.
fn token(rest: &str, first: char) -> (Option<Kind>, usize) {
    let until = |from: usize, sign: &str| {
        rest[from..].find(sign).map_or(rest.len(), |at| from + at + sign.len())
    };
    match first {
        '\'' => (None, until(1, "'")),
        '"' | '`' => (Some(Kind::Quoted), until(1, &first.to_string())),
        '-' if rest.starts_with("--") => (None, rest.find('\n').unwrap_or(rest.len())),
        '/' if rest.starts_with("/*") => (None, until(2, "*/")),
        ':' if rest.starts_with("::") => (Some(Kind::Cast), 2),
        '$' => match dollars(rest) {
            Some(len) => (Some(Kind::Dollars), len),
            None => parameter(rest),
        },
        '?' | ':' | '@' => parameter(rest),
        _ if is_letter(first) => (Some(Kind::Word), word_len(rest)),
        _ if first.is_whitespace() => (None, first.len_utf8()),
        _ => (Some(Kind::Sign), first.len_utf8()),
    }
}

fn parameter(rest: &str) -> (Option<Kind>, usize) {
    match word_len(&rest[1..]) {
        0 => (Some(Kind::Sign), 1),
        len => (Some(Kind::Parameter), 1 + len),
    }
}

/// The bytes of a string in dollars.
fn dollars(rest: &str) -> Option<usize> {
    let tag = 1 + word_len(&rest[1..]);
    let is_tag =
        rest[tag..].starts_with('$') && !rest[1..].starts_with(|c: char| c.is_ascii_digit());
    let sign = rest.get(..=tag).filter(|_| is_tag)?;
    Some(rest[sign.len()..].find(sign).map_or(rest.len(), |at| at + 2 * sign.len()))
}

fn word_len(rest: &str) -> usize {
    rest.find(|letter: char| !is_letter(letter)).unwrap_or(rest.len())
}

fn is_letter(letter: char) -> bool {
    letter.is_alphanumeric() || letter == '_'
}

/// The first word of a statement, in lower case.
pub(crate) fn first_word(sql: &str) -> String {
    sql[..word_len(sql)].to_ascii_lowercase()
}

/// A name without its quotes.
pub(crate) fn bare(name: &str) -> &str {
    let inner = |open: char, close: char| name.strip_prefix(open)?.strip_suffix(close);
    inner('"', '"').or_else(|| inner('`', '`')).or_else(|| inner('[', ']')).unwrap_or(name)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn all(text: &str) -> Vec<&str> {
        tokens(text).map(|token| &text[token.range]).collect()
    }

    #[test]
    fn strings_and_comments_are_no_tokens() {
        assert_eq!(
            all("a.b -- c\n'd''e' /* f */ \"g h\" $1 ?"),
            ["a", ".", "b", "\"g h\"", "$1", "?"]
        );
        assert_eq!(all("$$ a $$ $x$ b $$ $x$ c::d"), ["$$ a $$", "$x$ b $$ $x$", "c", "::", "d"]);
        assert_eq!(all("'"), [""; 0]);
        assert_eq!(all("\"é"), ["\"é"]);
        assert_eq!(all("/*/ é $"), [""; 0]);
        assert_eq!(all("$ :"), ["$", ":"]);
    }
}
