//! Twins: second, quiet instances of the user's language servers, which are asked about text that nobody has typed yet.
//!
//! A [`Critic`] for one request sits on a [`Twin`] of the pool. The user's own server never sees a candidate, and a twin
//! never writes: it is sent documents, and asked for diagnostics, completions and quick fixes, nothing else.
//!
//! A twin has the documents open that the client has open, unsaved as they are, and is asked one thing at a time, so that
//! an answer is always of the text that was sent last. Silence, lateness and death are *unknown*, never *clean*.

mod builtin;
pub mod choice;
mod convert;
mod disk;
mod documents;
#[cfg(test)]
pub(crate) mod fake;
mod instance;
mod ledger;
mod memory;
pub mod plan;
mod pool;
mod start;

#[cfg(test)]
#[allow(
    clippy::disallowed_methods,
    clippy::print_stderr,
    reason = "tests write the files of their projects, and say what they skip"
)]
mod tests;

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use decode::{BoxFuture, Checked, Unknown};
use lang::Grammar;
use proxy::Refusal;
use recall::index::Place;
use text::{Diagnostic, Document, Edit, Revision};
use tokio::time::Instant;

pub use documents::Open;
pub use ledger::SpeculationFacts;
pub use plan::{Environment, Lack, Plan, UserServer};
pub use pool::{Subject, TwinFacts, Twins};

use crate::handlers::lease::Leaser;
use choice::Backend;
use instance::Instance;
use ledger::Page;
use start::Twin;

/// The resident memory of the process group of a server, where the system tells.
pub(crate) fn memory_of(pid: u32) -> Option<u64> {
    memory::of_groups(&[pid]).get(&pid).copied()
}

/// How long things may take.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Deadlines {
    /// From the wish for a server until it can be asked.
    pub start: Duration,
    /// One question.
    pub check: Duration,
}

/// Judges the candidates of one request over a twin; or says, always with the same reason, why it cannot.
pub struct Critic {
    server: String,
    seat: Result<Seat, Lack>,
    deadlines: Deadlines,
    /// The number of the newest check: a check that is overtaken while it waits for its turn is given up.
    newest: AtomicU64,
}

struct Seat {
    checker: Checker,
    place: instance::Place,
    page: Arc<Mutex<Page>>,
}

/// Who is asked.
enum Checker {
    Twin(Arc<Twin>),
    Lease(Leaser),
    /// A checker of ours, and how the document is written.
    Builtin(builtin::Checker, Grammar),
}

impl Critic {
    fn new(server: String, seat: Result<Seat, Lack>, deadlines: Deadlines) -> Critic {
        Critic { server, seat, deadlines, newest: AtomicU64::new(0) }
    }

    /// Why every verdict will be *unknown*, if that is so from the beginning.
    #[must_use]
    pub fn lack(&self) -> Option<&Lack> {
        self.seat.as_ref().err()
    }

    /// Starts the server if it is not running; does not wait for it.
    pub fn warm(&self) {
        if let Ok(Seat { checker: Checker::Twin(twin), .. }) = &self.seat {
            twin.want(self.deadlines.start);
        }
    }

    /// The twin and the place; `None` where the user's own server is asked, which is shown whole candidates and nothing else, or a checker
    /// of ours.
    async fn sit(&self) -> Result<Option<(Arc<Instance>, &Seat)>, Unknown> {
        let seat = self.seat.as_ref().map_err(|lack| lack.reason.clone())?;
        match &seat.checker {
            Checker::Twin(twin) => Ok(Some((twin.instance(self.deadlines.start).await?, seat))),
            Checker::Lease(_) | Checker::Builtin(..) => Ok(None),
        }
    }

    async fn leased(
        &self,
        seat: &Seat,
        leaser: &Leaser,
        text: Arc<str>,
    ) -> Result<Vec<Diagnostic>, Unknown> {
        let found = leaser.ask(&seat.place.uri, text.clone(), self.deadlines.check).await;
        let (said, encoding) = found.map_err(unknown)?;
        seat.note(Backend::Lease, said.took);
        let list: serde_json::Value = serde_json::from_slice(&said.diagnostics)
            .map_err(|error| Unknown::Failed(error.to_string()))?;
        let document = Document::new(Revision(0), &text);
        let said = convert::diagnostics(&list, &document, encoding);
        Ok(said.into_iter().map(|said| said.diagnostic).collect())
    }

    async fn checked(&self, text: Arc<str>) -> Result<Vec<Diagnostic>, Unknown> {
        let number = self.newest.fetch_add(1, Ordering::Relaxed) + 1;
        if let Ok(seat @ Seat { checker: Checker::Lease(leaser), .. }) = &self.seat {
            return self.leased(seat, leaser, text).await;
        }
        if let Ok(seat @ Seat { checker: Checker::Builtin(checker, grammar), .. }) = &self.seat {
            let started = Instant::now();
            let said = checker.check(*grammar, text).await?;
            seat.note(Backend::Builtin, started.elapsed());
            return Ok(said);
        }
        let (instance, seat) = self.sit().await?.ok_or(Unknown::NoServer)?;
        let started = Instant::now();
        let until = started + self.deadlines.check;
        let _turn = instance.turn(until).await?;
        if self.newest.load(Ordering::Relaxed) != number {
            return Err(Unknown::Stale);
        }
        let said = instance.check(&seat.place, &text, until).await?;
        seat.note(Backend::Twin, started.elapsed());
        Ok(said.iter().map(|said| said.diagnostic.clone()).collect())
    }

    async fn completed(
        &self,
        text: Arc<str>,
        offset: usize,
    ) -> Result<Option<Vec<String>>, Unknown> {
        if let Ok(Seat { checker: Checker::Builtin(checker, _), .. }) = &self.seat {
            return checker.names().await;
        }
        let Some((instance, seat)) = self.sit().await? else { return Ok(None) };
        let until = Instant::now() + self.deadlines.check;
        let _turn = instance.turn(until).await?;
        instance.completions(&seat.place, &text, offset, until).await
    }

    /// Where the name at `offset` of `text` is defined. A lease is not asked: the user's own server is shown whole candidates and
    /// nothing else.
    ///
    /// # Errors
    /// The twin cannot answer, or not in time; the reason.
    pub async fn definition(&self, text: &Arc<str>, offset: usize) -> Result<Vec<Place>, Unknown> {
        let Some((instance, seat)) = self.sit().await? else { return Ok(Vec::new()) };
        let until = Instant::now() + self.deadlines.check;
        let _turn = instance.turn(until).await?;
        instance.definition(&seat.place, text, offset, until).await
    }

    async fn fixed(
        &self,
        text: Arc<str>,
        diagnostic: Diagnostic,
    ) -> Result<Vec<Vec<Edit>>, Unknown> {
        let Some((instance, seat)) = self.sit().await? else { return Ok(Vec::new()) };
        let until = Instant::now() + self.deadlines.check;
        let _turn = instance.turn(until).await?;
        instance.quick_fixes(&seat.place, &text, &diagnostic, until).await
    }
}

impl Seat {
    fn note(&self, backend: Backend, took: Duration) {
        if let Checker::Twin(twin) = &self.checker {
            twin.count();
        }
        self.page.lock().unwrap_or_else(PoisonError::into_inner).note(backend, took);
    }
}

/// Why a lease gave no answer, in the words of verdicts.
fn unknown(refusal: Refusal) -> Unknown {
    match refusal {
        Refusal::Preempted => Unknown::Stale,
        Refusal::Busy | Refusal::Timeout => Unknown::Timeout,
        Refusal::Died => Unknown::Crashed,
        Refusal::NotOpen => {
            Unknown::Failed("the document is not open there, or in several editors".to_owned())
        }
        Refusal::Failed(why) => Unknown::Failed(why),
    }
}

impl decode::Critic for Critic {
    fn check(&self, text: Arc<str>) -> BoxFuture<'_, Checked> {
        Box::pin(async move {
            match self.checked(text).await {
                Ok(diagnostics) => Checked::Diagnostics(diagnostics),
                Err(reason) => Checked::Unknown(reason),
            }
        })
    }

    fn completions(&self, text: Arc<str>, offset: usize) -> BoxFuture<'_, Option<Vec<String>>> {
        Box::pin(async move { self.completed(text, offset).await.ok().flatten() })
    }

    fn quick_fixes(
        &self,
        text: Arc<str>,
        diagnostic: &Diagnostic,
    ) -> BoxFuture<'_, Vec<Vec<Edit>>> {
        let diagnostic = diagnostic.clone();
        Box::pin(async move { self.fixed(text, diagnostic).await.unwrap_or_default() })
    }

    fn server(&self) -> &str {
        &self.server
    }
}
