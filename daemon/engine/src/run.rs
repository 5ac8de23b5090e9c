//! What the engine thread is busy with: jobs that decode, and questions that have one answer.

use std::panic::{AssertUnwindSafe, catch_unwind};

use crate::{
    backend::{Backend, Feed, Rows},
    job::{Class, Constraint, EngineError, Finish, Job, Limits, Step, TokenId},
    line::{Ask, Board, Course},
    sample::{History, Outlook, Sampler, adjust, log_sum_exp},
    sampling::Sampling,
    thread::{Facts, panic_message},
};

/// A piece of work and its cache.
pub(crate) struct Run<S> {
    pub(crate) class: Class,
    /// Earlier ones go first within a class.
    pub(crate) arrival: u64,
    pub(crate) work: Work,
    /// `None` until its first turn.
    pub(crate) state: Option<S>,
    /// How many tokens the cache has seen.
    pub(crate) fed: usize,
}

pub(crate) enum Work {
    Decode(Box<Decode>),
    Question(Question),
}

/// What a unit of work came to.
pub(crate) enum Turn {
    /// There is more to do before anything can be said.
    More,
    /// A token.
    Step(Step),
    /// Every question has a last turn.
    Answered,
    Failed(EngineError),
}

impl<S> Run<S> {
    pub(crate) fn wants_turn(&self, board: &Board) -> bool {
        let Work::Decode(decode) = &self.work else {
            return true;
        };
        let Some(mailbox) = board.mailboxes.get(&decode.id) else {
            return false;
        };
        if mailbox.ended || decode.finished {
            return false;
        }
        let prefills = self.fed + 1 < decode.len();
        let ahead = mailbox.steps.len() < decode.limits.ahead_max as usize;
        prefills || ahead || (mailbox.steps.is_empty() && mailbox.waiter.is_some())
    }

    pub(crate) fn is_released(&self, board: &Board) -> bool {
        match &self.work {
            Work::Decode(decode) => !board.mailboxes.contains_key(&decode.id),
            Work::Question(question) => question.is_released(),
        }
    }

    /// The tokens that this run feeds to its cache: all of them for a job, the prompt for a question.
    pub(crate) fn tokens(&self) -> Vec<TokenId> {
        match &self.work {
            Work::Decode(decode) => decode.slice(0, decode.len()),
            Work::Question(question) => question.prompt.clone(),
        }
    }

    /// Whether it may begin with, and leave behind, a cache that other work has filled. Plain logits are computed afresh, so that
    /// they depend on nothing but their tokens.
    pub(crate) fn shares_prefix(&self) -> bool {
        !matches!(&self.work, Work::Question(Question { kind: Kind::Logits { .. }, .. }))
    }
}

/// A job in progress.
pub(crate) struct Decode {
    pub(crate) id: u64,
    prompt: Vec<TokenId>,
    /// Generated so far, including steps that nobody took yet.
    tape: Vec<TokenId>,
    constraint: Option<Box<dyn Constraint>>,
    sampling: Sampling,
    sampler: Sampler,
    pub(crate) limits: Limits,
    /// Rewinds since the seed was set.
    retry: u64,
    /// What came of the constraint's preparation.
    prepared: Result<(), EngineError>,
    /// The tape ends with a finishing step.
    pub(crate) finished: bool,
}

impl Decode {
    pub(crate) fn new(id: u64, job: Job) -> Self {
        let Job { prompt, constraint, sampling, limits, class: _ } = job;
        Self {
            id,
            prompt,
            tape: Vec::new(),
            constraint,
            sampling,
            sampler: Sampler::default(),
            limits,
            retry: 0,
            prepared: Ok(()),
            finished: false,
        }
    }

    /// Length of prompt and tape.
    pub(crate) fn len(&self) -> usize {
        self.prompt.len() + self.tape.len()
    }

    /// The tokens `start..end` of prompt and tape.
    pub(crate) fn slice(&self, start: usize, end: usize) -> Vec<TokenId> {
        let all = self.prompt.iter().chain(&self.tape);
        all.skip(start).take(end - start).copied().collect()
    }

    /// Where a pass that begins at `start` and gives no logits ends. What was generated is fed again as it was fed first, token by
    /// token, so that the logits after it are the same to the last bit.
    pub(crate) fn chunk_end(&self, start: usize, chunk_len_max: usize) -> usize {
        let read = self.prompt.len() - 1;
        if start < read { read.min(start + chunk_len_max) } else { start + 1 }
    }

    /// Applies what the caller wished.
    pub(crate) fn steer(&mut self, course: Course) {
        if course.len < self.tape.len() {
            self.tape.truncate(course.len);
            self.finished = false;
            if let Some(constraint) = &mut self.constraint {
                let _ = catch_unwind(AssertUnwindSafe(|| constraint.rewound(course.len)));
            }
        }
        if let Some((seed, temperature)) = course.reseed {
            self.sampling.seed = seed;
            self.sampling.temperature = temperature;
            self.retry = 0;
        }
        self.retry += course.rewinds;
    }

    /// What can be done for the next draw while its logits are computed.
    pub(crate) fn prepare(&mut self) {
        if let Some(constraint) = &mut self.constraint {
            let tape = &self.tape;
            self.prepared = caught(|| constraint.prepare(tape));
        }
    }

    /// Draws the next token from its logits and puts it on the tape.
    pub(crate) fn step(
        &mut self,
        mut logits: Vec<f32>,
        facts: &Facts,
    ) -> Result<Step, EngineError> {
        let position = self.tape.len();
        let outlook = Outlook::of(&logits, self.sampling.top_len)
            .ok_or(EngineError::NotANumber { position })?;
        std::mem::replace(&mut self.prepared, Ok(()))?;
        let raw = (self.constraint.is_some() || self.sampling.adjusts()).then(|| logits.clone());
        let history = History { prompt: &self.prompt, tape: &self.tape };
        adjust(&mut logits, &self.sampling, history);
        if let Some(constraint) = &mut self.constraint {
            caught(|| constraint.apply(&self.tape, &mut logits))?;
        }
        let token = self
            .sampler
            .draw(&logits, &self.sampling, position, self.retry)
            .ok_or(EngineError::NothingAllowed { position })?;
        let logprob = raw.as_ref().unwrap_or(&logits)[token as usize] - outlook.normaliser;
        self.tape.push(token);
        let finish = if facts.eos.contains(&token) || self.limits.stop.contains(&token) {
            Some(Finish::Stop)
        } else if self.tape.len() >= self.limits.tokens_max as usize
            || self.len() >= facts.context_max
        {
            Some(Finish::Length)
        } else {
            None
        };
        self.finished = finish.is_some();
        Ok(Step { token, position, logprob, entropy: outlook.entropy, top: outlook.top, finish })
    }
}

/// Runs a caller's constraint, which must not take the engine down.
fn caught(call: impl FnOnce()) -> Result<(), EngineError> {
    catch_unwind(AssertUnwindSafe(call)).map_err(|panic| {
        let message = panic_message(panic.as_ref());
        EngineError::Backend(format!("the constraint panicked: {message}"))
    })
}

/// A question in progress.
pub(crate) struct Question {
    pub(crate) prompt: Vec<TokenId>,
    kind: Kind,
}

enum Kind {
    Logits {
        logits: Vec<f32>,
        reply: Option<Reply<Vec<f32>>>,
    },
    Score {
        continuations: Vec<Vec<TokenId>>,
        /// One row per continuation begun; the last one may be unfinished.
        scores: Vec<Vec<f32>>,
        reply: Option<Reply<Vec<Vec<f32>>>>,
    },
}

type Reply<T> = tokio::sync::oneshot::Sender<Result<T, EngineError>>;

impl Question {
    pub(crate) fn new(ask: Ask) -> Self {
        match ask {
            Ask::Logits { tokens, reply } => Self {
                prompt: tokens,
                kind: Kind::Logits { logits: Vec::new(), reply: Some(reply) },
            },
            Ask::Score { prompt, continuations, reply } => Self {
                prompt,
                kind: Kind::Score { continuations, scores: Vec::new(), reply: Some(reply) },
            },
        }
    }

    fn is_released(&self) -> bool {
        match &self.kind {
            Kind::Logits { reply, .. } => reply.as_ref().is_none_or(|reply| reply.is_closed()),
            Kind::Score { reply, .. } => reply.as_ref().is_none_or(|reply| reply.is_closed()),
        }
    }

    /// One forward pass of at most a chunk.
    pub(crate) fn turn<B: Backend>(
        &mut self,
        backend: &mut B,
        state: &mut B::State,
        fed: &mut usize,
    ) -> Result<Turn, EngineError> {
        match &mut self.kind {
            Kind::Logits { logits, .. } => {
                let end = self.prompt.len().min(*fed + backend.chunk_len_max(*fed));
                let is_last = end == self.prompt.len();
                let rows = if is_last { Rows::Last } else { Rows::None };
                *logits = alone(backend, state, &self.prompt[*fed..end], rows)?;
                *fed = end;
                Ok(if is_last { Turn::Answered } else { Turn::More })
            }
            Kind::Score { continuations, scores, .. } => {
                let prefix = self.prompt.len() - 1;
                if *fed < prefix {
                    let end = prefix.min(*fed + backend.chunk_len_max(*fed));
                    alone(backend, state, &self.prompt[*fed..end], Rows::None)?;
                    *fed = end;
                    return Ok(Turn::More);
                }
                score_chunk(backend, state, &self.prompt, continuations, scores)?;
                // Less, where the cache cannot be cut back to the prompt: it is fed again.
                *fed = backend.len(state).min(prefix);
                Ok(if is_scored(continuations, scores) { Turn::Answered } else { Turn::More })
            }
        }
    }

    /// Sends the answer when there is one; `true` when the question is done with.
    pub(crate) fn answer(&mut self, turn: Turn) -> bool {
        let error = match turn {
            Turn::More | Turn::Step(_) => return false,
            Turn::Answered => None,
            Turn::Failed(error) => Some(error),
        };
        // A caller that went away meanwhile is no error.
        match &mut self.kind {
            Kind::Logits { logits, reply } => {
                let answer = error.map_or_else(|| Ok(std::mem::take(logits)), Err);
                reply.take().map(|reply| reply.send(answer));
            }
            Kind::Score { scores, reply, .. } => {
                let answer = error.map_or_else(|| Ok(std::mem::take(scores)), Err);
                reply.take().map(|reply| reply.send(answer));
            }
        }
        true
    }
}

/// A pass over one sequence.
pub(crate) fn alone<B: Backend>(
    backend: &mut B,
    state: &mut B::State,
    tokens: &[TokenId],
    rows: Rows,
) -> Result<Vec<f32>, EngineError> {
    beside(backend, state, tokens, rows, &mut || {})
}

/// One pass over one sequence, with something to do while the machine computes.
pub(crate) fn beside<B: Backend>(
    backend: &mut B,
    state: &mut B::State,
    tokens: &[TokenId],
    rows: Rows,
    meanwhile: &mut dyn FnMut(),
) -> Result<Vec<f32>, EngineError> {
    let rows = backend.forward(None, &mut [Feed { state, tokens, rows }], meanwhile)?;
    Ok(rows.into_iter().next().unwrap_or_default())
}

/// Scores the next chunk of the continuation in progress. The cache is left at `prompt.len() - 1` tokens after the last chunk of
/// each continuation.
fn score_chunk<B: Backend>(
    backend: &mut B,
    state: &mut B::State,
    prompt: &[TokenId],
    continuations: &[Vec<TokenId>],
    scores: &mut Vec<Vec<f32>>,
) -> Result<(), EngineError> {
    if scores.last().is_none_or(|row| row.len() == continuations[scores.len() - 1].len()) {
        if scores.len() == continuations.len() {
            return Ok(());
        }
        scores.push(Vec::new());
    }
    let continuation = &continuations[scores.len() - 1];
    let Some(row) = scores.last_mut() else {
        return Ok(());
    };
    let start = row.len();
    let end = continuation.len().min(start + backend.chunk_len_max(prompt.len() - 1 + start));
    if start < end {
        // Token i is judged by the logits after token i - 1, the first one by those after the prompt.
        let before = prompt[prompt.len() - 1..].iter().chain(continuation).copied();
        let chunk: Vec<TokenId> = before.skip(start).take(end - start).collect();
        let logits = alone(backend, state, &chunk, Rows::All)?;
        let vocabulary = logits.len() / chunk.len();
        for (logits, &token) in logits.chunks(vocabulary).zip(&continuation[start..end]) {
            let normaliser =
                log_sum_exp(logits).ok_or(EngineError::NotANumber { position: row.len() })?;
            row.push(logits[token as usize] - normaliser);
        }
    }
    if end == continuation.len() {
        backend.truncate(state, prompt.len() - 1);
    }
    Ok(())
}

fn is_scored(continuations: &[Vec<TokenId>], scores: &[Vec<f32>]) -> bool {
    scores.len() == continuations.len()
        && scores
            .last()
            .zip(continuations.last())
            .is_none_or(|(row, continuation)| row.len() == continuation.len())
}
