//! What a database says of SQL that nobody has run: the project's schema, and the checkers that hold a text against it.
//!
//! A document is cut into statements by whoever asks ([`Piece`]); each is prepared, never executed. [`project::find`] tells where the schema
//! of a project stands and in which dialect it is written, [`Sqlite`] holds it in memory and prepares against it.
//!
//! Nothing of the user's is opened for writing, and no database of the user's is opened at all. Start reading at [`Sqlite::check`].

mod dialect;
mod migrations;
mod postgres;
pub mod project;
mod sqlite;
mod words;

use std::ops::Range;
use std::path::PathBuf;

pub use dialect::{Dialect, Guess, guess};
pub use postgres::{Address, Postgres};
pub use project::{Found, Open, Source, Wish};
pub use sqlite::Sqlite;

/// A statement of a text.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Piece {
    /// Its bytes, from its first word to its end.
    pub range: Range<usize>,
    /// The byte of the text where a line in it starts as a statement does: the end may have been forgotten before that.
    pub restart: Option<usize>,
}

/// Cuts a text into statements.
pub type Split = fn(&str) -> Vec<Piece>;

/// Why nothing can be told.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Fault {
    /// Nothing in the project says what its tables are.
    #[error(
        "no schema was found: there is no schema.sql, structure.sql or folder of migrations at or above the file; name one with `sql.schema`"
    )]
    NoSchema,
    /// A statement of the schema itself is refused, so that what is known of the tables is not all.
    #[error("the schema does not hold: {}:{line}: {message}", path.display())]
    Schema {
        /// The file.
        path: PathBuf,
        /// Its line, from 1.
        line: usize,
        /// What the database says.
        message: String,
    },
    /// A file of the schema cannot be read, or may not be.
    #[error("{}: {message}", path.display())]
    File {
        /// The file or folder.
        path: PathBuf,
        /// What is wrong with it, and what to do.
        message: String,
    },
    /// The project's dialect is one that nothing here speaks.
    #[error(
        "the schema is written for {0}, which is not checked; set `sql.dialect` if that is wrong"
    )]
    Dialect(&'static str),
    /// The text, or the schema, is larger than what is looked at.
    #[error("{0}")]
    TooLong(String),
    /// The PostgreSQL server cannot be asked.
    #[error("PostgreSQL cannot be asked: {0}")]
    Server(String),
    /// The document changes tables, which a PostgreSQL server is never told.
    #[error(
        "the file defines tables, which PostgreSQL is not told; files that only use them are checked"
    )]
    Defines,
    /// It took too long.
    #[error("the check took too long")]
    Interrupted,
    /// The database itself failed.
    #[error("the database failed: {0}")]
    Database(String),
}
