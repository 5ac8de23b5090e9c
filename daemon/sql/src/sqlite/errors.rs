//! What SQLite's messages mean: a code, and the bytes that they are about.

use std::ops::Range;

use rusqlite::{Error, ErrorCode};
use text::Diagnostic;

use super::SEVERITY;
use crate::words::{Kind, Token, bare, tokens};

/// Something wrong with one statement.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Finding {
    /// Bytes of the statement.
    pub(super) range: Range<usize>,
    pub(super) code: &'static str,
    pub(super) message: String,
}

/// How SQLite begins a message, or what stands in it, and its code.
const CODES: &[(&str, &str)] = &[
    ("incomplete input", "incomplete"),
    ("unrecognized token", "syntax"),
    ("no such table", "no_such_table"),
    ("no such column", "no_such_column"),
    ("has no column named", "no_such_column"),
    ("unknown column", "no_such_column"),
    ("no such function", "no_such_function"),
    ("no such collation sequence", "no_such_collation"),
    ("no such module", "no_such_module"),
    ("no such", "no_such_object"),
    ("unknown database", "no_such_object"),
    ("ambiguous column name", "ambiguous"),
    ("wrong number of arguments", "wrong_count"),
    ("values for", "wrong_count"),
    ("values were supplied", "wrong_count"),
    ("all VALUES must have the same number of terms", "wrong_count"),
    ("do not have the same number of result columns", "wrong_count"),
    ("sub-select returns", "wrong_count"),
    ("columns assigned", "wrong_count"),
    ("already exists", "already_exists"),
    ("duplicate column name", "already_exists"),
    ("syntax error", "syntax"),
    ("misuse of", "misuse"),
];
/// The code of what is none of them.
const OTHER: &str = "error";

/// What an error says of `sql`: nothing, where it is about what a check may not do. `Err`: it is not about the statement.
pub(super) fn finding(error: &Error, sql: &str) -> Result<Option<Finding>, ()> {
    let (code, message, offset) = match error {
        Error::SqlInputError { error, msg, offset, .. } => {
            (error.code, msg.as_str(), usize::try_from(*offset).ok())
        }
        Error::SqliteFailure(error, Some(message)) => (error.code, message.as_str(), None),
        Error::Empty => return Ok(None),
        // A zero byte, which no statement has.
        Error::NulError(_) => {
            (ErrorCode::Unknown, "unrecognized token: a zero byte", sql.find('\0'))
        }
        _ => return Err(()),
    };
    match code {
        ErrorCode::AuthorizationForStatementDenied => return Ok(None),
        _ if message.starts_with("not authorized") => return Ok(None),
        ErrorCode::Unknown | ErrorCode::TooBig => {}
        _ => return Err(()),
    }
    let code =
        CODES.iter().find(|(words, _)| message.contains(words)).map_or(OTHER, |(_, code)| code);
    let range = match code {
        "incomplete" => end_of(sql),
        _ => pointed(sql, offset, message).unwrap_or_else(|| searched(sql, code, message)),
    };
    Ok(Some(Finding { range, code, message: message.to_owned() }))
}

/// An error that points into another text than the statement's.
pub(super) fn without_offset(error: Error) -> Error {
    match error {
        Error::SqlInputError { error, msg, .. } => Error::SqliteFailure(error, Some(msg)),
        other => other,
    }
}

/// What is said of a statement that another follows without an end between them.
pub(super) fn without_end(sql: &str) -> Finding {
    let message = "the next statement begins before this one has ended".to_owned();
    Finding { range: end_of(sql), code: "incomplete", message }
}

impl Finding {
    /// As a diagnostic of the document, in which the statement begins at `start`.
    pub(super) fn placed(&self, start: usize) -> Diagnostic {
        Diagnostic {
            range: self.range.start + start..self.range.end + start,
            severity: SEVERITY,
            code: Some(self.code.to_owned()),
            source: Some("sqlite".to_owned()),
            message: self.message.clone(),
        }
    }

    /// Whether it is a stumble over the byte `at`.
    pub(super) fn is_at(&self, at: usize) -> bool {
        self.code == "syntax" && self.range.start == at
    }

    pub(super) fn says_it_exists(&self) -> bool {
        self.code == "already_exists"
    }

    /// Whether it is about a table of another database (`other.table`).
    pub(super) fn is_elsewhere(&self) -> bool {
        let name = self.message.rsplit(": ").next().unwrap_or_default();
        self.code.starts_with("no_such") && name.contains('.')
            || self.message.starts_with("unknown database")
    }

    /// Whether a schema is whole in spite of it: a dump that is read twice, or that names SQLite's own tables.
    pub(super) fn is_harmless_in_schema(&self) -> bool {
        self.says_it_exists() || self.message.contains("reserved for internal use")
    }
}

/// The last sign of a statement.
fn end_of(sql: &str) -> Range<usize> {
    let end = sql.trim_end().len();
    let last = sql[..end].chars().next_back().map_or(0, char::len_utf8);
    end - last..end
}

/// The token that SQLite points at, where it is the one that its message is about: inside a view it points into another text.
fn pointed(sql: &str, offset: Option<usize>, message: &str) -> Option<Range<usize>> {
    let at = offset.filter(|at| sql.is_char_boundary(*at) && *at < sql.len())?;
    let Some(named) = named(message) else { return Some(at..token_end(sql, at)) };
    let mut tokens = tokens(&sql[at..]);
    let mut end = at;
    for (index, part) in named.split('.').enumerate() {
        if index > 0 {
            tokens.next()?;
        }
        let Some(token) = tokens.next() else { return Some(at..token_end(sql, at)) };
        let word = &sql[at + token.range.start..at + token.range.end];
        // The message names the table that SQLite took the column for; the text need not.
        if !bare(word).eq_ignore_ascii_case(bare(part)) && !sql[at..].starts_with(named) {
            let last = named.rsplit('.').next().unwrap_or(named);
            return bare(word).eq_ignore_ascii_case(bare(last)).then(|| at..at + token.range.end);
        }
        end = at + token.range.end;
    }
    Some(at..end.max(at + 1))
}

fn token_end(sql: &str, at: usize) -> usize {
    let first = tokens(&sql[at..]).next().filter(|token| token.range.start == 0);
    let one = sql[at..].chars().next().map_or(0, char::len_utf8);
    at + first.map_or(one, |token| token.range.end)
}

/// The name in a message: in quotes, behind its last colon, or in fixed words.
fn named(message: &str) -> Option<&str> {
    if let Some(rest) = message.strip_prefix("near \"") {
        return rest.rsplit_once("\": ").map(|(name, _)| name);
    }
    if let Some((_, name)) = message.split_once(" has no column named ") {
        return Some(name);
    }
    if let Some((_, rest)) = message.split_once("wrong number of arguments to function ") {
        return rest.strip_suffix("()");
    }
    for start in [
        "no such ",
        "ambiguous column name",
        "duplicate column name",
        "unknown column",
        "unknown database",
    ] {
        if message.starts_with(start) {
            let name = message.rsplit_once(": ").map(|(_, name)| name);
            return name
                .or_else(|| message.split('"').nth(1))
                .or_else(|| message.rsplit(' ').next());
        }
    }
    None
}

/// Where the text has what a message names, for messages that point nowhere; else the first word.
fn searched(sql: &str, code: &str, message: &str) -> Range<usize> {
    let all: Vec<Token> = tokens(sql).collect();
    let text = |token: &Token| &sql[token.range.clone()];
    let keyword = |words: &[&str], token: &Token| {
        words.iter().any(|word| text(token).eq_ignore_ascii_case(word))
    };
    let first = all.first().map_or(0..0, |token| token.range.clone());
    if code == "wrong_count" {
        let counted = ["values", "select", "returning", "set"];
        return all
            .iter()
            .rfind(|token| keyword(&counted, token))
            .map_or(first, |token| token.range.clone());
    }
    let exists =
        message.strip_suffix(" already exists").map(|rest| rest.rsplit(' ').next().unwrap_or(rest));
    let Some(name) = named(message).or(exists) else { return first };
    let last = name.rsplit('.').next().unwrap_or(name);
    let is_it = |token: &Token| {
        matches!(token.kind, Kind::Word | Kind::Quoted)
            && bare(text(token)).eq_ignore_ascii_case(bare(last))
    };
    let leads =
        ["from", "join", "into", "update", "table", "on", "view", "index", "trigger", "exists"];
    let behind = all.windows(2).find(|pair| {
        code == "no_such_table"
            && is_it(&pair[1])
            && (keyword(&leads, &pair[0]) || text(&pair[0]) == "," || text(&pair[0]) == ".")
    });
    let found = behind.map(|pair| &pair[1]).or_else(|| all.iter().find(|token| is_it(token)));
    found.map_or(first, |token| token.range.clone())
}
