//! Models from a hub: any server that speaks Hugging Face's two paths, `/api/models/…` and `/…/resolve/…`.
//!
//! Which server that is, the user says; nothing here knows the name of one. `pull` does the whole of it, `listing` says what there is,
//! `fetch` brings one file and goes on where an earlier attempt was cut off, `manifest` is what is kept beside the files.

mod address;
mod checksum;
mod fetch;
mod http;
mod listing;
pub(crate) mod manifest;
mod names;
mod pull;
mod remove;
#[cfg(test)]
#[allow(clippy::disallowed_methods, reason = "the tests write files")]
mod tests;

use std::fmt;
use std::time::Duration;

pub(crate) use address::Url;
pub(crate) use checksum::sha256;
pub(crate) use pull::{Note, Pull, Pulled, pull};
pub(crate) use remove::remove;

/// How long is waited for what.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Patience {
    /// For a connection.
    pub(crate) connect: Duration,
    /// For the beginning of an answer.
    pub(crate) answer: Duration,
    /// For more of an answer.
    pub(crate) stall: Duration,
    /// Before the first repetition; each further one waits twice as long.
    pub(crate) pause: Duration,
}

/// How long a connection may take.
const CONNECT_PATIENCE: Duration = Duration::from_secs(15);
/// How long an answer may take to begin.
const ANSWER_PATIENCE: Duration = Duration::from_secs(60);
/// How long an answer may pause.
const STALL_PATIENCE: Duration = Duration::from_secs(30);
/// How long to wait before the first repetition.
const RETRY_PAUSE: Duration = Duration::from_secs(1);

impl Default for Patience {
    fn default() -> Self {
        Patience {
            connect: CONNECT_PATIENCE,
            answer: ANSWER_PATIENCE,
            stall: STALL_PATIENCE,
            pause: RETRY_PAUSE,
        }
    }
}

/// Why something could not be had: one sentence with the place and the remedy.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Trouble {
    /// It may go away when it is tried again.
    Passing(String),
    /// The hub does not have it, or not for this user; or what it says must not be followed.
    Refused(String),
    /// The hub, the network or the disk is not up to it.
    Away(String),
    /// What came is not what it should be.
    Wrong(String),
}

impl fmt::Display for Trouble {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Trouble::Passing(said)
            | Trouble::Refused(said)
            | Trouble::Away(said)
            | Trouble::Wrong(said) => f.write_str(said),
        }
    }
}

/// A secret that is sent to the hub, and shown nowhere.
#[derive(Clone, PartialEq, Eq)]
pub(crate) struct Token(pub(crate) String);

impl fmt::Debug for Token {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Token(…)")
    }
}
