//! The engine thread: one loop, one tick per turn, and no work without somebody who wants it.
//!
//! Before every half of a tick (`tick`) the thread looks at the board: it takes in new work, forgets what was released and applies
//! rewinds. So a more urgent job waits for one tick at most, and cancelled work stops within one. Where a job's cache comes from and
//! goes to is `caches`.

mod caches;
mod disk;
mod tick;
mod write;

use std::{
    any::Any,
    panic::{AssertUnwindSafe, catch_unwind},
    path::PathBuf,
    sync::Arc,
    thread,
    time::Instant,
};

use tokio::sync::oneshot;

use self::disk::Disk;
pub(crate) use self::write::PASS_ROWS_MAX;
use crate::{
    backend::Backend,
    ending,
    fair::{Fairness, Phase},
    guard::TokenKinds,
    info::MountError,
    job::{Class, EngineError, SoulId, TokenId},
    line::{Board, Line, Request, Shared},
    prefix::{PREFIX_BYTES_MAX, Prefixes},
    question::Question,
    run::{Decode, Run, Work},
    sequence::Fork,
    speculate::{Experience, Speculation, Texts, model::Drafter},
    stats::Stats,
    tokenizer::Tokenizer,
};

/// What the thread has to know of the model.
#[derive(Debug, Clone)]
pub(crate) struct Facts {
    /// Tokens that end every sequence.
    pub(crate) eos: Vec<TokenId>,
    /// The longest prompt plus answer.
    pub(crate) context_max: usize,
    /// What its tokens are made of.
    pub(crate) kinds: Arc<TokenKinds>,
    /// How many tokens have a logit.
    pub(crate) vocabulary: usize,
    /// Whether jobs may be speculated for.
    pub(crate) speculation: Speculation,
}

impl Facts {
    pub(crate) fn of(
        tokenizer: &Tokenizer,
        context_max: usize,
        vocabulary: usize,
        speculation: Speculation,
    ) -> Facts {
        let tokens = 0..tokenizer.len() as TokenId;
        let kinds = TokenKinds::new(tokens.map(|token| tokenizer.token_bytes(token)));
        let (eos, kinds) = (tokenizer.eos().to_vec(), Arc::new(kinds));
        Facts { eos, context_max, kinds, vocabulary, speculation }
    }
}

/// The models of a thread.
pub(crate) struct Opened<B> {
    pub(crate) backend: B,
    /// A small one that drafts for it.
    pub(crate) drafter: Option<B>,
}

/// Starts the thread. `open` runs on it and makes the backend, for as long as its line is not closed; its error is handed back, and
/// the thread is gone then.
pub(crate) fn start<B, T, E>(
    open: impl FnOnce(&Arc<Shared>) -> Result<(Opened<B>, Facts, T), E> + Send + 'static,
) -> Result<(Line, T), E>
where
    B: Backend + 'static,
    T: Send + 'static,
    E: Send + From<String> + 'static,
{
    let mut line = Line::new();
    let shared = line.shared.clone();
    ending::remember(&shared);
    let (opened, wait) = std::sync::mpsc::sync_channel(1);
    let spawned = thread::Builder::new().name("engine".to_owned()).spawn(move || {
        let (Opened { backend, drafter }, facts, extra) =
            match catch_unwind(AssertUnwindSafe(|| open(&shared))) {
                Ok(Ok(parts)) => parts,
                Ok(Err(error)) => return end_unopened(&shared, || opened.send(Err(error))),
                Err(panic) => {
                    let error = E::from(panicked(panic.as_ref()));
                    return end_unopened(&shared, || opened.send(Err(error)));
                }
            };
        let _ = opened.send(Ok(extra)); // The caller waits below; it cannot be gone.
        let mut runner = Runner {
            shared,
            backend,
            drafter: drafter.map(Drafter::new),
            texts: Texts::default(),
            experience: Experience::default(),
            facts,
            runs: Vec::new(),
            prefixes: Prefixes::new(PREFIX_BYTES_MAX),
            fairness: Fairness::default(),
            stats: Stats::default(),
            disk: None,
            idle_since: None,
            arrivals: 0,
        };
        let worked = catch_unwind(AssertUnwindSafe(|| {
            runner.run();
            runner.unload();
        }));
        let reason = match worked {
            Ok(()) => "it was unloaded".to_owned(),
            Err(panic) => panicked(panic.as_ref()),
        };
        // Before the runner goes, and the questions in it: whoever waits for them asks for the reason.
        let shared = runner.shared.clone();
        shared.take_down(&reason);
        if shared.lock().exiting {
            // Freeing may take longer than the exit waits.
            std::mem::forget(runner);
            shared.leave();
            loop {
                thread::park();
            }
        }
        // What it frees belongs to libraries that an exit takes down: whoever exits waits for the end of this.
        drop(runner);
        shared.leave();
    });
    line.thread = Some(spawned.map_err(|error| E::from(format!("no thread: {error}")))?);
    let extra = wait.recv().unwrap_or_else(|_| Err(E::from("its thread is gone".to_owned())))?;
    Ok((line, extra))
}

/// The end of a thread that has no backend: whoever exits may have been waiting for it.
fn end_unopened<T>(shared: &Shared, tell: impl FnOnce() -> T) {
    shared.leave();
    // Nobody listens any more where the process exits.
    drop(tell());
}

/// The adapter of a directory, and who waits for it.
type Mount = (PathBuf, oneshot::Sender<Result<SoulId, MountError>>);

struct Runner<B: Backend> {
    shared: Arc<Shared>,
    backend: B,
    /// A small model that drafts for it.
    drafter: Option<Drafter<B>>,
    /// The texts that drafts are looked up in.
    texts: Texts,
    /// What speculation costs and yields.
    experience: Experience,
    facts: Facts,
    /// Everything accepted and not released, also what is finished but may be rewound.
    runs: Vec<Run<B::State>>,
    prefixes: Prefixes<B::State>,
    fairness: Fairness,
    stats: Stats,
    /// `None`: caches end with the process.
    disk: Option<Disk<B>>,
    /// Since when nobody has wanted anything.
    idle_since: Option<Instant>,
    arrivals: u64,
}

impl<B: Backend> Runner<B> {
    fn run(&mut self) {
        while self.wait() {
            self.tick();
        }
    }

    /// Waits until a run wants a turn; `false` when the engine is to be unloaded.
    fn wait(&mut self) -> bool {
        let shared = self.shared.clone();
        let mut board = shared.lock();
        loop {
            if board.closed {
                return false;
            }
            let mounts = self.look(&mut board);
            if !mounts.is_empty() {
                drop(board);
                self.mount(mounts);
                board = shared.lock();
                continue;
            }
            if self.runs.iter().any(|run| run.wants) {
                self.idle_since = None;
                return true;
            }
            let now = Instant::now();
            self.idle_since.get_or_insert(now);
            board = match self.disk_due() {
                None => shared.wait(board),
                Some(due) if due > now => shared.wait_until(board, due),
                Some(_) => {
                    drop(board);
                    self.write_piece();
                    shared.lock()
                }
            };
        }
    }

    /// Takes in what callers wish: new work, what was released, changes of course. `false` when the engine is to be unloaded.
    fn look_again(&mut self) -> bool {
        let shared = self.shared.clone();
        let mut board = shared.lock();
        let goes_on = !board.closed;
        let mounts = if goes_on { self.look(&mut board) } else { Vec::new() };
        drop(board);
        self.mount(mounts);
        goes_on
    }

    /// Mounts adapters, without the lock: their files take as long to be read as the disk takes.
    fn mount(&mut self, mounts: Vec<Mount>) {
        for (dir, reply) in mounts {
            // Whoever asked may be gone; the soul stays, and is found again by mounting it anew.
            drop(reply.send(self.backend.mount(&dir)));
        }
    }

    /// Hands back the adapters that are to be mounted when the lock is free again.
    fn look(&mut self, board: &mut Board) -> Vec<Mount> {
        let mounts = self.take_in(board);
        self.forget_released(board);
        self.apply_courses(board);
        for run in &mut self.runs {
            run.wants = run.wants_turn(board);
            run.room = run.room(board);
            let phase = run.phase();
            for each in [Phase::Read, Phase::Write] {
                self.fairness.note(&mut run.shares, run.class, each, run.wants && each == phase);
            }
        }
        self.stats.prefixes = self.prefixes.len();
        self.stats.prefix_bytes = self.prefixes.bytes();
        board.stats = self.stats;
        mounts
    }

    fn take_in(&mut self, board: &mut Board) -> Vec<Mount> {
        let mut mounts = Vec::new();
        while let Some(request) = board.inbox.pop_front() {
            match request {
                Request::Job { id, at, job } => {
                    let (class, soul) = (job.class, job.soul);
                    let decode =
                        Decode::new(id, job, &self.facts, &mut self.texts, &self.experience);
                    self.arrive(class, at, soul, Work::Decode(Box::new(decode)));
                }
                Request::Ask { class, at, ask, ticket } => {
                    let question = Question::new(ask, ticket);
                    self.arrive(class, at, question.soul, Work::Question(question));
                }
                Request::Fork { from, len, first, at, forks } => {
                    self.fork(board, from, len, first, at, forks);
                }
                Request::Spill { files } => self.use_disk(files),
                Request::Written { label, path, bytes } => self.file_finished(label, path, bytes),
                Request::Keep { bytes_max } => {
                    let away = self.prefixes.keep_within(bytes_max);
                    self.evict(away);
                }
                Request::Shrink { bytes } => self.give_up(bytes),
                Request::Mount { dir, reply } => mounts.push((dir, reply)),
                Request::Unmount { soul } => {
                    self.backend.unmount(soul);
                    self.prefixes.forget(soul);
                }
                Request::Bytes { reply } => drop(reply.send(self.cache_bytes())),
            }
        }
        mounts
    }

    fn arrive(
        &mut self,
        class: Class,
        at: u64,
        soul: Option<SoulId>,
        work: Work,
    ) -> &mut Run<B::State> {
        self.runs.push(Run::new(class, self.arrivals, at, soul, work));
        self.arrivals += 1;
        let last = self.runs.len() - 1;
        &mut self.runs[last]
    }

    /// Begins candidate lines of the job `from`, numbered from `first` on.
    fn fork(
        &mut self,
        board: &mut Board,
        from: u64,
        len: usize,
        first: u64,
        at: u64,
        forks: Vec<Fork>,
    ) {
        let is_origin =
            |run: &Run<B::State>| matches!(&run.work, Work::Decode(decode) if decode.id == from);
        for (id, fork) in (first..).zip(forks) {
            let origin = self.runs.iter_mut().find(|run| is_origin(run));
            let Some(Run { class, soul, work: Work::Decode(decode), state, fed, .. }) = origin
            else {
                if let Some(mailbox) = board.mailboxes.get_mut(&id) {
                    let reason = "the sequence that it comes from is gone".to_owned();
                    mailbox.fail(EngineError::Backend(reason));
                }
                continue;
            };
            let decode = decode.fork(id, len, fork);
            if let Some(mailbox) = board.mailboxes.get_mut(&id) {
                // The guard cut the tape after the caller had asked.
                let tape_len = decode.len() - decode.read_len() - 1;
                if tape_len < len {
                    mailbox.cut(tape_len);
                }
                if decode.finished {
                    mailbox.end();
                }
            }
            // While the prompt is being read, they wait for that instead of reading it too.
            let state = state.as_mut().filter(|_| *fed >= decode.read_len());
            let started = Instant::now();
            let state = state.map(|state| self.backend.branch(state, decode.len() - 1));
            self.stats.cut(started);
            let (class, soul) = (*class, *soul);
            let fed = state.as_ref().map_or(0, |state| self.backend.len(state));
            let run = self.arrive(class, at, soul, Work::Decode(Box::new(decode)));
            (run.state, run.fed, run.is_fork) = (state, fed, true);
        }
    }

    /// Keeps the caches of released sequences for the next job with the same beginning.
    fn forget_released(&mut self, board: &Board) {
        let mut index = 0;
        while index < self.runs.len() {
            if self.runs[index].is_released(board) {
                let run = self.runs.remove(index);
                self.keep(run);
            } else {
                index += 1;
            }
        }
    }

    fn apply_courses(&mut self, board: &mut Board) {
        for run in &mut self.runs {
            let Work::Decode(decode) = &mut run.work else {
                continue;
            };
            let Some(mailbox) = board.mailboxes.get_mut(&decode.id) else {
                continue;
            };
            let Some(course) = mailbox.course.take() else {
                continue;
            };
            decode.steer(course);
            if decode.finished {
                mailbox.end();
            }
            let fed_max = decode.len().saturating_sub(1);
            if run.fed > fed_max {
                run.fed = 0;
                if let Some(state) = &mut run.state {
                    let started = Instant::now();
                    self.backend.truncate(state, fed_max);
                    self.stats.cut(started);
                    run.fed = self.backend.len(state);
                }
            }
        }
    }
}

fn panicked(panic: &(dyn Any + Send)) -> String {
    let reason = format!("its thread panicked: {}", panic_message(panic));
    tracing::error!("the engine stopped: {reason}");
    reason
}

/// The text of a panic.
pub(crate) fn panic_message(panic: &(dyn Any + Send)) -> String {
    let text = panic.downcast_ref::<&str>().map(|text| (*text).to_owned());
    text.or_else(|| panic.downcast_ref::<String>().cloned())
        .unwrap_or_else(|| "no message".to_owned())
}
