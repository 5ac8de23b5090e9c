//! What can go wrong with a server, and what helps.

use std::{fmt, time::Duration};

/// The most characters of a server's own words that are repeated.
const SAID_LEN_MAX: usize = 300;

/// What went wrong.
#[derive(Debug, Clone, PartialEq)]
pub(crate) enum Fault {
    /// The address means nothing.
    Address(String),
    /// No connection came about.
    Unreachable(String),
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
    /// It cannot do what the job needs.
    Lacks(String),
}

impl Fault {
    pub(crate) fn garbage(what: impl fmt::Display) -> Fault {
        Fault::Garbage(clipped(&what.to_string()))
    }

    /// One sentence with the address, the fault and the remedy.
    pub(crate) fn at(&self, url: &str) -> String {
        format!("{url}: {self}")
    }

    /// Whether the same may go well a little later.
    pub(crate) fn passes(&self) -> bool {
        matches!(self, Fault::Status { code: 429 | 503, .. })
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
                let said = if said.is_empty() { String::new() } else { format!(" ({said})") };
                write!(f, "it answered {code}{said}; {}", remedy(*code))
            }
            Fault::Garbage(what) => write!(
                f,
                "it answered what no OpenAI-compatible server says: {what}; is `model.remote_url` the address of one?"
            ),
            Fault::Endless { bytes_max } => write!(
                f,
                "one piece of its answer has more than {bytes_max} bytes; is `model.remote_url` the address of an OpenAI-compatible server?"
            ),
            Fault::Lacks(what) => f.write_str(what),
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
