//! Background work: requests to our own features, each a future of its own on a runtime of its own, so that no amount of
//! thinking delays a message that only passes through.
//!
//! Dropping a task cancels it, down to the engine, at the next token. A panic costs one answer: the task reports it, and
//! the loop answers with an error. No more than [`TASKS_MAX`] run at once for one link; further requests are refused.

use std::collections::HashMap;
use std::panic::AssertUnwindSafe;
use std::sync::Arc;

use futures_util::FutureExt as _;
use futures_util::future::BoxFuture;
use tokio::runtime::Runtime;
use tokio::sync::mpsc;
use tokio::task::AbortHandle;
use wire::{Bytes, Id};

use crate::main_loop::Event;
use crate::state::LinkId;

/// How many tasks of one link may run at once. Beyond that requests are refused and notifications dropped.
pub const TASKS_MAX: usize = 64;
/// How many threads they share.
const THREADS: usize = 2;

/// The number of a task.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct TaskId(u64);

/// What a task is for.
#[derive(Clone, Debug)]
pub struct About {
    /// The link that is to be answered.
    pub link: LinkId,
    /// The request that is to be answered; `None` for a notification.
    pub id: Option<Id>,
    /// The method.
    pub method: Box<str>,
    /// The document whose next change makes the task pointless.
    pub until_change_of: Option<Arc<str>>,
}

/// How a task ended.
#[derive(Clone, Debug)]
pub enum Outcome {
    /// With the body of a response, or with nothing to say.
    Answer(Option<Bytes>),
    /// With a panic.
    Panicked(String),
}

/// The tasks that run.
#[derive(Debug)]
pub struct Tasks {
    inbox: mpsc::Sender<Event>,
    runtime: Option<Runtime>,
    last: u64,
    running: HashMap<TaskId, Running>,
}

#[derive(Debug)]
struct Running {
    about: About,
    handle: AbortHandle,
}

impl Drop for Running {
    fn drop(&mut self) {
        self.handle.abort();
    }
}

impl Tasks {
    pub(crate) fn new(inbox: mpsc::Sender<Event>) -> Tasks {
        Tasks { inbox, runtime: None, last: 0, running: HashMap::new() }
    }

    /// Starts a task; its end comes as [`Event::Done`]. `false`: the link has too many, and nothing was started.
    pub fn spawn(&mut self, about: About, future: BoxFuture<'static, Option<Bytes>>) -> bool {
        let of_link = self.running.values().filter(|task| task.about.link == about.link).count();
        if of_link >= TASKS_MAX {
            return false;
        }
        self.last += 1;
        let id = TaskId(self.last);
        let inbox = self.inbox.clone();
        let span = tracing::info_span!("task", link = about.link.0, method = &*about.method);
        let body = async move {
            let outcome = match AssertUnwindSafe(future).catch_unwind().await {
                Ok(answer) => Outcome::Answer(answer),
                Err(panic) => Outcome::Panicked(words(&*panic)),
            };
            let _ = inbox.send(Event::Done(id, outcome)).await;
        };
        let Some(runtime) = self.runtime() else { return false };
        let handle = runtime.spawn(tracing::Instrument::instrument(body, span)).abort_handle();
        self.running.insert(id, Running { about, handle });
        true
    }

    /// A task has ended: what it was for, unless it was cancelled before.
    pub fn ended(&mut self, id: TaskId) -> Option<About> {
        self.running.remove(&id).map(|task| task.about.clone())
    }

    /// Cancels the task that answers `id`. `false`: there is none.
    pub fn cancel(&mut self, link: LinkId, id: &Id) -> bool {
        let of = |about: &About| about.link == link && about.id.as_ref() == Some(id);
        !self.cancel_where(of).is_empty()
    }

    /// Cancels what the change of a document makes pointless; returns the requests that now want another answer.
    pub fn cancel_changed(&mut self, link: LinkId, uri: &str) -> Vec<Id> {
        let of = |about: &About| {
            about.link == link && about.until_change_of.as_deref().is_some_and(|of| of == uri)
        };
        self.cancel_where(of).into_iter().filter_map(|about| about.id).collect()
    }

    /// Cancels everything of a link.
    pub fn cancel_link(&mut self, link: LinkId) {
        self.cancel_where(|about| about.link == link);
    }

    /// Whether a request of this id has no answer yet.
    pub fn is_running(&self, link: LinkId, id: &Id) -> bool {
        let of = |task: &Running| task.about.link == link && task.about.id.as_ref() == Some(id);
        self.running.values().any(of)
    }

    /// The methods that run, for `demolish status`.
    pub fn methods(&self) -> Vec<String> {
        let mut all: Vec<_> = self.running.iter().collect();
        all.sort_unstable_by_key(|(id, _)| **id);
        all.into_iter().map(|(_, task)| task.about.method.to_string()).collect()
    }

    fn cancel_where(&mut self, of: impl Fn(&About) -> bool) -> Vec<About> {
        let cancelled: Vec<TaskId> =
            self.running.iter().filter(|(_, task)| of(&task.about)).map(|(id, _)| *id).collect();
        cancelled.into_iter().filter_map(|id| self.ended(id)).collect()
    }

    /// The runtime; a daemon whose editors only wrap servers never starts it.
    fn runtime(&mut self) -> Option<&Runtime> {
        if self.runtime.is_none() {
            let built = tokio::runtime::Builder::new_multi_thread()
                .worker_threads(THREADS)
                .thread_name("task")
                .enable_all()
                .build();
            match built {
                Ok(runtime) => self.runtime = Some(runtime),
                Err(error) => tracing::error!(%error, "no threads for background work"),
            }
        }
        self.runtime.as_ref()
    }
}

impl Drop for Tasks {
    /// A runtime must not be dropped where others wait; it is told to end by itself.
    fn drop(&mut self) {
        self.running.clear();
        if let Some(runtime) = self.runtime.take() {
            runtime.shutdown_background();
        }
    }
}

fn words(panic: &(dyn std::any::Any + Send)) -> String {
    let text = panic.downcast_ref::<&str>().map(|text| (*text).to_owned());
    text.or_else(|| panic.downcast_ref::<String>().cloned()).unwrap_or_else(|| "panic".to_owned())
}
