//! A PostgreSQL server as a checker: statements are sent to be parsed and analysed against the tables of a database that the user has named.
//!
//! Nothing is run, not even a transaction is begun, and nothing of the project's schema is applied there: the tables are those that the
//! database has. So a document that defines tables cannot be told about.

mod address;
mod session;

use std::collections::HashMap;
use std::ops::Range;
use std::sync::Arc;
use std::time::{Duration, Instant};

use text::{Diagnostic, Severity};
use tokio::sync::Mutex;

use crate::words::{Kind, first_word, tokens};
use crate::{Fault, Piece, Split};
pub use address::Address;
use session::{Refusal, Session};

/// A longer document is not checked.
const TEXT_BYTES_MAX: usize = 1 << 20;
/// So many statements are remembered with what was said of them.
const KNOWN_MAX: usize = 4096;
/// For how long what was said of a statement holds: the database may get other tables behind our backs.
const KNOWN_FOR: Duration = Duration::from_secs(2);
/// How long the server may take to let us in, and to answer.
const ANSWER_TIME_MAX: Duration = Duration::from_millis(2500);
/// How long a server that could not be reached is left alone.
const RETRY_AFTER: Duration = Duration::from_secs(5);

/// One database of a PostgreSQL server.
pub struct Postgres {
    address: Address,
    split: Split,
    talk: Mutex<Talk>,
}

/// What the owner of the turn works on.
#[derive(Default)]
struct Talk {
    session: Option<Session>,
    /// When and why it could not be reached.
    failed: Option<(Instant, String)>,
    known: HashMap<Arc<str>, Option<Refusal>>,
    since: Option<Instant>,
}

impl Postgres {
    /// A database at `address`. Connects when it is asked first.
    #[must_use]
    pub fn new(address: Address, split: Split) -> Postgres {
        Postgres { address, split, talk: Mutex::default() }
    }

    /// What the server says of `text`, which was cut into `pieces`. Of each statement at most the first thing that is wrong is told.
    ///
    /// # Errors
    /// The server cannot be reached or does not answer in time, the text defines tables, or is too long.
    pub async fn check(&self, text: &str, pieces: &[Piece]) -> Result<Vec<Diagnostic>, Fault> {
        if text.len() > TEXT_BYTES_MAX {
            let limit = TEXT_BYTES_MAX >> 10;
            return Err(Fault::TooLong(format!("the file is longer than {limit} KiB")));
        }
        let defines = |piece: &Piece| {
            ["create", "alter", "drop"].contains(&&*first_word(&text[piece.range.clone()]))
        };
        if pieces.iter().any(defines) {
            return Err(Fault::Defines);
        }
        let mut talk = self.talk.lock().await;
        let asked = tokio::time::timeout(ANSWER_TIME_MAX, self.ask(&mut talk, text, pieces)).await;
        match asked {
            Ok(found) => found,
            Err(_) => {
                talk.session = None; // Half an answer may be under way.
                Err(Fault::Interrupted)
            }
        }
    }

    async fn ask(
        &self,
        talk: &mut Talk,
        text: &str,
        pieces: &[Piece],
    ) -> Result<Vec<Diagnostic>, Fault> {
        if talk.since.is_none_or(|since| since.elapsed() > KNOWN_FOR)
            || talk.known.len() > KNOWN_MAX
        {
            talk.known.clear();
            talk.since = Some(Instant::now());
        }
        let mut found = Vec::new();
        let mut left: Vec<Piece> = pieces.to_vec();
        while !left.is_empty() {
            let statements: Vec<&str> =
                left.iter().map(|piece| &text[piece.range.clone()]).collect();
            self.learn(talk, &statements).await?;
            let mut again = Vec::new();
            for (piece, sql) in left.iter().zip(&statements) {
                if let Some(at) = command_end(sql) {
                    again.extend(self.cut(text, piece.range.start + at..piece.range.end));
                    continue;
                }
                let Some(refusal) = talk.known.get(*sql).and_then(Option::as_ref) else { continue };
                if refusal.state == LOCK_NOT_AVAILABLE || refusal.state == QUERY_CANCELED {
                    return Err(Fault::Interrupted);
                }
                let start = piece.range.start;
                let diagnostic = told(refusal, sql, start);
                match piece.restart.filter(|at| diagnostic.range.start == *at) {
                    // A line starts as a statement does, and the server stumbles just there: the end before it was forgotten.
                    Some(at) => {
                        let head = text[start..at].trim_end();
                        self.learn(talk, &[head]).await?;
                        let of_head = talk.known.get(head).and_then(Option::as_ref);
                        found.push(of_head.map_or_else(
                            || {
                                incomplete(
                                    head,
                                    start,
                                    "the next statement begins before this one has ended",
                                )
                            },
                            |refusal| told(refusal, head, start),
                        ));
                        again.extend(self.cut(text, at..piece.range.end));
                    }
                    None => found.push(diagnostic),
                }
            }
            left = again;
        }
        found.sort_by_key(|diagnostic: &Diagnostic| diagnostic.range.start);
        Ok(found)
    }

    /// The bytes `range` as statements of their own.
    fn cut(&self, text: &str, range: Range<usize>) -> Vec<Piece> {
        let from = range.start;
        let moved = |piece: Piece| Piece {
            range: piece.range.start + from..piece.range.end + from,
            restart: piece.restart.map(|at| at + from),
        };
        (self.split)(&text[range]).into_iter().map(moved).collect()
    }

    /// Asks about those statements that nothing is known of.
    async fn learn(&self, talk: &mut Talk, statements: &[&str]) -> Result<(), Fault> {
        let mut new: Vec<&str> = Vec::new();
        for sql in statements {
            let is_known = talk.known.contains_key(*sql) || new.contains(sql);
            if !is_known && command_end(sql).is_none() && !sql.contains('\0') {
                new.push(sql);
            }
        }
        if new.is_empty() {
            return Ok(());
        }
        let answers = match self.parsed(talk, &new).await {
            Ok(answers) => answers,
            Err(error) => {
                let why = error.to_string();
                talk.session = None;
                talk.failed = Some((Instant::now(), why.clone()));
                return Err(Fault::Server(why));
            }
        };
        for (sql, answer) in new.into_iter().zip(answers) {
            talk.known.insert(sql.into(), answer);
        }
        Ok(())
    }

    /// Asks; over a new connection where the old one is gone.
    async fn parsed(
        &self,
        talk: &mut Talk,
        statements: &[&str],
    ) -> std::io::Result<Vec<Option<Refusal>>> {
        // What a question that was given up left unread would be taken for the next answer.
        if let Some(mut session) = talk.session.take()
            && let Ok(answers) = session.parse(statements).await
        {
            talk.session = Some(session);
            return Ok(answers);
        }
        if let Some((_, why)) = talk.failed.as_ref().filter(|(at, _)| at.elapsed() < RETRY_AFTER) {
            return Err(std::io::Error::other(why.clone()));
        }
        let mut session = Session::open(&self.address).await?;
        let answers = session.parse(statements).await?;
        talk.failed = None;
        talk.session = Some(session);
        Ok(answers)
    }
}

/// Another holds what would have to be looked at.
const LOCK_NOT_AVAILABLE: &str = "55P03";
/// It took longer than we allow.
const QUERY_CANCELED: &str = "57014";

/// Where a command of `psql`, which ends with its line, ends.
fn command_end(sql: &str) -> Option<usize> {
    sql.starts_with('\\').then(|| sql.find('\n').unwrap_or(sql.len()))
}

fn told(refusal: &Refusal, sql: &str, start: usize) -> Diagnostic {
    if refusal.message.ends_with("at end of input") {
        return incomplete(sql, start, &refusal.message);
    }
    let range = refusal.position.map_or_else(|| first(sql), |position| pointed(sql, position));
    Diagnostic {
        range: range.start + start..range.end + start,
        severity: Severity::Error,
        code: Some(refusal.state.clone()),
        source: Some("postgres".to_owned()),
        message: refusal.message.clone(),
    }
}

fn incomplete(sql: &str, start: usize, message: &str) -> Diagnostic {
    let end = sql.trim_end().len();
    let last = sql[..end].chars().next_back().map_or(0, char::len_utf8);
    Diagnostic {
        range: start + end - last..start + end,
        severity: Severity::Error,
        code: Some("incomplete".to_owned()),
        source: Some("postgres".to_owned()),
        message: message.to_owned(),
    }
}

fn first(sql: &str) -> Range<usize> {
    tokens(sql).next().map_or(0..0, |token| token.range)
}

/// The token at a character, counted from 1; a name with all its parts (`u.name`).
fn pointed(sql: &str, position: usize) -> Range<usize> {
    let at = sql.char_indices().nth(position.saturating_sub(1)).map_or(sql.len(), |(at, _)| at);
    let mut end = at + sql[at..].chars().next().map_or(0, char::len_utf8);
    let mut wants_name = true;
    for token in tokens(&sql[at..]) {
        let is_next = token.range.start == end - at || (end > at && token.range.start == 0);
        let is_name = matches!(token.kind, Kind::Word | Kind::Quoted);
        let is_point =
            token.kind == Kind::Sign && &sql[at + token.range.start..at + token.range.end] == ".";
        if !is_next || !(if wants_name { is_name } else { is_point }) {
            break;
        }
        end = at + token.range.end;
        wants_name = !wants_name;
    }
    at..end
}

#[cfg(test)]
#[allow(
    clippy::print_stderr,
    clippy::disallowed_methods,
    reason = "tests start a server of their own, and say what they skip"
)]
mod tests;
