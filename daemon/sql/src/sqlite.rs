//! SQLite as a checker: a database in memory that holds the project's schema, against which statements are prepared.
//!
//! A statement that defines something is run, in a savepoint, so that what follows sees it; everything else is prepared and dropped. What was
//! said of a statement is kept, so that a document of which one line has changed costs one statement.

mod errors;
mod guard;
mod probe;

use std::collections::HashMap;
use std::sync::Arc;

use rusqlite::Connection;
use text::{Diagnostic, Severity};

use crate::words::{bare, first_word, tokens};
use crate::{Fault, Piece, Source, Split};
use errors::Finding;
use guard::Clock;

/// A longer document is not checked.
const TEXT_BYTES_MAX: usize = 1 << 20;
/// The most definitions in one document: each is a savepoint.
const DEFINITIONS_MAX: usize = 1000;
/// So many statements are remembered with what was said of them, for each state of the schema; then the book is begun anew.
const KNOWN_MAX: usize = 4096;
/// The most names that are offered where one is not known.
const NAMES_MAX: usize = 5000;

/// A database in memory with a schema. Not shared: one check at a time.
pub struct Sqlite {
    connection: Connection,
    clock: Arc<Clock>,
    split: Split,
    /// The states of the schema: as it is in the project, and after each definition of the document.
    layers: Vec<Layer>,
}

/// A state of the schema.
#[derive(Default)]
struct Layer {
    /// The definition that led here; empty in the first one.
    sql: Arc<str>,
    /// What was said of it.
    said: Arc<[Finding]>,
    /// The name that it gave something, in lower case.
    name: Option<String>,
    /// What was said of statements in this state.
    known: HashMap<Arc<str>, Arc<[Finding]>>,
}

/// What is done with a statement.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Manner {
    /// It is run: it defines something.
    Define,
    Prepare,
    /// It is about other files, or about the connection: nothing is known of it.
    Skip,
    /// It attaches another database: tables with a point in their names may be there.
    Attach,
}

fn manner(word: &str) -> Manner {
    match word {
        "create" | "alter" | "drop" => Manner::Define,
        "pragma" | "vacuum" | "detach" => Manner::Skip,
        "attach" => Manner::Attach,
        _ => Manner::Prepare,
    }
}

impl Sqlite {
    /// A database with the schema that `sources` tell together, in their order.
    ///
    /// # Errors
    /// A definition in them is refused, or all together take too long.
    pub fn new(sources: &[Source], split: Split) -> Result<Sqlite, Fault> {
        let (connection, clock) = guard::open().map_err(|error| fault(&error))?;
        let sqlite = Sqlite { connection, clock, split, layers: vec![Layer::default()] };
        sqlite.clock.start(guard::SCHEMA_TIME_MAX);
        for source in sources {
            sqlite.take(source)?;
        }
        Ok(sqlite)
    }

    fn take(&self, source: &Source) -> Result<(), Fault> {
        for piece in (self.split)(&source.text) {
            let sql = without_end(&source.text[piece.range.clone()]);
            if manner(&first_word(sql)) != Manner::Define {
                continue;
            }
            let Err(error) = self.connection.execute_batch(sql) else { continue };
            let finding = errors::finding(&error, sql).map_err(|()| fault(&error))?;
            if finding.as_ref().is_none_or(|finding| finding.is_harmless_in_schema()) {
                continue;
            }
            let (at, message) =
                finding.map_or((0, String::new()), |found| (found.range.start, found.message));
            let line = source.text[..piece.range.start + at].matches('\n').count() + 1;
            return Err(Fault::Schema { path: source.path.clone(), line, message });
        }
        Ok(())
    }

    /// What SQLite says of `text`, which was cut into `pieces`. Of each statement at most the first thing that is wrong is told.
    ///
    /// # Errors
    /// The text is too long, it took too long, or SQLite itself failed.
    pub fn check(&mut self, text: &str, pieces: &[Piece]) -> Result<Vec<Diagnostic>, Fault> {
        if text.len() > TEXT_BYTES_MAX {
            let limit = TEXT_BYTES_MAX >> 10;
            return Err(Fault::TooLong(format!("the file is longer than {limit} KiB")));
        }
        self.clock.start(guard::CHECK_TIME_MAX);
        let mut round = Round { text, layer: 0, is_attached: false, found: Vec::new() };
        for piece in pieces {
            self.piece(&mut round, piece)?;
        }
        Ok(round.found)
    }

    fn piece(&mut self, round: &mut Round<'_>, piece: &Piece) -> Result<(), Fault> {
        let sql = &round.text[piece.range.clone()];
        if sql.starts_with('.') {
            // A command of the shell, which ends with its line.
            let end = sql.find('\n').map_or(piece.range.end, |at| piece.range.start + at);
            return self.rest(round, end, piece.range.end);
        }
        let said = self.said(round, sql)?;
        // Where a line starts as a statement does and SQLite stumbles just there, the end before it was forgotten.
        let stumbles = |at: &usize| said.iter().any(|one| one.is_at(*at - piece.range.start));
        if let Some(at) = piece.restart.filter(stumbles) {
            let head = round.text[piece.range.start..at].trim_end();
            let start = piece.range.start;
            let said = self.said(round, head)?;
            if said.is_empty() {
                round.found.push(errors::without_end(head).placed(start));
            }
            round.tell(start, &said);
            return self.rest(round, at, piece.range.end);
        }
        round.tell(piece.range.start, &said);
        Ok(())
    }

    /// Reads the bytes `from..to` as statements of their own.
    fn rest(&mut self, round: &mut Round<'_>, from: usize, to: usize) -> Result<(), Fault> {
        for piece in (self.split)(&round.text[from..to]) {
            let range = piece.range.start + from..piece.range.end + from;
            let restart = piece.restart.map(|at| at + from);
            self.piece(round, &Piece { range, restart })?;
        }
        Ok(())
    }

    fn said(&mut self, round: &mut Round<'_>, sql: &str) -> Result<Arc<[Finding]>, Fault> {
        match manner(&first_word(sql)) {
            Manner::Skip => Ok(Arc::default()),
            Manner::Attach => {
                round.is_attached = true;
                Ok(Arc::default())
            }
            Manner::Define => self.defined(round, sql),
            Manner::Prepare => self.prepared(round.layer, sql),
        }
    }

    /// What is said of a statement that is only prepared, in the state `layer` of the schema.
    fn prepared(&mut self, layer: usize, sql: &str) -> Result<Arc<[Finding]>, Fault> {
        if let Some(said) = self.layers[layer].known.get(sql) {
            return Ok(said.clone());
        }
        self.back_to(layer)?;
        let said = said(self.connection.prepare(sql).map(drop), sql)?;
        let known = &mut self.layers[layer].known;
        if known.len() >= KNOWN_MAX {
            known.clear();
        }
        known.insert(sql.into(), said.clone());
        Ok(said)
    }

    /// What is said of a definition, which is run; the state of the schema is then the next one.
    fn defined(&mut self, round: &mut Round<'_>, sql: &str) -> Result<Arc<[Finding]>, Fault> {
        let next = round.layer + 1;
        if self.layers.get(next).is_none_or(|layer| *layer.sql != *sql) {
            if next > DEFINITIONS_MAX {
                return Err(Fault::TooLong(format!(
                    "the file has more than {DEFINITIONS_MAX} definitions"
                )));
            }
            self.back_to(round.layer)?;
            self.run(&format!("SAVEPOINT s{next}"))?;
            let name = name_of(sql);
            let (said, done) = self.define(sql, name.as_deref())?;
            if !done {
                self.run(&format!("ROLLBACK TO s{next}"))?;
            }
            let known = HashMap::new();
            self.layers.push(Layer { sql: sql.into(), said, name, known });
        }
        round.layer = next;
        Ok(self.layers[next].said.clone())
    }

    /// Runs a definition. What the project has already under this name makes way: this document tells it anew.
    fn define(&self, sql: &str, name: Option<&str>) -> Result<(Arc<[Finding]>, bool), Fault> {
        let first = self.ran(sql)?;
        let exists = first.0.iter().any(Finding::says_it_exists);
        let is_own =
            self.layers.iter().any(|layer| layer.name.is_some() && layer.name.as_deref() == name);
        let Some(name) = name.filter(|_| exists && !is_own) else {
            return Ok(first);
        };
        for kind in ["TABLE", "VIEW", "INDEX", "TRIGGER"] {
            let name = name.replace('"', "\"\"");
            let _ = self.connection.execute_batch(&format!("DROP {kind} IF EXISTS \"{name}\""));
        }
        self.ran(sql)
    }

    /// Runs a definition: what is said of it, and whether it holds. Into views and triggers SQLite looks only when they are used, so they are.
    fn ran(&self, sql: &str) -> Result<(Arc<[Finding]>, bool), Fault> {
        let said_of_it = said(self.connection.execute_batch(without_end(sql)), sql)?;
        if !said_of_it.is_empty() {
            return Ok((said_of_it, false));
        }
        let Some(use_of_it) = probe::use_of(&self.connection, sql) else {
            return Ok((said_of_it, true));
        };
        let said_of_use = self.connection.prepare(&use_of_it).map(drop);
        Ok((said(said_of_use.map_err(errors::without_offset), sql)?, true))
    }

    /// Undoes the definitions behind the state `layer`.
    fn back_to(&mut self, layer: usize) -> Result<(), Fault> {
        if self.layers.len() > layer + 1 {
            let after = layer + 1;
            self.run(&format!("ROLLBACK TO s{after}; RELEASE s{after}"))?;
            self.layers.truncate(after);
        }
        Ok(())
    }

    fn run(&self, sql: &str) -> Result<(), Fault> {
        self.connection.execute_batch(sql).map_err(|error| fault(&error))
    }

    /// Whether SQLite prepares one statement against the schema: what a check costs at least, for measurements.
    #[must_use]
    pub fn prepares(&self, sql: &str) -> bool {
        self.clock.start(guard::CHECK_TIME_MAX);
        self.connection.prepare(sql).is_ok()
    }

    /// The names of tables and their columns, as they are behind the last statement that was checked; at most [`NAMES_MAX`].
    #[must_use]
    pub fn names(&self) -> Vec<String> {
        self.clock.start(guard::CHECK_TIME_MAX);
        let mut names = self.tables().unwrap_or_default();
        for table in names.clone() {
            let sql = format!("SELECT * FROM \"{}\"", table.replace('"', "\"\""));
            if let Ok(statement) = self.connection.prepare(&sql) {
                names.extend(statement.column_names().map(str::to_owned));
            }
            if names.len() > NAMES_MAX {
                break;
            }
        }
        names.sort();
        names.dedup();
        names.truncate(NAMES_MAX);
        names
    }

    fn tables(&self) -> rusqlite::Result<Vec<String>> {
        let sql = "SELECT name FROM sqlite_schema WHERE type IN ('table', 'view') AND name NOT LIKE 'sqlite_%'";
        let mut statement = self.connection.prepare(sql)?;
        let rows = statement.query_map([], |row| row.get(0))?;
        rows.collect()
    }
}

/// One reading of a document.
struct Round<'t> {
    text: &'t str,
    layer: usize,
    is_attached: bool,
    found: Vec<Diagnostic>,
}

impl Round<'_> {
    fn tell(&mut self, start: usize, said: &[Finding]) {
        let is_told = |finding: &&Finding| !(self.is_attached && finding.is_elsewhere());
        self.found.extend(said.iter().filter(is_told).map(|finding| finding.placed(start)));
    }
}

/// What an outcome says; nothing where all is well.
fn said(outcome: rusqlite::Result<()>, sql: &str) -> Result<Arc<[Finding]>, Fault> {
    let Err(error) = outcome else { return Ok(Arc::default()) };
    let finding = errors::finding(&error, sql).map_err(|()| fault(&error))?;
    Ok(finding.into_iter().collect())
}

fn fault(error: &rusqlite::Error) -> Fault {
    match error.sqlite_error_code() {
        Some(rusqlite::ErrorCode::OperationInterrupted) => Fault::Interrupted,
        _ => Fault::Database(error.to_string()),
    }
}

/// A statement without the sign at its end: SQLite then tells a half statement by its own words.
fn without_end(sql: &str) -> &str {
    sql.strip_suffix(';').unwrap_or(sql)
}

/// The name that a definition gives something, in lower case.
fn name_of(sql: &str) -> Option<String> {
    let words: Vec<&str> = tokens(sql).take(12).map(|token| &sql[token.range]).collect();
    let is = |word: &str, known: &[&str]| known.iter().any(|one| word.eq_ignore_ascii_case(one));
    if !is(words.first()?, &["create"]) {
        return None;
    }
    let kind = words.iter().position(|word| is(word, &["table", "view", "index", "trigger"]))?;
    let mut rest = words[kind + 1..].iter().skip_while(|word| is(word, &["if", "not", "exists"]));
    let mut name = rest.next()?;
    if rest.next() == Some(&".") {
        name = rest.next()?;
    }
    Some(bare(name).to_ascii_lowercase())
}

/// Nothing that is told of a schema of one's own is worse than an error.
pub(crate) const SEVERITY: Severity = Severity::Error;

#[cfg(test)]
mod tests;
