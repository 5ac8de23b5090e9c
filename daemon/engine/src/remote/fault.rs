//! What can go wrong with a server, and what helps.

use std::{fmt, time::Duration};

/// The most characters of a server's own words that are repeated.
const SAID_LEN_MAX: usize = 300;

/// What went wrong. A server's own words are whole in it: what must not be seen is taken out of them before they are cut off, so
/// that no part of it stays ([`Client::told`](super::http::Client::told)).
#[derive(Debug, Clone, PartialEq)]
pub(crate) enum Fault {
    /// The address means nothing.
    Address(String),
    /// No connection came about.
    Unreachable(String),
    /// The connection ended before any answer: some servers do that where others answer 400.
    HungUp,
    /// The connection is not safe.
    Unsafe(String),
    /// Nothing came for so long.
    Silent { waiting_for: &'static str, patience: Duration },
    /// The connection ended before the answer did.
    Dropped { after: usize },
    /// It answered with an error.
    Status { code: u16, said: String, retry_after: Option<Duration> },
    /// What it answered is not what such a server says.
    Garbage(String),
    /// More than anybody would say.
    Endless { bytes_max: usize },
    /// It ended an answer for another reason than that all is said.
    Ended(String),
    /// It cannot do what the job needs.
    Lacks(String),
    /// Ours: the task of a request panicked.
    Panicked(String),
}

impl Fault {
    pub(crate) fn garbage(what: impl fmt::Display) -> Fault {
        Fault::Garbage(what.to_string())
    }

    /// One sentence with the address, the fault and the remedy; every text in it as `mask` has it.
    pub(crate) fn at(&self, url: &str, mask: impl Fn(&str) -> String) -> String {
        let masked = match self {
            Fault::Address(text) => Fault::Address(mask(text)),
            Fault::Unreachable(text) => Fault::Unreachable(mask(text)),
            Fault::Unsafe(text) => Fault::Unsafe(mask(text)),
            Fault::Garbage(text) => Fault::Garbage(mask(text)),
            Fault::Ended(text) => Fault::Ended(mask(text)),
            Fault::Lacks(text) => Fault::Lacks(mask(text)),
            Fault::Panicked(text) => Fault::Panicked(mask(text)),
            Fault::Status { code, said, retry_after } => {
                Fault::Status { code: *code, said: mask(said), retry_after: *retry_after }
            }
            Fault::HungUp
            | Fault::Silent { .. }
            | Fault::Dropped { .. }
            | Fault::Endless { .. } => self.clone(),
        };
        format!("{url}: {masked}")
    }

    /// Whether the same may go well a little later.
    pub(crate) fn passes(&self) -> bool {
        matches!(self, Fault::Status { code: 429 | 503, .. })
    }

    /// Whether it is about this very request: one that wants less may go well.
    pub(crate) fn is_refusal(&self) -> bool {
        match self {
            Fault::Status { code, .. } => !matches!(code, 401 | 403 | 429 | 503),
            fault => matches!(
                fault,
                Fault::Garbage(_) | Fault::HungUp | Fault::Dropped { .. } | Fault::Ended(_)
            ),
        }
    }

    pub(crate) fn retry_after(&self) -> Option<Duration> {
        match self {
            Fault::Status { retry_after, .. } => *retry_after,
            _ => None,
        }
    }
}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let seconds = |patience: &Duration| patience.as_secs_f64();
        match self {
            Fault::Address(why) => write!(
                f,
                "{why}; the address of a server is like http://host:8080 (`model.remote_url`)"
            ),
            Fault::Unreachable(why) => {
                write!(f, "no connection ({why}); start the server, or correct `model.remote_url`")
            }
            Fault::HungUp => f.write_str(
                "no connection (the server closed the connection without an answer); start the server, or correct `model.remote_url`",
            ),
            Fault::Unsafe(why) => write!(
                f,
                "no safe connection ({why}); have the system trust the server's certificate, or use http:// within your own network"
            ),
            Fault::Silent { waiting_for, patience } => write!(
                f,
                "no {waiting_for} for {} s; look at the server's log, it may be overloaded or stuck",
                seconds(patience)
            ),
            Fault::Dropped { after } => write!(
                f,
                "the connection ended in the middle of an answer, after {after} pieces; look at the server's log, it may have run out of memory"
            ),
            Fault::Status { code, said, .. } => {
                let said = clipped(said);
                let said = if said.is_empty() { said } else { format!(" ({said})") };
                write!(f, "it answered {code}{said}; {}", remedy(*code))
            }
            Fault::Garbage(what) => write!(
                f,
                "it answered what no OpenAI-compatible server says: {}; is `model.remote_url` the address of one?",
                clipped(what)
            ),
            Fault::Endless { bytes_max } => write!(
                f,
                "one piece of its answer has more than {bytes_max} bytes; is `model.remote_url` the address of an OpenAI-compatible server?"
            ),
            Fault::Ended(reason) => write!(
                f,
                "it ended its answer before all was said ({}); look at the server's log, it may have been stopped or filtered",
                clipped(reason)
            ),
            Fault::Lacks(what) => f.write_str(what),
            Fault::Panicked(what) => {
                write!(f, "a request to it panicked: {}; please report it", clipped(what))
            }
        }
    }
}

fn remedy(code: u16) -> &'static str {
    match code {
        400 | 422 => {
            "the server does not take such a request: see docs/models/remote.md for what each kind takes"
        }
        401 | 403 => {
            "it wants a key: name the variable that holds it in `model.remote_key_env`, or a file in `model.remote_key_file`"
        }
        404 => {
            "there is no such endpoint or model: correct `model.remote_url` or `model.remote_model`"
        }
        413 => "the prompt is too long for it: give the server a longer context, or ask for less",
        429 => "it has too many requests: try again later, or give it more slots",
        503 => "it is still loading its model, or has too much to do: wait for it",
        500..=599 => "look at the server's log",
        _ => "is `model.remote_url` the address of an OpenAI-compatible server?",
    }
}

/// What a server said, in one line and not too long.
pub(crate) fn clipped(text: &str) -> String {
    let line: Vec<&str> = text.split_whitespace().collect();
    let line = line.join(" ");
    let line: String = line.chars().filter(|c| !c.is_control()).collect();
    if line.chars().count() <= SAID_LEN_MAX {
        return line;
    }
    let mut short: String = line.chars().take(SAID_LEN_MAX).collect();
    short.push('…');
    short
}
