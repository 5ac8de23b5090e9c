//! Questions that have one answer: the logits after some tokens, and the scores of continuations.
//!
//! A question is computed alone, chunk by chunk, in the order of arithmetic that a lone one has.

use crate::{
    backend::{Backend, Feed, Rows},
    job::{EngineError, SoulId, TokenId},
    line::{Ask, Ticket},
    mixture::Opinion,
    run::Turn,
    sample::{likeliest_few, log_sum_exp},
    thread::PASS_ROWS_MAX,
};

/// What the model thinks of a token that it was given.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Scored {
    /// The logarithm of the token's probability.
    pub logprob: f32,
    /// What it thinks likeliest in that place; `None` where a server tells no more than the token's own probability.
    pub opinion: Option<Opinion>,
}

/// A question in progress.
pub(crate) struct Question {
    pub(crate) prompt: Vec<TokenId>,
    /// The adapter that it is computed with.
    pub(crate) soul: Option<SoulId>,
    kind: Kind,
    _ticket: Ticket,
}

enum Kind {
    Logits {
        logits: Vec<f32>,
        reply: Option<Reply<Vec<f32>>>,
    },
    Score {
        continuations: Vec<Vec<TokenId>>,
        /// One row per continuation begun; the last one may be unfinished.
        scores: Vec<Vec<Scored>>,
        reply: Option<Reply<Vec<Vec<Scored>>>>,
    },
}

/// The other end waits for the answer.
type Reply<T> = tokio::sync::oneshot::Sender<Result<T, EngineError>>;

impl Question {
    pub(crate) fn new(ask: Ask, ticket: Ticket) -> Self {
        let (prompt, soul, kind) = match ask {
            Ask::Logits { tokens, soul, reply } => {
                (tokens, soul, Kind::Logits { logits: Vec::new(), reply: Some(reply) })
            }
            Ask::Score { prompt, continuations, reply } => (
                prompt,
                None,
                Kind::Score { continuations, scores: Vec::new(), reply: Some(reply) },
            ),
        };
        Self { prompt, soul, kind, _ticket: ticket }
    }

    /// Whether it may begin with, and leave behind, a cache that other work has filled. Plain logits are computed afresh, so that
    /// they depend on nothing but their tokens.
    pub(crate) fn shares_prefix(&self) -> bool {
        !matches!(self.kind, Kind::Logits { .. })
    }

    pub(crate) fn is_released(&self) -> bool {
        match &self.kind {
            Kind::Logits { reply, .. } => reply.as_ref().is_none_or(|reply| reply.is_closed()),
            Kind::Score { reply, .. } => reply.as_ref().is_none_or(|reply| reply.is_closed()),
        }
    }

    /// One forward pass of at most a chunk, and how many tokens it had.
    pub(crate) fn turn<B: Backend>(
        &mut self,
        backend: &mut B,
        state: &mut B::State,
        fed: &mut usize,
    ) -> (Result<Turn, EngineError>, usize) {
        let start = *fed;
        let read = match &mut self.kind {
            Kind::Logits { logits, .. } => {
                let end = self.prompt.len().min(start + backend.chunk_len_max(self.soul, start));
                let is_last = end == self.prompt.len();
                let rows = if is_last { Rows::Last } else { Rows::None };
                let row = alone(backend, self.soul, state, &self.prompt[start..end], rows);
                let turn = row.map(|row| {
                    *logits = row;
                    if is_last { Turn::Answered } else { Turn::More }
                });
                (turn, end)
            }
            Kind::Score { continuations, scores, .. } => {
                let prefix = self.prompt.len() - 1;
                if start >= prefix {
                    let scored = score_chunk(backend, state, &self.prompt, continuations, scores);
                    let scored_len = *scored.as_ref().unwrap_or(&0);
                    // Less, where the cache cannot be cut back to the prompt: it is fed again.
                    *fed = backend.len(state).min(prefix);
                    let is_last = is_scored(continuations, scores);
                    let turn = scored.map(|_| if is_last { Turn::Answered } else { Turn::More });
                    return (turn, scored_len);
                }
                let end = prefix.min(start + backend.chunk_len_max(None, start));
                let row = alone(backend, None, state, &self.prompt[start..end], Rows::None);
                (row.map(|_| Turn::More), end)
            }
        };
        let (turn, end) = read;
        *fed = end;
        if end + 1 >= self.prompt.len() {
            backend.checkpoint(state);
        }
        (turn, end - start)
    }

    /// Sends the answer when there is one; `true` when the question is done with.
    pub(crate) fn answer(&mut self, turn: Turn) -> bool {
        let error = match turn {
            Turn::More | Turn::Step(_) | Turn::Back(_) => return false,
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
fn alone<B: Backend>(
    backend: &mut B,
    soul: Option<SoulId>,
    state: &mut B::State,
    tokens: &[TokenId],
    rows: Rows,
) -> Result<Vec<f32>, EngineError> {
    let rows = backend.forward(soul, &mut [Feed { state, tokens, rows }], &mut || {})?;
    Ok(rows.into_iter().next().unwrap_or_default())
}

/// Scores the next chunk of the continuation in progress, and says how many tokens it had. The cache is left at `prompt.len() - 1` tokens after the last chunk of
/// each continuation.
fn score_chunk<B: Backend>(
    backend: &mut B,
    state: &mut B::State,
    prompt: &[TokenId],
    continuations: &[Vec<TokenId>],
    scores: &mut Vec<Vec<Scored>>,
) -> Result<usize, EngineError> {
    if scores.last().is_none_or(|row| row.len() == continuations[scores.len() - 1].len()) {
        if scores.len() == continuations.len() {
            return Ok(0);
        }
        scores.push(Vec::new());
    }
    let continuation = &continuations[scores.len() - 1];
    let Some(row) = scores.last_mut() else {
        return Ok(0);
    };
    let start = row.len();
    let rows_max = backend.chunk_len_max(None, prompt.len() - 1 + start).min(PASS_ROWS_MAX);
    let end = continuation.len().min(start + rows_max);
    if start < end {
        // Token i is judged by the logits after token i - 1, the first one by those after the prompt.
        let before = prompt[prompt.len() - 1..].iter().chain(continuation).copied();
        let chunk: Vec<TokenId> = before.skip(start).take(end - start).collect();
        let logits = alone(backend, None, state, &chunk, Rows::All)?;
        let vocabulary = logits.len() / chunk.len();
        for (logits, &token) in logits.chunks(vocabulary).zip(&continuation[start..end]) {
            let normaliser =
                log_sum_exp(logits).ok_or(EngineError::NotANumber { position: row.len() })?;
            let top = likeliest_few(logits, 1).into_iter().next();
            let certainty = |logit: f32| (logit - normaliser).exp();
            let opinion = top.map(|(top, logit)| Opinion { top, certainty: certainty(logit) });
            row.push(Scored { logprob: logits[token as usize] - normaliser, opinion });
        }
    }
    if end == continuation.len() {
        backend.truncate(state, prompt.len() - 1);
    }
    Ok(end - start)
}

fn is_scored(continuations: &[Vec<TokenId>], scores: &[Vec<Scored>]) -> bool {
    scores.len() == continuations.len()
        && scores
            .last()
            .zip(continuations.last())
            .is_none_or(|(row, continuation)| row.len() == continuation.len())
}
