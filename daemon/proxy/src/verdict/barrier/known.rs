//! What is known of one document, and of how far a server is with its project.

use std::time::{Duration, Instant};

use serde::Deserialize;
use serde_json::Value;
use text::Revision;
use wire::{Bytes, Envelope};

use super::super::ways::Ready;

/// How many tokens of a server's beginnings are remembered.
const PROGRESS_MAX: usize = 64;

/// A document of the server.
#[derive(Debug)]
pub(super) struct Known {
    pub(super) open: bool,
    /// The latest that the server was told, or will be told before anything is asked.
    pub(super) revision: Revision,
    /// Counts what it was told.
    pub(super) changes: u64,
    /// The greatest version that any text of it had in this life of the server.
    highest: Option<i32>,
    /// Whether no other text had the version of this one: only then can a version be believed.
    fresh: bool,
    /// The latest request to the server before the change.
    last_id: u32,
    /// Since when the server has provably processed the revision.
    pub(super) proven: Option<Instant>,
    /// What it has published since without a version that could be believed.
    heard: Option<Heard>,
    /// What it says of the revision.
    pub(super) said: Option<Bytes>,
}

#[derive(Debug)]
struct Heard {
    at: Instant,
    sequence: u64,
    list: Bytes,
}

impl Default for Known {
    fn default() -> Known {
        Known {
            open: false,
            revision: Revision(0),
            changes: 0,
            highest: None,
            fresh: true,
            last_id: 0,
            proven: None,
            heard: None,
            said: None,
        }
    }
}

impl Known {
    /// The server is told of another text.
    pub(super) fn told(&mut self, revision: Revision, last_id: u32) {
        self.changes += 1;
        self.fresh = self.highest.is_none_or(|highest| revision.0 > highest);
        self.highest = self.highest.max(Some(revision.0));
        self.revision = revision;
        self.last_id = last_id;
        (self.proven, self.heard, self.said) = (None, None, None);
    }

    /// The server is another one: nothing that was said counts, and it has seen no version yet.
    pub(super) fn forget_all(&mut self) {
        self.changes += 1;
        self.highest = Some(self.revision.0);
        self.fresh = true;
        self.last_id = u32::MAX;
        (self.proven, self.heard, self.said) = (None, None, None);
    }

    /// The server publishes. Whether that changes anything; `answered` is the latest request that it has answered.
    pub(super) fn hear(
        &mut self,
        version: Option<i32>,
        list: &Bytes,
        sequence: u64,
        answered: Option<(u32, Instant)>,
        now: Instant,
    ) -> bool {
        if version.is_some_and(|version| version != self.revision.0) {
            return false;
        }
        if version.is_some() && self.fresh {
            self.said = Some(list.clone());
            return true;
        }
        let later = |id: u32| self.last_id != u32::MAX && is_later(id, self.last_id);
        let by_the_way = answered.filter(|(id, _)| later(*id)).map(|(_, at)| at);
        self.proven = self.proven.or(by_the_way);
        if self.proven.is_none() {
            return false;
        }
        self.said = None;
        self.heard = Some(Heard { at: now, sequence, list: list.clone() });
        true
    }

    /// What the server has published without a version: from when on it counts, and its number.
    pub(super) fn settled(&self, debounce: Duration) -> Option<(Instant, u64)> {
        let (proven, heard) = self.proven.zip(self.heard.as_ref())?;
        Some((proven.max(heard.at) + debounce, heard.sequence))
    }

    /// What was published under this number was the last word, if nothing came since.
    pub(super) fn settle(&mut self, sequence: u64) {
        let heard = self.heard.as_ref().filter(|heard| heard.sequence == sequence);
        if let Some(heard) = heard {
            self.said = Some(heard.list.clone());
        }
    }
}

/// Whether `id` was given after `other`; ids begin again after 2³¹.
fn is_later(id: u32, other: u32) -> bool {
    id != other && id.wrapping_sub(other) & (u32::MAX >> 1) < 1 << 30
}

/// How far the server is with reading its project.
#[derive(Debug, Default)]
pub(super) struct Loading {
    /// Whether the client accepts the server's own word for it.
    status: bool,
    quiescent: bool,
    /// Progress that is going on, as JSON text.
    open: Vec<Box<str>>,
    /// Since when there has been none, after there was some.
    idle_since: Option<Instant>,
}

#[derive(Deserialize)]
struct Progress {
    token: Value,
    value: Stage,
}

#[derive(Deserialize)]
struct Stage {
    kind: Option<String>,
}

impl Loading {
    /// A client has said what it accepts.
    pub(super) fn greet(&mut self, params: &Value) {
        self.status |= params["capabilities"]["experimental"]["serverStatusNotification"] == true;
    }

    /// The next server begins again.
    pub(super) fn restart(&mut self) {
        *self = Loading { status: self.status, ..Loading::default() };
    }

    /// Whether a notification changes anything.
    pub(super) fn listen(&mut self, ready: &Ready, envelope: &Envelope, now: Instant) -> bool {
        let method = envelope.method().unwrap_or_default();
        if method == "$/progress" {
            return self.progress(ready, envelope, now);
        }
        if ready.status.as_deref() != Some(method) {
            return false;
        }
        let params: Value = envelope.params_as().unwrap_or_default();
        self.quiescent = params["quiescent"] == true;
        true
    }

    fn progress(&mut self, ready: &Ready, envelope: &Envelope, now: Instant) -> bool {
        let Ok(Progress { token, value }) = envelope.params_as::<Progress>() else { return false };
        let Some(name) = token.as_str() else { return false };
        if !ready.progress.iter().any(|start| name.starts_with(start.as_str())) {
            return false;
        }
        match value.kind.as_deref() {
            Some("begin") if self.open.len() < PROGRESS_MAX => self.open.push(name.into()),
            Some("end") => {
                self.open.retain(|open| **open != *name);
                if self.open.is_empty() {
                    self.idle_since = Some(now);
                }
            }
            _ => return false,
        }
        true
    }

    /// Whether it has read the project.
    pub(super) fn is_done(&self, ready: Option<&Ready>, now: Instant) -> bool {
        let Some(ready) = ready else { return true };
        if self.status && ready.status.is_some() {
            return self.quiescent;
        }
        let settled = self.idle_since.is_some_and(|since| since + ready.settle <= now);
        self.open.is_empty() && settled
    }

    /// When that may become so by itself.
    pub(super) fn next_deadline(&self, ready: Option<&Ready>) -> Option<Instant> {
        let ready = ready.filter(|_| self.open.is_empty())?;
        let told = self.status && ready.status.is_some();
        self.idle_since.filter(|_| !told).map(|since| since + ready.settle)
    }
}
