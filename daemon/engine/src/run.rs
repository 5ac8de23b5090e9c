//! What the engine thread is busy with: jobs that decode, and questions that have one answer.

mod drafted;
mod far;

use std::{
    panic::{AssertUnwindSafe, catch_unwind},
    sync::Arc,
};

pub(crate) use self::drafted::Plan;
use crate::{
    fair::{Phase, Shares},
    guard::{Guard, Verdict, Watch},
    job::{Class, Constraint, EngineError, Finish, Job, Limits, SoulId, Step, TokenId},
    line::{Board, Course},
    mixture::Mixture,
    prefix::common_len,
    question::Question,
    sample::{History, Outlook, Sampler, adjust},
    sampling::Sampling,
    sequence::Fork,
    speculate::{Experience, Speculation, Speculator, Texts, model::Follower},
    thread::{Facts, panic_message},
};

/// A piece of work and its cache.
pub(crate) struct Run<S> {
    pub(crate) class: Class,
    /// Earlier ones go first among equals.
    pub(crate) arrival: u64,
    /// The adapter that it is computed with.
    pub(crate) soul: Option<SoulId>,
    pub(crate) work: Work,
    /// `None` until its first turn.
    pub(crate) state: Option<S>,
    /// How many tokens the cache has seen.
    pub(crate) fed: usize,
    /// What it was served in comparison with others.
    pub(crate) shares: Shares,
    /// Whether the board lets it have a turn; looked up before every half of a tick.
    pub(crate) wants: bool,
    /// The number of ticks that were over when it was submitted; `None` once it had a turn.
    pub(crate) submitted: Option<u64>,
    /// A pass over several sequences failed with this one among them: until one succeeds it is fed alone.
    pub(crate) solo: bool,
    /// One of several lines of the same beginning.
    pub(crate) is_fork: bool,
    /// Its cache is being read from the disk.
    pub(crate) restoring: bool,
    /// How many steps its caller has room for; looked up with `wants`.
    pub(crate) room: usize,
    /// The draft model's cache of it.
    pub(crate) follower: Option<Follower<S>>,
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
    /// The guard has cut the tape to this length.
    Back(usize),
    /// Every question has a last turn.
    Answered,
    Failed(EngineError),
}

impl<S> Run<S> {
    pub(crate) fn new(
        class: Class,
        arrival: u64,
        submitted: u64,
        soul: Option<SoulId>,
        work: Work,
    ) -> Self {
        Self {
            class,
            arrival,
            soul,
            work,
            state: None,
            fed: 0,
            shares: Shares::default(),
            wants: false,
            submitted: Some(submitted),
            solo: false,
            is_fork: false,
            restoring: false,
            room: 0,
            follower: None,
        }
    }

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

    /// How many steps may be decoded before the caller takes one.
    pub(crate) fn room(&self, board: &Board) -> usize {
        let Work::Decode(decode) = &self.work else { return 0 };
        let taken = board.mailboxes.get(&decode.id).map_or(0, |mailbox| mailbox.steps.len());
        (decode.limits.ahead_max as usize).saturating_sub(taken).max(1)
    }

    pub(crate) fn is_released(&self, board: &Board) -> bool {
        match &self.work {
            Work::Decode(decode) => !board.mailboxes.contains_key(&decode.id),
            Work::Question(question) => question.is_released(),
        }
    }

    /// Whether it has a cache, or is about to.
    pub(crate) fn has_begun(&self) -> bool {
        self.state.is_some() || self.restoring
    }

    /// What its next turn does.
    pub(crate) fn phase(&self) -> Phase {
        match &self.work {
            Work::Decode(decode) if !self.restoring && self.fed >= decode.read_len() => {
                Phase::Write
            }
            _ => Phase::Read,
        }
    }

    /// How many tokens it reads in chunks before it writes, or before it answers.
    pub(crate) fn read_len(&self) -> usize {
        match &self.work {
            Work::Decode(decode) => decode.read_len(),
            Work::Question(question) => question.prompt.len().saturating_sub(1),
        }
    }

    /// The tokens that this run feeds to its cache: all of them for a job, the prompt for a question.
    pub(crate) fn tokens(&self) -> Vec<TokenId> {
        match &self.work {
            Work::Decode(decode) => decode.slice(0, decode.len()),
            Work::Question(question) => question.prompt.clone(),
        }
    }

    /// What was submitted, without what was generated.
    pub(crate) fn prompt(&self) -> &[TokenId] {
        match &self.work {
            Work::Decode(decode) => &decode.prompt,
            Work::Question(question) => &question.prompt,
        }
    }

    /// The length of the common beginning of its tokens and others.
    pub(crate) fn common_len(&self, tokens: &[TokenId]) -> usize {
        match &self.work {
            Work::Decode(decode) => decode.common_len(tokens),
            Work::Question(question) => common_len(&question.prompt, tokens),
        }
    }

    /// Whether it may begin with, and leave behind, a cache that other work has filled.
    pub(crate) fn shares_prefix(&self) -> bool {
        match &self.work {
            Work::Decode(_) => true,
            Work::Question(question) => question.shares_prefix(),
        }
    }
}

/// A token that was drawn.
struct Drawn {
    token: TokenId,
    /// Under the model alone.
    logprob: f32,
    /// Under what it was drawn from.
    final_logprob: f32,
}

/// A job in progress.
pub(crate) struct Decode {
    pub(crate) id: u64,
    /// Forks share it.
    prompt: Arc<[TokenId]>,
    /// Generated so far, including steps that nobody took yet.
    tape: Vec<TokenId>,
    constraint: Option<Box<dyn Constraint>>,
    mixture: Option<Box<dyn Mixture>>,
    sampling: Sampling,
    sampler: Sampler,
    /// Looks for loops, where that is wanted.
    watch: Option<Watch>,
    /// Supposes tokens before they are drawn, where that is wanted.
    speculator: Option<Box<Speculator>>,
    pub(crate) limits: Limits,
    /// Rewinds since the seed was set.
    retry: u64,
    /// What came of the preparations of the constraint and the mixture.
    prepared: Result<(), EngineError>,
    /// The tape ends with a finishing step.
    pub(crate) finished: bool,
}

impl Decode {
    pub(crate) fn new(
        id: u64,
        job: Job,
        facts: &Facts,
        texts: &mut Texts,
        experience: &Experience,
    ) -> Self {
        let Job { prompt, constraint, mixture, sampling, limits, class, lookup, .. } = job;
        let prompt: Arc<[TokenId]> = prompt.into();
        let mode = match facts.speculation.and(job.speculation) {
            // What an adapter adds is multiplied as everywhere else.
            Speculation::Auto if job.soul.is_some() => Speculation::Off,
            mode => mode,
        };
        let is_watched = match sampling.guard {
            Guard::ByClass => class >= Class::Agent,
            Guard::On => true,
            Guard::Off => false,
        };
        Self {
            id,
            speculator: Speculator::new(mode, &prompt, lookup, texts, experience),
            prompt,
            tape: Vec::new(),
            constraint,
            mixture,
            sampling,
            sampler: Sampler::default(),
            watch: is_watched.then(|| Watch::new(facts.kinds.clone())),
            limits,
            retry: 0,
            prepared: Ok(()),
            finished: false,
        }
    }

    /// Another line from the first `len` tokens of the tape on.
    pub(crate) fn fork(&self, id: u64, len: usize, fork: Fork) -> Self {
        let len = len.min(self.tape.len());
        let mut watch = self.watch.clone();
        if let Some(watch) = &mut watch {
            watch.rewound(&self.tape[..len]);
        }
        Self {
            id,
            prompt: self.prompt.clone(),
            tape: self.tape[..len].to_vec(),
            watch,
            speculator: self.speculator.as_ref().map(|own| own.fork()),
            constraint: fork.constraint,
            mixture: self.mixture.as_ref().and_then(|own| own.fork()),
            sampling: Sampling { seed: fork.seed, ..self.sampling.clone() },
            sampler: Sampler::default(),
            limits: self.limits.clone(),
            retry: 0,
            prepared: Ok(()),
            finished: self.finished && len == self.tape.len(),
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

    /// How many tokens are read in chunks. The last one of the prompt is fed alone, as every generated token is.
    pub(crate) fn read_len(&self) -> usize {
        self.prompt.len() - 1
    }

    /// The length of the common beginning of prompt and tape with `tokens`.
    fn common_len(&self, tokens: &[TokenId]) -> usize {
        let shared = common_len(&self.prompt, tokens);
        if shared < self.prompt.len() {
            return shared;
        }
        shared + common_len(&self.tape, &tokens[shared..])
    }

    /// Applies what the caller wished.
    pub(crate) fn steer(&mut self, course: Course) {
        if course.len < self.tape.len() {
            self.cut(course.len);
        }
        if let Some((seed, temperature)) = course.reseed {
            self.sampling.seed = seed;
            self.sampling.temperature = temperature;
            self.retry = 0;
        }
        self.retry += course.rewinds;
    }

    fn cut(&mut self, len: usize) {
        self.tape.truncate(len);
        self.finished = false;
        if let Some(constraint) = &mut self.constraint {
            let _ = catch_unwind(AssertUnwindSafe(|| constraint.rewound(len)));
        }
        if let Some(mixture) = &mut self.mixture {
            let _ = catch_unwind(AssertUnwindSafe(|| mixture.rewound(len)));
        }
        if let Some(watch) = &mut self.watch {
            watch.rewound(&self.tape);
        }
        if let Some(speculator) = &mut self.speculator {
            speculator.cut(len);
        }
    }

    /// Draws the next token from its logits and puts it on the tape; or cuts the tape, where this token completes a loop. Where the
    /// constraint forces it, there is nothing to draw.
    fn step(
        &mut self,
        mut logits: Vec<f32>,
        forced: Option<TokenId>,
        facts: &Facts,
    ) -> Result<Turn, EngineError> {
        let position = self.tape.len();
        let least = u32::from(self.mixture.is_some());
        let mut outlook = Outlook::of(&logits, self.sampling.top_len.max(least))
            .ok_or(EngineError::NotANumber { position })?;
        std::mem::replace(&mut self.prepared, Ok(()))?;
        self.mix(&mut logits, &mut outlook)?;
        let certain = forced.and_then(|token| Some((token, *logits.get(token as usize)?)));
        let drawn = match certain {
            Some((token, logit)) if logit > f32::NEG_INFINITY => {
                Drawn { token, logprob: logit - outlook.normaliser, final_logprob: 0.0 }
            }
            Some(_) => return Err(EngineError::NothingAllowed { position }),
            None => self.draw(logits, outlook.normaliser, position)?,
        };
        self.tape.push(drawn.token);
        Ok(self.settle(drawn, position, outlook, facts))
    }

    /// Blends what the job's mixture says into the model's logits.
    fn mix(&mut self, logits: &mut [f32], outlook: &mut Outlook) -> Result<(), EngineError> {
        let (Some(mixture), Some(opinion)) = (&mut self.mixture, outlook.opinion()) else {
            return Ok(());
        };
        let shares =
            guarded(|| mixture.shares(&self.tape, opinion)).map_err(EngineError::Mixture)?;
        outlook.blend(logits, &shares, self.sampling.top_len as usize);
        Ok(())
    }

    /// A token from the model's logits, whose normaliser is known.
    fn draw(
        &mut self,
        mut logits: Vec<f32>,
        normaliser: f32,
        position: usize,
    ) -> Result<Drawn, EngineError> {
        let remedy = self.watch.as_ref().and_then(|watch| watch.remedy(&self.sampling, position));
        let sampling = remedy.as_ref().map_or(&self.sampling, |remedy| &remedy.sampling);
        let is_changed = self.constraint.is_some() || sampling.adjusts();
        if is_changed {
            self.sampler.remember(&logits);
        }
        let history = History { prompt: &self.prompt, tape: &self.tape };
        adjust(&mut logits, sampling, history);
        if let Some(constraint) = &mut self.constraint {
            caught(|| constraint.apply(&self.tape, &mut logits))?;
        }
        // Behind the constraint, which may leave nothing else.
        let banned = remedy.as_ref().and_then(|remedy| remedy.banned);
        let spared = banned.and_then(|token| {
            let logit = logits.get_mut(token as usize)?;
            Some((token, std::mem::replace(logit, f32::NEG_INFINITY)))
        });
        let mut drawn = self.sampler.draw(&logits, sampling, position, self.retry);
        if let (None, Some((token, logit))) = (drawn, spared) {
            logits[token as usize] = logit;
            drawn = self.sampler.draw(&logits, sampling, position, self.retry);
        }
        let token = drawn.ok_or(EngineError::NothingAllowed { position })?;
        let logit = logits[token as usize];
        let (own, left) = if is_changed {
            let own = self.sampler.raw(token).unwrap_or(logit);
            (own, self.sampler.normaliser(&logits, normaliser))
        } else {
            (logit, normaliser)
        };
        Ok(Drawn { token, logprob: own - normaliser, final_logprob: logit - left })
    }

    /// What follows from a token that was put on the tape.
    fn settle(&mut self, drawn: Drawn, position: usize, outlook: Outlook, facts: &Facts) -> Turn {
        let Drawn { token, logprob, final_logprob } = drawn;
        let mut finish = self.end_at(token, facts);
        let mut settled = self.tape.len();
        if let Some(watch) = &mut self.watch {
            let verdict = watch.look(&self.tape);
            // What has ended is not taken back.
            if finish.is_none() {
                settled = watch.settled();
            }
            match verdict {
                Verdict::Back(len) if finish.is_none() => {
                    self.retry += 1;
                    self.cut(len);
                    return Turn::Back(len);
                }
                Verdict::End if finish.is_none() => finish = Some(Finish::Collapse),
                _ => {}
            }
        }
        self.finished = finish.is_some();
        let Outlook { entropy, top, .. } = outlook;
        Turn::Step(Step {
            token,
            position,
            logprob,
            final_logprob: Some(final_logprob),
            entropy,
            top,
            settled,
            rewound_to: None,
            finish,
        })
    }

    /// Whether the sequence ends with `token`, which is on its tape.
    fn end_at(&self, token: TokenId, facts: &Facts) -> Option<Finish> {
        if facts.eos.contains(&token) || self.limits.stop.contains(&token) {
            return Some(Finish::Stop);
        }
        let is_full =
            self.tape.len() >= self.limits.tokens_max as usize || self.len() >= facts.context_max;
        is_full.then_some(Finish::Length)
    }
}

/// Runs a caller's constraint, which must not take the engine down.
fn caught(call: impl FnOnce()) -> Result<(), EngineError> {
    guarded(call).map_err(EngineError::Constraint)
}

/// Runs what a caller has plugged in; what its panic said, if it panicked.
fn guarded<T>(call: impl FnOnce() -> T) -> Result<T, String> {
    catch_unwind(AssertUnwindSafe(call)).map_err(|panic| panic_message(panic.as_ref()))
}
