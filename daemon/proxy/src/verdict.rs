//! Verdicts: what a server says of one revision of one document (rules 4.20 and 4.21).
//!
//! A verdict is *clean*, *findings*, or *unknown* with the reason, and it belongs to a revision that the server has
//! provably seen. Silence is unknown, never clean. What proves it is the business of the [`Barrier`]; how a server lets
//! itself be asked stands in its [`Habits`].
//!
//! The parts: `barrier` is the state machine, `ways` what is known of a server and what it is asked, `findings` what is
//! read from its answers.

mod barrier;
mod findings;
mod ways;

use std::fmt;
use std::sync::Arc;

use text::Revision;
use wire::Bytes;

pub use barrier::{
    ASK_AGAIN_MAX, Barrier, INQUIRIES_MAX, Step, TICKETS_MAX, Ticket, VERDICT_DOCUMENTS_MAX,
};
pub use findings::{diagnostic, introduced};
pub use ways::{Ask, AskForm, Habits, Ready};

/// What a server says of a revision of a document.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Verdict {
    /// The document, as the client spells it.
    pub uri: Arc<str>,
    /// The revision that it is about: never an older one than the server had been told when the question was asked.
    /// `None` if the server was never told of the document.
    pub revision: Option<Revision>,
    /// Who says it.
    pub server: Arc<str>,
    /// What it says.
    pub state: State,
}

/// What is said of a revision.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum State {
    /// No error and no warning; information and hints do not count.
    Clean,
    /// Errors or warnings: everything that the server says of the document, a JSON array of the protocol's diagnostics.
    Findings(Bytes),
    /// Nothing that could be relied on.
    Unknown(Reason),
}

/// Why nothing is known.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Reason {
    /// No client has the document open.
    NotOpen,
    /// The server has not been greeted yet.
    Starting,
    /// The server has been greeted and is still reading the project.
    Loading,
    /// The server has died and is expected back.
    Restarting,
    /// The server is gone for good.
    Stopped,
    /// The server was asked and has not answered.
    NoAnswer,
    /// The server has said nothing about this revision.
    Silent,
    /// The document was changed again each time before the server had answered.
    Changing,
    /// The server asked to be asked later, each time.
    Busy,
    /// The server refused to say it, in these words.
    Refused(String),
    /// Too much is being asked at once.
    Crowded,
}

impl Verdict {
    /// The word for its state: `clean`, `findings`, `unknown`.
    pub fn word(&self) -> &'static str {
        match self.state {
            State::Clean => "clean",
            State::Findings(_) => "findings",
            State::Unknown(_) => "unknown",
        }
    }
}

impl fmt::Display for Reason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Reason::NotOpen => "the document is not open there",
            Reason::Starting => "the server is starting",
            Reason::Loading => "the server is still reading the project",
            Reason::Restarting => "the server ended and is being started again",
            Reason::Stopped => "the server has stopped",
            Reason::NoAnswer => "the server did not answer in time",
            Reason::Silent => "the server has said nothing about this revision",
            Reason::Changing => "the document kept changing",
            Reason::Busy => "the server kept asking for patience",
            Reason::Refused(words) => return write!(f, "the server refused: {words}"),
            Reason::Crowded => "too much is being asked at once",
        })
    }
}

#[cfg(test)]
mod tests;
