//! The journal: what the editor has open, and what it accepted, on the disk, so that a crash of the machine costs at most
//! the last [`SYNC_EVERY`] of what we knew.
//!
//! A shim keeps one file ([`Keeper`]), off the path of the messages: the loop hands over references, and a thread of its
//! own writes them. The file is private, bounded, and gone when the editor has left in good order. What a crash leaves is
//! shown by `demolish journal` ([`read`]) and pruned by age and number. It holds text: `journal.enabled = false` keeps none.

mod book;
mod keeper;
pub mod read;
pub mod record;

use std::path::PathBuf;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use serde::{Deserialize, Serialize};

pub use keeper::Keeper;

use crate::env_vars;

/// How often what was noted is written and synced, if there is anything. A crash of the machine costs what is younger.
pub const SYNC_EVERY: Duration = Duration::from_millis(80);
/// How large a journal grows. Beyond it nothing is added until it was written anew from the open documents.
pub const JOURNAL_BYTES_MAX: u64 = 64 * 1024 * 1024;
/// How much text of open documents one journal holds; documents that do not fit are named without their text.
pub const TEXT_BYTES_MAX: usize = 32 * 1024 * 1024;
/// How many accepted edits outlive the journal's rewriting; the oldest goes first.
pub const EDITS_MAX: usize = 100;
/// How many bytes they may take.
pub const EDITS_BYTES_MAX: usize = 2 * 1024 * 1024;
/// How many journals of shims that are gone are kept; the oldest goes first.
pub const LEFT_MAX: usize = 32;
/// How long they are kept.
pub const LEFT_AGE_MAX: Duration = Duration::from_secs(14 * 24 * 60 * 60);
/// What the files end in.
pub(crate) const EXTENSION: &str = "journal";

/// Whose journal it is.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct Head {
    /// The version of the shim's build.
    pub version: String,
    /// The shim's process.
    pub pid: u32,
    /// The process that started the shim.
    pub editor_pid: u32,
    /// The wrapped server and its arguments; empty for our own features.
    pub command: Vec<String>,
    /// Where the editor started the shim.
    pub cwd: String,
    /// When, in milliseconds since 1970.
    pub started_ms: u64,
}

/// The folder of all journals.
#[must_use]
pub fn dir() -> PathBuf {
    env_vars::state_dir().join("journal")
}

/// The time of day, in milliseconds since 1970.
fn now_ms() -> u64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    u64::try_from(since.as_millis()).unwrap_or(u64::MAX)
}
