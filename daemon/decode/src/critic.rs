//! Who judges a candidate: a twin of the user's language server in the program, a script in the tests.

use std::fmt;
use std::sync::Arc;

use text::{Diagnostic, Edit};

pub use futures_util::future::BoxFuture;

/// Judges text that nobody has typed yet. The program implements it over a twin of the user's language server.
///
/// Dropping a returned future gives the check up.
pub trait Critic: Send + Sync {
    /// Checks the whole document as `text`. The answer must be of exactly this text: a diagnostic of another version, or none in
    /// time, is [`Checked::Unknown`]. Ranges are bytes of `text`.
    fn check(&self, text: Arc<str>) -> BoxFuture<'_, Checked>;

    /// The names that the server would complete at `offset` of `text`; `None` when it cannot say, or not completely.
    fn completions(&self, text: Arc<str>, offset: usize) -> BoxFuture<'_, Option<Vec<String>>>;

    /// The server's own quick fixes for one of its diagnostics of `text`: each a set of disjoint edits of `text`.
    fn quick_fixes(&self, text: Arc<str>, diagnostic: &Diagnostic)
    -> BoxFuture<'_, Vec<Vec<Edit>>>;

    /// The server's name as the language data knows it (`ty`), which chooses the policy for its codes.
    fn server(&self) -> &str;
}

/// What one check answered.
#[derive(Debug, Clone, PartialEq)]
pub enum Checked {
    /// The server's diagnostics of exactly the text that was asked about.
    Diagnostics(Vec<Diagnostic>),
    /// No answer that may be relied on.
    Unknown(Unknown),
}

/// Why nothing is known.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Unknown {
    /// No language is known for the document.
    NoLanguage,
    /// No language server is at hand for the document.
    NoServer,
    /// What the text would be held against is not known or not usable (the schema of a database); one sentence, with what would help.
    NoSchema(String),
    /// The cursor's line, or the document, is too long to be parsed and checked while somebody types, or it is no text.
    TooLong,
    /// The server, named here, was never measured as a judge of unfinished text.
    NotSupported(String),
    /// The server is still starting or indexing.
    Starting,
    /// The server did not answer in time.
    Timeout,
    /// The server answered about another version of the text.
    Stale,
    /// The server has crashed or was stopped.
    Crashed,
    /// The server answered with an error, quoted here.
    Failed(String),
    /// The budget of checks or of time ended before this text was checked.
    Budget,
}

impl Unknown {
    /// A stable word for programs (`timeout`).
    pub fn code(&self) -> &'static str {
        match self {
            Unknown::NoLanguage => "no_language",
            Unknown::NoServer => "no_server",
            Unknown::NoSchema(_) => "no_schema",
            Unknown::TooLong => "too_long",
            Unknown::NotSupported(_) => "not_supported",
            Unknown::Starting => "starting",
            Unknown::Timeout => "timeout",
            Unknown::Stale => "stale",
            Unknown::Crashed => "crashed",
            Unknown::Failed(_) => "failed",
            Unknown::Budget => "budget",
        }
    }
}

impl fmt::Display for Unknown {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Unknown::NoLanguage => f.write_str("the language of this file is not known"),
            Unknown::NoServer => f.write_str("no language server is at hand for this file"),
            Unknown::NoSchema(why) => f.write_str(why),
            Unknown::TooLong => f.write_str("this line or file is too long to be checked"),
            Unknown::NotSupported(server) => {
                write!(f, "{server} has not been measured as a checker of unfinished code")
            }
            Unknown::Starting => f.write_str("the language server is still starting"),
            Unknown::Timeout => f.write_str("the language server did not answer in time"),
            Unknown::Stale => f.write_str("the language server answered about another version"),
            Unknown::Crashed => f.write_str("the language server has stopped"),
            Unknown::Failed(message) => {
                write!(f, "the language server answered with an error: {message}")
            }
            Unknown::Budget => f.write_str("the budget for checks was spent"),
        }
    }
}

/// What is known of a text that is proposed.
#[derive(Debug, Clone, PartialEq)]
pub enum Verdict {
    /// The server saw exactly this text in place, and it brings in nothing that counts.
    Clean,
    /// The server saw exactly this text in place, and it brings in these.
    Findings(Vec<Diagnostic>),
    /// Nothing is known, for this reason.
    Unknown(Unknown),
}

/// Stands where there is nobody to ask: every check is unknown, for this reason.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NoCritic(pub Unknown);

impl Critic for NoCritic {
    fn check(&self, _: Arc<str>) -> BoxFuture<'_, Checked> {
        Box::pin(std::future::ready(Checked::Unknown(self.0.clone())))
    }

    fn completions(&self, _: Arc<str>, _: usize) -> BoxFuture<'_, Option<Vec<String>>> {
        Box::pin(std::future::ready(None))
    }

    fn quick_fixes(&self, _: Arc<str>, _: &Diagnostic) -> BoxFuture<'_, Vec<Vec<Edit>>> {
        Box::pin(std::future::ready(Vec::new()))
    }

    fn server(&self) -> &str {
        ""
    }
}
