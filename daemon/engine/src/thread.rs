//! The engine thread: one loop, one unit of work per turn.
//!
//! A unit is one prefill chunk, one decoded token, or one chunk of a question. Before every unit the thread looks at the board:
//! it takes in new work, forgets what was released, applies rewinds, and picks the most urgent run that wants a turn (class
//! first, then arrival). So a more urgent job waits for one unit at most, and cancelled work stops within one.
//!
//! The last token of a prompt is always fed alone, as every generated token is. A rewind therefore repeats exactly the
//! arithmetic that it undoes, and the logits after it are the same to the last bit.

use std::{
    any::Any,
    panic::{AssertUnwindSafe, catch_unwind},
    sync::{Arc, MutexGuard},
    thread,
};

use crate::{
    backend::{Backend, Rows},
    ending,
    job::{EngineError, TokenId},
    line::{Board, Line, Request, Shared},
    prefix::{Kept, PREFIX_LEN_MIN, Prefixes, common_len},
    run::{Decode, Question, Run, Turn, Work, alone, beside},
};

/// What the thread has to know of the model.
#[derive(Debug, Clone)]
pub(crate) struct Facts {
    /// Tokens that end every sequence.
    pub(crate) eos: Vec<TokenId>,
    /// The longest prompt plus answer.
    pub(crate) context_max: usize,
}

/// Starts the thread. `open` runs on it and makes the backend; its error is handed back, and the thread is gone then.
pub(crate) fn start<B, T, E>(
    open: impl FnOnce() -> Result<(B, Facts, T), E> + Send + 'static,
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
        let (backend, facts, extra) = match catch_unwind(AssertUnwindSafe(open)) {
            Ok(Ok(parts)) => parts,
            Ok(Err(error)) => return drop(opened.send(Err(error))),
            Err(panic) => return drop(opened.send(Err(E::from(panicked(panic.as_ref()))))),
        };
        let _ = opened.send(Ok(extra)); // The caller waits below; it cannot be gone.
        let (runs, prefixes) = (Vec::new(), Prefixes::new());
        let mut runner = Runner { shared, backend, facts, runs, prefixes, arrivals: 0 };
        let reason = match catch_unwind(AssertUnwindSafe(|| runner.run())) {
            Ok(()) => "it was unloaded".to_owned(),
            Err(panic) => panicked(panic.as_ref()),
        };
        // Before the runner goes, and the questions in it: whoever waits for them asks for the reason.
        runner.shared.take_down(&reason);
        if runner.shared.lock().exiting {
            // Freeing would race with what the C++ side destroys at exit.
            std::mem::forget(runner);
            loop {
                thread::park();
            }
        }
    });
    line.thread = Some(spawned.map_err(|error| E::from(format!("no thread: {error}")))?);
    let extra = wait.recv().unwrap_or_else(|_| Err(E::from("its thread is gone".to_owned())))?;
    Ok((line, extra))
}

struct Runner<B: Backend> {
    shared: Arc<Shared>,
    backend: B,
    facts: Facts,
    /// Everything accepted and not released, also what is finished but may be rewound.
    runs: Vec<Run<B::State>>,
    prefixes: Prefixes<B::State>,
    arrivals: u64,
}

impl<B: Backend> Runner<B> {
    fn run(&mut self) {
        while let Some(index) = self.next_turn() {
            self.begin(index);
            let turn = self.turn(index);
            self.deliver(index, turn);
        }
    }

    /// Waits until a run wants a turn and picks the most urgent one; `None` when the engine is to be unloaded.
    fn next_turn(&mut self) -> Option<usize> {
        let shared = self.shared.clone();
        let mut board = shared.lock();
        loop {
            if board.closed {
                return None;
            }
            self.take_in(&mut board);
            self.forget_released(&board);
            self.apply_courses(&mut board);
            let wanting = self.runs.iter().enumerate().filter(|(_, run)| run.wants_turn(&board));
            if let Some((index, _)) = wanting.min_by_key(|(_, run)| (run.class, run.arrival)) {
                return Some(index);
            }
            board = shared.wait(board);
        }
    }

    fn take_in(&mut self, board: &mut MutexGuard<'_, Board>) {
        while let Some(request) = board.inbox.pop_front() {
            let (class, work) = match request {
                Request::Job { id, job } => {
                    (job.class, Work::Decode(Box::new(Decode::new(id, job))))
                }
                Request::Ask { class, ask } => (class, Work::Question(Question::new(ask))),
            };
            self.runs.push(Run { class, arrival: self.arrivals, work, state: None, fed: 0 });
            self.arrivals += 1;
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

    fn keep(&mut self, run: Run<B::State>) {
        let mut tokens = run.tokens();
        tokens.truncate(run.fed);
        if !run.shares_prefix() {
            return;
        }
        if let Some(state) = run.state {
            let bytes = self.backend.bytes(&state);
            self.prefixes.keep(Kept { tokens, state, bytes });
        }
    }

    fn apply_courses(&mut self, board: &mut MutexGuard<'_, Board>) {
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
                mailbox.ended = true;
                mailbox.waiter.take().into_iter().for_each(std::task::Waker::wake);
            }
            let fed_max = decode.len().saturating_sub(1);
            if run.fed > fed_max {
                run.fed = 0;
                if let Some(state) = &mut run.state {
                    self.backend.truncate(state, fed_max);
                    run.fed = self.backend.len(state);
                }
            }
        }
    }

    /// Gives a run its cache, from another one with the same beginning where there is one.
    fn begin(&mut self, index: usize) {
        if self.runs[index].state.is_some() {
            return;
        }
        let mut tokens = self.runs[index].tokens();
        tokens.pop(); // The last one is fed for its logits.
        if !self.runs[index].shares_prefix() {
            tokens.clear();
        }
        let kept = self.prefixes.best(&tokens);
        let live = self.best_live(index, &tokens);
        let kept_len = kept.map_or(0, |(len, _)| len);
        let state = match (kept, live) {
            (_, Some((len, other))) if len > kept_len => {
                let Some(source) = &self.runs[other].state else {
                    unreachable!("best_live looks at states")
                };
                self.backend.fork(source, len)
            }
            (Some((len, entry)), _) => self.reuse(len, entry),
            _ => self.backend.fresh(),
        };
        let run = &mut self.runs[index];
        run.fed = self.backend.len(&state);
        run.state = Some(state);
    }

    /// The longest beginning of `tokens` that another run's cache has seen.
    fn best_live(&self, index: usize, tokens: &[TokenId]) -> Option<(usize, usize)> {
        let others = self
            .runs
            .iter()
            .enumerate()
            .filter(|&(other, run)| other != index && run.state.is_some());
        let shared =
            others.map(|(other, run)| (common_len(&run.tokens(), tokens).min(run.fed), other));
        shared.max().filter(|&(len, _)| len >= PREFIX_LEN_MIN)
    }

    /// Takes a kept cache over, or copies it where most of it would be lost.
    fn reuse(&mut self, len: usize, entry: usize) -> B::State {
        let kept = self.prefixes.take(entry);
        if len * 2 >= kept.tokens.len() {
            let mut state = kept.state;
            self.backend.truncate(&mut state, len);
            return state;
        }
        let state = self.backend.fork(&kept.state, len);
        self.prefixes.keep(kept);
        state
    }

    /// Runs one unit.
    fn turn(&mut self, index: usize) -> Turn {
        let run = &mut self.runs[index];
        let Some(state) = &mut run.state else { unreachable!("begin() gave it one") };
        let turn = match &mut run.work {
            Work::Decode(decode) => {
                let tokens_ready = decode.len() - 1;
                if run.fed < tokens_ready {
                    let chunk_len_max = self.backend.chunk_len_max(run.fed);
                    let end = decode.chunk_end(run.fed, chunk_len_max);
                    let chunk = decode.slice(run.fed, end);
                    alone(&mut self.backend, state, &chunk, Rows::None).map(|_| {
                        run.fed = end;
                        if end == tokens_ready {
                            self.backend.checkpoint(state);
                        }
                        Turn::More
                    })
                } else {
                    let last = decode.slice(tokens_ready, tokens_ready + 1);
                    let prepare = &mut || decode.prepare();
                    let row = beside(&mut self.backend, state, &last, Rows::Last, prepare);
                    row.and_then(|logits| {
                        run.fed = tokens_ready + 1;
                        self.backend.checkpoint(state);
                        decode.step(logits, &self.facts).map(Turn::Step)
                    })
                }
            }
            Work::Question(question) => question.turn(&mut self.backend, state, &mut run.fed),
        };
        turn.unwrap_or_else(Turn::Failed)
    }

    fn deliver(&mut self, index: usize, turn: Turn) {
        if let Turn::Failed(EngineError::Backend(_)) = turn {
            // Nobody knows what the cache holds now.
            self.runs[index].state = None;
            self.runs[index].fed = 0;
        }
        match &mut self.runs[index].work {
            Work::Decode(decode) => {
                let mut board = self.shared.lock();
                let Some(mailbox) = board.mailboxes.get_mut(&decode.id) else {
                    return;
                };
                match turn {
                    Turn::Step(step) if mailbox.course.is_none() => {
                        mailbox.ended = step.finish.is_some();
                        mailbox.steps.push_back(step);
                    }
                    Turn::Failed(error) if mailbox.course.is_none() => {
                        mailbox.ended = true;
                        mailbox.failed = Some(error);
                    }
                    // Steered meanwhile: the step is void, and the course cuts the tape before the next turn.
                    _ => return,
                }
                let waiter = mailbox.waiter.take();
                drop(board);
                waiter.into_iter().for_each(std::task::Waker::wake);
            }
            Work::Question(question) => {
                if question.answer(turn) {
                    let run = self.runs.remove(index);
                    self.keep(run);
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
