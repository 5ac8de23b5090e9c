//! The words that callers and the engine thread share: what a job is, what a step is, and what can go wrong.

use std::sync::Arc;

use crate::{grammar::Grammar, mixture::Mixture, sampling::Sampling, speculate::Speculation};

/// A token of the model's vocabulary.
pub type TokenId = u32;

/// An adapter that is mounted on the model, and that a job can ask for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct SoulId(pub(crate) u32);

/// Work for the engine: a prompt to continue.
pub struct Job {
    /// The tokens to continue; not empty, shorter than the model's context.
    pub prompt: Vec<TokenId>,
    /// Looks at the logits before each draw, and may ban tokens.
    pub constraint: Option<Box<dyn Constraint>>,
    /// Has a say in what comes next, beside the model. A remote engine has no use for it.
    pub mixture: Option<Box<dyn Mixture>>,
    /// How tokens are drawn.
    pub sampling: Sampling,
    /// When to stop, and how far to run ahead of the caller.
    pub limits: Limits,
    /// Who goes first.
    pub class: Class,
    /// The adapter to compute with, as [`crate::Engine::mount`] called it.
    pub soul: Option<SoulId>,
    /// Texts that the answer may repeat, beside the prompt: open documents, earlier answers. They are looked up for drafts, and never
    /// change what is written.
    pub lookup: Vec<Arc<[TokenId]>>,
    /// Whether several tokens may be computed at once on the supposition that they will be drawn.
    pub speculation: Speculation,
}

/// The urgency of a job. An earlier class pre-empts a later one at token and at prefill-chunk boundaries.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Class {
    /// Somebody is typing and waits for ghost text.
    Typing,
    /// Somebody asked for a fix and watches a progress bar.
    Fix,
    /// The agent works.
    Agent,
    /// A client of the HTTP or MCP door.
    Served,
}

/// The ends of a sequence.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Limits {
    /// The most tokens to generate; the last one finishes with [`Finish::Length`].
    pub tokens_max: u32,
    /// Tokens that end the sequence, beside the model's own end-of-text tokens.
    pub stop: Vec<TokenId>,
    /// How many steps the engine may decode beyond those that `next()` took. 0: only while a caller waits.
    pub ahead_max: u32,
}

/// A mask over the next token, plugged in by a caller that knows what the tokens mean.
pub trait Constraint: Send {
    /// Bans tokens by setting their logit to negative infinity. `tape` is what the sequence generated so far (without the
    /// prompt). Runs on the engine thread before every draw, so it must be quick. There may be more logits than the tokenizer has
    /// tokens, and fewer than a mask has bits: [`crate::TokenSet::allow_only`] does right by both.
    fn apply(&mut self, tape: &[TokenId], logits: &mut [f32]);

    /// Whatever `apply` can know without the logits, such as the mask of a grammar. Runs on the engine thread while the model
    /// computes them, once before each `apply` and with the same tape, so what takes less time than the model costs nothing.
    fn prepare(&mut self, tape: &[TokenId]) {
        let _ = tape;
    }

    /// The tokens that come next whatever the model thinks, because `apply` would leave no other, one after the other: empty where it
    /// would leave a choice. They are computed in one pass and go on the tape without `prepare` and `apply`, so the next tape that
    /// those see may be several tokens longer than the last. Runs on the engine thread before a pass; what is not used is asked again.
    fn forced(&mut self, tape: &[TokenId]) -> Vec<TokenId> {
        let _ = tape;
        Vec::new()
    }

    /// What it allows, as far as that can be written down: for a server that can keep to a grammar and to no mask. What comes
    /// back is shown to `apply` nevertheless, in rows that know of the token that was drawn and of some of the likeliest alone;
    /// every other logit is negative infinity.
    fn grammar(&self) -> Option<Grammar> {
        None
    }

    /// The tape was cut back to `len` tokens.
    fn rewound(&mut self, len: usize) {
        let _ = len;
    }
}

/// One generated token.
#[derive(Debug, Clone, PartialEq)]
pub struct Step {
    /// The token.
    pub token: TokenId,
    /// Its position on the tape: 0 is the first token after the prompt.
    pub position: usize,
    /// Its natural-log probability under the model, with the job's [`Mixture`] if there is one (before constraint and temperature).
    pub logprob: f32,
    /// Its natural-log probability under what it was drawn from: the model with bias, penalties and constraint, before the temperature
    /// and the stages of [`Sampling::order`]. 0 where the constraint left nothing else. `None`: a server has drawn it that tells no
    /// probabilities.
    pub final_logprob: Option<f32>,
    /// The entropy of that distribution at this position, in nats.
    pub entropy: f32,
    /// The likeliest tokens with their log probabilities (of the same distribution), likeliest first: as many as
    /// [`Sampling::top_len`] says.
    pub top: Vec<(TokenId, f32)>,
    /// The tape up to here stays as it is, whatever the collapse guard does ([`Guard`](crate::Guard)): a client that cannot take text
    /// back, because it streams, hands out these tokens and holds back the rest. Without a guard this is the whole tape. With
    /// [`Finish::Collapse`], what comes from here on is the loop.
    pub settled: usize,
    /// The guard has cut the tape to this length: the steps from there on that were taken are void, and this one comes in the place
    /// of the first of them. It is this step's position. Steps that nobody had taken are cut without a word.
    pub rewound_to: Option<usize>,
    /// Set on the last step of a sequence.
    pub finish: Option<Finish>,
}

/// Why a sequence ended. It can be rewound nevertheless, and then goes on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Finish {
    /// The token is an end-of-text token or one of the job's stop tokens.
    Stop,
    /// `tokens_max` or the model's context is reached.
    Length,
    /// The model repeats itself, and going back has not helped. The loop begins at [`Step::settled`].
    Collapse,
}

/// A job that was not accepted.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum SubmitError {
    /// The queue is full; the caller drops the job or tries again later.
    #[error("the engine is busy: {waiting} jobs are waiting")]
    Busy {
        /// How many jobs are in the queue.
        waiting: usize,
    },
    /// There is nothing to continue.
    #[error("the prompt is empty")]
    Empty,
    /// The prompt leaves no room for an answer.
    #[error("the prompt has {tokens} tokens, and the model's context holds {context_max}")]
    TooLong {
        /// Length of the prompt.
        tokens: usize,
        /// Length of the context.
        context_max: usize,
    },
    /// Memory does not hold a sequence of this length.
    #[error(
        "prompt and answer may take {tokens} tokens ({} of cache), and memory holds {tokens_fit}; a shorter prompt or answer fits",
        crate::memory::words(*cache)
    )]
    TooBig {
        /// Length of the prompt and the longest answer.
        tokens: usize,
        /// Bytes of cache that they would take.
        cache: u64,
        /// The longest sequence that fits.
        tokens_fit: usize,
    },
    /// A token that the model does not have.
    #[error("token {token} is outside the vocabulary of {vocabulary}")]
    Vocabulary {
        /// The offending token.
        token: TokenId,
        /// Size of the vocabulary.
        vocabulary: usize,
    },
    /// A setting of the sampling that means nothing.
    #[error("the sampling's {setting} {wrong}")]
    Sampling {
        /// Its name.
        setting: &'static str,
        /// Its value, and what it may be.
        wrong: String,
    },
    /// The engine thread is gone.
    #[error(transparent)]
    Down(#[from] EngineError),
}

/// An accepted job that failed.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum EngineError {
    /// The engine thread ended; every job gets this, and so does every later one.
    #[error("the engine stopped: {0}")]
    Down(String),
    /// The constraint banned every token at this position. The sequence can be rewound.
    #[error("the constraint allows no token at position {position}")]
    NothingAllowed {
        /// Position on the tape.
        position: usize,
    },
    /// The model computed something that is no number.
    #[error("the model's logits at position {position} are not numbers")]
    NotANumber {
        /// Position on the tape.
        position: usize,
    },
    /// The caller's mixture panicked. The sequence can be rewound.
    #[error("the mixture panicked: {0}")]
    Mixture(String),
    /// The caller's constraint panicked. The sequence can be rewound.
    #[error("the constraint panicked: {0}")]
    Constraint(String),
    /// The backend refused an operation; this job is over, others are not.
    #[error("the model could not be run: {0}")]
    Backend(String),
    /// The job was not accepted.
    #[error("{0}")]
    Refused(String),
    /// The server that runs the model did not do what it was asked: its address, what it did, and what helps. The sequence can be
    /// rewound, and then asks again.
    #[error("{0}")]
    Remote(String),
}
