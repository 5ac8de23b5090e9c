//! The thread of a remote engine: what callers wish goes out as requests, and what is answered goes to their mailboxes.
//!
//! It keeps the promises of the thread that computes itself: classes pre-empt each other, a dropped sequence ends its request at
//! once, a rewind takes back what came after it. A place of the server that somebody more urgent needs is taken from the least
//! urgent job, which goes on later from where it was.

use std::sync::Arc;

use tokio::{
    sync::mpsc::{self, Receiver, Sender},
    task::{JoinSet, LocalSet},
};

use super::{
    fault::Fault,
    hear::Heard,
    run::{NOTHING, Outcome, Request, Run},
    server::Server,
    stream::{stream, survived, whole},
};
use crate::{
    ending,
    info::MountError,
    job::{EngineError, Job, TokenId},
    line::{self, Ask, Board, Line, Ticket},
    question::Scored,
    run::Decode,
    speculate::{Experience, Texts},
    stats::Stats,
    thread::{Facts, panic_message},
};

/// How many requests are sent at once, where the server does not say how many it computes.
const REQUESTS_MAX: usize = 8;
/// How many are sent at once to a server that says that it computes more.
const REQUESTS_TOLD_MAX: usize = 256;
/// How many things a server has said may wait to be looked at.
const HEARD_MAX: usize = 256;

/// What a request brings.
enum News {
    Heard(Vec<Heard>),
    Over(Result<(), Fault>),
}

/// The run's number, the request's, and what it brought.
type Note = (u64, u64, News);

struct Runner {
    shared: Arc<line::Shared>,
    server: Arc<Server>,
    facts: Facts,
    runs: Vec<Run>,
    notes: Receiver<Note>,
    post: Sender<Note>,
    /// Questions that are being asked.
    questions: JoinSet<()>,
    generation: u64,
    arrivals: u64,
    stats: Stats,
}

/// Starts the thread. `open` runs on it and finds out what the server is.
pub(super) fn start<T: Send + 'static>(
    open: impl AsyncFnOnce() -> Result<(Server, Facts, T), String> + Send + 'static,
) -> Result<(Line, T), String> {
    let mut line = Line::new();
    let shared = line.shared.clone();
    ending::remember(&shared);
    let (opened, wait) = std::sync::mpsc::sync_channel(1);
    let body = move || {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
        let runtime = match runtime {
            Ok(runtime) => runtime,
            Err(error) => return drop(opened.send(Err(error.to_string()))),
        };
        let found = std::panic::AssertUnwindSafe(|| {
            runtime.block_on(async {
                tokio::select! {
                    found = open() => found,
                    () = closed(&shared) => Err("it is not wanted any more".to_owned()),
                }
            })
        });
        let found = match std::panic::catch_unwind(found) {
            Ok(found) => found,
            Err(panic) => Err(panic_message(panic.as_ref())),
        };
        let (server, facts, extra) = match found {
            Ok(parts) => parts,
            Err(error) => {
                // A name that is still being looked up is not waited for.
                runtime.shutdown_background();
                return drop(opened.send(Err(error)));
            }
        };
        let _ = opened.send(Ok(extra)); // The caller waits below; it cannot be gone.
        let (post, notes) = mpsc::channel(HEARD_MAX);
        let mut runner = Runner {
            shared: shared.clone(),
            server: Arc::new(server),
            facts,
            runs: Vec::new(),
            notes,
            post,
            questions: JoinSet::new(),
            generation: 0,
            arrivals: 0,
            stats: Stats::default(),
        };
        let tasks = LocalSet::new();
        let worked = std::panic::AssertUnwindSafe(|| tasks.block_on(&runtime, runner.run()));
        let reason = match std::panic::catch_unwind(worked) {
            Ok(()) => "it was unloaded".to_owned(),
            Err(panic) => {
                let reason = format!("its thread panicked: {}", panic_message(panic.as_ref()));
                tracing::error!("the remote engine stopped: {reason}");
                reason
            }
        };
        shared.take_down(&reason);
        drop(runner);
        drop(tasks);
        runtime.shutdown_background();
        shared.leave();
    };
    let spawned = std::thread::Builder::new().name("engine-remote".to_owned()).spawn(body);
    line.thread = Some(spawned.map_err(|error| format!("no thread: {error}"))?);
    let extra = wait.recv().unwrap_or_else(|_| Err("its thread is gone".to_owned()))?;
    Ok((line, extra))
}

/// Ready when nobody wants the engine any more.
async fn closed(shared: &line::Shared) {
    while !shared.lock().closed {
        shared.rung().await;
    }
}

impl Runner {
    async fn run(&mut self) {
        let shared = self.shared.clone();
        loop {
            {
                let mut board = shared.lock();
                if board.closed {
                    return;
                }
                self.look(&mut board);
            }
            let worked = self.work();
            self.send();
            if worked {
                continue; // There may be room for more.
            }
            tokio::select! {
                () = shared.rung() => {}
                Some(note) = self.notes.recv() => {
                    self.read(note);
                    while let Ok(note) = self.notes.try_recv() {
                        self.read(note);
                    }
                }
                Some(_) = self.questions.join_next() => {}
            }
        }
    }

    /// Takes in what callers wish: new work, what was released, changes of course.
    fn look(&mut self, board: &mut Board) {
        while let Some(request) = board.inbox.pop_front() {
            self.take_in(board, request);
        }
        self.runs.retain(|run| board.mailboxes.contains_key(&run.decode.id));
        for run in &mut self.runs {
            let Some(mailbox) = board.mailboxes.get_mut(&run.decode.id) else { continue };
            if let Some(course) = mailbox.course.take() {
                run.decode.steer(course);
                run.steered();
                if run.decode.finished {
                    mailbox.end();
                }
            }
        }
        for run in &mut self.runs {
            run.look(board);
        }
        board.stats = self.stats;
    }

    fn take_in(&mut self, board: &mut Board, request: line::Request) {
        match request {
            line::Request::Job { id, job, .. } => self.begin(board, id, job),
            line::Request::Ask { ask, ticket, .. } => self.question(ask, ticket),
            line::Request::Fork { from, len, first, forks, .. } => {
                for (id, fork) in (first..).zip(forks) {
                    let origin = self.runs.iter().find(|run| run.decode.id == from);
                    let Some(mailbox) = board.mailboxes.get_mut(&id) else { continue };
                    let Some(origin) = origin else {
                        let reason = "the sequence that it comes from is gone".to_owned();
                        mailbox.fail(EngineError::Backend(reason));
                        continue;
                    };
                    let decode = origin.decode.fork(id, len, fork);
                    if decode.tape_len() < len {
                        mailbox.cut(decode.tape_len());
                    }
                    if decode.finished {
                        mailbox.end();
                    }
                    let run = origin.fork(decode, self.arrivals);
                    self.arrivals += 1;
                    self.runs.push(run);
                }
            }
            line::Request::Mount { dir, reply } => {
                let reason = "adapters cannot be sent to a remote engine; have the server load it";
                let _ = reply.send(Err(MountError { path: dir, reason: reason.to_owned() }));
            }
            line::Request::Bytes { reply } => drop(reply.send(0)),
            // The server's caches are the server's.
            line::Request::Keep { .. }
            | line::Request::Shrink { .. }
            | line::Request::Spill { .. }
            | line::Request::Written { .. }
            | line::Request::Unmount { .. } => {}
        }
    }

    fn begin(&mut self, board: &mut Board, id: u64, job: Job) {
        if job.soul.is_some() {
            if let Some(mailbox) = board.mailboxes.get_mut(&id) {
                let reason = "a remote engine has no adapters of ours".to_owned();
                mailbox.fail(EngineError::Refused(reason));
            }
            return;
        }
        let class = job.class;
        // A server's own distribution is not seen, so there is nothing to blend into.
        let job = Job { mixture: None, ..job };
        let decode = Decode::new(
            id,
            job,
            &self.facts,
            &mut Texts::default(), // Nothing is supposed: the server does that.
            &Experience::default(),
        );
        self.runs.push(Run::new(decode, class, self.arrivals));
        self.arrivals += 1;
    }

    /// Asks beside the jobs: a question has one answer, and its reply end says whether anybody waits.
    fn question(&mut self, ask: Ask, ticket: Ticket) {
        let server = self.server.clone();
        match ask {
            Ask::Logits { reply, .. } => {
                let why =
                    "a server does not tell the logits of all tokens; use a model of this machine";
                let _ = reply.send(Err(refused(&server, why)));
            }
            Ask::Score { prompt, continuations, mut reply } => {
                let answer = async move {
                    let _ticket = ticket;
                    let scoring = score(&server, &prompt, &continuations);
                    let scores = tokio::select! {
                        scores = scoring => scores,
                        () = reply.closed() => return,
                    };
                    let plain = |logprob| Scored { logprob, opinion: None };
                    let rows = |scores: Vec<Vec<f32>>| {
                        scores.into_iter().map(|row| row.into_iter().map(plain).collect()).collect()
                    };
                    let _ = reply.send(scores.map(rows));
                };
                self.questions.spawn_local(answer);
            }
        }
    }

    /// Puts what has come on the tapes and into the mailboxes; whether there was anything.
    fn work(&mut self) -> bool {
        let mut worked = Vec::new();
        for (index, run) in self.runs.iter_mut().enumerate() {
            let outcomes = run.take(&self.server, &self.facts);
            if !outcomes.is_empty() {
                worked.push((index, outcomes));
            }
        }
        let any = !worked.is_empty();
        let mut wakers = Vec::new();
        let mut board = self.shared.lock();
        for (index, outcomes) in worked {
            let id = self.runs[index].decode.id;
            let Some(mailbox) = board.mailboxes.get_mut(&id) else { continue };
            for outcome in outcomes {
                if let Outcome::Back(len) = outcome {
                    mailbox.cut(len);
                    continue;
                }
                // Where it was steered meanwhile, the step is void, and the course cuts the tape.
                if mailbox.course.is_some() {
                    continue;
                }
                match outcome {
                    Outcome::Step(step) => {
                        mailbox.ended = step.finish.is_some();
                        mailbox.steps.push_back(step);
                    }
                    Outcome::Ended => mailbox.ended = true,
                    Outcome::Failed(error) => {
                        mailbox.ended = true;
                        mailbox.failed = Some(error);
                    }
                    Outcome::Back(_) => {}
                }
                wakers.extend(mailbox.waiter.take());
            }
        }
        self.stats.ticks += u64::from(any);
        board.stats = self.stats;
        drop(board);
        wakers.into_iter().for_each(std::task::Waker::wake);
        any
    }

    /// Sends what wants to be sent, the most urgent first.
    fn send(&mut self) {
        let told = self.server.capabilities.parallel;
        let places = told.map_or(REQUESTS_MAX, |places| places.min(REQUESTS_TOLD_MAX));
        let mut waiting: Vec<usize> =
            (0..self.runs.len()).filter(|&index| self.runs[index].wants_request()).collect();
        waiting.sort_by_key(|&index| (self.runs[index].class, self.runs[index].arrival));
        for index in waiting {
            let busy = self.runs.iter().filter(|run| run.request.is_some()).count();
            if busy >= places && !self.give_way(index) {
                break;
            }
            self.request(index);
            let busy = self.runs.iter().filter(|run| run.request.is_some()).count();
            self.stats.batch_len_max = self.stats.batch_len_max.max(busy);
        }
    }

    /// Takes the place of the least urgent job, if it is less urgent than this one.
    fn give_way(&mut self, index: usize) -> bool {
        let class = self.runs[index].class;
        let running = self.runs.iter_mut().filter(|run| run.request.is_some());
        match running.max_by_key(|run| (run.class, run.arrival)) {
            Some(run) if run.class > class => {
                run.interrupt();
                true
            }
            _ => false,
        }
    }

    fn request(&mut self, index: usize) {
        let (server, post) = (self.server.clone(), self.post.clone());
        self.generation += 1;
        let generation = self.generation;
        let run = &mut self.runs[index];
        let id = run.decode.id;
        let mut ask = match run.ask(&server, &self.facts) {
            Ok(ask) => ask,
            Err(fault) => {
                run.fail(fault);
                // It is looked at again before anything is waited for.
                let _ = self.post.try_send((id, 0, News::Heard(Vec::new())));
                return;
            }
        };
        let task = tokio::task::spawn_local(async move {
            let tell = async |heard: Vec<Heard>| {
                post.send((id, generation, News::Heard(heard))).await.is_ok()
            };
            let answer = async {
                if let Some(wanted) = ask.wanted.take() {
                    ask.grammar = server.grammar(&wanted).await;
                }
                let body = server.body(&ask);
                if ask.streams {
                    return stream(&server.client, server.kind, &body, tell).await;
                }
                tell(whole(&server.client, server.kind, &body).await?).await;
                Ok(())
            };
            let over = survived(answer).await;
            let _ = post.send((id, generation, News::Over(over))).await;
        });
        run.request = Some(Request { generation, task: task.abort_handle(), is_counted: false });
    }

    fn read(&mut self, (id, generation, news): Note) {
        let is_it = |run: &&mut Run| {
            let request = run.request.as_ref();
            run.decode.id == id && request.is_some_and(|request| request.generation == generation)
        };
        let Some(run) = self.runs.iter_mut().find(is_it) else { return };
        match news {
            News::Heard(heard) => {
                for heard in heard {
                    match heard {
                        Heard::Piece(_) => self.stats.tokens_decoded += 1,
                        Heard::Usage { prompt, cached } if run.counts() => {
                            let cached = cached.unwrap_or(0).min(prompt) as u64;
                            let Stats { tokens_prefilled, tokens_reused, .. } = &mut self.stats;
                            *tokens_prefilled =
                                tokens_prefilled.saturating_add(prompt as u64 - cached);
                            *tokens_reused = tokens_reused.saturating_add(cached);
                        }
                        _ => {}
                    }
                    run.hear(heard, &self.server, &self.facts);
                }
            }
            News::Over(Err(fault)) => run.fail(fault),
            News::Over(Ok(())) => run.answered(Fault::garbage(NOTHING)),
        }
    }
}

async fn score(
    server: &Server,
    prompt: &[TokenId],
    continuations: &[Vec<TokenId>],
) -> Result<Vec<Vec<f32>>, EngineError> {
    let failed = |fault: Fault| EngineError::Remote(server.client.told(&fault));
    if !server.scores().await.map_err(failed)? {
        let why = "it does not tell the probability of a given text, so candidates cannot be scored on it";
        return Err(refused(server, why));
    }
    let mut scores = Vec::with_capacity(continuations.len());
    for continuation in continuations {
        scores.push(server.score(prompt, continuation).await.map_err(failed)?);
    }
    Ok(scores)
}

fn refused(server: &Server, why: &str) -> EngineError {
    EngineError::Refused(format!("{}: {why}", server.client.url))
}
