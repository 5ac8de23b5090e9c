//! Transcripts: what a real editor and a real server have said to each other, line by line, as `tests/peers/NAME.jsonl`
//! keeps it. `tests/peers/README.md` describes the format.

use std::path::Path;

use serde::{Deserialize, Serialize};
use serde_json::Value as Json;
use serde_json::value::RawValue;
use wire::{Bytes, Envelope};

/// No transcript is larger: it is read by people too.
pub(crate) const TRANSCRIPT_BYTES_MAX: usize = 300 * 1024;

/// One line.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Line {
    /// What was recorded.
    Peer {
        /// The server's name.
        name: String,
        /// Its version.
        version: String,
    },
    /// The editor says this.
    Client(Box<RawValue>),
    /// The server says this.
    Server(Box<RawValue>),
    /// Demolish asks the server this for itself: method and parameters.
    Asked {
        /// The method.
        method: String,
        /// The parameters.
        params: Json,
    },
    /// The server's answer to the oldest such question that has none.
    Answered(Box<RawValue>),
    /// Somebody wants a verdict here, and this comes out.
    Verdict {
        /// The version that it is about.
        revision: i32,
        /// `clean` or `findings`.
        state: String,
        /// How many diagnostics.
        findings: usize,
    },
}

/// Reads a transcript.
pub(crate) fn read(path: &Path) -> Result<Vec<Line>, String> {
    let text = std::fs::read_to_string(path)
        .map_err(|error| format!("{} cannot be read ({error})", path.display()))?;
    let numbered = text.lines().enumerate();
    numbered
        .map(|(number, line)| {
            serde_json::from_str(line)
                .map_err(|error| format!("{}:{}: {error}", path.display(), number + 1))
        })
        .collect()
}

/// The message in a line.
pub(crate) fn message(raw: &RawValue) -> Result<Envelope, String> {
    let body = Bytes::copy_from_slice(raw.get().as_bytes());
    Envelope::read(body).map_err(|error| error.to_string())
}
