//! Drafts from a small model with the same tokenizer, on the same thread.
//!
//! It has a cache of its own for every sequence that it drafts for, which follows the sequence's tokens: what was cut off or drafted in
//! vain is cut off here too. It draws with the sequence's own random numbers, so that where both models think alike they draw alike
//! at any temperature.

use std::time::{Duration, Instant};

use crate::{
    backend::{Backend, Feed, Rows},
    job::{EngineError, SoulId, TokenId},
    prefix::common_len,
    sample::Sampler,
    sampling::Sampling,
};

/// It says at most so many tokens at once.
pub(crate) const MODEL_DRAFT_LEN_MAX: usize = 8;

/// The draft model's cache of a sequence.
pub(crate) struct Follower<S> {
    state: S,
    /// What it has seen.
    tokens: Vec<TokenId>,
}

impl<S> Follower<S> {
    pub(crate) fn state(&self) -> &S {
        &self.state
    }
}

/// How tokens of a sequence are drawn, from some position on.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Draws<'a> {
    pub(crate) sampling: &'a Sampling,
    pub(crate) position: usize,
    pub(crate) retry: u64,
}

/// The draft model.
pub(crate) struct Drafter<B: Backend> {
    pub(crate) backend: B,
    sampler: Sampler,
}

/// What it has said, and how long that took it, without what it had to read before.
#[derive(Debug, Default)]
pub(crate) struct Said {
    pub(crate) tokens: Vec<TokenId>,
    pub(crate) took: Duration,
}

impl<B: Backend> Drafter<B> {
    pub(crate) fn new(backend: B) -> Self {
        Self { backend, sampler: Sampler::default() }
    }

    /// What would come behind `tokens`: `len` tokens, or none while there is more to read than one pass may.
    pub(crate) fn draft(
        &mut self,
        follower: &mut Option<Follower<B::State>>,
        tokens: Vec<TokenId>,
        len: usize,
        draws: Draws<'_>,
    ) -> Result<Said, EngineError> {
        let mut own = match follower.take() {
            Some(own) => own,
            None => Follower { state: self.backend.fresh(), tokens: Vec::new() },
        };
        let common = common_len(&own.tokens, &tokens).min(tokens.len() - 1);
        if common < own.tokens.len() {
            self.backend.truncate(&mut own.state, common);
        }
        let fed = self.backend.len(&own.state);
        own.tokens.truncate(fed);
        let end = tokens.len().min(fed + self.backend.chunk_len_max(None, fed));
        let is_behind = end < tokens.len();
        let rows = if is_behind { Rows::None } else { Rows::Last };
        let mut logits = self.feed(&mut own, &tokens[fed..end], rows)?;
        let mut said = Said::default();
        let started = Instant::now();
        while !is_behind && said.tokens.len() < len {
            let position = draws.position + said.tokens.len();
            let drawn = self.sampler.draw(&logits, draws.sampling, position, draws.retry);
            let Some(token) = drawn else { break };
            said.tokens.push(token);
            if said.tokens.len() < len {
                logits = self.feed(&mut own, &[token], Rows::Last)?;
            }
        }
        said.took = started.elapsed();
        *follower = Some(own);
        Ok(said)
    }

    fn feed(
        &mut self,
        own: &mut Follower<B::State>,
        tokens: &[TokenId],
        rows: Rows,
    ) -> Result<Vec<f32>, EngineError> {
        let no_soul: Option<SoulId> = None;
        let mut feeds = [Feed { state: &mut own.state, tokens, rows }];
        let logits = self.backend.forward(no_soul, &mut feeds, &mut || {})?;
        self.backend.checkpoint(&mut own.state);
        own.tokens.extend_from_slice(tokens);
        Ok(logits.into_iter().next().unwrap_or_default())
    }
}

/// What `backend` itself supposes to come behind the last of `tokens`, which is the first that `state` has not seen: `len` tokens, or
/// none where it has nothing to go by.
pub(crate) fn guess<B: Backend>(
    backend: &mut B,
    (state, soul): (&mut B::State, Option<SoulId>),
    last: TokenId,
    len: usize,
    draws: Draws<'_>,
) -> Result<Said, EngineError> {
    let started = Instant::now();
    let (mut tokens, mut sampler) = (Vec::new(), Sampler::default());
    backend.guess(soul, state, last, &mut |logits| {
        let position = draws.position + tokens.len();
        let drawn = sampler.draw(logits, draws.sampling, position, draws.retry)?;
        tokens.push(drawn);
        (tokens.len() < len).then_some(drawn)
    })?;
    Ok(Said { tokens, took: started.elapsed() })
}
