//! What callers and the engine thread share: one lock over a bounded inbox and one mailbox per sequence.
//!
//! There are no channels between them. Every change of the board is one critical section, so a rewind and the step that it makes
//! void can never be seen in the wrong order. Callers hold the lock for microseconds; the thread also cuts and shares caches under
//! it, and tells constraints of rewinds, but reads no files.

use std::{
    collections::{HashMap, VecDeque},
    ops::Range,
    path::PathBuf,
    sync::{
        Arc, Condvar, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicUsize, Ordering},
    },
    task::{Context, Poll, Waker},
    thread::JoinHandle,
    time::Instant,
};

use tokio::sync::{Notify, futures::Notified, oneshot};

use crate::{
    info::MountError,
    job::{Class, EngineError, Job, SoulId, Step, SubmitError, TokenId},
    question::Scored,
    sequence::Fork,
    spill::{Files, Label},
    stats::Stats,
};

/// How many questions may wait for their answer.
pub(crate) const QUESTIONS_MAX: usize = 64;
/// How many requests may wait for the thread. A full inbox refuses with [`SubmitError::Busy`]: the caller of a keystroke drops
/// its job, others try again.
pub(crate) const INBOX_LEN_MAX: usize = 64;
/// How many sequences may exist at once; each holds a cache.
pub(crate) const SEQUENCES_MAX: usize = 64;

/// The callers' side of the engine thread.
pub(crate) struct Line {
    pub(crate) shared: Arc<Shared>,
    /// The thread, until it is joined.
    pub(crate) thread: Option<JoinHandle<()>>,
}

/// The board and the bell that wakes the engine thread.
pub(crate) struct Shared {
    board: Mutex<Board>,
    bell: Condvar,
    /// The same for a thread that waits for a network too.
    chime: Notify,
    /// Questions that are not answered.
    questions: Arc<AtomicUsize>,
}

/// The place that a question takes up until it is answered or given up.
pub(crate) struct Ticket(Arc<AtomicUsize>);

impl Drop for Ticket {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::SeqCst);
    }
}

/// All state that crosses the thread boundary.
#[derive(Default)]
pub(crate) struct Board {
    pub(crate) inbox: VecDeque<Request>,
    pub(crate) mailboxes: HashMap<u64, Mailbox>,
    next_id: u64,
    /// Set when nobody holds the engine any more: the thread ends.
    pub(crate) closed: bool,
    /// Set when the process ends: the thread stops where it is and never wakes again.
    pub(crate) exiting: bool,
    /// Set when the thread has ended; the reason.
    pub(crate) down: Option<String>,
    /// Set when the thread has freed what it had, or never will.
    pub(crate) gone: bool,
    pub(crate) stats: Stats,
}

/// Something for the thread to start.
pub(crate) enum Request {
    /// `at` is the number of ticks that were over when it was submitted.
    Job {
        id: u64,
        at: u64,
        job: Job,
    },
    Ask {
        class: Class,
        at: u64,
        ask: Ask,
        ticket: Ticket,
    },
    /// Lines that go on from the first `len` tokens of the tape of `from`.
    Fork {
        from: u64,
        len: usize,
        first: u64,
        at: u64,
        forks: Vec<Fork>,
    },
    /// The most bytes that kept caches may hold from now on.
    Keep {
        bytes_max: u64,
    },
    /// Gives kept caches up until they hold no more than so many bytes.
    Shrink {
        bytes: u64,
    },
    /// Has caches outlive the process.
    Spill {
        files: Files,
    },
    /// A file is finished, or could not be.
    Written {
        label: Label,
        path: PathBuf,
        bytes: u64,
    },
    /// Mounts the adapter of a directory.
    Mount {
        dir: PathBuf,
        reply: oneshot::Sender<Result<SoulId, MountError>>,
    },
    /// Takes it off again.
    Unmount {
        soul: SoulId,
    },
    /// How many bytes all caches hold together, shared ones counted once.
    Bytes {
        reply: oneshot::Sender<u64>,
    },
}

/// A question with one answer.
pub(crate) enum Ask {
    Logits {
        tokens: Vec<TokenId>,
        soul: Option<SoulId>,
        reply: oneshot::Sender<Result<Vec<f32>, EngineError>>,
    },
    Score {
        prompt: Vec<TokenId>,
        continuations: Vec<Vec<TokenId>>,
        reply: oneshot::Sender<Result<Vec<Vec<Scored>>, EngineError>>,
    },
}

/// The steps of one sequence on their way to the caller, and the caller's wishes on their way to the thread.
#[derive(Default)]
pub(crate) struct Mailbox {
    /// Decoded, not taken. Never longer than the job's `ahead_max` (or 1).
    pub(crate) steps: VecDeque<Step>,
    /// Somebody waits for a step.
    pub(crate) waiter: Option<Waker>,
    /// The thread decodes no more until a rewind.
    pub(crate) ended: bool,
    /// Why, when it was not a finish.
    pub(crate) failed: Option<EngineError>,
    /// The rewinds and reseeds that the thread has not seen yet, merged into one.
    pub(crate) course: Option<Course>,
    /// The guard has cut the tape to this length, and the caller has not yet taken the step that tells it.
    pub(crate) cut: Option<usize>,
}

/// A change of course: where to go on from, and how to draw from there.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) struct Course {
    /// The tape is cut to this length.
    pub(crate) len: usize,
    /// Rewinds since the seed was set (by this course, or before it).
    pub(crate) rewinds: u64,
    /// A new seed and temperature.
    pub(crate) reseed: Option<(u64, f32)>,
}

impl Mailbox {
    /// The guard has cut the tape to `len`.
    pub(crate) fn cut(&mut self, len: usize) {
        self.steps.retain(|step| step.position < len);
        self.cut = Some(self.cut.map_or(len, |cut| cut.min(len)));
        if let Some(course) = &mut self.course {
            course.len = course.len.min(len);
        }
    }

    /// No more steps will come.
    pub(crate) fn end(&mut self) {
        self.ended = true;
        self.waiter.take().into_iter().for_each(Waker::wake);
    }

    /// No more steps will come, for this reason.
    pub(crate) fn fail(&mut self, error: EngineError) {
        self.failed = Some(error);
        self.end();
    }
}

impl Line {
    pub(crate) fn new() -> Line {
        Line {
            shared: Arc::new(Shared {
                board: Mutex::default(),
                bell: Condvar::new(),
                chime: Notify::new(),
                questions: Arc::default(),
            }),
            thread: None,
        }
    }

    pub(crate) fn submit(&self, job: Job) -> Result<u64, SubmitError> {
        let mut board = self.shared.lock();
        let id = board.reserve(1)?.start;
        let at = board.stats.ticks;
        board.inbox.push_back(Request::Job { id, at, job });
        drop(board);
        self.shared.ring();
        Ok(id)
    }

    pub(crate) fn fork(
        &self,
        from: u64,
        len: usize,
        forks: Vec<Fork>,
    ) -> Result<Range<u64>, SubmitError> {
        let mut board = self.shared.lock();
        let ids = board.reserve(forks.len())?;
        let (first, at) = (ids.start, board.stats.ticks);
        let cut = board.mailboxes.get(&from).and_then(|mailbox| mailbox.cut);
        // Their callers do not know of it either.
        if let Some(cut) = cut.filter(|&cut| cut < len) {
            for id in ids.clone() {
                board.mailboxes.entry(id).or_default().cut = Some(cut);
            }
        }
        let len = cut.map_or(len, |cut| len.min(cut));
        board.inbox.push_back(Request::Fork { from, len, first, at, forks });
        drop(board);
        self.shared.ring();
        Ok(ids)
    }

    pub(crate) fn ask(&self, class: Class, ask: Ask) -> Result<(), SubmitError> {
        let mut board = self.shared.lock();
        board.accepts()?;
        let waiting = self.shared.questions.fetch_add(1, Ordering::SeqCst);
        let ticket = Ticket(self.shared.questions.clone());
        if waiting >= QUESTIONS_MAX {
            return Err(SubmitError::Busy { waiting });
        }
        let at = board.stats.ticks;
        board.inbox.push_back(Request::Ask { class, at, ask, ticket });
        drop(board);
        self.shared.ring();
        Ok(())
    }

    /// A wish that nobody needs to wait for, or a question that is answered between two units of work.
    pub(crate) fn request(&self, request: Request) -> Result<(), SubmitError> {
        let mut board = self.shared.lock();
        board.accepts()?;
        board.inbox.push_back(request);
        drop(board);
        self.shared.ring();
        Ok(())
    }

    pub(crate) fn poll_step(
        &self,
        id: u64,
        context: &mut Context<'_>,
    ) -> Poll<Result<Option<Step>, EngineError>> {
        let mut board = self.shared.lock();
        let down = board.down.clone();
        let Some(mailbox) = board.mailboxes.get_mut(&id) else {
            return Poll::Ready(Ok(None));
        };
        if let Some(step) = mailbox.steps.pop_front() {
            mailbox.cut = mailbox.cut.filter(|&cut| step.position < cut);
            drop(board);
            self.shared.ring(); // There is room to run ahead again.
            return Poll::Ready(Ok(Some(step)));
        }
        if let Some(reason) = down {
            return Poll::Ready(Err(EngineError::Down(reason)));
        }
        if let Some(error) = &mailbox.failed {
            return Poll::Ready(Err(error.clone()));
        }
        if mailbox.ended {
            return Poll::Ready(Ok(None));
        }
        mailbox.waiter = Some(context.waker().clone());
        drop(board);
        self.shared.ring();
        Poll::Pending
    }

    pub(crate) fn rewind(&self, id: u64, len: usize) {
        self.steer(id, |course| {
            course.len = course.len.min(len);
            course.rewinds += 1;
        });
    }

    pub(crate) fn reseed(&self, id: u64, len: usize, seed: u64, temperature: f32) {
        self.steer(id, |course| {
            course.len = course.len.min(len);
            course.rewinds = 0;
            course.reseed = Some((seed, temperature));
        });
    }

    fn steer(&self, id: u64, change: impl FnOnce(&mut Course)) {
        let mut board = self.shared.lock();
        let Some(mailbox) = board.mailboxes.get_mut(&id) else {
            return;
        };
        mailbox.steps.clear();
        mailbox.failed = None;
        mailbox.ended = false;
        let course =
            mailbox.course.get_or_insert(Course { len: usize::MAX, rewinds: 0, reseed: None });
        change(course);
        // What the caller does not know to be cut cannot be gone back to.
        match mailbox.cut {
            Some(cut) if course.len < cut => mailbox.cut = None,
            Some(cut) => course.len = cut,
            None => {}
        }
        drop(board);
        self.shared.ring();
    }

    pub(crate) fn release(&self, id: u64) {
        let mut board = self.shared.lock();
        board.mailboxes.remove(&id);
        let origin =
            |request: &Request| matches!(request, Request::Fork { from, .. } if *from == id);
        // What others come from is begun, and forgotten afterwards.
        if !board.inbox.iter().any(origin) {
            board.inbox.retain(
                |request| !matches!(request, Request::Job { id: waiting, .. } if *waiting == id),
            );
        }
        drop(board);
        self.shared.ring();
    }

    /// Ends the thread after the unit of work that it is at, and waits for that: the weights are gone then, and nothing of MLX
    /// runs when the process ends.
    pub(crate) fn close(&mut self) {
        self.shared.close();
        if let Some(thread) = self.thread.take()
            && thread.thread().id() != std::thread::current().id()
        {
            let _ = thread.join(); // It catches its own panics.
        }
    }

    /// Why the thread is gone.
    pub(crate) fn down(&self) -> EngineError {
        let reason = self.shared.lock().down.clone();
        EngineError::Down(reason.unwrap_or_else(|| "it was unloaded".to_owned()))
    }
}

impl Board {
    /// Room for so many sequences, and one request.
    fn reserve(&mut self, sequences: usize) -> Result<Range<u64>, SubmitError> {
        self.accepts()?;
        if self.mailboxes.len() + sequences > SEQUENCES_MAX {
            return Err(SubmitError::Busy { waiting: self.mailboxes.len() });
        }
        let first = self.next_id;
        self.next_id += sequences as u64;
        let ids = first..self.next_id;
        self.mailboxes.extend(ids.clone().map(|id| (id, Mailbox::default())));
        Ok(ids)
    }

    fn accepts(&self) -> Result<(), SubmitError> {
        if let Some(reason) = &self.down {
            return Err(SubmitError::Down(EngineError::Down(reason.clone())));
        }
        if self.inbox.len() >= INBOX_LEN_MAX {
            return Err(SubmitError::Busy { waiting: self.inbox.len() });
        }
        Ok(())
    }
}

impl Shared {
    pub(crate) fn lock(&self) -> MutexGuard<'_, Board> {
        // The only caller's code that runs under the lock is a constraint told of a rewind, and its panic is caught; what panics on
        // the thread beside it ends the engine, which answers everyone from the board as it is.
        self.board.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Wakes the thread.
    fn ring(&self) {
        self.bell.notify_one();
        self.chime.notify_one();
    }

    fn ring_all(&self) {
        self.bell.notify_all();
        self.chime.notify_one();
    }

    /// Ready when the bell was rung since the last time.
    pub(crate) fn rung(&self) -> Notified<'_> {
        self.chime.notified()
    }

    /// Has the thread end after the unit of work that it is at.
    pub(crate) fn close(&self) {
        self.lock().closed = true;
        self.ring();
    }

    /// Says something to the thread that it waits for itself, so that it needs no room.
    pub(crate) fn tell(&self, request: Request) {
        self.lock().inbox.push_back(request);
        self.ring();
    }

    /// Waits for the bell, until `until` at most. Callers look at the board again afterwards.
    pub(crate) fn wait_until<'b>(
        &self,
        board: MutexGuard<'b, Board>,
        until: Instant,
    ) -> MutexGuard<'b, Board> {
        let left = until.saturating_duration_since(Instant::now());
        let woken = self.bell.wait_timeout(board, left);
        woken.unwrap_or_else(PoisonError::into_inner).0
    }

    /// Waits for the bell. Callers look at the board again afterwards.
    pub(crate) fn wait<'b>(&self, board: MutexGuard<'b, Board>) -> MutexGuard<'b, Board> {
        self.bell.wait(board).unwrap_or_else(PoisonError::into_inner)
    }

    /// Stops the thread for good, because the process ends, and waits until it has stopped (at most `patience`).
    #[cfg(feature = "mlx")]
    pub(crate) fn stop_for_exit(&self, patience: std::time::Duration) {
        let mut board = self.lock();
        board.closed = true;
        board.exiting = true;
        self.ring_all();
        let stopped = self.bell.wait_timeout_while(board, patience, |board| !board.gone);
        drop(stopped);
    }

    /// The thread touches nothing of the backend any more.
    pub(crate) fn leave(&self) {
        self.lock().gone = true;
        self.ring_all();
    }

    /// The thread is about to go: everyone who waits is told, and everyone who comes later.
    pub(crate) fn take_down(&self, reason: &str) {
        let mut board = self.lock();
        board.down = Some(reason.to_owned());
        board.inbox.clear(); // Dropping the reply ends of questions answers them.
        let waiters: Vec<Waker> =
            board.mailboxes.values_mut().filter_map(|mailbox| mailbox.waiter.take()).collect();
        drop(board);
        self.ring_all();
        waiters.into_iter().for_each(Waker::wake);
    }
}
