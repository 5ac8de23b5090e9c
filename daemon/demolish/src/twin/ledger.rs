//! What was measured and decided about each server: who is shown candidates, why, how fast that is and what it takes.

use std::collections::HashMap;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use proxy::{Latencies, Quantiles};

use super::choice::{Backend, Choice};

/// How many servers are remembered; beyond that the book is begun anew.
const PAGES_MAX: usize = 64;

/// A server and its project.
pub(super) type Name = (String, PathBuf);

/// What is known of one server.
#[derive(Debug, Default)]
pub(super) struct Page {
    /// Of the twin, or of a checker of ours, which has none.
    pub(super) twin: Latencies,
    pub(super) lease: Latencies,
    pub(super) twin_checks: u64,
    pub(super) lease_checks: u64,
    /// The memory of its twin, while that runs, or what it was when it was stopped for it.
    pub(super) twin_bytes: Option<u64>,
    /// Why it gets no twin any more.
    pub(super) refused: Option<String>,
    pub(super) choice: Option<Choice>,
}

/// All of it.
#[derive(Debug, Default)]
pub(super) struct Ledger(Mutex<HashMap<Name, Arc<Mutex<Page>>>>);

/// What is told of one server.
#[derive(Debug, Clone)]
pub struct SpeculationFacts {
    /// The server.
    pub server: String,
    /// Its project.
    pub root: PathBuf,
    /// Who is shown candidates.
    pub choice: Choice,
    /// How many checks that backend has answered.
    pub checks: u64,
    /// How fast the latest of them were.
    pub pace: Option<Quantiles>,
    /// The memory of its twin.
    pub twin_bytes: Option<u64>,
}

impl Page {
    /// A check was answered.
    pub(super) fn note(&mut self, backend: Backend, took: Duration) {
        let (latencies, checks) = match backend {
            Backend::Twin | Backend::Builtin => (&mut self.twin, &mut self.twin_checks),
            Backend::Lease => (&mut self.lease, &mut self.lease_checks),
            Backend::None => return,
        };
        latencies.note(took);
        *checks += 1;
    }
}

impl Ledger {
    /// The page of a server.
    pub(super) fn page(&self, name: &Name) -> Arc<Mutex<Page>> {
        let mut pages = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if pages.len() >= PAGES_MAX && !pages.contains_key(name) {
            pages.clear();
        }
        pages.entry(name.clone()).or_default().clone()
    }

    /// What is known, by name.
    pub(super) fn facts(&self) -> Vec<SpeculationFacts> {
        let pages = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let mut facts: Vec<_> = pages
            .iter()
            .filter_map(|((server, root), page)| {
                let page = page.lock().unwrap_or_else(PoisonError::into_inner);
                let choice = page.choice.clone()?;
                let (checks, pace) = match choice.backend {
                    Backend::Twin | Backend::Builtin => (page.twin_checks, page.twin.quantiles()),
                    Backend::Lease => (page.lease_checks, page.lease.quantiles()),
                    Backend::None => (0, None),
                };
                let (server, root) = (server.clone(), root.clone());
                Some(SpeculationFacts {
                    server,
                    root,
                    choice,
                    checks,
                    pace,
                    twin_bytes: page.twin_bytes,
                })
            })
            .collect();
        facts.sort_by(|a, b| (&a.server, &a.root).cmp(&(&b.server, &b.root)));
        facts
    }
}
