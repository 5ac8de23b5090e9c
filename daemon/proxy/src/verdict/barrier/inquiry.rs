//! A question about one document that somebody waits for.

use std::time::Instant;

use serde_json::value::RawValue;

use super::super::Reason;
use super::super::ways::{Form, Request};
use super::Ticket;

/// Who waits, and how far it is.
#[derive(Debug)]
pub(super) struct Inquiry {
    pub(super) waiting: Vec<(Ticket, Instant)>,
    pub(super) stage: Stage,
    /// How often it was begun again.
    pub(super) rounds: u32,
    /// What is said to those who do not wait longer.
    pub(super) why: Reason,
    /// Somebody has joined since the server was asked.
    pub(super) stale: bool,
}

/// How far it is. `at` counts the changes of the document when it began.
#[derive(Debug)]
pub(super) enum Stage {
    /// The server cannot be asked now.
    Parked,
    /// It was asked.
    Asked { question: u32, at: u64, asking: Asking },
    /// It will be asked again then.
    Again(Instant),
    /// What the server publishes does not count yet: it has to answer this first.
    Barrier { question: u32, at: u64 },
    /// What it publishes counts; if it has, then from this time on.
    Listening { settled: Option<Instant> },
    /// What it has published counts once it has answered this, unless it publishes more.
    Settling { question: u32, at: u64, sequence: u64 },
}

/// A question of several requests.
#[derive(Debug)]
pub(super) struct Asking {
    pub(super) form: Form,
    /// What the answers so far hold.
    pub(super) found: Vec<Box<RawValue>>,
    /// What is asked after this.
    pub(super) rest: Vec<Request>,
}

impl Default for Inquiry {
    fn default() -> Inquiry {
        Inquiry {
            waiting: Vec::new(),
            stage: Stage::Parked,
            rounds: 0,
            why: Reason::NoAnswer,
            stale: false,
        }
    }
}

impl Inquiry {
    /// When something is due.
    pub(super) fn next_deadline(&self) -> Option<Instant> {
        let own = match self.stage {
            Stage::Again(at) => Some(at),
            Stage::Listening { settled } => settled,
            _ => None,
        };
        self.waiting.iter().map(|(_, until)| *until).chain(own).min()
    }

    /// Takes those out who wait no longer.
    pub(super) fn take_late(&mut self, now: Instant) -> Vec<Ticket> {
        let (late, waiting) = self.waiting.drain(..).partition(|(_, until)| *until <= now);
        self.waiting = waiting;
        let late: Vec<(Ticket, Instant)> = late;
        late.into_iter().map(|(ticket, _)| ticket).collect()
    }
}

impl Stage {
    /// Whether what the server publishes is listened to.
    pub(super) fn is_hearing(&self) -> bool {
        matches!(self, Stage::Barrier { .. } | Stage::Listening { .. } | Stage::Settling { .. })
    }

    /// Whether the server was asked for the verdict itself.
    pub(super) fn is_asked(&self) -> bool {
        matches!(self, Stage::Asked { .. })
    }

    /// The question that is out.
    pub(super) fn question(&self) -> Option<u32> {
        match self {
            Stage::Asked { question, .. }
            | Stage::Barrier { question, .. }
            | Stage::Settling { question, .. } => Some(*question),
            Stage::Parked | Stage::Again(_) | Stage::Listening { .. } => None,
        }
    }
}
